//! Each rule for revocations, clock corrections, re-anchors and epochs.

use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::revocation::Target;

use super::fixture::*;
use crate::entry::{Body, Content, LogSequence, Trust, Verdict};
use crate::refusal::Refusal;

fn five(id: &str, account: u64) -> mintmark_protocol::entitlement::Entitlement {
    entitlement(id, vec![product(account, "TH-200", 5)])
}

fn code(body: &Body) -> &str {
    body.code().unwrap_or(body.kind())
}

fn of(id: &str) -> Target {
    Target::Entitlement(id.parse().unwrap())
}

#[track_caller]
fn told(found: (String, String, String), code: &str, message: &str, hint: &str) {
    assert_eq!(
        found,
        (code.to_owned(), message.to_owned(), hint.to_owned())
    );
}

#[test]
fn a_revoked_entitlement_spends_nothing_more_and_the_next_one_goes_on() {
    let mut later = five("later", 2);
    later.window.until += DAY;
    later.credit.unreported_units_max = 3;
    let mut vault = Chronicle::entitled(&[five("five", 1), later]);
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(vault.revoke(of("five")), Ok(()));
    let credits = vault.state.credits(NEW_YEAR);
    let credits: Vec<_> = credits
        .map(|(id, left)| (id.as_str(), left.units))
        .collect();
    assert_eq!(credits, [("later", 2)]);
    assert_eq!(vault.state.credit(NEW_YEAR).units, 2);
    let revoked = vault.state.revoked_at(&"five".parse().unwrap()).unwrap();
    assert_eq!(
        (revoked.time, revoked.number, revoked.reason.as_str()),
        (NEW_YEAR, 1, "the order was cancelled")
    );
    assert_eq!(revoked.at, LogSequence(vault.state.size() - 1));
    let Body::Reserved(reserved) = vault.request("TH-200", &csr("A2", 2)) else {
        panic!("the other entitlement is in force");
    };
    assert_eq!(reserved.entitlement.as_str(), "later");
    assert_eq!(vault.revoke(of("later")), Ok(()));
    told(
        vault.why("TH-200", &csr("A3", 3)),
        "ENTITLEMENT-REVOKED",
        "entitlement five was revoked at 2027-01-01T00:00:00Z, for good",
        "nothing more is made from it; ask HQ for another entitlement",
    );
    // What was certified before is still given out.
    assert_eq!(vault.request("TH-200", &csr("A1", 1)).kind(), "existing");
    assert_eq!(vault.state.credit(NEW_YEAR).units, 0);
    assert_eq!(vault.findings(), []);
}

#[test]
fn an_open_reservation_of_a_revoked_entitlement_stays_unresolved() {
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    let _ = vault.request("TH-200", &csr("A1", 1));
    let reservation = LogSequence(vault.state.size() - 1);
    assert_eq!(vault.state.withheld(reservation), None);
    assert_eq!(vault.revoke(of("five")), Ok(()));
    let withheld = vault.state.withheld(reservation);
    assert!(matches!(withheld, Some(Refusal::EntitlementRevoked { .. })));
    assert_eq!(
        code(&vault.request("TH-200", &csr("A1", 1))),
        "ENTITLEMENT-REVOKED"
    );
    assert_eq!(vault.state.account(tag(1)).unwrap().unresolved, 1);
    assert_eq!(vault.findings(), []);
}

#[test]
fn no_version_of_a_revoked_entitlement_is_accepted_again() {
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    assert_eq!(vault.revoke(of("five")), Ok(()));
    let mut amended = five("five", 1);
    for version in [1, 2] {
        amended.version = version;
        told(
            vault.why_not(entitlement_content(&amended)),
            "ENTITLEMENT-REVOKED",
            "entitlement five was revoked at 2027-01-01T00:00:00Z, for good",
            "nothing more is made from it; ask HQ for another entitlement",
        );
        assert!(vault.entitle(&amended).is_err());
    }
    assert_eq!(vault.findings(), []);
}

