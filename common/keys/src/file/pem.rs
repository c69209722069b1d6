//! The text of a key file: an encrypted PKCS#8 key in PEM (RFC 7468 section 11), with its purpose in lines before it.
//!
//! PKCS#8 could carry the purpose inside the encryption, as an attribute, but few readers look at attributes and none
//! can be relied upon. So it stands in the explanatory text, which RFC 7468 section 5.2 lets every reader skip. Whoever
//! can change that text could as well replace the file; what they gain is a key used for the other purpose, never the
//! key. The purposes are kept apart against mistakes and against protocols that lend a key to each other, and for that
//! the text is enough.
//!
//! A symmetric key is written as Java's key stores write theirs: a PrivateKeyInfo whose privateKey octets are the key
//! itself, under the identifier hmacWithSHA256 (1.2.840.113549.2.9) or aes (2.16.840.1.101.3.4.1). Its algorithm thus
//! stands inside the encryption, and its purpose is `derive`.

use p256::SecretKey;
use pkcs8::der::Encode;
use pkcs8::der::asn1::{Null, OctetStringRef};
use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier,
    PrivateKeyInfoRef, SecretDocument,
};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::locked::LockedSecret;
use crate::random;
use crate::secret::SecretAlgorithm;
use crate::store::Purpose;

/// PBKDF2-HMAC-SHA-256 rounds of new files, as OWASP recommends. scrypt would cost an attacker more, but this is what
/// every OpenSSL since 1.1 opens.
const ROUNDS: u32 = 600_000;

/// Most rounds that are worked for a file that says so itself: about twenty seconds.
const ROUNDS_MAX: u32 = 10_000_000;

const PURPOSE: &str = "Purpose: ";
const LABEL: &str = "Label: ";
const BEGIN: &str = "-----BEGIN ";

/// Why a file gives no key.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is no encrypted PKCS#8 key, or one of a kind that is not read here.
    Invalid(String),
    /// The PIN does not decrypt it. A damaged file looks the same.
    Pin,
}

/// hmacWithSHA256 (RFC 8018 section B.1.2).
const HMAC_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");

/// The arc of AES at NIST, the cipher without a mode: the key's length is that of its octets.
const AES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1");

/// What a file says its key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A private key on P-256.
    Pair(Purpose),
    /// A symmetric key.
    Secret,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pair(purpose) => purpose.as_str(),
            Self::Secret => "derive",
        }
    }
}

/// What stands before the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heading<'text> {
    pub(super) label: Option<&'text str>,
    pub(super) role: Option<Role>,
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal {
        action: "encrypting a key",
        reason: error.to_string(),
    }
}

/// The text of a new file with a private key.
pub(super) fn write(
    label: &str,
    purpose: Purpose,
    secret: &SecretKey,
    pin: &str,
) -> Result<String, Error> {
    let plain = secret.to_pkcs8_der().map_err(internal)?;
    encrypt(label, Role::Pair(purpose), "P-256", plain.as_bytes(), pin)
}

/// The text of a new file with a symmetric key.
pub(super) fn write_secret(
    label: &str,
    algorithm: SecretAlgorithm,
    key: &[u8; 32],
    pin: &str,
) -> Result<String, Error> {
    let identifier = match algorithm {
        SecretAlgorithm::HmacSha256 => AlgorithmIdentifierRef {
            oid: HMAC_SHA256,
            parameters: Some(Null.into()),
        },
        SecretAlgorithm::Aes256 => AlgorithmIdentifierRef {
            oid: AES,
            parameters: None,
        },
    };
    let key = OctetStringRef::new(key).map_err(internal)?;
    let plain = PrivateKeyInfoRef::new(identifier, key)
        .to_der()
        .map(Zeroizing::new)
        .map_err(internal)?;
    encrypt(label, Role::Secret, algorithm.as_str(), &plain, pin)
}

fn encrypt(label: &str, role: Role, kind: &str, plain: &[u8], pin: &str) -> Result<String, Error> {
    let (mut salt, mut iv) = ([0_u8; 16], [0_u8; 16]);
    for bytes in [&mut salt, &mut iv] {
        random::fill(bytes)?;
    }
    let parameters =
        Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS, &salt, iv).map_err(internal)?;
    let encrypted = parameters.encrypt(pin, plain).map_err(internal)?;
    let encrypted_data = OctetStringRef::new(&encrypted).map_err(internal)?;
    let document = SecretDocument::try_from(EncryptedPrivateKeyInfoRef {
        encryption_algorithm: EncryptionScheme::Pbes2(parameters),
        encrypted_data,
    })
    .map_err(internal)?;
    let pem = document
        .to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .map_err(internal)?;
    let purpose = role.as_str();
    Ok(format!(
        "Mintmark key, {kind}, encrypted PKCS#8\n{LABEL}{label}\n{PURPOSE}{purpose}\n{}",
        *pem
    ))
}

/// Reads what stands before the key.
pub(super) fn heading(text: &str) -> Result<Heading<'_>, Unreadable> {
    let mut heading = Heading {
        label: None,
        role: None,
    };
    for line in text.lines().take_while(|line| !line.starts_with(BEGIN)) {
        if let Some(label) = line.strip_prefix(LABEL)
            && heading.label.replace(label).is_some()
        {
            return Err(Unreadable::Invalid("it names its label twice".into()));
        }
        if let Some(word) = line.strip_prefix(PURPOSE) {
            let role = [
                Role::Pair(Purpose::Sign),
                Role::Pair(Purpose::Agree),
                Role::Secret,
            ]
            .into_iter()
            .find(|role| role.as_str() == word);
            let role = role.ok_or_else(|| {
                Unreadable::Invalid("its purpose is neither sign nor agree nor derive".into())
            })?;
            if heading.role.replace(role).is_some() {
                return Err(Unreadable::Invalid("it names its purpose twice".into()));
            }
        }
    }
    Ok(heading)
}

