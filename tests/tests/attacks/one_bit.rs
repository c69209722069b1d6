//! Of what is honest, one bit is changed.

use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::enrolment::EnrolmentRequest;
use mintmark_protocol::key_delivery::{Delivery, KeyFacts};
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::segment::Segment;
use mintmark_protocol::trust::TrustManifest;
use mintmark_tests::files;

use super::stage::home::{Receiver, fingerprint, vector};
use super::stage::hostile::homeward;
use super::stage::keys::key;
use super::stage::story::vault;
use super::{open_secret, stage};

/// Imports a message again and again, each time with one bit of another byte changed: of every byte that says what the
/// message is and who signed it, and of some of the others.
fn expect_every_change_refused(place: &str, whole: &[u8]) {
    let vault = Receiver::new();
    let log = || files::contents(&vault.path("home/log"));
    let before = (log(), vault.received(), vault.status());
    let last = whole.len() - 80;
    let changed = (0..240)
        .chain((240..last).step_by(23))
        .chain((last..whole.len()).step_by(3));
    for at in changed {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let run = vault.import(&[(place, &damaged)]);
        assert!([1, 4].contains(&run.exit), "byte {at}: {run}");
        assert_eq!(run.item(place)["outcome"], "refused", "byte {at}: {run}");
        assert_eq!(
            (log(), vault.received()),
            (before.0.clone(), before.1.clone()),
            "byte {at}: {run}"
        );
    }
    assert_eq!(vault.status(), before.2);
    let run = vault.import(&[(place, whole)]);
    assert_eq!(run.item(place)["outcome"], "imported", "{run}");
}

#[test]
fn a_dispatch_with_one_bit_changed_is_refused_and_the_log_stays_as_it_is() {
    expect_every_change_refused(stage::hostile::NEXT, &vector("dispatch-5.cose"));
}

#[test]
fn a_trust_manifest_with_one_bit_changed_is_refused_and_the_log_stays_as_it_is() {
    let next = TrustManifest {
        version: 3,
        previous: Some(fingerprint("trust-manifest-2")),
        ..stage::story::manifest_second()
    };
    let whole = stage::story::approved(&next.propose().unwrap(), &["bob-sign", "carol-sign"]);
    expect_every_change_refused("trust-000003.cose", &whole);
}

/// Every bit of the vectors that headquarters opens: bundles, requests, segments; and that a device does.
#[test]
fn what_is_brought_to_headquarters_with_one_bit_changed_is_refused() {
    let sign = key("vault-sign").public;
    let each_bit = |name: &str, open: &(dyn Fn(&[u8]) -> bool + Sync)| {
        let whole = vector(name);
        assert!(open(&whole), "{name}");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert!(!open(&damaged), "{name}: bit {bit} of byte {at}");
            }
        }
    };
    each_bit("audit-bundle-2.cose", &|bytes| {
        Bundle::open(bytes, &vault(), &sign).is_ok()
    });
    each_bit("restore-declaration.cose", &|bytes| {
        RestoreDeclaration::open(bytes, &vault(), &sign).is_ok()
    });
    for name in ["enrolment-request", "rotation-request"] {
        let claimed = fingerprint(name);
        each_bit(&format!("{name}.cose"), &|bytes| {
            EnrolmentRequest::open(bytes, &claimed).is_ok()
        });
    }
    let bundle = vector("audit-bundle-1.cose");
    let bundle = Bundle::open(&bundle, &vault(), &sign).unwrap();
    let (facts, id) = (bundle.content().segments[0], homeward::segment_id());
    each_bit("audit-segment-1-1.cose", &|bytes| {
        key("audit")
            .open(|opener| Segment::open(bytes, &facts, &vault(), &id, opener))
            .is_ok()
    });
    let facts = KeyFacts {
        vault: vault(),
        label: "service".parse().unwrap(),
        algorithm: KeyAlgorithm::HmacSha256,
    };
    each_bit(
        "key-delivery.cose",
        &|bytes| match Delivery::read(bytes, &facts) {
            Ok(Delivery::Agreed(delivery)) => key("vault-agree")
                .open(|opener| delivery.open(opener))
                .is_ok(),
            _ => false,
        },
    );
    each_bit("device-secret.cose", &|bytes| {
        open_secret(bytes, &sign).is_ok()
    });
}
