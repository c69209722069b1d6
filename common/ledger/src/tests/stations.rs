//! Stations: who may be let in, and what one that was let in may ask for.

use mintmark_pki::{Issuer, Validity, assemble, station_ca_tbs, station_tbs};
use mintmark_protocol::entitlement::{Entitlement, Interval};
use mintmark_protocol::identifier::StationId;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;

use super::fixture::*;
use super::withdrawals::device_order;
use crate::decide::{Input, decide};
use crate::entry::{
    Body, DeviceAction, Entry, Refused, StationApproval, StationChange, StationOrder, StationTerms,
};
use crate::state::State;

fn name(station: &str) -> StationId {
    station.parse().unwrap()
}

fn terms() -> StationTerms {
    StationTerms {
        products: None,
        units_per_day: None,
        until: NEW_YEAR + 300 * DAY,
        working_hours: None,
    }
}

/// Whatever is decided about stations looks at their requests' keys, and not into their certificates.
fn approve(station: &str, key: u64, terms: StationTerms) -> StationOrder {
    StationOrder {
        station: name(station),
        change: StationChange::Approve(Box::new(StationApproval {
            request: csr(station, key).der().to_vec(),
            certificate: format!("certificate of {station}").into_bytes(),
            terms,
        })),
    }
}

fn revoke(station: &str) -> StationOrder {
    StationOrder {
        station: name(station),
        change: StationChange::Revoke {
            reason: "it was stolen".to_owned(),
        },
    }
}

/// Has the vault decide on a station. The code, if it is refused.
fn order(vault: &mut Chronicle, order: StationOrder) -> Result<(), String> {
    let input = Input::Station(&order);
    let decision = decide(&vault.state, &vault.devices, None, vault.now, input).unwrap();
    let body = decision.to_body();
    vault.write(Body::Station(order));
    vault.write(body.clone());
    match body {
        Body::StationChanged => Ok(()),
        Body::Refused(refused) => Err(refused.code),
        other => panic!("{other:?}"),
    }
}

fn five() -> Entitlement {
    entitlement("five", vec![product(1, "TH-200", 5)])
}

fn vault() -> Chronicle {
    Chronicle::entitled(&[five()])
}

/// What a station is answered.
fn asks(vault: &Chronicle, station: &str, device: &str, key: u64) -> String {
    let body = vault.decision_at(&name(station), "TH-200", &csr(device, key));
    body.code().unwrap_or(body.kind()).to_owned()
}

/// A station asks for a new unit, and has it signed.
fn issue_at(vault: &mut Chronicle, station: &str, device: &str, key: u64) {
    let csr = csr(device, key);
    let decision = vault.decision_at(&name(station), "TH-200", &csr);
    let mut asked = request("TH-200", &csr);
    if let Body::Request(request) = &mut asked {
        request.station = name(station);
    }
    vault.write(asked);
    vault.write(decision.clone());
    let Body::Reserved(reserved) = decision else {
        panic!("{decision:?}");
    };
    let reservation = crate::entry::LogSequence(vault.state.size() - 1);
    vault.sign(reservation, &reserved.tbs);
}

#[test]
fn a_station_asks_while_it_is_let_in_and_the_console_always() {
    let mut vault = vault();
    assert_eq!(asks(&vault, "line-1", "A", 1), "STATION-UNKNOWN");
    assert_eq!(asks(&vault, "console", "A", 1), "reserved");
    order(&mut vault, approve("line-1", 101, terms())).unwrap();
    assert_eq!(asks(&vault, "line-1", "A", 1), "reserved");
    issue_at(&mut vault, "line-1", "A", 1);
    assert_eq!(asks(&vault, "line-1", "A", 1), "existing");

    order(&mut vault, revoke("line-1")).unwrap();
    // What it got before, it gets no more either.
    assert_eq!(asks(&vault, "line-1", "A", 1), "STATION-REVOKED");
    assert_eq!(asks(&vault, "console", "A", 1), "existing");
    assert_eq!(
        order(&mut vault, revoke("line-1")).unwrap_err(),
        "STATION-REVOKED"
    );
    assert_eq!(
        order(&mut vault, revoke("line-2")).unwrap_err(),
        "STATION-UNKNOWN"
    );

    // Let in again, it is as any other.
    order(&mut vault, approve("line-1", 102, terms())).unwrap();
    assert_eq!(asks(&vault, "line-1", "A", 1), "existing");
    vault.now = terms().until;
    assert_eq!(asks(&vault, "line-1", "A", 1), "STATION-EXPIRED");
}

