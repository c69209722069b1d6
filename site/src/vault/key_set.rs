//! The symmetric keys that entitlements bring. What the log says of them and what the token holds are made to agree here:
//! a key that is in force and not in the token is taken in, one that nothing in force names any more is destroyed.
//!
//! The order for each key: the token has it; its check value is compared, derived inside the token; only then does the
//! log say that it is there. What is interrupted in between is found in the token the next time, and taken as it is.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_keys::{
    Class, KeyDescription, KeyKind, KeyStore, LockedSecret, OaepHash, SecretAlgorithm,
};
use mintmark_ledger::entry::{KeyOutcome, KeyReceipt};
use mintmark_ledger::ledger::Fact;
use mintmark_ledger::state::State;
use mintmark_protocol::Error as Protocol;
use mintmark_protocol::device_secret::CHECK_LABEL;
use mintmark_protocol::identifier::{EntitlementId, KeyLabel};
use mintmark_protocol::key_delivery::{AgreedDelivery, Delivery, KeyFacts};
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyTerms};
use mintmark_protocol::transport::Oaep;

use super::Vault;
use super::keyring::{Keyring, VAULT_TRANSPORT};
use crate::commands::now;
use crate::failure::{Error, Result};

/// The label of a key in the token.
pub(crate) fn token_label(label: &KeyLabel) -> String {
    format!("key-{label}")
}

/// What the store calls an algorithm.
pub(crate) fn secret_algorithm(algorithm: KeyAlgorithm) -> SecretAlgorithm {
    match algorithm {
        KeyAlgorithm::Aes256 => SecretAlgorithm::Aes256,
        KeyAlgorithm::HmacSha256 => SecretAlgorithm::HmacSha256,
    }
}

/// A key that is in force, as one entitlement brings it.
struct Wanted {
    entitlement: EntitlementId,
    terms: KeyTerms,
    /// What the log says became of it.
    outcome: Option<KeyOutcome>,
}

/// What has to be so in the token.
#[derive(Default)]
struct Plan {
    /// The keys in force, each by everything that brings it.
    wanted: BTreeMap<KeyLabel, Vec<Wanted>>,
    /// The keys that came into the token and that nothing in force names any more, by their labels there.
    over: BTreeSet<String>,
}

impl Plan {
    /// At `time` by whichever is later of the clock and the log, and `surely` by whichever is earlier: a clock that ran
    /// ahead brings no key to its end.
    fn of(state: &State, time: u64, surely: u64) -> Self {
        let mut plan = Self::default();
        for key in state.keys().filter(|key| key.is_in_force(time)) {
            let label = key.terms.label.clone();
            plan.wanted.entry(label).or_default().push(Wanted {
                entitlement: key.entitlement.clone(),
                terms: key.terms.clone(),
                outcome: key.outcome.cloned(),
            });
        }
        let kept: BTreeSet<&KeyLabel> = state
            .keys()
            .filter(|key| key.is_in_force(surely))
            .map(|key| &key.terms.label)
            .collect();
        let received = state.key_labels_received();
        let over =
            received.filter(|label| !kept.contains(label) && !plan.wanted.contains_key(*label));
        plan.over = over.map(token_label).collect();
        plan
    }
}

/// What is said of keys that are not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// What the log does not say yet.
    News,
    /// Why each is not.
    Everything,
}

/// Why a key is not taken in.
enum Refused {
    /// It is not what it should be, or must not come this way: the log says so.
    Refused(Error),
    /// Something around it is in the way: it is tried again the next time.
    Failed(Error),
}

