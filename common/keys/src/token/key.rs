//! One key in a token: how it is looked up, proven and used.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{Digest, SHA256, digest};
use cryptoki::context::Function;
use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use p256::PublicKey;
use p256::ecdsa::Signature;
use p256::elliptic_curve::sec1::ToSec1Point;
use zeroize::{Zeroize, Zeroizing};

use super::attributes::{self, Problem};
use super::fault::Fault;
use super::pool::{Pool, logged_in};
use crate::error::Error;
use crate::random;
use crate::store::{Agreement, Purpose, Signer};
use crate::verify::Verifier;

/// What a key signs to show that it fits its public key. No message of any protocol begins like this: COSE structures
/// begin with 0x84 or 0x85, certificates with 0x30.
const PROOF_PREFIX: &[u8] = b"mintmark: does this private key fit its public key? ";

/// What a key pair is found by.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// What it is called here.
    pub(super) label: String,
    /// CKA_LABEL is this label. Not so where a URI gives nothing but CKA_ID: the token's own tools name keys as they
    /// like.
    pub(super) by_label: bool,
    /// CKA_ID, where it counts.
    pub(super) id: Option<Vec<u8>>,
}

impl Name {
    /// The key of this CKA_LABEL.
    pub(super) fn label(label: &str) -> Self {
        Self {
            label: label.into(),
            by_label: true,
            id: None,
        }
    }

    fn template(&self, class: ObjectClass) -> Vec<Attribute> {
        let mut template = vec![Attribute::Class(class)];
        if self.by_label {
            template.push(Attribute::Label(self.label.as_str().into()));
        }
        template.extend(self.id.clone().map(Attribute::Id));
        template
    }

    /// The label as errors show it. It can be foreign text.
    pub(super) fn shown(&self) -> String {
        self.label.escape_debug().take(64).collect()
    }
}

/// A key that was found and may be used.
pub(super) struct Found {
    pub(super) handle: ObjectHandle,
    pub(super) public: PublicKey,
    /// The private key was seen to fit the public one. Until then nothing is done with it.
    pub(super) proven: bool,
}

/// The private key `name`, its attributes asserted and its public key proven; `None` if there is none.
pub(super) fn look_up(
    session: &Session,
    store: &str,
    name: &Name,
    purpose: Purpose,
) -> Result<Option<Found>, Fault> {
    let Some(found) = look_up_unproven(session, store, name, purpose)? else {
        return Ok(None);
    };
    if fits(session, found.handle, &found.public, purpose)? {
        return Ok(Some(Found {
            proven: true,
            ..found
        }));
    }
    let problem = Problem::new("CKA_EC_POINT", "not the point of this private key");
    Err(problem.refusal(store, &name.shown()).into())
}

/// As [`look_up`], but a module that does not offer what the key is for leaves it unproven: some that pass calls on, as
/// p11-kit's of 2022, do not know ECDH, and a program that only signs has no need of it.
pub(super) fn look_up_lazily(
    session: &Session,
    store: &str,
    name: &Name,
    purpose: Purpose,
) -> Result<Option<Found>, Fault> {
    match look_up(session, store, name, purpose) {
        Err(fault) if fault.rv() == Some(RvError::MechanismInvalid) => {
            look_up_unproven(session, store, name, purpose)
        }
        other => other,
    }
}

/// The private key `name`, its attributes asserted; `None` if there is none.
fn look_up_unproven(
    session: &Session,
    store: &str,
    name: &Name,
    purpose: Purpose,
) -> Result<Option<Found>, Fault> {
    let label = name.shown();
    let label = label.as_str();
    let template = name.template(ObjectClass::PRIVATE_KEY);
    let handles = search(session, &template, "find a private key")?;
    let handle = match handles.as_slice() {
        [] => return Ok(None),
        [handle] => *handle,
        several => return Err(ambiguous(store, label, several.len())),
    };
    let refuse = |problem: Problem| -> Fault { problem.refusal(store, label).into() };
    let private = session
        .get_attributes(handle, attributes::PRIVATE_KEY)
        .map_err(Fault::while_("read a key's attributes"))?;
    if let Some(problem) = attributes::problem(&private, purpose) {
        return Err(refuse(problem));
    }
    let id = attributes::id_of(&private).map(<[u8]>::to_vec);
    let public = Name {
        // Tools of others give the two halves of a pair labels of their own; CKA_ID ties them. They are proven to fit.
        by_label: match purpose {
            Purpose::Authenticate => id.as_ref().is_none_or(Vec::is_empty),
            Purpose::Sign | Purpose::Agree => true,
        },
        id,
        ..name.clone()
    };
    let template = public.template(ObjectClass::PUBLIC_KEY);
    let publics = session
        .find_objects(&template)
        .map_err(Fault::while_("find a public key"))?;
    let public = match publics.as_slice() {
        [public] => session
            .get_attributes(*public, attributes::PUBLIC_KEY)
            .map_err(Fault::while_("read a public key"))
            .and_then(|read| attributes::public_key(&read).map_err(refuse))?,
        [] => {
            return Err(refuse(Problem::new(
                "CKA_EC_POINT",
                "unknown: there is no public key object of this label and CKA_ID",
            )));
        }
        several => return Err(ambiguous(store, label, several.len())),
    };
    Ok(Some(Found {
        handle,
        public,
        proven: false,
    }))
}

