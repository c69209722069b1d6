//! What officers order of a vault: what it may make, with which keys, and what is over.

use mintmark_protocol::Error;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::device_ids::DeviceIds;
use mintmark_protocol::device_secret::{DeviceOpener, DeviceSecret};
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, StationId};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_delivery::KeyFacts;
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms, KeyUse};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};
use zeroize::Zeroizing;

use super::*;

pub fn entitlement() -> Entitlement {
    let ranges = || {
        let texts = ["TH200-00000001", "TH200-00000100..TH200-00000199"];
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let product = |account, sku: &str| ProductTerms {
        account: AccountTag::new(account).unwrap(),
        sku: sku.parse().unwrap(),
        units: 50_000,
        units_per_day: Some(2000),
        units_per_hour: None,
        device_id_pattern: Some("TH200-[0-9]{8}".to_owned()),
        key_algorithms: vec!["P-256".to_owned()],
        reissues_per_device: 1,
        stations: Some(vec![StationId::console()]),
        working_hours: Some(vec![
            Interval {
                from: 1_800_001_000,
                until: 1_800_002_000,
            },
            Interval {
                from: 1_800_003_000,
                until: 1_800_004_000,
            },
        ]),
        certificate: CertificateTerms {
            subject: "O=Acme, serialNumber={device_id}".to_owned(),
            validity_days: Some(7300),
            extended_key_usage: vec!["clientAuth".to_owned()],
        },
        device_id_source: DeviceIdSource::SerialNumber,
        device_ids: Some(DeviceIds::new(ranges()).unwrap()),
    };
    let mut plain = product(2, "TH-300");
    plain.device_ids = None;
    plain.units_per_day = None;
    plain.device_id_pattern = None;
    plain.stations = None;
    plain.working_hours = None;
    plain.certificate.validity_days = None;
    plain.certificate.extended_key_usage = Vec::new();
    Entitlement {
        salt: [9; 32],
        id: "th200-2027q1".parse().unwrap(),
        version: 1,
        vault: vault(),
        drafted_at: 1_800_000_300,
        approve_until: 1_800_100_000,
        window: Interval {
            from: 1_800_001_000,
            until: 1_808_000_000,
        },
        credit: Credit {
            unreported_units_max: 20_000,
            unreported_days_max: 14,
        },
        anchor_lease_max: 256,
        clock_gap_days_max: None,
        retention_days: None,
        products: vec![product(1, "TH-200"), plain],
        policy_digest: Fingerprint::of(b"policy"),
        keys: KEYS.get_or_init(keys).clone(),
        amends: None,
    }
}

/// Encryption is never twice the same, and the example entitlement always is.
static KEYS: std::sync::OnceLock<Vec<KeyTerms>> = std::sync::OnceLock::new();

fn keys() -> Vec<KeyTerms> {
    vec![
        key_terms(
            "service",
            KeyAlgorithm::HmacSha256,
            KeyUse::DeriveDeviceSecret,
        ),
        key_terms("firmware", KeyAlgorithm::Aes256, KeyUse::Hold),
    ]
}

/// A key that is delivered in each way that there is: one by agreement, one by transport.
pub fn key_terms(label: &str, algorithm: KeyAlgorithm, usage: KeyUse) -> KeyTerms {
    let facts = KeyFacts {
        vault: vault(),
        label: label.parse().unwrap(),
        algorithm,
    };
    let delivery = match usage {
        KeyUse::DeriveDeviceSecret => facts.seal_agreed(&[42; 32], &vault_agree().public),
        KeyUse::Hold => {
            facts.seal_transported(&[43; 32], &transport_key(), &|_, key| Ok(key.repeat(12)))
        }
    };
    KeyTerms {
        label: label.parse().unwrap(),
        algorithm,
        usage,
        uses_max: (usage != KeyUse::Hold).then_some(50_000),
        until: (usage != KeyUse::Hold).then_some(1_807_000_000),
        products: (usage != KeyUse::Hold).then(|| vec!["TH-200".parse().unwrap()]),
        memory_import: usage != KeyUse::Hold,
        check_value: [4; 32],
        delivery: delivery.unwrap(),
    }
}

pub fn entitlement_proposal() -> Proposal {
    entitlement()
        .propose(&manifest(), &vault_agree().public)
        .unwrap()
}

pub fn entitlement_bytes() -> Vec<u8> {
    approved(&entitlement_proposal(), &[signing(ALICE), signing(BOB)])
}

pub fn open_entitlement(bytes: &[u8]) -> Result<Verified<Entitlement>, Error> {
    vault_agree().open(|opener| Entitlement::open(bytes, &pinned(), &vault(), opener))
}

/// The key of a device.
pub fn device_key() -> Key {
    Key::new(112)
}

pub fn device_secret() -> DeviceSecret {
    DeviceSecret {
        salt: [13; 32],
        vault: vault(),
        sku: "TH-200".parse().unwrap(),
        device_id: "TH200-00000001".parse().unwrap(),
        spki_sha256: AgreementKey::P256(device_key().public)
            .spki_sha256()
            .unwrap(),
        label: "service".parse().unwrap(),
        entitlement: "th200-2027q1".parse().unwrap(),
        secret: Zeroizing::new([44; 32]),
    }
}

pub fn device_secret_bytes() -> Vec<u8> {
    let device = AgreementKey::P256(device_key().public);
    device_secret()
        .seal(&device, &vault_sign().public, &[0x30, 0x00], &|m| {
            vault_sign().sign(m)
        })
        .unwrap()
}

/// Opens a device secret as [`device_key`]'s device does.
pub fn open_device_secret(bytes: &[u8]) -> Result<DeviceSecret, Error> {
    let public_key = AgreementKey::P256(device_key().public);
    let agree = |peer: &AgreementKey| match peer {
        AgreementKey::P256(peer) => Ok(Zeroizing::new(device_key().agree(peer)?.to_vec())),
        AgreementKey::P384(_) => Err("another curve".into()),
    };
    let opener = DeviceOpener {
        public_key: &public_key,
        agree: &agree,
    };
    DeviceSecret::open(bytes, &vault_sign().public, opener)
}

pub fn revocation(target: Target) -> Revocation {
    Revocation {
        salt: [10; 32],
        vault: vault(),
        number: 1,
        target,
        reason: "the line was sold".to_owned(),
        drafted_at: 1_800_000_300,
        approve_until: 1_800_100_000,
    }
}

pub fn revocation_bytes() -> Vec<u8> {
    let id = "th200-2027q1".parse().unwrap();
    let revocation = revocation(Target::Entitlement(id));
    let proposal = revocation
        .propose(&manifest(), &vault_agree().public)
        .unwrap();
    approved(&proposal, &[signing(ALICE), signing(DAVE)])
}

pub fn clock_correction() -> ClockCorrection {
    ClockCorrection {
        salt: [11; 32],
        vault: vault(),
        number: 1,
        time: 1_800_000_000,
        reason: "the battery of the clock was replaced".to_owned(),
        drafted_at: 1_800_000_300,
        approve_until: 1_800_100_000,
    }
}

pub fn clock_correction_bytes() -> Vec<u8> {
    let proposal = clock_correction()
        .propose(&manifest(), &vault_agree().public)
        .unwrap();
    approved(&proposal, &[signing(ALICE), signing(BOB)])
}

pub fn reanchor() -> Reanchor {
    Reanchor {
        salt: [12; 32],
        vault: vault(),
        number: 1,
        lineage: lineage(),
        bundle_sequence: 3,
        bundle_fingerprint: Fingerprint::of(b"bundle"),
        log_size: 1234,
        log_root: Fingerprint::of(b"root"),
        reason: "the token was initialised anew".to_owned(),
        drafted_at: 1_800_000_300,
        approve_until: 1_800_100_000,
    }
}

pub fn reanchor_bytes() -> Vec<u8> {
    let proposal = reanchor()
        .propose(&manifest(), &vault_agree().public)
        .unwrap();
    approved(&proposal, &[signing(ALICE), signing(BOB)])
}
