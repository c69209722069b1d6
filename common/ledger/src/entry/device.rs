//! Devices that are scrapped, voided or reworked.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{DeviceId, Sku, StationId};

use super::LogSequence;

/// What somebody at the vault wants of a device that has a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceOrder {
    /// What.
    pub action: DeviceAction,
    /// The product.
    pub product: Sku,
    /// The device.
    pub device_id: DeviceId,
    /// Why, as [`mintmark_protocol::order::is_reason`] allows it.
    pub reason: String,
    /// Through which station; that it authenticated is a fact.
    pub station: StationId,
}

/// What a device order concerns: the newest issue of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceChanged {
    /// The reservation of that issue.
    pub reservation: LogSequence,
    /// Its account.
    pub account: AccountTag,
    /// Its slot.
    pub slot: u64,
    /// Its issue number.
    pub issue: u16,
}

/// What is done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceAction {
    /// It was made and destroyed: its unit counts as scrapped, its certificate is revoked.
    Scrap,
    /// Its unit never became a device: it counts as voided, and what certificate there is is revoked.
    Void,
    /// It may have one more certificate, for whatever key, without another unit.
    Rework,
}

impl DeviceAction {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Scrap, Self::Void, Self::Rework];

    /// Its name in entries, commands and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scrap => "scrap",
            Self::Void => "void",
            Self::Rework => "rework",
        }
    }
}
