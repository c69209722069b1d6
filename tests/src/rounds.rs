//! Key files whose PIN costs one round to try, where the product's cost hundreds of thousands: every command of a test opens
//! several, and would do nothing else most of the time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::PemLabel as _;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};

/// The first line of a file that was written again. Readers skip what stands before the key (RFC 7468 section 5.2).
const MARK: &str = "Encrypted with one round, for tests\n";

/// Writes the key files of a folder again that were made since the last time. What the PIN does not open stays as it is.
pub fn reduce(store: &Path, pin: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for file in fs::read_dir(store).into_iter().flatten().flatten() {
        let path = file.path();
        if path.extension().is_some_and(|extension| extension == "pem")
            && let Some(text) = fs::read_to_string(&path)
                .ok()
                .and_then(|text| reduced(&text, pin))
        {
            // Put into place whole, from beside the folder: a service may be reading it.
            let part = store.with_extension("reduced");
            fs::write(&part, text).unwrap();
            fs::set_permissions(&part, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(part, path).unwrap();
        }
    }
}

/// The same key, encrypted with one round; `None` where that is done, or cannot be.
fn reduced(text: &str, pin: &str) -> Option<String> {
    if text.starts_with(MARK) {
        return None;
    }
    let heading = &text[..text.find("-----BEGIN ")?];
    let (_, document) = SecretDocument::from_pem(text).ok()?;
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).ok()?;
    let plain = info.decrypt(pin).ok()?;
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(1, &[7; 16], [7; 16]).unwrap();
    let encrypted = parameters.encrypt(pin, plain.as_bytes()).unwrap();
    let document = SecretDocument::try_from(EncryptedPrivateKeyInfoRef {
        encryption_algorithm: EncryptionScheme::Pbes2(parameters),
        encrypted_data: OctetStringRef::new(&encrypted).unwrap(),
    });
    let pem = document
        .unwrap()
        .to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .unwrap();
    Some(format!("{MARK}{heading}{}", *pem))
}
