//! What the record has beside what a registry is made from: it is put back where something still has it, and is missed where not.

use std::fs;
use std::path::{Path, PathBuf};

use mintmark_ledger::entry::{Body, DeviceAction};

use super::forgotten::{forgetful, lose_registry, lost, names, record};
use super::{comes_back, reported};
use crate::orders::seal;
use crate::support::{Hq, csr};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Recovers, and each of these is named and as it was.
fn put_back(hq: &Hq, whole: &[(PathBuf, Vec<u8>)]) {
    let looked = hq.run(&["recover", "--dry-run"]);
    assert_eq!(looked.exit, 0, "{}{}", looked.stdout, looked.stderr);
    assert!(
        whole
            .iter()
            .all(|(path, bytes)| fs::read(path).ok().as_ref() != Some(bytes))
    );
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(run.json()["not_recovered"], looked.json()["not_recovered"]);
    let mut expected: Vec<_> = whole
        .iter()
        .map(|(path, _)| {
            let what = path.strip_prefix(record(hq)).unwrap().to_str().unwrap();
            let text = |text: &str| text.to_owned();
            (text(what), text("RECORD-PUT-BACK"), text("nothing"))
        })
        .collect();
    expected.sort();
    assert_eq!(lost(&run.json()), expected);
    for (path, bytes) in whole {
        assert!(fs::read(path).unwrap() == *bytes, "{}", path.display());
    }
    // And nothing is missed any more.
    let run = hq.run(&["recover"]);
    assert_eq!((run.exit, lost(&run.json())), (0, vec![]), "{}", run.stdout);
}

#[test]
fn requests_of_vaults_that_are_lost_or_damaged_are_put_back_from_what_officers_approved() {
    let hq = reported();
    let requests = files(&record(&hq).join("enrolments"));
    assert_eq!(requests.len(), 2);
    let whole: Vec<_> = requests
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    fs::remove_file(&whole[0].0).unwrap();
    let mut damaged = whole[1].1.clone();
    damaged[40] ^= 1;
    fs::write(&whole[1].0, damaged).unwrap();
    lose_registry(&hq);
    put_back(&hq, &whole);
    // Nor does a draft have to be there for that: the grant that was sent has it too.
    for draft in files(&record(&hq).join("drafts")) {
        if draft.to_str().unwrap().contains("draft-enrol") {
            fs::remove_file(draft).unwrap();
        }
    }
    fs::remove_file(&whole[0].0).unwrap();
    let run = hq.run(&["recover"]);
    let named = lost(&run.json());
    let is_named = named
        .iter()
        .any(|(_, code, then)| (&**code, &**then) == ("RECORD-PUT-BACK", "nothing"));
    assert!(is_named, "{named:?}");
    assert!(fs::read(&whole[0].0).unwrap() == whole[0].1);
}

#[test]
fn the_newest_crl_of_a_device_ca_is_put_back_from_its_bundle() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..2 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    let crl = record(&hq).join("ca/crl-berlin_v1-g1.der");
    let mut kept = Vec::new();
    for (number, device) in (1..).zip(["A0", "A1"]) {
        vault.order(DeviceAction::Scrap, device, "the casing is cracked");
        let (der, issued) = vault.crl(number, &vault.revoked(), None);
        vault.write(Body::Crl(issued));
        let stick =
            vault.report_changed(&hq.path(device), &|bundle| bundle.crl = Some(der.clone()));
        assert_eq!(hq.import_one(&stick).0, 0);
        kept.push(fs::read(&crl).unwrap());
    }
    assert_ne!(kept[0], kept[1]);
    let said = || hq.run(&["ca", "list"]).json();
    let before = said();
    let newest = (crl.clone(), kept[1].clone());
    for other in [None, Some(kept[0].clone()), Some(b"no list".to_vec())] {
        match other {
            None => fs::remove_file(&crl).unwrap(),
            Some(bytes) => fs::write(&crl, bytes).unwrap(),
        }
        put_back(&hq, std::slice::from_ref(&newest));
        assert_eq!(said(), before);
    }
    comes_back(&hq);
}

#[test]
fn a_roots_crl_that_is_an_older_one_is_missed() {
    let hq = Hq::new();
    let crl = record(&hq).join("ca/crl-root.der");
    let older = fs::read(&crl).unwrap();
    seal(
        &hq,
        &["site", "revoke", "berlin", "--device-ca", "1"],
        &["alice"],
    );
    let newest = fs::read(&crl).unwrap();
    comes_back(&hq);
    fs::write(&crl, older).unwrap();
    let named = forgetful(&hq);
    assert!(
        names(&named, "ca/crl-root.der, serial ", "ROOT-CRL-BEHIND"),
        "{named:?}"
    );
    fs::write(&crl, newest).unwrap();
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}", run.stdout);
}

/// A headquarters with a second root.
fn rerooted() -> (Hq, PathBuf) {
    let hq = Hq::new();
    let (root, file, stick) = (
        hq.keys_of("root-2"),
        hq.path("trust-2.cose"),
        hq.path("stick"),
    );
    let draft = [
        "trust",
        "draft",
        "--root-keys",
        &root,
        "--threshold",
        "trust=1",
    ];
    let run = hq.run(&[&draft[..], &["--output", file.to_str().unwrap()]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let approval = hq.sign("alice", &file);
    assert_eq!(
        hq.run(&["approval", "import", approval.to_str().unwrap()])
            .exit,
        0
    );
    let run = hq.run(&["trust", "publish", "--media", stick.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let link = record(&hq).join("ca/root-link-2.der");
    (hq, link)
}

#[test]
fn a_certificate_that_links_two_roots_is_missed_when_it_is_gone_or_another() {
    let (hq, link) = rerooted();
    comes_back(&hq);
    let whole = fs::read(&link).unwrap();
    fs::remove_file(&link).unwrap();
    let named = forgetful(&hq);
    assert!(
        names(&named, "ca/root-link-2.der", "RECORD-MISSING"),
        "{named:?}"
    );
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&link, damaged).unwrap();
    let named = forgetful(&hq);
    assert!(
        names(&named, "ca/root-link-2.der", "ROOT-LINK-INVALID"),
        "{named:?}"
    );
    fs::write(&link, whole).unwrap();
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}", run.stdout);
    hq.export();
}
