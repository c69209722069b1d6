//! What is written off with a vault whose place another one takes.

use mintmark_console::Failure;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::succession::Succession;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::clock::now_unix;
use crate::failure;
use crate::findings::{Finding, Severity};
use crate::keyring::Keyring;
use crate::registry::{accounts, findings, vaults};
use crate::serials::Serials;

/// Serials that one finding names. `hq device show` finds out about the others by itself.
const SERIALS_PER_FINDING_MAX: u64 = 1000;

/// Closes the vault that is replaced. Its slots that nobody reported are in doubt, and each account says which.
pub(crate) fn write_off(
    sql: &Connection,
    successor: &VaultName,
    succession: &Succession,
    ring: &Keyring<'_>,
) -> Result<Vec<Value>, Failure> {
    let old = VaultName {
        site: successor.site.clone(),
        vault: succession.replaces.clone(),
    };
    let vault = vaults::find(sql, &old)?;
    let vault = vault.ok_or_else(|| failure::home_corrupt(format!("{old} is not registered")))?;
    vaults::close(sql, &old, &successor.vault)?;
    let cipher = Serials::new(ring).of(&vault)?;
    let mut written_off = Vec::new();
    for off in &succession.write_offs {
        let evidence = json!({
            "account": off.account.number(),
            "entitlement": off.entitlement.as_str(),
            "product": off.sku.as_str(),
            "first_slot": off.first_slot,
            "units": off.units,
            "successor": successor.vault.as_str(),
        });
        let last = off.first_slot.saturating_add(off.units);
        let named = last.min(off.first_slot.saturating_add(SERIALS_PER_FINDING_MAX));
        let serials = (off.first_slot..named)
            .map(|slot| hex::encode(cipher.serial(off.account, slot, 0)))
            .collect();
        let finding = Finding {
            vault: old.clone(),
            lineage: vault.lineage,
            log_sequence: None,
            code: accounts::SLOTS_WRITTEN_OFF.to_owned(),
            severity: Severity::Note,
            serials,
            evidence: evidence.clone(),
            text: format!(
                "{old} was replaced by {successor}: {} units of {} in {}, from slot {} on, may have been made and \
                 were never reported",
                off.units, off.sku, off.entitlement, off.first_slot
            ),
        };
        findings::add(sql, &finding, now_unix())?;
        written_off.push(evidence);
    }
    Ok(written_off)
}
