//! The trust manifest, whose successor has to be carried here before it expires.

use mintmark_console::Console;
use mintmark_console::time::rfc3339;
use serde::Serialize;

use crate::vault::trust::TrustChain;

const SECONDS_PER_DAY: u64 = 86_400;

/// An expiry that is nearer than this is worth a word.
const DAYS_WARNED: u64 = 30;

/// The newest one.
#[derive(Serialize)]
pub(super) struct Trust {
    trust_version: u64,
    trust_expires: String,
    /// It has expired, or will within 30 days.
    trust_expires_soon: bool,
    #[serde(skip)]
    seconds_left: u64,
}

impl Trust {
    /// At a moment by the log.
    pub(super) fn of(trust: &TrustChain, now: u64) -> Self {
        let manifest = trust.newest().content();
        let seconds_left = manifest.expires_at.saturating_sub(now);
        Self {
            trust_version: manifest.version,
            trust_expires: rfc3339(manifest.expires_at),
            trust_expires_soon: seconds_left <= DAYS_WARNED * SECONDS_PER_DAY,
            seconds_left,
        }
    }

    pub(super) fn is_expired(&self) -> bool {
        self.seconds_left == 0
    }

    pub(super) fn words(&self) -> String {
        format!(
            "version {}, until {}",
            self.trust_version, self.trust_expires
        )
    }

    pub(super) fn warn(&self, console: &Console) {
        let (version, expires) = (self.trust_version, &self.trust_expires);
        if self.is_expired() {
            let text = format!(
                "trust manifest {version} expired at {expires}: nothing from headquarters is accepted before its successor"
            );
            console.warn_coded("TRUST-EXPIRED", text);
        } else if self.trust_expires_soon {
            let days = self.seconds_left / SECONDS_PER_DAY;
            let text = format!(
                "trust manifest {version} expires in {days} days, at {expires}: ask headquarters for its successor"
            );
            console.warn_coded("TRUST-EXPIRES", text);
        }
    }
}
