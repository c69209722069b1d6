//! `site station approve`: the vault's operator lets a station in.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, files};
use mintmark_ledger::entry::{STATION_PRODUCTS_MAX, StationTerms};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, CSR_FILE_BYTES_MAX, CertificationRequest, to_pem};
use mintmark_protocol::entitlement::Interval;
use mintmark_protocol::identifier::{Fingerprint, Sku, StationId};
use serde::Serialize;

use super::super::json;
use super::hours::Hours;
use crate::failure::{Error, Result};
use crate::place::Place;

const SECONDS_PER_DAY: u64 = 86_400;

/// What `site station approve` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What the station asked with
    #[arg(long, value_name = "F")]
    pub(super) request: PathBuf,
    /// The fingerprint that was read out at the station
    #[arg(long, value_name = "HEX")]
    fingerprint: Fingerprint,
    /// The file for the station: its certificate, and that of the station CA
    #[arg(long, value_name = "F")]
    pub(super) output: PathBuf,
    /// A product that it may ask for; none given: whatever entitlements allow
    #[arg(long, value_name = "SKU")]
    product: Vec<Sku>,
    /// How many new units it may have in a UTC day; not given: as many as entitlements allow
    #[arg(long, value_name = "N")]
    units_per_day: Option<NonZeroU64>,
    /// For how many days it is let in
    #[arg(long, value_name = "D", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    valid_days: u64,
    #[command(flatten)]
    hours: Hours,
    /// Say whether it would be let in, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    station: String,
    file: String,
    products: Vec<String>,
    units_per_day: Option<u64>,
    until: String,
    /// None in a dry run.
    certificate_sha256: Option<String>,
    /// None in a dry run before the first station was let in, or the service started.
    station_ca_sha256: Option<String>,
    dry_run: bool,
}

/// Lets it in.
pub(super) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    let request = files::read_limited(&arguments.request, CSR_FILE_BYTES_MAX as u64)?;
    let request = CertificationRequest::from_file_bytes(&request)?;
    expect_compared(&request, &arguments.fingerprint)?;
    let station = name_of(&request)?;
    if arguments.product.len() > STATION_PRODUCTS_MAX {
        let message = format!("at most {STATION_PRODUCTS_MAX} products can be named");
        return Err(Error::usage("STATION-PRODUCTS-TOO-MANY", message)
            .hint("name none, and the station may ask for whatever entitlements allow"));
    }
    expect_place(&arguments.output)?;
    let mut vault = place.open(console)?;
    if arguments.dry_run {
        let (until, tried) = vault.rehearse(|vault| {
            let terms = terms(arguments, vault.time())?;
            let until = terms.until;
            let tried = vault.rehearse_station_approval(&station, &request, terms)?;
            Ok((until, tried))
        })?;
        let report = report(arguments, &station, until, None, tried?.as_deref());
        return show(&report, console);
    }
    let (until, admitted) = vault.with(|vault| {
        let terms = terms(arguments, vault.time())?;
        Ok((
            terms.until,
            vault.approve_station(&station, &request, terms)?,
        ))
    })?;
    vault.close()?;
    let admitted = admitted?;
    let pem: String = [&admitted.certificate, &admitted.station_ca]
        .map(|der| to_pem("CERTIFICATE", der))
        .concat();
    files::write_public_replace(&arguments.output, pem.as_bytes()).map_err(|error| {
        let message = "the station is let in, and its certificate could not be written";
        Error::unknown("STATION-UNWRITTEN", message).cause(error).hint(
            "put right what is named, then run the same command again: it gets another certificate",
        )
    })?;
    let (certificate, station_ca) = (&admitted.certificate, &admitted.station_ca);
    let report = report(
        arguments,
        &station,
        until,
        Some(certificate),
        Some(station_ca),
    );
    show(&report, console)
}

