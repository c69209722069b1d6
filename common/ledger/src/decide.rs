//! The decision on an input: pure, the same at the vault that makes it and at HQ that makes it again.
//!
//! No clock, no randomness, no I/O but the [`Lookup`] that is handed in, no hash-map order, no floats. What cannot be
//! computed here (that a key is possessed, that officers signed) comes in as a fact, and HQ checks each fact for itself.

mod clock;
mod device;
mod dispatch;
mod request;
mod station;

use mintmark_pki::CertificationRequest;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};

pub use dispatch::grant_outlived;

use crate::entry::{
    Body, DeviceChanged, DeviceOrder, Dispatch, LogSequence, Refused, Reserved, StationOrder,
};
use crate::refusal::Refusal;
use crate::serial::SerialCipher;
use crate::state::State;

/// The version of the rules in this module. Every start of a vault logs it. A change of what is decided, for any input
/// in any state, is a new version; headquarters keeps deciding old logs by the old ones.
///
/// That holds from the first release on. Until then no log has to be decided by what the rules once were: they are completed
/// under version 1, the golden log of the tests is written anew with them, and a log of an unreleased program is replayed by the
/// program that wrote it.
pub const RULES_VERSION: u32 = 1;

/// How far the clock may stand behind the newest time in the log, in seconds. Clocks that are disciplined step back by
/// seconds; within this tolerance entries are given the newest time there is, and beyond it nothing is issued.
pub const CLOCK_BACK_SECONDS_MAX: u64 = 300;

/// What asks for a decision.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Somebody asks for a device certificate.
    Request {
        /// For which product.
        product: &'a Sku,
        /// Through which station.
        station: &'a StationId,
        /// With what.
        submission: Submitted<'a>,
    },
    /// A dispatch from HQ.
    Dispatch(&'a Dispatch),
    /// Somebody at the vault says something of a device.
    Device(&'a DeviceOrder),
    /// A person says that the clock is right.
    ClockConfirm,
    /// Somebody at the vault lets a station in, or shuts it out.
    Station(&'a StationOrder),
}

/// What was submitted.
#[derive(Clone, Copy, Debug)]
pub enum Submitted<'a> {
    /// A request whose proof of possession holds: there is no other way to have one.
    Verified(&'a CertificationRequest),
    /// Something else.
    Unreadable {
        /// SHA-256 of what was received.
        sha256: Fingerprint,
        /// Why it is none: the code of [`mintmark_pki::Error`].
        code: &'a str,
    },
}

/// The newest issue of a device, as an index finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// The `Reserved` record.
    pub reservation: LogSequence,
    /// The product.
    pub sku: Sku,
    /// The device.
    pub device_id: DeviceId,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub spki_sha256: Fingerprint,
    /// The account that the unit was spent from.
    pub account: AccountTag,
    /// The slot.
    pub slot: u64,
    /// The issue number.
    pub issue: u16,
    /// The `Signed` record; none while the reservation is open.
    pub signed: Option<LogSequence>,
}

/// The devices and keys that the log holds, everything decided and not yet durable included.
pub trait Lookup {
    /// The newest issue of a device of a product.
    ///
    /// # Errors
    /// What the index or the log failed with.
    fn device(&self, sku: &Sku, device_id: &DeviceId) -> Result<Option<DeviceRecord>, LookupError>;

    /// The newest issue for a public key, by SHA-256 of its SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// What the index or the log failed with.
    fn key(&self, spki_sha256: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError>;
}

/// What a [`Lookup`] failed with.
pub type LookupError = Box<dyn std::error::Error + Send + Sync>;

/// Why no decision could be made. Never the fault of the input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecideError {
    /// The index or the log could not be read.
    #[error("the ledger's records cannot be looked up: {0}")]
    Lookup(#[source] LookupError),
    /// The vault is enrolled, and its serial key was not handed in.
    #[error("the serial key is needed to decide on a request")]
    SerialKeyMissing,
}

/// The only permission to sign a device certificate, for one unit that it debits, or debited before.
///
/// Only [`decide`] makes one; it cannot be copied, and the ledger consumes it together with the signature.
///
/// ```compile_fail,E0451
/// # use mintmark_ledger::{decide::Reservation, entry::{LogSequence, Reserved}};
/// fn forge(sequence: LogSequence, reserved: Reserved) -> Reservation {
///     Reservation { sequence, reserved }
/// }
/// ```
/// ```compile_fail,E0599
/// # use mintmark_ledger::decide::Reservation;
/// fn copy(reservation: &Reservation) -> Reservation {
///     Reservation::clone(reservation)
/// }
/// ```
#[derive(Debug)]
#[must_use = "a reservation is a spent unit: have it signed, and record the signature"]
pub struct Reservation {
    sequence: LogSequence,
    reserved: Reserved,
}

impl Reservation {
    /// The record of this reservation.
    pub fn sequence(&self) -> LogSequence {
        self.sequence
    }

    /// What is to be signed, once the ledger has committed it: TBSCertificate, DER.
    pub fn tbs(&self) -> &[u8] {
        &self.reserved.tbs
    }

    /// Everything that was reserved.
    pub fn reserved(&self) -> &Reserved {
        &self.reserved
    }
}

/// What is decided.
#[derive(Debug)]
pub enum Decision {
    /// A unit is spent on the request; or, with an issue number above 0, a unit that was spent before gets another
    /// certificate.
    Reserve(Reservation),
    /// The request was answered before, by this reservation.
    Existing {
        /// The `Reserved` record.
        reservation: LogSequence,
    },
    /// The request is refused.
    Refuse(Refusal),
    /// The dispatch's content is in force.
    AcceptDispatch,
    /// The dispatch's content has no effect.
    RefuseDispatch(Refusal),
    /// It is so with the device from here on.
    ChangeDevice(DeviceChanged),
    /// The clock is believed.
    ConfirmClock,
    /// It is so with the station from here on.
    ChangeStation,
}

impl Decision {
    /// What the log will say.
    pub fn to_body(&self) -> Body {
        match self {
            Self::Reserve(reservation) => Body::Reserved(reservation.reserved.clone()),
            Self::Existing { reservation } => Body::Existing {
                reservation: *reservation,
            },
            Self::Refuse(refusal) => Body::Refused(Refused {
                code: refusal.code().to_owned(),
                entitlement: refusal.entitlement().cloned(),
            }),
            Self::AcceptDispatch => Body::DispatchAccepted,
            Self::RefuseDispatch(refusal) => Body::DispatchRefused {
                code: refusal.code().to_owned(),
            },
            Self::ChangeDevice(changed) => Body::DeviceChanged(*changed),
            Self::ConfirmClock => Body::ClockConfirmed,
            Self::ChangeStation => Body::StationChanged,
        }
    }

    /// Why not, if it is a refusal.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refuse(refusal) | Self::RefuseDispatch(refusal) => Some(refusal),
            Self::Reserve(_)
            | Self::Existing { .. }
            | Self::AcceptDispatch
            | Self::ChangeDevice(_)
            | Self::ConfirmClock
            | Self::ChangeStation => None,
        }
    }
}

