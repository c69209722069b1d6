//! Attacks on the order of things: what is old, what is too new, what never comes, what does not belong together.

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::trust::TrustManifest;
use p256::ecdsa::Signature;
use serde_json::{Value, json};

use super::super::forge::{self, Parts};
use super::super::home::{fingerprint, vector};
use super::super::keys::key;
use super::super::story::{
    self, DAY, END, NEW_YEAR, approved, entitlement, grant, lineage, manifest_second,
    pinned_second, propose, vault, vault_named,
};
use super::{Attack, Verdict, dispatch, dispatch_for, entitling, next, seal, wrapped};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        arbitrary_package(),
        rollback(),
        replay(),
        fast_forward(),
        freeze(),
        mix_and_match(),
        wrong_recipient(),
        surreptitious_re_encryption(),
        dispatch_key_far_time(),
    ]
}

fn arbitrary_package() -> Attack {
    let of_strangers = {
        let mut stolen = story::second_entitlement();
        stolen.products[0].units = 1_000_000;
        let proposal = propose(&stolen, &manifest_second());
        approved(&proposal, &["stranger-sign"])
    };
    let trust = {
        let mut theirs = manifest_second();
        theirs.version = 3;
        theirs.previous = Some(pinned_second().fingerprint());
        theirs.officers.truncate(1);
        theirs.officers[0].signing_keys = vec![key("stranger-sign").public];
        theirs.thresholds = [1; 4];
        approved(&theirs.propose().unwrap(), &["stranger-sign"])
    };
    let resigned = {
        let parts = next();
        let id = forge::bytes(forge::key_id(&key("stranger-sign").public));
        let header = forge::with(&parts.protected, 4, id);
        parts.with_protected(header).signed(&[key("stranger-sign")])
    };
    Attack::new(
        "arbitrary-package",
        "Somebody without any key of headquarters writes packages of their own.",
        "Units that nobody granted, or officers that nobody appointed.",
    )
    .vault(
        "dispatch-by-a-stranger.cose",
        "the next dispatch, signed by a key that nobody lists",
        Verdict::Nothing("SIGNER-UNKNOWN", 1),
        resigned,
    )
    .vault(
        "entitlement-by-a-stranger.cose",
        "a million units, approved by a key that nobody lists, in an authentic dispatch",
        Verdict::Content("SIGNER-UNKNOWN"),
        entitling(of_strangers),
    )
    .vault_at(
        "trust-by-a-stranger.cose",
        "a trust manifest of the attacker's own officers, as if it followed",
        "trust-000003.cose",
        Verdict::Nothing("THRESHOLD-NOT-MET", 1),
        trust,
    )
    .vault(
        "no-message.cose",
        "bytes that are no message at all",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        b"this is no message of anybody's".to_vec(),
    )
}

/// A grant that officers who still hold the role have approved.
fn grant_again() -> Vec<u8> {
    let proposal = grant()
        .propose(&manifest_second(), &key("vault-agree").public)
        .unwrap();
    approved(&proposal, &["bob-sign", "carol-sign"])
}

fn rollback() -> Attack {
    let old = approved(
        &propose(&entitlement(), &manifest_second()),
        &["bob-sign", "carol-sign"],
    );
    Attack::new(
        "rollback",
        "Something that was in force once and has been superseded is offered again, by somebody who kept it.",
        "The terms from before an amendment, or the officers from before they were removed.",
    )
    .vault(
        "superseded-entitlement.cose",
        "version 1 of the entitlement, validly approved, in a new dispatch, after version 2",
        Verdict::Content("ENTITLEMENT-VERSION"),
        entitling(old),
    )
    .vault_at(
        "superseded-trust.cose",
        "trust manifest 1, after version 2",
        "trust-000001.cose",
        Verdict::Already,
        vector("trust-manifest-1.cose"),
    )
}

/// A COSE_Sign1 with the other valid signature that goes with the one it has.
pub(super) fn turned(message: &[u8]) -> Vec<u8> {
    let mut parts = Parts::of(message);
    let signature = Signature::from_slice(parts.last.as_bytes().unwrap()).unwrap();
    let (r, s) = signature.split_scalars();
    let other = Signature::from_scalars(r, -s).unwrap();
    assert_ne!(signature, other);
    parts.last = forge::bytes(other.to_bytes().to_vec());
    parts.write()
}

