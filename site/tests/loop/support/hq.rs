//! The headquarters: two officers, a root, a dispatch key. It keeps the chain of dispatches of one vault.

use std::path::{Path, PathBuf};

use mintmark_pki::{Issuer, assemble, device_ca_tbs, root_tbs, vault_identity_tbs};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, FIRST_GENERATION, Purpose};
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::key_delivery::KeyFacts;
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms, KeyUse};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::{Revocation, Target};
use mintmark_protocol::segment::Segment;
use mintmark_protocol::transport::{Oaep, TransportKey};
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};
use mintmark_protocol::{KeyFailure, media::MediaName};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePublicKey as _;
use p256::{PublicKey, SecretKey};
use zeroize::Zeroizing;

use super::now;

/// A key in memory.
#[derive(Clone)]
pub(crate) struct Key(SecretKey);

impl Key {
    pub(crate) fn new(number: u8) -> Self {
        Self(SecretKey::from_slice(&[number; 32]).unwrap())
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.0.public_key()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Signature, KeyFailure> {
        Ok(SigningKey::from(&self.0).sign(message))
    }

    pub(crate) fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        let shared = self.0.diffie_hellman(peer);
        Ok(Zeroizing::new(
            shared.raw_secret_bytes()[..].try_into().unwrap(),
        ))
    }
}

/// What HQ knows of the vault.
struct Enrolled {
    name: VaultName,
    sign: PublicKey,
    agree: PublicKey,
    transport: Option<TransportKey>,
}

/// How a key travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the token, which unwraps it.
    Token,
    /// Through the vault's memory, which its terms allow.
    Memory,
    /// Through the vault's memory, which its terms forbid.
    MemoryForbidden,
}

pub(crate) struct Hq {
    officers: [Key; 2],
    dispatch: Key,
    root: Key,
    hq_agree: Key,
    pub(crate) serial_master: Key,
    root_certificate: Vec<u8>,
    pub(crate) manifests: Vec<(TrustManifest, Vec<u8>, Fingerprint)>,
    vault: Option<Enrolled>,
    previous: Option<Fingerprint>,
    pub(crate) sequence: u64,
    /// Newest revocation and clock correction.
    numbers: [u64; 2],
}

impl Hq {
    /// `seed` tells headquarters apart.
    pub(crate) fn new(seed: u8) -> Self {
        let key = |number: u8| Key::new(seed.wrapping_mul(16) + number);
        let root = key(1);
        let tbs = root_tbs("Acme", &root.public(), &[0x11; 20], now() - 60).unwrap();
        let root_certificate = assemble(&tbs, &root.sign(&tbs).unwrap()).unwrap();
        let mut hq = Self {
            officers: [key(2), key(3)],
            dispatch: key(4),
            root,
            hq_agree: key(5),
            serial_master: key(6),
            root_certificate,
            manifests: Vec::new(),
            vault: None,
            previous: None,
            sequence: 0,
            numbers: [0; 2],
        };
        let first = hq.manifest(1, None, now() + 86_400);
        hq.publish(first);
        hq
    }

    pub(crate) fn manifest(
        &self,
        version: u64,
        previous: Option<Fingerprint>,
        expires_at: u64,
    ) -> TrustManifest {
        let agreement = |number: u8| Key::new(100 + number).public();
        let officer = |name: &str, key: &Key, number| Officer {
            id: name.parse().unwrap(),
            signing_keys: vec![key.public()],
            agreement_key: agreement(number),
            roles: Role::ALL.into_iter().collect(),
        };
        TrustManifest {
            version,
            hq_name: "Acme".to_owned(),
            issued_at: now() - 3600,
            expires_at,
            previous,
            root_certificate: self.root_certificate.clone(),
            officers: vec![
                officer("alice", &self.officers[0], 1),
                officer("bob", &self.officers[1], 2),
            ],
            thresholds: [2; 4],
            dispatch_key: self.dispatch.public(),
            report_key: agreement(3),
            encryption_keys: vec![
                HqEncryptionKey {
                    name: "main".parse().unwrap(),
                    key: self.hq_agree.public(),
                    escrowed: false,
                },
                HqEncryptionKey {
                    name: "escrow".parse().unwrap(),
                    key: agreement(4),
                    escrowed: true,
                },
            ],
            dispatch_epoch: 1,
        }
    }

    /// Has both officers sign a manifest, and makes it the newest.
    pub(crate) fn publish(&mut self, manifest: TrustManifest) {
        let (bytes, fingerprint) = self.approved_manifest(&manifest);
        self.manifests.push((manifest, bytes, fingerprint));
    }

