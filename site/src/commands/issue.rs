//! `site issue`: certificates for a file or a folder of certification requests.

mod tally;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, files};
use mintmark_ledger::ledger::Outcome;
use mintmark_pki::to_pem;
use mintmark_protocol::identifier::Sku;
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use self::tally::{Tally, serial};
use crate::delivery::{Delivered, Output, Parcel, Superseded};
use crate::failure::Result;
use crate::home::Home;
use crate::submission::{Submission, Submissions};
use crate::vault::{Answer, GROUP_MAX, Issued, Unit, Vault};

/// The most bytes of requests that a dry run decides on together, with what the ledger adds to each: it keeps them all
/// in memory.
const REHEARSAL_BYTES_MAX: usize = 12 << 20;
const REHEARSAL_OVERHEAD_BYTES: usize = 4096;

/// What `site issue` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The product
    #[arg(long, value_name = "SKU")]
    product: Sku,
    /// A certification request, or a folder of them; PEM or DER
    #[arg(long, value_name = "FILE|DIR")]
    csr: PathBuf,
    /// The folder that certificates are written to, as <stem>.pem and <stem>.chain.pem, and secrets for the devices, as
    /// <stem>.<key>.secret.cose; a certificate there that the new one takes the place of becomes <stem>.issue-<n>.pem
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Say what would be issued, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Issues.
pub(crate) fn execute(
    arguments: &Arguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit> {
    let home = Home::open(home)?;
    let submissions = Submissions::find(&arguments.csr, console)?;
    let mut vault = Vault::open(home, console)?;
    let total = submissions.names().len();
    let mut tally = Tally::new(&arguments.product, total, console);
    if arguments.dry_run {
        rehearse(&mut vault, arguments, &submissions, &mut tally)?;
    } else {
        let issued = issue(&mut vault, arguments, &submissions, &mut tally);
        if let Err(error) = issued.and_then(|()| vault.close()) {
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

fn issue(
    vault: &mut Vault<'_>,
    arguments: &Arguments,
    submissions: &Submissions,
    tally: &mut Tally<'_>,
) -> Result<()> {
    vault.settle()?;
    // Before enrolment there is nothing to write, and every request is refused by the ledger.
    let output = match vault.state().is_enrolled() {
        true => Some(Output::open(&arguments.output)?),
        false => None,
    };
    let issuers = issuers(vault)?;
    for names in submissions.names().chunks(GROUP_MAX) {
        let read = read(submissions, names);
        let readable: Vec<&Submission> =
            read.iter().filter_map(|read| read.as_ref().ok()).collect();
        let (answers, failed) = vault.issue(&arguments.product, &readable)?;
        let mut delivered = match &output {
            Some(output) => deliver(vault, arguments, output, &issuers, names, &read, &answers),
            None => Vec::new(),
        }
        .into_iter();
        let mut answers = answers.into_iter();
        for (name, read) in names.iter().zip(&read) {
            let file = submissions.path(name);
            let row = match read {
                Err(error) => tally.unreadable(&file, error),
                Ok(submission) => match answers.next() {
                    Some(Answer::Issued(issued)) => {
                        tally.certified(&file, "issued", &issued, delivered.next())
                    }
                    Some(Answer::Existing(issued)) => {
                        tally.certified(&file, "existing", &issued, delivered.next())
                    }
                    Some(Answer::Refused(refusal)) => {
                        let device_id = vault.device_id(&arguments.product, submission);
                        tally.refused(&file, submission, device_id, refusal.into())
                    }
                    Some(Answer::Open) | None => {
                        tally.open();
                        continue;
                    }
                },
            };
            tally.add(row)?;
        }
        if let Some(error) = failed {
            // What is finished is finished, and what is reserved stays so.
            return Err(error.with_units_open(tally.opened()));
        }
    }
    Ok(())
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

/// Writes the certificates of a group, and the secrets that go with them.
fn deliver(
    vault: &Vault<'_>,
    arguments: &Arguments,
    output: &Output,
    issuers: &BTreeMap<u16, String>,
    names: &[OsString],
    read: &[std::result::Result<Submission, files::Error>],
    answers: &[Answer],
) -> Vec<Result<Delivered>> {
    let readable = names
        .iter()
        .zip(read)
        .filter_map(|(name, read)| Some((name, read.as_ref().ok()?)));
    let certified: Vec<(&OsString, &Submission, &Issued)> = readable
        .zip(answers)
        .filter_map(|((name, submission), answer)| match answer {
            Answer::Issued(issued) | Answer::Existing(issued) => Some((name, submission, issued)),
            Answer::Refused(_) | Answer::Open => None,
        })
        .collect();
    let units: Vec<(&Submission, &Issued)> = certified
        .iter()
        .map(|(_, submission, issued)| (*submission, *issued))
        .collect();
    let secrets = vault.seal_secrets(&arguments.product, &units);
    let issuer_pem = |generation: u16| issuers.get(&generation).map_or("", String::as_str);
    let parcels = certified
        .iter()
        .zip(secrets)
        .map(|((name, _, issued), secrets)| Parcel {
            file: name,
            serial: serial(&issued.unit).unwrap_or_default(),
            der: &issued.der,
            issuer_pem: issuer_pem(issued.device_ca),
            secrets,
            earlier: issued
                .earlier
                .iter()
                .map(|before| Superseded {
                    issue: before.issue,
                    der: &before.der,
                    issuer_pem: issuer_pem(before.device_ca),
                    spki_sha256: before.spki_sha256,
                })
                .collect(),
        })
        .collect();
    output.deliver(parcels)
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
            tally.add(row)?;
        }
    }
    Ok(())
}
