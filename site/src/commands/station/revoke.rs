//! `site station revoke`: the vault's operator shuts a station out.

use mintmark_console::{Console, Exit};
use mintmark_protocol::identifier::StationId;
use mintmark_protocol::order::{REASON_RULE, may_give_reason};
use serde::Serialize;

use super::super::json;
use crate::failure::{Error, Result};
use crate::place::Place;

/// What `site station revoke` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The station
    #[arg(value_name = "NAME")]
    station: StationId,
    /// Why, in one line of up to 200 characters; the log keeps it, and headquarters reads it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The name once more, where there is no terminal to type it on
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Say what would be decided, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    station: String,
    reason: String,
    dry_run: bool,
}

/// Shuts it out.
pub(super) fn execute(arguments: &Arguments, place: &Place<'_>, console: &Console) -> Result<Exit> {
    if !may_give_reason(&arguments.reason) {
        return Err(Error::usage("REASON-INVALID", REASON_RULE)
            .hint("say in one line why, without line breaks"));
    }
    let name = arguments.station.as_str();
    let what = format!("shut out station {name}");
    let (station, reason, dry_run) = (&arguments.station, &arguments.reason, arguments.dry_run);
    if !dry_run {
        console.confirm_identifier(&what, name, arguments.confirm.as_deref())?;
    }
    let mut vault = place.open(console)?;
    let refusal = if dry_run {
        vault.rehearse(|vault| vault.rehearse_station_revocation(station, reason))?
    } else {
        let refusal = vault.with(|vault| vault.revoke_station(station, reason))?;
        vault.close()?;
        refusal
    };
    if let Some(refusal) = refusal {
        return Err(refusal.into());
    }
    let report = Report {
        schema: "mintmark/station/1",
        station: name.to_owned(),
        reason: arguments.reason.clone(),
        dry_run,
    };
    if console.is_json() {
        return json(console, &report);
    }
    if dry_run {
        console.line(format!("station {name} would be shut out"));
        console.note("nothing was changed");
    } else {
        console.line(format!("station {name} is shut out"));
    }
    Ok(Exit::Done)
}
