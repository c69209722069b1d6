//! What an amendment changes, in plain words, for the officers who are to approve it.

use std::fmt;

use mintmark_protocol::device_ids::DeviceIds;
use mintmark_protocol::entitlement::{
    CertificateTerms, Credit, Entitlement, Interval, ProductTerms,
};
use mintmark_protocol::identifier::Sku;
use mintmark_protocol::key_terms::KeyTerms;
use serde::Serialize;

use super::explain::{self, counted, grouped, moment};
use crate::state::clock::CLOCK_GAP_DAYS_DEFAULT;

/// One thing in which two versions of an entitlement differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Of what: a product, such as `TH-200`, or a key, such as `key service`; none: of the entitlement as a whole.
    pub of: Option<String>,
    /// Which of its terms; none: the whole product or key came or went.
    pub field: Option<&'static str>,
    /// What it was; none: it was not there, or the field names all of what came or went.
    pub before: Option<String>,
    /// What it is to be; none: it is not there any more.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    /// One line, such as `TH-200: units 5,000 instead of 4,000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(of) = &self.of {
            write!(f, "{of}: ")?;
        }
        if let Some(field) = self.field {
            write!(f, "{field} ")?;
        }
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "{after} instead of {before}"),
            // What came into a list, or left it.
            (None, Some(after)) if self.field.is_some() => f.write_str(after),
            (None, after) => write!(f, "new, {}", after.unwrap_or_default()),
            (Some(before), None) => write!(f, "no longer there, which was {before}"),
        }
    }
}

/// What `after` has otherwise than `before`, one change for each of the terms, in the order of the entitlement. What is
/// random in each draft is not compared: the salt, and the encryption of the keys (their check values are compared).
pub fn difference(before: &Entitlement, after: &Entitlement) -> Vec<Change> {
    // Every field is named, so that none is ever forgotten.
    let Entitlement {
        salt: _,
        id,
        version,
        vault,
        drafted_at,
        approve_until,
        window,
        credit,
        anchor_lease_max,
        clock_gap_days_max,
        retention_days,
        products,
        policy_digest,
        keys,
        // The version that the difference is to.
        amends: _,
    } = after;
    let Credit {
        unreported_units_max,
        unreported_days_max,
    } = credit;
    let mut all = Changes {
        of: None,
        all: Vec::new(),
    };
    all.compare("id", &before.id, id, ToString::to_string);
    all.compare("version", &before.version, version, ToString::to_string);
    all.compare("vault", &before.vault, vault, ToString::to_string);
    all.compare("drafted at", &before.drafted_at, drafted_at, time);
    all.compare(
        "approved and imported before",
        &before.approve_until,
        approve_until,
        time,
    );
    all.compare("valid from", &before.window.from, &window.from, time);
    all.compare("valid until", &before.window.until, &window.until, time);
    let units = |units: &u64| counted(*units, "unit");
    let credit = before.credit;
    all.compare(
        "unreported at most",
        &credit.unreported_units_max,
        unreported_units_max,
        units,
    );
    let days = |days: &u64| counted(*days, "day");
    all.compare(
        "unreported no longer than",
        &credit.unreported_days_max,
        unreported_days_max,
        days,
    );
    all.compare(
        "anchor lease of at most",
        &before.anchor_lease_max,
        anchor_lease_max,
        units,
    );
    all.compare(
        "clock ahead of the log by at most",
        &before.clock_gap_days_max,
        clock_gap_days_max,
        |days| counted(days.unwrap_or(CLOCK_GAP_DAYS_DEFAULT), "day"),
    );
    all.compare(
        "log pruned",
        &before.retention_days,
        retention_days,
        |days| {
            days.map_or_else(
                || "never".to_owned(),
                |days| format!("after {}", counted(days, "day")),
            )
        },
    );
    let sku = |product: &ProductTerms| product.sku.clone();
    all.each(
        &before.products,
        products,
        sku,
        ToString::to_string,
        summary_of_product,
        product,
    );
    all.compare(
        "policy with SHA-256",
        &before.policy_digest,
        policy_digest,
        ToString::to_string,
    );
    let label = |key: &KeyTerms| key.label.clone();
    let name = |label: &_| format!("key {label}");
    all.each(&before.keys, keys, label, name, summary_of_key, key);
    all.all
}

