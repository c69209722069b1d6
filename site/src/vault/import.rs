//! What is carried here from HQ: verified, kept as it was received, decided on, and only then in force.

use mintmark_console::files::{self, Folder};
use mintmark_console::time::rfc3339;
use mintmark_ledger::decide::{Input, grant_outlived};
use mintmark_ledger::entry::Trust;
use mintmark_ledger::ledger::{Fact, Outcome};
use mintmark_protocol::dispatch::{DISPATCH_BYTES_MAX, Dispatch};
use mintmark_protocol::envelope::{self, Kind};
use mintmark_protocol::trust::{TRUST_BYTES_MAX, TrustManifest};

use super::dispatch::{self, Judge, Place};
use super::trust::{self, Standing};
use super::{Vault, rolled_back};
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::home::{RECEIVED, TRUST};

/// What came of one file.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// It is in force.
    Imported,
    /// It was imported before.
    Already,
    /// It is of an epoch that is over, and cannot be followed any more: HQ sent again what it carried.
    Over(Error),
    /// It cannot be judged yet, and nothing was changed.
    Held(Error),
    /// It has no effect.
    Refused(Error),
}

/// One file, and what came of it.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// What it is, as far as could be told.
    pub(crate) kind: String,
    /// Its id, as far as could be told.
    pub(crate) id: String,
    /// What came of it.
    pub(crate) arrival: Arrival,
}

/// Whether files are imported, or it is only said what would come of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// For good.
    Import,
    /// Nothing is written; the vault must not be used for anything else afterwards.
    Rehearse,
}

impl Arrival {
    /// A verdict on the file, sorted by whether it can change.
    pub(super) fn of(error: Error) -> Self {
        match error.exit() {
            _ if error.code() == dispatch::EPOCH_OVER => Self::Over(error),
            mintmark_console::Exit::Environment => Self::Held(error),
            _ => Self::Refused(error.of_a_file()),
        }
    }
}

