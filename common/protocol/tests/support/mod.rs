//! A small world with software keys: one HQ, four officers, one vault, and everything that they send each other.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate uses its own part"
)]

pub mod forge;
mod homes;

#[allow(unused_imports, reason = "each test crate uses its own part")]
pub use homes::*;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::audit_grant::{AuditGrant, Part, PartKind, Secret, SerialKey};
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::device_ids::DeviceIds;
use mintmark_protocol::device_secret::{DeviceOpener, DeviceSecret};
use mintmark_protocol::digest_set::{BITS_MAX, DigestSet, cut};
use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::dossier::{
    DeviceState, Dossier, EntitlementFacts, LoggedRecord, StateFacts,
};
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, Purpose};
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, Lineage, StationId, VaultName};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_delivery::KeyFacts;
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms, KeyUse};
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::receipt::{InclusionProof, Receipt, log_name};
use mintmark_protocol::report::{Report, ReportFormat};
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::revocation::{Revocation, Target};
use mintmark_protocol::segment::{SegmentBuilder, SegmentFacts};
use mintmark_protocol::status::{DeviceCaStatus, SERIAL_DOUBT_BITS, Status, VaultStatus};
use mintmark_protocol::succession::{Succession, WriteOff};
use mintmark_protocol::transport::{Oaep, TransportKey};
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};
use mintmark_protocol::{Error, KeyFailure};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::{PublicKey, SecretKey};
use zeroize::Zeroizing;

/// A private key in memory, from a fixed scalar.
#[derive(Clone)]
pub struct Key {
    secret: SecretKey,
    pub public: PublicKey,
}

impl Key {
    pub fn new(number: u8) -> Self {
        let secret = SecretKey::from_slice(&[number; 32]).unwrap();
        let public = secret.public_key();
        Self { secret, public }
    }

    /// ES256 as RFC 6979 has it: the same bytes every time.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, KeyFailure> {
        Ok(SigningKey::from(&self.secret).sign(message))
    }

    pub fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        let shared = self.secret.diffie_hellman(peer);
        let bytes: [u8; 32] = shared.raw_secret_bytes().as_slice().try_into()?;
        Ok(Zeroizing::new(bytes))
    }

    pub fn open<T>(&self, read: impl FnOnce(Opener<'_>) -> T) -> T {
        let agree = |peer: &PublicKey| self.agree(peer);
        read(Opener {
            public_key: &self.public,
            agree: &agree,
            former: None,
        })
    }
}

pub const ALICE: u8 = 1;
pub const BOB: u8 = 2;
pub const CAROL: u8 = 3;
/// Holds `revoke` alone.
pub const DAVE: u8 = 4;
/// Listed in manifest 2 only.
pub const ERIN: u8 = 5;

/// The key that the officer of this number signs with.
pub fn signing(officer: u8) -> Key {
    Key::new(officer)
}

/// The second signing key of the officer of this number.
pub fn signing_second(officer: u8) -> Key {
    Key::new(officer + 40)
}

/// The key that the officer of this number reads drafts with.
pub fn agreement(officer: u8) -> Key {
    Key::new(officer + 20)
}

pub fn dispatch_key() -> Key {
    Key::new(100)
}

pub fn report_key() -> Key {
    Key::new(101)
}

pub fn audit_key() -> Key {
    Key::new(102)
}

pub fn escrow_key() -> Key {
    Key::new(103)
}

pub fn auditor_key() -> Key {
    Key::new(104)
}

pub fn vault_sign() -> Key {
    Key::new(110)
}

pub fn vault_agree() -> Key {
    Key::new(111)
}

/// A key that nobody lists.
pub fn stranger() -> Key {
    Key::new(120)
}

pub fn vault() -> VaultName {
    vault_named("berlin", "v1")
}

pub fn vault_named(site: &str, vault: &str) -> VaultName {
    VaultName {
        site: site.parse().unwrap(),
        vault: vault.parse().unwrap(),
    }
}

pub fn lineage() -> Lineage {
    Lineage::new([0xab; 16])
}

pub fn officer(number: u8, name: &str, roles: &[Role]) -> Officer {
    Officer {
        id: name.parse().unwrap(),
        signing_keys: vec![signing(number).public, signing_second(number).public],
        agreement_key: agreement(number).public,
        roles: roles.iter().copied().collect(),
    }
}

