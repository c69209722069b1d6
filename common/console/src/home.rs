//! The folder that a tool lives in: made whole or not at all, and for its owner alone.

mod making;
mod owner;

pub use making::{Making, expect_free};
pub use owner::{Purpose, expect_own};
