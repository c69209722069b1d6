//! The last policy that a rule or a doubt lets through, and the first that it does not.

use super::*;

/// What reviewers of it are told.
#[track_caller]
fn doubts(changes: &[(&str, &str)]) -> Vec<String> {
    let warnings = Policy::parse(&text(changes)).unwrap().warnings(Q1.from);
    warnings.into_iter().map(|warning| warning.text).collect()
}

const UNITS: &str = "units = 100";
const END: &str = "valid_for_days = 90";

#[test]
fn of_a_rate_that_limits_nothing_is_told_which_and_why() {
    let hours =
        "working_hours = { zone = \"UTC\", days = [\"mon\"], from = \"08:00\", to = \"18:00\" }";
    let told = |rates: &str| {
        let doubts = doubts(&[(UNITS, &format!("units = 100\n{rates}"))]);
        let never: Vec<_> = doubts
            .into_iter()
            .filter(|doubt| doubt.contains("limits nothing"))
            .collect();
        never.first().cloned().unwrap_or_default()
    };
    for (rates, expected) in [
        ("units_per_day = 9\nunits_per_hour = 8", ""),
        (
            "units_per_day = 9\nunits_per_hour = 9",
            "TH-200: units_per_hour limits nothing: units_per_day is no higher.",
        ),
        ("units_per_day = 47\nunits_per_hour = 2", ""),
        (
            "units_per_day = 48\nunits_per_hour = 2",
            "TH-200: units_per_day limits nothing: 24 hours at units_per_hour are no more.",
        ),
        (
            &format!("units_per_day = 19\nunits_per_hour = 2\n{hours}"),
            "",
        ),
        (
            &format!("units_per_day = 20\nunits_per_hour = 2\n{hours}"),
            "TH-200: units_per_day limits nothing: the working hours of a day at units_per_hour are no more.",
        ),
        ("units_per_day = 99", ""),
        (
            "units_per_day = 100",
            "TH-200: units_per_day limits nothing: there are no more units in all.",
        ),
        ("units_per_hour = 99", ""),
        (
            "units_per_hour = 100",
            "TH-200: units_per_hour limits nothing: there are no more units in all.",
        ),
    ] {
        assert_eq!(told(rates), expected, "{rates}");
    }
}

#[test]
fn a_doubt_begins_where_something_is_missing() {
    let none: [&str; 0] = [];
    // A window that ends with the draft is over.
    let over = |until: &str| {
        let doubts = doubts(&[(
            END,
            &format!("valid_from = 2026-01-01T00:00:00Z\nvalid_until = {until}"),
        )]);
        doubts
            .iter()
            .any(|doubt| doubt.starts_with("The window ended"))
    };
    assert!(over("2027-01-01T00:00:00Z"));
    assert!(!over("2027-01-01T00:00:01Z"));
    // As many identifiers as units, by a pattern and by a list.
    assert_eq!(doubts(&[("[0-9]{8}", "[0-9]{2}")]), none);
    let pattern = "device_id_pattern = \"TH200-[0-9]{8}\"";
    let listed = |last: &str| {
        let list = format!("device_ids = [\"TH200-00000001..TH200-{last}\"]");
        doubts(&[(pattern, &list)])
    };
    assert_eq!(listed("00000100"), none);
    assert_eq!(
        listed("00000099"),
        [
            "TH-200: 99 device identifiers are listed, and 100 units are granted: the rest cannot be made."
        ]
    );
    // Certificates of a month.
    let days = |days| {
        let validity = format!("validity_days = {days}");
        doubts(&[("no_expiry = true", &validity)]).len()
    };
    assert_eq!([days(29), days(30)], [1, 0]);
    // A key that lasts as long as the window.
    let key = |until: &str| {
        let key = "[[key]]\nlabel = \"service\"\nalgorithm = \"AES-256\"\nuse = \"hold\"\n";
        let text = format!("{}{key}valid_until = {until}\n", text(&[]));
        let warnings = Policy::parse(&text).unwrap().warnings(Q1.from);
        warnings.into_iter().map(|w| w.text).collect::<Vec<_>>()
    };
    assert_eq!(key("2027-04-01T00:00:00Z"), none);
    assert_eq!(
        key("2027-03-31T23:59:59Z"),
        [
            "The key service ends 2027-03-31T23:59:59Z, and the window 2027-04-01T00:00:00Z: the entitlement goes on without it."
        ]
    );
}

