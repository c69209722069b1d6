//! What was granted and what became of it: the counters of the newest replay.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_console::Failure;
use mintmark_ledger::decide::DeviceRecord;
use mintmark_ledger::state::{Account as Replayed, State};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{EntitlementId, SiteId, Sku, VaultName};
use rusqlite::{Connection, Row, params};

use super::{entitlements, findings, open_units, parsed};
use crate::failure;

/// The finding that says which slots are in doubt since another vault took the place of theirs.
pub(crate) const SLOTS_WRITTEN_OFF: &str = "SLOTS-WRITTEN-OFF";

/// One product of one entitlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) vault: VaultName,
    pub(crate) tag: u64,
    pub(crate) entitlement: EntitlementId,
    pub(crate) sku: Sku,
    /// What HQ granted; 0 if it granted nothing.
    pub(crate) authorised: u64,
    pub(crate) good: u64,
    pub(crate) scrapped: u64,
    pub(crate) voided: u64,
    /// Spent, as far as HQ knows, with no certificate: what was written off included.
    pub(crate) unresolved: u64,
    /// Of those: slots that were skipped, as they may have been spent, and that nobody can complete.
    pub(crate) burned: u64,
    /// When the vault followed the revocation of the entitlement, Unix seconds of its log.
    pub(crate) revoked_at: Option<u64>,
    /// Of the unresolved: not reported as spent by a vault whose place another one took, so that only a new entitlement grants
    /// them again. What it still reports late is no longer among them.
    pub(crate) written_off: u64,
    /// What was written off at first and turned out to be spent, as a late report told.
    pub(crate) used_after_all: u64,
}

impl Account {
    /// Units spent: good, scrapped, voided or unresolved.
    pub(crate) fn spent(&self) -> u64 {
        [self.scrapped, self.voided, self.unresolved]
            .into_iter()
            .fold(self.good, u64::saturating_add)
    }

    /// Units left; none of an account that is overspent.
    pub(crate) fn unspent(&self) -> u64 {
        self.authorised.saturating_sub(self.spent())
    }

    /// Whether nothing more can come of it: all of it is spent, and no unit waits for its certificate.
    pub(crate) fn is_used_up(&self) -> bool {
        let ended = self.burned.saturating_add(self.written_off);
        self.unspent() == 0 && self.unresolved <= ended
    }

    /// Whether another vault took the place of its own while units were left.
    pub(crate) fn was_written_off(&self) -> bool {
        self.written_off > 0 || self.used_after_all > 0
    }
}

/// What HQ granted of one account, by the most generous version that it sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) entitlement: EntitlementId,
    pub(crate) sku: Sku,
    pub(crate) units: u64,
}

/// Everything that was ever granted to a vault, by account, but for what the vault refused. A version with fewer units
/// than the one before takes nothing back that was spent by then.
pub(crate) fn granted(
    sql: &Connection,
    vault: &VaultName,
) -> Result<BTreeMap<AccountTag, Granted>, Failure> {
    let mut granted = BTreeMap::<AccountTag, Granted>::new();
    let sent = entitlements::all(sql)?
        .into_iter()
        .filter(|listed| listed.terms.vault == *vault && listed.state == "sent");
    for listed in sent {
        for product in listed.terms.products {
            let units = product.units;
            let account = granted.entry(product.account).or_insert(Granted {
                entitlement: listed.terms.id.clone(),
                sku: product.sku,
                units,
            });
            account.units = account.units.max(units);
        }
    }
    Ok(granted)
}

/// Whether HQ granted the unit that a log spends.
pub(crate) fn covers(
    sql: &Connection,
    vault: &VaultName,
    unit: &DeviceRecord,
) -> Result<bool, Failure> {
    let strange: bool = sql
        .query_row(
            "SELECT COUNT(*) > 0 FROM ungranted_accounts WHERE site = ?1 AND vault = ?2 AND tag = ?3",
            params![
                vault.site.as_str(),
                vault.vault.as_str(),
                unit.account.number()
            ],
            |row| row.get(0),
        )
        .map_err(failure::sql)?;
    let granted = granted(sql, vault)?;
    let account = granted.get(&unit.account);
    let covered = |account: &Granted| account.sku == unit.sku && unit.slot < account.units;
    Ok(!strange && account.is_some_and(covered))
}

/// The accounts that a log spends from and that HQ never granted.
pub(crate) fn ungranted(
    sql: &Connection,
    vault: &VaultName,
) -> Result<BTreeSet<AccountTag>, Failure> {
    let mut statement = sql
        .prepare("SELECT tag FROM ungranted_accounts WHERE site = ?1 AND vault = ?2")
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    let mut tags = BTreeSet::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        tags.extend(AccountTag::new(row.get(0).map_err(failure::sql)?));
    }
    Ok(tags)
}

