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
use mintmark_ledger::serial::{Serial, SerialCipher};
use mintmark_ledger::state::State;
use mintmark_pki::{CertificationRequest, RevokedSerial};
use mintmark_protocol::bundle::{Bundle, Checkpoint, DispatchSeen};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::entitlement::{AccountTag, Entitlement};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Lineage, Sku, StationId, VaultName};
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};

use super::software::{self, Change, Keys, lineage, moved, public, vault_name};

/// The first manifest of a stick.
pub(crate) fn manifest(stick: &Path) -> Verified<TrustManifest> {
    software::pinned(&fs::read(stick.join("trust-000001.cose")).unwrap())
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
        keys.request(site, &manifest(stick))
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
            let mut content = self
                .keys
                .open(dispatch.content(), &self.manifest, &self.name);
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
        let Body::Reserved(reserved) = self.decision(product, csr) else {
            panic!("not reserved");
        };
        moved(reserved, self.serials.as_ref().unwrap(), slot)
    }

    /// The slot that a serial, whoever gave it out, is of by the key of this vault.
    pub(crate) fn opened(&self, serial: &Serial) -> (AccountTag, u64, u16) {
        self.serials.as_ref().unwrap().open(serial).unwrap()
    }

    pub(crate) fn write_request(&mut self, product: &str, der: &[u8]) {
        self.write(Body::Request(Request {
            product: product.parse().unwrap(),
            station: StationId::console(),
            submission: Submission::Csr { der: der.to_vec() },
        }));
    }

    pub(crate) fn sign(&mut self, reservation: u64, tbs: &[u8]) {
        self.sign_with(reservation, self.keys.certifies(tbs));
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
            station: StationId::console(),
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
        software::revoked(&self.state, self.serials.as_ref().unwrap(), 1)
    }

    /// A CRL of this number, by another device CA's key if one is given, and what a log says of it.
    pub(crate) fn crl(
        &self,
        number: u64,
        revoked: &[RevokedSerial],
        key: Option<&SigningKey>,
    ) -> (Vec<u8>, CrlIssued) {
        let certificate = &self.state.device_cas()[0].certificate;
        let stated = CrlIssued {
            generation: 1,
            number,
            sha256: Fingerprint::new([0; 32]),
            this_update: self.now(),
            next_update: self.now() + 30 * 86_400,
        };
        self.keys.crl(stated, certificate, revoked, key)
    }

    /// Writes a record, whatever it says.
    pub(crate) fn write(&mut self, body: Body) {
        // A decision is of the time of what it answers, even where a second has ended since.
        let time = match body.is_decision() {
            true => self.state.mark().max(self.time_min),
            false => self.now(),
        };
        let entry = Entry {
            time,
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
        let first = self.sealed.last().map_or(0, |(_, size)| *size);
        let size = self.records.len() as u64;
        let root = root_of(self.records.iter().map(|record| leaf_hash(record)));
        let bundle = Bundle {
            vault: self.name.clone(),
            lineage: self.lineage,
            sequence: self.sealed.len() as u64 + 1,
            previous: self.sealed.last().map(|(fingerprint, _)| *fingerprint),
            dispatch_seen: self.seen,
            checkpoint: Checkpoint {
                size,
                root: Fingerprint::new(root),
                time: self.state.mark(),
            },
            first,
            segments: Vec::new(),
            trust_version: self.state.trust().map_or(1, |trust| trust.version),
            sealed_at: self.now(),
            crl: None,
        };
        let new = &self.records[usize::try_from(first).unwrap()..];
        let (files, fingerprint) =
            self.keys
                .seal(bundle, &self.manifest, (new, segment_records), change);
        for (name, bytes) in files {
            fs::write(stick.join("mintmark").join(name.to_string()), bytes).unwrap();
        }
        (fingerprint, size)
    }
}