#[test]
fn a_station_asks_for_its_products_in_its_hours_and_so_often_a_day() {
    let mut vault = vault();
    let hour = 3600;
    let limited = StationTerms {
        products: Some(vec![sku("TH-200")]),
        units_per_day: Some(2),
        working_hours: Some(vec![
            Interval {
                from: NEW_YEAR + hour,
                until: NEW_YEAR + 3 * hour,
            },
            Interval {
                from: NEW_YEAR + DAY,
                until: NEW_YEAR + 2 * DAY,
            },
        ]),
        ..terms()
    };
    let other = StationTerms {
        products: Some(vec![sku("TH-300")]),
        ..terms()
    };
    order(&mut vault, approve("line-1", 101, limited.clone())).unwrap();
    order(&mut vault, approve("line-2", 102, other)).unwrap();
    assert_eq!(
        asks(&vault, "line-2", "A", 1),
        "STATION-PRODUCT-NOT-ALLOWED"
    );

    assert_eq!(asks(&vault, "line-1", "A", 1), "STATION-OUT-OF-HOURS");
    vault.now = NEW_YEAR + hour;
    issue_at(&mut vault, "line-1", "A", 1);
    issue_at(&mut vault, "line-1", "B", 2);
    assert_eq!(asks(&vault, "line-1", "C", 3), "STATION-RATE-DAY");
    // What costs no unit is not counted, and others are not held up.
    assert_eq!(asks(&vault, "line-1", "A", 1), "existing");
    assert_eq!(asks(&vault, "console", "C", 3), "reserved");
    // To be let in again gives no unit back.
    order(&mut vault, approve("line-1", 101, limited)).unwrap();
    assert_eq!(asks(&vault, "line-1", "C", 3), "STATION-RATE-DAY");

    vault.now = NEW_YEAR + 3 * hour;
    assert_eq!(asks(&vault, "line-1", "C", 3), "STATION-OUT-OF-HOURS");
    assert_eq!(asks(&vault, "line-1", "A", 1), "existing");
    vault.now = NEW_YEAR + DAY;
    assert_eq!(asks(&vault, "line-1", "C", 3), "reserved");
}

#[test]
fn a_station_never_widens_what_officers_allow() {
    let mut stations = five();
    stations.products[0].stations = Some(vec![name("line-1")]);
    let mut vault = Chronicle::entitled(&[stations]);
    for (station, key) in [("line-1", 101), ("line-2", 102)] {
        order(&mut vault, approve(station, key, terms())).unwrap();
    }
    assert_eq!(asks(&vault, "line-1", "A", 1), "reserved");
    assert_eq!(asks(&vault, "line-2", "A", 1), "STATION-NOT-ALLOWED");
    assert_eq!(asks(&vault, "console", "A", 1), "STATION-NOT-ALLOWED");
}

#[test]
fn who_cannot_be_a_station_is_told_why() {
    let mut vault = vault();
    order(&mut vault, approve("line-1", 101, terms())).unwrap();
    let refused = |vault: &Chronicle, order| order_refused(&mut vault.clone(), order);
    assert_eq!(
        refused(&vault, approve("console", 102, terms())),
        "STATION-NAME-RESERVED"
    );
    assert_eq!(
        refused(&vault, approve("line-2", 101, terms())),
        "STATION-KEY-TAKEN"
    );
    let over = StationTerms {
        until: vault.now,
        ..terms()
    };
    assert_eq!(
        refused(&vault, approve("line-2", 102, over)),
        "STATION-END-PAST"
    );
    // The key of one that is out may be used again.
    order(&mut vault, revoke("line-1")).unwrap();
    order(&mut vault, approve("line-2", 101, terms())).unwrap();
}

