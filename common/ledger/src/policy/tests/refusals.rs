//! One fault, one message.

use super::*;

/// The error of the least policy with one text in place of another.
#[track_caller]
fn refusal(from: &str, to: &str) -> (String, &'static str) {
    assert!(LEAST.contains(from), "the fixture lacks {from}");
    let error = Policy::parse(&LEAST.replacen(from, to, 1)).unwrap_err();
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
    (error.to_string(), error.code())
}

macro_rules! refused {
    ($($name:ident: $from:expr => $to:expr, $code:literal, $message:expr;)+) => {$(
        #[test]
        fn $name() {
            assert_eq!(refusal($from, $to), ($message.to_owned(), $code));
        }
    )+};
}

const UNITS: &str = "units = 100";
const SUBJECT: &str = "serialNumber={device_id}";
const END: &str = "valid_for_days = 90";

refused! {
    what_is_not_toml_is_refused: "[credit]" => "[credit", "POLICY-SYNTAX",
        "policy line 4, column 8: this is not TOML: unclosed table, expected `]`";
    a_field_given_twice_is_refused: UNITS => "units = 100\nunits = 200", "POLICY-SYNTAX",
        "policy line 10, column 1: this is not TOML: duplicate key";
    an_unknown_field_is_refused_with_the_one_that_was_meant: UNITS => "units = 100\nunits_per_dya = 5",
        "POLICY-UNKNOWN-FIELD", "policy line 10, column 1: unknown field `units_per_dya`; did you mean `units_per_day`?";
    an_unknown_field_at_the_top_is_refused: "id = " => "expires = 5\nid = ", "POLICY-UNKNOWN-FIELD",
        "policy line 2, column 1: unknown field `expires`";
    an_unknown_table_is_refused: "[credit]" => "[credits]", "POLICY-UNKNOWN-FIELD",
        "policy line 4, column 2: unknown field `credits`; did you mean `credit`?";
    an_unknown_field_of_credit_is_refused: "max_unreported_days" => "unreported_days", "POLICY-UNKNOWN-FIELD",
        "policy line 6, column 1: unknown field `unreported_days`; did you mean `max_unreported_days`?";
    an_unknown_field_of_the_certificate_is_refused: "no_expiry" => "no_expire", "POLICY-UNKNOWN-FIELD",
        "policy line 13, column 1: unknown field `no_expire`; did you mean `no_expiry`?";
    an_unknown_field_of_working_hours_is_refused:
        UNITS => "units = 100\nworking_hours = { zone = \"UTC\", day = [] }", "POLICY-UNKNOWN-FIELD",
        "policy line 10, column 33: unknown field `day`; did you mean `days`?";
    a_time_that_is_no_text_is_refused_by_what_it_is:
        UNITS => "units = 100\nworking_hours = { zone = \"UTC\", days = [\"mon\"], from = 06:00:00, to = \"07:00\" }", "POLICY-VALUE",
        "policy line 10: from: the time `06:00:00` stands where a text in quotes belongs";
    an_unknown_field_cannot_reach_the_terminal: "id = " => "\"\\u001b[2J\" = 5\nid = ", "POLICY-UNKNOWN-FIELD",
        "policy line 2, column 1: unknown field `\\u{1b}[2J`";
    a_policy_without_schema_is_refused: "schema = 1" => "", "POLICY-FIELD-MISSING",
        "policy line 1: schema is missing: every policy must say it";
    a_policy_of_a_later_schema_is_refused: "schema = 1" => "schema = 2\nnewer = 5", "POLICY-SCHEMA",
        "policy line 1: schema 2 is not known; this version reads schema 1";
    a_policy_without_id_is_refused: "id = \"least\"" => "", "POLICY-FIELD-MISSING",
        "policy line 1: id is missing: every policy must say it";
    an_id_outside_its_alphabet_is_refused: "\"least\"" => "\"Least\"", "POLICY-VALUE",
        format!("policy line 2: id: {}", "Least".parse::<EntitlementId>().unwrap_err());
    a_number_in_quotes_is_refused: UNITS => "units = \"100\"", "POLICY-VALUE",
        "policy line 9: units: the text \"100\" stands where a whole number of at most 63 bits belongs";
    a_fraction_of_a_unit_is_refused: UNITS => "units = 0.5", "POLICY-VALUE",
        "policy line 9: units: the number `0.5` stands where a whole number of at most 63 bits belongs";
    one_name_where_a_list_belongs_is_refused: "[\"P-256\"]" => "\"P-256\"", "POLICY-VALUE",
        "policy line 10: key_algorithms: the text \"P-256\" stands where a list belongs";
    a_product_in_single_brackets_is_refused: "[[product]]" => "[product]", "POLICY-VALUE",
        "policy line 7: product: a table stands where a list belongs";
    a_policy_without_an_end_is_refused: END => "", "POLICY-FIELD-MISSING",
        "policy line 1: valid_until is missing: an entitlement must end; give valid_until or valid_for_days";
    a_window_that_ends_in_two_ways_is_refused: END => "valid_until = 2027-04-01T00:00:00Z\nvalid_for_days = 90",
        "POLICY-WINDOW", "policy line 4: the window is wrong: valid_until and valid_for_days are both given";
    a_window_that_ends_before_it_starts_is_refused:
        END => "valid_from = 2027-04-01T00:00:00Z\nvalid_until = 2027-04-01T00:00:00Z", "POLICY-WINDOW",
        "policy line 4: the window is wrong: it ends 2027-04-01T00:00:00Z, which is not after its start 2027-04-01T00:00:00Z";
    offsets_count_when_a_window_is_judged:
        END => "valid_from = 2027-04-01T00:00:00-01:00\nvalid_until = 2027-04-01T00:30:00Z", "POLICY-WINDOW",
        "policy line 4: the window is wrong: it ends 2027-04-01T00:30:00Z, which is not after its start 2027-04-01T01:00:00Z";
    a_window_beyond_a_century_is_refused:
        END => "valid_from = 2027-04-01T00:00:00Z\nvalid_until = 2128-04-01T00:00:00Z", "POLICY-WINDOW",
        "policy line 4: the window is wrong: it is longer than 36500 days";
    a_window_of_no_days_is_refused: END => "valid_for_days = 0", "POLICY-WINDOW",
        "policy line 3: the window is wrong: valid_for_days = 0 is not within 1 to 36500";
    a_time_without_an_offset_is_refused: END => "valid_until = 2027-04-01T00:00:00", "POLICY-TIME-WITHOUT-OFFSET",
        "policy line 3: valid_until = 2027-04-01T00:00:00 has no offset, so it is a different moment in every place";
    a_date_without_a_time_is_refused: END => "valid_until = 2027-04-01", "POLICY-VALUE",
        "policy line 3: valid_until: 2027-04-01 is not a date with a time and an offset, like 2027-01-01T00:00:00Z";
    a_time_in_quotes_is_refused: END => "valid_until = \"2027-04-01T00:00:00Z\"", "POLICY-VALUE",
        "policy line 3: valid_until: the text \"2027-04-01T00:00:00Z\" stands where a time like 2027-01-01T00:00:00Z, without quotes, belongs";
    a_time_between_seconds_is_refused: END => "valid_until = 2027-04-01T00:00:00.5Z", "POLICY-VALUE",
        "policy line 3: valid_until: 2027-04-01T00:00:00.5Z is not a whole second of Unix time";
    a_leap_second_is_refused: END => "valid_until = 2016-12-31T23:59:60Z", "POLICY-VALUE",
        "policy line 3: valid_until: 2016-12-31T23:59:60Z is not a whole second of Unix time";
    a_time_before_1970_is_refused: END => "valid_until = 1970-01-01T00:00:00+01:00", "POLICY-VALUE",
        "policy line 3: valid_until: 1970-01-01T00:00:00+01:00 is before 1970";
    an_anchor_lease_of_nothing_is_refused: END => "valid_for_days = 90\nanchor_lease_max = 0", "POLICY-VALUE",
        "policy line 4: anchor_lease_max: 0 is not within 1 to 65536";
    a_clock_that_may_be_no_day_ahead_is_refused: END => "valid_for_days = 90\nclock_gap_max_days = 0", "POLICY-VALUE",
        "policy line 4: clock_gap_max_days: 0 is not within 1 to 3650";
    a_clock_that_may_be_eleven_years_ahead_is_refused: END => "valid_for_days = 90\nclock_gap_max_days = 3651", "POLICY-VALUE",
        "policy line 4: clock_gap_max_days: 3651 is not within 1 to 3650";
    a_policy_without_credit_is_refused_with_the_reason:
        "[credit]\nmax_unreported_units = 10\nmax_unreported_days = 14\n" => "", "POLICY-FIELD-MISSING",
        "policy line 1: [credit] is missing: a vault must know when to stop while headquarters does not see its log (audit or stop)";
    credit_without_days_is_refused: "max_unreported_days = 14" => "", "POLICY-FIELD-MISSING",
        "policy line 4: max_unreported_days is missing: every policy must say it";
    credit_of_no_units_is_refused: "max_unreported_units = 10" => "max_unreported_units = 0", "POLICY-VALUE",
        "policy line 5: max_unreported_units: 0 is not within 1 to 281474976710656";
    credit_beyond_ten_years_is_refused: "max_unreported_days = 14" => "max_unreported_days = 3651", "POLICY-VALUE",
        "policy line 6: max_unreported_days: 3651 is not within 1 to 3650";
    a_policy_without_products_is_refused: &LEAST[LEAST.find("[[product]]").unwrap()..] => "", "POLICY-FIELD-MISSING",
        "policy line 1: [[product]] is missing: an entitlement is for at least one product";
    a_product_without_sku_is_refused: "sku = \"TH-200\"" => "", "POLICY-FIELD-MISSING",
        "policy line 7: sku is missing: every policy must say it";
    a_sku_outside_its_alphabet_is_refused: "\"TH-200\"" => "\"TH/200\"", "POLICY-VALUE",
        format!("policy line 8: sku: {}", "TH/200".parse::<Sku>().unwrap_err());
    a_product_of_no_units_is_refused: UNITS => "units = 0", "POLICY-UNITS",
        "policy line 9: units = 0 is not a count of units from 1 to 281474976710656";
    a_negative_number_of_units_is_refused: UNITS => "units = -5", "POLICY-UNITS",
        "policy line 9: units = -5 is not a count of units from 1 to 281474976710656";
    units_beyond_the_slots_are_refused: UNITS => "units = 281474976710657", "POLICY-UNITS",
        "policy line 9: units = 281474976710657 is not a count of units from 1 to 281474976710656";
    units_beyond_any_integer_are_refused: UNITS => "units = 99999999999999999999", "POLICY-VALUE",
        "policy line 9: units: the number `99999999999999999999` stands where a whole number of at most 63 bits belongs";
    a_daily_rate_of_nothing_is_refused: UNITS => "units = 100\nunits_per_day = 0", "POLICY-RATE",
        "policy line 10: units_per_day = 0 is not a rate of 1 or more";
    an_hourly_rate_below_nothing_is_refused: UNITS => "units = 100\nunits_per_hour = -1", "POLICY-RATE",
        "policy line 10: units_per_hour = -1 is not a rate of 1 or more";
    a_product_given_twice_is_refused: "[[product]]" =>
        "[[product]]\nsku = \"TH-200\"\nunits = 5\nkey_algorithms = [\"P-256\"]\ncertificate = { subject = \"serialNumber={device_id}\", no_expiry = true }\n[[product]]",
        "POLICY-PRODUCT-REPEATED", "policy line 13: the product TH-200 was already given on line 8";
    a_pattern_that_does_not_compile_is_refused: UNITS => "units = 100\ndevice_id_pattern = \"TH(\"", "POLICY-PATTERN",
        "policy line 10: device_id_pattern: unclosed group";
    a_pattern_with_look_around_is_refused: UNITS => "units = 100\ndevice_id_pattern = 'a\\bb'", "POLICY-PATTERN",
        "policy line 10: device_id_pattern: anchors and word boundaries have no place inside: the pattern always matches the whole identifier";
    an_empty_pattern_is_refused: UNITS => "units = 100\ndevice_id_pattern = \"\"", "POLICY-PATTERN",
        "policy line 10: device_id_pattern: it is empty, so it matches no device identifier";
    an_unknown_source_of_identifiers_is_refused: UNITS => "units = 100\ndevice_id_source = \"CN\"", "POLICY-VALUE",
        "policy line 10: device_id_source: `CN` is not serialNumber or commonName";
    an_unknown_key_algorithm_is_refused: "[\"P-256\"]" => "[\"P-256\", \"P-255\"]", "POLICY-KEY-ALGORITHM",
        "policy line 10: key_algorithms: `P-255` is not a key algorithm; there are P-256, P-384, Ed25519, RSA-2048, RSA-3072, RSA-4096, RSA";
    a_list_that_names_a_device_twice_is_refused:
        UNITS => "units = 100\ndevice_ids = [\"A-1..A-5\", \"A-3\"]", "POLICY-DEVICE-IDS",
        "policy line 10: device_ids: A-3 is listed twice";
    an_empty_list_is_refused: UNITS => "units = 100\ndevice_ids = []", "POLICY-DEVICE-IDS",
        "policy line 10: device_ids: no device identifier is listed";
    a_range_that_is_none_is_refused_with_its_line:
        UNITS => "units = 100\ndevice_ids = [\n\"A-1\",\n\"A-2..B-3\",\n]", "POLICY-DEVICE-IDS",
        "policy line 12: device_ids: A-2..B-3: both ends must be the same but for the digits that they end in";
    a_range_beyond_ten_millions_is_refused:
        UNITS => "units = 100\ndevice_ids = [\"A-00000000..A-99999999\"]", "POLICY-DEVICE-IDS",
        "policy line 10: device_ids: A-00000000..A-99999999 holds 100000000 device identifiers, and a range has at most 10000000";
    a_list_of_what_is_no_device_identifier_is_refused:
        UNITS => "units = 100\ndevice_ids = [\"A_1\"]", "POLICY-DEVICE-IDS",
        format!("policy line 10: device_ids: {}", "A_1".parse::<mintmark_protocol::identifier::DeviceId>().unwrap_err());
    a_key_algorithm_named_twice_is_refused: "[\"P-256\"]" => "[\"P-256\", \"P-256\"]", "POLICY-KEY-ALGORITHM",
        "policy line 10: key_algorithms: P-256 is named twice";
    a_product_without_a_key_algorithm_is_refused: "[\"P-256\"]" => "[]", "POLICY-KEY-ALGORITHM",
        "policy line 10: key_algorithms: none is named, so no device could have a key";
    more_reissues_than_issue_numbers_are_refused: UNITS => "units = 100\nreissues_per_device = 65536", "POLICY-VALUE",
        "policy line 10: reissues_per_device: 65536 is not within 0 to 65535";
    an_empty_list_of_stations_is_refused: UNITS => "units = 100\nstations = []", "POLICY-VALUE",
        "policy line 10: stations: none is named; leave the field out to let any station ask";
    a_station_named_twice_is_refused: UNITS => "units = 100\nstations = [\"a\", \"a\"]", "POLICY-VALUE",
        "policy line 10: stations: a is named twice";
    a_subject_without_the_device_is_refused: SUBJECT => "O=Acme", "POLICY-SUBJECT",
        "policy line 12: subject: it lacks {device_id}, so all devices would have one name";
    a_subject_with_an_unknown_placeholder_is_refused: SUBJECT => "CN={device}", "POLICY-SUBJECT",
        format!("policy line 12: subject: {}", "CN={device}".parse::<SubjectTemplate>().unwrap_err());
    a_certificate_without_validity_is_refused: "no_expiry = true" => "", "POLICY-VALIDITY",
        "policy line 11: the certificate has neither validity_days nor no_expiry = true";
    a_certificate_that_both_ends_and_does_not_is_refused: "no_expiry = true" => "no_expiry = true\nvalidity_days = 5",
        "POLICY-VALIDITY", "policy line 14: validity_days and no_expiry = true contradict each other";
    no_expiry_that_is_false_is_no_validity: "no_expiry = true" => "no_expiry = false", "POLICY-VALIDITY",
        "policy line 11: the certificate has neither validity_days nor no_expiry = true";
    a_validity_of_no_days_is_refused: "no_expiry = true" => "validity_days = 0", "POLICY-VALIDITY",
        "policy line 13: validity_days = 0 is not within 1 to 36500";
    a_validity_beyond_a_century_is_refused: "no_expiry = true" => "validity_days = 36501", "POLICY-VALIDITY",
        "policy line 13: validity_days = 36501 is not within 1 to 36500";
    an_unknown_key_usage_is_refused: "no_expiry = true" => "no_expiry = true\nextended_key_usage = [\"client\"]",
        "POLICY-KEY-USAGE",
        "policy line 14: extended_key_usage: `client` is not an extended key usage: neither a known name nor a dotted OID";
    a_key_usage_named_in_two_ways_is_refused:
        "no_expiry = true" => "no_expiry = true\nextended_key_usage = [\"clientAuth\", \"1.3.6.1.5.5.7.3.2\"]",
        "POLICY-KEY-USAGE", "policy line 14: extended_key_usage: clientAuth is named twice";
}

