//! `site entitlement list | show`.

mod list;
mod show;

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit};
use mintmark_ledger::state::{Granted, State};
use mintmark_protocol::identifier::EntitlementId;
use serde::Serialize;

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
    products: Vec<Product>,
}

/// One product of it.
#[derive(Serialize)]
struct Product {
    product: String,
    units: u64,
    spent: u64,
    unspent: u64,
}

impl Summary {
    fn new(granted: &Granted, state: &State, now: u64) -> Self {
        let window = granted.terms.window;
        let products: Vec<Product> = granted
            .terms
            .products
            .iter()
            .map(|terms| {
                let spent = state
                    .account(terms.account)
                    .map_or(0, |account| account.spent());
                let unspent = terms.units.saturating_sub(spent);
                Product {
                    product: terms.sku.to_string(),
                    units: terms.units,
                    spent,
                    unspent,
                }
            })
            .collect();
        let word = if now >= window.until {
            "over"
        } else if now < window.from {
            "pending"
        } else if products.iter().all(|product| product.unspent == 0) {
            "spent"
        } else {
            "live"
        };
        Self {
            id: granted.terms.id.to_string(),
            version: granted.version,
            state: word,
            valid_from: rfc3339(window.from),
            valid_until: rfc3339(window.until),
            products,
        }
    }
}