impl Vault<'_> {
    /// Makes the token hold the keys that the log says it should. What keeps a key from it is said, and stops nothing
    /// else: it stays missing.
    ///
    /// What was refused before for the same reason is tried again; it is said again only where somebody asks for it.
    ///
    /// # Errors
    /// If the token cannot be opened, or the log cannot be written.
    pub(crate) fn tend_keys(&mut self, telling: Telling) -> Result<()> {
        let surely = now().clock.min(self.state().mark());
        let plan = Plan::of(self.state(), self.time(), surely);
        if plan.wanted.is_empty() && plan.over.is_empty() {
            return Ok(());
        }
        // Once, and not again if it fails: a PIN is tried once.
        self.keyring()?;
        for (label, wanted) in &plan.wanted {
            self.tend_key(label, wanted, telling)?;
        }
        self.destroy_keys(&plan.over)
    }

    fn tend_key(&mut self, label: &KeyLabel, wanted: &[Wanted], telling: Telling) -> Result<()> {
        let is_received = |wanted: &&Wanted| {
            let outcome = wanted.outcome.as_ref();
            outcome.is_some_and(|outcome| !matches!(outcome, KeyOutcome::Refused { .. }))
        };
        let received = wanted.iter().find(is_received);
        if let Some(Wanted { terms, .. }) = received {
            let algorithm = secret_algorithm(terms.algorithm);
            match self
                .keyring()?
                .store()
                .find_secret(&token_label(label), algorithm)
            {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    self.warn_of_key(label, &error.into());
                    return Ok(());
                }
            }
        }
        let mut refused = None;
        for key in wanted {
            match self.take(key) {
                Ok(outcome) => {
                    let how = outcome.as_str();
                    let entitlement = &key.entitlement;
                    self.console.note(format!(
                        "key {label} of entitlement {entitlement} is in the token ({how})"
                    ));
                    // What the log knows already is not said twice.
                    return match received {
                        Some(_) => Ok(()),
                        None => self.log_key(key, outcome),
                    };
                }
                Err(Refused::Failed(error)) => {
                    self.warn_of_key(label, &error);
                    return Ok(());
                }
                Err(Refused::Refused(error)) => {
                    refused.get_or_insert((key, error));
                }
            }
        }
        let Some((key, error)) = refused else {
            return Ok(());
        };
        let code = error.code().to_owned();
        let outcome = KeyOutcome::Refused { code };
        let is_known = key.outcome.as_ref() == Some(&outcome);
        if !is_known || telling == Telling::Everything {
            self.warn_of_key(label, &error);
        }
        if received.is_some() || is_known {
            return Ok(());
        }
        self.log_key(key, outcome)
    }

    fn log_key(&mut self, key: &Wanted, outcome: KeyOutcome) -> Result<()> {
        let receipt = KeyReceipt {
            entitlement: key.entitlement.clone(),
            label: key.terms.label.clone(),
            outcome,
        };
        self.ledger.record(now(), Fact::Key(receipt))?;
        Ok(self.ledger.commit()?)
    }

    fn warn_of_key(&self, label: &(impl std::fmt::Display + ?Sized), error: &Error) {
        let failure = error.failure();
        let cause = failure.cause.as_deref().map(|cause| format!(": {cause}"));
        let message = &failure.message;
        self.console.warn_coded(
            &failure.code,
            format!("key {label}: {message}{}", cause.unwrap_or_default()),
        );
        if let Some(hint) = &failure.hint {
            self.console.note(hint);
        }
    }

    /// Brings one key into the token, with its check value compared there; or finds that it is there.
    fn take(&self, key: &Wanted) -> std::result::Result<KeyOutcome, Refused> {
        let (keyring, terms) = (self.keyring().map_err(Refused::Failed)?, &key.terms);
        let facts = KeyFacts {
            vault: self.name.clone(),
            label: terms.label.clone(),
            algorithm: terms.algorithm,
        };
        let delivery = Delivery::read(&terms.delivery, &facts).map_err(undeliverable)?;
        let outcome = match &delivery {
            Delivery::Transported { .. } => KeyOutcome::Unwrapped,
            Delivery::Agreed(_) if terms.memory_import => KeyOutcome::Imported,
            Delivery::Agreed(_) => return Err(Refused::Refused(memory_forbidden())),
        };
        let (name, algorithm) = (token_label(&terms.label), secret_algorithm(terms.algorithm));
        let store = keyring.store();
        if store.find_secret(&name, algorithm).map_err(of_store)? {
            if has_check_value(&**store, terms)? {
                return Ok(outcome);
            }
            // What an interruption left before it was compared, or a key of this label from before.
            store.destroy_secret(&name, algorithm).map_err(of_store)?;
        }
        match delivery {
            Delivery::Transported { oaep, key, wrapped } => {
                let ours = self.identity.transport.as_ref();
                if ours.is_none_or(|ours| ours.thumbprint() != key || ours.oaep != oaep) {
                    return Err(Refused::Refused(not_unwrapped().cause(
                        "it is wrapped to another transport key than this vault's request named",
                    )));
                }
                let hash = match oaep {
                    Oaep::Sha1 => OaepHash::Sha1,
                    Oaep::Sha256 => OaepHash::Sha256,
                };
                store
                    .unwrap_secret(&name, algorithm, VAULT_TRANSPORT, hash, &wrapped)
                    .map_err(of_unwrapping)?;
            }
            Delivery::Agreed(delivery) => import(keyring, &name, algorithm, &delivery)?,
        }
        if has_check_value(&**store, terms)? {
            return Ok(outcome);
        }
        store.destroy_secret(&name, algorithm).map_err(of_store)?;
        let message =
            "the key that came is not the one that officers approved: its check value differs";
        Err(Refused::Refused(
            Error::negative("KEY-CHECK-VALUE", message).hint(
                "it was destroyed again; ask headquarters to revoke this entitlement and to grant another with the right key",
            ),
        ))
    }

    /// Destroys the keys that nothing in force names any more, as far as the token still holds them.
    fn destroy_keys(&self, over: &BTreeSet<String>) -> Result<()> {
        if over.is_empty() {
            return Ok(());
        }
        let store = self.keyring()?.store();
        for KeyDescription { label, kind, .. } in store.labels()? {
            let KeyKind::Secret(Some(algorithm)) = kind else {
                continue;
            };
            if !over.contains(&label) {
                continue;
            }
            match store.destroy_secret(&label, algorithm) {
                Ok(()) => self.console.note(format!(
                    "{label} was destroyed in the token: no entitlement in force names the key any more"
                )),
                Err(error) => self.warn_of_key(&label, &error.into()),
            }
        }
        Ok(())
    }
}

