//! An entitlement's terms in words, and what an amendment changes.

use mintmark_console::time::rfc3339;
use mintmark_ledger::policy::{difference, listed_words};
use mintmark_ledger::state::clock::CLOCK_GAP_DAYS_DEFAULT;
use mintmark_protocol::entitlement::{DeviceIdSource, Entitlement, Interval, ProductTerms};
use mintmark_protocol::key_terms::{KeyTerms, KeyUse};

/// An entitlement's terms in words.
pub(crate) fn terms(entitlement: &Entitlement) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Entitlement {} (version {}) for the vault {}.",
            entitlement.id, entitlement.version, entitlement.vault
        ),
        format!(
            "From {} until {}.",
            rfc3339(entitlement.window.from),
            rfc3339(entitlement.window.until)
        ),
        format!(
            "The vault makes no more under this entitlement once {} units are unreported, or one is unreported for more than {} days.",
            entitlement.credit.unreported_units_max, entitlement.credit.unreported_days_max
        ),
    ];
    lines.push(format!(
        "One anchor lease is of {} units at most: what a vault that stops uncleanly may lose.",
        entitlement.anchor_lease_max
    ));
    lines.push(format!(
        "After it was switched off, the vault believes a clock that is at most {} days ahead of its log.",
        entitlement
            .clock_gap_days_max
            .unwrap_or(CLOCK_GAP_DAYS_DEFAULT)
    ));
    if let Some(days) = entitlement.retention_days {
        lines.push(format!(
            "The vault may prune what headquarters has acknowledged of its log once it is {days} days old; headquarters keeps it."
        ));
    }
    for product in &entitlement.products {
        lines.push(format!("{}.", product_terms(product)));
    }
    for key in &entitlement.keys {
        lines.push(format!("{}.", key_terms(key)));
    }
    lines.push(format!(
        "Drafted from the policy file with SHA-256 {}; to be approved before {}.",
        entitlement.policy_digest,
        rfc3339(entitlement.approve_until)
    ));
    lines
}

fn product_terms(product: &ProductTerms) -> String {
    let mut parts = vec![format!("{}: {} units in all", product.sku, product.units)];
    if let Some(units) = product.units_per_day {
        parts.push(format!("{units} a day"));
    }
    if let Some(units) = product.units_per_hour {
        parts.push(format!("{units} an hour"));
    }
    match &product.device_id_pattern {
        Some(pattern) => parts.push(format!("identifiers matching `{pattern}`")),
        None if product.device_ids.is_none() => parts.push("any identifier".to_owned()),
        None => {}
    }
    if let Some(listed) = &product.device_ids {
        parts.push(format!("only {}", listed_words(listed)));
    }
    if product.device_id_source != DeviceIdSource::SerialNumber {
        parts.push(format!(
            "the identifier taken from the request's {}",
            product.device_id_source.as_str()
        ));
    }
    parts.push(format!("device keys {}", product.key_algorithms.join(", ")));
    if product.reissues_per_device > 0 {
        parts.push(format!(
            "{} re-issues per device",
            product.reissues_per_device
        ));
    }
    if let Some(stations) = &product.stations {
        let names: Vec<&str> = stations.iter().map(|station| station.as_str()).collect();
        parts.push(format!("only at {}", names.join(", ")));
    }
    if let Some(hours) = &product.working_hours {
        parts.push(working_hours(hours));
    }
    parts.push(format!(
        "certificates `{}`, {}",
        product.certificate.subject,
        validity(product)
    ));
    if !product.certificate.extended_key_usage.is_empty() {
        parts.push(format!(
            "for {}",
            product.certificate.extended_key_usage.join(", ")
        ));
    }
    parts.join("; ")
}

/// Hundreds of periods are no words; when they begin and end and how much they are is.
fn working_hours(hours: &[Interval]) -> String {
    let (Some(first), Some(last)) = (hours.first(), hours.last()) else {
        return "at no time".to_owned();
    };
    let seconds = hours
        .iter()
        .map(|hours| hours.until.saturating_sub(hours.from))
        .fold(0, u64::saturating_add);
    let period = |hours: &Interval| format!("{} to {}", rfc3339(hours.from), rfc3339(hours.until));
    format!(
        "only within {} working periods of {} h {} min in all, the first {}, the last {}",
        hours.len(),
        seconds / 3600,
        seconds % 3600 / 60,
        period(first),
        period(last)
    )
}

fn validity(product: &ProductTerms) -> String {
    match product.certificate.validity_days {
        Some(days) => format!("valid {days} days"),
        None => "without expiry".to_owned(),
    }
}

/// A key by its label: nobody who approves sees more of it.
fn key_terms(key: &KeyTerms) -> String {
    let mut parts = vec![format!("Key `{}`: {}", key.label, key.algorithm)];
    parts.push(usage(key));
    match (key.usage, key.uses_max) {
        (KeyUse::Hold, _) => parts.push("its uses are not counted".to_owned()),
        (_, Some(uses)) => parts.push(format!("{uses} uses at most")),
        (_, None) => parts.push("as many uses as there are units".to_owned()),
    }
    if let Some(until) = key.until {
        parts.push(format!("until {}", rfc3339(until)));
    }
    parts.push(match products(key) {
        Some(products) => format!("for {products}"),
        None => "for every product".to_owned(),
    });
    parts.push(if key.memory_import {
        "it MAY PASS THROUGH THE VAULT'S MEMORY where its token cannot unwrap it".to_owned()
    } else {
        "unwrapped inside the vault's token alone".to_owned()
    });
    parts.join("; ")
}

fn usage(key: &KeyTerms) -> String {
    match key.usage {
        KeyUse::DeriveDeviceSecret => "a secret per device is derived from it".to_owned(),
        KeyUse::Hold => "held in the token for other software there".to_owned(),
    }
}

fn products(key: &KeyTerms) -> Option<String> {
    let products = key.products.as_ref()?;
    let names: Vec<&str> = products.iter().map(|sku| sku.as_str()).collect();
    Some(names.join(", "))
}

/// What an amendment changes against the version before it, but for what is of every draft.
pub(crate) fn differences(before: &Entitlement, next: &Entitlement) -> Vec<String> {
    let same = Entitlement {
        version: next.version,
        drafted_at: next.drafted_at,
        approve_until: next.approve_until,
        ..before.clone()
    };
    let mut lines = vec![format!(
        "Against version {} of {}:",
        before.version, before.id
    )];
    let changes = difference(&same, next);
    if changes.is_empty() {
        lines.push("  nothing changes".to_owned());
    }
    lines.extend(changes.iter().map(|change| format!("  {change}")));
    lines
}
