//! Each way of cheating is one finding, and the honest records around it are none.

mod facts;

use super::fixture::*;
use crate::decide::Moment;
use crate::entry::{Body, Entry, LogSequence, Refused, Request, Reserved, Signed, Submission};
use crate::replay::{Divergence, Replay, Severity};
use crate::serial::serial_of;

/// A vault with a few honest units and as many left.
fn vault() -> Chronicle {
    let mut both = entitlement(
        "both",
        vec![product(1, "TH-200", 6), product(2, "TH-300", 6)],
    );
    both.products[0].units_per_hour = Some(4);
    let mut vault = Chronicle::entitled(&[both]);
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    vault.issue("TH-300", &csr("B0", 100));
    assert_eq!(
        vault.request("TH-300", &csr("B0", 200)).code(),
        Some("DEVICE-KEY-CHANGED")
    );
    vault
}

/// Everything that an honest vault still does afterwards.
fn goes_on(vault: &mut Chronicle) {
    vault.now += HOUR;
    vault.write(Body::Start(start(vault.state.boot() + 1)));
    for unit in 50..53 {
        let request = csr(&format!("A{unit}"), unit);
        if let Body::Reserved(reserved) = vault.request("TH-200", &request) {
            let reservation = LogSequence(vault.state.size() - 1);
            let signature = sign(&authorities().device_ca_key, &reserved.tbs);
            vault.write(Body::Signed(Signed {
                reservation,
                signature,
            }));
            assert_eq!(
                vault.request("TH-200", &request),
                Body::Existing { reservation }
            );
        }
    }
    vault.issue("TH-300", &csr("B1", 101));
    vault.report();
    let more = entitlement("more", vec![product(3, "TH-200", 6)]);
    assert_eq!(vault.entitle(&more), Ok(()));
    vault.issue("TH-200", &csr("A60", 60));
}

/// The reservation that an honest vault would make.
fn honest(
    vault: &Chronicle,
    product: &str,
    request: &mintmark_pki::CertificationRequest,
) -> Reserved {
    match vault.decision(product, request) {
        Body::Reserved(reserved) => reserved,
        other => panic!("{other:?}"),
    }
}

/// Reserves as told, and signs it: what a changed program of a vault would do.
fn forge(
    vault: &mut Chronicle,
    product: &str,
    csr: &mintmark_pki::CertificationRequest,
    reserved: Reserved,
) -> u64 {
    vault.write(request(product, csr));
    let sequence = vault.state.size();
    let signature = sign(&authorities().device_ca_key, &reserved.tbs);
    vault.write(Body::Reserved(reserved));
    vault.write(Body::Signed(Signed {
        reservation: LogSequence(sequence),
        signature,
    }));
    sequence
}

/// The certificate of another slot or account, as a changed program would have it signed.
fn placed(vault: &Chronicle, csr: &mintmark_pki::CertificationRequest, slot: u64) -> Reserved {
    let mut moved = vault.clone();
    // A vault whose account stands at that slot, and has it.
    let account = moved.state.accounts.get_mut(&tag(1)).unwrap();
    account.next_slot = slot;
    account.hour.units = 0;
    let mut generous = entitlement("both", vec![product(1, "TH-200", slot + 1)]);
    generous.version = 2;
    let id = generous.id.clone();
    moved.state.entitlements.get_mut(&id).unwrap().terms = generous.into();
    moved.state.recompile();
    honest(&moved, "TH-200", csr)
}

