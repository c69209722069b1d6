//! Where a bundle stands in its vault's chain: whether it is the next one, and whether it belongs there.

use mintmark_console::{Exit, Failure};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::findings::{Finding, Severity};
use crate::forks::{BUNDLE_CHAIN, FORK};
use crate::registry::bundles::{self, Held};
use crate::registry::findings;
use crate::registry::restores::{self, Restore};
use crate::registry::vaults::Vault;
use crate::vault_restores::is_lost_history;

/// Something that an honest vault never signs: a finding, kept with the bundle that proves it.
pub(crate) struct Offence {
    pub(crate) finding: Finding,
    pub(crate) failure: Failure,
}

impl Offence {
    /// About no single record.
    pub(super) fn new(
        vault: &Vault,
        (finding_code, code): (&str, &'static str),
        evidence: Value,
        text: String,
    ) -> Self {
        let failure = Failure::new(Exit::Integrity, code, text.clone()).hint(
            "the bundle is kept as evidence; stop production at this vault and tell your security officer",
        );
        Self {
            finding: Finding {
                vault: vault.name.clone(),
                lineage: vault.lineage,
                log_sequence: None,
                code: finding_code.to_owned(),
                severity: Severity::Critical,
                serials: Vec::new(),
                evidence,
                text,
            },
            failure,
        }
    }
}

/// Where an authentic bundle stands.
pub(crate) enum Place {
    /// HQ holds it.
    Already,
    /// It is the next one.
    Next,
    /// It follows bundles that HQ has forgotten and the vault does not have any more, and brings all that HQ does not hold.
    Resumes {
        /// The first of those that are missing; the last one is that before this.
        missing: u64,
    },
    /// HQ goes on without it: a later one brought its records.
    Passed,
    /// There is another one to be imported first.
    Ahead(Failure),
    /// Its time is past, and what it holds comes in another way.
    Over(Failure),
    /// It does not belong to this chain.
    Offence(Box<Offence>),
}

/// A checkpoint that is smaller than another one that HQ holds, and not of the records that HQ holds.
pub(super) fn other_prefix(
    vault: &Vault,
    bundle: &Bundle,
    fingerprint: &Fingerprint,
    (held, root): (&Held, &Fingerprint),
) -> Offence {
    let (name, size) = (&vault.name, bundle.checkpoint.size);
    let evidence = json!({
        "log_size": size,
        "expected_log_root": root.to_string(),
        "held": held.fingerprint.to_string(),
        "held_sequence": held.sequence,
        "held_log_size": held.log_size,
        "held_log_root": held.log_root.to_string(),
        "other": fingerprint.to_string(),
        "other_sequence": bundle.sequence,
        "other_log_root": bundle.checkpoint.root.to_string(),
    });
    let text = format!(
        "{name} has signed, in bundle {}, whose fingerprint is {fingerprint}, a log of {size} records that is not how the \
         log of {} records in bundle {} began; its log has forked",
        bundle.sequence, held.log_size, held.sequence
    );
    Offence::new(vault, (FORK, "BUNDLE-FORK"), evidence, text)
}

/// Finds the place of a bundle; `restored` is the dispatch epoch that the newest restore of HQ opened, while the vault has not
/// reported since.
pub(crate) fn place(
    sql: &Connection,
    vault: &Vault,
    bundle: &Bundle,
    fingerprint: &Fingerprint,
    restored: Option<u64>,
) -> Result<Place, Failure> {
    let name = &vault.name;
    let offence = |codes, evidence, text| {
        Ok(Place::Offence(Box::new(Offence::new(
            vault, codes, evidence, text,
        ))))
    };
    let Bundle {
        lineage, sequence, ..
    } = bundle;
    let closed = restores::closing(sql, name, lineage)?;
    if *lineage != vault.lineage && closed.is_none() {
        let evidence = json!({
            "expected": vault.lineage.to_string(),
            "found": lineage.to_string(),
            "bundle": fingerprint.to_string(),
        });
        let text = format!(
            "bundle {sequence} of {name} is of lineage {lineage}, and its log is of lineage {}",
            vault.lineage
        );
        return offence(("LINEAGE-UNKNOWN", "LINEAGE-UNKNOWN"), evidence, text);
    }
    // What was refused is a signed bundle all the same, and there is one for each place.
    if let Some(refused) = bundles::refused(sql, name, lineage, *sequence)?
        && refused != *fingerprint
        && bundles::find(sql, name, lineage, *sequence)?.is_none()
    {
        let evidence = json!({
            "sequence": sequence,
            "refused": refused.to_string(),
            "other": fingerprint.to_string(),
            "other_log_size": bundle.checkpoint.size,
            "other_log_root": bundle.checkpoint.root.to_string(),
        });
        let text = format!(
            "{name} has signed two bundles {sequence}: {refused}, which was refused, and {fingerprint}"
        );
        return offence((FORK, "BUNDLE-FORK"), evidence, text);
    }
    // Whatever their sequences: a log has one root at each of its sizes.
    if let Some(other) = bundles::other_root(sql, bundle)? {
        let size = bundle.checkpoint.size;
        let held = if other.held { "held" } else { "refused" };
        let evidence = json!({
            "log_size": size,
            held: other.fingerprint.to_string(),
            format!("{held}_sequence"): other.sequence,
            format!("{held}_log_root"): other.log_root.to_string(),
            "other": fingerprint.to_string(),
            "other_sequence": sequence,
            "other_log_root": bundle.checkpoint.root.to_string(),
        });
        let text = format!(
            "{name} has signed two logs of {size} records: in bundle {}, whose fingerprint is {}, and in bundle \
             {sequence}, whose fingerprint is {fingerprint}; its log has forked",
            other.sequence, other.fingerprint
        );
        return offence((FORK, "BUNDLE-FORK"), evidence, text);
    }
    let last = bundles::newest(sql, name, lineage)?;
    let held_up_to = last.as_ref().map_or(0, |last| last.sequence);
    if *sequence <= held_up_to {
        let Some(held) = bundles::find(sql, name, lineage, *sequence)? else {
            return Ok(Place::Passed);
        };
        if held.fingerprint == *fingerprint {
            return Ok(Place::Already);
        }
        let evidence = json!({
            "sequence": sequence,
            "held": held.fingerprint.to_string(),
            "held_log_size": held.log_size,
            "held_log_root": held.log_root.to_string(),
            "other": fingerprint.to_string(),
            "other_log_size": bundle.checkpoint.size,
            "other_log_root": bundle.checkpoint.root.to_string(),
        });
        let text = format!(
            "{name} has signed two bundles {sequence}: {} and {fingerprint}; its log has forked",
            held.fingerprint
        );
        return offence((FORK, "BUNDLE-FORK"), evidence, text);
    }
    if let Some(restore) = closed {
        return Ok(over(vault, bundle, fingerprint, &restore));
    }
    let first = match (&last, restores::opening(sql, name, lineage)?) {
        (Some(last), _) => last.log_size,
        (None, Some(restore)) => restore.held,
        (None, None) => 0,
    };
    if *sequence > held_up_to.saturating_add(1) {
        // A vault that knows what HQ has forgotten, and has only its records.
        let knows = bundle
            .dispatch_seen
            .zip(restored)
            .is_some_and(|(seen, restored)| seen.epoch >= restored);
        if knows && bundle.first <= first && bundle.checkpoint.size > first {
            let missing = held_up_to.saturating_add(1);
            return Ok(Place::Resumes { missing });
        }
        let message = format!(
            "bundle {sequence} of {name} comes after bundle {}, which has not arrived",
            held_up_to.saturating_add(1)
        );
        return Ok(Place::Ahead(
            Failure::new(Exit::Environment, "BUNDLE-GAP", message).hint(
                "import the sticks in the order in which the site wrote them, or have the site export again",
            ),
        ));
    }
    let previous = last.as_ref().map(|last| last.fingerprint);
    if bundle.previous != previous || bundle.first != first {
        let hex = |digest: Option<Fingerprint>| digest.map(|digest| digest.to_string());
        let evidence = json!({
            "sequence": sequence,
            "expected_previous": hex(previous),
            "found_previous": hex(bundle.previous),
            "expected_first": first,
            "found_first": bundle.first,
            "held": last.as_ref().map(|last| last.fingerprint.to_string()),
            "other": fingerprint.to_string(),
            "bundle": fingerprint.to_string(),
        });
        let text = format!(
            "bundle {sequence} of {name} does not continue the one that HQ holds: it begins at record {}, after the \
             bundle {}",
            bundle.first,
            hex(bundle.previous).unwrap_or_else(|| "none".to_owned()),
        );
        return offence((BUNDLE_CHAIN, BUNDLE_CHAIN), evidence, text);
    }
    Ok(Place::Next)
}

/// A bundle of a lineage that ended when its vault declared a restore, and that HQ did not hold then.
fn over(vault: &Vault, bundle: &Bundle, fingerprint: &Fingerprint, restore: &Restore) -> Place {
    let (name, sequence, size) = (&vault.name, bundle.sequence, bundle.checkpoint.size);
    if !is_lost_history(restore, size) {
        let message = format!(
            "bundle {sequence} of {name} is of lineage {}, which ended when the vault declared a restore",
            bundle.lineage
        );
        return Place::Over(Failure::new(Exit::Negative, "LINEAGE-OVER", message).hint(
            "its records come again in the bundles of the vault's new lineage; this file can go",
        ));
    }
    let evidence = json!({
        "declaration": restore.declaration.to_string(),
        "declared_log_size": restore.size,
        "held_log_size": restore.held,
        "lineage": restore.lineage.to_string(),
        "other": fingerprint.to_string(),
        "other_lineage": bundle.lineage.to_string(),
        "other_sequence": sequence,
        "other_log_size": size,
        "other_log_root": bundle.checkpoint.root.to_string(),
    });
    let text = format!(
        "{name} declared that its log went on in lineage {} after {} records, and has signed, in bundle {sequence} of the \
         lineage before, whose fingerprint is {fingerprint}, a log of {size}: the history that was lost has turned up",
        restore.lineage,
        restore.size.max(restore.held)
    );
    Place::Offence(Box::new(Offence::new(
        vault,
        (FORK, "BUNDLE-FORK"),
        evidence,
        text,
    )))
}

/// A bundle came, and what comes before it did not.
pub(crate) const GAP: &str = "BUNDLE-GAP";

/// What is missing before a bundle that came too early: it is found until it is there.
pub(super) fn gap(
    sql: &Connection,
    vault: &Vault,
    bundle: &Bundle,
    fingerprint: &Fingerprint,
) -> Result<Finding, Failure> {
    let name = &vault.name;
    let last = bundles::newest(sql, name, &bundle.lineage)?;
    let (held, size) = last.map_or((0, 0), |last| (last.sequence, last.log_size));
    let mut finding = Finding {
        vault: name.clone(),
        lineage: bundle.lineage,
        log_sequence: None,
        code: GAP.to_owned(),
        severity: Severity::Minor,
        serials: Vec::new(),
        evidence: json!({
            "last_missing": bundle.sequence.saturating_sub(1),
            "came": bundle.sequence,
            "bundle": fingerprint.to_string(),
            "records_before": bundle.first,
        }),
        text: String::new(),
    };
    begin_gap(&mut finding, held, size);
    Ok(finding)
}

/// Says of a gap that it begins after this bundle, with which so many records are held.
fn begin_gap(gap: &mut Finding, held: u64, size: u64) {
    let first = held.saturating_add(1);
    gap.log_sequence = Some(size);
    gap.evidence["first_missing"] = first.into();
    gap.evidence["records_held"] = size.into();
    let (came, last) = (&gap.evidence["came"], &gap.evidence["last_missing"]);
    let missing = match last.as_u64() == Some(first) {
        true => format!("bundle {first}"),
        false => format!("bundles {first} to {last}"),
    };
    gap.text = format!(
        "bundle {came} of {} came, and {missing} did not: the records from {size} on are not known",
        gap.vault
    );
}

/// What was missing before others, up to this bundle of a vault, is here. The rest of it still is missing, unless it was of
/// a lineage before: its records come again in this one.
pub(super) fn narrow_gaps(
    sql: &Connection,
    vault: &VaultName,
    bundle: &Bundle,
    now: u64,
) -> Result<(), Failure> {
    let mut gaps = findings::all(sql, Some(&vault.site))?;
    gaps.retain(|gap| gap.vault == *vault && gap.code == GAP);
    if gaps.is_empty() {
        return Ok(());
    }
    findings::close(sql, vault, GAP)?;
    for mut gap in gaps {
        let last_missing = gap.evidence["last_missing"].as_u64();
        let stays = last_missing.is_some_and(|last| last > bundle.sequence);
        if gap.lineage == bundle.lineage && stays {
            begin_gap(&mut gap, bundle.sequence, bundle.checkpoint.size);
            findings::add(sql, &gap, now)?;
        }
    }
    Ok(())
}
