//! What of the vault's log may go, and that it goes.

use std::fs;

use mintmark_ledger::ledger::Prunable;

use super::Vault;
use super::reading::Shown;
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::home::LOG;

/// What there is to prune, or was.
pub(crate) struct Pruned {
    /// After how many days records may go.
    pub(crate) retention_days: u64,
    /// How many records headquarters holds, as far as this vault knows.
    pub(crate) held: u64,
    /// Which records; none: there is nothing to prune yet.
    pub(crate) records: Option<Prunable>,
    /// How many bytes the files of the log had before.
    pub(crate) bytes_before: u64,
    /// How many they have.
    pub(crate) bytes: u64,
}

impl Vault<'_> {
    /// What would be pruned now.
    ///
    /// # Errors
    /// RETENTION-UNSET if no days are agreed on; what the log fails with.
    pub(crate) fn prunable(&self) -> Result<Pruned> {
        let retention_days = self.retention_days()?;
        let held = self.held_size()?;
        let bytes = self.log_bytes()?;
        Ok(Pruned {
            retention_days,
            held,
            records: self.ledger.prunable(now(), held)?,
            bytes_before: bytes,
            bytes,
        })
    }

    /// Prunes it. The anchor covers what the log says of it before anything else is done.
    ///
    /// # Errors
    /// As [`Vault::prunable`].
    pub(crate) fn prune(&mut self) -> Result<Pruned> {
        let retention_days = self.retention_days()?;
        let held = self.held_size()?;
        let bytes_before = self.log_bytes()?;
        self.begin()?;
        let shown = Shown::new(&self.console);
        let watch = |work, done, of| shown.tell(work, done, of);
        let records = self.ledger.prune_watched(now(), held, &watch)?;
        drop(shown);
        Ok(Pruned {
            retention_days,
            held,
            records,
            bytes_before,
            bytes: self.log_bytes()?,
        })
    }

    fn retention_days(&self) -> Result<u64> {
        let state = self.state();
        state.retention_days().ok_or_else(|| {
            let open = state.entitlements().values();
            let without = open
                .filter(|granted| granted.terms.retention_days.is_none())
                .map(|granted| granted.terms.id.to_string());
            let without: Vec<String> = without.collect();
            let message = if without.is_empty() {
                "this vault has no entitlement that says after how many days its log may be pruned"
                    .to_owned()
            } else {
                format!(
                    "the log may not be pruned: {} lets nothing go",
                    without.join(" and ")
                )
            };
            Error::negative("RETENTION-UNSET", message).hint(
                "ask headquarters for an amendment with `retention_days`; nothing was changed",
            )
        })
    }

    /// How many bytes the files of the log have.
    fn log_bytes(&self) -> Result<u64> {
        let folder = self.home.path().join(LOG);
        let unreadable = |error: std::io::Error| {
            let message = format!("{} cannot be read", folder.display());
            Error::environment("HOME-UNREADABLE", message).cause(error)
        };
        let mut bytes = 0_u64;
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let found = entry
                .and_then(|entry| entry.metadata())
                .map_err(unreadable)?;
            if found.is_file() {
                bytes = bytes.saturating_add(found.len());
            }
        }
        Ok(bytes)
    }
}
