//! The state machine and its engine, tested from outside and with real keys.

mod anchors;
mod borders;
mod clocks;
mod crashes;
mod decisions;
mod device_cas;
mod dispatches;
mod engine;
mod engine_facts;
mod engine_orders;
mod fixture;
mod frauds;
mod frauds_of_orders;
mod golden;
mod keys;
mod model;
mod orders;
mod restores;
mod retention;
mod revoked_devices;
mod rows;
mod stations;
mod vault_model;
mod withdrawals;
