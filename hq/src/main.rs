//! The `hq` command.
fn main() {}
