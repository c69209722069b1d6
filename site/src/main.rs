//! The `site` tool: what a factory's operator runs. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mintmark_console::run("site", mintmark_site::execute)
}
