//! `site doctor`: everything around the vault that can be wrong, tried rather than believed.

mod anchor;
mod outbox;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mintmark_console::time::rfc3339;
use mintmark_console::{Check, Console, Exit, places};
use mintmark_keys::{KeyStore, KeyUri, Purpose, UnparsedKeyUri, examine};
use mintmark_ledger::entry::KeyOutcome;
use mintmark_ledger::state::State;
use mintmark_pki::Issuer;
use p256::PublicKey;

use super::now;
use crate::clock::Disbelief;
use crate::failure::{Error, Result};
use crate::home::Home;
use crate::vault::completable;
use crate::vault::key_set::{secret_algorithm, token_label};
use crate::vault::keyring::{
    DEVICE_CA, Identity, VAULT_AGREE, VAULT_SIGN, VAULT_TRANSPORT, device_ca_label,
};
use crate::vault::reading::{Reading, verify};

/// What `site doctor` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Check this key store alone, before there is a home
    #[arg(long, value_name = "URI")]
    keys: Option<UnparsedKeyUri>,
    /// Try a medium as well: it is written, read back and left as it was
    #[arg(long, value_name = "DIR")]
    media: Option<PathBuf>,
}

/// The code of a mechanism that the way to a token does not offer.
const MECHANISM_MISSING: &str = "MECHANISM-MISSING";

