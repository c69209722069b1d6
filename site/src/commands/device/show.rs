//! `site device show ID`: what the log holds about one device. It needs no PIN.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Table};
use mintmark_ledger::entry::{Body, Content, LogSequence, Verdict};
use mintmark_ledger::ledger::{DeviceHistory, View};
use mintmark_ledger::serial::{Serial, serial_of};
use mintmark_ledger::state::{State, Withdrawn};
use mintmark_pki::to_pem;
use mintmark_protocol::identifier::DeviceId;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::Revocation;
use serde::Serialize;

use super::super::json;
use crate::failure::{Error, Result};
use crate::vault::reading::Reading;

/// The newest issue, and all of them.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    #[serde(flatten)]
    newest: Unit,
    reworks: Reworks,
    units: Vec<Unit>,
}

/// One issue of a unit.
#[derive(Clone, Serialize)]
struct Unit {
    serial: Option<String>,
    slot: u64,
    /// 0 for the first certificate of the unit, one more for each that took its place.
    issue: u16,
    device_id: String,
    product: String,
    status: &'static str,
    issued_at: String,
    /// Since when it is no longer good, where somebody at the vault or a rework ended it.
    ended_at: Option<String>,
    /// Why, as somebody at the vault wrote it.
    reason: Option<String>,
    entitlement: String,
    certificate: Option<String>,
}

/// The reworks of the unit of the newest issue.
#[derive(Serialize)]
struct Reworks {
    /// The device has another certificate by them.
    done: u64,
    /// One is allowed and not asked for yet.
    open: bool,
    /// How many each device may have, by the entitlement in force.
    allowed: u64,
}

/// Shows it.
pub(crate) fn execute(id: &str, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let found = find(reading.view(), id)?;
    let mut units = Vec::with_capacity(found.len());
    for issue in &found {
        units.push(Unit::new(reading.view(), issue)?);
    }
    let Some((newest, of)) = units.last().cloned().zip(found.last()) else {
        let message = format!("this vault's log holds no device and no serial number {id}");
        return Err(Error::negative("DEVICE-UNKNOWN", message)
            .hint("check the spelling; the vault knows only devices that it issued to"));
    };
    let reworks = Reworks::of(reading.state(), of);
    if console.is_json() {
        return json(
            console,
            &Report {
                schema: "mintmark/device/1",
                newest,
                reworks,
                units,
            },
        );
    }
    match units.as_slice() {
        [unit] => unit.lines().iter().for_each(|line| console.line(line)),
        units => console.table(&table(units)),
    }
    if reworks.done > 0 || reworks.open || reworks.allowed > 0 {
        let Reworks { done, allowed, .. } = reworks;
        let open = match reworks.open {
            true => ", and one is open: `site issue` with the device's new request",
            false => "",
        };
        console.line(format!("reworks      {done} of {allowed} done{open}"));
    }
    for certificate in units.iter().filter_map(|unit| unit.certificate.as_ref()) {
        console.line(certificate.trim_end());
    }
    Ok(Exit::Done)
}

fn table(units: &[Unit]) -> Table {
    let columns = ["device", "product", "status", "issued at", "entitlement"];
    let columns = columns.map(|name| (name, Align::Left)).into_iter();
    let mut table = Table::new(columns.chain([
        ("slot", Align::Right),
        ("issue", Align::Right),
        ("serial", Align::Left),
    ]));
    for unit in units {
        table.row([
            unit.device_id.clone(),
            unit.product.clone(),
            unit.status.to_owned(),
            unit.issued_at.clone(),
            unit.entitlement.clone(),
            unit.slot.to_string(),
            unit.issue.to_string(),
            unit.serial.clone().unwrap_or_default(),
        ]);
    }
    table
}

impl Unit {
    /// For people, as headquarters shows it.
    fn lines(&self) -> [String; 5] {
        let since = self.ended_at.as_ref();
        let since = since.map_or(String::new(), |since| format!(" since {since}"));
        let reason = self.reason.as_ref();
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        [
            format!("device       {} of {}", self.device_id, self.product),
            format!("serial       {}", self.serial.as_deref().unwrap_or("-")),
            format!("status       {}{since}{reason}", self.status),
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

impl Unit {
    fn new(view: &View, issue: &DeviceHistory) -> Result<Self> {
        let state = view.state();
        let withdrawn = state.withdrawal(issue.account, issue.slot, issue.issue);
        let reason = match withdrawn {
            Some(withdrawn) => reason(view, withdrawn)?,
            None => None,
        };
        let certificate = issue.certificate.as_ref();
        Ok(Self {
            serial: issue.serial.map(hex::encode),
            slot: issue.slot,
            issue: issue.issue,
            device_id: issue.device_id.to_string(),
            product: issue.sku.to_string(),
            status: status(state, issue),
            issued_at: rfc3339(issue.reserved_at),
            ended_at: withdrawn.map(|withdrawn| rfc3339(withdrawn.time)),
            reason,
            entitlement: issue.entitlement.to_string(),
            certificate: certificate.map(|der| to_pem("CERTIFICATE", der)),
        })
    }
}

/// What became of an issue: `good`, `revoked`, `replaced`, `unresolved`, or why it was withdrawn.
pub(crate) fn status(state: &State, issue: &DeviceHistory) -> &'static str {
    if let Some(withdrawn) = state.withdrawal(issue.account, issue.slot, issue.issue) {
        return withdrawn.why.as_str();
    }
    let ca = state.device_ca_of(issue.reservation);
    // One that was pruned is at headquarters.
    match (issue.certificate.is_some() || issue.pruned, ca) {
        (true, Some(ca)) if ca.revoked.is_some() => "revoked",
        (true, _) => "good",
        // A re-issue took its place before it was signed.
        (false, _) if !state.reservations().contains_key(&issue.reservation) => "replaced",
        (false, _) => "unresolved",
    }
}

/// Why somebody at the vault ended a unit: what the record before the decision says.
fn reason(view: &View, withdrawn: &Withdrawn) -> Result<Option<String>> {
    let Some(order) = withdrawn.at.number().checked_sub(1) else {
        return Ok(None);
    };
    let entry = view.entries(LogSequence(order))?.next().transpose()?;
    Ok(entry.and_then(|(_, entry)| match entry.body {
        Body::Device(order) => Some(order.reason),
        Body::Dispatch(dispatch) => match dispatch.content {
            Verdict::Authentic(Content::Revocation { plaintext, .. }) => {
                let revocation = Revocation::from_cbor(&plaintext).ok();
                revocation.map(|revocation| revocation.reason)
            }
            _ => None,
        },
        _ => None,
    }))
}

impl Reworks {
    fn of(state: &State, unit: &DeviceHistory) -> Self {
        let open = state.rework_open(unit.account, unit.slot).is_some();
        let granted = state.entitlements().get(&unit.entitlement);
        let product = granted.and_then(|granted| {
            let mut products = granted.terms.products.iter();
            products.find(|product| product.account == unit.account)
        });
        let all = state.reworks_of(unit.account, unit.slot);
        Self {
            done: all.saturating_sub(u64::from(open)),
            open,
            allowed: product.map_or(0, |product| u64::from(product.reissues_per_device)),
        }
    }
}
