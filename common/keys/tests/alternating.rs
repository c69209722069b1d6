//! A value that changes and never goes back, whatever cuts a write.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cut;
mod softhsm;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cut::{Cut, Inner, LABEL, Memory, highest, valid, value};
use mintmark_keys::{Alternating, Class, Error, KeyStore, KeyUri, create, open};
use proptest::prelude::*;
use softhsm::never;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<u64> {
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.class()),
        ("DATA-CHANGED", Class::Integrity),
        "{error}"
    );
    assert!(error.hint().is_some());
    let Error::DataChanged { counter, .. } = error else {
        panic!("{error}");
    };
    counter
}

/// Writes version after version to `store`, each write cut at one moment further, until one write has no moment left to
/// be cut at. Gives the number of moments.
fn cut_everywhere(store: &dyn KeyStore) -> usize {
    let plain = Alternating::new(store, LABEL);
    plain.write(None, &value(1, 0), valid).unwrap();
    for moments in 0.. {
        let (old_counter, old) = plain.read(valid).unwrap().unwrap();
        let new = value(old_counter + 1, 0);
        // What an earlier write left lies about too.
        store.add_data(LABEL, &new[..20]).unwrap();
        let cut = Cut::new(Inner::Real(store));
        cut.fuse.set(moments);
        let outcome = Alternating::new(&cut, LABEL).write(Some(&old), &new, valid);
        let held = store.data(LABEL).unwrap();
        assert!(held.contains(&old) || held.contains(&new), "{moments}");
        let (counter, now) = plain.read(valid).unwrap().unwrap();
        assert!(counter >= old_counter, "{moments}");
        assert!(now == old || now == new, "{moments}");
        if outcome.is_ok() {
            assert_eq!(held, [new]);
            return moments;
        }
        // The same write again completes what was cut.
        plain.write(Some(&old), &new, valid).unwrap();
        assert_eq!(store.data(LABEL).unwrap(), [new]);
    }
    unreachable!()
}

fn folder(path: &std::path::Path) -> KeyUri {
    let pin = path.join("pin");
    fs::write(&pin, softhsm::PIN).unwrap();
    fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!(
        "file:{}?pin-source=file:{}",
        path.join("keys").display(),
        pin.display()
    )
    .parse()
    .unwrap()
}

#[test]
fn a_write_to_memory_that_is_cut_anywhere_loses_nothing() {
    for (leftovers, moments) in [(0, 100), (1, 100), (3, 100)] {
        let mut seen_complete = false;
        for moments in 0..moments {
            let old = value(7, 0);
            let new = value(8, 0);
            let mut objects = vec![old.clone()];
            objects.extend((0..leftovers).map(|count| value(8, 1)[..count + 3].to_vec()));
            let memory = Memory::holding(&objects);
            let cut = Cut::new(Inner::Memory(&memory));
            cut.fuse.set(moments);
            let outcome = Alternating::new(&cut, LABEL).write(Some(&old), &new, valid);
            memory.demand_progress();
            cut.fuse.set(usize::MAX);
            let again = Alternating::new(&cut, LABEL);
            let now = again.read(valid).unwrap().unwrap().1;
            assert!(now == old || now == new);
            if outcome.is_ok() {
                seen_complete = true;
                assert_eq!(memory.values(), [new]);
            } else {
                again.write(Some(&now), &new, valid).unwrap();
                assert_eq!(memory.values(), [new]);
                memory.demand_progress();
            }
        }
        assert!(seen_complete);
    }
}

#[test]
fn a_write_to_a_folder_that_is_cut_between_any_two_steps_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let store = create(&folder(place.path()), &never).unwrap();
    assert!(cut_everywhere(&*store) >= 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_in_memory_never_goes_back_through_any_series_of_cuts(
        cuts in prop::collection::vec((prop::option::of(0_usize..16), any::<u8>()), 1..40)
    ) {
        let memory = Memory::default();
        let mut known: Option<(u64, Vec<u8>)> = None;
        let mut acknowledged = None;
        for (moments, variant) in cuts {
            let cut = Cut::new(Inner::Memory(&memory));
            let anchor = Alternating::new(&cut, LABEL);
            // A new process reads; one that goes on has what it wrote.
            if known.is_none() {
                known = anchor.read(valid).unwrap();
                prop_assert!(known.as_ref().map(|(counter, _)| *counter) >= acknowledged);
            }
            let (counter, old) = match &known {
                Some((counter, old)) => (*counter, Some(old.as_slice())),
                None => (0, None),
            };
            let new = value(counter + 1, variant);
            cut.fuse.set(moments.unwrap_or(usize::MAX));
            match anchor.write(old, &new, valid) {
                Ok(()) => {
                    prop_assert_eq!(memory.values(), vec![new.clone()]);
                    acknowledged = Some(counter + 1);
                    known = Some((counter + 1, new));
                }
                Err(_) => {
                    prop_assert!(cut.fuse.is_blown());
                    known = None;
                }
            }
            prop_assert!(highest(&memory.values()) >= acknowledged);
            prop_assert!(memory.values().len() <= 2);
            memory.demand_progress();
        }
    }
}

