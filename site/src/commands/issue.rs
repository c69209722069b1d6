//! `site issue`: certificates for a file or a folder of certification requests.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, Failure, Progress, files};
use mintmark_ledger::ledger::Outcome;
use mintmark_pki::to_pem;
use mintmark_protocol::identifier::{DeviceId, Sku};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde::Serialize;

use crate::delivery::{Delivered, DeliveredSecret, Output, Parcel};
use crate::failure::{Error, Result};
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
    /// <stem>.<key>.secret.cose
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Say what would be issued, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Row {
    schema: &'static str,
    file: String,
    outcome: &'static str,
    code: Option<String>,
    device_id: Option<String>,
    product: String,
    entitlement: Option<String>,
    slot: Option<u64>,
    serial: Option<String>,
    certificate: Option<String>,
    /// The secrets that go with the device, encrypted to its own key.
    secrets: Vec<SecretRow>,
    /// What is behind the code, in words.
    message: Option<String>,
    #[serde(skip)]
    error: Option<Error>,
}

/// One secret.
#[derive(Debug, Serialize)]
struct SecretRow {
    /// The label of the key that it is derived from.
    key: String,
    /// None if it is missing: asking again delivers it.
    file: Option<String>,
    /// Why it is missing.
    code: Option<String>,
}

/// What was reported so far.
struct Tally<'a> {
    console: &'a Console,
    progress: Progress,
    product: &'a Sku,
    issued: u64,
    existing: u64,
    refused: u64,
    open: usize,
    /// Of those issued and existing, how many are not in the output folder.
    unwritten: u64,
    /// Why the first of them is not.
    unwritten_because: Option<Error>,
    /// How many secrets are missing.
    secrets_missing: u64,
    /// Why the first of them is.
    secrets_missing_because: Option<Error>,
    hinted: BTreeSet<String>,
    exit: Exit,
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
    let mut tally = Tally {
        console,
        progress: console.progress("issuing", u64::try_from(total).ok()),
        product: &arguments.product,
        issued: 0,
        existing: 0,
        refused: 0,
        open: 0,
        unwritten: 0,
        unwritten_because: None,
        secrets_missing: 0,
        secrets_missing_because: None,
        hinted: BTreeSet::new(),
        exit: Exit::Done,
    };
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
        (None, None) => Ok(tally.exit),
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
                        tally.open += 1;
                        continue;
                    }
                },
            };
            tally.add(row)?;
        }
        if let Some(error) = failed {
            // What is finished is finished, and what is reserved stays so.
            return Err(error.with_units_open(tally.open));
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
    let parcels = certified
        .iter()
        .zip(secrets)
        .map(|((name, _, issued), secrets)| Parcel {
            file: name,
            serial: serial(&issued.unit).unwrap_or_default(),
            der: &issued.der,
            issuer_pem: issuers.get(&issued.device_ca).map_or("", String::as_str),
            secrets,
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
            tally
                .console
                .warn(format!("the dry run stopped after the first {count} files"));
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
                    _ => Row {
                        device_id: vault
                            .device_id(&arguments.product, submission)
                            .map(|device_id| device_id.to_string()),
                        ..tally.row(&file, "existing")
                    },
                },
            };
            tally.add(row)?;
        }
    }
    Ok(())
}

