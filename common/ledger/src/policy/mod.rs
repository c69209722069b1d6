//! The policy that officers write, and what it compiles to.
//!
//! A policy is text that people write and review; an entitlement is what officers sign and a vault obeys. This module
//! leads from the one to the other: [`Policy::parse`] says no to whatever is misspelt or makes no sense,
//! [`Policy::explain`] and [`Policy::warnings`] say in plain words what it allows, and [`Policy::compile`] makes the
//! entitlement, in which nothing is left to be interpreted. Every field is described in `docs/policy.md`.

mod capacity;
mod difference;
mod document;
mod error;
mod explain;
mod hours;
mod key;
mod language;
mod listed;
mod parse;
mod pattern;
mod product;
mod source;
mod summary;
mod warning;

use std::collections::BTreeMap;

use mintmark_pki::{ExtendedKeyUsage, KeyAlgorithm, SubjectTemplate};
use mintmark_protocol::device_ids::DeviceIds;
use mintmark_protocol::entitlement::{
    AccountTag, CertificateTerms, Credit, DeviceIdSource, ENTITLEMENT_BYTES_MAX, Entitlement,
    Interval, ProductTerms,
};
use mintmark_protocol::identifier::{
    EntitlementId, Fingerprint, KeyLabel, Sku, StationId, VaultName,
};
use mintmark_protocol::key_terms::KeyTerms;
pub use mintmark_protocol::key_terms::{KEYS_MAX, KeyAlgorithm as KeySetAlgorithm, KeyUse};

pub use difference::{Change, difference, listed_words};
pub use error::PolicyError;
pub use hours::{HoursError, WorkingHours};
pub use language::Language;
pub use pattern::{DeviceIdPattern, PATTERN_BYTES_MAX, PatternError};
pub use summary::{CreditSummary, HoursSummary, KeySummary, PolicySummary, ProductSummary};
pub use warning::Warning;

/// The largest policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;
/// The longest window, and the longest validity of a certificate, in days.
pub const DAYS_MAX: u64 = 36_500;
/// The most days that may go unreported.
pub const UNREPORTED_DAYS_MAX: u64 = 3650;
/// The most units of one anchor lease.
pub const ANCHOR_LEASE_MAX: u64 = 1 << 16;
/// The most units of one anchor lease where the policy does not say.
pub const ANCHOR_LEASE_DEFAULT: u64 = 256;
/// The most re-issues of one device: the issue number in a serial has two bytes.
pub const REISSUES_MAX: u32 = 65_535;
const SECONDS_PER_DAY: u64 = 86_400;
/// A name that no other is longer than.
const LONGEST_NAME: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
/// About the bytes of a key that is delivered to a vault.
const KEY_DELIVERY_BYTES: usize = 512;

/// The number of the UTC hour that a time falls into: whole hours since 1970. `units_per_hour` counts in these fixed
/// windows (00:00:00 to 00:59:59 UTC and so on), not in the last sixty minutes.
pub fn hour_window(unix: u64) -> u64 {
    unix / 3600
}

/// The number of the UTC day that a time falls into: whole days since 1970. `units_per_day` counts in these fixed
/// windows (midnight to midnight UTC), not in the last 24 hours.
pub fn day_window(unix: u64) -> u64 {
    unix / SECONDS_PER_DAY
}

/// A policy that was read and makes sense. Nothing establishes trust in it: that is for the officers who approve the
/// entitlement that it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    digest: Fingerprint,
    id: EntitlementId,
    valid_from: Option<u64>,
    valid_end: ValidEnd,
    /// Where the end of the window stands in the text, for messages about a start known only at the draft.
    window_line: usize,
    credit: Credit,
    anchor_lease_max: u64,
    clock_gap_days_max: u64,
    retention_days: Option<u64>,
    products: Vec<ProductPolicy>,
    keys: Vec<KeyPolicy>,
}

/// How a policy gives the end of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValidEnd {
    /// This moment, Unix seconds.
    Until(u64),
    /// This many days of 86,400 seconds after its start.
    ForDays(u64),
}

