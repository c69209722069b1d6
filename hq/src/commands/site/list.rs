//! `hq site list|show`: which vaults there are, and what became of each.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table};
use mintmark_protocol::identifier::VaultId;
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::home::Home;
use crate::registry::vaults::{self, Vault};
use crate::registry::{accounts, device_cas as cas, dispatches, orders};
use crate::{failure, standing};

pub(super) fn run(
    home: Option<&Path>,
    only: Option<&str>,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let mut vaults = vaults::all(&registry.sql)?;
    if let Some(only) = only {
        vaults.retain(|vault| vault.name.site.as_str() == only || vault.name.to_string() == only);
        if vaults.is_empty() {
            return Err(failure::usage(
                "SITE-UNKNOWN",
                format!("there is no site or vault `{only}`"),
                "`hq site list` shows which there are",
            ));
        }
    }
    let mut table = Table::new(
        ["SITE", "VAULT", "STATE", "REQUESTED", "DISPATCHES", "SEEN"]
            .map(|header| (header, Align::Left)),
    );
    let mut rows = Vec::new();
    let mut facts = Vec::new();
    for vault in vaults {
        let sent = dispatches::all(&registry.sql, &vault.name)?;
        // An epoch may begin before everything of the one before was seen.
        let last_seen = dispatches::seen_by_vault(&registry.sql, &vault.name)?;
        let is_seen = |sent: &dispatches::Sent| {
            last_seen.is_some_and(|seen| (sent.epoch, sent.sequence) <= seen)
        };
        let seen = sent.iter().filter(|sent| is_seen(sent)).count();
        let bundle = dispatches::bundle_seen(&registry.sql, &vault.name)?;
        let state = standing::of(&registry.sql, &vault)?.state.as_str();
        let device_cas = device_cas(&registry.sql, &vault)?;
        let orders = super::orders::told(&registry.sql, &vault)?;
        let written_off = written_off(&registry.sql, &vault)?;
        let key_store: Value = serde_json::from_str(&vault.key_store).unwrap_or_default();
        rows.push(json!({
            "site": vault.name.site.as_str(),
            "vault": vault.name.vault.as_str(),
            "state": state,
            "enrolment_fingerprint": vault.request_fingerprint.to_string(),
            "lineage": vault.lineage.to_string(),
            "requested_at": rfc3339(vault.requested_at),
            "granted_at": vault.granted_at.map(rfc3339),
            "key_store": key_store,
            "successor": vault.successor.as_ref().map(VaultId::as_str),
            "device_cas": device_cas,
            "orders": orders,
            "written_off": written_off,
            "dispatches": sent.iter().map(|sent| json!({
                "epoch": sent.epoch, "sequence": sent.sequence, "type": sent.kind, "id": sent.object,
                "version": sent.version,
                "seen": is_seen(sent),
            })).collect::<Vec<_>>(),
            "bundle": bundle.map(|bundle| bundle.sequence),
        }));
        if only.is_some() {
            facts.extend(life(&vault, &device_cas, &orders, &written_off));
            facts.push(format!("{}, in its own word:", vault.name));
            let map = key_store.as_object().cloned().unwrap_or_default();
            facts
                .extend(map.iter().map(|(name, fact)| {
                    format!("  {name}: {}", fact.as_str().unwrap_or_default())
                }));
        }
        table.row([
            vault.name.site.to_string(),
            vault.name.vault.to_string(),
            state.to_owned(),
            rfc3339(vault.requested_at),
            sent.len().to_string(),
            seen.to_string(),
        ]);
    }
    if console.is_json() {
        let json = json!({ "schema": "mintmark/site/1", "vaults": rows });
        return crate::commands::say(console, &json, []);
    }
    console.table(&table);
    for line in facts {
        console.line(line);
    }
    Ok(Exit::Done)
}

/// The device CAs of a vault, from the first.
fn device_cas(sql: &Connection, vault: &Vault) -> Result<Vec<Value>, Failure> {
    let mut found = Vec::new();
    for device_ca in cas::of_vault(sql, &vault.name)? {
        let fingerprint = device_ca.fingerprint();
        let revoked = match fingerprint {
            Some(fingerprint) => {
                orders::is_revoked(sql, &vault.name, &Target::DeviceCa(fingerprint))?
            }
            None => false,
        };
        let state = match (fingerprint, revoked) {
            (None, _) => "requested",
            (_, true) => "revoked",
            _ => "granted",
        };
        found.push(json!({
            "generation": device_ca.generation,
            "fingerprint": fingerprint.map(|fingerprint| fingerprint.to_string()),
            "state": state,
            "requested_at": rfc3339(device_ca.requested_at),
            "granted_at": device_ca.granted_at.map(rfc3339),
        }));
    }
    Ok(found)
}

/// What was written off with a vault: what is still in doubt, which may be granted again to its successor, and what
/// turned out to be spent.
fn written_off(sql: &Connection, vault: &Vault) -> Result<Vec<Value>, Failure> {
    let accounts = accounts::all(sql, Some(&vault.name.site))?.into_iter();
    let of_vault =
        accounts.filter(|account| account.vault == vault.name && account.was_written_off());
    Ok(of_vault
        .map(|account| {
            json!({
                "product": account.sku.as_str(),
                "entitlement": account.entitlement.as_str(),
                "units": account.written_off,
                "used_after_all": account.used_after_all,
            })
        })
        .collect())
}

fn life(
    vault: &Vault,
    device_cas: &[Value],
    orders: &[Value],
    written_off: &[Value],
) -> Vec<String> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for device_ca in device_cas {
        lines.push(format!(
            "{}, device CA {}: {} {}",
            vault.name,
            device_ca["generation"],
            text(device_ca, "state"),
            text(device_ca, "fingerprint")
        ));
    }
    for order in orders {
        lines.push(format!(
            "{}, {} {}: {} {}",
            vault.name,
            text(order, "type"),
            order["number"],
            text(order, "state"),
            text(order, "target")
        ));
    }
    if let Some(successor) = &vault.successor {
        lines.push(format!("{} was replaced by {successor}", vault.name));
    }
    for off in written_off {
        lines.push(format!(
            "{}: {} units of {} in {} are written off and may be granted again with `hq entitlement draft`; {} more \
             were, and turned out to be used",
            vault.name,
            off["units"],
            text(off, "product"),
            text(off, "entitlement"),
            off["used_after_all"]
        ));
    }
    lines
}
