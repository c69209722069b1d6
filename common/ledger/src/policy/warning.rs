//! What a policy may say, and its writer probably did not mean.

use mintmark_pki::{ExtendedKeyUsage, KeyAlgorithm};
use mintmark_protocol::entitlement::Interval;
use serde::Serialize;

use super::capacity::{Room, room as room_of};
use super::explain::{counted, grouped, moment};
use super::{KeyPolicy, KeyUse, Policy, ProductPolicy};

/// One doubt about a policy that is otherwise sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// A stable code for scripts and manuals.
    pub code: &'static str,
    /// The doubt, in a sentence.
    pub text: String,
}

/// anyExtendedKeyUsage (RFC 5280 section 4.2.1.12).
const ANY_EXTENDED_KEY_USAGE: &str = "2.5.29.37.0";
/// Certificates shorter than this are unusual for a device that cannot renew them.
const VALIDITY_DAYS_USUAL: u32 = 30;

struct Warnings(Vec<Warning>);

impl Warnings {
    fn add(&mut self, code: &'static str, text: String) {
        self.0.push(Warning { code, text });
    }
}

impl Policy {
    /// What is allowed and looks unintended, for an entitlement drafted at `now` (Unix seconds).
    pub fn warnings(&self, now: u64) -> Vec<Warning> {
        let mut warnings = Warnings(Vec::new());
        let left = match self.window(now) {
            Ok(window) if window.until > now => Some(Interval {
                from: window.from.max(now),
                until: window.until,
            }),
            Ok(window) => {
                warnings.add(
                    "WINDOW-OVER",
                    format!("The window ended {}.", moment(window.until)),
                );
                None
            }
            Err(error) => {
                warnings.add(
                    "WINDOW-OVER",
                    format!("Drafted now, there is no window: {error}."),
                );
                None
            }
        };
        self.doubt_credit(&mut warnings);
        for key in &self.keys {
            self.doubt_key(key, left, &mut warnings);
        }
        // What the products that have a rate may make of each day, all of them together: the vault has one credit.
        let (mut together, mut rated) = (Room::default(), Vec::new());
        for product in &self.products {
            if let Some(room) = product.doubt_rates(left, &mut warnings) {
                rated.push(product.sku.as_str());
                // A day makes no more than there is, whatever its rate.
                together.add(room.limited_to(product.units));
            }
            product.doubt_identifiers(&mut warnings);
            product.doubt_certificate(&mut warnings);
        }
        self.doubt_day(together.units_of_a_day(), &rated, &mut warnings);
        warnings.0
    }

    fn doubt_day(&self, day: u64, rated: &[&str], warnings: &mut Warnings) {
        let credit = self.credit.unreported_units_max;
        if credit >= day {
            return;
        }
        let together = if rated.len() > 1 { " together" } else { "" };
        let text = format!(
            "{}: max_unreported_units = {} is less than the {} that one day allows{together}, so the vault stops within \
             the day unless headquarters answers on it.",
            rated.join(", "),
            grouped(credit),
            counted(day, "unit")
        );
        warnings.add("CREDIT-BELOW-DAY", text);
    }

    fn doubt_credit(&self, warnings: &mut Warnings) {
        let credit = self.credit.unreported_units_max;
        let units = self
            .products
            .iter()
            .fold(0_u64, |sum, product| sum.saturating_add(product.units));
        if credit >= units {
            let (credit, units) = (grouped(credit), grouped(units));
            let text = format!(
                "max_unreported_units = {credit} is no less than all {units} units, so only the days make the vault report."
            );
            warnings.add("CREDIT-NEVER-BINDS", text);
        }
    }
}

impl Policy {
    fn doubt_key(&self, key: &KeyPolicy, left: Option<Interval>, warnings: &mut Warnings) {
        let label = &key.label;
        if key.memory_import {
            let text = format!(
                "The key {label} may pass through the vault's memory: whoever can read that memory then has the key."
            );
            warnings.add("KEY-MEMORY-IMPORT", text);
        }
        if let (Some(until), Some(left)) = (key.until, left)
            && until < left.until
        {
            let after = if until <= left.from {
                "it is of no use any more"
            } else if key.usage == KeyUse::Hold {
                "the entitlement goes on without it"
            } else {
                "no device that gets a secret from it is made after that"
            };
            warnings.add(
                "KEY-ENDS-EARLY",
                format!(
                    "The key {label} ends {}, and the window {}: {after}.",
                    moment(until),
                    moment(left.until)
                ),
            );
        }
        let derived = || {
            self.products
                .iter()
                .filter(|product| key.derives_for(&product.sku))
        };
        let units = derived().fold(0_u64, |sum, product| sum.saturating_add(product.units));
        if let Some(uses_max) = key.uses_max
            && uses_max < units
        {
            let text = format!(
                "The key {label} has {}, and its products have {}: the rest cannot be made.",
                counted(uses_max, "use"),
                counted(units, "unit")
            );
            warnings.add("KEY-USES-TOO-FEW", text);
        }
        for product in derived() {
            let other = |algorithm: &&KeyAlgorithm| {
                !matches!(algorithm, KeyAlgorithm::P256 | KeyAlgorithm::P384)
            };
            let others = product.key_algorithms.iter().filter(other);
            let others: Vec<String> = others.map(ToString::to_string).collect();
            if !others.is_empty() {
                let text = format!(
                    "{}: devices with {others} keys will be refused, since the secret from key {label} can be \
                     encrypted to P-256 and P-384 keys alone.",
                    product.sku,
                    others = others.join(" or ")
                );
                warnings.add("KEY-DEVICE-ALGORITHM", text);
            }
        }
    }
}

