//! From the text of a policy to a [`Policy`]: each field into the type that can hold nothing wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use chrono::{NaiveDate, TimeDelta};
use mintmark_pki::{ExtendedKeyUsage, KeyAlgorithm, SubjectTemplate};
use mintmark_protocol::entitlement::{Credit, DeviceIdSource, PRODUCTS_MAX, UNITS_MAX};
use mintmark_protocol::identifier::{Fingerprint, Sku, StationId};
use toml::Spanned;
use toml::value::{Datetime, Offset};

use super::document::{self, Document, Versioned};
use super::source::{Source, shown};
use super::{
    ANCHOR_LEASE_DEFAULT, ANCHOR_LEASE_MAX, CertificatePolicy, DAYS_MAX, KEYS_MAX, KeyPolicy,
    KeySetAlgorithm, POLICY_BYTES_MAX, Policy, PolicyError, ProductPolicy, REISSUES_MAX,
    UNREPORTED_DAYS_MAX, ValidEnd, WorkingHours,
};

/// The most stations of one product, as `formats.cddl` has it.
const STATIONS_MAX: usize = 64;
/// The most extended key usages of one product.
const KEY_USAGES_MAX: usize = 16;
/// What counts things: 1 to 2^48.
const COUNT: RangeInclusive<u64> = 1..=UNITS_MAX;

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
        products: products(source, &document.product)?,
        keys: keys(source, &document.key)?,
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

