//! ECIES in its COSE form: COSE_Encrypt with A256GCM, its content key agreed with each recipient by ECDH-ES on P-256,
//! HKDF-SHA-256 and A256KW (RFC 9052 section 5; RFC 9053 sections 4.1, 5 and 6.4.1). The recipients' private keys can
//! stay in HSMs: all they do is one ECDH.
//!
//! ```cddl
//! encrypted-unprotected = { 5: bstr .size 12 }     ; IV
//! recipient = [
//!   bstr .cbor recipient-header,
//!   { 4: key-id, -1: COSE_Key },       ; key id of the recipient's key; ephemeral key
//!   bstr .size 40,                     ; the wrapped content key
//! ]
//! recipient-header = { 1: -31 }
//! kdf-context = [
//!   -5,                                ; A256KW
//!   [null, null, null],                ; PartyUInfo
//!   [null, null, null],                ; PartyVInfo
//!   [256, bstr .cbor recipient-header],
//! ]
//! enc-structure = ["Encrypt", bstr, bstr .size 0]
//! ```

#[cfg(test)]
mod judged;

use std::collections::BTreeSet;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_kw::KwAes256;
use ciborium::Value;
use coset::{
    CoseEncrypt, CoseRecipient, EncryptionContext, Header, Label, TaggedCborSerializable as _,
    enc_structure_data,
};
use hkdf::Hkdf;
use p256::PublicKey;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cbor::{self, Map};
use crate::envelope::{
    Context, TAG_ENCRYPT, as_received, check, decode_header, encode_header, expect_tag,
    header_bytes, not_cose, protected, read_iv, tagged,
};
use crate::identifier::KeyId;
use crate::key::{AgreementKey, thumbprint};
use crate::{Error, KeyFailure};

/// A256GCM (RFC 9053 section 4.1).
const A256GCM: i64 = 3;
/// A256KW (RFC 9053 section 6.2.1).
const A256KW: i64 = -5;
/// ECDH-ES + A256KW (RFC 9053 section 6.4.1).
const ECDH_ES_A256KW: i64 = -31;
/// The header label of an ephemeral key (RFC 9053 section 6.3.1).
const EPHEMERAL: i64 = -1;
/// The most recipients of one message: a vault, HQ's 8 keys, 64 officers, and room.
pub const RECIPIENTS_MAX: usize = 80;

/// The private half of a recipient key, held by the caller: ECDH with a peer's public key, giving the raw x-coordinate.
pub type Agree<'a> = &'a dyn Fn(&PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure>;

/// A key that we can decrypt with.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// Its public half, by which we find our place among the recipients.
    pub public_key: &'a PublicKey,
    /// Its private half's one operation.
    pub agree: Agree<'a>,
    /// Keys of ours that came before it, for what was encrypted in their day.
    pub former: Option<&'a dyn FormerKeys>,
}

/// Keys that a reader has besides the one that things are encrypted to now, and can still decrypt with: those that came
/// before it, and one that was in escrow.
pub trait FormerKeys {
    /// Their public halves.
    fn public_keys(&self) -> &[PublicKey];

