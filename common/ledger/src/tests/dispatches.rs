//! Each rule for dispatches.

use mintmark_protocol::enrolment::EnrolmentGrant;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::{Fingerprint, Lineage};

use super::fixture::*;
use crate::entry::{Content, Verdict};

fn five() -> Entitlement {
    entitlement("five", vec![product(1, "TH-200", 5)])
}

fn refused(code: &str) -> Result<(), String> {
    Err(code.to_owned())
}

#[test]
fn a_grant_that_fits_enrols_the_vault_once() {
    let mut vault = Chronicle::enrolled();
    assert!(vault.state.is_enrolled());
    // The same again, under a later epoch say, changes nothing; another one is refused.
    let before = vault.state.enrolment().cloned();
    let again = Verdict::Authentic(grant_content(&grant()));
    assert_eq!(vault.import(again), Ok(()));
    assert_eq!(vault.state.enrolment().cloned(), before);
    let mut other = grant();
    other.salt = [9; 32];
    let other = Verdict::Authentic(grant_content(&other));
    assert_eq!(vault.import(other), refused("GRANT-REPEATED"));
    assert_eq!(vault.state.enrolment().cloned(), before);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_grant_for_anything_else_is_refused() {
    let mismatches: [fn(&mut EnrolmentGrant); 6] = [
        |g| g.vault.vault = "v2".parse().unwrap(),
        |g| g.request_fingerprint = Fingerprint::of(b"another"),
        |g| g.lineage = Lineage::new([9; 16]),
        |g| g.dispatch_epoch = 2,
        |g| g.identity_tbs[20] ^= 1,
        |g| g.device_ca_tbs[20] ^= 1,
    ];
    for change in mismatches {
        let mut changed = grant();
        change(&mut changed);
        let mut vault = Chronicle::new();
        let verdict = Verdict::Authentic(grant_content(&changed));
        assert_eq!(vault.import(verdict), refused("GRANT-MISMATCH"));
        // The chain goes on: the grant that fits is the second dispatch.
        let verdict = Verdict::Authentic(grant_content(&grant()));
        assert_eq!(vault.import(verdict), Ok(()));
        assert_eq!(vault.state.dispatches().sequence, 2);
        assert_eq!(vault.findings(), []);
    }
}

#[test]
fn a_certificate_that_the_officers_did_not_approve_is_refused() {
    let mut content = grant_content(&grant());
    if let Content::Grant {
        identity_certificate,
        device_ca_certificate,
        ..
    } = &mut content
    {
        std::mem::swap(identity_certificate, device_ca_certificate);
    }
    let mut vault = Chronicle::new();
    assert_eq!(
        vault.import(Verdict::Authentic(content)),
        refused("GRANT-MISMATCH")
    );
}

#[test]
fn content_that_comes_too_late_is_refused_at_its_place_in_the_chain() {
    let mut vault = Chronicle::new();
    vault.now = NEW_YEAR + 30 * DAY;
    let late = Verdict::Authentic(grant_content(&grant()));
    assert_eq!(vault.import(late), refused("GRANT-EXPIRED"));

    let mut vault = Chronicle::enrolled();
    vault.now = NEW_YEAR + 30 * DAY;
    assert_eq!(vault.entitle(&five()), refused("ENTITLEMENT-EXPIRED"));
    let mut over = five();
    over.approve_until = NEW_YEAR + 900 * DAY;
    vault.now = over.window.until;
    assert_eq!(vault.entitle(&over), refused("ENTITLEMENT-WINDOW-OVER"));
    assert_eq!(vault.state.dispatches().sequence, 3);
    assert_eq!(vault.findings(), []);
}

#[test]
fn what_did_not_verify_is_refused_by_the_code_of_the_verification() {
    let mut vault = Chronicle::enrolled();
    let rejected = Verdict::Rejected {
        code: "THRESHOLD-NOT-MET".to_owned(),
    };
    assert_eq!(vault.import(rejected), refused("THRESHOLD-NOT-MET"));
    let fingerprint = Fingerprint::of(b"x");
    let malformed = Content::Entitlement {
        fingerprint,
        plaintext: vec![0xff],
    };
    assert_eq!(
        vault.import(Verdict::Authentic(malformed)),
        refused("CONTENT-MALFORMED")
    );
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_dispatch_out_of_its_place_is_refused_and_does_not_move_the_chain() {
    let mut vault = Chronicle::enrolled();
    let content = || Verdict::Authentic(entitlement_content(&five()));
    for sequence in [0, 1, 3] {
        let result = vault.dispatch(dispatch(sequence, content()));
        assert_eq!(result, refused("DISPATCH-OUT-OF-ORDER"));
    }
    let mut other_epoch = dispatch(2, content());
    other_epoch.epoch = 2;
    assert_eq!(
        vault.dispatch(other_epoch),
        refused("DISPATCH-OUT-OF-ORDER")
    );
    assert_eq!(vault.dispatch(dispatch(2, content())), Ok(()));
    assert_eq!(vault.findings(), []);
}

#[test]
fn an_entitlement_needs_an_enrolled_vault_and_that_very_one() {
    assert_eq!(Chronicle::new().entitle(&five()), refused("NOT-ENROLLED"));
    let mut other = five();
    other.vault.site = "paris".parse().unwrap();
    assert_eq!(
        Chronicle::enrolled().entitle(&other),
        refused("ENTITLEMENT-MISMATCH")
    );
}

#[test]
fn an_amendment_is_accepted_over_the_version_that_it_names_alone() {
    let mut vault = Chronicle::entitled(&[five()]);
    let mut amended = five();
    amended.version = 2;
    amended.amends = Some(Fingerprint::of(b"another version 1"));
    assert_eq!(
        vault.entitle(&amended),
        refused("ENTITLEMENT-AMENDS-ANOTHER")
    );
    let id = "five".parse().unwrap();
    amended.amends = Some(vault.state.entitlements()[&id].fingerprint);
    assert_eq!(vault.entitle(&amended), Ok(()));
    assert_eq!(vault.findings(), []);
}

#[test]
fn an_amendment_is_the_next_version_and_absolute() {
    let mut vault = Chronicle::entitled(&[five()]);
    vault.issue("TH-200", &csr("A1", 1));
    vault.issue("TH-200", &csr("A2", 2));
    let version = |version, units| {
        let mut amended = five();
        amended.version = version;
        amended.products[0].units = units;
        amended
    };
    assert_eq!(
        vault.entitle(&version(1, 9)),
        refused("ENTITLEMENT-VERSION")
    );
    assert_eq!(
        vault.entitle(&version(3, 9)),
        refused("ENTITLEMENT-VERSION")
    );
    assert_eq!(
        vault.entitle(&version(2, 1)),
        refused("ENTITLEMENT-BELOW-SPENT")
    );
    assert_eq!(vault.entitle(&version(2, 2)), Ok(()));
    let account = vault.state.account(tag(1)).unwrap();
    assert_eq!((account.authorised, account.unspent()), (2, 0));
    assert_eq!(
        vault.request("TH-200", &csr("A3", 3)).code(),
        Some("QUOTA-EXHAUSTED")
    );
    assert_eq!(vault.entitle(&version(3, 7)), Ok(()));
    vault.issue("TH-200", &csr("A3", 3));
    assert_eq!(
        vault.entitle(&version(2, 9)),
        refused("ENTITLEMENT-VERSION")
    );
    // The same again changes nothing, whenever it comes.
    let before = vault.state.entitlements().clone();
    vault.now = NEW_YEAR + 200 * DAY;
    assert_eq!(vault.entitle(&version(3, 7)), Ok(()));
    assert_eq!(*vault.state.entitlements(), before);
    // Nor does what gave way to it.
    assert_eq!(vault.entitle(&five()), Ok(()));
    assert_eq!(vault.entitle(&version(2, 2)), Ok(()));
    assert_eq!(*vault.state.entitlements(), before);
    let read = crate::state::State::from_snapshot(&vault.state.to_snapshot()).unwrap();
    assert_eq!(*read.entitlements(), before);
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_new_entitlement_begins_with_version_1() {
    let mut second = five();
    second.version = 2;
    assert_eq!(
        Chronicle::enrolled().entitle(&second),
        refused("ENTITLEMENT-VERSION")
    );
}

#[test]
fn an_account_keeps_its_tag_and_a_tag_its_account() {
    let mut vault = Chronicle::entitled(&[five()]);
    let mut moved = five();
    moved.version = 2;
    moved.products[0].account = tag(2);
    assert_eq!(vault.entitle(&moved), refused("ENTITLEMENT-TAG-CHANGED"));
    let other = entitlement("other", vec![product(1, "TH-200", 1)]);
    assert_eq!(vault.entitle(&other), refused("ENTITLEMENT-TAG-REUSED"));
    let mut renamed = five();
    renamed.version = 2;
    renamed.products[0].sku = sku("TH-300");
    assert_eq!(vault.entitle(&renamed), refused("ENTITLEMENT-TAG-REUSED"));
    assert_eq!(vault.findings(), []);
}

#[test]
fn a_product_can_be_dropped_only_while_nothing_of_it_is_spent_and_comes_back_with_its_tag() {
    let two = |version, products| {
        let mut entitlement = entitlement("two", products);
        entitlement.version = version;
        entitlement
    };
    let (a, b) = (product(1, "TH-200", 5), product(2, "TH-300", 5));
    let mut vault = Chronicle::entitled(&[two(1, vec![a.clone(), b.clone()])]);
    vault.issue("TH-200", &csr("A1", 1));
    let without_a = two(2, vec![b.clone()]);
    assert_eq!(
        vault.entitle(&without_a),
        refused("ENTITLEMENT-BELOW-SPENT")
    );
    assert_eq!(vault.entitle(&two(2, vec![a.clone()])), Ok(()));
    assert_eq!(vault.state.account(tag(2)).unwrap().authorised, 0);
    assert_eq!(
        vault.request("TH-300", &csr("B1", 2)).code(),
        Some("PRODUCT-NOT-ENTITLED")
    );
    let other_tag = two(3, vec![a.clone(), product(3, "TH-300", 5)]);
    assert_eq!(
        vault.entitle(&other_tag),
        refused("ENTITLEMENT-TAG-CHANGED")
    );
    assert_eq!(vault.entitle(&two(3, vec![a, b])), Ok(()));
    vault.issue("TH-300", &csr("B1", 2));
    assert_eq!(vault.findings(), []);
}

#[test]
fn terms_that_cannot_be_enforced_are_refused() {
    let changes: [fn(&mut Entitlement); 5] = [
        |e| e.products[0].device_id_pattern = Some("TH200-[".to_owned()),
        |e| e.products[0].certificate.subject = "serialNumber={device}".to_owned(),
        |e| e.products[0].certificate.validity_days = Some(0),
        |e| e.products[0].certificate.extended_key_usage = vec!["everything".to_owned()],
        |e| e.products[0].key_algorithms = vec!["P-1".to_owned()],
    ];
    for change in changes {
        let mut changed = five();
        change(&mut changed);
        assert_eq!(
            Chronicle::enrolled().entitle(&changed),
            refused("ENTITLEMENT-TERMS")
        );
    }
}

#[test]
fn only_a_bundle_that_was_sealed_can_be_acknowledged() {
    let mut vault = Chronicle::entitled(&[five()]);
    vault.issue("TH-200", &csr("A1", 1));
    let (sequence, fingerprint, size) = vault.seal();
    let content = |sequence, fingerprint, size| {
        let acknowledgement = acknowledgement(sequence, fingerprint, size);
        Verdict::Authentic(acknowledgement_content(&acknowledgement))
    };
    let unknown = refused("ACK-UNKNOWN-BUNDLE");
    assert_eq!(vault.import(content(2, fingerprint, size)), unknown);
    assert_eq!(
        vault.import(content(sequence, Fingerprint::of(b"x"), size)),
        unknown
    );
    assert_eq!(
        vault.import(content(sequence, fingerprint, size + 1)),
        unknown
    );
    for (change, what) in [("vault", 0), ("lineage", 1)] {
        let mut other = acknowledgement(sequence, fingerprint, size);
        match what {
            0 => other.vault.vault = "v2".parse().unwrap(),
            _ => other.lineage = Lineage::new([9; 16]),
        }
        let verdict = Verdict::Authentic(acknowledgement_content(&other));
        assert_eq!(vault.import(verdict), refused("ACK-MISMATCH"), "{change}");
    }
    assert_eq!(vault.state.units_unreported(), 1);
    assert_eq!(vault.import(content(sequence, fingerprint, size)), Ok(()));
    assert_eq!(vault.state.units_unreported(), 0);
    let acknowledged = vault.state.bundles().acknowledged_log_size;
    assert_eq!(acknowledged, size);
    let other = Fingerprint::of(b"x");
    assert_eq!(vault.import(content(sequence, other, size)), unknown);
    // Once more, and overtaken by a newer one: accepted, without effect.
    assert_eq!(vault.import(content(sequence, fingerprint, size)), Ok(()));
    vault.report();
    assert_eq!(vault.import(content(sequence, fingerprint, size)), Ok(()));
    assert_eq!(vault.state.bundles().acknowledged, 2);
    assert_eq!(vault.findings(), []);
}

#[test]
fn carrying_messages_is_no_reason_for_a_new_bundle() {
    let mut vault = Chronicle::entitled(&[five()]);
    assert!(vault.state.needs_bundle(vault.now));
    vault.report();
    vault.write(crate::entry::Body::Start(start(2)));
    let mut foreign = dispatch(
        0,
        Verdict::Rejected {
            code: "NOT-RECIPIENT".to_owned(),
        },
    );
    foreign.sequence = vault.state.dispatches().sequence + 1;
    foreign.kind = "acknowledgement".to_owned();
    assert_eq!(vault.dispatch(foreign), refused("NOT-RECIPIENT"));
    assert!(!vault.state.needs_bundle(vault.now));
    assert_eq!(
        vault.request("TH-300", &csr("A1", 1)).code(),
        Some("PRODUCT-NOT-ENTITLED")
    );
    assert!(vault.state.needs_bundle(vault.now));
    vault.report();
    assert!(!vault.state.needs_bundle(vault.now));
    let refusal = vault.import(Verdict::Rejected {
        code: "THRESHOLD-NOT-MET".to_owned(),
    });
    assert_eq!(refusal, refused("THRESHOLD-NOT-MET"));
    assert!(vault.state.needs_bundle(vault.now));
}
