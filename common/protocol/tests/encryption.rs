//! What is encrypted, to whom, and that it is what the signers committed to: each test breaks one rule and names the code
//! that refuses it. Where officers or HQ sign, they do so again, as the lie is theirs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "encryption/others.rs"]
mod others;
mod support;

use aes_kw::aes::Aes256;
use aes_kw::aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use ciborium::Value;
use mintmark_protocol::Error;
use mintmark_protocol::acknowledgement::ACKNOWLEDGEMENT_BYTES_MAX;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::order::Order as _;
use support::forge::{Parts, map, with, with_context};
use support::*;

#[track_caller]
fn assert_code<T>(result: Result<T, Error>, code: &str) {
    match result {
        Ok(_) => panic!("accepted, not refused with {code}"),
        Err(error) => assert_eq!(error.code(), code, "{error}"),
    }
}

fn officers() -> [Key; 2] {
    [signing(ALICE), signing(BOB)]
}

/// The entitlement with its COSE_Encrypt changed, signed anew.
fn entitlement_with(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let signed = Parts::of(&entitlement_bytes());
    let mut encrypted = Parts::of(&signed.payload());
    change(&mut encrypted);
    signed.with_payload(encrypted.write()).signed(&officers())
}

fn refused(change: impl FnOnce(&mut Parts)) -> &'static str {
    let bytes = entitlement_with(change);
    open_entitlement(&bytes)
        .map(Verified::into_content)
        .expect_err("accepted")
        .code()
}

/// The parts of the first recipient, which is the vault.
fn vault_recipient(encrypted: &mut Parts) -> &mut Vec<Value> {
    encrypted.inner()[0].as_array_mut().unwrap()
}

#[test]
fn what_is_encrypted_without_the_crate_is_accepted() {
    let signed = Parts::of(&entitlement_bytes());
    let header = Parts::of(&signed.payload()).protected;
    let recipients =
        manifest().recipients(&vault_agree().public, mintmark_protocol::trust::Role::Mint);
    let encrypted = forge::encrypt(header, &entitlement().to_cbor(), &recipients);
    let bytes = signed.with_payload(encrypted.write()).signed(&officers());
    assert_eq!(*open_entitlement(&bytes).unwrap().content(), entitlement());
    let plaintext = forge::decrypt(&Parts::of(&entitlement_bytes()).payload(), &vault_agree());
    assert_eq!(plaintext, entitlement().to_cbor());
}

// The context inside and outside.

#[test]
fn the_ciphertext_of_another_message_inside_a_signed_header_is_refused() {
    let grant = Parts::of(&grant_bytes()).payload();
    let bytes = Parts::of(&entitlement_bytes())
        .with_payload(grant)
        .signed(&officers());
    assert_code(open_entitlement(&bytes), "MESSAGE-PARTS");
    let mut amended = entitlement();
    amended.version = 2;
    let amended = amended.propose(&manifest(), &vault_agree().public).unwrap();
    let amended = Parts::of(&amended.to_bytes().unwrap()).payload();
    let bytes = Parts::of(&entitlement_bytes())
        .with_payload(amended)
        .signed(&officers());
    assert_code(open_entitlement(&bytes), "MESSAGE-PARTS");
    let entitlement = Parts::of(&entitlement_bytes()).payload();
    let bytes = Parts::of(&acknowledgement_bytes())
        .with_payload(entitlement)
        .signed(&[dispatch_key()]);
    assert_code(open_acknowledgement(&bytes), "MESSAGE-PARTS");
}

#[test]
fn an_inner_context_that_differs_from_the_outer_one_is_refused() {
    let changes: [(i64, &str); 4] = [
        (3, "all"),
        (4, "vault:berlin/v2"),
        (5, "th200-2027q1-v2"),
        (2, "enrolment-grant"),
    ];
    for (key, value) in changes {
        let code = refused(|encrypted| {
            encrypted.protected = with_context(&encrypted.protected, key, value);
            if key == 2 {
                let content_type = "application/vnd.mintmark.enrolment-grant+cbor";
                encrypted.protected = with(&encrypted.protected, 3, content_type);
            }
        });
        assert_eq!(code, "MESSAGE-PARTS", "{key}");
    }
}

#[test]
fn a_commitment_inside_is_refused() {
    let code = refused(|encrypted| {
        let digest = Value::Bytes(vec![1; 32]);
        encrypted.protected = with_context(&encrypted.protected, 6, digest);
    });
    assert_eq!(code, "MESSAGE-HEADER");
}

