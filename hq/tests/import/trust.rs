//! Which officers a vault believes: those of the manifest that its log has in force, and of no other.

use std::fs;
use std::path::Path;

use mintmark_protocol::envelope::Verified;
use mintmark_protocol::trust::TrustManifest;

use super::recovery::comes_back;
use super::support::{Hq, Vault, csr};

/// A vault whose headquarters sent it an entitlement that bob approved, under manifest 2, and let bob go since, with
/// manifest 3.
fn departed() -> (Hq, Vault) {
    let hq = Hq::new();
    let vault = hq.vault("berlin");
    hq.add_officer("bob");
    hq.publish_trust(2, &["alice"], &["mint=1"]);
    let policy = std::fs::read_to_string(hq.path("policy.toml")).unwrap();
    let policy = policy.replace("id = \"demo-1\"", "id = \"demo-2\"");
    std::fs::write(hq.path("policy-2.toml"), policy).unwrap();
    let at = |name: &str| hq.path(name).to_str().unwrap().to_owned();
    let done = |arguments: &[&str]| {
        let run = hq.run(arguments);
        assert_eq!(run.exit, 0, "{arguments:?}: {}", run.stderr);
        run
    };
    let (policy, draft) = (at("policy-2.toml"), at("demo-2.cose"));
    let drafted = ["entitlement", "draft", "--site", "berlin"];
    let files = ["--policy", &policy, "--output", &draft];
    done(&[&drafted[..], &files].concat());
    let approval = hq.sign("bob", &hq.path("demo-2.cose"));
    done(&["approval", "import", approval.to_str().unwrap()]);
    let run = done(&["entitlement", "export", "demo-2"]);
    assert_eq!(run.json()["approvers"], serde_json::json!(["bob"]));
    done(&["officer", "remove", "bob", "--confirm", "bob"]);
    hq.publish_trust(3, &["alice"], &["mint=1"]);
    done(&["media", "export", &at("stick")]);
    (hq, vault)
}

/// It reports under manifest 3, and nothing is wrong. Returns manifests 2 and 3.
fn follows(hq: &Hq, vault: &mut Vault) -> [Verified<TrustManifest>; 2] {
    let stick = hq.path("stick/mintmark");
    let manifests = [2, 3].map(|version| vault.follow(&stick, version));
    vault.issue("TH-200", &csr("A0", 0));
    let one = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&one), (0, "imported".to_owned(), None));
    manifests
}

fn found_at(code: &str, at: u64) -> (String, String, Option<u64>) {
    (code.to_owned(), "critical".to_owned(), Some(at))
}

fn entitlements(vault: &Vault) -> Vec<&str> {
    let known = vault.state.entitlements().keys();
    known.map(|id| id.as_str()).collect()
}

#[test]
fn what_an_officer_approved_before_leaving_is_followed_by_who_knows_that_officer() {
    let (hq, mut vault) = departed();
    let stick = hq.path("stick/mintmark");
    vault.follow(&stick, 2);
    vault.import(&stick);
    vault.follow(&stick, 3);
    assert_eq!(entitlements(&vault), ["demo-1", "demo-2"]);
    vault.issue("TH-200", &csr("A0", 0));
    let one = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&one), (0, "imported".to_owned(), None));
    assert_eq!(hq.findings(), []);
    comes_back(&hq);
}

#[test]
fn a_vault_that_follows_what_a_removed_officer_approved_is_found_out() {
    let (hq, mut vault) = departed();
    let [second, third] = follows(&hq, &mut vault);
    let at = vault.state.size();
    vault.judge_by(&second);
    vault.import(&hq.path("stick/mintmark"));
    vault.judge_by(&third);
    assert_eq!(entitlements(&vault), ["demo-1", "demo-2"]);
    vault.issue("TH-200", &csr("A1", 1));
    let two = vault.report(&hq.path("two"));
    let imported = (1, "imported".to_owned(), Some("FINDINGS".to_owned()));
    assert_eq!(hq.import_one(&two), imported);
    assert_eq!(hq.findings(), [found_at("FACT-FALSE", at)]);
    assert_eq!(hq.reconcile().0, 1);
    comes_back(&hq);
}