/// Version 1: alice, bob and carol hold every role, dave revokes; two of them approve anything.
pub fn manifest() -> TrustManifest {
    TrustManifest {
        version: 1,
        hq_name: "Acme headquarters".to_owned(),
        issued_at: 1_800_000_000,
        expires_at: 1_900_000_000,
        previous: None,
        root_certificate: vec![0x30, 0x03, 0x02, 0x01, 0x00],
        officers: vec![
            officer(ALICE, "alice", &Role::ALL),
            officer(BOB, "bob", &Role::ALL),
            officer(CAROL, "carol", &Role::ALL),
            officer(DAVE, "dave", &[Role::Revoke]),
        ],
        thresholds: [2, 2, 2, 2],
        dispatch_key: dispatch_key().public,
        report_key: report_key().public,
        encryption_keys: vec![
            HqEncryptionKey {
                name: "audit".parse().unwrap(),
                key: audit_key().public,
                escrowed: false,
            },
            HqEncryptionKey {
                name: "escrow".parse().unwrap(),
                key: escrow_key().public,
                escrowed: true,
            },
        ],
        dispatch_epoch: 1,
    }
}

/// Version 2: alice is gone, erin is new.
pub fn manifest_second() -> TrustManifest {
    let first = manifest();
    let mut officers = first.officers.clone();
    officers[0] = officer(ERIN, "erin", &Role::ALL);
    TrustManifest {
        version: 2,
        previous: Some(pinned().fingerprint()),
        officers,
        ..first
    }
}

/// The proposal with the approvals of these keys.
pub fn approved(proposal: &Proposal, keys: &[Key]) -> Vec<u8> {
    collected(proposal, keys).to_bytes().unwrap()
}

/// The proposal as it goes to officers, signed by headquarters.
pub fn drafted(proposal: &Proposal) -> Vec<u8> {
    let key = dispatch_key();
    let draft = proposal.draft(&key.public, &|m| key.sign(m)).unwrap();
    draft.to_bytes().unwrap()
}

pub fn collected(proposal: &Proposal, keys: &[Key]) -> Proposal {
    let mut whole = proposal.clone();
    for key in keys {
        let approval = proposal.approve(&key.public, &|m| key.sign(m)).unwrap();
        whole.collect(&approval).unwrap();
    }
    whole
}

pub fn trust_bytes() -> Vec<u8> {
    approved(
        &manifest().propose().unwrap(),
        &[signing(ALICE), signing(BOB)],
    )
}

pub fn pinned() -> Verified<TrustManifest> {
    let proposal = manifest().propose().unwrap();
    TrustManifest::pin(&trust_bytes(), &proposal.fingerprint(), None).unwrap()
}

/// Signed by a threshold of version 1 (bob, carol) and one of version 2 (bob, carol, erin).
pub fn trust_second_bytes() -> Vec<u8> {
    approved(
        &manifest_second().propose().unwrap(),
        &[signing(BOB), signing(CAROL), signing(ERIN)],
    )
}

pub fn officer_request() -> OfficerRequest {
    OfficerRequest {
        id: "alice".parse().unwrap(),
        signing_key: signing(ALICE).public,
        agreement_key: agreement(ALICE).public,
        made_at: 1_800_000_000,
        key_store: "a token in a drawer".to_owned(),
    }
}

pub fn officer_request_bytes() -> Vec<u8> {
    officer_request()
        .seal(&|m| signing(ALICE).sign(m))
        .unwrap()
        .0
}

pub fn enrolment_request() -> EnrolmentRequest {
    // Lengths on both sides of the text key "label": their order is that of their encodings.
    let facts = [("kind", "pkcs11"), ("label", "vault"), ("a-long-name", "x")];
    EnrolmentRequest {
        vault: vault(),
        lineage: lineage(),
        trust_version: 1,
        trust_fingerprint: pinned().fingerprint(),
        signing_key: vault_sign().public,
        agreement_key: vault_agree().public,
        identity_csr: vec![0x30, 0x00],
        device_ca_csr: vec![0x30, 0x01, 0x00],
        facts: facts
            .map(|(name, fact)| (name.to_owned(), fact.to_owned()))
            .into(),
        made_at: 1_800_000_100,
        transport_key: Some(transport_key()),
        device_ca_generation: 1,
    }
}

