//! A headquarters and its vaults.

mod hq;
mod vault;

pub(crate) use hq::Hq;
pub(crate) use vault::{Change, Vault, csr};