#[test]
fn a_purpose_that_devices_seldom_have_is_told_with_what_it_would_let_them_do() {
    for (usage, why) in [
        (
            "OCSPSigning",
            "would let each device say which certificates of its CA are revoked",
        ),
        (
            "timeStamping",
            "would let each device state times that others rely on",
        ),
        ("codeSigning", "would let each device sign programs"),
        (
            "2.5.29.37.0",
            "allows every purpose, of a CA's responder too",
        ),
    ] {
        let told = doubts(&[("clientAuth", usage)]);
        assert_eq!(told, [format!("TH-200: extended_key_usage {usage} {why}.")]);
    }
}

#[test]
fn a_first_identifier_that_does_not_match_is_found_wherever_it_stands() {
    for (last, other) in [(4, 5), (0, 1), (8, 9)] {
        let list = "units = 9\ndevice_ids = [\"TH200-00000001..TH200-00000009\"]";
        let pattern = format!("TH200-0000000[0-{last}]");
        let told = doubts(&[(UNITS, list), ("TH200-[0-9]{8}", &pattern)]);
        let such_as = format!("such as TH200-0000000{other}:");
        assert!(
            told.iter().any(|doubt| doubt.contains(&such_as)),
            "{told:?}"
        );
    }
}

#[test]
fn two_years_and_more_are_told_in_years_too() {
    let explained = |days: u32| {
        let validity = format!("validity_days = {days}");
        let policy = Policy::parse(&text(&[("no_expiry = true", &validity)])).unwrap();
        let explained = policy.explain(Q1.from);
        let sentence = explained
            .into_iter()
            .find(|said| said.contains("is valid for"));
        sentence.unwrap()
    };
    assert!(explained(730).contains("730 days (about 2 years)"));
    assert!(!explained(729).contains("years"), "{}", explained(729));
}

#[test]
fn a_pattern_is_counted_along_every_way_and_its_example_is_one_that_can_be() {
    for (pattern, example, size) in [
        // No identifier has an underscore.
        ("(A_|B1)", Some("B1"), 1),
        ("(A*)*B", Some("B"), 64),
        ("_", None, 0),
    ] {
        let language = pattern.parse::<DeviceIdPattern>().unwrap().language();
        let found = language.example.as_ref().map(|id| id.as_str());
        assert_eq!(found, example, "{pattern}");
        assert_eq!(language.size_max, size, "{pattern}");
    }
}

#[test]
fn a_pattern_is_what_was_written() {
    let pattern = |text: &str| text.parse::<DeviceIdPattern>().unwrap();
    assert_eq!(pattern("TH200-[0-9]{8}").as_str(), "TH200-[0-9]{8}");
    assert!(pattern("A[0-9]") == pattern("A[0-9]"));
    assert!(pattern("A[0-9]") != pattern("A[0-8]"));
}

#[test]
fn a_key_gives_secrets_to_the_products_that_it_names_if_it_is_for_secrets() {
    let derives = |key: &str| {
        let text = format!(
            "{}[[key]]\nlabel = \"service\"\nalgorithm = \"HMAC-SHA-256\"\n{key}\n",
            text(&[])
        );
        let policy = Policy::parse(&text).unwrap();
        let sku = |name: &str| name.parse::<Sku>().unwrap();
        let key = &policy.keys()[0];
        [
            key.derives_for(&sku("TH-200")),
            key.derives_for(&sku("TH-300")),
        ]
    };
    let derive = "use = \"derive-device-secret\"";
    assert_eq!(derives(derive), [true, true]);
    let named = format!("{derive}\nproducts = [\"TH-200\"]");
    assert_eq!(derives(&named), [true, false]);
    assert_eq!(derives("use = \"hold\""), [false, false]);
}

