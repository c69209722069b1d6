//! What officers are told of an amendment: one line for each of its terms.

use mintmark_protocol::device_ids::DeviceIds;
use mintmark_protocol::entitlement::DeviceIdSource;

use super::*;

/// An entitlement that says something in each field.
fn example() -> Entitlement {
    let text = format!("{EXAMPLE}valid_until = 2027-02-01T00:00:00Z\nproducts = [\"TH-200\"]\n");
    compile(&Policy::parse(&text).unwrap(), Q1.from).unwrap()
}

fn lines(change: impl FnOnce(&mut Entitlement)) -> Vec<String> {
    let (before, mut after) = (example(), example());
    change(&mut after);
    difference(&before, &after)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn each_field_that_changes_is_one_line() {
    type Case = (fn(&mut Entitlement), &'static str);
    let cases: &[Case] = &[
        (
            |e| e.id = "other".parse().unwrap(),
            "id other instead of th200-2027q1",
        ),
        (|e| e.version = 4, "version 4 instead of 3"),
        (
            |e| e.vault.site = "lyon".parse().unwrap(),
            "vault lyon/v1 instead of berlin/v1",
        ),
        (
            |e| e.drafted_at = 0,
            "drafted at 1970-01-01T00:00:00Z instead of 2027-01-01T00:00:00Z",
        ),
        (
            |e| e.approve_until += 1,
            "approved and imported before 2027-01-01T00:00:06Z instead of 2027-01-01T00:00:05Z",
        ),
        (
            |e| e.window.from += 1,
            "valid from 2027-01-01T00:00:01Z instead of 2027-01-01T00:00:00Z",
        ),
        (
            |e| e.window.until += 1,
            "valid until 2027-04-01T00:00:01Z instead of 2027-04-01T00:00:00Z",
        ),
        (
            |e| e.credit.unreported_units_max = 1,
            "unreported at most 1 unit instead of 20,000 units",
        ),
        (
            |e| e.credit.unreported_days_max = 30,
            "unreported no longer than 30 days instead of 14 days",
        ),
        (
            |e| e.anchor_lease_max = 1,
            "anchor lease of at most 1 unit instead of 256 units",
        ),
        (
            |e| e.policy_digest = Fingerprint::new([0; 32]),
            "policy with SHA-256 0000000000000000000000000000000000000000000000000000000000000000 instead of DIGEST",
        ),
        (
            |e| e.products[0].account = AccountTag::new(7).unwrap(),
            "TH-200: account tag 7 instead of 1",
        ),
        (
            |e| e.products[0].units = 60_000,
            "TH-200: units 60,000 instead of 50,000",
        ),
        (
            |e| e.products[0].units_per_day = None,
            "TH-200: units per UTC day without limit instead of 2,000",
        ),
        (
            |e| e.products[0].units_per_hour = Some(1),
            "TH-200: units per UTC hour 1 instead of 200",
        ),
        (
            |e| e.products[0].device_id_pattern = None,
            "TH-200: device identifiers any instead of TH200-[0-9]{8}",
        ),
        (
            |e| e.products[0].key_algorithms.push("P-384".to_owned()),
            "TH-200: device keys P-256, P-384 instead of P-256",
        ),
        (
            |e| e.products[0].reissues_per_device = 0,
            "TH-200: re-issues per device 0 instead of 1",
        ),
        (
            |e| e.products[0].stations = None,
            "TH-200: stations any instead of line-1",
        ),
        (
            |e| e.products[0].working_hours = None,
            "TH-200: working hours at any time instead of 26 intervals of 416 hours in all, \
             from 2027-01-04T05:00:00Z to 2027-03-30T20:00:00Z",
        ),
        (
            |e| {
                let hours = e.products[0].working_hours.as_mut().unwrap();
                (hours[1].from, hours[2].from) = (hours[1].from - 1, hours[2].from + 1);
            },
            "TH-200: working hours otherwise divided instead of 26 intervals of 416 hours in all, \
             from 2027-01-04T05:00:00Z to 2027-03-30T20:00:00Z",
        ),
        (
            |e| e.products[0].certificate.subject = "CN={device_id}".to_owned(),
            "TH-200: certificate subject \"CN={device_id}\" instead of \"O=Acme, OU=TH-200, serialNumber={device_id}\"",
        ),
        (
            |e| e.products[0].certificate.validity_days = None,
            "TH-200: certificates valid for ever instead of 7,300 days",
        ),
        (
            |e| e.products[0].certificate.extended_key_usage.clear(),
            "TH-200: certificates for any purpose instead of clientAuth",
        ),
        (
            |e| e.products[0].device_id_source = DeviceIdSource::CommonName,
            "TH-200: device identifier in commonName instead of serialNumber",
        ),
        (
            |e| e.keys[0].algorithm = KeySetAlgorithm::Aes256,
            "key service: algorithm AES-256 instead of HMAC-SHA-256",
        ),
        (
            |e| e.keys[0].usage = KeyUse::Hold,
            "key service: use hold instead of derive-device-secret",
        ),
        (
            |e| e.keys[0].uses_max = None,
            "key service: uses at most without limit instead of 50,000",
        ),
        (
            |e| e.keys[0].until = None,
            "key service: valid until the end of the entitlement instead of 2027-02-01T00:00:00Z",
        ),
        (
            |e| e.keys[0].products = None,
            "key service: for every product instead of TH-200",
        ),
        (
            |e| e.keys[0].memory_import = true,
            "key service: through the vault's memory allowed instead of forbidden",
        ),
        (
            |e| e.keys[0].check_value = [0; 32],
            "key service: check value 0000000000000000000000000000000000000000000000000000000000000000 instead of \
             0909090909090909090909090909090909090909090909090909090909090909",
        ),
    ];
    let digest = example().policy_digest.to_string();
    for (change, line) in cases {
        assert_eq!(lines(change), [line.replace("DIGEST", &digest)]);
    }
}

#[test]
fn products_and_keys_that_come_and_go_are_one_line_each() {
    let renamed = lines(|e| e.products[0].sku = "TH-300".parse().unwrap());
    assert_eq!(
        renamed,
        [
            "TH-300: new, 50,000 units",
            "TH-200: no longer there, which was 50,000 units"
        ]
    );
    let renamed = lines(|e| e.keys[0].label = "update".parse().unwrap());
    assert_eq!(
        renamed,
        [
            "key update: new, HMAC-SHA-256 to derive-device-secret",
            "key service: no longer there, which was HMAC-SHA-256 to derive-device-secret"
        ]
    );
}

#[test]
fn what_is_random_in_each_draft_and_what_stays_makes_no_line() {
    let none: [String; 0] = [];
    assert_eq!(lines(|_| {}), none);
    let random = |e: &mut Entitlement| {
        e.salt = [1; 32];
        e.keys[0].delivery = vec![1];
    };
    assert_eq!(lines(random), none);
}

#[test]
fn a_change_is_shown_to_programs_field_by_field() {
    let mut after = example();
    after.products[0].units = 60_000;
    let changes = serde_json::to_value(difference(&example(), &after)).unwrap();
    assert_eq!(
        changes,
        serde_json::json!([{ "of": "TH-200", "field": "units", "before": "50,000", "after": "60,000" }])
    );
}

#[test]
fn a_list_that_changes_is_told_by_what_came_and_what_went() {
    let list = |entries: &[&str]| {
        let ranges = entries.iter().map(|entry| entry.parse().unwrap()).collect();
        Some(DeviceIds::new(ranges).unwrap())
    };
    let mut before = example();
    let mut after = before.clone();
    before.products[0].device_ids = list(&["A-1..A-5", "B"]);
    let lines = |before: &Entitlement, after: &Entitlement| -> Vec<String> {
        let changes = difference(before, after);
        changes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lines(&before, &after),
        [
            "TH-200: listed device identifiers without a list instead of the 6 listed device identifiers A-1..A-5, B"
        ]
    );
    after.products[0].device_ids = list(&["A-2..A-9"]);
    assert_eq!(
        lines(&before, &after),
        [
            "TH-200: listed device identifiers 8 instead of 6",
            "TH-200: newly listed A-6..A-9",
            "TH-200: no longer listed A-1, B",
        ]
    );
    assert_eq!(lines(&before, &before), [] as [&str; 0]);
}
