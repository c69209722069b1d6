//! The engine over real files: what it does not write because nobody could read it or because it cannot be so, and what is
//! known of a log from outside.

use mintmark_protocol::identifier::{Fingerprint, StationId};

use super::engine::{check, complete, reserve, vault};
use super::fixture::*;
use crate::decide::Input;
use crate::entry::{
    BURNED_MAX, Burned, BurnedSlots, CrlIssued, DeviceAction, DeviceOrder, LogSequence,
    TEXT_BYTES_MAX, Verdict,
};
use crate::ledger::{Fact, Floor, Ledger, View};

fn refused(ledger: &mut Ledger, fact: Fact) -> String {
    let size = ledger.size();
    let error = ledger.record(NEW_YEAR, fact).unwrap_err();
    assert_eq!(error.code(), "LEDGER-INPUT");
    assert_eq!(ledger.size(), size);
    assert!(!ledger.has_staged(), "{error}");
    error.to_string()
}

#[test]
fn what_cannot_have_happened_is_not_recorded() {
    let (_folder, _path, mut ledger) = vault();
    let crl = CrlIssued {
        generation: 1,
        number: 1,
        sha256: Fingerprint::of(b"crl"),
        this_update: NEW_YEAR,
        next_update: NEW_YEAR + 30 * DAY,
    };
    for wrong in [
        CrlIssued {
            generation: 2,
            ..crl
        },
        CrlIssued { number: 0, ..crl },
        CrlIssued { number: 2, ..crl },
        CrlIssued {
            this_update: NEW_YEAR + 1,
            ..crl
        },
        CrlIssued {
            next_update: NEW_YEAR,
            ..crl
        },
    ] {
        refused(&mut ledger, Fact::Crl(wrong));
    }
    let slots = |number: u64| BurnedSlots {
        account: tag(number),
        first: 0,
        end: 1,
    };
    let burned = |slots| Fact::Burned(Burned { anchor: 1, slots });
    let why = refused(&mut ledger, burned(vec![slots(7)]));
    assert!(why.ends_with("there is no account 7"), "{why}");
    // So many accounts no record names, whether there are such or not.
    let many = |count: u64| burned((1..=count).map(slots).collect());
    let why = refused(&mut ledger, many(BURNED_MAX as u64 + 1));
    assert!(
        why.ends_with("slots of too many accounts are burned at once"),
        "{why}"
    );
    let why = refused(&mut ledger, many(BURNED_MAX as u64));
    assert!(!why.contains("too many"), "{why}");
    let certificate = b"no certificate".to_vec();
    refused(&mut ledger, Fact::StationCa { certificate });
    ledger.record(NEW_YEAR, Fact::Crl(crl)).unwrap();
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn a_text_is_written_up_to_its_ceiling_and_only_if_it_can_be_printed() {
    let (_folder, _path, mut ledger) = vault();
    let mut submit = |kind: String, id: String| {
        let next = ledger.state().dispatches().sequence + 1;
        let code = "CONTENT-UNKNOWN".to_owned();
        let mut dispatch = dispatch(next, Verdict::Rejected { code });
        (dispatch.kind, dispatch.id) = (kind, id);
        let outcome = ledger.submit(None, NEW_YEAR, Input::Dispatch(&dispatch));
        outcome.map(drop).map_err(|error| error.code())
    };
    let text = |bytes| "x".repeat(bytes);
    let (longest, longer) = (text(TEXT_BYTES_MAX), text(TEXT_BYTES_MAX + 1));
    assert_eq!(submit(longer.clone(), text(1)), Err("LEDGER-INPUT"));
    assert_eq!(submit(text(1), longer), Err("LEDGER-INPUT"));
    assert_eq!(submit("a\u{7}b".to_owned(), text(1)), Err("LEDGER-INPUT"));
    assert_eq!(submit(longest.clone(), longest), Ok(()));
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn a_reason_is_some_plain_text() {
    let (_folder, _path, mut ledger) = vault();
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.commit().unwrap();
    complete(&mut ledger, reservation);
    ledger.commit().unwrap();
    let mut scrap = |reason: &str| {
        let order = DeviceOrder {
            action: DeviceAction::Scrap,
            product: sku("TH-200"),
            device_id: "A1".parse().unwrap(),
            reason: reason.to_owned(),
            station: StationId::console(),
        };
        let outcome = ledger.submit(None, NEW_YEAR, Input::Device(&order));
        outcome.map(drop).map_err(|error| error.code())
    };
    assert_eq!(scrap(""), Err("LEDGER-INPUT"));
    assert_eq!(scrap("two\nlines"), Err("LEDGER-INPUT"));
    assert_eq!(scrap(&"x".repeat(201)), Err("LEDGER-INPUT"));
    assert_eq!(scrap(&"x".repeat(200)), Ok(()));
}

#[test]
fn a_log_is_compared_with_what_somebody_else_knows_of_it() {
    let (_folder, path, mut ledger) = vault();
    let half = ledger.floor();
    let reservation = reserve(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.commit().unwrap();
    complete(&mut ledger, reservation);
    ledger.commit().unwrap();
    let whole = ledger.floor();
    assert!(half.size < whole.size);
    for from in [0, 1, half.size, whole.size - 1, whole.size, whole.size + 1] {
        ledger.verify_from(LogSequence(from)).unwrap();
    }
    ledger.close().unwrap();

    let view = View::open(&path).unwrap();
    let knows = |size: u64, link: [u8; 32]| {
        let floor = Floor { size, link };
        view.expect_floor(floor).map_err(|error| error.code())
    };
    assert_eq!(knows(0, [0; 32]), Ok(()));
    assert_eq!(knows(0, [1; 32]), Err("LOG-FORKED"));
    for head in [half, whole] {
        assert_eq!(knows(head.size, head.link), Ok(()));
        assert_eq!(knows(head.size, [1; 32]), Err("LOG-FORKED"));
    }
    assert_eq!(knows(whole.size + 1, whole.link), Err("LOG-ROLLED-BACK"));
    assert_eq!(view.index_complaint().unwrap(), None);
    let mut read = 0;
    view.verify(|| read += 1).unwrap();
    assert_eq!(read, whole.size);
}
