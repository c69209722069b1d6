//! What happened in the fixed world, message by message. Each vector is one of these messages.

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
use mintmark_protocol::dispatch::{BundleSeen, Dispatch};
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Lineage, Sku, StationId, VaultName};
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::segment::SegmentBuilder;
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};

use super::keys::{Key, key};

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
fn salt(name: &str) -> [u8; 32] {
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
    TrustManifest::pin(&trust_bytes(), &fingerprint).unwrap()
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
        products: vec![product(1, "TH-200", 50)],
        policy_digest: Fingerprint::of(b"the policy file"),
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
    second
}

/// The entitlement's plaintext and officers' signatures, as a draft that nobody has approved yet.
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
        story
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
        let draft = proposal.to_bytes().unwrap();
        self.tell(
            "entitlement-draft",
            "as it goes to the officers: no signature yet",
            draft,
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
        self.log.now = end;
    }
}

/// A private key of the fixed world that a message is opened with.
pub fn opener(name: &str) -> Key {
    key(name)
}
