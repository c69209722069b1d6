//! Findings: what a vault's report shows that it should not.

use std::fmt;
use std::str::FromStr;

use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::replay::{Divergence, Severity as ReplaySeverity};
use mintmark_protocol::identifier::{Lineage, Sku, VaultName};
use serde_json::{Value, json};

use crate::registry::devices::Unit;

pub(crate) mod kinds;

/// What of one bundle was too much to keep.
pub(crate) const FINDINGS_CAPPED: &str = "FINDINGS-CAPPED";

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Good to know; nothing is wrong.
    Note,
    /// To be looked at.
    Minor,
    /// Something does not work as it should; nobody gained by it.
    Major,
    /// Units, identities or the record itself were tampered with.
    Critical,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Note, Self::Minor, Self::Major, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no severity"))
    }
}

impl From<ReplaySeverity> for Severity {
    fn from(severity: ReplaySeverity) -> Self {
        match severity {
            ReplaySeverity::Notice => Self::Note,
            ReplaySeverity::Warning => Self::Major,
            _ => Self::Critical,
        }
    }
}

/// One key in devices of two vaults.
pub(crate) const DUPLICATE_KEY: &str = "DUPLICATE-KEY";
/// One identifier of one product at two vaults.
pub(crate) const DUPLICATE_DEVICE: &str = "DUPLICATE-DEVICE";

/// One serial in certificates of two vaults.
pub(crate) const DUPLICATE_SERIAL: &str = "DUPLICATE-SERIAL";

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) vault: VaultName,
    pub(crate) lineage: Lineage,
    /// The record that it is about; none if it is about no single one.
    pub(crate) log_sequence: Option<u64>,
    /// The kind, stable.
    pub(crate) code: String,
    pub(crate) severity: Severity,
    /// Certificate serials that it concerns, hexadecimal.
    pub(crate) serials: Vec<String>,
    /// What was expected and what was found, or whatever else shows it.
    pub(crate) evidence: Value,
    /// In words.
    pub(crate) text: String,
}

impl Finding {
    /// Something wrong with one record.
    pub(crate) fn of_record(
        vault: &VaultName,
        lineage: Lineage,
        log_sequence: u64,
        code: &str,
        (expected, found): (impl fmt::Display, impl fmt::Display),
    ) -> Self {
        Self {
            vault: vault.clone(),
            lineage,
            log_sequence: Some(log_sequence),
            code: code.to_owned(),
            severity: Severity::Critical,
            serials: Vec::new(),
            evidence: json!({ "expected": expected.to_string(), "found": found.to_string() }),
            text: format!("record {log_sequence}: expected {expected}; found {found}"),
        }
    }

    /// What a replay found.
    pub(crate) fn of_replay(vault: &VaultName, lineage: Lineage, found: &Divergence) -> Self {
        let sequence = found.sequence.number();
        let words = (&found.expected, &found.found);
        Self {
            severity: found.severity.into(),
            serials: found.serials.iter().map(hex::encode).collect(),
            ..Self::of_record(vault, lineage, sequence, found.code, words)
        }
    }

    /// Notes that it concerns more certificates than it names: any of these records of its log, both included, and of these
    /// products; of every product if there are none.
    pub(crate) fn and_more<'a>(
        &mut self,
        (first, last): (u64, u64),
        products: impl IntoIterator<Item = &'a Sku>,
    ) {
        self.evidence["more_from"] = first.into();
        self.evidence["more_to"] = last.into();
        let products: Vec<&str> = products.into_iter().map(Sku::as_str).collect();
        if !products.is_empty() {
            self.evidence["more_of"] = products.into();
        }
    }

    /// Whether a unit is among those that it concerns and does not name.
    pub(crate) fn has_more(&self, unit: &Unit) -> bool {
        let end = |name: &str| self.evidence[name].as_u64();
        let (Some(first), Some(last)) = (end("more_from"), end("more_to")) else {
            return false;
        };
        let holds = |record: LogSequence| (first..=last).contains(&record.number());
        let record = &unit.record;
        // Of all that may have been left out, some is of the record that signed for a unit of an earlier bundle.
        let signed = self.code == FINDINGS_CAPPED && record.signed.is_some_and(holds);
        let products = self.evidence["more_of"].as_array();
        self.vault == unit.vault
            && (holds(record.reservation) || signed)
            && products
                .is_none_or(|products| products.iter().any(|sku| *sku == *record.sku.as_str()))
    }

    /// Whether it is about a device of its vault and one of another.
    pub(crate) fn is_of_two(&self) -> bool {
        [DUPLICATE_KEY, DUPLICATE_DEVICE].contains(&self.code.as_str())
    }

    /// Whether it says something of the units of a vault whose serials it names. What a vault writes into its log is no
    /// word against another one's devices: only what is found of both is, and what of that was too much to keep.
    pub(crate) fn accuses(&self, vault: &VaultName) -> bool {
        self.vault == *vault || self.is_of_two() || self.code == FINDINGS_CAPPED
    }

    /// Whether it is more than a remark: a verdict is negative because of it.
    pub(crate) fn counts(&self) -> bool {
        self.severity > Severity::Note
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "code": self.code,
            "severity": self.severity.as_str(),
            "site": self.vault.site.as_str(),
            "vault": self.vault.vault.as_str(),
            "lineage": self.lineage.to_string(),
            "log_sequence": self.log_sequence,
            "serials": self.serials,
            "evidence": self.evidence,
            "text": self.text,
        })
    }
}
