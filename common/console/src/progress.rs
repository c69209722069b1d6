//! How far long work has come.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::time::Duration;

/// Counts done work from any number of threads; the line disappears when the work ends or this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

const TEMPLATE_COUNTED: &str =
    "{msg}: {human_pos} of {human_len} ({percent} %), {per_sec}, {eta} left";
const TEMPLATE_OPEN: &str = "{spinner} {msg}: {human_pos}, {per_sec}, {elapsed}";
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
            bar.set_style(style);
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
    fn several_threads_count_into_one_progress() {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let progress = Progress::new(&bars, "replaying", Some(400));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| progress.advance(1)));
            }
        });
        assert_eq!(progress.bar.position(), 400);
    }
}
