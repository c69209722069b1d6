//! From the text of a policy to a [`Policy`]: each field into the type that can hold nothing wrong.

use std::fmt::Display;
use std::ops::RangeInclusive;

use chrono::{NaiveDate, TimeDelta};
use mintmark_protocol::entitlement::{CLOCK_GAP_DAYS_MAX, Credit, RETENTION_DAYS_MAX, UNITS_MAX};
use mintmark_protocol::identifier::Fingerprint;
use toml::Spanned;
use toml::value::{Datetime, Offset};

use super::document::{self, Document, Versioned};
use super::source::Source;
use super::{
    ANCHOR_LEASE_DEFAULT, ANCHOR_LEASE_MAX, DAYS_MAX, POLICY_BYTES_MAX, Policy, PolicyError,
    UNREPORTED_DAYS_MAX, ValidEnd, key, product,
};
use crate::state::clock::CLOCK_GAP_DAYS_DEFAULT;

/// What counts things: 1 to 2^48.
pub(super) const COUNT: RangeInclusive<u64> = 1..=UNITS_MAX;

pub(super) fn policy(text: &str) -> Result<Policy, PolicyError> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLarge { bytes: text.len() });
    }
    let source = Source(text);
    // The schema goes first: of a later one, it is no news that some field is unknown.
    let Versioned { schema } = toml::from_str(text).map_err(|error| source.shape(&error))?;
    if *schema.get_ref() != 1 {
        return Err(PolicyError::Schema {
            line: source.line(&schema),
            found: *schema.get_ref(),
        });
    }
    let document: Document = toml::from_str(text).map_err(|error| source.shape(&error))?;
    let (valid_from, valid_end, window_line) = window(source, &document)?;
    let products = product::products(source, &document.product)?;
    let policy = Policy {
        digest: Fingerprint::of(text.as_bytes()),
        id: read(source, &document.id, "id")?,
        valid_from,
        valid_end,
        window_line,
        credit: credit(source, document.credit.as_ref())?,
        anchor_lease_max: match &document.anchor_lease_max {
            Some(lease) => number(source, lease, "anchor_lease_max", 1..=ANCHOR_LEASE_MAX)?,
            None => ANCHOR_LEASE_DEFAULT,
        },
        clock_gap_days_max: match &document.clock_gap_max_days {
            Some(days) => number(source, days, "clock_gap_max_days", 1..=CLOCK_GAP_DAYS_MAX)?,
            None => CLOCK_GAP_DAYS_DEFAULT,
        },
        retention_days: match &document.retention_days {
            Some(days) => Some(number(
                source,
                days,
                "retention_days",
                1..=RETENTION_DAYS_MAX,
            )?),
            None => None,
        },
        keys: key::keys(source, &document.key, &products)?,
        products,
    };
    // A window that the text fixes is checked now; one that counts from the draft can only be checked then.
    if let Some(from) = policy.valid_from {
        let window = policy.window(from)?;
        for product in &policy.products {
            product.intervals(window)?;
        }
    }
    Ok(policy)
}

pub(super) fn value<T>(
    source: Source<'_>,
    at: &Spanned<T>,
    field: &str,
    reason: impl Into<String>,
) -> PolicyError {
    PolicyError::Value {
        line: source.line(at),
        field: field.to_owned(),
        reason: reason.into(),
    }
}

/// A text that is a name of some kind.
pub(super) fn read<T>(
    source: Source<'_>,
    at: &Spanned<String>,
    field: &str,
) -> Result<T, PolicyError>
where
    T: std::str::FromStr,
    T::Err: Display,
{
    at.get_ref()
        .parse()
        .map_err(|error| value(source, at, field, format!("{error}")))
}

/// A whole number within a range.
pub(super) fn number(
    source: Source<'_>,
    at: &Spanned<i64>,
    field: &str,
    range: RangeInclusive<u64>,
) -> Result<u64, PolicyError> {
    let number = u64::try_from(*at.get_ref())
        .ok()
        .filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (from, to) = range.into_inner();
        value(
            source,
            at,
            field,
            format!("{} is not within {from} to {to}", at.get_ref()),
        )
    })
}

