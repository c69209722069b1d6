//! Findings of one bundle that are too many to keep: counted by code, and said in one.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_console::Failure;
use mintmark_ledger::serial::SerialCipher;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::entitlement::AccountTag;
use serde_json::json;

use super::{FINDINGS_PER_SEVERITY_MAX, Replaying};
use crate::clock;
use crate::findings::{FINDINGS_CAPPED, Finding, Severity};
use crate::registry::accounts::Granted;
use crate::registry::findings;

/// Serials of this vault, and of others, that the one finding names at most.
const SERIALS_MAX: usize = 10_000;

/// Whether HQ granted a vault this slot of this account.
pub(super) fn is_granted(
    granted: &BTreeMap<AccountTag, Granted>,
    account: AccountTag,
    slot: u64,
) -> bool {
    let account = granted.get(&account);
    account.is_some_and(|account| slot < account.units)
}

/// What was not kept.
pub(super) struct LeftOut {
    /// How many findings, by code.
    codes: BTreeMap<String, u64>,
    /// The gravest of them.
    severity: Severity,
    /// Serials of this vault that they name, which may be of earlier bundles.
    own: BTreeSet<String>,
    /// Whether there are more of those than are named.
    more_own: bool,
    /// Serials of other vaults in findings about both.
    of_others: BTreeSet<String>,
    /// How many more times one of another vault was to be named.
    more_of_others: u64,
}

impl LeftOut {
    pub(super) fn new() -> Self {
        Self {
            codes: BTreeMap::new(),
            severity: Severity::Note,
            own: BTreeSet::new(),
            more_own: false,
            of_others: BTreeSet::new(),
            more_of_others: 0,
        }
    }

    /// Counts a finding.
    pub(super) fn add(
        &mut self,
        finding: &Finding,
        cipher: &SerialCipher,
        granted: &BTreeMap<AccountTag, Granted>,
    ) {
        *self.codes.entry(finding.code.clone()).or_default() += 1;
        self.severity = self.severity.max(finding.severity);
        // What is of no more than one certificate is of one of this bundle, and none of those is called good then.
        if !finding.counts() || finding.serials.len() < 2 {
            return;
        }
        for serial in &finding.serials {
            if is_own(serial, cipher, granted) {
                self.more_own |= !name(&mut self.own, serial);
            } else if finding.is_of_two() && !name(&mut self.of_others, serial) {
                self.more_of_others += 1;
            }
        }
    }
}

/// Names a serial, unless that is one too many. Returns whether it is named.
fn name(named: &mut BTreeSet<String>, serial: &str) -> bool {
    if named.contains(serial) {
        return true;
    }
    named.len() < SERIALS_MAX && named.insert(serial.to_owned())
}

/// Whether a serial, hexadecimal, is one of a vault's own. It may write any other into its log, and nearly every serial
/// opens under every key, to a random slot of a random account, which the vault may write as well: what HQ granted tells.
fn is_own(serial: &str, cipher: &SerialCipher, granted: &BTreeMap<AccountTag, Granted>) -> bool {
    let opened = hex::decode(serial)
        .ok()
        .and_then(|serial| cipher.open(&serial));
    opened.is_some_and(|(account, slot, _)| is_granted(granted, account, slot))
}

impl Replaying<'_> {
    /// Notes how many findings were only counted, if any were.
    pub(super) fn accuse_left_out(&mut self, bundle: &Bundle) -> Result<(), Failure> {
        let left_out = std::mem::replace(&mut self.left_out, LeftOut::new());
        let count: u64 = left_out.codes.values().sum();
        if count == 0 {
            return Ok(());
        }
        let last = bundle.checkpoint.size.saturating_sub(1);
        let mut finding = Finding {
            vault: self.vault.name.clone(),
            lineage: self.vault.lineage,
            log_sequence: Some(last),
            code: FINDINGS_CAPPED.to_owned(),
            severity: left_out.severity,
            serials: left_out.own.union(&left_out.of_others).cloned().collect(),
            evidence: json!({ "bundle": bundle.sequence, "left_out": count, "codes": left_out.codes }),
            text: format!(
                "bundle {} shows {count} findings more than are kept of one bundle ({FINDINGS_PER_SEVERITY_MAX} of a \
                 severity)",
                bundle.sequence
            ),
        };
        if left_out.more_of_others > 0 {
            finding.evidence["others_not_named"] = left_out.more_of_others.into();
        }
        if finding.counts() {
            // Where not even its own are all named, every earlier one may be among them.
            let first = if left_out.more_own { 0 } else { bundle.first };
            finding.and_more((first, last), []);
        }
        if findings::add(self.sql, &finding, clock::now_unix())? {
            self.found += u64::from(finding.counts());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mintmark_protocol::identifier::VaultName;

    use super::*;
    use crate::findings::{DUPLICATE_KEY, DUPLICATE_SERIAL};

    const UNITS: u64 = 20_000;

    fn granted() -> BTreeMap<AccountTag, Granted> {
        let account = Granted {
            entitlement: "e-2026-0001".parse().unwrap(),
            sku: "TH-200".parse().unwrap(),
            units: UNITS,
        };
        BTreeMap::from([(AccountTag::new(1).unwrap(), account)])
    }

    fn serial(cipher: &SerialCipher, account: u64, slot: u64) -> String {
        hex::encode(cipher.serial(AccountTag::new(account).unwrap(), slot, 0))
    }

    fn finding(code: &str, serials: [String; 2]) -> Finding {
        let vault = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        };
        let lineage = "00".repeat(16).parse().unwrap();
        Finding {
            serials: serials.to_vec(),
            ..Finding::of_record(&vault, lineage, 1, code, ("one", "another"))
        }
    }

    #[test]
    fn only_slots_that_headquarters_granted_are_a_vaults_own() {
        let (cipher, other) = (SerialCipher::new(&[7; 32]), SerialCipher::new(&[8; 32]));
        let own = |serial: String| is_own(&serial, &cipher, &granted());
        assert!(own(serial(&cipher, 1, UNITS - 1)));
        assert!(!own(serial(&cipher, 1, UNITS)));
        assert!(!own(serial(&cipher, 2, 0)));
        assert!(!own(serial(&other, 1, 0)));
        assert!(!own(String::new()) && !own("no serial".to_owned()));
    }

    #[test]
    fn serials_beyond_those_that_are_named_are_told_of() {
        let (cipher, other) = (SerialCipher::new(&[7; 32]), SerialCipher::new(&[8; 32]));
        let granted = granted();
        let mut left_out = LeftOut::new();
        let mut add = |code: &str, slot: u64| {
            let serials = [serial(&cipher, 1, slot), serial(&other, 1, slot)];
            left_out.add(&finding(code, serials), &cipher, &granted);
            let named = (left_out.own.len(), left_out.of_others.len());
            (named, left_out.more_own, left_out.more_of_others)
        };
        assert_eq!(add(DUPLICATE_SERIAL, 0), ((1, 0), false, 0));
        for slot in 1..10_000 {
            add(DUPLICATE_KEY, slot);
        }
        assert_eq!(add(DUPLICATE_KEY, 1), ((10_000, 9999), false, 0));
        assert_eq!(add(DUPLICATE_KEY, 10_000), ((10_000, 10_000), true, 0));
        assert_eq!(add(DUPLICATE_KEY, 10_001), ((10_000, 10_000), true, 1));
    }
}
