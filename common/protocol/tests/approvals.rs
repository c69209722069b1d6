//! Who may sign what: each test breaks one rule about signers and names the code that refuses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ciborium::Value;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::encryption::{FormerKeys, Opener};
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::trust::{Role, TrustManifest};
use mintmark_protocol::{Error, KeyFailure};
use support::forge::{Parts, signature_header};
use support::*;
use zeroize::Zeroizing;

#[track_caller]
fn assert_code<T>(result: Result<Verified<T>, Error>, code: &str) {
    match result {
        Ok(_) => panic!("accepted, not refused with {code}"),
        Err(error) => assert_eq!(error.code(), code, "{error}"),
    }
}

/// The entitlement, its body untouched, signed by these keys.
fn entitlement_by(keys: &[Key]) -> Vec<u8> {
    Parts::of(&entitlement_bytes()).signed(keys)
}

#[test]
fn signatures_made_without_the_crate_are_accepted() {
    open_entitlement(&entitlement_by(&[signing(BOB), signing(CAROL)])).unwrap();
}

#[test]
fn one_officer_is_below_the_threshold() {
    let result = open_entitlement(&entitlement_by(&[signing(ALICE)]));
    assert_code(result, "THRESHOLD-NOT-MET");
}

#[test]
fn a_stripped_signature_leaves_too_few() {
    let mut parts = Parts::of(&entitlement_bytes());
    parts.inner().pop();
    assert_code(open_entitlement(&parts.write()), "THRESHOLD-NOT-MET");
}

#[test]
fn a_draft_is_no_entitlement() {
    let draft = entitlement_proposal().to_bytes().unwrap();
    assert_code(open_entitlement(&draft), "THRESHOLD-NOT-MET");
}

#[test]
fn an_officer_who_signs_twice_with_one_key_is_refused() {
    let keys = [signing(ALICE), signing(ALICE)];
    assert_code(open_entitlement(&entitlement_by(&keys)), "SIGNER-DUPLICATE");
}

#[test]
fn an_officer_who_signs_with_two_keys_is_refused() {
    let keys = [signing(ALICE), signing_second(ALICE)];
    assert_code(open_entitlement(&entitlement_by(&keys)), "SIGNER-DUPLICATE");
}

#[test]
fn two_keys_of_one_officer_are_refused_beside_enough_others() {
    let keys = [signing(ALICE), signing_second(ALICE), signing(BOB)];
    assert_code(open_entitlement(&entitlement_by(&keys)), "SIGNER-DUPLICATE");
}

#[test]
fn an_officers_second_key_counts_as_well_as_the_first() {
    open_entitlement(&entitlement_by(&[signing_second(ALICE), signing(BOB)])).unwrap();
}

#[test]
fn a_signature_by_an_unlisted_key_is_refused_beside_enough_others() {
    let keys = [signing(ALICE), signing(BOB), stranger()];
    assert_code(open_entitlement(&entitlement_by(&keys)), "SIGNER-UNKNOWN");
}

#[test]
fn an_officers_agreement_key_is_no_signing_key() {
    let keys = [signing(ALICE), agreement(BOB)];
    assert_code(open_entitlement(&entitlement_by(&keys)), "SIGNER-UNKNOWN");
}

#[test]
fn an_officer_without_the_role_is_refused_beside_enough_others() {
    let keys = [signing(ALICE), signing(BOB), signing(DAVE)];
    assert_code(open_entitlement(&entitlement_by(&keys)), "SIGNER-ROLE");
}

#[test]
fn the_dispatch_key_approves_nothing() {
    let keys = [signing(ALICE), dispatch_key()];
    assert_code(open_entitlement(&entitlement_by(&keys)), "SIGNER-UNKNOWN");
}

#[test]
fn a_signature_in_anothers_name_is_refused() {
    let mut parts = Parts::of(&entitlement_bytes());
    let forged = parts.signature(&stranger(), &signature_header(&signing(BOB)));
    parts.inner()[1] = forged;
    assert_code(open_entitlement(&parts.write()), "SIGNATURE-INVALID");
}

#[test]
fn a_signature_on_another_entitlement_is_refused() {
    let mut other = entitlement();
    other.products[0].units += 1;
    let other = other.propose(&manifest(), &vault_agree().public).unwrap();
    let mut other = Parts::of(&approved(&other, &[signing(ALICE), signing(BOB)]));
    let mut parts = Parts::of(&entitlement_bytes());
    parts.inner()[1] = other.inner()[1].clone();
    assert_code(open_entitlement(&parts.write()), "SIGNATURE-INVALID");
}

