//! A small world with software keys: one HQ, four officers, one vault, and everything that they send each other.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate uses its own part"
)]

pub mod forge;
mod homes;
mod letting_in;
mod mail;
mod orders;
mod people;
mod reports;

#[allow(unused_imports, reason = "each test crate uses its own part")]
pub use self::{homes::*, letting_in::*, mail::*, orders::*, people::*, reports::*};
