//! Working hours: weekly times of a place, compiled to UTC intervals.
//!
//! Headquarters compiles them once, at the draft, and the officers approve the intervals. Vaults and replays know no time
//! zones, so a change of a zone's rules in a later release changes nothing that was approved.

use std::fmt;

use chrono::{
    DateTime, Datelike as _, Days, MappedLocalTime, NaiveDate, NaiveTime, TimeZone as _, Weekday,
};
use chrono_tz::{GapInfo, Tz};
use mintmark_protocol::entitlement::{INTERVALS_MAX, Interval};

use super::source::shown;

/// The times of a place at which a product may be made, week by week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkingHours {
    zone: Tz,
    /// Monday first.
    days: [bool; 7],
    from: NaiveTime,
    /// None: the end of the day (24:00).
    to: Option<NaiveTime>,
}

/// Why working hours are no working hours, or none in this window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HoursError(String);

const WEEK: [(&str, Weekday); 7] = [
    ("mon", Weekday::Mon),
    ("tue", Weekday::Tue),
    ("wed", Weekday::Wed),
    ("thu", Weekday::Thu),
    ("fri", Weekday::Fri),
    ("sat", Weekday::Sat),
    ("sun", Weekday::Sun),
];

impl WorkingHours {
    /// Reads the four fields as a policy has them: an IANA zone name, days `mon` to `sun`, times `HH:MM`. `to` may be
    /// `24:00`; where it is not after `from` it is a time of the day after.
    ///
    /// # Errors
    /// One sentence that names the field and says what it should hold.
    pub fn new<D: AsRef<str>>(
        zone: &str,
        days: &[D],
        from: &str,
        to: &str,
    ) -> Result<Self, HoursError> {
        let zone: Tz = zone.parse().map_err(|_| {
            HoursError(format!(
                "zone `{}` is not in the IANA time zone database ({})",
                shown(zone),
                chrono_tz::IANA_TZDB_VERSION
            ))
        })?;
        let mut week = [false; 7];
        for day in days {
            let day = day.as_ref();
            let place = WEEK.iter().position(|(name, _)| *name == day);
            match place.and_then(|place| week.get_mut(place)) {
                Some(chosen) if *chosen => {
                    return Err(HoursError(format!("day `{day}` is named twice")));
                }
                Some(chosen) => *chosen = true,
                None => {
                    return Err(HoursError(format!(
                        "day `{}` is none of mon, tue, wed, thu, fri, sat, sun",
                        shown(day)
                    )));
                }
            }
        }
        if days.is_empty() {
            return Err(HoursError("days names no day".to_owned()));
        }
        let to = if to == "24:00" {
            None
        } else {
            Some(time_of_day("to", to)?)
        };
        Ok(Self {
            zone,
            days: week,
            from: time_of_day("from", from)?,
            to,
        })
    }

    /// The intervals of `window` that are working hours, in order, those that touch or overlap made one.
    ///
    /// A local time that does not exist, because clocks go forward over it, is taken as the first moment after the gap.
    /// Of a local time that comes twice, because clocks go back, `from` is the first and `to` the second.
    ///
    /// # Errors
    /// If there are none, or more than an entitlement may hold ([`INTERVALS_MAX`]).
    pub fn compile(&self, window: Interval) -> Result<Vec<Interval>, HoursError> {
        let date = |unix: u64| {
            let time = i64::try_from(unix)
                .ok()
                .and_then(|unix| DateTime::from_timestamp(unix, 0));
            time.map(|time| time.with_timezone(&self.zone).date_naive())
                .ok_or_else(|| HoursError("the window is beyond the calendar".to_owned()))
        };
        // Hours that began the day before may reach into the window; a zone may skip a whole day, so two are taken.
        let first = date(window.from)?
            .checked_sub_days(Days::new(2))
            .unwrap_or(NaiveDate::MIN);
        let last = date(window.until)?;
        let mut intervals: Vec<Interval> = Vec::new();
        for day in first.iter_days().take_while(|day| *day <= last) {
            let Some(hours) = self.on(day) else { continue };
            let from = hours.from.max(window.from);
            let until = hours.until.min(window.until);
            if from >= until {
                continue;
            }
            match intervals.last_mut() {
                Some(before) if from <= before.until => before.until = before.until.max(until),
                _ => intervals.push(Interval { from, until }),
            }
            if intervals.len() > INTERVALS_MAX {
                return Err(HoursError(format!(
                    "the window holds more than {INTERVALS_MAX} stretches of working hours"
                )));
            }
        }
        if intervals.is_empty() {
            return Err(HoursError(
                "the window holds none of these hours".to_owned(),
            ));
        }
        Ok(intervals)
    }

    /// The hours that begin on a day, if any do.
    fn on(&self, day: NaiveDate) -> Option<Interval> {
        let weekday = usize::try_from(day.weekday().num_days_from_monday()).ok()?;
        if !self.days.get(weekday).copied().unwrap_or_default() {
            return None;
        }
        let next = day.checked_add_days(Days::new(1))?;
        let (last_day, to) = match self.to {
            Some(to) if to > self.from => (day, to),
            Some(to) => (next, to),
            None => (next, NaiveTime::MIN),
        };
        let from = self.instant(day, self.from, MappedLocalTime::earliest)?;
        let until = self.instant(last_day, to, MappedLocalTime::latest)?;
        Some(Interval { from, until })
    }

    /// The moment of a local time, in Unix seconds.
    fn instant(
        &self,
        day: NaiveDate,
        time: NaiveTime,
        choose: fn(MappedLocalTime<DateTime<Tz>>) -> Option<DateTime<Tz>>,
    ) -> Option<u64> {
        let local = day.and_time(time);
        let moment = match self.zone.from_local_datetime(&local) {
            MappedLocalTime::None => GapInfo::new(&local, &self.zone)?.end?,
            exists => choose(exists)?,
        };
        u64::try_from(moment.timestamp()).ok()
    }
}

/// `06:00 to 22:00 Europe/Berlin on mon, tue`.
impl fmt::Display for WorkingHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = WEEK
            .iter()
            .zip(self.days)
            .filter_map(|((name, _), chosen)| chosen.then_some(*name));
        let days: Vec<&str> = chosen.collect();
        write!(f, "{} to ", self.from.format("%H:%M"))?;
        match self.to {
            None => f.write_str("24:00")?,
            Some(to) if to > self.from => write!(f, "{}", to.format("%H:%M"))?,
            Some(to) => write!(f, "{} of the day after", to.format("%H:%M"))?,
        }
        write!(f, " {} ", self.zone)?;
        if days.len() == WEEK.len() {
            f.write_str("every day")
        } else {
            write!(f, "on {}", days.join(", "))
        }
    }
}

/// `HH:MM`, 00:00 to 23:59, exactly so.
fn time_of_day(field: &str, text: &str) -> Result<NaiveTime, HoursError> {
    let wrong = || {
        HoursError(format!(
            "{field} = \"{}\" is not a time like \"06:00\"",
            shown(text)
        ))
    };
    let two = |digits: &str| {
        let sound = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if sound {
            digits.parse::<u32>().ok()
        } else {
            None
        }
    };
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let (hours, minutes) = two(hours).zip(two(minutes)).ok_or_else(wrong)?;
    NaiveTime::from_hms_opt(hours, minutes, 0).ok_or_else(wrong)
}
