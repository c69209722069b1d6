//! What officers ended at a vault, as its log tells it.

use mintmark_ledger::entry::{Body, Content};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::{Revocation, Target};
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::recovery::comes_back;
use crate::support::{Hq, Vault, csr, key, manifest};

/// Has a draft approved by these officers and sealed, and everything exported.
pub(crate) fn seal(hq: &Hq, draft: &[&str], officers: &[&str]) -> String {
    let file = hq.path("order.cose");
    let output = ["--reason", "stolen", "--output", file.to_str().unwrap()];
    let run = hq.run(&[draft, &output].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    for officer in officers {
        let approval = hq.sign(officer, &file);
        let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
        assert_eq!(run.exit, 0, "{}", run.stderr);
        std::fs::remove_file(approval).unwrap();
    }
    let run = hq.run(&["site", "grant", &id]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    std::fs::remove_file(file).unwrap();
    hq.export();
    id
}

/// Has the revocation of `berlin/v1`'s entitlement drafted, approved and exported.
fn revoke(hq: &Hq) {
    let draft = hq.path("revoke.cose");
    let output = draft.to_str().unwrap();
    let revoke = ["entitlement", "revoke", "demo-1", "--site", "berlin"];
    let rest = ["--reason", "the line was sold", "--output", output];
    let run = hq.run(&[&revoke[..], &rest].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    let approval = hq.sign("alice", &draft);
    let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let run = hq.run(&["entitlement", "export", &id]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    hq.export();
}

fn issuing() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("TH200-1", 1));
    revoke(&hq);
    (hq, vault)
}

fn row(hq: &Hq) -> Value {
    let shown = hq.run(&["entitlement", "show", "demo-1"]).json();
    let rows = shown["entitlements"].as_array().unwrap();
    let berlin = rows.iter().find(|row| row["site"] == "berlin");
    berlin.unwrap().clone()
}

#[test]
fn a_revocation_that_was_followed_brings_the_final_count() {
    let (hq, mut vault) = issuing();
    assert_eq!(row(&hq)["state"], "revoking");
    vault.import(&hq.path("stick/mintmark"));
    let refused = vault.decision("TH-200", &csr("TH200-2", 2));
    assert_eq!(refused.code(), Some("ENTITLEMENT-REVOKED"));
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 0);
    let row = row(&hq);
    assert_eq!(row["state"], "revoked", "{row}");
    let waits_for = row["waits_for"].as_str().unwrap();
    assert!(waits_for.contains("1 of 5 TH-200, 0 of 10 GW-1"), "{row}");
    let (exit, report) = hq.reconcile();
    assert_eq!((exit, &report["balanced"]), (0, &Value::from(true)));
    // The equation holds, and what is left in it is left for good.
    for account in report["accounts"].as_array().unwrap() {
        let revoked = (account["site"] == "berlin").then(|| Value::from(true));
        assert_eq!(account.get("revoked"), revoked.as_ref(), "{account}");
    }
    let table = hq.run_plain(&["reconcile"]).stdout;
    let words = "berlin/v1: 4 unspent units of TH-200 in demo-1 cannot be spent";
    assert!(table.contains(words), "{table}");
    assert!(!table.contains("lyon/v1: "), "{table}");
    comes_back(&hq);
}

#[test]
fn a_revocation_that_a_vault_says_was_never_authentic_is_judged_again() {
    let (hq, mut vault) = issuing();
    vault.refuse_next(&hq.path("stick/mintmark"), "SIGNATURE-INVALID");
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let found = hq.findings();
    let codes: Vec<_> = found.iter().map(|(code, ..)| code.as_str()).collect();
    assert!(codes.contains(&"FACT-FALSE"), "{codes:?}");
    comes_back(&hq);
}

#[test]
fn another_revocation_than_officers_approved_is_found_out() {
    let (hq, mut vault) = issuing();
    let at = vault.import_changed(&hq.path("stick/mintmark"), &|content| {
        if let Content::Revocation { plaintext, .. } = content {
            let mut revocation = Revocation::from_cbor(plaintext).unwrap();
            revocation.reason = "nobody said so".to_owned();
            *plaintext = revocation.to_cbor();
            return true;
        }
        false
    });
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let expected = ("DISPATCH-CONTENT".to_owned(), "critical".to_owned(), at);
    assert!(hq.findings().contains(&expected), "{:?}", hq.findings());
    comes_back(&hq);
}

#[test]
fn whoever_makes_devices_of_what_is_revoked_is_found_out() {
    let (hq, mut vault) = issuing();
    // It decides before the revocation, and writes that down after it.
    let Body::Reserved(reserved) = vault.decision("TH-200", &csr("TH200-2", 2)) else {
        panic!("not reserved");
    };
    vault.import(&hq.path("stick/mintmark"));
    vault.forge("TH-200", &csr("TH200-2", 2), reserved);
    let stick = vault.report(&hq.path("report"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let grave = |(_, severity, _): &(String, String, Option<u64>)| severity == "critical";
    assert!(hq.findings().iter().any(grave), "{:?}", hq.findings());
    comes_back(&hq);
}

/// Three devices, of which these officers revoked the first.
fn stolen(officers: &[&str]) -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    let stick = vault.report(&hq.path("made"));
    assert_eq!(hq.import_one(&stick).0, 0);
    if officers.contains(&"bob") {
        hq.add_officer("bob");
        hq.publish_trust(2, &["alice"], &["revoke=1"]);
    }
    seal(&hq, &["device", "revoke", "A0"], officers);
    (hq, vault)
}

/// How many devices the status says are revoked, and what `hq device show` says of the first.
fn revoked(hq: &Hq, status: &str) -> (Value, Value) {
    let output = hq.path(status);
    let run = hq.run(&["status", "export", "--output", output.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let shown = hq.run(&["device", "show", "A0"]).json();
    (
        run.json()["states"]["revoked"].clone(),
        shown["status"].clone(),
    )
}

/// The severity of the finding that the vault refused something.
fn refusals(hq: &Hq) -> Vec<String> {
    let of_refusal = |(code, severity, _): (String, String, Option<u64>)| {
        (code == "DISPATCH-REFUSED").then_some(severity)
    };
    hq.findings().into_iter().filter_map(of_refusal).collect()
}

/// The vault comes to know that bob left before it reads what bob approved, refuses that, and says so.
fn refuse_as_bob_left(hq: &Hq, vault: &mut Vault) {
    let gone = hq.run(&["officer", "remove", "bob", "--confirm", "bob"]);
    assert_eq!(gone.exit, 0, "{}", gone.stderr);
    hq.publish_trust(3, &["alice"], &["revoke=1"]);
    hq.export();
    let stick = hq.path("stick/mintmark");
    vault.follow(&stick, 2);
    vault.follow(&stick, 3);
    vault.refuse_next(&stick, "SIGNER-UNKNOWN");
    let home = vault.report(&hq.path("refused"));
    assert_eq!(hq.import_one(&home).0, 1, "{:?}", hq.findings());
}

#[test]
fn what_a_vault_refuses_as_an_officer_left_stays_revoked_and_is_told() {
    let (hq, mut vault) = stolen(&["alice", "bob"]);
    let expected = (Value::from(1), Value::from("revoked"));
    assert_eq!(revoked(&hq, "before"), expected);
    refuse_as_bob_left(&hq, &mut vault);
    let stick = hq.path("stick/mintmark");
    assert_eq!(refusals(&hq), ["major"]);
    assert_eq!(hq.reconcile().0, 1);
    assert_eq!(revoked(&hq, "after"), expected);
    // The vault is to follow all the same: it is ordered anew.
    seal(&hq, &["device", "revoke", "A0"], &["alice"]);
    vault.import(&stick);
    let home = vault.report(&hq.path("followed"));
    assert_eq!(hq.import_one(&home).0, 0, "{:?}", hq.findings());
    assert_eq!(revoked(&hq, "followed.status"), expected);
    comes_back(&hq);
}

#[test]
fn what_a_vault_says_was_never_authentic_stays_revoked_for_devices_and_device_cas() {
    let (hq, mut vault) = stolen(&["alice"]);
    seal(&hq, &["site", "revoke", "berlin"], &["alice"]);
    let stick = hq.path("stick/mintmark");
    vault.refuse_next(&stick, "SIGNATURE-INVALID");
    // The receipt for its first bundle.
    vault.import_at_most(&stick, vault.state.dispatches().sequence + 1);
    vault.refuse_next(&stick, "SIGNER-UNKNOWN");
    let home = vault.report(&hq.path("refused"));
    assert_eq!(hq.import_one(&home).0, 1);
    let false_facts = hq.findings().into_iter();
    let false_facts = false_facts.filter(|(code, ..)| code == "FACT-FALSE");
    assert_eq!(false_facts.count(), 2);
    assert_eq!(refusals(&hq), ["major", "major"]);
    assert_eq!(
        revoked(&hq, "after"),
        (Value::from(3), Value::from("revoked"))
    );
    // The root's next CRL names this device CA beside the other one.
    seal(&hq, &["site", "revoke", "lyon"], &["alice"]);
    let listed = hq.run(&["ca", "list"]).json();
    let all = listed["certificates"].as_array().unwrap();
    let counts = all.iter().map(|row| &row["crl"]["revoked"]);
    assert!(counts.clone().any(|count| *count == 2), "{listed}");
    comes_back(&hq);
}

#[test]
fn a_device_ca_that_its_vault_refuses_to_give_up_stays_on_the_root_crl() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    hq.add_officer("bob");
    hq.publish_trust(2, &["alice"], &["revoke=1"]);
    seal(&hq, &["site", "revoke", "berlin"], &["alice", "bob"]);
    refuse_as_bob_left(&hq, &mut vault);
    seal(&hq, &["site", "revoke", "lyon"], &["alice"]);
    let listed = hq.run(&["ca", "list"]).json();
    let all = listed["certificates"].as_array().unwrap();
    let mut counts = all.iter().map(|row| &row["crl"]["revoked"]);
    assert!(counts.any(|count| *count == 2), "{listed}");
    comes_back(&hq);
}

#[test]
fn a_name_that_two_devices_have_revokes_none_and_is_vouched_for_by_none() {
    let hq = Hq::new();
    let (mut berlin, mut lyon) = (hq.vault("berlin"), hq.vault("lyon"));
    berlin.issue("GW-1", &csr("A0", 0));
    berlin.issue("TH-200", &csr("A0", 1));
    berlin.issue("TH-200", &csr("A1", 2));
    lyon.issue("TH-200", &csr("A1", 3));
    hq.import(&berlin.report(&hq.path("berlin-1")));
    hq.import(&lyon.report(&hq.path("lyon-1")));
    let (draft, dossier) = (hq.path("draft.cose"), hq.path("dossier"));
    let draft = ["--reason", "stolen", "--output", draft.to_str().unwrap()];
    for device in ["A0", "A1"] {
        let run = hq.run(&[&["device", "revoke", device], &draft[..]].concat());
        let found = (run.exit, run.error_code());
        assert_eq!(found, (2, "DEVICE-AMBIGUOUS".to_owned()));
        let output = ["--output", dossier.to_str().unwrap()];
        let run = hq.run(&[&["device", "dossier", device], &output[..]].concat());
        let found = (run.exit, run.error_code());
        assert_eq!(found, (2, "DEVICE-AMBIGUOUS".to_owned()));
    }
    // By its serial number, it is the one that is meant, and officers read of which product it is.
    let shown = hq.run(&["device", "show", "A0"]).json();
    let mut devices = shown["devices"].as_array().unwrap().iter();
    let gateway = devices.find(|device| device["product"] == "GW-1").unwrap();
    let serial = gateway["serial"].as_str().unwrap();
    let run = hq.run(&[&["device", "revoke", serial], &draft[..]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let words = run.json()["words"].to_string();
    assert!(
        words.contains("A0 is a GW-1 that berlin/v1 made"),
        "{words}"
    );
    comes_back(&hq);
}

#[test]
fn an_order_with_the_serial_of_another_device_is_not_sealed() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    vault.issue("TH-200", &csr("A1", 1));
    hq.import(&vault.report(&hq.path("made")));
    let serial = |device: &str| {
        let shown = hq.run(&["device", "show", device]).json();
        let serial = shown["serial"].as_str().unwrap().to_owned();
        <[u8; 17]>::try_from(hex::decode(serial).unwrap()).unwrap()
    };
    let file = hq.path("order.cose");
    let output = ["--reason", "stolen", "--output", file.to_str().unwrap()];
    let run = hq.run(&[&["device", "revoke", "A0"], &output[..]].concat());
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    let honest = run.json()["fingerprint"].as_str().unwrap().to_owned();

    // Whoever sits at headquarters puts another order in its place: it ends A0, and is read as one of A1.
    let sql = Connection::open(hq.path("home/registry.sqlite")).unwrap();
    let noted = "SELECT plaintext FROM orders WHERE draft = ?1";
    let noted: Vec<u8> = sql.query_row(noted, [&honest], |row| row.get(0)).unwrap();
    let mut revocation = Revocation::from_cbor(&noted).unwrap();
    let Target::Devices(devices) = &mut revocation.target else {
        panic!("not of devices");
    };
    devices[0].serial = serial("A1");
    let trust = manifest(&hq.path("stick/mintmark"));
    let agreement = key(8).verifying_key().into();
    let proposal = revocation.propose(trust.content(), &agreement).unwrap();
    let hostile = proposal.fingerprint().to_string();
    let draft = hq.draft(&proposal);
    let kept = hq.path("home/record/drafts");
    let kept = kept.join(format!("draft-{id}-{}.cose", &hostile[..16]));
    std::fs::write(kept, &draft).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &draft).unwrap();
    sql.pragma_update(None, "foreign_keys", false).unwrap();
    sql.execute(
        "UPDATE drafts SET fingerprint = ?2 WHERE fingerprint = ?1",
        [&honest, &hostile],
    )
    .unwrap();
    sql.execute(
        "UPDATE orders SET draft = ?2, plaintext = ?3 WHERE draft = ?1",
        params![honest, hostile, revocation.to_cbor()],
    )
    .unwrap();
    let approval = hq.sign("alice", &file);
    let run = hq.run(&["approval", "import", approval.to_str().unwrap()]);
    assert_eq!(run.exit, 0, "{}", run.stderr);
    let grant = ["site", "grant", &id];
    let run = hq.run(&grant);
    let found = (run.exit, run.error_code());
    assert_eq!(found, (1, "REVOCATION-SERIAL".to_owned()));

    // Nor is one that headquarters has noted as another than officers approved.
    sql.execute("UPDATE orders SET plaintext = ?1", params![noted])
        .unwrap();
    let run = hq.run(&grant);
    assert_eq!(run.error_code(), "HOME-CORRUPT", "{}", run.stderr);
    assert_eq!(hq.run(&["device", "show", "A0"]).json()["status"], "good");

    // A registry that is made again is not this one, which was written to by hand: it has the honest draft too, and of each what
    // its own content is. The other one is not sealed there either.
    drop(sql);
    let run = hq.run(&["recover"]);
    assert_eq!(run.exit, 0, "{}{}", run.stdout, run.stderr);
    let run = hq.run(&["site", "grant", &hostile]);
    let found = (run.exit, run.error_code());
    assert_eq!(found, (1, "REVOCATION-SERIAL".to_owned()));
    assert_eq!(hq.run(&["device", "show", "A0"]).json()["status"], "good");
}
