//! Reports of more than headquarters counts, keeps or names one by one: what it cannot tell apart, it does not call good.

use mintmark_ledger::entry::{Body, Burned, BurnedSlots};
use mintmark_protocol::entitlement::AccountTag;
use serde_json::{Value, json};

use super::support::{Hq, Vault, csr};

/// A headquarters, and a vault that has issued three of its five units.
fn issuing() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    (hq, vault)
}

#[test]
fn slots_that_are_skipped_to_the_end_of_all_numbers_are_found_and_hold_nothing_up() {
    let (hq, mut vault) = issuing();
    let at = vault.state.size();
    let slots = BurnedSlots {
        account: AccountTag::new(1).unwrap(),
        first: 3,
        end: u64::MAX,
    };
    vault.write(Body::Burned(Burned {
        anchor: 1,
        slots: vec![slots],
    }));
    let stick = vault.report(&hq.path("one"));
    let imported = (1, "imported".to_owned(), Some("FINDINGS".to_owned()));
    assert_eq!(hq.import_one(&stick), imported);
    let malformed = (
        "ENTRY-MALFORMED".to_owned(),
        "critical".to_owned(),
        Some(at),
    );
    assert_eq!(hq.findings(), [malformed]);
}

/// What is said of a device: the exit and findings of `device show`, and the state that headquarters would sign, or why not.
pub(crate) fn said(hq: &Hq, device_id: &str) -> (i32, Value, Value) {
    let shown = hq.run(&["device", "show", device_id]);
    let output = hq.path("absent");
    let output = ["--dry-run", "--output", output.to_str().unwrap()];
    let dossier = hq.run(&[&["device", "dossier", device_id], &output[..]].concat());
    let state = match dossier.exit {
        0 => dossier.json()["status"].clone(),
        _ => dossier.error_code().into(),
    };
    (shown.exit, shown.json()["findings"].clone(), state)
}

#[test]
fn no_device_is_good_that_a_finding_beyond_those_kept_may_name() {
    let hq = Hq::new();
    let mut lyon = hq.vault("lyon");
    for unit in 0..2 {
        lyon.issue("TH-200", &csr(&format!("L{unit}"), 50 + unit));
    }
    assert_eq!(hq.import_one(&lyon.report(&hq.path("lyon"))).0, 0);

    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let Body::Reserved(early) = vault.ask("TH-200", &csr("A1", 1)) else {
        panic!("not reserved");
    };
    let reservation = vault.state.size() - 1;
    assert_eq!(hq.import_one(&vault.report(&hq.path("one"))).1, "imported");
    for _ in 0..2501 {
        vault.write_unreadable(&[0xff]);
    }
    vault.sign_with(reservation, [1; 64]);
    let Body::Reserved(_) = vault.ask("TH-200", &csr("A2", 2)) else {
        panic!("not reserved");
    };
    vault.sign_with(vault.state.size() - 1, [1; 64]);
    // The key of a device of the other vault.
    vault.issue("TH-200", &csr("A3", 50));
    assert_eq!(early.slot, 1);
    assert_eq!(hq.import_one(&vault.report(&hq.path("two"))).1, "imported");
    vault.issue("TH-200", &csr("A4", 4));
    assert_eq!(hq.import_one(&vault.report(&hq.path("three"))).0, 0);

    let capped = |state: &str| (1, json!(["FINDINGS-CAPPED"]), json!(state));
    for (device, said_of_it) in [
        ("A0", (0, json!([]), json!("good"))),
        ("A1", capped("DEVICE-FOREIGN")),
        ("A2", capped("DEVICE-FOREIGN")),
        ("A3", capped("doubtful")),
        ("A4", (0, json!([]), json!("good"))),
        ("L0", capped("doubtful")),
        ("L1", (0, json!([]), json!("good"))),
    ] {
        assert_eq!(said(&hq, device), said_of_it, "{device}");
    }
}

#[test]
fn devices_beyond_those_that_a_finding_names_are_no_better_than_those() {
    let (hq, mut vault) = issuing();
    let mut again = vault.reserved("TH-200", &csr("A9", 9), 1);
    again.issue = 1;
    vault.jump(vault.state.mark() + 3 * 86_400);
    for _ in 0..1000 {
        vault.write(Body::Reserved(again.clone()));
    }
    vault.issue("TH-200", &csr("A3", 3));
    assert_eq!(hq.import_one(&vault.report(&hq.path("one"))).1, "imported");
    let accused = (1, json!(["TIME-AHEAD"]), json!("doubtful"));
    assert_eq!(said(&hq, "A3"), accused);
    assert_eq!(said(&hq, "A0"), (0, json!([]), json!("good")));
}
