//! A headquarters and its vaults.

mod hq;
mod vault;

pub(crate) use hq::{Hq, Run, run_in};
pub(crate) use vault::{Change, Vault, csr, key, manifest};
