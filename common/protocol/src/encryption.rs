//! ECIES in its COSE form: COSE_Encrypt with A256GCM, its content key agreed with each recipient by ECDH-ES on P-256,
//! HKDF-SHA-256 and A256KW (RFC 9052 section 5; RFC 9053 sections 4.1, 5 and 6.4.1). The recipients' private keys can
//! stay in HSMs: all they do is one ECDH.
//!
//! ```cddl
//! encrypted = #6.96([
//!   bstr .cbor { 1: 3, 3: tstr, -65537: context },   ; A256GCM; context without commitment
//!   { 5: bstr .size 12 },                            ; IV
//!   bstr,                                            ; ciphertext and tag
//!   [1*64 recipient],
//! ])
//! recipient = [
//!   bstr .cbor { 1: -31 },                           ; ECDH-ES + A256KW
//!   { 4: bstr .size 32, -1: COSE_Key },              ; recipient's key id; ephemeral key
//!   bstr .size 40,                                   ; the wrapped content key
//! ]
//! ; COSE_KDF_Context = [-5, [null, null, null], [null, null, null], [256, recipient's protected header]]
//! ```

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_kw::KwAes256;
use ciborium::Value;
use coset::{
    CoseEncrypt, CoseRecipient, EncryptionContext, Header, Label, TaggedCborSerializable as _,
    enc_structure_data,
};
use hkdf::Hkdf;
use p256::{PublicKey, SecretKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cbor::{self, Map};
use crate::envelope::{
    Context, TAG_ENCRYPT, as_received, check, decode_header, encode_header, expect_tag,
    header_bytes, not_cose, protected, read_iv, tagged,
};
use crate::identifier::KeyId;
use crate::key::{cose_key, from_cose_key, thumbprint};
use crate::{Error, KeyFailure};

/// A256GCM (RFC 9053 section 4.1).
const A256GCM: i64 = 3;
/// A256KW (RFC 9053 section 6.2.1).
const A256KW: i64 = -5;
/// ECDH-ES + A256KW (RFC 9053 section 6.4.1).
const ECDH_ES_A256KW: i64 = -31;
/// The header label of an ephemeral key (RFC 9053 section 6.3.1).
const EPHEMERAL: i64 = -1;
/// The most recipients of one message.
pub const RECIPIENTS_MAX: usize = 64;

/// The private half of a recipient key, held by the caller: ECDH with a peer's public key, giving the raw x-coordinate.
pub type Agree<'a> = &'a dyn Fn(&PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure>;

/// A key that we can decrypt with.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// Its public half, by which we find our place among the recipients.
    pub public_key: &'a PublicKey,
    /// Its private half's one operation.
    pub agree: Agree<'a>,
}

/// Fills `N` bytes from the operating system.
///
/// # Errors
/// [`Error::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

/// Encrypts `plaintext` to every recipient.
pub(crate) fn seal(
    context: &Context,
    plaintext: &[u8],
    recipients: &[PublicKey],
) -> Result<Vec<u8>, Error> {
    let bare = Context {
        commitment: None,
        ..context.clone()
    };
    let header = protected(encode_header(&bare, Some(A256GCM), None, true));
    let content_key = Zeroizing::new(random::<32>()?);
    let iv: [u8; 12] = random()?;
    let aad = enc_structure_data(EncryptionContext::CoseEncrypt, header.clone(), &[]);
    let what = "message";
    let ciphertext = Aes256Gcm::new((&*content_key).into())
        .encrypt(
            (&iv).into(),
            Payload {
                msg: plaintext,
                aad: &aad,
            },
        )
        .map_err(|_| Error::Decryption { what })?;
    let recipients: Result<_, Error> = recipients
        .iter()
        .map(|key| wrap(what, &content_key, key))
        .collect();
    let cose = CoseEncrypt {
        protected: header,
        unprotected: Header {
            iv: iv.to_vec(),
            ..Header::default()
        },
        ciphertext: Some(ciphertext),
        recipients: recipients?,
    };
    tagged(what, cose.to_tagged_vec())
}

/// Wraps the content key for one recipient.
fn wrap(
    what: &'static str,
    content_key: &[u8; 32],
    key: &PublicKey,
) -> Result<CoseRecipient, Error> {
    let ephemeral = loop {
        let candidate = Zeroizing::new(random::<32>()?);
        // All but about 2^-32 of the candidates are scalars of P-256.
        if let Ok(secret) = SecretKey::from_slice(&*candidate) {
            break secret;
        }
    };
    let shared = ephemeral.diffie_hellman(key);
    let header = Map::new().with(1, ECDH_ES_A256KW).encode();
    let wrapping_key = derive(shared.raw_secret_bytes(), &header)?;
    let mut wrapped = [0; 40];
    KwAes256::new((&*wrapping_key).into())
        .wrap_key(content_key, &mut wrapped)
        .map_err(|_| Error::Decryption { what })?;
    Ok(CoseRecipient {
        protected: protected(header),
        unprotected: recipient_header(&thumbprint(key), cose_key(&ephemeral.public_key())),
        ciphertext: Some(wrapped.to_vec()),
        recipients: Vec::new(),
    })
}

fn recipient_header(key: &KeyId, ephemeral: Value) -> Header {
    Header {
        key_id: key.as_bytes().to_vec(),
        rest: vec![(Label::Int(EPHEMERAL), ephemeral)],
        ..Header::default()
    }
}

/// The key-wrapping key: HKDF-SHA-256, no salt, over COSE_KDF_Context (RFC 9053 section 5.2).
fn derive(shared: &[u8], recipient_header: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
    let nobody = || Value::Array(vec![Value::Null, Value::Null, Value::Null]);
    let public = Value::Array(vec![
        Value::from(256),
        Value::from(recipient_header.to_vec()),
    ]);
    let context = Value::Array(vec![Value::from(A256KW), nobody(), nobody(), public]);
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, shared)
        .expand(&cbor::encode(&context), &mut *key)
        .map_err(|_| Error::Decryption { what: "message" })?;
    Ok(key)
}

