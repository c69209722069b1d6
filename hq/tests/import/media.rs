//! Sticks: incomplete, damaged, out of order, foreign.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Hq, Vault, csr, run_in};

fn one_bundle() -> (Hq, Vault, PathBuf) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = hq.path("one");
    vault.write_bundle(&stick, &|_| {}, 4);
    (hq, vault, stick)
}

fn segments(stick: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(stick.join("mintmark/to-hq")).unwrap();
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|e| e.to_string_lossy().starts_with("seg"))
    });
    files.sort();
    files
}

fn held(hq: &Hq, stick: &Path) -> String {
    let (exit, outcome, code) = hq.import_one(stick);
    assert_eq!((exit, outcome.as_str()), (3, "held"));
    let code = code.unwrap();
    // What is missing is found until it is there.
    let missing = ("BUNDLE-GAP".to_owned(), "minor".to_owned(), Some(0));
    let missing = (code == "BUNDLE-GAP").then_some(missing);
    assert_eq!(hq.findings(), Vec::from_iter(missing));
    code
}

#[test]
fn a_missing_segment_holds_the_bundle_until_it_is_there() {
    let (hq, _vault, stick) = one_bundle();
    let segments = segments(&stick);
    assert!(segments.len() > 1);
    let last = segments.last().unwrap();
    let bytes = fs::read(last).unwrap();
    fs::remove_file(last).unwrap();
    assert_eq!(held(&hq, &stick), "SEGMENT-MISSING");
    fs::write(last, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(held(&hq, &stick), "SEGMENT-MISSING");
    // A link is no segment, wherever it leads.
    let elsewhere = hq.path("elsewhere");
    fs::write(&elsewhere, &bytes).unwrap();
    fs::remove_file(last).unwrap();
    std::os::unix::fs::symlink(&elsewhere, last).unwrap();
    assert_eq!(held(&hq, &stick), "SEGMENT-MISSING");
    fs::remove_file(last).unwrap();
    fs::write(last, &bytes).unwrap();
    assert_eq!(hq.import_one(&stick), (0, "imported".to_owned(), None));
}

#[test]
fn a_damaged_segment_is_refused_and_nobody_is_accused() {
    let (hq, _vault, stick) = one_bundle();
    let segment = &segments(&stick)[0];
    let mut bytes = fs::read(segment).unwrap();
    bytes[100] ^= 1;
    fs::write(segment, &bytes).unwrap();
    let refused = (1, "refused".to_owned(), Some("SEGMENT-DIGEST".to_owned()));
    assert_eq!(hq.import_one(&stick), refused);
    assert_eq!(hq.findings(), []);
}

#[test]
fn a_damaged_bundle_is_refused() {
    let (hq, _vault, stick) = one_bundle();
    let folder = stick.join("mintmark/to-hq");
    let bundle = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let bundle = bundle
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "cose"))
        .unwrap();
    let bytes = fs::read(&bundle).unwrap();
    for at in [0, 20, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&bundle, &damaged).unwrap();
        let (exit, outcome, _) = hq.import_one(&stick);
        assert_eq!((exit, outcome.as_str()), (1, "refused"), "byte {at}");
    }
    assert_eq!(hq.findings(), []);
}

#[test]
fn bundles_out_of_order_wait_for_the_one_before() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let first = vault.report(&hq.path("one"));
    vault.issue("TH-200", &csr("A1", 1));
    let second = vault.report(&hq.path("two"));
    assert_eq!(held(&hq, &second), "BUNDLE-GAP");
    assert_eq!(hq.import_one(&first).0, 0);
    assert_eq!(hq.findings(), []);
    assert_eq!(hq.import_one(&second).0, 0);
    assert_eq!(hq.findings(), []);
}

#[test]
fn bundles_are_missing_until_the_last_of_them_is_there() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    let sticks: Vec<_> = (0..5)
        .map(|unit| {
            vault.issue("GW-1", &csr(&format!("B{unit}"), unit));
            vault.report(&hq.path(&format!("stick-{unit}")))
        })
        .collect();
    let missing = || -> Vec<_> {
        let (_, report) = hq.reconcile();
        let findings = report["findings"].as_array().unwrap();
        assert!(findings.iter().all(|gap| gap["code"] == "BUNDLE-GAP"));
        let number = |gap: &Value, name: &str| gap["evidence"][name].as_u64().unwrap();
        let ends = |gap| (number(gap, "first_missing"), number(gap, "last_missing"));
        findings.iter().map(ends).collect()
    };
    for (last, expected) in [(2, vec![(1, 2)]), (4, vec![(1, 2), (1, 4)])] {
        assert_eq!(hq.import_one(&sticks[last]).1, "held");
        assert_eq!(missing(), expected);
    }
    for (stick, expected) in [
        (0, vec![(2, 2), (2, 4)]),
        (1, vec![(3, 4)]),
        (2, vec![(4, 4)]),
        (3, vec![]),
        (4, vec![]),
    ] {
        assert_eq!(hq.import_one(&sticks[stick]).1, "imported");
        assert_eq!(missing(), expected, "after stick {stick}");
    }
    assert_eq!(hq.reconcile().0, 0);
}

