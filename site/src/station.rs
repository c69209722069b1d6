//! What runs at a station: by what it is known there, and how it asks a vault.

mod connection;
mod papers;

pub(crate) use connection::{Enrolled, Line, Patience, Reply, Vault};
pub(crate) use papers::Papers;

/// The key by which a station is known, unless its URI names another.
pub(crate) const STATION_KEY: &str = "station";
