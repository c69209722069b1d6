//! Where a command finds the vault that it changes: in a home that it opens, or at the desk of the service that holds it.
//!
//! A command says what it does with the vault and when it is done, and does not see which of the two it is. The service
//! lends its vault for each single piece of work, so that stations are served between them; what a piece of work left staged
//! when it failed is forgotten, and what it did is in the token's anchor before anything else is done.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mintmark_console::{Console, Stop};

use crate::failure::Result;
use crate::home::Home;
use crate::serve::desk::Desk;
use crate::vault::Vault;

/// How many batches of a long row are done before stations are served again.
const STRETCH_BATCHES: usize = 8;

/// Where the vault is.
#[derive(Clone)]
pub(crate) enum Place<'p> {
    /// In the home that `--home` or SITE_HOME names.
    Home(Option<&'p Path>),
    /// With the service that this command runs in.
    Service(&'p Service),
}

/// The service that holds a vault, as one command sees it.
pub(crate) struct Service {
    /// The home.
    pub(crate) home: Box<Path>,
    /// Where the vault is lent.
    pub(crate) desk: Arc<Desk>,
    /// To whom the vault speaks meanwhile.
    pub(crate) console: Arc<Console>,
    /// Whether whoever asked has gone.
    pub(crate) is_gone: Box<dyn Fn() -> bool + Send + Sync>,
    /// Waits until whoever asked has taken most of what they were told, or has gone.
    pub(crate) wait_until_taken: Box<dyn Fn() + Send + Sync>,
    /// Held by the command that writes to a medium.
    pub(crate) media: Arc<Mutex<()>>,
}

impl<'p> Place<'p> {
    /// What names the home, for whoever only reads.
    pub(crate) fn path(&self) -> Option<&'p Path> {
        match self {
            Self::Home(path) => *path,
            Self::Service(service) => Some(&service.home),
        }
    }

    /// The home, as its configuration has it.
    pub(crate) fn home(&self) -> Result<Home> {
        Home::open(self.path())
    }

    /// Whether another process, or another thread of this one, holds the vault open.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Service(_))
    }

    /// Waits until no other command of the service writes to a medium, which it does without the vault: two that write the
    /// same file at the same time would take each other's parts for leftovers. A home that is open is a command's alone.
    pub(crate) fn alone_at_media(&self) -> Option<MutexGuard<'p, ()>> {
        match self {
            Self::Home(_) => None,
            Self::Service(service) => {
                Some(service.media.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }

    /// The vault, to change it.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub(crate) fn open<'a>(&'a self, console: &'a Console) -> Result<Session<'a>> {
        self.enter(|home| Vault::open(home, console))
    }

    /// As [`Place::open`], also where the token lost the anchor: see [`Vault::open_to_carry`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn open_to_carry<'a>(&'a self, console: &'a Console) -> Result<Session<'a>> {
        self.enter(|home| Vault::open_to_carry(home, console))
    }

    fn enter<'a>(&'a self, open: impl FnOnce(Home) -> Result<Vault<'a>>) -> Result<Session<'a>> {
        match self {
            Self::Home(path) => Ok(Session::over(open(Home::open(*path)?)?)),
            Self::Service(service) => Ok(Session(Held::Lent(service))),
        }
    }
}

/// A vault for as long as a command works.
pub(crate) struct Session<'p>(Held<'p>);

enum Held<'p> {
    Own(Box<Vault<'p>>),
    Lent(&'p Service),
}

impl<'p> Session<'p> {
    /// A vault that this process opened.
    pub(crate) fn over(vault: Vault<'p>) -> Self {
        Self(Held::Own(Box::new(vault)))
    }

    /// Does something with the vault. Nothing of it is told to anybody before [`Session::close`] unless its own steps allow
    /// so.
    ///
    /// # Errors
    /// What the work fails with, and, at the service, what keeps it from lending its vault.
    pub(crate) fn with<T>(&mut self, work: impl FnOnce(&mut Vault<'_>) -> Result<T>) -> Result<T> {
        match &mut self.0 {
            Held::Own(vault) => work(vault),
            Held::Lent(service) => service.with_vault(|vault| {
                let done = work(vault)?;
                vault.rest()?;
                Ok(done)
            }),
        }
    }

    /// Tries something. At home the vault must not be used for anything else afterwards; at the service it is as before.
    ///
    /// # Errors
    /// As [`Session::with`].
    pub(crate) fn rehearse<T>(
        &mut self,
        work: impl FnOnce(&mut Vault<'_>) -> Result<T>,
    ) -> Result<T> {
        match &mut self.0 {
            Held::Own(vault) => work(vault),
            Held::Lent(service) => service.with_vault(|vault| {
                let tried = work(vault);
                vault.forget_staged()?;
                tried
            }),
        }
    }

    /// From here on a line that is asked to stop ends early. At the service it is asked by whoever has gone.
    pub(crate) fn heed(&mut self, stop: impl FnOnce() -> Result<Stop>) -> Result<()> {
        if let Held::Own(vault) = &mut self.0 {
            vault.heed(stop()?);
        }
        Ok(())
    }

    /// Waits, without the vault, until whoever asked has taken most of what they were told: nothing new is begun before.
    pub(crate) fn wait_for_asker(&self) {
        if let Held::Lent(service) = &self.0 {
            (service.wait_until_taken)();
        }
    }

    /// Whether whoever asked has gone: nothing new is begun then.
    pub(crate) fn is_asker_gone(&self) -> bool {
        match &self.0 {
            Held::Own(_) => false,
            Held::Lent(service) => (service.is_gone)(),
        }
    }

    /// How many batches of a row are done at a time.
    pub(crate) fn stretch_batches(&self) -> usize {
        match &self.0 {
            Held::Own(_) => usize::MAX,
            Held::Lent(_) => STRETCH_BATCHES,
        }
    }

    /// Ends the work: see [`Vault::close`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn close(self) -> Result<()> {
        match self.0 {
            Held::Own(vault) => vault.close(),
            // Each piece of work was ended by itself. The service puts up what came of it before it lends again: whoever was
            // shut out is shut out when the command says so.
            Held::Lent(service) => {
                drop(service.desk.borrow()?);
                Ok(())
            }
        }
    }
}

impl Service {
    fn with_vault<T>(&self, work: impl FnOnce(&mut Vault<'_>) -> Result<T>) -> Result<T> {
        let mut loan = self.desk.borrow()?;
        let vault = loan.vault()?;
        let before = vault.speak_to(Arc::clone(&self.console));
        let done = work(vault);
        if done.is_err() {
            // Where that fails, too, whoever takes the vault back finds that it cannot be used.
            let _ = vault.forget_staged();
        }
        vault.speak_again_to(before);
        done
    }
}
