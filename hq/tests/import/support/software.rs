//! What a vault does with its keys, in software: it asks to be let in, opens what it is sent, seals what it reports, and signs
//! what its device CA signs. For the vaults in memory of these tests, and of the simulation in `hq/src/simulation`.

use std::collections::BTreeMap;

use mintmark_ledger::entry::{Content, CrlIssued, Reserved};
use mintmark_ledger::serial::{SerialCipher, serial_of};
use mintmark_ledger::state::{State, Withdrawal};
use mintmark_pki::{
    CertificationRequest, CrlReason, Issuer, RevokedSerial, assemble_crl, certification_request,
    crl_tbs,
};
use mintmark_protocol::KeyFailure;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
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

/// Its public half.
pub(crate) fn public(key: &SigningKey) -> PublicKey {
    key.verifying_key().into()
}

/// A certification request of a device, by the key of this number.
pub(crate) fn csr(device_id: &str, number: u64) -> CertificationRequest {
    let key = key(1_000_000 + number);
    let sign = |bytes: &[u8]| Ok::<Signature, mintmark_pki::Error>(key.sign(bytes));
    let der = certification_request(device_id, &public(&key), sign).unwrap();
    CertificationRequest::from_der(&der).unwrap()
}

pub(crate) fn vault_name(site: &str) -> VaultName {
    VaultName {
        site: site.parse().unwrap(),
        vault: "v1".parse().unwrap(),
    }
}

/// The lineage that the log of a site's vault begins with.
pub(crate) fn lineage(site: &str) -> Lineage {
    let mut name = [0; 16];
    name.copy_from_slice(&Fingerprint::of(site.as_bytes()).as_bytes()[..16]);
    Lineage::new(name)
}

/// The first manifest, which a person would have compared.
pub(crate) fn pinned(bytes: &[u8]) -> Verified<TrustManifest> {
    let fingerprint = claim(bytes, bytes.len()).unwrap().fingerprint;
    TrustManifest::pin(bytes, &fingerprint, None).unwrap()
}

