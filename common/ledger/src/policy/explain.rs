//! A policy in plain words, for the officers who are to approve what it becomes.

use chrono::{DateTime, SecondsFormat};
use mintmark_protocol::entitlement::Interval;

use super::difference::listed_words;
use super::{KeyPolicy, KeyUse, Policy, ProductPolicy, SECONDS_PER_DAY};

impl Policy {
    /// What the policy allows, one sentence each, for an entitlement drafted at `now` (Unix seconds).
    pub fn explain(&self, now: u64) -> Vec<String> {
        let mut sentences = Vec::new();
        let window = self.window(now).ok();
        sentences.push(match window {
            Some(window) => self.explain_window(window),
            None => format!(
                "Entitlement {} drafted now would be over before it starts.",
                self.id
            ),
        });
        for product in &self.products {
            product.explain(window, &mut sentences);
        }
        sentences.push(format!(
            "The vault makes no more under this entitlement once {} are unreported (issued and not yet acknowledged by headquarters), or one is unreported for more than {}.",
            counted(self.credit.unreported_units_max, "unit"),
            counted(self.credit.unreported_days_max, "day"),
        ));
        sentences.push(format!(
            "After it was switched off, the vault believes a clock that is at most {} ahead of its log.",
            counted(self.clock_gap_days_max, "day"),
        ));
        if let Some(days) = self.retention_days {
            sentences.push(format!(
                "The vault may prune what headquarters has acknowledged of its log once it is {} old; headquarters keeps it.",
                counted(days, "day"),
            ));
        }
        for key in &self.keys {
            key.explain(&mut sentences);
        }
        sentences
    }

    fn explain_window(&self, window: Interval) -> String {
        let length = window.until - window.from;
        let length = if length.is_multiple_of(SECONDS_PER_DAY) {
            counted(length / SECONDS_PER_DAY, "day")
        } else {
            format!(
                "{} and some hours",
                counted(length / SECONDS_PER_DAY, "day")
            )
        };
        let start = if self.valid_from.is_some() {
            ""
        } else {
            " (the draft)"
        };
        let (from, until) = (moment(window.from), moment(window.until));
        format!(
            "Entitlement {} is valid from {from}{start} until {until}: {length}.",
            self.id
        )
    }
}

impl ProductPolicy {
    fn explain(&self, window: Option<Interval>, sentences: &mut Vec<String>) {
        let sku = &self.sku;
        let rates = match (self.units_per_day, self.units_per_hour) {
            (Some(day), Some(hour)) => format!(
                ", {} a UTC day and {} a UTC hour",
                grouped(day),
                grouped(hour)
            ),
            (Some(day), None) => format!(", {} a UTC day", grouped(day)),
            (None, Some(hour)) => format!(", {} a UTC hour", grouped(hour)),
            (None, None) => String::new(),
        };
        sentences.push(format!(
            "At most {} of {sku}{rates}.",
            counted(self.units, "unit")
        ));
        sentences.push(self.explain_identifiers());
        let keys: Vec<&str> = self
            .key_algorithms
            .iter()
            .map(|algorithm| algorithm.name())
            .collect();
        let reissues = match self.reissues_per_device {
            0 => "A new certificate for another key of the same device is refused.".to_owned(),
            many => format!(
                "The same device may have {} without spending a unit.",
                counted(u64::from(many), "re-issue")
            ),
        };
        sentences.push(format!(
            "{sku}: device keys are {}. {reissues}",
            either(&keys)
        ));
        if let Some(stations) = &self.stations {
            let stations: Vec<&str> = stations.iter().map(|station| station.as_str()).collect();
            sentences.push(format!(
                "{sku}: only the station {} may ask.",
                either(&stations)
            ));
        } else {
            sentences.push(format!("{sku}: any station may ask."));
        }
        if let Some(hours) = &self.working_hours {
            let inside = match window.map(|window| hours.compile(window)) {
                Some(Ok(intervals)) => {
                    let seconds: u64 = intervals
                        .iter()
                        .map(|interval| interval.until - interval.from)
                        .sum();
                    format!(": {} within the window", in_hours(seconds))
                }
                _ => ": never within the window".to_owned(),
            };
            sentences.push(format!("{sku}: made only from {hours}{inside}."));
        }
        sentences.push(self.explain_certificate());
    }

