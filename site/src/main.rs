//! The `site` tool: what a factory's operator runs. Everything is in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// What one thread allocates another frees, for each certificate. The C library's allocator takes locks for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    mintmark_console::run("site", mintmark_site::execute)
}
