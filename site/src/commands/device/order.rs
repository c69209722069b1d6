//! `site device scrap|void|rework ID`: what somebody at the vault says of a device.

use mintmark_console::{Console, Exit};
use mintmark_ledger::entry::{DeviceAction, DeviceOrder};
use mintmark_ledger::ledger::DeviceHistory;
use mintmark_protocol::identifier::{DeviceId, Sku, StationId};
use mintmark_protocol::order::{REASON_RULE, may_give_reason};
use serde::Serialize;

use super::super::json;
use crate::failure::{Error, Result};
use crate::place::Place;
use crate::vault::Vault;

/// What `site device scrap`, `void` and `rework` are told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The device's identifier
    #[arg(value_name = "ID")]
    id: DeviceId,
    /// Why, in one line of up to 200 characters; the log keeps it, and headquarters reads it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The product, where the device has units of several
    #[arg(long, value_name = "SKU")]
    product: Option<Sku>,
    /// The identifier once more, where there is no terminal to type it on: scrapping and voiding cannot be undone
    #[arg(long, value_name = "ID")]
    confirm: Option<String>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    device_id: String,
    product: String,
    action: &'static str,
    /// `scrapped`, `voided`, `allowed` or `refused`.
    outcome: &'static str,
    code: Option<String>,
    /// Of the newest certificate of the device, or of what is reserved for it.
    serial: Option<String>,
    slot: Option<u64>,
    issue: Option<u16>,
    entitlement: Option<String>,
    dry_run: bool,
}

/// Has the vault decide, and says what it decided.
pub(super) fn execute(
    action: DeviceAction,
    arguments: &Arguments,
    place: &Place<'_>,
    console: &Console,
) -> Result<Exit> {
    if !may_give_reason(&arguments.reason) {
        return Err(Error::usage("REASON-INVALID", REASON_RULE)
            .hint("say in one line why, without line breaks"));
    }
    let mut vault = place.open(console)?;
    let product = vault.with(|vault| product(vault, arguments))?;
    let dry_run = arguments.dry_run;
    if !dry_run {
        confirm(action, arguments, &product, console)?;
    }
    let order = DeviceOrder {
        action,
        product,
        device_id: arguments.id.clone(),
        reason: arguments.reason.clone(),
        station: StationId::console(),
    };
    // From where it is on record, a failure is not told as if nothing had been changed.
    let on_record = |error: Error| {
        let hint = format!(
            "put right what is named; `site device show {}` says what is on record",
            order.device_id
        );
        error.outcome_unknown().hint(hint)
    };
    let history = |vault: &Vault<'_>| vault.device_history(Some(&order.product), &order.device_id);
    let (refusal, mut history) = if dry_run {
        vault.rehearse(|vault| Ok((vault.rehearse_order(&order)?, history(vault)?)))?
    } else {
        let (refusal, history) = vault.with(|vault| {
            let refusal = vault.order(&order)?;
            let history = history(vault);
            let history = match refusal {
                None => history.map_err(on_record)?,
                Some(_) => history?,
            };
            Ok((refusal, history))
        })?;
        let closed = vault.close();
        match refusal {
            None => closed.map_err(on_record)?,
            Some(_) => closed?,
        }
        (refusal, history)
    };
    let report = Report {
        code: refusal.as_ref().map(|refusal| refusal.code().to_owned()),
        outcome: match (&refusal, action) {
            (Some(_), _) => "refused",
            (None, DeviceAction::Scrap) => "scrapped",
            (None, DeviceAction::Void) => "voided",
            (None, DeviceAction::Rework) => "allowed",
        },
        dry_run,
        ..Report::new(&order, history.pop())
    };
    if console.is_json() {
        json(console, &report)?;
    } else if refusal.is_none() {
        show(&report, action, console);
    }
    if dry_run {
        console.note("nothing was changed");
    }
    match refusal {
        None => Ok(Exit::Done),
        Some(refusal) => Err(refusal.into()),
    }
}

/// The product that is meant: the one that was named, or the only one that the device has a unit of.
fn product(vault: &Vault<'_>, arguments: &Arguments) -> Result<Sku> {
    let id = &arguments.id;
    if let Some(product) = &arguments.product {
        return Ok(product.clone());
    }
    let mut products: Vec<Sku> = vault
        .device_history(None, id)?
        .into_iter()
        .map(|unit| unit.sku)
        .collect();
    products.dedup();
    match <[Sku; 1]>::try_from(products) {
        Ok([product]) => Ok(product),
        Err(none) if none.is_empty() => {
            let message = format!("this vault's log holds no device {id}");
            Err(Error::negative("DEVICE-UNKNOWN", message)
                .hint("check the spelling; the vault knows only devices that it issued to"))
        }
        Err(several) => {
            let names: Vec<&str> = several.iter().map(Sku::as_str).collect();
            let names = names.join(", ");
            let message = format!("device {id} has units of several products: {names}");
            Err(Error::usage("DEVICE-AMBIGUOUS", message).hint("add --product SKU"))
        }
    }
}

/// What cannot be undone is confirmed; where something was given for that, it counts in any case.
fn confirm(
    action: DeviceAction,
    arguments: &Arguments,
    product: &Sku,
    console: &Console,
) -> Result<()> {
    let id = arguments.id.as_str();
    let what = match action {
        DeviceAction::Scrap => format!("scrap device {id} of {product}, for good"),
        DeviceAction::Void => format!("void the unit of device {id} of {product}, for good"),
        DeviceAction::Rework if arguments.confirm.is_none() => return Ok(()),
        DeviceAction::Rework => format!("allow device {id} of {product} another certificate"),
    };
    let given = arguments.confirm.as_deref();
    console.confirm_identifier(&what, id, given)?;
    Ok(())
}

impl Report {
    fn new(order: &DeviceOrder, newest: Option<DeviceHistory>) -> Self {
        let newest = newest.as_ref();
        Self {
            schema: "mintmark/device/1",
            device_id: order.device_id.to_string(),
            product: order.product.to_string(),
            action: order.action.as_str(),
            outcome: "refused",
            code: None,
            serial: newest.and_then(|unit| unit.serial).map(hex::encode),
            slot: newest.map(|unit| unit.slot),
            issue: newest.map(|unit| unit.issue),
            entitlement: newest.map(|unit| unit.entitlement.to_string()),
            dry_run: false,
        }
    }
}

fn show(report: &Report, action: DeviceAction, console: &Console) {
    let (id, product) = (&report.device_id, &report.product);
    let slot = report.slot.unwrap_or_default();
    let entitlement = report.entitlement.as_deref().unwrap_or_default();
    let unit = format!("slot {slot} of {entitlement}");
    let would = if report.dry_run { "would be " } else { "" };
    console.line(match action {
        DeviceAction::Scrap => format!("device {id} of {product} {would}scrapped: {unit}"),
        DeviceAction::Void => format!("unit of device {id} of {product} {would}voided: {unit}"),
        DeviceAction::Rework => {
            format!("device {id} of {product} {would}allowed another certificate: {unit}")
        }
    });
    if report.dry_run {
        return;
    }
    console.note(match action {
        DeviceAction::Rework => {
            "next: `site issue` with the device's new request; what it has is good until then"
        }
        DeviceAction::Scrap | DeviceAction::Void => {
            "the unit stays spent; next: `site media export` carries the CRL to headquarters, or `site crl issue` writes it"
        }
    });
}
