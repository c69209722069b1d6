//! A log that goes on in another lineage: what of it the state keeps, what HQ makes of one that does so wrongly, and the
//! records that come back.

use std::fs;
use std::path::Path;

use mintmark_protocol::entitlement::UNITS_MAX;
use mintmark_protocol::identifier::{Fingerprint, Lineage};

use super::engine::{check, issue, open, records, vault};
use super::fixture::*;
use crate::decide::Input;
use crate::entry::{Body, Burned, BurnedSlots, Entry, LogSequence, Restored, Trust, Verdict};
use crate::error::Error;
use crate::index::MemoryIndex;
use crate::ledger::{Fact, Ledger, Tail};
use crate::log::{Fault, FaultyLog, GROUP_RECORDS_MAX, MemoryLog};

const ANOTHER: Lineage = Lineage::new([0x99; 16]);

fn slots(account: u64, first: u64, end: u64) -> BurnedSlots {
    BurnedSlots {
        account: tag(account),
        first,
        end,
    }
}

fn restored(vault: &Chronicle, leases: &[(u64, u64)]) -> Restored {
    let state = &vault.state;
    Restored {
        parent: state.lineage().unwrap(),
        size: state.size(),
        root: state.root(),
        lineage: ANOTHER,
        held: state.size() - 1,
        leases: leases
            .iter()
            .map(|(account, end)| (tag(*account), *end))
            .collect(),
    }
}

fn codes(vault: &Chronicle) -> Vec<&'static str> {
    vault.findings().into_iter().map(|(_, code)| code).collect()
}

/// A vault that may make ten, made one, and reported it.
fn reported() -> Chronicle {
    let mut vault = Chronicle::entitled(&[entitlement("ten", vec![product(1, "TH-200", 10)])]);
    vault.issue("TH-200", &csr("A1", 1));
    vault.report();
    vault
}

fn burn(vault: &mut Chronicle, slots: Vec<BurnedSlots>) {
    let anchor = vault.state.anchor();
    vault.write(Body::Burned(Burned { anchor, slots }));
}

#[test]
fn what_was_leased_is_skipped_exactly_before_anything_is_answered() {
    let mut vault = reported();
    let restored = restored(&vault, &[(1, 4)]);
    let (parent, held) = (restored.parent, restored.held);
    vault.write(Body::Restored(restored));
    assert_eq!(vault.state.lineage(), Some(ANOTHER));
    assert_eq!(vault.state.parent(), Some(parent));
    let chain = vault.state.bundles();
    assert_eq!(
        (chain.sequence, chain.log_size, chain.acknowledged),
        (0, held, 0)
    );
    assert_eq!(chain.acknowledged_log_size, held);
    assert_eq!(vault.state.in_doubt(), [slots(1, 1, 4)]);
    let mut early = vault.clone();
    early.issue("TH-200", &csr("A2", 2));
    assert_eq!(codes(&early), ["UNANCHORED"]);
    for wrong in [slots(1, 1, 3), slots(1, 1, 5), slots(1, 2, 4)] {
        let mut vault = vault.clone();
        burn(&mut vault, vec![wrong]);
        assert_eq!(codes(&vault), ["BURN-MISMATCH"], "{wrong:?}");
    }
    burn(&mut vault, vec![slots(1, 1, 4)]);
    assert!(vault.state.in_doubt().is_empty());
    let Body::Reserved(reserved) = vault.request("TH-200", &csr("A2", 2)) else {
        panic!("there are units left");
    };
    assert_eq!(reserved.slot, 4);
    let account = vault.state.account(tag(1)).unwrap();
    assert_eq!((account.burned, account.unresolved), (3, 4));
    let (sequence, fingerprint, size) = vault.seal();
    assert_eq!(sequence, 1);
    let mut receipt = acknowledgement(sequence, fingerprint, size);
    receipt.lineage = ANOTHER;
    let content = Verdict::Authentic(acknowledgement_content(&receipt));
    assert_eq!(vault.import(content), Ok(()));
    assert_eq!(vault.state.bundles().acknowledged, 1);
    assert_eq!(codes(&vault), [""; 0]);
}

#[test]
fn an_account_that_comes_back_later_and_one_that_grows_are_skipped_then() {
    let mut vault = reported();
    let restored = restored(&vault, &[(1, 12), (2, 3)]);
    vault.write(Body::Restored(restored));
    // No more than what is authorised.
    assert_eq!(vault.state.in_doubt(), [slots(1, 1, 10)]);
    burn(&mut vault, vec![slots(1, 1, 10)]);
    let more = entitlement("six", vec![product(2, "TH-300", 6)]);
    assert_eq!(vault.entitle(&more), Ok(()));
    assert_eq!(vault.state.in_doubt(), [slots(2, 0, 3)]);
    burn(&mut vault, vec![slots(2, 0, 3)]);
    let mut amended = entitlement("ten", vec![product(1, "TH-200", 20)]);
    amended.version = 2;
    assert_eq!(vault.entitle(&amended), Ok(()));
    assert_eq!(vault.state.in_doubt(), [slots(1, 10, 12)]);
    burn(&mut vault, vec![slots(1, 10, 12)]);
    assert_eq!(codes(&vault), [""; 0]);
}

