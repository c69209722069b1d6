//! What may be made before headquarters has to hear of it.

use mintmark_console::Console;
use mintmark_console::time::rfc3339;
use mintmark_ledger::state::State;
use serde::Serialize;

/// The credit that is left.
#[derive(Serialize)]
pub(super) struct Credit {
    /// By the most generous of the entitlements that can still spend.
    credit_units: u64,
    credit_until: Option<String>,
    /// Under each entitlement that can still spend.
    credit: Vec<CreditRow>,
}

/// What is left under one entitlement that can still spend.
#[derive(Serialize)]
struct CreditRow {
    entitlement: String,
    units: u64,
    until: Option<String>,
}

impl Credit {
    pub(super) fn of(state: &State, now: u64) -> Self {
        let most = state.credit(now);
        let rows = state.credits(now).map(|(entitlement, left)| CreditRow {
            entitlement: entitlement.to_string(),
            units: left.units,
            until: left.until.map(rfc3339),
        });
        Self {
            credit_units: most.units,
            credit_until: most.until.map(rfc3339),
            credit: rows.collect(),
        }
    }

    pub(super) fn show(&self, console: &Console) {
        let left = |units: u64, until: &Option<String>| match until {
            Some(until) => format!("{units} units, until {until}"),
            None => format!("{units} units"),
        };
        let rows = self.credit.iter().map(|row| left(row.units, &row.until));
        let mut different: Vec<String> = rows.collect();
        different.dedup();
        if different.len() < 2 {
            let credit = left(self.credit_units, &self.credit_until);
            console.line(format!("credit      {credit}"));
        } else {
            for row in &self.credit {
                let (left, entitlement) = (left(row.units, &row.until), &row.entitlement);
                console.line(format!("credit      {left}, under {entitlement}"));
            }
        }
    }
}
