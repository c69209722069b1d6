//! Policies good and bad, each bad one with a single fault and the message that names it.

mod borders;
mod difference;
mod hours;
mod refusals;
mod reviews;

use mintmark_protocol::entitlement::{AccountTag, Entitlement, Interval};
use mintmark_protocol::identifier::{Fingerprint, Sku, VaultName};

use super::*;

/// The example of the design, word for word.
const EXAMPLE: &str = r#"
schema = 1
id = "th200-2027q1"                         # the entitlement's id
valid_from = 2027-01-01T00:00:00Z           # or valid_for_days = 90, counted from the draft
valid_until = 2027-04-01T00:00:00Z
anchor_lease_max = 256
[credit]
max_unreported_units = 20000
max_unreported_days = 14
[[product]]
sku = "TH-200"
units = 50000
units_per_day = 2000
units_per_hour = 200
device_id_pattern = "TH200-[0-9]{8}"        # anchored, ASCII, linear time
key_algorithms = ["P-256"]
reissues_per_device = 1
stations = ["line-1"]                       # none given: any
working_hours = { zone = "Europe/Berlin", days = ["mon", "tue"], from = "06:00", to = "22:00" }
[product.certificate]
subject = "O=Acme, OU=TH-200, serialNumber={device_id}"
validity_days = 7300                        # or no_expiry = true (99991231235959Z)
extended_key_usage = ["clientAuth"]
[[key]]
label = "service"
algorithm = "HMAC-SHA-256"
use = "derive-device-secret"
uses_max = 50000
"#;

/// 2027-01-01T00:00:00Z and 2027-04-01T00:00:00Z.
const Q1: Interval = Interval {
    from: 1_798_761_600,
    until: 1_806_537_600,
};

/// The least that a policy may say.
const LEAST: &str = r#"schema = 1
id = "least"
valid_for_days = 90
[credit]
max_unreported_units = 10
max_unreported_days = 14
[[product]]
sku = "TH-200"
units = 100
key_algorithms = ["P-256"]
[product.certificate]
subject = "serialNumber={device_id}"
no_expiry = true
"#;

/// The least policy, which raises no doubt, with some texts in place of others.
#[track_caller]
fn text(changes: &[(&str, &str)]) -> String {
    let mut text = LEAST.replace(
        "units = 100",
        "units = 100\ndevice_id_pattern = \"TH200-[0-9]{8}\"",
    );
    text.push_str("extended_key_usage = [\"clientAuth\"]\n");
    for (from, to) in changes {
        assert!(text.contains(from), "the fixture lacks {from}");
        text = text.replacen(from, to, 1);
    }
    text
}

fn without_keys() -> String {
    EXAMPLE.split("[[key]]").next().unwrap().to_owned()
}

/// The key of a label and an algorithm; there is none called `none`.
fn material(label: &KeyLabel, algorithm: KeySetAlgorithm) -> Option<KeyMaterial> {
    let delivery = format!("{label} {algorithm}").into_bytes();
    (label.as_str() != "none").then_some(([9; 32], delivery))
}

fn compile(policy: &Policy, drafted_at: u64) -> Result<Entitlement, PolicyError> {
    let vault = VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    };
    let tag = |sku: &Sku| AccountTag::new(if sku.as_str() == "GW-1" { 2 } else { 1 }).unwrap();
    policy.compile(&Draft {
        vault: &vault,
        version: 3,
        drafted_at,
        approve_until: drafted_at + 5,
        salt: [7; 32],
        accounts: &tag,
        keys: &material,
    })
}

#[test]
fn the_example_of_the_design_is_read_field_for_field() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    assert_eq!(policy.id().as_str(), "th200-2027q1");
    assert_eq!(policy.digest(), Fingerprint::of(EXAMPLE.as_bytes()));
    assert_eq!(policy.window(5), Ok(Q1));
    assert_eq!(policy.anchor_lease_max(), 256);
    assert_eq!(policy.clock_gap_days_max(), 30);
    assert_eq!(
        policy.credit(),
        Credit {
            unreported_units_max: 20_000,
            unreported_days_max: 14
        }
    );
    let [product] = policy.products() else {
        panic!("one product")
    };
    assert_eq!(product.sku.as_str(), "TH-200");
    assert_eq!(product.units, 50_000);
    assert_eq!(
        (product.units_per_day, product.units_per_hour),
        (Some(2000), Some(200))
    );
    assert!(
        product
            .device_id_pattern
            .as_ref()
            .unwrap()
            .matches("TH200-12345678")
    );
    assert_eq!(product.key_algorithms, [KeyAlgorithm::P256]);
    assert_eq!(product.reissues_per_device, 1);
    assert_eq!(
        product.stations.as_ref().unwrap().first().unwrap().as_str(),
        "line-1"
    );
    assert_eq!(product.certificate.validity_days, Some(7300));
    assert_eq!(
        product.certificate.extended_key_usage,
        [ExtendedKeyUsage::ClientAuth]
    );
    let [key] = policy.keys() else {
        panic!("one key")
    };
    assert_eq!(
        (key.label.as_str(), key.usage),
        ("service", KeyUse::DeriveDeviceSecret)
    );
    assert_eq!(
        (key.algorithm, key.uses_max),
        (KeySetAlgorithm::HmacSha256, Some(50_000))
    );
    assert_eq!(
        (key.until, &key.products, key.memory_import),
        (None, &None, false)
    );
}

