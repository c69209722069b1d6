//! Logs of every version of the rules that was released, which must replay without a finding for ever.
//!
//! A file is records one after another, each after its length (4 bytes, big-endian). Rules are never changed under
//! their version: where a test here fails, what is decided has changed, and needs a version of its own. Version 1 is that of the
//! first release: until there is one, it is completed, and its file written anew.

use std::path::PathBuf;

use mintmark_protocol::entitlement::{DeviceIdSource, Interval};
use mintmark_protocol::identifier::{Fingerprint, StationId};
use mintmark_protocol::key_terms::KeyUse;
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::decide::RULES_VERSION;
use crate::entry::{Body, Entry, KeyOutcome, Refused, Request, Submission, Trust, Verdict};

fn path(version: u32) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/golden");
    folder.join(format!("rules-{version}.log"))
}

fn read(version: u32) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path(version)).unwrap();
    let mut rest = bytes.as_slice();
    let mut records = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        records.push(record.to_vec());
        rest = after;
    }
    records
}

/// A history that comes by every rule. Keys are fixed and signatures deterministic (RFC 6979), so it is the same every
/// time.
fn history() -> Vec<Vec<u8>> {
    let mut vault = Chronicle::new();
    let _ = vault.request("TH-200", &csr("A1", 1));
    let mut other = grant();
    other.vault.vault = "v2".parse().unwrap();
    let _ = vault.import(Verdict::Authentic(grant_content(&other)));
    let _ = vault.import(Verdict::Authentic(grant_content(&grant())));
    vault.now = NEW_YEAR;

    let mut first = entitlement(
        "first",
        vec![product(1, "TH-200", 3), product(2, "TH-300", 4)],
    );
    first.credit.unreported_units_max = 4;
    first.products[0].device_id_pattern = Some("A[0-9]{1,3}".to_owned());
    first.products[0].units_per_hour = Some(2);
    first.products[1].units_per_day = Some(1);
    first.products[1].certificate.validity_days = None;
    first.products[1].certificate.extended_key_usage = Vec::new();
    first.products[1].working_hours = Some(vec![Interval {
        from: NEW_YEAR,
        until: NEW_YEAR + 20 * HOUR,
    }]);
    let _ = vault.entitle(&first);
    let mut second = entitlement("second", vec![product(3, "TH-200", 1)]);
    second.window = Interval {
        from: NEW_YEAR + DAY,
        until: NEW_YEAR + 80 * DAY,
    };
    let _ = vault.entitle(&second);
    let mut elsewhere = entitlement("elsewhere", vec![product(4, "TH-400", 1)]);
    elsewhere.products[0].device_id_source = DeviceIdSource::SerialNumber;
    elsewhere.products[0].stations = Some(vec!["line-1".parse().unwrap()]);
    let _ = vault.entitle(&elsewhere);

    let mut rest = entitlement(
        "rest",
        vec![
            product(5, "TH-600", 5),
            product(6, "TH-700", 5),
            product(7, "TH-800", 1),
        ],
    );
    rest.products[0].stations = Some(vec!["line-1".parse().unwrap()]);
    rest.products[1].key_algorithms = vec!["P-384".to_owned(), "RSA-3072".to_owned()];
    let _ = vault.entitle(&rest);
    let mut later = entitlement("later", vec![product(8, "TH-900", 5)]);
    later.window.from = NEW_YEAR + 50 * DAY;
    let _ = vault.entitle(&later);
    vault.write(Body::Trust(Trust {
        version: 2,
        fingerprint: Fingerprint::of(b"trust 2"),
        dispatch_epoch: EPOCH,
    }));
    let sha256 = Fingerprint::of(b"junk");
    let code = "CSR-MALFORMED".to_owned();
    vault.write(Body::Request(Request {
        product: sku("TH-200"),
        station: StationId::console(),
        submission: Submission::Unreadable {
            sha256,
            code: code.clone(),
        },
    }));
    vault.write(Body::Refused(Refused {
        code,
        entitlement: None,
    }));
    let unknown = acknowledgement(9, sha256, 1);
    let _ = vault.import(Verdict::Authentic(acknowledgement_content(&unknown)));

    let names = [
        "TH-200", "TH-300", "TH-400", "TH-500", "TH-600", "TH-700", "TH-800", "TH-900",
    ];
    let mut unit = 0;
    for hour in [0, 0, 0, 1, 2, 21, 24, 25, 26, 48, 2000, 3000] {
        vault.now = NEW_YEAR + hour * HOUR;
        if hour == 25 {
            vault.report();
            vault.write(Body::Start(start(vault.state.boot() + 1)));
        }
        for name in names {
            unit += 1;
            let request = csr(&format!("A{unit}"), unit);
            if matches!(vault.decision(name, &request), Body::Reserved(_)) {
                vault.issue(name, &request);
            }
            let _ = vault.request(name, &request);
            let _ = vault.request(name, &csr(&format!("B{unit}"), unit));
            let _ = vault.request(name, &csr(&format!("A{unit}"), unit + 1000));
        }
        if hour == 2 {
            let mut amended = first.clone();
            amended.version = 2;
            amended.products[0].units = 0;
            let _ = vault.entitle(&amended);
            amended.products[0].units = 9;
            let _ = vault.entitle(&amended);
            let _ = vault.entitle(&amended);
        }
    }
    vault.now = NEW_YEAR;
    let _ = vault.request("TH-200", &csr("A900", 900));
    orders(&mut vault);
    vault.records
}

