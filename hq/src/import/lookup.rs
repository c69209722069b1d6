//! The devices of a vault as its replay sees them: those in the registry, and over them those of the records that are
//! being replayed and are not written yet.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use mintmark_console::Failure;
use mintmark_ledger::decide::{DeviceRecord, Lookup, LookupError};
use mintmark_ledger::entry::LogSequence;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, VaultName};
use rusqlite::Connection;

use crate::registry::devices::{self, Unit};

/// What is not written yet. The maps are looked up by key alone, so that their order is of no matter.
#[derive(Default)]
struct Fresh {
    units: BTreeMap<LogSequence, Unit>,
    devices: HashMap<(Sku, DeviceId), LogSequence>,
    keys: HashMap<Fingerprint, LogSequence>,
}

/// The devices of one vault.
pub(super) struct Devices<'a> {
    sql: &'a Connection,
    vault: &'a VaultName,
    fresh: RefCell<Fresh>,
}

impl<'a> Devices<'a> {
    pub(super) fn new(sql: &'a Connection, vault: &'a VaultName) -> Self {
        Self {
            sql,
            vault,
            fresh: RefCell::default(),
        }
    }

    /// A unit was reserved.
    pub(super) fn reserve(&self, record: DeviceRecord, tbs_digest: Fingerprint, reserved_at: u64) {
        let mut fresh = self.fresh.borrow_mut();
        let at = record.reservation;
        fresh.keys.insert(record.spki_sha256, at);
        let device = (record.sku.clone(), record.device_id.clone());
        fresh.devices.insert(device, at);
        let unit = Unit {
            vault: self.vault.clone(),
            record,
            tbs_digest,
            reserved_at,
            issued_at: None,
        };
        fresh.units.insert(at, unit);
    }

    /// A unit got its certificate.
    pub(super) fn sign(
        &self,
        reservation: LogSequence,
        signed: LogSequence,
        issued_at: u64,
    ) -> Result<(), Failure> {
        if let Some(unit) = self.fresh.borrow_mut().units.get_mut(&reservation) {
            unit.record.signed = Some(signed);
            unit.issued_at = Some(issued_at);
            return Ok(());
        }
        devices::sign(self.sql, self.vault, reservation, signed, issued_at)
    }

    /// Writes what is not written yet.
    pub(super) fn flush(&self) -> Result<(), Failure> {
        let fresh = self.fresh.take();
        for unit in fresh.units.values() {
            devices::add(self.sql, unit)?;
        }
        Ok(())
    }
}

impl Lookup for Devices<'_> {
    fn device(&self, sku: &Sku, device_id: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        let fresh = self.fresh.borrow();
        let at = fresh.devices.get(&(sku.clone(), device_id.clone()));
        if let Some(unit) = at.and_then(|at| fresh.units.get(at)) {
            return Ok(Some(unit.record.clone()));
        }
        let found = devices::newest_of_device(self.sql, self.vault, sku, device_id)?;
        Ok(found.map(|unit| unit.record))
    }

    fn key(&self, spki_sha256: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        let fresh = self.fresh.borrow();
        let at = fresh.keys.get(spki_sha256);
        if let Some(unit) = at.and_then(|at| fresh.units.get(at)) {
            return Ok(Some(unit.record.clone()));
        }
        let found = devices::newest_of_key(self.sql, self.vault, spki_sha256)?;
        Ok(found.map(|unit| unit.record))
    }
}
