//! Certification requests, certificate profiles, CRLs, chain checks, and the messages of EST.
//!
//! Everything here is a pure function of its arguments: no files, no clock, no randomness, no private keys and no
//! policy. The vault signs what is computed here; headquarters computes it again from the vault's log and demands the
//! same bytes.
//!
//! Bytes from outside meet, in this order: a size limit, a strict and depth-limited DER scanner that does not recurse,
//! a parser that knows only what is accepted, and one signature verification over the bytes as received.

mod algorithm;
mod authority;
mod certificate;
mod crl;
mod element;
mod encoding;
mod error;
pub mod est;
mod issuer;
mod name;
mod oid;
mod pem;
mod profile;
mod request;
mod server_name;
mod station;
mod template;
mod time;

pub use algorithm::{KeyAlgorithm, verify_p256};
pub use authority::{
    CA_SERIAL_BYTES_MIN, device_ca_tbs, next_root_tbs, root_link_tbs, root_tbs, vault_identity_tbs,
};
pub use certificate::{
    CERTIFICATE_DER_BYTES_MAX, CERTIFICATE_FILE_BYTES_MAX, Certificate, SERIAL_BYTES_MAX,
    verify_chain,
};
pub use crl::{
    CRL_DER_BYTES_MAX, CRL_FILE_BYTES_MAX, Crl, CrlReason, RevokedSerial, assemble_crl, crl_tbs,
};
pub use error::{Error, Object};
pub use issuer::Issuer;
pub use pem::to_pem;
pub use profile::{DeviceFacts, DeviceProfile, ExtendedKeyUsage, NotAfter, assemble, device_tbs};
pub use request::{
    CSR_DER_BYTES_MAX, CSR_FILE_BYTES_MAX, CertificationRequest, certification_request,
};
pub use server_name::{DnsName, ServerName};
pub use station::{SERVER_NAMES_MAX, Validity, station_ca_tbs, station_server_tbs, station_tbs};
pub use template::{SUBJECT_ATTRIBUTES_MAX, SUBJECT_TEMPLATE_BYTES_MAX, SubjectTemplate};
pub use time::NO_EXPIRY_UNIX;