impl ProductPolicy {
    /// Doubts the rates, and gives the room that they leave; none where there is no rate.
    fn doubt_rates(&self, left: Option<Interval>, warnings: &mut Warnings) -> Option<Room> {
        let sku = &self.sku;
        let intervals = match (left, &self.working_hours) {
            (None, _) => Vec::new(),
            (Some(left), None) => vec![left],
            (Some(left), Some(hours)) => hours.compile(left).unwrap_or_else(|error| {
                warnings.add("HOURS-EMPTY", format!("{sku}: from now on, {error}."));
                Vec::new()
            }),
        };
        let room = room_of(&intervals, self.units_per_hour, self.units_per_day);
        let units = room.as_ref().map_or(self.units, Room::units);
        if units < self.units && !intervals.is_empty() {
            let left = match self.working_hours {
                Some(_) => "the working hours that are left of the window",
                None => "what is left of the window",
            };
            let text = format!(
                "{sku}: the rates leave room for {} in {left}, and {} are granted.",
                counted(units, "unit"),
                grouped(self.units)
            );
            warnings.add("RATE-TOO-LOW", text);
        }
        // What the hours of any one day leave room for.
        let most_of_day = room_of(&intervals, self.units_per_hour, None)
            .map_or(u64::MAX, |room| room.units_of_a_day());
        let never = match (self.units_per_day, self.units_per_hour) {
            (Some(day), Some(hour)) if hour >= day => {
                Some(("units_per_hour", "units_per_day is no higher"))
            }
            (Some(day), Some(hour)) if hour.saturating_mul(24) <= day => {
                Some(("units_per_day", "24 hours at units_per_hour are no more"))
            }
            (Some(day), Some(_)) if !intervals.is_empty() && most_of_day <= day => Some((
                "units_per_day",
                "the working hours of a day at units_per_hour are no more",
            )),
            (Some(day), _) if day >= self.units => {
                Some(("units_per_day", "there are no more units in all"))
            }
            (_, Some(hour)) if hour >= self.units => {
                Some(("units_per_hour", "there are no more units in all"))
            }
            _ => None,
        };
        if let Some((rate, why)) = never {
            warnings.add(
                "RATE-NEVER-BINDS",
                format!("{sku}: {rate} limits nothing: {why}."),
            );
        }
        room
    }

    fn doubt_identifiers(&self, warnings: &mut Warnings) {
        let sku = &self.sku;
        self.doubt_listed(warnings);
        let Some(pattern) = &self.device_id_pattern else {
            if self.device_ids.is_some() {
                return;
            }
            let text = format!(
                "{sku} has no device_id_pattern: any text that a certificate can hold is a device identifier."
            );
            warnings.add("PATTERN-ABSENT", text);
            return;
        };
        let language = pattern.language();
        if language.example.is_none() {
            let text = format!(
                "{sku}: no device identifier (1 to 64 characters) matches {pattern}: every request will be refused."
            );
            warnings.add("PATTERN-MATCHES-NOTHING", text);
        } else if language.size_max < u128::from(self.units) {
            let text = format!(
                "{sku}: no more than {} device identifiers match {pattern}, and {} are granted.",
                grouped(language.size_max),
                counted(self.units, "unit")
            );
            warnings.add("PATTERN-TOO-NARROW", text);
        }
    }

    fn doubt_listed(&self, warnings: &mut Warnings) {
        let Some(listed) = &self.device_ids else {
            return;
        };
        let sku = &self.sku;
        let devices = listed.devices();
        let matched = self
            .device_id_pattern
            .as_ref()
            .and_then(|pattern| Some((pattern, pattern.matched(listed)?)));
        let mut usable = devices;
        if let Some((pattern, matched)) = matched
            && let Some(other) = matched.first_other
        {
            usable = matched.devices;
            let text = format!(
                "{sku}: {} of the {} listed device identifiers do not match {pattern}, such as {other}: these devices \
                 will be refused.",
                grouped(devices.saturating_sub(usable)),
                grouped(devices)
            );
            warnings.add("DEVICE-IDS-FORBIDDEN", text);
        }
        if usable < u128::from(self.units) {
            let allowed = if usable < devices {
                "are listed and match"
            } else {
                "are listed"
            };
            let text = format!(
                "{sku}: {} device identifiers {allowed}, and {} are granted: the rest cannot be made.",
                grouped(usable),
                counted(self.units, "unit")
            );
            warnings.add("DEVICE-IDS-TOO-FEW", text);
        }
    }

    fn doubt_certificate(&self, warnings: &mut Warnings) {
        let (sku, usages) = (&self.sku, &self.certificate.extended_key_usage);
        if usages.is_empty() {
            let text = format!(
                "{sku}: without extended_key_usage the certificate is good for every purpose, of a server too."
            );
            warnings.add("KEY-USAGE-ABSENT", text);
        }
        for usage in usages {
            let why = match usage {
                ExtendedKeyUsage::OcspSigning => {
                    "would let each device say which certificates of its CA are revoked"
                }
                ExtendedKeyUsage::TimeStamping => {
                    "would let each device state times that others rely on"
                }
                ExtendedKeyUsage::CodeSigning => "would let each device sign programs",
                other if other.to_string() == ANY_EXTENDED_KEY_USAGE => {
                    "allows every purpose, of a CA's responder too"
                }
                _ => continue,
            };
            warnings.add(
                "KEY-USAGE-UNUSUAL",
                format!("{sku}: extended_key_usage {usage} {why}."),
            );
        }
        if let Some(days) = self
            .certificate
            .validity_days
            .filter(|days| *days < VALIDITY_DAYS_USUAL)
        {
            let text = format!(
                "{sku}: certificates end after {}, and a device in the field cannot renew them here.",
                counted(u64::from(days), "day")
            );
            warnings.add("VALIDITY-SHORT", text);
        }
    }
}