/// Every kind of order, key and device CA, after the rest.
fn orders(vault: &mut Chronicle) {
    let import = |vault: &mut Chronicle, content| {
        let _ = vault.import(Verdict::Authentic(content));
    };
    // The log stands 125 days after the clock, which is right.
    let ahead = clock_correction(1, vault.now + 301);
    let mut expired = clock_correction(1, vault.now);
    expired.approve_until = vault.now;
    for correction in [ahead, expired] {
        import(vault, clock_content(&correction));
    }
    let correction = clock_content(&clock_correction(1, vault.now));
    import(vault, correction.clone());
    import(vault, clock_content(&clock_correction(1, vault.now - 1)));
    let _ = vault.request("TH-200", &csr("A901", 901));
    vault.now += DAY;
    import(vault, correction);

    let mut keyed = entitlement(
        "keyed",
        vec![product(21, "KX-1", 9), product(22, "KX-2", 9)],
    );
    keyed.credit.unreported_units_max = 1000;
    let mut held = device_key("held", None);
    held.usage = KeyUse::Hold;
    let mut ended = device_key("ended", None);
    (ended.until, ended.products) = (Some(NEW_YEAR + 3 * DAY), Some(vec![sku("KX-2")]));
    let mut service = device_key("service", Some(2));
    service.products = Some(vec![sku("KX-1")]);
    keyed.keys = vec![service, held, ended];
    let _ = vault.entitle(&keyed);
    let _ = vault.request("KX-1", &csr("K0", 2000));
    let refused = KeyOutcome::Refused {
        code: "KEY-CHECK-VALUE".to_owned(),
    };
    for outcome in [refused, KeyOutcome::Unwrapped] {
        vault.write(key_receipt("keyed", "service", outcome));
    }
    vault.write(key_receipt("keyed", "ended", KeyOutcome::Unwrapped));
    vault.issue("KX-1", &csr("K1", 2001));
    vault.issue("KX-1", &csr("K10", 2010));
    vault.issue("KX-2", &csr("K2", 2002));
    let _ = vault.request("KX-1", &csr("K3", 2003));
    vault.now += 3 * DAY;
    let _ = vault.request("KX-2", &csr("K4", 2004));
    let mut fewer = keyed.clone();
    fewer.version = 2;
    fewer.keys = vec![device_key("service", Some(1))];
    let _ = vault.entitle(&fewer);
    let mut other = entitlement("other", vec![product(23, "KX-3", 9)]);
    other.keys = vec![device_key("service", None)];
    other.keys[0].check_value = [1; 32];
    let _ = vault.entitle(&other);
    other.keys[0] = device_key("ended", None);
    other.products[0].key_algorithms = vec!["RSA-2048".to_owned(), "P-256".to_owned()];
    let _ = vault.entitle(&other);
    vault.issue("KX-3", &csr("K5", 2005));
    let _ = vault.request("KX-3", &csr("K6", 2006));
    let _ = vault.request("KX-3", &csr("K2", 2012));
    vault.report();

    let ca =
        |issuer: &mintmark_pki::Issuer| Target::DeviceCa(Fingerprint::of(issuer.certificate_der()));
    let entitlement = |id: &str| Target::Entitlement(id.parse().unwrap());
    let _ = vault.revoke(entitlement("nobody"));
    let _ = vault.revoke(Target::Vault);
    import(
        vault,
        revocation_content(&revocation(1, entitlement("other"))),
    );
    let _ = vault.request("KX-3", &csr("K7", 2007));
    let _ = vault.request("KX-3", &csr("K6", 2006));
    import(vault, rotation_content(&rotation_grant()));
    vault.write(Body::Rotation(rotation()));
    let mut before = rotation_grant();
    before.drafted_at = NEW_YEAR;
    import(vault, rotation_content(&before));
    vault.rotate();
    vault.issue("KX-3", &csr("K7", 2007));
    let _ = vault.request("KX-3", &csr("K5", 2005));
    let _ = vault.revoke(ca(&authorities().device_ca));
    for (device, number) in [("K5", 2005), ("K6", 2006)] {
        vault.issue("KX-3", &csr(device, number));
        let _ = vault.request("KX-3", &csr(device, number));
    }
    let _ = vault.request("KX-3", &csr("K8", 2008));
    let _ = vault.revoke(entitlement("other"));
    let _ = vault.request("KX-3", &csr("K8", 2008));
    let _ = vault.request("KX-3", &csr("K9", 2009));
    other.version = 2;
    let _ = vault.entitle(&other);
    let _ = vault.revoke(ca(&authorities().next_device_ca));
    let _ = vault.request("KX-3", &csr("K7", 2007));

    let head = vault.seal();
    let unknown = (head.0 + 1, head.1, head.2);
    for (number, head) in [(1, unknown), (2, head), (2, unknown), (1, head)] {
        import(vault, reanchor_content(&reanchor(number, head)));
    }
    vault.write(Body::Trust(Trust {
        version: 3,
        fingerprint: Fingerprint::of(b"trust 3"),
        dispatch_epoch: EPOCH + 1,
    }));
    let mut old = dispatch(1, Verdict::Authentic(reanchor_content(&reanchor(2, head))));
    let _ = vault.dispatch(old.clone());
    old.epoch = EPOCH + 1;
    let _ = vault.dispatch(old);
}

