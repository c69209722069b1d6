//! Policies: what is said of them before anything is drafted.

use std::fs;

use serde_json::{Value, json};

use super::support::{Hq, csr};

fn check(hq: &Hq, policy: &str, against: &str) -> (i32, Value) {
    let file = hq.path("tried.toml");
    fs::write(&file, policy).unwrap();
    let file = file.to_str().unwrap();
    let run = hq.run(&["policy", "check", file, "--against", against]);
    let json = serde_json::from_str(&run.stdout).unwrap_or_default();
    (run.exit, json)
}

const TIGHTER: &str = r#"
schema = 1
id = "tighter"
valid_from = 2035-01-01T00:00:00Z
valid_for_days = 30
[credit]
max_unreported_units = 1
max_unreported_days = 1
[[product]]
sku = "TH-200"
units = 2
device_id_pattern = "A[0-9]"
device_id_source = "commonName"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, serialNumber={device_id}"
validity_days = 7300
"#;

#[test]
fn a_policy_is_tried_on_what_a_site_was_asked() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for (device, number) in [("A0", 0), ("X1", 1), ("A1", 2), ("A2", 3)] {
        vault.issue("TH-200", &csr(device, number));
    }
    vault.ask("TH-200", &csr("A0", 0));
    let first = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&first).0, 0);
    // Acknowledged and reported in two bundles: the log goes on through both.
    hq.export();
    vault.import(&hq.path("stick/mintmark"));
    vault.issue("GW-1", &csr("B0", 100));
    let second = vault.report(&hq.path("two"));
    assert_eq!(hq.import_one(&second).0, 0);

    let (exit, json) = check(&hq, TIGHTER, "berlin");
    let tried = &json["against"];
    assert_eq!(exit, 0);
    assert_eq!(
        (&tried["site"], &tried["vault"], &tried["requests"]),
        (&json!("berlin"), &json!("v1"), &json!(6))
    );
    assert_eq!(
        (&tried["issued"], &tried["existing"]),
        (&json!(2), &json!(1))
    );
    let once = |code: &str| json!({ "code": code, "count": 1, "made": 1 });
    assert_eq!(
        tried["refused"],
        json!([
            once("DEVICE-ID-FORBIDDEN"),
            once("PRODUCT-NOT-ENTITLED"),
            once("QUOTA-EXHAUSTED"),
        ])
    );
    let examples: Vec<_> = tried["examples"]
        .as_array()
        .unwrap()
        .iter()
        .map(|example| (example["device_id"].as_str(), example["code"].as_str()))
        .collect();
    assert_eq!(
        examples,
        [
            (Some("X1"), Some("DEVICE-ID-FORBIDDEN")),
            (Some("A2"), Some("QUOTA-EXHAUSTED")),
            (Some("B0"), Some("PRODUCT-NOT-ENTITLED")),
        ]
    );

    // The policy that was granted refuses nothing of what it issued.
    let granted = fs::read_to_string(hq.path("policy.toml")).unwrap();
    let (_, json) = check(&hq, &granted, "berlin/v1");
    assert_eq!(json["against"]["issued"], 5);
    assert_eq!(json["against"]["refused"], json!([]));
}

#[test]
fn a_policy_is_tried_on_hours_that_nobody_kept() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("one"));
    assert_eq!(hq.import_one(&stick).0, 0);
    // Of the days of the week one that is not near; the epoch was a Thursday.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = now.unwrap().as_secs() / 86_400 + 3 + 3;
    let day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][(days % 7) as usize];
    let hours = format!(
        "units = 2\nworking_hours = {{ zone = \"UTC\", days = [\"{day}\"], from = \"03:00\", to = \"04:00\" }}"
    );
    let hours = TIGHTER.replace("units = 2", &hours);
    let (exit, json) = check(&hq, &hours, "berlin");
    assert_eq!((exit, &json["against"]["requests"]), (0, &json!(1)));
    assert_eq!(json["against"]["refused"][0]["code"], "OUT-OF-HOURS");
}

#[test]
fn a_policy_tried_on_a_silent_or_unknown_site_says_so() {
    let hq = Hq::new();
    let (exit, json) = check(&hq, TIGHTER, "lyon");
    assert_eq!((exit, &json["against"]["requests"]), (0, &json!(0)));
    assert_eq!(check(&hq, TIGHTER, "nowhere").0, 2);
}

#[test]
fn a_file_beyond_any_policy_is_called_so() {
    let hq = Hq::new();
    let file = hq.path("large.toml");
    fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    let file = file.to_str().unwrap();
    let draft = ["entitlement", "draft", "--site", "berlin", "--policy", file];
    for arguments in [&["policy", "check", file][..], &draft] {
        let run = hq.run(arguments);
        assert_eq!(
            (run.exit, run.error_code().as_str()),
            (2, "POLICY-TOO-LARGE")
        );
    }
}
