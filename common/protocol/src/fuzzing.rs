//! What the fuzz targets call of this crate that nobody else may: contents apart from their envelopes.

use crate::Error;
use crate::acknowledgement::Acknowledgement;
use crate::audit_grant::AuditGrant;
use crate::backup::Backup;
use crate::bundle::Bundle;
use crate::clock_correction::ClockCorrection;
use crate::device_secret::DeviceSecret;
use crate::dispatch::Dispatch;
use crate::dossier::Dossier;
use crate::encryption::{Encrypted, Opener};
use crate::enrolment::{EnrolmentGrant, EnrolmentRequest};
use crate::entitlement::Entitlement;
use crate::envelope::Kind;
use crate::key_delivery::{Delivery, KeyFacts};
use crate::log_tail::LogTail;
use crate::officer::OfficerRequest;
use crate::order::Order;
use crate::reanchor::Reanchor;
use crate::report::Report;
use crate::restore::RestoreDeclaration;
use crate::revocation::Revocation;
use crate::segment::Segment;
use crate::status::Status;
use crate::transcript::Transcript;
use crate::trust::TrustManifest;

/// Reads the content of a message of this type and writes it again; none where reading alone is to be tried, because
/// it holds what is compressed or nothing at all.
///
/// # Errors
/// What refuses the content.
pub fn content(kind: Kind, bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    Ok(Some(match kind {
        Kind::Backup => Backup::from_cbor(bytes)?.to_cbor(),
        Kind::Transcript => Transcript::from_cbor(bytes)?.to_cbor(),
        Kind::TrustManifest => TrustManifest::from_cbor(bytes)?.to_cbor(),
        Kind::OfficerRequest => OfficerRequest::from_cbor(bytes)?.to_cbor(),
        Kind::EnrolmentRequest => EnrolmentRequest::from_cbor(bytes)?.to_cbor(),
        Kind::EnrolmentGrant => order::<EnrolmentGrant>(bytes)?,
        Kind::Entitlement => order::<Entitlement>(bytes)?,
        Kind::Revocation => order::<Revocation>(bytes)?,
        Kind::ClockCorrection => order::<ClockCorrection>(bytes)?,
        Kind::Reanchor => order::<Reanchor>(bytes)?,
        Kind::Acknowledgement => Acknowledgement::from_cbor(bytes)?.to_cbor(),
        Kind::Dispatch => Dispatch::from_cbor(bytes)?.to_cbor(),
        Kind::AuditBundle => Bundle::from_cbor(bytes)?.to_cbor(),
        Kind::DeviceSecret => DeviceSecret::from_cbor(bytes)?.to_cbor(),
        Kind::RestoreDeclaration => RestoreDeclaration::from_cbor(bytes)?.to_cbor(),
        Kind::LogTail => LogTail::from_cbor(bytes)?.to_cbor(),
        Kind::Dossier => Dossier::from_cbor(bytes)?.to_cbor(),
        Kind::Status => Status::from_cbor(bytes)?.to_cbor(),
        Kind::Report => Report::from_cbor(bytes)?.to_cbor(),
        Kind::AuditGrant => AuditGrant::from_cbor(bytes)?.to_cbor(),
        // Their facts are in the message that they come with.
        Kind::AuditSegment | Kind::KeyDelivery => return Ok(None),
    }))
}

fn order<T: Order>(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let order = T::from_cbor(bytes)?;
    order.check()?;
    // They are read by people, too.
    let _ = (
        order.vault().to_string(),
        order.object_id(),
        order.approve_until(),
    );
    Ok(order.to_cbor())
}

/// The records in the plaintext of a segment that a bundle says begins there and has so many.
///
/// # Errors
/// As [`Segment::open`] once it has decrypted.
pub fn segment(plaintext: &[u8], known: (u64, u64)) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let segment = Segment::from_plaintext(plaintext, known)?;
    let records = segment.records();
    Ok(records.map(|(at, record)| (at, record.to_vec())).collect())
}

/// What a COSE_Encrypt holds, whoever it is from.
///
/// # Errors
/// What the strict reader and the header reader refuse; a failed decryption.
pub fn encrypted(bytes: &[u8], opener: Opener<'_>) -> Result<Vec<u8>, Error> {
    let encrypted = Encrypted::read_any("fuzzed message", bytes, bytes.len())?;
    encrypted.open(opener).map(|plaintext| plaintext.to_vec())
}

/// The key in a delivery, if it is opened in memory.
///
/// # Errors
/// What refuses the delivery.
pub fn delivery(
    bytes: &[u8],
    facts: &KeyFacts,
    opener: Opener<'_>,
) -> Result<Option<[u8; 32]>, Error> {
    match Delivery::read(bytes, facts)? {
        Delivery::Agreed(delivery) => delivery.open(opener).map(|key| Some(*key)),
        Delivery::Transported { .. } => Ok(None),
    }
}
