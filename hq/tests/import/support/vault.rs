//! A vault in memory: it decides and writes as a real one does, or as it is told. Its keys are software.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mintmark_ledger::apply::{Effect, apply, apply_unreadable};
use mintmark_ledger::decide::{
    DeviceRecord, Input, Lookup, LookupError, RULES_VERSION, Submitted, decide,
};
use mintmark_ledger::entry::{
    Body, BundleSealed, Content, CrlIssued, DeviceAction, DeviceOrder, Dispatch as Logged, Entry,
    Genesis, LogSequence, Request, Reserved, Signed, Start, Submission, Trust, Verdict,
};
use mintmark_ledger::merkle::{leaf_hash, root_of};
use mintmark_ledger::serial::{SerialCipher, serial_of};
use mintmark_ledger::state::{State, Withdrawal};
use mintmark_pki::{
    CertificationRequest, CrlReason, Issuer, RevokedSerial, assemble_crl, certification_request,
    crl_tbs,
};
use mintmark_protocol::KeyFailure;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Verified, claim};
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Lineage, Sku, StationId, VaultName};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::segment::SegmentBuilder;
use mintmark_protocol::trust::TrustManifest;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::{PublicKey, SecretKey};
use zeroize::Zeroizing;

/// A key by its number.
pub(crate) fn key(number: u64) -> SigningKey {
    let mut bytes = [0x42; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_slice(&bytes).unwrap()
}

fn public(key: &SigningKey) -> PublicKey {
    key.verifying_key().into()
}

fn signature(key: &SigningKey, message: &[u8]) -> [u8; 64] {
    let signature: Signature = key.sign(message);
    signature.to_bytes().into()
}

/// A certification request of a device, by the key of this number.
pub(crate) fn csr(device_id: &str, number: u64) -> CertificationRequest {
    let key = key(1_000_000 + number);
    let sign = |bytes: &[u8]| Ok::<Signature, mintmark_pki::Error>(key.sign(bytes));
    let der = certification_request(device_id, &public(&key), sign).unwrap();
    CertificationRequest::from_der(&der).unwrap()
}

/// A vault's keys, which follow from its site's name.
struct Keys {
    sign: SigningKey,
    agree: SecretKey,
    device_ca: SigningKey,
}

impl Keys {
    fn of(site: &str) -> Self {
        let number = u64::from(site.as_bytes()[0]) << 8;
        Self {
            sign: key(number + 1),
            agree: key(number + 2).into(),
            device_ca: key(number + 3),
        }
    }

    fn agree(&self, peer: &PublicKey) -> Zeroizing<[u8; 32]> {
        let shared = self.agree.diffie_hellman(peer);
        Zeroizing::new((*shared.raw_secret_bytes()).into())
    }
}

fn vault_name(site: &str) -> VaultName {
    VaultName {
        site: site.parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

fn lineage(site: &str) -> Lineage {
    Lineage::new([site.as_bytes()[0]; 16])
}

/// The first manifest on a stick, which a person would have compared.
/// The first manifest of a stick.
pub(crate) fn manifest(stick: &Path) -> Verified<TrustManifest> {
    let bytes = fs::read(stick.join("trust-000001.cose")).unwrap();
    let fingerprint = claim(&bytes, bytes.len()).unwrap().fingerprint;
    TrustManifest::pin(&bytes, &fingerprint, None).unwrap()
}

#[derive(Clone, Default)]
struct Devices {
    devices: BTreeMap<(Sku, DeviceId), DeviceRecord>,
    keys: BTreeMap<Fingerprint, DeviceRecord>,
}

impl Lookup for Devices {
    fn device(&self, sku: &Sku, device_id: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(self.devices.get(&(sku.clone(), device_id.clone())).cloned())
    }

    fn key(&self, spki_sha256: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(self.keys.get(spki_sha256).cloned())
    }
}

/// A vault.
pub(crate) struct Vault {
    pub(crate) name: VaultName,
    pub(crate) lineage: Lineage,
    keys: Keys,
    manifest: Verified<TrustManifest>,
    serials: Option<SerialCipher>,
    pub(crate) state: State,
    devices: Devices,
    pub(crate) records: Vec<Vec<u8>>,
    sealed: Vec<(Fingerprint, u64)>,
    seen: Option<DispatchSeen>,
    time_min: u64,
    /// What its clock says while it decides.
    held: Option<u64>,
    /// How far its clock is behind, in seconds.
    slow_by: u64,
}

/// How a bundle departs from the one that an honest vault would seal.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Bundle);

impl Vault {
    /// What a new vault asks HQ.
    pub(crate) fn request(site: &str, stick: &Path) -> (Vec<u8>, Fingerprint) {
        Self::request_with_keys_of(site, [site; 3], stick)
    }

    /// The same, with the signing, agreement and device CA keys of these sites' vaults.
    pub(crate) fn request_with_keys_of(
        site: &str,
        [sign, agree, device_ca]: [&str; 3],
        stick: &Path,
    ) -> (Vec<u8>, Fingerprint) {
        let keys = Keys {
            sign: Keys::of(sign).sign,
            agree: Keys::of(agree).agree,
            device_ca: Keys::of(device_ca).device_ca,
        };
        let manifest = manifest(stick);
        let csr = |name: &str, key: &SigningKey| {
            let sign = |bytes: &[u8]| Ok::<Signature, mintmark_pki::Error>(key.sign(bytes));
            certification_request(name, &public(key), sign).unwrap()
        };
        let request = EnrolmentRequest {
            vault: vault_name(site),
            lineage: lineage(site),
            trust_version: 1,
            trust_fingerprint: manifest.fingerprint(),
            signing_key: public(&keys.sign),
            agreement_key: keys.agree.public_key(),
            identity_csr: csr("identity", &keys.sign),
            device_ca_csr: csr("device CA", &keys.device_ca),
            facts: BTreeMap::new(),
            made_at: 1_700_000_000,
            transport_key: None,
            device_ca_generation: 1,
        };
        let sign = |message: &[u8]| Ok::<Signature, KeyFailure>(keys.sign.sign(message));
        request.seal(&sign).unwrap()
    }

    /// The device CA key that a site's vault asks with.
    pub(crate) fn device_ca_key(site: &str) -> PublicKey {
        public(&Keys::of(site).device_ca)
    }

    /// A vault that has asked.
    pub(crate) fn new(site: &str, stick: &Path) -> Self {
        Self::slow(site, stick, 0)
    }

    /// A vault that has asked, its clock so many seconds behind.
    pub(crate) fn slow(site: &str, stick: &Path, slow_by: u64) -> Self {
        let (_, enrolment_fingerprint) = Self::request(site, stick);
        let manifest = manifest(stick);
        let genesis = Genesis {
            vault: vault_name(site),
            lineage: lineage(site),
            trust_version: 1,
            trust_fingerprint: manifest.fingerprint(),
            enrolment_fingerprint,
            software: "site 0.1.0".to_owned(),
        };
        Self::beginning(site, manifest, genesis, slow_by)
    }

    /// A vault whose log begins like this.
    pub(crate) fn with_genesis(site: &str, stick: &Path, change: impl Fn(&mut Genesis)) -> Self {
        let honest = Self::new(site, stick);
        let mut genesis = honest.state.genesis().unwrap().clone();
        change(&mut genesis);
        Self::beginning(site, honest.manifest, genesis, 0)
    }

    fn beginning(
        site: &str,
        manifest: Verified<TrustManifest>,
        genesis: Genesis,
        slow_by: u64,
    ) -> Self {
        let mut vault = Self {
            name: vault_name(site),
            lineage: lineage(site),
            keys: Keys::of(site),
            manifest,
            serials: None,
            state: State::new(),
            devices: Devices::default(),
            records: Vec::new(),
            sealed: Vec::new(),
            seen: None,
            held: None,
            time_min: 0,
            slow_by,
        };
        vault.write(Body::Genesis(genesis));
        vault.write(Body::Start(Start {
            lineage: vault.lineage,
            boot: 1,
            rules_version: RULES_VERSION,
            software: "site 0.1.0".to_owned(),
            steady: None,
            anchor: None,
        }));
        vault
    }

    fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = self.held.unwrap_or(now.as_secs() - self.slow_by);
        now.max(self.state.mark()).max(self.time_min)
    }

    /// Follows the next manifest on a stick. Returns it.
    pub(crate) fn follow(&mut self, stick: &Path, version: u64) -> Verified<TrustManifest> {
        let bytes = fs::read(stick.join(format!("trust-{version:06}.cose"))).unwrap();
        let next = self.manifest.successor(&bytes).unwrap();
        self.log_trust(&next);
        self.manifest = next.clone();
        next
    }

    /// Writes that it follows a manifest, and goes on judging by the one that it had.
    pub(crate) fn log_trust(&mut self, manifest: &Verified<TrustManifest>) {
        self.write(Body::Trust(Trust {
            version: manifest.content().version,
            fingerprint: manifest.fingerprint(),
            dispatch_epoch: manifest.content().dispatch_epoch,
        }));
    }

    /// Judges by a manifest, whatever its log says.
    pub(crate) fn judge_by(&mut self, manifest: &Verified<TrustManifest>) {
        self.manifest = manifest.clone();
    }

    /// Imports every dispatch on a stick that is the next one.
    pub(crate) fn import(&mut self, stick: &Path) {
        self.import_with(stick, u64::MAX, &|_| false);
    }

    /// The same, up to a sequence.
    pub(crate) fn import_at_most(&mut self, stick: &Path, sequence_max: u64) {
        self.import_with(stick, sequence_max, &|_| false);
    }

    /// The same, with content that is changed on its way into the log. The record of the first that was.
    pub(crate) fn import_changed(
        &mut self,
        stick: &Path,
        change: &dyn Fn(&mut Content) -> bool,
    ) -> Option<u64> {
        self.import_with(stick, u64::MAX, change)
    }

    fn import_with(
        &mut self,
        stick: &Path,
        sequence_max: u64,
        change: &dyn Fn(&mut Content) -> bool,
    ) -> Option<u64> {
        let folder = stick.join(format!("to-{}_{}", self.name.site, self.name.vault));
        let mut changed = None;
        loop {
            let sequence = self.state.dispatches().sequence + 1;
            let file = folder.join(format!("dispatch-1-{sequence:06}.cose"));
            if sequence > sequence_max || !file.exists() {
                return changed;
            }
            let bytes = fs::read(file).unwrap();
            let dispatch = Dispatch::open(&bytes, &self.manifest, &self.name).unwrap();
            let mut content = self.open(dispatch.content());
            if change(&mut content) {
                changed = changed.or(Some(self.state.size()));
            }
            let logged = Logged {
                epoch: dispatch.content().epoch,
                sequence,
                fingerprint: dispatch.fingerprint(),
                kind: dispatch.content().kind.to_string(),
                id: dispatch.content().id.clone(),
                version: dispatch.content().version,
                content: Verdict::Authentic(content),
            };
            self.see(logged);
        }
    }

    /// Sees the next dispatch on a stick, and refuses its content by this rule.
    pub(crate) fn refuse_next(&mut self, stick: &Path, code: &str) {
        let folder = stick.join(format!("to-{}_{}", self.name.site, self.name.vault));
        let sequence = self.state.dispatches().sequence + 1;
        let bytes = fs::read(folder.join(format!("dispatch-1-{sequence:06}.cose"))).unwrap();
        let dispatch = Dispatch::open(&bytes, &self.manifest, &self.name).unwrap();
        let fingerprint = dispatch.fingerprint();
        let Dispatch {
            epoch,
            kind,
            id,
            version,
            ..
        } = dispatch.into_content();
        self.seen = Some(DispatchSeen {
            epoch,
            sequence,
            fingerprint,
        });
        self.write(Body::Dispatch(Logged {
            epoch,
            sequence,
            fingerprint,
            kind: kind.to_string(),
            id,
            version,
            content: Verdict::Rejected {
                code: code.to_owned(),
            },
        }));
        self.write(Body::DispatchRefused {
            code: code.to_owned(),
        });
    }

    /// The newest dispatch that it saw.
    pub(crate) fn seen(&self) -> Option<DispatchSeen> {
        self.seen
    }

    /// Lets its bundles say that this is the newest dispatch.
    pub(crate) fn claim_seen(&mut self, seen: Option<DispatchSeen>) {
        self.seen = seen;
    }

    fn open(&self, dispatch: &Dispatch) -> Content {
        let public_key = self.keys.agree.public_key();
        let agree = |peer: &PublicKey| Ok::<_, KeyFailure>(self.keys.agree(peer));
        let opener = Opener {
            public_key: &public_key,
            agree: &agree,
            former: None,
        };
        let (bytes, manifest, name) = (&dispatch.content, &self.manifest, &self.name);
        match dispatch.kind {
            Kind::EnrolmentGrant => {
                let grant = EnrolmentGrant::open(bytes, manifest, name, opener).unwrap();
                Content::Grant {
                    fingerprint: grant.fingerprint(),
                    plaintext: grant.plaintext().to_vec(),
                    identity_certificate: dispatch.certificates[0].clone(),
                    device_ca_certificate: dispatch.certificates[1].clone(),
                }
            }
            Kind::Entitlement => {
                let entitlement = Entitlement::open(bytes, manifest, name, opener).unwrap();
                Content::Entitlement {
                    fingerprint: entitlement.fingerprint(),
                    plaintext: entitlement.plaintext().to_vec(),
                }
            }
            Kind::Acknowledgement => {
                let acknowledgement = Acknowledgement::open(bytes, manifest, name, opener).unwrap();
                Content::Acknowledgement {
                    fingerprint: acknowledgement.fingerprint(),
                    plaintext: acknowledgement.plaintext().to_vec(),
                }
            }
            Kind::Revocation => {
                let revocation = Revocation::open(bytes, manifest, name, opener).unwrap();
                Content::Revocation {
                    fingerprint: revocation.fingerprint(),
                    plaintext: revocation.plaintext().to_vec(),
                }
            }
            other => panic!("{other}"),
        }
    }

    /// Takes a dispatch as authentic, whatever it is.
    pub(crate) fn see(&mut self, logged: Logged) {
        self.seen = Some(DispatchSeen {
            epoch: logged.epoch,
            sequence: logged.sequence,
            fingerprint: logged.fingerprint,
        });
        let input = Input::Dispatch(&logged);
        let decision = decide(&self.state, &self.devices, None, self.now(), input).unwrap();
        let body = decision.to_body();
        self.write(Body::Dispatch(logged));
        assert_eq!(body, Body::DispatchAccepted);
        self.write(body);
        if let (None, Some(enrolment)) = (&self.serials, self.state.enrolment()) {
            let shared = self.keys.agree(&enrolment.serial_master);
            self.serials = Some(SerialCipher::derive(&shared, &self.name));
        }
    }

    /// The terms that the vault was sent, and the dispatch that they came with.
    pub(crate) fn entitlement(&self) -> Entitlement {
        let granted = self.state.entitlements().values().next().unwrap();
        (*granted.terms).clone()
    }

    /// What the vault would decide.
    pub(crate) fn decision(&self, product: &str, csr: &CertificationRequest) -> Body {
        let input = Input::Request {
            product: &product.parse().unwrap(),
            station: &StationId::console(),
            submission: Submitted::Verified(csr),
        };
        let serials = self.serials.as_ref();
        let decision = decide(&self.state, &self.devices, serials, self.now(), input);
        decision.unwrap().to_body()
    }

    /// Asks for a certificate, honestly; the decision.
    pub(crate) fn ask(&mut self, product: &str, csr: &CertificationRequest) -> Body {
        // An input and its decision are of one time.
        self.held = Some(self.now());
        let decision = self.decision(product, csr);
        self.write_request(product, csr.der());
        self.write(decision.clone());
        self.held = None;
        decision
    }

    /// Asks for a certificate and signs it. The reservation's record.
    pub(crate) fn issue(&mut self, product: &str, csr: &CertificationRequest) -> u64 {
        let Body::Reserved(reserved) = self.ask(product, csr) else {
            panic!("not reserved");
        };
        let reservation = self.state.size() - 1;
        self.sign(reservation, &reserved.tbs);
        reservation
    }

    /// Asks, answers with this reservation whatever the rules say, and signs it. The reservation's record.
    pub(crate) fn forge(
        &mut self,
        product: &str,
        csr: &CertificationRequest,
        reserved: Reserved,
    ) -> u64 {
        self.write_request(product, csr.der());
        let reservation = self.state.size();
        let tbs = reserved.tbs.clone();
        self.write(Body::Reserved(reserved));
        self.sign(reservation, &tbs);
        reservation
    }

    /// The reservation that an honest vault makes for a device, moved to this slot, its serial too.
    pub(crate) fn reserved(
        &self,
        product: &str,
        csr: &CertificationRequest,
        slot: u64,
    ) -> Reserved {
        let Body::Reserved(mut reserved) = self.decision(product, csr) else {
            panic!("not reserved");
        };
        let serials = self.serials.as_ref().unwrap();
        let moved = serials.serial(reserved.account, slot, reserved.issue);
        let serial = serial_of(&reserved.tbs).unwrap();
        let at = reserved
            .tbs
            .windows(serial.len())
            .position(|bytes| bytes == serial)
            .unwrap();
        reserved.tbs[at..at + serial.len()].copy_from_slice(&moved);
        reserved.slot = slot;
        reserved
    }

    pub(crate) fn write_request(&mut self, product: &str, der: &[u8]) {
        self.write(Body::Request(Request {
            product: product.parse().unwrap(),
            station: StationId::console(),
            submission: Submission::Csr { der: der.to_vec() },
        }));
    }

    pub(crate) fn sign(&mut self, reservation: u64, tbs: &[u8]) {
        self.sign_with(reservation, signature(&self.keys.device_ca, tbs));
    }

    pub(crate) fn sign_with(&mut self, reservation: u64, signature: [u8; 64]) {
        self.write(Body::Signed(Signed {
            reservation: LogSequence(reservation),
            signature,
        }));
    }

    /// The certificate of a to-be-signed part, by the device CA.
    pub(crate) fn certificate(&self, tbs: &[u8]) -> Vec<u8> {
        let signature: Signature = self.keys.device_ca.sign(tbs);
        mintmark_pki::assemble(tbs, &signature).unwrap()
    }

    /// Scraps, voids or reworks a device, honestly. The record of the decision.
    pub(crate) fn order(&mut self, action: DeviceAction, device_id: &str, reason: &str) -> u64 {
        let order = DeviceOrder {
            action,
            product: "TH-200".parse().unwrap(),
            device_id: device_id.parse().unwrap(),
            reason: reason.to_owned(),
        };
        self.held = Some(self.now());
        let serials = self.serials.as_ref();
        let input = Input::Device(&order);
        let decision = decide(&self.state, &self.devices, serials, self.now(), input);
        let decision = decision.unwrap().to_body();
        assert!(matches!(decision, Body::DeviceChanged(_)), "{decision:?}");
        self.write(Body::Device(order));
        let at = self.state.size();
        self.write(decision);
        self.held = None;
        at
    }

    /// What belongs on the CRL of the device CA.
    pub(crate) fn revoked(&self) -> Vec<RevokedSerial> {
        let serials = self.serials.as_ref().unwrap();
        let entries = self.state.crl_entries(1);
        let entries = entries.map(|((account, slot, issue), withdrawn)| RevokedSerial {
            serial: serials.serial(*account, *slot, *issue).to_vec(),
            revoked_at_unix: withdrawn.time,
            reason: Some(match withdrawn.why {
                Withdrawal::Superseded => CrlReason::Superseded,
                _ => CrlReason::CessationOfOperation,
            }),
        });
        entries.collect()
    }

    /// A CRL of this number, by another device CA's key if one is given, and what a log says of it.
    pub(crate) fn crl(
        &self,
        number: u64,
        revoked: &[RevokedSerial],
        key: Option<&SigningKey>,
    ) -> (Vec<u8>, CrlIssued) {
        let certificate = &self.state.device_cas()[0].certificate;
        let issuer = Issuer::from_certificate_der(certificate).unwrap();
        let (this_update, next_update) = (self.now(), self.now() + 30 * 86_400);
        let tbs = crl_tbs(&issuer, number, this_update, next_update, revoked).unwrap();
        let signature: Signature = key.unwrap_or(&self.keys.device_ca).sign(&tbs);
        let der = assemble_crl(&tbs, &signature).unwrap();
        let issued = CrlIssued {
            generation: 1,
            number,
            sha256: Fingerprint::of(&der),
            this_update,
            next_update,
        };
        (der, issued)
    }

    /// Writes a record, whatever it says.
    pub(crate) fn write(&mut self, body: Body) {
        let entry = Entry {
            time: self.now(),
            clock_behind_seconds: 0,
            body,
        };
        let raw = entry.to_cbor();
        if let Some(Effect::Reserved(record)) = apply(&mut self.state, &raw, &entry) {
            self.devices.keys.insert(record.spki_sha256, record.clone());
            let device = (record.sku.clone(), record.device_id.clone());
            self.devices.devices.insert(device, record);
        }
        self.records.push(raw);
    }

    /// Writes bytes that are no record.
    pub(crate) fn write_unreadable(&mut self, raw: &[u8]) {
        apply_unreadable(&mut self.state, raw);
        self.records.push(raw.to_vec());
    }

    /// Takes back the newest record, a sealed bundle's, as if it had never been written.
    pub(crate) fn unwrite(&mut self) {
        self.records.pop();
        let mut state = State::new();
        for raw in &self.records {
            let _ = apply(&mut state, raw, &Entry::from_cbor(raw).unwrap());
        }
        self.state = state;
    }

    /// Lets the time jump.
    pub(crate) fn jump(&mut self, time: u64) {
        self.time_min = time;
    }

    /// Replaces a record that is written, as somebody would who edits the log's files and makes its hashes anew.
    pub(crate) fn edit(&mut self, sequence: u64, change: impl Fn(&mut Body)) {
        let record = &mut self.records[usize::try_from(sequence).unwrap()];
        let mut entry = Entry::from_cbor(record).unwrap();
        change(&mut entry.body);
        *record = entry.to_cbor();
    }

    /// Seals the next bundle onto a new stick.
    pub(crate) fn report(&mut self, stick: &Path) -> PathBuf {
        self.report_changed(stick, &|_| {})
    }

    /// The same, with a bundle that says something else.
    pub(crate) fn report_changed(&mut self, stick: &Path, change: Change<'_>) -> PathBuf {
        let (fingerprint, size) = self.write_bundle(stick, change, 1 << 20);
        self.sealed.push((fingerprint, size));
        self.write(Body::BundleSealed(BundleSealed {
            sequence: self.sealed.len() as u64,
            fingerprint,
            log_size: size,
            requests_unlogged: 0,
        }));
        stick.to_owned()
    }

    /// Writes the next bundle, in segments of so many records, and forgets that it did.
    pub(crate) fn write_bundle(
        &self,
        stick: &Path,
        change: Change<'_>,
        segment_records: usize,
    ) -> (Fingerprint, u64) {
        let folder = stick.join("mintmark/to-hq");
        fs::create_dir_all(&folder).unwrap();
        let (vault, lineage) = (self.name.clone(), self.lineage);
        let sequence = self.sealed.len() as u64 + 1;
        let first = self.sealed.last().map_or(0, |(_, size)| *size);
        let size = self.records.len() as u64;
        let write = |name: MediaName, bytes: &[u8]| {
            fs::write(stick.join("mintmark").join(name.to_string()), bytes).unwrap();
        };
        let recipients = self.manifest.content().hq_recipients();
        let mut segments = Vec::new();
        let new = &self.records[usize::try_from(first).unwrap()..];
        let mut next = first;
        for records in new.chunks(segment_records) {
            let mut builder = SegmentBuilder::new(next);
            records.iter().for_each(|record| builder.push(record));
            next += records.len() as u64;
            let number = segments.len() + 1;
            let id = Bundle::segment_id(&lineage, sequence, number);
            let (file, facts) = builder.seal(&vault, &id, &recipients).unwrap();
            segments.push(facts);
            let vault = vault.clone();
            write(
                MediaName::Segment {
                    vault,
                    lineage,
                    sequence,
                    number,
                },
                &file,
            );
        }
        let root = root_of(self.records.iter().map(|record| leaf_hash(record)));
        let mut bundle = Bundle {
            vault: vault.clone(),
            lineage,
            sequence,
            previous: self.sealed.last().map(|(fingerprint, _)| *fingerprint),
            dispatch_seen: self.seen,
            checkpoint: Checkpoint {
                size,
                root: Fingerprint::new(root),
                time: self.state.mark(),
            },
            first,
            segments,
            trust_version: self.state.trust().map_or(1, |trust| trust.version),
            sealed_at: self.now(),
            crl: None,
        };
        change(&mut bundle);
        let sign = |message: &[u8]| Ok::<Signature, KeyFailure>(self.keys.sign.sign(message));
        let (bytes, fingerprint) = bundle.seal(&public(&self.keys.sign), &sign).unwrap();
        let (lineage, sequence) = (bundle.lineage, bundle.sequence);
        write(
            MediaName::Bundle {
                vault,
                lineage,
                sequence,
            },
            &bytes,
        );
        (fingerprint, size)
    }
}