/// Changes that are being collected.
struct Changes {
    of: Option<String>,
    all: Vec<Change>,
}

impl Changes {
    fn add(&mut self, field: Option<&'static str>, before: Option<String>, after: Option<String>) {
        self.all.push(Change {
            of: self.of.clone(),
            field,
            before,
            after,
        });
    }

    fn compare<T: PartialEq>(
        &mut self,
        field: &'static str,
        before: &T,
        after: &T,
        words: impl Fn(&T) -> String,
    ) {
        if before != after {
            self.add(Some(field), Some(words(before)), Some(words(after)));
        }
    }

    /// Compares things that are known by a name: those of `after` in its order, then those that are gone.
    fn each<T, N: PartialEq>(
        &mut self,
        before: &[T],
        after: &[T],
        name: impl Fn(&T) -> N,
        words: impl Fn(&N) -> String,
        summary: impl Fn(&T) -> String,
        compare: impl Fn(&mut Self, &T, &T),
    ) {
        for found in after {
            self.of = Some(words(&name(found)));
            match before.iter().find(|known| name(known) == name(found)) {
                Some(known) => compare(self, known, found),
                None => self.add(None, None, Some(summary(found))),
            }
        }
        for gone in before {
            if after.iter().all(|found| name(found) != name(gone)) {
                self.of = Some(words(&name(gone)));
                self.add(None, Some(summary(gone)), None);
            }
        }
        self.of = None;
    }
}

fn time(unix: &u64) -> String {
    moment(*unix)
}

fn summary_of_product(product: &ProductTerms) -> String {
    counted(product.units, "unit")
}

fn summary_of_key(key: &KeyTerms) -> String {
    format!("{} to {}", key.algorithm, key.usage)
}

fn product(all: &mut Changes, before: &ProductTerms, after: &ProductTerms) {
    let ProductTerms {
        account,
        sku: _,
        units,
        units_per_day,
        units_per_hour,
        device_id_pattern,
        key_algorithms,
        reissues_per_device,
        stations,
        working_hours,
        certificate,
        device_id_source,
        device_ids,
    } = after;
    let CertificateTerms {
        subject,
        validity_days,
        extended_key_usage,
    } = certificate;
    let rate = |rate: &Option<u64>| rate.map_or_else(|| "without limit".to_owned(), grouped);
    let pattern = |pattern: &Option<String>| pattern.clone().unwrap_or_else(|| "any".to_owned());
    all.compare("account tag", &before.account, account, ToString::to_string);
    all.compare("units", &before.units, units, |units| grouped(*units));
    all.compare(
        "units per UTC day",
        &before.units_per_day,
        units_per_day,
        rate,
    );
    all.compare(
        "units per UTC hour",
        &before.units_per_hour,
        units_per_hour,
        rate,
    );
    all.compare(
        "device identifiers",
        &before.device_id_pattern,
        device_id_pattern,
        pattern,
    );
    listed(all, before.device_ids.as_ref(), device_ids.as_ref());
    all.compare(
        "device keys",
        &before.key_algorithms,
        key_algorithms,
        |names| names.join(", "),
    );
    all.compare(
        "re-issues per device",
        &before.reissues_per_device,
        reissues_per_device,
        |count| grouped(*count),
    );
    all.compare(
        "stations",
        &before.stations,
        stations,
        |stations| match stations {
            None => "any".to_owned(),
            Some(stations) => list(stations),
        },
    );
    hours(
        all,
        before.working_hours.as_deref(),
        working_hours.as_deref(),
    );
    let known = &before.certificate;
    all.compare("certificate subject", &known.subject, subject, |subject| {
        format!("\"{subject}\"")
    });
    all.compare(
        "certificates valid for",
        &known.validity_days,
        validity_days,
        |days| match days {
            None => "ever".to_owned(),
            Some(days) => counted(u64::from(*days), "day"),
        },
    );
    let usage = |usage: &Vec<String>| match usage.as_slice() {
        [] => "any purpose".to_owned(),
        usages => usages.join(", "),
    };
    all.compare(
        "certificates for",
        &known.extended_key_usage,
        extended_key_usage,
        usage,
    );
    let source =
        |source: &mintmark_protocol::entitlement::DeviceIdSource| source.as_str().to_owned();
    all.compare(
        "device identifier in",
        &before.device_id_source,
        device_id_source,
        source,
    );
}

