//! Attacks on approvals and on what is approved.

use mintmark_protocol::envelope::Kind;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::trust::TrustManifest;

use super::super::forge::{self, Parts};
use super::super::home::vector;
use super::super::keys::key;
use super::super::salamander;
use super::super::story::{
    self, approved, manifest_second, pinned_second, propose, second_entitlement, vault,
};
use super::{Attack, Verdict, dispatch_for, entitlement, entitling, next, seal, wrapped};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        split_plaintext(),
        signature_stripped(),
        signature_duplicated(),
        removed_officer(),
        dispatch_key_minting(),
    ]
}

/// The next entitlement, approved by the holders of these keys, whoever they are.
fn approved_by(signers: &[&str]) -> Vec<u8> {
    approved(&propose(&second_entitlement(), &manifest_second()), signers)
}

/// The end of the entitlement that is in force, approved by the holders of these keys.
fn revoked_by(signers: &[&str]) -> Vec<u8> {
    let proposal = super::order::revocation()
        .propose(&manifest_second(), &key("vault-agree").public)
        .unwrap();
    approved(&proposal, signers)
}

/// Signs a body as a COSE_Sign, in the order of key ids as `collect` would.
fn signed_by(parts: Parts, signers: &[&str]) -> Vec<u8> {
    let keys: Vec<_> = signers.iter().map(|name| key(name)).collect();
    parts.signed(&keys)
}

/// One ciphertext that the vault's content key and the officers' content key both open, each to something else. One of
/// the two readings is an entitlement, its salt having the free block; `committed` says which is committed to.
fn split(vault_reads_it: bool, commit_to_it: bool) -> Parts {
    let whole = entitlement();
    let inner = Parts::of(&whole.payload());
    let plaintext = vector("second-entitlement.cbor");
    // {0: h'..32 bytes..', ..}: a map of one byte, the key, the head of the byte string.
    assert_eq!(plaintext[1..4], [0x00, 0x58, 0x20]);
    let keys = [[0x31; 32], [0x32; 32]];
    let additional = forge::additional_data(&inner.protected);
    let text = salamander::ciphertext(
        [&keys[0], &keys[1]],
        &forge::IV,
        &additional,
        &plaintext,
        16,
    );
    let (for_it, for_other) = match vault_reads_it {
        true => (
            vec!["vault-agree"],
            vec!["audit", "escrow", "bob-agree", "carol-agree", "erin-agree"],
        ),
        false => (
            vec!["audit", "escrow", "bob-agree", "carol-agree", "erin-agree"],
            vec!["vault-agree"],
        ),
    };
    let recipients = |content_key: &[u8; 32], names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| key(name).public).collect();
        let mut parts = forge::encrypt_with(content_key, inner.protected.clone(), &[], &names);
        std::mem::take(parts.inner())
    };
    let mut forged = forge::encrypt_with(&keys[0], inner.protected.clone(), &[], &[]);
    forged.content = forge::bytes(text);
    forged.inner().extend(recipients(&keys[0], &for_it));
    forged.inner().extend(recipients(&keys[1], &for_other));
    let forged = forged.write();
    let committed = if commit_to_it {
        for_it[0]
    } else {
        for_other[0]
    };
    let reading = forge::decrypt(&forged, &key(committed));
    let protected = forge::with_context(&whole.protected, 6, forge::bytes(forge::sha256(&reading)));
    let mut parts = whole.with_payload(forged).with_protected(protected);
    parts.inner().clear();
    parts
}

fn split_plaintext() -> Attack {
    let signed = |parts: Parts| signed_by(parts, &["bob-sign", "carol-sign"]);
    let readings = serde_json::json!(["vault-agree", "bob-agree"]);
    Attack::new(
        "split-plaintext",
        "Whoever drafts makes one ciphertext that two content keys open, each to another text, with equal tags: AES-GCM \
         commits to no key. The officers are given one key, the vault the other.",
        "Officers approve one text and the vault follows another, under one valid signature. (The format leaves little \
         room for a second text that is well-formed; what refuses it does not depend on that.)",
    )
    .vault(
        "vault-reads-something-else.cose",
        "officers read an entitlement and approve it; to the vault the same ciphertext is another text",
        Verdict::Content("COMMITMENT-MISMATCH"),
        entitling(signed(split(false, true))),
    )
    .with("readings", readings.clone())
    .vault(
        "vault-reads-an-entitlement.cose",
        "the vault reads an entitlement, and what was committed to is what the officers read",
        Verdict::Content("COMMITMENT-MISMATCH"),
        entitling(signed(split(true, false))),
    )
    .with("readings", readings.clone())
    .opened(
        "officer",
        "officers-read-something-else.cose",
        "a draft, signed by headquarters' own key, whose commitment is to what the vault would read",
        ("COMMITMENT-MISMATCH", "entitlement-draft"),
        super::officer::drafted(&split(true, true)),
    )
    .with("readings", readings)
}

