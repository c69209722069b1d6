//! What headquarters granted, and when.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_console::Failure;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{EntitlementId, SiteId, VaultName};
use rusqlite::Connection;

use super::period::Day;
use crate::failure;
use crate::registry::{entitlements, parsed};

/// An account, by its vault and tag.
pub(super) type Place = (VaultName, u64);

/// Everything that was granted.
#[derive(Default)]
pub(super) struct Grants {
    /// What each account had from each day on, in order.
    authorised: BTreeMap<Place, Vec<(Day, u64)>>,
    /// The most units of a day, by the newest version that names them.
    per_day: BTreeMap<Place, u64>,
}

impl Grants {
    /// Reads what was sent and not refused.
    pub(super) fn new(sql: &Connection, site: Option<&SiteId>) -> Result<Self, Failure> {
        let made = made_at(sql, site)?;
        let mut grants = Self::default();
        let mut places: BTreeMap<(VaultName, EntitlementId), BTreeSet<Place>> = BTreeMap::new();
        // They come by vault, id and version.
        for listed in entitlements::all(sql)? {
            let terms = listed.terms;
            if listed.state != "sent" || site.is_some_and(|site| terms.vault.site != *site) {
                continue;
            }
            let version = (terms.vault.clone(), terms.id.to_string(), terms.version);
            let day = Day::of(made.get(&version).copied().unwrap_or(terms.drafted_at));
            let known = places
                .entry((terms.vault.clone(), terms.id.clone()))
                .or_default();
            // What an amendment no longer names, it takes back.
            for place in &*known {
                let days = grants.authorised.entry(place.clone()).or_default();
                days.push((day, 0));
                grants.per_day.remove(place);
            }
            for product in &terms.products {
                let place = (terms.vault.clone(), product.account.number());
                let days = grants.authorised.entry(place.clone()).or_default();
                days.retain(|(of, units)| (*of, *units) != (day, 0));
                days.push((day, product.units));
                if let Some(units) = product.units_per_day {
                    grants.per_day.insert(place.clone(), units);
                }
                known.insert(place);
            }
        }
        Ok(grants)
    }

    /// What an account had at the end of a day.
    pub(super) fn at(&self, place: &Place, day: u64) -> u64 {
        let mut days = self.days(place).iter();
        days.rfind(|(of, _)| of.0 <= day)
            .map_or(0, |(_, units)| *units)
    }

    /// What an account had from each day on, in order.
    pub(super) fn days(&self, place: &Place) -> &[(Day, u64)] {
        self.authorised.get(place).map_or(&[], Vec::as_slice)
    }

    /// The most units that an account may spend on a day, if there is a limit.
    pub(super) fn per_day(&self, place: &Place) -> Option<u64> {
        self.per_day.get(place).copied()
    }
}

/// When each version of each entitlement was sent for the first time, Unix seconds.
pub(super) type MadeAt = BTreeMap<(VaultName, String, u64), u64>;

/// Reads it of all that was not refused.
pub(super) fn made_at(sql: &Connection, site: Option<&SiteId>) -> Result<MadeAt, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT site, vault, object, version, MIN(made_at) FROM dispatches
             WHERE kind = ?1 AND refused IS NULL AND (?2 IS NULL OR site = ?2) GROUP BY site, vault, object, version",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query((Kind::Entitlement.as_str(), site.map(SiteId::as_str)))
        .map_err(failure::sql)?;
    let mut made = BTreeMap::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
        let vault = VaultName {
            site: parsed("site", &text(0)?)?,
            vault: parsed("vault", &text(1)?)?,
        };
        let version = row.get(3).map_err(failure::sql)?;
        made.insert(
            (vault, text(2)?, version),
            row.get(4).map_err(failure::sql)?,
        );
    }
    Ok(made)
}
