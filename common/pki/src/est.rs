//! What EST sends and receives (RFC 7030, RFC 8951, RFC 9908): bodies in base64, certs-only messages, CSR attributes.
//!
//! The messages are a few elements each, so they are written and read with what this crate has for DER. A certificate
//! goes into a message and comes out of it as the bytes that were signed, never encoded again.

mod body;
mod certs_only;
mod csr_attributes;

pub use body::{
    BODY_BYTES_PER_DER_BYTE_MAX, decode_body, encode_body, encode_body_in_one_line, request,
};
pub use certs_only::{CERTS_ONLY_DER_BYTES_MAX, certificates, certs_only};
pub use csr_attributes::{CSR_ATTRIBUTES_DER_BYTES_MAX, CsrAttributes};

use crate::error::{Error, Object};

fn check_size(der: &[u8], object: Object, bytes_max: usize) -> Result<(), Error> {
    if der.is_empty() {
        return Err(Error::Empty { object });
    }
    if der.len() > bytes_max {
        return Err(Error::TooLarge {
            object,
            bytes: der.len(),
            bytes_max,
        });
    }
    Ok(())
}
