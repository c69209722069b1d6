//! Each message, made and read back, says what was put into it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use mintmark_protocol::approval::Proposal;
use mintmark_protocol::audit_grant::AuditGrant;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Party, claim};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::segment::Segment;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use support::*;

fn names(officers: &[mintmark_protocol::identifier::OfficerId]) -> Vec<&str> {
    officers.iter().map(AsRef::as_ref).collect()
}

#[test]
fn the_first_trust_manifest_is_pinned_by_its_fingerprint() {
    let fingerprint = manifest().propose().unwrap().fingerprint();
    let pinned = TrustManifest::pin(&trust_bytes(), &fingerprint, None).unwrap();
    assert_eq!(*pinned.content(), manifest());
    assert_eq!(pinned.fingerprint(), fingerprint);
    assert_eq!(fingerprint, Fingerprint::of(&manifest().to_cbor()));
    assert_eq!(names(pinned.officers()), ["alice", "bob"]);
}

#[test]
fn the_second_trust_manifest_follows_the_first() {
    let second = pinned().successor(&trust_second_bytes()).unwrap();
    assert_eq!(*second.content(), manifest_second());
    assert_eq!(names(second.officers()), ["bob", "carol", "erin"]);
}

#[test]
fn a_later_trust_manifest_can_be_pinned_by_itself() {
    let fingerprint = manifest_second().propose().unwrap().fingerprint();
    let pinned = TrustManifest::pin(
        &approved(
            &manifest_second().propose().unwrap(),
            &[signing(BOB), signing(ERIN)],
        ),
        &fingerprint,
        None,
    );
    assert_eq!(pinned.unwrap().content().version, 2);
}

#[test]
fn an_officer_request_arrives() {
    let (bytes, fingerprint) = officer_request().seal(&|m| signing(ALICE).sign(m)).unwrap();
    let request = OfficerRequest::open(&bytes, &fingerprint).unwrap();
    assert_eq!(*request.content(), officer_request());
}

#[test]
fn an_enrolment_request_arrives() {
    let (bytes, fingerprint) = enrolment_request_bytes();
    let request = EnrolmentRequest::open(&bytes, &fingerprint).unwrap();
    assert_eq!(*request.content(), enrolment_request());
    assert_eq!(request.fingerprint(), fingerprint);
}

#[test]
fn an_enrolment_grant_arrives_with_its_approvers() {
    let opened = vault_agree()
        .open(|opener| EnrolmentGrant::open(&grant_bytes(), &pinned(), &vault(), opener))
        .unwrap();
    assert_eq!(*opened.content(), grant());
    assert_eq!(opened.plaintext(), grant().to_cbor());
    assert_eq!(names(opened.officers()), ["alice", "bob"]);
}

#[test]
fn an_entitlement_arrives_with_its_approvers_whoever_of_its_recipients_opens_it() {
    let bytes = entitlement_bytes();
    let readers = [
        vault_agree(),
        audit_key(),
        escrow_key(),
        agreement(ALICE),
        agreement(CAROL),
    ];
    for reader in readers {
        let opened = reader
            .open(|opener| Entitlement::open(&bytes, &pinned(), &vault(), opener))
            .unwrap();
        assert_eq!(*opened.content(), entitlement());
        assert_eq!(names(opened.officers()), ["alice", "bob"]);
        assert_eq!(
            opened.fingerprint(),
            Proposal::read(&bytes, bytes.len()).unwrap().fingerprint()
        );
    }
}

#[test]
fn a_draft_is_read_by_an_officer_before_anybody_signed_it() {
    let draft = entitlement_proposal().to_bytes().unwrap();
    let draft = Proposal::read(&draft, draft.len()).unwrap();
    assert_eq!(draft.signature_count(), 0);
    assert!(draft.is_for(&agreement(BOB).public));
    assert!(!draft.is_for(&agreement(DAVE).public), "dave does not mint");
    let read = agreement(BOB)
        .open(|opener| Entitlement::proposed(&draft, opener))
        .unwrap();
    assert_eq!(read, entitlement());
}

#[test]
fn approvals_are_collected_in_any_order_and_twice_to_the_same_bytes() {
    let draft = entitlement_proposal();
    let one = collected(&draft, &[signing(ALICE), signing(BOB), signing(CAROL)]);
    let other = collected(
        &draft,
        &[signing(CAROL), signing(ALICE), signing(ALICE), signing(BOB)],
    );
    assert_eq!(one.to_bytes().unwrap(), other.to_bytes().unwrap());
    assert_eq!(one.fingerprint(), draft.fingerprint());
    let officers = one
        .approved(&manifest(), mintmark_protocol::trust::Role::Mint)
        .unwrap();
    assert_eq!(officers.len(), 3);
}

