//! A secret for one device: derived in the vault's token, encrypted to the device's own key, and signed by the vault. Nobody
//! at the station can read it or put another in its place, and the device needs to know nothing but the root: the message
//! carries the certificate of the vault's identity.
//!
//! ```cddl
//! device-secret = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: sku,
//!   5: tstr,                           ; device id
//!   6: digest,                         ; SHA-256 of the device key's SubjectPublicKeyInfo (DER)
//!   7: tstr .regexp "[a-z0-9-]{1,28}", ; label of the key that it is derived from
//!   8: identifier,                     ; entitlement
//!   9: bstr .size 32,                  ; the secret
//! }
//! ```

use std::fmt;

use p256::PublicKey;
use zeroize::Zeroizing;

use crate::cbor::{self, Fields, Map};
use crate::encryption::{self, Encrypted};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, sign_with_certificate};
use crate::identifier::{DeviceId, EntitlementId, Fingerprint, KeyLabel, Sku, VaultName};
use crate::key::AgreementKey;
use crate::{Error, KeyFailure};

/// The largest device secret message, in bytes.
pub const DEVICE_SECRET_BYTES_MAX: usize = 16 * 1024;
/// The label of the derivation of device secrets.
pub const DERIVATION_LABEL: &str = "mintmark device secret";
/// The label of the derivation of check values; their context is empty.
pub const CHECK_LABEL: &str = "mintmark key check";
const WHAT: &str = "device secret";

/// The id under which a secret travels: the key's label, and the first 16 hexadecimal digits of the SHA-256 of the device
/// key.
pub fn object_id(label: &KeyLabel, spki_sha256: &Fingerprint) -> String {
    let device: String = spki_sha256.to_string().chars().take(16).collect();
    format!("{label}-{device}")
}

/// The context of the derivation: deterministic CBOR of `[key label, device id]`.
pub fn derivation_context(label: &KeyLabel, device_id: &DeviceId) -> Vec<u8> {
    let parts = [label.as_str(), device_id.as_str()];
    cbor::encode(&ciborium::Value::Array(parts.map(Into::into).to_vec()))
}

/// A secret and the device that it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceSecret {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// The vault that derived it.
    pub vault: VaultName,
    /// The device's product.
    pub sku: Sku,
    /// The device.
    pub device_id: DeviceId,
    /// SHA-256 of the device key's SubjectPublicKeyInfo (DER).
    pub spki_sha256: Fingerprint,
    /// The key that it is derived from.
    pub label: KeyLabel,
    /// The entitlement under which it is.
    pub entitlement: EntitlementId,
    /// The secret, 32 bytes.
    pub secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceSecret({} of {})", self.label, self.device_id)
    }
}

/// ECDH with a peer's public key on the device's own curve, giving the raw x-coordinate.
pub type AgreeOnCurve<'a> = &'a dyn Fn(&AgreementKey) -> Result<Zeroizing<Vec<u8>>, KeyFailure>;

/// The private half of a device's key: its public half, and ECDH giving the raw x-coordinate.
#[derive(Clone, Copy)]
pub struct DeviceOpener<'a> {
    /// The public half.
    pub public_key: &'a AgreementKey,
    /// The private half's one operation.
    pub agree: AgreeOnCurve<'a>,
}

impl DeviceSecret {
    /// The id under which it travels, as [`object_id`] makes it.
    pub fn object_id(&self) -> String {
        object_id(&self.label, &self.spki_sha256)
    }

    /// Encrypts it to the device's key and signs it with `vault-sign`, whose certificate (DER) goes with it.
    ///
    /// # Errors
    /// [`Error::KeyOperation`] and [`Error::Random`].
    pub fn seal(
        &self,
        device_key: &AgreementKey,
        vault_sign: &PublicKey,
        identity_certificate: &[u8],
        sign: Sign<'_>,
    ) -> Result<Vec<u8>, Error> {
        let plaintext = Zeroizing::new(self.to_cbor());
        let context = Context {
            kind: Kind::DeviceSecret,
            sender: Party::Vault(self.vault.clone()),
            recipient: Party::Device,
            id: self.object_id(),
            commitment: Some(Fingerprint::of(&plaintext)),
        };
        let payload = encryption::seal_to(&context, &plaintext, &[*device_key])?;
        sign_with_certificate(
            &context,
            payload,
            vault_sign,
            Some(identity_certificate),
            sign,
        )
    }

    /// The certificate (DER) that a message names its signer by: to be verified up to the root before anything else.
    ///
    /// # Errors
    /// What the strict reader and the header reader refuse.
    pub fn certificate(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let message = SignedOne::read(WHAT, bytes, DEVICE_SECRET_BYTES_MAX)?;
        message.certificate.ok_or(Error::Header {
            what: WHAT,
            why: "it carries no certificate".to_owned(),
        })
    }