fn report(
    arguments: &Arguments,
    station: &StationId,
    until: u64,
    certificate: Option<&[u8]>,
    station_ca: Option<&[u8]>,
) -> Report {
    let digest = |der: &[u8]| Fingerprint::of(der).to_string();
    Report {
        schema: "mintmark/station/1",
        station: station.to_string(),
        file: arguments.output.display().to_string(),
        products: arguments.product.iter().map(ToString::to_string).collect(),
        units_per_day: arguments.units_per_day.map(NonZeroU64::get),
        until: rfc3339(until),
        certificate_sha256: certificate.map(digest),
        station_ca_sha256: station_ca.map(digest),
        dry_run: arguments.dry_run,
    }
}

fn show(report: &Report, console: &Console) -> Result<Exit> {
    if console.is_json() {
        return json(console, report);
    }
    let (station, until, file) = (&report.station, &report.until, &report.file);
    if report.dry_run {
        console.line(format!("station {station} would be let in until {until}"));
        console.line(match report.station_ca_sha256 {
            Some(_) => format!("its certificate, and that of the station CA, would be written to {file}"),
            None => format!(
                "the station CA would be made, and its certificate written to {file} with that of the station"
            ),
        });
        console.note("nothing was changed");
        return Ok(Exit::Done);
    }
    console.line(format!("station {station} is let in until {until}"));
    console.line(format!(
        "{file}: its certificate, and that of the station CA"
    ));
    console.note(format!(
        "next: carry {file} to the station; `site request` there takes it with --station"
    ));
    Ok(Exit::Done)
}

fn terms(arguments: &Arguments, now: u64) -> Result<StationTerms> {
    let days = arguments.valid_days.saturating_mul(SECONDS_PER_DAY);
    let until = now.saturating_add(days);
    let working_hours = arguments.hours.compile(Interval { from: now, until })?;
    let products = Some(arguments.product.clone()).filter(|products| !products.is_empty());
    Ok(StationTerms {
        products,
        units_per_day: arguments.units_per_day.map(NonZeroU64::get),
        until,
        working_hours,
    })
}

/// Whoever approves has compared what the station showed.
fn expect_compared(request: &CertificationRequest, fingerprint: &Fingerprint) -> Result<()> {
    let found = Fingerprint::of(request.der());
    if found == *fingerprint {
        return Ok(());
    }
    let message = format!("this request has the fingerprint {found}, and not {fingerprint}");
    Err(Error::negative("FINGERPRINT-MISMATCH", message)
        .hint("do not approve it; have the fingerprint read out at the station once more"))
}

fn name_of(request: &CertificationRequest) -> Result<StationId> {
    let name = request.common_name().unwrap_or_default();
    name.parse().map_err(|_| {
        let message = "the request's common name is no station name: 1 to 32 of a-z, 0-9 and -";
        Error::negative("STATION-NAME-INVALID", message)
            .hint("make the request with `site station request --name NAME`")
    })
}

/// Nothing but certificates is replaced.
fn expect_place(path: &Path) -> Result<()> {
    let taken = || {
        let message = format!("{} is something else", path.display());
        Error::environment("OUTPUT-TAKEN", message).hint("give another name, or move it away")
    };
    match files::read_limited(path, CERTIFICATE_FILE_BYTES_MAX as u64) {
        Ok(there) if there.starts_with(b"-----BEGIN CERTIFICATE-----") => Ok(()),
        Ok(_) => Err(taken()),
        Err(error) if error.is_missing() => match path.parent() {
            Some(folder) if folder != Path::new("") && !folder.is_dir() => {
                let message = format!("there is no folder {}", folder.display());
                Err(Error::environment("OUTPUT-FOLDER", message)
                    .hint("nothing was changed; name a file in a folder that exists"))
            }
            _ => Ok(()),
        },
        Err(error) => match error.kind() {
            files::Kind::TooLarge { .. } | files::Kind::NotRegular { .. } => Err(taken()),
            _ => Err(error.into()),
        },
    }
}