#[test]
fn a_window_has_a_century_and_no_second_more() {
    let window = |until: &str| {
        let window = format!("valid_from = 2027-01-01T00:00:00Z\nvalid_until = {until}");
        Policy::parse(&text(&[(END, &window)])).and_then(|policy| policy.window(Q1.from))
    };
    // 36,500 days.
    let last = Q1.from + DAYS_MAX * 86_400;
    assert_eq!(window("2126-12-08T00:00:00Z").unwrap().until, last);
    let error = window("2126-12-08T00:00:01Z").unwrap_err();
    assert!(
        error.to_string().contains("longer than 36500 days"),
        "{error}"
    );
    // Tried in another window, it is cut to that.
    let policy = Policy::parse(&text(&[])).unwrap();
    for (until, cut) in [(last - 1, last - 1), (last, last), (last + 1, last)] {
        let (from, until) = (Q1.from, until);
        let tried = policy.in_window(Interval { from, until });
        assert_eq!(tried.window(0).unwrap().until, cut);
    }
}

#[test]
fn a_time_is_a_whole_second_of_a_minute() {
    let from = |time: &str| {
        let window = format!("valid_from = {time}\n{END}");
        Policy::parse(&text(&[(END, &window)])).and_then(|policy| policy.window(0))
    };
    assert_eq!(from("2027-01-01T00:00:59Z").unwrap().from, Q1.from + 59);
    assert_eq!(from("2027-01-01T00:00:00.0Z").unwrap().from, Q1.from);
    for time in ["2027-01-01T00:00:60Z", "2027-01-01T00:00:00.5Z"] {
        assert!(from(time).is_err(), "{time}");
    }
}

#[test]
fn sixteen_purposes_fit() {
    let usages = |count: u32| {
        let usages: Vec<String> = (0..count).map(|n| format!("\"1.3.6.1.4.1.{n}\"")).collect();
        Policy::parse(&text(&[("\"clientAuth\"", &usages.join(", "))]))
    };
    assert!(usages(16).is_ok());
    assert!(usages(17).is_err());
}

#[test]
fn an_entitlement_is_as_large_as_a_vault_reads_and_no_larger() {
    use mintmark_protocol::entitlement::ENTITLEMENT_BYTES_MAX;
    // So many identifiers, and one of so many letters.
    let entitled = |devices: usize, letters: usize| {
        let list: Vec<String> = (0..devices)
            .map(|n| format!("\"TH200-{:08}\"", 2 * n))
            .collect();
        let last = "G".repeat(letters);
        let list = format!(
            "units = 100\ndevice_ids = [\"{last}\", {}]",
            list.join(", ")
        );
        let policy = Policy::parse(&text(&[(UNITS, &list)])).unwrap();
        compile(&policy, Q1.from).map(|entitlement| entitlement.to_cbor().len())
    };
    let bytes = [6000, 6001].map(|devices| entitled(devices, 24).unwrap());
    let room = (ENTITLEMENT_BYTES_MAX - bytes[0]) / (bytes[1] - bytes[0]);
    let devices = 6000 + room;
    let left = 24 + ENTITLEMENT_BYTES_MAX - entitled(devices, 24).unwrap();
    assert_eq!(entitled(devices, left), Ok(ENTITLEMENT_BYTES_MAX));
    let error = entitled(devices, left + 1).unwrap_err();
    assert_eq!(error.code(), "POLICY-DEVICE-IDS");
}

#[test]
fn an_entitlement_that_hours_make_too_large_is_not_said_to_have_too_many_devices() {
    let list: Vec<String> = (0..700)
        .map(|n| format!("\"TH200-{:08}\"", 2 * n))
        .collect();
    let hours = "working_hours = { zone = \"UTC\", days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"], \
                 from = \"06:00\", to = \"07:00\" }";
    let units = format!("{UNITS}\n{hours}\ndevice_ids = [{}]", list.join(", "));
    let policy = Policy::parse(&text(&[(UNITS, &units), (END, "valid_for_days = 8100")])).unwrap();
    let error = compile(&policy, Q1.from).unwrap_err();
    assert_eq!(error.code(), "POLICY-ENTITLEMENT", "{error}");
}
