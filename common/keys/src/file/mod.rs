//! Folders of encrypted key files: for officers without a token, for trials and for tests.
//!
//! A folder protects its keys by its mode and by the PIN, and by nothing else: whoever copies it can guess PINs at
//! leisure, and whoever puts an old copy back is not noticed.

mod folder;
mod key;
mod pem;
mod secret;
mod store;

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::pin::{self, Prompt};
use crate::store::KeyStore;
use crate::uri::FileUri;

/// Opens the folder that `uri` names, and checks the PIN with a key of it if there is one.
pub(crate) fn open(uri: &FileUri, prompt: Prompt<'_>) -> Result<Arc<dyn KeyStore>, Error> {
    folder::check(uri.folder())?;
    let store = name(uri.folder());
    let pin = pin::obtain(uri.pin_source(), prompt, &store, &format!("PIN of {store}"))?;
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
    let pin = pin::obtain_new(uri.pin_source(), prompt, &name(uri.folder()))?;
    folder::make(uri.folder())?;
    Ok(Arc::new(store::FileStore::open(uri.folder(), pin)?))
}

/// What errors and prompts call the store.
fn name(folder: &Path) -> String {
    format!("the key folder {}", folder.display())
}
