//! The policy that officers write, and what it compiles to.

mod hours;
mod pattern;

pub use hours::{HoursError, WorkingHours};
pub use pattern::{DeviceIdPattern, Language, PATTERN_BYTES_MAX, PatternError};

/// The number of the UTC hour that a time falls into: whole hours since 1970. `units_per_hour` counts in these fixed
/// windows (00:00:00 to 00:59:59 UTC and so on), not in the last sixty minutes.
pub fn hour_window(unix: u64) -> u64 {
    unix / 3600
}

/// The number of the UTC day that a time falls into: whole days since 1970. `units_per_day` counts in these fixed
/// windows (midnight to midnight UTC), not in the last 24 hours.
pub fn day_window(unix: u64) -> u64 {
    unix / 86_400
}
