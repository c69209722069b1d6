//! `site device show ID`: what the log holds about one device. It needs no PIN.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Table};
use mintmark_ledger::entry::{Body, LogSequence};
use mintmark_ledger::ledger::{DeviceHistory, View};
use mintmark_ledger::serial::{Serial, serial_of};
use mintmark_pki::to_pem;
use mintmark_protocol::identifier::DeviceId;
use serde::Serialize;

use super::super::json;
use crate::failure::{Error, Result};
use crate::vault::reading::Reading;

/// The newest unit, and all of them.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    #[serde(flatten)]
    newest: Unit,
    units: Vec<Unit>,
}

#[derive(Clone, Serialize)]
struct Unit {
    serial: Option<String>,
    slot: u64,
    device_id: String,
    product: String,
    status: &'static str,
    issued_at: String,
    entitlement: String,
    certificate: Option<String>,
}

/// Shows it.
pub(crate) fn execute(id: &str, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let units: Vec<Unit> = find(reading.view(), id)?
        .into_iter()
        .map(Unit::from)
        .collect();
    let Some(newest) = units.last().cloned() else {
        let message = format!("this vault's log holds no device and no serial number {id}");
        return Err(Error::negative("DEVICE-UNKNOWN", message)
            .hint("check the spelling; the vault knows only devices that it issued to"));
    };
    if console.is_json() {
        return json(
            console,
            &Report {
                schema: "mintmark/device/1",
                newest,
                units,
            },
        );
    }
    match units.as_slice() {
        [unit] => unit.lines().iter().for_each(|line| console.line(line)),
        units => console.table(&table(units)),
    }
    for certificate in units.iter().filter_map(|unit| unit.certificate.as_ref()) {
        console.line(certificate.trim_end());
    }
    Ok(Exit::Done)
}

fn table(units: &[Unit]) -> Table {
    let columns = ["device", "product", "status", "issued at", "entitlement"];
    let columns = columns.map(|name| (name, Align::Left)).into_iter();
    let mut table = Table::new(columns.chain([("slot", Align::Right), ("serial", Align::Left)]));
    for unit in units {
        table.row([
            unit.device_id.clone(),
            unit.product.clone(),
            unit.status.to_owned(),
            unit.issued_at.clone(),
            unit.entitlement.clone(),
            unit.slot.to_string(),
            unit.serial.clone().unwrap_or_default(),
        ]);
    }
    table
}

impl Unit {
    /// For people, as headquarters shows it.
    fn lines(&self) -> [String; 5] {
        [
            format!("device       {} of {}", self.device_id, self.product),
            format!("serial       {}", self.serial.as_deref().unwrap_or("-")),
            format!("status       {}", self.status),
            format!("issued       {}", self.issued_at),
            format!("entitlement  {}, slot {}", self.entitlement, self.slot),
        ]
    }
}

/// By device identifier; by serial number, if no device is called so.
fn find(view: &View, id: &str) -> Result<Vec<DeviceHistory>> {
    if let Ok(device_id) = id.parse::<DeviceId>() {
        let units = view.device(None, &device_id)?;
        if !units.is_empty() {
            return Ok(units);
        }
    }
    let digits: String = id.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let mut serial: Serial = [0; _];
    if hex::decode_to_slice(digits.to_ascii_lowercase(), &mut serial).is_err() {
        return Ok(Vec::new());
    }
    for entry in view.entries(LogSequence(0))? {
        if let Body::Reserved(reserved) = entry?.1.body
            && serial_of(&reserved.tbs) == Some(serial)
        {
            let mut units = view.device(None, &reserved.device_id)?;
            units.retain(|unit| unit.serial == Some(serial));
            return Ok(units);
        }
    }
    Ok(Vec::new())
}

impl From<DeviceHistory> for Unit {
    fn from(unit: DeviceHistory) -> Self {
        Self {
            serial: unit.serial.map(hex::encode),
            slot: unit.slot,
            device_id: unit.device_id.to_string(),
            product: unit.sku.to_string(),
            status: if unit.certificate.is_some() {
                "good"
            } else {
                "unresolved"
            },
            issued_at: rfc3339(unit.reserved_at),
            entitlement: unit.entitlement.to_string(),
            certificate: unit.certificate.map(|der| to_pem("CERTIFICATE", &der)),
        }
    }
}
