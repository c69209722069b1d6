//! End-to-end, interop, fault and scale tests over the built binaries.
