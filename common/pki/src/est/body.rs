//! The bodies of EST's HTTP messages: DER in base64.

use base64ct::{Base64, Base64Unpadded, Encoding};

use crate::error::{Error, Object};
use crate::{CSR_DER_BYTES_MAX, CertificationRequest, pem};

/// How many times larger than its DER a body may be: base64 makes it a third larger, the rest is white space.
pub const BODY_BYTES_PER_DER_BYTE_MAX: usize = 4;

/// Columns of a line in a body (RFC 2045 section 6.8).
const COLUMNS: usize = 76;

/// The body of an HTTP message for this DER: base64 (RFC 8951 section 3), 76 characters a line, each line ended by CR
/// LF, which old clients count on and new ones skip.
pub fn encode_body(der: &[u8]) -> String {
    let base64 = Base64::encode_string(der);
    let mut body = String::with_capacity(base64.len() + base64.len() / COLUMNS * 2 + 2);
    for line in base64.as_bytes().chunks(COLUMNS) {
        body.extend(line.iter().map(|octet| char::from(*octet)));
        body.push_str("\r\n");
    }
    body
}

/// The same without white space, which nobody needs to send (RFC 8951 section 3.1): for clients that cannot skip it.
pub fn encode_body_in_one_line(der: &[u8]) -> String {
    Base64::encode_string(der)
}

/// The DER in the body of an HTTP message, whatever a Content-Transfer-Encoding may say (RFC 8951 section 3). Spaces,
/// tabs, CR and LF may stand anywhere (section 3.1). The padding at the end may be left out, whole: RFC 4648 section 4
/// demands it, some clients forget it, and nothing is ambiguous without it. `object` is what errors call it.
///
/// # Errors
/// Those that mean empty or too large for `object`; `EST-BODY-NOT-BASE64`, also for DER itself and for PEM.
pub fn decode_body(body: &[u8], object: Object, der_bytes_max: usize) -> Result<Vec<u8>, Error> {
    let too_large = |bytes, bytes_max| Error::TooLarge {
        object,
        bytes,
        bytes_max,
    };
    let body_bytes_max = der_bytes_max.saturating_mul(BODY_BYTES_PER_DER_BYTE_MAX);
    if body.len() > body_bytes_max {
        return Err(too_large(body.len(), body_bytes_max));
    }
    let invalid = |position, reason| Error::Base64 {
        object,
        position,
        reason,
    };
    let mut digits = String::with_capacity(body.len());
    let mut padding = 0_usize;
    for (position, octet) in body.iter().enumerate() {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {
                digits.push(char::from(*octet));
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {
                return Err(invalid(position, "something follows the padding"));
            }
            _ => return Err(invalid(position, foreign(body))),
        }
    }
    if digits.is_empty() && padding == 0 {
        return Err(Error::Empty { object });
    }
    let wanted = match digits.len() % 4 {
        0 => 0,
        1 => return Err(invalid(body.len(), "it is cut short")),
        remainder => 4 - remainder,
    };
    if padding != 0 && padding != wanted {
        return Err(invalid(body.len(), "the padding does not come out even"));
    }
    let bytes = digits.len() / 4 * 3 + (digits.len() % 4).saturating_sub(1);
    if bytes > der_bytes_max {
        return Err(too_large(bytes, der_bytes_max));
    }
    Base64Unpadded::decode_vec(&digits)
        .map_err(|_| invalid(body.len(), "its last character has bits that mean nothing"))
}

/// What a body is instead of base64, of which one character at least is none.
fn foreign(body: &[u8]) -> &'static str {
    if pem::is_one_der_sequence(body) {
        "it is DER itself"
    } else if body.trim_ascii_start().starts_with(b"-----BEGIN ") {
        "it is PEM; only what stands between its BEGIN and END lines is base64"
    } else {
        "this is not a base64 character"
    }
}

/// The request in the body of a simpleenroll or simplereenroll (RFC 7030 sections 4.2.1 and 4.2.2).
///
/// # Errors
/// `EST-BODY-NOT-BASE64`, and those of [`CertificationRequest::from_der`].
pub fn request(body: &[u8]) -> Result<CertificationRequest, Error> {
    let der = decode_body(body, Object::Request, CSR_DER_BYTES_MAX)?;
    CertificationRequest::from_der(&der)
}