#[test]
fn a_vault_that_goes_back_to_an_earlier_manifest_is_found_out() {
    let (hq, mut vault) = departed();
    let [second, _] = follows(&hq, &mut vault);
    let at = vault.state.size();
    vault.log_trust(&second);
    vault.judge_by(&second);
    vault.import(&hq.path("stick/mintmark"));
    assert_eq!(entitlements(&vault), ["demo-1", "demo-2"]);
    let two = vault.report(&hq.path("two"));
    let imported = (1, "imported".to_owned(), Some("FINDINGS".to_owned()));
    assert_eq!(hq.import_one(&two), imported);
    assert_eq!(hq.findings(), [found_at("TRUST-ORDER", at)]);
    assert_eq!(hq.reconcile().0, 1);
    comes_back(&hq);
}

/// The files of a folder, the folders in it aside, put back as they were.
fn put_back(home: &Path, old: &[(std::path::PathBuf, Vec<u8>)]) {
    for folder in [
        "record/trust",
        "record/ca",
        "record/drafts",
        "record/approvals",
    ] {
        for entry in fs::read_dir(home.join(folder)).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    for name in [
        "registry.sqlite",
        "registry.sqlite-wal",
        "registry.sqlite-shm",
    ] {
        let _ = fs::remove_file(home.join(name));
    }
    for (path, bytes) in old {
        fs::write(path, bytes).unwrap();
    }
}

fn files_of(folder: &Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_of(&path, found);
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn a_root_that_was_forgotten_comes_back_with_a_crl_and_its_link() {
    let hq = Hq::new();
    let home = hq.path("home");
    let mut old = Vec::new();
    files_of(&home, &mut old);
    let root = hq.keys_of("root-2");
    let (file, stick) = (hq.path("trust-2.cose"), hq.path("stick"));
    let (file, media) = (file.to_str().unwrap(), stick.to_str().unwrap());
    let draft = ["trust", "draft", "--root-keys", &root, "--output", file];
    let draft = [&draft[..], &["--threshold", "trust=1"]].concat();
    assert_eq!(hq.run(&draft).exit, 0);
    let approve = |file: &str| {
        let approval = hq.sign("alice", Path::new(file));
        let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
        assert_eq!(run.exit, 0, "{}", run.stderr);
    };
    approve(file);
    let run = hq.run(&["trust", "publish", "--media", media]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    put_back(&home, &old);

    let run = hq.run(&["media", "import", media]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    assert!(run.stderr.contains("ROOT-FORGOTTEN"), "{}", run.stderr);
    let (list, ca) = (["ca", "list"], hq.path("ca"));
    let run = hq.run(&list);
    assert_eq!((run.exit, run.error_code().as_str()), (2, "ROOT-FORGOTTEN"));
    assert!(run.stderr.contains("--root-keys"), "{}", run.stderr);
    // The restore is declared, and with that both are made.
    let epoch = hq.path("epoch.cose");
    let epoch = epoch.to_str().unwrap();
    let run = hq.run(&["trust", "epoch", "--output", epoch]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    approve(epoch);
    let publish = ["trust", "publish", "--media", media, "--root-keys"];
    let other = hq.officer_keys();
    let run = hq.run(&[&publish[..], &[&other]].concat());
    assert_ne!(run.exit, 0);
    let run = hq.run(&[&publish[..], &[&root]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let listed = hq.run(&list);
    assert_eq!(listed.exit, 0, "{}", listed.stderr);
    let run = hq.run(&["ca", "export", "--output", ca.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    assert!(run.stderr.contains("CRL-FORGOTTEN"), "{}", run.stderr);
    let at = |name: &str| ca.join(name).to_str().unwrap().to_owned();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(arguments)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    openssl(&["verify", "-CAfile", &at("root-1.pem"), &at("root-link.pem")]);
    openssl(&[
        "crl",
        "-in",
        &at("crl-root.pem"),
        "-CAfile",
        &at("root.pem"),
        "-noout",
    ]);
    let number = openssl(&["crl", "-in", &at("crl-root.pem"), "-noout", "-crlnumber"]);
    // Above whatever went out while it was not forgotten.
    assert!(number.trim().len() > "crlNumber=0x0001".len(), "{number}");
    comes_back(&hq);
}
