//! The anchor as the token holds it.
//!
//! ```cddl
//! anchor = {
//!   1: 1,                              ; format version
//!   2: 1..18446744073709551615,        ; counter: each anchor has a higher one than the one before
//!   3: identifier,                     ; site
//!   4: identifier,                     ; vault
//!   5: lineage,
//!   6: uint,                           ; records of the log that were durable
//!   7: digest,                         ; their Merkle root
//!   8: bstr .size 32,                  ; the link behind the last of them
//!   9: [* (uint, uint)],               ; account tag, and the slot below which everything may be spent; in order of tags
//!   10: digest,                        ; SHA-256 of this map without this field: what is torn is told from what is whole
//!   ? 11: bstr .size 16,               ; drawn at random for each anchor; earlier versions wrote none
//! }
//! ```

use std::collections::BTreeMap;

use mintmark_protocol::cbor::{Fields, Map};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};

/// The largest anchor, in bytes.
const BYTES_MAX: usize = 60 * 1024;
/// The most accounts of one anchor.
const BOUNDS_MAX: usize = 3000;
const DIGEST: i64 = 10;
const DRAWN: i64 = 11;
const WHAT: &str = "anchor";

/// What the token knows of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// Higher than that of the anchor before.
    pub(crate) counter: u64,
    /// Whose.
    pub(crate) vault: VaultName,
    /// The history.
    pub(crate) lineage: Lineage,
    /// How many records of it were durable.
    pub(crate) size: u64,
    /// Their Merkle root.
    pub(crate) root: Fingerprint,
    /// The link behind the last of them.
    pub(crate) link: [u8; 32],
    /// The slot of each account below which everything may be spent. An account that is not here had no lease, and its
    /// entitlement was over.
    pub(crate) bounds: BTreeMap<AccountTag, u64>,
    /// Drawn at random: two copies of a home that have done the same make two anchors all the same, and neither takes the
    /// other's for its own. None in one that an earlier version wrote.
    pub(crate) drawn: Option<[u8; 16]>,
}

impl Anchor {
    fn map(&self) -> Map {
        let bounds = self.bounds.iter();
        Map::new()
            .with(1, mintmark_protocol::FORMAT_VERSION)
            .with(2, self.counter)
            .with(3, self.vault.site.as_str())
            .with(4, self.vault.vault.as_str())
            .with(5, self.lineage.as_bytes().to_vec())
            .with(6, self.size)
            .with(7, self.root.as_bytes().to_vec())
            .with(8, self.link.to_vec())
            .with_array(9, bounds.flat_map(|(tag, bound)| [tag.number(), *bound]))
            .with_some(DRAWN, self.drawn.map(|drawn| drawn.to_vec()))
    }

    /// As the token holds it.
    pub(crate) fn to_cbor(&self) -> Vec<u8> {
        let digest = Fingerprint::of(&self.map().encode());
        self.map().with(DIGEST, digest.as_bytes().to_vec()).encode()
    }

    /// Reads what the token holds; none of what is torn, or is no anchor.
    pub(crate) fn from_cbor(bytes: &[u8]) -> Option<Self> {
        let anchor = Self::read(bytes).ok()?;
        // Whatever departs from it in a single bit, the digest included, is another value.
        (anchor.to_cbor() == bytes).then_some(anchor)
    }

    fn read(bytes: &[u8]) -> std::result::Result<Self, mintmark_protocol::Error> {
        let mut fields = Fields::decode(WHAT, bytes, BYTES_MAX)?;
        fields.format_version(1)?;
        let counter = fields.uint(2)?;
        if counter == 0 {
            return Err(fields.wrong(2, "counted from 1"));
        }
        let numbers = fields.array(9, 2 * BOUNDS_MAX)?;
        let numbers = numbers
            .iter()
            .map(|value| u64::try_from(value.as_integer()?).ok());
        let numbers: Option<Vec<u64>> = numbers.collect();
        let (pairs, rest) = numbers.as_deref().unwrap_or(&[0]).as_chunks();
        let bounds = pairs
            .iter()
            .map(|[tag, bound]| Some((AccountTag::new(*tag)?, *bound)));
        let bounds: Option<BTreeMap<_, _>> = bounds.collect();
        let bounds = bounds.filter(|_| rest.is_empty());
        let anchor = Self {
            counter,
            vault: VaultName {
                site: fields.parse(3)?,
                vault: fields.parse(4)?,
            },
            lineage: fields.octets(5)?,
            size: fields.uint(6)?,
            root: fields.octets(7)?,
            link: fields.octets(8)?,
            bounds: bounds.ok_or_else(|| fields.wrong(9, "accounts and slots were expected"))?,
            drawn: match fields.optional(DRAWN) {
                Some(value) => {
                    let drawn = value
                        .as_bytes()
                        .and_then(|bytes| bytes.as_slice().try_into().ok());
                    Some(drawn.ok_or_else(|| fields.wrong(DRAWN, "16 bytes were expected"))?)
                }
                None => None,
            },
        };
        let _: [u8; 32] = fields.octets(DIGEST)?;
        fields.finish()?;
        Ok(anchor)
    }
}

/// The counter of a value that is whole.
pub(in crate::vault) fn counter_of(value: &[u8]) -> Option<u64> {
    Anchor::from_cbor(value).map(|anchor| anchor.counter)
}
