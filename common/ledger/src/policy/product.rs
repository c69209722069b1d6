//! One product of a policy: from its table to a [`ProductPolicy`].

use std::collections::BTreeMap;

use mintmark_pki::{ExtendedKeyUsage, KeyAlgorithm, SubjectTemplate};
use mintmark_protocol::device_ids::{DeviceIdRange, DeviceIds, DeviceIdsError};
use mintmark_protocol::entitlement::{DeviceIdSource, PRODUCTS_MAX};
use mintmark_protocol::identifier::{Sku, StationId};
use toml::Spanned;

use super::document;
use super::parse::{COUNT, number, read, value};
use super::source::{Source, shown};
use super::{CertificatePolicy, DAYS_MAX, PolicyError, ProductPolicy, REISSUES_MAX, WorkingHours};

/// The most stations of one product, as `formats.cddl` has it.
const STATIONS_MAX: usize = 64;
/// The most extended key usages of one product.
const KEY_USAGES_MAX: usize = 16;

pub(super) fn products(
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
        device_ids: product
            .device_ids
            .as_ref()
            .map(|found| device_ids(source, found))
            .transpose()?,
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
        device_ids_line: product
            .device_ids
            .as_ref()
            .map_or(1, |listed| source.line(listed)),
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

/// Single identifiers and ranges, each named once.
fn device_ids(
    source: Source<'_>,
    entries: &Spanned<Vec<Spanned<String>>>,
) -> Result<DeviceIds, PolicyError> {
    let mut ranges: Vec<DeviceIdRange> = Vec::with_capacity(entries.get_ref().len());
    for entry in entries.get_ref() {
        let range = entry.get_ref().parse();
        let range = range.map_err(|error: DeviceIdsError| PolicyError::DeviceIds {
            line: source.line(entry),
            reason: shown(&error.to_string()),
        })?;
        ranges.push(range);
    }
    DeviceIds::new(ranges).map_err(|error| PolicyError::DeviceIds {
        line: source.line(entries),
        reason: error.to_string(),
    })
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