/// Refuses an identifier that is taken. On some tokens it is the place of a key, and making one there destroys the other.
pub(super) fn demand_id_free(session: &Session, store: &str, name: &Name) -> Result<(), Fault> {
    let Some(id) = &name.id else { return Ok(()) };
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let template = [Attribute::Class(class), Attribute::Id(id.clone())];
        if !search(session, &template, "find a key")?.is_empty() {
            return Err(Error::KeyExists {
                store: store.into(),
                label: format!("id={}", hex::encode(id)),
            }
            .into());
        }
    }
    Ok(())
}

/// Refuses a label that is taken, by a key of whatever kind.
pub(super) fn demand_free(session: &Session, store: &str, label: &str) -> Result<(), Fault> {
    for class in [
        ObjectClass::PRIVATE_KEY,
        ObjectClass::PUBLIC_KEY,
        ObjectClass::SECRET_KEY,
    ] {
        let template = [Attribute::Class(class), Attribute::Label(label.into())];
        if !search(session, &template, "find a key")?.is_empty() {
            return Err(Error::KeyExists {
                store: store.into(),
                label: label.into(),
            }
            .into());
        }
    }
    Ok(())
}

pub(super) fn ambiguous(store: &str, label: &str, count: usize) -> Fault {
    Error::KeyAmbiguous {
        store: store.into(),
        label: label.into(),
        count,
    }
    .into()
}

/// The private keys of the token, or those of one label or identifier.
pub(super) fn private_keys(
    session: &Session,
    named: Option<Attribute>,
) -> Result<Vec<ObjectHandle>, Fault> {
    let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
    template.extend(named);
    search(session, &template, "find a private key")
}

/// The private objects that have the attributes of `template`. Without a login a token does not refuse to search: it
/// finds nothing. So an empty answer counts only from a session that was logged in before it.
pub(super) fn search(
    session: &Session,
    template: &[Attribute],
    action: &'static str,
) -> Result<Vec<ObjectHandle>, Fault> {
    let search = || {
        session
            .find_objects(template)
            .map_err(Fault::while_(action))
    };
    let handles = search()?;
    if !handles.is_empty() {
        return Ok(handles);
    }
    demand_login(session, Function::FindObjects, action)?;
    // Another thread may have logged in between the search and the question.
    search()
}

/// Takes a login that is gone for what `function` should have said.
pub(super) fn demand_login(
    session: &Session,
    function: Function,
    action: &'static str,
) -> Result<(), Fault> {
    if logged_in(session).map_err(Fault::while_("describe a session"))? {
        return Ok(());
    }
    let error = CryptokiError::Pkcs11(RvError::UserNotLoggedIn, function);
    Err(Fault::Token { action, error })
}

/// Whether the private key is that of `public`. Whoever knows the PIN can put another public key object in place, and
/// everything encrypted to it from then on would be theirs.
pub(super) fn fits(
    session: &Session,
    handle: ObjectHandle,
    public: &PublicKey,
    purpose: Purpose,
) -> Result<bool, Fault> {
    match purpose {
        Purpose::Sign | Purpose::Authenticate => {
            let mut nonce = [0_u8; 32];
            random::fill(&mut nonce)?;
            let hash = digest(&SHA256, &[PROOF_PREFIX, &nonce].concat());
            let Some(signature) = sign_digest(session, handle, &hash)? else {
                return Ok(false);
            };
            Ok(Verifier::new(public)?.accepts(&hash, &signature))
        }
        Purpose::Agree => {
            let ephemeral = random::secret_key()?;
            let ours = ephemeral.diffie_hellman(public);
            let theirs = derive(session, handle, &ephemeral.public_key())?;
            Ok(ours.raw_secret_bytes().as_slice() == theirs.as_slice())
        }
    }
}

