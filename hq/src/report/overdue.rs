//! What should have come by now: bundles of a vault that may make devices, word that it follows a revocation, and CRLs.

use mintmark_console::Failure;
use mintmark_console::time::rfc3339;
use mintmark_protocol::entitlement::{Credit, Entitlement};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;
use serde_json::json;

use super::granted::{self, MadeAt};
use super::{Query, crl_overdue};
use crate::clock::{self, DAY_SECONDS};
use crate::findings::{Finding, Severity};
use crate::registry::vaults::Vault;
use crate::registry::{accounts, bundles, dispatches, entitlements, orders};

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
    let made = granted::made_at(sql, query.site.as_ref())?;
    let mut found = Vec::new();
    for vault in vaults {
        let site = query.site.as_ref();
        let wanted = site.is_none_or(|site| vault.name.site == *site);
        if wanted && vault.granted && vault.successor.is_none() {
            found.extend(silent(sql, vault, query, &made, now)?);
            found.extend(unseen(sql, vault, query.silent_days, now)?);
            found.extend(crl_overdue::of(sql, vault, query.silent_days, now)?);
        }
    }
    Ok(found)
}

/// A vault that may make devices, or might when its newest bundle came, and of which nothing came for longer than it may
/// work unreported.
fn silent(
    sql: &Connection,
    vault: &Vault,
    query: &Query,
    made: &MadeAt,
    now: u64,
) -> Result<Option<Finding>, Failure> {
    if orders::disabled_at(sql, &vault.name, true)?.is_some() {
        return Ok(None);
    }
    let bundles = bundles::of_vault(sql, &vault.name)?;
    let imported = bundles.iter().map(|held| held.imported_at);
    let newest = imported.filter(|at| *at <= now).max();
    let spans = spans(sql, vault, made, now)?;
    let Some(silence) = Silence::new(&spans, newest, now) else {
        return Ok(None);
    };
    let Silence { since, units, .. } = silence;
    let days = query.silent_days.unwrap_or(silence.days);
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

/// A time in which a vault may make devices, by one version of an entitlement: Unix seconds, the end not included.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    until: u64,
    credit: Credit,
}

/// What a vault was sent and has not refused, each version from when it was sent until the next one was. What officers
/// revoked is not among it: word of that is waited for by itself. Nor is what is over and all made, as nothing more can
/// come of it.
fn spans(sql: &Connection, vault: &Vault, made: &MadeAt, now: u64) -> Result<Vec<Span>, Failure> {
    let accounts = accounts::all(sql, Some(&vault.name.site))?;
    let is_used_up = |terms: &Entitlement| {
        let mut of = accounts
            .iter()
            .filter(|account| account.vault == vault.name && account.entitlement == terms.id);
        of.all(|account| account.is_used_up())
    };
    let mut versions = entitlements::all(sql)?;
    versions.retain(|listed| listed.terms.vault == vault.name && listed.state == "sent");
    let mut spans = Vec::new();
    // They come by id and version.
    for (at, listed) in versions.iter().enumerate() {
        let terms = &listed.terms;
        if orders::is_ordered(sql, &vault.name, &Target::Entitlement(terms.id.clone()))? {
            continue;
        }
        let sent_at = |of: &Entitlement| {
            let version = (of.vault.clone(), of.id.to_string(), of.version);
            made.get(&version).copied().unwrap_or(of.drafted_at)
        };
        let later = versions.iter().skip(at + 1).map(|later| &later.terms);
        let mut later = later.filter(|later| later.id == terms.id && sent_at(later) <= now);
        let next = later.clone().map(sent_at).next();
        // Officers that give more credit give it to what is unreported by then.
        let newest = later
            .next_back()
            .map_or(terms.credit, |newest| newest.credit);
        let own = terms.credit;
        let span = Span {
            from: terms.window.from.max(sent_at(terms)),
            until: terms.window.until.min(next.unwrap_or(u64::MAX)),
            credit: Credit {
                unreported_units_max: own.unreported_units_max.max(newest.unreported_units_max),
                unreported_days_max: own.unreported_days_max.max(newest.unreported_days_max),
            },
        };
        let is_over = terms.window.until <= now;
        if span.from < span.until && !(is_over && is_used_up(terms)) {
            spans.push(span);
        }
    }
    spans.sort_by_key(|span| span.from);
    Ok(spans)
}

