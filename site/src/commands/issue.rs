//! `site issue`: certificates for a file or a folder of certification requests.

mod sharing;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{self, Scope};

use mintmark_console::{Console, Exit, Stop, files};
use mintmark_ledger::ledger::Outcome;
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::state::State;
use mintmark_pki::to_pem;
use mintmark_protocol::identifier::{DeviceId, Sku, StationId};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use self::sharing::sharing_a_sync;
use super::tally::{Tally, serial};
use crate::delivery::{Consignment, Delivered, Output, Parcel, Superseded};
use crate::failure::{Error, Result};
use crate::place::{Place, Session};
use crate::submission::{Submission, Submissions};
use crate::vault::{
    Answer, Answered, Asker, BATCH_MAX, GROUP_MAX, INTERRUPTED, Inlet, Issued, Outlet, Promise,
    Requests, SealedSecret, Unit, Vault,
};

/// The most bytes of requests that a dry run decides on together, with what the ledger adds to each: it keeps them all
/// in memory.
const REHEARSAL_BYTES_MAX: usize = 12 << 20;
const REHEARSAL_OVERHEAD_BYTES: usize = 4096;

/// How many batches are written and wait for the sync that is under way.
const CONSIGNMENTS_MAX: usize = 64;

/// What `site issue` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The product
    #[arg(long, value_name = "SKU")]
    pub(crate) product: Sku,
    /// A certification request, or a folder of them; PEM or DER
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) csr: PathBuf,
    /// The folder that certificates are written to, as <stem>.pem and <stem>.chain.pem, and secrets for the devices, as
    /// <stem>.<key>.secret.cose; a certificate there that the new one takes the place of becomes <stem>.issue-<n>.pem
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Say what would be issued, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Issues.
pub(crate) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    place.home()?;
    let submissions = Submissions::find(&arguments.csr, console)?;
    let vault = place.open(console)?;
    execute_with(vault, arguments, &submissions, console)
}

/// Issues with a vault that is open, and closes it.
pub(crate) fn execute_with(
    mut vault: Session<'_>,
    arguments: &Arguments,
    submissions: &Submissions,
    console: &Console,
) -> Result<Exit> {
    let total = submissions.names().len();
    let other = vault.with(|vault| Ok(other_case(vault.state(), &arguments.product)))?;
    if let Some(other) = other {
        let product = &arguments.product;
        console.note(format!(
            "this vault knows no product {product}, and one that differs in upper and lower case: `--product {other}`"
        ));
    }
    let mut tally = Tally::new(&arguments.product, total, console);
    if arguments.dry_run {
        vault.rehearse(|vault| rehearse(vault, arguments, submissions, &mut tally))?;
    } else {
        vault.heed(|| Stop::listen().map_err(unheard))?;
        let issued = issue(&mut vault, arguments, submissions, &mut tally);
        // What could be done is done: it ends as cleanly as it can, whatever stopped the rest.
        let closed = vault.close();
        if let Err(error) = tally.judge(issued).and(closed) {
            let missing = [tally.unwritten(), tally.secrets_missing()];
            for missing in missing.into_iter().flatten() {
                console.report(missing.failure());
            }
            return Err(error);
        }
    }
    tally.finish(arguments.dry_run);
    match (tally.unwritten(), tally.secrets_missing()) {
        (None, None) => Ok(tally.exit()),
        (Some(error), None) | (None, Some(error)) => Err(error),
        (Some(unwritten), Some(missing)) => {
            console.report(missing.failure());
            Err(unwritten)
        }
    }
}

/// The product of an entitlement that is called so but for upper and lower case; none if one has the very name.
fn other_case(state: &State, product: &Sku) -> Option<Sku> {
    let entitlements = state.entitlements().values();
    let skus = entitlements.flat_map(|granted| granted.terms.products.iter().map(|of| &of.sku));
    let skus: Vec<&Sku> = skus.collect();
    if skus.contains(&product) {
        return None;
    }
    let is_it = |sku: &&&Sku| sku.as_str().eq_ignore_ascii_case(product.as_str());
    skus.iter().find(is_it).map(|sku| (*sku).clone())
}

