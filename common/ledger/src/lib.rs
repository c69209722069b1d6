//! The state machine of a vault, its log and its index.

pub mod policy;