fn replay() -> Attack {
    let again = wrapped(Kind::Entitlement, vector("amendment.cose"));
    let mut granted = dispatch(Kind::EnrolmentGrant, grant().object_id(), 1, grant_again());
    granted.certificates = vec![
        story::identity(),
        story::device_ca().certificate_der().to_vec(),
    ];
    Attack::new(
        "replay",
        "A package that was imported before is imported again, as it was or in a new dispatch.",
        "Its units a second time.",
    )
    .vault_at(
        "dispatch-2-again.cose",
        "the dispatch that brought the entitlement",
        "to-berlin_v1/dispatch-1-000002.cose",
        Verdict::Already,
        vector("dispatch-2.cose"),
    )
    .vault_at(
        "dispatch-2-with-its-signature-turned.cose",
        "the same dispatch under the other signature that ECDSA has for it (s for n - s), which anybody can compute",
        "to-berlin_v1/dispatch-1-000002.cose",
        Verdict::Already,
        turned(&vector("dispatch-2.cose")),
    )
    .vault(
        "dispatch-2-as-the-next.cose",
        "the same bytes under the name of the next dispatch: names prove nothing",
        Verdict::Already,
        vector("dispatch-2.cose"),
    )
    .vault(
        "amendment-in-a-new-dispatch.cose",
        "the amendment that is in force, in a new dispatch: the same thing again adds nothing",
        Verdict::Harmless,
        again,
    )
    .vault(
        "grant-in-a-new-dispatch.cose",
        "the enrolment grant, approved anew, for a vault that is enrolled",
        Verdict::Content("GRANT-REPEATED"),
        seal(&granted),
    )
}

fn fast_forward() -> Attack {
    let far = |epoch, sequence| {
        seal(&Dispatch {
            epoch,
            sequence,
            ..dispatch_for(vault())
        })
    };
    let trust = {
        let next = TrustManifest {
            version: 1000,
            previous: Some(pinned_second().fingerprint()),
            ..manifest_second()
        };
        approved(&next.propose().unwrap(), &["bob-sign", "carol-sign"])
    };
    Attack::new(
        "fast-forward",
        "A number as large as numbers get, so that everything honest afterwards looks old.",
        "The vault would never follow headquarters again.",
    )
    .vault_at(
        "far-sequence.cose",
        "an authentic dispatch with sequence 2^62",
        "to-berlin_v1/dispatch-1-4611686018427387904.cose",
        Verdict::Nothing("DISPATCH-GAP", 3),
        far(1, 1 << 62),
    )
    .vault_at(
        "far-epoch.cose",
        "an authentic dispatch of epoch 2^62, which no manifest opened",
        "to-berlin_v1/dispatch-4611686018427387904-000005.cose",
        Verdict::Nothing("DISPATCH-EPOCH", 3),
        far(1 << 62, 5),
    )
    .vault_at(
        "far-trust.cose",
        "trust manifest 1000, approved by a threshold, after version 2",
        "trust-001000.cose",
        Verdict::Nothing("TRUST-MISSING", 3),
        trust,
    )
}

/// The first revocation, of the entitlement that is in force.
pub(super) fn revocation() -> Revocation {
    Revocation::from_cbor(&vector("revocation.cbor")).unwrap()
}

fn freeze() -> Attack {
    Attack::new(
        "freeze",
        "Whoever carries the stick lets nothing new through: no acknowledgement, no amendment, no manifest.",
        "The vault would go on for ever under terms that headquarters has changed, and unheard.",
    )
    .vault_at(
        "newest-that-is-let-through.cose",
        "dispatch 4 again and again, for 20 days: the vault stops by itself, for nobody has acknowledged its log",
        "to-berlin_v1/dispatch-1-000004.cose",
        Verdict::Already,
        vector("dispatch-4.cose"),
    )
    .with("time", NEW_YEAR + 28 * DAY)
    .with("issue", "CREDIT-DAYS-EXHAUSTED")
    .vault(
        "under-an-expired-manifest.cose",
        "the next dispatch, after the newest manifest that was let through has expired",
        Verdict::Nothing("TRUST-EXPIRED", 3),
        vector("dispatch-5.cose"),
    )
    .with("time", NEW_YEAR + 701 * DAY)
}

