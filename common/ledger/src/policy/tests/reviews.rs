//! What reviewers are told.

use super::*;

/// The codes of the warnings of the least policy with some texts in place of others.
#[track_caller]
fn warnings(changes: &[(&str, &str)]) -> Vec<&'static str> {
    Policy::parse(&text(changes))
        .unwrap()
        .warnings(Q1.from)
        .iter()
        .map(|warning| warning.code)
        .collect()
}

#[test]
fn a_sound_policy_raises_no_doubt() {
    assert_eq!(warnings(&[]), [] as [&str; 0]);
}

#[test]
fn a_list_that_is_long_enough_raises_no_doubt_with_a_pattern_or_without() {
    let list = "units = 100\ndevice_ids = [\"TH200-00000001..TH200-00000100\"]";
    assert_eq!(warnings(&[("units = 100", list)]), [] as [&str; 0]);
    let pattern = "device_id_pattern = \"TH200-[0-9]{8}\"";
    let without = [("units = 100", list), (pattern, "")];
    assert_eq!(warnings(&without), [] as [&str; 0]);
}

#[test]
fn a_list_that_its_pattern_forbids_in_part_is_told_in_numbers_with_an_example() {
    let listed = "units = 100\ndevice_id_pattern = \"TH200-[0-9]{8}\"\ndevice_ids = [\"TH200-00000001..TH200-00000090\", \
                  \"TH200-100..TH200-109\"]";
    let text = LEAST.replace("units = 100", listed);
    let warnings = Policy::parse(&text).unwrap().warnings(Q1.from);
    let texts: Vec<_> = warnings
        .iter()
        .filter(|warning| warning.code.starts_with("DEVICE-IDS"))
        .map(|warning| warning.text.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "TH-200: 10 of the 100 listed device identifiers do not match TH200-[0-9]{8}, such as TH200-100: these \
             devices will be refused.",
            "TH-200: 90 device identifiers are listed and match, and 100 units are granted: the rest cannot be made.",
        ]
    );
}

#[test]
fn a_list_is_explained_and_summed_up() {
    let explained = |lines: &str| {
        let text = LEAST.replace("units = 100", &format!("units = 100\n{lines}"));
        let policy = Policy::parse(&text).unwrap();
        let sentence = policy.explain(Q1.from).remove(2);
        let summary = serde_json::to_value(policy.summary(Q1.from)).unwrap();
        (sentence, summary["products"][0].clone())
    };
    let list = "device_ids = [\"TH200-00000199\", \"TH200-00000100..TH200-00000198\", \"A\"]";
    let (sentence, summary) = explained(list);
    assert_eq!(
        sentence,
        "TH-200: the device identifier, in the request's serialNumber, is one of the 101 listed device identifiers A, \
         TH200-00000100..TH200-00000199."
    );
    assert_eq!(
        summary["device_ids"],
        serde_json::json!(["A", "TH200-00000100..TH200-00000199"])
    );
    assert_eq!(summary["device_ids_listed"], 101);
    let pattern = format!("device_id_pattern = \"TH200-[0-9]{{8}}\"\n{list}");
    assert_eq!(
        explained(&pattern).0,
        "TH-200: the device identifier, in the request's serialNumber, matches TH200-[0-9]{8}, such as \
         TH200-00000000, and is one of the 101 listed device identifiers A, TH200-00000100..TH200-00000199."
    );
    let many: Vec<String> = (0..12).map(|n| format!("\"X{:02}\"", 2 * n)).collect();
    let (sentence, _) = explained(&format!("device_ids = [{}]", many.join(", ")));
    assert!(
        sentence.ends_with("the 12 listed device identifiers X00, X02, X04, X06, X08, X10, X12, X14, and 4 more up to X22."),
        "{sentence}"
    );
}

