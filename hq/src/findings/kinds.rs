//! Every kind of finding, and how grave it can be. docs/findings.md explains each.

use super::Severity;
use super::Severity::{Critical, Major, Minor, Note};

/// The kinds, by code.
const KINDS: [(&str, &[Severity]); 76] = [
    ("ANCHOR-BACK", &[Critical]),
    ("BOOT-MISMATCH", &[Critical]),
    ("BUNDLE-CHAIN", &[Critical]),
    ("BUNDLE-GAP", &[Minor]),
    ("BUNDLE-MISMATCH", &[Critical]),
    ("BUNDLE-SEALED-MISMATCH", &[Critical]),
    ("BUNDLE-SEALED-MISSING", &[Major]),
    ("BUNDLES-FORGOTTEN", &[Note]),
    ("BURN-MISMATCH", &[Critical]),
    ("CERTIFICATE-DIFFERS", &[Critical]),
    ("CHECKPOINT-MISMATCH", &[Critical]),
    ("CHECKPOINT-TIME", &[Major]),
    ("CLOCK-MISMATCH", &[Critical]),
    ("CREDIT-EXCEEDED", &[Critical]),
    ("CRL-INVALID", &[Major]),
    ("CRL-MISMATCH", &[Critical]),
    ("CRL-OVERDUE", &[Minor]),
    ("DECISION-DIVERGES", &[Critical, Major]),
    ("DECISION-MISSING", &[Critical]),
    ("DEVICE-DUPLICATE", &[Critical]),
    ("DEVICE-RETURNED", &[Critical]),
    ("DISPATCH-CONTENT", &[Critical]),
    ("DISPATCH-FORGOTTEN", &[Minor, Note]),
    ("DISPATCH-REFUSED", &[Major, Note]),
    ("DISPATCH-SEEN-MISMATCH", &[Major]),
    ("DISPATCH-UNKNOWN", &[Critical]),
    ("DUPLICATE-DEVICE", &[Major, Note]),
    ("DUPLICATE-KEY", &[Critical, Note]),
    ("DUPLICATE-SERIAL", &[Critical]),
    ("ENTITLEMENT-FORGOTTEN", &[Major]),
    ("ENTRY-MALFORMED", &[Critical]),
    ("FACT-FALSE", &[Critical]),
    ("FINDINGS-CAPPED", &[Critical, Major, Minor, Note]),
    ("FORK", &[Critical]),
    ("GENESIS-MISMATCH", &[Critical]),
    ("GENESIS-MISSING", &[Critical]),
    ("GENESIS-REPEATED", &[Critical]),
    ("ISSUED-OUT-OF-HOURS", &[Critical]),
    ("KEY-UNKNOWN", &[Critical]),
    ("KEY-USE-MISMATCH", &[Critical]),
    ("KEY-USES-EXCEEDED", &[Critical]),
    ("LINEAGE-MISMATCH", &[Critical]),
    ("LINEAGE-UNKNOWN", &[Critical]),
    ("OVER-ISSUE", &[Critical]),
    ("POLICY-BREACH", &[Critical]),
    ("PRUNE-MISMATCH", &[Critical]),
    ("RATE-EXCEEDED", &[Critical]),
    ("RECORD-EDITED", &[Critical]),
    ("REPLACED-VAULT-ISSUED", &[Major, Minor, Note]),
    ("RESTORE-DECLARED", &[Major]),
    ("RESTORE-MISMATCH", &[Critical]),
    ("REVOCATION-UNSEEN", &[Major]),
    ("ROTATION-MISMATCH", &[Critical]),
    ("ROTATION-UNKNOWN", &[Critical]),
    ("RULES-VERSION-UNKNOWN", &[Major]),
    ("SCRAP-UNREVOKED", &[Critical]),
    ("SEGMENT-ROTTEN", &[Critical]),
    ("SERIAL-MISMATCH", &[Critical]),
    ("SIGNATURE-INVALID", &[Critical]),
    ("SIGNED-AFTER-REVOCATION", &[Critical]),
    ("SIGNED-WITHOUT-RESERVATION", &[Critical]),
    ("SITE-SILENT", &[Minor]),
    ("SLOT-MISMATCH", &[Critical]),
    ("SLOT-REUSE", &[Critical]),
    ("SLOTS-WRITTEN-OFF", &[Note]),
    ("STATION-MISMATCH", &[Critical]),
    ("TIME-AHEAD", &[Major]),
    ("TIME-BACK", &[Critical]),
    ("TIME-BEFORE-DISPATCH", &[Major]),
    ("TRUST-ORDER", &[Critical]),
    ("TRUST-UNKNOWN", &[Critical]),
    ("TRUST-VERSION-MISMATCH", &[Major]),
    ("UNANCHORED", &[Critical]),
    ("UNRESOLVED", &[Minor, Note]),
    ("WRONG-STATION", &[Critical]),
    ("WRONGLY-REFUSED", &[Critical, Major]),
];

/// Whether a finding can be of this kind and so grave.
pub(crate) fn is_known(code: &str, severity: Severity) -> bool {
    let kind = KINDS.binary_search_by_key(&code, |(code, _)| code);
    let kind = kind.ok().and_then(|at| KINDS.get(at));
    kind.is_some_and(|(_, severities)| severities.contains(&severity))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/findings.md");

    #[test]
    fn every_kind_has_its_line_and_no_line_is_of_another() {
        let mut documented = BTreeMap::new();
        for line in DOCUMENT.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [code, severities, meaning, evidence, advice] = cells[..] else {
                panic!("five cells in {line}")
            };
            assert!(![meaning, evidence, advice].contains(&""), "{line}");
            let severities: Vec<Severity> = severities
                .split(", ")
                .map(|of| of.parse().unwrap())
                .collect();
            let before = documented.insert(code.trim_matches('`'), severities);
            assert!(before.is_none(), "{code} has two lines");
        }
        let kinds = KINDS.map(|(code, severities)| (code, severities.to_vec()));
        assert_eq!(documented, BTreeMap::from(kinds));
    }

    #[test]
    fn the_kinds_are_in_order_and_each_is_found() {
        assert!(KINDS.is_sorted_by_key(|(code, _)| *code));
        for (code, severities) in KINDS {
            assert!(severities.iter().all(|severity| is_known(code, *severity)));
        }
        assert!(!is_known("OVER-ISSUE", Note) && !is_known("UNHEARD-OF", Critical));
    }
}