pub(crate) fn unheard(error: io::Error) -> Error {
    let message = "signals that ask this command to stop cannot be listened to";
    Error::environment("SIGNALS-UNAVAILABLE", message)
        .cause(error)
        .hint("nothing was changed; report this with the system's name and version")
}

/// Answers what was submitted, with a vault that stays open.
#[cfg(feature = "bench")]
pub(crate) fn answer(
    vault: &mut Session<'_>,
    arguments: &Arguments,
    submissions: &Submissions,
    console: &Console,
) -> Result<()> {
    let mut tally = Tally::new(&arguments.product, submissions.names().len(), console);
    issue(vault, arguments, submissions, &mut tally)
}

fn issue(
    vault: &mut Session<'_>,
    arguments: &Arguments,
    submissions: &Submissions,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let (enrolled, issuers) = vault.with(|vault| {
        vault.settle()?;
        Ok((vault.state().is_enrolled(), issuers(vault)?))
    })?;
    // Before enrolment there is nothing to write, and every request is refused by the ledger.
    let output = match enrolled {
        true => Some(Output::open(&arguments.output)?),
        false => None,
    };
    let failed = thread::scope(|threads| {
        let mut counter = Counter {
            product: &arguments.product,
            names: &[],
            submissions,
            tally: &mut *tally,
            round: output
                .as_ref()
                .map(|output| round(threads, output, &issuers)),
        };
        let stretch = vault.stretch_batches().saturating_mul(BATCH_MAX);
        for names in submissions.names().chunks(stretch.max(1)) {
            vault.wait_for_asker();
            if vault.is_asker_gone() {
                return Err(abandoned());
            }
            counter.names = names;
            let row = Row {
                submissions,
                names,
                product: &arguments.product,
                station: StationId::console(),
            };
            let failed = vault.with(|vault| vault.issue(&row, &mut counter))?;
            if failed.is_some() {
                return Ok(failed);
            }
        }
        Ok(None)
    })?;
    match failed {
        // What is finished is finished, and what is reserved stays so.
        Some(error) => Err(error.with_units_open(tally.opened())),
        None => Ok(()),
    }
}

fn abandoned() -> Error {
    let message =
        "stopped, as whoever asked has gone or wanted it, before every request was answered";
    Error::environment(INTERRUPTED, message)
        .hint("run the same command again: it goes on with what is left, and asking twice is free")
}

/// Files that are answered in one go.
struct Row<'a> {
    submissions: &'a Submissions,
    names: &'a [OsString],
    product: &'a Sku,
    station: StationId,
}

impl Inlet for Row<'_> {
    type Unreadable = files::Error;

    fn batches(&self) -> usize {
        self.names.len().div_ceil(BATCH_MAX)
    }

    fn asker(&self, _: usize) -> Option<Asker<'_>> {
        Some(Asker {
            station: &self.station,
            product: self.product,
        })
    }

    fn read(&self, batch: usize) -> Requests<files::Error> {
        let names = batch_of(self.names, batch).iter();
        names.map(|name| self.submissions.read(name)).collect()
    }
}

/// The names of a batch.
fn batch_of(names: &[OsString], batch: usize) -> &[OsString] {
    names.chunks(BATCH_MAX).nth(batch).unwrap_or_default()
}

/// Where certificates are handed out: what was released goes on its round, and is reported when it is back.
struct Counter<'a, 'c> {
    product: &'a Sku,
    /// What is answered now.
    names: &'a [OsString],
    submissions: &'a Submissions,
    tally: &'a mut Tally<'c>,
    /// Where certificates are written; none before enrolment.
    round: Option<Sender<Released<'a>>>,
}

/// What is known of a request once it is released.
enum Told {
    Unreadable(files::Error),
    Refused(Submission, Option<DeviceId>, Refusal),
    /// By the next certificate.
    Certified(&'static str),
    Open,
}

/// A batch whose certificates are to be written.
struct Released<'a> {
    batch: usize,
    /// None comes after it for now.
    is_last: bool,
    told: Vec<Told>,
    certified: Vec<Certified>,
    delivered: Promise<Row<'a>, Landed>,
}

/// A certificate that is to be written, with what goes with it.
struct Certified {
    file: OsString,
    issued: Issued,
    secrets: Vec<SealedSecret>,
}