fn signature_stripped() -> Attack {
    let without = {
        let mut parts = next();
        parts.last = forge::bytes([]);
        parts.write()
    };
    let unsigned = propose(&second_entitlement(), &manifest_second())
        .to_bytes()
        .unwrap();
    let trust = {
        let next = TrustManifest {
            version: 3,
            previous: Some(pinned_second().fingerprint()),
            ..manifest_second()
        };
        next.propose().unwrap().to_bytes().unwrap()
    };
    Attack::new(
        "signature-stripped",
        "Signatures are taken off, in the hope that nothing to verify is nothing to refuse.",
        "Whatever the attacker likes, approved by nobody.",
    )
    .vault(
        "dispatch-without.cose",
        "the next dispatch with an empty signature",
        Verdict::Nothing("SIGNATURE-INVALID", 1),
        without,
    )
    .vault(
        "entitlement-without.cose",
        "an entitlement that nobody has signed, in an authentic dispatch",
        Verdict::Content("THRESHOLD-NOT-MET"),
        entitling(unsigned),
    )
    .vault(
        "entitlement-with-one.cose",
        "one approval where two are needed",
        Verdict::Content("THRESHOLD-NOT-MET"),
        entitling(approved_by(&["bob-sign"])),
    )
    .vault(
        "bare-encryption.cose",
        "what officers would have signed, without the COSE_Sign around it",
        Verdict::Content("MESSAGE-SHAPE"),
        seal(&mintmark_protocol::dispatch::Dispatch {
            content: entitlement().payload(),
            ..dispatch_for(vault())
        }),
    )
    .vault_at(
        "trust-without.cose",
        "the next trust manifest, signed by nobody",
        "trust-000003.cose",
        Verdict::Nothing("THRESHOLD-NOT-MET", 1),
        trust,
    )
}

fn signature_duplicated() -> Attack {
    let twice = {
        let mut parts = entitlement();
        let first = parts.inner()[0].clone();
        *parts.inner() = vec![first.clone(), first];
        parts.write()
    };
    Attack::new(
        "signature-duplicated",
        "One officer's signature is counted twice, to meet a threshold of two.",
        "What one officer alone wants.",
    )
    .vault(
        "same-signature-twice.cose",
        "one signature of one officer, two times",
        Verdict::Content("SIGNER-DUPLICATE"),
        entitling(twice),
    )
    .vault(
        "two-keys-of-one-officer.cose",
        "bob signs with both of his keys",
        Verdict::Content("SIGNER-DUPLICATE"),
        entitling(approved_by(&["bob-sign", "bob-sign-2"])),
    )
    .opened(
        "hq",
        "approval-by-two-keys.cose",
        "the same, as headquarters collects approvals",
        ("SIGNER-DUPLICATE", "approvals"),
        approved_by(&["bob-sign", "bob-sign-2"]),
    )
}

