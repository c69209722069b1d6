//! `site serve`: the vault as a service, for the stations of its floor.

pub(crate) mod board;
pub(crate) mod desk;