    /// What the private half of one of them agrees on with `peer`: as [`Agree`].
    ///
    /// # Errors
    /// That key's store.
    fn agree(&self, key: &PublicKey, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure>;
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
    let recipients: Vec<_> = recipients.iter().copied().map(AgreementKey::P256).collect();
    seal_to(context, plaintext, &recipients)
}

/// Encrypts `plaintext` to every recipient, whatever curve its key is on.
pub(crate) fn seal_to(
    context: &Context,
    plaintext: &[u8],
    recipients: &[AgreementKey],
) -> Result<Vec<u8>, Error> {
    let content_key = Zeroizing::new(random::<32>()?);
    let recipients: Result<_, Error> = recipients
        .iter()
        .map(|key| wrap("message", &content_key, key))
        .collect();
    seal_under(context, plaintext, &content_key, recipients?)
}

/// Encrypts `plaintext` under a content key that the recipients hold already wrapped.
pub(crate) fn seal_under(
    context: &Context,
    plaintext: &[u8],
    content_key: &[u8; 32],
    recipients: Vec<CoseRecipient>,
) -> Result<Vec<u8>, Error> {
    let bare = Context {
        commitment: None,
        ..context.clone()
    };
    let header = protected(encode_header(&bare, Some(A256GCM), None, true));
    let iv: [u8; 12] = random()?;
    let aad = enc_structure_data(EncryptionContext::CoseEncrypt, header.clone(), &[]);
    let what = "message";
    let ciphertext = Aes256Gcm::new(content_key.into())
        .encrypt(
            (&iv).into(),
            Payload {
                msg: plaintext,
                aad: &aad,
            },
        )
        .map_err(|_| Error::Decryption { what })?;
    let cose = CoseEncrypt {
        protected: header,
        unprotected: Header {
            iv: iv.to_vec(),
            ..Header::default()
        },
        ciphertext: Some(ciphertext),
        recipients,
    };
    tagged(what, cose.to_tagged_vec())
}

/// Wraps the content key for one recipient.
pub(crate) fn wrap(
    what: &'static str,
    content_key: &[u8; 32],
    key: &AgreementKey,
) -> Result<CoseRecipient, Error> {
    let (ephemeral, shared) = key.agree_once()?;
    let header = algorithm_header();
    let wrapping_key = derive(&shared, &header)?;
    let mut wrapped = [0; 40];
    KwAes256::new((&*wrapping_key).into())
        .wrap_key(content_key, &mut wrapped)
        .map_err(|_| Error::Decryption { what })?;
    Ok(CoseRecipient {
        protected: protected(header),
        unprotected: recipient_header(&key.thumbprint(), ephemeral.cose_key()),
        ciphertext: Some(wrapped.to_vec()),
        recipients: Vec::new(),
    })
}

/// The protected header of every recipient.
fn algorithm_header() -> Vec<u8> {
    Map::new().with(1, ECDH_ES_A256KW).encode()
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
    expand(shared, &cbor::encode(&context)).ok_or(Error::Decryption { what: "message" })
}

/// HKDF-SHA-256 without a salt: 32 bytes (RFC 5869).
fn expand(shared: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(None, shared).expand(info, &mut *key);
    expanded.ok().map(|()| key)
}

/// Unwraps a content key with A256KW (RFC 3394).
fn unwrap(wrapping_key: &[u8; 32], wrapped: &[u8; 40]) -> Option<Zeroizing<[u8; 32]>> {
    let mut content_key = Zeroizing::new([0; 32]);
    KwAes256::new(wrapping_key.into())
        .unwrap_key(wrapped, &mut *content_key)
        .ok()?;
    Some(content_key)
}

/// Decrypts with A256GCM; the tag stands at the end.
fn decrypt(
    content_key: &[u8; 32],
    iv: &[u8; 12],
    aad: &[u8],
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let payload = Payload {
        msg: ciphertext,
        aad,
    };
    let decrypted = Aes256Gcm::new(content_key.into()).decrypt(iv.into(), payload);
    decrypted.ok().map(Zeroizing::new)
}

/// One recipient as read: where the content key is for whoever holds `key`.
struct Recipient {
    key: KeyId,
    ephemeral: AgreementKey,
    wrapped: [u8; 40],
}

impl Recipient {
    /// Reads what [`wrap`] writes, and nothing else. All recipients are read alike by every reader, so that whoever
    /// approves a draft refuses what the vault would refuse.
    fn read(what: &'static str, recipient: &CoseRecipient) -> Result<Self, Error> {
        let header = |why: &str| Error::Header {
            what,
            why: why.to_owned(),
        };
        if as_received(what, &recipient.protected)? != algorithm_header() {
            return Err(Error::Algorithm { what });
        }
        let key = KeyId::try_from(recipient.unprotected.key_id.as_slice())
            .map_err(|_| header("a recipient's key id is not 32 bytes long"))?;
        let [(Label::Int(EPHEMERAL), value)] = recipient.unprotected.rest.as_slice() else {
            return Err(header("a recipient has no single ephemeral key"));
        };
        let expected = recipient_header(&key, value.clone());
        if header_bytes(&recipient.unprotected) != header_bytes(&expected)
            || !recipient.recipients.is_empty()
        {
            return Err(header(
                "a recipient holds more than a key id and an ephemeral key",
            ));
        }
        let wrapped = recipient.ciphertext.as_deref().unwrap_or_default();
        Ok(Self {
            key,
            ephemeral: AgreementKey::from_cose_key(what, value.clone())?,
            wrapped: wrapped.try_into().map_err(|_| Error::Shape {
                what,
                why: "a wrapped key is not 40 bytes long".to_owned(),
            })?,
        })
    }
}

/// A content key and the plaintext.
type Opened = (Zeroizing<[u8; 32]>, Zeroizing<Vec<u8>>);

/// A COSE_Encrypt that was read strictly and not decrypted.
pub(crate) struct Encrypted {
    pub(crate) context: Context,
    what: &'static str,
    iv: [u8; 12],
    recipients: Vec<Recipient>,
    cose: CoseEncrypt,
}

impl Encrypted {
    /// Reads a tagged COSE_Encrypt between our own, whose keys are all on P-256.
    pub(crate) fn read(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        let encrypted = Self::read_any(what, bytes, bytes_max)?;
        let foreign = |recipient: &Recipient| !matches!(recipient.ephemeral, AgreementKey::P256(_));
        if encrypted.recipients.iter().any(foreign) {
            return Err(Error::Key { what });
        }
        Ok(encrypted)
    }

    /// Reads a tagged COSE_Encrypt, whatever curve the recipients' keys are on.
    pub(crate) fn read_any(
        what: &'static str,
        bytes: &[u8],
        bytes_max: usize,
    ) -> Result<Self, Error> {
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
        let mut keys = BTreeSet::new();
        let mut recipients = Vec::with_capacity(cose.recipients.len());
        for recipient in &cose.recipients {
            let recipient = Recipient::read(what, recipient)?;
            if !keys.insert(recipient.key) {
                return Err(Error::PartsDiffer {
                    what,
                    why: "one recipient is named twice",
                });
            }
            recipients.push(recipient);
        }
        Ok(Self {
            context: header.context,
            what,
            iv,
            recipients,
            cose,
        })
    }

