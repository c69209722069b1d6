//! The clock correction: officers set the newest time of a vault's log, also back, after a wrong clock has moved it.
//!
//! ```cddl
//! clock-correction = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: 1..18446744073709551615,        ; number: no other clock correction of the vault has it
//!   5: unix-time,                      ; what the newest time of the log becomes
//!   6: reason,
//!   7: unix-time,                      ; drafted at
//!   8: unix-time,                      ; to be approved and imported before
//! }
//! ```

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::Kind;
use crate::identifier::VaultName;
use crate::order::{Order, expect_number, expect_reason, numbered_id};
use crate::trust::Role;

/// The largest clock correction plaintext, in bytes.
pub const CLOCK_CORRECTION_BYTES_MAX: usize = 4096;

/// The time at which a vault's log goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockCorrection {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// Of which vault.
    pub vault: VaultName,
    /// From 1; no other clock correction of the vault has it.
    pub number: u64,
    /// What the newest time of the log becomes, Unix seconds.
    pub time: u64,
    /// Why, for people: 1 to 200 characters.
    pub reason: String,
    /// When it was drafted, Unix seconds.
    pub drafted_at: u64,
    /// Until when it may be approved and imported, Unix seconds.
    pub approve_until: u64,
}

impl Order for ClockCorrection {
    const KIND: Kind = Kind::ClockCorrection;
    const WHAT: &'static str = "clock correction";
    const ROLE: Role = Role::Enrol;

    fn vault(&self) -> &VaultName {
        &self.vault
    }

    fn object_id(&self) -> String {
        numbered_id("clock", self.number, &self.vault)
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
            .with(5, self.time)
            .with(6, self.reason.as_str())
            .with(7, self.drafted_at)
            .with(8, self.approve_until)
            .encode()
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(Self::WHAT, bytes, CLOCK_CORRECTION_BYTES_MAX)?;
        fields.format_version(1)?;
        let correction = Self {
            salt: fields.octets(0)?,
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            number: fields.uint(4)?,
            time: fields.uint(5)?,
            reason: fields.text(6)?,
            drafted_at: fields.uint(7)?,
            approve_until: fields.uint(8)?,
        };
        fields.finish()?;
        expect_number(Self::WHAT, correction.number)?;
        expect_reason(Self::WHAT, &correction.reason)?;
        Ok(correction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_correction_survives_its_encoding() {
        let correction = ClockCorrection {
            salt: [9; 32],
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            number: 1,
            time: 1_800_000_000,
            reason: "the battery of the clock was replaced".to_owned(),
            drafted_at: 10,
            approve_until: 20,
        };
        let read = ClockCorrection::from_cbor(&correction.to_cbor()).unwrap();
        assert_eq!(read, correction);
        let none = ClockCorrection {
            number: 0,
            ..correction
        };
        assert!(ClockCorrection::from_cbor(&none.to_cbor()).is_err());
    }
}
