//! Pruning: what a log adds up to stays, what only fills it goes, and nothing goes that headquarters does not hold.

use std::fs;
use std::path::Path;

use mintmark_pki::CertificationRequest;
use mintmark_protocol::identifier::{Fingerprint, StationId};
use sha2::{Digest as _, Sha256};

use super::engine::{check, import, issue, open, records, reserve, vault};
use super::fixture::*;
use crate::decide::{Input, Submitted};
use crate::entry::{
    Body, DeviceAction, DeviceOrder, LogSequence, Pruned, PrunedRecords, Request, Submission,
    Verdict,
};
use crate::ledger::{Fact, Ledger, Outcome, View};
use crate::replay::Severity;
use crate::serial::serial_of;

const DAY: u64 = 86_400;
/// A day on which records of [`NEW_YEAR`] may go, and the clock is still believed.
const LATER: u64 = NEW_YEAR + 8 * DAY;

/// Amends the entitlement of every vault here: records may go after so many days.
fn retain(ledger: &mut Ledger, days: Option<u64>) {
    let mut terms = entitlement(
        "both",
        vec![product(1, "TH-200", 50), product(2, "TH-300", 50)],
    );
    let granted = &ledger.state().entitlements()[&terms.id];
    terms.version = granted.version + 1;
    terms.amends = Some(granted.fingerprint);
    terms.retention_days = days;
    let content = Verdict::Authentic(entitlement_content(&terms));
    assert!(matches!(import(ledger, content), Outcome::Accepted));
    ledger.commit().unwrap();
}

/// Asks, that much later.
fn submit(ledger: &mut Ledger, product: &str, csr: &CertificationRequest) -> Outcome {
    let (product, station) = (sku(product), StationId::console());
    let input = Input::Request {
        product: &product,
        station: &station,
        submission: Submitted::Verified(csr),
    };
    ledger.submit(Some(&serials()), LATER, input).unwrap()
}

/// Everything so far is reported and acknowledged.
fn report(ledger: &mut Ledger) -> u64 {
    let (sequence, log_size) = (ledger.state().bundles().sequence + 1, ledger.size());
    let fingerprint = Fingerprint::of(&sequence.to_be_bytes());
    let sealed = Fact::BundleSealed {
        sequence,
        fingerprint,
        log_size,
    };
    ledger.record(NEW_YEAR, sealed).unwrap();
    ledger.commit().unwrap();
    let content = acknowledgement_content(&acknowledgement(sequence, fingerprint, log_size));
    let outcome = import(ledger, Verdict::Authentic(content));
    assert!(matches!(outcome, Outcome::Accepted), "{outcome:?}");
    ledger.commit().unwrap();
    log_size
}