#[test]
fn each_doubt_has_its_code() {
    let units = "units = 100";
    for (from, to, code) in [
        (
            "valid_for_days = 90",
            "valid_until = 2026-12-31T00:00:00Z",
            "WINDOW-OVER",
        ),
        (
            "valid_for_days = 90",
            "valid_from = 2026-01-01T00:00:00Z\nvalid_for_days = 30",
            "WINDOW-OVER",
        ),
        (
            "max_unreported_units = 10",
            "max_unreported_units = 100",
            "CREDIT-NEVER-BINDS",
        ),
        (units, "units = 100\nunits_per_day = 11", "CREDIT-BELOW-DAY"),
        (units, "units = 901\nunits_per_day = 10", "RATE-TOO-LOW"),
        (
            units,
            "units = 100\nunits_per_day = 100\nunits_per_hour = 100",
            "RATE-NEVER-BINDS",
        ),
        (
            "device_id_pattern = \"TH200-[0-9]{8}\"",
            "",
            "PATTERN-ABSENT",
        ),
        (
            "TH200-[0-9]{8}",
            "TH200_[0-9]{8}",
            "PATTERN-MATCHES-NOTHING",
        ),
        ("[0-9]{8}", "[0-9]", "PATTERN-TOO-NARROW"),
        (
            units,
            "units = 100\ndevice_ids = [\"TH200-00000001..TH200-00000099\"]",
            "DEVICE-IDS-TOO-FEW",
        ),
        (
            units,
            "units = 100\ndevice_ids = [\"TH200-00000001..TH200-00000200\", \"GW1\"]",
            "DEVICE-IDS-FORBIDDEN",
        ),
        (
            units,
            "units = 100\nunits_per_day = 40\nunits_per_hour = 4\nworking_hours = { zone = \"UTC\", days = [\"mon\"], \
             from = \"08:00\", to = \"18:00\" }",
            "RATE-NEVER-BINDS",
        ),
        (
            "extended_key_usage = [\"clientAuth\"]",
            "",
            "KEY-USAGE-ABSENT",
        ),
        ("clientAuth", "OCSPSigning", "KEY-USAGE-UNUSUAL"),
        ("clientAuth", "2.5.29.37.0", "KEY-USAGE-UNUSUAL"),
        ("no_expiry = true", "validity_days = 29", "VALIDITY-SHORT"),
    ] {
        assert!(
            warnings(&[(from, to)]).contains(&code),
            "{to}: {:?}",
            warnings(&[(from, to)])
        );
    }
}

/// The vault has one credit, and all its products spend it.
#[test]
fn what_the_products_make_of_a_day_together_is_held_against_the_credit() {
    let told = |first: &str, second: &str| -> Vec<String> {
        let (head, product) = LEAST.split_once("[[product]]").unwrap();
        let of = |sku: &str, lines: &str| {
            let product = product.replace("TH-200", sku);
            product.replace("units = 100", &format!("units = 100\n{lines}"))
        };
        let (first, second) = (of("TH-200", first), of("GW-7", second));
        let text = format!("{head}[[product]]{first}[[product]]{second}");
        let doubts = Policy::parse(&text).unwrap().warnings(Q1.from);
        let of_day = doubts.into_iter().filter(|d| d.code == "CREDIT-BELOW-DAY");
        of_day.map(|doubt| doubt.text).collect()
    };
    let hours = |day: &str| {
        format!(
            "units_per_day = 6\nworking_hours = {{ zone = \"UTC\", days = [\"{day}\"], from = \"08:00\", to = \"18:00\" }}"
        )
    };
    assert_eq!(
        told("units_per_day = 6", "units_per_hour = 5"),
        [
            "TH-200, GW-7: max_unreported_units = 10 is less than the 106 units that one day allows together, so the vault \
             stops within the day unless headquarters answers on it."
        ]
    );
    assert_eq!(
        told("", "units_per_day = 200"),
        [
            "GW-7: max_unreported_units = 10 is less than the 100 units that one day allows, so the vault stops within the \
             day unless headquarters answers on it."
        ]
    );
    assert_eq!(told(&hours("mon"), &hours("mon")).len(), 1);
    // Each on days of its own; and a rate that nobody stated is nobody's plan of a day.
    assert_eq!(told(&hours("mon"), &hours("tue")), [""; 0]);
    assert_eq!(told("units_per_day = 6", ""), [""; 0]);
    assert_eq!(told("units_per_day = 5", "units_per_day = 5"), [""; 0]);
}

#[test]
fn hours_that_are_not_whole_are_told_with_their_minutes() {
    let told = |to: &str| {
        let hours = format!(
            "units = 100\nworking_hours = {{ zone = \"UTC\", days = [\"mon\"], from = \"09:30\", to = \"{to}\" }}"
        );
        let text = LEAST
            .replace("units = 100", &hours)
            .replace("valid_for_days = 90", "valid_for_days = 7");
        Policy::parse(&text).unwrap().explain(Q1.from).concat()
    };
    assert!(told("12:00").contains("on mon: 2 hours 30 minutes within the window."));
    assert!(told("10:15").contains("on mon: 45 minutes within the window."));
    assert!(told("11:30").contains("on mon: 2 hours within the window."));
}

