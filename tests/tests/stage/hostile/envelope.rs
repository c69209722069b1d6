//! Attacks on the form of a message: headers, algorithms, encodings.

use ciborium::Value;
use mintmark_protocol::envelope::Kind;

use super::super::forge::{self, Parts};
use super::super::home::vector;
use super::super::keys::key;
use super::{Attack, Verdict, entitlement, entitling, next, next_of, next_under};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        endless_data(),
        unknown_critical_header(),
        algorithm_downgrade(),
        key_id_confusion(),
        non_deterministic_encoding(),
        duplicate_map_keys(),
        nested_counter_signatures(),
        trailing_bytes(),
        wrong_content_type(),
    ]
}

/// The next entitlement under another header, approved as it should be.
fn entitlement_under(header: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let parts = entitlement();
    let header = header(&parts.protected);
    let signers = [key("bob-sign"), key("carol-sign")];
    entitling(parts.with_protected(header).signed(&signers))
}

/// The next entitlement with another COSE_Encrypt in it, approved as it should be.
fn entitlement_of(encrypted: impl FnOnce(Parts) -> Parts) -> Vec<u8> {
    let parts = entitlement();
    let encrypted = encrypted(Parts::of(&parts.payload())).write();
    let signers = [key("bob-sign"), key("carol-sign")];
    entitling(parts.with_payload(encrypted).signed(&signers))
}

/// The next entitlement with other plaintext bytes, committed to and approved as it should be.
fn entitlement_saying(plaintext: &[u8]) -> Vec<u8> {
    let parts = entitlement();
    let inner = Parts::of(&parts.payload());
    let encrypted = forge::encrypt(inner.protected, plaintext, &[key("vault-agree").public]);
    let commitment = forge::bytes(forge::sha256(plaintext));
    let header = forge::with_context(&parts.protected, 6, commitment);
    let signers = [key("bob-sign"), key("carol-sign")];
    let parts = parts.with_payload(encrypted.write()).with_protected(header);
    entitling(parts.signed(&signers))
}

fn endless_data() -> Attack {
    // Tag 18, an array of 4, and a byte string that says it has 2^62 bytes.
    let announced = [&[0xd2, 0x84, 0x5b, 0x40][..], &[0; 7], &[0; 64]].concat();
    let nested = [&[0xd2][..], &[0x81; 60_000]].concat();
    Attack::new(
        "endless-data",
        "A file, or a number in a file, that is as large as the attacker likes.",
        "Memory or disk run out, and the line stands still.",
    )
    .vault(
        "announced.cose",
        "a byte string that says it has 2^62 bytes",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        announced,
    )
    .vault(
        "nested.cose",
        "60,000 arrays inside one another",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        nested,
    )
    .vault(
        "padded.cose",
        "the next dispatch, with zeros after it up to one byte above the ceiling",
        Verdict::Nothing("MESSAGE-OVERSIZE", 1),
        vector("dispatch-5.cose"),
    )
    .with("padded_to", 8_388_609)
}