fn mix_and_match() -> Attack {
    let resigned = {
        let mut parts = next();
        parts.last = Parts::of(&vector("dispatch-4.cose")).last;
        parts.write()
    };
    let other_body = {
        let payload = Parts::of(&vector("dispatch-4.cose")).payload();
        super::next_of(|_| payload)
    };
    let other_approvals = {
        let mut parts = super::entitlement();
        parts.last = Parts::of(&vector("amendment.cose")).last;
        parts.write()
    };
    let other_key = {
        let mut mixed = story::second_entitlement();
        let [first, second] = &mut mixed.keys[..] else {
            unreachable!("it has two keys");
        };
        std::mem::swap(&mut first.delivery, &mut second.delivery);
        approved(
            &propose(&mixed, &manifest_second()),
            &["bob-sign", "carol-sign"],
        )
    };
    let rotated = {
        let sent = Parts::of(&vector("dispatch-9.cose")).payload();
        let certificates = forge::entry(&sent, 12).into_array().unwrap();
        let content = vector("rotation-grant.cose");
        seal(&Dispatch {
            certificates: certificates
                .into_iter()
                .map(|der| der.into_bytes().unwrap())
                .collect(),
            ..dispatch(Kind::EnrolmentGrant, "x".to_owned(), 1, content)
        })
    };
    let other_past = seal(&Dispatch {
        previous: Some(fingerprint("dispatch-3")),
        ..dispatch_for(vault())
    });
    Attack::new(
        "mix-and-match",
        "Parts of authentic packages, put together as nobody sent them.",
        "A combination that nobody approved: the units of one package with the approvals of another.",
    )
    .vault(
        "signature-of-another.cose",
        "the next dispatch with the signature of the one before",
        Verdict::Nothing("SIGNATURE-INVALID", 1),
        resigned,
    )
    .vault(
        "body-of-another.cose",
        "the header of the next dispatch over the body of the one before, signed with the dispatch key",
        Verdict::Nothing("MESSAGE-PARTS", 1),
        other_body,
    )
    .vault(
        "approvals-of-another.cose",
        "an entitlement with the officers' signatures from the amendment",
        Verdict::Content("SIGNATURE-INVALID"),
        entitling(other_approvals),
    )
    .vault(
        "device-ca-that-was-not-asked-for.cose",
        "an approved rotation to a device CA that this vault has made no key for and never asked for",
        Verdict::Content("GRANT-MISMATCH"),
        rotated,
    )
    .vault(
        "successor-in-place-of-the-vault.cose",
        "the grant of the vault that is to replace this one",
        Verdict::Content("MESSAGE-ADDRESS"),
        wrapped(Kind::EnrolmentGrant, vector("succession-grant.cose")),
    )
    .vault(
        "key-of-another.cose",
        "an entitlement whose two keys are delivered under each other's label: it is in force, and neither key is taken in",
        Verdict::Harmless,
        entitling(other_key),
    )
    .with("entitles", "gw1-2027q1")
    .with("key_refused", "KEY-DELIVERY")
    .vault(
        "past-of-another.cose",
        "an authentic dispatch that follows another past than the one that the vault saw",
        Verdict::Nothing("DISPATCH-CHAIN", 4),
        other_past,
    )
}

/// An entitlement for the vault of Munich, approved as it should be.
fn for_munich() -> Vec<u8> {
    let mut theirs = story::second_entitlement();
    theirs.vault = vault_named("munich");
    let proposal = theirs
        .propose(&manifest_second(), &key("munich-vault-agree").public)
        .unwrap();
    approved(&proposal, &["bob-sign", "carol-sign"])
}

fn wrong_recipient() -> Attack {
    let not_for_us = {
        let proposal = story::second_entitlement()
            .propose(&manifest_second(), &key("munich-vault-agree").public)
            .unwrap();
        approved(&proposal, &["bob-sign", "carol-sign"])
    };
    Attack::new(
        "wrong-recipient",
        "A package for another vault is put into this one's folder.",
        "One grant of units, spent at two sites.",
    )
    .vault(
        "dispatch-for-another-vault.cose",
        "an authentic dispatch for munich/v1",
        Verdict::Nothing("MESSAGE-ADDRESS", 1),
        seal(&dispatch_for(vault_named("munich"))),
    )
    .vault(
        "entitlement-for-another-vault.cose",
        "an authentic dispatch for this vault that wraps what officers approved for munich/v1",
        Verdict::Content("MESSAGE-ADDRESS"),
        entitling(for_munich()),
    )
    .vault(
        "encrypted-for-another-vault.cose",
        "an entitlement that names this vault, approved, and is not encrypted to it",
        Verdict::Content("NOT-RECIPIENT"),
        entitling(not_for_us),
    )
}