fn order_refused(vault: &mut Chronicle, refused: StationOrder) -> String {
    order(vault, refused).unwrap_err()
}

#[test]
fn what_a_station_says_of_a_device_is_asked_of_the_station_first() {
    let mut vault = vault();
    order(&mut vault, approve("line-1", 101, terms())).unwrap();
    issue_at(&mut vault, "line-1", "A", 1);
    let mut scrap = device_order(DeviceAction::Scrap, "TH-200", "A");
    scrap.station = name("line-1");
    let decided = |vault: &Chronicle| {
        let input = Input::Device(&scrap);
        let decision = decide(&vault.state, &vault.devices, None, vault.now, input);
        let body = decision.unwrap().to_body();
        body.code().unwrap_or(body.kind()).to_owned()
    };
    assert_eq!(decided(&vault), "device-changed");
    order(&mut vault, revoke("line-1")).unwrap();
    assert_eq!(decided(&vault), "STATION-REVOKED");
}

#[test]
fn stations_are_in_snapshots_and_entries_as_they_were() {
    let mut vault = vault();
    let hours = vec![Interval {
        from: NEW_YEAR,
        until: NEW_YEAR + 60,
    }];
    let limited = StationTerms {
        products: Some(vec![sku("TH-200"), sku("TH-300")]),
        units_per_day: Some(3),
        working_hours: Some(hours),
        ..terms()
    };
    let orders = [
        approve("line-1", 101, limited),
        approve("line-2", 102, terms()),
        revoke("line-2"),
    ];
    vault.write(Body::StationCa {
        certificate: vec![1, 2, 3],
    });
    for wanted in orders {
        let entry = Entry {
            time: vault.now,
            clock_behind_seconds: 0,
            body: Body::Station(wanted.clone()),
        };
        assert_eq!(Entry::from_cbor(&entry.to_cbor()).unwrap(), entry);
        order(&mut vault, wanted).unwrap();
    }
    issue_at(&mut vault, "line-1", "A", 1);
    let kept = State::from_snapshot(&vault.state.to_snapshot()).unwrap();
    assert!(kept == vault.state);
    assert_eq!(kept.stations().count(), 2);
    assert_eq!(kept.station_ca(), Some(&[1, 2, 3][..]));
    let line_1 = kept.station(&name("line-1")).unwrap();
    assert_eq!(line_1.day.units, 1);
    let found = kept.station_of(&line_1.certificate_sha256);
    assert_eq!(found.map(|station| &station.id), Some(&name("line-1")));
    // An input whose decision is to come is kept with who asked.
    vault.write(request("TH-200", &csr("B", 2)));
    let kept = State::from_snapshot(&vault.state.to_snapshot()).unwrap();
    assert!(kept == vault.state);
}

/// The station CA of the vault, and certificates that it gave.
pub(super) fn station_ca() -> (SigningKey, Issuer) {
    let key = key(7_000);
    let public = key.verifying_key().into();
    let tbs = station_ca_tbs("Acme HQ", "berlin", "v1", &public, &[1; 16], NEW_YEAR - DAY).unwrap();
    let der = assemble(&tbs, &key.sign(&tbs)).unwrap();
    let issuer = Issuer::from_certificate_der(&der).unwrap();
    (key, issuer)
}

