//! The engine over real files: what it does not write because nobody could read it or because it cannot be so, and what is
//! known of a log from outside.

use mintmark_protocol::identifier::{Fingerprint, Lineage, StationId};

use super::engine::{check, complete, import, issue, open, reserve, vault};
use super::fixture::*;
use crate::decide::Input;
use crate::entry::{
    BURNED_MAX, Body, Burned, BurnedSlots, Content, CrlIssued, DeviceAction, DeviceOrder,
    ENTRY_BYTES_MAX, Entry, KeyOutcome, KeyReceipt, LogSequence, StationApproval, StationChange,
    StationOrder, StationTerms, TEXT_BYTES_MAX, Trust, Verdict,
};
use crate::index::MemoryIndex;
use crate::ledger::{Fact, Floor, Ledger, Outcome, View};
use crate::log::{FileLog, GROUP_RECORDS_MAX, MemoryLog};

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

#[test]
fn a_lineage_that_cannot_follow_and_a_station_nobody_certified_are_not_recorded() {
    let (_folder, _path, mut ledger) = vault();
    let restored = |leases: u64| Fact::Restored {
        lineage: Lineage::new([9; 16]),
        held: u64::MAX,
        leases: (1..=leases).map(|number| (tag(number), 1)).collect(),
    };
    let why = refused(&mut ledger, restored(BURNED_MAX as u64 + 1));
    assert!(
        why.ends_with("slots of too many accounts are in doubt"),
        "{why}"
    );
    let why = refused(&mut ledger, restored(BURNED_MAX as u64));
    assert!(!why.contains("too many"), "{why}");
    let order = StationOrder {
        station: "line-1".parse().unwrap(),
        change: StationChange::Approve(Box::new(StationApproval {
            request: csr("line-1", 7).der().to_vec(),
            certificate: b"no certificate".to_vec(),
            terms: StationTerms {
                products: None,
                units_per_day: None,
                until: NEW_YEAR + DAY,
                working_hours: None,
            },
        })),
    };
    let error = ledger
        .submit(None, NEW_YEAR, Input::Station(&order))
        .unwrap_err();
    assert_eq!(error.code(), "LEDGER-INPUT");
    assert!(!ledger.has_staged());
    check(&ledger);
}

#[test]
fn a_key_passes_through_memory_where_its_entitlement_says_so() {
    let (_folder, _path, mut ledger) = vault();
    let mut keyed = entitlement("keyed", vec![product(3, "TH-400", 5)]);
    keyed.keys = vec![device_key("service", None)];
    keyed.keys[0].memory_import = true;
    let content = Verdict::Authentic(entitlement_content(&keyed));
    assert!(matches!(import(&mut ledger, content), Outcome::Accepted));
    let receipt = KeyReceipt {
        entitlement: "keyed".parse().unwrap(),
        label: "service".parse().unwrap(),
        outcome: KeyOutcome::Imported,
    };
    ledger.record(NEW_YEAR, Fact::Key(receipt)).unwrap();
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn a_bundle_may_cover_what_the_one_before_it_covered_and_no_less() {
    let (_folder, _path, mut ledger) = vault();
    let size = ledger.size();
    let sealed = |sequence, log_size| Fact::BundleSealed {
        sequence,
        fingerprint: Fingerprint::of(b"bundle"),
        log_size,
    };
    ledger.record(NEW_YEAR, sealed(1, size)).unwrap();
    ledger.commit().unwrap();
    let error = ledger.record(NEW_YEAR, sealed(2, size - 1)).unwrap_err();
    assert_eq!(error.code(), "BUNDLE-SIZE");
    ledger.record(NEW_YEAR, sealed(2, size)).unwrap();
    ledger.commit().unwrap();
    check(&ledger);
}

#[test]
fn what_a_dispatch_brings_is_recorded_up_to_the_largest_record() {
    let (_folder, _path, mut ledger) = vault();
    let content = |plaintext| Content::Entitlement {
        fingerprint: Fingerprint::of(b"large"),
        plaintext,
    };
    let next = ledger.state().dispatches().sequence + 1;
    let record = |bytes: usize| {
        let content = Verdict::Authentic(content(vec![0; bytes]));
        let body = Body::Dispatch(dispatch(next, content));
        let (time, clock_behind_seconds) = (NEW_YEAR, 0);
        let entry = Entry {
            time,
            clock_behind_seconds,
            body,
        };
        entry.to_cbor().len()
    };
    let largest = ENTRY_BYTES_MAX - (record(70_000) - 70_000);
    assert_eq!(record(largest), ENTRY_BYTES_MAX);
    for (bytes, code) in [
        (largest + 1, "CONTENT-OVERSIZE"),
        (largest, "CONTENT-MALFORMED"),
    ] {
        match import(&mut ledger, Verdict::Authentic(content(vec![0; bytes]))) {
            Outcome::Refused(refusal) => assert_eq!(refusal.code(), code, "{bytes}"),
            other => panic!("{other:?}"),
        }
        ledger.forget_staged().unwrap();
    }
}

#[test]
fn a_ledger_is_made_where_there_is_none_and_what_a_crash_left_of_that_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let create = |path: &std::path::Path| {
        let made = Ledger::create(path, genesis(), NEW_YEAR);
        made.map(|ledger| ledger.size())
            .map_err(|error| (error.code(), error.to_string()))
    };
    // In a folder that is there.
    let path = folder.path().join("there");
    std::fs::create_dir(&path).unwrap();
    assert_eq!(create(&path), Ok(1));
    assert_eq!(create(&path).unwrap_err().0, "LOG-EXISTS");
    // A log without a record.
    let path = folder.path().join("begun");
    std::fs::create_dir(&path).unwrap();
    drop(FileLog::create(&path.join("log")).unwrap());
    assert_eq!(create(&path), Ok(1));
    // Nowhere.
    let path = folder.path().join("no").join("where");
    let (code, why) = create(&path).unwrap_err();
    assert_eq!(code, "STORAGE-IO");
    assert!(
        why.contains(&format!("create {}:", path.display())),
        "{why}"
    );
}

