//! What would have become of requests, counted.

use std::collections::BTreeMap;

use mintmark_ledger::entry::Body;
use serde_json::{Value, json};

/// Refused requests that are shown one by one.
const EXAMPLES_MAX: usize = 20;

/// What would have become of some requests.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) issued: u64,
    /// Those of `issued` that would have spent a unit; the others are further certificates of devices that were made.
    pub(super) units: u64,
    /// Answered with the certificate that was issued before.
    pub(super) existing: u64,
    pub(super) refused: BTreeMap<String, Refusals>,
    /// Requests that the vault made a device for.
    pub(super) made: u64,
    /// Requests that the vault refused, and that would have been issued.
    pub(super) newly_issued: u64,
    /// What was said of devices: scrap, void, rework.
    pub(super) orders: u64,
    pub(super) orders_refused: BTreeMap<String, u64>,
    /// Of devices that were made, and of others.
    pub(super) examples: [Vec<Value>; 2],
}

/// How often one rule would have refused.
#[derive(Clone, Copy, Default)]
pub(super) struct Refusals {
    pub(super) count: u64,
    /// Requests that the vault made a device for.
    pub(super) made: u64,
}

/// What the vault itself made of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// A device got its first certificate.
    Made,
    /// A device got another one.
    MadeAgain,
    Existing,
    Refused,
}

impl Past {
    pub(super) fn of(decision: &Body) -> Option<Self> {
        match decision {
            Body::Reserved(reserved) if reserved.issue == 0 => Some(Self::Made),
            Body::Reserved(_) => Some(Self::MadeAgain),
            Body::Existing { .. } => Some(Self::Existing),
            Body::Refused(_) => Some(Self::Refused),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Made | Self::MadeAgain => "issued",
            Self::Existing => "existing",
            Self::Refused => "refused",
        }
    }
}

/// What would have become of a request, until it is known what did.
pub(super) enum Tried {
    Issued,
    Existing,
    Refused { code: String, example: Value },
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.issued += other.issued;
        self.units += other.units;
        self.existing += other.existing;
        self.made += other.made;
        self.newly_issued += other.newly_issued;
        self.orders += other.orders;
        for (code, refusals) in &other.refused {
            let sum = self.refused.entry(code.clone()).or_default();
            sum.count += refusals.count;
            sum.made += refusals.made;
        }
        for (code, count) in &other.orders_refused {
            *self.orders_refused.entry(code.clone()).or_default() += count;
        }
        for (all, more) in self.examples.iter_mut().zip(&other.examples) {
            let room = EXAMPLES_MAX.saturating_sub(all.len());
            all.extend(more.iter().take(room).cloned());
        }
    }

    pub(super) fn count(&mut self, tried: Tried, past: Option<Past>) {
        let made = past == Some(Past::Made);
        self.made += u64::from(made);
        match tried {
            Tried::Issued => self.newly_issued += u64::from(past == Some(Past::Refused)),
            Tried::Existing => {}
            Tried::Refused { code, mut example } => {
                let refusals = self.refused.entry(code).or_default();
                refusals.count += 1;
                refusals.made += u64::from(made);
                example["outcome"] = past.map(Past::as_str).into();
                let [of_made, others] = &mut self.examples;
                let examples = if made { of_made } else { others };
                if examples.len() < EXAMPLES_MAX {
                    examples.push(example);
                }
            }
        }
    }

    /// Devices that were made at a request that would have been refused.
    pub(super) fn made_refused(&self) -> u64 {
        self.refused.values().map(|refusals| refusals.made).sum()
    }

    /// Those of devices that were made first.
    pub(super) fn examples(&self) -> impl Iterator<Item = &Value> {
        self.examples.iter().flatten().take(EXAMPLES_MAX)
    }

    pub(super) fn to_json(&self, site: &str, vault: Option<&str>) -> Value {
        let refused: Vec<_> = self
            .refused
            .iter()
            .map(|(code, of)| json!({ "code": code, "count": of.count, "made": of.made }))
            .collect();
        let orders_refused: Vec<_> = self
            .orders_refused
            .iter()
            .map(|(code, count)| json!({ "code": code, "count": count }))
            .collect();
        let examples: Vec<_> = self.examples().collect();
        json!({
            "site": site,
            "vault": vault,
            "requests": self.requests,
            "issued": self.issued,
            "existing": self.existing,
            "refused": refused,
            "examples": examples,
            "units": self.units,
            "made": self.made,
            "made_refused": self.made_refused(),
            "newly_issued": self.newly_issued,
            "orders": self.orders,
            "orders_refused": orders_refused,
        })
    }
}
