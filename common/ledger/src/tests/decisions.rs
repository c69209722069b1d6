//! Each rule for requests.

use mintmark_protocol::entitlement::{DeviceIdSource, Entitlement, Interval};
use mintmark_protocol::identifier::{Fingerprint, StationId};

use super::fixture::*;
use crate::decide::{DecideError, Input, Submitted, decide};
use crate::entry::{Body, Entry, Refused, Request, Reserved, Submission};
use crate::refusal::{DispatchRefusal, Refusal, meaning};
use crate::serial::serial_of;

fn code(body: &Body) -> &str {
    body.code().unwrap_or(body.kind())
}

/// One entitlement for five TH-200, changed.
fn five(change: impl FnOnce(&mut Entitlement)) -> Entitlement {
    let mut entitlement = entitlement("five", vec![product(1, "TH-200", 5)]);
    change(&mut entitlement);
    entitlement
}

fn reserved(body: Body) -> Reserved {
    match body {
        Body::Reserved(reserved) => reserved,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_unit_takes_the_next_slot_and_its_certificate_is_the_one_that_the_terms_say() {
    let mut vault = Chronicle::entitled(&[five(|_| {})]);
    for slot in 0..5 {
        let request = csr(&format!("TH200-{slot}"), slot);
        let reserved = reserved(vault.request("TH-200", &request));
        assert_eq!(
            (reserved.account, reserved.slot, reserved.issue),
            (tag(1), slot, 0)
        );
        assert_eq!(reserved.entitlement.as_str(), "five");
        let serial = serial_of(&reserved.tbs).unwrap();
        assert_eq!(serials().open(&serial), Some((tag(1), slot, 0)));
        let signature = sign(&authorities().device_ca_key, &reserved.tbs);
        let signature = p256::ecdsa::Signature::from_slice(&signature).unwrap();
        let der = mintmark_pki::assemble(&reserved.tbs, &signature).unwrap();
        let certificate = mintmark_pki::Certificate::from_der(&der).unwrap();
        certificate
            .verify_issued_by(&authorities().device_ca)
            .unwrap();
        assert_eq!(
            certificate.subject_serial_number(),
            Some(reserved.device_id.as_str())
        );
        assert_eq!(certificate.spki_sha256(), *reserved.spki_sha256.as_bytes());
        assert_eq!(certificate.not_before_unix(), NEW_YEAR);
    }
    let refused = vault.request("TH-200", &csr("TH200-5", 5));
    assert_eq!(code(&refused), "QUOTA-EXHAUSTED");
    let account = vault.state.account(tag(1)).unwrap();
    assert_eq!(
        (account.unresolved, account.good, account.unspent()),
        (5, 0, 0)
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn asking_twice_is_free_even_when_nothing_else_is_possible() {
    let mut vault = Chronicle::entitled(&[five(|_| {})]);
    let request = csr("TH200-0", 0);
    let reservation = vault.issue("TH-200", &request);
    for unit in 1..5 {
        vault.issue("TH-200", &csr(&format!("TH200-{unit}"), unit));
    }
    assert_eq!(
        vault.request("TH-200", &request),
        Body::Existing { reservation }
    );
    vault.now = NEW_YEAR + 1000 * DAY;
    assert_eq!(
        vault.request("TH-200", &request),
        Body::Existing { reservation }
    );
    assert_eq!(
        code(&vault.decision("TH-200", &csr("TH200-9", 9))),
        "WINDOW-CLOSED"
    );
    vault.now = NEW_YEAR;
    assert_eq!(
        vault.request("TH-200", &request),
        Body::Existing { reservation }
    );
    assert_eq!(
        code(&vault.decision("TH-200", &csr("TH200-9", 9))),
        "CLOCK-BACK"
    );
    assert_eq!(vault.state.account(tag(1)).unwrap().spent(), 5);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_device_keeps_its_key_and_a_key_its_device() {
    let both = entitlement(
        "both",
        vec![product(1, "TH-200", 5), product(2, "TH-300", 5)],
    );
    let mut vault = Chronicle::entitled(&[both]);
    vault.issue("TH-200", &csr("A", 1));
    assert_eq!(
        code(&vault.request("TH-200", &csr("A", 2))),
        "DEVICE-KEY-CHANGED"
    );
    assert_eq!(code(&vault.request("TH-200", &csr("B", 1))), "KEY-REUSED");
    assert_eq!(code(&vault.request("TH-300", &csr("A", 1))), "KEY-REUSED");
    // The same identifier of another product is another device.
    vault.issue("TH-300", &csr("A", 2));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_vault_that_is_not_enrolled_refuses_everything() {
    let mut vault = Chronicle::new();
    assert_eq!(code(&vault.request("TH-200", &csr("A", 1))), "NOT-ENROLLED");
    assert_eq!(vault.findings(), []);
}

#[test]
fn an_enrolled_vault_without_its_serial_key_decides_nothing() {
    let vault = Chronicle::enrolled();
    let (product, station, request) = (sku("TH-200"), StationId::console(), csr("A", 1));
    let submission = Submitted::Verified(&request);
    let input = Input::Request {
        product: &product,
        station: &station,
        submission,
    };
    let decision = decide(&vault.state, &vault.devices, None, vault.now, input);
    assert!(matches!(decision, Err(DecideError::SerialKeyMissing)));
}

#[test]
fn what_was_not_a_request_is_refused_by_the_code_that_says_why() {
    let mut vault = Chronicle::entitled(&[five(|_| {})]);
    let (product, station) = (sku("TH-200"), StationId::console());
    let sha256 = Fingerprint::of(b"junk");
    let submission = Submitted::Unreadable {
        sha256,
        code: "CSR-PROOF-INVALID",
    };
    let input = Input::Request {
        product: &product,
        station: &station,
        submission,
    };
    let decision = decide(
        &vault.state,
        &vault.devices,
        Some(&serials()),
        vault.now,
        input,
    );
    let decision = decision.unwrap();
    assert!(
        decision
            .refusal()
            .unwrap()
            .to_string()
            .contains("did not prove possession")
    );
    vault.write(Body::Request(Request {
        product,
        station,
        submission: Submission::Unreadable {
            sha256,
            code: "CSR-PROOF-INVALID".to_owned(),
        },
    }));
    vault.write(decision.to_body());
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_product_that_no_entitlement_names_is_refused_before_the_device_is_looked_at() {
    let vault = Chronicle::entitled(&[five(|_| {})]);
    assert_eq!(
        code(&vault.decision("TH-300", &csr("A", 1))),
        "PRODUCT-NOT-ENTITLED"
    );
    assert_eq!(
        code(&Chronicle::enrolled().decision("X", &csr("ä", 1))),
        "PRODUCT-NOT-ENTITLED"
    );
}

#[test]
fn the_device_id_is_where_the_policy_says_or_nowhere() {
    let serial_number = five(|e| e.products[0].device_id_source = DeviceIdSource::SerialNumber);
    let vault = Chronicle::entitled(&[serial_number]);
    assert_eq!(
        code(&vault.decision("TH-200", &csr("A", 1))),
        "DEVICE-ID-MISSING"
    );
    let vault = Chronicle::entitled(&[five(|_| {})]);
    assert_eq!(
        code(&vault.decision("TH-200", &csr("TH200_1", 1))),
        "DEVICE-ID-INVALID"
    );
}

#[test]
fn the_first_and_the_last_second_of_a_window_are_as_the_entitlement_says() {
    let mut vault = Chronicle::entitled(&[five(|e| {
        e.window = Interval {
            from: NEW_YEAR + 10,
            until: NEW_YEAR + 20,
        };
    })]);
    for (second, expected) in [
        (9, "WINDOW-NOT-OPEN"),
        (10, "reserved"),
        (19, "reserved"),
        (20, "WINDOW-CLOSED"),
    ] {
        vault.now = NEW_YEAR + second;
        assert_eq!(
            code(&vault.decision("TH-200", &csr("A", 1))),
            expected,
            "{second}"
        );
    }
}

#[test]
fn keys_and_device_ids_are_those_that_the_entitlement_allows() {
    let keys = five(|e| e.products[0].key_algorithms = vec!["P-384".to_owned()]);
    let vault = Chronicle::entitled(&[keys]);
    assert_eq!(
        code(&vault.decision("TH-200", &csr("A", 1))),
        "KEY-ALGORITHM-FORBIDDEN"
    );

    let pattern = "TH200-[0-9]{8}".to_owned();
    let vault = Chronicle::entitled(&[five(|e| e.products[0].device_id_pattern = Some(pattern))]);
    for (device_id, expected) in [
        ("TH200-00000001", "reserved"),
        ("TH200-0000001", "DEVICE-ID-FORBIDDEN"),
        ("xTH200-00000001", "DEVICE-ID-FORBIDDEN"),
        ("TH200-000000011", "DEVICE-ID-FORBIDDEN"),
    ] {
        assert_eq!(
            code(&vault.decision("TH-200", &csr(device_id, 1))),
            expected,
            "{device_id}"
        );
    }
}

#[test]
fn outside_of_working_hours_the_refusal_names_the_next() {
    let hours = |from, until| Interval {
        from: NEW_YEAR + from * HOUR,
        until: NEW_YEAR + until * HOUR,
    };
    let mut vault = Chronicle::entitled(&[five(|e| {
        e.products[0].working_hours = Some(vec![hours(6, 22), hours(30, 46)]);
    })]);
    for (hour, expected) in [
        (0, "OUT-OF-HOURS"),
        (6, "reserved"),
        (21, "reserved"),
        (22, "OUT-OF-HOURS"),
        (30, "reserved"),
        (46, "OUT-OF-HOURS"),
    ] {
        vault.now = NEW_YEAR + hour * HOUR;
        assert_eq!(
            code(&vault.decision("TH-200", &csr("A", 1))),
            expected,
            "{hour}"
        );
    }
    vault.now = NEW_YEAR + 22 * HOUR;
    let (product, station, request) = (sku("TH-200"), StationId::console(), csr("A", 1));
    let submission = Submitted::Verified(&request);
    let input = Input::Request {
        product: &product,
        station: &station,
        submission,
    };
    let decision = decide(
        &vault.state,
        &vault.devices,
        Some(&serials()),
        vault.now,
        input,
    );
    let refusal = decision.unwrap().refusal().unwrap().to_string();
    assert!(
        refusal.ends_with("the next begin at 2027-01-02T06:00:00Z"),
        "{refusal}"
    );
}

#[test]
fn rates_count_in_utc_hours_and_days() {
    let mut vault = Chronicle::entitled(&[five(|e| {
        e.products[0].units_per_day = Some(3);
        e.products[0].units_per_hour = Some(2);
    })]);
    let mut unit = 0;
    let mut ask = |vault: &mut Chronicle, seconds: u64| {
        unit += 1;
        vault.now = NEW_YEAR + seconds;
        code(&vault.request("TH-200", &csr(&format!("A{unit}"), unit))).to_owned()
    };
    assert_eq!(ask(&mut vault, 0), "reserved");
    assert_eq!(ask(&mut vault, HOUR - 1), "reserved");
    assert_eq!(ask(&mut vault, HOUR - 1), "RATE-HOUR");
    assert_eq!(ask(&mut vault, HOUR), "reserved");
    assert_eq!(ask(&mut vault, 2 * HOUR), "RATE-DAY");
    assert_eq!(ask(&mut vault, DAY - 1), "RATE-DAY");
    assert_eq!(ask(&mut vault, DAY), "reserved");
    assert_eq!(vault.findings(), []);
}

#[test]
fn credit_runs_out_by_units_and_by_days_until_headquarters_acknowledges() {
    let mut vault = Chronicle::entitled(&[five(|e| {
        e.credit.unreported_units_max = 2;
        e.credit.unreported_days_max = 1;
    })]);
    assert_eq!(vault.state.credit(vault.now).units, 2);
    vault.issue("TH-200", &csr("A1", 1));
    vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(vault.state.credit(vault.now).units, 0);
    assert_eq!(vault.state.credit(vault.now).until, Some(NEW_YEAR + DAY));
    assert_eq!(
        code(&vault.request("TH-200", &csr("A3", 3))),
        "CREDIT-UNITS-EXHAUSTED"
    );
    vault.report();
    assert_eq!(vault.state.credit(vault.now).units, 2);
    vault.issue("TH-200", &csr("A3", 3));
    vault.now = NEW_YEAR + DAY;
    assert_eq!(code(&vault.decision("TH-200", &csr("A4", 4))), "reserved");
    vault.now = NEW_YEAR + DAY + 1;
    assert_eq!(
        code(&vault.request("TH-200", &csr("A4", 4))),
        "CREDIT-DAYS-EXHAUSTED"
    );
    vault.report();
    vault.issue("TH-200", &csr("A4", 4));
    assert_eq!(vault.findings(), []);
}

#[test]
fn the_credit_is_that_of_entitlements_that_can_still_spend() {
    let generous = five(|e| {
        e.credit.unreported_units_max = 7;
        e.window.until -= DAY;
    });
    let mut strict = entitlement("strict", vec![product(2, "TH-200", 5)]);
    strict.credit.unreported_units_max = 6;
    let mut vault = Chronicle::entitled(&[generous, strict]);
    let credits = |vault: &Chronicle, now| -> Vec<(String, u64)> {
        let credits = vault.state.credits(now);
        let mut credits: Vec<_> = credits
            .map(|(id, left)| (id.to_string(), left.units))
            .collect();
        credits.sort();
        let most = credits.iter().map(|(_, units)| *units).max();
        assert_eq!(vault.state.credit(now).units, most.unwrap_or(0));
        credits
    };
    let named = |credits: &[(&str, u64)]| -> Vec<(String, u64)> {
        let credits = credits.iter();
        credits
            .map(|(id, units)| ((*id).to_owned(), *units))
            .collect()
    };
    assert_eq!(
        credits(&vault, vault.now),
        named(&[("five", 7), ("strict", 6)])
    );
    for unit in 1..=5 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    assert_eq!(credits(&vault, vault.now), named(&[("strict", 1)]));
    vault.issue("TH-200", &csr("A6", 6));
    assert_eq!(credits(&vault, vault.now), named(&[("strict", 0)]));
    assert!(vault.state.credit(vault.now).is_used_up(vault.now));
    assert_eq!(
        code(&vault.request("TH-200", &csr("A7", 7))),
        "CREDIT-UNITS-EXHAUSTED"
    );
    let ends = vault.state.entitlements().values();
    let ends = ends
        .map(|granted| granted.terms.window.until)
        .max()
        .unwrap();
    assert_eq!(credits(&vault, ends), []);
    assert_eq!(vault.state.credit(ends).until, None);
}

#[test]
fn units_issued_while_a_bundle_was_being_sealed_are_not_reported_by_it() {
    let mut vault = Chronicle::entitled(&[five(|e| e.credit.unreported_units_max = 2)]);
    vault.issue("TH-200", &csr("A1", 1));
    let log_size = vault.state.size();
    vault.issue("TH-200", &csr("A2", 2));
    let fingerprint = Fingerprint::of(b"late");
    vault.write(Body::BundleSealed(crate::entry::BundleSealed {
        sequence: 1,
        fingerprint,
        log_size,
        requests_unlogged: 0,
    }));
    assert!(vault.state.needs_bundle(vault.now));
    let content = acknowledgement_content(&acknowledgement(1, fingerprint, log_size));
    assert_eq!(
        vault.import(crate::entry::Verdict::Authentic(content)),
        Ok(())
    );
    assert_eq!(vault.state.units_unreported(), 1);
    assert_eq!(vault.findings(), []);
}

#[test]
fn the_entitlement_that_ends_first_is_spent_first() {
    let until = |id: &str, account, days| {
        let mut entitlement = entitlement(id, vec![product(account, "TH-200", 1)]);
        entitlement.window.until = NEW_YEAR + days * DAY;
        entitlement
    };
    let mut vault = Chronicle::entitled(&[until("a", 1, 60), until("z", 2, 30), until("b", 3, 30)]);
    for (unit, account) in [(1, 3), (2, 2), (3, 1)] {
        let reserved = reserved(vault.request("TH-200", &csr(&format!("A{unit}"), unit)));
        assert_eq!(reserved.account, tag(account));
    }
    assert_eq!(
        code(&vault.request("TH-200", &csr("A4", 4))),
        "QUOTA-EXHAUSTED"
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn the_refusal_is_that_of_the_entitlement_that_came_closest() {
    let closed = five(|e| e.window.until = NEW_YEAR + 1);
    let mut exhausted = entitlement("exhausted", vec![product(2, "TH-200", 0)]);
    exhausted.window.until = NEW_YEAR + 2 * DAY;
    let mut vault = Chronicle::entitled(&[closed, exhausted]);
    vault.now = NEW_YEAR + DAY;
    let entitlement = Some("exhausted".parse().unwrap());
    let expected = Body::Refused(Refused {
        code: "QUOTA-EXHAUSTED".to_owned(),
        entitlement,
    });
    assert_eq!(vault.decision("TH-200", &csr("A", 1)), expected);
}

#[test]
fn an_account_that_looks_elsewhere_for_the_device_id_is_not_spent_on_another_device() {
    let elsewhere = |id: &str, account, days, source| {
        let mut entitlement = entitlement(id, vec![product(account, "TH-200", 1)]);
        entitlement.window.until = NEW_YEAR + days * DAY;
        entitlement.products[0].device_id_source = source;
        entitlement
    };
    let mut vault = Chronicle::entitled(&[
        elsewhere("a", 1, 30, DeviceIdSource::CommonName),
        elsewhere("b", 2, 60, DeviceIdSource::SerialNumber),
    ]);
    vault.issue("TH-200", &csr("A1", 1));
    // These requests have a common name and no serial number.
    assert_eq!(
        code(&vault.request("TH-200", &csr("A2", 2))),
        "QUOTA-EXHAUSTED"
    );
    vault.now = NEW_YEAR + 40 * DAY;
    assert_eq!(
        code(&vault.request("TH-200", &csr("A2", 2))),
        "DEVICE-ID-MISSING"
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_clock_that_steps_back_a_little_gives_entries_the_newest_time_there_is() {
    let mut vault = Chronicle::entitled(&[five(|_| {})]);
    vault.now = NEW_YEAR + 1000;
    vault.issue("TH-200", &csr("A1", 1));
    vault.now = NEW_YEAR + 700;
    vault.issue("TH-200", &csr("A2", 2));
    let last = Entry::from_cbor(vault.records.last().unwrap()).unwrap();
    assert_eq!((last.time, last.clock()), (NEW_YEAR + 1000, NEW_YEAR + 700));
    vault.now = NEW_YEAR + 699;
    assert_eq!(code(&vault.request("TH-200", &csr("A3", 3))), "CLOCK-BACK");
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_device_that_the_terms_give_no_certificate_is_refused() {
    let prefix = "x".repeat(60);
    let long = five(|e| e.products[0].certificate.subject = format!("CN={prefix}{{device_id}}"));
    let vault = Chronicle::entitled(&[long]);
    assert_eq!(code(&vault.decision("TH-200", &csr("A001", 1))), "reserved");
    assert_eq!(
        code(&vault.decision("TH-200", &csr("A0001", 1))),
        "CERTIFICATE-UNBUILDABLE"
    );
}

#[test]
fn every_code_of_a_refusal_has_a_meaning() {
    // The rules name their codes in these places; each must be explained in another.
    for (source, at_least) in [
        (include_str!("../refusal/code.rs"), 30),
        (include_str!("../refusal/dispatch.rs"), 25),
        (include_str!("../refusal/station.rs"), 9),
    ] {
        let body = source.split("pub fn code(&self)").nth(1).unwrap();
        let body = body.split("pub fn entitlement").next().unwrap();
        let codes: Vec<&str> = body.split('"').skip(1).step_by(2).collect();
        assert!(codes.len() > at_least);
        for code in codes {
            assert_ne!(meaning(code), code);
        }
    }
}

#[test]
fn every_code_of_content_that_does_not_verify_has_a_meaning_and_says_what_to_do() {
    let source = include_str!("../../../protocol/src/error.rs");
    let body = source.split("pub fn code(&self)").nth(1).unwrap();
    let body = body.split("pub fn hint").next().unwrap();
    let mut codes: Vec<&str> = body.split('"').skip(1).step_by(2).collect();
    // These are not the content's fault, and refuse nothing.
    codes.retain(|code| {
        ![
            "MESSAGE-VERSION",
            "KEY-OPERATION",
            "RANDOM",
            "DRAFT-UNSIGNED",
        ]
        .contains(code)
    });
    assert!(codes.len() > 15);
    let unknown = |code: &str| {
        Refusal::from(DispatchRefusal::ContentRejected {
            code: code.to_owned(),
        })
    };
    let vague = unknown("NO-SUCH-CODE").hint();
    for code in codes.into_iter().chain(["GRANT-CERTIFICATE"]) {
        assert_ne!(meaning(code), code);
        assert_ne!(unknown(code).hint(), vague, "{code}");
    }
    assert_eq!(
        unknown("SIGNER-UNKNOWN").hint(),
        "carry the next `site media export` to headquarters, which has it approved again"
    );
}

#[test]
fn only_decide_makes_a_reservation() {
    // Its fields are private to the module `decide`; within it, one function fills them.
    let sources = [
        include_str!("../decide.rs"),
        include_str!("../decide/request.rs"),
        include_str!("../decide/request/rules.rs"),
        include_str!("../decide/dispatch.rs"),
    ];
    let made: usize = sources
        .iter()
        .map(|s| s.matches("    Reservation {\n").count())
        .sum();
    assert_eq!(made, 1);
    let calls: usize = sources
        .iter()
        .map(|s| s.matches("reservation(").count())
        .sum();
    assert_eq!(calls, 2, "its definition and one call");
}