    pub(crate) fn approved_manifest(&self, manifest: &TrustManifest) -> (Vec<u8>, Fingerprint) {
        let proposal = manifest.propose().unwrap();
        (self.approve(&proposal, 2), proposal.fingerprint())
    }

    pub(crate) fn newest(&self) -> &TrustManifest {
        &self.manifests.last().unwrap().0
    }

    /// The signatures of the first `count` officers.
    fn approve(&self, proposal: &Proposal, count: usize) -> Vec<u8> {
        let mut object = proposal.clone();
        for key in &self.officers[..count] {
            object
                .collect(&proposal.approve(&key.public(), &|m| key.sign(m)).unwrap())
                .unwrap();
        }
        object.to_bytes().unwrap()
    }

    /// Writes every manifest to a medium.
    pub(crate) fn carry_trust(&self, stick: &Path) {
        for (manifest, bytes, _) in &self.manifests {
            put(
                stick,
                &MediaName::Trust {
                    version: manifest.version,
                },
                bytes,
            );
        }
    }

    fn enrolled(&self) -> &Enrolled {
        self.vault.as_ref().unwrap()
    }

    /// Wraps content into the next dispatch.
    pub(crate) fn dispatch(
        &mut self,
        kind: Kind,
        id: &str,
        content: Vec<u8>,
        certificates: Vec<Vec<u8>>,
    ) -> (MediaName, Vec<u8>) {
        let dispatch = Dispatch {
            vault: self.enrolled().name.clone(),
            epoch: 1,
            sequence: self.sequence + 1,
            previous: self.previous,
            bundle_seen: None,
            kind,
            id: id.to_owned(),
            version: 1,
            content,
            certificates,
            made_at: now(),
        };
        let (bytes, fingerprint) = self.seal(&dispatch);
        self.sequence += 1;
        self.previous = Some(fingerprint);
        let vault = self.enrolled().name.clone();
        (
            MediaName::Dispatch {
                vault,
                epoch: 1,
                sequence: self.sequence,
            },
            bytes,
        )
    }

    pub(crate) fn seal(&self, dispatch: &Dispatch) -> (Vec<u8>, Fingerprint) {
        dispatch
            .seal(self.newest(), &|m| self.dispatch.sign(m))
            .unwrap()
    }

    /// Has the root sign something.
    pub(crate) fn certify(&self, tbs: &[u8]) -> Vec<u8> {
        assemble(tbs, &self.root.sign(tbs).unwrap()).unwrap()
    }

    /// The certificate of the root, DER.
    pub(crate) fn root(&self) -> &[u8] {
        &self.root_certificate
    }

    /// Ends something at the vault.
    pub(crate) fn revoke(&mut self, target: Target) -> (MediaName, Vec<u8>) {
        self.numbers[0] += 1;
        let revocation = Revocation {
            salt: [4; 32],
            vault: self.enrolled().name.clone(),
            number: self.numbers[0],
            target,
            reason: "the line was sold".to_owned(),
            drafted_at: now(),
            approve_until: now() + 3600,
        };
        let agree = self.enrolled().agree;
        let proposal = revocation.propose(self.newest(), &agree).unwrap();
        let bytes = self.approve(&proposal, 2);
        self.dispatch(Kind::Revocation, &revocation.object_id(), bytes, Vec::new())
    }

    /// Has the vault's log go on at another time.
    pub(crate) fn correct_clock(&mut self, time: u64) -> (MediaName, Vec<u8>) {
        self.numbers[1] += 1;
        let correction = ClockCorrection {
            salt: [5; 32],
            vault: self.enrolled().name.clone(),
            number: self.numbers[1],
            time,
            reason: "the battery of the clock was empty".to_owned(),
            drafted_at: now(),
            approve_until: now() + 3600,
        };
        let agree = self.enrolled().agree;
        let proposal = correction.propose(self.newest(), &agree).unwrap();
        let bytes = self.approve(&proposal, 2);
        let id = correction.object_id();
        self.dispatch(Kind::ClockCorrection, &id, bytes, Vec::new())
    }

    /// The newest clock correction had no effect, and the next one takes its number.
    pub(crate) fn forget_clock_correction(&mut self) {
        self.numbers[1] -= 1;
    }