#[test]
fn the_number_of_a_revocation_names_one_and_a_gap_keeps_none_out() {
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    assert_eq!(vault.revoke(of("five")), Ok(()));
    let first = revocation(1, of("five"));
    let mut other = first.clone();
    other.reason = "another".to_owned();
    told(
        vault.why_not(revocation_content(&other)),
        "REVOCATION-NUMBER-TAKEN",
        "the revocation has number 1, which another revocation had before",
        "tell headquarters; the revocation must be drafted again under a number of its own",
    );
    // The same again, under a new epoch say, changes nothing.
    let before = vault.state.revoked_at(&"five".parse().unwrap()).cloned();
    vault.now += DAY;
    let again = Verdict::Authentic(revocation_content(&first));
    assert_eq!(vault.import(again), Ok(()));
    assert_eq!(
        vault.state.revoked_at(&"five".parse().unwrap()),
        before.as_ref()
    );
    assert_eq!(vault.state.revocations(), 1);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_revocation_is_for_this_vault_and_of_what_it_has() {
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    let mut other = revocation(1, of("five"));
    other.vault.vault = "v2".parse().unwrap();
    told(
        vault.why_not(revocation_content(&other)),
        "REVOCATION-MISMATCH",
        "the revocation is for vault berlin/v2",
        "keep the file and tell headquarters",
    );
    told(
        vault.why_not(revocation_content(&revocation(1, of("six")))),
        "REVOCATION-UNKNOWN-TARGET",
        "the revocation is of entitlement six, which this vault never had",
        "tell headquarters; the revocation must be drafted again",
    );
    let target = Target::DeviceCa(Fingerprint::new([7; 32]));
    told(
        vault.why_not(revocation_content(&revocation(1, target.clone()))),
        "REVOCATION-UNKNOWN-TARGET",
        "the revocation is of a device CA that this vault never had: \
         0707070707070707070707070707070707070707070707070707070707070707",
        "tell headquarters; the revocation must be drafted again",
    );
    assert_eq!(
        vault.revoke(target),
        Err("REVOCATION-UNKNOWN-TARGET".to_owned())
    );
    assert_eq!(vault.state.revocations(), 0);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_revocation_that_comes_late_still_takes_effect() {
    // Were it refused, a vault whose clock is set forward could evade it.
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    vault.now = NEW_YEAR + 60 * DAY;
    assert!(revocation(1, of("five")).approve_until < vault.now);
    assert_eq!(vault.revoke(of("five")), Ok(()));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_clock_correction_sets_the_time_of_the_log_back_and_gives_no_rate_back() {
    let mut entitlement = five("five", 1);
    entitlement.products[0].units_per_day = Some(1);
    entitlement.credit.unreported_days_max = 2;
    let mut vault = Chronicle::entitled(&[entitlement]);
    // The clock runs ten days ahead, and a unit is made.
    vault.now = NEW_YEAR + 10 * DAY;
    vault.issue("TH-200", &csr("A1", 1));
    vault.now = NEW_YEAR + HOUR;
    assert_eq!(code(&vault.request("TH-200", &csr("A2", 2))), "CLOCK-BACK");
    let correction = clock_correction(1, NEW_YEAR + HOUR);
    let content = Verdict::Authentic(clock_content(&correction));
    assert_eq!(vault.import(content), Ok(()));
    assert_eq!(vault.state.mark(), NEW_YEAR + HOUR);
    assert_eq!(vault.state.clock_corrections(), 1);
    // How much of this day was used is not known any more; what was made later is as old as it can be.
    assert_eq!(code(&vault.request("TH-200", &csr("A2", 2))), "RATE-DAY");
    assert_eq!(vault.state.oldest_unreported(), Some(NEW_YEAR + HOUR));
    vault.now = NEW_YEAR + DAY;
    vault.issue("TH-200", &csr("A2", 2));
    vault.now = NEW_YEAR + 2 * DAY + HOUR + 1;
    assert_eq!(
        code(&vault.request("TH-200", &csr("A3", 3))),
        "CREDIT-DAYS-EXHAUSTED"
    );
    // The same correction again does not set the time back again.
    let content = Verdict::Authentic(clock_content(&correction));
    assert_eq!(vault.import(content), Ok(()));
    assert_eq!(vault.state.mark(), vault.now);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_clock_correction_is_judged_by_the_clock_and_not_by_the_log() {
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    // The log is far beyond the time until which the correction may be imported; the clock is right.
    vault.now = NEW_YEAR + 3650 * DAY;
    let _ = vault.request("TH-200", &csr("A1", 1));
    vault.now = NEW_YEAR + HOUR;
    let corrected = vault.now + 301;
    told(
        vault.why_not(clock_content(&clock_correction(1, corrected))),
        "CLOCK-CORRECTION-AHEAD",
        "the clock says 2027-01-01T01:00:00Z, and the clock correction is to 2027-01-01T01:05:01Z",
        "set the clock right, and ask HQ for another clock correction",
    );
    let mut expired = clock_correction(1, NEW_YEAR);
    expired.approve_until = vault.now;
    told(
        vault.why_not(clock_content(&expired)),
        "CLOCK-CORRECTION-EXPIRED",
        "the clock says 2027-01-01T01:00:00Z, and the clock correction had to be imported before 2027-01-01T01:00:00Z",
        "check the clock; if it is right, have the correction drafted and approved again",
    );
    let mut other = clock_correction(1, NEW_YEAR);
    other.vault.site = "lyon".parse().unwrap();
    told(
        vault.why_not(clock_content(&other)),
        "CLOCK-CORRECTION-MISMATCH",
        "the clock correction is for vault lyon/v1",
        "keep the file and tell headquarters",
    );
    // A gap keeps none out: one that was drafted before and never approved leaves it.
    let content = clock_content(&clock_correction(3, corrected - 1));
    assert_eq!(vault.import(Verdict::Authentic(content)), Ok(()));
    assert_eq!(vault.state.mark(), corrected - 1);
    told(
        vault.why_not(clock_content(&clock_correction(3, NEW_YEAR))),
        "CLOCK-CORRECTION-NUMBER-TAKEN",
        "the clock correction has number 3, which another clock correction had before",
        "tell headquarters; the clock correction must be drafted again under a number of its own",
    );
    vault.issue("TH-200", &csr("A1", 1));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_re_anchor_must_name_a_head_that_the_log_leads_through() {
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    vault.report();
    let head = vault.seal();
    let (sequence, fingerprint, size) = head;
    let unknown = "stop the line and tell headquarters: this home is an older copy, or another one";
    for wrong in [
        (sequence + 1, fingerprint, size),
        (sequence, Fingerprint::of(b"other"), size),
        (sequence, fingerprint, size + 1),
    ] {
        let message = format!(
            "the re-anchor names bundle {}, which is not one that this log sealed",
            wrong.0
        );
        let content = reanchor_content(&reanchor(1, wrong));
        told(
            vault.why_not(content),
            "REANCHOR-UNKNOWN-BUNDLE",
            &message,
            unknown,
        );
    }
    let mut other = reanchor(1, head);
    other.vault.vault = "v2".parse().unwrap();
    let stick = "check which stick this is, and tell headquarters";
    told(
        vault.why_not(reanchor_content(&other)),
        "REANCHOR-MISMATCH",
        "the re-anchor is for another vault",
        stick,
    );
    let mut other = reanchor(1, head);
    other.lineage = Lineage::new([9; 16]);
    told(
        vault.why_not(reanchor_content(&other)),
        "REANCHOR-MISMATCH",
        "the re-anchor is for another lineage",
        stick,
    );
    let mut late = reanchor(1, head);
    late.approve_until = vault.now;
    told(
        vault.why_not(reanchor_content(&late)),
        "REANCHOR-EXPIRED",
        "the re-anchor had to be imported before 2027-01-01T00:00:00Z",
        "have it drafted and approved again",
    );
    let good = || Verdict::Authentic(reanchor_content(&reanchor(1, head)));
    assert_eq!(vault.import(good()), Ok(()));
    assert_eq!(vault.state.reanchors(), 1);
    let mut other = reanchor(1, head);
    other.reason = "another".to_owned();
    told(
        vault.why_not(reanchor_content(&other)),
        "REANCHOR-NUMBER-TAKEN",
        "the re-anchor has number 1, which another re-anchor had before",
        "tell headquarters; the re-anchor must be drafted again under a number of its own",
    );
    vault.now += 60 * DAY;
    assert_eq!(vault.import(good()), Ok(()));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_manifest_with_a_higher_epoch_begins_a_new_chain_of_dispatches() {
    let mut vault = Chronicle::entitled(&[five("five", 1)]);
    let before = vault.state.next_dispatch();
    assert_eq!((before.epoch, before.sequence), (Some(EPOCH), 3));
    assert_eq!(before.previous, vault.state.dispatches().fingerprint);
    let trust = |version, dispatch_epoch| {
        Body::Trust(Trust {
            version,
            fingerprint: Fingerprint::of(b"next"),
            dispatch_epoch,
        })
    };
    // A manifest of the same epoch changes nothing.
    vault.write(trust(2, EPOCH));
    assert_eq!(vault.state.next_dispatch(), before);
    vault.write(trust(3, 7));
    let next = vault.state.next_dispatch();
    assert_eq!(
        (next.epoch, next.sequence, next.previous),
        (Some(7), 1, None)
    );
    let content = || Verdict::Authentic(entitlement_content(&five("six", 2)));
    for (epoch, sequence) in [(EPOCH, 3), (EPOCH, 1), (7, 3), (8, 1)] {
        let mut old = dispatch(sequence, content());
        old.epoch = epoch;
        assert_eq!(
            vault.dispatch(old),
            Err("DISPATCH-OUT-OF-ORDER".to_owned()),
            "{epoch}-{sequence}"
        );
    }
    let mut first = dispatch(1, content());
    first.epoch = 7;
    assert_eq!(vault.dispatch(first), Ok(()));
    let next = vault.state.next_dispatch();
    assert_eq!((next.epoch, next.sequence), (Some(7), 2));
    assert_eq!(vault.findings(), []);
}

#[test]
fn content_of_an_order_that_does_not_parse_is_malformed() {
    let vault = Chronicle::enrolled();
    let (fingerprint, plaintext) = (Fingerprint::of(b"x"), vec![0xff]);
    for content in [
        Content::Revocation {
            fingerprint,
            plaintext: plaintext.clone(),
        },
        Content::ClockCorrection {
            fingerprint,
            plaintext: plaintext.clone(),
        },
        Content::Reanchor {
            fingerprint,
            plaintext: plaintext.clone(),
        },
    ] {
        assert_eq!(vault.why_not(content).0, "CONTENT-MALFORMED");
    }
}

#[test]
fn a_clock_correction_gives_nothing_of_the_day_and_hour_back_that_are_now() {
    let mut entitlement = five("five", 1);
    entitlement.products[0].units_per_day = Some(3);
    let mut vault = Chronicle::entitled(&[entitlement]);
    vault.now = NEW_YEAR + 10 * DAY;
    for number in 1..=3 {
        vault.issue("TH-200", &csr(&format!("A{number}"), number));
    }
    assert_eq!(code(&vault.request("TH-200", &csr("A4", 4))), "RATE-DAY");
    // It is to two days back, while the clock says what it said before.
    let correction = clock_correction(1, NEW_YEAR + 8 * DAY);
    let content = Verdict::Authentic(clock_content(&correction));
    assert_eq!(vault.import(content), Ok(()));
    assert_eq!(vault.state.mark(), NEW_YEAR + 8 * DAY);
    let account = vault.state.account(tag(1)).unwrap();
    assert_eq!((account.day.units, account.hour.units), (3, 3));
    assert_eq!(code(&vault.request("TH-200", &csr("A4", 4))), "RATE-DAY");
    vault.now += DAY;
    vault.issue("TH-200", &csr("A4", 4));
    assert_eq!(vault.findings(), []);
}
