//! Transport keys: RSA pairs whose private half unwraps other keys inside the token.
//!
//! PKCS #11 lets whoever has the PIN choose the attributes of what is unwrapped, unless CKA_UNWRAP_TEMPLATE binds them;
//! cryptoki cannot state that attribute. So whoever has the PIN and the wrapped bytes can have the key extractable. Who
//! has neither learns nothing from the machine's memory, and that is what unwrapping is for.

use cryptoki::context::Function;
use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::attributes::{self, Absent, Demand, Problem};
use super::fault::{self, Fault};
use super::key;
use super::pool::logged_in;
use super::secret;
use crate::error::Error;
use crate::random;
use crate::secret::{SecretAlgorithm, counter_kdf};
use crate::transport::{OaepHash, TransportKey, oaep_wrap};

/// Bytes of the modulus: 3072 bits, the strength of P-256 (NIST SP 800-57 part 1 section 5.6.1.1).
const MODULUS_BYTES: usize = 384;

/// 65537, the exponent of every such key.
const EXPONENT: &[u8] = &[1, 0, 1];

/// Label of keys that live for one trial, in a session.
const TRIAL_LABEL: &str = "mintmark-unwrap-trial";

/// What must be so, besides what keeps it where it was made.
const DEMANDS: &[Demand] = &[
    (AttributeType::Unwrap, "CKA_UNWRAP", true, Absent::Refused),
    // What could be decrypted would be decrypted into this machine's memory.
    (
        AttributeType::Decrypt,
        "CKA_DECRYPT",
        false,
        Absent::Refused,
    ),
    (AttributeType::Sign, "CKA_SIGN", false, Absent::Tolerated),
    (
        AttributeType::SignRecover,
        "CKA_SIGN_RECOVER",
        false,
        Absent::Tolerated,
    ),
    (
        AttributeType::Derive,
        "CKA_DERIVE",
        false,
        Absent::Tolerated,
    ),
    (
        AttributeType::AlwaysAuthenticate,
        "CKA_ALWAYS_AUTHENTICATE",
        false,
        Absent::Tolerated,
    ),
];

/// Both halves as they are made.
fn templates(label: &str, id: &[u8], token: bool) -> (Vec<Attribute>, Vec<Attribute>) {
    let public = vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::ModulusBits((8 * 384_u64).into()),
        Attribute::PublicExponent(EXPONENT.into()),
        Attribute::Token(token),
        Attribute::Private(false),
        Attribute::Verify(false),
        Attribute::VerifyRecover(false),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        Attribute::Label(label.into()),
        Attribute::Id(id.into()),
    ];
    let private = vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(token),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::SignRecover(false),
        Attribute::Derive(false),
        Attribute::Label(label.into()),
        Attribute::Id(id.into()),
    ];
    (public, private)
}

/// The first thing that forbids to use a private key for transport.
pub(super) fn problem(attributes: &[Attribute]) -> Option<Problem> {
    if attributes::class_of(attributes) != Some(ObjectClass::PRIVATE_KEY) {
        return Some(Problem::new("CKA_CLASS", "not that of a private key"));
    }
    match attributes::key_type_of(attributes) {
        Some(KeyType::RSA) => {
            let problem = |demands| attributes::flag_problem(attributes, demands, "unwrap");
            problem(&attributes::SECRECY).or_else(|| problem(DEMANDS))
        }
        Some(other) => Some(Problem::new(
            "CKA_KEY_TYPE",
            format!("{other}, and must be CKK_RSA"),
        )),
        None => Some(Problem::new(
            "CKA_KEY_TYPE",
            "not reported by the token, and must be CKK_RSA",
        )),
    }
}

/// The private half of `label`, its attributes asserted; `None` if there is none.
pub(super) fn handle(
    session: &Session,
    store: &str,
    label: &str,
) -> Result<Option<ObjectHandle>, Fault> {
    let handle = match *key::private_keys(session, Some(Attribute::Label(label.into())))? {
        [] => return Ok(None),
        [handle] => handle,
        ref several => return Err(key::ambiguous(store, label, several.len())),
    };
    let read = session
        .get_attributes(handle, attributes::PRIVATE_KEY)
        .map_err(Fault::while_("read a key's attributes"))?;
    match problem(&read) {
        None => Ok(Some(handle)),
        Some(problem) => Err(problem.refusal(store, label).into()),
    }
}

/// The transport key `label`, which has shown that it unwraps; `None` if there is none.
pub(super) fn look_up(
    session: &Session,
    store: &str,
    label: &str,
) -> Result<Option<TransportKey>, Fault> {
    let Some(handle) = handle(session, store, label)? else {
        return Ok(None);
    };
    let (n, e) = components(session, store, label, handle)?;
    match trial(session, handle, &n, &e)? {
        Trial::Unwraps(oaep) => Ok(Some(TransportKey { n, e, oaep })),
        Trial::Differs => Err(
            Problem::new("CKA_MODULUS", "not that of the key that unwraps")
                .refusal(store, label)
                .into(),
        ),
        Trial::Refused(reason) => Err(Error::TokenFailed {
            store: store.into(),
            action: "unwrap what was wrapped to its transport key",
            reason,
            returned: None,
        }
        .into()),
    }
}