fn unknown_critical_header() -> Attack {
    let critical = |header: &[u8]| {
        let header = forge::with(header, 2, Value::Array(vec![99.into()]));
        forge::with(&header, 99, 1)
    };
    let in_signature = {
        let parts = entitlement();
        let signers = [key("bob-sign"), key("carol-sign")];
        let signature = |key| parts.signature(key, &critical(&forge::signature_header(key)));
        let signatures = signers.iter().map(signature).collect();
        Parts {
            last: Value::Array(signatures),
            ..parts.clone()
        }
    };
    Attack::new(
        "unknown-critical-header",
        "A header parameter that the reader must understand, and does not (RFC 9052 section 3.1), or one that it need not.",
        "A reader that skips what it does not know follows a message that says something else.",
    )
    .vault(
        "in-a-dispatch.cose",
        "a critical parameter 99 in the protected header",
        Verdict::Nothing("MESSAGE-HEADER", 1),
        next_under(critical),
    )
    .vault(
        "not-critical.cose",
        "a parameter 99 that is not even critical",
        Verdict::Nothing("MESSAGE-HEADER", 1),
        next_under(|header| forge::with(header, 99, 1)),
    )
    .vault(
        "unprotected.cose",
        "a parameter in the unprotected header, which nobody signs",
        Verdict::Nothing("MESSAGE-HEADER", 1),
        {
            let mut parts = next();
            parts.unprotected = forge::map([(99, 1.into())]);
            parts.write()
        },
    )
    .vault(
        "certificate.cose",
        "a certificate (x5chain) in a dispatch, under a valid signature: it stands in device secrets alone",
        Verdict::Nothing("MESSAGE-HEADER", 1),
        next_under(|header| forge::with(header, 33, forge::bytes(super::super::story::identity()))),
    )
    .vault(
        "unprotected-certificate.cose",
        "a certificate in the unprotected header",
        Verdict::Nothing("MESSAGE-HEADER", 1),
        {
            let mut parts = next();
            parts.unprotected = forge::map([(33, forge::bytes(super::super::story::identity()))]);
            parts.write()
        },
    )
    .vault(
        "in-an-entitlement.cose",
        "in the header that officers signed",
        Verdict::Content("MESSAGE-HEADER"),
        entitlement_under(critical),
    )
    .vault(
        "in-an-approval.cose",
        "in the header of each officer's signature",
        Verdict::Content("MESSAGE-HEADER"),
        entitling(in_signature.write()),
    )
}

fn algorithm_downgrade() -> Attack {
    let weak_approval = {
        let parts = entitlement();
        let header = |key| forge::with(&forge::signature_header(key), 1, -47);
        let signers = [key("bob-sign"), key("carol-sign")];
        let signature = |key| parts.signature(key, &header(key));
        let signatures = signers.iter().map(signature).collect();
        Parts {
            last: Value::Array(signatures),
            ..parts.clone()
        }
    };
    let recipients = |algorithm: i64| {
        entitlement_of(|mut parts| {
            for recipient in parts.inner() {
                let header = forge::write(&forge::map([(1, algorithm.into())]));
                recipient.as_array_mut().unwrap()[0] = forge::bytes(header);
            }
            parts
        })
    };
    let transported = entitlement_of(|mut parts| {
        for recipient in parts.inner() {
            let recipient = recipient.as_array_mut().unwrap();
            let id = forge::entry(&forge::write(&recipient[1]), 4);
            recipient[0] = forge::bytes([]);
            recipient[1] = forge::map([(1, (-40).into()), (4, id)]);
        }
        parts
    });
    let larger = entitlement_of(|mut parts| {
        for recipient in parts.inner() {
            let recipient = recipient.as_array_mut().unwrap();
            let point = super::super::secret::large_point();
            recipient[1] = forge::read(&forge::with(&forge::write(&recipient[1]), -1, point));
        }
        parts
    });
    Attack::new(
        "algorithm-downgrade",
        "The message names another algorithm than the format's: a weaker one, a symmetric one, or none.",
        "A reader that does what the message says verifies nothing, or with a key that everybody knows.",
    )
    .vault(
        "dispatch-hmac.cose",
        "HMAC 256/256 instead of ES256",
        Verdict::Nothing("MESSAGE-ALGORITHM", 1),
        next_under(|header| forge::with(header, 1, 5)),
    )
    .vault(
        "dispatch-none.cose",
        "algorithm 0, which is reserved",
        Verdict::Nothing("MESSAGE-ALGORITHM", 1),
        next_under(|header| forge::with(header, 1, 0)),
    )
    .vault(
        "approval-es256k.cose",
        "approvals that name ES256K",
        Verdict::Content("MESSAGE-ALGORITHM"),
        entitling(weak_approval.write()),
    )
    .vault(
        "encryption-a128gcm.cose",
        "content under A128GCM",
        Verdict::Content("MESSAGE-ALGORITHM"),
        entitlement_of(|parts| {
            let header = forge::with(&parts.protected, 1, 1);
            parts.with_protected(header)
        }),
    )
    .vault(
        "recipient-direct.cose",
        "recipients whose key is used directly (-6), without agreement",
        Verdict::Content("MESSAGE-ALGORITHM"),
        recipients(-6),
    )
    .vault(
        "recipient-transported.cose",
        "recipients in the form of a key transport, which key deliveries alone may have",
        Verdict::Content("MESSAGE-ALGORITHM"),
        transported,
    )
    .vault(
        "recipient-on-p384.cose",
        "recipients whose ephemeral key is on P-384, which device secrets alone may have",
        Verdict::Content("MESSAGE-KEY"),
        larger,
    )
}

