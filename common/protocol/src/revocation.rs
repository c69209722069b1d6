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
//!   / { 4: [1*1000 revoked-device] }   ; certificates of devices, in order of keys 1 to 3, none twice: they are no longer good
//! revoked-device = {
//!   1: uint,                           ; account tag
//!   2: uint,                           ; slot
//!   3: 0..65535,                       ; issue number
//!   4: uint,                           ; the record that reserved it
//!   5: bstr .size 17,                  ; serial number: that of keys 1 to 3, under the serial key
//!   6: tstr .size (1..64),             ; the device's id, for people
//! }
//! reason = tstr .size (1..800)         ; for people: 1 to 200 characters, none of them a control character
//! ```

use std::fmt;

use ciborium::Value;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::entitlement::AccountTag;
use crate::envelope::Kind;
use crate::identifier::{DeviceId, EntitlementId, Fingerprint, VaultName};
use crate::order::{Order, expect_number, expect_reason, numbered_id};
use crate::trust::Role;

/// The largest revocation plaintext, in bytes.
pub const REVOCATION_BYTES_MAX: usize = 98304;
/// The most devices of one revocation.
pub const DEVICES_MAX: usize = 1000;

/// What ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An entitlement, whatever its version.
    Entitlement(EntitlementId),
    /// The making of new devices, until a rotation changes the device CA.
    Vault,
    /// A device CA, by the SHA-256 of its certificate (DER): what it certified is no longer good.
    DeviceCa(Fingerprint),
    /// Certificates of devices, in order of account, slot and issue.
    Devices(Vec<RevokedDevice>),
}

/// One certificate of a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevokedDevice {
    /// The account that its unit was spent from.
    pub account: AccountTag,
    /// Its slot.
    pub slot: u64,
    /// Its issue number.
    pub issue: u16,
    /// The record of the vault's log that reserved it.
    pub reservation: u64,
    /// Its serial number, which is that of account, slot and issue.
    pub serial: [u8; 17],
    /// The device, for people.
    pub device_id: DeviceId,
}

impl RevokedDevice {
    /// Its place: account, slot, issue number.
    pub fn place(&self) -> (AccountTag, u64, u16) {
        (self.account, self.slot, self.issue)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entitlement(id) => write!(f, "entitlement {id}"),
            Self::Vault => f.write_str("the making of new devices"),
            Self::DeviceCa(fingerprint) => write!(f, "device CA {fingerprint}"),
            Self::Devices(devices) => write!(f, "{} certificates of devices", devices.len()),
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
            Target::Devices(devices) => Map::new().with_array(4, devices.iter().map(device_map)),
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
    } else if let Some(devices) = fields.optional(4) {
        let devices = devices.into_array().unwrap_or_default();
        if devices.is_empty() || devices.len() > DEVICES_MAX {
            return Err(fields.wrong(4, "1 to 1000 devices were expected"));
        }
        let devices: Vec<_> = devices.into_iter().map(device).collect::<Result<_, _>>()?;
        if !devices.is_sorted_by(|one, next| one.place() < next.place()) {
            return Err(fields.wrong(4, "not in order, or one stands twice"));
        }
        Target::Devices(devices)
    } else {
        Target::DeviceCa(fields.octets(3)?)
    };
    fields.finish()?;
    Ok(target)
}

fn device_map(device: &RevokedDevice) -> Map {
    Map::new()
        .with(1, device.account.number())
        .with(2, device.slot)
        .with(3, device.issue)
        .with(4, device.reservation)
        .with(5, device.serial.to_vec())
        .with(6, device.device_id.as_str())
}

fn device(value: Value) -> Result<RevokedDevice, Error> {
    let mut fields = Fields::new("device of a revocation", value)?;
    let (tag, issue) = (fields.uint(1)?, fields.uint(3)?);
    let device = RevokedDevice {
        account: AccountTag::new(tag).ok_or_else(|| fields.wrong(1, "no account tag"))?,
        slot: fields.uint(2)?,
        issue: u16::try_from(issue).map_err(|_| fields.wrong(3, "too large"))?,
        reservation: fields.uint(4)?,
        serial: fields.octets(5)?,
        device_id: fields.parse(6)?,
    };
    fields.finish()?;
    Ok(device)
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

    fn revoked(slot: u64) -> RevokedDevice {
        RevokedDevice {
            account: AccountTag::new(1).unwrap(),
            slot,
            issue: 0,
            reservation: 17 + slot,
            serial: [0x4d; 17],
            device_id: "TH200-00000001".parse().unwrap(),
        }
    }

    #[test]
    fn devices_that_are_none_or_out_of_order_or_stand_twice_are_refused() {
        for devices in [
            vec![],
            vec![revoked(1), revoked(0)],
            vec![revoked(1), revoked(1)],
            (0..=DEVICES_MAX as u64).map(revoked).collect(),
        ] {
            let revocation = example(Target::Devices(devices));
            let refused = Revocation::from_cbor(&revocation.to_cbor()).unwrap_err();
            assert!(["MESSAGE-SHAPE", "MESSAGE-OVERSIZE"].contains(&refused.code()));
        }
        let most = example(Target::Devices(
            (0..DEVICES_MAX as u64).map(revoked).collect(),
        ));
        assert_eq!(Revocation::from_cbor(&most.to_cbor()).unwrap(), most);
    }

    #[test]
    fn a_revocation_survives_its_encoding_whatever_it_ends() {
        for target in [
            Target::Entitlement("th200-2027q1".parse().unwrap()),
            Target::Vault,
            Target::DeviceCa(Fingerprint::of(b"certificate")),
            Target::Devices(vec![revoked(0), revoked(1)]),
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
