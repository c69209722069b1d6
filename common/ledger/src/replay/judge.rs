//! How a record that departs from the rules is called.

use super::divergence::Severity;
use super::times::Times;
use super::{Expected, knows_rules};
use crate::entry::{Body, ClockFound, Entry, KeyOutcome, KeyReceipt, Reserved, Trust};
use crate::serial::{Serial, SerialCipher, serial_of};
use crate::state::{Reading, State};

/// A divergence's code and severity, and what was expected.
type Verdict = (&'static str, Severity, String);

/// Judges an input by what the state says must be true of it.
pub(super) fn input(
    state: &State,
    times: &Times,
    entry: &Entry,
    found: &mut dyn FnMut(&'static str, Severity, String, String),
) {
    let body = &entry.body;
    if state.clock.unsaid && !matches!(body, Body::Clock(_)) {
        found(
            "CLOCK-MISMATCH",
            Severity::Critical,
            "what follows from the clocks of the start before".to_owned(),
            body.kind().to_owned(),
        );
    }
    let first = state.size() == 0;
    if first != matches!(body, Body::Genesis(_)) {
        let (code, expected) = if first {
            ("GENESIS-MISSING", "a genesis record")
        } else {
            ("GENESIS-REPEATED", "one genesis record, the first")
        };
        found(
            code,
            Severity::Critical,
            expected.to_owned(),
            body.kind().to_owned(),
        );
    }
    match body {
        Body::Start(start) => {
            if state
                .lineage()
                .is_some_and(|lineage| lineage != start.lineage)
            {
                let lineage = state.lineage().map(|lineage| lineage.to_string());
                found(
                    "LINEAGE-MISMATCH",
                    Severity::Critical,
                    lineage.unwrap_or_default(),
                    start.lineage.to_string(),
                );
            }
            let boot = state.boot().saturating_add(1);
            if start.boot != boot {
                found(
                    "BOOT-MISMATCH",
                    Severity::Critical,
                    format!("boot {boot}"),
                    format!("boot {}", start.boot),
                );
            }
            if start.anchor.is_some_and(|anchor| anchor < state.anchor()) {
                found(
                    "ANCHOR-BACK",
                    Severity::Critical,
                    format!("an anchor of counter {} or higher", state.anchor()),
                    format!("counter {}", start.anchor.unwrap_or(0)),
                );
            }
            if !knows_rules(start.rules_version) {
                found(
                    "RULES-VERSION-UNKNOWN",
                    Severity::Warning,
                    format!("rules version {}", crate::decide::RULES_VERSION),
                    format!("rules version {}", start.rules_version),
                );
            }
        }
        Body::Request(_) => fits("UNANCHORED", state.may_answer(), found),
        Body::Trust(trust) => follows(state, trust, found),
        Body::Signed(signed) if !state.reservations().contains_key(&signed.reservation) => {
            found(
                "SIGNED-WITHOUT-RESERVATION",
                Severity::Critical,
                "an open reservation".to_owned(),
                format!("record {}", signed.reservation),
            );
        }
        Body::Signed(signed) => {
            let reservation = signed.reservation;
            let open = state.reservations().get(&reservation);
            // What was reserved later is a finding by itself.
            if let Some((refusal, at)) =
                open.and_then(|open| state.withheld_open(reservation, open))
                && reservation < at
            {
                found(
                    "SIGNED-AFTER-REVOCATION",
                    Severity::Critical,
                    format!("no signature for record {}: {refusal}", signed.reservation),
                    "a signature".to_owned(),
                );
            }
        }
        Body::Rotation(rotation) => {
            let generation = state.next_generation();
            if !state.is_enrolled() || rotation.generation != generation {
                found(
                    "ROTATION-MISMATCH",
                    Severity::Critical,
                    format!("generation {generation} of an enrolled vault"),
                    format!("generation {}", rotation.generation),
                );
            }
        }
        Body::Key(receipt) => key(state, receipt, found),
        Body::Clock(said) => clock(state, entry.clock(), said, found),
        Body::StationCa { certificate } => fits(
            "STATION-MISMATCH",
            state.station_ca_fits(certificate),
            found,
        ),
        Body::Station(order) => fits("STATION-MISMATCH", state.station_fits(order), found),
        Body::Crl(crl) => fits("CRL-MISMATCH", state.crl_fits(crl, entry.time), found),
        Body::Burned(burned) => fits("BURN-MISMATCH", state.burned_fits(burned), found),
        Body::Restored(restored) => fits("RESTORE-MISMATCH", state.restored_fits(restored), found),
        Body::Pruned(pruned) => fits(
            "PRUNE-MISMATCH",
            state
                .prune_fits(pruned, entry.time)
                .and_then(|()| times.prune_fits(state, pruned, entry.time)),
            found,
        ),
        Body::BundleSealed(sealed) => {
            let chain = state.bundles();
            let next = chain.sequence.saturating_add(1);
            let sizes = chain.log_size..=state.size();
            if sealed.sequence != next || !sizes.contains(&sealed.log_size) {
                found(
                    "BUNDLE-MISMATCH",
                    Severity::Critical,
                    format!(
                        "bundle {next} covering {} to {} records",
                        sizes.start(),
                        sizes.end()
                    ),
                    format!(
                        "bundle {} covering {} records",
                        sealed.sequence, sealed.log_size
                    ),
                );
            }
        }
        _ => {}
    }
}

/// Judges the manifest that a vault says it follows from here on: each is the next, and none goes back to an epoch that is
/// over. What officers were good for is settled by it, so a vault does not choose which one counts.
fn follows(
    state: &State,
    trust: &Trust,
    found: &mut dyn FnMut(&'static str, Severity, String, String),
) {
    let (version, epoch) = state.trust().map_or((1, 0), |before| {
        (before.version.saturating_add(1), before.dispatch_epoch)
    });
    if trust.version != version || trust.dispatch_epoch < epoch {
        found(
            "TRUST-ORDER",
            Severity::Critical,
            format!("trust manifest {version}, of dispatch epoch {epoch} or later"),
            format!(
                "trust manifest {}, of dispatch epoch {}",
                trust.version, trust.dispatch_epoch
            ),
        );
    }
}

/// Judges a fact by what must hold of it.
fn fits(
    code: &'static str,
    fits: Result<(), String>,
    found: &mut dyn FnMut(&'static str, Severity, String, String),
) {
    if let Err(why) = fits {
        let expected = "what can be so in this place".to_owned();
        found(code, Severity::Critical, expected, why);
    }
}

/// Judges what a vault says of its clock by what its two clocks said.
fn clock(
    state: &State,
    clock: u64,
    said: &ClockFound,
    found: &mut dyn FnMut(&'static str, Severity, String, String),
) {
    let steady = said.steady;
    let due = state.clock_due(Reading { clock, steady });
    if due != Some((said.believed, said.expected)) {
        let words = |believed| if believed { "believed" } else { "not believed" };
        let due = due.map_or("nothing to be said of the clock", |(believed, _)| {
            words(believed)
        });
        found(
            "CLOCK-MISMATCH",
            Severity::Critical,
            due.to_owned(),
            words(said.believed).to_owned(),
        );
    }
}

/// Judges what a vault says became of a key: that it was given one, and may take it so.
fn key(
    state: &State,
    receipt: &KeyReceipt,
    found: &mut dyn FnMut(&'static str, Severity, String, String),
) {
    let KeyReceipt {
        entitlement,
        label,
        outcome,
    } = receipt;
    let mut keys = state.keys();
    let known = keys.find(|key| key.entitlement == entitlement && key.terms.label == *label);
    match known {
        None => found(
            "KEY-UNKNOWN",
            Severity::Critical,
            "a key that an entitlement brought".to_owned(),
            format!("key {label} of entitlement {entitlement}"),
        ),
        Some(key) if *outcome == KeyOutcome::Imported && !key.terms.memory_import => found(
            "POLICY-BREACH",
            Severity::Critical,
            format!("key {label} of entitlement {entitlement} unwrapped by the token, or refused"),
            "a key that passed through the vault's memory".to_owned(),
        ),
        Some(_) => {}
    }
}

/// Judges a decision by the one that the rules demand.
pub(super) fn decision(
    state: &State,
    serials: Option<&SerialCipher>,
    expected: &Expected,
    entry: &Entry,
) -> Option<Verdict> {
    if *entry == expected.entry {
        return None;
    }
    let due = match &expected.why {
        Some(why) => format!("{} ({why})", describe(&expected.entry.body)),
        None => describe(&expected.entry.body),
    };
    // Slots are judged first: two devices with one slot, or a slot beyond the quota, are proof by themselves.
    if let Some(verdict) =
        slot(state, &entry.body).or_else(|| reused(state, &expected.entry.body, &entry.body))
    {
        return Some(verdict);
    }
    let (code, severity) = match (&expected.entry.body, &entry.body) {
        (expected, found) if expected == found => ("DECISION-DIVERGES", Severity::Critical),
        (Body::Reserved(expected), Body::Reserved(found)) => {
            (reserved(serials, expected, found), Severity::Critical)
        }
        (Body::Refused(refused), Body::Reserved(_)) => (breach(&refused.code), Severity::Critical),
        (Body::Refused(_), Body::DeviceChanged(_) | Body::StationChanged) => {
            ("POLICY-BREACH", Severity::Critical)
        }
        // So does a station that was shut out, and of which the log says that it was not.
        (Body::StationChanged, Body::Refused(_)) => ("WRONGLY-REFUSED", Severity::Critical),
        // A device that was scrapped, and of which the log says that it was not, stays good for everybody else.
        (Body::DeviceChanged(_), Body::Refused(_)) => ("WRONGLY-REFUSED", Severity::Critical),
        (Body::Existing { .. }, Body::Reserved(_)) => ("DEVICE-DUPLICATE", Severity::Critical),
        (Body::Reserved(_) | Body::Existing { .. }, Body::Refused(_))
        | (Body::DispatchAccepted, Body::DispatchRefused { .. })
        | (Body::ClockConfirmed, Body::Refused(_)) => ("WRONGLY-REFUSED", Severity::Warning),
        (Body::Refused(_), Body::Refused(_))
        | (Body::DispatchRefused { .. }, Body::DispatchRefused { .. }) => {
            ("DECISION-DIVERGES", Severity::Warning)
        }
        _ => ("DECISION-DIVERGES", Severity::Critical),
    };
    let same = expected.entry.body == entry.body;
    let due = if same {
        format!("the time of the record before, {}", expected.entry.time)
    } else {
        due
    };
    Some((code, severity, due))
}

/// What it is called that a unit was spent, or a certificate made, although a rule refuses it.
fn breach(rule: &str) -> &'static str {
    match rule {
        "QUOTA-EXHAUSTED" => "OVER-ISSUE",
        "DEVICE-KEY-CHANGED" | "KEY-REUSED" => "DEVICE-DUPLICATE",
        "DEVICE-SCRAPPED" | "DEVICE-VOIDED" | "CERTIFICATE-REVOKED" => "DEVICE-RETURNED",
        "RATE-DAY" | "RATE-HOUR" => "RATE-EXCEEDED",
        "OUT-OF-HOURS" | "WINDOW-NOT-OPEN" | "WINDOW-CLOSED" => "ISSUED-OUT-OF-HOURS",
        "STATION-NOT-ALLOWED" => "WRONG-STATION",
        "KEY-USES-EXHAUSTED" => "KEY-USES-EXCEEDED",
        "CREDIT-UNITS-EXHAUSTED" | "CREDIT-DAYS-EXHAUSTED" => "CREDIT-EXCEEDED",
        _ => "POLICY-BREACH",
    }
}

/// How two reservations differ.
fn reserved(serials: Option<&SerialCipher>, expected: &Reserved, found: &Reserved) -> &'static str {
    let belongs = serials.map(|s| s.serial(found.account, found.slot, found.issue));
    let written = serial_of(&found.tbs);
    let same_unit = (expected.account, expected.slot, expected.issue)
        == (found.account, found.slot, found.issue);
    if belongs.is_some() && written != belongs {
        return "SERIAL-MISMATCH";
    }
    let same_names = (
        &expected.entitlement,
        &expected.device_id,
        expected.spki_sha256,
    ) == (&found.entitlement, &found.device_id, found.spki_sha256);
    if same_unit && same_names && expected.tbs == found.tbs {
        "KEY-USE-MISMATCH"
    } else if same_unit && same_names {
        "CERTIFICATE-DIFFERS"
    } else {
        "DECISION-DIVERGES"
    }
}

/// Judges the slot that a reservation spends, whatever was expected.
pub(super) fn slot(state: &State, found: &Body) -> Option<Verdict> {
    let Body::Reserved(reserved) = found else {
        return None;
    };
    let account = state.account(reserved.account)?;
    if reserved.slot >= account.authorised {
        let due = format!(
            "a slot below {} of account {}",
            account.authorised, account.tag
        );
        return Some(("OVER-ISSUE", Severity::Critical, due));
    }
    // A re-issue is of a slot that is spent; whether it may be one, the decision that was due tells.
    if reserved.issue > 0 && reserved.slot >= account.next_slot {
        let due = format!(
            "a re-issue of a slot below {} of account {}",
            account.next_slot, account.tag
        );
        return Some(("SLOT-MISMATCH", Severity::Critical, due));
    }
    if reserved.issue == 0 && reserved.slot < account.next_slot {
        let due = format!("slot {} of account {}", account.next_slot, account.tag);
        return Some(("SLOT-REUSE", Severity::Critical, due));
    }
    None
}

/// Judges a re-issue where none was due: of a slot that belongs to another device. Where the device was known, or nothing
/// at all was to be certified, the decision that was due tells more.
fn reused(state: &State, expected: &Body, found: &Body) -> Option<Verdict> {
    let Body::Reserved(reserved) = found else {
        return None;
    };
    let due = match expected {
        Body::Reserved(expected) => expected.issue > 0,
        Body::Refused(refused) => {
            matches!(
                refused.code.as_str(),
                "VAULT-DISABLED"
                    | "DEVICE-CA-REVOKED"
                    | "ENTITLEMENT-REVOKED"
                    | "CLOCK-BACK"
                    | "CLOCK-JUMPED"
                    | "DEVICE-KEY-CHANGED"
                    | "DEVICE-SCRAPPED"
                    | "DEVICE-VOIDED"
                    | "CERTIFICATE-REVOKED"
            ) || state.rework_open(reserved.account, reserved.slot).is_some()
        }
        _ => true,
    };
    let account = state.account(reserved.account)?;
    if reserved.issue == 0 || due {
        return None;
    }
    let due = format!("slot {} of account {}", account.next_slot, account.tag);
    Some(("SLOT-REUSE", Severity::Critical, due))
}

/// Judges a decision that nobody asked for.
pub(super) fn unasked(state: &State, found: &Body) -> Verdict {
    slot(state, found).unwrap_or_else(|| {
        (
            "DECISION-MISSING",
            Severity::Critical,
            "an input".to_owned(),
        )
    })
}

/// A decision, for people.
pub(super) fn describe(body: &Body) -> String {
    match body {
        Body::Reserved(reserved) => {
            let keys: Vec<&str> = reserved.keys.iter().map(|key| key.as_str()).collect();
            let secrets = match keys[..] {
                [] => String::new(),
                _ => format!(", with a secret from {}", keys.join(" and ")),
            };
            format!(
                "slot {} (issue {}) of account {} reserved for device {} from entitlement {}{secrets}",
                reserved.slot,
                reserved.issue,
                reserved.account,
                reserved.device_id,
                reserved.entitlement
            )
        }
        Body::Existing { reservation } => format!("answered by record {reservation}"),
        Body::Refused(refused) => match &refused.entitlement {
            Some(entitlement) => format!("refused by {} of {entitlement}", refused.code),
            None => format!("refused by {}", refused.code),
        },
        Body::DispatchRefused { code } => format!("dispatch refused by {code}"),
        Body::DispatchAccepted => "dispatch accepted".to_owned(),
        Body::DeviceChanged(changed) => format!("the device of record {}", changed.reservation),
        other => other.kind().to_owned(),
    }
}

/// The serials that a decision concerns.
pub(super) fn serials(serials: Option<&SerialCipher>, found: &Body) -> Vec<Serial> {
    let Body::Reserved(reserved) = found else {
        return Vec::new();
    };
    let written = serial_of(&reserved.tbs);
    let belongs = serials.map(|s| s.serial(reserved.account, reserved.slot, reserved.issue));
    let mut all: Vec<Serial> = written.into_iter().collect();
    all.extend(belongs.filter(|belongs| Some(*belongs) != written));
    all
}