fn key_id_confusion() -> Attack {
    let under_anothers = {
        let parts = entitlement();
        let names = ["bob-sign", "carol-sign"].map(key);
        let signature =
            |named| parts.signature(&key("stranger-sign"), &forge::signature_header(named));
        let signatures = names.iter().map(signature).collect();
        Parts {
            last: Value::Array(signatures),
            ..parts.clone()
        }
    };
    let swapped = {
        let parts = entitlement();
        let [bob, carol] = ["bob-sign", "carol-sign"].map(key);
        let signatures = vec![
            parts.signature(&bob, &forge::signature_header(&carol)),
            parts.signature(&carol, &forge::signature_header(&bob)),
        ];
        Parts {
            last: Value::Array(signatures),
            ..parts
        }
    };
    let readdressed = entitlement_of(|mut parts| {
        // The wrapped key of one recipient under the name of another.
        let key_id =
            |recipient: &Value| forge::entry(&forge::write(&recipient.as_array().unwrap()[1]), 4);
        let vault = forge::bytes(forge::key_id(&key("vault-agree").public));
        let audit = forge::bytes(forge::key_id(&key("audit").public));
        for recipient in parts.inner() {
            let found = key_id(recipient);
            let other = match found {
                found if found == vault => &audit,
                found if found == audit => &vault,
                _ => continue,
            };
            let unprotected = forge::write(&recipient.as_array().unwrap()[1]);
            let changed = forge::read(&forge::with(&unprotected, 4, other.clone()));
            recipient.as_array_mut().unwrap()[1] = changed;
        }
        parts
    });
    Attack::new(
        "key-id-confusion",
        "The key id names one key, and another has signed, or is meant.",
        "A reader that looks up a key by its name, and then trusts whatever it finds, counts the wrong signer.",
    )
    .vault(
        "stranger-as-the-dispatch-key.cose",
        "signed by a stranger under the dispatch key's id",
        Verdict::Nothing("SIGNATURE-INVALID", 1),
        next().signed(&[key("stranger-sign")]),
    )
    .vault(
        "officer-as-the-dispatch-key.cose",
        "signed by an officer, under that officer's id",
        Verdict::Nothing("SIGNER-UNKNOWN", 1),
        {
            let parts = next();
            let id = forge::bytes(forge::key_id(&key("bob-sign").public));
            let header = forge::with(&parts.protected, 4, id);
            parts.with_protected(header).signed(&[key("bob-sign")])
        },
    )
    .vault(
        "stranger-as-officers.cose",
        "approvals by a stranger under the ids of two officers",
        Verdict::Content("SIGNATURE-INVALID"),
        entitling(under_anothers.write()),
    )
    .vault(
        "officers-exchanged.cose",
        "each of two officers under the id of the other",
        Verdict::Content("SIGNATURE-INVALID"),
        entitling(swapped.write()),
    )
    .vault(
        "recipients-exchanged.cose",
        "the wrapped keys of two recipients, each under the id of the other",
        Verdict::Content("DECRYPTION-FAILED"),
        readdressed,
    )
}

