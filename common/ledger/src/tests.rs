//! The state machine and its engine, tested from outside and with real keys.

mod crashes;
mod decisions;
mod dispatches;
mod engine;
mod fixture;
mod frauds;
mod golden;
mod model;
