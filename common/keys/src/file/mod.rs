//! Folders of encrypted key files: for officers without a token, for trials and for tests.
//!
//! A folder protects its keys by its mode and by the PIN, and by nothing else: whoever copies it can guess PINs at
//! leisure, and whoever puts an old copy back is not noticed.

mod data;
mod folder;
mod key;
mod pem;
mod secret;
mod store;

#[cfg(feature = "fuzzing")]
pub use pem::fuzzed;

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::health::FolderHealth;
use crate::label::Label;
use crate::pin::{self, KeptPin, Prompt};
use crate::pin_source::PinSource;
use crate::store::{KeyStore, StoreFacts};
use crate::uri::FileUri;

/// Opens the folder that `uri` names, and checks the PIN with a key of it if there is one.
pub(crate) fn open(uri: &FileUri, prompt: Prompt<'_>) -> Result<Arc<dyn KeyStore>, Error> {
    folder::check(uri.folder())?;
    let store = name(uri.folder());
    let source = uri.pin_source().and_then(PinSource::file);
    let question = format!("PIN of {store}");
    let pin = KeptPin::of(source.as_deref(), prompt, &store, &question)?;
    Ok(Arc::new(store::FileStore::open(uri.folder(), pin)?))
}

/// As [`open`], after making the folder if it is absent.
pub(crate) fn create(uri: &FileUri, prompt: Prompt<'_>) -> Result<Arc<dyn KeyStore>, Error> {
    match folder::check(uri.folder()) {
        Ok(()) if !folder::stems(uri.folder())?.is_empty() => return open(uri, prompt),
        Ok(()) | Err(Error::FolderMissing { .. }) => {}
        Err(error) => return Err(error),
    }
    // The PIN comes first: a person who cancels leaves no folder behind.
    let source = uri.pin_source().and_then(PinSource::file);
    let pin = pin::kept_new(source.as_deref(), prompt, &name(uri.folder()))?;
    folder::make(uri.folder())?;
    Ok(Arc::new(store::FileStore::open(uri.folder(), pin)?))
}

/// What errors and prompts call the store.
fn name(folder: &Path) -> String {
    format!("the key folder {}", folder.display())
}

/// What a folder says of itself.
fn facts(folder: &Path) -> StoreFacts {
    let label = folder
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    StoreFacts {
        kind: "file".into(),
        label,
        manufacturer: String::new(),
        model: String::new(),
        serial: String::new(),
        firmware: String::new(),
        library: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
        mechanisms: vec![
            "CKM_AES_CMAC".into(),
            "CKM_EC_KEY_PAIR_GEN".into(),
            "CKM_ECDH1_DERIVE".into(),
            "CKM_ECDSA_SHA256".into(),
            "CKM_SHA256_HMAC".into(),
        ],
    }
}

/// What can be told of the folder that `uri` names without its PIN.
pub(crate) fn health(uri: &FileUri) -> Result<FolderHealth, Error> {
    let folder = uri.folder();
    folder::check(folder)?;
    let (mut keys, mut damages) = (Vec::new(), Vec::new());
    for stem in folder::stems(folder)? {
        let Ok(label) = Label::try_from(stem.as_str()) else {
            continue;
        };
        let name = format!("{}.{}", label.as_str(), folder::EXTENSION);
        match folder::read(&folder.join(&name)) {
            Ok(Some(text)) => match pem::problem(&text, label.as_str()) {
                None => keys.push(stem),
                Some(problem) => damages.push(format!("{name} is not a key file: {problem}")),
            },
            // It went away while this looked.
            Ok(None) => {}
            Err(error) => damages.push(error.to_string()),
        }
        damages.extend(folder::exposed(folder, &name));
    }
    let data = data::all(folder)?;
    for name in &data {
        damages.extend(folder::exposed(folder, name));
    }
    Ok(FolderHealth {
        facts: facts(folder),
        keys,
        data,
        damages,
    })
}
