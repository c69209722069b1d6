//! What officers order of the vault, and the keys that come with it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use mintmark_protocol::approval::Proposal;
use mintmark_protocol::device_secret::{
    CHECK_LABEL, DERIVATION_LABEL, DeviceSecret, derivation_context,
};
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, StationId};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_delivery::KeyFacts;
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms, KeyUse};
use mintmark_protocol::order::Order;
use mintmark_protocol::trust::TrustManifest;
use zeroize::Zeroizing;

use super::super::keys::key;
use super::super::{forge, secret};
use super::*;

pub fn grant() -> EnrolmentGrant {
    let (request, request_fingerprint) = enrolment_request_bytes();
    EnrolmentGrant {
        salt: salt("enrolment grant"),
        vault: vault(),
        request_fingerprint,
        lineage: lineage(),
        identity_tbs: identity_tbs(),
        device_ca_tbs: device_ca_to_sign(),
        serial_master: key("serial-master").public,
        dispatch_epoch: EPOCH,
        drafted_at: NEW_YEAR - 20 * DAY,
        approve_until: NEW_YEAR + 10 * DAY,
        request,
        purpose: Purpose::Enrolment,
    }
}

pub(super) fn product(account: u64, sku: &str, units: u64) -> ProductTerms {
    ProductTerms {
        account: AccountTag::new(account).unwrap(),
        sku: sku.parse().unwrap(),
        units,
        units_per_day: Some(2000),
        units_per_hour: None,
        device_id_pattern: Some(format!("{}-[0-9]{{8}}", sku.replace('-', ""))),
        key_algorithms: vec!["P-256".to_owned()],
        reissues_per_device: 1,
        stations: Some(vec![StationId::console()]),
        working_hours: None,
        certificate: CertificateTerms {
            subject: "O=Acme, OU=TH-200, serialNumber={device_id}".to_owned(),
            validity_days: Some(7300),
            extended_key_usage: vec!["clientAuth".to_owned()],
        },
        device_id_source: DeviceIdSource::SerialNumber,
        device_ids: None,
    }
}

/// 50 units of TH-200 at berlin/v1.
pub fn entitlement() -> Entitlement {
    Entitlement {
        salt: salt("entitlement"),
        id: "th200-2027q1".parse().unwrap(),
        version: 1,
        vault: vault(),
        drafted_at: NEW_YEAR - 18 * DAY,
        approve_until: NEW_YEAR + 60 * DAY,
        window: Interval {
            from: NEW_YEAR,
            until: NEW_YEAR + 90 * DAY,
        },
        credit: Credit {
            unreported_units_max: 40,
            unreported_days_max: 14,
        },
        anchor_lease_max: 256,
        clock_gap_days_max: None,
        retention_days: None,
        products: vec![product(1, "TH-200", 50)],
        policy_digest: Fingerprint::of(b"the policy file"),
        keys: Vec::new(),
        amends: None,
    }
}

/// Version 2 of it: 80 units, and working hours.
pub fn amendment() -> Entitlement {
    let mut amendment = Entitlement {
        salt: salt("amendment"),
        version: 2,
        drafted_at: NEW_YEAR + 6 * DAY,
        ..entitlement()
    };
    amendment.products[0].units = 80;
    amendment.products[0].working_hours = Some(vec![
        Interval {
            from: NEW_YEAR + 6 * HOUR,
            until: NEW_YEAR + 30 * DAY,
        },
        Interval {
            from: NEW_YEAR + 31 * DAY,
            until: NEW_YEAR + 90 * DAY,
        },
    ]);
    amendment
}

/// What comes next: another product. The vault of the attacks has not seen it.
pub fn second_entitlement() -> Entitlement {
    let mut second = entitlement();
    second.salt = salt("second entitlement");
    second.id = "gw1-2027q1".parse().unwrap();
    second.drafted_at = END;
    second.products = vec![product(2, "GW-1", 30)];
    second.keys = key_terms();
    second
}

