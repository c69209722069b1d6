//! The same attacks in the other direction: what somebody hostile brings to headquarters.

use ciborium::Value;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::segment::SegmentFacts;
use serde_json::json;

use super::super::forge::{self, Parts};
use super::super::home::vector;
use super::super::keys::key;
use super::super::salamander;
use super::super::story::{lineage, vault};
use super::{Attack, sha256};

const BUNDLE: &str = "audit-bundle";
const SEGMENT: &str = "audit-segment";

fn bundle() -> Parts {
    Parts::of(&vector("audit-bundle-2.cose"))
}

/// The second bundle with another header, signed by the vault itself.
fn bundle_under(header: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = bundle();
    let header = header(&parts.protected);
    parts.with_protected(header).signed(&[key("vault-sign")])
}

/// The second bundle with another payload, signed by the vault itself.
fn bundle_of(payload: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = bundle();
    let payload = payload(&parts.payload());
    parts.with_payload(payload).signed(&[key("vault-sign")])
}

/// The first bundle with these facts about its first segment, signed by the vault itself.
fn bundle_with(facts: SegmentFacts) -> Vec<u8> {
    let bytes = vector("audit-bundle-1.cose");
    let opened = Bundle::open(&bytes, &vault(), &key("vault-sign").public).unwrap();
    let mut bundle = opened.into_content();
    bundle.segments[0] = facts;
    bundle
        .seal(&key("vault-sign").public, &|m| key("vault-sign").sign(m))
        .unwrap()
        .0
}

fn facts() -> SegmentFacts {
    let bytes = vector("audit-bundle-1.cose");
    let opened = Bundle::open(&bytes, &vault(), &key("vault-sign").public).unwrap();
    opened.content().segments[0]
}

fn segment() -> Parts {
    Parts::of(&vector("audit-segment-1-1.cose"))
}

/// A segment and a bundle by the vault that describes it.
fn described(file: &[u8], plaintext: &[u8]) -> serde_json::Value {
    let facts = SegmentFacts {
        file_digest: sha256(file),
        file_bytes: file.len() as u64,
        commitment: sha256(plaintext),
        ..facts()
    };
    json!({"bundle": hex::encode(bundle_with(facts))})
}

fn readers() -> [p256::PublicKey; 2] {
    ["audit", "escrow"].map(|name| key(name).public)
}

/// Adds what an attack of this name does in this direction.
pub(super) fn added(attack: Attack) -> Attack {
    match attack.name {
        "arbitrary-package" => arbitrary_package(attack),
        "rollback" => attack.told(
            "an-older-log",
            "the vault's home is put back, and its next bundle has a number that headquarters holds another one of",
            "BUNDLE-FORK",
            json!({"live": "a_rolled_back_vault_is_found_out_at_headquarters"}),
        ),
        "replay" => attack.told(
            "the-same-bundle",
            "a bundle that headquarters holds is brought again: `already`, and nothing changes",
            "",
            json!({"live": "a_bundle_that_is_brought_again_changes_nothing"}),
        ),
        "fast-forward" => attack.told(
            "a-far-bundle",
            "a bundle, signed by the vault, with sequence 2^62",
            "BUNDLE-GAP",
            json!({"live": "a_bundle_of_the_far_future_is_held"}),
        ),
        "freeze" => attack.told(
            "no-bundle",
            "no bundle arrives: the vault's own credit runs out, which it cannot help",
            "CREDIT-DAYS-EXHAUSTED",
            json!({"live": "a_vault_that_hears_nothing_stops"}),
        ),
        "mix-and-match" => mix_and_match(attack),
        "wrong-recipient" => wrong_recipient(attack),
        "surreptitious-re-encryption" => re_encryption(attack),
        "split-plaintext" => split_plaintext(attack),
        "endless-data" => endless_data(attack),
        "signature-stripped" => {
            let mut parts = bundle();
            parts.last = forge::bytes([]);
            attack.opened(
                "hq",
                "bundle-without.cose",
                "a bundle with an empty signature",
                ("SIGNATURE-INVALID", BUNDLE),
                parts.write(),
            )
        }
        "unknown-critical-header" => attack.opened(
            "hq",
            "in-a-bundle.cose",
            "a critical parameter 99 in a bundle's protected header",
            ("MESSAGE-HEADER", BUNDLE),
            bundle_under(|header| {
                let header = forge::with(header, 2, Value::Array(vec![99.into()]));
                forge::with(&header, 99, 1)
            }),
        ),
        "algorithm-downgrade" => algorithm_downgrade(attack),
        "key-id-confusion" => key_id_confusion(attack),
        "non-deterministic-encoding" => attack.opened(
            "hq",
            "bundle-with-a-longer-integer.cose",
            "an integer in two bytes that fits one, under the vault's signature",
            ("MESSAGE-ENCODING", BUNDLE),
            bundle_of(|payload| [&payload[..1], &[0x18, 0x01], &payload[2..]].concat()),
        ),
        "duplicate-map-keys" => attack.opened(
            "hq",
            "in-a-bundle.cose",
            "key 1 twice in the payload",
            ("MESSAGE-ENCODING", BUNDLE),
            bundle_of(|payload| [&[payload[0] + 1], &[0x01, 0x01][..], &payload[1..]].concat()),
        ),
        "nested-counter-signatures" => attack.opened(
            "hq",
            "in-a-bundle.cose",
            "forty of them in a bundle's protected header",
            ("MESSAGE-HEADER", BUNDLE),
            bundle_under(|header| forge::with(header, 7, super::envelope::nested(40))),
        ),
        "trailing-bytes" => attack.opened(
            "hq",
            "after-a-bundle.cose",
            "one byte after a bundle",
            ("MESSAGE-ENCODING", BUNDLE),
            [vector("audit-bundle-2.cose"), vec![0]].concat(),
        ),
        "wrong-content-type" => attack
            .opened(
                "hq",
                "dispatch-as-a-bundle.cose",
                "headquarters' own dispatch, in the place of a bundle",
                ("MESSAGE-TYPE", BUNDLE),
                vector("dispatch-4.cose"),
            )
            .opened(
                "hq",
                "enrolment-as-a-bundle.cose",
                "what the same key signed when the vault asked to be let in",
                ("MESSAGE-TYPE", BUNDLE),
                vector("enrolment-request.cose"),
            ),
        _ => attack,
    }
}

