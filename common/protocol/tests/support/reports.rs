//! What headquarters gives away of what it knows.

use mintmark_protocol::Error;
use mintmark_protocol::audit_grant::{AuditGrant, Part, PartKind, Secret, SerialKey};
use mintmark_protocol::bundle::Checkpoint;
use mintmark_protocol::digest_set::{BITS_MAX, DigestSet, cut};
use mintmark_protocol::dossier::{
    DeviceState, Dossier, EntitlementFacts, LoggedRecord, StateFacts,
};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::receipt::{InclusionProof, Receipt, log_name};
use mintmark_protocol::report::{Report, ReportFormat};
use mintmark_protocol::status::{DeviceCaStatus, SERIAL_DOUBT_BITS, Status, VaultStatus};
use zeroize::Zeroizing;

use super::*;

/// A receipt of record 7 of the log.
pub fn receipt_bytes() -> Vec<u8> {
    let proof = InclusionProof {
        size: 1035,
        index: 7,
        path: vec![[1; 32], [2; 32]],
    };
    let key = report_key();
    let root = Fingerprint::of(b"root");
    let log = log_name(&vault(), &lineage());
    Receipt::issue(&log, &proof, &root, (&key.public, &|m| key.sign(m))).unwrap()
}

/// A dossier of a device that was scrapped.
pub fn dossier() -> Dossier {
    let record = |record: &[u8]| LoggedRecord {
        record: record.to_vec(),
        receipt: receipt_bytes(),
    };
    Dossier {
        vault: vault(),
        made_at: 1_800_080_000,
        certificate: vec![0x30, 0x00],
        device_ca: vec![0x30, 0x01, 0x01],
        root: vec![0x30, 0x01, 0x02],
        identity: vec![0x30, 0x01, 0x03],
        lineage: lineage(),
        checkpoint: Checkpoint {
            size: 1035,
            root: Fingerprint::of(b"root"),
            time: 1_800_070_000,
        },
        bundle: Some(vec![0xd2, 0x80]),
        records: [record(b"request"), record(b"reserved"), record(b"signed")],
        entitlement: EntitlementFacts {
            id: "th200-2027q1".parse().unwrap(),
            version: 2,
            sku: "TH-200".parse().unwrap(),
            valid_from: 1_800_000_000,
            valid_until: 1_900_000_000,
            approvers: vec!["alice".parse().unwrap(), "bob".parse().unwrap()],
        },
        state: StateFacts {
            state: DeviceState::Scrapped,
            since: Some(1_800_075_000),
            record: Some(1020),
            reason: Some("the casing is cracked".to_owned()),
        },
    }
}

pub fn dossier_bytes() -> Vec<u8> {
    let key = report_key();
    dossier().seal(&key.public, &|m| key.sign(m)).unwrap()
}

pub fn open_dossier(bytes: &[u8]) -> Result<Verified<Dossier>, Error> {
    Dossier::open(bytes, &report_key().public)
}

/// A status of eighty devices, of which one was scrapped.
pub fn status() -> Status {
    let digest = |number: u8| cut(&Fingerprint::of(&[number]), BITS_MAX);
    let set =
        |numbers: std::ops::Range<u8>| DigestSet::new(numbers.map(digest).collect(), BITS_MAX);
    Status {
        made_at: 1_800_080_000,
        trust_version: 1,
        vaults: vec![VaultStatus {
            vault: vault(),
            device_cas: vec![DeviceCaStatus {
                certificate: vec![0x30, 0x00],
                revoked: false,
            }],
            checkpoint: Some(dossier().checkpoint),
            states: [0..79, 0..0, 79..80, 0..0, 0..0, 0..0, 0..0].map(set),
            serials: DigestSet::filter((100..180).map(digest).collect(), SERIAL_DOUBT_BITS),
        }],
    }
}

pub fn status_bytes() -> Vec<u8> {
    let key = report_key();
    status().seal(&key.public, &|m| key.sign(m)).unwrap()
}

/// A report of one line.
pub fn report() -> Report {
    Report {
        made_at: 1_800_090_000,
        format: ReportFormat::Csv,
        content: b"row,site\r\naccount,berlin\r\n".to_vec(),
    }
}

pub fn report_bytes() -> Vec<u8> {
    let key = report_key();
    report().seal(&key.public, &|m| key.sign(m)).unwrap()
}

pub fn open_report(bytes: &[u8]) -> Result<Verified<Report>, Error> {
    Report::open(bytes, &report_key().public)
}

pub fn open_status(bytes: &[u8]) -> Result<Verified<Status>, Error> {
    Status::open(bytes, &report_key().public)
}

/// A grant to whoever holds the key `auditor`.
pub fn audit_grant() -> AuditGrant {
    let secret = |seed: u8| Secret {
        ephemeral: Key::new(seed).public,
        shared: Zeroizing::new([seed; 32]),
    };
    let part = |kind, number| Part {
        kind,
        time: 1_800_080_000,
        bytes: 17,
        digest: Fingerprint::of(b"a part"),
        number,
    };
    AuditGrant {
        salt: [0x66; 32],
        made_at: 1_800_090_000,
        auditor: auditor_key().public,
        from_day: None,
        to_day: Some(20_834),
        hq_keys: vec![audit_key().public],
        secrets: vec![secret(71), secret(72)],
        serial_keys: vec![SerialKey {
            vault: vault(),
            key: Zeroizing::new([0x55; 32]),
        }],
        parts: vec![
            part(PartKind::TrustManifest, 1),
            part(PartKind::Bundle, 0),
            part(PartKind::Segment, 1),
        ],
    }
}

pub fn audit_grant_bytes() -> Vec<u8> {
    let key = report_key();
    audit_grant().seal(&key.public, &|m| key.sign(m)).unwrap()
}

pub fn open_audit_grant(bytes: &[u8]) -> Result<Verified<AuditGrant>, Error> {
    auditor_key().open(|opener| AuditGrant::open(bytes, &report_key().public, opener))
}
