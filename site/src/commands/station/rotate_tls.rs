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
use crate::serve::{Key, Setup, next_credential};
use crate::vault::Vault;
use crate::vault::keyring::open_store;

/// What `site station rotate-tls` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the service's key is; not given: where `site serve` was told last
    #[arg(long, value_name = "URI")]
    tls_keys: Option<KeyUri>,
    /// Say which key would be made, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    /// The label of the new key.
    key: String,
    names: Vec<String>,
    until: String,
    /// None in a dry run.
    certificate_sha256: Option<String>,
    /// None in a dry run where it would be made as well.
    station_ca_sha256: Option<String>,
    dry_run: bool,
}

/// Makes them. A service that runs takes them up by itself; connections that are open go on.
pub(super) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let home = place.home()?;
    let setup = Setup::read(home.path())?;
    let keys = arguments.tls_keys.as_ref().or(setup.tls_keys.as_ref());
    let store = keys.map(|uri| open_store(uri, console)).transpose()?;
    let mut vault = place.open(console)?;
    let store_of = |vault: &Vault<'_>| match &store {
        Some(store) => Ok(Arc::clone(store)),
        None => vault.keyring().map(|keyring| Arc::clone(keyring.store())),
    };
    let digest = |der: &[u8]| Fingerprint::of(der).to_string();
    let report = |key: String, until: u64, certificate, station_ca| Report {
        schema: "mintmark/service-certificate/1",
        key,
        names: setup.names.iter().map(ToString::to_string).collect(),
        until: rfc3339(until),
        certificate_sha256: certificate,
        station_ca_sha256: station_ca,
        dry_run: arguments.dry_run,
    };
    if arguments.dry_run {
        let ((key, until), station_ca) = vault.rehearse(|vault| {
            let station_ca = vault.present_station_ca()?;
            let next = next_credential(&*store_of(vault)?, vault.time())?;
            Ok((next, station_ca))
        })?;
        let station_ca = station_ca.map(|(issuer, _)| digest(issuer.certificate_der()));
        return show(&report(key, until, None, station_ca), console);
    }
    let made = vault.with(|vault| {
        let store = store_of(vault)?;
        vault.service_credential(home.path(), &store, &setup.names, Key::Next)
    })?;
    vault.close()?;
    let (certificate, station_ca) = (digest(&made.certificate), digest(&made.station_ca));
    let report = report(made.label, made.until, Some(certificate), Some(station_ca));
    show(&report, console)
}

fn show(report: &Report, console: &Console) -> Result<Exit> {
    if console.is_json() {
        return json(console, report);
    }
    let (key, until) = (&report.key, &report.until);
    if report.dry_run {
        console.line(format!(
            "would make the key {key} for the service, and a certificate until {until}"
        ));
        console.note("nothing was changed");
        return Ok(Exit::Done);
    }
    console.line(format!(
        "the service has the key {key} now, and a certificate until {until}"
    ));
    console.note("a service that runs takes it up within seconds; the key before it stays in the token, and is not used");
    Ok(Exit::Done)
}
