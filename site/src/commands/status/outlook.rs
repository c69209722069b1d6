//! What an account may still make: its rates now, its windows, and the day on which its units end at the present rate.

use mintmark_console::time::rfc3339;
use mintmark_ledger::policy::{day_window, hour_window};
use mintmark_ledger::state::{Account, Granted, State, WindowCount};
use mintmark_protocol::entitlement::{Interval, ProductTerms};
use serde::Serialize;

use crate::vault::anchor::burned_in_words;

const SECONDS_PER_HOUR: u64 = 3600;
const SECONDS_PER_DAY: u64 = 86_400;
/// The days with production by which the present rate is told.
const DAYS_OF_RATE: usize = 7;
/// The most days that a forecast looks ahead, the longest window of a policy.
const DAYS_AHEAD_MAX: u64 = 36_500;

/// One rate, in the fixed UTC window that it counts in now.
#[derive(Serialize)]
pub(super) struct Rate {
    /// Units of this window; none where time was set back into it, so that it is not known and nothing is left.
    used: Option<u64>,
    /// None: no limit.
    limit: Option<u64>,
    /// When the next window begins.
    next: String,
}

impl Rate {
    fn new(count: WindowCount, window: u64, limit: Option<u64>, seconds: u64) -> Self {
        let used = count.units_in(window);
        let next = window.saturating_add(1).saturating_mul(seconds);
        Self {
            used: (used != u64::MAX).then_some(used),
            limit,
            next: rfc3339(next),
        }
    }

    fn is_used_up(&self) -> bool {
        let Some(limit) = self.limit else {
            return false;
        };
        self.used.is_none_or(|used| used >= limit)
    }

    fn words(&self, what: &str) -> String {
        let used = match (self.used, self.limit) {
            (None, Some(limit)) => format!("none left of {limit} {what}"),
            (None, None) => format!("an unknown number {what}"),
            (Some(used), Some(limit)) => format!("{used} of {limit} {what}"),
            (Some(used), None) => format!("{used} {what}"),
        };
        if self.is_used_up() {
            format!("{used}, the next from {}", self.next)
        } else {
            used
        }
    }
}

/// When units may be made.
#[derive(Serialize)]
pub(super) struct Windows {
    /// `ahead`, `open`, `over` or `revoked`.
    state: &'static str,
    valid_from: String,
    valid_until: String,
    /// None: any time of the window.
    working_hours: Option<Hours>,
}

/// The working hours that run now, or the next ones.
#[derive(Serialize)]
pub(super) struct Hours {
    now: bool,
    /// None: no more in the window.
    from: Option<String>,
    until: Option<String>,
}

/// When the units end if it goes on like this.
#[derive(Serialize)]
pub(super) struct Forecast {
    /// Units of a UTC day with production, rounded to a whole one.
    units_per_day: u64,
    /// The UTC day on which the last unit is made; none if the window ends before that.
    ends: Option<String>,
    /// Units that are left when the window ends, at this rate.
    left_over: u64,
}

/// All of it, for one account.
#[derive(Serialize)]
pub(super) struct Outlook {
    rate_hour: Rate,
    rate_day: Rate,
    /// None of an account whose entitlement no longer names the product.
    windows: Option<Windows>,
    /// None while nothing was made, or nothing more can be.
    forecast: Option<Forecast>,
}

impl Outlook {
    pub(super) fn new(state: &State, account: &Account, now: u64) -> Self {
        let granted = state.entitlements().get(&account.entitlement);
        let terms = granted.and_then(|granted| granted.terms.product(&account.sku));
        let limit = |rate: fn(&ProductTerms) -> Option<u64>| terms.and_then(rate);
        let hour = limit(|terms| terms.units_per_hour);
        let day = limit(|terms| terms.units_per_day);
        let granted = granted.zip(terms);
        Self {
            rate_hour: Rate::new(account.hour, hour_window(now), hour, SECONDS_PER_HOUR),
            rate_day: Rate::new(account.day, day_window(now), day, SECONDS_PER_DAY),
            windows: granted.map(|(granted, terms)| windows(granted, terms, now)),
            forecast: granted
                .filter(|(granted, _)| {
                    granted.revoked.is_none()
                        && granted.terms.window.until > now
                        && state.disabled_at().is_none()
                })
                .and_then(|(granted, terms)| forecast(account, terms, granted.terms.window, now)),
        }
    }

