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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mintmark_keys::Signer;
use mintmark_ledger::decide::{Input, Reservation, Submitted};
use mintmark_ledger::entry::{LogSequence, Reserved};
use mintmark_ledger::ledger::{DeviceHistory, Ledger, Outcome, Unfinished};
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::serial::{Serial, serial_of};
use mintmark_ledger::state::{DeviceCa, State};
use mintmark_pki::Certificate;
use mintmark_protocol::identifier::{
    DeviceId, EntitlementId, Fingerprint, KeyLabel, Sku, StationId,
};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::device_secret::{SecretDue, SecretsDue};
use super::key_set::Telling;
use super::line::Asker;
use super::meter::Meters;
use super::{Vault, not_enrolled};
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::submission::Submission;

/// Certificates, DER, by reservation.
type Certificates = BTreeMap<LogSequence, Vec<u8>>;

/// A certificate whose record is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    /// The unit.
    pub(crate) unit: Unit,
    /// The certificate, DER.
    pub(crate) der: Vec<u8>,
    /// The device CA that certified it.
    pub(crate) device_ca: u16,
    /// The secrets that go with it.
    pub(crate) secrets: Vec<SecretDue>,
    /// The keys that it once got a secret from and gets none from any more, and the code that says why.
    pub(crate) keys_over: BTreeMap<KeyLabel, &'static str>,
    /// The certificates that it takes the place of: of the same unit, for the same key, or for one that a rework gave up.
    pub(crate) earlier: Vec<EarlierIssue>,
}

/// A certificate that a re-issue took the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EarlierIssue {
    /// Its issue number.
    pub(crate) issue: u16,
    /// The certificate, DER.
    pub(crate) der: Vec<u8>,
    /// The device CA that certified it.
    pub(crate) device_ca: u16,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub(crate) spki_sha256: Fingerprint,
}

/// A spent unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The device.
    pub(crate) device_id: DeviceId,
    /// The entitlement that it is spent from.
    pub(crate) entitlement: EntitlementId,
    /// Its slot.
    pub(crate) slot: u64,
    /// The serial number of its certificate.
    pub(crate) serial: Option<Serial>,
}

impl From<&Reserved> for Unit {
    fn from(reserved: &Reserved) -> Self {
        Self {
            device_id: reserved.device_id.clone(),
            entitlement: reserved.entitlement.clone(),
            slot: reserved.slot,
            serial: serial_of(&reserved.tbs),
        }
    }
}

/// What came of one request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A unit was spent on it.
    Issued(Issued),
    /// It was answered before, by this certificate.
    Existing(Issued),
    /// No unit was spent.
    Refused(Refusal),
    /// A unit is spent and could not be signed for yet.
    Open,
}

/// What is to be signed, and the key of the device CA that signs it.
type Signable<P> = (P, Arc<dyn Signer>);

/// What came of signing what is pinned.
#[derive(Debug)]
pub(crate) struct Completion {
    /// How many are complete.
    pub(crate) completed: usize,
    /// Why others are not; they stay reserved.
    pub(crate) failed: Option<Error>,
}

/// A spent unit that waits for its signature.
trait Pinned: Sync {
    fn sequence(&self) -> LogSequence;
    fn tbs(&self) -> &[u8];
    fn record(self, ledger: &mut Ledger, signature: [u8; 64]) -> Result<()>;
}

impl Pinned for Reservation {
    fn sequence(&self) -> LogSequence {
        self.sequence()
    }

    fn tbs(&self) -> &[u8] {
        self.tbs()
    }

    fn record(self, ledger: &mut Ledger, signature: [u8; 64]) -> Result<()> {
        ledger.signed(now(), self, signature)?;
        Ok(())
    }
}

impl Pinned for Unfinished {
    fn sequence(&self) -> LogSequence {
        self.reservation
    }

    fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    fn record(self, ledger: &mut Ledger, signature: [u8; 64]) -> Result<()> {
        ledger.signed_unfinished(now(), self.reservation, signature)?;
        Ok(())
    }
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