/// CKM_ECDSA over a hash of ours, since not every token offers the hashing mechanism. `None`: what came back is no
/// signature at all.
pub(super) fn sign_digest(
    session: &Session,
    handle: ObjectHandle,
    hash: &Digest,
) -> Result<Option<Signature>, Fault> {
    let raw = session
        .sign(&Mechanism::Ecdsa, handle, hash.as_ref())
        .map_err(Fault::while_("sign"))?;
    Ok(Signature::from_slice(&raw).ok())
}

/// CKM_ECDH1_DERIVE without a key derivation function: the bare x-coordinate, as a session object that may be read.
pub(super) fn derive(
    session: &Session,
    handle: ObjectHandle,
    peer: &PublicKey,
) -> Result<Zeroizing<[u8; 32]>, Fault> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::ValueLen(32.into()),
    ];
    let derive_from = |point: &[u8]| {
        let params = Ecdh1DeriveParams::new(EcKdf::null(), point);
        session.derive_key(&Mechanism::Ecdh1Derive(params), handle, &template)
    };
    let point = peer.to_sec1_point(false);
    // PKCS #11 version 2.40 section 2.3.7: a token must take the bare point; older ones take only the OCTET STRING.
    let secret = match derive_from(point.as_bytes()) {
        Err(CryptokiError::Pkcs11(
            RvError::MechanismParamInvalid | RvError::ArgumentsBad | RvError::DomainParamsInvalid,
            _,
        )) => derive_from(&[&[0x04, 65], point.as_bytes()].concat()),
        other => other,
    }
    .map_err(Fault::while_("agree on a secret (CKM_ECDH1_DERIVE)"))?;
    let read = session.get_attributes(secret, &[AttributeType::Value]);
    // Destroyed before anything is judged, so that no failure leaves it in the token.
    let destroyed = session.destroy_object(secret);
    let mut value = None;
    // The library's own copy of these bytes is freed without being wiped; no interface reaches it.
    for attribute in read.map_err(Fault::while_("read an agreed secret"))? {
        if let Attribute::Value(mut bytes) = attribute {
            value = <[u8; 32]>::try_from(bytes.as_slice())
                .ok()
                .map(Zeroizing::new);
            bytes.zeroize();
        }
    }
    destroyed.map_err(Fault::while_("destroy an agreed secret"))?;
    value.ok_or(Fault::Token {
        action: "give an agreed secret of 32 bytes",
        error: CryptokiError::InvalidValue,
    })
}

/// A key in use. Its handle is kept for as long as the connection holds in which it was found.
pub(super) struct TokenKey {
    pool: Arc<Pool>,
    name: Name,
    purpose: Purpose,
    public: PublicKey,
    verifier: Verifier,
    /// The connection, and the handle in it; `None` until it was proven.
    handle: RwLock<Option<(u64, ObjectHandle)>>,
}

impl TokenKey {
    pub(super) fn new(
        pool: Arc<Pool>,
        name: Name,
        purpose: Purpose,
        found: &Found,
        generation: u64,
    ) -> Result<Self, Error> {
        Ok(Self {
            pool,
            name,
            purpose,
            public: found.public,
            verifier: Verifier::new(&found.public)?,
            handle: RwLock::new(found.proven.then_some((generation, found.handle))),
        })
    }

    /// The handle in this connection, looked up and asserted again if the connection is a new one.
    fn handle(&self, session: &Session, generation: u64) -> Result<ObjectHandle, Fault> {
        let known = *self.handle.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((known_in, handle)) = known
            && known_in == generation
        {
            return Ok(handle);
        }
        let store = self.pool.store();
        let found = look_up(session, store, &self.name, self.purpose)?.ok_or_else(|| {
            Error::KeyMissing {
                store: store.into(),
                label: self.name.shown(),
            }
        })?;
        if found.public != self.public {
            return Err(Error::KeyChanged {
                store: store.into(),
                label: self.name.shown(),
            }
            .into());
        }
        *self.handle.write().unwrap_or_else(PoisonError::into_inner) =
            Some((generation, found.handle));
        Ok(found.handle)
    }
}

impl Signer for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        let hash = digest(&SHA256, message);
        // Tokens were seen to give, now and then, a signature that does not verify. Once is forgiven: it cost a retry
        // and was seen by nobody.
        for _ in 0..2 {
            let signature = self.pool.call(|session, generation| {
                sign_digest(session, self.handle(session, generation)?, &hash)
            })?;
            if let Some(signature) = signature.map(|signature| signature.normalize_s())
                && self.verifier.accepts(&hash, &signature)
            {
                return Ok(signature);
            }
        }
        Err(Error::SignatureInvalid {
            store: self.pool.store().into(),
            label: self.name.shown(),
        })
    }
}

impl Agreement for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, Error> {
        self.pool
            .call(|session, generation| derive(session, self.handle(session, generation)?, peer))
    }
}
