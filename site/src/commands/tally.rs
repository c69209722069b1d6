//! What `site issue` and `site request` report: a row for each request, and what came of them all.

use std::collections::BTreeSet;
use std::path::Path;

use mintmark_console::{Console, Exit, Failure, Progress, files};
use mintmark_ledger::refusal::meaning;
use mintmark_protocol::identifier::{DeviceId, Sku};
use serde::Serialize;

use crate::delivery::{Delivered, DeliveredSecret};
use crate::failure::{Error, Result};
use crate::submission::Submission;
use crate::vault::{INTERRUPTED, Issued, Unit};

/// One line of the report.
#[derive(Debug, Serialize)]
pub(super) struct Row {
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
    /// None if it is missing: asking again delivers it, unless its key is over.
    file: Option<String>,
    /// Why it is missing.
    code: Option<String>,
}

/// What was reported so far.
pub(super) struct Tally<'a> {
    console: &'a Console,
    progress: Progress,
    product: &'a Sku,
    /// How many requests there are.
    total: u64,
    issued: u64,
    existing: u64,
    /// In a dry run of `site request`: those that a vault would be sent.
    asked: u64,
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
    /// Rows that are not printed yet; of use to programs alone.
    rows: Vec<Row>,
}

impl<'a> Tally<'a> {
    /// Nothing is reported yet, of so many files.
    pub(super) fn new(product: &'a Sku, total: usize, console: &'a Console) -> Self {
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        Self {
            console,
            progress: console.progress("issuing", Some(total)),
            product,
            total,
            issued: 0,
            existing: 0,
            asked: 0,
            refused: 0,
            open: 0,
            unwritten: 0,
            unwritten_because: None,
            secrets_missing: 0,
            secrets_missing_because: None,
            hinted: BTreeSet::new(),
            exit: Exit::Done,
            rows: Vec::new(),
        }
    }

    /// How the process ends, as far as it is up to what was refused.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// Counts a unit that is reserved and not signed for.
    pub(super) fn open(&mut self) {
        self.open += 1;
    }

    /// How many of those there are.
    pub(super) fn opened(&self) -> usize {
        self.open
    }

    /// Says how far a line came that was asked to stop. Where that was the end, nothing is left to say.
    pub(super) fn judge(&self, issued: Result<()>) -> Result<()> {
        let Err(error) = issued else {
            return Ok(());
        };
        if error.code() != INTERRUPTED || self.open > 0 {
            return Err(error);
        }
        let answered = self.issued + self.existing + self.refused;
        if answered == self.total {
            return Ok(());
        }
        self.finish(false);
        let message = &error.failure().message;
        let message = format!(
            "{message}: {answered} of {} are, and nothing is left open",
            self.total
        );
        Err(error.saying(message))
    }

    /// Says that a dry run goes no further.
    pub(super) fn stopped(&self, count: usize) {
        self.console
            .warn(format!("the dry run stopped after the first {count} files"));
    }

    /// What a dry run says of a device that was answered before.
    pub(super) fn known(&self, file: &Path, device_id: Option<DeviceId>) -> Row {
        Row {
            device_id: device_id.map(|device_id| device_id.to_string()),
            ..self.row(file, "existing")
        }
    }

    /// What a dry run says of a request that a vault would be sent.
    pub(super) fn would_ask(&self, file: &Path, device_id: Option<DeviceId>) -> Row {
        Row {
            device_id: device_id.map(|device_id| device_id.to_string()),
            ..self.row(file, "would-ask")
        }
    }

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

    /// A row about a unit.
    pub(super) fn unit(&self, file: &Path, outcome: &'static str, unit: &Unit) -> Row {
        Row {
            device_id: Some(unit.device_id.to_string()),
            entitlement: Some(unit.entitlement.to_string()),
            slot: Some(unit.slot),
            serial: serial(unit),
            ..self.row(file, outcome)
        }
    }

