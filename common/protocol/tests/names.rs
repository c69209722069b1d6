//! What messages are called, who may approve them, and what is said of a file that lies in the wrong place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use mintmark_protocol::device_secret::derivation_context;
use mintmark_protocol::dossier::Dossier;
use mintmark_protocol::envelope::{Kind, claim};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::order::Order;
use mintmark_protocol::recognised::Recognised;
use mintmark_protocol::revocation::Target;
use mintmark_protocol::transport::Oaep;
use mintmark_protocol::trust::Role;
use support::*;

/// The beginning of a digest, in hexadecimal.
fn digits(digest: &Fingerprint, count: usize) -> String {
    digest.to_string().chars().take(count).collect()
}

#[test]
fn each_message_is_named_by_what_it_is_about() {
    // The mark of a vault, and that of an entitlement at a vault: so that two vaults may have the same number or name.
    let at_vault = |names: &str| digits(&Fingerprint::of(names.as_bytes()), 8);
    let request = digits(&enrolment_request_bytes().1, 16);
    let device = digits(&device_secret().spki_sha256, 16);
    let certificate = digits(&Fingerprint::of(&dossier().certificate), 32);
    let numbered = |name: &str, number: u64| format!("{name}-{number}-{}", at_vault("berlin/v1"));
    let entitled = format!("th200-2027q1-v1-{}", at_vault("berlin/v1/th200-2027q1"));
    for (bytes, name) in [
        (trust_bytes(), "trust-000001".to_owned()),
        (trust_second_bytes(), "trust-000002".to_owned()),
        (grant_bytes(), format!("enrol-{request}")),
        (entitlement_bytes(), entitled),
        (
            revocation_bytes(),
            numbered("revoke", revocation(Target::Vault).number),
        ),
        (
            clock_correction_bytes(),
            numbered("clock", clock_correction().number),
        ),
        (reanchor_bytes(), numbered("reanchor", reanchor().number)),
        (
            acknowledgement_bytes(),
            format!("ack-{:06}", acknowledgement().bundle_sequence),
        ),
        (log_tail_bytes(), format!("tail-{:06}", log_tail().part)),
        (dispatch_bytes(), "dispatch-1-000002".to_owned()),
        (sealed_bundle().bytes, format!("{}-000002", lineage())),
        (
            device_secret_bytes(),
            format!("{}-{device}", device_secret().label),
        ),
        (dossier_bytes(), format!("dossier-{certificate}")),
        (status_bytes(), "status-1800080000".to_owned()),
        (report_bytes(), "report-1800090000".to_owned()),
        (audit_grant_bytes(), "grant-1800090000".to_owned()),
        (backup_bytes(), "backup-1800100000".to_owned()),
        (transcript_bytes(), "transcript-1800110000".to_owned()),
    ] {
        assert_eq!(claim(&bytes, bytes.len()).unwrap().context.id, name);
    }
    assert_eq!(
        acknowledgement().object_id(),
        named(&acknowledgement_bytes())
    );
    assert_eq!(
        Dossier::object_id(&dossier().certificate),
        named(&dossier_bytes())
    );
}

fn named(bytes: &[u8]) -> String {
    claim(bytes, bytes.len()).unwrap().context.id
}

#[test]
fn each_type_of_order_is_approved_by_one_role_and_nothing_else_by_any() {
    let sent = [
        (trust_bytes(), Some(Role::Trust)),
        (grant_bytes(), Some(Role::Enrol)),
        (entitlement_bytes(), Some(Role::Mint)),
        (revocation_bytes(), Some(Role::Revoke)),
        (clock_correction_bytes(), Some(Role::Enrol)),
        (reanchor_bytes(), Some(Role::Enrol)),
        (acknowledgement_bytes(), None),
        (dispatch_bytes(), None),
        (sealed_bundle().bytes, None),
        (log_tail_bytes(), None),
        (audit_grant_bytes(), None),
    ];
    for (bytes, role) in sent {
        let kind = claim(&bytes, bytes.len()).unwrap().context.kind;
        assert_eq!(Role::for_kind(kind), role, "{kind}");
    }
}

#[test]
fn an_order_says_until_when_it_may_be_approved() {
    fn until<T: Order>(order: &T) -> u64 {
        order.approve_until()
    }
    assert_eq!(until(&grant()), grant().approve_until);
    assert_eq!(until(&entitlement()), entitlement().approve_until);
    let revocation = revocation(Target::Vault);
    assert_eq!(until(&revocation), revocation.approve_until);
    assert_eq!(until(&clock_correction()), clock_correction().approve_until);
    assert_eq!(until(&reanchor()), reanchor().approve_until);
}

#[test]
fn roles_targets_and_kinds_of_keys_are_printed_as_they_are_written() {
    for role in Role::ALL {
        assert_eq!(role.to_string().parse(), Ok(role));
    }
    for key in &entitlement().keys {
        assert_eq!(key.algorithm.to_string(), key.algorithm.as_str());
        assert_eq!(key.usage.to_string(), key.usage.as_str());
    }
    for part in audit_grant().parts {
        assert_eq!(part.kind.to_string().parse(), Ok(part.kind));
    }
    assert_eq!(dossier().state.state.to_string(), "scrapped");
    assert_eq!(report().format.to_string(), "csv");
    let account = entitlement().products[0].account;
    assert_eq!(account.to_string(), account.number().to_string());
    let id = entitlement().id;
    assert_eq!(
        Target::Entitlement(id).to_string(),
        "entitlement th200-2027q1"
    );
}

