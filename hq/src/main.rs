//! The `hq` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mintmark_console::run("hq", mintmark_hq::commands::run)
}