/// Decrypts a private key.
pub(super) fn decrypt(text: &str, pin: &str) -> Result<SecretKey, Unreadable> {
    let plain = decrypt_plain(text, pin)?;
    // The padding of a wrong decryption is right once in 256 times; what comes out is not even a sequence then.
    SecretKey::from_pkcs8_der(&plain).map_err(|_| {
        if PrivateKeyInfoRef::try_from(plain.as_slice()).is_ok() {
            Unreadable::Invalid("the key in it is not one of P-256".into())
        } else {
            Unreadable::Pin
        }
    })
}

/// Decrypts a symmetric key.
pub(super) fn decrypt_secret(
    text: &str,
    pin: &str,
) -> Result<(SecretAlgorithm, LockedSecret), Unreadable> {
    let plain = decrypt_plain(text, pin)?;
    let info = PrivateKeyInfoRef::try_from(plain.as_slice()).map_err(|_| Unreadable::Pin)?;
    let algorithm = match info.algorithm.oid {
        HMAC_SHA256 => SecretAlgorithm::HmacSha256,
        AES => SecretAlgorithm::Aes256,
        other => {
            let reason =
                format!("the key in it is neither one for HMAC-SHA-256 nor for AES: {other}");
            return Err(Unreadable::Invalid(reason));
        }
    };
    let key: &[u8; 32] = info.private_key.as_bytes().try_into().map_err(|_| {
        Unreadable::Invalid(format!(
            "the key in it for {algorithm} does not have 32 bytes"
        ))
    })?;
    Ok((algorithm, LockedSecret::copied(key)))
}

/// Why the text gives no key whatever the PIN, as far as that can be told without it.
pub(super) fn problem(text: &str, label: &str) -> Option<String> {
    let outcome = heading(text).and_then(|heading| match heading {
        Heading {
            label: Some(other), ..
        } if other != label => Err(Unreadable::Invalid(format!(
            "its label is {other:?}: the file was renamed"
        ))),
        Heading { role: None, .. } => Err(Unreadable::Invalid("it names no purpose".into())),
        Heading { .. } => with_encrypted(text, |_, _| Ok(())),
    });
    match outcome {
        Err(Unreadable::Invalid(problem)) => Some(problem),
        Ok(()) | Err(Unreadable::Pin) => None,
    }
}

/// Whether the text of a key file is refused whatever the PIN, and whether the PIN opens a key in it, be it a private or a
/// symmetric one. Files that ask for more than a few rounds are not opened: they would take too long.
#[cfg(feature = "fuzzing")]
pub fn fuzzed(text: &str, label: &str, pin: &str) -> (bool, bool) {
    let refused = problem(text, label).is_some();
    let few = with_encrypted(text, |parameters, _| {
        let pbkdf2 = parameters.kdf.pbkdf2();
        Ok(pbkdf2.is_some_and(|pbkdf2| pbkdf2.iteration_count <= 16))
    });
    let opened = few.is_ok_and(|few| few)
        && (decrypt(text, pin).is_ok() || decrypt_secret(text, pin).is_ok());
    (refused, opened)
}

fn decrypt_plain(text: &str, pin: &str) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    with_encrypted(text, |parameters, encrypted| {
        parameters
            .decrypt(pin, encrypted)
            .map(Zeroizing::new)
            .map_err(|error| match error {
                pkcs8::pkcs5::Error::DecryptFailed => Unreadable::Pin,
                other => Unreadable::Invalid(other.to_string()),
            })
    })
}

/// Reads the encrypted key, and hands on how it is encrypted and to what.
fn with_encrypted<T>(
    text: &str,
    work: impl FnOnce(&Parameters, &[u8]) -> Result<T, Unreadable>,
) -> Result<T, Unreadable> {
    let invalid = |reason: String| Unreadable::Invalid(reason);
    let (pem_label, document) = SecretDocument::from_pem(text)
        .map_err(|error| invalid(format!("it holds no PEM block: {error}")))?;
    EncryptedPrivateKeyInfoRef::validate_pem_label(pem_label).map_err(|_| {
        invalid(format!(
            "it holds a {pem_label}, not an ENCRYPTED PRIVATE KEY"
        ))
    })?;
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| {
        invalid(format!(
            "its PKCS#8 is malformed, or encrypted in an unknown way: {error}"
        ))
    })?;
    let parameters = info
        .encryption_algorithm
        .pbes2()
        .ok_or_else(|| invalid("it is encrypted with PBES1, which is not safe".into()))?;
    let rounds = parameters
        .kdf
        .pbkdf2()
        .ok_or_else(|| {
            invalid(
                "its encryption does not use PBKDF2, the only derivation that is read here".into(),
            )
        })?
        .iteration_count;
    if rounds > ROUNDS_MAX {
        return Err(invalid(format!(
            "it asks for {rounds} rounds of PBKDF2, {ROUNDS_MAX} at most are worked"
        )));
    }
    work(parameters, info.encrypted_data.as_bytes())
}
