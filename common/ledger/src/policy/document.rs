//! The policy as TOML has it. What is read here is only shaped right; whether it makes sense is judged by its parent.

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

/// What every policy has, of whatever schema.
#[derive(Deserialize)]
pub(super) struct Versioned {
    pub(super) schema: Spanned<i64>,
}

/// A whole policy file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[expect(
        dead_code,
        reason = "it may stand there, and was read and judged before the rest"
    )]
    schema: Spanned<i64>,
    pub(super) id: Spanned<String>,
    pub(super) valid_from: Option<Spanned<Datetime>>,
    pub(super) valid_until: Option<Spanned<Datetime>>,
    pub(super) valid_for_days: Option<Spanned<i64>>,
    pub(super) anchor_lease_max: Option<Spanned<i64>>,
    pub(super) clock_gap_max_days: Option<Spanned<i64>>,
    pub(super) retention_days: Option<Spanned<i64>>,
    pub(super) credit: Option<Credit>,
    #[serde(default)]
    pub(super) product: Vec<Spanned<Product>>,
    #[serde(default)]
    pub(super) key: Vec<Spanned<Key>>,
}

/// `[credit]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credit {
    pub(super) max_unreported_units: Spanned<i64>,
    pub(super) max_unreported_days: Spanned<i64>,
}

/// One `[[product]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Product {
    pub(super) sku: Spanned<String>,
    pub(super) units: Spanned<i64>,
    pub(super) units_per_day: Option<Spanned<i64>>,
    pub(super) units_per_hour: Option<Spanned<i64>>,
    pub(super) device_id_pattern: Option<Spanned<String>>,
    pub(super) device_ids: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) device_id_source: Option<Spanned<String>>,
    pub(super) key_algorithms: Spanned<Vec<Spanned<String>>>,
    pub(super) reissues_per_device: Option<Spanned<i64>>,
    pub(super) stations: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) working_hours: Option<Spanned<WorkingHours>>,
    pub(super) certificate: Spanned<Certificate>,
}

/// `working_hours = { ... }` of a product.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkingHours {
    pub(super) zone: String,
    pub(super) days: Vec<String>,
    pub(super) from: String,
    pub(super) to: String,
}

/// `[product.certificate]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) subject: Spanned<String>,
    pub(super) validity_days: Option<Spanned<i64>>,
    pub(super) no_expiry: Option<Spanned<bool>>,
    pub(super) extended_key_usage: Option<Spanned<Vec<Spanned<String>>>>,
}

/// One `[[key]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    pub(super) label: Spanned<String>,
    pub(super) algorithm: Spanned<String>,
    #[serde(rename = "use")]
    pub(super) usage: Spanned<String>,
    pub(super) uses_max: Option<Spanned<i64>>,
    pub(super) valid_until: Option<Spanned<Datetime>>,
    pub(super) products: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub(super) memory_import: bool,
}
