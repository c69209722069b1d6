//! The self test of a token: it does what the product will ask of it.

use aws_lc_rs::digest::{SHA256, digest};
use cryptoki::context::Function;
use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};
use p256::PublicKey;

use super::attributes::{self, Problem};
use super::fault::Fault;
use super::key::{self, Name};
use super::pool::{Pool, SESSIONS_PER_PROCESSOR, processors};
use super::secret;
use super::transport::{self, Trial};
use crate::error::Error;
use crate::random;
use crate::secret::{SecretAlgorithm, counter_kdf};
use crate::store::{Probe, Purpose};
use crate::verify::Verifier;

/// Label of keys that live for one probe, in a session. No product key has it.
const PROBE_LABEL: &str = "mintmark-self-test";

/// Runs every probe; each stands alone.
pub(super) fn run(pool: &Pool) -> Vec<Probe> {
    [
        ("login", pool.call(|session, _| login(session))),
        ("random", pool.call(|session, _| random(session))),
        ("sessions", sessions(pool)),
        (
            "sign",
            pool.call(|session, _| with_key(session, pool.store(), Purpose::Sign)),
        ),
        (
            "agree",
            pool.call(|session, _| with_key(session, pool.store(), Purpose::Agree)),
        ),
        (
            "unwrap",
            pool.call(|session, _| unwrap(session, pool.store())),
        ),
        (
            "hmac",
            pool.call(|session, _| mac(session, SecretAlgorithm::HmacSha256)),
        ),
        (
            "cmac",
            pool.call(|session, _| mac(session, SecretAlgorithm::Aes256)),
        ),
        ("data", pool.call(|session, _| data_object(session))),
        ("labels", pool.call(|session, _| long_label(session))),
    ]
    .into_iter()
    .map(|(name, outcome)| Probe::of(name, outcome))
    .collect()
}

fn login(session: &Session) -> Result<String, Fault> {
    let info = session
        .get_session_info()
        .map_err(Fault::while_("describe a session"))?;
    match info.session_state() {
        SessionState::RwUser => Ok("logged in, may make keys".into()),
        SessionState::RoUser => {
            Ok("logged in, the token is write-protected: no key can be made".into())
        }
        _ => Err(Fault::Token {
            action: "stay logged in",
            error: CryptokiError::Pkcs11(RvError::UserNotLoggedIn, Function::Login),
        }),
    }
}

/// As many sessions at once as a busy vault uses.
fn sessions(pool: &Pool) -> Result<String, Error> {
    let wanted = processors() * SESSIONS_PER_PROCESSOR;
    Ok(match pool.try_sessions(wanted)? {
        0 => "one alone: everything goes one after the other".into(),
        count if count < wanted => format!(
            "{count} at once beside the first, of {wanted} that this machine could use: it works, and more slowly"
        ),
        count => format!("{count} at once beside the first"),
    })
}

/// Makes a private data object for this session, as an anchor is one that stays, and reads it back.
fn data_object(session: &Session) -> Result<String, Fault> {
    let value = [0x5a; 1024];
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Application(b"mintmark".to_vec()),
        Attribute::Label(PROBE_LABEL.into()),
        Attribute::Value(value.into()),
    ];
    let made = match session.create_object(&template) {
        Ok(made) => made,
        Err(error) => {
            let reason = transport::refusal(session, error)?;
            return Ok(format!(
                "not tried: the token makes none for a session alone ({reason})"
            ));
        }
    };
    let read = session.get_attributes(made, &[AttributeType::Value]);
    destroy(session, made)?;
    let same = read
        .map_err(Fault::while_("read a data object"))?
        .contains(&Attribute::Value(value.into()));
    match same {
        true => Ok("a private data object of 1024 bytes was made, read back and removed".into()),
        false => Err(Fault::Token {
            action: "give back a data object as it was made",
            error: CryptokiError::InvalidValue,
        }),
    }
}

/// Makes an object whose label is as long as any here, and finds it by the whole label and by no other. A token's own label
/// has 32 bytes at most; some tokens keep no more of an object's.
fn long_label(session: &Session) -> Result<String, Fault> {
    const BYTES: usize = 64;
    let label = format!(
        "{PROBE_LABEL}-{}",
        "x".repeat(BYTES - PROBE_LABEL.len() - 1)
    );
    let mut template = secret::template(&label, SecretAlgorithm::HmacSha256, false);
    template.push(Attribute::Value(vec![0x5a; 32]));
    let made = match session.create_object(&template) {
        Ok(made) => made,
        Err(error) => {
            let reason = transport::refusal(session, error)?;
            return Ok(format!(
                "not tried: the token takes no such object ({reason})"
            ));
        }
    };
    let find = |label: &str| session.find_objects(&[Attribute::Label(label.into())]);
    let (whole, cut) = (find(&label), find(label.get(..32).unwrap_or_default()));
    destroy(session, made)?;
    let found = |outcome: Result<Vec<ObjectHandle>, CryptokiError>| {
        outcome
            .map(|handles| handles.contains(&made))
            .map_err(Fault::while_("find an object by its label"))
    };
    match (found(whole)?, found(cut)?) {
        (true, false) => Ok(format!("a label of {BYTES} bytes is kept whole")),
        _ => Err(Fault::Token {
            action: "keep a label of 64 bytes whole",
            error: CryptokiError::InvalidValue,
        }),
    }
}