    /// The answers to a batch whose records are durable, each in its place.
    ///
    /// # Errors
    /// What keeps earlier answers from being found.
    pub(super) fn answers<'s>(
        &self,
        signing: Signing,
        submissions: impl Iterator<Item = &'s Submission>,
    ) -> Result<Vec<Answer>> {
        let Signing { product, pending } = signing;
        let answer = |(pending, submission): (Pending, &Submission)| {
            Ok(match pending {
                Pending::Refused(refusal) => Answer::Refused(refusal),
                Pending::Reserved(_) => Answer::Open,
                Pending::New(new) => self.answer(&product, submission, *new)?,
                Pending::Existing(sequence) => {
                    match self.existing(&product, submission, sequence)? {
                        Some(Earlier::Issued(issued)) => Answer::Existing(*issued),
                        Some(Earlier::Pruned(refusal)) => Answer::Refused(refusal),
                        None => self
                            .state()
                            .withheld(sequence)
                            .map_or(Answer::Open, Answer::Refused),
                    }
                }
            })
        };
        pending.into_iter().zip(submissions).map(answer).collect()
    }

    fn answer(&self, product: &Sku, submission: &Submission, new: New) -> Result<Answer> {
        let Some(der) = new.der else {
            return Ok(Answer::Open);
        };
        let mut issued = Issued {
            unit: new.unit,
            der,
            device_ca: self.device_ca_of(new.sequence)?.generation,
            secrets: Vec::new(),
            keys_over: BTreeMap::new(),
            earlier: Vec::new(),
        };
        match new.secrets {
            Some(secrets) => issued.secrets = secrets,
            None => {
                let device_id = &issued.unit.device_id;
                let history = self.ledger.device(Some(product), device_id)?;
                let SecretsDue { due, over } = self.secrets_due(&history, submission);
                (issued.secrets, issued.keys_over) = (due, over);
                issued.earlier = self.earlier(&history, new.sequence)?;
            }
        }
        Ok(Answer::Issued(issued))
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

    /// Finds the key of the device CA that certifies each: the one that was in force when it was reserved. Gives those
    /// that have one, and why others have none.
    fn with_signers<P: Pinned>(&self, pinned: Vec<P>) -> (Vec<Signable<P>>, Option<Error>) {
        let mut known: BTreeMap<u16, Option<Arc<dyn Signer>>> = BTreeMap::new();
        let mut failed = None;
        let mut ready = Vec::with_capacity(pinned.len());
        for pinned in pinned {
            let found = self.device_ca_of(pinned.sequence()).map(|ca| ca.generation);
            let generation = match found {
                Ok(generation) => generation,
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            let signer = known.entry(generation).or_insert_with(|| {
                let opened = self.signer_of(generation);
                opened.map_err(|error| failed.get_or_insert(error)).ok()
            });
            if let Some(signer) = signer {
                ready.push((pinned, Arc::clone(signer)));
            }
        }
        (ready, failed)
    }

    fn signer_of(&self, generation: u16) -> Result<Arc<dyn Signer>> {
        let issuer = self.issuer(generation)?;
        self.keyring()?.device_ca(generation, issuer.public_key())
    }

    fn device_ca_of(&self, reservation: LogSequence) -> Result<&DeviceCa> {
        self.state()
            .device_ca_of(reservation)
            .ok_or_else(not_enrolled)
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

    /// The certificates that the one of this reservation took the place of.
    fn earlier(
        &self,
        history: &[DeviceHistory],
        reservation: LogSequence,
    ) -> Result<Vec<EarlierIssue>> {
        let Some(newest) = history.iter().find(|at| at.reservation == reservation) else {
            return Ok(Vec::new());
        };
        let unit = |of: &DeviceHistory| (of.account, of.slot);
        let before = history
            .iter()
            .filter(|other| unit(other) == unit(newest) && other.issue < newest.issue);
        before
            .filter_map(|before| {
                let der = before.certificate.clone()?;
                let device_ca = self.device_ca_of(before.reservation);
                Some(device_ca.map(|device_ca| EarlierIssue {
                    issue: before.issue,
                    der,
                    device_ca: device_ca.generation,
                    spki_sha256: before.spki_sha256,
                }))
            })
            .collect()
    }

    /// What a request was answered with before, from its records; none while its reservation is open.
    fn existing(
        &self,
        product: &Sku,
        submission: &Submission,
        reservation: LogSequence,
    ) -> Result<Option<Earlier>> {
        let Submission::Verified(csr) = submission else {
            return Ok(None);
        };
        // The entitlement says which of the two it goes by.
        let names = [csr.subject_serial_number(), csr.common_name()];
        for device_id in names
            .into_iter()
            .flatten()
            .filter_map(|name| name.parse().ok())
        {
            let history = self.ledger.device(Some(product), &device_id)?;
            let earlier = self.earlier(&history, reservation)?;
            let SecretsDue { due, over } = self.secrets_due(&history, submission);
            let issue = history
                .into_iter()
                .find(|issue| issue.reservation == reservation);
            if let Some(DeviceHistory {
                device_id,
                entitlement,
                slot,
                serial,
                certificate,
                pruned,
                ..
            }) = issue
            {
                if pruned {
                    return Ok(Some(Earlier::Pruned(Refusal::CertificatePruned {
                        sku: product.clone(),
                        device_id,
                        serial: serial.map(hex::encode).unwrap_or_default(),
                    })));
                }
                let unit = Unit {
                    device_id,
                    entitlement,
                    slot,
                    serial,
                };
                let Some(der) = certificate else {
                    return Ok(None);
                };
                return Ok(Some(Earlier::Issued(Box::new(Issued {
                    unit,
                    der,
                    device_ca: self.device_ca_of(reservation)?.generation,
                    secrets: due,
                    keys_over: over,
                    earlier,
                }))));
            }
        }
        Err(Error::integrity(
            "LOG-RECORD-UNREADABLE",
            "the records of an earlier answer are not found",
        )
        .hint("run `site audit verify`"))
    }
}

/// What a request was answered with before.
enum Earlier {
    Issued(Box<Issued>),
    /// Its certificate was pruned.
    Pruned(Refusal),
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

/// A reservation that is durable, and the key that is to sign what it pins. Any thread may do that.
pub(super) struct SigningJob {
    reservation: Reservation,
    signer: Arc<dyn Signer>,
    meters: Arc<Meters>,
}

/// What came of it.
pub(super) struct Signature {
    reservation: Reservation,
    /// The signature, and the certificate, DER.
    outcome: Result<(p256::ecdsa::Signature, Vec<u8>)>,
}

impl SigningJob {
    /// Has the token sign. It verifies each signature before it gives it.
    pub(super) fn sign(self) -> Signature {
        let Self {
            reservation,
            signer,
            meters,
        } = self;
        let signed = || {
            let begin = Instant::now();
            let signature = signer.sign(reservation.tbs());
            meters.signed(begin.elapsed(), signature.is_ok());
            let signature = signature?;
            Ok((
                signature,
                mintmark_pki::assemble(reservation.tbs(), &signature)?,
            ))
        };
        let outcome = signed();
        Signature {
            reservation,
            outcome,
        }
    }
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
