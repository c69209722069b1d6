//! The same attacks on a declared restore: what is declared to headquarters in a vault's name, and what comes back as if
//! headquarters had answered.

use ciborium::Value;

use super::super::forge::{self, Parts};
use super::super::home::vector;
use super::super::keys::key;
use super::Attack;

const DECLARATION: &str = "restore-declaration";
const TAIL: &str = "log-tail";
/// The vault that has declared a restore, and waits.
const WAITING: &str = "waiting-vault";

fn declaration() -> Parts {
    Parts::of(&vector("restore-declaration.cose"))
}

fn declaration_under(header: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = declaration();
    let header = header(&parts.protected);
    parts.with_protected(header).signed(&[key("vault-sign")])
}

fn declaration_of(payload: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = declaration();
    let payload = payload(&parts.payload());
    parts.with_payload(payload).signed(&[key("vault-sign")])
}

fn tail() -> Parts {
    Parts::of(&vector("log-tail.cose"))
}

fn tail_under(header: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = tail();
    let header = header(&parts.protected);
    parts.with_protected(header).signed(&[key("dispatch")])
}

/// The answer with another plaintext, encrypted to the same readers and signed with the real dispatch key; the commitment
/// is to it if that is `committed`.
fn tail_of(committed: bool, plaintext: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = tail();
    let plaintext = plaintext(&vector("log-tail.cbor"));
    let inner = Parts::of(&parts.payload()).protected;
    let commit = |header: &[u8]| {
        let digest = forge::bytes(forge::sha256(&plaintext));
        forge::with_context(header, 6, digest)
    };
    let (outer, inner) = match committed {
        true => {
            let has = |header: &[u8]| {
                let context = forge::write(&forge::entry(header, forge::CONTEXT));
                let entries = forge::read(&context).into_map().unwrap();
                entries.iter().any(|(key, _)| *key == Value::from(6))
            };
            let both = [&parts.protected, &inner].map(|header| match has(header) {
                true => commit(header),
                false => header.clone(),
            });
            let [outer, inner] = both;
            (outer, inner)
        }
        false => (parts.protected.clone(), inner),
    };
    let readers = ["vault-agree", "audit", "escrow"].map(|name| key(name).public);
    let encrypted = forge::encrypt(inner, &plaintext, &readers).write();
    parts
        .with_protected(outer)
        .with_payload(encrypted)
        .signed(&[key("dispatch")])
}

fn munich(header: &[u8], role: i64) -> Vec<u8> {
    forge::with_context(header, role, "vault:munich/v1")
}

fn by(parts: Parts, name: &str) -> Vec<u8> {
    let id = forge::bytes(forge::key_id(&key(name).public));
    let header = forge::with(&parts.protected, 4, id);
    parts.with_protected(header).signed(&[key(name)])
}

/// Both messages, made as the cases here are, with nothing changed.
pub fn unchanged() -> [Vec<u8>; 2] {
    [
        declaration_of(<[u8]>::to_vec),
        tail_of(true, <[u8]>::to_vec),
    ]
}