impl Vault<'_> {
    /// Imports a trust manifest. The one `before` it is that of the medium, if there is one.
    ///
    /// # Errors
    /// What keeps any file from being imported. A verdict on this one is an arrival.
    pub(crate) fn import_trust(
        &mut self,
        bytes: &[u8],
        before: Option<&[u8]>,
        effort: Effort,
    ) -> Result<Incoming> {
        let claim = envelope::claim(bytes, TRUST_BYTES_MAX);
        let id = claim.map(|claim| claim.context.id).unwrap_or_default();
        let incoming = |arrival| Incoming {
            kind: Kind::TrustManifest.to_string(),
            id,
            arrival,
        };
        let next = match self.trust.judge(bytes, before) {
            Ok(Standing::Known) => return Ok(incoming(Arrival::Already)),
            Ok(Standing::Next(next)) => next,
            Err(error) => return Ok(incoming(Arrival::of(error))),
        };
        let point = trust::point(&next);
        if effort == Effort::Import {
            trust::keep(&self.home.folder(TRUST)?, point.version, bytes)?;
        }
        let fact = Trust {
            version: point.version,
            fingerprint: point.fingerprint,
            dispatch_epoch: next.content().dispatch_epoch,
        };
        self.ledger.record(now(), Fact::Trust(fact))?;
        if effort == Effort::Import {
            self.ledger.commit()?;
        }
        self.trust.push(*next);
        Ok(incoming(Arrival::Imported))
    }

    /// Imports a dispatch.
    ///
    /// # Errors
    /// What keeps any file from being imported: the token, the disk. A verdict on this one is an arrival.
    pub(crate) fn import_dispatch(&mut self, bytes: &[u8], effort: Effort) -> Result<Incoming> {
        let mut incoming = Incoming {
            kind: Kind::Dispatch.to_string(),
            id: String::new(),
            arrival: Arrival::Already,
        };
        match envelope::claim(bytes, DISPATCH_BYTES_MAX) {
            Ok(claim) => incoming.id = claim.context.id,
            Err(error) => {
                incoming.arrival = Arrival::of(error.into());
                return Ok(incoming);
            }
        }
        let received = self.home.folder(RECEIVED)?;
        let manifest = self.trust.newest();
        let opened = Dispatch::open(bytes, manifest, &self.name);
        if let Ok(dispatch) = &opened {
            incoming.kind = dispatch.content().kind.to_string();
            incoming.id = dispatch.content().id.clone();
        }
        // What the home holds byte for byte was verified when it came, by a manifest that was in force then.
        if self.is_held(&received, bytes) {
            return Ok(incoming);
        }
        // By the clock, not by the newest time of the log: the correction of a time that ran ahead must find its way in,
        // and so must what was sent before it.
        let in_force = in_force(manifest.content(), now().clock);
        let dispatch = match (opened, in_force) {
            (Err(error), _) => {
                incoming.arrival = Arrival::of(self.of_another_epoch(bytes, error));
                return Ok(incoming);
            }
            (Ok(_), Err(error)) => {
                incoming.arrival = Arrival::Held(error);
                return Ok(incoming);
            }
            (Ok(dispatch), Ok(())) => dispatch,
        };
        let epoch_first = manifest.content().dispatch_epoch;
        let place = dispatch::place(self.state(), epoch_first, &dispatch);
        let arrival = match place {
            Ok(Place::Already) => return Ok(incoming),
            Ok(Place::Next) => None,
            Err(error) => Some(Arrival::of(error)),
        };
        // Also of one that came too early: HQ does not send again what the newest copy has seen, so an older one may
        // never get the dispatch that it waits for.
        if !matches!(arrival, Some(Arrival::Refused(_) | Arrival::Over(_)))
            && let Some(seen) = &dispatch.content().bundle_seen
            && let Err(error) = rolled_back::expect_sealed(self.state(), seen)
        {
            return self.stop_here(incoming, error, bytes, effort);
        }
        if let Some(arrival) = arrival {
            incoming.arrival = arrival;
            return Ok(incoming);
        }
        let roots = self.trust.roots()?;
        let serials = match dispatch.content().kind {
            Kind::Revocation => self.serials()?,
            _ => None,
        };
        let verified = self.keyring()?.with_opener(|opener| {
            let (vault, identity) = (&self.name, &self.identity);
            Judge {
                manifest,
                roots: &roots,
                vault,
                identity,
                serials,
                opener,
            }
            .verify(&dispatch)
        });
        let input = match verified {
            Ok(input) => input,
            // This program is too old for it; a newer one will not be.
            Err(error) if error.code() == "MESSAGE-VERSION" => {
                incoming.arrival = Arrival::Held(error);
                return Ok(incoming);
            }
            Err(error) => return Err(error),
        };
        if let Some(seen) = rolled_back::acknowledged(&input.content, &self.name)
            && let Err(error) = rolled_back::expect_sealed(self.state(), &seen)
        {
            return self.stop_here(incoming, error, bytes, effort);
        }
        let reading = now();
        if let Some(until) = grant_outlived(self.state(), reading.clock, &input) {
            incoming.arrival = Arrival::Held(overdue(reading.clock, until));
            return Ok(incoming);
        }
        if effort == Effort::Import
            && let Err(fork) = keep(&received, &dispatch.content().object_id(), bytes)?
        {
            incoming.arrival = Arrival::Refused(fork);
            return Ok(incoming);
        }
        let outcome = self.ledger.submit(None, reading, Input::Dispatch(&input))?;
        if effort == Effort::Import {
            self.ledger.commit()?;
            // Where officers vouched for the log, before anything else comes.
            self.reanchor()?;
        }
        incoming.arrival = match outcome {
            Outcome::Refused(refusal) => Arrival::Refused(refusal.into()),
            Outcome::Accepted
            | Outcome::Existing { .. }
            | Outcome::Reserved(_)
            | Outcome::DeviceChanged(_) => Arrival::Imported,
        };
        Ok(incoming)
    }

    /// Why a dispatch that the newest manifest's key did not sign is not followed: another manifest's key may have.
    fn of_another_epoch(&self, bytes: &[u8], error: mintmark_protocol::Error) -> Error {
        let newest = self.trust.newest().content();
        let before = self.trust.manifests().rev();
        let signed = |manifest| Dispatch::open(bytes, manifest, &self.name).ok();
        if let Some(dispatch) = before.into_iter().find_map(signed) {
            let dispatch = dispatch.content();
            if dispatch.epoch < newest.dispatch_epoch {
                let name = dispatch.object_id();
                return dispatch::epoch_over(&name, dispatch.epoch, newest.dispatch_epoch);
            }
        }
        error.into()
    }

    /// HQ has seen what this home does not hold: the dispatch is kept as the evidence, and is not followed.
    fn stop_here(
        &self,
        mut incoming: Incoming,
        error: Error,
        bytes: &[u8],
        effort: Effort,
    ) -> Result<Incoming> {
        if effort == Effort::Import {
            rolled_back::keep(&self.home, bytes)?;
        }
        incoming.arrival = Arrival::Refused(error);
        Ok(incoming)
    }

    /// Whether the home holds this very file as a dispatch that was followed.
    fn is_held(&self, received: &Folder, bytes: &[u8]) -> bool {
        let Ok(claim) = envelope::claim(bytes, DISPATCH_BYTES_MAX) else {
            return false;
        };
        let mut followed = self.state().dispatches().seen.values();
        followed.any(|seen| *seen == claim.fingerprint)
            && received
                .read_limited(file_name(&claim.context.id), DISPATCH_BYTES_MAX as u64)
                .is_ok_and(|held| held == bytes)
    }
}

