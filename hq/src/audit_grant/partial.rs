//! Findings of a part of the record, held against those that headquarters has of all of it.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_console::Failure;
use rusqlite::Connection;
use serde_json::Value;

use crate::registry::{bundles, vaults};
use crate::vault_restores::RESTORE_DECLARED;

/// Findings that depend on what came after the part of the record that is here, at that vault or at another, or on the day.
const OF_LATER: [&str; 14] = [
    "BUNDLE-GAP",
    "BUNDLES-FORGOTTEN",
    "CRL-OVERDUE",
    "DISPATCH-FORGOTTEN",
    "DISPATCH-UNKNOWN",
    "DUPLICATE-DEVICE",
    "DUPLICATE-KEY",
    "DUPLICATE-SERIAL",
    "ENTITLEMENT-FORGOTTEN",
    "REPLACED-VAULT-ISSUED",
    "REVOCATION-UNSEEN",
    "SITE-SILENT",
    "SLOTS-WRITTEN-OFF",
    "UNRESOLVED",
];

/// What is here of the record.
pub(super) struct Partial {
    /// How many records, by site and vault.
    records: BTreeMap<(String, String), u64>,
    /// The bundles that are here, those that were refused among them.
    bundles: BTreeSet<String>,
    /// The lineages that a bundle is here of.
    lineages: BTreeSet<String>,
}

impl Partial {
    pub(super) fn new(sql: &Connection) -> Result<Self, Failure> {
        let mut here = Self {
            records: BTreeMap::new(),
            bundles: bundles::all_refused(sql)?,
            lineages: BTreeSet::new(),
        };
        for vault in vaults::all(sql)? {
            let held = bundles::of_vault(sql, &vault.name)?;
            let records = held.last().map_or(0, |held| held.log_size);
            let name = vault.name;
            let name = (name.site.to_string(), name.vault.to_string());
            here.records.insert(name, records);
            for held in held {
                here.bundles.insert(held.fingerprint.to_string());
                here.lineages.insert(held.lineage.to_string());
            }
        }
        Ok(here)
    }

    /// Whether a finding depends on what came after the part that is here. That of a restore is narrowed by the first bundle
    /// of the lineage that it opened.
    fn of_later(&self, finding: &Value) -> bool {
        let code = finding["code"].as_str().unwrap_or_default();
        let lineage = finding["evidence"]["lineage"].as_str().unwrap_or_default();
        OF_LATER.contains(&code) || code == RESTORE_DECLARED && !self.lineages.contains(lineage)
    }

    /// Whether a finding is of what is here alone, so that it is the same whatever came later.
    fn has(&self, finding: &Value) -> bool {
        let text = |name: &str| finding[name].as_str().unwrap_or_default();
        let name = (text("site").to_owned(), text("vault").to_owned());
        let records = self.records.get(&name).copied().unwrap_or(0);
        let bundle = finding["evidence"]["bundle"].as_str();
        !self.of_later(finding)
            && finding["log_sequence"]
                .as_u64()
                .is_some_and(|at| at < records)
            && bundle.is_none_or(|bundle| self.bundles.contains(bundle))
    }

    /// The findings that can be compared, of those that headquarters says, and of those here; and how many of the former
    /// cannot. What is found here without a record of its own is found at headquarters, too: what is found once stays.
    pub(super) fn findings<'a>(
        &self,
        said: &'a Value,
        here: &'a Value,
    ) -> (Vec<&'a Value>, Vec<&'a Value>, u64) {
        let all = |report: &'a Value| report["findings"].as_array().into_iter().flatten();
        let here: Vec<_> = all(here)
            .filter(|finding| !self.of_later(finding))
            .collect();
        // One without a record of its own is of the part that is here if it is found here as well.
        let of_part = |finding: &&Value| {
            !self.of_later(finding) && (self.has(finding) || here.contains(finding))
        };
        let said_of_part: Vec<_> = all(said).filter(of_part).collect();
        let left_out = all(said).count().saturating_sub(said_of_part.len());
        (said_of_part, here, left_out as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_of_the_part_that_is_here_is_compared_and_the_rest_is_counted() {
        let partial = Partial {
            records: BTreeMap::from([(("berlin".to_owned(), "v1".to_owned()), 10)]),
            bundles: BTreeSet::from(["aa".to_owned()]),
            lineages: BTreeSet::from(["11".to_owned()]),
        };
        let finding = |code: &str, at: Option<u64>, evidence: Value| {
            json!({
                "code": code, "site": "berlin", "vault": "v1", "log_sequence": at, "evidence": evidence,
            })
        };
        let of_part = [
            finding("OVER-ISSUE", Some(9), json!({})),
            finding("TIME-AHEAD", Some(3), json!({ "bundle": "aa" })),
        ];
        let restore = |lineage: &str| {
            let evidence = json!({ "lineage": lineage });
            finding("RESTORE-DECLARED", None, evidence)
        };
        let (of_bundle, to_be_narrowed) = (restore("11"), restore("22"));
        let of_later = [
            finding("OVER-ISSUE", Some(10), json!({})),
            finding("RECORD-EDITED", Some(3), json!({ "bundle": "bb" })),
            finding("DUPLICATE-KEY", Some(3), json!({})),
            finding("SITE-SILENT", None, json!({})),
            finding("FORK", None, json!({})),
            to_be_narrowed,
        ];
        let bundle = std::slice::from_ref(&of_bundle);
        let said = [&of_part[..], bundle, &of_later].concat();
        let here = [
            &of_part[..],
            &[of_bundle.clone(), of_later[3].clone(), of_later[5].clone()],
        ]
        .concat();
        let (said, here) = (json!({ "findings": said }), json!({ "findings": here }));
        let all = [&of_part[0], &of_part[1], &of_bundle];
        let (there, found, left_out) = partial.findings(&said, &here);
        assert_eq!((there.as_slice(), found.as_slice()), (&all[..], &all[..]));
        assert_eq!(left_out, of_later.len() as u64);
        // What nothing here shows, and what headquarters does not say.
        let none = json!({ "findings": [] });
        let (there, found, _) = partial.findings(&said, &none);
        assert_eq!((there.len(), found.len()), (2, 0));
        let (there, found, _) = partial.findings(&none, &here);
        assert_eq!((there.len(), found.len()), (0, 3));
    }
}