fn surreptitious_re_encryption() -> Attack {
    let theirs = Parts::of(&for_munich());
    let plaintext = forge::decrypt(&theirs.payload(), &key("munich-vault-agree"));
    let inner = Parts::of(&theirs.payload());
    let again = |protected: Vec<u8>| {
        forge::encrypt(protected, &plaintext, &[key("vault-agree").public]).write()
    };
    let readdressed = |header: &[u8]| forge::with_context(header, 4, "vault:berlin/v1");
    let same_header = {
        let mut parts = theirs.clone().with_payload(again(inner.protected.clone()));
        parts.protected = readdressed(&parts.protected);
        parts.write()
    };
    let other_header = {
        let mut parts = theirs
            .clone()
            .with_payload(again(readdressed(&inner.protected)));
        parts.protected = readdressed(&parts.protected);
        parts.write()
    };
    Attack::new(
        "surreptitious-re-encryption",
        "A vault decrypts what officers approved for it, and encrypts it for another vault, under the officers' signatures.",
        "Terms of one site in force at another, as if officers had said so.",
    )
    .vault(
        "encrypted-anew.cose",
        "munich's plaintext, encrypted to berlin inside, addressed to berlin outside",
        Verdict::Content("SIGNATURE-INVALID"),
        entitling(same_header),
    )
    .vault(
        "encrypted-and-addressed-anew.cose",
        "the same, with the address changed inside too",
        Verdict::Content("SIGNATURE-INVALID"),
        entitling(other_header),
    )
}

/// Headquarters holds the second bundle, says the dispatch key, at this time.
fn acknowledgement(hq_time: u64, made_at: u64) -> Vec<u8> {
    let said: Value = serde_json::from_slice(&vector("audit-bundle-2.json")).unwrap();
    let digest = |value: &Value| {
        let hexadecimal = value.as_str().unwrap();
        hexadecimal[2..hexadecimal.len() - 1].parse().unwrap()
    };
    let acknowledgement = Acknowledgement {
        salt: [1; 32],
        vault: vault(),
        hq_time,
        lineage: lineage(),
        bundle_sequence: 2,
        bundle_fingerprint: fingerprint("audit-bundle-2"),
        log_size: said["content"]["8"]["1"].as_u64().unwrap(),
        log_root: digest(&said["content"]["8"]["2"]),
        findings: 0,
    };
    let bytes = acknowledgement
        .seal(&manifest_second(), &key("vault-agree").public, &|m| {
            key("dispatch").sign(m)
        })
        .unwrap();
    let mut dispatch = dispatch(Kind::Acknowledgement, acknowledgement.object_id(), 1, bytes);
    dispatch.made_at = made_at;
    seal(&dispatch)
}

fn dispatch_key_far_time() -> Attack {
    let far = 4_294_967_296;
    Attack::new(
        "dispatch-key-far-time",
        "Somebody with the dispatch key states a time far from the true one.",
        "A vault whose time ran ahead would find its entitlements over, its certificates would lie, and no honest clock \
         would be believed again; one whose time ran back would find its rates unspent.",
    )
    .vault(
        "far-ahead.cose",
        "an acknowledgement that says it is the year 2106: true of the log, and its time moves nothing",
        Verdict::Harmless,
        acknowledgement(far, far),
    )
    .with("acknowledges", true)
    .vault(
        "far-behind.cose",
        "an acknowledgement that says it is 1970",
        Verdict::Harmless,
        acknowledgement(0, 0),
    )
    .with("acknowledges", true)
    .vault(
        "far-made.cose",
        "the next entitlement in a dispatch that says it was made in the year 2106",
        Verdict::Harmless,
        {
            let content = vector("second-entitlement.cose");
            let mut dispatch = dispatch(
                Kind::Entitlement,
                story::second_entitlement().object_id(),
                1,
                content,
            );
            dispatch.made_at = far;
            seal(&dispatch)
        },
    )
    .with("entitles", json!("gw1-2027q1"))
    .with("made_honestly_at", END)
    .vault(
        "correction-by-the-dispatch-key.cose",
        "a clock correction to the year 2106, which the dispatch key approves: officers alone can move a clock",
        Verdict::Content("SIGNER-UNKNOWN"),
        wrapped(Kind::ClockCorrection, {
            let mut far = ClockCorrection::from_cbor(&vector("clock-correction.cbor")).unwrap();
            far.time = 4_294_967_296;
            let proposal = far.propose(&manifest_second(), &key("vault-agree").public).unwrap();
            approved(&proposal, &["dispatch"])
        }),
    )
}