fn non_deterministic_encoding() -> Attack {
    // A key 1 written as two bytes, in the dispatch's payload: a map of 13, then 1: 1.
    let longer = |payload: &[u8]| [&payload[..1], &[0x18, 0x01], &payload[2..]].concat();
    let plaintext = vector("second-entitlement.cbor");
    let indefinite = {
        let mut bytes = vec![0xbf];
        bytes.extend_from_slice(&plaintext[1..]);
        bytes.push(0xff);
        bytes
    };
    Attack::new(
        "non-deterministic-encoding",
        "The same values in other bytes: longer integers, indefinite lengths, keys in another order.",
        "Two readers that normalise differently hash, compare and sign different things.",
    )
    .vault(
        "longer-integer.cose",
        "an integer in two bytes that fits one, under a valid signature",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        next_of(longer),
    )
    .vault(
        "longer-tag.cose",
        "the tag of the message in two bytes",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        [&[0xd8, 0x12], &vector("dispatch-5.cose")[1..]].concat(),
    )
    .vault(
        "keys-out-of-order.cose",
        "a protected header whose keys stand in another order, under a valid signature",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        next_under(|header| {
            let mut entries = forge::read(header).into_map().unwrap();
            entries.reverse();
            forge::write(&Value::Map(entries))
        }),
    )
    .vault(
        "indefinite-length.cose",
        "an entitlement of indefinite length, committed to and approved",
        Verdict::Content("MESSAGE-ENCODING"),
        entitlement_saying(&indefinite),
    )
}

fn duplicate_map_keys() -> Attack {
    let plaintext = vector("second-entitlement.cbor");
    let version_twice = {
        // One entry more; after the salt, key 1 stands twice.
        let mut bytes = plaintext.clone();
        bytes[0] += 1;
        bytes.splice(36..36, [0x01, 0x01]);
        bytes
    };
    Attack::new(
        "duplicate-map-keys",
        "A map says one thing twice, with different values.",
        "One reader believes the first, the other the last.",
    )
    .vault(
        "in-a-dispatch.cose",
        "key 1 twice in the payload",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        next_of(|payload| [&[payload[0] + 1], &[0x01, 0x01][..], &payload[1..]].concat()),
    )
    .vault(
        "in-a-header.cose",
        "the content type twice in the protected header",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        next_under(|header| {
            let mut entries = forge::read(header).into_map().unwrap();
            entries.insert(1, entries[1].clone());
            forge::write(&Value::Map(entries))
        }),
    )
    .vault(
        "in-an-entitlement.cose",
        "the format version twice, committed to and approved",
        Verdict::Content("MESSAGE-ENCODING"),
        entitlement_saying(&version_twice),
    )
}

/// A counter-signature whose protected header holds a counter-signature, and so on.
pub(super) fn nested(depth: usize) -> Value {
    let mut signature = Value::Array(vec![
        forge::bytes([]),
        forge::map([]),
        forge::bytes([0; 64]),
    ]);
    for _ in 0..depth {
        let header = forge::write(&forge::map([(7, signature)]));
        signature = Value::Array(vec![
            forge::bytes(header),
            forge::map([]),
            forge::bytes([0; 64]),
        ]);
    }
    signature
}

fn nested_counter_signatures() -> Attack {
    Attack::new(
        "nested-counter-signatures",
        "A counter-signature in a header, countersigned in its own header, and so on, hundreds deep.",
        "A library that follows them runs out of stack, and the process dies before anything is verified.",
    )
    .vault(
        "protected.cose",
        "forty of them in the protected header, under a valid signature",
        Verdict::Nothing("MESSAGE-HEADER", 1),
        next_under(|header| forge::with(header, 7, nested(40))),
    )
    .vault(
        "unprotected.cose",
        "five hundred of them in the unprotected header",
        Verdict::Nothing("MESSAGE-HEADER", 1),
        {
            let mut parts = next();
            parts.unprotected = forge::map([(7, nested(500))]);
            parts.write()
        },
    )
    .vault(
        "in-a-recipient.cose",
        "five hundred of them in the header of a recipient, approved",
        Verdict::Content("MESSAGE-HEADER"),
        entitlement_of(|mut parts| {
            let recipient = parts.inner()[0].as_array_mut().unwrap();
            recipient[1] = forge::read(&forge::with(&forge::write(&recipient[1]), 11, nested(500)));
            parts
        }),
    )
}

