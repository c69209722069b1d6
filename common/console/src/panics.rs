//! What is shown when the program itself is wrong.

use crate::console::failure_text;
use crate::{Exit, Failure};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}
static REPORTED: AtomicBool = AtomicBool::new(false);

/// Runs `body` and catches its panic, of which nothing is shown.
///
/// For libraries that panic on damaged input where they should return an error. The panic may come on this thread
/// alone; one on another thread is shown as the bug that it is.
///
/// # Errors
/// With what the panic said.
pub fn expected<T>(body: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    let before = EXPECTED.replace(true);
    let result = panic::catch_unwind(body);
    EXPECTED.set(before);
    result.map_err(|payload| {
        let literal = payload
            .downcast_ref::<&'static str>()
            .map(|text| (*text).to_owned());
        literal
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned())
    })
}

/// Shows every panic as `error[INTERNAL]`.
///
/// Of the panic's message only fixed text is shown: a formatted one may hold anything, a secret too.
pub(crate) fn install(tool: &'static str, json: bool, colored: bool) {
    panic::set_hook(Box::new(move |panic| {
        if EXPECTED.get() {
            return;
        }
        REPORTED.store(true, Ordering::SeqCst);
        let mut text = failure_text(tool, &internal(tool, panic), json, colored);
        let backtrace = Backtrace::capture();
        if !json && backtrace.status() == BacktraceStatus::Captured {
            text.push_str(&format!("\n{backtrace}"));
        }
        let _ = io::stderr()
            .lock()
            .write_all(format!("{text}\n").as_bytes());
    }));
}

/// Whether any thread has panicked, other than expectedly.
pub(crate) fn reported() -> bool {
    REPORTED.load(Ordering::SeqCst)
}

fn internal(tool: &str, panic: &PanicHookInfo<'_>) -> Failure {
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let cause = match panic.payload().downcast_ref::<&'static str>() {
        Some(literal) => format!("at {place}: {literal}"),
        None => format!("at {place}"),
    };
    Failure::new(
        Exit::Unknown,
        "INTERNAL",
        "the program stopped because of a fault of its own; what it had begun may or may not be done",
    )
    .cause(cause)
    .hint(format!("run `{tool} recover`, and report the fault with the place it names"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_panic_is_caught_with_its_message() {
        assert_eq!(expected(|| 7), Ok(7));
        assert_eq!(
            expected(|| panic!("broken page")),
            Err::<(), _>("broken page".to_owned())
        );
        let page = 12;
        assert_eq!(
            expected(|| panic!("page {page}")),
            Err::<(), _>("page 12".to_owned())
        );
        assert!(!EXPECTED.get());
    }
}