pub fn enrolment_request_bytes() -> (Vec<u8>, Fingerprint) {
    enrolment_request().seal(&|m| vault_sign().sign(m)).unwrap()
}

pub fn grant() -> EnrolmentGrant {
    EnrolmentGrant {
        salt: [7; 32],
        vault: vault(),
        request_fingerprint: enrolment_request_bytes().1,
        lineage: lineage(),
        identity_tbs: vec![0x30, 0x00],
        device_ca_tbs: vec![0x30, 0x01, 0x00],
        serial_master: Key::new(104).public,
        dispatch_epoch: 1,
        drafted_at: 1_800_000_200,
        approve_until: 1_800_100_000,
        request: enrolment_request_bytes().0,
        purpose: Purpose::Enrolment,
    }
}

/// The public half of a key that a token could unwrap with; nobody has the other half.
pub fn transport_key() -> TransportKey {
    TransportKey {
        oaep: Oaep::Sha1,
        modulus: vec![0xc3; 384],
        exponent: vec![1, 0, 1],
    }
}

/// The next device CA of the vault.
pub fn rotation() -> EnrolmentGrant {
    let request = EnrolmentRequest {
        device_ca_generation: 2,
        ..enrolment_request()
    };
    let (request, request_fingerprint) = request.seal(&|m| vault_sign().sign(m)).unwrap();
    EnrolmentGrant {
        request_fingerprint,
        request,
        purpose: Purpose::Rotation { generation: 2 },
        ..grant()
    }
}

/// A new vault in place of one that was lost.
pub fn succession() -> EnrolmentGrant {
    let write_off = WriteOff {
        account: AccountTag::new(1).unwrap(),
        entitlement: "th200-2027q1".parse().unwrap(),
        sku: "TH-200".parse().unwrap(),
        first_slot: 17,
        units: 33,
    };
    EnrolmentGrant {
        purpose: Purpose::Succession(Succession {
            replaces: "v0".parse().unwrap(),
            lineage: lineage(),
            bundle_sequence: 4,
            log_size: 1000,
            write_offs: vec![write_off],
        }),
        ..grant()
    }
}

pub fn grant_bytes() -> Vec<u8> {
    let proposal = grant().propose(&manifest(), &vault_agree().public).unwrap();
    approved(&proposal, &[signing(ALICE), signing(BOB)])
}

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

pub fn acknowledgement() -> Acknowledgement {
    Acknowledgement {
        salt: [8; 32],
        vault: vault(),
        hq_time: 1_800_050_000,
        lineage: lineage(),
        bundle_sequence: 3,
        bundle_fingerprint: Fingerprint::of(b"bundle"),
        log_size: 1234,
        log_root: Fingerprint::of(b"root"),
        findings: 0,
    }
}

pub fn acknowledgement_bytes() -> Vec<u8> {
    acknowledgement()
        .seal(&manifest(), &vault_agree().public, &|m| {
            dispatch_key().sign(m)
        })
        .unwrap()
}

pub fn restore_declaration() -> RestoreDeclaration {
    let tag = |number| mintmark_protocol::entitlement::AccountTag::new(number).unwrap();
    RestoreDeclaration {
        vault: vault(),
        parent: lineage(),
        size: 1200,
        root: Fingerprint::of(b"root at 1200"),
        lineage: mintmark_protocol::identifier::Lineage::new([0x77; 16]),
        declared_at: 1_800_070_000,
        anchor: 17,
        anchored_size: 1250,
        leases: vec![(tag(1), 410), (tag(3), 12)],
    }
}

pub fn restore_declaration_bytes() -> Vec<u8> {
    let key = vault_sign();
    restore_declaration()
        .seal(&key.public, &|m| key.sign(m))
        .unwrap()
}

pub fn open_restore_declaration(bytes: &[u8]) -> Result<Verified<RestoreDeclaration>, Error> {
    RestoreDeclaration::open(bytes, &vault(), &vault_sign().public)
}

