//! That somebody asks the process to stop: with Ctrl-C, by closing its terminal, or with SIGTERM.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// The signals that ask, with their names.
const SIGNALS: [(c_int, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];
/// What nobody has asked with yet.
const NONE: c_int = 0;
/// One signal after the other takes little.
const STACK_BYTES: usize = 128 << 10;

/// Whether somebody asked the process to stop.
#[derive(Debug)]
pub struct Stop {
    signal: Arc<AtomicI32>,
}

impl Stop {
    /// From here on, and until the process ends, the first signal asks and does nothing else; the second ends the process at
    /// once. A signal that whoever started the process had ignored stays ignored, as with `nohup`.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn listen() -> io::Result<Self> {
        let signal = Arc::new(AtomicI32::new(NONE));
        let ignored = ignored_signals();
        let heard = SIGNALS.map(|(number, _)| number).into_iter();
        let mut signals = Signals::new(heard.filter(|number| ignored & (1 << (number - 1)) == 0))?;
        let asked = Arc::clone(&signal);
        // One thread hears them all, so that of two at one instant one is the second.
        let hear = move || {
            for number in signals.forever() {
                if asked.swap(number, Ordering::SeqCst) != NONE {
                    let _ = emulate_default_handler(number);
                }
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.stack_size(STACK_BYTES).spawn(hear)?;
        Ok(Self { signal })
    }

    /// The name of the signal that asked.
    #[must_use]
    pub fn asked(&self) -> Option<&'static str> {
        let signal = self.signal.load(Ordering::SeqCst);
        let mut signals = SIGNALS.iter();
        signals.find_map(|(number, name)| (*number == signal).then_some(*name))
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
