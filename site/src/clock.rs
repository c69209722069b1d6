//! The clocks of this machine: the one that can be set, and what the kernel counts since it booted, which cannot.

use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use mintmark_console::time::rfc3339;
use mintmark_ledger::entry::Steady;
use mintmark_ledger::state::{Reading, State};
use rustix::time::{DynamicClockId, clock_gettime_dynamic};

/// Which boot of the machine this is, proc(5): a UUID that the kernel makes anew each time.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Seconds since then, proc(5): time that the machine was suspended counts.
const UPTIME: &str = "/proc/uptime";

/// Where the kernel's count stood when it was first looked at.
struct Boot {
    id: [u8; 16],
    uptime_seconds: u64,
    /// What the kernel's clock of the boot said at that moment.
    ticked_seconds: u64,
}

/// Both clocks of this machine, now. A clock before 1970 counts as 1970.
pub(crate) fn now() -> Reading {
    static BOOT: OnceLock<Option<Boot>> = OnceLock::new();
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let steady = BOOT.get_or_init(Boot::look).as_ref().and_then(Boot::steady);
    Reading { clock, steady }
}

impl Boot {
    fn look() -> Option<Self> {
        let id = boot_id(&fs::read_to_string(BOOT_ID).ok()?)?;
        let uptime_seconds = uptime_seconds(&fs::read_to_string(UPTIME).ok()?)?;
        Some(Self {
            id,
            uptime_seconds,
            ticked_seconds: ticked_seconds()?,
        })
    }

    fn steady(&self) -> Option<Steady> {
        let passed = ticked_seconds()?.saturating_sub(self.ticked_seconds);
        Some(Steady {
            boot: self.id,
            seconds: self.uptime_seconds.saturating_add(passed),
        })
    }
}

/// CLOCK_BOOTTIME, clock_gettime(2), asked of the kernel itself: no library in between has a say.
fn ticked_seconds() -> Option<u64> {
    let now = clock_gettime_dynamic(DynamicClockId::Boottime).ok()?;
    u64::try_from(now.tv_sec).ok()
}

fn boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|digit| *digit != '-').collect();
    hex::decode(digits).ok()?.try_into().ok()
}

/// Whole seconds of `12345.67 23456.78`.
fn uptime_seconds(text: &str) -> Option<u64> {
    let (seconds, _) = text.split_once('.')?;
    seconds.parse().ok()
}

/// Why nothing is issued by the clock as it is now.
#[derive(Debug)]
pub(crate) struct Disbelief {
    /// CLOCK-JUMPED or CLOCK-BACK.
    pub(crate) code: &'static str,
    /// What the clock says, and what it should.
    pub(crate) message: String,
    /// What to do.
    pub(crate) advice: &'static str,
    /// What it should say, or the latest that it may say, Unix seconds.
    pub(crate) expected: u64,
}

impl Disbelief {
    /// Looks at the clock beside a log; none where it is believed, and before the vault is enrolled.
    pub(crate) fn of(state: &State, reading: Reading) -> Option<Self> {
        if !state.is_enrolled() {
            return None;
        }
        let (clock, mark) = (reading.clock, state.mark());
        let behind = state.clock_is_behind(clock);
        let logged = state.clock_stopped().map(|stopped| stopped.expected);
        let expected = state.clock_off(reading).or(logged.filter(|_| behind));
        let (said, written) = (rfc3339(clock), rfc3339(mark));
        let (code, message, expected) = match expected {
            Some(latest) if clock > latest && latest == state.clock_latest() => (
                "CLOCK-JUMPED",
                format!(
                    "the clock says {said}, which is too far ahead of the log, last written at {written}: it may say {} at the latest",
                    rfc3339(latest)
                ),
                latest,
            ),
            Some(expected) => (
                "CLOCK-JUMPED",
                format!(
                    "the clock says {said}, and by what the machine counts it should say {}: it was set, or stood still",
                    rfc3339(expected)
                ),
                expected,
            ),
            None if behind => (
                "CLOCK-BACK",
                format!("the clock says {said}, and the log was last written at {written}"),
                mark,
            ),
            None => return None,
        };
        let confirmable = (state.clock_earliest()..=state.clock_latest()).contains(&clock);
        let advice = if confirmable { CONFIRM } else { CORRECT };
        Some(Self {
            code,
            message,
            advice,
            expected,
        })
    }
}

const CONFIRM: &str = "set the clock right, and it goes on by itself; if the clock is right as it is, run `site clock confirm`";
const CORRECT: &str = "set the clock right, and it goes on by itself; if the clock is right as it is, ask headquarters for a clock \
     correction (`hq site clock`) and import it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let id = boot_id("0f3a5c1e-9b7d-4c2a-8e6f-112233445566\n").unwrap();
        assert_eq!(id[..2], [0x0f, 0x3a]);
        assert_eq!(uptime_seconds("12345.67 23456.78\n"), Some(12345));
        for odd in ["", "0f3a", "zf3a5c1e-9b7d-4c2a-8e6f-112233445566"] {
            assert_eq!(boot_id(odd), None);
        }
        for odd in ["", "12345", "-1.0 2.0", "a.b c"] {
            assert_eq!(uptime_seconds(odd), None);
        }
    }

    #[test]
    fn the_boot_does_not_change_and_its_count_does_not_run_back() {
        let (before, after) = (now().steady.unwrap(), now().steady.unwrap());
        assert_eq!(before.boot, after.boot);
        assert!(before.seconds <= after.seconds);
    }
}
