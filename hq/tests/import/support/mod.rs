//! A headquarters and its vaults.

mod hq;
mod software;
mod vault;

pub(crate) use hq::{Hq, Run, run_in};
pub(crate) use software::{Change, csr, key};
pub(crate) use vault::{Vault, manifest};