/// Keeps a dispatch as it was received, before the log names it. The inner error is the verdict that another authentic
/// one of the same place was kept before.
fn keep(received: &Folder, id: &str, bytes: &[u8]) -> Result<std::result::Result<(), Error>> {
    let name = file_name(id);
    match received.write_new(&name, bytes) {
        Ok(()) => Ok(Ok(())),
        Err(error) if error.kind() == files::Kind::Exists => {
            // An import was interrupted between keeping it and the log's naming it.
            let held = received.read_limited(&name, DISPATCH_BYTES_MAX as u64)?;
            let fingerprint = |bytes: &[u8]| {
                envelope::claim(bytes, DISPATCH_BYTES_MAX)
                    .ok()
                    .map(|claim| claim.fingerprint)
            };
            let same = held == bytes || fingerprint(&held) == fingerprint(bytes);
            Ok(if same {
                Ok(())
            } else {
                Err(dispatch::fork(id))
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// The name of a dispatch in the home: without the folder that it has on media.
fn file_name(id: &str) -> String {
    format!("{id}.cose")
}

/// Refuses a manifest that is over by the clock.
///
/// # Errors
/// TRUST-EXPIRED.
pub(super) fn in_force(manifest: &TrustManifest, clock: u64) -> Result<()> {
    if manifest.in_force(clock).is_ok() {
        return Ok(());
    }
    let message = format!(
        "the newest trust manifest of this vault, version {}, expired at {}, and this machine's clock says {}",
        manifest.version,
        rfc3339(manifest.expires_at),
        rfc3339(clock)
    );
    Err(Error::environment("TRUST-EXPIRED", message).hint(
        "import the newest trust manifest from headquarters, then this again; if it is the clock that is wrong, set it right",
    ))
}

fn overdue(clock: u64, until: u64) -> Error {
    Error::environment(
        "GRANT-OVERDUE",
        format!(
            "this machine's clock says {}, and the grant that lets this vault in had to be imported before {}; nothing was changed",
            rfc3339(clock),
            rfc3339(until)
        ),
    )
    .hint(
        "set the clock right and import this again; if the clock is right, tell headquarters that the grant came too late",
    )
}