    /// A key with this label and these bytes, for an entitlement.
    pub(crate) fn key(
        &self,
        label: &str,
        key: &[u8; 32],
        algorithm: KeyAlgorithm,
        way: Way,
    ) -> KeyTerms {
        let Enrolled {
            name,
            agree,
            transport,
            ..
        } = self.enrolled();
        let facts = KeyFacts {
            vault: name.clone(),
            label: label.parse().unwrap(),
            algorithm,
        };
        let delivery = match way {
            Way::Token => {
                facts.seal_transported(key, transport.as_ref().unwrap(), &|transport, key| {
                    let oaep = match transport.oaep {
                        Oaep::Sha1 => mintmark_keys::OaepHash::Sha1,
                        Oaep::Sha256 => mintmark_keys::OaepHash::Sha256,
                    };
                    Ok(mintmark_keys::oaep_wrap(
                        &transport.modulus,
                        &transport.exponent,
                        oaep,
                        key,
                    )?)
                })
            }
            Way::Memory | Way::MemoryForbidden => facts.seal_agreed(key, agree),
        };
        KeyTerms {
            label: facts.label,
            algorithm,
            usage: KeyUse::DeriveDeviceSecret,
            uses_max: None,
            until: None,
            products: None,
            memory_import: way == Way::Memory,
            check_value: derived(
                key,
                algorithm,
                mintmark_protocol::device_secret::CHECK_LABEL,
                b"",
            ),
            delivery: delivery.unwrap(),
        }
    }

    /// Reads the enrolment request from a medium and answers it: the grant, in the next dispatch.
    pub(crate) fn grant(
        &mut self,
        stick: &Path,
        name: &VaultName,
        fingerprint: &str,
    ) -> (MediaName, Vec<u8>) {
        self.grant_with(stick, name, fingerprint, |_, _| {})
    }

    /// As [`Hq::grant`]; `spoil` has its say on the grant and on the certificates.
    pub(crate) fn grant_with(
        &mut self,
        stick: &Path,
        name: &VaultName,
        fingerprint: &str,
        spoil: impl FnOnce(&mut EnrolmentGrant, &mut [Vec<u8>; 2]),
    ) -> (MediaName, Vec<u8>) {
        let received = get(
            stick,
            &MediaName::Enrolment {
                vault: name.clone(),
            },
        );
        let request = EnrolmentRequest::open(&received, &fingerprint.parse().unwrap()).unwrap();
        let request_fingerprint = request.fingerprint();
        let request = request.into_content();
        let csr = mintmark_pki::CertificationRequest::from_der(&request.device_ca_csr).unwrap();
        let device_ca = PublicKey::from_public_key_der(csr.spki_der()).unwrap();
        let root = Issuer::from_certificate_der(&self.root_certificate).unwrap();
        let (site, vault) = (name.site.as_str(), name.vault.as_str());
        let time = now() - 60;
        let serial = 0x32 + u8::try_from(request.device_ca_generation).unwrap();
        let identity_tbs = vault_identity_tbs(
            &root,
            "Acme",
            site,
            vault,
            &request.signing_key,
            &[0x22; 20],
            time,
        )
        .unwrap();
        let device_ca_tbs =
            device_ca_tbs(&root, "Acme", site, vault, &device_ca, &[serial; 20], time).unwrap();
        let mut certificates = [&identity_tbs, &device_ca_tbs]
            .map(|tbs| assemble(tbs, &self.root.sign(tbs).unwrap()).unwrap());
        let mut grant = EnrolmentGrant {
            salt: [1; 32],
            vault: name.clone(),
            request_fingerprint,
            lineage: request.lineage,
            identity_tbs,
            device_ca_tbs,
            serial_master: self.serial_master.public(),
            dispatch_epoch: 1,
            drafted_at: now(),
            approve_until: now() + 3600,
            request: received,
            purpose: match request.device_ca_generation {
                FIRST_GENERATION => Purpose::Enrolment,
                generation => Purpose::Rotation { generation },
            },
        };
        spoil(&mut grant, &mut certificates);
        self.vault = Some(Enrolled {
            name: name.clone(),
            sign: request.signing_key,
            agree: request.agreement_key,
            transport: request.transport_key.clone(),
        });
        let proposal = grant
            .propose(self.newest(), &request.agreement_key)
            .unwrap();
        let bytes = self.approve(&proposal, 2);
        self.dispatch(
            Kind::EnrolmentGrant,
            &grant.object_id(),
            bytes,
            certificates.to_vec(),
        )
    }