#[test]
fn what_a_policy_leaves_out_has_its_default() {
    let policy = Policy::parse(LEAST).unwrap();
    assert_eq!(policy.anchor_lease_max(), 256);
    let [product] = policy.products() else {
        panic!("one product")
    };
    assert_eq!(product.reissues_per_device, 0);
    assert_eq!(product.device_id_source, DeviceIdSource::SerialNumber);
    assert_eq!(product.certificate.validity_days, None);
    assert_eq!(
        (
            &product.device_id_pattern,
            &product.stations,
            &product.working_hours
        ),
        (&None, &None, &None)
    );
    assert_eq!(
        (product.units_per_day, product.units_per_hour),
        (None, None)
    );
}

#[test]
fn a_policy_becomes_the_entitlement_that_a_vault_reads() {
    let text = without_keys();
    let policy = Policy::parse(&text).unwrap();
    let entitlement = compile(&policy, 1000).unwrap();
    assert_eq!(
        Entitlement::from_cbor(&entitlement.to_cbor()).unwrap(),
        entitlement
    );
    assert_eq!(
        (
            entitlement.version,
            entitlement.drafted_at,
            entitlement.approve_until
        ),
        (3, 1000, 1005)
    );
    assert_eq!((entitlement.window, entitlement.salt), (Q1, [7; 32]));
    assert_eq!(entitlement.policy_digest, Fingerprint::of(text.as_bytes()));
    assert_eq!(entitlement.vault.to_string(), "berlin/v1");
    let [terms] = &entitlement.products[..] else {
        panic!("one product")
    };
    assert_eq!(terms.account.number(), 1);
    assert_eq!(terms.device_id_pattern.as_deref(), Some("TH200-[0-9]{8}"));
    assert_eq!(terms.key_algorithms, ["P-256"]);
    assert_eq!(
        terms.certificate.subject,
        "O=Acme, OU=TH-200, serialNumber={device_id}"
    );
    assert_eq!(terms.certificate.extended_key_usage, ["clientAuth"]);
    // Mondays and Tuesdays of thirteen weeks; Monday 4 January 2027, 06:00 in Berlin, is 05:00 UTC.
    let hours = terms.working_hours.as_ref().unwrap();
    assert_eq!(hours.len(), 26);
    assert_eq!(
        hours[0],
        Interval {
            from: 1_799_038_800,
            until: 1_799_096_400
        }
    );
}

#[test]
fn a_window_in_days_counts_from_the_draft_or_from_its_start() {
    let entitlement = compile(&Policy::parse(LEAST).unwrap(), 1_000_000).unwrap();
    assert_eq!(
        entitlement.window,
        Interval {
            from: 1_000_000,
            until: 1_000_000 + 90 * 86_400
        }
    );
    let text = LEAST.replace(
        "valid_for_days",
        "valid_from = 2027-01-01T01:00:00+01:00\nvalid_for_days",
    );
    let entitlement = compile(&Policy::parse(&text).unwrap(), 1_000_000).unwrap();
    assert_eq!(entitlement.window, Q1);
    let text = LEAST.replace("valid_for_days = 90", "valid_until = 2027-04-01T00:00:00Z");
    let entitlement = compile(&Policy::parse(&text).unwrap(), Q1.from).unwrap();
    assert_eq!(entitlement.window, Q1);
}

#[test]
fn a_key_becomes_the_terms_that_a_vault_reads_with_what_headquarters_delivers() {
    let text = format!(
        "{EXAMPLE}valid_until = 2027-02-01T00:00:00Z\nproducts = [\"TH-200\"]\n[[key]]\nlabel = \"firmware\"\n\
         algorithm = \"AES-256\"\nuse = \"hold\"\nmemory_import = true\n"
    );
    let entitlement = compile(&Policy::parse(&text).unwrap(), 1000).unwrap();
    let service = KeyTerms {
        label: "service".parse().unwrap(),
        algorithm: KeySetAlgorithm::HmacSha256,
        usage: KeyUse::DeriveDeviceSecret,
        uses_max: Some(50_000),
        until: Some(Q1.from + 31 * 86_400),
        products: Some(vec!["TH-200".parse().unwrap()]),
        memory_import: false,
        check_value: [9; 32],
        delivery: b"service HMAC-SHA-256".to_vec(),
    };
    let firmware = KeyTerms {
        label: "firmware".parse().unwrap(),
        algorithm: KeySetAlgorithm::Aes256,
        usage: KeyUse::Hold,
        uses_max: None,
        until: None,
        products: None,
        memory_import: true,
        check_value: [9; 32],
        delivery: b"firmware AES-256".to_vec(),
    };
    assert_eq!(entitlement.keys, [service, firmware]);
}

