//! What a successor certifies again, as nothing of it is good any more that a vault before it certified.

use std::collections::BTreeMap;

use mintmark_console::Failure;
use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::replay::Replay;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;

use crate::findings::{Finding, Severity};
use crate::registry::{orders, replays, vaults};

/// Looks at vaults that were replaced. It holds the replay of each that it looked at.
pub(crate) struct CertifiedAgain<'a> {
    sql: &'a Connection,
    replays: BTreeMap<VaultName, Replay>,
}

impl<'a> CertifiedAgain<'a> {
    pub(crate) fn new(sql: &'a Connection) -> Self {
        Self {
            sql,
            replays: BTreeMap::new(),
        }
    }

    /// Whether `by` took the place of a vault, at once or through others, and the device CA is revoked that certified
    /// there what this record reserved.
    pub(crate) fn is(
        &mut self,
        (former, reservation): (&VaultName, LogSequence),
        by: &VaultName,
    ) -> Result<bool, Failure> {
        if !vaults::is_succeeded_by(self.sql, former, by)? {
            return Ok(false);
        }
        if !self.replays.contains_key(former) {
            let replay = replays::load(self.sql, former)?;
            self.replays.insert(former.clone(), replay);
        }
        let replay = self.replays.get(former);
        let device_ca = replay.and_then(|replay| replay.state().device_ca_of(reservation));
        match device_ca {
            Some(device_ca) => {
                let target = Target::DeviceCa(device_ca.fingerprint());
                orders::is_revoked(self.sql, former, &target)
            }
            None => Ok(false),
        }
    }

    /// A device that was found at two vaults may be one that was certified again, and what the former certified was
    /// revoked only after that was imported. Such a finding is a note.
    pub(crate) fn explain(&mut self, findings: &mut [Finding]) -> Result<(), Failure> {
        for finding in findings {
            if !finding.is_of_two() {
                continue;
            }
            let text = |name: &str| finding.evidence[name].as_str().unwrap_or_default();
            let (Ok(site), Ok(vault), Some(reservation)) = (
                text("other_site").parse(),
                text("other_vault").parse(),
                finding.evidence["other_log_sequence"].as_u64(),
            ) else {
                continue;
            };
            let former = VaultName { site, vault };
            if self.is((&former, LogSequence(reservation)), &finding.vault)? {
                finding.severity = Severity::Note;
                finding.text += &format!(
                    "; {} took the place of {former}, and the device CA that certified it there is revoked since",
                    finding.vault
                );
            }
        }
        Ok(())
    }
}
