//! Frauds with facts: what is recorded without anybody having asked for it.

use mintmark_protocol::identifier::{Fingerprint, Lineage};

use super::super::fixture::*;
use super::{forge, goes_on, honest, the_one, vault};
use crate::entry::{Body, BundleSealed, LogSequence, Request, Signed, Start, Submission, Verdict};

#[test]
fn a_signature_for_nothing_is_found() {
    let mut vault = vault();
    for reservation in [LogSequence(2), LogSequence(999_999)] {
        let mut vault = vault.clone();
        vault.write(Body::Signed(Signed {
            reservation,
            signature: [1; 64],
        }));
        goes_on(&mut vault);
        assert_eq!(the_one(&vault).code, "SIGNED-WITHOUT-RESERVATION");
    }
    // A reservation takes one signature.
    let reservation = vault.issue("TH-200", &csr("A9", 9));
    vault.write(Body::Signed(Signed {
        reservation,
        signature: [1; 64],
    }));
    goes_on(&mut vault);
    assert_eq!(the_one(&vault).code, "SIGNED-WITHOUT-RESERVATION");
}

#[test]
fn a_start_of_another_history_count_or_rules_is_found() {
    type Change = fn(&mut Start);
    let changes: [(&str, Change); 3] = [
        ("LINEAGE-MISMATCH", |start| {
            start.lineage = Lineage::new([9; 16])
        }),
        ("BOOT-MISMATCH", |start| start.boot = 7),
        ("RULES-VERSION-UNKNOWN", |start| start.rules_version = 2),
    ];
    for (code, change) in changes {
        let mut vault = vault();
        let mut changed = start(2);
        change(&mut changed);
        vault.write(Body::Start(changed.clone()));
        // It goes on with what it wrote.
        vault.now += HOUR;
        let mut next = changed.clone();
        next.boot += 1;
        next.rules_version = 1;
        vault.write(Body::Start(next));
        vault.issue("TH-200", &csr("A9", 9));
        assert_eq!(the_one(&vault).code, code);
    }
}

#[test]
fn a_log_without_its_beginning_is_found() {
    let vault = vault();
    let (_, found) = replay(&vault.records[1..]);
    assert_eq!(found[0].code, "GENESIS-MISSING");
    let mut vault = vault;
    vault.write(Body::Genesis(genesis()));
    goes_on(&mut vault);
    assert_eq!(the_one(&vault).code, "GENESIS-REPEATED");
}

#[test]
fn a_bundle_out_of_its_chain_is_found() {
    for (sequence, ahead) in [(2, 0), (1, 1)] {
        let mut vault = vault();
        let sealed = BundleSealed {
            sequence,
            fingerprint: Fingerprint::of(b"bundle"),
            log_size: vault.state.size() + ahead,
            requests_unlogged: 0,
        };
        vault.write(Body::BundleSealed(sealed));
        assert_eq!(the_one(&vault).code, "BUNDLE-MISMATCH");
    }
}

#[test]
fn a_request_that_proves_nothing_is_a_false_fact_and_its_unit_no_second_finding() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let reserved = honest(&vault, "TH-200", &csr);
    let mut der = csr.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let at = vault.state.size();
    vault.write(Body::Request(Request {
        product: sku("TH-200"),
        station: mintmark_protocol::identifier::StationId::console(),
        submission: Submission::Csr { der },
    }));
    vault.write(Body::Reserved(reserved));
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(
        (found.code, found.sequence),
        ("FACT-FALSE", LogSequence(at))
    );
    assert!(found.found.contains("CSR-"), "{}", found.found);
}

#[test]
fn a_record_that_cannot_be_read_is_found_and_passed_over() {
    // In the place of an input that needs no decision.
    let mut vault = vault();
    let place = vault.records.len();
    vault.write(Body::Start(start(2)));
    vault.issue("TH-200", &csr("A9", 9));
    vault.records[place] = b"junk".to_vec();
    let found = vault.findings();
    assert_eq!(found, [(place as u64, "ENTRY-MALFORMED")]);
    // In the place of a request: its decision is taken as it is.
    let mut vault = super::vault();
    let place = vault.records.len();
    vault.issue("TH-300", &csr("B9", 9));
    vault.issue("TH-300", &csr("B10", 10));
    let honest = vault.records.clone();
    vault.records[place] = vec![0xff; 100];
    assert_eq!(vault.findings(), [(place as u64, "ENTRY-MALFORMED")]);
    // The leaf counts all the same: root and size are those of what was written.
    let (replay, _) = crate::tests::fixture::replay(&vault.records);
    assert_eq!(replay.state().size(), honest.len() as u64);
    assert_ne!(
        replay.state().root(),
        crate::tests::fixture::replay(&honest).0.state().root()
    );
}

#[test]
fn an_accepted_dispatch_that_the_rules_refuse_diverges_and_counts() {
    let mut vault = vault();
    let mut late = entitlement("late", vec![product(9, "TH-900", 1)]);
    late.approve_until = NEW_YEAR - HOUR;
    let next = vault.state.dispatches().sequence + 1;
    let content = Verdict::Authentic(entitlement_content(&late));
    vault.write(Body::Dispatch(dispatch(next, content)));
    vault.write(Body::DispatchAccepted);
    vault.issue("TH-900", &csr("C0", 300));
    goes_on(&mut vault);
    let found = the_one(&vault);
    assert_eq!(found.code, "DECISION-DIVERGES");
    assert!(
        found.expected.contains("ENTITLEMENT-EXPIRED"),
        "{}",
        found.expected
    );
}

#[test]
fn a_unit_of_an_account_that_nobody_granted_is_counted() {
    let mut vault = vault();
    let csr = csr("A9", 9);
    let mut reserved = honest(&vault, "TH-200", &csr);
    reserved.account = tag(77);
    forge(&mut vault, "TH-200", &csr, reserved);
    goes_on(&mut vault);
    // The serial says another account than the record does.
    assert_eq!(the_one(&vault).code, "SERIAL-MISMATCH");
    let account = vault.state.account(tag(77)).unwrap();
    assert_eq!((account.authorised, account.good), (0, 1));
}