#[test]
fn a_policy_in_another_window_has_its_keys_as_long() {
    let text = format!("{EXAMPLE}valid_until = 2027-02-01T00:00:00Z\n");
    let window = Interval {
        from: Q1.until,
        until: Q1.until + 86_400,
    };
    let policy = Policy::parse(&text).unwrap().in_window(window);
    assert_eq!(policy.window(0), Ok(window));
    assert_eq!(policy.keys()[0].until, None);
    assert_eq!(policy.keys()[0].uses_max, Some(50_000));
}

#[test]
fn a_key_that_headquarters_does_not_make_makes_no_entitlement() {
    let text = EXAMPLE.replace("label = \"service\"", "label = \"none\"");
    let error = compile(&Policy::parse(&text).unwrap(), 1000).unwrap_err();
    assert_eq!(error.code(), "POLICY-KEY-MISSING");
    assert_eq!(error.to_string(), "there is no key for the [[key]] `none`");
    assert!(error.hint().unwrap().contains("take the [[key]] out"));
}

#[test]
fn two_products_with_one_account_are_not_compiled() {
    let text = format!(
        "{LEAST}{}",
        LEAST
            .split_once("14\n")
            .unwrap()
            .1
            .replace("TH-200", "TH-300")
    );
    let error = compile(&Policy::parse(&text).unwrap(), 1000).unwrap_err();
    assert_eq!(error.code(), "POLICY-ENTITLEMENT");
    assert!(error.to_string().contains("account tag"), "{error}");
}

#[test]
fn an_entitlement_that_no_vault_would_read_is_not_compiled() {
    let hours = "working_hours = { zone = \"UTC\", days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"], from = \"06:00\", to = \"22:00\" }";
    let (head, product) = LEAST.split_once("[[product]]").unwrap();
    let head = head.replace("= 90", "= 10000");
    let product = product.replace("units = 100", &format!("units = 100\n{hours}"));
    let products = (0..20).map(|n| {
        format!(
            "[[product]]{}",
            product.replace("TH-200", &format!("P-{n}"))
        )
    });
    let text = format!("{head}{}", products.collect::<String>());
    let policy = Policy::parse(&text).unwrap();
    let vault = VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    };
    let tag = |sku: &Sku| AccountTag::new(1 + sku.as_str()[2..].parse::<u64>().unwrap()).unwrap();
    let draft = Draft {
        vault: &vault,
        version: 1,
        drafted_at: Q1.from,
        approve_until: Q1.until,
        salt: [7; 32],
        accounts: &tag,
        keys: &material,
    };
    let error = policy.compile(&draft).unwrap_err();
    assert_eq!(error.code(), "POLICY-ENTITLEMENT");
    let most = format!("at most {ENTITLEMENT_BYTES_MAX} are read");
    assert!(error.to_string().contains(&most), "{error}");
}

#[test]
fn the_draft_finds_what_only_its_time_and_site_show() {
    let text = LEAST.replace("valid_for_days = 90", "valid_until = 2027-04-01T00:00:00Z");
    let error = compile(&Policy::parse(&text).unwrap(), Q1.until).unwrap_err();
    assert_eq!(error.code(), "POLICY-WINDOW");
    assert_eq!(
        error.to_string(),
        "policy line 3: the window is wrong: it ends 2027-04-01T00:00:00Z, which is not after its start \
         2027-04-01T00:00:00Z"
    );
    let subject = format!("\"CN={}{{site}}, serialNumber", "x".repeat(59));
    let policy = Policy::parse(&LEAST.replace("\"serialNumber", &subject)).unwrap();
    let error = compile(&policy, 1000).unwrap_err();
    assert_eq!(error.code(), "POLICY-SUBJECT");
    assert!(
        error.to_string().contains("for the device 0 at berlin"),
        "{error}"
    );
}

#[test]
fn the_policies_that_come_with_the_tools_are_sound() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let policy = Policy::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let entitlement = compile(&policy, Q1.from).unwrap();
        assert_eq!(
            entitlement.products.len(),
            policy.products().len(),
            "{path:?}"
        );
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn rates_count_in_fixed_utc_windows() {
    assert_eq!(hour_window(3599), 0);
    assert_eq!(hour_window(3600), 1);
    assert_eq!(day_window(86_399), 0);
    assert_eq!(day_window(86_400), 1);
    assert_eq!(day_window(Q1.from) + 90, day_window(Q1.until));
}
