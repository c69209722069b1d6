//! The dispatch: the wrapper of whatever HQ sends to a vault, which puts it into one order that nobody else can change.
//!
//! ```cddl
//! dispatch = {
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: uint,                           ; epoch
//!   5: uint,                           ; sequence, from 1
//!   6: digest / null,                  ; fingerprint of the dispatch before in this epoch; null in the first alone
//!   7: bundle-seen / null,             ; the newest bundle that HQ held when it made this
//!   8: message-type,                   ; of the content
//!   9: object-id,                      ; of the content
//!   10: uint,                          ; version of the content; 1 where it has none
//!   11: bstr,                          ; the content: a message of that type, as bytes
//!   12: [0*8 der],                     ; certificates that the root made for it: identity, device CA
//!   13: unix-time,                     ; made at
//! }
//! bundle-seen = {
//!   1: lineage,
//!   2: uint,                           ; sequence
//!   3: digest,                         ; fingerprint
//! }
//! ```

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, Lineage, ObjectId, VaultName};
use crate::trust::TrustManifest;

/// The largest dispatch, in bytes.
pub const DISPATCH_BYTES_MAX: usize = 8 << 20;
const WHAT: &str = "dispatch";

/// The newest bundle that HQ holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleSeen {
    /// The history that it is of.
    pub lineage: Lineage,
    /// Its number in that.
    pub sequence: u64,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// One message from HQ to a vault, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// For whom.
    pub vault: VaultName,
    /// The epoch; a new one begins when HQ was restored or its dispatch key changed.
    pub epoch: u64,
    /// From 1, one more each time.
    pub sequence: u64,
    /// The fingerprint of the one before in this epoch.
    pub previous: Option<Fingerprint>,
    /// What HQ had seen of the vault.
    pub bundle_seen: Option<BundleSeen>,
    /// The type of the content.
    pub kind: Kind,
    /// The content's id.
    pub id: String,
    /// The content's version, 1 where it has none.
    pub version: u64,
    /// The content: a message of its own, verified by itself.
    pub content: Vec<u8>,
    /// Certificates (DER) that the root made for it.
    pub certificates: Vec<Vec<u8>>,
    /// When it was made, Unix seconds.
    pub made_at: u64,
}

impl Dispatch {
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let seen = self.bundle_seen.map(|seen| {
            Map::new()
                .with(1, seen.lineage.as_bytes().to_vec())
                .with(2, seen.sequence)
                .with(3, seen.fingerprint.as_bytes().to_vec())
        });
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.epoch)
            .with(5, self.sequence)
            .with_nullable(6, self.previous.map(|digest| digest.as_bytes().to_vec()))
            .with_nullable(7, seen)
            .with(8, self.kind.as_str())
            .with(9, self.id.as_str())
            .with(10, self.version)
            .with(11, self.content.clone())
            .with_array(12, self.certificates.iter().cloned())
            .with(13, self.made_at)
            .encode()
    }

    pub(crate) fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, DISPATCH_BYTES_MAX)?;
        fields.format_version(1)?;
        let bundle_seen = match fields.nullable(7)? {
            None => None,
            Some(value) => {
                let mut seen = Fields::new("bundle seen", value)?;
                let read = BundleSeen {
                    lineage: seen.octets(1)?,
                    sequence: seen.uint(2)?,
                    fingerprint: seen.octets(3)?,
                };
                seen.finish()?;
                Some(read)
            }
        };
        let certificates: Option<Vec<_>> = fields
            .array(12, 8)?
            .into_iter()
            .map(|der| der.into_bytes().ok())
            .collect();
        let dispatch = Self {
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            epoch: fields.uint(4)?,
            sequence: fields.uint(5)?,
            previous: fields.nullable_fingerprint(6)?,
            bundle_seen,
            kind: fields.parse(8)?,
            id: fields.parse::<ObjectId>(9)?.to_string(),
            version: fields.uint(10)?,
            content: fields.bytes(11)?,
            certificates: certificates
                .ok_or_else(|| fields.wrong(12, "byte strings were expected"))?,
            made_at: fields.uint(13)?,
        };
        fields.finish()?;
        if dispatch.sequence == 0 || (dispatch.sequence == 1) != dispatch.previous.is_none() {
            let why = "the first dispatch of an epoch, and only that, has none before it";
            return Err(Error::Shape {
                what: WHAT,
                why: why.to_owned(),
            });
        }
        Ok(dispatch)
    }

    /// The id under which it travels.
    pub fn object_id(&self) -> String {
        format!("dispatch-{}-{:06}", self.epoch, self.sequence)
    }

    /// Signs it with the dispatch key. Returns the message and its fingerprint, which the next one names.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn seal(
        &self,
        manifest: &TrustManifest,
        sign: Sign<'_>,
    ) -> Result<(Vec<u8>, Fingerprint), Error> {
        let context = Context {
            kind: Kind::Dispatch,
            sender: Party::Hq,
            recipient: Party::Vault(self.vault.clone()),
            id: self.object_id(),
            commitment: None,
        };
        let payload = self.to_cbor();
        let fingerprint = Fingerprint::of(&payload);
        Ok((
            sign_one(&context, payload, &manifest.dispatch_key, sign)?,
            fingerprint,
        ))
    }

    /// Opens a dispatch for `vault`. Its order, and its content, are judged by whoever keeps the chain.
    ///
    /// # Errors
    /// What refuses the signature or the parties.
    pub fn open(
        bytes: &[u8],
        manifest: &Verified<TrustManifest>,
        vault: &VaultName,
    ) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, DISPATCH_BYTES_MAX)?;
        message.context.expect(
            WHAT,
            Kind::Dispatch,
            &Party::Hq,
            &Party::Vault(vault.clone()),
        )?;
        message.verify(&manifest.content().dispatch_key)?;
        let dispatch = Self::from_cbor(message.payload())?;
        if dispatch.vault != *vault || dispatch.object_id() != message.context.id {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ",
            });
        }
        let plaintext = message.payload().to_vec();
        Ok(Verified::new(
            dispatch,
            message.fingerprint(),
            plaintext,
            Vec::new(),
        ))
    }
}
