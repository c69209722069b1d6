//! Whether the ledger may record what the vault says of its keys.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::Lineage;

use super::Ledger;
use crate::entry::{
    BURNED_MAX, Burned, CrlIssued, KeyOutcome, KeyReceipt, Restored, Rotation, StationOrder,
    is_code,
};
use crate::error::Error;

impl Ledger {
    pub(super) fn rotation_fits(&self, rotation: &Rotation) -> Result<(), Error> {
        let next = self.state.next_generation();
        let why = if !self.state.is_enrolled() {
            "the vault has no device CA yet".to_owned()
        } else if rotation.generation != next {
            format!(
                "device CA {} is not the next one, which is {next}",
                rotation.generation
            )
        } else {
            return Ok(());
        };
        Err(Error::Input { why })
    }

    pub(super) fn crl_fits(&self, crl: &CrlIssued, time: u64) -> Result<(), Error> {
        self.state
            .crl_fits(crl, time)
            .map_err(|why| Error::Input { why })
    }

    pub(super) fn station_ca_fits(&self, certificate: &[u8]) -> Result<(), Error> {
        self.state
            .station_ca_fits(certificate)
            .map_err(|why| Error::Input { why })
    }

    pub(super) fn station_fits(&self, order: &StationOrder) -> Result<(), Error> {
        self.state
            .station_fits(order)
            .map_err(|why| Error::Input { why })
    }

    pub(super) fn burned_fits(&self, burned: &Burned) -> Result<(), Error> {
        if burned.slots.len() > BURNED_MAX {
            let why = "slots of too many accounts are burned at once".to_owned();
            return Err(Error::Input { why });
        }
        self.state
            .burned_fits(burned)
            .map_err(|why| Error::Input { why })
    }

    /// The record that the log goes on in another lineage from here.
    pub(super) fn restored(
        &self,
        lineage: Lineage,
        held: u64,
        leases: Vec<(AccountTag, u64)>,
    ) -> Result<Restored, Error> {
        let why = |why: &str| Error::Input {
            why: why.to_owned(),
        };
        if leases.len() > BURNED_MAX {
            return Err(why("slots of too many accounts are in doubt"));
        }
        let parent = self.state.lineage();
        let restored = Restored {
            parent: parent.ok_or_else(|| why("the log has no genesis record"))?,
            size: self.state.size(),
            root: self.state.root(),
            lineage,
            held,
            leases,
        };
        self.state
            .restored_fits(&restored)
            .map_err(|why| Error::Input { why })?;
        Ok(restored)
    }

    pub(super) fn key_fits(&self, receipt: &KeyReceipt) -> Result<(), Error> {
        let KeyReceipt {
            entitlement,
            label,
            outcome,
        } = receipt;
        let mut keys = self.state.keys();
        let known = keys.find(|key| key.entitlement == entitlement && key.terms.label == *label);
        let why = match (known, outcome) {
            (None, _) => format!("entitlement {entitlement} brings no key {label}"),
            (Some(key), KeyOutcome::Imported) if !key.terms.memory_import => {
                format!("key {label} of {entitlement} may not pass through memory")
            }
            (_, KeyOutcome::Refused { code }) if !is_code(code) => {
                format!("`{}` is not a code", code.escape_default())
            }
            _ => return Ok(()),
        };
        Err(Error::Input { why })
    }
}
