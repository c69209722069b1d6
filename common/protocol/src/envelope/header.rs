//! The headers of COSE structures: what is protected, and how little is not.

use coset::{CborSerializable as _, Header, ProtectedHeader};

use super::{CONTEXT_LABEL, Context, HEADER_BYTES_MAX, Kind, X5CHAIN};
use crate::Error;
use crate::cbor::{Fields, Map};
use crate::identifier::KeyId;

/// The protected header of a signed body or an encryption, as bytes.
pub(crate) fn encode_header(
    context: &Context,
    algorithm: Option<i64>,
    key: Option<&KeyId>,
    encryption: bool,
) -> Vec<u8> {
    header_map(context, algorithm, key, encryption).encode()
}

pub(super) fn header_map(
    context: &Context,
    algorithm: Option<i64>,
    key: Option<&KeyId>,
    encryption: bool,
) -> Map {
    let content_type = if encryption {
        context.kind.content_type()
    } else {
        context.kind.signed_content_type()
    };
    Map::new()
        .with_some(1, algorithm)
        .with(3, content_type)
        .with_some(4, key.map(|key| key.as_bytes().to_vec()))
        .with(CONTEXT_LABEL, context.to_map())
}

/// What a protected header holds.
pub(crate) struct ReadHeader {
    pub(crate) context: Context,
    pub(crate) key: Option<KeyId>,
    /// The signer's certificate, DER: in a device secret alone, whose reader knows nothing but a root.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Reads a protected header: exactly the labels of its place, nothing critical, nothing unknown.
pub(crate) fn decode_header(
    what: &'static str,
    bytes: &[u8],
    algorithm: Option<i64>,
    has_key: bool,
    encryption: bool,
) -> Result<ReadHeader, Error> {
    let header = |error| match error {
        Error::Shape { why, .. } => Error::Header { what, why },
        other => other,
    };
    let mut fields = Fields::decode(what, bytes, HEADER_BYTES_MAX).map_err(header)?;
    if let Some(algorithm) = algorithm {
        let found = fields.required(1).map_err(header)?;
        if found.as_integer() != Some(algorithm.into()) {
            return Err(Error::Algorithm { what });
        }
    }
    let content_type = fields.text(3).map_err(header)?;
    let key = if has_key {
        Some(fields.octets(4).map_err(header)?)
    } else {
        None
    };
    let certificate = match fields.optional(X5CHAIN) {
        None => None,
        Some(value) => Some(value.into_bytes().map_err(|_| Error::Header {
            what,
            why: "a certificate chain is one certificate".to_owned(),
        })?),
    };
    let context = fields
        .map(CONTEXT_LABEL, "message context")
        .map_err(header)?;
    let context = Context::from_fields(what, context)?;
    fields.finish().map_err(header)?;
    let expected = if encryption {
        context.kind.content_type()
    } else {
        context.kind.signed_content_type()
    };
    if content_type != expected {
        return Err(Error::WrongType {
            expected,
            found: content_type,
        });
    }
    if context.commitment.is_some() != (context.kind.is_encrypted() && !encryption) {
        return Err(Error::Header {
            what,
            why: "commitment and encryption do not match".to_owned(),
        });
    }
    if certificate.is_some() != (context.kind == Kind::DeviceSecret && !encryption) {
        return Err(Error::Header {
            what,
            why: "a certificate goes with a device secret, and with nothing else".to_owned(),
        });
    }
    Ok(ReadHeader {
        context,
        key,
        certificate,
    })
}

/// A protected header from bytes that we made or have read strictly.
pub(crate) fn protected(bytes: Vec<u8>) -> ProtectedHeader {
    ProtectedHeader {
        original_data: Some(bytes),
        header: Header::default(),
    }
}

/// The bytes of a protected header as they were received.
pub(crate) fn as_received<'a>(
    what: &'static str,
    header: &'a ProtectedHeader,
) -> Result<&'a [u8], Error> {
    header
        .original_data
        .as_deref()
        .ok_or_else(|| Error::Header {
            what,
            why: "a protected header is missing".to_owned(),
        })
}

/// Refuses anything in an unprotected header that has no business there.
pub(crate) fn expect_empty(what: &'static str, header: &Header) -> Result<(), Error> {
    if *header == Header::default() {
        Ok(())
    } else {
        Err(Error::Header {
            what,
            why: "the unprotected header is not empty".to_owned(),
        })
    }
}

/// A header that holds an IV, for the unprotected bucket of a COSE_Encrypt.
pub(crate) fn read_iv(what: &'static str, header: &Header) -> Result<[u8; 12], Error> {
    let iv: [u8; 12] = header.iv.as_slice().try_into().map_err(|_| Error::Header {
        what,
        why: "the IV is not 12 bytes long".to_owned(),
    })?;
    let only_iv = Header {
        iv: header.iv.clone(),
        ..Header::default()
    };
    if *header != only_iv {
        let why = "the unprotected header holds more than an IV".to_owned();
        return Err(Error::Header { what, why });
    }
    Ok(iv)
}

/// A header as CBOR, for comparison with what we would write.
pub(crate) fn header_bytes(header: &Header) -> Vec<u8> {
    header.clone().to_vec().unwrap_or_default()
}
