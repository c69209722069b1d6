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
use crate::vault::keyring::create_store;

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
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    station: String,
    file: String,
    /// SHA-256 of the request, DER.
    fingerprint: String,
    /// The key was there already.
    already: bool,
}

/// Makes the key where there is none, and the request. Asked for again, it gives a request for the same key.
pub(super) fn execute(arguments: &Arguments, console: &Console) -> Result<Exit> {
    if arguments.name == StationId::console() {
        let message = "console is the name of the vault's own console";
        return Err(
            Error::usage("STATION-NAME-RESERVED", message).hint("give the station another name")
        );
    }
    let store = create_store(&arguments.keys, console)?;
    let label = arguments.keys.object().unwrap_or(STATION_KEY);
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
    let report = Report {
        schema: "mintmark/station-request/1",
        station: arguments.name.to_string(),
        file: arguments.output.display().to_string(),
        fingerprint: Fingerprint::of(&der).to_string(),
        already,
    };
    if console.is_json() {
        return json(console, &report);
    }
    let (station, file) = (&report.station, &report.file);
    console.line(match already {
        true => format!("{file}: request of station {station}, for the key that it has"),
        false => format!("{file}: request of station {station}, for a key that was made now"),
    });
    console.line(format!("fingerprint  {}", report.fingerprint));
    console.note(
        "next: carry the file to the vault and read the fingerprint out to its operator, who runs `site station approve`",
    );
    Ok(Exit::Done)
}