fn the_one(vault: &Chronicle) -> Divergence {
    let found = vault.divergences();
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

#[test]
fn an_honest_log_has_no_findings() {
    let mut vault = vault();
    goes_on(&mut vault);
    assert_eq!(vault.findings(), []);
    assert!(vault.state.units() >= 6);
}

#[test]
fn a_unit_beyond_the_quota_is_an_over_issue() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let reserved = placed(&vault, &csr, 6);
    let serial = serial_of(&reserved.tbs).unwrap();
    let at = forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence, found.severity),
        ("OVER-ISSUE", LogSequence(at), Severity::Critical)
    );
    assert_eq!(
        found.to_string(),
        format!(
            "OVER-ISSUE at record {at}: expected a slot below 6 of account 1; found slot 6 (issue 0) of account 1 reserved \
             for device A9 from entitlement both"
        )
    );
    assert_eq!(found.serials, [serial]);
}

#[test]
fn a_slot_spent_twice_is_a_slot_reuse() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let reserved = placed(&vault, &csr, 1);
    let at = forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("SLOT-REUSE", LogSequence(at))
    );
}

#[test]
fn a_spent_slot_under_another_issue_number_is_a_slot_reuse_too() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let mut reserved = honest(&vault, "TH-200", &csr);
    reserved.slot = 1;
    reserved.issue = 1;
    let at = forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("SLOT-REUSE", LogSequence(at))
    );
}

#[test]
fn a_slot_that_was_skipped_is_a_divergence() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let reserved = placed(&vault, &csr, 4);
    let at = forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("DECISION-DIVERGES", LogSequence(at))
    );
}

#[test]
fn a_serial_of_another_slot_is_a_serial_mismatch_and_both_serials_are_named() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let mut reserved = honest(&vault, "TH-200", &csr);
    let belongs = serial_of(&reserved.tbs).unwrap();
    reserved.tbs = placed(&vault, &csr, 1).tbs;
    let written = serial_of(&reserved.tbs).unwrap();
    let at = forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("SERIAL-MISMATCH", LogSequence(at))
    );
    assert_eq!(found.serials, [written, belongs]);
}

#[test]
fn a_certificate_that_says_something_else_differs() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let mut reserved = honest(&vault, "TH-200", &csr);
    // Another name in the subject: the device id stands there as it is.
    let at = reserved
        .tbs
        .windows(2)
        .position(|pair| pair == b"A9")
        .unwrap();
    reserved.tbs[at + 1] = b'8';
    let at = forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("CERTIFICATE-DIFFERS", LogSequence(at))
    );
}

#[test]
fn a_reservation_for_another_device_than_asked_for_diverges() {
    let mut vault = vault();
    let csr_9 = csr("A9", 9);
    let other = honest(&vault, "TH-200", &csr("A8", 8));
    let at = forge(&mut vault, "TH-200", &csr_9, other);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("DECISION-DIVERGES", LogSequence(at))
    );
}

#[test]
fn a_unit_beyond_the_rate_is_found_and_names_the_rule() {
    let mut vault = vault();
    // The fourth unit of the hour, then a fifth.
    vault.issue("TH-200", &csr("A3", 3));
    let csr = csr("A9", 9);
    assert_eq!(vault.decision("TH-200", &csr).code(), Some("RATE-HOUR"));
    let reserved = placed(&vault, &csr, 4);
    let at = forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("RATE-EXCEEDED", LogSequence(at))
    );
    assert!(found.expected.contains("RATE-HOUR"), "{}", found.expected);
}

