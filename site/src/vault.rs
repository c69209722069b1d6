//! The vault: the one owner of a home, in which every effect has its order.

pub(crate) mod anchor;
mod bundle;
mod crl;
mod device;
mod device_secret;
mod dispatch;
mod import;
mod issue;
pub(crate) mod key_set;
pub(crate) mod keyring;
mod line;
mod meter;
pub(crate) mod prune;
pub(crate) mod reading;
pub(crate) mod restore;
mod rolled_back;
pub(crate) mod rotation;
mod serial_secret;
pub(crate) mod snapshot;
mod station;
pub(crate) mod trust;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use mintmark_console::{Console, Exit, Stop};
use mintmark_keys::KeyStore;
use mintmark_ledger::decide::Input;
use mintmark_ledger::entry::{Genesis, LogSequence};
use mintmark_ledger::ledger::{Ledger, Opened, Outcome, View};
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_pki::Issuer;
use mintmark_protocol::enrolment::FIRST_GENERATION;
use mintmark_protocol::entitlement::DeviceIdSource;
use mintmark_protocol::identifier::{DeviceId, Sku, VaultName};

pub(crate) use bundle::{Carried, Carrier, Outbox, Placed};
pub(crate) use device_secret::SealedSecret;
pub(crate) use dispatch::EPOCH_OVER;
pub(crate) use import::{Arrival, Effort, Incoming};
pub(crate) use issue::{Answer, GROUP_MAX, Issued, Unit, completable};
pub(crate) use line::{Answered, Asker, BATCH_MAX, Inlet, Outlet, Promise, Requests};
pub(crate) use meter::{Counted, Meters};
pub(crate) use rolled_back::HOME_ROLLED_BACK;

use crate::commands::now;
use crate::commands::status::Subject;
use crate::failure::{Error, Result};
use crate::home::{Home, HomeLock, LOG};
use crate::submission::Submission;
use anchor::{Anchor, FIRST_COUNTER, Found, Holding, Trouble};
use keyring::{Identity, Keyring, open_store};
use trust::{TrustChain, TrustPoint};

/// The code of a line that was asked to stop.
pub(crate) const INTERRUPTED: &str = "INTERRUPTED";

/// Makes the log of a new vault in its home, and gives the first anchor of it.
pub(crate) fn create_ledger(home: &Path, genesis: Genesis, now: u64) -> Result<Anchor> {
    let ledger = Ledger::create(home, genesis, now)?;
    let anchor = Anchor::of(&ledger, FIRST_COUNTER, |_| 0)?;
    ledger.close()?;
    Ok(anchor)
}

/// To whom a vault speaks while it is at work.
pub(crate) enum Listener<'c> {
    /// Whoever runs the one command that the vault was opened for.
    Command(&'c Console),
    /// Whoever is served now by a vault that stays open.
    Service(Arc<Console>),
}

impl Deref for Listener<'_> {
    type Target = Console;

    fn deref(&self) -> &Console {
        match self {
            Self::Command(console) => console,
            Self::Service(console) => console,
        }
    }
}

/// A vault that this process may change.
pub(crate) struct Vault<'c> {
    console: Listener<'c>,
    name: VaultName,
    ledger: Ledger,
    trust: TrustChain,
    identity: Identity,
    anchor: Holding,
    keyring: OnceCell<Keyring>,
    serials: OnceCell<SerialCipher>,
    /// The device CAs that were needed so far, by generation.
    issuers: RefCell<BTreeMap<u16, Arc<Issuer>>>,
    opened: Opened,
    meters: Arc<Meters>,
    /// Who is listened to while a line is at work.
    stop: Option<Stop>,
    home: Home,
    // Released last.
    _lock: HomeLock,
}

impl<'c> Vault<'c> {
    /// Opens a vault to change it, and its token. The log must be the one that the token knows, before anything is added to
    /// it. What HQ has not acknowledged is read again: it must still be reported, and nothing is built on a log of which
    /// that cannot be done.
    ///
    /// # Errors
    /// HOME-OLDER-THAN-ANCHOR and the codes that begin with ANCHOR if the home and the token do not fit each other; what the
    /// token and the log fail with.
    pub(crate) fn open(home: Home, console: &'c Console) -> Result<Self> {
        Self::enter(home, Trouble::expect_none, Listener::Command(console))
    }

    /// As [`Vault::open`], for a service: who is spoken to changes with whom is served.
    pub(crate) fn open_to_serve(home: Home, console: Arc<Console>) -> Result<Self> {
        Self::enter(home, Trouble::expect_none, Listener::Service(console))
    }

