//! The `site` tool: what a factory's operator runs. Everything is in the library.

use tikv_jemallocator::Jemalloc;

/// A service holds what it needs after months as after an hour. How it is set stands in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() {
    mintmark_console::run("site", mintmark_site::execute)
}