#[test]
fn a_unit_against_a_limit_is_called_by_the_limit_and_one_within_it_is_nothing() {
    use mintmark_protocol::entitlement::{Entitlement, Interval};
    type Limit = fn(&mut Entitlement);
    let limits: [(Limit, &str, &str); 6] = [
        (
            |terms| terms.products[0].units_per_day = Some(1),
            "RATE-DAY",
            "RATE-EXCEEDED",
        ),
        (
            |terms| terms.products[0].units_per_hour = Some(1),
            "RATE-HOUR",
            "RATE-EXCEEDED",
        ),
        (
            |terms| terms.credit.unreported_units_max = 1,
            "CREDIT-UNITS-EXHAUSTED",
            "CREDIT-EXCEEDED",
        ),
        (
            |terms| terms.products[0].stations = Some(vec!["line-1".parse().unwrap()]),
            "STATION-NOT-ALLOWED",
            "WRONG-STATION",
        ),
        (
            |terms| {
                let (from, until) = (terms.window.until - HOUR, terms.window.until);
                terms.products[0].working_hours = Some(vec![Interval { from, until }]);
            },
            "OUT-OF-HOURS",
            "ISSUED-OUT-OF-HOURS",
        ),
        (
            |terms| terms.window.from = terms.window.until - HOUR,
            "WINDOW-NOT-OPEN",
            "ISSUED-OUT-OF-HOURS",
        ),
    ];
    let terms = entitlement("both", vec![product(1, "TH-200", 6)]);
    let counts = ["RATE-DAY", "RATE-HOUR", "CREDIT-UNITS-EXHAUSTED"];
    for (limit, rule, code) in limits {
        let mut narrow = terms.clone();
        limit(&mut narrow);
        let mut wide = Chronicle::entitled(std::slice::from_ref(&terms));
        let mut strict = Chronicle::entitled(&[narrow]);
        if counts.contains(&rule) {
            wide.issue("TH-200", &csr("A0", 0));
            strict.issue("TH-200", &csr("A0", 0));
        }
        let csr = csr("A1", 1);
        let reserved = honest(&wide, "TH-200", &csr);
        assert_eq!(strict.decision("TH-200", &csr).code(), Some(rule));
        let at = forge(&mut strict, "TH-200", &csr, reserved);
        let found = the_one(&strict);
        assert_eq!(
            (found.code, found.sequence),
            (code, LogSequence(at)),
            "{rule}"
        );
        assert!(found.expected.contains(rule), "{}", found.expected);
        // Where the terms let it, the same is honest.
        wide.issue("TH-200", &csr);
        assert_eq!(wide.findings(), [], "{rule}");
    }
}

#[test]
fn a_second_unit_for_a_device_is_a_device_duplicate() {
    for (name, number) in [("A0", 0), ("A0", 77), ("A77", 0)] {
        let mut vault = vault();
        let csr = csr(name, number);
        assert!(!matches!(vault.decision("TH-200", &csr), Body::Reserved(_)));
        let mut forgetful = vault.clone();
        forgetful.devices = Devices::default();
        let reserved = honest(&forgetful, "TH-200", &csr);
        let at = forge(&mut vault, "TH-200", &csr, reserved);
        goes_on(&mut vault);
        let found = the_one(&vault);
        assert_eq!(
            (found.code, found.sequence),
            ("DEVICE-DUPLICATE", LogSequence(at))
        );
    }
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let mut vault = vault();
    vault.write(request("TH-200", &csr("A9", 9)));
    let entitlement = Some("both".parse().unwrap());
    vault.write(Body::Refused(Refused {
        code: "RATE-DAY".to_owned(),
        entitlement,
    }));
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.severity),
        ("WRONGLY-REFUSED", Severity::Warning)
    );
}

#[test]
fn an_edited_refusal_diverges() {
    let mut vault = vault();
    vault.write(request("TH-200", &csr("A0", 77)));
    vault.write(Body::Refused(Refused {
        code: "RATE-DAY".to_owned(),
        entitlement: None,
    }));
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.severity),
        ("DECISION-DIVERGES", Severity::Warning)
    );
}

#[test]
fn an_answer_that_points_elsewhere_diverges() {
    let mut vault = vault();
    vault.write(request("TH-200", &csr("A0", 0)));
    vault.write(Body::Existing {
        reservation: LogSequence(1),
    });
    goes_on(&mut vault);
    assert_eq!(the_one(&vault).code, "DECISION-DIVERGES");
}

