//! Encoding. The strict reader's own rules are tested beside it; here, that it runs at every level.

use ciborium::Value;

use super::support::forge::{map, with, without};
use super::support::*;
use super::{assert_code, dispatch_of, dispatch_under, open_dispatch};

/// Where `needle` begins in `haystack`.
fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack
        .windows(needle.len())
        .position(|found| found == needle)
        .unwrap()
}

#[test]
fn bytes_after_a_message_a_header_or_a_payload_are_refused() {
    let after = |bytes: &[u8]| [bytes, &[0x00]].concat();
    assert_code(open_dispatch(&after(&dispatch_bytes())), "MESSAGE-ENCODING");
    assert_code(open_dispatch(&dispatch_under(after)), "MESSAGE-ENCODING");
    assert_code(open_dispatch(&dispatch_of(after)), "MESSAGE-ENCODING");
}

#[test]
fn integers_that_are_not_shortest_are_refused() {
    // The format version 1 as 0x18 0x01, in the context and in the content.
    let longer = |bytes: &[u8]| {
        let at = find(bytes, &[0x01, 0x01, 0x02]);
        [&bytes[..at], &[0x01, 0x18, 0x01, 0x02], &bytes[at + 3..]].concat()
    };
    assert_code(open_dispatch(&dispatch_under(longer)), "MESSAGE-ENCODING");
    assert_code(open_dispatch(&dispatch_of(longer)), "MESSAGE-ENCODING");
    // The array of four as 0x98 0x04.
    let message = dispatch_bytes();
    let longer = [&[0xd2, 0x98, 0x04], &message[2..]].concat();
    assert_code(open_dispatch(&longer), "MESSAGE-ENCODING");
    // The tag 18 as 0xd8 0x12.
    let longer = [&[0xd8, 0x12], &message[1..]].concat();
    assert_code(open_dispatch(&longer), "MESSAGE-ENCODING");
}

#[test]
fn indefinite_lengths_are_refused() {
    let message = dispatch_bytes();
    let indefinite = [&[0xd2, 0x9f], &message[2..], &[0xff]].concat();
    assert_code(open_dispatch(&indefinite), "MESSAGE-ENCODING");
    let indefinite = |map: &[u8]| [&[0xbf], &map[1..], &[0xff]].concat();
    assert_code(
        open_dispatch(&dispatch_under(indefinite)),
        "MESSAGE-ENCODING",
    );
    assert_code(open_dispatch(&dispatch_of(indefinite)), "MESSAGE-ENCODING");
}

#[test]
fn a_key_twice_or_out_of_order_is_refused() {
    let change = |bytes: &[u8], first: bool| {
        let mut entries = forge::read(bytes).into_map().unwrap();
        let entry = entries[0].clone();
        if first {
            entries.insert(0, entry);
        } else {
            entries.swap(0, 1);
        }
        forge::write(&Value::Map(entries))
    };
    for first in [true, false] {
        let bytes = dispatch_under(|header| change(header, first));
        assert_code(open_dispatch(&bytes), "MESSAGE-ENCODING");
        let bytes = dispatch_of(|payload| change(payload, first));
        assert_code(open_dispatch(&bytes), "MESSAGE-ENCODING");
    }
}

#[test]
fn a_bignum_in_the_place_of_an_integer_is_refused() {
    let bignum = |bytes: &[u8]| {
        let at = find(bytes, &[0x01, 0x01, 0x02]);
        [
            &bytes[..at],
            &[0x01, 0xc2, 0x41, 0x01, 0x02],
            &bytes[at + 3..],
        ]
        .concat()
    };
    assert_code(open_dispatch(&dispatch_under(bignum)), "MESSAGE-ENCODING");
    assert_code(open_dispatch(&dispatch_of(bignum)), "MESSAGE-ENCODING");
}

#[test]
fn an_unknown_or_missing_field_of_a_content_is_refused() {
    for key in [0, 14, 99, -1] {
        let bytes = dispatch_of(|payload| with(payload, key, 1));
        assert_code(open_dispatch(&bytes), "MESSAGE-SHAPE");
    }
    for key in 1..=13 {
        let bytes = dispatch_of(|payload| without(payload, key));
        assert_code(open_dispatch(&bytes), "MESSAGE-SHAPE");
    }
}

#[test]
fn a_field_of_another_type_is_refused() {
    for key in 1..=13 {
        for value in [
            Value::Bool(true),
            Value::from(-1),
            map([]),
            Value::from("\u{1b}[2J"),
        ] {
            let bytes = dispatch_of(|payload| with(payload, key, value.clone()));
            let error = open_dispatch(&bytes).expect_err("accepted");
            assert!(
                matches!(error.code(), "MESSAGE-SHAPE" | "IDENTIFIER-INVALID"),
                "{error}"
            );
            assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
        }
    }
}