/// The least policy with one `[[key]]`, one text of it in place of another.
#[track_caller]
fn key_refusal(from: &str, to: &str) -> (String, &'static str) {
    let key = "[[key]]\nlabel = \"service\"\nalgorithm = \"AES-256\"\nuse = \"derive-device-secret\"\nuses_max = 5\n";
    assert!(key.contains(from), "the fixture lacks {from}");
    Policy::parse(&format!("{LEAST}{key}")).unwrap();
    let error = Policy::parse(&format!("{LEAST}{}", key.replacen(from, to, 1))).unwrap_err();
    (error.to_string(), error.code())
}

#[test]
fn a_subject_that_no_device_fits_is_refused() {
    // A commonName has at most 64 characters (RFC 5280 appendix A.1), and identifiers of this product have 8.
    let subject = |literal: usize| {
        let pattern = "units = 100\ndevice_id_pattern = \"[0-9]{8}\"";
        let subject = format!("CN={}{{device_id}}", "x".repeat(literal));
        LEAST.replace(UNITS, pattern).replace(SUBJECT, &subject)
    };
    assert!(Policy::parse(&subject(56)).is_ok());
    let error = Policy::parse(&subject(57)).unwrap_err();
    assert_eq!(error.code(), "POLICY-SUBJECT");
    let message = error.to_string();
    assert!(
        message.starts_with(
            "policy line 13: subject: for the device 00000000 at any site: the subject's"
        ),
        "{message}"
    );
}

