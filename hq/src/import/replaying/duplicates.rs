//! One device is one device: what a log spends a unit on, held against what other vaults made.

use mintmark_console::Failure;
use mintmark_ledger::decide::DeviceRecord;
use mintmark_ledger::serial::serial_of;
use serde_json::json;

use super::Replaying;
use super::capped::is_granted;
use crate::findings::{
    DUPLICATE_DEVICE, DUPLICATE_KEY, DUPLICATE_SERIAL, FINDINGS_CAPPED, Finding, Severity,
};
use crate::registry::devices::{self, Unit};
use crate::registry::vaults::{self, Vault};
use crate::registry::{accounts, findings};
use crate::serials;

impl Replaying<'_> {
    /// One device is one device, wherever it was made. A record that is not as the rules have it is no word against another
    /// vault's device: whoever writes it need not have the device, or a request of it.
    pub(super) fn compare_with_others(
        &mut self,
        device: &DeviceRecord,
        is_right: bool,
    ) -> Result<(), Failure> {
        let name = &self.vault.name;
        let by_key = devices::key_elsewhere(self.sql, name, &device.spki_sha256)?;
        let by_id = devices::device_elsewhere(self.sql, name, &device.sku, &device.device_id)?;
        if let Some(other) = by_key
            && !self.is_certified_again(&other)?
        {
            let what = "whose key is";
            let kind = (DUPLICATE_KEY, Severity::Critical, what);
            self.accuse_duplicate(kind, (device, is_right), &other)?;
        }
        if let Some(other) = by_id
            && !self.is_certified_again(&other)?
        {
            let what = "which is";
            let kind = (DUPLICATE_DEVICE, Severity::Major, what);
            self.accuse_duplicate(kind, (device, is_right), &other)?;
        }
        Ok(())
    }

    /// A serial that does not belong to its unit may be one that another vault has given out.
    pub(super) fn compare_serial(
        &mut self,
        tbs: &[u8],
        device: &DeviceRecord,
    ) -> Result<(), Failure> {
        let unit = (device.account, device.slot, device.issue);
        let belongs = self.cipher.serial(unit.0, unit.1, unit.2);
        let Some(written) = serial_of(tbs).filter(|written| *written != belongs) else {
            return Ok(());
        };
        for vault in vaults::all(self.sql)? {
            if vault.name == self.vault.name || !vault.granted {
                continue;
            }
            let Some((account, slot, issue)) = self.serials.of(&vault)?.open(&written) else {
                continue;
            };
            let units = devices::by_slot(self.sql, &vault.name, account, slot, issue)?;
            if let Some(other) = units.first() {
                // The record is wrong in this already; whose serial it is, is to be seen.
                let kind = (DUPLICATE_SERIAL, Severity::Critical, "whose serial is");
                self.accuse_duplicate(kind, (device, true), other)?;
            }
        }
        Ok(())
    }

    /// Whether nothing was found of the record by which another vault spent a unit, nor of the request before it, but that
    /// it is of the same device as another one's.
    fn was_right(&self, other: &Unit) -> Result<bool, Failure> {
        let at = other.record.reservation.number();
        let records = at.saturating_sub(1)..at.saturating_add(1);
        let found = findings::of_records(self.sql, &other.vault, records.start, records.end)?;
        let mut found = found.into_iter().filter(|finding| !finding.is_of_two());
        if found.any(|finding| finding.counts() && finding.code != FINDINGS_CAPPED) {
            return Ok(false);
        }
        let mut more = findings::having_more(self.sql, &other.vault)?.into_iter();
        Ok(!more.any(|finding| finding.code == FINDINGS_CAPPED && finding.has_more(other)))
    }

    fn is_certified_again(&mut self, other: &Unit) -> Result<bool, Failure> {
        let place = (&other.vault, other.record.reservation);
        self.certified_again.is(place, &self.vault.name)
    }

    fn accuse_duplicate(
        &mut self,
        (code, severity, what): (&str, Severity, &str),
        (device, is_right): (&DeviceRecord, bool),
        other: &Unit,
    ) -> Result<(), Failure> {
        let Vault { name, lineage, .. } = self.vault;
        let mut serials = Vec::new();
        // Of a slot that was never granted, a vault can choose the one whose serial is that of any device of another.
        // A wrong record that came first is none either.
        if is_granted(&self.granted, device.account, device.slot)
            && (!is_right || self.was_right(other)?)
        {
            serials.push(serials::of_unit(&self.cipher, device));
        }
        if is_right && let Some(vault) = vaults::find(self.sql, &other.vault)? {
            let granted = accounts::granted(self.sql, &other.vault)?;
            if is_granted(&granted, other.record.account, other.record.slot) {
                serials.push(serials::of_unit(&self.serials.of(&vault)?, &other.record));
            }
        }
        let sequence = device.reservation.number();
        let evidence = json!({
            "device_id": device.device_id.as_str(),
            "product": device.sku.as_str(),
            "public_key_sha256": device.spki_sha256.to_string(),
            "other_site": other.vault.site.as_str(),
            "other_vault": other.vault.vault.as_str(),
            "other_device_id": other.record.device_id.as_str(),
            "other_product": other.record.sku.as_str(),
            "other_log_sequence": other.record.reservation.number(),
        });
        let text = format!(
            "record {sequence} spends a unit on device {} of {}, {what} that of record {} of {}: device {} of {}",
            device.device_id,
            device.sku,
            other.record.reservation,
            other.vault,
            other.record.device_id,
            other.record.sku,
        );
        self.accuse(&Finding {
            vault: name.clone(),
            lineage: *lineage,
            log_sequence: Some(sequence),
            code: code.to_owned(),
            severity,
            serials,
            evidence,
            text,
        })
    }
}