/// The most ranges that a line names; a file of the policy has them all.
const RANGES_SHOWN_MAX: usize = 8;

/// A list of device identifiers in words: how many, and which, as far as that fits.
pub fn listed_words(listed: &DeviceIds) -> String {
    let plural = if listed.devices() == 1 { "" } else { "s" };
    format!(
        "the {} listed device identifier{plural} {}",
        grouped(listed.devices()),
        ranges(listed)
    )
}

fn ranges(listed: &DeviceIds) -> String {
    let ranges = listed.ranges();
    let shown: Vec<String> = ranges
        .iter()
        .take(RANGES_SHOWN_MAX)
        .map(ToString::to_string)
        .collect();
    let more = ranges.len().saturating_sub(shown.len());
    let more = match (more, ranges.last()) {
        (0, _) | (_, None) => String::new(),
        (1, Some(last)) => format!(", {last}"),
        (more, Some(last)) => format!(", and {} more up to {last}", grouped(more)),
    };
    shown.join(", ") + &more
}

/// What came into a list and what left it: two long lists side by side show nobody what changed.
fn listed(all: &mut Changes, before: Option<&DeviceIds>, after: Option<&DeviceIds>) {
    let field = "listed device identifiers";
    let (Some(known), Some(next)) = (before, after) else {
        return all.compare(field, &before, &after, |listed| match listed {
            None => "without a list".to_owned(),
            Some(listed) => listed_words(listed),
        });
    };
    let count = |listed: &u128| grouped(*listed);
    all.compare(field, &known.devices(), &next.devices(), count);
    if let Some(came) = next.without(known) {
        all.add(Some("newly listed"), None, Some(ranges(&came)));
    }
    if let Some(gone) = known.without(next) {
        all.add(Some("no longer listed"), None, Some(ranges(&gone)));
    }
}

fn hours(all: &mut Changes, before: Option<&[Interval]>, after: Option<&[Interval]>) {
    let words = |hours: Option<&[Interval]>| {
        let Some(hours) = hours else {
            return "at any time".to_owned();
        };
        let (Some(first), Some(last)) = (hours.first(), hours.last()) else {
            return "never".to_owned();
        };
        let seconds: u64 = hours.iter().map(|hours| hours.until - hours.from).sum();
        format!(
            "{} of {} in all, from {} to {}",
            counted(hours.len() as u64, "interval"),
            explain::in_hours(seconds),
            moment(first.from),
            moment(last.until)
        )
    };
    if before == after {
        return;
    }
    let (before, mut after) = (words(before), words(after));
    if before == after {
        after = "otherwise divided".to_owned();
    }
    all.add(Some("working hours"), Some(before), Some(after));
}

fn key(all: &mut Changes, before: &KeyTerms, after: &KeyTerms) {
    let KeyTerms {
        label: _,
        algorithm,
        usage,
        uses_max,
        until,
        products,
        memory_import,
        check_value,
        delivery: _,
    } = after;
    all.compare(
        "algorithm",
        &before.algorithm,
        algorithm,
        ToString::to_string,
    );
    all.compare("use", &before.usage, usage, ToString::to_string);
    all.compare("uses at most", &before.uses_max, uses_max, |uses| {
        uses.map_or_else(|| "without limit".to_owned(), grouped)
    });
    all.compare("valid until", &before.until, until, |until| {
        until.map_or_else(|| "the end of the entitlement".to_owned(), moment)
    });
    all.compare(
        "for",
        &before.products,
        products,
        |products: &Option<Vec<Sku>>| match products {
            None => "every product".to_owned(),
            Some(products) => list(products),
        },
    );
    all.compare(
        "through the vault's memory",
        &before.memory_import,
        memory_import,
        |allowed| if *allowed { "allowed" } else { "forbidden" }.to_owned(),
    );
    all.compare("check value", &before.check_value, check_value, |value| {
        hex::encode(value)
    });
}

fn list<T: ToString>(names: &[T]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}