#[test]
fn each_doubt_about_a_key_has_its_code() {
    let key = |fields: &str| {
        let text =
            format!("no_expiry = true\nextended_key_usage = [\"clientAuth\"]\n[[key]]\n{fields}");
        let text = LEAST.replace("no_expiry = true\n", &text).replace(
            "units = 100",
            "units = 100\ndevice_id_pattern = \"TH200-[0-9]{8}\"",
        );
        let warnings = Policy::parse(&text).unwrap().warnings(Q1.from);
        let all: Vec<_> = warnings.into_iter().map(|w| (w.code, w.text)).collect();
        all
    };
    let derived =
        "label = \"service\"\nalgorithm = \"HMAC-SHA-256\"\nuse = \"derive-device-secret\"\n";
    let held = "label = \"service\"\nalgorithm = \"AES-256\"\nuse = \"hold\"\n";
    assert_eq!(key(derived), []);
    assert_eq!(key(&format!("{derived}uses_max = 100\n")), []);
    assert_eq!(key(held), []);
    for (fields, code, text) in [
        (
            format!("{derived}uses_max = 99\n"),
            "KEY-USES-TOO-FEW",
            "The key service has 99 uses, and its products have 100 units: the rest cannot be made.",
        ),
        (
            format!("{derived}valid_until = 2027-02-01T00:00:00Z\n"),
            "KEY-ENDS-EARLY",
            "The key service ends 2027-02-01T00:00:00Z, and the window 2027-04-01T00:00:00Z: no device that gets a \
             secret from it is made after that.",
        ),
        (
            format!("{held}valid_until = 2026-02-01T00:00:00Z\n"),
            "KEY-ENDS-EARLY",
            "The key service ends 2026-02-01T00:00:00Z, and the window 2027-04-01T00:00:00Z: it is of no use any more.",
        ),
        (
            format!("{held}memory_import = true\n"),
            "KEY-MEMORY-IMPORT",
            "The key service may pass through the vault's memory: whoever can read that memory then has the key.",
        ),
    ] {
        assert_eq!(key(&fields), [(code, text.to_owned())]);
    }
    let text = EXAMPLE.replace("[\"P-256\"]", "[\"P-256\", \"Ed25519\", \"RSA-2048\"]");
    let warnings = Policy::parse(&text).unwrap().warnings(Q1.from);
    let doubt = warnings.iter().find(|w| w.code == "KEY-DEVICE-ALGORITHM");
    assert_eq!(
        doubt.unwrap().text,
        "TH-200: devices with Ed25519 or RSA-2048 keys will be refused, since the secret from key service can be encrypted to \
         P-256 and P-384 keys alone."
    );
}

#[test]
fn a_rate_that_just_suffices_raises_no_doubt() {
    // Ninety days from midnight UTC.
    assert_eq!(
        warnings(&[("units = 100", "units = 900\nunits_per_day = 10")]),
        [] as [&str; 0]
    );
    // A window from noon touches 91 UTC days.
    let noon = (
        "valid_for_days = 90",
        "valid_from = 2027-01-01T12:00:00Z\nvalid_for_days = 90",
    );
    assert_eq!(
        warnings(&[noon, ("units = 100", "units = 910\nunits_per_day = 10")]),
        [] as [&str; 0]
    );
    assert_eq!(
        warnings(&[noon, ("units = 100", "units = 911\nunits_per_day = 10")]),
        ["RATE-TOO-LOW"]
    );
}

#[test]
fn working_hours_count_when_rates_are_doubted() {
    // Thirteen Mondays of one UTC hour each, and one unit an hour.
    let hours =
        "working_hours = { zone = \"UTC\", days = [\"mon\"], from = \"06:00\", to = \"07:00\" }";
    let units = |units: u32| format!("units = {units}\nunits_per_hour = 1\n{hours}");
    assert_eq!(warnings(&[("units = 100", &units(13))]), [] as [&str; 0]);
    assert_eq!(warnings(&[("units = 100", &units(14))]), ["RATE-TOO-LOW"]);
}

