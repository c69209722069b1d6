//! A headquarters, a vault and its devices, with real keys and certificates.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use mintmark_pki::{
    CertificationRequest, Issuer, assemble, certification_request, device_ca_tbs, root_tbs,
    vault_identity_tbs,
};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Lineage, Sku, StationId, VaultName};
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms, KeyUse};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};

use crate::apply::{Effect, apply};
use crate::decide::{
    DeviceRecord, Input, Lookup, LookupError, Moment, RULES_VERSION, Submitted, decide,
};
use crate::entry::{
    Body, BundleSealed, Content, Dispatch, Entry, Genesis, KeyOutcome, KeyReceipt, LogSequence,
    Request, Rotation, Signed, Start, Submission, Verdict,
};
use crate::refusal::Refusal;
use crate::replay::{Divergence, Replay};
use crate::serial::SerialCipher;
use crate::state::State;

/// 2027-01-01T00:00:00Z: the tests' entitlements open then.
pub(super) const NEW_YEAR: u64 = 1_798_761_600;
pub(super) const HOUR: u64 = 3600;
pub(super) const DAY: u64 = 86_400;
pub(super) const EPOCH: u64 = 1;

pub(super) fn key(number: u64) -> SigningKey {
    let mut bytes = [0x42; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_slice(&bytes).unwrap()
}

fn public(key: &SigningKey) -> p256::PublicKey {
    key.verifying_key().into()
}

pub(super) fn sign(key: &SigningKey, bytes: &[u8]) -> [u8; 64] {
    let signature: Signature = key.sign(bytes);
    signature.to_bytes().into()
}

/// A request by the device key of this number. An empty name gives a subject with another one, which tests that care
/// about that do not use.
pub(super) fn csr(name: &str, number: u64) -> CertificationRequest {
    let key = key(1_000_000 + number);
    let sign = |bytes: &[u8]| Ok::<Signature, mintmark_pki::Error>(key.sign(bytes));
    let der = certification_request(name, &public(&key), sign).unwrap();
    CertificationRequest::from_der(&der).unwrap()
}

pub(super) fn tag(number: u64) -> AccountTag {
    AccountTag::new(number).unwrap()
}

pub(super) fn sku(name: &str) -> Sku {
    name.parse().unwrap()
}

pub(super) fn vault() -> VaultName {
    VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

pub(super) fn lineage() -> Lineage {
    Lineage::new([0x11; 16])
}

pub(super) fn genesis() -> Genesis {
    Genesis {
        vault: vault(),
        lineage: lineage(),
        trust_version: 1,
        trust_fingerprint: Fingerprint::of(b"trust"),
        enrolment_fingerprint: Fingerprint::of(b"enrolment request"),
        software: "site 0.1.0".to_owned(),
    }
}

pub(super) fn serials() -> SerialCipher {
    SerialCipher::derive(&[5; 32], &vault())
}

/// The keys and certificates that every test shares; made once.
pub(super) struct Authorities {
    pub(super) device_ca_key: SigningKey,
    pub(super) device_ca: Issuer,
    pub(super) next_device_ca_key: SigningKey,
    pub(super) next_device_ca: Issuer,
    identity: Vec<u8>,
    identity_tbs: Vec<u8>,
    device_ca_tbs: Vec<u8>,
    next_device_ca_tbs: Vec<u8>,
}

pub(super) fn authorities() -> &'static Authorities {
    static AUTHORITIES: OnceLock<Authorities> = OnceLock::new();
    AUTHORITIES.get_or_init(|| {
        let certificate = |key: &SigningKey, tbs: &[u8]| {
            assemble(tbs, &Signature::from_slice(&sign(key, tbs)).unwrap()).unwrap()
        };
        let (root_key, device_ca_key, identity_key) = (key(1), key(2), key(3));
        let next_device_ca_key = key(5);
        let root = root_tbs("Acme", &public(&root_key), &[1; 16], NEW_YEAR - DAY).unwrap();
        let root = Issuer::from_certificate_der(&certificate(&root_key, &root)).unwrap();
        let ca_public = public(&device_ca_key);
        let device_ca_tbs = device_ca_tbs(
            &root,
            "Acme",
            "berlin",
            "v1",
            &ca_public,
            &[2; 16],
            NEW_YEAR - DAY,
        )
        .unwrap();
        let identity_public = public(&identity_key);
        let identity_tbs = vault_identity_tbs(
            &root,
            "Acme",
            "berlin",
            "v1",
            &identity_public,
            &[3; 16],
            NEW_YEAR - DAY,
        )
        .unwrap();
        let device_ca = certificate(&root_key, &device_ca_tbs);
        let next_device_ca_tbs = device_ca_tbs_of(&root, &next_device_ca_key, &[4; 16]);
        let next_device_ca = certificate(&root_key, &next_device_ca_tbs);
        Authorities {
            device_ca: Issuer::from_certificate_der(&device_ca).unwrap(),
            identity: certificate(&root_key, &identity_tbs),
            next_device_ca: Issuer::from_certificate_der(&next_device_ca).unwrap(),
            device_ca_key,
            next_device_ca_key,
            identity_tbs,
            device_ca_tbs,
            next_device_ca_tbs,
        }
    })
}

fn device_ca_tbs_of(root: &Issuer, key: &SigningKey, serial: &[u8; 16]) -> Vec<u8> {
    let key = public(key);
    device_ca_tbs(root, "Acme", "berlin", "v1", &key, serial, NEW_YEAR - DAY).unwrap()
}

/// The entry by which the vault asks for its second device CA.
pub(super) fn rotation() -> Rotation {
    Rotation {
        generation: 2,
        request_fingerprint: Fingerprint::of(b"rotation request"),
    }
}

/// The grant that answers [`rotation`].
pub(super) fn rotation_grant() -> EnrolmentGrant {
    EnrolmentGrant {
        request_fingerprint: rotation().request_fingerprint,
        device_ca_tbs: authorities().next_device_ca_tbs.clone(),
        drafted_at: NEW_YEAR + 1,
        approve_until: NEW_YEAR + 400 * DAY,
        purpose: Purpose::Rotation { generation: 2 },
        ..grant()
    }
}

pub(super) fn rotation_content(grant: &EnrolmentGrant) -> Content {
    let plaintext = grant.to_cbor();
    Content::Grant {
        fingerprint: Fingerprint::of(&plaintext),
        plaintext,
        identity_certificate: authorities().identity.clone(),
        device_ca_certificate: authorities().next_device_ca.certificate_der().to_vec(),
    }
}

pub(super) fn revocation(number: u64, target: Target) -> Revocation {
    Revocation {
        salt: [5; 32],
        vault: vault(),
        number,
        target,
        reason: "the order was cancelled".to_owned(),
        drafted_at: NEW_YEAR,
        approve_until: NEW_YEAR + DAY,
    }
}

pub(super) fn revocation_content(revocation: &Revocation) -> Content {
    let plaintext = revocation.to_cbor();
    Content::Revocation {
        fingerprint: Fingerprint::of(&plaintext),
        plaintext,
    }
}

pub(super) fn clock_correction(number: u64, time: u64) -> ClockCorrection {
    ClockCorrection {
        salt: [6; 32],
        vault: vault(),
        number,
        time,
        reason: "the battery was replaced".to_owned(),
        drafted_at: NEW_YEAR,
        approve_until: NEW_YEAR + 30 * DAY,
    }
}

pub(super) fn clock_content(correction: &ClockCorrection) -> Content {
    let plaintext = correction.to_cbor();
    Content::ClockCorrection {
        fingerprint: Fingerprint::of(&plaintext),
        plaintext,
    }
}

pub(super) fn reanchor(
    number: u64,
    (sequence, fingerprint, size): (u64, Fingerprint, u64),
) -> Reanchor {
    Reanchor {
        salt: [7; 32],
        vault: vault(),
        number,
        lineage: lineage(),
        bundle_sequence: sequence,
        bundle_fingerprint: fingerprint,
        log_size: size,
        log_root: Fingerprint::of(b"root"),
        reason: "the token was replaced".to_owned(),
        drafted_at: NEW_YEAR,
        approve_until: NEW_YEAR + 30 * DAY,
    }
}

pub(super) fn reanchor_content(reanchor: &Reanchor) -> Content {
    let plaintext = reanchor.to_cbor();
    Content::Reanchor {
        fingerprint: Fingerprint::of(&plaintext),
        plaintext,
    }
}

/// A key from which devices get secrets, used at most as often as said.
pub(super) fn device_key(label: &str, uses_max: Option<u64>) -> KeyTerms {
    KeyTerms {
        label: label.parse().unwrap(),
        algorithm: KeyAlgorithm::HmacSha256,
        usage: KeyUse::DeriveDeviceSecret,
        uses_max,
        until: None,
        products: None,
        memory_import: false,
        check_value: Fingerprint::of(label.as_bytes()).as_bytes().to_owned(),
        delivery: b"encrypted".to_vec(),
    }
}

pub(super) fn key_receipt(entitlement: &str, label: &str, outcome: KeyOutcome) -> Body {
    Body::Key(KeyReceipt {
        entitlement: entitlement.parse().unwrap(),
        label: label.parse().unwrap(),
        outcome,
    })
}

pub(super) fn grant() -> EnrolmentGrant {
    EnrolmentGrant {
        salt: [1; 32],
        vault: vault(),
        request_fingerprint: genesis().enrolment_fingerprint,
        lineage: lineage(),
        identity_tbs: authorities().identity_tbs.clone(),
        device_ca_tbs: authorities().device_ca_tbs.clone(),
        serial_master: public(&key(4)),
        dispatch_epoch: EPOCH,
        drafted_at: NEW_YEAR - DAY,
        approve_until: NEW_YEAR + 30 * DAY,
        // The log takes the grant for what it is; the request is for those who approve.
        request: Vec::new(),
        purpose: Purpose::Enrolment,
    }
}

pub(super) fn grant_content(grant: &EnrolmentGrant) -> Content {
    let plaintext = grant.to_cbor();
    Content::Grant {
        fingerprint: Fingerprint::of(&plaintext),
        plaintext,
        identity_certificate: authorities().identity.clone(),
        device_ca_certificate: authorities().device_ca.certificate_der().to_vec(),
    }
}

pub(super) fn product(account: u64, name: &str, units: u64) -> ProductTerms {
    ProductTerms {
        account: tag(account),
        sku: sku(name),
        units,
        units_per_day: None,
        units_per_hour: None,
        device_id_pattern: None,
        key_algorithms: vec!["P-256".to_owned()],
        reissues_per_device: 0,
        stations: None,
        working_hours: None,
        certificate: CertificateTerms {
            subject: "O=Acme, OU={sku}, serialNumber={device_id}".to_owned(),
            validity_days: Some(7300),
            extended_key_usage: vec!["clientAuth".to_owned()],
        },
        device_id_source: DeviceIdSource::CommonName,
        device_ids: None,
    }
}

pub(super) fn entitlement(id: &str, products: Vec<ProductTerms>) -> Entitlement {
    Entitlement {
        salt: [2; 32],
        id: id.parse().unwrap(),
        version: 1,
        vault: vault(),
        drafted_at: NEW_YEAR - DAY,
        approve_until: NEW_YEAR + 30 * DAY,
        window: Interval {
            from: NEW_YEAR,
            until: NEW_YEAR + 90 * DAY,
        },
        credit: Credit {
            unreported_units_max: 1000,
            unreported_days_max: 14,
        },
        anchor_lease_max: 256,
        clock_gap_days_max: None,
        retention_days: None,
        products,
        policy_digest: Fingerprint::of(b"policy"),
        keys: Vec::new(),
        amends: None,
    }
}

pub(super) fn entitlement_content(entitlement: &Entitlement) -> Content {
    let plaintext = entitlement.to_cbor();
    Content::Entitlement {
        fingerprint: Fingerprint::of(&plaintext),
        plaintext,
    }
}

pub(super) fn acknowledgement(
    sequence: u64,
    fingerprint: Fingerprint,
    size: u64,
) -> Acknowledgement {
    Acknowledgement {
        salt: [3; 32],
        vault: vault(),
        hq_time: NEW_YEAR,
        lineage: lineage(),
        bundle_sequence: sequence,
        bundle_fingerprint: fingerprint,
        log_size: size,
        log_root: Fingerprint::of(b"root"),
        findings: 0,
    }
}

pub(super) fn acknowledgement_content(acknowledgement: &Acknowledgement) -> Content {
    let plaintext = acknowledgement.to_cbor();
    Content::Acknowledgement {
        fingerprint: Fingerprint::of(&plaintext),
        plaintext,
    }
}

pub(super) fn dispatch(sequence: u64, content: Verdict) -> Dispatch {
    Dispatch {
        epoch: EPOCH,
        sequence,
        fingerprint: Fingerprint::of(&sequence.to_be_bytes()),
        kind: "entitlement".to_owned(),
        id: "x".to_owned(),
        version: 1,
        content,
    }
}

fn told(refusal: &Refusal) -> (String, String, String) {
    let (code, message) = (refusal.code().to_owned(), refusal.to_string());
    (code, message, refusal.hint())
}

/// What an index holds, in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    devices: BTreeMap<(Sku, DeviceId), DeviceRecord>,
    keys: BTreeMap<Fingerprint, DeviceRecord>,
}

