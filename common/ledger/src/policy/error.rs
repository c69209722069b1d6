//! Why a policy is not one, or cannot become an entitlement.

use mintmark_protocol::entitlement::{ENTITLEMENT_BYTES_MAX, UNITS_MAX};
use mintmark_protocol::identifier::{KeyLabel, Sku};

use super::{DAYS_MAX, POLICY_BYTES_MAX};

/// Everything that can be wrong with a policy. Lines and columns count from 1, in the text that was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file is beyond any policy.
    #[error("the policy has {bytes} bytes, and at most {POLICY_BYTES_MAX} are read")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// The text is not TOML.
    #[error("policy line {line}, column {column}: this is not TOML: {reason}")]
    Syntax {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
        /// What the TOML reader says.
        reason: String,
    },
    /// A field that policies do not have. It is an error because a misspelt limit would be no limit.
    #[error("policy line {line}, column {column}: unknown field `{field}`{}", meant(near.as_deref()))]
    UnknownField {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
        /// As written.
        field: String,
        /// The field that its writer probably meant.
        near: Option<String>,
        /// The fields that may stand there.
        known: Vec<String>,
    },
    /// A field that must be there.
    #[error("policy line {line}: {field} is missing: {why}")]
    FieldMissing {
        /// Where the table begins in which it should be.
        line: usize,
        /// Its name.
        field: String,
        /// What it is for.
        why: &'static str,
    },
    /// A field that holds something of the wrong type, or out of its range.
    #[error("policy line {line}: {field}: {reason}")]
    Value {
        /// Where.
        line: usize,
        /// Its name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A policy of a later kind.
    #[error("policy line {line}: schema {found} is not known; this version reads schema 1")]
    Schema {
        /// Where.
        line: usize,
        /// What it says.
        found: i64,
    },
    /// A time without the offset that would make it a moment.
    #[error(
        "policy line {line}: {field} = {found} has no offset, so it is a different moment in every place"
    )]
    TimeWithoutOffset {
        /// Where.
        line: usize,
        /// The field.
        field: String,
        /// As written.
        found: String,
    },
    /// The window is given in two ways, or cannot be.
    #[error("policy line {line}: the window is wrong: {reason}")]
    Window {
        /// Where.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Units outside 1 to 2^48.
    #[error("policy line {line}: units = {found} is not a count of units from 1 to {UNITS_MAX}")]
    Units {
        /// Where.
        line: usize,
        /// What it says.
        found: i64,
    },
    /// A rate below 1: it would be a stop in disguise.
    #[error("policy line {line}: {field} = {found} is not a rate of 1 or more")]
    Rate {
        /// Where.
        line: usize,
        /// Which rate.
        field: &'static str,
        /// What it says.
        found: i64,
    },
    /// One product twice.
    #[error("policy line {line}: the product {sku} was already given on line {line_before}")]
    ProductRepeated {
        /// The second.
        line: usize,
        /// The first.
        line_before: usize,
        /// The product.
        sku: Sku,
    },
    /// A pattern that does not compile.
    #[error("policy line {line}: device_id_pattern: {reason}")]
    Pattern {
        /// Where.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A list of device identifiers that is none, or that no entitlement has room for.
    #[error("policy line {line}: device_ids: {reason}")]
    DeviceIds {
        /// Where.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A key algorithm that devices may not have.
    #[error("policy line {line}: key_algorithms: {reason}")]
    KeyAlgorithm {
        /// Where.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Working hours that are none.
    #[error("policy line {line}: working_hours: {reason}")]
    Hours {
        /// Where.
        line: usize,
        /// What is wrong with them.
        reason: String,
    },
    /// A subject that is no subject, or the same for every device.
    #[error("policy line {line}: subject: {reason}")]
    Subject {
        /// Where.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Not exactly one of `validity_days` and `no_expiry = true`, or out of range.
    #[error("policy line {line}: {reason}")]
    Validity {
        /// Where.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An extended key usage that is none.
    #[error("policy line {line}: extended_key_usage: {reason}")]
    KeyUsage {
        /// Where.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A `[[key]]` with the label of another.
    #[error("policy line {line}: the key `{label}` was already given on line {line_before}")]
    KeyRepeated {
        /// The second.
        line: usize,
        /// The first.
        line_before: usize,
        /// Its label.
        label: KeyLabel,
    },
    /// A draft without the key that a `[[key]]` asks for.
    #[error("there is no key for the [[key]] `{label}`")]
    KeyMissing {
        /// Its label.
        label: KeyLabel,
    },
    /// The entitlement would not be one, or no vault would read it.
    #[error("the policy does not make an entitlement: {reason}")]
    Entitlement {
        /// What is wrong with it.
        reason: String,
    },
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

impl PolicyError {
    /// A stable code for scripts and manuals.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "POLICY-TOO-LARGE",
            Self::Syntax { .. } => "POLICY-SYNTAX",
            Self::UnknownField { .. } => "POLICY-UNKNOWN-FIELD",
            Self::FieldMissing { .. } => "POLICY-FIELD-MISSING",
            Self::Value { .. } => "POLICY-VALUE",
            Self::Schema { .. } => "POLICY-SCHEMA",
            Self::TimeWithoutOffset { .. } => "POLICY-TIME-WITHOUT-OFFSET",
            Self::Window { .. } => "POLICY-WINDOW",
            Self::Units { .. } => "POLICY-UNITS",
            Self::Rate { .. } => "POLICY-RATE",
            Self::ProductRepeated { .. } => "POLICY-PRODUCT-REPEATED",
            Self::Pattern { .. } => "POLICY-PATTERN",
            Self::DeviceIds { .. } => "POLICY-DEVICE-IDS",
            Self::KeyAlgorithm { .. } => "POLICY-KEY-ALGORITHM",
            Self::Hours { .. } => "POLICY-HOURS",
            Self::Subject { .. } => "POLICY-SUBJECT",
            Self::Validity { .. } => "POLICY-VALIDITY",
            Self::KeyUsage { .. } => "POLICY-KEY-USAGE",
            Self::KeyRepeated { .. } => "POLICY-KEY-REPEATED",
            Self::KeyMissing { .. } => "POLICY-KEY-MISSING",
            Self::Entitlement { .. } => "POLICY-ENTITLEMENT",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::TooLarge { .. } => {
                "check that this is a policy file; one of 32 products takes a few KiB"
            }
            Self::Syntax { .. } => "docs/policy.md has a policy to start from",
            Self::UnknownField { known, .. } => {
                return Some(format!(
                    "correct or remove it; here may stand: {}",
                    known.join(", ")
                ));
            }
            Self::FieldMissing { field, .. } => match field.as_str() {
                "[credit]" => "add [credit] with max_unreported_units and max_unreported_days",
                "valid_until" => "add valid_until = 2027-04-01T00:00:00Z or valid_for_days = 90",
                field => return Some(format!("add {field}; docs/policy.md says what it may hold")),
            },
            Self::Value { field, .. } => match field.as_str() {
                "product" | "key" => {
                    return Some(format!(
                        "write [[{field}]], with two brackets, above each {field}"
                    ));
                }
                field => return Some(format!("docs/policy.md says what {field} may hold")),
            },
            Self::Schema { .. } => {
                "write schema = 1, or use the version of the tools that the policy was written for"
            }
            Self::TimeWithoutOffset { found, .. } => {
                return Some(format!(
                    "write {found}Z for UTC, or an offset such as +01:00 behind the time"
                ));
            }
            Self::Window { .. } => {
                return Some(format!(
                    "give valid_from and valid_until, or valid_for_days, counted from the draft; at most {DAYS_MAX} days"
                ));
            }
            Self::Units { .. } => "to grant nothing, leave the product out",
            Self::Rate { .. } => "leave it out for no limit of this rate",
            Self::ProductRepeated { .. } => "give each product once, with all its units",
            Self::Pattern { .. } => {
                "write it like \"TH200-[0-9]{8}\": ASCII, matched from end to end, no look-around, no flag u"
            }
            Self::DeviceIds { .. } => {
                "list each once, and use ranges: \"TH200-00000100..TH200-00000199\" is as long as two identifiers; what an entitlement has no room for goes into another one"
            }
            Self::KeyAlgorithm { .. } => {
                "name each allowed one once, such as key_algorithms = [\"P-256\"]"
            }
            Self::Hours { .. } => {
                "write them like { zone = \"Europe/Berlin\", days = [\"mon\"], from = \"06:00\", to = \"22:00\" }"
            }
            Self::Subject { .. } => {
                "write it like \"O=Acme, OU=TH-200, serialNumber={device_id}\"; placeholders are {device_id}, {sku}, {site}"
            }
            Self::Validity { .. } => "write either validity_days = 7300 or no_expiry = true",
            Self::KeyUsage { .. } => {
                "name each once: clientAuth, serverAuth, codeSigning, emailProtection, or an OID such as 1.3.6.1.4.1.311.10.3.12"
            }
            Self::KeyRepeated { .. } => "give each label once",
            Self::KeyMissing { .. } => {
                "draft it at a headquarters that makes keys, or take the [[key]] out"
            }
            Self::Entitlement { .. } => {
                return Some(format!(
                    "shorten the window or simplify the working hours; an entitlement has at most {ENTITLEMENT_BYTES_MAX} bytes"
                ));
            }
        };
        Some(text.to_owned())
    }
}
