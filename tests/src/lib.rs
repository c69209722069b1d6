//! What the end-to-end tests share: a [`World`] in a temporary folder, in which the built `hq` and `site` meet, with key
//! stores, officers, media and requests, and OpenSSL and OpenSC to judge what comes out.
//!
//! The tests see what a person sees: command lines, standard output, standard error, exit codes and files. Only the
//! frauds reach behind that: a vault that lies is played with the libraries that an honest one is made of.

// Clippy takes no part of a library for a test, and this one is nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod binaries;
pub mod clock;
pub mod command;
pub mod errors;
pub mod fat;
pub mod files;
pub mod full_disk;
pub mod guide;
pub mod judge;
pub mod liar;
pub mod memory;
pub mod once;
pub mod power;
pub mod progress;
pub mod request;
pub mod rounds;
pub mod service;
pub mod shape;
pub mod stores;
pub mod strace;
pub mod strike;
pub mod sweep;
mod terminal;
pub mod token_server;
pub mod world;

pub use command::{Run, Tool};
pub use liar::Liar;
pub use service::Service;
pub use stores::Stores;
pub use terminal::Terminal;
pub use token_server::{TokenServer, through_plain_server, through_server};
pub use world::World;
