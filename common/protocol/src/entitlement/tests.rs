use super::*;
use crate::device_ids::DeviceIds;
use crate::identifier::StationId;

pub(crate) fn example() -> Entitlement {
    let product = |account, sku: &str| ProductTerms {
        account: AccountTag::new(account).unwrap(),
        sku: sku.parse().unwrap(),
        units: 5,
        units_per_day: Some(3),
        units_per_hour: None,
        device_id_pattern: Some("TH200-[0-9]{8}".to_owned()),
        key_algorithms: vec!["P-256".to_owned()],
        reissues_per_device: 1,
        stations: Some(vec![StationId::console()]),
        working_hours: Some(vec![
            Interval { from: 1, until: 2 },
            Interval { from: 2, until: 9 },
        ]),
        certificate: CertificateTerms {
            subject: "O=Acme, serialNumber={device_id}".to_owned(),
            validity_days: Some(7300),
            extended_key_usage: vec!["clientAuth".to_owned()],
        },
        device_id_source: DeviceIdSource::SerialNumber,
        device_ids: Some(
            DeviceIds::new(vec!["TH200-00000100..TH200-00000199".parse().unwrap()]).unwrap(),
        ),
    };
    Entitlement {
        salt: [9; 32],
        id: "th200-2027q1".parse().unwrap(),
        version: 1,
        vault: VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        },
        drafted_at: 10,
        approve_until: 20,
        window: Interval {
            from: 30,
            until: 40,
        },
        credit: Credit {
            unreported_units_max: 100,
            unreported_days_max: 14,
        },
        anchor_lease_max: 256,
        clock_gap_days_max: None,
        retention_days: Some(90),
        products: vec![product(1, "TH-200"), product(2, "TH-300")],
        policy_digest: Fingerprint::of(b"policy"),
        keys: Vec::new(),
        amends: None,
    }
}

#[test]
fn an_entitlement_survives_its_encoding() {
    let entitlement = example();
    assert_eq!(
        Entitlement::from_cbor(&entitlement.to_cbor()).unwrap(),
        entitlement
    );
}

#[test]
fn the_id_of_a_draft_is_an_identifier_that_tells_vaults_entitlements_and_versions_apart() {
    let mut seen = std::collections::BTreeSet::new();
    let long = "x".repeat(IDENTIFIER_BYTES_MAX);
    for id in ["e", "th200-2027q1", &long[1..], &long] {
        for version in [1, 2, u64::MAX] {
            for site in ["berlin", "lyon"] {
                let mut entitlement = example();
                entitlement.id = id.parse().unwrap();
                entitlement.version = version;
                entitlement.vault.site = site.parse().unwrap();
                let draft = entitlement.object_id();
                assert!(draft.parse::<EntitlementId>().is_ok(), "{draft}");
                assert!(seen.insert(draft));
            }
        }
    }
    // printf berlin/v1/th200-2027q1 | sha256sum
    assert_eq!(example().object_id(), "th200-2027q1-v1-6696483c");
}

#[test]
fn an_entitlement_that_contradicts_itself_is_refused() {
    let refused = |change: fn(&mut Entitlement)| {
        let mut entitlement = example();
        change(&mut entitlement);
        Entitlement::from_cbor(&entitlement.to_cbor())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(|e| e.version = 0).contains("count from 1"));
    assert!(refused(|e| e.amends = Some(e.policy_digest)).contains("replaces none"));
    assert!(refused(|e| e.window.until = 30).contains("ends before it starts"));
    assert!(refused(|e| e.products[1].account = e.products[0].account).contains("account tag"));
    assert!(refused(|e| e.products.clear()).contains("no product"));
    assert!(refused(|e| e.products[0].units = UNITS_MAX + 1).contains("2^48"));
    let backwards = |e: &mut Entitlement| {
        e.products[0].working_hours = Some(vec![Interval { from: 5, until: 4 }]);
    };
    assert!(refused(backwards).contains("ordered pairs"));
}