/// Tries everything, and goes on where something fails.
pub(crate) fn execute(
    arguments: &Arguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit> {
    let mut checks = vec![places::process()];
    if let Some(medium) = &arguments.media {
        checks.extend(places::medium(medium));
    }
    match &arguments.keys {
        Some(uri) => {
            checks.push(places::clock(now().clock, None));
            keys(&uri.parse()?, None, &mut checks, console);
        }
        None => {
            let (home, exposed) = Home::inspect(home)?;
            if let Err(error) = home.expect_newest() {
                checks.push(bad("newest copy", &error));
            }
            checks.push(match exposed {
                Some(error) => bad("home", &error),
                None => good(
                    "home",
                    format!("{} is this user's alone", home.path().display()),
                ),
            });
            checks.push(places::rights(home.path()));
            checks.push(places::space(home.path()));
            checks.push(places::sync(home.path()));
            let uri = home.config().keys.clone();
            let reading = Reading::over(home, console);
            let identity = reading
                .as_ref()
                .ok()
                .map(|reading| reading.facts().identity.clone());
            match &reading {
                Ok(reading) => record(reading, &mut checks, console),
                Err(error) => checks.push(bad("log", error)),
            }
            let store = keys(&uri, identity.as_ref(), &mut checks, console);
            if let (Some(store), Ok(reading)) = (store, &reading) {
                granted(&*store, reading.state(), &mut checks);
                checks.push(anchor::anchor(reading, &*store));
            }
        }
    }
    Ok(console.checks(&checks)?)
}

/// The log, the trust in it, and the clock beside it.
fn record(reading: &Reading, checks: &mut Vec<Check>, console: &Console) {
    let (state, clocks) = (reading.state(), now());
    let now = clocks.clock;
    let size = state.size();
    checks.push(match verify(reading.view(), console) {
        Ok(()) => good(
            "log",
            format!("{size} records, all read, and what stands beside it agrees with it"),
        ),
        Err(error) => bad("log", &error),
    });
    checks.push(outbox::outbox(reading));
    let manifest = reading.facts().trust.newest().content();
    let until = rfc3339(manifest.expires_at);
    checks.push(if manifest.in_force(now).is_ok() {
        good(
            "trust",
            format!("manifest {} is in force until {until}", manifest.version),
        )
    } else {
        let message = format!("manifest {} expired at {until}", manifest.version);
        let error = Error::environment("TRUST-EXPIRED", message);
        bad(
            "trust",
            &error.hint("import the newest trust manifest from headquarters"),
        )
    });
    checks.push(match Disbelief::of(state, clocks) {
        Some(Disbelief {
            code,
            message,
            advice,
            ..
        }) => {
            let message = format!("{message}: nothing is issued");
            bad("clock", &Error::environment(code, message).hint(advice))
        }
        None => good("clock", format!("{}, and it is believed", rfc3339(now))),
    });
    checks.push(match clocks.steady {
        Some(steady) => good(
            "boot clock",
            format!("{} seconds since the machine booted", steady.seconds),
        ),
        None => {
            let message = "this machine does not say how long it has been running: the clock is only compared with the log";
            let error = Error::environment("BOOT-CLOCK-UNREADABLE", message)
                .hint("make /proc/uptime and /proc/sys/kernel/random/boot_id readable");
            Check::warning(bad("boot clock", &error))
        }
    });
    let open = completable(state);
    if open > 0 {
        let message = format!("{open} units are reserved and have no certificate");
        let error = Error::environment("RESERVATIONS-OPEN", message);
        checks.push(bad("reservations", &error.hint("run `site recover`")));
    }
}

/// The module, the token, what it can do, and the vault's keys in it.
fn keys(
    uri: &KeyUri,
    identity: Option<&Identity>,
    checks: &mut Vec<Check>,
    console: &Console,
) -> Option<Arc<dyn KeyStore>> {
    let found = examine(uri, &|question| console.secret(question));
    for finding in found.findings {
        checks.push(match finding.outcome {
            Ok(found) => good(&finding.check, found),
            Err(trouble) if trouble.code == MECHANISM_MISSING => {
                lacking(&finding.check, identity.is_some(), Error::of_store(trouble))
            }
            Err(trouble) if trouble.works => {
                bad(&finding.check, &Error::of_store(trouble)).warning()
            }
            Err(trouble) => bad(&finding.check, &Error::of_store(trouble)),
        });
    }
    let store = found.store?;
    for (label, purpose, expected) in [
        (
            VAULT_SIGN,
            Purpose::Sign,
            identity.map(|identity| &identity.sign),
        ),
        (
            VAULT_AGREE,
            Purpose::Agree,
            identity.map(|identity| &identity.agree),
        ),
        (
            DEVICE_CA,
            Purpose::Sign,
            identity.map(|identity| &identity.device_ca),
        ),
    ] {
        checks.push(key(&*store, label, purpose, expected));
    }
    checks.push(transport(&*store, identity));
    Some(store)
}

/// The key that others are unwrapped with.
fn transport(store: &dyn KeyStore, identity: Option<&Identity>) -> Check {
    let expected = identity.map(|identity| identity.transport.as_ref());
    match (store.transport(VAULT_TRANSPORT), expected) {
        (Err(error), _) => bad(VAULT_TRANSPORT, &error.into()),
        (Ok(None), None) => good(
            VAULT_TRANSPORT,
            "not there; `site init` makes it where the token unwraps keys",
        ),
        (Ok(None), Some(None)) => good(
            VAULT_TRANSPORT,
            "not there: keys pass through this machine's memory, where their terms allow that",
        ),
        (Ok(None), Some(Some(_))) => {
            let error = Error::environment("KEY-MISSING", "the key is not there");
            bad(
                VAULT_TRANSPORT,
                &error.hint("put the vault's own token back"),
            )
        }
        (Ok(Some(_)), None | Some(None)) => good(
            VAULT_TRANSPORT,
            "there, and it unwraps keys inside the token",
        ),
        (Ok(Some(found)), Some(Some(expected))) if found.n == expected.modulus => good(
            VAULT_TRANSPORT,
            "there, the vault's own, and it unwraps keys inside the token",
        ),
        (Ok(Some(_)), Some(Some(_))) => {
            let message = "the key is not the one that this vault was made with";
            let error = Error::integrity("VAULT-KEY-CHANGED", message);
            bad(
                VAULT_TRANSPORT,
                &error.hint("put the vault's own token back"),
            )
        }
    }
}

/// What came after enrolment: the keys of later device CAs, and those that entitlements brought.
fn granted(store: &dyn KeyStore, state: &State, checks: &mut Vec<Check>) {
    for ca in state.device_cas().iter().skip(1) {
        let label = device_ca_label(ca.generation);
        checks.push(match Issuer::from_certificate_der(&ca.certificate) {
            Ok(issuer) => key(store, &label, Purpose::Sign, Some(issuer.public_key())),
            Err(error) => bad(&label, &error.into()),
        });
    }
    let now = state.time_at(now());
    let mut seen = BTreeSet::new();
    for key in state.keys().filter(|key| key.is_in_force(now)) {
        if !seen.insert(&key.terms.label) {
            continue;
        }
        let label = token_label(&key.terms.label);
        let found = store.find_secret(&label, secret_algorithm(key.terms.algorithm));
        checks.push(match (found, key.is_received()) {
            (Err(error), _) => bad(&label, &error.into()),
            (Ok(true), _) => good(&label, "there, sensitive and not extractable"),
            (Ok(false), received) => {
                let message = match key.outcome {
                    _ if received => {
                        "the log says that the token took it, and it is not there".to_owned()
                    }
                    Some(KeyOutcome::Refused { code }) => {
                        format!("the token did not take it ({code})")
                    }
                    _ => "not in the token yet".to_owned(),
                };
                let error = Error::environment("KEY-NOT-RECEIVED", message);
                bad(
                    &label,
                    &error.hint("run `site recover`, which takes it in or says why not"),
                )
            }
        });
    }
}

fn key(store: &dyn KeyStore, label: &str, purpose: Purpose, expected: Option<&PublicKey>) -> Check {
    match (store.find(label, purpose), expected) {
        (Err(error @ mintmark_keys::Error::MechanismMissing { .. }), _) => {
            lacking(label, expected.is_some(), error.into())
        }
        (Err(error), _) => bad(label, &error.into()),
        (Ok(None), None) => good(label, "not there; `site init` makes it"),
        (Ok(None), Some(_)) => {
            let error = Error::environment("KEY-MISSING", "the key is not there");
            bad(label, &error.hint("put the vault's own token back"))
        }
        (Ok(Some(_)), None) => good(label, "there, with the attributes that it must have"),
        (Ok(Some(found)), Some(expected)) if found == *expected => good(
            label,
            "there, with the attributes that it must have, and the vault's own",
        ),
        (Ok(Some(_)), Some(_)) => {
            let message = "the key is not the one that this vault was made with";
            let error = Error::integrity("VAULT-KEY-CHANGED", message);
            bad(label, &error.hint("put the vault's own token back"))
        }
    }
}

/// The way to the token lacks what it takes to be made a vault, and to import; a vault does the rest all the same.
fn lacking(check: &str, is_vault: bool, error: Error) -> Check {
    let error = error.hint(
        "`site init` and `site media import` need it: run them where the token is, through its own module; issuing, serving \
         and exporting work without it once such a command has run there",
    );
    match is_vault {
        true => bad(check, &error).warning(),
        false => bad(check, &error),
    }
}

fn good(check: &str, message: impl Into<String>) -> Check {
    Check::good(check, message)
}

fn bad(check: &str, error: &Error) -> Check {
    Check::bad(check, error.failure())
}