    fn explain_identifiers(&self) -> String {
        let (sku, source) = (&self.sku, self.device_id_source.as_str());
        let listed = |and: &str| match &self.device_ids {
            None => String::new(),
            Some(listed) => format!("{and} is one of {}", listed_words(listed)),
        };
        let Some(pattern) = &self.device_id_pattern else {
            let what = match &self.device_ids {
                None => " may be anything".to_owned(),
                Some(_) => listed(""),
            };
            return format!("{sku}: the device identifier, in the request's {source},{what}.");
        };
        let language = pattern.language();
        let such_as = language.example.map_or_else(
            || ", which no device identifier does".to_owned(),
            |example| format!(", such as {example}"),
        );
        format!(
            "{sku}: the device identifier, in the request's {source}, matches {pattern}{such_as}{}.",
            listed(", and")
        )
    }

    fn explain_certificate(&self) -> String {
        let certificate = &self.certificate;
        let validity = match certificate.validity_days.map(u64::from) {
            None => "never expires".to_owned(),
            Some(days) if days >= 730 => {
                format!(
                    "is valid for {} (about {} years)",
                    counted(days, "day"),
                    days / 365
                )
            }
            Some(days) => format!("is valid for {}", counted(days, "day")),
        };
        let usages: Vec<String> = certificate
            .extended_key_usage
            .iter()
            .map(ToString::to_string)
            .collect();
        let usages = if usages.is_empty() {
            "any purpose".to_owned()
        } else {
            usages.join(" and ")
        };
        format!(
            "{}: the certificate names \"{}\", {validity}, and is for {usages}.",
            self.sku, certificate.subject
        )
    }
}

impl KeyPolicy {
    fn explain(&self, sentences: &mut Vec<String>) {
        let products = match &self.products {
            None => "every product".to_owned(),
            Some(products) => {
                let names: Vec<&str> = products.iter().map(|sku| sku.as_str()).collect();
                names.join(" and ")
            }
        };
        let purpose = match self.usage {
            KeyUse::DeriveDeviceSecret => {
                format!("each device of {products} gets a secret from it")
            }
            KeyUse::Hold => format!(
                "the vault holds it for other software on its token, for {products}, and does not see or count its uses"
            ),
        };
        let mut limits = Vec::new();
        if let Some(uses_max) = self.uses_max {
            limits.push(format!("at most {}", counted(uses_max, "use")));
        }
        if let Some(until) = self.until {
            limits.push(format!("not from {} on", moment(until)));
        }
        let limits = match (self.usage, limits.is_empty()) {
            (KeyUse::Hold, true) => String::new(),
            (_, true) => "; as often as there are units, as long as the entitlement".to_owned(),
            (_, false) => format!("; {}", limits.join(", ")),
        };
        sentences.push(format!(
            "A key \"{}\" ({}): {purpose}{limits}.",
            self.label, self.algorithm
        ));
        sentences.push(format!(
            "Key \"{}\" {}.",
            self.label,
            if self.memory_import {
                "may pass through the vault's memory where the token cannot unwrap it"
            } else {
                "gets into the token unwrapped by the token itself, or not at all"
            }
        ));
    }
}

/// A time as people and scripts read it: RFC 3339, UTC.
pub(super) fn moment(unix: u64) -> String {
    let time = i64::try_from(unix)
        .ok()
        .and_then(|unix| DateTime::from_timestamp(unix, 0));
    time.map_or_else(
        || format!("{unix} s after 1970"),
        |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}

/// `50,000`.
pub(super) fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 unit`, `50,000 units`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// `416 hours`, `44 hours 30 minutes`.
pub(super) fn in_hours(seconds: u64) -> String {
    match (seconds / 3600, seconds % 3600 / 60) {
        (hours, 0) => counted(hours, "hour"),
        (0, minutes) => counted(minutes, "minute"),
        (hours, minutes) => {
            format!("{} {}", counted(hours, "hour"), counted(minutes, "minute"))
        }
    }
}

/// `1 entry`, `7,000 entries`.
pub(super) fn entries(number: usize) -> String {
    let noun = if number == 1 { "entry" } else { "entries" };
    format!("{} {noun}", grouped(number))
}

fn either(names: &[&str]) -> String {
    names.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        let numbers = [0, 7, 100, 999, 1000, 12_345, 100_000, 1_234_567];
        let texts = [
            "0",
            "7",
            "100",
            "999",
            "1,000",
            "12,345",
            "100,000",
            "1,234,567",
        ];
        assert_eq!(numbers.map(grouped), texts);
    }
}
