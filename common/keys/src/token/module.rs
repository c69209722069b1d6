//! PKCS#11 modules: each is loaded and initialised once per process, however many tokens of it are open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CryptokiError, RvError};

use super::fault::{explained, reason, returned};
use super::gate::{Gate, Hung, Pass};
use super::kept;
use super::pool::Pool;
use crate::error::Error;

/// The modules of this process, by canonical path. PKCS#11 knows an application, not a caller: C_Initialize belongs to
/// the process and C_Finalize ends every other user's sessions, so modules stay until the process ends, or until
/// nothing else brings a token back.
static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// A call that takes longer hangs. Making an RSA key takes the slowest tokens most of a minute.
const PATIENCE: Duration = Duration::from_secs(60);

/// A module is not started anew more often. It costs every store of the module its login.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A loaded module.
pub(super) struct Module {
    path: PathBuf,
    functions: Pkcs11,
    gate: Gate,
    /// Everything in this process that has sessions of it.
    pools: Mutex<Vec<Weak<Pool>>>,
}

/// The module at `path`, initialised, with the operating system's locks.
pub(super) fn load(path: &Path) -> Result<Arc<Module>, Error> {
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
    let functions = Pkcs11::new(&canonical).map_err(|error| Error::ModuleInvalid {
        path: path.into(),
        reason: reason(&error),
    })?;
    initialise(&functions, &canonical).map_err(|error| Error::ModuleFailed {
        path: path.into(),
        action: "start",
        reason: explained(&error),
        returned: returned(&error),
    })?;
    let module = Arc::new(Module {
        path: path.into(),
        functions,
        gate: Gate::new(PATIENCE, calls_at_once(&canonical)),
        pools: Mutex::default(),
    });
    modules.insert(canonical, module.clone());
    Ok(module)
}

/// How many calls may be in the module of this file at once.
///
/// p11-kit's client (to 0.26.4 at least) loses a thread that waits for its answer while another one reads an answer that
/// breaks off amid its bytes, as it does when the server dies: `rpc_socket_read` leaves without waking those who wait for
/// its header to be taken, and they wait forever. One call at a time waits for nobody. It costs little: the server works
/// off a connection's calls one after the other. The proxy, which is p11-kit's library itself, may lead to that client.
fn calls_at_once(module: &Path) -> usize {
    let name = module.file_name().unwrap_or_default().as_encoded_bytes();
    match [b"p11-kit-".as_slice(), b"libp11-kit."]
        .iter()
        .any(|kit| name.starts_with(kit))
    {
        true => 1,
        false => usize::MAX,
    }
}

/// C_Initialize, where it was not called before: another library in this process may have done so.
fn initialise(module: &Pkcs11, file: &Path) -> Result<(), CryptokiError> {
    if kept::is_of_softhsm(file) {
        kept::mend();
    }
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Err(CryptokiError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        other => other,
    }
}

impl Module {
    /// Its functions. Whoever calls one holds a [`Pass`].
    pub(super) fn functions(&self) -> &Pkcs11 {
        &self.functions
    }

    /// Leave to call it in its turn, unless a call hangs or it is being started anew.
    pub(super) fn enter_in_turn(&self) -> Option<Pass<'_>> {
        self.gate.enter_in_turn()
    }

    /// C_Initialize, after somebody else in this process called C_Finalize.
    pub(super) fn initialise_again(&self, pass: &mut Pass<'_>) -> Result<(), CryptokiError> {
        initialise(&self.functions, &self.path)?;
        self.gate.was_restarted(pass);
        Ok(())
    }

    /// Leave to call it.
    pub(super) fn enter(&self) -> Result<Pass<'_>, Error> {
        self.gate.enter().map_err(|hung| self.hung(&hung))
    }

    /// Refuses while a call hangs.
    pub(super) fn demand_no_hung_call(&self) -> Result<(), Error> {
        self.gate
            .demand_no_hung_call()
            .map_err(|hung| self.hung(&hung))
    }

    /// How many calls are inside, and since when the oldest of them.
    pub(super) fn calls(&self) -> (usize, Option<Instant>) {
        self.gate.calls()
    }

    /// Remembers who has sessions of this module.
    pub(super) fn register(&self, pool: &Arc<Pool>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// C_Finalize and C_Initialize: the last resort where a module does not find a token again, as one that reaches it
    /// through a socket that was closed. Not where any store of the module is well, nor while calls are inside.
    pub(super) fn restart<'module>(
        &'module self,
        pass: Pass<'module>,
    ) -> Result<Pass<'module>, Error> {
        let somebody_is_well = || {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            let pools: Vec<_> = pools.iter().filter_map(Weak::upgrade).collect();
            pools.iter().any(|pool| pool.answers())
        };
        let start = || {
            // What either says does not matter: the next call tells whether it helped.
            let _ = self.functions.clone().finalize();
            let _ = initialise(&self.functions, &self.path);
        };
        self.gate
            .restart(pass, RESTART_PAUSE, somebody_is_well, start)
            .map_err(|hung| self.hung(&hung))
    }

    fn hung(&self, hung: &Hung) -> Error {
        Error::TokenHung {
            path: self.path.clone(),
            seconds: hung.since.elapsed().as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_may_lead_to_p11_kits_client_is_called_once_at_a_time() {
        let at_once = |name: &str| calls_at_once(&Path::new("/usr/lib").join(name));
        // What p11-kit-proxy.so is a link to is the library.
        for name in [
            "p11-kit-client.so",
            "p11-kit-proxy.so",
            "libp11-kit.so.0.3.0",
        ] {
            assert_eq!(at_once(name), 1, "{name}");
        }
        assert_eq!(at_once("libsofthsm2.so"), usize::MAX);
    }
}