#[test]
fn a_state_of_another_log_is_not_believed_and_one_of_a_log_that_lost_records_is_kept() {
    let (_folder_a, path_a, mut a) = vault();
    let (_folder_b, path_b, mut b) = vault();
    let keys = |path: &std::path::Path| path.join("log").join("head");
    issue(&mut a, "TH-200", &csr("A1-whose-name-is-longer", 1));
    issue(&mut b, "TH-200", &csr("A2", 2));
    assert_eq!(a.size(), b.size());
    let state = a.state().clone();
    a.close().unwrap();
    b.close().unwrap();
    // As many records, others, and no more bytes of them.
    let own = std::fs::read(path_a.join("state.snapshot")).unwrap();
    std::fs::copy(path_b.join("state.snapshot"), path_a.join("state.snapshot")).unwrap();
    assert_eq!(*View::open(&path_a).unwrap().state(), state);
    let (a, _) = open(&path_a).unwrap();
    assert_eq!(*a.state(), state);
    a.close().unwrap();
    // Its own, beside a last group that was damaged, with whatever else knew of it gone.
    std::fs::write(path_a.join("state.snapshot"), own).unwrap();
    std::fs::remove_dir_all(path_a.join("index")).unwrap();
    std::fs::remove_file(keys(&path_a)).unwrap();
    let segment = std::fs::read_dir(path_a.join("log")).unwrap();
    let segment = segment
        .map(|file| file.unwrap().path())
        .find(|file| file.extension().is_some_and(|name| name == "log"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    // As if it had never been written whole.
    let end = bytes.len();
    bytes[end - 40..].fill(0xaa);
    std::fs::write(&segment, &bytes).unwrap();
    for code in [
        open(&path_a).err().map(|error| error.code()),
        View::open(&path_a).err().map(|error| error.code()),
    ] {
        assert_eq!(code, Some("LOG-CORRUPT"));
    }
    assert_eq!(
        std::fs::read(&segment).unwrap(),
        bytes,
        "nothing is cut off"
    );
}

#[test]
fn what_is_staged_is_committed_before_it_is_more_than_a_group_can_be() {
    let (log, index) = (MemoryLog::new(), MemoryIndex::new());
    let mut ledger = Ledger::over(Box::new(log), Box::new(index), genesis(), NEW_YEAR).unwrap();
    let trust = |version| {
        Fact::Trust(Trust {
            version,
            fingerprint: Fingerprint::of(b"manifest"),
            dispatch_epoch: 0,
        })
    };
    // The start is one of them.
    let half = GROUP_RECORDS_MAX / 2;
    for version in 2..half as u64 + 1 {
        ledger.record(NEW_YEAR, trust(version)).unwrap();
    }
    assert_eq!((ledger.staged(), ledger.size()), (half, 1));
    ledger.record(NEW_YEAR, trust(half as u64 + 1)).unwrap();
    assert_eq!((ledger.staged(), ledger.size()), (1, half as u64 + 1));
}

#[test]
fn the_state_is_kept_at_a_stop_and_after_so_many_records_only() {
    let (_folder, path, mut ledger) = vault();
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    assert!(!path.join("state.snapshot").exists());
    ledger.close().unwrap();
    assert!(path.join("state.snapshot").exists());
}

#[test]
fn a_log_that_is_changed_beneath_its_ledger_does_not_verify() {
    let (_folder, path, mut ledger) = vault();
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.verify_from(LogSequence(0)).unwrap();
    let segment = std::fs::read_dir(path.join("log")).unwrap();
    let segment = segment
        .map(|file| file.unwrap().path())
        .find(|file| file.extension().is_some_and(|name| name == "log"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let error = ledger.verify_from(LogSequence(0)).unwrap_err();
    assert_eq!(error.code(), "LOG-CORRUPT");
}

#[test]
fn whoever_reads_a_ledger_without_its_index_is_told_that_there_is_none() {
    let (_folder, path, ledger) = vault();
    ledger.close().unwrap();
    std::fs::remove_dir_all(path.join("index")).unwrap();
    let view = View::open(&path).unwrap();
    assert_eq!(view.index_complaint().unwrap(), Some("there is none"));
}

#[test]
fn what_stands_in_the_place_of_the_state_and_is_no_file_is_said() {
    let (_folder, path, ledger) = vault();
    ledger.close().unwrap();
    let snapshot = path.join("state.snapshot");
    std::fs::remove_file(&snapshot).unwrap();
    drop(View::open(&path).unwrap());
    std::fs::create_dir(&snapshot).unwrap();
    for code in [
        open(&path).err().map(|error| error.code()),
        View::open(&path).err().map(|error| error.code()),
    ] {
        assert_eq!(code, Some("STORAGE-IO"));
    }
}
