//! `site station request`: on the station, before it knows any vault.

use std::path::PathBuf;

use mintmark_console::{Console, Exit, files};
use mintmark_keys::{KeyUri, Purpose};
use mintmark_pki::{certification_request, to_pem};
use mintmark_protocol::identifier::{Fingerprint, StationId};
use serde::Serialize;

use super::super::json;
use crate::failure::{Error, Result};
use crate::station::STATION_KEY;
use crate::vault::keyring::{create_store, open_store};

/// What `site station request` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The station's own token or key folder: pkcs11:... or file:...
    #[arg(long, value_name = "URI")]
    keys: KeyUri,
    /// The station's name at the vault: 1 to 32 of a-z, 0-9 and -
    #[arg(long, value_name = "NAME")]
    name: StationId,
    /// The file that the request is written to
    #[arg(long, value_name = "F")]
    output: PathBuf,
    /// Say whether a key would be made, and make nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    station: String,
    file: String,
    /// SHA-256 of the request, DER; none in a dry run.
    fingerprint: Option<String>,
    /// The key was there already.
    already: bool,
    dry_run: bool,
}

/// Makes the key where there is none, and the request. Asked for again, it gives a request for the same key.
pub(super) fn execute(arguments: &Arguments, console: &Console) -> Result<Exit> {
    if arguments.name == StationId::console() {
        let message = "console is the name of the vault's own console";
        return Err(
            Error::usage("STATION-NAME-RESERVED", message).hint("give the station another name")
        );
    }
    let label = arguments.keys.object().unwrap_or(STATION_KEY);
    if arguments.dry_run {
        let already = has_key(arguments, label, console)?;
        return show(&report(arguments, None, already), console);
    }
    let store = create_store(&arguments.keys, console)?;
    let (key, already) = match store.find(label, Purpose::Authenticate)? {
        Some(key) => (key, true),
        None => (store.generate(label, Purpose::Authenticate)?, false),
    };
    let signer = store.signer_for(label, Purpose::Authenticate)?;
    let der = certification_request::<Error>(arguments.name.as_str(), &key, |message| {
        Ok(signer.sign(message)?)
    })?;
    let pem = to_pem("CERTIFICATE REQUEST", &der);
    files::write_public_replace(&arguments.output, pem.as_bytes())?;
    let report = report(arguments, Some(Fingerprint::of(&der)), already);
    show(&report, console)
}

/// Whether there is a key already. A folder for keys is made with the first one.
fn has_key(arguments: &Arguments, label: &str, console: &Console) -> Result<bool> {
    match open_store(&arguments.keys, console) {
        Ok(store) => Ok(store.find(label, Purpose::Authenticate)?.is_some()),
        Err(error) if error.code() == "KEY-FOLDER-MISSING" => Ok(false),
        Err(error) => Err(error),
    }
}

fn report(arguments: &Arguments, fingerprint: Option<Fingerprint>, already: bool) -> Report {
    Report {
        schema: "mintmark/station-request/1",
        station: arguments.name.to_string(),
        file: arguments.output.display().to_string(),
        fingerprint: fingerprint.map(|fingerprint| fingerprint.to_string()),
        already,
        dry_run: arguments.dry_run,
    }
}

fn show(report: &Report, console: &Console) -> Result<Exit> {
    if console.is_json() {
        return json(console, report);
    }
    let (station, file) = (&report.station, &report.file);
    let key = match (report.already, report.dry_run) {
        (true, _) => "for the key that it has",
        (false, true) => "for a key that would be made",
        (false, false) => "for a key that was made now",
    };
    let Some(fingerprint) = &report.fingerprint else {
        console.line(format!(
            "would write the request of station {station}, {key}, to {file}"
        ));
        console.note("nothing was changed");
        return Ok(Exit::Done);
    };
    console.line(format!("{file}: request of station {station}, {key}"));
    console.line(format!("fingerprint  {fingerprint}"));
    console.note(
        "next: carry the file to the vault and read the fingerprint out to its operator, who runs `site station approve`",
    );
    Ok(Exit::Done)
}