fn trailing_bytes() -> Attack {
    let plaintext = [vector("second-entitlement.cbor"), vec![0xf6]].concat();
    Attack::new(
        "trailing-bytes",
        "Bytes after the end of a message, or after the end of something inside one.",
        "Two files with one meaning and two digests; room for what another reader takes for the message.",
    )
    .vault(
        "after-a-dispatch.cose",
        "one byte after the next dispatch",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        [vector("dispatch-5.cose"), vec![0]].concat(),
    )
    .vault(
        "two-in-one.cose",
        "another whole message after the next dispatch",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        [vector("dispatch-5.cose"), vector("dispatch-4.cose")].concat(),
    )
    .vault(
        "after-a-payload.cose",
        "one byte after the payload, under a valid signature",
        Verdict::Nothing("MESSAGE-ENCODING", 1),
        next_of(|payload| [payload, &[0xf6]].concat()),
    )
    .vault(
        "after-a-plaintext.cose",
        "one byte after the entitlement, encrypted, committed to and approved",
        Verdict::Content("MESSAGE-ENCODING"),
        entitlement_saying(&plaintext),
    )
}

fn wrong_content_type() -> Attack {
    Attack::new(
        "wrong-content-type",
        "A message of one type is passed off as another.",
        "A signature that was given for one thing counts for another.",
    )
    .vault(
        "another-content-type.cose",
        "a content type that no dispatch has, under a valid signature",
        Verdict::Nothing("MESSAGE-TYPE", 1),
        next_under(|header| {
            forge::with(header, 3, "application/vnd.mintmark.acknowledgement+cbor")
        }),
    )
    .vault(
        "bundle-as-a-dispatch.cose",
        "the vault's own bundle, in the place of a dispatch",
        Verdict::Nothing("MESSAGE-TYPE", 1),
        vector("audit-bundle-1.cose"),
    )
    .vault(
        "acknowledgement-as-a-dispatch.cose",
        "what the dispatch key has signed, in the place of a dispatch",
        Verdict::Nothing("MESSAGE-TYPE", 1),
        vector("acknowledgement.cose"),
    )
    .vault(
        "grant-as-an-entitlement.cose",
        "what officers approved as an enrolment, dispatched as an entitlement",
        Verdict::Content("MESSAGE-TYPE"),
        super::entitling(vector("enrolment-grant.cose")),
    )
    .vault(
        "trust-in-a-dispatch.cose",
        "the trust manifest that is in force, dispatched: manifests travel by themselves",
        Verdict::Content("MESSAGE-TYPE"),
        super::wrapped(Kind::TrustManifest, vector("trust-manifest-2.cose")),
    )
    .vault(
        "dispatch-in-a-dispatch.cose",
        "an authentic dispatch inside another",
        Verdict::Content("MESSAGE-TYPE"),
        super::wrapped(Kind::Dispatch, vector("dispatch-5.cose")),
    )
    .vault(
        "secret-in-a-dispatch.cose",
        "what the vault itself signed for a device, dispatched to it",
        Verdict::Content("MESSAGE-TYPE"),
        super::wrapped(Kind::DeviceSecret, vector("device-secret.cose")),
    )
    .vault(
        "revocation-as-a-clock-correction.cose",
        "what officers approved as a revocation, dispatched as a clock correction",
        Verdict::Content("MESSAGE-TYPE"),
        super::wrapped(Kind::ClockCorrection, vector("revocation.cose")),
    )
    .vault(
        "bare-type-over-encryption.cose",
        "an entitlement that says its payload is not encrypted, approved",
        Verdict::Content("MESSAGE-TYPE"),
        entitlement_under(|header| {
            forge::with(header, 3, "application/vnd.mintmark.entitlement+cbor")
        }),
    )
}