/// Adds what an attack of this name does to a restore.
pub(super) fn added(attack: Attack) -> Attack {
    match attack.name {
        "arbitrary-package" => attack
            .opened(
                "hq",
                "declaration-by-a-stranger.cose",
                "a restore declared in the vault's name, signed by a key that is not the vault's",
                ("SIGNER-UNKNOWN", DECLARATION),
                by(declaration(), "stranger-sign"),
            )
            .opened(
                WAITING,
                "answer-by-a-stranger.cose",
                "records sent back, signed by a key that is not headquarters'",
                ("SIGNER-UNKNOWN", TAIL),
                by(tail(), "stranger-sign"),
            ),
        "mix-and-match" => attack
            .opened(
                "hq",
                "signature-of-another-declaration.cose",
                "a declaration of fewer records, under the signature of the real one",
                ("SIGNATURE-INVALID", DECLARATION),
                {
                    let parts = declaration();
                    let payload = forge::with(&parts.payload(), 5, 1);
                    parts.with_payload(payload).write()
                },
            )
            .opened(
                WAITING,
                "part-beyond-the-last.cose",
                "the second part of an answer that has one, under the real dispatch key",
                ("MESSAGE-SHAPE", TAIL),
                tail_of(true, |plaintext| forge::with(plaintext, 5, 2)),
            ),
        "wrong-recipient" => attack
            .opened(
                "hq",
                "declaration-of-another-vault.cose",
                "a declaration of munich/v1, signed by its own key, in the place of one of berlin/v1",
                ("MESSAGE-ADDRESS", DECLARATION),
                {
                    let parts = declaration();
                    let header = munich(&parts.protected, 3);
                    by(parts.with_protected(header), "munich-vault-sign")
                },
            )
            .opened(
                "hq",
                "declaration-of-two-vaults.cose",
                "a declaration whose header names this vault and whose content names munich/v1",
                ("MESSAGE-PARTS", DECLARATION),
                declaration_of(|payload| forge::with(payload, 2, "munich")),
            )
            .opened(
                WAITING,
                "answer-for-another-vault.cose",
                "what headquarters sent back to munich/v1",
                ("MESSAGE-ADDRESS", TAIL),
                tail_under(|header| munich(header, 4)),
            ),
        "surreptitious-re-encryption" => attack.opened(
            WAITING,
            "answer-encrypted-anew.cose",
            "other records under the header of the real answer, with the real dispatch key",
            ("COMMITMENT-MISMATCH", TAIL),
            tail_of(false, |plaintext| {
                forge::with(plaintext, 10, Value::Array(Vec::new()))
            }),
        ),
        "signature-stripped" => {
            let without = |mut parts: Parts| {
                parts.last = forge::bytes([]);
                parts.write()
            };
            attack
                .opened(
                    "hq",
                    "declaration-without.cose",
                    "a declaration with an empty signature",
                    ("SIGNATURE-INVALID", DECLARATION),
                    without(declaration()),
                )
                .opened(
                    WAITING,
                    "answer-without.cose",
                    "an answer with an empty signature",
                    ("SIGNATURE-INVALID", TAIL),
                    without(tail()),
                )
        }
        "unknown-critical-header" => {
            let critical = |header: &[u8]| {
                let header = forge::with(header, 2, Value::Array(vec![99.into()]));
                forge::with(&header, 99, 1)
            };
            attack
                .opened(
                    "hq",
                    "in-a-declaration.cose",
                    "a critical parameter 99 in a declaration's protected header",
                    ("MESSAGE-HEADER", DECLARATION),
                    declaration_under(critical),
                )
                .opened(
                    WAITING,
                    "in-an-answer.cose",
                    "the same in what headquarters sends back",
                    ("MESSAGE-HEADER", TAIL),
                    tail_under(critical),
                )
        }
        "algorithm-downgrade" => attack
            .opened(
                "hq",
                "declaration-hmac.cose",
                "a declaration under HMAC 256/256",
                ("MESSAGE-ALGORITHM", DECLARATION),
                declaration_under(|header| forge::with(header, 1, 5)),
            )
            .opened(
                WAITING,
                "answer-hmac.cose",
                "an answer under HMAC 256/256",
                ("MESSAGE-ALGORITHM", TAIL),
                tail_under(|header| forge::with(header, 1, 5)),
            ),
        "key-id-confusion" => attack
            .opened(
                "hq",
                "declaration-by-another-key-of-the-vault.cose",
                "a declaration signed by the vault's device CA",
                ("SIGNER-UNKNOWN", DECLARATION),
                by(declaration(), "device-ca"),
            )
            .opened(
                WAITING,
                "answer-by-another-key-of-headquarters.cose",
                "an answer signed by the key of reports",
                ("SIGNER-UNKNOWN", TAIL),
                by(tail(), "report"),
            ),
        "non-deterministic-encoding" => attack
            .opened(
                "hq",
                "declaration-with-a-longer-integer.cose",
                "an integer in two bytes that fits one, under the vault's signature",
                ("MESSAGE-ENCODING", DECLARATION),
                declaration_of(|payload| [&payload[..1], &[0x01, 0x18, 0x01], &payload[3..]].concat()),
            )
            .opened(
                WAITING,
                "answer-with-a-longer-integer.cose",
                "the same in what was encrypted",
                ("MESSAGE-ENCODING", TAIL),
                tail_of(true, |plaintext| {
                    // After the salt (34 octets and its key): key 1, and its value in two octets.
                    let at = 1 + 1 + 34 + 1;
                    [&plaintext[..at], &[0x18, 0x01], &plaintext[at + 1..]].concat()
                }),
            ),
        "duplicate-map-keys" => attack.opened(
            "hq",
            "in-a-declaration.cose",
            "key 1 twice in the payload",
            ("MESSAGE-ENCODING", DECLARATION),
            declaration_of(|payload| {
                [&[payload[0] + 1], &[0x01, 0x01][..], &payload[1..]].concat()
            }),
        ),
        "nested-counter-signatures" => attack.opened(
            "hq",
            "in-a-declaration.cose",
            "forty of them in a declaration's protected header",
            ("MESSAGE-HEADER", DECLARATION),
            declaration_under(|header| forge::with(header, 7, super::envelope::nested(40))),
        ),
        "trailing-bytes" => attack
            .opened(
                "hq",
                "after-a-declaration.cose",
                "one byte after a declaration",
                ("MESSAGE-ENCODING", DECLARATION),
                [vector("restore-declaration.cose"), vec![0]].concat(),
            )
            .opened(
                WAITING,
                "after-an-answer.cose",
                "one byte after what headquarters sends back",
                ("MESSAGE-ENCODING", TAIL),
                [vector("log-tail.cose"), vec![0]].concat(),
            ),
        "wrong-content-type" => attack
            .opened(
                "hq",
                "bundle-as-a-declaration.cose",
                "the vault's own report, in the place of a declaration",
                ("MESSAGE-TYPE", DECLARATION),
                vector("audit-bundle-2.cose"),
            )
            .opened(
                WAITING,
                "acknowledgement-as-an-answer.cose",
                "what the same key acknowledged, in the place of records",
                ("MESSAGE-TYPE", TAIL),
                vector("acknowledgement.cose"),
            ),
        "endless-data" => attack.opened(
            "hq",
            "declaration-of-too-many-leases.cose",
            "a thousand and one accounts",
            ("MESSAGE-SHAPE", DECLARATION),
            declaration_of(|payload| {
                let lease = |n: u64| Value::Array(vec![n.into(), 1.into()]);
                forge::with(payload, 11, Value::Array((1..=1001).map(lease).collect()))
            }),
        ),
        "rollback" => attack.opened(
            "hq",
            "declaration-into-the-same-lineage.cose",
            "a declaration that says that the log goes on in the lineage that was put back",
            ("MESSAGE-SHAPE", DECLARATION),
            declaration_of(|payload| {
                let parent = forge::entry(payload, 4);
                forge::with(payload, 7, parent)
            }),
        ),
        _ => attack,
    }
}