#[test]
fn an_approval_of_another_draft_is_not_collected() {
    let mut draft = entitlement_proposal();
    // Drafted again, it has another content key: the same words are another body.
    let other = collected(&entitlement_proposal(), &[signing(ALICE)]);
    assert_eq!(draft.collect(&other).unwrap_err().code(), "MESSAGE-PARTS");
}

#[test]
fn a_signature_of_the_wrong_length_is_refused() {
    for length in [0, 63, 65, 72] {
        let mut parts = Parts::of(&entitlement_bytes());
        parts.inner()[0].as_array_mut().unwrap()[2] = Value::Bytes(vec![1; length]);
        assert_code(open_entitlement(&parts.write()), "SIGNATURE-INVALID");
    }
}

#[test]
fn a_signature_of_zeros_is_refused() {
    let mut parts = Parts::of(&entitlement_bytes());
    for signature in parts.inner() {
        signature.as_array_mut().unwrap()[2] = Value::Bytes(vec![0; 64]);
    }
    assert_code(open_entitlement(&parts.write()), "SIGNATURE-INVALID");
}

#[test]
fn more_signatures_than_there_may_be_officers_are_refused() {
    let keys: Vec<Key> = (1..=65).map(Key::new).collect();
    assert_code(open_entitlement(&entitlement_by(&keys)), "MESSAGE-SHAPE");
}

#[test]
fn a_grant_needs_the_role_that_enrols() {
    let mut trust = manifest();
    trust.officers[2].roles = [Role::Mint].into();
    let proposal = trust.propose().unwrap();
    let trust = approved(&proposal, &[signing(ALICE), signing(BOB)]);
    let pinned = TrustManifest::pin(&trust, &proposal.fingerprint(), None).unwrap();
    let open = |keys: &[Key]| {
        let bytes = Parts::of(&grant_bytes()).signed(keys);
        vault_agree().open(|opener| EnrolmentGrant::open(&bytes, &pinned, &vault(), opener))
    };
    open(&[signing(ALICE), signing(BOB)]).unwrap();
    assert_code(open(&[signing(ALICE), signing(CAROL)]), "SIGNER-ROLE");
}

#[test]
fn a_grant_carries_the_request_that_it_answers() {
    let proposed = |grant: &EnrolmentGrant| {
        let proposal = grant.propose(&manifest(), &vault_agree().public).unwrap();
        let bytes = approved(&proposal, &[signing(ALICE), signing(BOB)]);
        let read = vault_agree().open(|opener| EnrolmentGrant::proposed(&proposal, opener));
        let opened = vault_agree()
            .open(|opener| EnrolmentGrant::open(&bytes, &pinned(), &vault(), opener))
            .map(|grant| grant.into_content());
        let code = |result: Result<_, mintmark_protocol::Error>| match result {
            Ok(_) => "",
            Err(error) => error.code(),
        };
        (code(read), code(opened))
    };
    let honest = grant();
    assert_eq!(proposed(&honest), ("", ""));
    let mut missing = honest.clone();
    missing.request.clear();
    assert_eq!(proposed(&missing), ("MESSAGE-ENCODING", "MESSAGE-ENCODING"));
    let mut another = honest.clone();
    another.request_fingerprint = Fingerprint::of(b"another");
    let mismatch = "FINGERPRINT-MISMATCH";
    assert_eq!(proposed(&another), (mismatch, mismatch));
    let mut lineage = honest;
    lineage.lineage = mintmark_protocol::identifier::Lineage::new([0xee; 16]);
    assert_eq!(proposed(&lineage), ("MESSAGE-PARTS", "MESSAGE-PARTS"));
}

#[test]
fn only_the_dispatch_key_signs_acknowledgements_and_dispatches() {
    let parts = Parts::of(&acknowledgement_bytes());
    // With the dispatch key's id, and with the stranger's own.
    let forged = parts.clone().signed(&[stranger()]);
    assert_code(open_acknowledgement(&forged), "SIGNATURE-INVALID");
    let own = forge::with(
        &parts.protected,
        4,
        Value::Bytes(forge::key_id(&stranger().public)),
    );
    let forged = parts.with_protected(own).signed(&[stranger()]);
    assert_code(open_acknowledgement(&forged), "SIGNER-UNKNOWN");

    let (bytes, _) = dispatch_named("ack-000003")
        .seal(&manifest(), &|m| report_key().sign(m))
        .unwrap();
    assert_code(
        Dispatch::open(&bytes, &pinned(), &vault()),
        "SIGNATURE-INVALID",
    );
}

