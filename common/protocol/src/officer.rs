//! An officer's request to be listed: their public keys, signed by the signing key itself, on the way to HQ.
//!
//! ```cddl
//! officer-request = {
//!   1: 1,                              ; format version
//!   2: identifier,                     ; name
//!   3: COSE_Key,                       ; signing key
//!   4: COSE_Key,                       ; agreement key
//!   5: unix-time,                      ; made at
//!   6: tstr,                           ; what holds the keys: a claim
//! }
//! ```

use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, OfficerId};
use crate::key::{cose_key, from_cose_key};

/// The largest officer request, in bytes.
pub const OFFICER_REQUEST_BYTES_MAX: usize = 16 * 1024;
const WHAT: &str = "officer request";

/// An officer's public keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfficerRequest {
    /// Their name.
    pub id: OfficerId,
    /// The key that they sign with.
    pub signing_key: PublicKey,
    /// The key that drafts are encrypted to.
    pub agreement_key: PublicKey,
    /// When it was made, Unix seconds.
    pub made_at: u64,
    /// What holds the keys, as the officer's machine says.
    pub key_store: String,
}

impl OfficerRequest {
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.id.as_str())
            .with(3, cose_key(&self.signing_key))
            .with(4, cose_key(&self.agreement_key))
            .with(5, self.made_at)
            .with(6, self.key_store.as_str())
            .encode()
    }

    pub(crate) fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, OFFICER_REQUEST_BYTES_MAX)?;
        fields.format_version(1)?;
        let request = Self {
            id: fields.parse(2)?,
            signing_key: from_cose_key(WHAT, fields.required(3)?)?,
            agreement_key: from_cose_key(WHAT, fields.required(4)?)?,
            made_at: fields.uint(5)?,
            key_store: fields.text(6)?,
        };
        fields.finish()?;
        Ok(request)
    }

    /// Signs it with the signing key. Returns the message and its fingerprint, which the officer reads out.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn seal(&self, sign: Sign<'_>) -> Result<(Vec<u8>, Fingerprint), Error> {
        let context = Context {
            kind: Kind::OfficerRequest,
            sender: Party::Officer(self.id.clone()),
            recipient: Party::Hq,
            id: self.id.to_string(),
            commitment: None,
        };
        let payload = self.to_cbor();
        let fingerprint = Fingerprint::of(&payload);
        Ok((
            sign_one(&context, payload, &self.signing_key, sign)?,
            fingerprint,
        ))
    }

    /// Opens a request whose fingerprint a person has compared. It is signed by the key that it asks to list.
    ///
    /// # Errors
    /// [`Error::FingerprintMismatch`], [`Error::SignatureInvalid`], and what the strict reader refuses.
    pub fn open(bytes: &[u8], fingerprint: &Fingerprint) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, OFFICER_REQUEST_BYTES_MAX)?;
        let found = message.fingerprint();
        if found != *fingerprint {
            let (expected, found) = (fingerprint.to_string(), found.to_string());
            return Err(Error::FingerprintMismatch {
                what: WHAT,
                expected,
                found,
            });
        }
        let request = Self::from_cbor(message.payload())?;
        let sender = Party::Officer(request.id.clone());
        message
            .context
            .expect(WHAT, Kind::OfficerRequest, &sender, &Party::Hq)?;
        message.verify(&request.signing_key)?;
        let plaintext = message.payload().to_vec();
        Ok(Verified::new(request, found, plaintext, Vec::new()))
    }
}
