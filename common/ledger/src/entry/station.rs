//! What entries say of stations: who may ask this vault over the network, for what, and until when.

use mintmark_protocol::entitlement::Interval;
use mintmark_protocol::identifier::{Sku, StationId};

/// The most products that a station's terms name.
pub const STATION_PRODUCTS_MAX: usize = 64;
/// The most stretches of working hours that a station's terms hold.
pub const STATION_INTERVALS_MAX: usize = 2048;

/// Somebody at the vault lets a station in, or shuts it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationOrder {
    /// Which station.
    pub station: StationId,
    /// What.
    pub change: StationChange,
}

/// What is done with a station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StationChange {
    /// It may ask, with this certificate and none before.
    Approve(Box<StationApproval>),
    /// It may not ask any more.
    Revoke {
        /// Why, as [`mintmark_protocol::order::is_reason`] allows it.
        reason: String,
    },
}

impl StationChange {
    /// Its name in entries.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Approve(_) => "approve",
            Self::Revoke { .. } => "revoke",
        }
    }
}

/// A station that somebody at the vault let in, having compared its request's fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationApproval {
    /// What the station asked with: PKCS#10, DER. That it proves possession of the key is a fact that HQ checks again.
    pub request: Vec<u8>,
    /// What it got: a certificate of the vault's station CA for the same key, DER.
    pub certificate: Vec<u8>,
    /// What it may do.
    pub terms: StationTerms,
}

/// What a station may do, within what entitlements allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationTerms {
    /// The products that it may ask for; none: any.
    pub products: Option<Vec<Sku>>,
    /// New units in a UTC day, at most; none: no limit of its own.
    pub units_per_day: Option<u64>,
    /// Until when, Unix seconds: the end of its certificate.
    pub until: u64,
    /// When it may have new units, in order and apart; none: at any time.
    pub working_hours: Option<Vec<Interval>>,
}
