//! What headquarters says of the versions of an entitlement, and what it does not draft.

use std::fs;
use std::path::{Path, PathBuf};

use mintmark_ledger::entry::{Body, KeyOutcome, KeyReceipt};
use serde_json::{Value, json};

use super::support::{Hq, Run};

fn key(algorithm: &str, usage: &str) -> String {
    format!(
        "[[key]]\nlabel = \"firmware\"\nalgorithm = \"{algorithm}\"\nuse = \"{usage}\"\nmemory_import = true\n"
    )
}

/// Writes the policy of every test under another id, with more in it.
fn policy(hq: &Hq, id: &str, more: &str) -> PathBuf {
    let policy = fs::read_to_string(hq.path("policy.toml")).unwrap();
    let file = hq.path(&format!("{id}.toml"));
    fs::write(&file, policy.replace("demo-1", id) + more).unwrap();
    file
}

/// Drafts, or amends, for `berlin/v1`.
fn draft(hq: &Hq, command: &str, policy: &Path, output: &str) -> Run {
    let (policy, output) = (policy.to_str().unwrap(), hq.path(output));
    let output = output.to_str().unwrap();
    let options = ["--site", "berlin", "--policy", policy, "--output", output];
    hq.run(&[&["entitlement", command], &options[..]].concat())
}

/// Has `alice` approve a draft, and HQ send it.
fn send(hq: &Hq, drafted: &Run) {
    assert_eq!(drafted.exit, 0, "{}", drafted.stderr);
    let drafted = drafted.json();
    let approval = hq.sign("alice", drafted["file"].as_str().unwrap().as_ref());
    for line in [
        ["approval", "import", approval.to_str().unwrap()],
        ["entitlement", "export", drafted["id"].as_str().unwrap()],
    ] {
        let run = hq.run(&line);
        assert_eq!(run.exit, 0, "{}", run.stderr);
    }
}

#[test]
fn a_label_of_an_entitlement_in_force_is_not_drafted_for_another_algorithm() {
    let hq = Hq::new();
    let former = policy(&hq, "former", &key("AES-256", "hold"));
    let drafted = draft(&hq, "draft", &former, "former.cose");
    // What is not sent binds nobody.
    let other = policy(&hq, "other", &key("HMAC-SHA-256", "hold"));
    let run = draft(&hq, "draft", &other, "other.cose");
    assert_eq!(run.exit, 0, "{}", run.stderr);
    send(&hq, &drafted);
    let refused = (2, "ENTITLEMENT-KEY-CHANGED".to_owned());
    let run = draft(&hq, "draft", &other, "other-1.cose");
    assert_eq!((run.exit, run.error_code()), refused, "{}", run.stderr);
    let amended = policy(&hq, "former", &key("HMAC-SHA-256", "hold"));
    let run = draft(&hq, "amend", &amended, "former-1.cose");
    assert_eq!((run.exit, run.error_code()), refused, "{}", run.stderr);
    let same = policy(&hq, "same", &key("AES-256", "derive-device-secret"));
    let run = draft(&hq, "draft", &same, "same.cose");
    assert_eq!(run.exit, 0, "{}", run.stderr);
}

#[test]
fn the_newest_version_is_shown_first_and_what_nobody_counts_is_not_counted() {
    let hq = Hq::new();
    let held = policy(&hq, "held", &key("AES-256", "hold"));
    send(&hq, &draft(&hq, "draft", &held, "held.cose"));
    hq.export();
    let mut vault = hq.vault("berlin");
    vault.write(Body::Key(KeyReceipt {
        entitlement: "held".parse().unwrap(),
        label: "firmware".parse().unwrap(),
        outcome: KeyOutcome::Unwrapped,
    }));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let amended = draft(&hq, "amend", &held, "held-2.cose");
    assert_eq!(amended.exit, 0, "{}", amended.stderr);
    let shown = hq.run_plain(&["entitlement", "show", "held"]).stdout;
    let versions: Vec<_> = shown.split("\n\n").collect();
    assert_eq!(versions.len(), 2, "{shown}");
    for (version, shown) in [(2, versions[0]), (1, versions[1])] {
        let first = format!("Entitlement held (version {version})");
        assert!(shown.starts_with(&first), "{shown}");
        assert!(
            shown.contains("Key `firmware`: in the token; its uses are not counted."),
            "{shown}"
        );
    }
    assert!(versions[0].contains("Approved by: nobody yet."), "{shown}");
    assert!(versions[1].contains("Approved then by: alice."), "{shown}");
}

#[test]
fn those_who_may_approve_no_longer_are_not_among_the_approvers_of_a_draft() {
    let hq = Hq::new();
    hq.add_officer("bob");
    hq.publish_trust(2, &["alice"], &["mint=2", "trust=1"]);
    let more = policy(&hq, "more", "");
    let drafted = draft(&hq, "draft", &more, "more.cose");
    assert_eq!(drafted.exit, 0, "{}", drafted.stderr);
    let approval = hq.sign("bob", &hq.path("more.cose"));
    let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let approvers = || {
        let shown = hq.run(&["entitlement", "show", "more"]).json();
        let row: &Value = &shown["entitlements"][0];
        json!([row["approvers"], row["no_longer_counting"]])
    };
    assert_eq!(approvers(), json!([["bob"], []]));
    let gone = hq.run(&["officer", "remove", "bob", "--confirm", "bob"]);
    assert_eq!(gone.exit, 0, "{}", gone.stderr);
    hq.publish_trust(3, &["alice"], &["mint=1", "trust=1"]);
    assert_eq!(approvers(), json!([[], ["bob"]]));
    let shown = hq.run_plain(&["entitlement", "show", "more"]).stdout;
    let words = "Approved by: nobody yet.\nApprovals that no longer count: bob.\n";
    assert!(shown.contains(words), "{shown}");
}