#[test]
fn a_restore_that_names_another_place_is_a_finding() {
    let vault = reported();
    let right = restored(&vault, &[]);
    for wrong in [
        Restored {
            parent: ANOTHER,
            lineage: Lineage::new([1; 16]),
            ..right.clone()
        },
        Restored {
            size: right.size - 1,
            ..right.clone()
        },
        Restored {
            root: Fingerprint::of(b"another"),
            ..right.clone()
        },
        Restored {
            lineage: right.parent,
            ..right.clone()
        },
        Restored {
            held: right.size + 1,
            ..right.clone()
        },
    ] {
        let mut vault = vault.clone();
        vault.write(Body::Restored(wrong.clone()));
        assert_eq!(codes(&vault), ["RESTORE-MISMATCH"], "{wrong:?}");
    }
}

#[test]
fn a_receipt_from_before_the_restore_says_nothing_new() {
    let mut vault = Chronicle::entitled(&[entitlement("ten", vec![product(1, "TH-200", 10)])]);
    vault.issue("TH-200", &csr("A1", 1));
    let (sequence, fingerprint, size) = vault.seal();
    let mut restored = restored(&vault, &[]);
    restored.held = size;
    vault.write(Body::Restored(restored));
    let before = vault.state.bundles().clone();
    let receipt = acknowledgement(sequence, fingerprint, size);
    let content = Verdict::Authentic(acknowledgement_content(&receipt));
    assert_eq!(vault.import(content), Ok(()));
    assert_eq!(*vault.state.bundles(), before);
    assert_eq!(codes(&vault), [""; 0]);
}

#[test]
fn no_slots_are_skipped_beyond_those_that_an_account_can_have() {
    let entry = |end| Entry {
        time: NEW_YEAR,
        clock_behind_seconds: 0,
        body: Body::Burned(Burned {
            anchor: 1,
            slots: vec![slots(1, 1, end)],
        }),
    };
    let last = entry(UNITS_MAX);
    assert_eq!(Entry::from_cbor(&last.to_cbor()).unwrap(), last);
    for end in [UNITS_MAX + 1, u64::MAX] {
        assert!(Entry::from_cbor(&entry(end).to_cbor()).is_err(), "{end}");
    }
}