#[test]
fn a_vault_that_nobody_let_in_is_unknown() {
    let (hq, _vault, stick) = one_bundle();
    let folder = stick.join("mintmark/to-hq");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .replace("berlin", "paris");
        fs::rename(&path, folder.join(name)).unwrap();
    }
    let refused = (1, "refused".to_owned(), Some("VAULT-UNKNOWN".to_owned()));
    assert_eq!(hq.import_one(&stick), refused);
}

#[test]
fn an_enrolment_request_is_shown_and_known_once_it_is_registered() {
    let hq = Hq::new();
    let stick = hq.path("one");
    fs::create_dir_all(stick.join("mintmark")).unwrap();
    let (bytes, _) = Vault::request("berlin", &hq.path("stick/mintmark"));
    fs::write(stick.join("mintmark/enrol-berlin_v1.cose"), &bytes).unwrap();
    let (bytes, _) = Vault::request("oslo", &hq.path("stick/mintmark"));
    fs::write(stick.join("mintmark/enrol-oslo_v1.cose"), &bytes).unwrap();
    fs::write(stick.join("mintmark/readme.txt"), "hello").unwrap();
    let (exit, items) = hq.import(&stick);
    let said: Vec<_> = items
        .iter()
        .map(|item| (&item["type"], &item["outcome"]))
        .collect();
    let kind = json!("enrolment-request");
    assert_eq!(
        (exit, said),
        (
            0,
            vec![(&kind, &json!("already")), (&kind, &json!("imported"))]
        )
    );
}

#[test]
fn a_members_home_takes_manifests_and_nothing_else() {
    let (hq, _vault, stick) = one_bundle();
    let trust = hq.path("stick/mintmark/trust-000001.cose");
    fs::copy(&trust, stick.join("mintmark/trust-000001.cose")).unwrap();
    let shown = hq.run(&["trust", "show"]).json();
    let fingerprint = shown["fingerprint"].as_str().unwrap();
    let member = hq.path("member");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hq"))
            .arg("--json")
            .arg("--home")
            .arg(&member)
            .args(arguments)
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), json)
    };
    let pinned = run(&[
        "trust",
        "pin",
        "--trust",
        trust.to_str().unwrap(),
        "--fingerprint",
        fingerprint,
    ]);
    assert_eq!(pinned.0, 0);
    let (exit, json) = run(&["media", "import", stick.to_str().unwrap()]);
    let items = json["items"].as_array().unwrap();
    assert_eq!((exit, items.len()), (0, 1));
    assert_eq!(
        (&items[0]["type"], &items[0]["outcome"]),
        (&json!("trust-manifest"), &json!("already"))
    );

    // A version whose predecessor is not here waits; one that nobody signed is refused.
    fs::copy(&trust, stick.join("mintmark/trust-000003.cose")).unwrap();
    let (exit, json) = run(&["media", "import", stick.to_str().unwrap()]);
    assert_eq!(
        (exit, &json["items"][1]["code"]),
        (3, &json!("TRUST-MISSING"))
    );
    fs::rename(
        stick.join("mintmark/trust-000003.cose"),
        stick.join("mintmark/trust-000002.cose"),
    )
    .unwrap();
    let (exit, json) = run(&["media", "import", stick.to_str().unwrap()]);
    assert_eq!((exit, &json["items"][1]["outcome"]), (1, &json!("refused")));
}

#[test]
fn a_file_that_was_refused_is_explained_on_standard_error_by_its_name() {
    let (hq, _vault, stick) = one_bundle();
    let last = segments(&stick).pop().unwrap();
    fs::remove_file(last).unwrap();
    let run = hq.run(&["media", "import", stick.to_str().unwrap()]);
    assert_eq!(
        (run.exit, run.error_code().as_str()),
        (3, "SEGMENT-MISSING")
    );
    let item = &run.json()["items"][0];
    let keys: Vec<_> = item.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "code", "file", "findings", "hint", "id", "message", "outcome", "type"
        ]
    );
    let told: serde_json::Value = serde_json::from_str(run.stderr.trim()).unwrap();
    let message = told["error"]["message"].as_str().unwrap();
    let (file, why) = (
        item["file"].as_str().unwrap(),
        item["message"].as_str().unwrap(),
    );
    assert_eq!(message, format!("{file}: {why}"));
}