impl Tally<'_> {
    fn row(&self, file: &Path, outcome: &'static str) -> Row {
        Row {
            schema: "mintmark/issue/1",
            file: file.display().to_string(),
            outcome,
            code: None,
            device_id: None,
            product: self.product.to_string(),
            entitlement: None,
            slot: None,
            serial: None,
            certificate: None,
            secrets: Vec::new(),
            message: None,
            error: None,
        }
    }

    fn unit(&self, file: &Path, outcome: &'static str, unit: &Unit) -> Row {
        Row {
            device_id: Some(unit.device_id.to_string()),
            entitlement: Some(unit.entitlement.to_string()),
            slot: Some(unit.slot),
            serial: serial(unit),
            ..self.row(file, outcome)
        }
    }

    /// A certificate that the log holds. That its file could not be written changes nothing about that.
    fn certified(
        &mut self,
        file: &Path,
        outcome: &'static str,
        issued: &Issued,
        delivered: Option<Result<Delivered>>,
    ) -> Row {
        let row = self.unit(file, outcome, &issued.unit);
        match delivered {
            Some(Ok(delivered)) => {
                if delivered.renamed {
                    let path = delivered.path.display();
                    let file = file.display();
                    self.console.warn(format!(
                        "the name for {file} was taken: its certificate is {path}"
                    ));
                }
                let secrets = delivered.secrets.into_iter();
                let secrets = secrets.map(|secret| self.secret(file, secret)).collect();
                Row {
                    certificate: Some(delivered.path.display().to_string()),
                    secrets,
                    ..row
                }
            }
            Some(Err(error)) => {
                let code = Some(error.code().to_owned());
                Row {
                    code,
                    error: Some(error.about(&file.display().to_string())),
                    ..row
                }
            }
            None => row,
        }
    }

    /// A secret that goes with a certificate. That it is missing changes nothing about the certificate.
    fn secret(&mut self, file: &Path, secret: DeliveredSecret) -> SecretRow {
        let key = secret.label.to_string();
        let error = match secret.path {
            Ok(path) => {
                return SecretRow {
                    key,
                    file: Some(path.display().to_string()),
                    code: None,
                };
            }
            Err(error) => error,
        };
        let code = Some(error.code().to_owned());
        self.secrets_missing += 1;
        if !self.console.is_json() {
            let (file, failure) = (file.display(), error.failure());
            let (code, message) = (&failure.code, &failure.message);
            self.console
                .line(format!("{file} secret {key} missing: [{code}] {message}"));
        }
        self.secrets_missing_because.get_or_insert(error);
        SecretRow {
            key,
            file: None,
            code,
        }
    }

    fn refused(
        &self,
        file: &Path,
        submission: &Submission,
        device_id: Option<DeviceId>,
        error: Error,
    ) -> Row {
        // What the ledger says of bytes that are no request is short; what the parser says is exact.
        let error = match submission {
            Submission::Unreadable { error: parser, .. } if parser.code() == error.code() => {
                let error = error.saying(parser.to_string());
                match parser.hint() {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
            _ => error,
        };
        Row {
            code: Some(error.code().to_owned()),
            device_id: device_id.map(|device_id| device_id.to_string()),
            error: Some(error),
            ..self.row(file, "refused")
        }
    }

    /// A file that could not be read is not an input of the ledger.
    fn unreadable(&self, file: &Path, error: &files::Error) -> Row {
        let failure = Failure::new(Exit::Environment, error.code(), error.to_string());
        let error = Error::from(failure.hint(error.hint()));
        let code = Some(error.code().to_owned());
        Row {
            code,
            error: Some(error),
            ..self.row(file, "refused")
        }
    }

    fn add(&mut self, mut row: Row) -> Result<()> {
        row.message = row
            .error
            .as_ref()
            .map(|error| error.failure().message.clone());
        match row.outcome {
            "issued" => self.issued += 1,
            "existing" => self.existing += 1,
            _ => self.refused += 1,
        }
        self.progress.advance(1);
        if self.console.is_json() {
            self.console
                .json_line(&row)
                .map_err(|error| Failure::output(&error))?;
        }
        let Some(error) = row.error else {
            return Ok(());
        };
        if row.outcome == "refused" {
            self.exit = self.exit.worst(error.exit());
        } else {
            self.unwritten += 1;
            let first = || error.failure().clone().into();
            self.unwritten_because.get_or_insert_with(first);
        }
        let failure = error.failure();
        if !self.console.is_json() {
            let cause = failure.cause.as_deref().map(|cause| format!(": {cause}"));
            let (code, message) = (&failure.code, &failure.message);
            let line = format!(
                "{} {}: [{code}] {message}{}",
                row.file,
                row.outcome,
                cause.unwrap_or_default()
            );
            self.console.line(line);
        }
        if let Some(hint) = &failure.hint
            && self.hinted.insert(failure.code.to_string())
        {
            self.console.note(format!("{}: {hint}", failure.code));
        }
        Ok(())
    }

    /// Units are spent and their certificates are not where the caller looks for them.
    fn unwritten(&self) -> Option<Error> {
        let because = self.unwritten_because.as_ref()?.failure();
        let (count, of) = (self.unwritten, self.issued + self.existing);
        let message = match (count, of) {
            (1, 1) => "the certificate is issued and could not be written".to_owned(),
            (1, _) => format!("1 of {of} certificates is issued and could not be written"),
            _ => format!("{count} of {of} certificates are issued and could not be written"),
        };
        let message = format!("{message}: {}", because.message);
        let first = match because.code.as_ref() {
            "DISK-FULL" => "free space",
            _ => "put right what is named",
        };
        let hint = format!("{first}, then run the same command again: asking twice is free");
        let error = Error::unknown("CERTIFICATES-UNWRITTEN", message).hint(hint);
        Some(match &because.cause {
            Some(cause) => error.cause(cause),
            None => error,
        })
    }

    /// Certificates are delivered, and secrets that go with them are not.
    fn secrets_missing(&self) -> Option<Error> {
        let because = self.secrets_missing_because.as_ref()?.failure();
        let message = match self.secrets_missing {
            1 => "1 secret that goes with a device is missing".to_owned(),
            count => format!("{count} secrets that go with devices are missing"),
        };
        let message = format!("{message}: {}", because.message);
        let error = Error::unknown("SECRETS-MISSING", message).hint(
            "put right what is named, then run the same command again: it makes the same secrets, and asking twice is \
             free",
        );
        Some(match &because.cause {
            Some(cause) => error.cause(cause),
            None => error,
        })
    }

    fn finish(&self, dry_run: bool) {
        self.progress.finish();
        if !self.console.is_json() {
            let Self {
                issued,
                existing,
                refused,
                unwritten,
                ..
            } = self;
            let would = if dry_run { "dry run: " } else { "" };
            let written = match (issued + existing).checked_sub(*unwritten) {
                Some(delivered) if *unwritten > 0 => {
                    format!("; {delivered} delivered, {unwritten} unwritten")
                }
                _ => String::new(),
            };
            self.console.line(format!(
                "{would}{issued} issued, {existing} existing, {refused} refused{written}"
            ));
        }
        if dry_run {
            self.console.note("nothing was changed");
        }
    }
}

fn serial(unit: &Unit) -> Option<String> {
    unit.serial.map(hex::encode)
}
