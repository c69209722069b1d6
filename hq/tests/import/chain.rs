//! Broken chains: what an honest vault never signs is refused, kept as evidence, and found.

use std::fs;

use mintmark_ledger::entry::{Body, Refused};
use mintmark_protocol::bundle::{Bundle, DispatchSeen};
use mintmark_protocol::identifier::{Fingerprint, Lineage};

use super::recovery::comes_back;
use super::support::{Change, Hq, Run, Vault, csr, run_in};

/// A headquarters that holds one bundle of a vault, which has gone on since.
fn reported() -> (Hq, Vault) {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    vault.issue("TH-200", &csr("A0", 0));
    let stick = vault.report(&hq.path("first"));
    assert_eq!(hq.import_one(&stick).0, 0);
    vault.issue("TH-200", &csr("A1", 1));
    (hq, vault)
}

/// Refused for this reason, with exit 4; found under this name; the bundle is kept; and nothing else has changed.
fn refused(hq: &Hq, stick: &std::path::Path, code: &str, finding: &str) {
    let before = hq.run(&["audit", "list"]).stdout;
    let accounts = hq.reconcile().1["accounts"].clone();
    for _ in 0..2 {
        let refused = (4, "refused".to_owned(), Some(code.to_owned()));
        assert_eq!(hq.import_one(stick), refused);
    }
    let found: Vec<_> = hq
        .findings()
        .into_iter()
        .map(|(code, severity, _)| (code, severity))
        .collect();
    assert_eq!(found, [(finding.to_owned(), "critical".to_owned())]);
    assert_eq!(hq.run(&["audit", "list"]).stdout, before);
    assert_eq!(hq.reconcile().1["accounts"], accounts);
    let evidence = hq.path("home/record/evidence/berlin_v1");
    let kept = fs::read_dir(evidence)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        kept.into_iter()
            .any(|name| name.to_string_lossy().ends_with(".cose"))
    );
    comes_back(hq);
}

#[test]
fn a_record_edited_after_it_was_reported() {
    let (hq, mut vault) = reported();
    let reservation = (0..).find(|at| {
        let entry = mintmark_ledger::entry::Entry::from_cbor(&vault.records[*at]).unwrap();
        matches!(entry.body, Body::Reserved(_))
    });
    vault.edit(reservation.unwrap() as u64, |body| {
        *body = Body::Refused(Refused {
            code: "QUOTA-EXHAUSTED".to_owned(),
            entitlement: None,
        });
    });
    let stick = vault.report(&hq.path("second"));
    refused(&hq, &stick, "LOG-INCONSISTENT", "RECORD-EDITED");
    let finding = &hq.reconcile().1["findings"][0];
    assert_eq!(finding["evidence"]["checkpoint_sequence"], 2);
}

#[test]
fn two_bundles_of_one_sequence() {
    let (hq, vault) = reported();
    // A vault that was rolled back and went another way.
    let mut twin = hq.vault("berlin");
    twin.issue("TH-200", &csr("A7", 7));
    let stick = twin.report(&hq.path("second"));
    refused(&hq, &stick, "BUNDLE-FORK", "FORK");
    let evidence = &hq.reconcile().1["findings"][0]["evidence"];
    assert_ne!(evidence["held"], evidence["other"]);
    drop(vault);
}

#[test]
fn two_roots_of_one_size_under_whatever_sequences() {
    let (hq, mut vault) = reported();
    let listed = hq.run(&["audit", "list"]).json();
    let size = listed["bundles"][0]["log_size"].as_u64().unwrap();
    let change: Change<'_> = &|bundle| {
        bundle.sequence = 7;
        bundle.previous = Some(Fingerprint::of(b"another"));
        bundle.first = size;
        bundle.segments.clear();
        bundle.checkpoint.size = size;
        bundle.checkpoint.root = Fingerprint::of(b"another root");
    };
    let stick = vault.report_changed(&hq.path("second"), change);
    // Its file has the name of its place.
    let folder = stick.join("mintmark/to-hq");
    for path in fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let name = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace("-000002.", "-000007.");
        fs::rename(&path, folder.join(name)).unwrap();
    }
    refused(&hq, &stick, "BUNDLE-FORK", "FORK");
    let evidence = &hq.reconcile().1["findings"][0]["evidence"];
    assert_eq!(
        (
            evidence["held_sequence"].as_u64(),
            evidence["other_sequence"].as_u64()
        ),
        (Some(1), Some(7))
    );
}

#[test]
fn a_segment_that_the_vault_signed_for_and_nobody_can_read() {
    let (hq, mut vault) = reported();
    let folder = hq.path("second");
    let garbage = b"no segment at all".repeat(100);
    let change: Change<'_> = &|bundle| {
        bundle.segments[0].file_digest = Fingerprint::of(&garbage);
        bundle.segments[0].file_bytes = garbage.len() as u64;
    };
    vault.write_bundle(&folder, change, 1 << 20);
    let segment = fs::read_dir(folder.join("mintmark/to-hq"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(".seg"));
    fs::write(segment.unwrap(), &garbage).unwrap();
    refused(&hq, &folder, "SEGMENT-ROTTEN", "SEGMENT-ROTTEN");
    // The vault has signed for that place: what comes later is another history, the honest one too, however often.
    let honest = vault.report(&hq.path("third"));
    for _ in 0..2 {
        let fork = (4, "refused".to_owned(), Some("BUNDLE-FORK".to_owned()));
        assert_eq!(hq.import_one(&honest), fork);
    }
    let found: Vec<_> = hq.findings().into_iter().map(|found| found.0).collect();
    assert_eq!(found, ["SEGMENT-ROTTEN", "FORK"]);
    expect_an_auditor_finds_the_same(&hq);
    comes_back(&hq);
}

