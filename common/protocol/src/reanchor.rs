//! The re-anchor: officers state the head of a vault's log that HQ holds, for a vault whose token has lost its own mark of
//! it. The vault goes on only if its log leads through that head.
//!
//! ```cddl
//! re-anchor = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: 1..18446744073709551615,        ; number: no other re-anchor of the vault has it
//!   5: lineage,
//!   6: 1..18446744073709551615,        ; newest bundle that HQ holds: sequence
//!   7: digest,                         ; its fingerprint
//!   8: uint,                           ; size of the log that it covers, in records
//!   9: digest,                         ; Merkle root of that log
//!   10: reason,
//!   11: unix-time,                     ; drafted at
//!   12: unix-time,                     ; to be approved and imported before
//! }
//! ```

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::Kind;
use crate::identifier::{Fingerprint, Lineage, VaultName};
use crate::order::{Order, expect_number, expect_reason, numbered_id};
use crate::trust::Role;

/// The largest re-anchor plaintext, in bytes.
pub const REANCHOR_BYTES_MAX: usize = 4096;

/// The head of a vault's log that HQ vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reanchor {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// Of which vault.
    pub vault: VaultName,
    /// From 1; no other re-anchor of the vault has it.
    pub number: u64,
    /// The history that goes on.
    pub lineage: Lineage,
    /// The newest bundle that HQ holds, from 1.
    pub bundle_sequence: u64,
    /// That bundle's fingerprint.
    pub bundle_fingerprint: Fingerprint,
    /// How many records of the log HQ holds.
    pub log_size: u64,
    /// The Merkle root of those.
    pub log_root: Fingerprint,
    /// Why, for people: 1 to 200 characters.
    pub reason: String,
    /// When it was drafted, Unix seconds.
    pub drafted_at: u64,
    /// Until when it may be approved and imported, Unix seconds.
    pub approve_until: u64,
}

impl Order for Reanchor {
    const KIND: Kind = Kind::Reanchor;
    const WHAT: &'static str = "re-anchor";
    const ROLE: Role = Role::Enrol;

    fn vault(&self) -> &VaultName {
        &self.vault
    }

    fn object_id(&self) -> String {
        numbered_id("reanchor", self.number, &self.vault)
    }

    fn approve_until(&self) -> u64 {
        self.approve_until
    }

    fn to_cbor(&self) -> Vec<u8> {
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.number)
            .with(5, self.lineage.as_bytes().to_vec())
            .with(6, self.bundle_sequence)
            .with(7, self.bundle_fingerprint.as_bytes().to_vec())
            .with(8, self.log_size)
            .with(9, self.log_root.as_bytes().to_vec())
            .with(10, self.reason.as_str())
            .with(11, self.drafted_at)
            .with(12, self.approve_until)
            .encode()
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(Self::WHAT, bytes, REANCHOR_BYTES_MAX)?;
        fields.format_version(1)?;
        let reanchor = Self {
            salt: fields.octets(0)?,
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            number: fields.uint(4)?,
            lineage: fields.octets(5)?,
            bundle_sequence: fields.uint(6)?,
            bundle_fingerprint: fields.octets(7)?,
            log_size: fields.uint(8)?,
            log_root: fields.octets(9)?,
            reason: fields.text(10)?,
            drafted_at: fields.uint(11)?,
            approve_until: fields.uint(12)?,
        };
        fields.finish()?;
        expect_number(Self::WHAT, reanchor.number)?;
        expect_number(Self::WHAT, reanchor.bundle_sequence)?;
        expect_reason(Self::WHAT, &reanchor.reason)?;
        Ok(reanchor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reanchor_survives_its_encoding() {
        let reanchor = Reanchor {
            salt: [9; 32],
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            number: 1,
            lineage: Lineage::new([7; 16]),
            bundle_sequence: 4,
            bundle_fingerprint: Fingerprint::of(b"bundle"),
            log_size: 1000,
            log_root: Fingerprint::of(b"root"),
            reason: "the token was re-initialised".to_owned(),
            drafted_at: 10,
            approve_until: 20,
        };
        assert_eq!(Reanchor::from_cbor(&reanchor.to_cbor()).unwrap(), reanchor);
        let none = Reanchor {
            bundle_sequence: 0,
            ..reanchor
        };
        assert!(Reanchor::from_cbor(&none.to_cbor()).is_err());
    }
}