fn arbitrary_package(attack: Attack) -> Attack {
    let stranger = forge::bytes(forge::key_id(&key("stranger-sign").public));
    let parts = bundle();
    let header = forge::with(&parts.protected, 4, stranger);
    let bytes = parts.with_protected(header).signed(&[key("stranger-sign")]);
    let request = {
        let mut theirs = super::super::story::enrolment_request();
        theirs.signing_key = key("stranger-sign").public;
        theirs.agreement_key = key("stranger-agree").public;
        theirs.seal(&|m| key("stranger-sign").sign(m)).unwrap().0
    };
    let officer = {
        let mut theirs = super::super::story::officer_request();
        theirs.signing_key = key("stranger-sign").public;
        theirs.agreement_key = key("stranger-agree").public;
        theirs.seal(&|m| key("stranger-sign").sign(m)).unwrap().0
    };
    attack
        .opened(
            "hq",
            "bundle-by-a-stranger.cose",
            "a bundle signed by a key that is not the vault's",
            ("SIGNER-UNKNOWN", BUNDLE),
            bytes,
        )
        .opened(
            "hq",
            "enrolment-of-a-stranger.cose",
            "an enrolment request in the vault's name, with the attacker's keys; the operator read out another fingerprint",
            ("FINGERPRINT-MISMATCH", "enrolment-request"),
            request,
        )
        .opened(
            "hq",
            "officer-request-of-a-stranger.cose",
            "an officer's request in alice's name, with the attacker's keys; alice read out another fingerprint",
            ("FINGERPRINT-MISMATCH", "officer-request"),
            officer,
        )
}

fn mix_and_match(attack: Attack) -> Attack {
    let payload = Parts::of(&vector("audit-bundle-1.cose")).payload();
    attack
        .opened(
            "hq",
            "body-of-another-bundle.cose",
            "the header and signature of the second bundle over the body of the first",
            ("SIGNATURE-INVALID", BUNDLE),
            bundle().with_payload(payload).write(),
        )
        .opened(
            "hq",
            "segment-of-another-bundle.cose",
            "a segment of the second bundle in the place of the first's",
            ("COMMITMENT-MISMATCH", SEGMENT),
            vector("audit-segment-2-1.cose"),
        )
        .opened(
            "hq",
            "approval-of-another-draft.cose",
            "an approval of the amendment, collected for the second entitlement",
            ("MESSAGE-PARTS", "collected"),
            {
                let mut parts = Parts::of(&vector("amendment.cose"));
                parts.inner().truncate(1);
                parts.write()
            },
        )
}

