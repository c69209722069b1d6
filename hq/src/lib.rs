//! Headquarters: the key ceremony, officers and their approvals, entitlements, and the replay and reconciliation of what
//! vaults report.
//!
//! The record is the signed objects as they were received and sent, kept whole under the home folder; the registry is
//! SQL over it. No rule that a vault has stands here: HQ runs `mintmark_ledger` over the returned log.

pub mod commands;

mod acknowledgements;
mod applied;
mod approvals;
mod audit_grant;
mod certified_again;
mod clock;
mod config;
mod device_states;
mod dossier;
mod drafting;
mod failure;
mod findings;
mod forks;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod home;
mod identity;
mod import;
mod keyring;
mod keysets;
mod orders;
mod outbox;
mod own_restore;
mod record;
mod recovery;
mod registry;
mod report;
mod restored;
mod root_crl;
mod roots;
mod serials;
#[cfg(test)]
mod simulation;
mod standing;
mod status;
mod transcript;
mod trust;
mod vault_restores;
mod verdict;
mod write_offs;