/// The bytes of a key of a key set, as headquarters makes them again whenever they are wanted.
pub fn keyset_key(label: &str, algorithm: KeyAlgorithm) -> [u8; 32] {
    let master = key("keyset-master");
    let shared = master.agree(&master.public).unwrap();
    let info = forge::write(&ciborium::Value::Array(vec![
        "mintmark key".into(),
        1.into(),
        "berlin".into(),
        "v1".into(),
        label.into(),
        algorithm.as_str().into(),
    ]));
    let mut made = [0; 32];
    hkdf::Hkdf::<sha2::Sha256>::new(None, &*shared)
        .expand(&info, &mut made)
        .unwrap();
    made
}

pub(super) fn key_facts(label: &str, algorithm: KeyAlgorithm) -> KeyFacts {
    KeyFacts {
        vault: vault(),
        label: label.parse().unwrap(),
        algorithm,
    }
}

/// The delivery of a key: encryption is random, so it is made once.
pub(super) fn delivered(label: &'static str, algorithm: KeyAlgorithm) -> Vec<u8> {
    static MADE: Mutex<BTreeMap<&str, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    let delivery = made.entry(label).or_insert_with(|| {
        let bytes = keyset_key(label, algorithm);
        let facts = key_facts(label, algorithm);
        facts
            .seal_agreed(&bytes, &key("vault-agree").public)
            .unwrap()
    });
    delivery.clone()
}

/// A key that devices' secrets are derived from, and one that the token holds for other software.
pub(super) fn key_terms() -> Vec<KeyTerms> {
    let terms = |label: &'static str, algorithm, usage| {
        let derives = usage == KeyUse::DeriveDeviceSecret;
        let check = secret::derive(&keyset_key(label, algorithm), algorithm, CHECK_LABEL, &[]);
        KeyTerms {
            label: label.parse().unwrap(),
            algorithm,
            usage,
            uses_max: derives.then_some(30),
            until: derives.then_some(NEW_YEAR + 60 * DAY),
            products: derives.then(|| vec!["GW-1".parse().unwrap()]),
            memory_import: true,
            check_value: check,
            delivery: delivered(label, algorithm),
        }
    };
    vec![
        terms(
            "service",
            KeyAlgorithm::HmacSha256,
            KeyUse::DeriveDeviceSecret,
        ),
        terms("line", KeyAlgorithm::Aes256, KeyUse::Hold),
    ]
}

/// The secret of a device whose key is this one.
pub(super) fn device_secret(device_id: &str, device_key: &AgreementKey, spki: &[u8]) -> Vec<u8> {
    let (label, device_id): (_, DeviceId) =
        ("service".parse().unwrap(), device_id.parse().unwrap());
    let algorithm = KeyAlgorithm::HmacSha256;
    let context = derivation_context(&label, &device_id);
    let bytes = secret::derive(
        &keyset_key("service", algorithm),
        algorithm,
        DERIVATION_LABEL,
        &context,
    );
    let made = DeviceSecret {
        salt: salt(device_id.as_str()),
        vault: vault(),
        sku: "GW-1".parse().unwrap(),
        device_id,
        spki_sha256: Fingerprint::of(spki),
        label,
        entitlement: "gw1-2027q1".parse().unwrap(),
        secret: Zeroizing::new(bytes),
    };
    made.seal(device_key, &key("vault-sign").public, &identity(), &|m| {
        key("vault-sign").sign(m)
    })
    .unwrap()
}

pub(super) fn drafted<T: Order>(order: &T) -> Proposal {
    order
        .propose(&manifest_second(), &key("vault-agree").public)
        .unwrap()
}

/// A draft as it goes to officers, signed by headquarters.
pub fn draft_bytes(proposal: &Proposal) -> Vec<u8> {
    let key = key("dispatch");
    let draft = proposal.draft(&key.public, &|m| key.sign(m)).unwrap();
    draft.to_bytes().unwrap()
}

/// The entitlement, that nobody has signed yet.
pub fn propose(entitlement: &Entitlement, manifest: &TrustManifest) -> Proposal {
    entitlement
        .propose(manifest, &key("vault-agree").public)
        .unwrap()
}
