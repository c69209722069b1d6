//! A symmetric key on its way into a vault's token: a COSE_Encrypt whose content key is the key. Its plaintext repeats what
//! the key is, so that whoever unwraps it in memory knows by the tag that it is whole; a token that unwraps it inside
//! proves it with the check value of the key's terms.
//!
//! ```cddl
//! key-delivery = #6.96([
//!   bstr .cbor key-delivery-header,
//!   encrypted-unprotected,
//!   bstr,                              ; ciphertext and tag; plaintext: key-facts
//!   [recipient / transport-recipient], ; the vault: vault-agree, or vault-transport where its request has one
//! ])
//! key-delivery-header = {
//!   1: 3,
//!   3: "application/vnd.mintmark.key-delivery+cbor",
//!   -65537: key-delivery-context,
//! }
//! key-delivery-context = { 1: 1, 2: "key-delivery", 3: "hq", 4: vault-party, 5: object-id }
//! transport-recipient = [
//!   bstr .size 0,
//!   { 1: oaep, 4: key-id },            ; RFC 8230 section 3; key id of vault-transport
//!   bstr,                              ; the key, encrypted with RSAES-OAEP, no label
//! ]
//! key-facts = {
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: tstr .regexp "[a-z0-9-]{1,28}", ; label
//!   5: "AES-256" / "HMAC-SHA-256",     ; algorithm
//! }
//! ```

use coset::{CoseEncrypt, CoseRecipient, Header, TaggedCborSerializable as _};
use p256::PublicKey;
use zeroize::Zeroizing;

use crate::cbor::Map;
use crate::encryption::{self, Encrypted, Opener};
use crate::envelope::{
    Context, Kind, Party, TAG_ENCRYPT, as_received, check, decode_header, expect_tag, not_cose,
};
use crate::identifier::{KeyId, KeyLabel, VaultName};
use crate::key::AgreementKey;
use crate::key_terms::KeyAlgorithm;
use crate::transport::{Oaep, TransportKey};
use crate::{Error, KeyFailure};

/// The largest delivery, in bytes.
pub const DELIVERY_BYTES_MAX: usize = 4096;
const WHAT: &str = "key delivery";
/// A256GCM (RFC 9053 section 4.1).
const A256GCM: i64 = 3;

/// Which key goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The vault that it is for.
    pub vault: VaultName,
    /// Its label.
    pub label: KeyLabel,
    /// What kind of key it is.
    pub algorithm: KeyAlgorithm,
}

/// Encrypts 32 bytes with RSAES-OAEP under a [`TransportKey`], no label; the caller's library does it.
pub type OaepEncrypt<'a> = &'a dyn Fn(&TransportKey, &[u8; 32]) -> Result<Vec<u8>, KeyFailure>;

impl KeyFacts {
    fn context(&self) -> Context {
        Context {
            kind: Kind::KeyDelivery,
            sender: Party::Hq,
            recipient: Party::Vault(self.vault.clone()),
            id: format!("key-{}", self.label),
            commitment: None,
        }
    }

    fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.label.as_str())
            .with(5, self.algorithm.as_str())
            .encode()
    }

    /// Delivers the key by agreement with the vault's `vault-agree`: it will pass through the vault's memory.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn seal_agreed(&self, key: &[u8; 32], vault_agree: &PublicKey) -> Result<Vec<u8>, Error> {
        let recipient = encryption::wrap(WHAT, key, &AgreementKey::P256(*vault_agree))?;
        encryption::seal_under(&self.context(), &self.to_cbor(), key, vec![recipient])
    }

    /// Delivers the key for the vault's token to unwrap.
    ///
    /// # Errors
    /// [`Error::KeyOperation`] and [`Error::Random`].
    pub fn seal_transported(
        &self,
        key: &[u8; 32],
        transport: &TransportKey,
        encrypt: OaepEncrypt<'_>,
    ) -> Result<Vec<u8>, Error> {
        let wrapped = encrypt(transport, key).map_err(Error::KeyOperation)?;
        let recipient = CoseRecipient {
            unprotected: transport_header(transport.oaep, &transport.thumbprint()),
            ciphertext: Some(wrapped),
            ..CoseRecipient::default()
        };
        encryption::seal_under(&self.context(), &self.to_cbor(), key, vec![recipient])
    }
}

fn transport_header(oaep: Oaep, key: &KeyId) -> Header {
    let algorithm = match oaep {
        Oaep::Sha1 => coset::iana::Algorithm::RSAES_OAEP_RFC_8017_default,
        Oaep::Sha256 => coset::iana::Algorithm::RSAES_OAEP_SHA_256,
    };
    Header {
        alg: Some(coset::Algorithm::Assigned(algorithm)),
        key_id: key.as_bytes().to_vec(),
        ..Header::default()
    }
}

/// A delivery that was read strictly and is for the key and the vault that were expected.
pub enum Delivery {
    /// The vault's token unwraps it with `vault-transport`.
    Transported {
        /// With which OAEP.
        oaep: Oaep,
        /// The key id of the transport key.
        key: KeyId,
        /// The key, encrypted.
        wrapped: Vec<u8>,
    },
    /// It is opened by agreement, in memory.
    Agreed(Box<AgreedDelivery>),
}

/// A delivery to `vault-agree`.
pub struct AgreedDelivery {
    encrypted: Encrypted,
    plaintext: Vec<u8>,
}