fn removed_officer() -> Attack {
    let trust = {
        let next = TrustManifest {
            version: 3,
            previous: Some(pinned_second().fingerprint()),
            ..story::manifest()
        };
        approved(&next.propose().unwrap(), &["alice-sign", "bob-sign"])
    };
    Attack::new(
        "removed-officer",
        "An officer who has left, or whose key was stolen and removed, goes on signing.",
        "The threshold is met by somebody who may not sign any more.",
    )
    .vault(
        "approved-by-one-who-left.cose",
        "alice and bob approve an entitlement after alice was removed",
        Verdict::Content("SIGNER-UNKNOWN"),
        entitling(approved_by(&["alice-sign", "bob-sign"])),
    )
    .vault(
        "approved-by-one-too-many.cose",
        "bob and carol are enough, and alice has signed too: one bad signature refuses the whole",
        Verdict::Content("SIGNER-UNKNOWN"),
        entitling(approved_by(&["alice-sign", "bob-sign", "carol-sign"])),
    )
    .vault(
        "approved-before-they-left.cose",
        "the entitlement that alice and carol approved while both could, in a dispatch that comes after she left",
        Verdict::Content("SIGNER-UNKNOWN"),
        entitling(vector("entitlement.cose")),
    )
    .vault(
        "approved-without-the-role.cose",
        "bob approves, and dave, who may revoke and not mint",
        Verdict::Content("SIGNER-ROLE"),
        entitling(approved_by(&["bob-sign", "dave-sign"])),
    )
    .vault_at(
        "back-in-office.cose",
        "a trust manifest that appoints alice again, signed by her and bob",
        "trust-000003.cose",
        Verdict::Nothing("THRESHOLD-NOT-MET", 1),
        trust,
    )
    .vault(
        "revocation-by-one-who-left.cose",
        "alice and dave end an entitlement after alice was removed",
        Verdict::Content("SIGNER-UNKNOWN"),
        wrapped(Kind::Revocation, revoked_by(&["alice-sign", "dave-sign"])),
    )
    .opened(
        "hq",
        "approval-by-one-who-left.cose",
        "alice's approval, as headquarters collects approvals",
        ("SIGNER-UNKNOWN", "approvals"),
        approved_by(&["alice-sign", "bob-sign"]),
    )
}

fn dispatch_key_minting() -> Attack {
    let as_one = {
        let parts = entitlement();
        let id = forge::bytes(forge::key_id(&key("dispatch").public));
        let header = forge::with(&forge::with(&parts.protected, 1, -7), 4, id);
        let parts = Parts {
            tag: forge::SIGN1,
            ..parts.with_protected(header)
        };
        parts.signed(&[key("dispatch")])
    };
    let changed = {
        let mut more = second_entitlement();
        more.products[0].units = 1_000_000;
        let parts = Parts::of(&propose(&more, &manifest_second()).to_bytes().unwrap());
        Parts {
            last: entitlement().last,
            ..parts
        }
    };
    let trust = {
        let next = TrustManifest {
            version: 3,
            previous: Some(pinned_second().fingerprint()),
            ..manifest_second()
        };
        approved(&next.propose().unwrap(), &["dispatch"])
    };
    Attack::new(
        "dispatch-key-minting",
        "The dispatch key is stolen: the machine at headquarters that writes sticks belongs to the attacker.",
        "Units, if ordering and acknowledging were enough to grant them.",
    )
    .vault(
        "approved-by-the-dispatch-key.cose",
        "an entitlement whose approval is by the dispatch key",
        Verdict::Content("SIGNER-UNKNOWN"),
        entitling(approved_by(&["dispatch"])),
    )
    .vault(
        "signed-once.cose",
        "an entitlement as a COSE_Sign1 by the dispatch key",
        Verdict::Content("MESSAGE-SHAPE"),
        entitling(as_one),
    )
    .vault(
        "more-units-under-old-approvals.cose",
        "a million units, with the approvals of thirty",
        Verdict::Content("SIGNATURE-INVALID"),
        entitling(changed.write()),
    )
    .vault(
        "entitlement-as-an-acknowledgement.cose",
        "what the dispatch key may not sign, named as what it may",
        Verdict::Content("MESSAGE-SHAPE"),
        wrapped(Kind::Acknowledgement, vector("second-entitlement.cose")),
    )
    .vault(
        "revocation-by-the-dispatch-key.cose",
        "the end of an entitlement, approved by the dispatch key",
        Verdict::Content("SIGNER-UNKNOWN"),
        wrapped(Kind::Revocation, revoked_by(&["dispatch"])),
    )
    .vault_at(
        "trust-by-the-dispatch-key.cose",
        "a trust manifest by the dispatch key",
        "trust-000003.cose",
        Verdict::Nothing("THRESHOLD-NOT-MET", 1),
        trust,
    )
}
