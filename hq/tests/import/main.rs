//! What vaults report, honestly and otherwise, and what headquarters makes of it. The vaults here are made of the same
//! ledger as real ones, but can be told to write anything; headquarters is the built `hq`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod accusations;
mod approvals;
mod beyond_measure;
mod chain;
mod crls;
mod dry_runs;
mod enrolment;
mod entitlements;
mod frauds;
mod homes;
mod honest;
mod media;
mod noted;
mod orders;
mod policies;
mod recovery;
mod reports;
mod support;
mod trust;
