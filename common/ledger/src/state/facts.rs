//! What must hold of the facts that a vault puts on record, the same where it writes them and where HQ reads them.

use super::State;
use crate::entry::{CrlIssued, Restored};

impl State {
    /// Whether a CRL is the next one of a device CA of the vault, signed by `time`, or why not.
    pub(crate) fn crl_fits(&self, crl: &CrlIssued, time: u64) -> Result<(), String> {
        let known = self
            .device_cas()
            .iter()
            .any(|ca| ca.generation == crl.generation);
        if !known {
            return Err(format!("the vault has no device CA {}", crl.generation));
        }
        let next = self.next_crl_number(crl.generation, crl.this_update);
        if crl.number != next {
            return Err(format!(
                "CRL {} is not the next one, which is {next}",
                crl.number
            ));
        }
        if crl.next_update <= crl.this_update {
            return Err("a CRL ends after it begins".to_owned());
        }
        if crl.this_update > time {
            return Err("a CRL begins when it is signed".to_owned());
        }
        Ok(())
    }

    /// Whether the log can go on in another lineage from here, or why not.
    pub(crate) fn restored_fits(&self, restored: &Restored) -> Result<(), String> {
        let here = (self.lineage, self.size, self.root());
        if here != (Some(restored.parent), restored.size, restored.root) {
            return Err("the restore names another place in the log than this one".to_owned());
        }
        if restored.held > restored.size {
            return Err("HQ holds no more records than there are".to_owned());
        }
        if restored.lineage == restored.parent {
            return Err("a restore begins a lineage of its own".to_owned());
        }
        Ok(())
    }
}
