use cddl::validator::Validator as _;
use cddl::validator::cbor::{self, CBORValidator};
use cddl::validator::cbor_value::decode_cbor;
use mintmark_protocol::cbor::Map;
use mintmark_protocol::entitlement::{AccountTag, Interval, UNITS_MAX};
use mintmark_protocol::identifier::{Fingerprint, Lineage, StationId, VaultName};
use proptest::prelude::*;

use super::*;

fn digest(byte: u8) -> Fingerprint {
    Fingerprint::new([byte; 32])
}

fn vault() -> VaultName {
    VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

const STEADY: Steady = Steady {
    boot: [7; 16],
    seconds: 86_400,
};

/// One of each kind, and of each variant within.
fn each_body() -> Vec<Body> {
    let dispatch = |content| {
        Body::Dispatch(Dispatch {
            epoch: 1,
            sequence: 300,
            fingerprint: digest(3),
            kind: "entitlement".to_owned(),
            id: "th200-2027q1".to_owned(),
            version: 2,
            content,
        })
    };
    let request = |submission| {
        Body::Request(Request {
            product: "TH-200".parse().unwrap(),
            station: StationId::console(),
            submission,
        })
    };
    let key = |outcome| {
        Body::Key(KeyReceipt {
            entitlement: "th200-2027q1".parse().unwrap(),
            label: "service".parse().unwrap(),
            outcome,
        })
    };
    let station = |change| {
        Body::Station(StationOrder {
            station: "line-1".parse().unwrap(),
            change,
        })
    };
    let approve = |terms| {
        station(StationChange::Approve(Box::new(StationApproval {
            request: vec![0x30, 0x00],
            certificate: vec![0x30, 0x01, 0x00],
            terms,
        })))
    };
    let device = |station: StationId| {
        Body::Device(DeviceOrder {
            action: DeviceAction::Scrap,
            product: "TH-200".parse().unwrap(),
            device_id: "TH200-00000001".parse().unwrap(),
            reason: "it fell off the bench".to_owned(),
            station,
        })
    };
    vec![
        device(StationId::console()),
        device("line-1".parse().unwrap()),
        Body::StationCa {
            certificate: vec![0x30, 0x00],
        },
        Body::Pruned(Pruned {
            newest: 1_700_000_000,
            files: [(0, 9), (9, 12)]
                .map(|(first, end)| PrunedRecords {
                    first,
                    end,
                    digest: Fingerprint::of(b"what is kept"),
                })
                .to_vec(),
        }),
        approve(StationTerms {
            products: None,
            units_per_day: None,
            until: 1_800_000_000,
            working_hours: None,
        }),
        approve(StationTerms {
            products: Some(vec!["TH-200".parse().unwrap(), "TH-300".parse().unwrap()]),
            units_per_day: Some(0),
            until: 1_800_000_000,
            working_hours: Some(vec![
                Interval { from: 1, until: 2 },
                Interval { from: 2, until: 9 },
            ]),
        }),
        station(StationChange::Revoke {
            reason: "it was stolen".to_owned(),
        }),
        Body::StationChanged,
        Body::Genesis(Genesis {
            vault: vault(),
            lineage: Lineage::new([1; 16]),
            trust_version: 1,
            trust_fingerprint: digest(1),
            enrolment_fingerprint: digest(2),
            software: "site 0.1.0".to_owned(),
        }),
        Body::Start(Start {
            lineage: Lineage::new([1; 16]),
            boot: 70_000,
            rules_version: 1,
            software: String::new(),
            steady: None,
            anchor: None,
        }),
        Body::Trust(Trust {
            version: 2,
            fingerprint: digest(9),
            dispatch_epoch: 1,
        }),
        dispatch(Verdict::Rejected {
            code: "THRESHOLD-NOT-MET".to_owned(),
        }),
        dispatch(Verdict::Authentic(Content::Grant {
            fingerprint: digest(4),
            plaintext: vec![1, 2, 3],
            identity_certificate: vec![4],
            device_ca_certificate: vec![],
        })),
        dispatch(Verdict::Authentic(Content::Entitlement {
            fingerprint: digest(4),
            plaintext: vec![0; 1000],
        })),
        dispatch(Verdict::Authentic(Content::Acknowledgement {
            fingerprint: digest(4),
            plaintext: vec![7],
        })),
        dispatch(Verdict::Authentic(Content::Revocation {
            fingerprint: digest(4),
            plaintext: vec![8],
        })),
        dispatch(Verdict::Authentic(Content::ClockCorrection {
            fingerprint: digest(4),
            plaintext: vec![9],
        })),
        dispatch(Verdict::Authentic(Content::Reanchor {
            fingerprint: digest(4),
            plaintext: vec![10],
        })),
        request(Submission::Csr {
            der: vec![0x30, 0x00],
        }),
        request(Submission::Unreadable {
            sha256: digest(5),
            code: "CSR-MALFORMED".to_owned(),
        }),
        Body::Signed(Signed {
            reservation: LogSequence(8),
            signature: [6; 64],
        }),
        Body::BundleSealed(BundleSealed {
            sequence: 1,
            fingerprint: digest(7),
            log_size: 10,
            requests_unlogged: 0,
        }),
        Body::Rotation(Rotation {
            generation: 2,
            request_fingerprint: digest(7),
        }),
        key(KeyOutcome::Unwrapped),
        key(KeyOutcome::Imported),
        key(KeyOutcome::Refused {
            code: "KEY-CHECK-VALUE".to_owned(),
        }),
        Body::Start(Start {
            lineage: Lineage::new([1; 16]),
            boot: 2,
            rules_version: 1,
            software: "site 0.1.0".to_owned(),
            steady: Some(STEADY),
            anchor: Some(3),
        }),
        Body::Clock(ClockFound {
            believed: false,
            expected: 1_800_000_000,
            steady: Some(STEADY),
        }),
        Body::Clock(ClockFound {
            believed: true,
            expected: 0,
            steady: None,
        }),
        Body::ClockConfirm { steady: None },
        Body::ClockConfirm {
            steady: Some(STEADY),
        },
        Body::ClockConfirmed,
        Body::DispatchAccepted,
        Body::DispatchRefused {
            code: "GRANT-REPEATED".to_owned(),
        },
        Body::Reserved(Reserved {
            entitlement: "th200-2027q1".parse().unwrap(),
            account: AccountTag::new(1 << 40).unwrap(),
            slot: 5,
            issue: 65_535,
            device_id: "TH200-00000001".parse().unwrap(),
            spki_sha256: digest(8),
            tbs: vec![0x30, 0x01, 0x00],
            keys: Vec::new(),
        }),
        Body::Reserved(Reserved {
            entitlement: "th200-2027q1".parse().unwrap(),
            account: AccountTag::new(1).unwrap(),
            slot: 0,
            issue: 0,
            device_id: "TH200-00000001".parse().unwrap(),
            spki_sha256: digest(8),
            tbs: vec![0x30, 0x01, 0x00],
            keys: vec!["service".parse().unwrap(), "a".parse().unwrap()],
        }),
        Body::Existing {
            reservation: LogSequence(8),
        },
        Body::Refused(Refused {
            code: "RATE-DAY".to_owned(),
            entitlement: None,
        }),
        Body::Refused(Refused {
            code: "RATE-DAY".to_owned(),
            entitlement: Some("th200-2027q1".parse().unwrap()),
        }),
    ]
}

#[test]
fn every_kind_of_entry_survives_its_encoding() {
    for body in each_body() {
        for clock_behind_seconds in [0, 1, 299, -1, -86_400] {
            let entry = Entry {
                time: 1_800_000_000,
                clock_behind_seconds,
                body: body.clone(),
            };
            assert_eq!(Entry::from_cbor(&entry.to_cbor()).unwrap(), entry);
        }
    }
}

#[test]
fn every_kind_of_entry_matches_the_specification_of_records() {
    let formats = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/formats.cddl");
    // The first rule is the one that is matched. The specification takes its reader most of a second.
    let formats = format!(
        "root = log-record\n{}",
        std::fs::read_to_string(formats).unwrap()
    );
    let formats = cddl::cddl_from_str(&formats, true).unwrap();
    let behind = [0, 7, -86_400].into_iter().cycle();
    for (body, clock_behind_seconds) in each_body().into_iter().zip(behind) {
        let entry = Entry {
            time: 9,
            clock_behind_seconds,
            body,
        };
        let value = decode_cbor(&entry.to_cbor()).unwrap();
        let matched: cbor::Result<std::io::Error> =
            CBORValidator::new(&formats, value, None).validate();
        assert!(matched.is_ok(), "{:?}: {matched:?}", entry.body);
    }
}

#[test]
fn an_entry_has_one_encoding() {
    // Whatever one changed byte makes of an entry, if it still is one, it encodes to those very bytes.
    for body in each_body() {
        let bytes = Entry {
            time: 1_800_000_000,
            clock_behind_seconds: 2,
            body,
        }
        .to_cbor();
        for at in 0..bytes.len().min(300) {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                if let Ok(entry) = Entry::from_cbor(&changed) {
                    assert_eq!(entry.to_cbor(), changed);
                }
            }
        }
    }
}