#[test]
fn a_content_whose_id_is_not_its_headers_is_refused() {
    let mut other = entitlement();
    other.version = 2;
    let plaintext = other.to_cbor();
    let signed = Parts::of(&entitlement_bytes());
    let header = with_context(
        &signed.protected,
        6,
        Value::Bytes(forge::sha256(&plaintext)),
    );
    let inner = Parts::of(&signed.payload()).protected;
    let encrypted = forge::encrypt(inner, &plaintext, &[vault_agree().public]);
    let bytes = signed
        .with_protected(header)
        .with_payload(encrypted.write())
        .signed(&officers());
    assert_code(open_entitlement(&bytes), "MESSAGE-PARTS");
}

// The commitment.

#[test]
fn a_plaintext_that_was_not_committed_to_is_refused() {
    let mut richer = entitlement();
    richer.products[0].units = 1_000_000;
    let signed = Parts::of(&entitlement_bytes());
    let inner = Parts::of(&signed.payload()).protected;
    let encrypted = forge::encrypt(
        inner,
        &richer.to_cbor(),
        &[vault_agree().public, agreement(BOB).public],
    );
    let bytes = signed.with_payload(encrypted.write()).signed(&officers());
    assert_code(open_entitlement(&bytes), "COMMITMENT-MISMATCH");
    let proposal = Proposal::read(&bytes, bytes.len()).unwrap();
    let read = agreement(BOB).open(|opener| Entitlement::proposed(&proposal, opener));
    assert_code(read, "COMMITMENT-MISMATCH");

    let mut later = acknowledgement();
    later.hq_time += 1_000_000;
    let signed = Parts::of(&acknowledgement_bytes());
    let inner = Parts::of(&signed.payload()).protected;
    let encrypted = forge::encrypt(inner, &later.to_cbor(), &[vault_agree().public]);
    let bytes = signed
        .with_payload(encrypted.write())
        .signed(&[dispatch_key()]);
    assert_code(open_acknowledgement(&bytes), "COMMITMENT-MISMATCH");
}

/// GF(2^128) as GHASH has it (NIST SP 800-38D section 6.3): the most significant bit is the coefficient of 1.
fn product(x: u128, y: u128) -> u128 {
    let (mut sum, mut v) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            sum ^= v;
        }
        v = (v >> 1) ^ if v & 1 == 1 { 0xe1 << 120 } else { 0 };
    }
    sum
}

fn inverse(x: u128) -> u128 {
    // x^(2^128 - 2): the product of x^2, x^4 ... x^(2^127).
    let (mut power, mut result) = (x, 1 << 127);
    for _ in 1..128 {
        power = product(power, power);
        result = product(result, power);
    }
    result
}

struct Gcm {
    cipher: Aes256,
    hash_key: u128,
    iv: [u8; 12],
}

impl Gcm {
    fn new(key: &[u8; 32], iv: [u8; 12]) -> Self {
        let cipher = Aes256::new(key.into());
        let mut gcm = Self {
            cipher,
            hash_key: 0,
            iv,
        };
        gcm.hash_key = gcm.block([0; 16]);
        gcm
    }

    fn block(&self, block: [u8; 16]) -> u128 {
        let mut block = block.into();
        self.cipher.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }

    fn key_stream(&self, counter: u32) -> u128 {
        let mut block = [0; 16];
        block[..12].copy_from_slice(&self.iv);
        block[12..].copy_from_slice(&counter.to_be_bytes());
        self.block(block)
    }

    /// The tag over whole blocks: additional data, padded, then ciphertext.
    fn tag(&self, aad: &[u8], ciphertext: &[u128]) -> u128 {
        let lengths = (aad.len() as u128 * 8) << 64 | (ciphertext.len() as u128 * 128);
        let padded = aad.chunks(16).map(|chunk| {
            let mut block = [0; 16];
            block[..chunk.len()].copy_from_slice(chunk);
            u128::from_be_bytes(block)
        });
        let blocks = padded.chain(ciphertext.iter().copied()).chain([lengths]);
        let hash = blocks.fold(0, |hash, block| product(hash ^ block, self.hash_key));
        hash ^ self.key_stream(1)
    }
}