/// Makes a pair that stays, if the token can unwrap with it.
pub(super) fn generate(
    session: &Session,
    store: &str,
    label: &str,
) -> Result<Option<TransportKey>, Fault> {
    key::demand_free(session, store, label)?;
    let Some((public, private)) = pair(session, label, true)? else {
        return Ok(None);
    };
    let outcome = handle(session, store, label).and_then(|_| {
        let (n, e) = components(session, store, label, private)?;
        Ok(match trial(session, private, &n, &e)? {
            Trial::Unwraps(oaep) => Some(TransportKey { n, e, oaep }),
            Trial::Differs | Trial::Refused(_) => None,
        })
    });
    if !matches!(outcome, Ok(Some(_))) {
        for handle in [public, private] {
            session
                .destroy_object(handle)
                .map_err(Fault::while_("destroy a key that does not unwrap"))?;
        }
    }
    outcome
}

/// Tries the same with a pair that does not stay.
pub(super) fn probe(session: &Session, store: &str) -> Result<Trial, Fault> {
    let Some((public, private)) = pair(session, TRIAL_LABEL, false)? else {
        return Ok(Trial::Refused("it makes no RSA keys to unwrap with".into()));
    };
    let outcome = components(session, store, TRIAL_LABEL, private)
        .and_then(|(n, e)| trial(session, private, &n, &e));
    for handle in [public, private] {
        session
            .destroy_object(handle)
            .map_err(Fault::while_("destroy a session key"))?;
    }
    outcome
}

/// A new pair; `None` if the token makes no such keys.
fn pair(
    session: &Session,
    label: &str,
    token: bool,
) -> Result<Option<(ObjectHandle, ObjectHandle)>, Fault> {
    let mut id = [0_u8; 20];
    random::fill(&mut id)?;
    let (public, private) = templates(label, &id, token);
    let fault = match session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private) {
        Ok(made) => return Ok(Some(made)),
        Err(error) => Fault::while_("make a transport key")(error),
    };
    match fault.rv() {
        Some(
            RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::FunctionNotSupported
            | RvError::KeySizeRange
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateInconsistent,
        ) => Ok(None),
        _ => Err(fault),
    }
}

/// The modulus and the exponent, which the private half knows too: no public key object can be put in its place.
fn components(
    session: &Session,
    store: &str,
    label: &str,
    private: ObjectHandle,
) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let (modulus, exponent) = numbers(session, private)?;
    let refuse = |attribute, found: &str| Problem::new(attribute, found).refusal(store, label);
    let modulus = modulus.ok_or_else(|| refuse("CKA_MODULUS", "not reported by the token"))?;
    if modulus.len() != MODULUS_BYTES || modulus.first().is_none_or(|byte| *byte < 0x80) {
        return Err(refuse("CKA_MODULUS", "not a number of 3072 bits").into());
    }
    // Some tokens report the exponent with the public half alone. The trial that follows finds out.
    let exponent = exponent.unwrap_or_else(|| EXPONENT.into());
    if exponent != EXPONENT {
        return Err(refuse("CKA_PUBLIC_EXPONENT", "not 65537, which it was made with").into());
    }
    Ok((modulus, exponent))
}

/// The modulus and the exponent of a key, as far as they are known.
type Numbers = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Both without leading zeros, as far as the private half tells them.
fn numbers(session: &Session, private: ObjectHandle) -> Result<Numbers, Fault> {
    let read = session
        .get_attributes(
            private,
            &[AttributeType::Modulus, AttributeType::PublicExponent],
        )
        .map_err(Fault::while_("read a public key"))?;
    let (mut modulus, mut exponent) = (None, None);
    for attribute in &read {
        match attribute {
            Attribute::Modulus(bytes) => modulus = Some(bare(bytes).to_vec()),
            Attribute::PublicExponent(bytes) => exponent = Some(bare(bytes).to_vec()),
            _ => {}
        }
    }
    Ok((modulus, exponent))
}