    /// As [`Vault::open`], also where the token lost the anchor: messages are carried then, and nothing else is done, until
    /// officers vouch for the log.
    pub(crate) fn open_to_carry(home: Home, console: &'c Console) -> Result<Self> {
        let vault = Self::enter(home, |_, _| Ok(()), Listener::Command(console))?;
        if let Some(error) = vault.anchor_trouble() {
            let failure = error.failure();
            console.warn_coded(&failure.code, &failure.message);
            if let Some(hint) = &failure.hint {
                console.note(hint);
            }
        }
        Ok(vault)
    }

    /// Opens it if `may` allows so, whatever is wrong with its anchor.
    fn enter(
        home: Home,
        may: impl FnOnce(Option<Trouble>, &State) -> Result<()>,
        console: Listener<'c>,
    ) -> Result<Self> {
        let lock = home.lock()?;
        home.expect_newest()?;
        let token = Token::open(&home, &console)?;
        // Before anything is touched.
        let view = reading::view(&home, &console)?;
        let trouble = token.examine(&home, view.state())?;
        may(trouble, view.state())?;
        drop(view);
        let (ledger, opened) = anchor::open_ledger(&home, &token.found, &console)?;
        let acknowledged = ledger.state().bundles().acknowledged_log_size;
        ledger.verify_from(LogSequence(acknowledged))?;
        Self::over(home, lock, (token, trouble), (ledger, opened), console)
    }

    /// As [`Vault::open`], after the whole log was read again. With `rebuild`, what follows from the log is made again.
    /// A home whose index knows more than its log is not touched: that is how a log that was cut short is noticed.
    ///
    /// # Errors
    /// Where units are reserved without a certificate, the error says so.
    pub(crate) fn open_recovering(home: Home, rebuild: bool, console: &'c Console) -> Result<Self> {
        let lock = home.lock()?;
        home.expect_newest()?;
        let token = Token::open(&home, console)?;
        // Before anything is touched.
        let view = reading::view(&home, console)?;
        reading::verify(&view, console)?;
        let trouble = token.examine(&home, view.state())?;
        Trouble::expect_none(trouble, view.state())?;
        let open = completable(view.state());
        drop(view);
        let opened = || -> Result<(Ledger, Opened)> {
            let (ledger, before) = anchor::open_ledger(&home, &token.found, console)?;
            if !rebuild {
                return Ok((ledger, before));
            }
            ledger.close()?;
            let aside = home.set_derived_aside()?;
            let (ledger, mut opened) = anchor::open_ledger(&home, &token.found, console)?;
            aside.discard()?;
            (opened.torn_bytes, opened.torn_kept) = (before.torn_bytes, before.torn_kept);
            Ok((ledger, opened))
        };
        let opened = opened().map_err(|error| match error.exit() {
            Exit::Environment => error.with_units_open(open),
            _ => error,
        })?;
        let console = Listener::Command(console);
        Self::over(home, lock, (token, trouble), opened, console)
    }

    fn over(
        home: Home,
        lock: HomeLock,
        (token, trouble): (Token, Option<Trouble>),
        (ledger, opened): (Ledger, Opened),
        console: Listener<'c>,
    ) -> Result<Self> {
        reading::report_opening(&opened, &console);
        let Facts {
            name,
            trust,
            identity,
        } = Facts::read(&home, ledger.state())?;
        let mut vault = Self {
            console,
            name,
            ledger,
            trust,
            identity,
            anchor: Holding::new(token.store),
            keyring: OnceCell::new(),
            serials: OnceCell::new(),
            issuers: RefCell::default(),
            opened,
            meters: Arc::default(),
            stop: None,
            home,
            _lock: lock,
        };
        vault.take_up_anchor(token.found, trouble)?;
        Ok(vault)
    }

    /// The same vault over another ledger, made of its own.
    #[cfg(feature = "bench")]
    pub(crate) fn over_ledger(self, make: impl FnOnce(Ledger) -> Result<Ledger>) -> Result<Self> {
        Ok(Self {
            ledger: make(self.ledger)?,
            ..self
        })
    }

    /// The state, with everything decided.
    pub(crate) fn state(&self) -> &State {
        self.ledger.state()
    }