impl Devices {
    pub(super) fn keep(&mut self, effect: Option<&Effect>) {
        if let Some(Effect::Reserved(record)) = effect {
            self.keys.insert(record.spki_sha256, record.clone());
            self.devices.insert(
                (record.sku.clone(), record.device_id.clone()),
                record.clone(),
            );
        }
    }
}

impl Lookup for Devices {
    fn device(&self, sku: &Sku, device_id: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(self.devices.get(&(sku.clone(), device_id.clone())).cloned())
    }

    fn key(&self, spki_sha256: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(self.keys.get(spki_sha256).cloned())
    }
}

/// A vault without files: it decides and applies, honestly or, with [`Chronicle::write`], as it is told.
#[derive(Clone)]
pub(super) struct Chronicle {
    pub(super) state: State,
    pub(super) devices: Devices,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) now: u64,
}

impl Chronicle {
    /// A vault that was initialised and started, a day before the new year.
    pub(super) fn new() -> Self {
        let mut chronicle = Self {
            state: State::new(),
            devices: Devices::default(),
            records: Vec::new(),
            now: NEW_YEAR - DAY,
        };
        chronicle.write(Body::Genesis(genesis()));
        chronicle.write(Body::Start(start(1)));
        chronicle
    }

    /// A vault that was enrolled, at the new year.
    pub(super) fn enrolled() -> Self {
        let mut chronicle = Self::new();
        let grant = grant_content(&grant());
        assert_eq!(chronicle.import(Verdict::Authentic(grant)), Ok(()));
        chronicle.now = NEW_YEAR;
        chronicle
    }

