//! How many units of each product may be made, and what became of those that were.

use mintmark_console::{Align, Console, Style, Table};
use mintmark_ledger::state::Account;
use mintmark_protocol::identifier::VaultName;
use serde::Serialize;

/// How the units of one account stand; headquarters has the same fields.
#[derive(Serialize)]
pub(super) struct AccountRow {
    site: String,
    vault: String,
    product: String,
    entitlement: String,
    authorised: u64,
    good: u64,
    scrapped: u64,
    voided: u64,
    unresolved: u64,
    unspent: u64,
}

impl AccountRow {
    pub(super) fn new(name: &VaultName, account: &Account) -> Self {
        Self {
            site: name.site.to_string(),
            vault: name.vault.to_string(),
            product: account.sku.to_string(),
            entitlement: account.entitlement.to_string(),
            authorised: account.authorised,
            good: account.good,
            scrapped: account.scrapped,
            voided: account.voided,
            unresolved: account.unresolved,
            unspent: account.unspent(),
        }
    }
}

/// One line for each.
pub(super) fn table(accounts: &[AccountRow], console: &Console) -> Table {
    let texts = ["product", "entitlement"].map(|name| (name, Align::Left));
    let numbers = [
        "authorised",
        "good",
        "scrapped",
        "voided",
        "unresolved",
        "unspent",
    ];
    let mut table = Table::new(
        texts
            .into_iter()
            .chain(numbers.map(|name| (name, Align::Right))),
    );
    for account in accounts {
        let unresolved = match account.unresolved {
            0 => "0".to_owned(),
            count => console.styled(Style::Warn, count.to_string()),
        };
        table.row([
            account.product.clone(),
            account.entitlement.clone(),
            account.authorised.to_string(),
            account.good.to_string(),
            account.scrapped.to_string(),
            account.voided.to_string(),
            unresolved,
            account.unspent.to_string(),
        ]);
    }
    table
}
