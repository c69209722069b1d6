//! The one place that orders the effects of issuing:
//!
//! 1. decide, and reserve a unit for each request that the ledger allows;
//! 2. make that durable: from here on the unit is spent, on exactly the certificate that the reservation pins;
//! 3. sign what is pinned, in parallel; the key store verifies each signature before it returns it;
//! 4. record the signatures, and make that durable;
//! 5. where no lease covers the units, write the next anchor into the token, beside 3 and 4: only after both may anybody see
//!    a certificate.
//!
//! What is interrupted after 2 is completed by the same steps 3 and 4, here, before anything else is done: it gives the
//! same certificates for the same units.

mod answer;
mod signing;

use std::collections::BTreeMap;
use std::sync::Arc;

use mintmark_ledger::decide::{Input, Reservation, Submitted};
use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::ledger::{Outcome, Unfinished};
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::state::State;
use mintmark_pki::Certificate;
use mintmark_protocol::identifier::{Sku, StationId};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

pub(crate) use self::answer::{Answer, Issued, Unit};
use self::signing::Pinned;
pub(super) use self::signing::{Signature, SigningJob};
use super::Vault;
use super::device_secret::SecretDue;
use super::key_set::Telling;
use super::line::Asker;
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::submission::Submission;

/// Certificates, DER, by reservation.
type Certificates = BTreeMap<LogSequence, Vec<u8>>;

/// What came of signing what is pinned.
#[derive(Debug)]
pub(crate) struct Completion {
    /// How many are complete.
    pub(crate) completed: usize,
    /// Why others are not; they stay reserved.
    pub(crate) failed: Option<Error>,
}

/// How many reservations are signed and recorded together.
pub(crate) const GROUP_MAX: usize = 512;

/// A batch that is decided, and perhaps not durable yet.
pub(super) struct Reserving {
    product: Sku,
    pending: Vec<Pending>,
}

/// A batch whose reservations are durable.
pub(super) struct Signing {
    product: Sku,
    pending: Vec<Pending>,
}

enum Pending {
    /// Before it is durable.
    Reserved(Box<Reservation>),
    /// Afterwards.
    New(Box<New>),
    Existing(LogSequence),
    Refused(Refusal),
}

/// A unit that was spent on a request.
struct New {
    sequence: LogSequence,
    unit: Unit,
    /// The secrets that go with it; none of a re-issue, of which its history tells.
    secrets: Option<Vec<SecretDue>>,
    /// Its certificate, once there is one.
    der: Option<Vec<u8>>,
}