/// A part of the tail that answers the declaration.
pub fn log_tail() -> LogTail {
    LogTail {
        salt: [6; 32],
        vault: vault(),
        declaration: Fingerprint::of(&restore_declaration().to_cbor()),
        part: 1,
        parts: 2,
        log_size: 1234,
        log_root: Fingerprint::of(b"root"),
        first: 1200,
        records: vec![vec![0xa1, 0x00, 0x01], b"record".to_vec()],
    }
}

pub fn log_tail_bytes() -> Vec<u8> {
    log_tail()
        .seal(&manifest(), &vault_agree().public, &|m| {
            dispatch_key().sign(m)
        })
        .unwrap()
}

pub fn open_log_tail(bytes: &[u8]) -> Result<Verified<LogTail>, Error> {
    vault_agree().open(|opener| LogTail::open(bytes, &pinned(), &vault(), opener))
}

pub fn open_acknowledgement(bytes: &[u8]) -> Result<Verified<Acknowledgement>, Error> {
    vault_agree().open(|opener| Acknowledgement::open(bytes, &pinned(), &vault(), opener))
}

/// A dispatch of this content; the second of its epoch.
pub fn dispatch(kind: Kind, id: &str, content: Vec<u8>) -> Dispatch {
    Dispatch {
        vault: vault(),
        epoch: 1,
        sequence: 2,
        previous: Some(Fingerprint::of(b"dispatch before")),
        bundle_seen: Some(BundleSeen {
            lineage: lineage(),
            sequence: 3,
            fingerprint: Fingerprint::of(b"bundle"),
        }),
        kind,
        id: id.to_owned(),
        version: 1,
        content,
        certificates: vec![vec![0x30, 0x00]],
        made_at: 1_800_060_000,
    }
}

/// A dispatch of the acknowledgement.
pub fn dispatch_bytes() -> Vec<u8> {
    let content = acknowledgement_bytes();
    dispatch(Kind::Acknowledgement, "ack-000003", content)
        .seal(&manifest(), &|m| dispatch_key().sign(m))
        .unwrap()
        .0
}

/// Records as a log would write them: of several lengths, none of them CBOR.
pub fn records(first: u64, count: u64) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|sequence| format!("record {sequence} {}", "x".repeat(sequence as usize % 50)))
        .map(String::into_bytes)
        .collect()
}

pub fn segment_bytes(first: u64, count: u64, id: &str) -> (Vec<u8>, SegmentFacts) {
    let mut builder = SegmentBuilder::new(first);
    for record in records(first, count) {
        builder.push(&record);
    }
    builder
        .seal(&vault(), id, &manifest().hq_recipients())
        .unwrap()
}

pub fn segment_id(number: usize) -> String {
    Bundle::segment_id(&lineage(), 2, number)
}

pub fn bundle(segments: Vec<SegmentFacts>) -> Bundle {
    let first = segments.first().map_or(1000, |segment| segment.first);
    let size = segments
        .last()
        .map_or(first, |segment| segment.first + segment.count);
    Bundle {
        vault: vault(),
        lineage: lineage(),
        sequence: 2,
        previous: Some(Fingerprint::of(b"bundle before")),
        dispatch_seen: Some(DispatchSeen {
            epoch: 1,
            sequence: 2,
            fingerprint: Fingerprint::of(b"dispatch"),
        }),
        checkpoint: Checkpoint {
            size,
            root: Fingerprint::of(b"root"),
            time: 1_800_070_000,
        },
        first,
        segments,
        trust_version: 1,
        sealed_at: 1_800_070_001,
        crl: Some(vec![0x30, 0x00]),
    }
}

/// A bundle of two segments, and those.
pub struct Sealed {
    pub bundle: Bundle,
    pub bytes: Vec<u8>,
    pub fingerprint: Fingerprint,
    pub segments: Vec<Vec<u8>>,
}

pub fn sealed_bundle() -> Sealed {
    let (one, one_facts) = segment_bytes(1000, 30, &segment_id(1));
    let (two, two_facts) = segment_bytes(1030, 5, &segment_id(2));
    let bundle = bundle(vec![one_facts, two_facts]);
    let (bytes, fingerprint) = bundle
        .seal(&vault_sign().public, &|m| vault_sign().sign(m))
        .unwrap();
    Sealed {
        bundle,
        bytes,
        fingerprint,
        segments: vec![one, two],
    }
}

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
