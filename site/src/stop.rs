//! That somebody asks the process to stop: with Ctrl-C, by closing its terminal, or with SIGTERM.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The signals that ask, with their names.
const SIGNALS: [(c_int, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];

/// Whether somebody asked the process to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// From here on, and until the process ends, the first signal asks and does nothing else; the second ends the process at
    /// once. A signal that whoever started the process had ignored stays ignored, as with `nohup`.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn listen() -> io::Result<Self> {
        let (asked, signal) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let ignored = ignored_signals();
        for (number, _) in SIGNALS {
            if ignored & (1 << (number - 1)) != 0 {
                continue;
            }
            // What is registered first is done first: the signal that sets the flag is not the one that finds it set.
            flag::register_conditional_default(number, Arc::clone(&asked))?;
            let value = usize::try_from(number).unwrap_or_default();
            flag::register_usize(number, Arc::clone(&signal), value)?;
            flag::register(number, Arc::clone(&asked))?;
        }
        Ok(Self { signal })
    }

    /// The name of the signal that asked.
    pub(crate) fn asked(&self) -> Option<&'static str> {
        let signal = self.signal.load(Ordering::SeqCst);
        let mut signals = SIGNALS.iter();
        signals.find_map(|(number, name)| (usize::try_from(*number) == Ok(signal)).then_some(*name))
    }
}

/// The signals that this process ignores, a bit each; none where the system does not say.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}
