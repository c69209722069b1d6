//! What `site audit log` and `hq audit log` print of each kind of record.

use mintmark_protocol::identifier::{Fingerprint, Lineage};

use super::fixture::*;
use crate::entry::{
    Body, BundleSealed, Burned, BurnedSlots, ClockFound, CrlIssued, DeviceAction, DeviceChanged,
    DeviceOrder, Entry, LogSequence, Pruned, PrunedRecords, Refused, Request, Reserved, Restored,
    Signed, StationApproval, StationChange, StationOrder, StationTerms, Submission, Trust, Verdict,
};
use crate::row::Rows;
use crate::serial::{Serial, tbs_of};

/// The serial of what is reserved here.
const SERIAL: Serial = [0x4d; 17];
/// The serial that a caller knows of whatever was reserved before.
const KNOWN: Serial = [0x5e; 17];

/// The rows of these records, without their sequences, times and padding.
fn told(bodies: Vec<Body>) -> Vec<String> {
    let mut rows = Rows::new();
    let mut all = Vec::new();
    for (sequence, body) in (0..).zip(bodies) {
        let entry = Entry {
            time: NEW_YEAR,
            clock_behind_seconds: 0,
            body,
        };
        all.extend(rows.push(LogSequence(sequence), &entry, &|_| Some(KNOWN)));
    }
    assert_eq!(rows.finish(), None, "the last row is not complete");
    let words = |row: &crate::row::Row| {
        let line = row.to_string();
        let words: Vec<&str> = line.split_whitespace().skip(2).collect();
        words.join(" ")
    };
    all.iter().map(words).collect()
}

fn station(change: StationChange) -> Body {
    Body::Station(StationOrder {
        station: "line-1".parse().unwrap(),
        change,
    })
}

fn refused(code: &str) -> Body {
    Body::Refused(Refused {
        code: code.to_owned(),
        entitlement: None,
    })
}

fn clock(believed: bool) -> Body {
    Body::Clock(ClockFound {
        believed,
        expected: NEW_YEAR + 1,
        steady: None,
    })
}

fn slots(account: u64, first: u64, end: u64) -> BurnedSlots {
    BurnedSlots {
        account: tag(account),
        first,
        end,
    }
}

#[test]
fn what_a_vault_says_of_itself_is_a_row_each() {
    let fingerprint = Fingerprint::of(b"x");
    let next = Lineage::new([0x22; 16]);
    for (body, row) in [
        (Body::Genesis(genesis()), "genesis berlin/v1".to_owned()),
        (
            Body::Start(start(3)),
            "start boot 3 of site 0.1.0".to_owned(),
        ),
        (
            Body::Trust(Trust {
                version: 2,
                fingerprint,
                dispatch_epoch: EPOCH,
            }),
            "trust version 2".to_owned(),
        ),
        (
            Body::BundleSealed(BundleSealed {
                sequence: 7,
                fingerprint,
                log_size: 0,
                requests_unlogged: 0,
            }),
            "bundle-sealed bundle 7".to_owned(),
        ),
        (
            Body::Crl(CrlIssued {
                generation: 2,
                number: 5,
                sha256: fingerprint,
                this_update: NEW_YEAR,
                next_update: NEW_YEAR + DAY,
            }),
            "crl CRL 5 of device CA 2".to_owned(),
        ),
        (clock(true), "clock believed again".to_owned()),
        (
            clock(false),
            "clock not believed: expected 2027-01-01T00:00:01Z".to_owned(),
        ),
        (
            Body::Burned(Burned {
                anchor: 1,
                slots: vec![slots(1, 2, 5), slots(2, 0, 1)],
            }),
            "burned slots 2 to 4 of account 1, slots 0 to 0 of account 2".to_owned(),
        ),
        (
            Body::Restored(Restored {
                parent: lineage(),
                size: 0,
                root: fingerprint,
                lineage: next,
                held: 0,
                leases: Vec::new(),
            }),
            format!("restored lineage {next} after {}", lineage()),
        ),
        (
            Body::Pruned(Pruned {
                newest: NEW_YEAR,
                files: [(0, 4), (4, 9)]
                    .map(|(first, end)| PrunedRecords {
                        first,
                        end,
                        digest: fingerprint,
                    })
                    .to_vec(),
            }),
            "pruned records below 9".to_owned(),
        ),
        (
            Body::StationCa {
                certificate: Vec::new(),
            },
            "station-ca".to_owned(),
        ),
    ] {
        assert_eq!(told(vec![body]), [row]);
    }
}