/// Two draws that differ, neither of them blank. It finds a generator that is missing or stuck; no test of this size
/// finds a bad one.
fn random(session: &Session) -> Result<String, Fault> {
    let mut draws = [[0_u8; 32]; 2];
    for draw in &mut draws {
        session
            .generate_random_slice(draw)
            .map_err(Fault::while_("give random bytes"))?;
    }
    if draws[0] == draws[1] || draws.contains(&[0_u8; 32]) {
        return Err(Fault::Token {
            action: "give random bytes that differ",
            error: CryptokiError::InvalidValue,
        });
    }
    Ok("32 random bytes, twice, and they differ".into())
}

/// Uses an ephemeral key, or a key that is there where the token keeps no session objects.
fn with_key(session: &Session, store: &str, purpose: Purpose) -> Result<String, Fault> {
    let fault = match ephemeral(session, purpose) {
        Ok((public, private)) => {
            let outcome = session
                .get_attributes(public, attributes::PUBLIC_KEY)
                .map_err(Fault::while_("read a public key"))
                .and_then(|read| {
                    attributes::public_key(&read).map_err(|problem| {
                        let label = PROBE_LABEL.into();
                        let Problem { attribute, found } = problem;
                        Error::KeyAttributes {
                            store: store.into(),
                            label,
                            attribute,
                            found,
                        }
                        .into()
                    })
                })
                .and_then(|point| exercise(session, store, private, &point, purpose));
            for handle in [public, private] {
                session
                    .destroy_object(handle)
                    .map_err(Fault::while_("destroy a session key"))?;
            }
            return outcome.map(|done| format!("{done}, with a key made for this test"));
        }
        Err(fault) => fault,
    };
    for handle in key::private_keys(session, None)? {
        let Ok(read) = session.get_attributes(handle, attributes::PRIVATE_KEY) else {
            continue;
        };
        if attributes::problem(&read, purpose).is_some() {
            continue;
        }
        let labels = session
            .get_attributes(handle, &[AttributeType::Label])
            .map_err(Fault::while_("read a key's label"))?;
        let Some(label) = labels.iter().find_map(label_of) else {
            continue;
        };
        // The lookup proves the key with the very operations that the probe is about.
        if key::look_up(session, store, &Name::label(&label), purpose)?.is_some() {
            return Ok(format!(
                "it works, with the key \"{label}\"; the token makes no session keys"
            ));
        }
    }
    Err(fault)
}

fn label_of(attribute: &Attribute) -> Option<String> {
    match attribute {
        Attribute::Label(label) => String::from_utf8(label.clone()).ok(),
        _ => None,
    }
}

fn ephemeral(session: &Session, purpose: Purpose) -> Result<(ObjectHandle, ObjectHandle), Fault> {
    let mut id = [0_u8; 20];
    random::fill(&mut id)?;
    session
        .generate_key_pair(
            &Mechanism::EccKeyPairGen,
            &attributes::public_template(PROBE_LABEL, &id, purpose, false),
            &attributes::private_template(PROBE_LABEL, &id, purpose, false),
        )
        .map_err(Fault::while_("make a session key"))
}

fn exercise(
    session: &Session,
    store: &str,
    private: ObjectHandle,
    public: &PublicKey,
    purpose: Purpose,
) -> Result<String, Fault> {
    let fits = key::fits(session, private, public, purpose)?;
    match purpose {
        Purpose::Sign | Purpose::Authenticate if fits => {
            // A second one, of the empty message, since the first hash was random.
            let hash = digest(&SHA256, b"");
            let again = key::sign_digest(session, private, &hash)?;
            let verifier = Verifier::new(public)?;
            if again.is_some_and(|signature| verifier.accepts(&hash, &signature)) {
                return Ok("signed, and the signatures verify".into());
            }
            Err(Error::SignatureInvalid {
                store: store.into(),
                label: PROBE_LABEL.into(),
            }
            .into())
        }
        Purpose::Sign | Purpose::Authenticate => Err(Error::SignatureInvalid {
            store: store.into(),
            label: PROBE_LABEL.into(),
        }
        .into()),
        Purpose::Agree if fits => Ok("agreed, and both sides have the same secret".into()),
        Purpose::Agree => Err(Fault::Token {
            action: "agree on the secret of the other side",
            error: CryptokiError::InvalidValue,
        }),
    }
}

