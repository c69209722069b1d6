//! What was found and counted, held against what was done and against the books.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::headquarters::MAIN;
use super::site::{Balance, Site};
use super::{Expected, Fleet, GW, HR, RT, ST, TH};

/// A finding as it was found: site, code, record and serials.
type Found = (String, String, Option<u64>, Vec<String>);

impl Fleet {
    /// Everything that was found and counted is as it has to be. What differs, line by line.
    pub(super) fn differences(&self) -> Vec<String> {
        let said = self.hq.reconcile();
        let report = &said.json;
        let mut lines = Vec::new();
        let mut found: BTreeSet<Found> = BTreeSet::new();
        for finding in report["findings"].as_array().unwrap() {
            let text = |name: &str| finding[name].as_str().unwrap().to_owned();
            let serials = finding["serials"].as_array().unwrap().iter();
            let mut serials: Vec<String> = serials
                .map(|serial| serial.as_str().unwrap().to_owned())
                .collect();
            serials.sort_unstable();
            let at = finding["log_sequence"].as_u64();
            if !found.insert((text("site"), text("code"), at, serials)) {
                lines.push(format!("found twice: {finding}"));
            }
        }
        let mut expected: BTreeSet<Found> = BTreeSet::new();
        for site in &self.sites {
            let Some(plan) = &site.plan else { continue };
            let Some(done) = &plan.done else {
                lines.push(format!(
                    "{} at {} never found what it takes",
                    plan.kind.name, site.vault.site
                ));
                continue;
            };
            expected.extend(done.iter().map(|expected| {
                let Expected {
                    code,
                    log_sequence,
                    serials,
                } = expected.clone();
                (
                    site.vault.site.to_owned(),
                    code.to_owned(),
                    log_sequence,
                    serials,
                )
            }));
        }
        let missed = expected.difference(&found);
        lines.extend(missed.map(|missed| format!("missed: {missed:?}")));
        let alarms = found.difference(&expected);
        lines.extend(alarms.map(|alarm| format!("false alarm: {alarm:?}")));
        for site in &self.sites {
            self.compare_books(site, report, &mut lines);
        }
        let overspent = report["accounts"].as_array().unwrap().iter();
        let mut balanced = true;
        for row in overspent {
            balanced &= row["balanced"] == true;
        }
        if report["balanced"] != balanced {
            lines.push(format!("balanced: {}", report["balanced"]));
        }
        lines
    }

    /// The accounts of a site are those of its books, and an account is said to be wrong if more was spent than was granted.
    fn compare_books(&self, site: &Site, report: &Value, lines: &mut Vec<String>) {
        let name = site.vault.site;
        let rows = report["accounts"].as_array().unwrap().iter();
        let rows = rows.filter(|row| row["site"] == name);
        let mut seen = 0;
        for row in rows {
            let product = [TH, GW, RT, HR, ST]
                .into_iter()
                .find(|product| row["product"] == *product);
            let Some(product) = product.filter(|_| row["entitlement"] == MAIN) else {
                lines.push(format!("an account that nobody granted: {row}"));
                continue;
            };
            seen += 1;
            let Balance {
                good,
                scrapped,
                voided,
                unresolved,
            } = site.reported.get(product).cloned().unwrap_or_default();
            let authorised = match product {
                TH => site.granted,
                GW => site.granted.div_ceil(2),
                RT => 30,
                _ => 20,
            };
            let spent = good + scrapped + voided + unresolved;
            let unspent = authorised.saturating_sub(spent);
            let kept = [authorised, good, scrapped, voided, unresolved, unspent];
            let names = [
                "authorised",
                "good",
                "scrapped",
                "voided",
                "unresolved",
                "unspent",
            ];
            let counted = names.map(|name| row[name].as_u64().unwrap());
            if counted != kept || row["balanced"] != (spent <= authorised) {
                lines.push(format!(
                    "{product} of {name}: headquarters counts {counted:?} (balanced: {}), the books say {kept:?}",
                    row["balanced"]
                ));
            }
        }
        if seen != 5 {
            lines.push(format!("{name}: {seen} accounts"));
        }
    }
}
