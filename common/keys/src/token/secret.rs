//! Symmetric keys in a token. They come from elsewhere, stay, and make MACs.

use std::sync::{Arc, PoisonError, RwLock};

use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::{Zeroize, Zeroizing};

use super::attributes::{self, Absent, Demand, Problem};
use super::fault::Fault;
use super::key;
use super::pool::Pool;
use crate::error::Error;
use crate::secret::{SecretAlgorithm, SecretKey, counter_kdf, counter_mode};

/// What is derived to tell a key from another that takes its place while the store is open. It is kept in memory alone.
const PROOF_LABEL: &str = "mintmark key identity";

/// What is read of a symmetric key. Never its value.
pub(super) const SECRET_KEY: &[AttributeType] = &[
    AttributeType::Class,
    AttributeType::KeyType,
    AttributeType::ValueLen,
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::Extractable,
    AttributeType::Sign,
    AttributeType::Verify,
    AttributeType::Encrypt,
    AttributeType::Decrypt,
    AttributeType::Wrap,
    AttributeType::Unwrap,
    AttributeType::Derive,
];

/// What must be so. CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are false by definition for a key that
/// came from elsewhere. CKA_DERIVE matters: mechanisms that concatenate or cut keys (CKM_EXTRACT_KEY_FROM_KEY) would
/// give the key away in pieces.
const DEMANDS: &[Demand] = &[
    (AttributeType::Token, "CKA_TOKEN", true, Absent::Refused),
    (AttributeType::Private, "CKA_PRIVATE", true, Absent::Refused),
    (
        AttributeType::Sensitive,
        "CKA_SENSITIVE",
        true,
        Absent::Refused,
    ),
    (
        AttributeType::Extractable,
        "CKA_EXTRACTABLE",
        false,
        Absent::Refused,
    ),
    (AttributeType::Sign, "CKA_SIGN", true, Absent::Refused),
    (
        AttributeType::Verify,
        "CKA_VERIFY",
        false,
        Absent::Tolerated,
    ),
    (
        AttributeType::Encrypt,
        "CKA_ENCRYPT",
        false,
        Absent::Tolerated,
    ),
    (
        AttributeType::Decrypt,
        "CKA_DECRYPT",
        false,
        Absent::Tolerated,
    ),
    (AttributeType::Wrap, "CKA_WRAP", false, Absent::Tolerated),
    (
        AttributeType::Unwrap,
        "CKA_UNWRAP",
        false,
        Absent::Tolerated,
    ),
    (
        AttributeType::Derive,
        "CKA_DERIVE",
        false,
        Absent::Tolerated,
    ),
];

/// The template of a key that is unwrapped or created. Every usage is stated, since tokens differ in what they assume.
/// CMAC wants CKA_SIGN and no more; an AES key may encrypt and decrypt besides, since it may be there for other software.
pub(super) fn template(label: &str, algorithm: SecretAlgorithm, token: bool) -> Vec<Attribute> {
    let (key_type, encrypts) = match algorithm {
        // Older tokens know no CKK_SHA256_HMAC, and every one makes HMACs with this.
        SecretAlgorithm::HmacSha256 => (KeyType::GENERIC_SECRET, false),
        SecretAlgorithm::Aes256 => (KeyType::AES, true),
    };
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(key_type),
        Attribute::Token(token),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Verify(false),
        Attribute::Encrypt(encrypts),
        Attribute::Decrypt(encrypts),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
        Attribute::Label(label.into()),
    ]
}

/// The algorithm that a key's type stands for.
pub(super) fn algorithm_of(attributes: &[Attribute]) -> Option<SecretAlgorithm> {
    match attributes::key_type_of(attributes)? {
        KeyType::GENERIC_SECRET | KeyType::SHA256_HMAC => Some(SecretAlgorithm::HmacSha256),
        KeyType::AES => Some(SecretAlgorithm::Aes256),
        _ => None,
    }
}

/// The first thing that forbids to use the key.
pub(super) fn problem(attributes: &[Attribute], algorithm: SecretAlgorithm) -> Option<Problem> {
    if attributes::class_of(attributes) != Some(ObjectClass::SECRET_KEY) {
        return Some(Problem::new("CKA_CLASS", "not that of a symmetric key"));
    }
    if let Some(problem) = type_problem(attributes, algorithm) {
        return Some(problem);
    }
    let length = attributes.iter().find_map(|attribute| match attribute {
        Attribute::ValueLen(length) => Some(**length),
        _ => None,
    });
    // SoftHSM says 0 of what it unwrapped. A key of another length gives itself away by its check value.
    if let Some(length) = length.filter(|length| !matches!(length, 0 | 32)) {
        let found = format!("{length} bytes, and must be 32");
        return Some(Problem::new("CKA_VALUE_LEN", found));
    }
    // An AES key may be there for other software, to encrypt with.
    let encrypts = |demand: &&Demand| {
        algorithm == SecretAlgorithm::Aes256
            && matches!(demand.0, AttributeType::Encrypt | AttributeType::Decrypt)
    };
    let demands: Vec<Demand> = DEMANDS
        .iter()
        .filter(|demand| !encrypts(demand))
        .copied()
        .collect();
    attributes::flag_problem(attributes, &demands, "derive from")
}