fn refused(map: Map) -> String {
    Entry::from_cbor(&map.encode()).unwrap_err().to_string()
}

#[test]
fn an_entry_outside_the_specification_is_refused_with_the_reason() {
    let accepted = || Map::new().with(0, 16).with(1, 100);
    assert!(Entry::from_cbor(&accepted().encode()).is_ok());
    assert!(refused(accepted().with(2, 0)).contains("leaving it out"));
    assert!(refused(accepted().with(2, 101)).contains("before 1970"));
    assert!(refused(accepted().with(3, 1)).contains("unknown field"));
    assert!(refused(Map::new().with(0, 16)).contains("field 1: missing"));
    assert!(refused(Map::new().with(0, 15_000).with(1, 0)).contains("does not know"));
    let rotation = |generation: u64| {
        Map::new()
            .with(0, 8)
            .with(1, 0)
            .with(3, generation)
            .with(4, vec![0; 32])
    };
    assert!(Entry::from_cbor(&rotation(2).encode()).is_ok());
    assert!(refused(rotation(1)).contains("generation of 2"));
    assert!(refused(rotation(65_536)).contains("generation of 2"));
    let key = |outcome: &str| {
        Map::new()
            .with(0, 9)
            .with(1, 0)
            .with(3, "e")
            .with(4, "service")
            .with(5, outcome)
    };
    assert!(Entry::from_cbor(&key("imported").encode()).is_ok());
    assert!(refused(key("imported").with(6, "X")).contains("unknown field"));
    assert!(refused(key("refused")).contains("field 6: missing"));
    assert!(refused(key("lost")).contains("became of a key"));
    let keys = |labels: &[&str]| {
        let labels = labels.iter().map(|label| ciborium::Value::from(*label));
        Map::new()
            .with(0, 18)
            .with(1, 0)
            .with(3, "e")
            .with(4, 1)
            .with(5, 0)
            .with(6, 0)
            .with(7, "D")
            .with(8, vec![0; 32])
            .with(9, vec![0])
            .with_array(10, labels)
    };
    assert!(Entry::from_cbor(&keys(&["a", "b"]).encode()).is_ok());
    for labels in [&[][..], &["a", "a"], &["A"], &["a"; 17]] {
        assert!(refused(keys(labels)).contains("different key labels"));
    }
    let start = |code: &str| Map::new().with(0, 17).with(1, 0).with(3, code);
    assert!(refused(start("rate-day")).contains("code"));
    assert!(refused(start("")).contains("code"));
    assert!(refused(start(&"A".repeat(65))).contains("code"));
    let sixteen: Vec<String> = (0..17).map(|n| format!("k{n}")).collect();
    let sixteen: Vec<&str> = sixteen.iter().map(String::as_str).collect();
    assert!(Entry::from_cbor(&keys(&sixteen[..16]).encode()).is_ok());
    assert!(refused(keys(&sixteen)).contains("different key labels"));
    let crl = |generation: u64| {
        let crl = Map::new().with(0, 11).with(1, 0).with(3, generation);
        crl.with(4, 1).with(5, vec![0; 32]).with(6, 5).with(7, 9)
    };
    assert!(Entry::from_cbor(&crl(1).encode()).is_ok());
    for generation in [0, 65_536] {
        assert!(refused(crl(generation)).contains("generation of 1 to 65535"));
    }
    let trust = Map::new()
        .with(0, 3)
        .with(1, 0)
        .with(3, 1)
        .with(4, vec![0; 31]);
    assert!(refused(trust).contains("wrong length"));
    let too_large = Map::new()
        .with(0, 16)
        .with(1, 0)
        .with(9, vec![0; ENTRY_BYTES_MAX]);
    assert!(refused(too_large).contains("larger than"));
}

