//! The log that the vectors carry, and what is said of it: roots, a restore, a dossier, a grant, a backup.

use std::fs;

use mintmark_ledger::replay::Replay;
use mintmark_ledger::serial::SerialCipher;
use mintmark_protocol::audit_grant::AuditGrant;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dossier::Dossier;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::segment::Segment;
use mintmark_protocol::status::Status;
use serde_json::{Value, json};

use super::stage::story::{Log, vault};
use super::stage::{describe, evidence, forge, granted, homes, restored, vectors};
use super::*;

/// The records that the bundles bring, and the bundles.
pub(super) fn records() -> (Vec<Vec<u8>>, Vec<Verified<Bundle>>) {
    let (mut records, mut bundles) = (Vec::new(), Vec::new());
    for sequence in 1..=2 {
        let vector = Vector::read(&format!("audit-bundle-{sequence}"));
        let bundle = Bundle::open(&vector.bytes, &vault(), &key_file("vault-sign").public).unwrap();
        for (number, facts) in (1..).zip(&bundle.content().segments) {
            let file = Vector::read(&format!("audit-segment-{sequence}-{number}"));
            let id = Bundle::segment_id(&bundle.content().lineage, sequence, number);
            for key in file.openers() {
                let opened = key
                    .open(|opener| Segment::open(&file.bytes, facts, &vault(), &id, opener))
                    .unwrap();
                let brought: Vec<_> = opened
                    .records()
                    .map(|(at, record)| (at, record.to_vec()))
                    .collect();
                if facts.first == records.len() as u64 {
                    records.extend(brought.into_iter().map(|(_, record)| record));
                } else {
                    // The other key says the same.
                    let first = facts.first as usize;
                    let said: Vec<_> = brought.into_iter().map(|(_, record)| record).collect();
                    assert_eq!(said, records[first..]);
                }
            }
        }
        bundles.push(bundle);
    }
    (records, bundles)
}

#[test]
fn the_segments_bring_a_log_that_has_the_roots_in_the_bundles_and_replays_without_a_finding() {
    let (records, bundles) = records();
    let serials = stage::story::serials();
    let mut replay = Replay::new();
    for (at, raw) in records.iter().enumerate() {
        for bundle in &bundles {
            let checkpoint = bundle.content().checkpoint;
            if checkpoint.size == at as u64 {
                assert_eq!(replay.state().root(), checkpoint.root);
                assert_eq!(replay.state().mark(), checkpoint.time);
            }
        }
        let replayed = replay
            .feed(&stage::story::Nobody, Some(&serials), raw, None)
            .unwrap();
        assert!(
            replayed.divergences.is_empty(),
            "{:?}",
            replayed.divergences
        );
    }
    let last = bundles.last().unwrap().content();
    assert_eq!(
        (last.checkpoint.size, last.checkpoint.root),
        (records.len() as u64, replay.state().root())
    );
    assert_eq!(Log::of(&records).state, *replay.state());
    let listed: Value =
        serde_json::from_slice(&fs::read(vectors().join("log.json")).unwrap()).unwrap();
    assert_eq!(listed, log_listed(&records));
}

/// The records, for whoever has a reader to write: each with its leaf and with the root of the log that it ends.
pub(super) fn log_listed(records: &[Vec<u8>]) -> Value {
    let leaf = |record: &[u8]| forge::sha256(&[&[0], record].concat());
    let leaves: Vec<Vec<u8>> = records.iter().map(|record| leaf(record)).collect();
    let each = records.iter().enumerate().map(|(at, record)| {
        json!({
            "sequence": at,
            "bytes": hex::encode(record),
            "leaf": hex::encode(&leaves[at]),
            "root": hex::encode(root_of(&leaves[..=at])),
            "content": describe::to_json(&forge::read(record)),
        })
    });
    each.collect()
}

/// MTH of RFC 9162 section 2.1.1, over leaf hashes.
pub(super) fn root_of(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves.len() {
        0 => forge::sha256(&[]),
        1 => leaves[0].clone(),
        count => {
            let left = count.next_power_of_two() / 2;
            let halves = [root_of(&leaves[..left]), root_of(&leaves[left..])].concat();
            forge::sha256(&[&[1], &halves[..]].concat())
        }
    }
}

/// Which trust manifest judged a message, and who approved it.
pub(super) fn judged(name: &str, said: &Value) -> (u64, Vec<&'static str>) {
    let early = [
        "officer-request",
        "trust-manifest-1",
        "enrolment-request",
        "enrolment-grant",
        "dispatch-1",
        "dispatch-2",
        "dispatch-3",
        "audit-bundle-1",
        "audit-segment-1-1",
        "audit-segment-1-2",
        "acknowledgement",
    ];
    let early = early.contains(&name) || name.starts_with("entitlement");
    let trust = if early { 1 } else { 2 };
    let officer = |key: &Value| {
        let known = ["alice", "bob", "carol", "dave", "erin"];
        known
            .into_iter()
            .find(|officer| key.as_str().unwrap().starts_with(officer))
    };
    let approves = said["structure"] == "COSE_Sign";
    let signers = said["signed_by"].as_array().filter(|_| approves);
    let mut officers: Vec<_> = signers.into_iter().flatten().filter_map(officer).collect();
    officers.sort_unstable();
    (trust, officers)
}

