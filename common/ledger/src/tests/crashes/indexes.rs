//! An index that does not follow from its log is made again by itself.

use std::fs;
use std::path::Path;

use super::super::engine::*;
use super::super::fixture::csr;
use super::{copy_folder, stopped};
use crate::index;
use crate::ledger::Outcome;
use crate::state::State;

/// Opens a vault of [`stopped`] whose index was meddled with: it issues as if nothing had happened. Says whether the index
/// was made again.
fn goes_on(path: &Path, durable: &State, what: &str) -> bool {
    let (mut ledger, opened) = open(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(ledger.state(), durable, "{what}");
    for unit in 1..4 {
        let again = submit(&mut ledger, "TH-200", &csr(&format!("A{unit}"), unit));
        assert!(
            matches!(again, Outcome::Existing { .. }),
            "{what}: {again:?}"
        );
    }
    opened.index_rebuilt.is_some()
}

#[test]
fn an_index_that_is_lost_stale_cut_short_damaged_or_something_else_is_made_again_by_itself() {
    let [(_, _folder, path, durable), _] = stopped();
    let index = path.join("index");
    let kept = tempfile::tempdir().unwrap();
    let fresh = kept.path().join("fresh");
    fs::create_dir(&fresh).unwrap();
    copy_folder(&index, &fresh);
    let restore = || {
        let _ = fs::remove_dir_all(&index);
        let _ = fs::remove_file(&index);
        fs::create_dir(&index).unwrap();
        copy_folder(&fresh, &index);
    };
    restore();
    assert!(!goes_on(&path, &durable, "a copy of a closed index"));
    let database = fs::read(fresh.join("sled/db")).unwrap();
    let used = database.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut rebuilt, mut flips) = (0, 0);
    for at in (0..used).step_by(used / 60 + 1) {
        restore();
        let mut damaged = database.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(index.join("sled/db"), damaged).unwrap();
        rebuilt += u32::from(goes_on(
            &path,
            &durable,
            &format!("byte {at} of the database"),
        ));
        flips += 1;
    }
    println!("{flips} flipped bits, made again after {rebuilt}");
    for length in [0, 1, used / 3, used / 2, used] {
        restore();
        fs::write(index.join("sled/db"), &database[..length]).unwrap();
        assert!(goes_on(
            &path,
            &durable,
            &format!("{length} bytes of the database")
        ));
    }
    let put = |name: &str, bytes: Option<&[u8]>| {
        restore();
        let target = index.join(name);
        let _ = fs::remove_file(&target);
        let _ = fs::remove_dir_all(&target);
        match bytes {
            Some(bytes) => fs::write(target, bytes).unwrap(),
            None => fs::create_dir(target).unwrap(),
        }
    };
    for (name, bytes) in [
        ("sled/db", None),
        ("sled/db", Some(&[0xa5; 70_000][..])),
        ("sled/conf", Some(b"?")),
        ("sled", Some(b"")),
        ("lock", Some(b"")),
        ("lock", Some(b"open")),
        ("lock", Some(b"closed 1 1")),
    ] {
        put(name, bytes);
        let what = format!("{name}: {:?}", bytes.map(<[u8]>::len));
        // The database makes do without its configuration.
        assert!(
            goes_on(&path, &durable, &what) || name == "sled/conf",
            "{what}"
        );
    }
    fs::remove_dir_all(&index).unwrap();
    assert!(goes_on(&path, &durable, "none"));
}

#[test]
fn a_stale_index_is_caught_up_and_one_that_lost_a_key_is_made_again() {
    let (_folder, path, mut ledger) = vault();
    issue(&mut ledger, "TH-200", &csr("A1", 1));
    ledger.close().unwrap();
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&path.join("index"), kept.path());
    let (mut ledger, _) = open(&path).unwrap();
    for unit in 2..4 {
        issue(&mut ledger, "TH-200", &csr(&format!("A{unit}"), unit));
    }
    let durable = ledger.state().clone();
    ledger.close().unwrap();
    fs::remove_dir_all(path.join("index")).unwrap();
    fs::create_dir(path.join("index")).unwrap();
    copy_folder(kept.path(), &path.join("index"));
    assert!(!goes_on(&path, &durable, "a stale index"));

    for lost in [b'd', b'k', b'r'] {
        open(&path).unwrap().0.close().unwrap();
        index::lose(&path.join("index"), lost);
        assert!(goes_on(
            &path,
            &durable,
            &format!("without a key of {lost}")
        ));
    }
}
