//! The text of a key file: an encrypted PKCS#8 key in PEM (RFC 7468 section 11), with its purpose in lines before it.
//!
//! PKCS#8 could carry the purpose inside the encryption, as an attribute, but few readers look at attributes and none
//! can be relied upon. So it stands in the explanatory text, which RFC 7468 section 5.2 lets every reader skip. Whoever
//! can change that text could as well replace the file; what they gain is a key used for the other purpose, never the
//! key. The purposes are kept apart against mistakes and against protocols that lend a key to each other, and for that
//! the text is enough.

use p256::SecretKey;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument,
};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::random;
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

/// What stands before the key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heading<'text> {
    pub(super) label: Option<&'text str>,
    pub(super) purpose: Option<Purpose>,
}

/// The text of a new key file.
pub(super) fn write(
    label: &str,
    purpose: Purpose,
    secret: &SecretKey,
    pin: &str,
) -> Result<String, Error> {
    let internal = |reason: String| Error::Internal {
        action: "encrypting a key",
        reason,
    };
    let (mut salt, mut iv) = ([0_u8; 16], [0_u8; 16]);
    for bytes in [&mut salt, &mut iv] {
        random::fill(bytes)?;
    }
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(ROUNDS, &salt, iv)
        .map_err(|error| internal(error.to_string()))?;
    let plain = secret
        .to_pkcs8_der()
        .map_err(|error| internal(error.to_string()))?;
    let encrypted = parameters
        .encrypt(pin, plain.as_bytes())
        .map_err(|error| internal(error.to_string()))?;
    let encrypted_data =
        OctetStringRef::new(&encrypted).map_err(|error| internal(error.to_string()))?;
    let document = SecretDocument::try_from(EncryptedPrivateKeyInfoRef {
        encryption_algorithm: EncryptionScheme::Pbes2(parameters),
        encrypted_data,
    })
    .map_err(|error| internal(error.to_string()))?;
    let pem = document
        .to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .map_err(|error| internal(error.to_string()))?;
    Ok(format!(
        "Mintmark key, P-256, encrypted PKCS#8\n{LABEL}{label}\n{PURPOSE}{purpose}\n{}",
        *pem
    ))
}

/// Reads what stands before the key.
pub(super) fn heading(text: &str) -> Result<Heading<'_>, Unreadable> {
    let mut heading = Heading {
        label: None,
        purpose: None,
    };
    for line in text.lines().take_while(|line| !line.starts_with(BEGIN)) {
        if let Some(label) = line.strip_prefix(LABEL)
            && heading.label.replace(label).is_some()
        {
            return Err(Unreadable::Invalid("it names its label twice".into()));
        }
        if let Some(word) = line.strip_prefix(PURPOSE) {
            let purpose = [Purpose::Sign, Purpose::Agree]
                .into_iter()
                .find(|purpose| purpose.as_str() == word);
            let purpose = purpose.ok_or_else(|| {
                Unreadable::Invalid("its purpose is neither sign nor agree".into())
            })?;
            if heading.purpose.replace(purpose).is_some() {
                return Err(Unreadable::Invalid("it names its purpose twice".into()));
            }
        }
    }
    Ok(heading)
}

/// Decrypts the key.
pub(super) fn decrypt(text: &str, pin: &str) -> Result<SecretKey, Unreadable> {
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
    let plain = Zeroizing::new(
        parameters
            .decrypt(pin, info.encrypted_data.as_bytes())
            .map_err(|error| match error {
                pkcs8::pkcs5::Error::DecryptFailed => Unreadable::Pin,
                other => invalid(other.to_string()),
            })?,
    );
    // The padding of a wrong decryption is right once in 256 times; what comes out is not even a sequence then.
    SecretKey::from_pkcs8_der(&plain).map_err(|_| {
        if pkcs8::PrivateKeyInfoRef::try_from(plain.as_slice()).is_ok() {
            invalid("the key in it is not one of P-256".into())
        } else {
            Unreadable::Pin
        }
    })
}
