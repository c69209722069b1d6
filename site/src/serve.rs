//! `site serve`: the vault as a service, for the stations of its floor.

mod api;
pub(crate) mod board;
mod counters;
pub(crate) mod desk;
mod est;
mod floor;
mod listener;
mod metrics;
mod notify;
mod pace;
mod page;
mod problem;
mod router;
mod seats;
mod setup;
mod stream;
mod tls;