#[test]
fn a_declared_restore_and_its_answer_lead_from_what_the_vault_has_to_what_headquarters_holds() {
    let (records, bundles) = records();
    let size = bundles[0].content().checkpoint.size;
    let declared = Vector::read("restore-declaration");
    let declaration = RestoreDeclaration::from_cbor(&declared.content()).unwrap();
    assert_eq!(declaration, restored::declaration(&records, size));
    assert_eq!(
        (declaration.size, declaration.root),
        (size, bundles[0].content().checkpoint.root)
    );
    let tail = LogTail::from_cbor(&Vector::read("log-tail").content()).unwrap();
    assert_eq!(tail, restored::tail(&records, size));
    assert_eq!(tail.declaration, declared.fingerprint());
    let whole = [&records[..size as usize], &tail.records[..]].concat();
    let leaves: Vec<Vec<u8>> = whole
        .iter()
        .map(|record| forge::sha256(&[&[0], &record[..]].concat()))
        .collect();
    assert_eq!(tail.log_size, whole.len() as u64);
    assert_eq!(root_of(&leaves), tail.log_root.as_bytes());
    assert_eq!(tail.log_root, bundles[1].content().checkpoint.root);
}

#[test]
fn the_dossier_and_the_status_are_of_the_log_of_the_vectors() {
    let (records, _) = records();
    let bundle = Vector::read("audit-bundle-1").bytes;
    let dossier = Dossier::from_cbor(&Vector::read("dossier").content()).unwrap();
    let made = evidence::dossier(&records, &bundle);
    // Signatures differ from one time to the next, of receipts too.
    let said = |dossier: &Dossier| {
        let records = dossier.records.each_ref();
        (
            dossier.certificate.clone(),
            dossier.state.clone(),
            records.map(|of| of.record.clone()),
        )
    };
    assert_eq!(said(&dossier), said(&made));
    let status = Status::from_cbor(&Vector::read("status").content()).unwrap();
    assert_eq!(status, evidence::status(&records, &bundle));
    assert!(status.vaults[0].states[0].count() > 0);
}

/// What the grant among the vectors is of.
pub(super) fn granted_record() -> granted::Record {
    granted::Record::of(&|name| Vector::read(name).bytes)
}

#[test]
fn the_grant_opens_the_first_report_for_the_auditor_without_a_key_of_headquarters() {
    let vector = Vector::read("audit-grant");
    let report_key = manifest_for(&vector).content().report_key;
    let open = |opener: Opener<'_>| AuditGrant::open(&vector.bytes, &report_key, opener).unwrap();
    let grant = key_file("auditor").open(open).into_content();
    let record = granted_record();
    let made = granted::grant(&record);
    assert_eq!(grant.to_cbor(), made.to_cbor());
    let opened = granted::opened_by(&grant, &record);
    let brought = opened.iter().flat_map(Segment::records);
    let brought: Vec<_> = brought.map(|(_, bytes)| bytes.to_vec()).collect();
    let (records, _) = records();
    assert!(!brought.is_empty());
    assert_eq!(brought, records[..brought.len()]);
    let serials = SerialCipher::new(&grant.serial_keys[0].key);
    let first = AccountTag::new(1).unwrap();
    let held = stage::story::serials().serial(first, 0, 0);
    assert_eq!(serials.serial(first, 0, 0), held);
}

#[test]
fn the_backup_opens_with_its_words_and_holds_what_is_written_beside_it() {
    let described = fs::read(vectors().join("backup-file.json")).unwrap();
    assert!(described == homes::described());
    let said: Value = serde_json::from_slice(&described).unwrap();
    let file = vectors().join(homes::FILE);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(homes::message_of(&bytes), Vector::read("backup").bytes);
    let words = said["words"].as_array().unwrap().iter();
    let words: Vec<_> = words.map(|line| line.as_str().unwrap()).collect();
    let key = mintmark_backup::parse(&words.join("\n")).unwrap();
    let mut opened = mintmark_backup::Opened::open(&file).unwrap();
    let console = mintmark_console::Console::new("test", &Default::default());
    let watched = mintmark_backup::Watch::to_the_end(&console).begin("reading", bytes.len() as u64);
    opened.expect_whole(&watched).unwrap();
    let content_key = opened.unlock(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut placing = mintmark_backup::Placing::begin(&home).unwrap();
    placing.fill(&mut opened, &content_key, &watched).unwrap();
    placing.settle().unwrap();
    for held in said["files"].as_array().unwrap() {
        let bytes = fs::read(home.join(held["path"].as_str().unwrap())).unwrap();
        assert_eq!(held["sha256"], Fingerprint::of(&bytes).to_string());
    }
}
