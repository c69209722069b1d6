//! Every kind of record.

use super::{
    BundleSealed, Burned, ClockFound, CrlIssued, DeviceChanged, DeviceOrder, Dispatch, Genesis,
    KeyOutcome, KeyReceipt, LogSequence, Pruned, Refused, Request, Reserved, Restored, Rotation,
    Signed, Start, StationChange, StationOrder, Steady, Trust,
};

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The log begins. Always and only record 0.
    Genesis(Genesis),
    /// A process opened the log to write.
    Start(Start),
    /// A trust manifest was pinned.
    Trust(Trust),
    /// A dispatch from HQ; a decision follows.
    Dispatch(Dispatch),
    /// Somebody asked for a device certificate; a decision follows.
    Request(Request),
    /// The HSM signed a reservation.
    Signed(Signed),
    /// An audit bundle was sealed.
    BundleSealed(BundleSealed),
    /// The vault asked for its next device CA.
    Rotation(Rotation),
    /// A key of an entitlement came into the token, or could not.
    Key(KeyReceipt),
    /// Somebody at the vault ends a device, or asks for another certificate for it; a decision follows.
    Device(DeviceOrder),
    /// The vault signed a CRL.
    Crl(CrlIssued),
    /// The clock is not believed from here on, or is again.
    Clock(ClockFound),
    /// A person says that the clock is right; a decision follows.
    ClockConfirm {
        /// What the machine's own clock says.
        steady: Option<Steady>,
    },
    /// Slots that were leased from the token's anchor are skipped, since they may have been spent.
    Burned(Burned),
    /// The log goes on in another lineage, after a restore that was declared.
    Restored(Restored),
    /// Records that headquarters holds gave way to what is kept of them.
    Pruned(Pruned),
    /// The vault made a CA for the stations that may ask it over the network.
    StationCa {
        /// Its certificate, DER.
        certificate: Vec<u8>,
    },
    /// Somebody at the vault lets a station in, or shuts it out; a decision follows.
    Station(StationOrder),
    /// Decision: the dispatch's content is in force.
    DispatchAccepted,
    /// Decision: the dispatch advances the chain, its content has no effect.
    DispatchRefused {
        /// The rule.
        code: String,
    },
    /// Decision: a unit is spent on this request.
    Reserved(Reserved),
    /// Decision: the request has been answered before.
    Existing {
        /// The reservation that answered it.
        reservation: LogSequence,
    },
    /// Decision: no.
    Refused(Refused),
    /// Decision: it is so with the device from here on.
    DeviceChanged(DeviceChanged),
    /// Decision: the clock is believed from here on.
    ClockConfirmed,
    /// Decision: it is so with the station from here on.
    StationChanged,
}

impl Body {
    /// Whether this is a decision, which follows the input that it was made from.
    pub fn is_decision(&self) -> bool {
        match self {
            Self::Genesis(_)
            | Self::Start(_)
            | Self::Trust(_)
            | Self::Dispatch(_)
            | Self::Request(_)
            | Self::Signed(_)
            | Self::BundleSealed(_)
            | Self::Rotation(_)
            | Self::Key(_)
            | Self::Device(_)
            | Self::Crl(_)
            | Self::Clock(_)
            | Self::ClockConfirm { .. }
            | Self::Burned(_)
            | Self::Restored(_)
            | Self::Pruned(_)
            | Self::StationCa { .. }
            | Self::Station(_) => false,
            Self::DispatchAccepted
            | Self::DispatchRefused { .. }
            | Self::Reserved(_)
            | Self::Existing { .. }
            | Self::Refused(_)
            | Self::DeviceChanged(_)
            | Self::ClockConfirmed
            | Self::StationChanged => true,
        }
    }

    /// The kind's name in reports: `request`, `reserved` and so on.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "genesis",
            Self::Start(_) => "start",
            Self::Trust(_) => "trust",
            Self::Dispatch(_) => "dispatch",
            Self::Request(_) => "request",
            Self::Signed(_) => "signed",
            Self::BundleSealed(_) => "bundle-sealed",
            Self::Rotation(_) => "rotation",
            Self::Key(_) => "key",
            Self::DispatchAccepted => "dispatch-accepted",
            Self::DispatchRefused { .. } => "dispatch-refused",
            Self::Reserved(_) => "reserved",
            Self::Existing { .. } => "existing",
            Self::Refused(_) => "refused",
            Self::Device(order) => order.action.as_str(),
            Self::Crl(_) => "crl",
            Self::Clock(_) => "clock",
            Self::ClockConfirm { .. } => "clock-confirm",
            Self::Burned(_) => "burned",
            Self::Restored(_) => "restored",
            Self::Pruned(_) => "pruned",
            Self::DeviceChanged(_) => "device-changed",
            Self::ClockConfirmed => "clock-confirmed",
            Self::StationCa { .. } => "station-ca",
            Self::Station(StationOrder {
                change: StationChange::Approve(_),
                ..
            }) => "station-approve",
            Self::Station(_) => "station-revoke",
            Self::StationChanged => "station-changed",
        }
    }

    /// The rule that refused, if this is a refusal; why the token refused a key.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Key(KeyReceipt {
                outcome: KeyOutcome::Refused { code },
                ..
            }) => Some(code),
            Self::DispatchRefused { code } => Some(code),
            Self::Refused(refused) => Some(&refused.code),
            _ => None,
        }
    }
}