#[test]
fn the_rules_of_this_version_decide_as_they_did_when_it_was_released() {
    let golden = read(RULES_VERSION);
    assert!(golden.len() > 200);
    let now = history();
    for (at, (golden, now)) in golden.iter().zip(&now).enumerate() {
        assert_eq!(hex::encode(golden), hex::encode(now), "record {at}");
    }
    assert_eq!(golden.len(), now.len());
}

#[test]
fn a_log_of_every_released_version_replays_without_a_finding() {
    for version in 1..=RULES_VERSION {
        let records = read(version);
        let (replay, divergences) = replay(&records);
        assert_eq!(divergences, []);
        assert_eq!(replay.state().rules_version(), version);
    }
}

#[test]
fn the_golden_log_comes_by_many_rules() {
    let mut codes = std::collections::BTreeSet::new();
    for raw in history() {
        let body = Entry::from_cbor(&raw).unwrap().body;
        codes.insert(body.code().unwrap_or(body.kind()).to_owned());
    }
    let rules = [
        "NOT-ENROLLED",
        "CSR-MALFORMED",
        "PRODUCT-NOT-ENTITLED",
        "DEVICE-ID-MISSING",
        "existing",
        "DEVICE-KEY-CHANGED",
        "KEY-REUSED",
        "CLOCK-BACK",
        "WINDOW-NOT-OPEN",
        "WINDOW-CLOSED",
        "STATION-NOT-ALLOWED",
        "KEY-ALGORITHM-FORBIDDEN",
        "DEVICE-ID-FORBIDDEN",
        "OUT-OF-HOURS",
        "QUOTA-EXHAUSTED",
        "RATE-DAY",
        "RATE-HOUR",
        "CREDIT-UNITS-EXHAUSTED",
        "CREDIT-DAYS-EXHAUSTED",
        "reserved",
        "GRANT-MISMATCH",
        "ENTITLEMENT-BELOW-SPENT",
        "ACK-UNKNOWN-BUNDLE",
        "dispatch-accepted",
        "VAULT-DISABLED",
        "DEVICE-CA-REVOKED",
        "ENTITLEMENT-REVOKED",
        "KEY-NOT-RECEIVED",
        "KEY-EXPIRED",
        "KEY-USES-EXHAUSTED",
        "KEY-DEVICE-TAKEN",
        "GRANT-BEFORE-DISABLE",
        "ENTITLEMENT-KEY-CHANGED",
        "REVOCATION-NUMBER-TAKEN",
        "REVOCATION-UNKNOWN-TARGET",
        "CLOCK-CORRECTION-AHEAD",
        "CLOCK-CORRECTION-EXPIRED",
        "CLOCK-CORRECTION-NUMBER-TAKEN",
        "REANCHOR-UNKNOWN-BUNDLE",
        "REANCHOR-NUMBER-TAKEN",
        "DISPATCH-OUT-OF-ORDER",
        "rotation",
        "key",
    ];
    for rule in rules {
        assert!(codes.contains(rule), "{rule}");
    }
}

/// Run by hand, once for each new version of the rules.
#[test]
#[ignore = "writes the file that the others compare with"]
fn the_golden_log_of_a_new_version_is_written() {
    let mut bytes = Vec::new();
    for record in history() {
        bytes.extend_from_slice(&u32::try_from(record.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&record);
    }
    let mut options = std::fs::OpenOptions::new();
    // What was released is never written again.
    let mut file = options
        .write(true)
        .create_new(true)
        .open(path(RULES_VERSION))
        .unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
}