#[test]
fn whoever_does_not_hold_the_current_value_is_refused_and_nothing_changes() {
    let current = value(5, 0);
    let others = [
        None,
        Some(value(4, 0)),
        Some(value(5, 1)),
        Some(value(6, 0)),
    ];
    for old in others {
        for counter in [5, 6, 100] {
            let memory = Memory::holding(std::slice::from_ref(&current));
            let cut = Cut::new(Inner::Memory(&memory));
            let written =
                Alternating::new(&cut, LABEL).write(old.as_deref(), &value(counter, 9), valid);
            assert_eq!(refused(written), Some(5));
            assert_eq!(memory.values(), std::slice::from_ref(&current));
        }
    }
    // The store was emptied, or another one stands in its place.
    let memory = Memory::default();
    let cut = Cut::new(Inner::Memory(&memory));
    let written = Alternating::new(&cut, LABEL).write(Some(&current), &value(6, 0), valid);
    assert_eq!(refused(written), None);
    assert!(memory.values().is_empty());
}

#[test]
fn a_counter_that_does_not_grow_and_a_value_that_is_not_valid_are_defects_of_the_caller() {
    let current = value(5, 0);
    let memory = Memory::holding(std::slice::from_ref(&current));
    let cut = Cut::new(Inner::Memory(&memory));
    let anchor = Alternating::new(&cut, LABEL);
    for new in [value(5, 1), value(4, 0), vec![1, 2, 3]] {
        let error = anchor.write(Some(&current), &new, valid).unwrap_err();
        assert_eq!(error.code(), "KEYS-INTERNAL");
        assert_eq!(memory.values(), std::slice::from_ref(&current));
    }
    // The same value again is a write that was cut and is completed.
    anchor.write(Some(&value(4, 0)), &current, valid).unwrap();
}

#[test]
fn two_writers_at_once_are_both_noticed_and_officers_can_end_it() {
    let old = value(5, 0);
    for rival in [6, 7] {
        // The rival's object comes between the comparison and the making.
        let memory = Memory::holding(std::slice::from_ref(&old));
        let cut = Cut::new(Inner::Memory(&memory));
        *cut.rival.lock().unwrap() = Some(value(rival, 1));
        let written = Alternating::new(&cut, LABEL).write(Some(&old), &value(6, 2), valid);
        assert_eq!(refused(written), Some(rival));
        assert_eq!(memory.values().len(), 3);
    }
    let memory = Memory::holding(&[old.clone(), value(6, 1), value(6, 2)]);
    let cut = Cut::new(Inner::Memory(&memory));
    let anchor = Alternating::new(&cut, LABEL);
    assert_eq!(refused(anchor.read(valid)), Some(6));
    assert_eq!(
        refused(anchor.write(Some(&old), &value(6, 2), valid)),
        Some(6)
    );
    assert_eq!(
        refused(anchor.write(Some(&value(6, 2)), &value(7, 0), valid)),
        Some(6)
    );
    assert_eq!(refused(anchor.replace(&value(6, 3), valid)), Some(6));
    assert_eq!(memory.values().len(), 3);
    anchor.replace(&value(7, 0), valid).unwrap();
    assert_eq!(memory.values(), [value(7, 0)]);
    assert_eq!(anchor.read(valid).unwrap(), Some((7, value(7, 0))));
}

#[test]
fn leftovers_alone_are_no_value_and_the_first_write_removes_them() {
    let memory = Memory::holding(&[value(9, 0)[..30].to_vec(), Vec::new()]);
    let cut = Cut::new(Inner::Memory(&memory));
    let anchor = Alternating::new(&cut, LABEL);
    assert_eq!(anchor.read(valid).unwrap(), None);
    anchor.write(None, &value(1, 0), valid).unwrap();
    assert_eq!(memory.values(), [value(1, 0)]);
}

/// The URI by which a process that is to be killed opens its store.
const VICTIM: &str = "MINTMARK_TEST_VICTIM";

/// Writes version after version for as long as it lives, and says which ones are written.
fn write_until_killed(uri: &str) -> ! {
    let store = open(&uri.parse().unwrap(), &never).unwrap();
    let anchor = Alternating::new(&*store, LABEL);
    let mut current = anchor.read(valid).unwrap();
    loop {
        let (counter, old) = match &current {
            Some((counter, old)) => (*counter, Some(old.as_slice())),
            None => (0, None),
        };
        let new = value(counter + 1, 0);
        anchor.write(old, &new, valid).unwrap();
        println!("\nwrote {}", counter + 1);
        current = Some((counter + 1, new));
    }
}

