//! What headquarters says of its books, held against what the books say here.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_console::Failure;
use mintmark_console::time::rfc3339;
use mintmark_protocol::audit_grant::AuditGrant;
use mintmark_protocol::identifier::SiteId;
use serde_json::Value;

use super::partial::Partial;
use crate::applied::inconsistent;
use crate::report::period::{Day, Period};

/// How far two clocks may be apart before somebody is told.
const CLOCKS_APART_SECONDS: u64 = 3600;
/// How many differences are named.
const NAMED_MAX: usize = 100;
/// What depends on bundles that came after the part of the record that was granted.
const OF_THE_WHOLE: [&str; 5] = [
    "as_of",
    "findings",
    "revoked",
    "written_off",
    "used_after_all",
];

/// The days of a grant.
pub(super) fn period(grant: &AuditGrant) -> Period {
    Period {
        since: grant.from_day.map(Day),
        as_of: grant.to_day.map(Day),
    }
}

/// The days of a grant begin before they end, and end when it was made: of a period without a day, nothing can be compared.
pub(super) fn expect_period(grant: &AuditGrant) -> Result<(), Failure> {
    let made = Day::of(grant.made_at);
    let Period { since, as_of } = period(grant);
    let last = as_of.unwrap_or(made);
    if last > made {
        return Err(inconsistent(format!(
            "it was made on {made}, and its period ends later, on {last}"
        )));
    }
    match since {
        Some(first) if first > last => Err(inconsistent(format!(
            "its period begins on {first}, which is after its end on {last}"
        ))),
        _ => Ok(()),
    }
}

/// What does not refuse a grant, and the auditor should ask about.
pub(super) fn doubts(grant: &AuditGrant, manifest_expires_at: u64, now: u64) -> Vec<String> {
    let made = rfc3339(grant.made_at);
    let mut found = Vec::new();
    if grant.made_at >= manifest_expires_at {
        found.push(format!(
            "the newest trust manifest had expired ({}) when the grant was made ({made})",
            rfc3339(manifest_expires_at)
        ));
    }
    if grant.made_at > now.saturating_add(CLOCKS_APART_SECONDS) {
        found.push(format!(
            "the grant says that it was made at {made}, which is still to come by the clock of this machine"
        ));
    }
    let later = grant.parts.iter().filter(|part| part.time > grant.made_at);
    let later = later.count();
    if later > 0 {
        found.push(format!(
            "{later} parts of the grant are of a time after it was made ({made}), by headquarters' own word"
        ));
    }
    found
}

/// What headquarters says of its books: once of each site that it granted a vault of, and of no other.
pub(super) fn by_site(
    reports: &[Vec<u8>],
    sites: &BTreeSet<SiteId>,
) -> Result<BTreeMap<SiteId, Value>, Failure> {
    let mut found = BTreeMap::new();
    for said in reports {
        let strange =
            || inconsistent("what it says of headquarters' books is no report".to_owned());
        let said: Value = serde_json::from_slice(said).map_err(|_| strange())?;
        let site = said["query"]["site"].as_str();
        let site: Option<SiteId> = site.and_then(|site| site.parse().ok());
        let site = site.ok_or_else(strange)?;
        if !sites.contains(&site) {
            return Err(inconsistent(format!(
                "it says what headquarters' books have of site {site}, and has no vault of it"
            )));
        }
        if found.insert(site.clone(), said).is_some() {
            return Err(inconsistent(format!(
                "it says twice what headquarters' books have of site {site}"
            )));
        }
    }
    match sites.iter().find(|site| !found.contains_key(*site)) {
        Some(site) => Err(inconsistent(format!(
            "it does not say what headquarters' books have of site {site}"
        ))),
        None if sites.is_empty() => Err(inconsistent("it is of no vault".to_owned())),
        None => Ok(found),
    }
}

/// How they differ, one thing each, and how many findings were not compared: none, unless a part of the record is left out
/// that headquarters' own books have.
pub(super) fn differences(
    said: &Value,
    here: &Value,
    partial: Option<&Partial>,
) -> Result<(Vec<String>, u64), Failure> {
    if said["period"] != here["period"] {
        return Err(inconsistent(format!(
            "what it says of headquarters' books at site {} is of other days than the grant",
            words(&here["query"]["site"])
        )));
    }
    let mut found = Vec::new();
    compare("", said, here, partial.is_some(), &mut found);
    let mut left_out = 0;
    if let Some(partial) = partial {
        let (said, here, later) = partial.findings(said, here);
        compare_findings(&said, &here, &mut found);
        left_out = later;
    }
    let count = found.len();
    if count > NAMED_MAX {
        found.truncate(NAMED_MAX);
        found.push(format!("and {} more", count - NAMED_MAX));
    }
    Ok((found, left_out))
}

fn compare_findings(said: &[&Value], here: &[&Value], found: &mut Vec<String>) {
    for (of, others, who) in [
        (said, here, "headquarters says, and nothing here shows"),
        (here, said, "headquarters does not say"),
    ] {
        let mut left = others.to_vec();
        for finding in of {
            match left.iter().position(|other| other == finding) {
                Some(same) => drop(left.swap_remove(same)),
                None => found.push(format!(
                    "finding {} of {}/{}, which {who}: {}",
                    words(&finding["code"]),
                    words(&finding["site"]),
                    words(&finding["vault"]),
                    words(&finding["text"])
                )),
            }
        }
    }
}

fn compare(at: &str, said: &Value, here: &Value, is_cut: bool, found: &mut Vec<String>) {
    match (said, here) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                if is_cut && OF_THE_WHOLE.contains(&name.as_str()) {
                    continue;
                }
                let at = format!("{at}/{name}");
                let (said, here) = (one.get(name), other.get(name));
                let (said, here) = (said.unwrap_or(&Value::Null), here.unwrap_or(&Value::Null));
                compare(&at, said, here, is_cut, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if at.ends_with("/findings") => {
            let [one, other] = [one, other].map(|of| of.iter().collect::<Vec<_>>());
            compare_findings(&one, &other, found);
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (number, (said, here)) in one.iter().zip(other).enumerate() {
                compare(&format!("{at}/{number}"), said, here, is_cut, found);
            }
        }
        (Value::Array(one), Value::Array(other)) => found.push(format!(
            "{at}: {} rows at headquarters, {} here",
            one.len(),
            other.len()
        )),
        (said, here) if said != here => {
            found.push(format!("{at}: {said} at headquarters, {here} here"));
        }
        _ => {}
    }
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