/// AES-GCM does not commit to its key. Here one ciphertext, signed once, authenticates for officer and vault alike and is
/// one plaintext to the one and another to the other.
#[test]
fn a_ciphertext_that_is_two_plaintexts_to_two_recipients_is_refused() {
    let signed = Parts::of(&entitlement_bytes());
    let inner = Parts::of(&signed.payload()).protected;
    let recipients = [agreement(BOB).public, vault_agree().public];
    let shown = forge::encrypt_with(&[0x11; 32], inner.clone(), b"", &recipients[..1]);
    let hidden = forge::encrypt_with(&[0x22; 32], inner.clone(), b"", &recipients[1..]);
    let aad = forge::additional_data(&inner);
    let [officer, vault] = [[0x11; 32], [0x22; 32]].map(|key| Gcm::new(&key, forge::IV));

    // What the officer shall see, and a last block that makes both tags one.
    let mut wanted = entitlement().to_cbor();
    wanted.resize(wanted.len().next_multiple_of(16), 0);
    let mut ciphertext: Vec<u128> = wanted
        .chunks(16)
        .zip(2..)
        .map(|(chunk, counter)| {
            u128::from_be_bytes(chunk.try_into().unwrap()) ^ officer.key_stream(counter)
        })
        .collect();
    ciphertext.push(0);
    let difference = officer.tag(&aad, &ciphertext) ^ vault.tag(&aad, &ciphertext);
    let square = |x: u128| product(x, x);
    let coefficient = square(officer.hash_key) ^ square(vault.hash_key);
    *ciphertext.last_mut().unwrap() = product(difference, inverse(coefficient));
    let tag = officer.tag(&aad, &ciphertext);
    assert_eq!(tag, vault.tag(&aad, &ciphertext));

    let mut split = Parts {
        last: Value::Array(
            [shown, hidden]
                .map(|mut parts| parts.inner().remove(0))
                .into(),
        ),
        ..forge::encrypt(inner, b"", &[])
    };
    let bytes = ciphertext
        .iter()
        .chain([&tag])
        .flat_map(|block| block.to_be_bytes());
    split.content = Value::Bytes(bytes.collect());
    let seen = forge::decrypt(&split.write(), &agreement(BOB));
    assert!(seen.starts_with(&entitlement().to_cbor()));
    let done = forge::decrypt(&split.write(), &vault_agree());
    assert_ne!(seen, done, "both authenticate");

    // The officers commit to what they saw.
    let header = with_context(&signed.protected, 6, Value::Bytes(forge::sha256(&seen)));
    let bytes = signed
        .with_protected(header)
        .with_payload(split.write())
        .signed(&officers());
    assert_code(open_entitlement(&bytes), "COMMITMENT-MISMATCH");
}

#[test]
fn another_digest_as_commitment_is_refused() {
    let parts = Parts::of(&entitlement_bytes());
    let header = with_context(&parts.protected, 6, Value::Bytes(vec![0; 32]));
    let bytes = parts.clone().with_protected(header).signed(&officers());
    assert_code(open_entitlement(&bytes), "COMMITMENT-MISMATCH");
    let header = with_context(&parts.protected, 6, Value::Bytes(vec![0; 31]));
    let bytes = parts.with_protected(header).signed(&officers());
    assert_code(open_entitlement(&bytes), "MESSAGE-SHAPE");
}

// Recipients.

#[test]
fn who_is_no_recipient_is_told_so() {
    let open = |key: Key| {
        key.open(|opener| Entitlement::open(&entitlement_bytes(), &pinned(), &vault(), opener))
    };
    assert_code(open(stranger()), "NOT-RECIPIENT");
    assert_code(open(agreement(DAVE)), "NOT-RECIPIENT");
    assert_code(open(dispatch_key()), "NOT-RECIPIENT");
    let nobody = entitlement_proposal().plaintext(None).map(drop);
    assert_code(nobody, "NOT-RECIPIENT");
}

#[test]
fn a_recipient_named_twice_is_refused_by_everybody() {
    let bytes = entitlement_with(|encrypted| {
        let again = encrypted.inner()[0].clone();
        encrypted.inner().push(again);
    });
    for reader in [vault_agree(), audit_key(), agreement(BOB)] {
        let opened = reader.open(|opener| Entitlement::open(&bytes, &pinned(), &vault(), opener));
        assert_code(opened, "MESSAGE-PARTS");
    }
}

#[test]
fn no_recipient_or_too_many_are_refused() {
    assert_eq!(
        refused(|encrypted| encrypted.inner().clear()),
        "MESSAGE-SHAPE"
    );
    let crowd: Vec<_> = (100..181)
        .map(|number| forge::recipient(&Key::new(number).public))
        .collect();
    assert_eq!(crowd.len(), 81);
    assert_eq!(
        refused(|encrypted| *encrypted.inner() = crowd),
        "MESSAGE-SHAPE"
    );
}