/// A station that is let in as the rules of certificates have it, by the CA with this key.
pub(super) fn certified(station: &str, number: u64, key: &SigningKey, until: u64) -> StationOrder {
    let (_, issuer) = station_ca();
    let request = csr(station, number);
    let validity = Validity {
        not_before_unix: NEW_YEAR - DAY,
        not_after_unix: until,
    };
    let spki = request.spki_der();
    let tbs = station_tbs(&issuer, station, spki, &[2; 16], validity).unwrap();
    let certificate = assemble(&tbs, &key.sign(&tbs)).unwrap();
    let approval = StationApproval {
        request: request.der().to_vec(),
        certificate,
        terms: terms(),
    };
    StationOrder {
        station: name(station),
        change: StationChange::Approve(Box::new(approval)),
    }
}

/// A vault with a station CA, and everything that stations do honestly.
fn vault_with_stations() -> Chronicle {
    let mut vault = vault();
    let (key, issuer) = station_ca();
    vault.write(Body::StationCa {
        certificate: issuer.certificate_der().to_vec(),
    });
    order(&mut vault, certified("line-1", 101, &key, terms().until)).unwrap();
    order(&mut vault, certified("line-2", 102, &key, terms().until)).unwrap();
    issue_at(&mut vault, "line-1", "A", 1);
    order(&mut vault, revoke("line-2")).unwrap();
    vault
}

fn found(vault: &Chronicle) -> Vec<&'static str> {
    vault.findings().into_iter().map(|(_, code)| code).collect()
}

#[test]
fn headquarters_decides_about_stations_as_the_vault_did() {
    assert_eq!(found(&vault_with_stations()), [] as [&str; 0]);
}

#[test]
fn what_a_vault_claims_of_a_station_is_checked_by_whoever_replays_it() {
    let (ca, _) = station_ca();
    let until = terms().until;
    let swapped = {
        let mut order = certified("line-3", 103, &ca, until);
        if let StationChange::Approve(approval) = &mut order.change {
            approval.request = csr("line-3", 104).der().to_vec();
        }
        order
    };
    let broken = {
        let mut order = certified("line-3", 103, &ca, until);
        if let StationChange::Approve(approval) = &mut order.change {
            *approval.request.last_mut().unwrap() ^= 1;
        }
        order
    };
    for (what, claimed) in [
        (
            "another CA's certificate",
            certified("line-3", 103, &key(7_001), until),
        ),
        (
            "a certificate that ends later",
            certified("line-3", 103, &ca, until + 1),
        ),
        ("a certificate for another key", swapped),
        ("a request without proof of possession", broken),
    ] {
        let mut vault = vault_with_stations();
        order(&mut vault, claimed).unwrap();
        vault.issue("TH-200", &csr("B", 2));
        assert_eq!(found(&vault), ["STATION-MISMATCH"], "{what}");
    }
    let mut vault = vault_with_stations();
    vault.write(Body::StationCa {
        certificate: station_ca().1.certificate_der().to_vec(),
    });
    assert_eq!(found(&vault), ["STATION-MISMATCH"]);
}

#[test]
fn a_vault_that_serves_whom_it_must_not_is_found_out() {
    // It lets in under a name that is taken, keeps in whom somebody shut out, and issues to a station that is out.
    let (ca, _) = station_ca();
    let mut vault = vault_with_stations();
    vault.write(Body::Station(certified("console", 103, &ca, terms().until)));
    vault.write(Body::StationChanged);
    assert_eq!(found(&vault), ["POLICY-BREACH"]);

    let mut vault = vault_with_stations();
    vault.write(Body::Station(revoke("line-1")));
    vault.write(Body::Refused(Refused {
        code: "STATION-UNKNOWN".to_owned(),
        entitlement: None,
    }));
    assert_eq!(found(&vault), ["WRONGLY-REFUSED"]);

    let mut vault = vault_with_stations();
    let csr = csr("B", 2);
    let Body::Reserved(reserved) = vault.decision("TH-200", &csr) else {
        panic!("reserved");
    };
    let mut asked = request("TH-200", &csr);
    if let Body::Request(request) = &mut asked {
        request.station = name("line-2");
    }
    vault.write(asked);
    vault.write(Body::Reserved(reserved));
    assert_eq!(found(&vault), ["POLICY-BREACH"]);
}