    /// Whose status is told.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            home: &self.home,
            state: self.ledger.state(),
            name: &self.name,
            trust: &self.trust,
        }
    }

    /// The certificate of a device CA, and the root's that is in force, DER.
    ///
    /// # Errors
    /// As [`Vault::issuer`].
    pub(crate) fn chain(&self, generation: u16) -> Result<Vec<Vec<u8>>> {
        let device_ca = self.issuer(generation)?.certificate_der().to_vec();
        let root = self.trust.newest().content().root_certificate.clone();
        Ok(vec![device_ca, root])
    }

    /// Asks the token whether it is there.
    ///
    /// # Errors
    /// What the token fails with.
    pub(crate) fn probe(&self) -> Result<()> {
        self.anchor.store().check()?;
        Ok(())
    }

    /// What opening it had to put right.
    pub(crate) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// From here on what is measured is counted there.
    pub(crate) fn count_in(&mut self, meters: &Arc<Meters>) {
        self.meters = Arc::clone(meters);
    }

    /// Serves another, who is spoken to from here on; gives who was before.
    pub(crate) fn speak_to(&mut self, console: Arc<Console>) -> Listener<'c> {
        std::mem::replace(&mut self.console, Listener::Service(console))
    }

    /// Serves whoever it served before.
    pub(crate) fn speak_again_to(&mut self, listener: Listener<'c>) {
        self.console = listener;
    }

    /// Whether it can still be used: no more, once nobody knows what the log holds. Opening it again finds out.
    pub(crate) fn is_usable(&self) -> bool {
        self.ledger.is_usable()
    }

    /// Whether its index still answers.
    ///
    /// # Errors
    /// INDEX-SILENT: only another process gets on.
    pub(crate) fn expect_index_answers(&self) -> Result<()> {
        Ok(self.ledger.expect_answers()?)
    }

    /// What was only tried is forgotten, as if nobody had asked.
    ///
    /// # Errors
    /// What the log or the home fails with: the vault must not be used any more then.
    pub(crate) fn forget_staged(&mut self) -> Result<()> {
        if !self.ledger.has_staged() {
            return Ok(());
        }
        self.ledger.forget_staged()?;
        self.trust = Facts::read(&self.home, self.ledger.state())?.trust;
        self.keyring = OnceCell::new();
        self.serials = OnceCell::new();
        self.issuers.borrow_mut().clear();
        Ok(())
    }

    /// The anchor is brought up to the log and leases nothing, as when it is closed; and the vault stays open.
    ///
    /// # Errors
    /// What the token or the log fails with.
    pub(crate) fn rest(&mut self) -> Result<()> {
        self.stop_cleanly()
    }

    /// From here on a line that is asked to stop takes no new requests, finishes what it has begun, and ends.
    pub(crate) fn heed(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    /// That somebody asked for that, as the reason why the rest is not answered.
    fn asked_to_stop(&self) -> Option<Error> {
        let signal = self.stop.as_ref()?.asked()?;
        self.console.note(format!(
            "{signal}: what is begun is finished; once more ends at once, and costs what is leased"
        ));
        let message = format!("stopped by {signal} before every request was answered");
        Some(Error::environment(INTERRUPTED, message).hint(
            "run the same command again: it goes on with what is left, and asking twice is free",
        ))
    }

    /// A person says that the clock is right as it is; why that is refused, if it is.
    pub(crate) fn confirm_clock(&mut self) -> Result<Option<Refusal>> {
        let outcome = self.ledger.submit(None, now(), Input::ClockConfirm)?;
        self.ledger.commit()?;
        Ok(match outcome {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// Ends the work: the token's anchor is brought up to the log, and what follows from the log is kept, so that opening is
    /// quick the next time. A process that ends without it has not stopped cleanly, and what it had leased is burned at the
    /// next start.
    pub(crate) fn close(mut self) -> Result<()> {
        self.stop_cleanly()?;
        Ok(self.ledger.close()?)
    }

    /// The keys, looked for when they are first needed.
    pub(crate) fn keyring(&self) -> Result<&Keyring> {
        remember(&self.keyring, || {
            let device_ca = match self.state().device_cas().last() {
                Some(ca) => (ca.generation, *self.issuer(ca.generation)?.public_key()),
                None => (FIRST_GENERATION, self.identity.device_ca),
            };
            Keyring::of(Arc::clone(self.anchor.store()), &self.identity, device_ca)
        })
    }

    /// What makes serial numbers; none before the vault is enrolled.
    fn serials(&self) -> Result<Option<&SerialCipher>> {
        let Some(enrolment) = self.state().enrolment() else {
            return Ok(None);
        };
        let serials = remember(&self.serials, || {
            let secret =
                serial_secret::agreed(self.keyring()?, &enrolment.serial_master, &self.name)?;
            let serials = SerialCipher::derive(&secret, &self.name);
            serial_secret::expect_right(&self.ledger, &serials)?;
            Ok(serials)
        })?;
        Ok(Some(serials))
    }

    /// Sees to it that serial numbers can be made, where the token is at hand: see [`serial_secret`]. Where it is not, nothing
    /// that was done depends on it.
    pub(crate) fn prepare_serials(&self) {
        let _ = self.serials();
    }

    /// A device CA of this vault.
    ///
    /// # Errors
    /// NOT-ENROLLED if the vault has none of that generation.
    pub(crate) fn issuer(&self, generation: u16) -> Result<Arc<Issuer>> {
        if let Some(known) = self.issuers.borrow().get(&generation) {
            return Ok(Arc::clone(known));
        }
        let mut device_cas = self.state().device_cas().iter();
        let ca = device_cas
            .find(|ca| ca.generation == generation)
            .ok_or_else(not_enrolled)?;
        let issuer = Arc::new(Issuer::from_certificate_der(&ca.certificate)?);
        let mut known = self.issuers.borrow_mut();
        known.insert(generation, Arc::clone(&issuer));
        Ok(issuer)
    }

    /// The device that a request for `product` is for, as the policy names its place in requests; none where no policy
    /// does, or where no device id stands there.
    pub(crate) fn device_id(&self, product: &Sku, submission: &Submission) -> Option<DeviceId> {
        let Submission::Verified(csr) = submission else {
            return None;
        };
        let text = match self.state().device_id_source(product, self.time())? {
            DeviceIdSource::SerialNumber => csr.subject_serial_number(),
            DeviceIdSource::CommonName => csr.common_name(),
        };
        text?.parse().ok()
    }

    /// The time by which messages are judged: this machine's clock, or the log's newest time if that is later, or if the
    /// clock is not believed.
    pub(crate) fn time(&self) -> u64 {
        self.state().time_at(now())
    }
}

/// The token of a home, open, and what it holds in the place of the anchor.
struct Token {
    store: Arc<dyn KeyStore>,
    found: Found,
}

impl Token {
    /// Opens it. Whoever cannot do so where units are reserved without a certificate is told so.
    fn open(home: &Home, console: &Console) -> Result<Self> {
        let open = || {
            let store = open_store(&home.config().keys, console)?;
            let found = anchor::find(&*store)?;
            Ok(Self { store, found })
        };
        open().map_err(|error: Error| match View::open(home.path()) {
            Ok(view) => error.with_units_open(completable(view.state())),
            Err(_) => error,
        })
    }

    /// What is wrong with the anchor, by what the log says.
    fn examine(&self, home: &Home, state: &State) -> Result<Option<Trouble>> {
        anchor::examine(home, state, &*self.store, &self.found)
    }
}

/// What the log says of the home around it, and whether the home agrees.
pub(crate) struct Facts {
    /// Whose home this is.
    pub(crate) name: VaultName,
    /// The trust manifests.
    pub(crate) trust: TrustChain,
    /// The keys that the vault was made with.
    pub(crate) identity: Identity,
}

impl Facts {
    /// Reads what stands beside the log, and checks it against the log.
    pub(crate) fn read(home: &Home, state: &State) -> Result<Self> {
        let (genesis, trust) = state
            .genesis()
            .zip(state.trust())
            .ok_or_else(|| home.corrupt(LOG, "without a beginning"))?;
        if genesis.vault != home.config().vault {
            let (configured, logged) = (&home.config().vault, &genesis.vault);
            let message =
                format!("config.toml names vault {configured}, and the log is that of {logged}");
            return Err(Error::integrity("HOME-CORRUPT", message)
                .hint("put back the config.toml that `site init` made"));
        }
        let pinned = TrustPoint {
            version: genesis.trust_version,
            fingerprint: genesis.trust_fingerprint,
        };
        let newest = TrustPoint {
            version: trust.version,
            fingerprint: trust.fingerprint,
        };
        Ok(Self {
            name: genesis.vault.clone(),
            trust: TrustChain::load(home, pinned, newest)?,
            identity: Identity::load(home, &genesis.enrolment_fingerprint)?,
        })
    }
}

/// Nothing can be issued yet.
pub(crate) fn not_enrolled() -> Error {
    Error::negative("NOT-ENROLLED", "headquarters has not let this vault in yet")
        .hint("carry `site media export` to headquarters, and import what comes back")
}

/// `OnceCell::get_or_try_init`, which is not stable yet.
fn remember<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(made) => Ok(made),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_can_be_lent_to_another_thread() {
        fn lent<T: Send>() {}
        lent::<Vault<'static>>();
    }
}