impl AgreedDelivery {
    /// The key, whole: the tag of the message inside holds under it.
    ///
    /// # Errors
    /// [`Error::NotRecipient`], [`Error::Decryption`], [`Error::PartsDiffer`], [`Error::KeyOperation`].
    pub fn open(&self, opener: Opener<'_>) -> Result<Zeroizing<[u8; 32]>, Error> {
        let (key, plaintext) = self.encrypted.open_with_key(opener)?;
        if *plaintext == self.plaintext {
            Ok(key)
        } else {
            Err(Error::PartsDiffer {
                what: WHAT,
                why: "it delivers another key than its terms name",
            })
        }
    }
}

impl Delivery {
    /// Reads the delivery of one key.
    ///
    /// # Errors
    /// What the strict reader and the header reader refuse; [`Error::WrongParty`], [`Error::PartsDiffer`].
    pub fn read(bytes: &[u8], facts: &KeyFacts) -> Result<Self, Error> {
        check(WHAT, bytes, DELIVERY_BYTES_MAX)?;
        expect_tag(WHAT, bytes, TAG_ENCRYPT)?;
        let cose = CoseEncrypt::from_tagged_slice(bytes).map_err(|error| not_cose(WHAT, &error))?;
        let header = as_received(WHAT, &cose.protected)?;
        let context = decode_header(WHAT, header, Some(A256GCM), false, true)?.context;
        let expected = facts.context();
        context.expect(WHAT, Kind::KeyDelivery, &Party::Hq, &expected.recipient)?;
        if context != expected {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "it delivers another key than its terms name",
            });
        }
        let [recipient] = cose.recipients.as_slice() else {
            return Err(Error::Shape {
                what: WHAT,
                why: "it has one recipient, the vault".to_owned(),
            });
        };
        if recipient.unprotected.alg.is_none() {
            return Ok(Self::Agreed(Box::new(AgreedDelivery {
                encrypted: Encrypted::read(WHAT, bytes, DELIVERY_BYTES_MAX)?,
                plaintext: facts.to_cbor(),
            })));
        }
        transported(&cose, recipient)
    }
}

fn transported(cose: &CoseEncrypt, recipient: &CoseRecipient) -> Result<Delivery, Error> {
    crate::envelope::read_iv(WHAT, &cose.unprotected)?;
    let key = KeyId::try_from(recipient.unprotected.key_id.as_slice())?;
    let known = [Oaep::Sha1, Oaep::Sha256]
        .into_iter()
        .find(|oaep| recipient.unprotected == transport_header(*oaep, &key));
    let Some(oaep) = known else {
        return Err(Error::Algorithm { what: WHAT });
    };
    if !recipient.protected.is_empty() || !recipient.recipients.is_empty() {
        return Err(Error::Header {
            what: WHAT,
            why: "a recipient by key transport has no protected header".to_owned(),
        });
    }
    Ok(Delivery::Transported {
        oaep,
        key,
        wrapped: recipient.ciphertext.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::thumbprint;

    fn facts(label: &str) -> KeyFacts {
        KeyFacts {
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            label: label.parse().unwrap(),
            algorithm: KeyAlgorithm::HmacSha256,
        }
    }

    #[test]
    fn an_agreed_key_arrives_whole_at_its_vault_and_as_no_other_key() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let bytes = facts("service")
            .seal_agreed(&[42; 32], &secret.public_key())
            .unwrap();
        let agree = |peer: &PublicKey| {
            let shared = secret.diffie_hellman(peer);
            Ok(Zeroizing::new(
                shared.raw_secret_bytes().as_slice().try_into()?,
            ))
        };
        let public_key = secret.public_key();
        let opener = Opener {
            public_key: &public_key,
            agree: &agree,
            former: None,
        };
        let Delivery::Agreed(delivery) = Delivery::read(&bytes, &facts("service")).unwrap() else {
            panic!("it was agreed on");
        };
        assert_eq!(*delivery.open(opener).unwrap(), [42; 32]);
        let other = KeyFacts {
            algorithm: KeyAlgorithm::Aes256,
            ..facts("service")
        };
        let Delivery::Agreed(delivery) = Delivery::read(&bytes, &other).unwrap() else {
            panic!("it was agreed on");
        };
        assert_eq!(delivery.open(opener).unwrap_err().code(), "MESSAGE-PARTS");
        assert!(Delivery::read(&bytes, &facts("other")).is_err());
        assert_eq!(public_key, secret.public_key());
        assert!(
            delivery.encrypted.is_for(&public_key),
            "{}",
            thumbprint(&public_key)
        );
    }

    #[test]
    fn a_transported_key_names_its_algorithm_and_its_key() {
        for oaep in [Oaep::Sha1, Oaep::Sha256] {
            let transport = TransportKey {
                oaep,
                modulus: vec![0xc1; 384],
                exponent: vec![1, 0, 1],
            };
            let encrypt = |_: &TransportKey, key: &[u8; 32]| Ok(key.repeat(12));
            let bytes = facts("service")
                .seal_transported(&[42; 32], &transport, &encrypt)
                .unwrap();
            match Delivery::read(&bytes, &facts("service")).unwrap() {
                Delivery::Transported {
                    oaep: found,
                    key,
                    wrapped,
                } => {
                    assert_eq!((found, key), (oaep, transport.thumbprint()));
                    assert_eq!(wrapped, [42; 384]);
                }
                Delivery::Agreed(_) => panic!("it was transported"),
            }
        }
    }
}