fn bytes_of(folder: &Path) -> u64 {
    let files = fs::read_dir(folder.join("log")).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn what_a_pruned_log_adds_up_to_is_the_same_and_it_goes_on() {
    let (_folder, path, mut ledger) = vault();
    retain(&mut ledger, Some(7));
    for number in 0..8 {
        issue(&mut ledger, "TH-200", &csr(&format!("A{number}"), number));
    }
    // One is reserved and not signed: it stays whole, and is completed later.
    let open_unit = reserve(&mut ledger, "TH-300", &csr("B1", 101));
    ledger.commit().unwrap();
    let held = report(&mut ledger);
    let before = records(&ledger);
    let (root, size) = (ledger.state().root(), bytes_of(&path));
    check(&ledger);

    // Not yet.
    assert_eq!(ledger.prunable(LATER - 2 * DAY, held).unwrap(), None);
    let last_second = NEW_YEAR + 7 * DAY - 1;
    assert_eq!(ledger.prunable(last_second, held).unwrap(), None);
    let plan = ledger.prunable(last_second + 1, held).unwrap().unwrap();
    assert_eq!((plan.end, plan.newest), (held, NEW_YEAR));
    assert_eq!(
        ledger.prune(LATER, 0).unwrap(),
        None,
        "headquarters forgot all of it"
    );
    let plan = ledger.prunable(LATER, u64::MAX).unwrap().unwrap();
    assert_eq!((plan.first, plan.end), (0, held));
    let done = ledger.prune(LATER, u64::MAX).unwrap().unwrap();
    assert_eq!(done.end, held);
    assert!(
        bytes_of(&path) < size * 2 / 3,
        "{} of {size}",
        bytes_of(&path)
    );
    assert_eq!(ledger.prune(LATER, u64::MAX).unwrap(), None, "it was done");

    // What only fills it is gone: requests, certificates and signatures, but of the unit that is open.
    for entry in ledger.entries(LogSequence(0)).unwrap() {
        let (sequence, entry) = entry.unwrap();
        if sequence.number() >= held {
            break;
        }
        match entry.body {
            Body::Request(Request { submission, .. }) => match submission {
                Submission::Csr { .. } => panic!("record {sequence} holds a request"),
                Submission::Unreadable { .. } => {}
            },
            Body::Reserved(reserved) => {
                let whole = reserved.tbs.len() > 100;
                assert_eq!(whole, sequence == open_unit.sequence(), "{sequence}");
                assert!(serial_of(&reserved.tbs).is_some(), "{sequence}");
            }
            Body::Signed(signed) => assert_eq!(signed.signature, [0; 64], "{sequence}"),
            _ => {}
        }
    }

    // Headquarters, which holds all records, finds nothing, and comes to the same state.
    let mut all = before.clone();
    let new = ledger.reader(LogSequence(before.len() as u64)).unwrap();
    all.extend(new.map(|record| record.unwrap().whole().unwrap().to_vec()));
    let (replayed, divergences) = replay(&all);
    assert_eq!(divergences, []);
    assert_eq!(replayed.state(), ledger.state());
    assert_ne!(ledger.state().root(), root);

    // The unit that was open, another unit, a device that comes again.
    let finished = open_unit.sequence();
    let signature = sign(&authorities().device_ca_key, open_unit.tbs());
    ledger.signed(LATER, open_unit, signature).unwrap();
    ledger.commit().unwrap();
    assert!(ledger.certificate(finished).unwrap().is_some());
    let unit = submit(&mut ledger, "TH-200", &csr("A8", 8));
    assert!(matches!(unit, Outcome::Reserved(_)), "{unit:?}");
    let again = submit(&mut ledger, "TH-200", &csr("A3", 3));
    let Outcome::Existing { reservation } = again else {
        panic!("{again:?}");
    };
    assert_eq!(ledger.certificate(reservation).unwrap(), None);
    let device = ledger.device(Some(&sku("TH-200")), &"A3".parse().unwrap());
    let device = device.unwrap().pop().unwrap();
    assert!(device.pruned && device.certificate.is_none());
    let Body::Reserved(was) =
        &crate::entry::Entry::from_cbor(&before[usize::try_from(reservation.number()).unwrap()])
            .unwrap()
            .body
            .clone()
    else {
        panic!("a reservation");
    };
    assert_eq!(device.serial, serial_of(&was.tbs));
    // Nobody else gets its key or its name.
    for (name, number) in [("A3", 77), ("A9", 3)] {
        let outcome = submit(&mut ledger, "TH-200", &csr(name, number));
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let rework = DeviceOrder {
        action: DeviceAction::Rework,
        product: sku("TH-200"),
        device_id: "A3".parse().unwrap(),
        reason: "another board".to_owned(),
        station: StationId::console(),
    };
    let outcome = ledger.submit(None, LATER, Input::Device(&rework)).unwrap();
    assert!(!matches!(outcome, Outcome::Existing { .. }));
    ledger.commit().unwrap();
    let state = ledger.state().clone();
    ledger.close().unwrap();

    // Opened with everything, without the state that was kept, without the index, without both.
    for (snapshot, index) in [(true, true), (false, true), (true, false), (false, false)] {
        if !snapshot {
            fs::remove_file(path.join("state.snapshot")).unwrap();
        }
        if !index {
            fs::remove_dir_all(path.join("index")).unwrap();
        }
        let view = View::open(&path).unwrap();
        assert_eq!(*view.state(), state);
        view.verify(|| ()).unwrap();
        let found = view.device(None, &"A3".parse().unwrap()).unwrap();
        assert!(found.iter().any(|unit| unit.pruned));
        let (ledger, opened) = open(&path).unwrap();
        assert_eq!(opened.index_rebuilt.is_some(), !index);
        assert_eq!(*ledger.state(), state);
        let found = ledger.device(None, &"A3".parse().unwrap()).unwrap();
        assert!(found.iter().any(|unit| unit.pruned));
        ledger.close().unwrap();
    }
}

#[test]
fn nothing_is_pruned_that_is_not_acknowledged_or_that_an_entitlement_keeps() {
    let (_folder, _path, mut ledger) = vault();
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    let held = report(&mut ledger);
    assert_eq!(
        ledger.prune(LATER, u64::MAX).unwrap(),
        None,
        "no days are agreed on"
    );
    retain(&mut ledger, Some(7));
    let next = issue(&mut ledger, "TH-200", &csr("A2", 2));
    let pruned = ledger.prune(LATER, u64::MAX).unwrap().unwrap();
    assert!(pruned.end <= held && next.number() > held);
    // What was not acknowledged has its certificate, and the rest goes once it is.
    assert!(ledger.certificate(next).unwrap().is_some());
    let held = report(&mut ledger);
    let more = ledger.prune(LATER, u64::MAX).unwrap().unwrap();
    assert_eq!(more.first, pruned.end);
    assert!(more.end <= held && next.number() < more.end);
    assert!(ledger.certificate(next).unwrap().is_none());
    retain(&mut ledger, None);
    report(&mut ledger);
    assert_eq!(ledger.prune(LATER + 20 * DAY, u64::MAX).unwrap(), None);
}

#[test]
fn a_certificate_of_which_the_reservation_alone_is_pruned_is_pruned() {
    let (_folder, path, mut ledger) = vault();
    retain(&mut ledger, Some(7));
    let reservation = issue(&mut ledger, "TH-200", &csr("A1", 1));
    report(&mut ledger);
    let cut = reservation.number() + 1;
    assert_eq!(ledger.prune(LATER, cut).unwrap().unwrap().end, cut);
    let device = "A1".parse().unwrap();
    let by_index = ledger.device(None, &device).unwrap();
    ledger.close().unwrap();
    let by_log = View::open(&path).unwrap().device(None, &device).unwrap();
    for found in [by_index, by_log] {
        assert_eq!(found.len(), 1);
        assert!(found[0].pruned && found[0].signed.is_some(), "{found:?}");
        assert_eq!(found[0].certificate, None);
    }
}

#[test]
fn a_pruned_file_that_is_another_than_the_log_names_is_refused() {
    let (_folder, path, mut ledger) = vault();
    retain(&mut ledger, Some(7));
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    report(&mut ledger);
    ledger.prune(LATER, u64::MAX).unwrap().unwrap();
    ledger.close().unwrap();
    let pruned = path.join("log").join(format!("{:016x}.pruned", 0));
    let kept = fs::read(&pruned).unwrap();
    // The same records, with more room to unpack them: it can be read, and is not what was kept.
    let mut other = kept.clone();
    let header = 48 + 96;
    other[48 + 61] ^= 1;
    let digest = Sha256::digest(&other[..header]);
    other[header..header + 32].copy_from_slice(&digest);
    for (bytes, code) in [(other, Some("LOG-CORRUPT")), (kept, None)] {
        fs::write(&pruned, bytes).unwrap();
        let viewed = View::open(&path).err().map(|error| error.code());
        let opened = open(&path).err().map(|error| error.code());
        assert_eq!((viewed, opened), (code, code));
    }
}

#[test]
fn a_vault_that_prunes_what_it_may_not_is_found_out() {
    let mut vault = Chronicle::enrolled();
    let pruned = |end, newest| {
        let digest = Fingerprint::of(b"kept");
        let files = vec![PrunedRecords {
            first: 0,
            end,
            digest,
        }];
        Body::Pruned(Pruned { newest, files })
    };
    let mut terms = entitlement("both", vec![product(1, "TH-200", 50)]);
    terms.retention_days = Some(7);
    vault.entitle(&terms).unwrap();
    vault.report();
    let held = vault.state.bundles().acknowledged_log_size;
    // Whatever it says how old they are: the last of them was written at the new year.
    for (now, found) in [
        (NEW_YEAR + 7 * DAY - 1, &["PRUNE-MISMATCH"][..]),
        (NEW_YEAR + 7 * DAY, &[]),
    ] {
        let mut early = vault.clone();
        early.now = now;
        early.write(pruned(held, 1));
        let codes: Vec<_> = early.divergences().iter().map(|found| found.code).collect();
        assert_eq!(codes, found);
    }
    vault.now = LATER;
    vault.write(pruned(held, 1));
    assert_eq!(vault.divergences(), []);
    vault.write(pruned(held + 1, 1));
    vault.write(pruned(held, LATER));
    let found = vault.divergences();
    let codes: Vec<_> = found
        .iter()
        .map(|found| (found.code, found.severity))
        .collect();
    assert_eq!(codes, [("PRUNE-MISMATCH", Severity::Critical); 2]);
}

#[test]
fn what_is_noted_of_pruned_files_is_never_more_than_the_log_has_records() {
    let mut vault = Chronicle::enrolled();
    let mut terms = entitlement("both", vec![product(1, "TH-200", 50)]);
    terms.retention_days = Some(7);
    vault.entitle(&terms).unwrap();
    vault.report();
    let held = vault.state.bundles().acknowledged_log_size;
    vault.now = LATER;
    let file = |first, end, kept: &[u8]| PrunedRecords {
        first,
        end,
        digest: Fingerprint::of(kept),
    };
    let noted = |vault: &Chronicle| vault.state.pruned().copied().collect::<Vec<_>>();
    let pruned = |files| Body::Pruned(Pruned { newest: 1, files });
    vault.write(pruned(vec![file(0, 2, b"a"), file(2, held - 1, b"b")]));
    // It came to no end, and was done again, to another.
    let again = vec![file(0, 2, b"c"), file(2, held, b"d")];
    vault.write(pruned(again.clone()));
    assert_eq!(noted(&vault), again);
    assert_eq!(vault.divergences(), []);
    // Records that the log does not have.
    for round in 0..4 {
        let far = (1_u64 << 40) + round * 4096;
        let files = (0..1024).map(|n| file(far + n, far + n + 1, b"far"));
        vault.write(pruned(files.collect()));
    }
    vault.write(pruned(vec![file(u64::MAX - 1, u64::MAX, b"last")]));
    assert_eq!(noted(&vault), again);
    // What overlaps takes the place of what it overlaps.
    let all = file(1, held, b"all");
    vault.write(pruned(vec![all]));
    assert_eq!(noted(&vault), [all]);
    let codes: Vec<_> = vault.divergences().iter().map(|found| found.code).collect();
    assert_eq!(codes, ["PRUNE-MISMATCH"; 5]);
}

#[test]
fn a_pruned_file_that_the_log_does_not_name_is_not_believed() {
    let (folder, path, mut ledger) = vault();
    retain(&mut ledger, Some(7));
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    report(&mut ledger);
    ledger.close().unwrap();
    // The same log, pruned twice over: the one knows nothing of what the other kept.
    let copy = folder.path().join("copy");
    copy_folder(&path, &copy);
    let prune = |path: &Path, more: bool| {
        let (mut ledger, _) = open(path).unwrap();
        if more {
            let _ = reserve(&mut ledger, "TH-200", &csr("A2", 2));
            ledger.commit().unwrap();
            report(&mut ledger);
        }
        // Not so much later that the clock would not be believed.
        ledger
            .prune(NEW_YEAR + 20 * DAY, u64::MAX)
            .unwrap()
            .unwrap();
        ledger.close().unwrap();
    };
    prune(&path, false);
    prune(&copy, true);
    let file = |path: &Path| {
        let files = fs::read_dir(path.join("log")).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        files.find(|path| path.extension().is_some_and(|e| e == "pruned"))
    };
    let (ours, theirs) = (file(&path).unwrap(), file(&copy).unwrap());
    let kept = fs::read(&ours).unwrap();
    fs::copy(&theirs, &ours).unwrap();
    for without in [false, true] {
        if without {
            let _ = fs::remove_file(path.join("state.snapshot"));
        }
        let error = open(&path).err().unwrap();
        assert!(matches!(error.code(), "LOG-CORRUPT"), "{error}");
        assert!(View::open(&path).is_err());
    }
    fs::write(&ours, kept).unwrap();
    open(&path).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn the_newest_reservation_is_known_whatever_came_after_it_and_one_that_cannot_be_read_is_said() {
    let (_folder, path, mut ledger) = vault();
    assert_eq!(ledger.newest_reservation().unwrap(), None);
    retain(&mut ledger, Some(7));
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    let newest = issue(&mut ledger, "TH-200", &csr("A2", 2));
    let serial = |ledger: &Ledger| {
        let (at, reserved) = ledger.newest_reservation().unwrap().unwrap();
        assert_eq!((at, reserved.device_id.as_str()), (newest, "A2"));
        let serial = serials().serial(reserved.account, reserved.slot, reserved.issue);
        assert_eq!(serial_of(&reserved.tbs), Some(serial));
    };
    for number in 0..200 {
        let unknown = csr(&format!("B{number}"), 3);
        let outcome = submit(&mut ledger, "TH-900", &unknown);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    ledger.commit().unwrap();
    serial(&ledger);
    // From what is kept of the state, and from the log alone.
    for kept in [true, false] {
        ledger.close().unwrap();
        if !kept {
            fs::remove_file(path.join("state.snapshot")).unwrap();
        }
        ledger = open(&path).unwrap().0;
        serial(&ledger);
    }
    report(&mut ledger);
    ledger.prune(LATER, u64::MAX).unwrap().unwrap();
    serial(&ledger);

    let files = fs::read_dir(path.join("log")).unwrap();
    for file in files.map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|name| name == "pruned") {
            let mut bytes = fs::read(&file).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
    }
    assert!(ledger.newest_reservation().is_err());
}