#[test]
fn an_ephemeral_key_that_is_no_point_of_the_curve_is_refused() {
    let mut off_curve = forge::cose_key(&stranger().public).into_map().unwrap();
    off_curve[3].1 = Value::Bytes(vec![7; 32]);
    let point = |x: [u8; 32], y: [u8; 32]| {
        map([
            (1, 2.into()),
            (-1, 1.into()),
            (-2, Value::Bytes(x.into())),
            (-3, Value::Bytes(y.into())),
        ])
    };
    let edited = |at: usize, value: Value| {
        let mut key = forge::cose_key(&stranger().public).into_map().unwrap();
        key[at].1 = value;
        Value::Map(key)
    };
    let keys = [
        (Value::Map(off_curve), "MESSAGE-KEY"),
        // P-256 has no points of low order but the one at infinity, which has no coordinates; these come closest.
        (point([0; 32], [0; 32]), "MESSAGE-KEY"),
        (point([0xff; 32], [0xff; 32]), "MESSAGE-KEY"),
        (edited(0, 1.into()), "MESSAGE-KEY"),
        (edited(1, 2.into()), "MESSAGE-KEY"),
        // A compressed point.
        (edited(3, Value::Bool(true)), "MESSAGE-SHAPE"),
        (edited(2, Value::Bytes(vec![1; 31])), "MESSAGE-SHAPE"),
        (edited(2, Value::Bytes(Vec::new())), "MESSAGE-SHAPE"),
        (Value::Null, "MESSAGE-SHAPE"),
    ];
    for (key, code) in keys {
        // At the vault's own place, and at another's.
        for at in [0, 1] {
            let key = key.clone();
            let found = refused(|encrypted| {
                let recipient = encrypted.inner()[at].as_array_mut().unwrap();
                recipient[1] = forge::read(&with(&forge::write(&recipient[1]), -1, key));
            });
            assert_eq!(found, code);
        }
    }
}

#[test]
fn a_wrapped_key_of_another_length_is_refused() {
    for length in [0, 16, 32, 39, 41, 48] {
        let code =
            refused(|encrypted| vault_recipient(encrypted)[2] = Value::Bytes(vec![1; length]));
        assert_eq!(code, "MESSAGE-SHAPE", "{length}");
    }
    assert_eq!(
        refused(|encrypted| vault_recipient(encrypted)[2] = Value::Null),
        "MESSAGE-SHAPE"
    );
}

#[test]
fn a_wrapped_key_that_does_not_unwrap_is_refused() {
    let code = refused(|encrypted| vault_recipient(encrypted)[2] = Value::Bytes(vec![1; 40]));
    assert_eq!(code, "DECRYPTION-FAILED");
    // Somebody else's wrapped key.
    let code = refused(|encrypted| {
        let other = encrypted.inner()[1].as_array().unwrap()[2].clone();
        vault_recipient(encrypted)[2] = other;
    });
    assert_eq!(code, "DECRYPTION-FAILED");
}

#[test]
fn a_ciphertext_that_does_not_authenticate_is_refused() {
    for ciphertext in [vec![], vec![0; 15], vec![0; 16], vec![0; 400]] {
        let code = refused(|encrypted| encrypted.content = Value::Bytes(ciphertext));
        assert_eq!(code, "DECRYPTION-FAILED");
    }
    assert_eq!(
        refused(|encrypted| encrypted.content = Value::Null),
        "DECRYPTION-FAILED"
    );
}

