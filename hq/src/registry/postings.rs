//! The journal of what logs did with units, and what they refused: counted at import, so that no report has to look at a
//! single device.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use mintmark_console::Failure;
use mintmark_protocol::identifier::{SiteId, Sku, VaultName};
use rusqlite::{Connection, params};

use super::parsed;
use crate::failure;

/// Where the units of an account can be. What is authorised is the sum of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bucket {
    /// Not spent.
    Unspent,
    /// Spent on a device that has no certificate yet.
    Reserved,
    /// Skipped, as it may have been spent.
    Burned,
    /// With a certificate.
    Good,
    /// Its device was scrapped.
    Scrapped,
    /// Voided before a device got it.
    Voided,
}

impl Bucket {
    /// Every bucket, in the order of a unit's life.
    pub(crate) const ALL: [Self; 6] = [
        Self::Unspent,
        Self::Reserved,
        Self::Burned,
        Self::Good,
        Self::Scrapped,
        Self::Voided,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unspent => "unspent",
            Self::Reserved => "reserved",
            Self::Burned => "burned",
            Self::Good => "good",
            Self::Scrapped => "scrapped",
            Self::Voided => "voided",
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Bucket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|bucket| bucket.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no bucket of an account"))
    }
}

/// Units that went from one bucket to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Move {
    pub(crate) debit: Bucket,
    pub(crate) credit: Bucket,
}

/// What moved on one UTC day of a log (days since 1970) in one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) vault: VaultName,
    pub(crate) tag: u64,
    pub(crate) day: u64,
    /// The UTC day on which HQ learned of it.
    pub(crate) reported_day: u64,
    pub(crate) moved: Move,
    pub(crate) units: u64,
}

/// What a vault refused on one UTC day of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) vault: VaultName,
    pub(crate) day: u64,
    pub(crate) sku: Sku,
    pub(crate) code: String,
    pub(crate) requests: u64,
}

/// Adds units to the journal of a vault.
pub(crate) fn add<'a>(
    sql: &Connection,
    vault: &VaultName,
    reported_day: u64,
    rows: impl IntoIterator<Item = (&'a (u64, u64, Move), &'a u64)>,
) -> Result<(), Failure> {
    let mut statement = sql
        .prepare_cached(
            "INSERT INTO postings (site, vault, tag, day, reported_day, debit, credit, units)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (site, vault, tag, day, reported_day, debit, credit)
             DO UPDATE SET units = units + excluded.units",
        )
        .map_err(failure::sql)?;
    for ((tag, day, moved), units) in rows {
        statement
            .execute(params![
                vault.site.as_str(),
                vault.vault.as_str(),
                tag,
                day,
                reported_day,
                moved.debit.as_str(),
                moved.credit.as_str(),
                units,
            ])
            .map_err(failure::sql)?;
    }
    Ok(())
}

/// Adds requests that a vault refused.
pub(crate) fn add_refusals(
    sql: &Connection,
    vault: &VaultName,
    rows: &BTreeMap<(u64, Sku, String), u64>,
) -> Result<(), Failure> {
    let mut statement = sql
        .prepare_cached(
            "INSERT INTO refusals (site, vault, day, sku, code, requests) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (site, vault, day, sku, code) DO UPDATE SET requests = requests + excluded.requests",
        )
        .map_err(failure::sql)?;
    for ((day, sku, code), requests) in rows {
        statement
            .execute(params![
                vault.site.as_str(),
                vault.vault.as_str(),
                day,
                sku.as_str(),
                code,
                requests
            ])
            .map_err(failure::sql)?;
    }
    Ok(())
}

/// The journal of a site, or of all, by vault, account and day.
pub(crate) fn all(sql: &Connection, site: Option<&SiteId>) -> Result<Vec<Posting>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT site, vault, tag, day, reported_day, debit, credit, units FROM postings
             WHERE ?1 IS NULL OR site = ?1 ORDER BY site, vault, tag, day, reported_day",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([site.map(SiteId::as_str)])
        .map_err(failure::sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
        let number = |column: usize| row.get::<_, u64>(column).map_err(failure::sql);
        found.push(Posting {
            vault: VaultName {
                site: parsed("site", &text(0)?)?,
                vault: parsed("vault", &text(1)?)?,
            },
            tag: number(2)?,
            day: number(3)?,
            reported_day: number(4)?,
            moved: Move {
                debit: parsed("debit", &text(5)?)?,
                credit: parsed("credit", &text(6)?)?,
            },
            units: number(7)?,
        });
    }
    Ok(found)
}

/// What was refused at a site, or at all, on these days.
pub(crate) fn refusals(
    sql: &Connection,
    site: Option<&SiteId>,
    days: &RangeInclusive<u64>,
) -> Result<Vec<Refusal>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT site, vault, day, sku, code, requests FROM refusals
             WHERE (?1 IS NULL OR site = ?1) AND day BETWEEN ?2 AND ?3 ORDER BY site, vault, day, sku, code",
        )
        .map_err(failure::sql)?;
    let bound = |day: u64| i64::try_from(day).unwrap_or(i64::MAX);
    let mut rows = statement
        .query(params![
            site.map(SiteId::as_str),
            bound(*days.start()),
            bound(*days.end())
        ])
        .map_err(failure::sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
        found.push(Refusal {
            vault: VaultName {
                site: parsed("site", &text(0)?)?,
                vault: parsed("vault", &text(1)?)?,
            },
            day: row.get(2).map_err(failure::sql)?,
            sku: parsed("sku", &text(3)?)?,
            code: text(4)?,
            requests: row.get(5).map_err(failure::sql)?,
        });
    }
    Ok(found)
}