/// When a decision is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The time of the entries, Unix seconds: what rules go by.
    pub(crate) time: u64,
    /// What the clock said, Unix seconds.
    pub(crate) clock: u64,
}

impl Moment {
    /// The moment at which a vault whose clock says `now` decides: time never runs backwards in a log.
    pub(crate) fn at(state: &State, now: u64) -> Self {
        let time = match state.clock_stopped() {
            // A time that is not believed raises nothing.
            Some(_) => state.mark(),
            None => now.max(state.mark()),
        };
        Self { time, clock: now }
    }
}

/// Decides on an input. `now` is what the clock says, in Unix seconds; `serials` may be absent until the vault is
/// enrolled.
///
/// # Errors
/// [`DecideError`]: nothing is decided, and the input can be given again.
pub fn decide(
    state: &State,
    index: &dyn Lookup,
    serials: Option<&SerialCipher>,
    now: u64,
    input: Input<'_>,
) -> Result<Decision, DecideError> {
    decide_at(state, index, serials, Moment::at(state, now), input)
}

pub(crate) fn decide_at(
    state: &State,
    index: &dyn Lookup,
    serials: Option<&SerialCipher>,
    moment: Moment,
    input: Input<'_>,
) -> Result<Decision, DecideError> {
    match input {
        Input::Request {
            product,
            station,
            submission,
        } => request::decide(state, index, serials, moment, product, station, submission),
        Input::Dispatch(dispatch) => Ok(match dispatch::judge(state, moment, dispatch) {
            Ok(()) => Decision::AcceptDispatch,
            Err(refusal) => Decision::RefuseDispatch(refusal),
        }),
        Input::Device(order) => device::decide(state, index, moment, order),
        Input::ClockConfirm => Ok(clock::decide(state, moment)),
        Input::Station(order) => Ok(station::decide(state, moment, order)),
    }
}

/// Makes the reservation; the rules have been passed.
fn reservation(state: &State, reserved: Reserved) -> Reservation {
    Reservation {
        // The request is the next record, the decision the one after.
        sequence: LogSequence(state.size()).next(),
        reserved,
    }
}

/// The issue number of a slot's first certificate.
const FIRST_ISSUE: u16 = 0;
