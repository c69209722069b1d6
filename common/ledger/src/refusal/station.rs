//! Why a station may not ask, or may not be let in.

use mintmark_protocol::identifier::{Sku, StationId};

use super::time;
use crate::state::STATIONS_MAX;

/// A refusal by a rule for stations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StationRefusal {
    /// Nobody let it in.
    #[error("no station {station} was approved here")]
    Unknown {
        /// The station.
        station: StationId,
    },
    /// It was shut out.
    #[error("station {station} was revoked at {}", time(*.since))]
    Revoked {
        /// The station.
        station: StationId,
        /// Since when, Unix seconds.
        since: u64,
    },
    /// Its time is over.
    #[error("what station {station} may do ended at {}", time(*.until))]
    Expired {
        /// The station.
        station: StationId,
        /// Since when, Unix seconds.
        until: u64,
    },
    /// It is not for this product.
    #[error("station {station} may not ask for {sku}")]
    ProductNotAllowed {
        /// The station.
        station: StationId,
        /// The product asked for.
        sku: Sku,
    },
    /// It does not work at this time.
    #[error("it is outside of the working hours of station {station}")]
    OutOfHours {
        /// The station.
        station: StationId,
        /// When the next begin, Unix seconds; none: no more.
        next: Option<u64>,
    },
    /// It had its units of the day.
    #[error("station {station} had its {units_per_day} units of this UTC day")]
    RateDay {
        /// The station.
        station: StationId,
        /// How many it may have.
        units_per_day: u64,
        /// When the next day begins, Unix seconds.
        next: u64,
    },
    /// The name is that of the operator at the vault.
    #[error("{station} is the name of the vault's own console, and no station can have it")]
    NameReserved {
        /// The name.
        station: StationId,
    },
    /// It would be over before it begins.
    #[error("station {station} was to be let in until {}, which is over", time(*.until))]
    EndPast {
        /// The station.
        station: StationId,
        /// Until when, Unix seconds.
        until: u64,
    },
    /// Another station has the key.
    #[error("the key of station {station} is that of station {other} already")]
    KeyTaken {
        /// The station.
        station: StationId,
        /// The one that has it.
        other: StationId,
    },
    /// There are as many stations as there can be.
    #[error("there are {STATIONS_MAX} stations already, and no more fit")]
    TooMany,
}

impl StationRefusal {
    /// The stable code that the log holds.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "STATION-UNKNOWN",
            Self::Revoked { .. } => "STATION-REVOKED",
            Self::Expired { .. } => "STATION-EXPIRED",
            Self::ProductNotAllowed { .. } => "STATION-PRODUCT-NOT-ALLOWED",
            Self::OutOfHours { .. } => "STATION-OUT-OF-HOURS",
            Self::RateDay { .. } => "STATION-RATE-DAY",
            Self::NameReserved { .. } => "STATION-NAME-RESERVED",
            Self::EndPast { .. } => "STATION-END-PAST",
            Self::KeyTaken { .. } => "STATION-KEY-TAKEN",
            Self::TooMany => "STATIONS-TOO-MANY",
        }
    }
}