fn dispatch_named(id: &str) -> Dispatch {
    dispatch(
        mintmark_protocol::envelope::Kind::Acknowledgement,
        id,
        acknowledgement_bytes(),
    )
}

#[test]
fn only_the_vaults_own_key_signs_its_bundles() {
    let sealed = sealed_bundle();
    let other = Bundle::open(&sealed.bytes, &vault(), &stranger().public);
    assert_code(other, "SIGNER-UNKNOWN");
    let (forged, _) = sealed
        .bundle
        .seal(&vault_sign().public, &|m| stranger().sign(m))
        .unwrap();
    let forged = Bundle::open(&forged, &vault(), &vault_sign().public);
    assert_code(forged, "SIGNATURE-INVALID");
}

#[test]
fn a_request_that_is_not_signed_by_the_key_in_it_is_refused() {
    let (bytes, fingerprint) = enrolment_request().seal(&|m| stranger().sign(m)).unwrap();
    assert_code(
        EnrolmentRequest::open(&bytes, &fingerprint),
        "SIGNATURE-INVALID",
    );
    let (bytes, fingerprint) = officer_request().seal(&|m| stranger().sign(m)).unwrap();
    assert_code(
        OfficerRequest::open(&bytes, &fingerprint),
        "SIGNATURE-INVALID",
    );
}

#[test]
fn a_request_with_another_fingerprint_than_was_read_out_is_refused() {
    let other = Fingerprint::of(b"another");
    let (bytes, _) = enrolment_request_bytes();
    assert_code(
        EnrolmentRequest::open(&bytes, &other),
        "FINGERPRINT-MISMATCH",
    );
    assert_code(
        OfficerRequest::open(&officer_request_bytes(), &other),
        "FINGERPRINT-MISMATCH",
    );
    assert_code(
        TrustManifest::pin(&trust_bytes(), &other, None),
        "FINGERPRINT-MISMATCH",
    );
}

#[test]
fn a_key_operation_that_fails_is_not_the_messages_fault() {
    let failing = |_: &[u8]| Err("the token is gone".into());
    let draft = entitlement_proposal();
    let error = draft
        .approve(&signing(ALICE).public, &failing)
        .err()
        .unwrap();
    assert_eq!(error.code(), "KEY-OPERATION");
    let failing = |_: &p256::PublicKey| Err("the token is gone".into());
    let opener = Opener {
        public_key: &vault_agree().public,
        agree: &failing,
        former: None,
    };
    assert_eq!(
        draft.plaintext(Some(opener)).unwrap_err().code(),
        "KEY-OPERATION"
    );
}

/// Keys that a reader had before.
struct Former {
    keys: Vec<Key>,
    public: Vec<p256::PublicKey>,
    /// Of these, how many are lost.
    lost: usize,
}

impl Former {
    fn new(keys: Vec<Key>, lost: usize) -> Self {
        let public = keys.iter().map(|key| key.public).collect();
        Self { keys, public, lost }
    }
}

impl FormerKeys for Former {
    fn public_keys(&self) -> &[p256::PublicKey] {
        &self.public
    }

    fn agree(
        &self,
        key: &p256::PublicKey,
        peer: &p256::PublicKey,
    ) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        let at = self.keys.iter().position(|known| known.public == *key);
        match at {
            Some(at) if at >= self.lost => self.keys[at].agree(peer),
            _ => Err("the token is gone".into()),
        }
    }
}

#[test]
fn what_was_encrypted_to_a_former_key_is_read_with_whichever_of_them_is_left() {
    let draft = entitlement_proposal();
    let read = |key: &Key, former: &Former| {
        let agree = |peer: &p256::PublicKey| key.agree(peer);
        let opener = Opener {
            public_key: &key.public,
            agree: &agree,
            former: Some(former),
        };
        draft.plaintext(Some(opener)).map_err(|error| error.code())
    };
    let (new, stranger) = (Key::new(77), Key::new(78));
    let plain = read(&audit_key(), &Former::new(Vec::new(), 0)).unwrap();
    let keys = || vec![stranger.clone(), audit_key(), vault_agree()];
    assert_eq!(read(&new, &Former::new(keys(), 0)).unwrap(), plain);
    // The audit key is lost too.
    assert_eq!(read(&new, &Former::new(keys(), 2)).unwrap(), plain);
    assert_eq!(read(&new, &Former::new(keys(), 3)), Err("KEY-OPERATION"));
    let nobody = Former::new(vec![stranger.clone()], 0);
    assert_eq!(read(&new, &nobody), Err("NOT-RECIPIENT"));
}