/// Opens a delivery in memory that is kept out of the swap space, and puts the key into the store.
fn import(
    keyring: &Keyring,
    name: &str,
    algorithm: SecretAlgorithm,
    delivery: &AgreedDelivery,
) -> std::result::Result<(), Refused> {
    let key = LockedSecret::filled(|bytes| {
        let opened = keyring.with_opener(|opener| delivery.open(opener))?;
        bytes.copy_from_slice(&*opened);
        Ok(())
    });
    let key = key.map_err(undeliverable)?;
    if !key.is_locked() {
        let message =
            "the memory that the key would pass through cannot be kept out of the swap space";
        let error = Error::environment("KEY-MEMORY-UNLOCKED", message);
        return Err(Refused::Failed(error.hint(
            "raise the limit of locked memory (`ulimit -l`), then run the same command again",
        )));
    }
    keyring
        .store()
        .import_secret(name, algorithm, &key)
        .map_err(of_store)
}

/// Whether the key in the token is the one that the terms name.
fn has_check_value(store: &dyn KeyStore, terms: &KeyTerms) -> std::result::Result<bool, Refused> {
    let (name, algorithm) = (token_label(&terms.label), secret_algorithm(terms.algorithm));
    let derived = store
        .secret(&name, algorithm)
        .and_then(|key| key.derive(CHECK_LABEL, b""))
        .map_err(of_store)?;
    Ok(*derived == terms.check_value)
}

fn of_store(error: mintmark_keys::Error) -> Refused {
    match error.class() {
        Class::Integrity => Refused::Refused(error.into()),
        _ => Refused::Failed(error.into()),
    }
}

fn of_unwrapping(error: mintmark_keys::Error) -> Refused {
    use mintmark_keys::Error as Keys;
    match error {
        Keys::WrappedKeyInvalid { .. } | Keys::KeyMissing { .. } | Keys::KeyExcluded { .. } => {
            Refused::Refused(not_unwrapped().cause(error))
        }
        error => of_store(error),
    }
}

fn undeliverable(error: Protocol) -> Refused {
    match error {
        Protocol::KeyOperation(_) | Protocol::Random => Refused::Failed(error.into()),
        error => Refused::Refused(
            Error::negative(
                "KEY-DELIVERY",
                "what should deliver the key to this vault does not",
            )
            .cause(error)
            .hint("ask headquarters for an amendment with a new delivery"),
        ),
    }
}

fn memory_forbidden() -> Error {
    let message = "the key would pass through this machine's memory, which its terms forbid";
    Error::negative("KEY-MEMORY-FORBIDDEN", message).hint(
        "a token that unwraps keys itself needs no such leave (`site doctor` shows whether this one does); otherwise ask \
         headquarters for an amendment that allows it",
    )
}

fn not_unwrapped() -> Error {
    Error::negative("KEY-UNWRAP", "the token does not unwrap the key")
        .hint("run `site doctor`, and ask headquarters whether it wrapped the key to this vault's transport key")
}