    /// Opens it as its device does: `vault_sign` is the key of the certificate that the device has verified.
    ///
    /// # Errors
    /// What refuses the signature, the parties, the decryption or the commitment.
    pub fn open(
        bytes: &[u8],
        vault_sign: &PublicKey,
        opener: DeviceOpener<'_>,
    ) -> Result<Self, Error> {
        let message = SignedOne::read(WHAT, bytes, DEVICE_SECRET_BYTES_MAX)?;
        message.verify(vault_sign)?;
        let encrypted = Encrypted::read_any(WHAT, message.payload(), DEVICE_SECRET_BYTES_MAX)?;
        message.context.expect_inner(WHAT, &encrypted.context)?;
        let key = encrypted.unwrap_key(&opener.public_key.thumbprint(), opener.agree)?;
        let plaintext = encrypted.decrypt(&key)?;
        if message.context.commitment != Some(Fingerprint::of(&plaintext)) {
            return Err(Error::Commitment { what: WHAT });
        }
        let secret = Self::from_cbor(&plaintext)?;
        let sender = Party::Vault(secret.vault.clone());
        message
            .context
            .expect(WHAT, Kind::DeviceSecret, &sender, &Party::Device)?;
        let differ = |why| Err(Error::PartsDiffer { what: WHAT, why });
        if secret.object_id() != message.context.id {
            return differ("header and content differ in id");
        }
        if secret.spki_sha256 != opener.public_key.spki_sha256()? {
            return differ("it names another device key than it is encrypted to");
        }
        Ok(secret)
    }

    /// The plaintext, encoded: it holds the secret.
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.sku.as_str())
            .with(5, self.device_id.as_str())
            .with(6, self.spki_sha256.as_bytes().to_vec())
            .with(7, self.label.as_str())
            .with(8, self.entitlement.as_str())
            .with(9, self.secret.to_vec())
            .encode()
    }

    pub(crate) fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, DEVICE_SECRET_BYTES_MAX)?;
        fields.format_version(1)?;
        let secret = Zeroizing::new(fields.bytes(9)?);
        let secret = Self {
            salt: fields.octets(0)?,
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            sku: fields.parse(4)?,
            device_id: fields.parse(5)?,
            spki_sha256: fields.octets(6)?,
            label: fields.parse(7)?,
            entitlement: fields.parse(8)?,
            secret: Zeroizing::new(
                secret
                    .as_slice()
                    .try_into()
                    .map_err(|_| fields.wrong(9, "32 bytes were expected"))?,
            ),
        };
        fields.finish()?;
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{Signature, SigningKey};

    use super::*;

    fn example(device: &AgreementKey) -> DeviceSecret {
        DeviceSecret {
            salt: [9; 32],
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            sku: "TH-200".parse().unwrap(),
            device_id: "TH200-00000001".parse().unwrap(),
            spki_sha256: device.spki_sha256().unwrap(),
            label: "service".parse().unwrap(),
            entitlement: "th200-2027q1".parse().unwrap(),
            secret: Zeroizing::new([42; 32]),
        }
    }

    fn sealed(device: &AgreementKey) -> (Vec<u8>, PublicKey) {
        let signing = SigningKey::from_slice(&[5; 32]).unwrap();
        let vault_sign = PublicKey::from(signing.verifying_key());
        let sign = |message: &[u8]| {
            let signature: Signature = signing.sign(message);
            Ok(signature)
        };
        let bytes = example(device)
            .seal(device, &vault_sign, b"certificate", &sign)
            .unwrap();
        (bytes, vault_sign)
    }

    #[test]
    fn a_device_opens_its_secret_on_either_curve_and_nobody_else_does() {
        let small = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let large = p384::SecretKey::from_slice(&[7; 48]).unwrap();
        let agree = |peer: &AgreementKey| match peer {
            AgreementKey::P256(peer) => {
                let shared = small.diffie_hellman(peer);
                Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
            }
            AgreementKey::P384(peer) => {
                let shared = large.diffie_hellman(peer);
                Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
            }
        };
        let keys = [
            AgreementKey::P256(small.public_key()),
            AgreementKey::P384(large.public_key()),
        ];
        for (mine, other) in [(&keys[0], &keys[1]), (&keys[1], &keys[0])] {
            let (bytes, vault_sign) = sealed(mine);
            assert_eq!(DeviceSecret::certificate(&bytes).unwrap(), b"certificate");
            let opener = |public_key| DeviceOpener {
                public_key,
                agree: &agree,
            };
            let opened = DeviceSecret::open(&bytes, &vault_sign, opener(mine)).unwrap();
            assert_eq!(opened, example(mine));
            let refused = DeviceSecret::open(&bytes, &vault_sign, opener(other)).unwrap_err();
            assert_eq!(refused.code(), "NOT-RECIPIENT");
            let stranger = small.public_key();
            let refused = DeviceSecret::open(&bytes, &stranger, opener(mine)).unwrap_err();
            assert_eq!(refused.code(), "SIGNER-UNKNOWN");
        }
    }

    #[test]
    fn a_secret_that_names_another_device_key_is_refused() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let device = AgreementKey::P256(secret.public_key());
        let agree = |peer: &AgreementKey| match peer {
            AgreementKey::P256(peer) => {
                let shared = secret.diffie_hellman(peer);
                Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
            }
            AgreementKey::P384(_) => Err("another curve".into()),
        };
        let signing = SigningKey::from_slice(&[5; 32]).unwrap();
        let vault_sign = PublicKey::from(signing.verifying_key());
        let sign = |message: &[u8]| {
            let signature: Signature = signing.sign(message);
            Ok(signature)
        };
        let other = DeviceSecret {
            spki_sha256: Fingerprint::of(b"another key"),
            ..example(&device)
        };
        let bytes = other.seal(&device, &vault_sign, b"", &sign).unwrap();
        let opener = DeviceOpener {
            public_key: &device,
            agree: &agree,
        };
        let refused = DeviceSecret::open(&bytes, &vault_sign, opener).unwrap_err();
        assert!(
            refused.to_string().contains("another device key"),
            "{refused}"
        );
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let device = AgreementKey::P256(secret.public_key());
        assert_eq!(
            format!("{:?}", example(&device)),
            "DeviceSecret(service of TH200-00000001)"
        );
    }
}