#[test]
fn an_input_without_its_decision_and_a_decision_without_its_input_are_found() {
    let mut vault_a = vault();
    vault_a.write(request("TH-200", &csr("A9", 9)));
    goes_on(&mut vault_a);
    assert_eq!(the_one(&vault_a).code, "DECISION-MISSING");

    let mut vault_b = vault();
    let reserved = honest(&vault_b, "TH-200", &csr("A9", 9));
    vault_b.write(Body::Reserved(reserved));
    goes_on(&mut vault_b);
    assert_eq!(the_one(&vault_b).code, "DECISION-MISSING");
}

#[test]
fn a_time_that_runs_backwards_is_found_once() {
    for clock_behind_seconds in [0, 5] {
        let mut vault = vault();
        let csr = csr("A9", 9);
        let honest = vault.clone();
        let time = vault.state.mark() - 100;
        // The vault decides as of that time, with everything that follows from it.
        let moment = Moment {
            time,
            clock: vault.state.mark(),
        };
        let (product, station) = (
            sku("TH-200"),
            mintmark_protocol::identifier::StationId::console(),
        );
        let input = crate::decide::Input::Request {
            product: &product,
            station: &station,
            submission: crate::decide::Submitted::Verified(&csr),
        };
        let decision = crate::decide::decide_at(
            &honest.state,
            &honest.devices,
            Some(&serials()),
            moment,
            input,
        );
        let at = vault.state.size();
        for body in [request("TH-200", &csr), decision.unwrap().to_body()] {
            vault.write_entry(Entry {
                time,
                clock_behind_seconds,
                body,
            });
        }
        goes_on(&mut vault);
        let found = the_one(&vault);
        assert_eq!((found.code, found.sequence), ("TIME-BACK", LogSequence(at)));
    }
}

#[test]
fn a_clock_said_to_be_behind_a_time_that_is_not_the_newest_is_found() {
    let mut vault = vault();
    let time = vault.state.mark() + 10;
    let body = Body::Start(start(2));
    vault.write_entry(Entry {
        time,
        clock_behind_seconds: 3,
        body,
    });
    goes_on(&mut vault);
    assert_eq!(the_one(&vault).code, "TIME-BACK");
}

#[test]
fn a_decision_at_another_time_than_its_input_diverges() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let decision = vault.decision("TH-200", &csr);
    vault.write(request("TH-200", &csr));
    vault.write_entry(Entry {
        time: vault.now + 1,
        clock_behind_seconds: 0,
        body: decision,
    });
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(found.code, "DECISION-DIVERGES");
    assert!(found.expected.contains("time"), "{}", found.expected);
}

#[test]
fn a_replay_that_has_the_request_verified_already_comes_to_the_same() {
    let vault = vault();
    let mut replay = Replay::new();
    let mut devices = Devices::default();
    for raw in &vault.records {
        let verified = match Entry::from_cbor(raw).unwrap().body {
            Body::Request(Request {
                submission: Submission::Csr { der },
                ..
            }) => mintmark_pki::CertificationRequest::from_der(&der).ok(),
            _ => None,
        };
        let replayed = replay
            .feed(&devices, Some(&serials()), raw, verified.as_ref())
            .unwrap();
        devices.keep(replayed.effect.as_ref());
        assert_eq!(replayed.divergences, []);
    }
    assert_eq!(*replay.state(), vault.state);
}

#[test]
fn another_request_handed_in_as_verified_is_not_believed() {
    let mut vault = vault();
    let mut der = csr("A9", 9).der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    vault.write(Body::Request(Request {
        product: sku("TH-200"),
        station: mintmark_protocol::identifier::StationId::console(),
        submission: Submission::Csr { der },
    }));
    let (mut replay, _) = replay(&vault.records[..vault.records.len() - 1]);
    let raw = vault.records.last().unwrap();
    let honest = csr("A9", 9);
    let replayed = replay
        .feed(&vault.devices, Some(&serials()), raw, Some(&honest))
        .unwrap();
    assert_eq!(replayed.divergences[0].code, "FACT-FALSE");
}
