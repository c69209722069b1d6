//! What happened in the fixed world, message by message. Each vector is one of these messages.

use std::collections::BTreeMap;
use std::sync::Mutex;

use mintmark_ledger::apply::apply;
use mintmark_ledger::decide::{
    DeviceRecord, Input, Lookup, LookupError, RULES_VERSION, Submitted, decide,
};
use mintmark_ledger::entry::{
    Body, BundleSealed, Content, Dispatch as LogDispatch, Entry, Genesis, LogSequence, Request,
    Signed, Start, Submission, Trust, Verdict,
};
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_pki::{
    CertificationRequest, Issuer, assemble, assemble_crl, certification_request, crl_tbs,
    device_ca_tbs, root_tbs, vault_identity_tbs,
};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::device_secret::{
    CHECK_LABEL, DERIVATION_LABEL, DeviceSecret, derivation_context,
};
use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, Purpose};
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Lineage, Sku, StationId, VaultName};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_delivery::KeyFacts;
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms, KeyUse};
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};
use mintmark_protocol::segment::SegmentBuilder;
use mintmark_protocol::succession::{Succession, WriteOff};
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};

use p256::pkcs8::EncodePublicKey as _;
use zeroize::Zeroizing;

use super::keys::key;
use super::{forge, granted, restored, secret};

/// 2027-01-01T00:00:00Z.
pub const NEW_YEAR: u64 = 1_798_761_600;
pub const HOUR: u64 = 3600;
pub const DAY: u64 = 86_400;
/// When the last message of the story was made. Attacks happen the day after.
pub const END: u64 = NEW_YEAR + 10 * DAY;
pub const NAME: &str = "Acme";
pub const EPOCH: u64 = 1;

pub fn vault() -> VaultName {
    vault_named("berlin")
}