fn type_problem(attributes: &[Attribute], algorithm: SecretAlgorithm) -> Option<Problem> {
    if algorithm_of(attributes) == Some(algorithm) {
        return None;
    }
    let found = attributes::key_type_of(attributes).map_or_else(
        || "not reported by the token".into(),
        |found| found.to_string(),
    );
    Some(Problem::new(
        "CKA_KEY_TYPE",
        format!("{found}, and must be that of {algorithm}"),
    ))
}

/// Every symmetric key that the token keeps. Session objects are not among them: an agreement in another thread makes
/// one for a moment.
pub(super) fn all(session: &Session) -> Result<Vec<ObjectHandle>, Fault> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
    ];
    key::search(session, &template, "find a symmetric key")
}

fn find(session: &Session, store: &str, label: &str) -> Result<Option<ObjectHandle>, Fault> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Label(label.into()),
    ];
    match *key::search(session, &template, "find a symmetric key")? {
        [] => Ok(None),
        [handle] => Ok(Some(handle)),
        ref several => Err(key::ambiguous(store, label, several.len())),
    }
}

fn read(session: &Session, handle: ObjectHandle) -> Result<Vec<Attribute>, Fault> {
    session
        .get_attributes(handle, SECRET_KEY)
        .map_err(Fault::while_("read a key's attributes"))
}

/// The symmetric key `label`, its attributes asserted; `None` if there is none.
pub(super) fn look_up(
    session: &Session,
    store: &str,
    label: &str,
    algorithm: SecretAlgorithm,
) -> Result<Option<ObjectHandle>, Fault> {
    let Some(handle) = find(session, store, label)? else {
        return Ok(None);
    };
    match problem(&read(session, handle)?, algorithm) {
        None => Ok(Some(handle)),
        Some(problem) => Err(problem.refusal(store, label).into()),
    }
}

/// C_CreateObject. The library's own copy of the key is not ours to wipe.
pub(super) fn create(
    session: &Session,
    label: &str,
    algorithm: SecretAlgorithm,
    key: &[u8; 32],
    token: bool,
) -> Result<ObjectHandle, Fault> {
    let mut template = template(label, algorithm, token);
    template.push(Attribute::Value(key.to_vec()));
    let made = session.create_object(&template);
    for attribute in &mut template {
        if let Attribute::Value(value) = attribute {
            value.zeroize();
        }
    }
    made.map_err(Fault::while_("take a key"))
}

/// Looks at a key that was just made under a label that was free, and tries it: what it derives must be what `expected`
/// derives, where that is known. Destroys it if it must not be used or cannot be.
pub(super) fn demand_proper(
    session: &Session,
    store: &str,
    label: &str,
    algorithm: SecretAlgorithm,
    made: ObjectHandle,
    expected: Option<&[u8; 32]>,
) -> Result<(), Fault> {
    let outcome = look_up(session, store, label, algorithm).and_then(|found| {
        let handle = found.ok_or_else(|| Error::KeyMissing {
            store: store.into(),
            label: label.into(),
        })?;
        let derived = derive(session, handle, algorithm, PROOF_LABEL, &[])?;
        match expected {
            Some(key) if derived != counter_kdf(algorithm, key, PROOF_LABEL, &[])? => {
                Err(Fault::Token {
                    action: "keep a key as it was given",
                    error: CryptokiError::InvalidValue,
                })
            }
            _ => Ok(()),
        }
    });
    let Err(fault) = outcome else {
        return Ok(());
    };
    session
        .destroy_object(made)
        .map_err(Fault::while_("destroy a key that it made wrongly"))?;
    if fault.rv() == Some(RvError::KeySizeRange) {
        // The token looked at the length of what came out, which its attributes need not tell.
        return Err(Error::WrappedKeyInvalid {
            store: store.into(),
            label: label.into(),
            reason: "what comes out is too short for a key".into(),
        }
        .into());
    }
    Err(fault)
}

