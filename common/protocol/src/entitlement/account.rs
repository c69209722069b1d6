//! The number of an account.

use std::fmt;

/// The number of an account, unique per vault, 1 to 2^48 - 1. It keys the certificate serials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountTag(u64);

impl AccountTag {
    /// The tag with this number, if it is in range.
    pub fn new(number: u64) -> Option<Self> {
        (1..1 << 48).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AccountTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
