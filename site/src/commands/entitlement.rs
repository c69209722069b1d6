//! `site entitlement list | show`.

pub(super) mod history;
mod list;
mod show;

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit};
use mintmark_ledger::state::{Granted, State};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::EntitlementId;
use serde::Serialize;

use super::key::KeyRow;
use super::status::RevokedRow;
use crate::failure::Result;

/// The verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what headquarters has granted
    List,
    /// Show the terms of one entitlement
    Show {
        /// The entitlement's id
        #[arg(value_name = "ID")]
        id: EntitlementId,
    },
}

/// Runs a verb.
pub(crate) fn execute(command: &Command, home: Option<&Path>, console: &Console) -> Result<Exit> {
    match command {
        Command::List => list::execute(home, console),
        Command::Show { id } => show::execute(id, home, console),
    }
}

/// An entitlement, as it is reported.
#[derive(Serialize)]
struct Summary {
    id: String,
    version: u64,
    state: &'static str,
    valid_from: String,
    valid_until: String,
    /// Why it is over, for good.
    revoked: Option<RevokedRow>,
    /// Whether headquarters knows how it stands: `acknowledged`, `sealed` (a bundle says it, which is not acknowledged
    /// yet), or `unsealed`. Of a revoked one this is about its final count.
    reported: &'static str,
    /// What keeps it from being spent, and what has to come of it.
    waits_for: Vec<String>,
    products: Vec<Product>,
    keys: Vec<KeyRow>,
}

/// One product of it.
#[derive(Serialize)]
struct Product {
    product: String,
    units: u64,
    spent: u64,
    unspent: u64,
    /// Spent, and without a certificate.
    unresolved: u64,
}

impl Summary {
    fn new(granted: &Granted, state: &State, now: u64) -> Self {
        let window = granted.terms.window;
        let products: Vec<Product> = granted
            .terms
            .products
            .iter()
            .map(|terms| {
                let account = state.account(terms.account);
                let spent = account.map_or(0, |account| account.spent());
                let unspent = terms.units.saturating_sub(spent);
                Product {
                    product: terms.sku.to_string(),
                    units: terms.units,
                    spent,
                    unspent,
                    unresolved: account.map_or(0, |account| account.unresolved),
                }
            })
            .collect();
        let word = if granted.revoked.is_some() {
            "revoked"
        } else if now >= window.until {
            "over"
        } else if now < window.from {
            "pending"
        } else if products.iter().all(|product| product.unspent == 0) {
            "spent"
        } else {
            "live"
        };
        let keys: Vec<KeyRow> = state
            .keys()
            .filter(|key| *key.entitlement == granted.terms.id)
            .map(|key| KeyRow::new(&key, now))
            .collect();
        let newest = granted.revoked.as_ref();
        let newest = newest.map_or(granted.accepted_at, |revoked| revoked.at);
        let bundles = state.bundles();
        let reported = if newest.number() < bundles.acknowledged_log_size {
            "acknowledged"
        } else if newest.number() < bundles.log_size {
            "sealed"
        } else {
            "unsealed"
        };
        Self {
            id: granted.terms.id.to_string(),
            version: granted.version,
            state: word,
            valid_from: rfc3339(window.from),
            valid_until: rfc3339(window.until),
            revoked: granted.revoked.as_ref().map(RevokedRow::from),
            reported,
            waits_for: waits_for(&granted.terms, word, reported, &keys, state, now),
            products,
            keys,
        }
    }
}

/// What an entitlement waits for, in words, the most pressing first.
fn waits_for(
    terms: &Entitlement,
    word: &str,
    reported: &str,
    keys: &[KeyRow],
    state: &State,
    now: u64,
) -> Vec<String> {
    let (id, from) = (&terms.id, terms.window.from);
    let export = "`site media export DIR`";
    let mut waits = Vec::new();
    let is_ahead = matches!(word, "live" | "pending");
    if is_ahead && state.disabled_at().is_some() {
        waits.push("a device CA in place of the one that was disabled".to_owned());
    }
    if word == "pending" {
        waits.push(format!("its window, which opens at {}", rfc3339(from)));
    }
    for key in keys.iter().filter(|key| key.is_absent()) {
        waits.push(match &key.code {
            Some(code) => format!("key {}, which the token did not take ({code})", key.key),
            None => format!("key {}, which is not in the token yet", key.key),
        });
    }
    let mut credits = state.credits(now);
    let credit = credits.find(|(of, _)| *of == id);
    if word == "live" && credit.is_some_and(|(_, credit)| credit.is_used_up(now)) {
        waits.push(format!("credit: {export}, and its acknowledgement"));
    }
    if word == "spent" {
        waits.push("an amendment, if more is to be made".to_owned());
    }
    let what = match word {
        "revoked" => "its final count",
        _ => "this version",
    };
    match reported {
        "unsealed" => waits.push(format!("{export}, which reports {what}")),
        "sealed" => waits.push(format!("headquarters' acknowledgement of {what}")),
        _ => {}
    }
    waits
}
