//! What a person sees: exit codes, errors with hints, tables, JSON, prompts, progress.
//!
//! The tools make one [`Console`] through [`run`] and say everything through it. Data goes to standard output, all
//! else to standard error; under `--json` both carry JSON alone. This crate knows none of the product's types.
//!
//! [`files`] is the one crash-safe file writer, and [`time`] writes instants the one way the tools show them.
#![forbid(unsafe_code)]

mod checks;
mod console;
mod exit;
mod failure;
pub mod files;
pub mod home;
mod mistaken;
mod options;
pub mod panics;
pub mod places;
mod printable;
pub mod process;
mod progress;
mod prompt;
mod result;
mod run;
mod shell;
mod stop;
mod style;
mod table;
pub mod time;

pub use checks::Check;
pub use console::Console;
pub use exit::Exit;
pub use failure::{Failure, cause_chain};
pub use options::{ColorChoice, Confirmation, GlobalOptions, HasGlobal, Neighbour};
pub use printable::printable;
pub use progress::Progress;
pub use result::say;
pub use run::run;
pub use shell::{Shell, completion, manual};
pub use stop::Stop;
pub use style::Style;
pub use table::{Align, Table};
