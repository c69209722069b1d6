//! The working hours of a station, as they are told on the command line.

use mintmark_ledger::entry::STATION_INTERVALS_MAX;
use mintmark_ledger::policy::WorkingHours;
use mintmark_protocol::entitlement::Interval;

use crate::failure::{Error, Result};

/// When a station works: all four, or none.
#[derive(Debug, clap::Args)]
pub(super) struct Hours {
    /// The time zone of its working hours, by its IANA name, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires_all = ["hours_from", "hours_to"])]
    hours_zone: Option<String>,
    /// The days on which it works: mon to sun, joined by commas
    #[arg(
        long,
        value_name = "DAYS",
        value_delimiter = ',',
        requires = "hours_zone",
        default_value = "mon,tue,wed,thu,fri,sat,sun"
    )]
    hours_days: Vec<String>,
    /// From when it works, HH:MM
    #[arg(long, value_name = "HH:MM", requires = "hours_zone")]
    hours_from: Option<String>,
    /// Until when, HH:MM or 24:00; where that is not later it is a time of the day after
    #[arg(long, value_name = "HH:MM", requires = "hours_zone")]
    hours_to: Option<String>,
}

impl Hours {
    /// The intervals of `window` in which the station works; none: all of it. They are settled here, once: the log holds
    /// times, and no zone.
    ///
    /// # Errors
    /// STATION-HOURS-INVALID.
    pub(super) fn compile(&self, window: Interval) -> Result<Option<Vec<Interval>>> {
        let told = (&self.hours_zone, &self.hours_from, &self.hours_to);
        let (Some(zone), Some(from), Some(to)) = told else {
            return Ok(None);
        };
        let hours = WorkingHours::new(zone, &self.hours_days, from, to)
            .and_then(|hours| hours.compile(window));
        let hours = hours.map_err(|error| invalid(error.to_string()))?;
        if hours.len() > STATION_INTERVALS_MAX {
            let count = hours.len();
            return Err(invalid(format!(
                "they are {count} stretches of time, and {STATION_INTERVALS_MAX} fit: let the station in for fewer days"
            )));
        }
        Ok(Some(hours))
    }
}

fn invalid(why: String) -> Error {
    Error::usage("STATION-HOURS-INVALID", format!("the working hours cannot be used: {why}"))
        .hint("such as --hours-zone Europe/Berlin --hours-days mon,tue --hours-from 06:00 --hours-to 22:00")
}