#[test]
fn the_secret_of_a_device_is_derived_for_its_key_label_and_its_name() {
    let secret = device_secret();
    let context = derivation_context(&secret.label, &secret.device_id);
    let expected = forge::write(&ciborium::Value::Array(vec![
        secret.label.as_str().into(),
        secret.device_id.as_str().into(),
    ]));
    assert_eq!(context, expected);
}

#[test]
fn the_numbers_of_key_transport_are_those_of_the_specifications() {
    // RFC 8230 section 3, and RFC 9679 section 4 with the COSE_Key of RFC 8230 section 4.
    assert_eq!(Oaep::Sha1.algorithm(), -40);
    assert_eq!(Oaep::Sha256.algorithm(), -41);
    let key = transport_key();
    let public = forge::write(&forge::map([
        (1, 3.into()),
        (-1, forge::bytes(key.modulus.clone())),
        (-2, forge::bytes(key.exponent.clone())),
    ]));
    assert_eq!(key.thumbprint().as_bytes()[..], forge::sha256(&public)[..]);
}

#[test]
fn signatures_of_those_who_left_are_left_out_and_counted() {
    let signed = || collected(&entitlement_proposal(), &[signing(ALICE), signing(BOB)]);
    let mut proposal = signed();
    assert_eq!(proposal.retain_holders(&[manifest()], Role::Mint), 0);
    assert_eq!(proposal.signature_count(), 2);
    assert_eq!(proposal.retain_holders(&[], Role::Mint), 2);
    assert_eq!(proposal.signature_count(), 0);
    let mut alone = collected(&entitlement_proposal(), &[signing(ALICE), stranger()]);
    assert_eq!(alone.retain_holders(&[manifest()], Role::Mint), 1);
    assert_eq!(alone.signature_count(), 1);
}

#[test]
fn a_file_that_lies_in_the_wrong_place_is_called_by_its_type_and_a_draft_by_its_lack_of_officers() {
    let draft = drafted(&entitlement_proposal());
    let seen = |bytes: &[u8]| Recognised::of(bytes);
    assert_eq!(seen(&draft), Some(Recognised::Draft(Kind::Entitlement)));
    assert_eq!(
        seen(&entitlement_bytes()),
        Some(Recognised::Approved(Kind::Entitlement))
    );
    assert_eq!(
        seen(&dispatch_bytes()),
        Some(Recognised::Message(Kind::Dispatch))
    );
    let wanted = |found| matches!(found, Recognised::Draft(_));
    assert_eq!(Recognised::correction(&draft, wanted), None);
    assert_eq!(Recognised::correction(b"noise", wanted), None);
    let said = Recognised::correction(&dossier_bytes(), wanted).unwrap();
    assert_eq!(
        said,
        "it is a message of type `dossier`: `hq device verify` takes it"
    );
}

#[test]
fn what_a_vault_signed_of_its_log_is_read_as_what_it_is() {
    use mintmark_protocol::fork::{ForkProof, Statement};
    let key = vault_sign().public;
    let Sealed {
        bundle: content,
        bytes: bundle,
        ..
    } = sealed_bundle();
    let declaration = restore_declaration_bytes();
    let opened = Statement::open(&bundle, &vault(), &key).unwrap();
    assert!(opened.bundle().is_some() && opened.declaration().is_none());
    assert_eq!(opened.size(), content.checkpoint.size);
    let opened = Statement::open(&declaration, &vault(), &key).unwrap();
    assert!(opened.bundle().is_none() && opened.declaration().is_some());
    assert_eq!(opened.size(), restore_declaration().size);

    let proof = ForkProof {
        trust: vec![trust_bytes(), trust_second_bytes()],
        identity_certificate: vec![0x30, 0x00],
        statements: [bundle.clone(), declaration],
        opening: Some(bundle.clone()),
        consistency: vec![Fingerprint::of(b"root"), Fingerprint::of(b"step")],
    };
    let read = ForkProof::from_cbor(&proof.to_cbor()).unwrap();
    assert_eq!(read, proof);
    assert_eq!(read.sender().unwrap(), vault());
    let opening = read.opening(&vault(), &key).unwrap().unwrap();
    assert_eq!(*opening.content(), content);
    for known in [
        pinned().fingerprint(),
        Fingerprint::of(&manifest_second().to_cbor()),
    ] {
        let manifests = read.manifests(&known).unwrap();
        let versions: Vec<u64> = manifests.iter().map(|m| m.content().version).collect();
        assert_eq!(versions, [1, 2]);
    }
    let unknown = read.manifests(&Fingerprint::of(b"none")).unwrap_err();
    assert_eq!(unknown.code(), "FINGERPRINT-MISMATCH");
    // A proof is one file: any byte of it that is another makes it none.
    let mut other = proof.to_cbor();
    let end = other.len() - 100;
    other[end] ^= 1;
    assert!(ForkProof::from_cbor(&other).is_err());
    let bare = ForkProof {
        opening: None,
        trust: Vec::new(),
        ..proof
    };
    assert!(ForkProof::from_cbor(&bare.to_cbor()).is_err());
}
