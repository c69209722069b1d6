//! `site crl issue`: the certificates that are no longer good, signed by the device CA that made them.

use std::path::{Path, PathBuf};

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, files};
use mintmark_ledger::entry::CrlIssued;
use mintmark_pki::{CRL_FILE_BYTES_MAX, Crl, to_pem};
use serde::Serialize;

use super::json;
use crate::failure::{Error, Result};
use crate::place::Place;
use crate::vault::{Vault, not_enrolled};

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Sign the next CRL of a device CA, and write it
    Issue(Arguments),
}

impl Command {
    /// The paths that it names.
    pub(crate) fn paths(&mut self) -> Vec<&mut PathBuf> {
        let Self::Issue(arguments) = self;
        vec![&mut arguments.output]
    }

    /// Whether it changes nothing, whatever becomes of its output.
    pub(crate) fn only_looks(&self) -> bool {
        let Self::Issue(arguments) = self;
        arguments.dry_run
    }
}

/// What `site crl issue` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file that it is written to: DER if its name ends in `.der`, else PEM; an earlier CRL of the same device CA is
    /// replaced
    #[arg(long, value_name = "F")]
    output: PathBuf,
    /// Which device CA signs, by its generation; none given: the one in force
    #[arg(long, value_name = "N")]
    device_ca: Option<u16>,
    /// Say what would be signed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    file: String,
    device_ca: u16,
    number: u64,
    this_update: String,
    next_update: String,
    /// How many certificates it names.
    revoked: usize,
    /// None in a dry run.
    sha256: Option<String>,
    /// The vault's other device CAs, which sign their own.
    other_device_cas: Vec<u16>,
    dry_run: bool,
}

/// Runs the verb.
pub(crate) fn execute(command: &Command, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let Command::Issue(arguments) = command;
    let mut vault = place.open(console)?;
    let (issued, revoked, der, others) = vault.with(|vault| {
        let generation = generation(vault, arguments)?;
        // Before a number is given: a CRL that cannot be written helps nobody.
        expect_place(vault, arguments, generation)?;
        let (issued, revoked, der) = if arguments.dry_run {
            let (next, revoked) = vault.next_crl(generation);
            (next, revoked, None)
        } else {
            let signed = vault.sign_crl(generation)?;
            (signed.issued, signed.revoked, Some(signed.der))
        };
        let generations = vault.state().device_cas().iter().map(|ca| ca.generation);
        let others: Vec<u16> = generations.filter(|other| *other != generation).collect();
        Ok((issued, revoked, der, others))
    })?;
    if let Some(der) = der {
        // The token knows of its number before anybody else does.
        vault.close()?;
        write(arguments, &der)?;
    }
    let report = report(arguments, &issued, revoked, others);
    if console.is_json() {
        return json(console, &report);
    }
    show(&report, console);
    Ok(Exit::Done)
}

fn generation(vault: &Vault<'_>, arguments: &Arguments) -> Result<u16> {
    let device_cas = vault.state().device_cas();
    let newest = device_cas.last().ok_or_else(not_enrolled)?;
    let Some(wanted) = arguments.device_ca else {
        return Ok(newest.generation);
    };
    if device_cas.iter().any(|ca| ca.generation == wanted) {
        return Ok(wanted);
    }
    let known: Vec<String> = device_cas
        .iter()
        .map(|ca| ca.generation.to_string())
        .collect();
    let message = format!("this vault has no device CA {wanted}");
    Err(Error::usage("DEVICE-CA-UNKNOWN", message)
        .hint(format!("its device CAs: {}", known.join(", "))))
}

/// Nothing but an earlier CRL of the same device CA is replaced.
fn expect_place(vault: &Vault<'_>, arguments: &Arguments, generation: u16) -> Result<()> {
    let path = &arguments.output;
    let taken = || {
        let message = format!("{} is something else", path.display());
        Error::environment("OUTPUT-TAKEN", message).hint("give another name, or move it away")
    };
    match files::read_limited(path, CRL_FILE_BYTES_MAX as u64) {
        Ok(there) => {
            let issuer = vault.issuer(generation)?;
            let crl = Crl::from_pem_or_der(&there, &issuer);
            crl.map(|_| ()).map_err(|error| taken().cause(error))
        }
        Err(error) if error.is_missing() => {
            let folder = path.parent().filter(|parent| *parent != Path::new(""));
            match folder {
                Some(folder) if !folder.is_dir() => {
                    let message = format!("there is no folder {}", folder.display());
                    Err(Error::environment("OUTPUT-FOLDER", message)
                        .hint("nothing was signed; name a file in a folder that exists"))
                }
                _ => Ok(()),
            }
        }
        Err(error) => match error.kind() {
            files::Kind::TooLarge { .. } | files::Kind::NotRegular { .. } => Err(taken()),
            _ => Err(error.into()),
        },
    }
}

fn write(arguments: &Arguments, der: &[u8]) -> Result<()> {
    let path = &arguments.output;
    let is_der = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("der"));
    let written = match is_der {
        true => files::write_public_replace(path, der),
        false => files::write_public_replace(path, to_pem("X509 CRL", der).as_bytes()),
    };
    written.map_err(|error| {
        let message = "the CRL is signed and could not be written";
        Error::unknown("CRL-UNWRITTEN", message).cause(error).hint(
            "put right what is named, then run the same command again: the next CRL says the same",
        )
    })
}

fn report(
    arguments: &Arguments,
    issued: &CrlIssued,
    revoked: usize,
    other_device_cas: Vec<u16>,
) -> Report {
    Report {
        schema: "mintmark/crl/1",
        file: arguments.output.display().to_string(),
        device_ca: issued.generation,
        number: issued.number,
        this_update: rfc3339(issued.this_update),
        next_update: rfc3339(issued.next_update),
        revoked,
        sha256: (!arguments.dry_run).then(|| issued.sha256.to_string()),
        other_device_cas,
        dry_run: arguments.dry_run,
    }
}

fn show(report: &Report, console: &Console) {
    let (ca, number, file) = (report.device_ca, report.number, &report.file);
    let names = match report.revoked {
        0 => "no certificate".to_owned(),
        1 => "1 certificate".to_owned(),
        count => format!("{count} certificates"),
    };
    console.line(match report.dry_run {
        true => {
            format!("would sign CRL {number} of device CA {ca}, which names {names}, to {file}")
        }
        false => format!("{file}: CRL {number} of device CA {ca}, which names {names}"),
    });
    let (this, next) = (&report.this_update, &report.next_update);
    console.line(format!("valid from {this}, next by {next}"));
    if !report.other_device_cas.is_empty() {
        let others = report.other_device_cas.iter().map(u16::to_string);
        let others = others.collect::<Vec<_>>().join(", ");
        console.note(format!(
            "what device CA {others} certified stands on its own CRL: add --device-ca N"
        ));
    }
    if report.dry_run {
        console.note("nothing was changed");
    }
}
