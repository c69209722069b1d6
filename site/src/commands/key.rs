//! A symmetric key of an entitlement, as it is reported.

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Style, Table};
use mintmark_ledger::entry::KeyOutcome;
use mintmark_ledger::state::KeyState;
use serde::Serialize;

/// One key of one entitlement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct KeyRow {
    pub(crate) key: String,
    pub(crate) entitlement: String,
    algorithm: &'static str,
    r#use: &'static str,
    /// `held`: in the token and in force; `missing`: in force and not in the token yet; `refused`: the token did not take
    /// it; `over`: of no use any more, and destroyed.
    pub(crate) state: &'static str,
    /// How it came into the token: `unwrapped` or `imported`.
    received: Option<&'static str>,
    /// Why it was refused.
    pub(crate) code: Option<String>,
    uses: u64,
    uses_max: Option<u64>,
    until: String,
    /// The products whose devices get a secret from it; none: every one of the entitlement.
    products: Option<Vec<String>>,
}

impl KeyRow {
    /// How it stands at `now`, Unix seconds.
    pub(crate) fn new(key: &KeyState<'_>, now: u64) -> Self {
        let terms = key.terms;
        let state = match key.outcome {
            _ if !key.is_in_force(now) => "over",
            None => "missing",
            Some(KeyOutcome::Refused { .. }) => "refused",
            Some(KeyOutcome::Unwrapped | KeyOutcome::Imported) => "held",
        };
        let (received, code) = match key.outcome {
            Some(KeyOutcome::Refused { code }) => (None, Some(code.clone())),
            Some(outcome) => (Some(outcome.as_str()), None),
            None => (None, None),
        };
        let products = terms.products.as_ref();
        Self {
            key: terms.label.to_string(),
            entitlement: key.entitlement.to_string(),
            algorithm: terms.algorithm.as_str(),
            r#use: terms.usage.as_str(),
            state,
            received,
            code,
            uses: key.uses,
            uses_max: terms.uses_max,
            until: rfc3339(key.until),
            products: products.map(|skus| skus.iter().map(ToString::to_string).collect()),
        }
    }

    /// Whether it is in force and not in the token.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.state, "missing" | "refused")
    }
}

/// Keys for people.
pub(crate) fn table(keys: &[KeyRow], console: &Console) -> Table {
    let columns = [
        "key",
        "entitlement",
        "algorithm",
        "use",
        "state",
        "received",
    ];
    let columns = columns.map(|name| (name, Align::Left)).into_iter();
    let columns = columns.chain([
        ("uses", Align::Right),
        ("of", Align::Right),
        ("until", Align::Left),
    ]);
    let mut table = Table::new(columns);
    for key in keys {
        let state = match key.is_absent() {
            true => console.styled(Style::Warn, key.state),
            false => key.state.to_owned(),
        };
        let received = key.received.or(key.code.as_deref()).unwrap_or("-");
        table.row([
            key.key.clone(),
            key.entitlement.clone(),
            key.algorithm.to_owned(),
            key.r#use.to_owned(),
            state,
            received.to_owned(),
            key.uses.to_string(),
            key.uses_max.map_or("-".to_owned(), |uses| uses.to_string()),
            key.until.clone(),
        ]);
    }
    table
}
