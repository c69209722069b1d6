//! PKCS#11 modules: each is loaded and initialised once per process, however many tokens of it are open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CryptokiError, RvError};

use super::fault::reason;
use crate::error::Error;

/// The modules of this process, by canonical path. PKCS#11 knows an application, not a caller: C_Initialize belongs to
/// the process and C_Finalize would end every other user's sessions, so modules stay until the process ends.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// The module at `path`, initialised, with the operating system's locks.
pub(super) fn load(path: &Path) -> Result<Pkcs11, Error> {
    let missing = |cause| Error::ModuleMissing {
        path: path.into(),
        cause,
    };
    let canonical = path.canonicalize().map_err(missing)?;
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(&canonical) {
        return Ok(module.clone());
    }
    if !canonical.metadata().map_err(missing)?.is_file() {
        return Err(Error::ModuleInvalid {
            path: path.into(),
            reason: "it is not a regular file".into(),
        });
    }
    let module = Pkcs11::new(&canonical).map_err(|error| Error::ModuleInvalid {
        path: path.into(),
        reason: reason(&error),
    })?;
    initialise(&module).map_err(|error| Error::ModuleFailed {
        path: path.into(),
        action: "start",
        reason: reason(&error),
    })?;
    modules.insert(canonical, module.clone());
    Ok(module)
}

/// C_Initialize, where it was not called before: another library in this process may have done so.
pub(super) fn initialise(module: &Pkcs11) -> Result<(), CryptokiError> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(CryptokiError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}
