//! What somebody hostile has an officer read: drafts that headquarters did not write as they are.

use ciborium::Value;

use super::super::forge::{self, Parts};
use super::super::home::vector;
use super::super::keys::key;
use super::super::story::{manifest_second, propose, second_entitlement};
use super::{Attack, Verdict, entitlement, entitling};

const DRAFT: &str = "entitlement-draft";

/// The header of a signature by which the holder of the key of this name approves.
fn approving(name: &str) -> Vec<u8> {
    forge::signature_header(&key(name))
}

/// The header of one by which that key drafts.
fn drafting(name: &str) -> Vec<u8> {
    forge::with(&approving(name), 16, "application/mintmark-draft")
}

/// A body with these signatures: by the key of this name, made under a header, and shown under another.
fn signed(parts: &Parts, signatures: &[(&str, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let each = signatures.iter().map(|(name, made, shown)| {
        let mut signature = parts.signature(&key(name), made);
        signature.as_array_mut().unwrap()[0] = forge::bytes(shown.clone());
        signature
    });
    let last = Value::Array(each.collect());
    let parts = parts.clone();
    Parts { last, ..parts }.write()
}

fn headquarters() -> (&'static str, Vec<u8>, Vec<u8>) {
    ("dispatch", drafting("dispatch"), drafting("dispatch"))
}

/// A body as headquarters' dispatch key drafts it.
pub(super) fn drafted(parts: &Parts) -> Vec<u8> {
    signed(parts, &[headquarters()])
}

/// One signature of the second entitlement's body.
fn signed_once(by: &str, made: Vec<u8>, shown: Vec<u8>) -> Vec<u8> {
    signed(&entitlement(), &[(by, made, shown)])
}

/// Adds what an attack of this name does to an officer, and what comes of a draft's signature elsewhere.
pub(super) fn added(attack: Attack) -> Attack {
    match attack.name {
        "arbitrary-package" => arbitrary_package(attack),
        "mix-and-match" => mix_and_match(attack),
        "signature-stripped" => {
            let mut parts = entitlement();
            parts.inner().clear();
            attack.opened(
                "officer",
                "draft-without.cose",
                "a draft without the signature of headquarters",
                ("DRAFT-UNSIGNED", DRAFT),
                parts.write(),
            )
        }
        "signature-duplicated" => attack.opened(
            "officer",
            "draft-signed-twice.cose",
            "a draft with headquarters' signature, two times",
            ("MESSAGE-SHAPE", DRAFT),
            signed(&entitlement(), &[headquarters(), headquarters()]),
        ),
        "key-id-confusion" => key_id_confusion(attack),
        "wrong-content-type" => wrong_content_type(attack),
        "dispatch-key-minting" => dispatch_key_minting(attack),
        _ => attack,
    }
}

fn arbitrary_package(attack: Attack) -> Attack {
    let stolen = {
        let mut stolen = second_entitlement();
        stolen.products[0].units = 1_000_000;
        Parts::of(&propose(&stolen, &manifest_second()).to_bytes().unwrap())
    };
    let header = drafting("stranger-sign");
    attack.opened(
        "officer",
        "draft-by-a-stranger.cose",
        "a million units, drafted and signed by a key that nobody lists",
        ("SIGNER-UNKNOWN", DRAFT),
        signed(&stolen, &[("stranger-sign", header.clone(), header)]),
    )
}

fn mix_and_match(attack: Attack) -> Attack {
    let of_another = Parts {
        last: Parts::of(&vector("entitlement-draft.cose")).last,
        ..entitlement()
    };
    // The officer's own key stays as it is: all that the officer can decrypt is well.
    let for_the_vault = {
        let mut draft = Parts::of(&drafted(&entitlement()));
        let mut inner = Parts::of(&draft.payload());
        let vault = forge::bytes(forge::key_id(&key("vault-agree").public));
        for recipient in inner.inner() {
            let recipient = recipient.as_array_mut().unwrap();
            if forge::entry(&forge::write(&recipient[1]), 4) == vault {
                recipient[2] = forge::bytes([0x77; 40]);
            }
        }
        draft.content = forge::bytes(inner.write());
        draft.write()
    };
    attack
        .opened(
            "officer",
            "signature-of-another-draft.cose",
            "a draft with the signature by which headquarters drafted another one",
            ("SIGNATURE-INVALID", DRAFT),
            of_another.write(),
        )
        .opened(
            "officer",
            "key-for-the-vault-changed.cose",
            "a draft in which the key that is wrapped for the vault is another, which an officer cannot unwrap",
            ("SIGNATURE-INVALID", DRAFT),
            for_the_vault,
        )
}

fn key_id_confusion(attack: Attack) -> Attack {
    let header = drafting("dispatch");
    attack
        .opened(
            "officer",
            "stranger-as-headquarters.cose",
            "a draft signed by a stranger under the id of headquarters' key",
            ("SIGNATURE-INVALID", DRAFT),
            signed_once("stranger-sign", header.clone(), header.clone()),
        )
        .opened(
            "officer",
            "draft-by-an-officer.cose",
            "a draft that carol signed in the place of headquarters",
            ("SIGNER-UNKNOWN", DRAFT),
            signed_once("carol-sign", drafting("carol-sign"), drafting("carol-sign")),
        )
        .opened(
            "officer",
            "approval-as-headquarters.cose",
            "the signature by which carol approved, under the header and the key id of headquarters",
            ("SIGNATURE-INVALID", DRAFT),
            signed_once("carol-sign", approving("carol-sign"), header),
        )
}

fn wrong_content_type(attack: Attack) -> Attack {
    let another = forge::with(&approving("dispatch"), 16, "application/mintmark-approval");
    attack
        .opened(
            "officer",
            "approval-as-a-draft.cose",
            "what carol approved, given to another officer as the draft",
            ("DRAFT-UNSIGNED", DRAFT),
            signed_once(
                "carol-sign",
                approving("carol-sign"),
                approving("carol-sign"),
            ),
        )
        .opened(
            "officer",
            "approval-by-headquarters-as-a-draft.cose",
            "a draft that headquarters' key signed as officers sign",
            ("DRAFT-UNSIGNED", DRAFT),
            signed_once("dispatch", approving("dispatch"), approving("dispatch")),
        )
        .opened(
            "officer",
            "another-type-of-signature.cose",
            "a draft whose signature is of a type that the format does not have",
            ("MESSAGE-HEADER", DRAFT),
            signed_once("dispatch", another.clone(), another),
        )
        .vault(
            "draft-as-an-entitlement.cose",
            "a draft as headquarters signs it, which nobody has approved, in an authentic dispatch",
            Verdict::Content("THRESHOLD-NOT-MET"),
            entitling(drafted(&entitlement())),
        )
}

fn dispatch_key_minting(attack: Attack) -> Attack {
    let officer = |name| (name, approving(name), approving(name));
    let approvals = [officer("bob-sign"), officer("carol-sign"), headquarters()];
    let beside = signed(&entitlement(), &approvals);
    let renamed = ("dispatch", drafting("dispatch"), approving("dispatch"));
    attack
        .vault(
            "draft-signature-beside-approvals.cose",
            "the signature by which headquarters drafts, left on what bob and carol approved",
            Verdict::Content("MESSAGE-SHAPE"),
            entitling(beside.clone()),
        )
        .vault(
            "draft-signature-as-an-approval.cose",
            "the signature by which headquarters drafts, beside bob's and under a header like his",
            Verdict::Content("SIGNER-UNKNOWN"),
            entitling(signed(&entitlement(), &[officer("bob-sign"), renamed])),
        )
        .opened(
            "officer",
            "approved-draft.cose",
            "a draft that bears approvals already, beside the signature of headquarters",
            ("MESSAGE-SHAPE", DRAFT),
            beside.clone(),
        )
        .opened(
            "hq",
            "approvals-with-a-draft-signature.cose",
            "the same, as headquarters collects approvals",
            ("MESSAGE-SHAPE", "approvals"),
            beside,
        )
}