/// Kills a process that writes, again and again, and asserts that what it said to have written is there.
fn survives_kills(name: &str, uri: &KeyUri, rounds: u32) {
    let mut acknowledged = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(VICTIM, uri.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let counter = |line: &str| {
            line.strip_prefix("wrote ")
                .and_then(|text| text.parse().ok())
        };
        // It writes before it is killed, and is killed at one moment or another of a later write.
        while let Some(Ok(line)) = lines.next() {
            if let Some(counter) = counter(&line) {
                acknowledged = counter;
                break;
            }
        }
        std::thread::sleep(Duration::from_micros(u64::from(round) * 379));
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = counter(&line).unwrap_or(acknowledged);
        }
        child.wait().unwrap();
        let store = open(uri, &never).unwrap();
        let (is, _) = Alternating::new(&*store, LABEL)
            .read(valid)
            .unwrap()
            .unwrap();
        assert!(
            is == acknowledged || is == acknowledged + 1,
            "round {round}: {is} after {acknowledged}"
        );
    }
    assert!(acknowledged >= u64::from(rounds));
}

/// Kills a process that writes at each of these system calls, counted among those that `names` names.
fn survives_kills_at(name: &str, uri: &KeyUri, names: &str, calls: impl Iterator<Item = usize>) {
    let mut acknowledged = None;
    for call in calls {
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={names}"))
            .arg("-e")
            .arg(format!("inject={names}:signal=KILL:when={call}"))
            .arg(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(VICTIM, uri.to_string())
            // The loader would search it with calls that count.
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let mut written = said.lines().filter_map(|line| line.strip_prefix("wrote "));
        acknowledged = written
            .next_back()
            .map(|counter| counter.parse::<u64>().unwrap())
            .or(acknowledged);
        let store = open(uri, &never).unwrap();
        let anchor = Alternating::new(&*store, LABEL);
        let is = anchor.read(valid).unwrap().map(|(counter, _)| counter);
        assert!(
            is >= acknowledged && is <= Some(acknowledged.unwrap_or(0) + 1),
            "call {call}: {is:?} after {acknowledged:?}"
        );
        // The next round begins where this one was cut, and may say nothing.
        acknowledged = is;
        assert!(store.data(LABEL).unwrap().len() <= 2);
    }
    assert!(acknowledged > Some(4), "{acknowledged:?}");
}

#[test]
fn a_folder_keeps_its_value_through_a_kill_at_every_system_call() {
    if let Ok(uri) = std::env::var(VICTIM) {
        write_until_killed(&uri);
    }
    let place = tempfile::tempdir().unwrap();
    let uri = folder(place.path());
    create(&uri, &never).unwrap();
    let name = "a_folder_keeps_its_value_through_a_kill_at_every_system_call";
    survives_kills_at(name, &uri, "openat,write,fsync,linkat,unlink", 1..=100);
}

#[test]
fn a_folder_keeps_its_value_through_kills_of_the_writer() {
    if let Ok(uri) = std::env::var(VICTIM) {
        write_until_killed(&uri);
    }
    let place = tempfile::tempdir().unwrap();
    let uri = folder(place.path());
    let store: Arc<dyn KeyStore> = create(&uri, &never).unwrap();
    survives_kills(
        "a_folder_keeps_its_value_through_kills_of_the_writer",
        &uri,
        40,
    );
    // What the killed writers left in the middle is gone with the next write.
    let anchor = Alternating::new(&*store, LABEL);
    let (counter, old) = anchor.read(valid).unwrap().unwrap();
    anchor
        .write(Some(&old), &value(counter + 1, 0), valid)
        .unwrap();
    let names = fs::read_dir(place.path().join("keys")).unwrap();
    assert_eq!(names.count(), 1);
}

with_softhsm! {
    fn a_write_to_a_token_that_is_cut_between_any_two_steps_loses_nothing(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        assert!(cut_everywhere(&*store) >= 8);
    }

    fn a_token_keeps_its_value_through_kills_of_the_writer(hsm) {
        if let Ok(uri) = std::env::var(VICTIM) {
            write_until_killed(&uri);
        }
        hsm.token("vault");
        // A module has one state for a process: what other processes wrote is seen by a new one.
        let uri = hsm.uri("token=vault");
        survives_kills("a_token_keeps_its_value_through_kills_of_the_writer", &uri, 25);
    }

    fn a_token_keeps_its_value_through_kills_at_its_system_calls(hsm) {
        if let Ok(uri) = std::env::var(VICTIM) {
            write_until_killed(&uri);
        }
        hsm.token("vault");
        let uri = hsm.uri("token=vault");
        let name = "a_token_keeps_its_value_through_kills_at_its_system_calls";
        // Every call takes minutes: SoftHSM makes many.
        survives_kills_at(name, &uri, "write,ftruncate,unlink,syncfs", (5..=300).step_by(17));
    }
}