/// What the token unwraps with: RSA-OAEP, which a transport key needs, and AES key wrap, which nothing needs here.
fn unwrap(session: &Session, store: &str) -> Result<String, Fault> {
    let rsa = match transport::probe(session, store)? {
        Trial::Unwraps(oaep) => format!(
            "unwrapped a key with RSA-OAEP and {}, and it is the right one",
            oaep.as_str()
        ),
        Trial::Refused(reason) => format!("not offered: RSA-OAEP: {reason}"),
        Trial::Differs => {
            return Err(Fault::Token {
                action: "unwrap the key that was wrapped",
                error: CryptokiError::InvalidValue,
            });
        }
    };
    let aes = match aes_key_wrap(session)? {
        Ok(()) => "AES key wrap works too".to_owned(),
        Err(reason) => format!("AES key wrap does not work: {reason}"),
    };
    Ok(format!("{rsa}; {aes}"))
}

/// Unwraps what RFC 3394 section 4.6 wrapped: 256 bits of key data with a 256-bit key, and compares a MAC.
fn aes_key_wrap(session: &Session) -> Result<Result<(), String>, Fault> {
    let wrapping: [u8; 32] = std::array::from_fn(|index| index as u8);
    let mut key = [0_u8; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = match index {
            0..16 => 0x11 * index as u8,
            _ => index as u8 - 16,
        };
    }
    let mut template = secret::template(PROBE_LABEL, SecretAlgorithm::Aes256, false);
    template.retain(|attribute| !matches!(attribute, Attribute::Sign(_) | Attribute::Unwrap(_)));
    template.extend([
        Attribute::Sign(false),
        Attribute::Unwrap(true),
        Attribute::Value(wrapping.into()),
    ]);
    let wrapping = match session.create_object(&template) {
        Ok(made) => made,
        Err(error) => return transport::refusal(session, error).map(Err),
    };
    let algorithm = SecretAlgorithm::HmacSha256;
    let outcome = session.unwrap_key(
        &Mechanism::AesKeyWrap,
        wrapping,
        RFC_3394_WRAPPED,
        &secret::template(PROBE_LABEL, algorithm, false),
    );
    destroy(session, wrapping)?;
    let unwrapped = match outcome {
        Ok(made) => made,
        Err(error) => return transport::refusal(session, error).map(Err),
    };
    let derived = secret::derive(session, unwrapped, algorithm, PROBE_LABEL, &[]);
    destroy(session, unwrapped)?;
    match derived {
        Ok(derived) if derived == counter_kdf(algorithm, &key, PROBE_LABEL, &[])? => Ok(Ok(())),
        Ok(_) => Ok(Err("it gives another key".into())),
        Err(Fault::Token { error, .. }) => transport::refusal(session, error).map(Err),
        Err(fault) => Err(fault),
    }
}

/// RFC 3394 section 4.6.
const RFC_3394_WRAPPED: &[u8] = &[
    0x28, 0xc9, 0xf4, 0x04, 0xc4, 0xb8, 0x10, 0xf4, 0xcb, 0xcc, 0xb3, 0x5c, 0xfb, 0x87, 0xf8, 0x26,
    0x3f, 0x57, 0x86, 0xe2, 0xd8, 0x0e, 0xd3, 0x26, 0xcb, 0xc7, 0xf0, 0xe7, 0x1a, 0x99, 0xf4, 0x3b,
    0xfb, 0x98, 0x8b, 0x9b, 0x7a, 0x02, 0xdd, 0x21,
];

fn destroy(session: &Session, handle: ObjectHandle) -> Result<(), Fault> {
    session
        .destroy_object(handle)
        .map_err(Fault::while_("destroy a session key"))
}

/// Derives with a key that is put into the token for it, and compares. A token that takes no keys in the clear cannot be
/// tried in this way; what it unwraps, `unwrap` tries.
fn mac(session: &Session, algorithm: SecretAlgorithm) -> Result<String, Fault> {
    let mut key = [0_u8; 32];
    random::fill(&mut key)?;
    let template = |key: &[u8; 32]| {
        let mut template = secret::template(PROBE_LABEL, algorithm, false);
        template.push(Attribute::Value(key.into()));
        template
    };
    let handle = match session.create_object(&template(&key)) {
        Ok(made) => made,
        Err(error) => {
            let reason = transport::refusal(session, error)?;
            return Ok(format!(
                "not offered: the token takes no such key: {reason}"
            ));
        }
    };
    let derived = secret::derive(session, handle, algorithm, PROBE_LABEL, &[]);
    destroy(session, handle)?;
    match derived {
        Ok(derived) if derived == counter_kdf(algorithm, &key, PROBE_LABEL, &[])? => {
            Ok("derived what this program derives from the same key".into())
        }
        Ok(_) => Err(Fault::Token {
            action: "make the right MAC",
            error: CryptokiError::InvalidValue,
        }),
        Err(Fault::Token { error, .. }) => {
            let reason = transport::refusal(session, error)?;
            Ok(format!("not offered: {reason}"))
        }
        Err(fault) => Err(fault),
    }
}