    /// A certificate that the log holds. That its file could not be written changes nothing about that.
    pub(super) fn certified(
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
                if let Some(aside) = &delivered.aside {
                    let (path, aside) = (delivered.path.display(), aside.display());
                    self.console.note(format!(
                        "{path} is the new certificate: the one before it is {aside} now, and is no longer good"
                    ));
                }
                let secrets = delivered.secrets.into_iter();
                let mut secrets: Vec<SecretRow> =
                    secrets.map(|secret| self.secret(file, secret)).collect();
                secrets.extend(self.secrets_over(issued));
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

    /// The secrets that the device has had and is given no more.
    fn secrets_over(&mut self, issued: &Issued) -> Vec<SecretRow> {
        let over = issued.keys_over.iter();
        over.map(|(key, code)| {
            if self.hinted.insert(format!("{code} {key}")) {
                self.console.note(format!(
                    "no secret is made again from key {key}: [{code}] {}",
                    meaning(code)
                ));
            }
            SecretRow {
                key: key.to_string(),
                file: None,
                code: Some((*code).to_owned()),
            }
        })
        .collect()
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
            let line = format!("{file} secret {key} missing: [{code}] {message}");
            self.console.line(in_one_row(&line));
        }
        self.secrets_missing_because.get_or_insert(error);
        SecretRow {
            key,
            file: None,
            code,
        }
    }

    /// A request that got nothing.
    pub(super) fn refused(
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
    pub(super) fn unreadable(&self, file: &Path, error: &files::Error) -> Row {
        let failure = Failure::new(Exit::Environment, error.code(), error.to_string());
        let error = Error::from(failure.hint(error.hint()));
        let code = Some(error.code().to_owned());
        Row {
            code,
            error: Some(error),
            ..self.row(file, "refused")
        }
    }

    /// Counts a row, which the next [`Tally::print`] prints.
    pub(super) fn add(&mut self, mut row: Row) {
        row.message = row
            .error
            .as_ref()
            .map(|error| error.failure().message.clone());
        match row.outcome {
            "issued" => self.issued += 1,
            "existing" => self.existing += 1,
            "would-ask" => self.asked += 1,
            _ => self.refused += 1,
        }
        self.progress.advance(1);
        self.rows.push(row);
    }

    /// Prints the rows that were added since.
    pub(super) fn print(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if self.console.is_json() && !rows.is_empty() {
            self.console
                .json_lines(&rows)
                .map_err(|error| Failure::output(&error))?;
        }
        for row in rows {
            self.explain(row);
        }
        Ok(())
    }

    /// Says why a request got nothing, or why what it got is not there.
    fn explain(&mut self, row: Row) {
        let Some(error) = row.error else {
            return;
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
            self.console.line(in_one_row(&line));
        }
        if let Some(hint) = &failure.hint
            && self.hinted.insert(failure.code.to_string())
        {
            self.console.note(format!("{}: {hint}", failure.code));
        }
    }

    /// Units are spent and their certificates are not where the caller looks for them.
    pub(super) fn unwritten(&self) -> Option<Error> {
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
    pub(super) fn secrets_missing(&self) -> Option<Error> {
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

    /// Says what came of them all.
    pub(super) fn finish(&self, dry_run: bool) {
        self.progress.finish();
        if !self.console.is_json() {
            let Self {
                issued,
                existing,
                refused,
                unwritten,
                ..
            } = self;
            if self.asked > 0 {
                let Self { asked, refused, .. } = self;
                self.console.line(format!(
                    "dry run: the vault takes this station; {asked} would be asked for, {refused} refused"
                ));
                self.console.note("nothing was changed");
                return;
            }
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

/// A row as it is shown: a line break in the name of a file begins no row of its own.
fn in_one_row(line: &str) -> String {
    line.replace('\n', "\\u{a}")
}

/// The serial number of a unit's certificate, as people write it.
pub(super) fn serial(unit: &Unit) -> Option<String> {
    unit.serial.map(hex::encode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_the_name_of_a_file_begins_no_row() {
        let row =
            "n/a.csr\n9 issued, 0 existing, 0 refused\nx.csr refused: [CSR-EMPTY] it is empty";
        let shown = r"n/a.csr\u{a}9 issued, 0 existing, 0 refused\u{a}x.csr refused: [CSR-EMPTY] it is empty";
        assert_eq!(in_one_row(row), shown);
    }
}