#[test]
fn an_order_and_the_decision_on_it_are_one_row() {
    let mail = |code: &str| {
        let code = code.to_owned();
        Body::Dispatch(dispatch(3, Verdict::Rejected { code }))
    };
    let code = "CONTENT-UNKNOWN".to_owned();
    let approval = StationChange::Approve(Box::new(StationApproval {
        request: Vec::new(),
        certificate: Vec::new(),
        terms: StationTerms {
            products: None,
            units_per_day: None,
            until: NEW_YEAR + DAY,
            working_hours: None,
        },
    }));
    let reason = "it was stolen".to_owned();
    for (order, decision, row) in [
        (
            mail("X"),
            Body::DispatchAccepted,
            "dispatch accepted 1-3 entitlement x",
        ),
        (
            mail("X"),
            Body::DispatchRefused { code },
            "dispatch refused CONTENT-UNKNOWN 1-3 entitlement x",
        ),
        (
            Body::ClockConfirm { steady: None },
            Body::ClockConfirmed,
            "clock-confirm accepted",
        ),
        (
            Body::ClockConfirm { steady: None },
            refused("CLOCK-BELIEVED"),
            "clock-confirm refused CLOCK-BELIEVED",
        ),
        (
            station(approval),
            Body::StationChanged,
            "station-approve accepted line-1 until 2027-01-02T00:00:00Z",
        ),
        (
            station(StationChange::Revoke { reason }),
            refused("STATION-UNKNOWN"),
            "station-revoke refused STATION-UNKNOWN line-1 it was stolen",
        ),
    ] {
        assert_eq!(told(vec![order, decision]), [row]);
    }
}

#[test]
fn a_device_is_told_by_its_name_and_its_serial_from_the_request_to_its_end() {
    let asks = |station: &str| {
        Body::Request(Request {
            product: sku("TH-200"),
            station: station.parse().unwrap(),
            submission: Submission::Csr {
                der: csr("A1", 1).der().to_vec(),
            },
        })
    };
    let reserved = Body::Reserved(Reserved {
        entitlement: "five".parse().unwrap(),
        account: tag(1),
        slot: 0,
        issue: 0,
        device_id: "A1".parse().unwrap(),
        spki_sha256: Fingerprint::of(b"key"),
        tbs: tbs_of(&SERIAL),
        keys: Vec::new(),
    });
    let signed = Body::Signed(Signed {
        reservation: LogSequence(3),
        signature: [1; 64],
    });
    let existing = |reservation| Body::Existing {
        reservation: LogSequence(reservation),
    };
    let scrap = |station: &str| {
        Body::Device(DeviceOrder {
            action: DeviceAction::Scrap,
            product: sku("TH-200"),
            device_id: "A1".parse().unwrap(),
            reason: "it fell".to_owned(),
            station: station.parse().unwrap(),
        })
    };
    let scrapped = |reservation| {
        Body::DeviceChanged(DeviceChanged {
            reservation: LogSequence(reservation),
            account: tag(1),
            slot: 0,
            issue: 0,
        })
    };
    let (own, known) = (hex::encode(SERIAL), hex::encode(KNOWN));
    assert_eq!(
        told(vec![
            asks("line-1"),
            refused("QUOTA-EXHAUSTED"),
            asks("console"),
            reserved,
            signed,
            asks("console"),
            existing(3),
            scrap("console"),
            scrapped(3),
            // What was reserved before the first record here.
            asks("line-1"),
            existing(1),
            scrap("line-1"),
            scrapped(1),
        ]),
        [
            "request refused QUOTA-EXHAUSTED TH-200 A1 line-1".to_owned(),
            format!("request issued TH-200 A1 {own}"),
            format!("signed TH-200 A1 {own} record 3"),
            format!("request existing TH-200 A1 {own} record 3"),
            format!("scrap accepted TH-200 A1 {own} it fell"),
            format!("request existing TH-200 A1 {known} line-1 record 1"),
            format!("scrap accepted TH-200 A1 {known} line-1 it fell"),
        ]
    );
}
