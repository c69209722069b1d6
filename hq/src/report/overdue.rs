//! What should have come by now: bundles of a vault that may make devices, and word that it follows a revocation.

use mintmark_console::Failure;
use mintmark_console::time::rfc3339;
use mintmark_protocol::envelope::Kind;
use rusqlite::Connection;
use serde_json::json;

use super::Query;
use crate::clock::{self, DAY_SECONDS};
use crate::findings::{Finding, Severity};
use crate::registry::vaults::Vault;
use crate::registry::{bundles, dispatches, entitlements, orders};

/// Where no entitlement says for how long a vault may work unreported.
const DAYS: u64 = 14;

/// What is overdue of the vaults that a query is of, as of its last day, and of today if it has none.
pub(super) fn all(
    sql: &Connection,
    vaults: &[Vault],
    query: &Query,
) -> Result<Vec<Finding>, Failure> {
    let end = query.period.as_of.map(|day| day.0.saturating_add(1));
    let end = end.map_or(u64::MAX, |day| day.saturating_mul(DAY_SECONDS));
    let now = clock::now_unix().min(end);
    let mut found = Vec::new();
    for vault in vaults {
        let site = query.site.as_ref();
        let wanted = site.is_none_or(|site| vault.name.site == *site);
        if wanted && vault.granted && vault.successor.is_none() {
            found.extend(silent(sql, vault, query.silent_days, now)?);
            found.extend(unseen(sql, vault, query.silent_days, now)?);
        }
    }
    Ok(found)
}

/// A vault that may make devices and of which nothing came for longer than it may work unreported.
fn silent(
    sql: &Connection,
    vault: &Vault,
    days: Option<u64>,
    now: u64,
) -> Result<Option<Finding>, Failure> {
    if orders::disabled_at(sql, &vault.name, true)?.is_some() {
        return Ok(None);
    }
    let in_force = entitlements::in_force(sql, &vault.name, now)?;
    let begun = in_force
        .iter()
        .filter(|listed| listed.terms.window.from <= now);
    let credits: Vec<_> = begun.map(|listed| listed.terms.credit).collect();
    let Some(unreported_days) = credits
        .iter()
        .map(|credit| credit.unreported_days_max)
        .max()
    else {
        return Ok(None);
    };
    let units = credits.iter().map(|credit| credit.unreported_units_max);
    let units = units.max().unwrap_or(0);
    let days = days.unwrap_or(unreported_days);
    let bundles = bundles::of_vault(sql, &vault.name)?;
    let imported = bundles.iter().map(|held| held.imported_at);
    let newest = imported.filter(|at| *at <= now).max();
    // Of one that never reported, the time runs from when it was let in, or from when it may first make anything.
    let first = in_force.iter().map(|listed| {
        let terms = &listed.terms;
        terms.window.from.max(terms.drafted_at)
    });
    let since = newest.or(first.min()).unwrap_or(now);
    if now <= since.saturating_add(days.saturating_mul(DAY_SECONDS)) {
        return Ok(None);
    }
    let name = &vault.name;
    let quiet = now.saturating_sub(since) / DAY_SECONDS;
    Ok(Some(Finding {
        evidence: json!({
            "since": rfc3339(since),
            "days": quiet,
            "days_max": days,
            "unreported_units_max": units,
        }),
        text: format!(
            "{name}: no bundle for {quiet} days, since {}, and it may work unreported for {days}; by its rules it has made no \
             more than {units} units since",
            rfc3339(since)
        ),
        ..finding(vault, "SITE-SILENT", Severity::Minor)
    }))
}

/// Revocations that were sent long ago and that no bundle says were seen.
fn unseen(
    sql: &Connection,
    vault: &Vault,
    days: Option<u64>,
    now: u64,
) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    let unseen = dispatches::unseen_of(sql, &vault.name, Kind::Revocation)?;
    if unseen.is_empty() {
        return Ok(found);
    }
    let sent = entitlements::all(sql)?.into_iter().filter(|listed| {
        let is_sent = listed.state == "sent";
        is_sent && listed.terms.vault == vault.name
    });
    let credit = sent.map(|listed| listed.terms.credit.unreported_days_max);
    let days = days.or(credit.max()).unwrap_or(DAYS);
    for (order, made_at) in unseen {
        let due = made_at.saturating_add(days.saturating_mul(DAY_SECONDS));
        // The same order goes out again with every stick: the first time counts.
        let known = |finding: &Finding| finding.evidence["object"] == order.object.as_str();
        if now <= due || found.iter().any(known) {
            continue;
        }
        found.push(Finding {
            evidence: json!({
                "object": order.object,
                "sent_at": rfc3339(made_at),
                "days_max": days,
                "epoch": order.epoch,
                "sequence": order.sequence,
            }),
            text: format!(
                "{}: the revocation `{}` was sent at {}, and no bundle says that the vault has seen it",
                vault.name,
                order.object,
                rfc3339(made_at)
            ),
            ..finding(vault, "REVOCATION-UNSEEN", Severity::Major)
        });
    }
    Ok(found)
}

fn finding(vault: &Vault, code: &str, severity: Severity) -> Finding {
    Finding {
        vault: vault.name.clone(),
        lineage: vault.lineage,
        log_sequence: None,
        code: code.to_owned(),
        severity,
        serials: Vec::new(),
        evidence: json!({}),
        text: String::new(),
    }
}