pub fn vault_named(site: &str) -> VaultName {
    VaultName {
        site: site.parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

pub fn lineage() -> Lineage {
    Lineage::new(*b"mintmark-lineage")
}

/// A salt: random in a message, and made from a name here.
pub fn salt(name: &str) -> [u8; 32] {
    *Fingerprint::of(format!("mintmark test salt: {name}").as_bytes()).as_bytes()
}

fn serial_number(name: &str) -> [u8; 16] {
    salt(name)[..16].try_into().unwrap()
}

fn certificate(tbs: &[u8]) -> Vec<u8> {
    assemble(tbs, &key("root").sign(tbs).unwrap()).unwrap()
}

/// The certificate of the root.
pub fn root() -> Issuer {
    let tbs = root_tbs(
        NAME,
        &key("root").public,
        &serial_number("root"),
        NEW_YEAR - 40 * DAY,
    )
    .unwrap();
    Issuer::from_certificate_der(&certificate(&tbs)).unwrap()
}

fn identity_tbs() -> Vec<u8> {
    let (key, serial) = (key("vault-sign").public, serial_number("identity"));
    vault_identity_tbs(
        &root(),
        NAME,
        "berlin",
        "v1",
        &key,
        &serial,
        NEW_YEAR - 20 * DAY,
    )
    .unwrap()
}

fn device_ca_to_sign() -> Vec<u8> {
    let (key, serial) = (key("device-ca").public, serial_number("device CA"));
    device_ca_tbs(
        &root(),
        NAME,
        "berlin",
        "v1",
        &key,
        &serial,
        NEW_YEAR - 20 * DAY,
    )
    .unwrap()
}

/// The certificate of the vault's identity.
pub fn identity() -> Vec<u8> {
    certificate(&identity_tbs())
}

/// The certificate of the vault's device CA.
pub fn device_ca() -> Issuer {
    Issuer::from_certificate_der(&certificate(&device_ca_to_sign())).unwrap()
}

fn officer(name: &str, roles: &[Role]) -> Officer {
    let mut signing_keys = vec![key(&format!("{name}-sign")).public];
    if name == "bob" {
        signing_keys.push(key("bob-sign-2").public);
    }
    Officer {
        id: name.parse().unwrap(),
        signing_keys,
        agreement_key: key(&format!("{name}-agree")).public,
        roles: roles.iter().copied().collect(),
    }
}

/// Version 1: alice, bob and carol hold every role, dave revokes; two of them approve anything.
pub fn manifest() -> TrustManifest {
    let encryption_key = |name: &str, escrowed| HqEncryptionKey {
        name: name.parse().unwrap(),
        key: key(name).public,
        escrowed,
    };
    TrustManifest {
        version: 1,
        hq_name: NAME.to_owned(),
        issued_at: NEW_YEAR - 30 * DAY,
        expires_at: NEW_YEAR + 700 * DAY,
        previous: None,
        root_certificate: root().certificate_der().to_vec(),
        officers: vec![
            officer("alice", &Role::ALL),
            officer("bob", &Role::ALL),
            officer("carol", &Role::ALL),
            officer("dave", &[Role::Revoke]),
        ],
        thresholds: [2, 2, 2, 2],
        dispatch_key: key("dispatch").public,
        report_key: key("report").public,
        encryption_keys: vec![
            encryption_key("audit", false),
            encryption_key("escrow", true),
        ],
        dispatch_epoch: EPOCH,
    }
}

/// Version 2: alice is gone, erin is new.
pub fn manifest_second() -> TrustManifest {
    let first = manifest();
    let mut officers = first.officers.clone();
    officers[0] = officer("erin", &Role::ALL);
    TrustManifest {
        version: 2,
        issued_at: NEW_YEAR + 5 * DAY,
        previous: Some(first.propose().unwrap().fingerprint()),
        officers,
        ..first
    }
}

/// The proposal with the approvals of these keys.
pub fn approved(proposal: &Proposal, signers: &[&str]) -> Vec<u8> {
    let mut whole = proposal.clone();
    for key in signers.iter().map(|name| key(name)) {
        let approval = proposal.approve(&key.public, &|m| key.sign(m)).unwrap();
        whole.collect(&approval).unwrap();
    }
    whole.to_bytes().unwrap()
}

pub fn trust_bytes() -> Vec<u8> {
    approved(&manifest().propose().unwrap(), &["alice-sign", "bob-sign"])
}

pub fn trust_second_bytes() -> Vec<u8> {
    let proposal = manifest_second().propose().unwrap();
    approved(&proposal, &["bob-sign", "carol-sign", "erin-sign"])
}

/// Version 1, pinned.
pub fn pinned() -> Verified<TrustManifest> {
    let fingerprint = manifest().propose().unwrap().fingerprint();
    TrustManifest::pin(&trust_bytes(), &fingerprint, None).unwrap()
}

/// Version 2, which follows it.
pub fn pinned_second() -> Verified<TrustManifest> {
    pinned().successor(&trust_second_bytes()).unwrap()
}

pub fn officer_request() -> OfficerRequest {
    OfficerRequest {
        id: "alice".parse().unwrap(),
        signing_key: key("alice-sign").public,
        agreement_key: key("alice-agree").public,
        made_at: NEW_YEAR - 31 * DAY,
        key_store: "a folder of test keys".to_owned(),
    }
}

fn csr(name: &str, subject: &str) -> Vec<u8> {
    let key = key(name);
    let sign = |message: &[u8]| Ok::<_, mintmark_pki::Error>(key.sign(message).unwrap());
    certification_request(subject, &key.public, sign).unwrap()
}

pub fn enrolment_request() -> EnrolmentRequest {
    let facts = [("kind", "file"), ("module", "a folder of test keys")];
    EnrolmentRequest {
        vault: vault(),
        lineage: lineage(),
        trust_version: 1,
        trust_fingerprint: pinned().fingerprint(),
        signing_key: key("vault-sign").public,
        agreement_key: key("vault-agree").public,
        identity_csr: csr("vault-sign", "berlin v1 Vault"),
        device_ca_csr: csr("device-ca", "berlin v1 Device CA"),
        facts: facts
            .map(|(name, fact)| (name.to_owned(), fact.to_owned()))
            .into(),
        made_at: NEW_YEAR - 21 * DAY,
        transport_key: None,
        device_ca_generation: 1,
    }
}

pub fn enrolment_request_bytes() -> (Vec<u8>, Fingerprint) {
    enrolment_request()
        .seal(&|m| key("vault-sign").sign(m))
        .unwrap()
}

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

fn product(account: u64, sku: &str, units: u64) -> ProductTerms {
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

fn key_facts(label: &str, algorithm: KeyAlgorithm) -> KeyFacts {
    KeyFacts {
        vault: vault(),
        label: label.parse().unwrap(),
        algorithm,
    }
}

/// The delivery of a key: encryption is random, so it is made once.
fn delivered(label: &'static str, algorithm: KeyAlgorithm) -> Vec<u8> {
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
fn key_terms() -> Vec<KeyTerms> {
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
fn device_secret(device_id: &str, device_key: &AgreementKey, spki: &[u8]) -> Vec<u8> {
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

fn drafted<T: Order>(order: &T) -> Proposal {
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

/// A vault that has no index: what it is asked for is asked for the first time.
pub struct Nobody;

impl Lookup for Nobody {
    fn device(&self, _: &Sku, _: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }

    fn key(&self, _: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }
}

/// The vault's log, as its rules write it.
#[derive(Clone)]
pub struct Log {
    pub state: State,
    pub records: Vec<Vec<u8>>,
    now: u64,
}

impl Log {
    fn new() -> Self {
        let mut log = Self {
            state: State::new(),
            records: Vec::new(),
            now: NEW_YEAR - 21 * DAY,
        };
        log.write(Body::Genesis(Genesis {
            vault: vault(),
            lineage: lineage(),
            trust_version: 1,
            trust_fingerprint: pinned().fingerprint(),
            enrolment_fingerprint: enrolment_request_bytes().1,
            software: "site 0.1.0".to_owned(),
        }));
        log.start();
        log
    }

    /// A log of these records.
    pub fn of(records: &[Vec<u8>]) -> Self {
        let mut state = State::new();
        for raw in records {
            let entry = Entry::from_cbor(raw).unwrap();
            assert_eq!(entry.to_cbor(), *raw);
            apply(&mut state, raw, &entry);
        }
        let now = state.mark();
        Self {
            state,
            records: records.to_vec(),
            now,
        }
    }

    fn start(&mut self) {
        let boot = self.state.boot() + 1;
        self.write(Body::Start(Start {
            lineage: lineage(),
            boot,
            rules_version: RULES_VERSION,
            software: "site 0.1.0".to_owned(),
            steady: None,
            anchor: None,
        }));
    }

    fn write(&mut self, body: Body) {
        let entry = Entry {
            time: self.now,
            clock_behind_seconds: 0,
            body,
        };
        let raw = entry.to_cbor();
        apply(&mut self.state, &raw, &entry);
        self.records.push(raw);
    }

    /// What the vault decides on a dispatch at this time: the code, if it refuses.
    pub fn judge(&self, now: u64, dispatch: &LogDispatch) -> Result<(), String> {
        let input = Input::Dispatch(dispatch);
        match decide(&self.state, &Nobody, None, now, input)
            .unwrap()
            .to_body()
        {
            Body::DispatchAccepted => Ok(()),
            Body::DispatchRefused { code } => Err(code),
            other => panic!("{other:?}"),
        }
    }

    fn import(&mut self, dispatch: &Dispatch, fingerprint: Fingerprint, content: Content) {
        let dispatch = LogDispatch {
            epoch: dispatch.epoch,
            sequence: dispatch.sequence,
            fingerprint,
            kind: dispatch.kind.as_str().to_owned(),
            id: dispatch.id.clone(),
            version: dispatch.version,
            content: Verdict::Authentic(content),
        };
        assert_eq!(self.judge(self.now, &dispatch), Ok(()));
        self.write(Body::Dispatch(dispatch));
        self.write(Body::DispatchAccepted);
    }

    fn issue(&mut self, sku: &str, device_id: &str, device_key: &str) {
        let der = mintmark_tests::request::der(device_id, &key(device_key).signing());
        let request = CertificationRequest::from_der(&der).unwrap();
        let product: Sku = sku.parse().unwrap();
        let input = Input::Request {
            product: &product,
            station: &StationId::console(),
            submission: Submitted::Verified(&request),
        };
        let decision = decide(&self.state, &Nobody, Some(&serials()), self.now, input).unwrap();
        let body = decision.to_body();
        self.write(Body::Request(Request {
            product: product.clone(),
            station: StationId::console(),
            submission: Submission::Csr { der },
        }));
        self.write(body.clone());
        if let Body::Reserved(reserved) = body {
            let signature = key("device-ca").sign(&reserved.tbs).unwrap();
            self.write(Body::Signed(Signed {
                reservation: LogSequence(self.state.size() - 1),
                signature: signature.to_bytes().into(),
            }));
        }
    }
}

pub fn serials() -> SerialCipher {
    let shared = key("vault-agree")
        .agree(&key("serial-master").public)
        .unwrap();
    SerialCipher::derive(&shared, &vault())
}

/// One sealed bundle and its segments.
#[derive(Clone)]
pub struct Sealed {
    pub bundle: Bundle,
    pub bytes: Vec<u8>,
    pub fingerprint: Fingerprint,
    pub segments: Vec<Vec<u8>>,
}

/// Seals the records from `first` on, a segment for each count.
pub fn seal(
    log: &Log,
    sequence: u64,
    previous: Option<Fingerprint>,
    first: u64,
    counts: &[u64],
    trust_version: u64,
) -> Sealed {
    let recipients = manifest().hq_recipients();
    let (mut segments, mut facts, mut next) = (Vec::new(), Vec::new(), first);
    for (number, count) in (1..).zip(counts) {
        let mut builder = SegmentBuilder::new(next);
        for record in &log.records[next as usize..(next + count) as usize] {
            builder.push(record);
        }
        let id = Bundle::segment_id(&lineage(), sequence, number);
        let (file, found) = builder.seal(&vault(), &id, &recipients).unwrap();
        segments.push(file);
        facts.push(found);
        next += count;
    }
    let chain = log.state.dispatches();
    let crl = crl_tbs(&device_ca(), sequence, log.now, log.now + 60 * DAY, &[]).unwrap();
    let signature = key("device-ca").sign(&crl).unwrap();
    let bundle = Bundle {
        vault: vault(),
        lineage: lineage(),
        sequence,
        previous,
        dispatch_seen: chain.fingerprint.map(|fingerprint| DispatchSeen {
            epoch: EPOCH,
            sequence: chain.sequence,
            fingerprint,
        }),
        checkpoint: Checkpoint {
            size: log.state.size(),
            root: log.state.root(),
            time: log.state.mark(),
        },
        first,
        segments: facts,
        trust_version,
        sealed_at: log.now,
        crl: Some(assemble_crl(&crl, &signature).unwrap()),
    };
    let (bytes, fingerprint) = bundle
        .seal(&key("vault-sign").public, &|m| key("vault-sign").sign(m))
        .unwrap();
    Sealed {
        bundle,
        bytes,
        fingerprint,
        segments,
    }
}

/// A message of the story, with the name of its vector.
pub struct Told {
    pub name: String,
    pub about: &'static str,
    pub bytes: Vec<u8>,
}

/// Everything that was sent, and the vault's log at the end.
pub struct Story {
    pub told: Vec<Told>,
    pub log: Log,
    dispatches: Vec<Fingerprint>,
    seen: Option<BundleSeen>,
}

impl Story {
    fn tell(&mut self, name: &str, about: &'static str, bytes: Vec<u8>) {
        let name = name.to_owned();
        self.told.push(Told { name, about, bytes });
    }

    /// Wraps a content into the next dispatch.
    fn dispatch(
        &mut self,
        kind: Kind,
        id: String,
        version: u64,
        content: Vec<u8>,
        certificates: Vec<Vec<u8>>,
    ) -> (Dispatch, Fingerprint) {
        let dispatch = Dispatch {
            vault: vault(),
            epoch: EPOCH,
            sequence: self.dispatches.len() as u64 + 1,
            previous: self.dispatches.last().copied(),
            bundle_seen: self.seen,
            kind,
            id,
            version,
            content,
            certificates,
            made_at: self.log.now,
        };
        let (bytes, fingerprint) = dispatch
            .seal(&manifest(), &|m| key("dispatch").sign(m))
            .unwrap();
        self.dispatches.push(fingerprint);
        let name = format!("dispatch-{}", dispatch.sequence);
        let about = match dispatch.kind {
            Kind::EnrolmentGrant => {
                "wraps the enrolment grant, with the two certificates that the root made for it"
            }
            Kind::Acknowledgement => "wraps the acknowledgement",
            Kind::Entitlement => "wraps the entitlement",
            _ => "wraps an order of the officers",
        };
        self.tell(&name, about, bytes);
        (dispatch, fingerprint)
    }

    /// From the key ceremony to the last dispatch.
    pub fn tell_all() -> Self {
        let mut story = Self {
            told: Vec::new(),
            log: Log::new(),
            dispatches: Vec::new(),
            seen: None,
        };
        story.trust_and_enrolment();
        story.entitle();
        story.report();
        story.amend();
        let reported = story.size_reported();
        story
            .told
            .extend(restored::told(&story.log.records, reported));
        let evidence = super::evidence::told(&story.log.records, &story.bytes_of("audit-bundle-1"));
        story.told.extend(evidence);
        let record = granted::Record::of(&|name| story.bytes_of(name));
        story.told.push(granted::told(&record));
        story
    }

    /// A message that was told.
    fn bytes_of(&self, name: &str) -> Vec<u8> {
        let told = self.told.iter().find(|told| told.name == name);
        told.unwrap().bytes.clone()
    }

    /// How many records the first report covers.
    fn size_reported(&self) -> u64 {
        let bytes = self.bytes_of("audit-bundle-1");
        let bundle = Bundle::open(&bytes, &vault(), &key("vault-sign").public).unwrap();
        bundle.content().checkpoint.size
    }

    fn trust_and_enrolment(&mut self) {
        let (request, _) = officer_request()
            .seal(&|m| key("alice-sign").sign(m))
            .unwrap();
        self.tell(
            "officer-request",
            "alice asks headquarters to list her keys",
            request,
        );
        self.tell(
            "trust-manifest-1",
            "pinned by its fingerprint",
            trust_bytes(),
        );
        self.tell(
            "enrolment-request",
            "the vault berlin/v1 asks to be let in",
            enrolment_request_bytes().0,
        );
        let proposal = grant()
            .propose(&manifest(), &key("vault-agree").public)
            .unwrap();
        let bytes = approved(&proposal, &["alice-sign", "bob-sign"]);
        self.tell("enrolment-grant", "alice and bob let it in", bytes.clone());
        self.log.now = NEW_YEAR - 19 * DAY;
        let certificates = vec![identity(), device_ca().certificate_der().to_vec()];
        let (dispatch, fingerprint) = self.dispatch(
            Kind::EnrolmentGrant,
            grant().object_id(),
            1,
            bytes,
            certificates.clone(),
        );
        let [identity_certificate, device_ca_certificate] = certificates.try_into().unwrap();
        let content = Content::Grant {
            fingerprint: proposal.fingerprint(),
            plaintext: grant().to_cbor(),
            identity_certificate,
            device_ca_certificate,
        };
        self.log.import(&dispatch, fingerprint, content);
    }

    fn entitle(&mut self) {
        let proposal = propose(&entitlement(), &manifest());
        self.tell(
            "entitlement-draft",
            "as it goes to the officers, signed by headquarters, approved by nobody yet",
            draft_bytes(&proposal),
        );
        let carol = key("carol-sign");
        let approval = proposal.approve(&carol.public, &|m| carol.sign(m)).unwrap();
        self.tell(
            "entitlement-approval",
            "carol approves the draft",
            approval.to_bytes().unwrap(),
        );
        let bytes = approved(&proposal, &["alice-sign", "carol-sign"]);
        self.tell(
            "entitlement",
            "50 units of TH-200, approved by alice and carol",
            bytes.clone(),
        );
        self.log.now = NEW_YEAR - 17 * DAY;
        let (dispatch, fingerprint) = self.dispatch(
            Kind::Entitlement,
            entitlement().object_id(),
            1,
            bytes,
            Vec::new(),
        );
        let content = Content::Entitlement {
            fingerprint: proposal.fingerprint(),
            plaintext: entitlement().to_cbor(),
        };
        self.log.import(&dispatch, fingerprint, content);
    }

    fn report(&mut self) {
        self.log.now = NEW_YEAR + 8 * HOUR;
        self.log.start();
        self.log.issue("TH-200", "TH200-00000001", "device-1");
        self.log.issue("TH-200", "TH200-00000002", "device-2");
        self.log.issue("TH-300", "TH300-00000001", "device-3");
        let size = self.log.state.size();
        let sealed = seal(&self.log, 1, None, 0, &[7, size - 7], 1);
        self.tell(
            "audit-bundle-1",
            "the vault's first report, of two segments",
            sealed.bytes.clone(),
        );
        for (number, segment) in (1..).zip(&sealed.segments) {
            self.tell(
                &format!("audit-segment-1-{number}"),
                "records of the first report",
                segment.clone(),
            );
        }
        self.log.write(Body::BundleSealed(BundleSealed {
            sequence: 1,
            fingerprint: sealed.fingerprint,
            log_size: size,
            requests_unlogged: 0,
        }));
        self.log.now = NEW_YEAR + 3 * DAY;
        let acknowledgement = Acknowledgement {
            salt: salt("acknowledgement"),
            vault: vault(),
            hq_time: self.log.now,
            lineage: lineage(),
            bundle_sequence: 1,
            bundle_fingerprint: sealed.fingerprint,
            log_size: size,
            log_root: sealed.bundle.checkpoint.root,
            findings: 0,
        };
        let bytes = acknowledgement
            .seal(&manifest(), &key("vault-agree").public, &|m| {
                key("dispatch").sign(m)
            })
            .unwrap();
        self.tell(
            "acknowledgement",
            "headquarters holds the first report",
            bytes.clone(),
        );
        self.seen = Some(BundleSeen {
            lineage: lineage(),
            sequence: 1,
            fingerprint: sealed.fingerprint,
        });
        let fingerprint = mintmark_protocol::envelope::claim(&bytes, bytes.len())
            .unwrap()
            .fingerprint;
        let id = acknowledgement.object_id();
        let (dispatch, dispatched) = self.dispatch(Kind::Acknowledgement, id, 1, bytes, Vec::new());
        let content = Content::Acknowledgement {
            fingerprint,
            plaintext: acknowledgement.to_cbor(),
        };
        self.log.import(&dispatch, dispatched, content);
    }

    fn amend(&mut self) {
        self.log.now = NEW_YEAR + 7 * DAY;
        let bytes = trust_second_bytes();
        self.tell(
            "trust-manifest-2",
            "alice has left, erin is new; the vault follows it from version 1",
            bytes,
        );
        self.log.write(Body::Trust(Trust {
            version: 2,
            fingerprint: pinned_second().fingerprint(),
            dispatch_epoch: EPOCH,
        }));
        let proposal = propose(&amendment(), &manifest_second());
        let bytes = approved(&proposal, &["bob-sign", "erin-sign"]);
        self.tell(
            "amendment",
            "version 2 of the entitlement: 80 units, approved by bob and erin",
            bytes.clone(),
        );
        let (dispatch, fingerprint) = self.dispatch(
            Kind::Entitlement,
            amendment().object_id(),
            2,
            bytes,
            Vec::new(),
        );
        let content = Content::Entitlement {
            fingerprint: proposal.fingerprint(),
            plaintext: amendment().to_cbor(),
        };
        self.log.import(&dispatch, fingerprint, content);
        self.log.now = NEW_YEAR + 8 * DAY;
        self.log.start();
        self.log.issue("TH-200", "TH200-00000003", "device-4");
        let (first, size) = (self.log.state.bundles().log_size, self.log.state.size());
        let previous = self.log.state.bundles().fingerprint;
        let sealed = seal(&self.log, 2, previous, first, &[size - first], 2);
        self.tell(
            "audit-bundle-2",
            "the vault's second report, which continues the first",
            sealed.bytes.clone(),
        );
        self.tell(
            "audit-segment-2-1",
            "records of the second report",
            sealed.segments[0].clone(),
        );
        self.log.write(Body::BundleSealed(BundleSealed {
            sequence: 2,
            fingerprint: sealed.fingerprint,
            log_size: size,
            requests_unlogged: 0,
        }));
        // What follows is on its way: no record of it is in the log.
        let end = self.log.now;
        self.log.now = END;
        let proposal = propose(&second_entitlement(), &manifest_second());
        let bytes = approved(&proposal, &["bob-sign", "carol-sign"]);
        self.tell(
            "second-entitlement",
            "30 units of GW-1, which the vault has not seen yet",
            bytes.clone(),
        );
        let id = second_entitlement().object_id();
        self.dispatch(Kind::Entitlement, id, 1, bytes, Vec::new());
        self.order();
        self.rotate();
        self.succeed();
        self.deliver();
        self.log.now = end;
    }

    /// What else officers order, each in a dispatch.
    fn order(&mut self) {
        let (drafted_at, approve_until) = (END, END + 20 * DAY);
        let revocation = Revocation {
            salt: salt("revocation"),
            vault: vault(),
            number: 1,
            target: Target::Entitlement("th200-2027q1".parse().unwrap()),
            reason: "the product is made elsewhere now".to_owned(),
            drafted_at,
            approve_until,
        };
        let bytes = approved(&drafted(&revocation), &["bob-sign", "dave-sign"]);
        self.tell(
            "revocation",
            "ends the entitlement; approved by bob and dave, who may revoke",
            bytes.clone(),
        );
        self.dispatch(
            Kind::Revocation,
            revocation.object_id(),
            1,
            bytes,
            Vec::new(),
        );
        let correction = ClockCorrection {
            salt: salt("clock correction"),
            vault: vault(),
            number: 1,
            time: END,
            reason: "the clock was replaced".to_owned(),
            drafted_at,
            approve_until,
        };
        let bytes = approved(&drafted(&correction), &["bob-sign", "carol-sign"]);
        self.tell(
            "clock-correction",
            "sets the newest time of the log",
            bytes.clone(),
        );
        self.dispatch(
            Kind::ClockCorrection,
            correction.object_id(),
            1,
            bytes,
            Vec::new(),
        );
        let sealed = self.log.state.bundles().sealed[&1];
        let root = self
            .told
            .iter()
            .find(|told| told.name == "audit-bundle-1")
            .unwrap();
        let opened = Bundle::open(&root.bytes, &vault(), &key("vault-sign").public).unwrap();
        let reanchor = Reanchor {
            salt: salt("re-anchor"),
            vault: vault(),
            number: 1,
            lineage: lineage(),
            bundle_sequence: 1,
            bundle_fingerprint: sealed.fingerprint,
            log_size: sealed.log_size,
            log_root: opened.content().checkpoint.root,
            reason: "the token was initialised anew".to_owned(),
            drafted_at,
            approve_until,
        };
        let bytes = approved(&drafted(&reanchor), &["carol-sign", "erin-sign"]);
        self.tell(
            "re-anchor",
            "states the head of the log that headquarters holds",
            bytes.clone(),
        );
        self.dispatch(Kind::Reanchor, reanchor.object_id(), 1, bytes, Vec::new());
    }

    /// The vault asks for its second device CA, now with a transport key, and is granted it.
    fn rotate(&mut self) {
        let request = EnrolmentRequest {
            device_ca_csr: csr("device-ca-2", "berlin v1 Device CA"),
            made_at: END,
            trust_version: 2,
            trust_fingerprint: pinned_second().fingerprint(),
            transport_key: Some(secret::transport_key()),
            device_ca_generation: 2,
            ..enrolment_request()
        };
        let (request, request_fingerprint) = request.seal(&|m| key("vault-sign").sign(m)).unwrap();
        self.tell(
            "rotation-request",
            "asks for the second device CA; states an RSA key that the token unwraps with",
            request.clone(),
        );
        let (ca, serial) = (key("device-ca-2").public, serial_number("device CA 2"));
        let device_ca_tbs =
            device_ca_tbs(&root(), NAME, "berlin", "v1", &ca, &serial, END).unwrap();
        let rotation = EnrolmentGrant {
            salt: salt("rotation"),
            request_fingerprint,
            device_ca_tbs: device_ca_tbs.clone(),
            drafted_at: END,
            approve_until: END + 20 * DAY,
            request,
            purpose: Purpose::Rotation { generation: 2 },
            ..grant()
        };
        let bytes = approved(&drafted(&rotation), &["bob-sign", "carol-sign"]);
        self.tell(
            "rotation-grant",
            "a device CA beside the first",
            bytes.clone(),
        );
        let certificates = vec![identity(), certificate(&device_ca_tbs)];
        self.dispatch(
            Kind::EnrolmentGrant,
            rotation.object_id(),
            1,
            bytes,
            certificates,
        );
    }

    /// A new vault of another site takes the place of one that was lost.
    fn succeed(&mut self) {
        let named = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v2".parse().unwrap(),
        };
        let request = EnrolmentRequest {
            vault: named.clone(),
            lineage: Lineage::new(*b"mintmark-another"),
            signing_key: key("successor-sign").public,
            agreement_key: key("successor-agree").public,
            identity_csr: csr("successor-sign", "berlin v2 Vault"),
            device_ca_csr: csr("successor-ca", "berlin v2 Device CA"),
            made_at: END,
            trust_version: 2,
            trust_fingerprint: pinned_second().fingerprint(),
            ..enrolment_request()
        };
        let (request, request_fingerprint) =
            request.seal(&|m| key("successor-sign").sign(m)).unwrap();
        self.tell(
            "successor-request",
            "a new vault at the same site asks to be let in",
            request.clone(),
        );
        let serial = |name: &str| serial_number(name);
        let identity_tbs = vault_identity_tbs(
            &root(),
            NAME,
            "berlin",
            "v2",
            &key("successor-sign").public,
            &serial("identity of v2"),
            END,
        )
        .unwrap();
        let device_ca_tbs = device_ca_tbs(
            &root(),
            NAME,
            "berlin",
            "v2",
            &key("successor-ca").public,
            &serial("device CA of v2"),
            END,
        )
        .unwrap();
        let succession = EnrolmentGrant {
            salt: salt("succession"),
            vault: named,
            request_fingerprint,
            lineage: Lineage::new(*b"mintmark-another"),
            identity_tbs,
            device_ca_tbs,
            drafted_at: END,
            approve_until: END + 20 * DAY,
            request,
            purpose: Purpose::Succession(Succession {
                replaces: "v1".parse().unwrap(),
                lineage: lineage(),
                bundle_sequence: 1,
                log_size: self.log.state.bundles().sealed[&1].log_size,
                write_offs: vec![WriteOff {
                    account: AccountTag::new(1).unwrap(),
                    entitlement: "th200-2027q1".parse().unwrap(),
                    sku: "TH-200".parse().unwrap(),
                    first_slot: 2,
                    units: 78,
                }],
            }),
            ..grant()
        };
        let proposal = succession
            .propose(&manifest_second(), &key("successor-agree").public)
            .unwrap();
        let bytes = approved(&proposal, &["carol-sign", "erin-sign"]);
        self.tell(
            "succession-grant",
            "lets the new vault in, in place of berlin/v1 as if that had been lost",
            bytes,
        );
    }

    /// Keys on their way to the vault, and what it derives from one of them for two devices.
    fn deliver(&mut self) {
        let agreed = delivered("service", KeyAlgorithm::HmacSha256);
        self.tell(
            "key-delivery",
            "the key `service`, agreed on with vault-agree, as the second entitlement has it",
            agreed,
        );
        let transported = key_facts("line", KeyAlgorithm::Aes256)
            .seal_transported(
                &keyset_key("line", KeyAlgorithm::Aes256),
                &secret::transport_key(),
                &|_, bytes| Ok(secret::oaep_encrypt(bytes)),
            )
            .unwrap();
        self.tell(
            "key-delivery-transported",
            "the key `line`, for a token that unwraps with its RSA key",
            transported,
        );
        let device = key("device-1").public;
        let spki = device.to_public_key_der().unwrap();
        let bytes = device_secret("GW1-00000001", &AgreementKey::P256(device), spki.as_bytes());
        self.tell(
            "device-secret",
            "the secret of a device whose key is on P-256",
            bytes,
        );
        let device = secret::large_device().public_key();
        let spki = device.to_public_key_der().unwrap();
        let bytes = device_secret("GW1-00000002", &AgreementKey::P384(device), spki.as_bytes());
        self.tell(
            "device-secret-p384",
            "the secret of a device whose key is on P-384",
            bytes,
        );
    }
}
