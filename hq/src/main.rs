//! The `hq` command.

use mimalloc::MiMalloc;

/// What one thread of the replay allocates another frees, for each record. The C library's allocator takes locks for that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() {
    mintmark_console::run("hq", mintmark_hq::commands::run)
}