#[test]
fn a_key_that_is_none_is_refused() {
    for (from, to, code, message) in [
        (
            "AES-256",
            "AES-128",
            "POLICY-VALUE",
            "policy line 16: algorithm: `AES-128` is not AES-256 or HMAC-SHA-256",
        ),
        (
            "service",
            "Service",
            "POLICY-VALUE",
            "policy line 15: label: `Service` is not a key label: it must match [a-z0-9-]{1,28}",
        ),
        (
            "derive-device-secret",
            "seal",
            "POLICY-VALUE",
            "policy line 17: use: `seal` is not derive-device-secret or hold",
        ),
        (
            "derive-device-secret",
            "hold",
            "POLICY-VALUE",
            "policy line 18: uses_max: the uses of a key that is only held are not counted",
        ),
        (
            "uses_max = 5",
            "valid_until = 2027-01-01T00:00:00",
            "POLICY-TIME-WITHOUT-OFFSET",
            "policy line 18: valid_until = 2027-01-01T00:00:00 has no offset, so it is a different moment in every place",
        ),
        (
            "uses_max = 5",
            "products = []",
            "POLICY-VALUE",
            "policy line 18: products: no product is given; leave it out for every product",
        ),
        (
            "uses_max = 5",
            "products = [\"TH-200\", \"TH-200\"]",
            "POLICY-VALUE",
            "policy line 18: products: TH-200 is given twice",
        ),
        (
            "uses_max = 5",
            "products = [\"TH-300\"]",
            "POLICY-VALUE",
            "policy line 18: products: the policy has no product TH-300",
        ),
        (
            "uses_max = 5",
            "uses_max = 0",
            "POLICY-VALUE",
            "policy line 18: uses_max: 0 is not within 1 to 281474976710656",
        ),
        (
            "use = \"derive-device-secret\"",
            "",
            "POLICY-FIELD-MISSING",
            "policy line 14: use is missing: every policy must say it",
        ),
        (
            "uses_max = 5\n",
            "uses_max = 5\n[[key]]\nlabel = \"service\"\nalgorithm = \"AES-256\"\nuse = \"hold\"\n",
            "POLICY-KEY-REPEATED",
            "policy line 20: the key `service` was already given on line 15",
        ),
    ] {
        assert_eq!(key_refusal(from, to), (message.to_owned(), code));
    }
}

