//! Two chains, each acknowledging the other: a home that was put back from a copy learns of it from headquarters.

use std::fs;
use std::path::Path;

use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::TrustManifest;
use serde_json::json;

use crate::outcome;
use crate::support::hq::put;
use crate::support::{Hq, Vault, copy};

const CODE: &str = "HOME-ROLLED-BACK";

/// The same dispatch, with what HQ has seen of the vault.
fn seeing(vault: &Vault, hq: &Hq, bytes: &[u8], seen: BundleSeen) -> Vec<u8> {
    let (_, trust, fingerprint) = &hq.manifests[0];
    let manifest = TrustManifest::pin(trust, fingerprint, None).unwrap();
    let dispatch = Dispatch::open(bytes, &manifest, &vault.name).unwrap();
    let mut dispatch = dispatch.into_content();
    dispatch.bundle_seen = Some(seen);
    hq.seal(&dispatch).0
}

fn seen(bundle: &Verified<Bundle>) -> BundleSeen {
    BundleSeen {
        lineage: bundle.content().lineage,
        sequence: bundle.content().sequence,
        fingerprint: bundle.fingerprint(),
    }
}

/// A vault that issued and reported, a copy of its home and of its key files from before it did, and the report as HQ holds
/// it. Key files that stayed would tell at once.
fn reported() -> (Vault, Hq, Verified<Bundle>) {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    copy(&vault.home(), &vault.path("older"));
    copy(&vault.keys(), &vault.path("older-keys"));
    vault.request("a.csr", "A1", 11);
    vault.issue().expect(0);
    let items = vault.export().expect(0).json()["items"].clone();
    let name = MediaName::parse(items[1]["file"].as_str().unwrap()).unwrap();
    let (bundle, _) = hq.receive(&vault.stick(), &name);
    (vault, hq, bundle)
}

/// Exchanges the home and the key files with the copy.
fn exchange(vault: &Vault) {
    for (name, older) in [("home", "older"), ("keys", "older-keys")] {
        fs::rename(vault.path(name), vault.path("newest")).unwrap();
        fs::rename(vault.path(older), vault.path(name)).unwrap();
        fs::rename(vault.path("newest"), vault.path(older)).unwrap();
    }
}

/// The home refuses to go on, keeps the dispatch, and can still be looked at.
fn expect_stopped(vault: &Vault, dispatch: &Path) {
    let before = vault.status();
    assert_eq!(before["rolled_back"], json!(false));
    let evidence = vault.home().join("rolled-back.cose");
    let stick = vault.stick();
    let rehearsed = vault
        .run(&["media", "import", stick.to_str().unwrap(), "--dry-run"])
        .expect(4);
    let refused = outcome("refused", Some(CODE));
    assert_eq!(rehearsed.outcomes().pop().unwrap(), refused);
    assert!(!evidence.exists());

    let import = vault.import().expect(4);
    assert_eq!(import.outcomes().pop().unwrap(), refused);
    assert_eq!(fs::read(&evidence).unwrap(), fs::read(dispatch).unwrap());
    for run in [
        vault.issue(),
        vault.import(),
        vault.export(),
        vault.run(&["recover"]),
        vault.run(&["recover", "--rebuild"]),
    ] {
        assert_eq!(run.expect(4).errors(), [CODE]);
    }
    let after = vault.status();
    assert_eq!(after["rolled_back"], json!(true));
    assert!(
        after["next"].as_str().unwrap().contains("newest copy"),
        "{after}"
    );
    for unchanged in ["log_size", "log_root", "dispatch", "accounts"] {
        assert_eq!(after[unchanged], before[unchanged], "{unchanged}");
    }
    for looking in [
        &["status"][..],
        &["recover", "--dry-run"],
        &["audit", "verify"],
        &["audit", "log"],
    ] {
        let run = vault.run(looking).expect(0);
        assert!(run.err.contains(CODE), "{looking:?}: {run:?}");
    }
    let doctor = vault.run(&["doctor"]).expect(4).json();
    let checks = doctor["checks"].as_array().unwrap();
    assert!(
        checks.iter().any(|check| check["code"] == json!(CODE)),
        "{doctor}"
    );
}

#[test]
fn an_older_home_stops_when_headquarters_names_a_bundle_that_it_never_sealed() {
    let (vault, mut hq, bundle) = reported();
    exchange(&vault);
    let terms = hq.terms("th200", 2, 4);
    let (name, bytes) = hq.mint(&terms, 2);
    let bytes = seeing(&vault, &hq, &bytes, seen(&bundle));
    let path = put(&vault.stick(), &name, &bytes);
    expect_stopped(&vault, &path);
    // The newest copy knows that bundle.
    exchange(&vault);
    assert_eq!(
        vault.import().expect(0).outcomes().pop().unwrap(),
        outcome("imported", None)
    );
    vault.request("b.csr", "A2", 12);
    vault.issue().expect(0);
    assert_eq!(vault.status()["rolled_back"], json!(false));
}

#[test]
fn an_older_home_stops_also_by_a_dispatch_whose_predecessor_it_will_never_get() {
    let (vault, mut hq, bundle) = reported();
    exchange(&vault);
    let terms = hq.terms("th200", 2, 4);
    // The newest copy has seen this one: it is not sent again.
    hq.mint(&terms, 2);
    let terms = hq.terms("th200", 3, 5);
    let (name, bytes) = hq.mint(&terms, 2);
    let bytes = seeing(&vault, &hq, &bytes, seen(&bundle));
    let path = put(&vault.stick(), &name, &bytes);
    expect_stopped(&vault, &path);
}

#[test]
fn an_acknowledgement_of_a_bundle_that_the_home_never_sealed_stops_it() {
    let (vault, mut hq, bundle) = reported();
    exchange(&vault);
    let (name, bytes) = hq.acknowledge(&bundle);
    let path = put(&vault.stick(), &name, &bytes);
    expect_stopped(&vault, &path);
    exchange(&vault);
    vault.import().expect(0);
    assert_eq!(vault.status()["bundle"]["acknowledged"], json!(1));
}

#[test]
fn two_copies_that_both_reported_are_told_apart_by_what_they_sealed() {
    let (vault, mut hq, bundle) = reported();
    let real = seen(&bundle);
    let terms = hq.terms("th200", 2, 4);
    let (name, bytes) = hq.mint(&terms, 2);
    for false_one in [
        BundleSeen {
            fingerprint: Fingerprint::of(b"the other copy's"),
            ..real
        },
        BundleSeen {
            lineage: Lineage::new([9; 16]),
            ..real
        },
        BundleSeen {
            sequence: 2,
            ..real
        },
    ] {
        let copy = vault.fork();
        let bytes = seeing(&vault, &hq, &bytes, false_one);
        let path = put(&copy.stick(), &name, &bytes);
        copy.import().expect(4);
        let evidence = fs::read(copy.home().join("rolled-back.cose")).unwrap();
        assert_eq!(evidence, fs::read(path).unwrap());
    }
    put(&vault.stick(), &name, &seeing(&vault, &hq, &bytes, real));
    vault.import().expect(0);
}
