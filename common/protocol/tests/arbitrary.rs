//! No bytes make a reader panic, whether they are noise, CBOR-like noise, or messages with pieces exchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::LazyLock;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::backup::Backup;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::cbor::{self, Fields};
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::dossier::Dossier;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Verified, claim};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::receipt::Receipt;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::segment::{Segment, SegmentFacts};
use mintmark_protocol::status::Status;
use mintmark_protocol::transcript::Transcript;
use mintmark_protocol::trust::{Role, TrustManifest};
use proptest::prelude::*;
use support::*;

static PINNED: LazyLock<Verified<TrustManifest>> = LazyLock::new(pinned);

/// The messages whose pieces are exchanged.
static MESSAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let sealed = sealed_bundle();
    vec![
        trust_bytes(),
        officer_request_bytes(),
        enrolment_request_bytes().0,
        grant_bytes(),
        entitlement_bytes(),
        acknowledgement_bytes(),
        restore_declaration_bytes(),
        log_tail_bytes(),
        dispatch_bytes(),
        sealed.bytes,
        sealed.segments[0].clone(),
        dossier_bytes(),
        status_bytes(),
        report_bytes(),
        backup_bytes(),
        transcript_bytes(),
    ]
});

/// Hands the bytes to every reader. Returns whether one of them believed them.
fn read_with_everything(bytes: &[u8]) -> bool {
    let fingerprint =
        claim(bytes, 1 << 20).map_or(Fingerprint::of(bytes), |claim| claim.fingerprint);
    let (vault, key) = (vault(), vault_agree());
    let facts = SegmentFacts {
        first: 1000,
        count: 30,
        file_digest: Fingerprint::of(bytes),
        file_bytes: bytes.len() as u64,
        commitment: Fingerprint::of(b"none"),
    };
    if let Ok(proposal) = Proposal::read(bytes, 1 << 20) {
        let _ = TrustManifest::proposed(&proposal);
        let _ = key.open(|opener| Entitlement::proposed(&proposal, opener));
        let _ = key.open(|opener| EnrolmentGrant::proposed(&proposal, opener));
        let _ = proposal.approved(PINNED.content(), Role::Mint);
        let _ = proposal.is_for(&key.public);
        assert!(proposal.expect_drafted_by([&key.public]).is_err());
        proposal.to_bytes().unwrap();
    }
    if let Ok(value) = cbor::decode("noise", bytes, 1 << 20) {
        assert_eq!(cbor::encode(&value), bytes, "what passes has one encoding");
    }
    let _ = Fields::decode("noise", bytes, 1 << 20);
    let _ = Entitlement::from_cbor(bytes);
    let _ = EnrolmentGrant::from_cbor(bytes);
    let _ = Acknowledgement::from_cbor(bytes);
    let _ = RestoreDeclaration::from_cbor(bytes);
    let _ = LogTail::from_cbor(bytes);
    let _ = TrustManifest::from_cbor(bytes);
    let _ = Dossier::from_cbor(bytes);
    let _ = Status::from_cbor(bytes);
    let _ = Backup::from_cbor(bytes);
    let _ = Transcript::from_cbor(bytes);
    let _ = mintmark_protocol::backup::Entry::from_cbor(bytes);
    let _ = Receipt::read(bytes);
    let _ = MediaName::parse(&String::from_utf8_lossy(bytes));
    [
        TrustManifest::pin(bytes, &fingerprint, None).is_ok(),
        PINNED.successor(bytes).is_ok(),
        OfficerRequest::open(bytes, &fingerprint).is_ok(),
        EnrolmentRequest::open(bytes, &fingerprint).is_ok(),
        key.open(|opener| EnrolmentGrant::open(bytes, &PINNED, &vault, opener))
            .is_ok(),
        key.open(|opener| Entitlement::open(bytes, &PINNED, &vault, opener))
            .is_ok(),
        open_restore_declaration(bytes).is_ok(),
        open_dossier(bytes).is_ok(),
        open_status(bytes).is_ok(),
        open_report(bytes).is_ok(),
        Backup::open(bytes).is_ok_and(|(_, backup)| backup.content().signer == vault_sign().public),
        open_transcript(bytes).is_ok(),
        key.open(|opener| LogTail::open(bytes, &PINNED, &vault, opener))
            .is_ok(),
        key.open(|opener| Acknowledgement::open(bytes, &PINNED, &vault, opener))
            .is_ok(),
        Dispatch::open(bytes, &PINNED, &vault).is_ok(),
        Bundle::open(bytes, &vault, &vault_sign().public).is_ok(),
        audit_key()
            .open(|o| Segment::open(bytes, &facts, &vault, &segment_id(1), o))
            .is_ok(),
    ]
    .contains(&true)
}

/// Bytes that look like CBOR for a while: heads of every kind, with short lengths.
fn cbor_like() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        (0_u8..8, 0_u8..24).prop_map(|(major, info)| vec![(major << 5) | info]),
        (0_u8..8, any::<u8>()).prop_map(|(major, value)| vec![(major << 5) | 24, value]),
        Just(vec![0xd2, 0x84]),
        Just(vec![0xd8, 0x60, 0x84]),
        Just(vec![0xd8, 0x62, 0x84]),
        Just(vec![0xc2, 0x41, 0x05]),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(head, 0..200).prop_map(|heads| heads.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn noise_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(!read_with_everything(&bytes));
    }

    #[test]
    fn noise_that_looks_like_cbor_is_refused_without_a_panic(bytes in cbor_like()) {
        prop_assert!(!read_with_everything(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_message_with_a_piece_of_another_in_it_is_refused_without_a_panic(
        into in 0..MESSAGES.len(),
        from in 0..MESSAGES.len(),
        at in any::<prop::sample::Index>(),
        start in any::<prop::sample::Index>(),
        length in 1_usize..64,
    ) {
        let (into, from) = (&MESSAGES[into], &MESSAGES[from]);
        let (at, start) = (at.index(into.len()), start.index(from.len()));
        let piece = &from[start..from.len().min(start + length)];
        let mut mixed = into.clone();
        let end = mixed.len().min(at + piece.len());
        mixed.splice(at..end, piece.iter().copied());
        prop_assume!(!MESSAGES.contains(&mixed));
        prop_assert!(!read_with_everything(&mixed));
    }
}
