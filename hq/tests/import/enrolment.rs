//! Vaults that ask to be let in.

use std::fs;

use super::support::{Hq, Vault};

/// Has HQ draft the enrolment of a vault with the keys of these sites' vaults: exit and code.
fn enrol(hq: &Hq, site: &str, keys: [&str; 3]) -> (i32, String) {
    let (bytes, fingerprint) = Vault::request_with_keys_of(site, keys, &hq.path("stick/mintmark"));
    let file = hq.path(&format!("{fingerprint}.cose"));
    fs::write(&file, bytes).unwrap();
    let run = hq.run(&[
        "site",
        "enrol",
        "--request",
        file.to_str().unwrap(),
        "--fingerprint",
        &fingerprint.to_string(),
    ]);
    (run.exit, run.error_code())
}

#[test]
fn a_key_of_one_vault_cannot_enrol_another() {
    let hq = Hq::new();
    let known = (1, "ENROLMENT-KEY-KNOWN".to_owned());
    for keys in [
        ["lyon", "paris", "paris"],
        ["paris", "lyon", "paris"],
        ["paris", "paris", "lyon"],
        ["lyon", "lyon", "lyon"],
    ] {
        assert_eq!(enrol(&hq, "paris", keys), known, "{keys:?}");
    }
    assert_eq!(enrol(&hq, "paris", ["paris"; 3]), (0, String::new()));
}

#[test]
fn a_vault_that_was_not_let_in_yet_asks_again_with_its_keys_and_keeps_them_from_others() {
    let hq = Hq::new();
    assert_eq!(enrol(&hq, "paris", ["paris"; 3]).0, 0);
    assert_eq!(enrol(&hq, "paris", ["paris"; 3]).0, 0);
    let known = (1, "ENROLMENT-KEY-KNOWN".to_owned());
    assert_eq!(enrol(&hq, "milan", ["milan", "milan", "paris"]), known);
}
