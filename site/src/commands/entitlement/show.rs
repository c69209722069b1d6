//! `site entitlement show ID`.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit};
use mintmark_protocol::entitlement::{Interval, ProductTerms};
use mintmark_protocol::identifier::{EntitlementId, StationId};
use serde::Serialize;

use super::super::key;
use super::super::{json, now};
use super::Summary;
use super::history::{self, Version};
use super::list::versions;
use crate::failure::{Error, Result};
use crate::vault::reading::Reading;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    #[serde(flatten)]
    summary: Summary,
    fingerprint: String,
    max_unreported_units: u64,
    max_unreported_days: u64,
    terms: Vec<Terms>,
    /// Every version that reached this vault, in the order of the log.
    versions: Vec<Version>,
}

/// What may be made of one product.
#[derive(Serialize)]
struct Terms {
    product: String,
    units: u64,
    units_per_day: Option<u64>,
    units_per_hour: Option<u64>,
    device_id_pattern: Option<String>,
    /// Single identifiers and ranges `first..last`, in order; null: any.
    device_ids: Option<Vec<String>>,
    device_id_source: &'static str,
    key_algorithms: Vec<String>,
    reissues_per_device: u32,
    stations: Option<Vec<String>>,
    working_hours: Option<Vec<Hours>>,
    subject: String,
    validity_days: Option<u32>,
    extended_key_usage: Vec<String>,
}

#[derive(Serialize)]
struct Hours {
    from: String,
    until: String,
}

/// Shows one entitlement.
pub(super) fn execute(id: &EntitlementId, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let state = reading.state();
    let granted = state.entitlements().get(id).ok_or_else(|| {
        Error::usage(
            "ENTITLEMENT-UNKNOWN",
            format!("no entitlement {id} is in force here"),
        )
        .hint("`site entitlement list` names those that are")
    })?;
    let mut versions = history::read(reading.view())?;
    versions.retain(|version| version.id == id.as_str());
    let report = Report {
        schema: "mintmark/entitlement/1",
        summary: Summary::new(granted, state, state.time_at(now())),
        fingerprint: granted.fingerprint.to_string(),
        max_unreported_units: granted.terms.credit.unreported_units_max,
        max_unreported_days: granted.terms.credit.unreported_days_max,
        terms: granted.terms.products.iter().map(Terms::from).collect(),
        versions,
    };
    if console.is_json() {
        return json(console, &report);
    }
    show(&report, console);
    Ok(Exit::Done)
}

fn show(report: &Report, console: &Console) {
    let Summary {
        id,
        version,
        state,
        valid_from,
        valid_until,
        products,
        revoked,
        waits_for,
        keys,
        ..
    } = &report.summary;
    console.line(format!("{id} version {version}, {state}"));
    console.line(format!("valid          {valid_from} to {valid_until}"));
    console.line(format!("fingerprint    {}", report.fingerprint));
    if let Some(revoked) = revoked {
        let spent: u64 = products.iter().map(|product| product.spent).sum();
        let units: u64 = products.iter().map(|product| product.units).sum();
        let unresolved: u64 = products.iter().map(|product| product.unresolved).sum();
        console.line(format!(
            "revoked        {}: {}",
            revoked.since, revoked.reason
        ));
        console.line(format!(
            "final count    {spent} of {units} spent, {unresolved} of them without a certificate"
        ));
    }
    let (units, days) = (report.max_unreported_units, report.max_unreported_days);
    console.line(format!(
        "credit         {units} unreported units, {days} days"
    ));
    for (terms, product) in report.terms.iter().zip(products) {
        console.line("");
        console.line(&terms.product);
        console.line(format!(
            "  units        {}, {} spent",
            product.units, product.spent
        ));
        for (what, rate) in [
            ("per day", terms.units_per_day),
            ("per hour", terms.units_per_hour),
        ] {
            if let Some(rate) = rate {
                console.line(format!("  {what:<12} {rate}"));
            }
        }
        let pattern = terms.device_id_pattern.as_deref().unwrap_or("any");
        console.line(format!(
            "  device id    {pattern} (from {})",
            terms.device_id_source
        ));
        for (at, range) in terms.device_ids.iter().flatten().enumerate() {
            let what = if at == 0 { "listed" } else { "" };
            console.line(format!("  {what:<12} {range}"));
        }
        console.line(format!(
            "  keys         {}",
            terms.key_algorithms.join(", ")
        ));
        if let Some(stations) = &terms.stations {
            console.line(format!("  stations     {}", stations.join(", ")));
        }
        if let Some(hours) = &terms.working_hours {
            console.line(format!(
                "  hours        {} intervals (see --json)",
                hours.len()
            ));
        }
        let validity = terms
            .validity_days
            .map_or("no expiry".to_owned(), |days| format!("{days} days"));
        console.line(format!("  certificate  {}, {validity}", terms.subject));
    }
    if !keys.is_empty() {
        console.line("");
        console.table(&key::table(keys, console));
    }
    let earlier: Vec<&Version> = report.versions.iter().collect();
    if earlier.len() > 1 {
        console.line("");
        console.table(&versions(&earlier));
    }
    for waits in waits_for {
        console.note(format!("it waits for {waits}"));
    }
}

impl From<&ProductTerms> for Terms {
    fn from(terms: &ProductTerms) -> Self {
        let hours = |interval: &Interval| Hours {
            from: rfc3339(interval.from),
            until: rfc3339(interval.until),
        };
        let names = |stations: &Vec<StationId>| stations.iter().map(ToString::to_string).collect();
        Self {
            product: terms.sku.to_string(),
            units: terms.units,
            units_per_day: terms.units_per_day,
            units_per_hour: terms.units_per_hour,
            device_id_pattern: terms.device_id_pattern.clone(),
            device_ids: terms
                .device_ids
                .as_ref()
                .map(|listed| listed.ranges().iter().map(ToString::to_string).collect()),
            device_id_source: terms.device_id_source.as_str(),
            key_algorithms: terms.key_algorithms.clone(),
            reissues_per_device: terms.reissues_per_device,
            stations: terms.stations.as_ref().map(names),
            working_hours: terms
                .working_hours
                .as_ref()
                .map(|all| all.iter().map(hours).collect()),
            subject: terms.certificate.subject.clone(),
            validity_days: terms.certificate.validity_days,
            extended_key_usage: terms.certificate.extended_key_usage.clone(),
        }
    }
}