/// A COSE_Encrypt that was read strictly and not decrypted.
pub(crate) struct Encrypted {
    pub(crate) context: Context,
    what: &'static str,
    iv: [u8; 12],
    cose: CoseEncrypt,
}

impl Encrypted {
    /// Reads a tagged COSE_Encrypt.
    pub(crate) fn read(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        check(what, bytes, bytes_max)?;
        expect_tag(what, bytes, TAG_ENCRYPT)?;
        let cose = CoseEncrypt::from_tagged_slice(bytes).map_err(|error| not_cose(what, &error))?;
        let header = as_received(what, &cose.protected)?;
        let header = decode_header(what, header, Some(A256GCM), false, true)?;
        let iv = read_iv(what, &cose.unprotected)?;
        if cose.recipients.is_empty() || cose.recipients.len() > RECIPIENTS_MAX {
            return Err(Error::Shape {
                what,
                why: format!("1 to {RECIPIENTS_MAX} recipients"),
            });
        }
        Ok(Self {
            context: header.context,
            what,
            iv,
            cose,
        })
    }

    /// Decrypts it for one of its recipients.
    pub(crate) fn open(&self, opener: Opener<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let what = self.what;
        let key = thumbprint(opener.public_key);
        let mut ours = self
            .cose
            .recipients
            .iter()
            .filter(|r| r.unprotected.key_id == key.as_bytes());
        let recipient = ours.next().ok_or(Error::NotRecipient { what })?;
        if ours.next().is_some() {
            return Err(Error::PartsDiffer {
                what,
                why: "one recipient is named twice",
            });
        }
        let header = as_received(what, &recipient.protected)?;
        if header != Map::new().with(1, ECDH_ES_A256KW).encode() {
            return Err(Error::Algorithm { what });
        }
        let ephemeral = match recipient.unprotected.rest.as_slice() {
            [(Label::Int(EPHEMERAL), value)] => value.clone(),
            _ => {
                return Err(Error::Header {
                    what,
                    why: "no single ephemeral key".to_owned(),
                });
            }
        };
        let expected = recipient_header(&key, ephemeral.clone());
        if header_bytes(&recipient.unprotected) != header_bytes(&expected)
            || !recipient.recipients.is_empty()
        {
            let why = "a recipient holds more than a key id and an ephemeral key".to_owned();
            return Err(Error::Header { what, why });
        }
        let ephemeral = from_cose_key(what, ephemeral)?;
        let shared = (opener.agree)(&ephemeral).map_err(Error::KeyOperation)?;
        let wrapping_key = derive(&*shared, header)?;
        let wrapped = recipient.ciphertext.as_deref().unwrap_or_default();
        let mut content_key = Zeroizing::new([0; 32]);
        if wrapped.len() != 40 {
            return Err(Error::Decryption { what });
        }
        KwAes256::new((&*wrapping_key).into())
            .unwrap_key(wrapped, &mut *content_key)
            .map_err(|_| Error::Decryption { what })?;
        let aad = enc_structure_data(
            EncryptionContext::CoseEncrypt,
            self.cose.protected.clone(),
            &[],
        );
        let ciphertext = self.cose.ciphertext.as_deref().unwrap_or_default();
        Aes256Gcm::new((&*content_key).into())
            .decrypt(
                (&self.iv).into(),
                Payload {
                    msg: ciphertext,
                    aad: &aad,
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| Error::Decryption { what })
    }

    /// The key ids that it is encrypted to.
    pub(crate) fn recipients(&self) -> impl Iterator<Item = &[u8]> {
        self.cose
            .recipients
            .iter()
            .map(|recipient| recipient.unprotected.key_id.as_slice())
    }
}