/// Whether a record that says this can be read.
fn reads(body: Body) -> bool {
    let entry = Entry {
        time: 100,
        clock_behind_seconds: 0,
        body,
    };
    match Entry::from_cbor(&entry.to_cbor()) {
        Ok(read) => read == entry,
        Err(_) => false,
    }
}

#[test]
fn slots_and_files_are_in_order_and_none_is_empty() {
    let last = UNITS_MAX;
    for (slots, good) in [
        (&[(1, 0, 1)][..], true),
        (&[(1, last - 1, last), (2, 0, 1)], true),
        (&[], false),
        (&[(1, 5, 5)], false),
        (&[(1, 6, 5)], false),
        (&[(1, 0, last + 1)], false),
        (&[(1, 0, 1), (1, 1, 2)], false),
        (&[(2, 0, 1), (1, 0, 1)], false),
    ] {
        let slots = slots.iter().map(|(number, first, end)| BurnedSlots {
            account: AccountTag::new(*number).unwrap(),
            first: *first,
            end: *end,
        });
        let slots: Vec<_> = slots.collect();
        let body = Body::Burned(Burned { anchor: 1, slots });
        assert_eq!(reads(body.clone()), good, "{body:?}");
    }
    for (files, good) in [
        (&[(0, 5), (5, 6)][..], true),
        (&[(0, 5), (7, 8)], true),
        (&[], false),
        (&[(5, 5)], false),
        (&[(6, 5)], false),
        (&[(0, 5), (4, 6)], false),
        (&[(4, 6), (0, 4)], false),
    ] {
        let files = files.iter().map(|(first, end)| PrunedRecords {
            first: *first,
            end: *end,
            digest: digest(1),
        });
        let files: Vec<_> = files.collect();
        let body = Body::Pruned(Pruned { newest: 1, files });
        assert_eq!(reads(body.clone()), good, "{body:?}");
    }
}

#[test]
fn a_text_is_short_and_has_no_control_characters() {
    for (software, good) in [
        (String::new(), true),
        ("x".repeat(TEXT_BYTES_MAX), true),
        ("x".repeat(TEXT_BYTES_MAX + 1), false),
        ("site\u{7}0.1.0".to_owned(), false),
    ] {
        let start = Body::Start(Start {
            lineage: Lineage::new([1; 16]),
            boot: 1,
            rules_version: 1,
            software: software.clone(),
            steady: None,
            anchor: None,
        });
        assert_eq!(reads(start), good, "{software}");
    }
}

proptest! {
    #[test]
    fn bytes_that_are_no_entry_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(entry) = Entry::from_cbor(&bytes) {
            prop_assert_eq!(entry.to_cbor(), bytes);
        }
    }
}