/// Brings the counters of a vault to what its replay says. What was granted stays HQ's own word.
pub(crate) fn update(sql: &Connection, vault: &VaultName, state: &State) -> Result<(), Failure> {
    let names = [vault.site.as_str(), vault.vault.as_str()];
    for table in ["ungranted_accounts", "open_units"] {
        let query = format!("DELETE FROM {table} WHERE site = ?1 AND vault = ?2");
        sql.execute(&query, names).map_err(failure::sql)?;
    }
    for account in state.accounts() {
        let revoked = state.revoked_at(&account.entitlement);
        // SQL's numbers end where a hostile clock need not.
        let revoked_at = revoked.map(|revoked| i64::try_from(revoked.time).unwrap_or(i64::MAX));
        let granted = sql
            .execute(
                "UPDATE accounts SET spent = ?6, good = ?7, scrapped = ?8, voided = ?9, unresolved = ?10,
                     burned = ?11, revoked_at = ?12
                 WHERE site = ?1 AND vault = ?2 AND tag = ?3 AND entitlement = ?4 AND sku = ?5 AND sent = 1",
                params![
                    vault.site.as_str(),
                    vault.vault.as_str(),
                    account.tag.number(),
                    account.entitlement.as_str(),
                    account.sku.as_str(),
                    account.spent(),
                    account.good,
                    account.scrapped,
                    account.voided,
                    account.unresolved,
                    account.burned,
                    revoked_at,
                ],
            )
            .map_err(failure::sql)?;
        if granted == 0 {
            add_ungranted(sql, vault, account, revoked_at)?;
        }
    }
    open_units::add(sql, vault, state)
}

fn add_ungranted(
    sql: &Connection,
    vault: &VaultName,
    account: &Replayed,
    revoked_at: Option<i64>,
) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO ungranted_accounts (site, vault, tag, entitlement, sku, good, scrapped, voided, unresolved,
             burned, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            account.tag.number(),
            account.entitlement.as_str(),
            account.sku.as_str(),
            account.good,
            account.scrapped,
            account.voided,
            account.unresolved,
            account.burned,
            revoked_at,
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Every account that was granted to a vault of a site, or of any, and after them those that were not and that a log
/// spends from all the same.
pub(crate) fn all(sql: &Connection, site: Option<&SiteId>) -> Result<Vec<Account>, Failure> {
    const QUERY: &str = "
        SELECT site, vault, tag, entitlement, sku, authorised, good, scrapped, voided, unresolved, 0 AS strange,
            (SELECT COUNT(*) FROM vaults WHERE vaults.site = accounts.site AND vaults.vault = accounts.vault
                AND successor IS NOT NULL) AS closed, burned, revoked_at
        FROM accounts WHERE sent = 1 AND (?1 IS NULL OR site = ?1)
        UNION ALL
        SELECT site, vault, tag, entitlement, sku, 0, good, scrapped, voided, unresolved, 1, 0, burned, revoked_at
        FROM ungranted_accounts WHERE ?1 IS NULL OR site = ?1
        ORDER BY site, vault, strange, tag";
    let mut statement = sql.prepare(QUERY).map_err(failure::sql)?;
    let mut rows = statement
        .query([site.map(SiteId::as_str)])
        .map_err(failure::sql)?;
    let mut accounts = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        accounts.push(read(row)?);
    }
    for off in findings::all(sql, site)? {
        if off.code != SLOTS_WRITTEN_OFF {
            continue;
        }
        let number = |name: &str| off.evidence[name].as_u64();
        let is_of = |account: &&mut Account| {
            account.vault == off.vault && Some(account.tag) == number("account")
        };
        if let Some(account) = accounts.iter_mut().find(is_of) {
            let reported = account.spent().saturating_sub(account.written_off);
            let since = reported.saturating_sub(number("first_slot").unwrap_or_default());
            account.used_after_all = since.min(number("units").unwrap_or_default());
        }
    }
    Ok(accounts)
}

/// One account, granted or not.
pub(crate) fn find(
    sql: &Connection,
    vault: &VaultName,
    tag: AccountTag,
) -> Result<Option<Account>, Failure> {
    let accounts = all(sql, Some(&vault.site))?;
    let is = |account: &Account| account.vault == *vault && account.tag == tag.number();
    Ok(accounts.into_iter().find(is))
}

fn read(row: &Row<'_>) -> Result<Account, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let number = |column: usize| row.get::<_, u64>(column).map_err(failure::sql);
    let mut account = Account {
        vault: VaultName {
            site: parsed("site", &text(0)?)?,
            vault: parsed("vault", &text(1)?)?,
        },
        tag: number(2)?,
        entitlement: parsed("entitlement", &text(3)?)?,
        sku: parsed("sku", &text(4)?)?,
        authorised: number(5)?,
        good: number(6)?,
        scrapped: number(7)?,
        voided: number(8)?,
        unresolved: number(9)?,
        burned: number(12)?,
        revoked_at: row.get(13).map_err(failure::sql)?,
        written_off: 0,
        used_after_all: 0,
    };
    if number(11)? > 0 {
        account.written_off = account.unspent();
        account.unresolved = account.unresolved.saturating_add(account.written_off);
    }
    Ok(account)
}