/// A batch whose certificates are written, or could not be.
struct Landed {
    batch: usize,
    told: Vec<Told>,
    certified: Vec<(Issued, Option<Result<Delivered>>)>,
}

impl<'a> Outlet<Row<'a>> for Counter<'a, '_> {
    type Delivered = Landed;

    fn release(
        &mut self,
        vault: &Vault<'_>,
        answered: Answered<Row<'a>>,
        delivered: Promise<Row<'a>, Landed>,
    ) -> Result<()> {
        let Answered {
            batch,
            requests,
            answers,
        } = answered;
        let readable = requests.iter().filter_map(|request| request.as_ref().ok());
        let units: Vec<(&Submission, &Issued)> = readable
            .zip(&answers)
            .filter_map(|(submission, answer)| match answer {
                Answer::Issued(issued) | Answer::Existing(issued) => Some((submission, issued)),
                Answer::Refused(_) | Answer::Open => None,
            })
            .collect();
        let mut secrets = vault.seal_secrets(self.product, &units).into_iter();
        let mut answers = answers.into_iter();
        let (mut told, mut certified) = (Vec::new(), Vec::new());
        for (name, request) in batch_of(self.names, batch).iter().zip(requests) {
            let submission = match request {
                Err(error) => {
                    told.push(Told::Unreadable(error));
                    continue;
                }
                Ok(submission) => submission,
            };
            let (outcome, issued) = match answers.next() {
                Some(Answer::Issued(issued)) => ("issued", issued),
                Some(Answer::Existing(issued)) => ("existing", issued),
                Some(Answer::Refused(refusal)) => {
                    let device_id = vault.device_id(self.product, &submission);
                    told.push(Told::Refused(submission, device_id, refusal));
                    continue;
                }
                Some(Answer::Open) | None => {
                    told.push(Told::Open);
                    continue;
                }
            };
            told.push(Told::Certified(outcome));
            certified.push(Certified {
                file: name.clone(),
                issued,
                secrets: secrets.next().unwrap_or_default(),
            });
        }
        let released = Released {
            batch,
            is_last: batch_of(self.names, batch + 1).is_empty(),
            told,
            certified,
            delivered,
        };
        match &self.round {
            // Should nobody be there any more, the broken promise says so.
            Some(round) => drop(round.send(released)),
            None => released.landed(Vec::new()),
        }
        Ok(())
    }

    fn report(&mut self, landed: Landed) -> Result<()> {
        let mut certified = landed.certified.into_iter();
        let names = batch_of(self.names, landed.batch);
        for (name, told) in names.iter().zip(landed.told) {
            let file = self.submissions.path(name);
            let row = match told {
                Told::Unreadable(error) => self.tally.unreadable(&file, &error),
                Told::Refused(submission, device_id, refusal) => {
                    self.tally
                        .refused(&file, &submission, device_id, refusal.into())
                }
                Told::Certified(outcome) => match certified.next() {
                    Some((issued, delivered)) => {
                        self.tally.certified(&file, outcome, &issued, delivered)
                    }
                    None => continue,
                },
                Told::Open => {
                    self.tally.open();
                    continue;
                }
            };
            self.tally.add(row);
        }
        self.tally.print()
    }
}

impl Released<'_> {
    fn landed(self, results: Vec<Result<Delivered>>) {
        let mut results = results.into_iter();
        let issued = self.certified.into_iter().map(|certified| certified.issued);
        let certified = issued.map(|issued| (issued, results.next())).collect();
        self.delivered.deliver(Landed {
            batch: self.batch,
            told: self.told,
            certified,
        });
    }
}

/// A batch whose certificates are written and do not last yet.
type Written<'a, 'env> = (Released<'a>, Consignment<'env>);