/// What a policy says of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProductPolicy {
    /// The product.
    pub sku: Sku,
    /// Units in all, 1 to 2^48.
    pub units: u64,
    /// Units per UTC day, as [`day_window`] counts.
    pub units_per_day: Option<u64>,
    /// Units per UTC hour, as [`hour_window`] counts.
    pub units_per_hour: Option<u64>,
    /// What a device identifier must match; none: any device identifier will do.
    pub device_id_pattern: Option<DeviceIdPattern>,
    /// The device identifiers that it may have, besides matching the pattern; none: any.
    pub device_ids: Option<DeviceIds>,
    /// Where a CSR carries the device identifier.
    pub device_id_source: DeviceIdSource,
    /// The keys that devices may have; at least one.
    pub key_algorithms: Vec<KeyAlgorithm>,
    /// Re-issues of one device that need no new unit.
    pub reissues_per_device: u32,
    /// The stations that may ask; none: any.
    pub stations: Option<Vec<StationId>>,
    /// When it may be made; none: at any time of the window.
    pub working_hours: Option<WorkingHours>,
    /// What its certificates look like.
    pub certificate: CertificatePolicy,
    /// Where the working hours stand in the text, for messages about a window known only at the draft.
    hours_line: usize,
    /// Where the list of device identifiers stands in the text.
    device_ids_line: usize,
    /// Where the subject stands in the text, for messages about a site known only at the draft.
    subject_line: usize,
}

/// What a policy says of a product's certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificatePolicy {
    /// The subject template as written.
    pub subject: String,
    /// The same, parsed.
    pub subject_template: SubjectTemplate,
    /// Validity in days, 1 to 36,500; none: no expiry.
    pub validity_days: Option<u32>,
    /// Purposes; none: the certificate is not restricted to any.
    pub extended_key_usage: Vec<ExtendedKeyUsage>,
}

/// One `[[key]]` of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyPolicy {
    /// Its name.
    pub label: KeyLabel,
    /// What kind of key it is.
    pub algorithm: KeySetAlgorithm,
    /// What it is for.
    pub usage: KeyUse,
    /// How often it may be used, 1 to 2^48; none: as often as units allow.
    pub uses_max: Option<u64>,
    /// Until when it is used, Unix seconds; none: as long as the entitlement.
    pub until: Option<u64>,
    /// The products that it is for, at least one; none: every one of the policy.
    pub products: Option<Vec<Sku>>,
    /// Whether it may pass through the vault's memory where the token cannot unwrap it.
    pub memory_import: bool,
}

impl KeyPolicy {
    /// Whether each device of the product gets a secret derived from it.
    pub fn derives_for(&self, sku: &Sku) -> bool {
        self.usage == KeyUse::DeriveDeviceSecret
            && self
                .products
                .as_ref()
                .is_none_or(|products| products.contains(sku))
    }
}

/// What a key delivers to a vault: its check value, and the key encrypted to that vault (a `key-delivery`).
pub type KeyMaterial = ([u8; 32], Vec<u8>);

