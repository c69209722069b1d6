//! Who there is, with their keys: officers, headquarters, a vault, an auditor; and the manifests that say so.

use mintmark_protocol::KeyFailure;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Lineage, VaultName};
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::trust::{HqEncryptionKey, Officer, Role, TrustManifest};
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