impl Vault<'_> {
    /// Completes what an interrupted process left reserved.
    ///
    /// # Errors
    /// What the token or the log failed with; what was completed before stays so.
    pub(crate) fn complete_unfinished(&mut self) -> Result<Completion> {
        let mut unfinished = self.ledger.unfinished();
        // What officers ended stays as it is: unresolved.
        unfinished.retain(|open| self.state().withheld(open.reservation).is_none());
        if unfinished.is_empty() {
            return Ok(Completion {
                completed: 0,
                failed: None,
            });
        }
        let count = unfinished.len();
        self.console
            .note(format!("completing {}", reservations(count)));
        let mut completion = Completion {
            completed: 0,
            failed: None,
        };
        let mut unfinished = unfinished.into_iter().peekable();
        while unfinished.peek().is_some() && completion.failed.is_none() {
            let group: Vec<Unfinished> = unfinished.by_ref().take(GROUP_MAX).collect();
            let (certificates, failed) = self.complete(group)?;
            completion.completed += certificates.len();
            completion.failed = failed;
        }
        Ok(completion)
    }

    /// Completes what is reserved, and stops if that is not possible: for commands that go on to other things.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.begin()?;
        if self.anchor_trouble().is_some() {
            // Nothing is released before officers vouch for the log.
            return Ok(());
        }
        let failed = match self.complete_unfinished() {
            Ok(completion) => completion.failed,
            Err(error) => Some(error),
        };
        match failed {
            Some(error) => Err(error.with_units_open(completable(self.state()))),
            None => self.tend_keys(Telling::News),
        }
    }

    /// Step 1: decides on requests, in their order, and stages what is decided.
    ///
    /// # Errors
    /// What keeps the ledger from deciding.
    pub(super) fn reserve<'s>(
        &mut self,
        asker: Asker<'_>,
        submissions: impl Iterator<Item = &'s Submission>,
    ) -> Result<Reserving> {
        let mut pending = Vec::new();
        for outcome in self.decide(asker, submissions)? {
            pending.push(match outcome {
                Outcome::Reserved(reservation) => Pending::Reserved(Box::new(reservation)),
                Outcome::Existing { reservation } => Pending::Existing(reservation),
                Outcome::Refused(refusal) => Pending::Refused(refusal),
                Outcome::Accepted | Outcome::DeviceChanged(_) => return Err(accepted_request()),
            });
        }
        Ok(Reserving {
            product: asker.product.clone(),
            pending,
        })
    }

    /// How many records are staged.
    pub(super) fn staged(&self) -> usize {
        self.ledger.staged()
    }

    /// Steps 2 and 4: what is staged becomes durable, reservations and signatures alike.
    ///
    /// # Errors
    /// As [`Ledger::commit`].
    pub(super) fn commit(&mut self) -> Result<()> {
        let staged = self.ledger.staged();
        self.ledger.commit()?;
        if staged > 0 {
            self.meters.groups.count(staged as u64);
        }
        Ok(())
    }

    /// Step 5, of what is reserved: a lease covers units, and no second certificate of one.
    pub(super) fn expose(&mut self, reserving: &Reserving) {
        let reissue = |pending: &Pending| match pending {
            Pending::Reserved(reservation) => reservation.reserved().issue > 0,
            _ => false,
        };
        if reserving.pending.iter().any(reissue) {
            self.anchor.expose();
        }
    }

    /// Step 3, once what is reserved is durable: what is to be signed, and with which key. Where a key is missing, the
    /// unit stays open, and why is said.
    pub(super) fn signing(
        &mut self,
        reserving: Reserving,
    ) -> (Signing, Vec<SigningJob>, Option<Error>) {
        let Reserving { product, pending } = reserving;
        let mut reserved = Vec::new();
        let pending = pending.into_iter().map(|pending| match pending {
            Pending::Reserved(reservation) => {
                let unit = Unit::from(reservation.reserved());
                // A re-issue that a device CA forced counts no use; its device gets what its key came with before.
                let secrets = match reservation.reserved().issue {
                    0 => Some(SecretDue::of(reservation.reserved())),
                    _ => None,
                };
                let sequence = reservation.sequence();
                reserved.push(*reservation);
                Pending::New(Box::new(New {
                    sequence,
                    unit,
                    secrets,
                    der: None,
                }))
            }
            other => other,
        });
        let pending = pending.collect();
        let (ready, failed) = match self.keyring() {
            _ if reserved.is_empty() => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(error)),
            Ok(_) => self.with_signers(reserved),
        };
        let jobs = ready.into_iter();
        let jobs = jobs.map(|(reservation, signer)| SigningJob {
            reservation,
            signer,
            meters: Arc::clone(&self.meters),
        });
        (Signing { product, pending }, jobs.collect(), failed)
    }

    /// Step 4: stages signatures that the key store has verified. Gives the first failure of the token, if any: what it
    /// concerns stays reserved.
    ///
    /// # Errors
    /// What the ledger failed with.
    pub(super) fn record(
        &mut self,
        signing: &mut Signing,
        signatures: Vec<Signature>,
    ) -> Result<Option<Error>> {
        let mut failed = None;
        let mut certificates = Certificates::new();
        for Signature {
            reservation,
            outcome,
        } in signatures
        {
            match outcome {
                Ok((signature, der)) => {
                    let sequence = reservation.sequence();
                    self.expect_issuer(sequence, &der)?;
                    reservation.record(&mut self.ledger, signature.to_bytes().into())?;
                    certificates.insert(sequence, der);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        for pending in &mut signing.pending {
            if let Pending::New(new) = pending {
                new.der = certificates.remove(&new.sequence);
            }
        }
        Ok(failed)
    }

    /// What would be decided. Nothing becomes durable; the vault must not be used for anything else afterwards.
    pub(crate) fn rehearse(
        &mut self,
        product: &Sku,
        submissions: &[&Submission],
    ) -> Result<Vec<Outcome>> {
        let station = &StationId::console();
        self.decide(Asker { station, product }, submissions.iter().copied())
    }

    /// Step 1.
    fn decide<'s>(
        &mut self,
        Asker { station, product }: Asker<'_>,
        submissions: impl Iterator<Item = &'s Submission>,
    ) -> Result<Vec<Outcome>> {
        self.serials()?;
        let mut outcomes = Vec::new();
        for submission in submissions {
            let submission = match submission {
                Submission::Verified(csr) => Submitted::Verified(csr),
                Submission::Unreadable { sha256, error } => Submitted::Unreadable {
                    sha256: *sha256,
                    code: error.code(),
                },
            };
            let input = Input::Request {
                product,
                station,
                submission,
            };
            outcomes.push(self.ledger.submit(self.serials.get(), now(), input)?);
        }
        Ok(outcomes)
    }

    /// Steps 3 and 4. Gives the certificates, and the first failure of the token, if any: what it concerns stays
    /// reserved, and what it does not is complete.
    fn complete<P: Pinned>(&mut self, pinned: Vec<P>) -> Result<(Certificates, Option<Error>)> {
        let mut certificates = Certificates::new();
        if pinned.is_empty() {
            return Ok((certificates, None));
        }
        if let Err(error) = self.keyring() {
            return Ok((certificates, Some(error)));
        }
        let (pinned, mut failed) = self.with_signers(pinned);
        let signatures: Vec<std::result::Result<_, mintmark_keys::Error>> = pinned
            .par_iter()
            .map(|(pinned, signer)| signer.sign(pinned.tbs()))
            .collect();
        for ((pinned, _), signature) in pinned.into_iter().zip(signatures) {
            match signature {
                Ok(signature) => {
                    let der = mintmark_pki::assemble(pinned.tbs(), &signature)?;
                    self.expect_issuer(pinned.sequence(), &der)?;
                    let sequence = pinned.sequence();
                    pinned.record(&mut self.ledger, signature.to_bytes().into())?;
                    certificates.insert(sequence, der);
                }
                Err(error) => {
                    failed.get_or_insert(Error::from(error));
                }
            }
        }
        self.ledger.commit()?;
        Ok((certificates, failed))
    }

    /// Where there were several device CAs: that the certificate names the one whose key signed it.
    fn expect_issuer(&self, reservation: LogSequence, der: &[u8]) -> Result<()> {
        if self.state().device_cas().len() < 2 {
            return Ok(());
        }
        let issuer = self.issuer(self.device_ca_of(reservation)?.generation)?;
        let certificate = Certificate::from_der(der)?;
        if certificate.authority_key_identifier() == Some(issuer.ski()) {
            return Ok(());
        }
        let message =
            "what was reserved names another device CA than the one that was in force then";
        Err(Error::integrity("RESERVATION-ISSUER", message)
            .hint("stop the line, keep a copy of the home, and tell headquarters"))
    }
}

/// A number of reservations, in words.
pub(crate) fn reservations(count: usize) -> String {
    match count {
        1 => "1 reservation that was interrupted".to_owned(),
        more => format!("{more} reservations that were interrupted"),
    }
}

/// How many units are reserved, not signed for, and may be.
pub(crate) fn completable(state: &State) -> usize {
    let open = state.reservations().keys();
    open.filter(|reservation| state.withheld(**reservation).is_none())
        .count()
}

fn accepted_request() -> Error {
    Error::unknown(
        "INTERNAL",
        "a request was answered as if it were a dispatch",
    )
}