/// What a draft adds to a policy.
#[derive(Clone, Copy)]
pub struct Draft<'a> {
    /// For which vault.
    pub vault: &'a VaultName,
    /// 1 for a new entitlement, and the one before plus one for an amendment.
    pub version: u64,
    /// When it is drafted, Unix seconds.
    pub drafted_at: u64,
    /// Until when it may be approved and imported, Unix seconds.
    pub approve_until: u64,
    /// 32 random bytes.
    pub salt: [u8; 32],
    /// Each product's account tag: the same one through all amendments, and no other product's.
    pub accounts: &'a dyn Fn(&Sku) -> AccountTag,
    /// The key of a label and algorithm, made for that vault; none if there is none, and then there is no draft.
    pub keys: &'a dyn Fn(&KeyLabel, KeySetAlgorithm) -> Option<KeyMaterial>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// The first thing that is wrong with it, with its line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        parse::policy(text)
    }

    /// SHA-256 of the text as it was read.
    pub fn digest(&self) -> Fingerprint {
        self.digest
    }

    /// The name of the entitlement that it becomes.
    pub fn id(&self) -> &EntitlementId {
        &self.id
    }

    /// The products, in the order of the text; at least one.
    pub fn products(&self) -> &[ProductPolicy] {
        &self.products
    }

    /// The terms of audit-or-stop.
    pub fn credit(&self) -> Credit {
        self.credit
    }

    /// The most units of one anchor lease.
    pub fn anchor_lease_max(&self) -> u64 {
        self.anchor_lease_max
    }

    /// How far ahead of the log the vault's clock may be after the machine was off, and how far a person may confirm it to
    /// be, in days.
    pub fn clock_gap_days_max(&self) -> u64 {
        self.clock_gap_days_max
    }

    /// The key sets that it asks for.
    pub fn keys(&self) -> &[KeyPolicy] {
        &self.keys
    }

    /// The window of an entitlement drafted at `drafted_at` (Unix seconds): a policy without `valid_from` starts then.
    ///
    /// # Errors
    /// `POLICY-WINDOW` if the policy's end is not after its start.
    pub fn window(&self, drafted_at: u64) -> Result<Interval, PolicyError> {
        let from = self.valid_from.unwrap_or(drafted_at);
        let until = match self.valid_end {
            ValidEnd::Until(until) => until,
            ValidEnd::ForDays(days) => from.saturating_add(days * SECONDS_PER_DAY),
        };
        let wrong = |reason| {
            Err(PolicyError::Window {
                line: self.window_line,
                reason,
            })
        };
        if from >= until {
            let (from, until) = (explain::moment(from), explain::moment(until));
            return wrong(format!(
                "it ends {until}, which is not after its start {from}"
            ));
        }
        if until - from > DAYS_MAX * SECONDS_PER_DAY {
            return wrong(format!("it is longer than {DAYS_MAX} days"));
        }
        Ok(Interval { from, until })
    }

    /// The same policy in force in another window, at most [`DAYS_MAX`] of it, and its keys as long: to try it on what was
    /// made before.
    #[must_use]
    pub fn in_window(&self, window: Interval) -> Self {
        let until = window.from.saturating_add(DAYS_MAX * SECONDS_PER_DAY);
        Self {
            valid_from: Some(window.from),
            valid_end: ValidEnd::Until(window.until.min(until)),
            keys: self
                .keys
                .iter()
                .map(|key| KeyPolicy {
                    until: None,
                    ..key.clone()
                })
                .collect(),
            ..self.clone()
        }
    }

    /// The entitlement of one vault, as officers are to approve it.
    ///
    /// # Errors
    /// `POLICY-WINDOW`, `POLICY-HOURS` and `POLICY-SUBJECT` where the draft's time or site shows what the text alone did
    /// not; `POLICY-KEY-MISSING` where the draft has no key for a `[[key]]`; `POLICY-ENTITLEMENT` if no vault could read
    /// it.
    pub fn compile(&self, draft: &Draft<'_>) -> Result<Entitlement, PolicyError> {
        let window = self.window(draft.drafted_at)?;
        let products = self.products.iter().map(|product| {
            product.check_subject(draft.vault.site.as_str())?;
            product.terms((draft.accounts)(&product.sku), window)
        });
        let entitlement = Entitlement {
            salt: draft.salt,
            id: self.id.clone(),
            version: draft.version,
            vault: draft.vault.clone(),
            drafted_at: draft.drafted_at,
            approve_until: draft.approve_until,
            window,
            credit: self.credit,
            anchor_lease_max: self.anchor_lease_max,
            clock_gap_days_max: Some(self.clock_gap_days_max),
            retention_days: self.retention_days,
            products: products.collect::<Result<_, _>>()?,
            policy_digest: self.digest,
            keys: self
                .keys
                .iter()
                .map(|key| key.terms(draft))
                .collect::<Result<_, _>>()?,
            // Which version it replaces is not the policy's to say.
            amends: None,
        };
        // What is signed must read back: a vault knows the entitlement's own rules and nothing of policies.
        let bytes = entitlement.to_cbor();
        if bytes.len() > ENTITLEMENT_BYTES_MAX {
            return Err(self.too_large(&entitlement, bytes.len()));
        }
        Entitlement::from_cbor(&bytes).map_err(|error| PolicyError::Entitlement {
            reason: error.to_string(),
        })
    }
}

impl Policy {
    /// Whether an entitlement drafted at `now` (Unix seconds) would be one that vaults read, whoever it is for: a vault of
    /// the longest name.
    ///
    /// # Errors
    /// Those of [`Policy::compile`], but for a missing key.
    pub fn check_compiles(&self, now: u64) -> Result<(), PolicyError> {
        // safe: both are 32 characters of the alphabet of identifiers.
        let (Ok(site), Ok(vault)) = (LONGEST_NAME.parse(), LONGEST_NAME.parse()) else {
            return Ok(());
        };
        let last = AccountTag::new((1 << 48) - 1);
        let tags: BTreeMap<&Sku, AccountTag> = (1_u64..)
            .zip(&self.products)
            .filter_map(|(number, product)| {
                let tag = AccountTag::new(last?.number().saturating_sub(number))?;
                Some((&product.sku, tag))
            })
            .collect();
        let draft = Draft {
            vault: &VaultName { site, vault },
            version: u64::MAX,
            drafted_at: now,
            approve_until: u64::MAX,
            salt: [0; 32],
            accounts: &|sku| tags[sku],
            keys: &|_, _| Some(([0; 32], vec![0; KEY_DELIVERY_BYTES])),
        };
        self.compile(&draft).map(drop)
    }