fn wrong_recipient(attack: Attack) -> Attack {
    let munich = |header: &[u8]| forge::with_context(header, 3, "vault:munich/v1");
    attack.opened(
        "hq",
        "bundle-of-another-vault.cose",
        "a bundle of munich/v1, signed by its own key, in the place of one of berlin/v1",
        ("MESSAGE-ADDRESS", BUNDLE),
        {
            let parts = bundle();
            let id = forge::bytes(forge::key_id(&key("munich-vault-sign").public));
            let header = forge::with(&munich(&parts.protected), 4, id);
            parts
                .with_protected(header)
                .signed(&[key("munich-vault-sign")])
        },
    )
}

fn re_encryption(attack: Attack) -> Attack {
    let plaintext = vector("audit-segment-1-1.cbor");
    attack.opened(
        "hq",
        "segment-encrypted-anew.cose",
        "an auditor who can read a segment encrypts the same records anew",
        ("COMMITMENT-MISMATCH", SEGMENT),
        forge::encrypt(segment().protected, &plaintext, &readers()).write(),
    )
}

fn split_plaintext(attack: Attack) -> Attack {
    let plaintext = vector("audit-segment-1-1.cbor");
    assert_eq!(plaintext[1..4], [0x00, 0x58, 0x20]);
    let protected = segment().protected;
    let keys = [[0x31; 32], [0x32; 32]];
    let additional = forge::additional_data(&protected);
    let text = salamander::ciphertext(
        [&keys[0], &keys[1]],
        &forge::IV,
        &additional,
        &plaintext,
        16,
    );
    let [audit, escrow] = readers();
    let mut forged = forge::encrypt_with(&keys[0], protected.clone(), &[], &[audit]);
    let other = forge::encrypt_with(&keys[1], protected, &[], &[escrow])
        .inner()
        .remove(0);
    forged.content = forge::bytes(text);
    forged.inner().push(other);
    let file = forged.write();
    let escrow_reads = forge::decrypt(&file, &key("escrow"));
    attack
        .opened(
            "hq",
            "segment-with-two-readings.cose",
            "headquarters' two keys read one segment differently; the vault committed to what the spare one reads",
            ("COMMITMENT-MISMATCH", SEGMENT),
            file.clone(),
        )
        .with("described", described(&file, &escrow_reads))
        .with("readings", json!(["audit", "escrow"]))
}

fn endless_data(attack: Attack) -> Attack {
    let plaintext = vector("audit-segment-1-1.cbor");
    let zeros = vec![0; (8 << 20) + 1];
    let bomb = forge::with(
        &plaintext,
        4,
        forge::bytes(zstd::bulk::compress(&zeros, 19).unwrap()),
    );
    let file = forge::encrypt(segment().protected, &bomb, &readers()).write();
    let facts = described(&file, &bomb);
    attack
        .opened(
            "hq",
            "segment-that-unpacks-too-far.cose",
            "a few hundred bytes that unpack to more than eight mebibytes of zeros",
            ("MESSAGE-SHAPE", SEGMENT),
            file,
        )
        .with("described", facts)
}

fn algorithm_downgrade(attack: Attack) -> Attack {
    let plaintext = vector("audit-segment-1-1.cbor");
    let header = forge::with(&segment().protected, 1, 1);
    let file = forge::encrypt(header, &plaintext, &readers()).write();
    let facts = described(&file, &plaintext);
    attack
        .opened(
            "hq",
            "bundle-hmac.cose",
            "a bundle under HMAC 256/256",
            ("MESSAGE-ALGORITHM", BUNDLE),
            bundle_under(|header| forge::with(header, 1, 5)),
        )
        .opened(
            "hq",
            "segment-a128gcm.cose",
            "a segment that says A128GCM, described by the vault as it is",
            ("MESSAGE-ALGORITHM", SEGMENT),
            file,
        )
        .with("described", facts)
}

fn key_id_confusion(attack: Attack) -> Attack {
    let by_ca = {
        let parts = bundle();
        let id = forge::bytes(forge::key_id(&key("device-ca").public));
        let header = forge::with(&parts.protected, 4, id);
        parts.with_protected(header).signed(&[key("device-ca")])
    };
    attack
        .opened(
            "hq",
            "bundle-by-another-key-of-the-vault.cose",
            "a bundle signed by the vault's device CA",
            ("SIGNER-UNKNOWN", BUNDLE),
            by_ca,
        )
        .opened(
            "hq",
            "stranger-as-the-vault.cose",
            "a bundle signed by a stranger under the vault's id",
            ("SIGNATURE-INVALID", BUNDLE),
            bundle().signed(&[key("stranger-sign")]),
        )
}

/// The id of the segment that the cases here stand in the place of.
pub fn segment_id() -> String {
    Bundle::segment_id(&lineage(), 1, 1)
}