    /// Whether a rate keeps the account from another unit now, and until when.
    pub(super) fn waits(&self) -> Option<&str> {
        let rates = [&self.rate_day, &self.rate_hour];
        let rate = rates.into_iter().find(|rate| rate.is_used_up())?;
        Some(&rate.next)
    }

    /// When the next working hours begin, if none run now; none while they run, or where there are no more.
    pub(super) fn hours_next(&self) -> Option<&str> {
        let windows = self.windows.as_ref().filter(|w| w.state == "open")?;
        let hours = windows.working_hours.as_ref().filter(|hours| !hours.now)?;
        hours.from.as_deref()
    }

    /// Whether nothing is made any more: the window is over, or no working hours are left in it.
    pub(super) fn is_over(&self) -> bool {
        self.windows.as_ref().is_some_and(|windows| {
            let hours = windows.working_hours.as_ref();
            let hours_over = hours.is_some_and(|hours| !hours.now && hours.from.is_none());
            hours_over || !matches!(windows.state, "ahead" | "open")
        })
    }

    /// In words, one line each.
    pub(super) fn words(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{}; {}",
            self.rate_hour.words("this hour"),
            self.rate_day.words("today (UTC)")
        )];
        if let Some(windows) = &self.windows {
            let (from, until) = (&windows.valid_from, &windows.valid_until);
            lines.push(match windows.state {
                "ahead" => format!("valid from {from} to {until}"),
                "open" => format!("valid until {until}"),
                "over" => format!("over since {until}"),
                _ => "revoked".to_owned(),
            });
            let hours = windows.working_hours.as_ref();
            let hours = hours.filter(|_| matches!(windows.state, "ahead" | "open"));
            lines.extend(
                hours.map(|hours| match (hours.now, &hours.from, &hours.until) {
                    (true, _, Some(until)) => format!("working hours now, until {until}"),
                    (false, Some(from), _) => format!("no working hours now; the next from {from}"),
                    _ => "no more working hours".to_owned(),
                }),
            );
        }
        if let Some(forecast) = &self.forecast {
            let (rate, left) = (forecast.units_per_day, forecast.left_over);
            lines.push(match &forecast.ends {
                Some(ends) => {
                    let day = ends.get(..10).unwrap_or(ends);
                    format!("at {rate} a day the units end on {day}")
                }
                None => format!("at {rate} a day {left} units are left when the window ends"),
            });
        }
        lines
    }
}

/// What one account may still make, and what it cannot make any more.
#[derive(Serialize)]
pub(super) struct OutlookRow {
    pub(super) product: String,
    pub(super) entitlement: String,
    /// Of the unresolved units, those that were leased and may have been spent. Headquarters' accounts, which have the
    /// same fields as those here, count them among the unresolved ones.
    burned: u64,
    /// What that means, where there are any.
    pub(super) burned_because: Option<String>,
    #[serde(skip)]
    pub(super) unspent: u64,
    #[serde(flatten)]
    pub(super) outlook: Outlook,
}

impl OutlookRow {
    pub(super) fn new(state: &State, account: &Account, now: u64) -> Self {
        Self {
            product: account.sku.to_string(),
            entitlement: account.entitlement.to_string(),
            burned: account.burned,
            burned_because: (account.burned > 0).then(|| {
                let words = burned_in_words(account.burned);
                match state.parent() {
                    Some(_) => {
                        words.replacen("cleanly", "cleanly, or when its home was put back", 1)
                    }
                    None => words,
                }
            }),
            unspent: account.unspent(),
            outlook: Outlook::new(state, account, now),
        }
    }
}