#[test]
fn the_example_is_explained_in_plain_words() {
    let explained = Policy::parse(EXAMPLE).unwrap().explain(Q1.from);
    assert_eq!(
        explained,
        [
            "Entitlement th200-2027q1 is valid from 2027-01-01T00:00:00Z until 2027-04-01T00:00:00Z: 90 days.",
            "At most 50,000 units of TH-200, 2,000 a UTC day and 200 a UTC hour.",
            "TH-200: the device identifier, in the request's serialNumber, matches TH200-[0-9]{8}, such as TH200-00000000.",
            "TH-200: device keys are P-256. The same device may have 1 re-issue without spending a unit.",
            "TH-200: only the station line-1 may ask.",
            "TH-200: made only from 06:00 to 22:00 Europe/Berlin on mon, tue: 416 hours within the window.",
            "TH-200: the certificate names \"O=Acme, OU=TH-200, serialNumber={device_id}\", is valid for 7,300 days \
             (about 20 years), and is for clientAuth.",
            "The vault makes no more under this entitlement once 20,000 units are unreported (issued and not yet acknowledged by headquarters), or one is unreported for more than 14 days.",
            "After it was switched off, the vault believes a clock that is at most 30 days ahead of its log.",
            "A key \"service\" (HMAC-SHA-256): each device of every product gets a secret from it; at most 50,000 uses.",
            "Key \"service\" gets into the token unwrapped by the token itself, or not at all.",
        ]
    );
    let held = "label = \"firmware\"\nalgorithm = \"AES-256\"\nuse = \"hold\"\nmemory_import = true\nproducts = [\"TH-200\"]\n";
    let explained = Policy::parse(&format!("{LEAST}[[key]]\n{held}"))
        .unwrap()
        .explain(Q1.from);
    assert_eq!(
        explained[explained.len() - 2..],
        [
            "A key \"firmware\" (AES-256): the vault holds it for other software on its token, for TH-200, and does not \
             see or count its uses.",
            "Key \"firmware\" may pass through the vault's memory where the token cannot unwrap it.",
        ]
    );
}

#[test]
fn the_example_asks_for_more_than_its_hours_allow() {
    // 26 days of 16 hours at 200 an hour, and 2,000 a day: 52,000 units; so nothing is doubted.
    let codes: Vec<_> = Policy::parse(EXAMPLE)
        .unwrap()
        .warnings(Q1.from)
        .iter()
        .map(|w| w.code)
        .collect();
    assert!(codes.is_empty(), "{codes:?}");
    // From the middle of February half of them are left.
    let late = Policy::parse(EXAMPLE)
        .unwrap()
        .warnings(Q1.from + 45 * 86_400);
    assert!(late.iter().any(|w| w.code == "RATE-TOO-LOW"), "{late:?}");
}

#[test]
fn a_policy_that_is_over_is_still_explained() {
    let text = LEAST.replace("valid_for_days = 90", "valid_until = 2026-12-31T00:00:00Z");
    let policy = Policy::parse(&text).unwrap();
    assert_eq!(
        policy.explain(Q1.from)[0],
        "Entitlement least drafted now would be over before it starts."
    );
    assert_eq!(policy.summary(Q1.from).valid_until, "2026-12-31T00:00:00Z");
}

#[test]
fn the_summary_has_every_field_as_json() {
    let summary = serde_json::to_value(Policy::parse(EXAMPLE).unwrap().summary(Q1.from)).unwrap();
    assert_eq!(
        summary,
        serde_json::json!({
            "id": "th200-2027q1",
            "policy_digest": Fingerprint::of(EXAMPLE.as_bytes()).to_string(),
            "valid_from": "2027-01-01T00:00:00Z",
            "valid_until": "2027-04-01T00:00:00Z",
            "from_draft": false,
            "anchor_lease_max": 256,
            "clock_gap_max_days": 30,
            "retention_days": null,
            "credit": { "max_unreported_units": 20000, "max_unreported_days": 14 },
            "products": [{
                "sku": "TH-200",
                "units": 50000,
                "units_per_day": 2000,
                "units_per_hour": 200,
                "device_id_pattern": "TH200-[0-9]{8}",
                "device_id_example": "TH200-00000000",
                "device_ids": null,
                "device_ids_listed": null,
                "device_id_source": "serialNumber",
                "key_algorithms": ["P-256"],
                "reissues_per_device": 1,
                "stations": ["line-1"],
                "working_hours": {
                    "text": "06:00 to 22:00 Europe/Berlin on mon, tue", "intervals": 26, "seconds": 26 * 16 * 3600
                },
                "subject": "O=Acme, OU=TH-200, serialNumber={device_id}",
                "validity_days": 7300,
                "extended_key_usage": ["clientAuth"],
            }],
            "keys": [{
                "label": "service", "algorithm": "HMAC-SHA-256", "use": "derive-device-secret", "uses_max": 50000,
                "valid_until": null, "products": null, "memory_import": false,
            }],
        })
    );
}
