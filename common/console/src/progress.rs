//! How far long work has come.

use indicatif::{
    HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressState, ProgressStyle,
};
use std::fmt::Write;
use std::time::Duration;

/// Counts done work from any number of threads; the line disappears when the work ends or this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

/// What is not known yet is left out, so that each part brings its own comma.
const TEMPLATE_COUNTED: &str = "{msg}: {human_pos} of {human_len} ({percent} %){rate}{left}";
const TEMPLATE_OPEN: &str = "{spinner} {msg}: {human_pos}{rate}, {elapsed}";
/// How often the rate and the time left are brought up to date while nothing is counted.
const TICK: Duration = Duration::from_millis(500);

impl Progress {
    pub(crate) fn new(bars: &MultiProgress, what: &str, total: Option<u64>) -> Self {
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), TEMPLATE_COUNTED),
            None => (ProgressBar::no_length(), TEMPLATE_OPEN),
        };
        let hidden = bars.is_hidden();
        let bar = if hidden {
            ProgressBar::hidden()
        } else {
            bars.add(bar)
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(
                style
                    .with_key("rate", show_rate)
                    .with_key("left", show_left),
            );
        }
        bar.set_message(what.to_owned());
        if !hidden {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// Counts `count` more pieces as done.
    pub fn advance(&self, count: u64) {
        self.bar.inc(count);
    }

    /// So many pieces are done by now, of all.
    pub fn reach(&self, count: u64) {
        self.bar.set_position(count);
    }

    /// Ends the line, so that what follows starts on a clean one.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn show_rate(state: &ProgressState, text: &mut dyn Write) {
    // What does not fit is cut off the line; there is nobody to tell.
    let _ = text.write_str(&rate(state.per_sec()));
}

fn show_left(state: &ProgressState, text: &mut dyn Write) {
    let _ = text.write_str(&left(state.per_sec(), state.eta()));
}

/// Pieces per second as a whole number, or nothing where that is not known or less than one.
fn rate(per_second: f64) -> String {
    let whole = per_second.round();
    if !whole.is_finite() || whole < 1.0 {
        return String::new();
    }
    // A cast of a float saturates, and there is no other way to a whole number.
    format!(", {}/s", HumanCount(whole as u64))
}

/// The time left, or nothing before anything was counted and in the last second.
fn left(per_second: f64, eta: Duration) -> String {
    if !per_second.is_finite() || per_second <= 0.0 || eta.as_secs() == 0 {
        return String::new();
    }
    format!(", {} left", HumanDuration(eta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;

    #[test]
    fn every_template_is_one_that_indicatif_accepts() {
        for template in [TEMPLATE_COUNTED, TEMPLATE_OPEN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_rate_is_a_whole_number_and_what_is_not_known_is_left_out() {
        for (per_second, shown) in [
            (0.0, ""),
            (0.3, ""),
            (f64::NAN, ""),
            (f64::INFINITY, ""),
            (1.2, ", 1/s"),
            (12_345.678, ", 12,346/s"),
        ] {
            assert_eq!(rate(per_second), shown);
        }
        assert_eq!(left(0.0, Duration::from_secs(9)), "");
        assert_eq!(left(2.0, Duration::from_millis(900)), "");
        assert_eq!(left(2.0, Duration::from_secs(9)), ", 9 seconds left");
    }

    #[test]
    fn several_threads_count_into_one_progress() {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let progress = Progress::new(&bars, "replaying", Some(400));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| progress.advance(1)));
            }
        });
        assert_eq!(progress.bar.position(), 400);
        progress.reach(7);
        assert_eq!(progress.bar.position(), 7);
    }
}