#[test]
fn a_restore_declaration_arrives() {
    let opened = open_restore_declaration(&restore_declaration_bytes()).unwrap();
    assert_eq!(*opened.content(), restore_declaration());
    assert_eq!(
        opened.fingerprint(),
        Fingerprint::of(&restore_declaration().to_cbor())
    );
}

#[test]
fn a_restore_goes_on_in_a_lineage_of_its_own_and_its_leases_are_in_order() {
    for spoil in [
        (|declaration| declaration.lineage = declaration.parent)
            as fn(&mut mintmark_protocol::restore::RestoreDeclaration),
        |declaration| declaration.leases.reverse(),
        |declaration| declaration.leases = vec![declaration.leases[0]; 2],
    ] {
        let mut declaration = restore_declaration();
        spoil(&mut declaration);
        let key = vault_sign();
        let bytes = declaration.seal(&key.public, &|m| key.sign(m)).unwrap();
        assert_eq!(
            open_restore_declaration(&bytes).unwrap_err().code(),
            "MESSAGE-SHAPE"
        );
    }
}

#[test]
fn a_log_tail_arrives_at_the_vault_and_at_headquarters() {
    let opened = open_log_tail(&log_tail_bytes()).unwrap();
    assert_eq!(*opened.content(), log_tail());
    let other = vault_sign();
    let opened = other.open(|opener| {
        mintmark_protocol::log_tail::LogTail::open(&log_tail_bytes(), &pinned(), &vault(), opener)
    });
    assert_eq!(opened.unwrap_err().code(), "NOT-RECIPIENT");
}

#[test]
fn a_part_of_a_tail_is_one_of_its_parts() {
    for part in [0, 3] {
        let tail = mintmark_protocol::log_tail::LogTail { part, ..log_tail() };
        let read = mintmark_protocol::log_tail::LogTail::from_cbor(&tail.to_cbor());
        assert_eq!(read.unwrap_err().code(), "MESSAGE-SHAPE");
    }
}

#[test]
fn an_acknowledgement_arrives() {
    let opened = open_acknowledgement(&acknowledgement_bytes()).unwrap();
    assert_eq!(*opened.content(), acknowledgement());
    assert!(opened.officers().is_empty());
}

#[test]
fn a_dispatch_arrives_with_what_it_wraps() {
    let sealed = dispatch(
        Kind::Entitlement,
        &entitlement().object_id(),
        entitlement_bytes(),
    );
    let (bytes, fingerprint) = sealed
        .seal(&manifest(), &|m| dispatch_key().sign(m))
        .unwrap();
    let opened = Dispatch::open(&bytes, &pinned(), &vault()).unwrap();
    assert_eq!(*opened.content(), sealed);
    assert_eq!(opened.fingerprint(), fingerprint);
    open_entitlement(&opened.content().content).unwrap();
}

#[test]
fn a_bundle_arrives_and_its_segments_give_the_records_in_order() {
    let sealed = sealed_bundle();
    let bundle = Bundle::open(&sealed.bytes, &vault(), &vault_sign().public).unwrap();
    assert_eq!(*bundle.content(), sealed.bundle);
    assert_eq!(bundle.fingerprint(), sealed.fingerprint);
    let mut all = Vec::new();
    for (number, (file, facts)) in (1..).zip(sealed.segments.iter().zip(&bundle.content().segments))
    {
        for reader in [audit_key(), escrow_key()] {
            let open = |opener: Opener<'_>| {
                Segment::open(file, facts, &vault(), &segment_id(number), opener)
            };
            let segment = reader.open(open).unwrap();
            let found: Vec<_> = segment.records().map(|(at, r)| (at, r.to_vec())).collect();
            if reader.public == audit_key().public {
                all.extend(found);
            } else {
                assert!(all.ends_with(&found));
            }
        }
    }
    let expected: Vec<_> = (1000..).zip(records(1000, 35)).collect();
    assert_eq!(all, expected);
}

#[test]
fn a_bundle_without_records_arrives() {
    let mut empty = bundle(Vec::new());
    empty.sequence = 1;
    empty.previous = None;
    empty.dispatch_seen = None;
    empty.crl = None;
    let (bytes, _) = empty
        .seal(&vault_sign().public, &|m| vault_sign().sign(m))
        .unwrap();
    let opened = Bundle::open(&bytes, &vault(), &vault_sign().public).unwrap();
    assert_eq!(opened.into_content(), empty);
}