/// Destroys the key `label`, whatever its attributes but its type.
pub(super) fn destroy(
    session: &Session,
    store: &str,
    label: &str,
    algorithm: SecretAlgorithm,
) -> Result<(), Fault> {
    let Some(handle) = find(session, store, label)? else {
        return Err(Error::KeyMissing {
            store: store.into(),
            label: label.into(),
        }
        .into());
    };
    if let Some(problem) = type_problem(&read(session, handle)?, algorithm) {
        return Err(problem.refusal(store, label).into());
    }
    session
        .destroy_object(handle)
        .map_err(Fault::while_("destroy a key"))
}

/// One MAC: CKM_SHA256_HMAC or CKM_AES_CMAC.
pub(super) fn mac(
    session: &Session,
    handle: ObjectHandle,
    algorithm: SecretAlgorithm,
    input: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mechanism = match algorithm {
        SecretAlgorithm::HmacSha256 => Mechanism::Sha256Hmac,
        SecretAlgorithm::Aes256 => Mechanism::AesCMac,
    };
    let mac = session
        .sign(&mechanism, handle, input)
        .map(Zeroizing::new)
        .map_err(Fault::while_("make a MAC"))?;
    if mac.len() == algorithm.mac_bytes() {
        Ok(mac)
    } else {
        Err(Fault::Token {
            action: "make a MAC of full length",
            error: CryptokiError::InvalidValue,
        })
    }
}

/// As [`derive_once`], and again: no one can verify a MAC here, and tokens were seen to give, now and then, a signature
/// that does not verify. Two results that differ are forgiven once.
pub(super) fn derive(
    session: &Session,
    handle: ObjectHandle,
    algorithm: SecretAlgorithm,
    label: &str,
    context: &[u8],
) -> Result<Zeroizing<[u8; 32]>, Fault> {
    for _ in 0..2 {
        let derived = derive_once(session, handle, algorithm, label, context)?;
        if derived == derive_once(session, handle, algorithm, label, context)? {
            return Ok(derived);
        }
    }
    Err(Fault::Token {
        action: "make the same MAC twice",
        error: CryptokiError::InvalidValue,
    })
}

/// The key derivation of [`counter_kdf`](crate::counter_kdf), its MACs made in the token.
fn derive_once(
    session: &Session,
    handle: ObjectHandle,
    algorithm: SecretAlgorithm,
    label: &str,
    context: &[u8],
) -> Result<Zeroizing<[u8; 32]>, Fault> {
    counter_mode(algorithm, label, context, |input| {
        mac(session, handle, algorithm, input)
    })
}

/// A symmetric key in use. Its handle is kept for as long as the connection holds in which it was found.
pub(super) struct TokenSecret {
    pool: Arc<Pool>,
    label: String,
    algorithm: SecretAlgorithm,
    /// A symmetric key has no public half to know it by; this is derived from it instead.
    identity: Zeroizing<[u8; 32]>,
    handle: RwLock<(u64, ObjectHandle)>,
}

impl TokenSecret {
    /// The key `label`, which has shown that it works; `None` if there is none.
    pub(super) fn open(
        pool: &Arc<Pool>,
        label: &str,
        algorithm: SecretAlgorithm,
    ) -> Result<Option<Self>, Error> {
        let found = pool.call(|session, generation| {
            let Some(handle) = look_up(session, pool.store(), label, algorithm)? else {
                return Ok(None);
            };
            let identity = derive(session, handle, algorithm, PROOF_LABEL, &[])?;
            Ok(Some((generation, handle, identity)))
        })?;
        Ok(found.map(|(generation, handle, identity)| Self {
            pool: pool.clone(),
            label: label.into(),
            algorithm,
            identity,
            handle: RwLock::new((generation, handle)),
        }))
    }

    /// The handle in this connection, looked up and asserted again if the connection is a new one.
    fn handle(&self, session: &Session, generation: u64) -> Result<ObjectHandle, Fault> {
        let (known_in, handle) = *self.handle.read().unwrap_or_else(PoisonError::into_inner);
        if known_in == generation {
            return Ok(handle);
        }
        let store = self.pool.store();
        let handle = look_up(session, store, &self.label, self.algorithm)?.ok_or_else(|| {
            Error::KeyMissing {
                store: store.into(),
                label: self.label.clone(),
            }
        })?;
        if derive(session, handle, self.algorithm, PROOF_LABEL, &[])? != self.identity {
            return Err(Error::KeyChanged {
                store: store.into(),
                label: self.label.clone(),
            }
            .into());
        }
        *self.handle.write().unwrap_or_else(PoisonError::into_inner) = (generation, handle);
        Ok(handle)
    }
}

impl SecretKey for TokenSecret {
    fn algorithm(&self) -> SecretAlgorithm {
        self.algorithm
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
        self.pool.call(|session, generation| {
            let handle = self.handle(session, generation)?;
            derive(session, handle, self.algorithm, label, context)
        })
    }
}