/// The reservation that an honest vault makes for a device, moved to this slot, its serial too.
pub(crate) fn moved(mut reserved: Reserved, serials: &SerialCipher, slot: u64) -> Reserved {
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

/// What belongs on the CRL of a device CA.
pub(crate) fn revoked(
    state: &State,
    serials: &SerialCipher,
    generation: u16,
) -> Vec<RevokedSerial> {
    let entries = state.crl_entries(generation);
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

/// How a bundle departs from the one that an honest vault would seal.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Bundle);

/// A vault's keys, which follow from its site's name.
pub(crate) struct Keys {
    pub(crate) sign: SigningKey,
    pub(crate) agree: SecretKey,
    pub(crate) device_ca: SigningKey,
}

impl Keys {
    pub(crate) fn of(site: &str) -> Self {
        let mut number = [0; 8];
        number.copy_from_slice(&Fingerprint::of(site.as_bytes()).as_bytes()[..8]);
        // Far from the numbers of devices' keys, and with room for three.
        let number = (u64::from_be_bytes(number) | 1 << 63) & !0xff;
        Self {
            sign: key(number + 1),
            agree: key(number + 2).into(),
            device_ca: key(number + 3),
        }
    }

    pub(crate) fn agree(&self, peer: &PublicKey) -> Zeroizing<[u8; 32]> {
        let shared = self.agree.diffie_hellman(peer);
        Zeroizing::new((*shared.raw_secret_bytes()).into())
    }

    /// What a new vault asks HQ.
    pub(crate) fn request(
        &self,
        site: &str,
        manifest: &Verified<TrustManifest>,
    ) -> (Vec<u8>, Fingerprint) {
        let csr = |name: &str, key: &SigningKey| {
            let sign = |bytes: &[u8]| Ok::<Signature, mintmark_pki::Error>(key.sign(bytes));
            certification_request(name, &public(key), sign).unwrap()
        };
        let request = EnrolmentRequest {
            vault: vault_name(site),
            lineage: lineage(site),
            trust_version: 1,
            trust_fingerprint: manifest.fingerprint(),
            signing_key: public(&self.sign),
            agreement_key: self.agree.public_key(),
            identity_csr: csr("identity", &self.sign),
            device_ca_csr: csr("device CA", &self.device_ca),
            facts: BTreeMap::new(),
            made_at: 1_700_000_000,
            transport_key: None,
            device_ca_generation: 1,
        };
        request.seal(&|message| self.signs(message)).unwrap()
    }

    /// A signature of the vault itself.
    pub(crate) fn signs(&self, message: &[u8]) -> Result<Signature, KeyFailure> {
        Ok(self.sign.sign(message))
    }

    /// A signature of its device CA.
    pub(crate) fn certifies(&self, tbs: &[u8]) -> [u8; 64] {
        let signature: Signature = self.device_ca.sign(tbs);
        signature.to_bytes().into()
    }

    /// Does something with what decrypts.
    pub(crate) fn with_opener<T>(&self, body: impl FnOnce(Opener<'_>) -> T) -> T {
        let public_key = self.agree.public_key();
        let agree = |peer: &PublicKey| Ok::<_, KeyFailure>(self.agree(peer));
        body(Opener {
            public_key: &public_key,
            agree: &agree,
            former: None,
        })
    }

    /// The content of a dispatch, which has to be authentic.
    pub(crate) fn open(
        &self,
        dispatch: &Dispatch,
        manifest: &Verified<TrustManifest>,
        name: &VaultName,
    ) -> Content {
        let bytes = &dispatch.content;
        self.with_opener(|opener| match dispatch.kind {
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
        })
    }

    /// A CRL as a log states it, its digest aside, by the device CA's key or by another; and what the log says of it.
    pub(crate) fn crl(
        &self,
        stated: CrlIssued,
        certificate: &[u8],
        revoked: &[RevokedSerial],
        key: Option<&SigningKey>,
    ) -> (Vec<u8>, CrlIssued) {
        let issuer = Issuer::from_certificate_der(certificate).unwrap();
        let (number, this_update) = (stated.number, stated.this_update);
        let tbs = crl_tbs(&issuer, number, this_update, stated.next_update, revoked).unwrap();
        let signature: Signature = key.unwrap_or(&self.device_ca).sign(&tbs);
        let der = assemble_crl(&tbs, &signature).unwrap();
        let issued = CrlIssued {
            sha256: Fingerprint::of(&der),
            ..stated
        };
        (der, issued)
    }

    /// Seals a bundle over these new records, so many to a segment: what goes onto a stick, the bundle last.
    pub(crate) fn seal(
        &self,
        mut bundle: Bundle,
        manifest: &Verified<TrustManifest>,
        (records, segment_records): (&[Vec<u8>], usize),
        change: Change<'_>,
    ) -> (Vec<(MediaName, Vec<u8>)>, Fingerprint) {
        let (vault, lineage, sequence) = (bundle.vault.clone(), bundle.lineage, bundle.sequence);
        let recipients = manifest.content().hq_recipients();
        let (mut files, mut next) = (Vec::new(), bundle.first);
        for records in records.chunks(segment_records) {
            let mut builder = SegmentBuilder::new(next);
            records.iter().for_each(|record| builder.push(record));
            next += records.len() as u64;
            let number = bundle.segments.len() + 1;
            let id = Bundle::segment_id(&lineage, sequence, number);
            let (file, facts) = builder.seal(&vault, &id, &recipients).unwrap();
            bundle.segments.push(facts);
            let vault = vault.clone();
            let name = MediaName::Segment {
                vault,
                lineage,
                sequence,
                number,
            };
            files.push((name, file));
        }
        change(&mut bundle);
        let sign = |message: &[u8]| self.signs(message);
        let (bytes, fingerprint) = bundle.seal(&public(&self.sign), &sign).unwrap();
        let (lineage, sequence) = (bundle.lineage, bundle.sequence);
        let name = MediaName::Bundle {
            vault,
            lineage,
            sequence,
        };
        files.push((name, bytes));
        (files, fingerprint)
    }
}
