//! Reports of more than headquarters counts, keeps or names one by one: what it cannot tell apart, it does not call good.

use mintmark_ledger::entry::{Body, Burned, BurnedSlots};
use mintmark_protocol::entitlement::AccountTag;
use serde_json::json;

use super::support::{Hq, Vault, csr};

/// A headquarters, and a vault that has issued three of its five units.
fn issuing() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    for unit in 0..3 {
        vault.issue("TH-200", &csr(&format!("A{unit}"), unit));
    }
    (hq, vault)
}

#[test]
fn slots_that_are_skipped_to_the_end_of_all_numbers_are_found_and_hold_nothing_up() {
    let (hq, mut vault) = issuing();
    let at = vault.state.size();
    let slots = BurnedSlots {
        account: AccountTag::new(1).unwrap(),
        first: 3,
        end: u64::MAX,
    };
    vault.write(Body::Burned(Burned {
        anchor: 1,
        slots: vec![slots],
    }));
    let stick = vault.report(&hq.path("one"));
    let imported = (1, "imported".to_owned(), Some("FINDINGS".to_owned()));
    assert_eq!(hq.import_one(&stick), imported);
    let malformed = (
        "ENTRY-MALFORMED".to_owned(),
        "critical".to_owned(),
        Some(at),
    );
    assert_eq!(hq.findings(), [malformed]);
}