/// Since when nothing came of a vault that may make devices, and how long that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Silence {
    /// From the newest bundle on; or, if it might make nothing then, from when it first might again. Unix seconds.
    since: u64,
    /// The most generous credit of those that run in it, as a vault goes by each where it makes something: but none that
    /// begins when the time is up.
    days: u64,
    units: u64,
}

impl Silence {
    /// Of a vault with these spans, in the order of their beginning, whose newest bundle came at `newest`. A span that
    /// ended since then counts as one that goes on: what was made in its last days is still to come.
    fn new(spans: &[Span], newest: Option<u64>, now: u64) -> Option<Self> {
        let newest = newest.unwrap_or(0);
        let unreported = |span: &&Span| newest < span.until && span.from <= now;
        let mut silence: Option<Self> = None;
        for span in spans.iter().filter(unreported) {
            let (days, units) = (
                span.credit.unreported_days_max,
                span.credit.unreported_units_max,
            );
            let silence = silence.get_or_insert(Self {
                since: newest.max(span.from),
                days,
                units,
            });
            let due = silence.days.saturating_mul(DAY_SECONDS);
            if span.from <= silence.since.saturating_add(due) {
                silence.days = silence.days.max(days);
                silence.units = silence.units.max(units);
            }
        }
        silence
    }
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
    let days = unreported_days(sql, vault, days)?;
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

/// For how many days a vault may work unreported, unless somebody asks for another number.
pub(super) fn unreported_days(
    sql: &Connection,
    vault: &Vault,
    days: Option<u64>,
) -> Result<u64, Failure> {
    let sent = entitlements::all(sql)?.into_iter().filter(|listed| {
        let is_sent = listed.state == "sent";
        is_sent && listed.terms.vault == vault.name
    });
    let credit = sent.map(|listed| listed.terms.credit.unreported_days_max);
    Ok(days.or(credit.max()).unwrap_or(DAYS))
}

pub(super) fn finding(vault: &Vault, code: &str, severity: Severity) -> Finding {
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

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = DAY_SECONDS;

    /// Days from, days until, days unreported.
    fn spans(of: &[(u64, u64, u64)]) -> Vec<Span> {
        let of = of.iter().map(|(from, until, days)| Span {
            from: from * DAY,
            until: until * DAY,
            credit: Credit {
                unreported_units_max: 100,
                unreported_days_max: *days,
            },
        });
        of.collect()
    }

    /// Since which day nothing came, and for how many days that may be.
    fn silence(of: &[(u64, u64, u64)], newest: Option<u64>, now: u64) -> Option<(u64, u64)> {
        let silence = Silence::new(&spans(of), newest.map(|day| day * DAY), now * DAY)?;
        Some((silence.since / DAY, silence.days))
    }

    #[test]
    fn what_was_made_before_a_window_ended_is_still_to_come() {
        let window = [(10, 40, 14)];
        assert_eq!(silence(&window, Some(39), 300), Some((39, 14)));
        assert_eq!(silence(&window, None, 300), Some((10, 14)));
        assert_eq!(silence(&window, Some(40), 300), None);
        assert_eq!(silence(&window, None, 9), None);
    }

    #[test]
    fn a_vault_that_might_make_nothing_was_not_silent_in_that_time() {
        let windows = [(10, 40, 14), (60, 90, 14)];
        assert_eq!(silence(&windows, Some(41), 60), Some((60, 14)));
        assert_eq!(silence(&windows, Some(41), 59), None);
        // What ended unreported is not forgiven by what begins.
        assert_eq!(silence(&windows, Some(30), 60), Some((30, 14)));
        assert_eq!(silence(&windows, Some(70), 80), Some((70, 14)));
    }

    #[test]
    fn the_most_generous_credit_counts_unless_it_comes_when_the_time_is_up() {
        let both = [(10, 90, 14), (12, 90, 30)];
        assert_eq!(silence(&both, None, 50), Some((10, 30)));
        assert_eq!(silence(&both, None, 11), Some((10, 14)));
        let late = [(10, 90, 14), (25, 90, 30)];
        assert_eq!(silence(&late, None, 50), Some((10, 14)));
        assert_eq!(silence(&late, Some(26), 50), Some((26, 30)));
    }
}