#[test]
fn a_claim_tells_whom_to_ask_about_a_message_without_believing_it() {
    let of = |bytes: &[u8]| claim(bytes, bytes.len()).unwrap();
    let entitlement = of(&entitlement_bytes());
    assert_eq!(entitlement.context.kind, Kind::Entitlement);
    assert_eq!(entitlement.context.sender, Party::Hq);
    assert_eq!(entitlement.context.recipient, Party::Vault(vault()));
    assert!(entitlement.context.id.starts_with("th200-2027q1-v1-"));
    let bundle = of(&sealed_bundle().bytes);
    assert_eq!(bundle.context.kind, Kind::AuditBundle);
    assert_eq!(bundle.context.sender, Party::Vault(vault()));
    let trust = of(&trust_bytes());
    assert_eq!(trust.fingerprint, pinned().fingerprint());
    assert_eq!(trust.context.recipient, Party::All);
}

#[test]
fn every_officer_there_can_be_reads_a_draft() {
    let mut crowd = manifest();
    crowd.officers = (0..64).map(crowd_officer).collect();
    let mut keys = crowd.encryption_keys.clone();
    for number in 0..6 {
        keys.push(mintmark_protocol::trust::HqEncryptionKey {
            name: format!("spare-{number}").parse().unwrap(),
            key: Key::new(240 + number).public,
            escrowed: true,
        });
    }
    crowd.encryption_keys = keys;
    crowd.check().unwrap();
    let draft = entitlement()
        .propose(&crowd, &vault_agree().public)
        .unwrap();
    let bytes = draft.to_bytes().unwrap();
    let draft = Proposal::read(&bytes, bytes.len()).unwrap();
    let all: Vec<PublicKey> =
        crowd.recipients(&vault_agree().public, mintmark_protocol::trust::Role::Mint);
    assert_eq!(all.len(), 73);
    assert!(all.iter().all(|key| draft.is_for(key)));
}

/// One of many: keys that no other number has.
fn crowd_officer(number: u8) -> mintmark_protocol::trust::Officer {
    let mut officer = officer(
        ALICE,
        &format!("officer-{number}"),
        &mintmark_protocol::trust::Role::ALL,
    );
    let key = |kind: u8| {
        let mut scalar = [1; 32];
        scalar[0] = number;
        scalar[1] = kind;
        p256::SecretKey::from_slice(&scalar).unwrap().public_key()
    };
    officer.signing_keys = vec![key(2)];
    officer.agreement_key = key(3);
    officer
}

#[test]
fn a_dossier_says_what_it_was_made_of_to_whoever_knows_the_report_key() {
    let opened = open_dossier(&dossier_bytes()).unwrap();
    assert_eq!(*opened.content(), dossier());
    let other = mintmark_protocol::dossier::Dossier::open(&dossier_bytes(), &vault_sign().public);
    assert_eq!(other.unwrap_err().code(), "SIGNER-UNKNOWN");
    // A status is none.
    assert_eq!(
        open_dossier(&status_bytes()).unwrap_err().code(),
        "MESSAGE-TYPE"
    );
}

#[test]
fn a_dossier_holds_no_bundle_above_its_size() {
    use mintmark_protocol::dossier::{DOSSIER_BUNDLE_BYTES_MAX, Dossier};
    let of = |bytes: usize| Dossier {
        bundle: Some(vec![0; bytes]),
        ..dossier()
    };
    let largest = of(DOSSIER_BUNDLE_BYTES_MAX);
    assert_eq!(Dossier::from_cbor(&largest.to_cbor()).unwrap(), largest);
    let larger = of(DOSSIER_BUNDLE_BYTES_MAX + 1);
    let refused = Dossier::from_cbor(&larger.to_cbor()).unwrap_err();
    assert_eq!(refused.code(), "MESSAGE-SHAPE");
}

#[test]
fn a_receipt_is_of_its_root_alone() {
    use mintmark_protocol::identifier::Fingerprint;
    use mintmark_protocol::receipt::Receipt;
    let receipt = Receipt::read(&receipt_bytes()).unwrap();
    let key = report_key().public;
    receipt.verify(&Fingerprint::of(b"root"), &key).unwrap();
    let other = receipt.verify(&Fingerprint::of(b"another"), &key);
    assert_eq!(other.unwrap_err().code(), "SIGNATURE-INVALID");
    assert!(receipt.log().starts_with("vault:"));
}

#[test]
fn a_status_tells_what_became_of_each_certificate_and_knows_no_other() {
    use mintmark_protocol::dossier::DeviceState;
    use mintmark_protocol::identifier::Fingerprint;
    let opened = open_status(&status_bytes()).unwrap();
    assert_eq!(*opened.content(), status());
    let vault = &opened.content().vaults[0];
    let state = |number: u8| vault.state(&Fingerprint::of(&[number]));
    assert_eq!(state(3), Some(DeviceState::Good));
    assert_eq!(state(79), Some(DeviceState::Scrapped));
    assert_eq!(state(80), None);
    assert!((100..180).all(|number: u8| vault.serials.contains(&Fingerprint::of(&[number]))));
}

