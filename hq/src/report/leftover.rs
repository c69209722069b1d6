//! What is left of accounts and is not simply unspent: units without a certificate.

use mintmark_console::Failure;
use mintmark_protocol::identifier::{Lineage, SiteId};
use rusqlite::Connection;
use serde_json::json;

use crate::findings::{Finding, Severity};
use crate::registry::accounts::Account;
use crate::registry::open_units::{self, OpenUnit};
use crate::registry::vaults;

/// Units that are spent and have no certificate, as of the newest bundle. Those that were reserved are to be looked at
/// while the site can still complete them. Those that nobody can complete any more are no discrepancy, since the log itself
/// says what became of them: they count as spent, and are noted.
pub(super) fn unresolved(
    sql: &Connection,
    site: Option<&SiteId>,
    accounts: &[Account],
) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    let open = open_units::all(sql, site)?;
    for account in accounts {
        // What was written off with its vault is told by a finding of its own.
        let count = account.unresolved.saturating_sub(account.written_off);
        if count == 0 {
            continue;
        }
        let Some(vault) = vaults::find(sql, &account.vault)? else {
            continue;
        };
        let burned = account.burned.min(count);
        if count > burned {
            let is_of = |unit: &&OpenUnit| unit.vault == account.vault && unit.tag == account.tag;
            let open: Vec<_> = open.iter().filter(is_of).collect();
            found.push(reserved(account, &open, vault.lineage, count - burned));
        }
        if burned > 0 {
            found.push(skipped(account, vault.lineage, burned));
        }
    }
    Ok(found)
}

/// Units that devices asked for, and that were not signed for.
fn reserved(account: &Account, open: &[&OpenUnit], lineage: Lineage, count: u64) -> Finding {
    let devices: Vec<_> = open.iter().map(|unit| unit.device_id.as_str()).collect();
    let ended = !open.is_empty() && open.iter().all(|unit| unit.withheld);
    let (severity, what) = if ended {
        (
            Severity::Note,
            "what officers revoked keeps them from getting one: only a new entitlement grants them again",
        )
    } else {
        (
            Severity::Minor,
            "have the site run `site recover` and export again",
        )
    };
    let words = format!(
        "{count} units of {} from {} are spent and have no certificate; {what}",
        account.sku, account.entitlement
    );
    Finding {
        log_sequence: open.first().map(|unit| unit.reservation),
        severity,
        serials: open.iter().map(|unit| unit.serial.clone()).collect(),
        ..finding(account, lineage, (count, 0), &devices, words)
    }
}

/// Units that a vault skipped, because its token had leased them when it did not stop cleanly.
fn skipped(account: &Account, lineage: Lineage, count: u64) -> Finding {
    let words = format!(
        "{count} units of {} from {} were leased by the vault's token when the vault did not stop cleanly, by a power cut or \
         an interrupted command, or when its home was put back: they were burned, count as spent and get no certificate, \
         and nothing is wrong with that. To let the site make as many all the same, officers amend the entitlement to {} \
         units: hq entitlement amend",
        account.sku,
        account.entitlement,
        account.authorised.saturating_add(count)
    );
    finding(account, lineage, (count, count), &[], words)
}

fn finding(
    account: &Account,
    lineage: Lineage,
    (unresolved, burned): (u64, u64),
    devices: &[&str],
    text: String,
) -> Finding {
    Finding {
        vault: account.vault.clone(),
        lineage,
        log_sequence: None,
        code: "UNRESOLVED".to_owned(),
        severity: Severity::Note,
        serials: Vec::new(),
        evidence: json!({
            "product": account.sku.as_str(),
            "entitlement": account.entitlement.as_str(),
            "unresolved": unresolved,
            "burned": burned,
            "devices": devices,
        }),
        text,
    }
}