#[test]
fn a_policy_has_a_ceiling_of_size_and_depth() {
    let padded = format!("{LEAST}#{}", "x".repeat(POLICY_BYTES_MAX - LEAST.len() - 1));
    assert!(Policy::parse(&padded).is_ok());
    let error = Policy::parse(&format!("{padded}x")).unwrap_err();
    assert_eq!(
        error,
        PolicyError::TooLarge {
            bytes: POLICY_BYTES_MAX + 1
        }
    );
    let deep = format!(
        "x = {}{}\n{LEAST}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(Policy::parse(&deep).unwrap_err().code(), "POLICY-SYNTAX");
}

#[test]
fn lists_have_a_ceiling() {
    let (head, product) = LEAST.split_once("[[product]]").unwrap();
    let many = (0..33).map(|n| {
        format!(
            "[[product]]{}",
            product.replace("TH-200", &format!("P-{n}"))
        )
    });
    let error = Policy::parse(&format!("{head}{}", many.collect::<String>())).unwrap_err();
    assert!(
        error.to_string().contains("more than 32 are given"),
        "{error}"
    );
    let keys = (0..17)
        .map(|n| format!("[[key]]\nlabel = \"k-{n}\"\nalgorithm = \"AES-256\"\nuse = \"hold\"\n"));
    let error = Policy::parse(&format!("{LEAST}{}", keys.collect::<String>())).unwrap_err();
    assert!(
        error.to_string().contains("more than 16 are given"),
        "{error}"
    );
    let stations: Vec<String> = (0..65).map(|n| format!("\"s-{n}\"")).collect();
    let (message, _) = refusal(
        UNITS,
        &format!("{UNITS}\nstations = [{}]", stations.join(", ")),
    );
    assert_eq!(
        message,
        "policy line 10: stations: 65 are named, and at most 64 fit"
    );
    let usages: Vec<String> = (0..17).map(|n| format!("\"1.3.6.1.4.1.{n}\"")).collect();
    let usages = format!(
        "no_expiry = true\nextended_key_usage = [{}]",
        usages.join(", ")
    );
    let (message, _) = refusal("no_expiry = true", &usages);
    assert_eq!(
        message,
        "policy line 14: extended_key_usage: 17 are named, and at most 16 fit"
    );
}

#[test]
fn no_text_makes_the_reader_panic() {
    // Every prefix of the example, and the example with every byte replaced by one that upsets parsers.
    for at in 0..EXAMPLE.len() {
        let _ = Policy::parse(&EXAMPLE[..at]);
        for byte in ["\"", "[", "\u{0}", "\u{e4}", "9"] {
            let _ = Policy::parse(&format!("{}{byte}{}", &EXAMPLE[..at], &EXAMPLE[at + 1..]));
        }
    }
}

#[test]
fn a_list_that_no_entitlement_has_room_for_is_refused_with_its_size_and_what_to_do() {
    let list = |count: usize| {
        let many: Vec<String> = (0..count)
            .map(|n| format!("\"TH200-{:08}\"", 2 * n))
            .collect();
        let text = format!("units = 100\ndevice_ids = [{}]", many.join(", "));
        let policy = Policy::parse(&LEAST.replacen(UNITS, &text, 1)).unwrap();
        policy.check_compiles(Q1.from)
    };
    list(5000).unwrap();
    let error = list(7000).unwrap_err();
    assert_eq!(error.code(), "POLICY-DEVICE-IDS");
    let text = error.to_string();
    let start = "policy line 10: device_ids: 7,000 entries of TH-200 are listed one by one or in ranges, and the \
                 entitlement is too large: it would have 112";
    assert!(text.starts_with(start), "{text}");
    assert!(
        text.ends_with("bytes, and at most 98304 are read"),
        "{text}"
    );
    assert!(error.hint().unwrap().contains("use ranges"));
    // As ranges they fit, and millions of them.
    let text = format!(
        "{UNITS}\ndevice_ids = [\"TH200-00000000..TH200-09999999\", \"TH200-10000000..TH200-19999999\"]"
    );
    let policy = Policy::parse(&LEAST.replacen(UNITS, &text, 1)).unwrap();
    policy.check_compiles(Q1.from).unwrap();
    let listed = policy.products()[0].device_ids.as_ref().unwrap();
    assert_eq!((listed.ranges().len(), listed.devices()), (1, 20_000_000));
}