/// A number without its leading zeros.
fn bare(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// How a token fared.
pub(super) enum Trial {
    /// It unwrapped the very key that was wrapped.
    Unwraps(OaepHash),
    /// It unwrapped something else, or made wrong MACs with it.
    Differs,
    /// It unwrapped nothing; this is what it said at last.
    Refused(String),
}

/// Unwraps random keys that were wrapped here, and compares what is derived from them in both places.
fn trial(session: &Session, private: ObjectHandle, n: &[u8], e: &[u8]) -> Result<Trial, Fault> {
    let mut key = Zeroizing::new([0_u8; 32]);
    let (mut differs, mut said) = (false, String::new());
    for oaep in [OaepHash::Sha256, OaepHash::Sha1] {
        // A token may have one of the MACs only.
        for algorithm in [SecretAlgorithm::HmacSha256, SecretAlgorithm::Aes256] {
            random::fill(key.as_mut_slice())?;
            let wrapped = oaep_wrap(n, e, oaep, &key)?;
            let template = secret::template(TRIAL_LABEL, algorithm, false);
            let unwrapped = match unwrap_once(session, private, oaep, &wrapped, &template)? {
                Ok(unwrapped) => unwrapped,
                Err(reason) => {
                    said = reason;
                    continue;
                }
            };
            let derived = secret::derive(session, unwrapped, algorithm, TRIAL_LABEL, n);
            session
                .destroy_object(unwrapped)
                .map_err(Fault::while_("destroy a session key"))?;
            match derived {
                Ok(derived) if derived == counter_kdf(algorithm, &key, TRIAL_LABEL, n)? => {
                    return Ok(Trial::Unwraps(oaep));
                }
                Ok(_) => differs = true,
                Err(Fault::Token { error, .. }) => said = refusal(session, error)?,
                Err(fault) => return Err(fault),
            }
        }
    }
    Ok(if differs {
        Trial::Differs
    } else {
        Trial::Refused(said)
    })
}

/// C_UnwrapKey. The inner error says why the token does not unwrap these bytes in this way; the outer one, that the
/// connection was lost or the token failed.
///
/// Off-spec: kryoptic answers CKR_DEVICE_ERROR to bytes that do not decrypt, where the standard has
/// CKR_WRAPPED_KEY_INVALID. Network tokens answer the same when their connection broke. So the token is asked for what it
/// surely can do: where it unwraps a key that was wrapped a moment ago, and again not these bytes, it is the bytes.
pub(super) fn unwrap(
    session: &Session,
    private: ObjectHandle,
    oaep: OaepHash,
    wrapped: &[u8],
    template: &[Attribute],
) -> Result<Result<ObjectHandle, String>, Fault> {
    match unwrap_once(session, private, oaep, wrapped, template) {
        Err(fault) if fault.rv() == Some(RvError::DeviceError) => {
            if !unwraps_its_own(session, private, oaep)? {
                return Err(fault);
            }
        }
        outcome => return outcome,
    }
    match unwrap_once(session, private, oaep, wrapped, template) {
        Err(Fault::Token {
            error: error @ CryptokiError::Pkcs11(RvError::DeviceError, _),
            ..
        }) => Ok(Err(format!(
            "{}, to these bytes alone",
            fault::reason(&error)
        ))),
        outcome => outcome,
    }
}

/// Whether the token unwraps, in this session, a random key that was wrapped here to its transport key.
fn unwraps_its_own(
    session: &Session,
    private: ObjectHandle,
    oaep: OaepHash,
) -> Result<bool, Fault> {
    let (Some(modulus), exponent) = numbers(session, private)? else {
        return Ok(false);
    };
    let mut key = Zeroizing::new([0_u8; 32]);
    random::fill(key.as_mut_slice())?;
    let exponent = exponent.as_deref().unwrap_or(EXPONENT);
    let wrapped = oaep_wrap(&modulus, exponent, oaep, &key)?;
    let template = secret::template(TRIAL_LABEL, SecretAlgorithm::HmacSha256, false);
    let Ok(unwrapped) = unwrap_once(session, private, oaep, &wrapped, &template)? else {
        return Ok(false);
    };
    session
        .destroy_object(unwrapped)
        .map_err(Fault::while_("destroy a session key"))?;
    Ok(true)
}

fn unwrap_once(
    session: &Session,
    private: ObjectHandle,
    oaep: OaepHash,
    wrapped: &[u8],
    template: &[Attribute],
) -> Result<Result<ObjectHandle, String>, Fault> {
    let (hash, mgf) = match oaep {
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
    };
    let mechanism = Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()));
    let error = match session.unwrap_key(&mechanism, private, wrapped, template) {
        Ok(made) => return Ok(Ok(made)),
        Err(error) => error,
    };
    refusal(session, error).map(Err)
}

/// What the token said, unless it is that the connection was lost or that the token is out of memory.
pub(super) fn refusal(session: &Session, error: CryptokiError) -> Result<String, Fault> {
    let reason = fault::reason(&error);
    let fault = Fault::while_("unwrap or use a key")(error);
    let capacity = matches!(
        fault.rv(),
        Some(RvError::DeviceMemory | RvError::HostMemory)
    );
    if fault.is_lost() || capacity {
        return Err(fault);
    }
    // A token that lost its login in the middle of a call may answer with anything.
    if logged_in(session).map_err(Fault::while_("describe a session"))? {
        return Ok(reason);
    }
    let error = CryptokiError::Pkcs11(RvError::UserNotLoggedIn, Function::UnwrapKey);
    Err(Fault::while_("unwrap or use a key")(error))
}