/// Begins the round of certificates: one thread writes their files, another makes them last and gives them their names.
fn round<'scope, 'env, 'a: 'scope>(
    threads: &'scope Scope<'scope, 'env>,
    output: &'env Output,
    issuers: &'env BTreeMap<u16, String>,
) -> Sender<Released<'a>> {
    let (round, released) = channel::<Released<'a>>();
    let (written, consigned) = sync_channel::<Written<'a, 'env>>(CONSIGNMENTS_MAX);
    threads.spawn(move || {
        for mut released in released {
            let consignment = output.consign(parcels(&mut released.certified, issuers));
            if written.send((released, consignment)).is_err() {
                return;
            }
        }
    });
    threads.spawn(move || {
        while let Ok(first) = consigned.recv() {
            let sharing = sharing_a_sync(
                first,
                &consigned,
                |(batch, _): &Written<'_, '_>| (batch.told.len(), batch.is_last),
                || output.is_awaited(),
            );
            let (released, consignments): (Vec<_>, Vec<_>) = sharing.into_iter().unzip();
            for (released, results) in released.into_iter().zip(output.land(consignments)) {
                released.landed(results);
            }
        }
    });
    round
}

/// The certificates of a batch, and the secrets that go with them, as they are written.
fn parcels<'a>(
    certified: &'a mut [Certified],
    issuers: &'a BTreeMap<u16, String>,
) -> Vec<Parcel<'a>> {
    let issuer_pem = |generation: u16| issuers.get(&generation).map_or("", String::as_str);
    let parcel = |certified: &'a mut Certified| {
        let issued = &certified.issued;
        let earlier = issued.earlier.iter().map(|before| Superseded {
            issue: before.issue,
            der: &before.der,
            issuer_pem: issuer_pem(before.device_ca),
            spki_sha256: before.spki_sha256,
        });
        Parcel {
            file: &certified.file,
            serial: serial(&issued.unit).unwrap_or_default(),
            der: &issued.der,
            issuer_pem: issuer_pem(issued.device_ca),
            secrets: std::mem::take(&mut certified.secrets),
            earlier: earlier.collect(),
        }
    };
    certified.iter_mut().map(parcel).collect()
}

/// Reads a group of files and verifies their proofs of possession, on every processor.
fn read(
    submissions: &Submissions,
    names: &[OsString],
) -> Vec<std::result::Result<Submission, files::Error>> {
    names
        .par_iter()
        .map(|name| submissions.read(name))
        .collect()
}

/// The certificates of the device CAs, PEM, by generation.
fn issuers(vault: &Vault<'_>) -> Result<BTreeMap<u16, String>> {
    let device_cas = vault.state().device_cas().iter();
    device_cas
        .map(|ca| {
            let issuer = vault.issuer(ca.generation)?;
            Ok((
                ca.generation,
                to_pem("CERTIFICATE", issuer.certificate_der()),
            ))
        })
        .collect()
}

fn rehearse(
    vault: &mut Vault<'_>,
    arguments: &Arguments,
    submissions: &Submissions,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let mut bytes = 0_usize;
    for (at, names) in submissions.names().chunks(GROUP_MAX).enumerate() {
        let read = read(submissions, names);
        let readable: Vec<&Submission> =
            read.iter().filter_map(|read| read.as_ref().ok()).collect();
        let sizes = readable
            .iter()
            .map(|submission| submission.bytes() + REHEARSAL_OVERHEAD_BYTES);
        bytes = sizes.fold(bytes, usize::saturating_add);
        if bytes > REHEARSAL_BYTES_MAX {
            let count = at * GROUP_MAX;
            tally.stopped(count);
            return Ok(());
        }
        let mut outcomes = vault.rehearse(&arguments.product, &readable)?.into_iter();
        for (name, read) in names.iter().zip(&read) {
            let file = submissions.path(name);
            let row = match read {
                Err(error) => tally.unreadable(&file, error),
                Ok(submission) => match outcomes.next() {
                    Some(Outcome::Refused(refusal)) => {
                        let device_id = vault.device_id(&arguments.product, submission);
                        tally.refused(&file, submission, device_id, refusal.into())
                    }
                    Some(Outcome::Reserved(reservation)) => {
                        let unit = Unit::from(reservation.reserved());
                        tally.unit(&file, "issued", &unit)
                    }
                    _ => {
                        let device_id = vault.device_id(&arguments.product, submission);
                        tally.known(&file, device_id)
                    }
                },
            };
            tally.add(row);
        }
        tally.print()?;
    }
    Ok(())
}