#[test]
fn a_status_that_lists_a_vault_twice_or_cuts_its_digests_short_is_refused() {
    use mintmark_protocol::digest_set::DigestSet;
    use mintmark_protocol::status::Status;
    let mut twice = status();
    twice.vaults.push(twice.vaults[0].clone());
    let mut short = status();
    short.vaults[0].states[0] = DigestSet::new(vec![1, 2], 40);
    for wrong in [twice, short] {
        let refused = Status::from_cbor(&wrong.to_cbor()).unwrap_err();
        assert_eq!(refused.code(), "MESSAGE-SHAPE");
    }
}

#[test]
fn a_sealed_report_is_what_was_sealed_and_no_other_message() {
    use mintmark_protocol::report::{REPORT_CONTENT_BYTES_MAX, Report};
    assert_eq!(*open_report(&report_bytes()).unwrap().content(), report());
    assert_eq!(
        open_report(&status_bytes()).unwrap_err().code(),
        "MESSAGE-TYPE"
    );
    let empty = Report {
        content: Vec::new(),
        ..report()
    };
    let refused = Report::from_cbor(&empty.to_cbor()).unwrap_err();
    assert_eq!(refused.code(), "MESSAGE-SHAPE");
    let large = Report {
        content: vec![0; REPORT_CONTENT_BYTES_MAX + 1],
        ..report()
    };
    let key = report_key();
    let refused = large.seal(&key.public, &|m| key.sign(m)).unwrap_err();
    assert_eq!(refused.code(), "MESSAGE-OVERSIZE");
}

#[test]
fn an_audit_grant_opens_for_its_auditor_and_for_nobody_else() {
    let bytes = audit_grant_bytes();
    let grant = open_audit_grant(&bytes).unwrap();
    assert_eq!(grant.content().to_cbor(), audit_grant().to_cbor());
    let mut points: Vec<_> = grant.content().secrets.iter().collect();
    points.retain(|secret| secret.ephemeral == Key::new(72).public && *secret.shared == [72; 32]);
    assert_eq!(points.len(), 1);
    for (key, signer, code) in [
        (audit_key(), report_key(), "NOT-RECIPIENT"),
        (auditor_key(), dispatch_key(), "SIGNER-UNKNOWN"),
    ] {
        let opened = key.open(|opener| AuditGrant::open(&bytes, &signer.public, opener));
        assert_eq!(opened.err().unwrap().code(), code);
    }
    let doubled = AuditGrant {
        serial_keys: [audit_grant().serial_keys, audit_grant().serial_keys].concat(),
        ..audit_grant()
    };
    let refused = AuditGrant::from_cbor(&doubled.to_cbor()).err().unwrap();
    assert_eq!(refused.code(), "MESSAGE-SHAPE");
}

#[test]
fn a_backup_says_whose_home_it_is_of_and_which_key_signed_it() {
    use mintmark_protocol::backup::Backup;
    use mintmark_protocol::envelope::Party;
    let (home, opened) = Backup::open(&backup_bytes()).unwrap();
    assert_eq!((home, opened.content()), (Party::Vault(vault()), &backup()));
    let (home, opened) = Backup::open(&hq_backup_bytes()).unwrap();
    assert_eq!((home, opened.content()), (Party::Hq, &hq_backup()));
    // It is nobody else's, and signed by no other key than it says.
    let key = vault_sign();
    let foreign = backup().seal(&Party::All, &|m| key.sign(m)).unwrap();
    assert_eq!(
        Backup::open(&foreign).unwrap_err().code(),
        "MESSAGE-ADDRESS"
    );
    let other = report_key();
    let forged = backup().seal(&Party::Hq, &|m| other.sign(m)).unwrap();
    assert_eq!(
        Backup::open(&forged).unwrap_err().code(),
        "SIGNATURE-INVALID"
    );
    assert_eq!(
        Backup::open(&report_bytes()).unwrap_err().code(),
        "MESSAGE-TYPE"
    );
}

#[test]
fn a_transcript_is_what_was_sealed_and_has_something_in_it() {
    use mintmark_protocol::transcript::Transcript;
    let opened = open_transcript(&transcript_bytes()).unwrap();
    assert_eq!(opened.content(), &transcript());
    for empty in [
        Transcript {
            purpose: String::new(),
            ..transcript()
        },
        Transcript {
            present: Vec::new(),
            ..transcript()
        },
        Transcript {
            entries: Vec::new(),
            ..transcript()
        },
    ] {
        let refused = Transcript::from_cbor(&empty.to_cbor()).unwrap_err();
        assert_eq!(refused.code(), "MESSAGE-SHAPE");
    }
}
