//! What is left of accounts and is not simply unspent: units without a certificate, and units that can no longer be spent.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_ledger::serial::serial_of;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::VaultName;
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

/// Units that were reserved and have no certificate, as of the newest bundle: they count as spent until somebody looks.
pub(super) fn unresolved(sql: &Connection, accounts: &[Account]) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    for account in accounts {
        // What was written off with its vault is told by a finding of its own.
        let count = account.unresolved.saturating_sub(account.written_off);
        if count == 0 {
            continue;
        }
        let replay = replays::load(sql, &account.vault)?;
        let open: Vec<_> = replay
            .state()
            .unsettled()
            .filter(|(_, open)| open.account.number() == account.tag)
            .collect();
        let devices: Vec<_> = open
            .iter()
            .map(|(_, open)| open.device_id.as_str())
            .collect();
        let serials = open.iter().filter_map(|(_, open)| serial_of(&open.tbs));
        let withheld = open
            .iter()
            .any(|(sequence, _)| replay.state().withheld(**sequence).is_some());
        let Some(lineage) = replay.state().lineage() else {
            continue;
        };
        let tag = AccountTag::new(account.tag);
        let burned = tag.and_then(|tag| replay.state().account(tag));
        let burned = burned.map_or(0, |account| account.burned).min(count);
        found.push(Finding {
            vault: account.vault.clone(),
            lineage,
            log_sequence: open.first().map(|(sequence, _)| sequence.number()),
            code: "UNRESOLVED".to_owned(),
            severity: Severity::Minor,
            serials: serials.map(hex::encode).collect(),
            evidence: json!({
                "product": account.sku.as_str(),
                "entitlement": account.entitlement.as_str(),
                "unresolved": count,
                "burned": burned,
                "devices": devices,
            }),
            text: format!(
                "{count} units of {} from {} are spent and have no certificate; {}",
                account.sku,
                account.entitlement,
                if burned == count {
                    "the vault's token had leased them, nobody knows whether they were spent, and they are skipped: only a \
                     new entitlement or an amendment grants them again"
                } else if withheld {
                    "what officers revoked keeps them from getting one: only a new entitlement grants them again"
                } else {
                    "have the site run `site recover` and export again"
                }
            ),
        });
    }
    Ok(found)
}
