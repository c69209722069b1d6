//! The revocation: what officers end at one vault. Numbered per vault, so that none counts twice.
//!
//! ```cddl
//! revocation = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: 1..18446744073709551615,        ; number: no other revocation of the vault has it
//!   5: revocation-target,
//!   6: reason,
//!   7: unix-time,                      ; drafted at
//!   8: unix-time,                      ; to be approved before; a vault follows it however late
//! }
//! revocation-target = { 1: identifier }  ; an entitlement: whatever its version, it is over
//!   / { 2: true }                      ; the vault: it makes no new devices until its device CA is changed
//!   / { 3: digest }                    ; a device CA, by the SHA-256 of its certificate (DER): what it certified is no longer good
//! reason = tstr .size (1..800)         ; for people: 1 to 200 characters, none of them a control character
//! ```

use std::fmt;

use ciborium::Value;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::Kind;
use crate::identifier::{EntitlementId, Fingerprint, VaultName};
use crate::order::{Order, expect_number, expect_reason, numbered_id};
use crate::trust::Role;

/// The largest revocation plaintext, in bytes.
pub const REVOCATION_BYTES_MAX: usize = 4096;

/// What ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An entitlement, whatever its version.
    Entitlement(EntitlementId),
    /// The making of new devices, until a rotation changes the device CA.
    Vault,
    /// A device CA, by the SHA-256 of its certificate (DER): what it certified is no longer good.
    DeviceCa(Fingerprint),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entitlement(id) => write!(f, "entitlement {id}"),
            Self::Vault => f.write_str("the making of new devices"),
            Self::DeviceCa(fingerprint) => write!(f, "device CA {fingerprint}"),
        }
    }
}

/// What officers end at one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// At which vault.
    pub vault: VaultName,
    /// From 1; no other revocation of the vault has it.
    pub number: u64,
    /// What ends.
    pub target: Target,
    /// Why, for people: 1 to 200 characters.
    pub reason: String,
    /// When it was drafted, Unix seconds.
    pub drafted_at: u64,
    /// Until when it may be approved, Unix seconds. A vault follows it however late: a clock set forward is no way around it.
    pub approve_until: u64,
}

impl Order for Revocation {
    const KIND: Kind = Kind::Revocation;
    const WHAT: &'static str = "revocation";
    const ROLE: Role = Role::Revoke;

    fn vault(&self) -> &VaultName {
        &self.vault
    }

    fn object_id(&self) -> String {
        numbered_id("revoke", self.number, &self.vault)
    }

    fn approve_until(&self) -> u64 {
        self.approve_until
    }

    fn to_cbor(&self) -> Vec<u8> {
        let target = match &self.target {
            Target::Entitlement(id) => Map::new().with(1, id.as_str()),
            Target::Vault => Map::new().with(2, true),
            Target::DeviceCa(digest) => Map::new().with(3, digest.as_bytes().to_vec()),
        };
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.number)
            .with(5, target.value())
            .with(6, self.reason.as_str())
            .with(7, self.drafted_at)
            .with(8, self.approve_until)
            .encode()
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(Self::WHAT, bytes, REVOCATION_BYTES_MAX)?;
        fields.format_version(1)?;
        let target = target(fields.map(5, "target of a revocation")?)?;
        let revocation = Self {
            salt: fields.octets(0)?,
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            number: fields.uint(4)?,
            target,
            reason: fields.text(6)?,
            drafted_at: fields.uint(7)?,
            approve_until: fields.uint(8)?,
        };
        fields.finish()?;
        expect_number(Self::WHAT, revocation.number)?;
        expect_reason(Self::WHAT, &revocation.reason)?;
        Ok(revocation)
    }
}

fn target(mut fields: Fields) -> Result<Target, Error> {
    let target = if let Some(id) = fields.optional(1) {
        let id = id.into_text().ok().and_then(|id| id.parse().ok());
        Target::Entitlement(id.ok_or_else(|| fields.wrong(1, "no entitlement id"))?)
    } else if let Some(all) = fields.optional(2) {
        if all != Value::Bool(true) {
            return Err(fields.wrong(2, "only true was expected"));
        }
        Target::Vault
    } else {
        Target::DeviceCa(fields.octets(3)?)
    };
    fields.finish()?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(target: Target) -> Revocation {
        Revocation {
            salt: [9; 32],
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            number: 3,
            target,
            reason: "the line was sold".to_owned(),
            drafted_at: 10,
            approve_until: 20,
        }
    }

    #[test]
    fn a_revocation_survives_its_encoding_whatever_it_ends() {
        for target in [
            Target::Entitlement("th200-2027q1".parse().unwrap()),
            Target::Vault,
            Target::DeviceCa(Fingerprint::of(b"certificate")),
        ] {
            let revocation = example(target);
            assert_eq!(
                Revocation::from_cbor(&revocation.to_cbor()).unwrap(),
                revocation
            );
        }
        // printf berlin/v1 | sha256sum
        assert_eq!(example(Target::Vault).object_id(), "revoke-3-d0456537");
    }

    #[test]
    fn a_revocation_without_number_reason_or_one_target_is_refused() {
        let refused = |revocation: Revocation| {
            Revocation::from_cbor(&revocation.to_cbor())
                .unwrap_err()
                .to_string()
        };
        let none = Revocation {
            number: 0,
            ..example(Target::Vault)
        };
        assert!(refused(none).contains("count from 1"));
        for reason in ["", "two\nlines", &"x".repeat(201)] {
            let reason = reason.to_owned();
            let revocation = Revocation {
                reason,
                ..example(Target::Vault)
            };
            assert!(refused(revocation).contains("1 to 200 characters"));
        }
        let two = Map::new().with(2, true).with(3, vec![0; 32]).value();
        let error = target(Fields::new("target of a revocation", two).unwrap()).unwrap_err();
        assert_eq!(error.code(), "MESSAGE-SHAPE", "{error}");
    }
}