fn windows(granted: &Granted, terms: &ProductTerms, now: u64) -> Windows {
    let window = granted.terms.window;
    let state = if granted.revoked.is_some() {
        "revoked"
    } else if now < window.from {
        "ahead"
    } else if now < window.until {
        "open"
    } else {
        "over"
    };
    let hours = terms.working_hours.as_ref().map(|hours| {
        let next = hours.get(hours.partition_point(|hours| hours.until <= now));
        Hours {
            now: next.is_some_and(|hours| hours.contains(now)),
            from: next.map(|hours| rfc3339(hours.from)),
            until: next.map(|hours| rfc3339(hours.until)),
        }
    });
    Windows {
        state,
        valid_from: rfc3339(window.from),
        valid_until: rfc3339(window.until),
        working_hours: hours,
    }
}

/// Units of a day with production: of the newest seven before today, or of today where there are no others.
fn units_per_day(account: &Account, today: u64) -> Option<u64> {
    let known = |day: &&WindowCount| day.units > 0 && day.units != u64::MAX;
    let mut days: Vec<u64> = account
        .days
        .iter()
        .filter(known)
        .filter(|day| day.window < today)
        .map(|day| day.units)
        .rev()
        .take(DAYS_OF_RATE)
        .collect();
    if days.is_empty() {
        days = account
            .days
            .iter()
            .filter(known)
            .map(|day| day.units)
            .next_back()
            .into_iter()
            .collect();
    }
    let count = days.len() as u64;
    let sum = days.into_iter().fold(0, u64::saturating_add);
    let rounded = sum.saturating_add(count / 2).checked_div(count)?;
    Some(rounded.max(1))
}

fn forecast(
    account: &Account,
    terms: &ProductTerms,
    window: Interval,
    now: u64,
) -> Option<Forecast> {
    let today = day_window(now);
    let rate = units_per_day(account, today)?;
    let mut left = account.unspent();
    if left == 0 {
        return None;
    }
    let first = day_window(now.max(window.from));
    let last = day_window(window.until.saturating_sub(1));
    let mut ends = None;
    for day in (first..=last).take(usize::try_from(DAYS_AHEAD_MAX).unwrap_or(usize::MAX)) {
        let from = day
            .saturating_mul(SECONDS_PER_DAY)
            .max(now)
            .max(window.from);
        let until = day.saturating_add(1).saturating_mul(SECONDS_PER_DAY);
        let hours = open_hours(terms, from, until.min(window.until));
        let of_hours = terms
            .units_per_hour
            .map_or(u64::MAX, |units| units.saturating_mul(hours));
        let made = if day == today {
            account.day.units_in(day)
        } else {
            0
        };
        let of_day = rate.min(terms.units_per_day.unwrap_or(u64::MAX));
        let more = if hours == 0 {
            0
        } else {
            of_day.saturating_sub(made).min(of_hours)
        };
        left = left.saturating_sub(more);
        if left == 0 {
            ends = Some(rfc3339(day.saturating_mul(SECONDS_PER_DAY)));
            break;
        }
    }
    Some(Forecast {
        units_per_day: rate,
        ends,
        left_over: left,
    })
}

/// How many UTC hours of a stretch of time within one day something may be made in.
fn open_hours(terms: &ProductTerms, from: u64, until: u64) -> u64 {
    if from >= until {
        return 0;
    }
    let Some(hours) = &terms.working_hours else {
        return hour_window(until - 1) - hour_window(from) + 1;
    };
    let (mut count, mut before) = (0, None);
    let start = hours.partition_point(|hours| hours.until <= from);
    for open in hours
        .iter()
        .skip(start)
        .take_while(|open| open.from < until)
    {
        let (from, until) = (open.from.max(from), open.until.min(until));
        for hour in hour_window(from)..=hour_window(until.saturating_sub(1)) {
            if before != Some(hour) {
                count += 1;
                before = Some(hour);
            }
        }
    }
    count
}