#[test]
fn a_file_is_no_stick() {
    let hq = Hq::new();
    let file = hq.path("policy.toml");
    for verb in ["import", "export", "inspect"] {
        let run = hq.run(&["media", verb, file.to_str().unwrap()]);
        assert_eq!(
            (run.exit, run.error_code().as_str()),
            (3, "MEDIA-NOT-A-FOLDER")
        );
    }
}

#[test]
fn another_headquarters_manifest_is_refused_and_no_fork() {
    let (ours, theirs) = (Hq::new(), Hq::another());
    let member = ours.path("member");
    let trust = ours.path("stick/mintmark/trust-000001.cose");
    let shown = ours.run(&["trust", "show"]).json();
    let fingerprint = shown["fingerprint"].as_str().unwrap();
    let pin = ["trust", "pin", "--trust", trust.to_str().unwrap()];
    let pin = [&pin[..], &["--fingerprint", fingerprint]].concat();
    assert_eq!(run_in(&member, &pin).exit, 0);
    let stick = theirs.path("stick");
    let run = run_in(&member, &["media", "import", stick.to_str().unwrap()]);
    let item = &run.json()["items"][0];
    assert_eq!(
        (run.exit, &item["outcome"], &item["code"]),
        (1, &json!("refused"), &json!("SIGNER-UNKNOWN"))
    );
}

#[test]
fn drafts_and_approvals_are_called_so() {
    let hq = Hq::new();
    let policy = hq.path("another.toml");
    let text = fs::read_to_string(hq.path("policy.toml")).unwrap();
    fs::write(&policy, text.replace("demo-1", "demo-2")).unwrap();
    let draft = ["entitlement", "draft", "--site", "berlin", "--policy"];
    let run = hq.run(&[&draft[..], &[policy.to_str().unwrap()]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    hq.export();
    let folder = hq.path("stick/mintmark");
    fs::copy(
        hq.path("approval-1.cose"),
        folder.join("approval-a_alice.cose"),
    )
    .unwrap();
    let stick = hq.path("stick");
    let json = hq
        .run(&["media", "inspect", stick.to_str().unwrap()])
        .json();
    let kinds: Vec<_> = json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (
                item["file"].as_str().unwrap(),
                item["type"].as_str().unwrap(),
            )
        })
        .filter(|(file, _)| file.starts_with("draft-") || file.starts_with("approval-"))
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(kinds, ["draft", "approval"]);
}

#[test]
fn a_bundle_is_verified_without_being_imported() {
    let (hq, vault, stick) = one_bundle();
    let folder = stick.join("mintmark/to-hq");
    let bundle = folder.join(format!("berlin_v1_{}-000001.cose", vault.lineage));
    let verify = || hq.run(&["audit", "verify", bundle.to_str().unwrap()]);
    let run = verify();
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let json = run.json();
    assert_eq!(
        (&json["position"], &json["root"]),
        (&json!("next"), &json!("valid"))
    );
    assert_eq!(hq.run(&["audit", "list"]).json()["bundles"], json!([]));
    assert_eq!(hq.import_one(&stick).0, 0);
    assert_eq!(verify().json()["position"], "held");
    let shown = hq.run(&["audit", "show", "berlin"]).json();
    assert_eq!(
        (&shown["sequence"], &shown["findings"]),
        (&json!(1), &json!([]))
    );

    let segment = &segments(&stick)[0];
    let mut bytes = fs::read(segment).unwrap();
    bytes[100] ^= 1;
    fs::write(segment, bytes).unwrap();
    let run = verify();
    assert_eq!((run.exit, run.error_code().as_str()), (1, "SEGMENT-DIGEST"));
}

#[test]
fn a_report_goes_into_a_file_in_each_format() {
    let (hq, _vault, stick) = one_bundle();
    assert_eq!(hq.import_one(&stick).0, 0);
    for (format, begins) in [("table", "4 accounts, balanced"), ("csv", "row,site,vault")] {
        let file = hq.path(format);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hq"))
            .arg("--home")
            .arg(hq.path("home"))
            .args([
                "reconcile",
                "--format",
                format,
                "--output",
                file.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout.is_empty());
        let text = fs::read_to_string(file).unwrap();
        assert!(text.starts_with(begins), "{text}");
    }
    let run = hq.run(&["reconcile", "--site", "nowhere"]);
    assert_eq!((run.exit, run.error_code().as_str()), (2, "SITE-UNKNOWN"));
}