    /// An entitlement of one product, whose devices are named by the common name.
    pub(crate) fn terms(&self, id: &str, version: u64, units: u64) -> Entitlement {
        Entitlement {
            salt: [2; 32],
            id: id.parse().unwrap(),
            version,
            vault: self.enrolled().name.clone(),
            drafted_at: now(),
            approve_until: now() + 3600,
            window: Interval {
                from: now() - 3600,
                until: now() + 3600,
            },
            credit: Credit {
                unreported_units_max: 1_000_000,
                unreported_days_max: 14,
            },
            anchor_lease_max: 256,
            clock_gap_days_max: None,
            retention_days: None,
            products: vec![ProductTerms {
                account: AccountTag::new(7).unwrap(),
                sku: "TH-200".parse().unwrap(),
                units,
                units_per_day: None,
                units_per_hour: None,
                device_id_pattern: Some("[A-Z0-9-]+".to_owned()),
                key_algorithms: vec!["P-256".to_owned()],
                reissues_per_device: 0,
                stations: None,
                working_hours: None,
                certificate: CertificateTerms {
                    subject: "O=Acme, OU=TH-200, serialNumber={device_id}".to_owned(),
                    validity_days: None,
                    extended_key_usage: vec!["clientAuth".to_owned()],
                },
                device_id_source: DeviceIdSource::CommonName,
                device_ids: None,
            }],
            policy_digest: Fingerprint::of(b"policy"),
            keys: Vec::new(),
            amends: None,
        }
    }

    /// Mints it with so many approvals.
    pub(crate) fn mint(&mut self, terms: &Entitlement, approvals: usize) -> (MediaName, Vec<u8>) {
        let proposal = terms
            .propose(self.newest(), &self.enrolled().agree)
            .unwrap();
        let bytes = self.approve(&proposal, approvals);
        self.dispatch(Kind::Entitlement, &terms.object_id(), bytes, Vec::new())
    }

    /// Reads a bundle and its segments from a medium. Gives the bundle and the records.
    pub(crate) fn receive(
        &self,
        stick: &Path,
        name: &MediaName,
    ) -> (Verified<Bundle>, Vec<Vec<u8>>) {
        let MediaName::Bundle {
            vault,
            lineage,
            sequence,
        } = name
        else {
            panic!("{name} is no bundle")
        };
        let bundle = Bundle::open(&get(stick, name), vault, &self.enrolled().sign).unwrap();
        let mut records = Vec::new();
        for (number, facts) in (1..).zip(&bundle.content().segments) {
            let segment = MediaName::Segment {
                vault: vault.clone(),
                lineage: *lineage,
                sequence: *sequence,
                number,
            };
            let id = Bundle::segment_id(lineage, *sequence, number);
            let (public_key, agree) = (self.hq_agree.public(), |peer: &PublicKey| {
                self.hq_agree.agree(peer)
            });
            let opener = Opener {
                public_key: &public_key,
                agree: &agree,
                former: None,
            };
            let segment = Segment::open(&get(stick, &segment), facts, vault, &id, opener).unwrap();
            records.extend(segment.records().map(|(_, record)| record.to_vec()));
        }
        (bundle, records)
    }

    /// Acknowledges a bundle.
    pub(crate) fn acknowledge(&mut self, bundle: &Verified<Bundle>) -> (MediaName, Vec<u8>) {
        let content = bundle.content();
        let acknowledgement = Acknowledgement {
            salt: [3; 32],
            vault: content.vault.clone(),
            hq_time: now(),
            lineage: content.lineage,
            bundle_sequence: content.sequence,
            bundle_fingerprint: bundle.fingerprint(),
            log_size: content.checkpoint.size,
            log_root: content.checkpoint.root,
            findings: 0,
        };
        let agree = self.enrolled().agree;
        let bytes = acknowledgement
            .seal(self.newest(), &agree, &|m| self.dispatch.sign(m))
            .unwrap();
        self.dispatch(
            Kind::Acknowledgement,
            &acknowledgement.object_id(),
            bytes,
            Vec::new(),
        )
    }
}

/// What is derived from a key in memory.
pub(crate) fn derived(
    key: &[u8; 32],
    algorithm: KeyAlgorithm,
    label: &str,
    context: &[u8],
) -> [u8; 32] {
    let algorithm = match algorithm {
        KeyAlgorithm::Aes256 => mintmark_keys::SecretAlgorithm::Aes256,
        KeyAlgorithm::HmacSha256 => mintmark_keys::SecretAlgorithm::HmacSha256,
    };
    *mintmark_keys::counter_kdf(algorithm, key, label, context).unwrap()
}

/// Writes a file to a medium.
pub(crate) fn put(stick: &Path, name: &MediaName, bytes: &[u8]) -> PathBuf {
    let path = stick.join("mintmark").join(name.to_string());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Reads a file from a medium.
pub(crate) fn get(stick: &Path, name: &MediaName) -> Vec<u8> {
    std::fs::read(stick.join("mintmark").join(name.to_string())).unwrap()
}