    /// Decrypts it for one of its recipients.
    pub(crate) fn open(&self, opener: Opener<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.open_with_key(opener).map(|(_, plaintext)| plaintext)
    }

    /// Decrypts it for one of its recipients: the content key, and what it opens. A key of the reader whose content key does
    /// not decrypt it is passed over like one whose content key does not unwrap: whoever encrypted it chose both.
    pub(crate) fn open_with_key(&self, opener: Opener<'_>) -> Result<Opened, Error> {
        let with = |key: &PublicKey, agree: Agree<'_>| {
            let content_key = self.unwrap_key(&thumbprint(key), |ephemeral| match ephemeral {
                AgreementKey::P256(ephemeral) => Ok(Zeroizing::new(agree(ephemeral)?.to_vec())),
                AgreementKey::P384(_) => Err("the ephemeral key is on another curve".into()),
            })?;
            let plaintext = self.decrypt(&content_key)?;
            Ok((content_key, plaintext))
        };
        let mut opened = with(opener.public_key, opener.agree);
        if let (Err(Error::NotRecipient { .. }), Some(former)) = (&opened, opener.former) {
            for key in former.public_keys().iter().filter(|key| self.is_for(key)) {
                opened = with(key, &|peer| former.agree(key, peer));
                // One of them may be lost, which is why there is another.
                if opened.is_ok() {
                    break;
                }
            }
        }
        opened
    }

    /// The content key, for the recipient whose key id this is.
    pub(crate) fn unwrap_key(
        &self,
        key: &KeyId,
        agree: impl FnOnce(&AgreementKey) -> Result<Zeroizing<Vec<u8>>, KeyFailure>,
    ) -> Result<Zeroizing<[u8; 32]>, Error> {
        let what = self.what;
        let recipient = self
            .recipients
            .iter()
            .find(|recipient| recipient.key == *key)
            .ok_or(Error::NotRecipient { what })?;
        let shared = agree(&recipient.ephemeral).map_err(Error::KeyOperation)?;
        let wrapping_key = derive(&shared, &algorithm_header())?;
        unwrap(&wrapping_key, &recipient.wrapped).ok_or(Error::Decryption { what })
    }

    /// Decrypts it with the content key.
    pub(crate) fn decrypt(&self, content_key: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let what = self.what;
        let aad = enc_structure_data(
            EncryptionContext::CoseEncrypt,
            self.cose.protected.clone(),
            &[],
        );
        let ciphertext = self.cose.ciphertext.as_deref().unwrap_or_default();
        decrypt(content_key, &self.iv, &aad, ciphertext).ok_or(Error::Decryption { what })
    }

    /// Whether it is encrypted to this key.
    pub(crate) fn is_for(&self, key: &PublicKey) -> bool {
        let key = thumbprint(key);
        self.recipients.iter().any(|recipient| recipient.key == key)
    }
}

#[cfg(test)]
mod tests {
    use p256::SecretKey;

    use super::*;
    use crate::envelope::{Kind, Party};

    struct Former(Vec<SecretKey>, Vec<PublicKey>);

    impl FormerKeys for Former {
        fn public_keys(&self) -> &[PublicKey] {
            &self.1
        }

        fn agree(
            &self,
            key: &PublicKey,
            peer: &PublicKey,
        ) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
            let mut keys = self.0.iter();
            let key = keys.find(|known| known.public_key() == *key).unwrap();
            let shared = key.diffie_hellman(peer);
            Ok(Zeroizing::new(
                shared.raw_secret_bytes().as_slice().try_into()?,
            ))
        }
    }

    #[test]
    fn a_former_key_for_which_another_content_key_was_wrapped_is_passed_over() {
        let context = Context {
            kind: Kind::AuditSegment,
            sender: Party::Hq,
            recipient: Party::Hq,
            id: "one".to_owned(),
            commitment: None,
        };
        let keys: Vec<_> = [1, 2]
            .map(|n| SecretKey::from_slice(&[n; 32]).unwrap())
            .into();
        let public: Vec<_> = keys.iter().map(SecretKey::public_key).collect();
        let wrapped = [[8; 32], [9; 32]].iter().zip(&public);
        let wrapped = wrapped
            .map(|(content_key, key)| wrap("test", content_key, &AgreementKey::P256(*key)).unwrap())
            .collect();
        let bytes = seal_under(&context, b"text", &[9; 32], wrapped).unwrap();
        let encrypted = Encrypted::read("test", &bytes, 4096).unwrap();
        let other = SecretKey::from_slice(&[3; 32]).unwrap().public_key();
        let opener = Opener {
            public_key: &other,
            agree: &|_| Err("it is for others".into()),
            former: Some(&Former(keys, public)),
        };
        assert_eq!(encrypted.open(opener).unwrap().as_slice(), b"text");
    }
}
