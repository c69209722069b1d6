//! `site station rotate-tls`: the service gets another key, and a certificate for it.

use std::sync::Arc;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit};
use mintmark_keys::KeyUri;
use mintmark_protocol::identifier::Fingerprint;
use serde::Serialize;

use super::super::json;
use crate::failure::Result;
use crate::place::Place;
use crate::serve::{Key, Setup};
use crate::vault::keyring::open_store;

/// What `site station rotate-tls` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the service's key is; not given: where `site serve` was told last
    #[arg(long, value_name = "URI")]
    tls_keys: Option<KeyUri>,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    /// The label of the new key.
    key: String,
    names: Vec<String>,
    until: String,
    certificate_sha256: String,
    station_ca_sha256: String,
}

/// Makes them. A service that runs takes them up by itself; connections that are open go on.
pub(super) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let home = place.home()?;
    let setup = Setup::read(home.path())?;
    let keys = arguments.tls_keys.as_ref().or(setup.tls_keys.as_ref());
    let store = keys.map(|uri| open_store(uri, console)).transpose()?;
    let mut vault = place.open(console)?;
    let credential = vault.with(|vault| {
        let store = match &store {
            Some(store) => Arc::clone(store),
            None => Arc::clone(vault.keyring()?.store()),
        };
        vault.service_credential(home.path(), &store, &setup.names, Key::Next)
    })?;
    vault.close()?;
    let report = Report {
        schema: "mintmark/service-certificate/1",
        key: credential.label.clone(),
        names: setup.names.iter().map(ToString::to_string).collect(),
        until: rfc3339(credential.until),
        certificate_sha256: Fingerprint::of(&credential.certificate).to_string(),
        station_ca_sha256: Fingerprint::of(&credential.station_ca).to_string(),
    };
    if console.is_json() {
        return json(console, &report);
    }
    console.line(format!(
        "the service has the key {} now, and a certificate until {}",
        report.key, report.until
    ));
    console.note("a service that runs takes it up within seconds; the key before it stays in the token, and is not used");
    Ok(Exit::Done)
}