#[test]
fn a_recipients_header_with_anything_more_or_less_is_refused() {
    let unprotected = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
        refused(|encrypted| {
            let recipient = vault_recipient(encrypted);
            recipient[1] = forge::read(&change(&forge::write(&recipient[1])));
        })
    };
    assert_eq!(
        unprotected(&|header| with(header, 1, -31)),
        "MESSAGE-HEADER"
    );
    assert_eq!(
        unprotected(&|header| with(header, 3, "text/plain")),
        "MESSAGE-HEADER"
    );
    assert_eq!(
        unprotected(&|header| with(header, 5, Value::Bytes(vec![0; 12]))),
        "MESSAGE-HEADER"
    );
    assert_eq!(unprotected(&|header| with(header, -2, 1)), "MESSAGE-HEADER");
    assert_eq!(
        unprotected(&|header| with(header, -21, Value::Null)),
        "MESSAGE-HEADER"
    );
    assert_eq!(
        unprotected(&|header| with(header, 4, Value::Bytes(vec![1; 31]))),
        "MESSAGE-HEADER"
    );
    assert_eq!(
        unprotected(&|header| forge::without(header, 4)),
        "MESSAGE-HEADER"
    );
    assert_eq!(
        unprotected(&|header| forge::without(header, -1)),
        "MESSAGE-HEADER"
    );
    let nested = refused(|encrypted| {
        let inner = encrypted.inner()[1].clone();
        vault_recipient(encrypted).push(Value::Array(vec![inner]));
    });
    assert_eq!(nested, "MESSAGE-HEADER");
}

#[test]
fn another_algorithm_for_key_or_content_is_refused() {
    for algorithm in [-29, -30, -25, -6, -5, -3] {
        let header = forge::write(&map([(1, algorithm.into())]));
        let code = refused(|encrypted| vault_recipient(encrypted)[0] = Value::Bytes(header));
        assert_eq!(code, "MESSAGE-ALGORITHM", "{algorithm}");
    }
    let more = forge::write(&map([(1, (-31).into()), (4, Value::Bytes(vec![1]))]));
    let code = refused(|encrypted| vault_recipient(encrypted)[0] = Value::Bytes(more));
    assert_eq!(code, "MESSAGE-ALGORITHM");
    for algorithm in [1, 2, 10, 24, -65534] {
        let code = refused(|encrypted| {
            encrypted.protected = with(&encrypted.protected, 1, algorithm);
        });
        assert_eq!(code, "MESSAGE-ALGORITHM", "{algorithm}");
    }
}

#[test]
fn an_iv_of_another_length_place_or_kind_is_refused() {
    let headers = [
        map([]),
        map([(5, Value::Bytes(vec![0; 11]))]),
        map([(5, Value::Bytes(vec![0; 13]))]),
        map([
            (4, Value::Bytes(vec![0; 32])),
            (5, Value::Bytes(vec![0; 12])),
        ]),
        map([(6, Value::Bytes(vec![0; 12]))]),
    ];
    for header in headers {
        assert_eq!(
            refused(|encrypted| encrypted.unprotected = header),
            "MESSAGE-HEADER"
        );
    }
    let code = refused(|encrypted| {
        encrypted.protected = with(&encrypted.protected, 5, Value::Bytes(vec![0; 12]));
    });
    assert_eq!(code, "MESSAGE-HEADER");
}

#[test]
fn a_payload_that_is_not_encrypted_is_refused() {
    let bytes = Parts::of(&entitlement_bytes())
        .with_payload(entitlement().to_cbor())
        .signed(&officers());
    assert_code(open_entitlement(&bytes), "MESSAGE-SHAPE");
    let code = refused(|encrypted| encrypted.tag = forge::SIGN1);
    assert_eq!(code, "MESSAGE-SHAPE");
}

#[test]
fn ten_thousand_counter_signatures_in_what_is_encrypted_are_refused_and_not_followed() {
    let mut header = vec![0xa0];
    for _ in 0..10_000 {
        header = [
            vec![0xa1, 0x0b, 0x83],
            forge::write(&Value::Bytes(header)),
            vec![0xa0, 0x40],
        ]
        .concat();
    }
    let deep = forge::read(&header);
    assert_eq!(
        refused(|encrypted| encrypted.unprotected = deep.clone()),
        "MESSAGE-HEADER"
    );
    assert_eq!(
        refused(|encrypted| vault_recipient(encrypted)[1] = deep),
        "MESSAGE-HEADER"
    );
}

#[test]
fn a_plaintext_larger_than_its_kind_may_be_is_refused() {
    let plaintext = vec![0; ACKNOWLEDGEMENT_BYTES_MAX + 1];
    let signed = Parts::of(&acknowledgement_bytes());
    let header = with_context(
        &signed.protected,
        6,
        Value::Bytes(forge::sha256(&plaintext)),
    );
    let inner = Parts::of(&signed.payload()).protected;
    let encrypted = forge::encrypt(inner, &plaintext, &[vault_agree().public]);
    let bytes = signed
        .with_protected(header)
        .with_payload(encrypted.write())
        .signed(&[dispatch_key()]);
    assert_code(open_acknowledgement(&bytes), "MESSAGE-OVERSIZE");
}
