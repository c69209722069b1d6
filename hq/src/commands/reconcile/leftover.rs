//! What is left of accounts and is not simply unspent: units without a certificate, and units that can no longer be spent.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::serial::serial_of;
use mintmark_ledger::state::State;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Lineage, VaultName};
use rusqlite::Connection;
use serde_json::json;

use crate::findings::{Finding, Severity};
use crate::registry::accounts::Account;
use crate::registry::{orders, replays};

/// The accounts of entitlements whose revocation their vaults have followed.
pub(super) fn revoked(
    sql: &Connection,
    accounts: &[Account],
) -> Result<BTreeSet<(VaultName, u64)>, Failure> {
    let vaults: BTreeSet<&VaultName> = accounts.iter().map(|account| &account.vault).collect();
    let mut found = BTreeSet::new();
    for vault in vaults {
        if orders::revocations(sql, vault)?.is_empty() {
            continue;
        }
        let replay = replays::load(sql, vault)?;
        let is_revoked = |account: &&Account| {
            account.vault == *vault && replay.state().revoked_at(&account.entitlement).is_some()
        };
        let revoked = accounts.iter().filter(is_revoked);
        found.extend(revoked.map(|account| (vault.clone(), account.tag)));
    }
    Ok(found)
}

/// Units that are spent and have no certificate, as of the newest bundle. Those that were reserved are to be looked at
/// while the site can still complete them. Those that nobody can complete any more are no discrepancy, since the log itself
/// says what became of them: they count as spent, and are noted.
pub(super) fn unresolved(sql: &Connection, accounts: &[Account]) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    for account in accounts {
        // What was written off with its vault is told by a finding of its own.
        let count = account.unresolved.saturating_sub(account.written_off);
        if count == 0 {
            continue;
        }
        let replay = replays::load(sql, &account.vault)?;
        let state = replay.state();
        let Some(lineage) = state.lineage() else {
            continue;
        };
        let tag = AccountTag::new(account.tag);
        let burned = tag.and_then(|tag| state.account(tag));
        let burned = burned.map_or(0, |account| account.burned).min(count);
        if count > burned {
            found.push(reserved(account, state, lineage, count - burned));
        }
        if burned > 0 {
            found.push(skipped(account, lineage, burned));
        }
    }
    Ok(found)
}

/// Units that devices asked for, and that were not signed for.
fn reserved(account: &Account, state: &State, lineage: Lineage, count: u64) -> Finding {
    let open: Vec<_> = state
        .unsettled()
        .filter(|(_, open)| open.account.number() == account.tag)
        .collect();
    let devices: Vec<_> = open
        .iter()
        .map(|(_, open)| open.device_id.as_str())
        .collect();
    let serials = open.iter().filter_map(|(_, open)| serial_of(&open.tbs));
    let withheld = |(at, _): &(&LogSequence, &_)| state.withheld(**at).is_some();
    let ended = !open.is_empty() && open.iter().all(withheld);
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
        log_sequence: open.first().map(|(sequence, _)| sequence.number()),
        severity,
        serials: serials.map(hex::encode).collect(),
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