fn value<T>(
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
fn read<T>(source: Source<'_>, at: &Spanned<String>, field: &str) -> Result<T, PolicyError>
where
    T: std::str::FromStr,
    T::Err: Display,
{
    at.get_ref()
        .parse()
        .map_err(|error| value(source, at, field, format!("{error}")))
}

/// A whole number within a range.
fn number(
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
fn moment(source: Source<'_>, at: &Spanned<Datetime>, field: &str) -> Result<u64, PolicyError> {
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

fn products(
    source: Source<'_>,
    products: &[Spanned<document::Product>],
) -> Result<Vec<ProductPolicy>, PolicyError> {
    if products.is_empty() {
        let why = "an entitlement is for at least one product";
        return Err(PolicyError::FieldMissing {
            line: 1,
            field: "[[product]]".to_owned(),
            why,
        });
    }
    if let Some(product) = products.get(PRODUCTS_MAX) {
        return Err(value(
            source,
            product,
            "[[product]]",
            format!("more than {PRODUCTS_MAX} are given"),
        ));
    }
    let mut lines: BTreeMap<Sku, usize> = BTreeMap::new();
    let mut all = Vec::with_capacity(products.len());
    for found in products {
        let product = product(source, found.get_ref())?;
        let line = source.line(&found.get_ref().sku);
        if let Some(line_before) = lines.insert(product.sku.clone(), line) {
            return Err(PolicyError::ProductRepeated {
                line,
                line_before,
                sku: product.sku,
            });
        }
        all.push(product);
    }
    Ok(all)
}

fn product(source: Source<'_>, product: &document::Product) -> Result<ProductPolicy, PolicyError> {
    let units = u64::try_from(*product.units.get_ref())
        .ok()
        .filter(|units| COUNT.contains(units));
    let units = units.ok_or_else(|| PolicyError::Units {
        line: source.line(&product.units),
        found: *product.units.get_ref(),
    })?;
    let reissues = match &product.reissues_per_device {
        Some(reissues) => number(
            source,
            reissues,
            "reissues_per_device",
            0..=u64::from(REISSUES_MAX),
        )?,
        None => 0,
    };
    let pattern = product.device_id_pattern.as_ref().map(|pattern| {
        let parsed = pattern.get_ref().parse();
        parsed.map_err(|error| PolicyError::Pattern {
            line: source.line(pattern),
            reason: format!("{error}"),
        })
    });
    let hours = product.working_hours.as_ref().map(|found| {
        let hours = found.get_ref();
        WorkingHours::new(&hours.zone, &hours.days, &hours.from, &hours.to).map_err(|error| {
            PolicyError::Hours {
                line: source.line(found),
                reason: error.to_string(),
            }
        })
    });
    let subject = &product.certificate.get_ref().subject;
    let policy = ProductPolicy {
        sku: read(source, &product.sku, "sku")?,
        units,
        units_per_day: rate(source, product.units_per_day.as_ref(), "units_per_day")?,
        units_per_hour: rate(source, product.units_per_hour.as_ref(), "units_per_hour")?,
        device_id_pattern: pattern.transpose()?,
        device_id_source: match &product.device_id_source {
            Some(found) => read(source, found, "device_id_source")?,
            None => DeviceIdSource::SerialNumber,
        },
        key_algorithms: key_algorithms(source, &product.key_algorithms)?,
        reissues_per_device: u32::try_from(reissues).unwrap_or(REISSUES_MAX),
        stations: product
            .stations
            .as_ref()
            .map(|found| stations(source, found))
            .transpose()?,
        working_hours: hours.transpose()?,
        certificate: certificate(source, &product.certificate)?,
        hours_line: product
            .working_hours
            .as_ref()
            .map_or(1, |hours| source.line(hours)),
        subject_line: source.line(subject),
    };
    // A template that names the site is checked at the draft, where the site is known.
    if !subject.get_ref().contains("{site}") {
        policy.check_subject("any site")?;
    }
    Ok(policy)
}

fn rate(
    source: Source<'_>,
    rate: Option<&Spanned<i64>>,
    field: &'static str,
) -> Result<Option<u64>, PolicyError> {
    let Some(rate) = rate else { return Ok(None) };
    match u64::try_from(*rate.get_ref()) {
        Ok(units) if units > 0 => Ok(Some(units)),
        _ => Err(PolicyError::Rate {
            line: source.line(rate),
            field,
            found: *rate.get_ref(),
        }),
    }
}

fn key_algorithms(
    source: Source<'_>,
    names: &Spanned<Vec<Spanned<String>>>,
) -> Result<Vec<KeyAlgorithm>, PolicyError> {
    let mut algorithms: Vec<KeyAlgorithm> = Vec::new();
    for name in names.get_ref() {
        let wrong = |reason: String| PolicyError::KeyAlgorithm {
            line: source.line(name),
            reason,
        };
        let algorithm = name.get_ref().parse();
        let algorithm =
            algorithm.map_err(|error: mintmark_pki::Error| wrong(shown(&error.to_string())))?;
        if algorithms.contains(&algorithm) {
            return Err(wrong(format!("{algorithm} is named twice")));
        }
        algorithms.push(algorithm);
    }
    if algorithms.is_empty() {
        let reason = "none is named, so no device could have a key".to_owned();
        return Err(PolicyError::KeyAlgorithm {
            line: source.line(names),
            reason,
        });
    }
    Ok(algorithms)
}

fn stations(
    source: Source<'_>,
    names: &Spanned<Vec<Spanned<String>>>,
) -> Result<Vec<StationId>, PolicyError> {
    let mut stations: Vec<StationId> = Vec::new();
    for name in names.get_ref() {
        let station = read(source, name, "stations")?;
        if stations.contains(&station) {
            return Err(value(
                source,
                name,
                "stations",
                format!("{station} is named twice"),
            ));
        }
        stations.push(station);
    }
    let reason = match stations.len() {
        0 => "none is named; leave the field out to let any station ask".to_owned(),
        1..=STATIONS_MAX => return Ok(stations),
        many => format!("{many} are named, and at most {STATIONS_MAX} fit"),
    };
    Err(value(source, names, "stations", reason))
}

fn certificate(
    source: Source<'_>,
    table: &Spanned<document::Certificate>,
) -> Result<CertificatePolicy, PolicyError> {
    let certificate = table.get_ref();
    let subject = certificate.subject.get_ref();
    let wrong = |reason| PolicyError::Subject {
        line: source.line(&certificate.subject),
        reason,
    };
    let template: SubjectTemplate = subject
        .parse()
        .map_err(|error: mintmark_pki::Error| wrong(shown(&error.to_string())))?;
    if !template.names_device() {
        return Err(wrong(
            "it lacks {device_id}, so all devices would have one name".to_owned(),
        ));
    }
    let no_expiry = certificate
        .no_expiry
        .as_ref()
        .is_some_and(|no_expiry| *no_expiry.get_ref());
    let validity = |line, reason| PolicyError::Validity { line, reason };
    let validity_days = match (&certificate.validity_days, no_expiry) {
        (Some(days), true) => {
            let reason = "validity_days and no_expiry = true contradict each other".to_owned();
            return Err(validity(source.line(days), reason));
        }
        (None, false) => {
            let reason =
                "the certificate has neither validity_days nor no_expiry = true".to_owned();
            return Err(validity(source.line(table), reason));
        }
        (None, true) => None,
        (Some(days), false) => {
            let found = *days.get_ref();
            let in_range = u32::try_from(found)
                .ok()
                .filter(|days| (1..=DAYS_MAX).contains(&u64::from(*days)));
            Some(in_range.ok_or_else(|| {
                validity(
                    source.line(days),
                    format!("validity_days = {found} is not within 1 to {DAYS_MAX}"),
                )
            })?)
        }
    };
    Ok(CertificatePolicy {
        subject: subject.clone(),
        subject_template: template,
        validity_days,
        extended_key_usage: match &certificate.extended_key_usage {
            Some(names) => key_usages(source, names)?,
            None => Vec::new(),
        },
    })
}

fn key_usages(
    source: Source<'_>,
    names: &Spanned<Vec<Spanned<String>>>,
) -> Result<Vec<ExtendedKeyUsage>, PolicyError> {
    let mut usages: Vec<ExtendedKeyUsage> = Vec::new();
    for name in names.get_ref() {
        let wrong = |reason: String| PolicyError::KeyUsage {
            line: source.line(name),
            reason,
        };
        let usage = name.get_ref().parse();
        let usage = usage.map_err(|error: mintmark_pki::Error| wrong(shown(&error.to_string())))?;
        if usages.contains(&usage) {
            return Err(wrong(format!("{usage} is named twice")));
        }
        usages.push(usage);
    }
    if usages.len() > KEY_USAGES_MAX {
        let reason = format!(
            "{} are named, and at most {KEY_USAGES_MAX} fit",
            usages.len()
        );
        return Err(PolicyError::KeyUsage {
            line: source.line(names),
            reason,
        });
    }
    Ok(usages)
}

fn keys(
    source: Source<'_>,
    keys: &[Spanned<document::Key>],
) -> Result<Vec<KeyPolicy>, PolicyError> {
    if let Some(key) = keys.get(KEYS_MAX) {
        return Err(value(
            source,
            key,
            "[[key]]",
            format!("more than {KEYS_MAX} are given"),
        ));
    }
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::with_capacity(keys.len());
    for key in keys {
        let key = key.get_ref();
        let label = lower_dash(source, &key.label, "label")?;
        let algorithm = match key.algorithm.get_ref().as_str() {
            "HMAC-SHA-256" => KeySetAlgorithm::HmacSha256,
            "AES-256" => KeySetAlgorithm::Aes256,
            other => {
                let reason = format!("`{}` is not HMAC-SHA-256 or AES-256", shown(other));
                return Err(value(source, &key.algorithm, "algorithm", reason));
            }
        };
        let line = source.line(&key.label);
        if let Some(line_before) = lines.insert(label.clone(), line) {
            return Err(PolicyError::KeyRepeated {
                line,
                line_before,
                label,
            });
        }
        all.push(KeyPolicy {
            label,
            algorithm,
            purpose: lower_dash(source, &key.purpose, "use")?,
            uses_max: number(source, &key.uses_max, "uses_max", COUNT)?,
        });
    }
    Ok(all)
}

/// A name of `[a-z0-9-]{1,32}`.
fn lower_dash(
    source: Source<'_>,
    name: &Spanned<String>,
    field: &str,
) -> Result<String, PolicyError> {
    let text = name.get_ref();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 32 || !text.bytes().all(allowed) {
        return Err(value(
            source,
            name,
            field,
            format!("`{}` is not [a-z0-9-]{{1,32}}", shown(text)),
        ));
    }
    Ok(text.clone())
}
