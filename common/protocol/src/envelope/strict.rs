//! What is refused of a COSE structure before coset sees it.

use ciborium::Value;

use super::{CONTEXT_LABEL, HEADER_BYTES_MAX, TYPE_LABEL, X5CHAIN};
use crate::Error;
use crate::cbor;

/// The header labels of the format: algorithm, content type, key id, IV, type, certificate chain, ephemeral key, context.
const LABELS: [i64; 8] = [1, 3, 4, 5, TYPE_LABEL, X5CHAIN, -1, CONTEXT_LABEL];

/// The tag of COSE_Sign1, encoded.
pub(crate) const TAG_SIGN1: &[u8] = &[0xd2];
/// The tag of COSE_Encrypt, encoded.
pub(crate) const TAG_ENCRYPT: &[u8] = &[0xd8, 0x60];
/// The tag of COSE_Sign, encoded.
pub(crate) const TAG_SIGN: &[u8] = &[0xd8, 0x62];

/// The first byte or two of a tagged COSE message: 0xd2 (tag 18), 0xd8 0x60 (96), 0xd8 0x62 (98).
pub(crate) fn expect_tag(what: &'static str, bytes: &[u8], tag: &[u8]) -> Result<(), Error> {
    if bytes.starts_with(tag) {
        Ok(())
    } else {
        Err(Error::Shape {
            what,
            why: "it is not the COSE structure that its type has".to_owned(),
        })
    }
}

/// The strict reader, before any library sees the bytes.
pub(crate) fn check(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<(), Error> {
    match cbor::decode(what, bytes, bytes_max)? {
        Value::Tag(_, message) => check_headers(what, &message),
        message => check_headers(what, &message),
    }
}

/// Refuses every header label that is not of the format, at every level of a COSE structure. Counter-signatures hold
/// protected headers that hold counter-signatures: byte strings in byte strings, which the strict reader does not look
/// into and which coset follows without limit.
fn check_headers(what: &'static str, structure: &Value) -> Result<(), Error> {
    let Value::Array(parts) = structure else {
        return Ok(()); // coset refuses it
    };
    if let Some(Value::Bytes(protected)) = parts.first()
        && !protected.is_empty()
    {
        check_labels(what, &cbor::decode(what, protected, HEADER_BYTES_MAX)?)?;
    }
    if let Some(unprotected) = parts.get(1) {
        check_labels(what, unprotected)?;
    }
    // Signatures and recipients; recipients of recipients. The strict reader has bounded the depth.
    for inner in parts.iter().skip(3).filter_map(Value::as_array).flatten() {
        check_headers(what, inner)?;
    }
    Ok(())
}

fn check_labels(what: &'static str, header: &Value) -> Result<(), Error> {
    for (label, _) in header.as_map().into_iter().flatten() {
        let known = label
            .as_integer()
            .is_some_and(|label| LABELS.iter().any(|known| label == (*known).into()));
        if !known {
            return Err(Error::Header {
                what,
                why: "a header parameter that the format does not have".to_owned(),
            });
        }
    }
    Ok(())
}

pub(crate) fn not_cose(what: &'static str, error: &coset::CoseError) -> Error {
    Error::Shape {
        what,
        why: format!("not the COSE structure expected: {error}"),
    }
}
