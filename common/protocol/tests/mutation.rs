//! Whatever happens to the bytes of a finished message, it is refused: every flipped bit, every cut, every byte added.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::thread;

use mintmark_protocol::Error;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::segment::Segment;
use mintmark_protocol::trust::TrustManifest;
use support::*;

/// Every damaged form of `message` must be refused by `open`, which accepts the whole one.
fn refuses_all_damage(message: &[u8], open: impl Fn(&[u8]) -> Result<(), Error> + Sync) {
    open(message).expect("it opens before it is damaged");
    let workers = 4;
    let open = &open;
    thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for at in (worker..message.len()).step_by(workers) {
                    let mut damaged = message.to_vec();
                    for bit in 0..8 {
                        damaged[at] = message[at] ^ (1 << bit);
                        assert!(open(&damaged).is_err(), "bit {bit} of byte {at} flipped");
                    }
                    assert!(open(&message[..at]).is_err(), "cut after {at} bytes");
                }
            });
        }
    });
    for added in [0x00, 0xf6, 0xff] {
        let longer = [message, &[added]].concat();
        let code = open(&longer).unwrap_err().code();
        assert!(
            matches!(code, "MESSAGE-ENCODING" | "COMMITMENT-MISMATCH"),
            "{code}"
        );
    }
}

#[test]
fn a_damaged_trust_manifest_is_refused() {
    let fingerprint = pinned().fingerprint();
    refuses_all_damage(&trust_bytes(), |bytes| {
        TrustManifest::pin(bytes, &fingerprint, None).map(drop)
    });
}

#[test]
fn a_damaged_successor_of_a_trust_manifest_is_refused() {
    let pinned = pinned();
    refuses_all_damage(&trust_second_bytes(), |bytes| {
        pinned.successor(bytes).map(drop)
    });
}

#[test]
fn a_damaged_draft_is_refused_by_an_officer() {
    for proposal in [entitlement_proposal(), manifest().propose().unwrap()] {
        refuses_all_damage(&drafted(&proposal), |bytes| {
            Proposal::read(bytes, bytes.len())?.expect_drafted_by([&dispatch_key().public])
        });
    }
}

#[test]
fn a_damaged_officer_request_is_refused() {
    let (message, fingerprint) = officer_request().seal(&|m| signing(ALICE).sign(m)).unwrap();
    refuses_all_damage(&message, |bytes| {
        OfficerRequest::open(bytes, &fingerprint).map(drop)
    });
}

#[test]
fn a_damaged_enrolment_request_is_refused() {
    let (message, fingerprint) = enrolment_request_bytes();
    refuses_all_damage(&message, |bytes| {
        EnrolmentRequest::open(bytes, &fingerprint).map(drop)
    });
}

#[test]
fn a_damaged_enrolment_grant_is_refused() {
    let (pinned, key, vault) = (pinned(), vault_agree(), vault());
    refuses_all_damage(&grant_bytes(), |bytes| {
        key.open(|opener| EnrolmentGrant::open(bytes, &pinned, &vault, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_entitlement_is_refused() {
    let (pinned, key, vault) = (pinned(), vault_agree(), vault());
    refuses_all_damage(&entitlement_bytes(), |bytes| {
        key.open(|opener| Entitlement::open(bytes, &pinned, &vault, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_revocation_is_refused() {
    let (pinned, key, vault) = (pinned(), vault_agree(), vault());
    refuses_all_damage(&revocation_bytes(), |bytes| {
        key.open(|opener| Revocation::open(bytes, &pinned, &vault, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_clock_correction_is_refused() {
    let (pinned, key, vault) = (pinned(), vault_agree(), vault());
    refuses_all_damage(&clock_correction_bytes(), |bytes| {
        key.open(|opener| ClockCorrection::open(bytes, &pinned, &vault, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_reanchor_is_refused() {
    let (pinned, key, vault) = (pinned(), vault_agree(), vault());
    refuses_all_damage(&reanchor_bytes(), |bytes| {
        key.open(|opener| Reanchor::open(bytes, &pinned, &vault, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_device_secret_is_refused() {
    refuses_all_damage(&device_secret_bytes(), |bytes| {
        open_device_secret(bytes).map(drop)
    });
}

#[test]
fn a_damaged_restore_declaration_is_refused() {
    refuses_all_damage(&restore_declaration_bytes(), |bytes| {
        open_restore_declaration(bytes).map(drop)
    });
}

#[test]
fn a_damaged_log_tail_is_refused() {
    let (pinned, key, vault) = (pinned(), vault_agree(), vault());
    refuses_all_damage(&log_tail_bytes(), |bytes| {
        key.open(|opener| LogTail::open(bytes, &pinned, &vault, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_acknowledgement_is_refused() {
    let (pinned, key, vault) = (pinned(), vault_agree(), vault());
    refuses_all_damage(&acknowledgement_bytes(), |bytes| {
        key.open(|opener| Acknowledgement::open(bytes, &pinned, &vault, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_dispatch_is_refused() {
    let (pinned, vault) = (pinned(), vault());
    refuses_all_damage(&dispatch_bytes(), |bytes| {
        Dispatch::open(bytes, &pinned, &vault).map(drop)
    });
}

#[test]
fn a_damaged_bundle_is_refused() {
    let (key, vault) = (vault_sign().public, vault());
    refuses_all_damage(&sealed_bundle().bytes, |bytes| {
        Bundle::open(bytes, &vault, &key).map(drop)
    });
}

#[test]
fn a_damaged_segment_is_refused() {
    let (key, vault, id) = (audit_key(), vault(), segment_id(1));
    let (message, facts) = segment_bytes(1000, 30, &id);
    refuses_all_damage(&message, |bytes| {
        key.open(|opener| Segment::open(bytes, &facts, &vault, &id, opener))
            .map(drop)
    });
}

#[test]
fn a_damaged_dossier_is_refused() {
    refuses_all_damage(&dossier_bytes(), |bytes| open_dossier(bytes).map(drop));
}

#[test]
fn a_damaged_status_is_refused() {
    refuses_all_damage(&status_bytes(), |bytes| open_status(bytes).map(drop));
}

#[test]
fn a_damaged_report_is_refused() {
    refuses_all_damage(&report_bytes(), |bytes| open_report(bytes).map(drop));
}

#[test]
fn a_damaged_audit_grant_is_refused() {
    refuses_all_damage(&audit_grant_bytes(), |bytes| {
        open_audit_grant(bytes).map(drop)
    });
}

#[test]
fn a_damaged_message_of_a_backup_is_refused() {
    use mintmark_protocol::backup::Backup;
    for bytes in [backup_bytes(), hq_backup_bytes()] {
        refuses_all_damage(&bytes, |bytes| Backup::open(bytes).map(drop));
    }
}

#[test]
fn a_damaged_transcript_is_refused() {
    refuses_all_damage(&transcript_bytes(), |bytes| {
        open_transcript(bytes).map(drop)
    });
}

#[test]
fn a_damaged_receipt_is_refused() {
    use mintmark_protocol::receipt::Receipt;
    // The proof itself is not signed: it leads to the root, or it does not.
    let proof = Receipt::read(&receipt_bytes()).unwrap().proof().clone();
    let root = mintmark_protocol::identifier::Fingerprint::of(b"root");
    refuses_all_damage(&receipt_bytes(), |bytes| {
        let receipt = Receipt::read(bytes)?;
        receipt.verify(&root, &report_key().public)?;
        if *receipt.proof() == proof {
            return Ok(());
        }
        Err(Error::SignatureInvalid { what: "proof" })
    });
}