    /// What makes the entitlement too large: the longest of its lists, as far as it is a list.
    fn too_large(&self, entitlement: &Entitlement, bytes: usize) -> PolicyError {
        let listed = |product: &ProductTerms| product.device_ids.as_ref().map(|d| d.ranges().len());
        let hours = |product: &ProductTerms| product.working_hours.as_ref().map(Vec::len);
        let products = || entitlement.products.iter();
        let most_listed = products().filter_map(listed).max().unwrap_or_default();
        let most_hours = products().filter_map(hours).max().unwrap_or_default();
        let reason =
            format!("it would have {bytes} bytes, and at most {ENTITLEMENT_BYTES_MAX} are read");
        let longest = self.products.iter().find(|product| {
            let ranges = product.device_ids.as_ref().map(|d| d.ranges().len());
            ranges == Some(most_listed)
        });
        match longest {
            // An interval takes about as many bytes as a short identifier.
            Some(product) if most_listed >= most_hours => PolicyError::DeviceIds {
                line: product.device_ids_line,
                reason: format!(
                    "{} of {} are listed one by one or in ranges, and the entitlement is too large: {reason}",
                    explain::entries(most_listed),
                    product.sku
                ),
            },
            _ => PolicyError::Entitlement { reason },
        }
    }
}

impl KeyPolicy {
    fn terms(&self, draft: &Draft<'_>) -> Result<KeyTerms, PolicyError> {
        let material = (draft.keys)(&self.label, self.algorithm);
        let (check_value, delivery) = material.ok_or_else(|| PolicyError::KeyMissing {
            label: self.label.clone(),
        })?;
        Ok(KeyTerms {
            label: self.label.clone(),
            algorithm: self.algorithm,
            usage: self.usage,
            uses_max: self.uses_max,
            until: self.until,
            products: self.products.clone(),
            memory_import: self.memory_import,
            check_value,
            delivery,
        })
    }
}

impl ProductPolicy {
    fn terms(&self, account: AccountTag, window: Interval) -> Result<ProductTerms, PolicyError> {
        Ok(ProductTerms {
            account,
            sku: self.sku.clone(),
            units: self.units,
            units_per_day: self.units_per_day,
            units_per_hour: self.units_per_hour,
            device_id_pattern: self.device_id_pattern.as_ref().map(ToString::to_string),
            key_algorithms: self
                .key_algorithms
                .iter()
                .map(ToString::to_string)
                .collect(),
            reissues_per_device: self.reissues_per_device,
            stations: self.stations.clone(),
            working_hours: self.intervals(window)?,
            certificate: CertificateTerms {
                subject: self.certificate.subject.clone(),
                validity_days: self.certificate.validity_days,
                extended_key_usage: self
                    .certificate
                    .extended_key_usage
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            },
            device_id_source: self.device_id_source,
            device_ids: self.device_ids.clone(),
        })
    }

    /// The working hours within a window; none if the product has none.
    fn intervals(&self, window: Interval) -> Result<Option<Vec<Interval>>, PolicyError> {
        let hours = self
            .working_hours
            .as_ref()
            .map(|hours| hours.compile(window))
            .transpose();
        hours.map_err(|error| PolicyError::Hours {
            line: self.hours_line,
            reason: error.to_string(),
        })
    }

    /// Makes the subject of a likely device, so that a template that no device fits is found before any device is made.
    fn check_subject(&self, site: &str) -> Result<(), PolicyError> {
        let listed = self.device_ids.as_ref().and_then(|listed| {
            let last = listed.ranges().last()?;
            Some(last.last().clone())
        });
        let likely = || self.device_id_pattern.as_ref()?.language().example;
        let example = listed.or_else(likely);
        let device_id = example.as_ref().map_or("0", |device_id| device_id.as_str());
        let subject = self
            .certificate
            .subject_template
            .render(device_id, self.sku.as_str(), site);
        subject.map(drop).map_err(|error| PolicyError::Subject {
            line: self.subject_line,
            reason: format!("for the device {device_id} at {site}: {error}"),
        })
    }
}

#[cfg(test)]
mod tests;