    /// A vault that was enrolled and given these entitlements.
    pub(super) fn entitled(entitlements: &[Entitlement]) -> Self {
        let mut chronicle = Self::enrolled();
        for entitlement in entitlements {
            assert_eq!(chronicle.entitle(entitlement), Ok(()));
        }
        chronicle
    }

    pub(super) fn entitle(&mut self, entitlement: &Entitlement) -> Result<(), String> {
        self.import(Verdict::Authentic(entitlement_content(entitlement)))
    }

    /// Imports the next dispatch with this content; the code, if it is refused.
    pub(super) fn import(&mut self, content: Verdict) -> Result<(), String> {
        let next = self.state.next_dispatch();
        let mut dispatch = dispatch(next.sequence, content);
        dispatch.epoch = next.epoch.unwrap_or(EPOCH);
        self.dispatch(dispatch)
    }

    pub(super) fn dispatch(&mut self, dispatch: Dispatch) -> Result<(), String> {
        let decision = decide(
            &self.state,
            &self.devices,
            None,
            self.now,
            Input::Dispatch(&dispatch),
        );
        let body = decision.unwrap().to_body();
        self.write(Body::Dispatch(dispatch));
        self.write(body.clone());
        match body {
            Body::DispatchRefused { code } => Err(code),
            Body::DispatchAccepted => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    /// What would be decided on a request.
    pub(super) fn decision(&self, product: &str, csr: &CertificationRequest) -> Body {
        self.decision_at(&StationId::console(), product, csr)
    }

    pub(super) fn decision_at(
        &self,
        station: &StationId,
        product: &str,
        csr: &CertificationRequest,
    ) -> Body {
        let input = Input::Request {
            product: &sku(product),
            station,
            submission: Submitted::Verified(csr),
        };
        decide(
            &self.state,
            &self.devices,
            Some(&serials()),
            self.now,
            input,
        )
        .unwrap()
        .to_body()
    }

    /// Asks for a device certificate, honestly.
    pub(super) fn request(&mut self, product: &str, csr: &CertificationRequest) -> Body {
        let decision = self.decision(product, csr);
        self.write(request(product, csr));
        self.write(decision.clone());
        decision
    }

    /// Asks for a device certificate, and has it signed.
    pub(super) fn issue(&mut self, product: &str, csr: &CertificationRequest) -> LogSequence {
        let Body::Reserved(reserved) = self.request(product, csr) else {
            panic!("not reserved: {:?}", self.decision(product, csr));
        };
        let reservation = LogSequence(self.state.size() - 1);
        self.sign(reservation, &reserved.tbs);
        reservation
    }

    /// Has a reservation signed by the device CA that it is under.
    pub(super) fn sign(&mut self, reservation: LogSequence, tbs: &[u8]) {
        let generation = self.state.device_ca_of(reservation).unwrap().generation;
        let key = match generation {
            1 => &authorities().device_ca_key,
            _ => &authorities().next_device_ca_key,
        };
        let signature = sign(key, tbs);
        self.write(Body::Signed(Signed {
            reservation,
            signature,
        }));
    }

    /// Imports the next revocation; the code, if it is refused.
    pub(super) fn revoke(&mut self, target: Target) -> Result<(), String> {
        let next = self.state.revocations() + 1;
        self.import(Verdict::Authentic(revocation_content(&revocation(
            next, target,
        ))))
    }

    /// Asks for the second device CA, and gets it.
    pub(super) fn rotate(&mut self) {
        self.write(Body::Rotation(rotation()));
        let granted = rotation_content(&rotation_grant());
        assert_eq!(self.import(Verdict::Authentic(granted)), Ok(()));
    }

    /// Why a request is refused: code, message and hint.
    pub(super) fn why(
        &self,
        product: &str,
        csr: &CertificationRequest,
    ) -> (String, String, String) {
        let input = Input::Request {
            product: &sku(product),
            station: &StationId::console(),
            submission: Submitted::Verified(csr),
        };
        let decision = decide(
            &self.state,
            &self.devices,
            Some(&serials()),
            self.now,
            input,
        );
        told(decision.unwrap().refusal().unwrap())
    }

    /// Why the next dispatch with this content is refused: code, message and hint.
    pub(super) fn why_not(&self, content: Content) -> (String, String, String) {
        let next = self.state.next_dispatch();
        let mut dispatch = dispatch(next.sequence, Verdict::Authentic(content));
        dispatch.epoch = next.epoch.unwrap_or(EPOCH);
        let input = Input::Dispatch(&dispatch);
        let decision = decide(&self.state, &self.devices, None, self.now, input);
        told(decision.unwrap().refusal().unwrap())
    }

    /// Seals a bundle of everything so far, and has HQ acknowledge it.
    pub(super) fn report(&mut self) {
        let (sequence, fingerprint, size) = self.seal();
        let acknowledgement = acknowledgement(sequence, fingerprint, size);
        let content = acknowledgement_content(&acknowledgement);
        assert_eq!(self.import(Verdict::Authentic(content)), Ok(()));
    }

    pub(super) fn seal(&mut self) -> (u64, Fingerprint, u64) {
        let sequence = self.state.bundles().sequence + 1;
        let fingerprint = Fingerprint::of(format!("bundle {sequence}").as_bytes());
        let log_size = self.state.size();
        self.write(Body::BundleSealed(BundleSealed {
            sequence,
            fingerprint,
            log_size,
            requests_unlogged: 0,
        }));
        (sequence, fingerprint, log_size)
    }

    /// Writes a record, whatever it says, at the time that it is.
    pub(super) fn write(&mut self, body: Body) {
        let Moment { time, clock } = Moment::at(&self.state, self.now);
        self.write_entry(Entry {
            time,
            clock_behind_seconds: time as i64 - clock as i64,
            body,
        });
    }

    pub(super) fn write_entry(&mut self, entry: Entry) {
        let raw = entry.to_cbor();
        let effect = apply(&mut self.state, &raw, &entry);
        self.devices.keep(effect.as_ref());
        self.records.push(raw);
    }

    /// What HQ finds in the log.
    pub(super) fn divergences(&self) -> Vec<Divergence> {
        replay(&self.records).1
    }

    /// The codes of what HQ finds in the log, each with its record.
    pub(super) fn findings(&self) -> Vec<(u64, &'static str)> {
        let found = self.divergences();
        found
            .iter()
            .map(|d| (d.sequence.number(), d.code))
            .collect()
    }
}

/// Replays a log, and snapshots the replay after every record to go on from there.
pub(super) fn replay(records: &[Vec<u8>]) -> (Replay, Vec<Divergence>) {
    let (mut replay, mut devices) = (Replay::new(), Devices::default());
    let mut divergences = Vec::new();
    for raw in records {
        let replayed = replay.feed(&devices, Some(&serials()), raw, None).unwrap();
        devices.keep(replayed.effect.as_ref());
        divergences.extend(replayed.divergences);
        let restored = Replay::from_snapshot(&replay.to_snapshot()).unwrap();
        assert_eq!(restored, replay);
        replay = restored;
    }
    (replay, divergences)
}

pub(super) fn start(boot: u64) -> Start {
    Start {
        lineage: lineage(),
        boot,
        rules_version: RULES_VERSION,
        software: "site 0.1.0".to_owned(),
        steady: None,
        anchor: None,
    }
}

pub(super) fn request(product: &str, csr: &CertificationRequest) -> Body {
    Body::Request(Request {
        product: sku(product),
        station: StationId::console(),
        submission: Submission::Csr {
            der: csr.der().to_vec(),
        },
    })
}
