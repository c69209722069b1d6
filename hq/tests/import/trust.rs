//! Which officers a vault believes: those of the manifest that its log has in force, and of no other.

use mintmark_protocol::envelope::Verified;
use mintmark_protocol::trust::TrustManifest;

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
}
