//! What the log says of the anchor in the token, and what HQ makes of a vault that says it wrongly.

use mintmark_protocol::entitlement::Entitlement;

use super::fixture::*;
use crate::entry::{Body, Burned, BurnedSlots, LogSequence, Start, Verdict};
use crate::state::State;

const LEASE: u64 = 4;

fn terms(id: &str, account: u64, units: u64) -> Entitlement {
    let mut terms = entitlement(id, vec![product(account, "TH-200", units)]);
    terms.anchor_lease_max = LEASE;
    terms
}

fn slots(account: u64, first: u64, end: u64) -> BurnedSlots {
    let account = tag(account);
    BurnedSlots {
        account,
        first,
        end,
    }
}

fn burned(anchor: u64, slots: Vec<BurnedSlots>) -> Body {
    Body::Burned(Burned { anchor, slots })
}

fn begin(vault: &mut Chronicle, anchor: Option<u64>) {
    let boot = vault.state.boot() + 1;
    vault.write(Body::Start(Start {
        anchor,
        ..start(boot)
    }));
}

/// What HQ finds, without where.
fn codes(vault: &Chronicle) -> Vec<&'static str> {
    vault.findings().into_iter().map(|(_, code)| code).collect()
}

/// The state survives its snapshot, whatever it says of the anchor.
fn expect_kept(vault: &Chronicle) {
    let kept = State::from_snapshot(&vault.state.to_snapshot()).unwrap();
    assert_eq!(kept, vault.state);
}

/// An anchored vault with two entitlements, which spent one unit of the first.
fn anchored() -> Chronicle {
    let mut vault = Chronicle::entitled(&[terms("five", 1, 10), terms("six", 2, 3)]);
    begin(&mut vault, Some(7));
    vault.issue("TH-200", &csr("A1", 1));
    vault
}

#[test]
fn slots_that_were_leased_are_skipped_and_count_as_unresolved() {
    let mut vault = anchored();
    begin(&mut vault, Some(8));
    vault.write(burned(8, vec![slots(1, 1, 1 + LEASE)]));
    assert_eq!(
        (vault.state.anchor(), vault.state.anchor_stated_at()),
        (8, Some(LogSequence(vault.state.size() - 2)))
    );
    let account = vault.state.account(tag(1)).unwrap();
    assert_eq!(
        (account.burned, account.unresolved, account.next_slot),
        (LEASE, LEASE, 1 + LEASE)
    );
    let Body::Reserved(reserved) = vault.request("TH-200", &csr("A2", 2)) else {
        panic!("there are units left");
    };
    assert_eq!(reserved.slot, 1 + LEASE);
    expect_kept(&vault);
    assert_eq!(codes(&vault), [""; 0]);
}

#[test]
fn more_than_a_lease_others_than_the_next_slots_or_under_an_older_anchor_is_a_finding() {
    for wrong in [
        burned(8, vec![slots(1, 1, 2 + LEASE)]),
        burned(8, vec![slots(1, 2, 3)]),
        burned(8, vec![slots(1, 0, 1)]),
        burned(8, vec![slots(2, 0, 4)]),
        burned(8, vec![slots(3, 0, 1)]),
        burned(6, vec![slots(1, 1, 2)]),
    ] {
        let mut vault = anchored();
        begin(&mut vault, Some(8));
        vault.write(wrong.clone());
        assert_eq!(codes(&vault), ["BURN-MISMATCH"], "{wrong:?}");
    }
}

#[test]
fn nothing_is_to_be_skipped_of_an_account_that_has_no_slot_left() {
    let mut vault = Chronicle::entitled(&[terms("one", 1, 1), terms("six", 2, 3)]);
    begin(&mut vault, Some(7));
    vault.issue("TH-200", &csr("A1", 1));
    begin(&mut vault, None);
    vouch(&mut vault);
    assert_eq!(vault.state.leases_unknown(), Some(&[slots(2, 0, 3)][..]));
}

#[test]
fn a_token_that_went_back_is_a_finding() {
    let mut vault = anchored();
    begin(&mut vault, Some(6));
    assert_eq!(codes(&vault), ["ANCHOR-BACK"]);
}

#[test]
fn a_vault_that_lost_its_anchor_answers_no_request_before_officers_vouch_for_it() {
    let mut vault = anchored();
    begin(&mut vault, None);
    expect_kept(&vault);
    vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(codes(&vault), ["UNANCHORED"]);
}

/// Officers vouch for the head, whatever it is.
fn vouch(vault: &mut Chronicle) {
    vault.report();
    let head = vault.seal();
    let content = reanchor_content(&reanchor(1, head));
    assert_eq!(vault.import(Verdict::Authentic(content)), Ok(()));
}

#[test]
fn after_a_re_anchor_all_that_could_have_been_leased_is_burned_and_nothing_else() {
    let lost = || {
        let mut vault = anchored();
        begin(&mut vault, None);
        vouch(&mut vault);
        expect_kept(&vault);
        vault
    };
    let due = vec![slots(1, 1, 1 + LEASE), slots(2, 0, 3)];
    let mut vault = lost();
    assert_eq!(vault.state.leases_unknown(), Some(&due[..]));
    vault.write(burned(8, due.clone()));
    assert_eq!(vault.state.leases_unknown(), None);
    vault.issue("TH-200", &csr("A2", 2));
    expect_kept(&vault);
    assert_eq!(codes(&vault), [""; 0]);
    // In two goes, or after another start.
    let mut vault = lost();
    vault.write(burned(8, vec![due[0]]));
    begin(&mut vault, Some(8));
    vault.write(burned(8, vec![due[1]]));
    vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(codes(&vault), [""; 0]);
    // Less of it, or nothing.
    let mut vault = lost();
    vault.write(burned(8, vec![slots(1, 1, 2), due[1]]));
    assert_eq!(codes(&vault), ["BURN-MISMATCH"]);
    let mut vault = lost();
    vault.write(burned(8, vec![due[0]]));
    vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(codes(&vault), ["UNANCHORED"]);
    let mut vault = lost();
    begin(&mut vault, Some(8));
    vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(codes(&vault), ["UNANCHORED"]);
}

#[test]
fn a_re_anchor_of_a_vault_that_has_its_anchor_burns_nothing() {
    let mut vault = anchored();
    vouch(&mut vault);
    assert_eq!(vault.state.leases_unknown(), None);
    vault.issue("TH-200", &csr("A2", 2));
    assert_eq!(codes(&vault), [""; 0]);
}

#[test]
fn a_re_anchor_of_a_vault_without_units_is_over_with_the_next_anchor() {
    let mut vault = Chronicle::entitled(&[]);
    begin(&mut vault, Some(7));
    begin(&mut vault, None);
    vouch(&mut vault);
    assert_eq!(vault.state.leases_unknown(), Some(&[][..]));
    begin(&mut vault, Some(8));
    assert_eq!(vault.state.leases_unknown(), None);
    assert_eq!(vault.entitle(&terms("five", 1, 10)), Ok(()));
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(codes(&vault), [""; 0]);
}