/// Hands everything to an auditor, who comes to the same findings, each with the same evidence.
#[track_caller]
fn expect_an_auditor_finds_the_same(hq: &Hq) {
    let path = |name: &str| hq.path(name).to_str().unwrap().to_owned();
    let (keys, pem, file) = (hq.keys_of("auditor"), path("auditor.pem"), path("grant"));
    let done = |run: Run, exit: i32| {
        assert_eq!(run.exit, exit, "{}{}", run.stdout, run.stderr);
        run.json()
    };
    done(
        hq.run(&["audit", "key", "--keys", &keys, "--output", &pem]),
        0,
    );
    let (_, pin) = keys.split_once("pin-source=file:").unwrap();
    let pin = fs::read_to_string(pin).unwrap();
    mintmark_tests::rounds::reduce(&hq.path("auditor.keys"), pin.trim_end());
    let grant = ["audit", "grant", "--auditor", &pem, "--output", &file];
    done(hq.run(&grant), 0);
    let trust = done(hq.run(&["trust", "show"]), 0);
    let trust = trust["fingerprint"].as_str().unwrap();
    let verify = [
        "audit",
        "verify",
        &file,
        "--fingerprint",
        trust,
        "--keys",
        &keys,
    ];
    let said = done(run_in(&hq.path("auditors"), &verify), 1);
    assert_eq!(said["same_as_headquarters"], true, "{said:#}");
    assert_eq!(said["findings"], hq.reconcile().1["findings"]);
}

#[test]
fn a_segment_of_another_size_than_the_vault_signed_for() {
    for change in [
        (|bundle| bundle.segments[0].file_bytes += 1) as fn(&mut Bundle),
        |bundle| bundle.segments[0].file_bytes -= 1,
    ] {
        let (hq, mut vault) = reported();
        let stick = vault.report_changed(&hq.path("second"), &change);
        refused(&hq, &stick, "SEGMENT-ROTTEN", "SEGMENT-ROTTEN");
        expect_an_auditor_finds_the_same(&hq);
    }
}

#[test]
fn a_bundle_after_another_one_than_ours() {
    let (hq, mut vault) = reported();
    let change: Change<'_> = &|bundle| bundle.previous = Some(Fingerprint::of(b"another"));
    let stick = vault.report_changed(&hq.path("second"), change);
    refused(&hq, &stick, "BUNDLE-CHAIN", "BUNDLE-CHAIN");
}

#[test]
fn a_bundle_that_begins_elsewhere() {
    let (hq, mut vault) = reported();
    let change: Change<'_> = &|bundle| {
        bundle.first += 1;
        bundle.segments[0].first += 1;
        bundle.segments[0].count -= 1;
    };
    let stick = vault.report_changed(&hq.path("second"), change);
    refused(&hq, &stick, "BUNDLE-CHAIN", "BUNDLE-CHAIN");
}

#[test]
fn a_history_that_was_never_enrolled() {
    let (hq, mut vault) = reported();
    vault.lineage = Lineage::new([0xee; 16]);
    let stick = vault.report(&hq.path("second"));
    refused(&hq, &stick, "LINEAGE-UNKNOWN", "LINEAGE-UNKNOWN");
}

#[test]
fn a_dispatch_that_was_never_sent() {
    let (hq, mut vault) = reported();
    let change: Change<'_> = &|bundle| {
        bundle.dispatch_seen = Some(DispatchSeen {
            epoch: 1,
            sequence: 9,
            fingerprint: Fingerprint::of(b"forged"),
        });
    };
    let stick = vault.report_changed(&hq.path("second"), change);
    refused(&hq, &stick, "DISPATCH-UNKNOWN", "DISPATCH-UNKNOWN");
}

#[test]
fn a_checkpoint_that_is_not_of_its_own_records() {
    let hq = Hq::new();
    let mut vault = hq.vault("berlin");
    let change: Change<'_> = &|bundle| bundle.checkpoint.root = Fingerprint::of(b"another");
    let stick = vault.report_changed(&hq.path("first"), change);
    refused(&hq, &stick, "LOG-INCONSISTENT", "CHECKPOINT-MISMATCH");
}

#[test]
fn a_checkpoint_of_another_time_is_found_and_imported() {
    let (hq, mut vault) = reported();
    let change: Change<'_> = &|bundle| bundle.checkpoint.time += 86_400;
    let stick = vault.report_changed(&hq.path("second"), change);
    assert_eq!(hq.import_one(&stick).0, 1);
    assert_eq!(hq.findings()[0].0, "CHECKPOINT-TIME");
    comes_back(&hq);
}

#[test]
fn a_dispatch_that_was_seen_and_is_not_in_the_log() {
    let hq = Hq::new();
    let stick = hq.path("stick/mintmark");
    let seen = hq.vault("berlin").seen();
    // It was enrolled, and passes over its entitlement, which it says it has seen.
    let mut vault = Vault::new("berlin", &stick);
    vault.import_at_most(&stick, 1);
    vault.claim_seen(seen);
    let stick = vault.report(&hq.path("first"));
    assert_eq!(hq.import_one(&stick).0, 1);
    let found = hq.findings();
    assert_eq!(
        (found.len(), found[0].0.as_str()),
        (1, "DISPATCH-SEEN-MISMATCH")
    );
    comes_back(&hq);
}