#[test]
fn what_a_restore_says_survives_its_encoding_in_one_form_alone() {
    let vault = reported();
    let right = restored(&vault, &[(1, 4), (3, 9)]);
    let entry = |restored| Entry {
        time: NEW_YEAR,
        clock_behind_seconds: 0,
        body: Body::Restored(restored),
    };
    let bytes = entry(right.clone()).to_cbor();
    assert_eq!(Entry::from_cbor(&bytes).unwrap(), entry(right.clone()));
    for leases in [
        vec![(tag(3), 9), (tag(1), 4)],
        vec![(tag(1), 4), (tag(1), 5)],
    ] {
        let wrong = entry(Restored {
            leases,
            ..right.clone()
        })
        .to_cbor();
        assert!(Entry::from_cbor(&wrong).is_err());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A ledger that was put back, and what the newest one holds beyond it.
fn put_back() -> (tempfile::TempDir, Ledger, Tail) {
    let (folder, path, mut ledger) = vault();
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.close().unwrap();
    let old = folder.path().join("old");
    copy(&path, &old);
    let (mut ledger, _) = open(&path).unwrap();
    for number in 2..5 {
        issue(&mut ledger, "TH-200", &csr(&format!("A{number}"), number));
    }
    let (old, _) = open(&old).unwrap();
    let first = old.size();
    let tail = Tail {
        first,
        records: records(&ledger).split_off(usize::try_from(first).unwrap()),
        root: ledger.state().root(),
    };
    (folder, old, tail)
}

#[test]
fn records_that_come_back_are_as_if_they_had_never_been_away() {
    let (_folder, mut ledger, tail) = put_back();
    // A part of them came before, and the rest was cut off.
    let pairs = tail.records.len() - 1;
    for cut in [1, pairs] {
        let mut part = tail.clone();
        part.records.truncate(cut);
        let mut tree = crate::merkle::Frontier::new();
        for record in records(&ledger).iter().chain(&part.records) {
            tree.append(crate::merkle::leaf_hash(record));
        }
        part.root = Fingerprint::new(tree.root());
        if cut == 1 {
            ledger.adopt_tail(&part).unwrap();
        }
    }
    ledger.adopt_tail(&tail).unwrap();
    ledger.adopt_tail(&tail).unwrap();
    assert_eq!(ledger.size(), tail.size());
    assert_eq!(ledger.state().root(), tail.root);
    check(&ledger);
    // The index knows them, too.
    assert!(ledger.unfinished().is_empty());
    let known = crate::tests::engine::submit(&mut ledger, "TH-200", &csr("A4", 4));
    assert!(
        matches!(known, crate::ledger::Outcome::Existing { .. }),
        "{known:?}"
    );
    ledger.commit().unwrap();
    let size = ledger.size();
    let fact = Fact::Restored {
        lineage: ANOTHER,
        held: size,
        leases: vec![(tag(1), 6)],
    };
    ledger.record(NEW_YEAR, fact).unwrap();
    let slots = ledger.state().in_doubt();
    let anchor = ledger.state().anchor();
    ledger
        .record(NEW_YEAR, Fact::Burned(Burned { anchor, slots }))
        .unwrap();
    ledger.commit().unwrap();
    issue(&mut ledger, "TH-200", &csr("A9", 9));
    check(&ledger);
}

#[test]
fn records_that_are_not_those_of_this_log_change_nothing() {
    let (_folder, mut ledger, tail) = put_back();
    let before = records(&ledger);
    let flipped = |at: usize| {
        let mut tail = tail.clone();
        let last = tail.records[at].len() - 1;
        tail.records[at][last] ^= 1;
        tail
    };
    let mut shorter = tail.clone();
    shorter.records.pop();
    let mut empty = tail.clone();
    empty.records.clear();
    let wrong = [
        flipped(0),
        flipped(tail.records.len() - 1),
        shorter,
        empty,
        Tail {
            first: tail.first + 1,
            ..tail.clone()
        },
        Tail {
            first: tail.first - 1,
            ..tail.clone()
        },
        Tail {
            root: Fingerprint::of(b"another"),
            ..tail.clone()
        },
    ];
    for (at, wrong) in wrong.iter().enumerate() {
        let refused = ledger.adopt_tail(wrong);
        assert!(
            matches!(refused, Err(Error::Tail { .. })),
            "{at}: {refused:?}"
        );
        assert_eq!(records(&ledger), before, "{at}");
        assert_eq!(ledger.state().size(), before.len() as u64, "{at}");
    }
    let refused = ledger.adopt_tail(&wrong[6]).unwrap_err().to_string();
    let other = Fingerprint::of(b"another");
    let held = format!("and headquarters holds {other}");
    let size = format!("{} records of this log have the root", tail.size());
    assert!(
        refused.contains(&size) && refused.contains(&held),
        "{refused}"
    );
    // What HQ holds of a log that is longer is its beginning, or it is another one.
    let held = before.len() - 2;
    let mut tree = crate::merkle::Frontier::new();
    for record in &before[..held] {
        tree.append(crate::merkle::leaf_hash(record));
    }
    let prefix = |root| Tail {
        first: held as u64,
        records: Vec::new(),
        root,
    };
    ledger
        .adopt_tail(&prefix(Fingerprint::new(tree.root())))
        .unwrap();
    assert!(
        ledger
            .adopt_tail(&prefix(Fingerprint::of(b"another")))
            .is_err()
    );
    assert_eq!(records(&ledger), before);
    assert_eq!(
        ledger.entries(LogSequence(0)).unwrap().count(),
        before.len()
    );
}

#[test]
fn a_long_tail_comes_back_in_groups_that_part_no_input_from_its_decision() {
    let over = |log: FaultyLog<MemoryLog>| {
        let index = Box::new(MemoryIndex::new());
        Ledger::over(Box::new(log), index, genesis(), NEW_YEAR).unwrap()
    };
    let mut whole = over(FaultyLog::new(MemoryLog::new()));
    // The start, manifests, and an input where a group is full.
    let half = GROUP_RECORDS_MAX / 2;
    for version in 2..half as u64 {
        let trust = Trust {
            version,
            fingerprint: Fingerprint::of(b"manifest"),
            dispatch_epoch: 0,
        };
        whole.record(NEW_YEAR, Fact::Trust(trust)).unwrap();
    }
    let code = "CONTENT-UNKNOWN".to_owned();
    for sequence in 1..3 {
        let refused = dispatch(sequence, Verdict::Rejected { code: code.clone() });
        let outcome = whole.submit(None, NEW_YEAR, Input::Dispatch(&refused));
        let _ = outcome.unwrap();
    }
    whole.commit().unwrap();
    let records = records(&whole).split_off(1);
    assert!(matches!(
        Entry::from_cbor(&records[half - 1]).unwrap().body,
        Body::Dispatch(_)
    ));
    let tail = Tail {
        first: 1,
        records,
        root: whole.state().root(),
    };
    // The second group of it does not arrive.
    let mut log = FaultyLog::new(MemoryLog::new());
    log.fail_append(2, Fault::Before);
    let mut ledger = over(log);
    assert!(ledger.adopt_tail(&tail).is_err());
    assert_eq!(ledger.size(), 1 + half as u64 + 1);
    let mut ledger = over(FaultyLog::new(MemoryLog::new()));
    ledger.adopt_tail(&tail).unwrap();
    assert_eq!(ledger.state().root(), tail.root);
    assert_eq!(ledger.size(), tail.size());
}
