//! A policy as `--json` shows it.

use serde::Serialize;

use super::explain::moment;
use super::{Policy, ProductPolicy, ValidEnd};

/// A policy for programs. Times are RFC 3339 in UTC; limits that the policy does not set are null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PolicySummary {
    /// The entitlement's id.
    pub id: String,
    /// SHA-256 of the policy file, lower-case hex.
    pub policy_digest: String,
    /// The start of the window of an entitlement drafted now.
    pub valid_from: String,
    /// Its end.
    pub valid_until: String,
    /// Whether the start is the draft.
    pub from_draft: bool,
    /// The most units of one anchor lease.
    pub anchor_lease_max: u64,
    /// How far ahead of the log the vault's clock may be after the machine was off, in days.
    pub clock_gap_max_days: u64,
    /// After how many days the vault may prune what headquarters acknowledged; null: never.
    pub retention_days: Option<u64>,
    /// Audit or stop.
    pub credit: CreditSummary,
    /// The products, in the order of the file.
    pub products: Vec<ProductSummary>,
    /// The key sets that it asks for.
    pub keys: Vec<KeySummary>,
}

/// `[credit]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CreditSummary {
    /// Units not yet acknowledged.
    pub max_unreported_units: u64,
    /// Age of the oldest of them, in days.
    pub max_unreported_days: u64,
}

/// One product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProductSummary {
    /// The product.
    pub sku: String,
    /// Units in all.
    pub units: u64,
    /// Units per UTC day.
    pub units_per_day: Option<u64>,
    /// Units per UTC hour.
    pub units_per_hour: Option<u64>,
    /// What a device identifier matches.
    pub device_id_pattern: Option<String>,
    /// A shortest device identifier that matches; null without a pattern, or if none does.
    pub device_id_example: Option<String>,
    /// The device identifiers that it may have, single ones and ranges `first..last`, in order; null: any.
    pub device_ids: Option<Vec<String>>,
    /// How many of them there are, 2^64 - 1 where there are more; null without a list.
    pub device_ids_listed: Option<u64>,
    /// `serialNumber` or `commonName`.
    pub device_id_source: &'static str,
    /// The keys that devices may have.
    pub key_algorithms: Vec<&'static str>,
    /// Re-issues without a new unit.
    pub reissues_per_device: u32,
    /// The stations that may ask; null: any.
    pub stations: Option<Vec<String>>,
    /// Null: at any time.
    pub working_hours: Option<HoursSummary>,
    /// The subject template.
    pub subject: String,
    /// Validity in days; null: no expiry.
    pub validity_days: Option<u32>,
    /// Purposes; empty: any.
    pub extended_key_usage: Vec<String>,
}

/// The working hours of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HoursSummary {
    /// In words.
    pub text: String,
    /// How many stretches of time there are in the window of an entitlement drafted now.
    pub intervals: usize,
    /// How many seconds they are in all.
    pub seconds: u64,
}

/// One `[[key]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeySummary {
    /// Its name.
    pub label: String,
    /// `HMAC-SHA-256` or `AES-256`.
    pub algorithm: &'static str,
    /// `derive-device-secret` or `hold`.
    #[serde(rename = "use")]
    pub usage: &'static str,
    /// How often it may be used; null: as often as units allow.
    pub uses_max: Option<u64>,
    /// Until when; null: as long as the entitlement.
    pub valid_until: Option<String>,
    /// The products; null: every one.
    pub products: Option<Vec<String>>,
    /// Whether it may pass through the vault's memory.
    pub memory_import: bool,
}

impl Policy {
    /// The policy for `--json`, as an entitlement drafted at `now` (Unix seconds) would have it.
    pub fn summary(&self, now: u64) -> PolicySummary {
        let from = self.valid_from.unwrap_or(now);
        let until = match self.valid_end {
            ValidEnd::Until(until) => until,
            ValidEnd::ForDays(_) => self.window(now).map_or(from, |window| window.until),
        };
        PolicySummary {
            id: self.id.to_string(),
            policy_digest: self.digest.to_string(),
            valid_from: moment(from),
            valid_until: moment(until),
            from_draft: self.valid_from.is_none(),
            anchor_lease_max: self.anchor_lease_max,
            clock_gap_max_days: self.clock_gap_days_max,
            retention_days: self.retention_days,
            credit: CreditSummary {
                max_unreported_units: self.credit.unreported_units_max,
                max_unreported_days: self.credit.unreported_days_max,
            },
            products: self
                .products
                .iter()
                .map(|product| self.summary_of(product, now))
                .collect(),
            keys: self
                .keys
                .iter()
                .map(|key| KeySummary {
                    label: key.label.to_string(),
                    algorithm: key.algorithm.as_str(),
                    usage: key.usage.as_str(),
                    uses_max: key.uses_max,
                    valid_until: key.until.map(moment),
                    products: key
                        .products
                        .as_ref()
                        .map(|products| products.iter().map(ToString::to_string).collect()),
                    memory_import: key.memory_import,
                })
                .collect(),
        }
    }

    fn summary_of(&self, product: &ProductPolicy, now: u64) -> ProductSummary {
        let pattern = product.device_id_pattern.as_ref();
        let hours = product.working_hours.as_ref().map(|hours| {
            let window = self.window(now).ok();
            let intervals = window
                .and_then(|window| hours.compile(window).ok())
                .unwrap_or_default();
            HoursSummary {
                text: hours.to_string(),
                intervals: intervals.len(),
                seconds: intervals
                    .iter()
                    .map(|interval| interval.until - interval.from)
                    .sum(),
            }
        });
        let stations = product.stations.as_ref();
        ProductSummary {
            sku: product.sku.to_string(),
            units: product.units,
            units_per_day: product.units_per_day,
            units_per_hour: product.units_per_hour,
            device_id_pattern: pattern.map(ToString::to_string),
            device_id_example: pattern
                .and_then(|pattern| pattern.language().example)
                .map(|example| example.to_string()),
            device_ids: product
                .device_ids
                .as_ref()
                .map(|listed| listed.ranges().iter().map(ToString::to_string).collect()),
            device_ids_listed: product
                .device_ids
                .as_ref()
                .map(|listed| u64::try_from(listed.devices()).unwrap_or(u64::MAX)),
            device_id_source: product.device_id_source.as_str(),
            key_algorithms: product
                .key_algorithms
                .iter()
                .map(|algorithm| algorithm.name())
                .collect(),
            reissues_per_device: product.reissues_per_device,
            stations: stations.map(|stations| stations.iter().map(ToString::to_string).collect()),
            working_hours: hours,
            subject: product.certificate.subject.clone(),
            validity_days: product.certificate.validity_days,
            extended_key_usage: product
                .certificate
                .extended_key_usage
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}