fn window(
    source: Source<'_>,
    document: &Document,
) -> Result<(Option<u64>, ValidEnd, usize), PolicyError> {
    let from = document
        .valid_from
        .as_ref()
        .map(|time| moment(source, time, "valid_from"))
        .transpose()?;
    let (end, line) = match (&document.valid_until, &document.valid_for_days) {
        (Some(_), Some(days)) => {
            let reason = "valid_until and valid_for_days are both given".to_owned();
            return Err(PolicyError::Window {
                line: source.line(days),
                reason,
            });
        }
        (None, None) => {
            let why = "an entitlement must end; give valid_until or valid_for_days";
            return Err(PolicyError::FieldMissing {
                line: 1,
                field: "valid_until".to_owned(),
                why,
            });
        }
        (Some(time), None) => (
            ValidEnd::Until(moment(source, time, "valid_until")?),
            source.line(time),
        ),
        (None, Some(days)) => {
            let line = source.line(days);
            let in_range = u64::try_from(*days.get_ref())
                .ok()
                .filter(|days| (1..=DAYS_MAX).contains(days));
            let days = in_range.ok_or_else(|| PolicyError::Window {
                line,
                reason: format!(
                    "valid_for_days = {} is not within 1 to {DAYS_MAX}",
                    days.get_ref()
                ),
            })?;
            (ValidEnd::ForDays(days), line)
        }
    };
    Ok((from, end, line))
}

/// A TOML time in Unix seconds. TOML also has times without an offset, and those are no moments.
pub(super) fn moment(
    source: Source<'_>,
    at: &Spanned<Datetime>,
    field: &str,
) -> Result<u64, PolicyError> {
    let found = at.get_ref();
    let (Some(date), Some(clock)) = (found.date, found.time) else {
        let reason =
            format!("{found} is not a date with a time and an offset, like 2027-01-01T00:00:00Z");
        return Err(value(source, at, field, reason));
    };
    let minutes = match found.offset {
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => i64::from(minutes),
        None => {
            let (line, found) = (source.line(at), found.to_string());
            return Err(PolicyError::TimeWithoutOffset {
                line,
                field: field.to_owned(),
                found,
            });
        }
    };
    let second = clock.second.unwrap_or_default();
    if second > 59 || clock.nanosecond.is_some_and(|nanosecond| nanosecond > 0) {
        return Err(value(
            source,
            at,
            field,
            format!("{found} is not a whole second of Unix time"),
        ));
    }
    let day = NaiveDate::from_ymd_opt(
        i32::from(date.year),
        u32::from(date.month),
        u32::from(date.day),
    );
    let local = day.and_then(|day| {
        day.and_hms_opt(
            u32::from(clock.hour),
            u32::from(clock.minute),
            u32::from(second),
        )
    });
    let utc = local.and_then(|local| local.checked_sub_signed(TimeDelta::minutes(minutes)));
    let unix = utc.and_then(|utc| u64::try_from(utc.and_utc().timestamp()).ok());
    unix.ok_or_else(|| value(source, at, field, format!("{found} is before 1970")))
}

fn credit(source: Source<'_>, credit: Option<&document::Credit>) -> Result<Credit, PolicyError> {
    let Some(credit) = credit else {
        return Err(PolicyError::FieldMissing {
            line: 1,
            field: "[credit]".to_owned(),
            why: "a vault must know when to stop while headquarters does not see its log (audit or stop)",
        });
    };
    let days = &credit.max_unreported_days;
    Ok(Credit {
        unreported_units_max: number(
            source,
            &credit.max_unreported_units,
            "max_unreported_units",
            COUNT,
        )?,
        unreported_days_max: number(source, days, "max_unreported_days", 1..=UNREPORTED_DAYS_MAX)?,
    })
}
