//! What a replay finds.

use std::fmt;

use crate::entry::LogSequence;
use crate::serial::Serial;

/// How much a divergence matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Something does not work as it should; nobody gained by it.
    Warning,
    /// Units, identities or the record itself were tampered with.
    Critical,
}

impl Severity {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A record that departs from the rules.
///
/// | code | what it means |
/// |---|---|
/// | `OVER-ISSUE` | a unit was spent that the account does not have |
/// | `SLOT-REUSE` | a slot was spent twice |
/// | `SERIAL-MISMATCH` | the certificate's serial is not that of its account, slot and issue |
/// | `CERTIFICATE-DIFFERS` | what was signed is not what the terms say |
/// | `SLOT-MISMATCH` | a re-issue of a slot that was never spent |
/// | `KEY-USE-MISMATCH` | a device got secrets from other keys than the terms say |
/// | `RATE-EXCEEDED` | a unit was spent beyond what an hour or a day may have |
/// | `CREDIT-EXCEEDED` | a unit was spent while too much was unreported |
/// | `ISSUED-OUT-OF-HOURS` | a unit was spent outside working hours or the entitlement's window |
/// | `WRONG-STATION` | a unit was spent for a station that may not make the product |
/// | `KEY-USES-EXCEEDED` | a device got a secret from a key whose uses are exhausted |
/// | `DEVICE-RETURNED` | a device got a certificate after it was scrapped or voided |
/// | `POLICY-BREACH` | a unit was spent, or a key taken, although another rule forbids it |
/// | `DEVICE-DUPLICATE` | a device or key got a second unit |
/// | `WRONGLY-REFUSED` | what the rules allow was refused |
/// | `DECISION-DIVERGES` | the decision is another one, in some other way |
/// | `DECISION-MISSING` | an input without its decision, or a decision without its input |
/// | `PRUNE-MISMATCH` | records were pruned that had to stay whole |
/// | `TIME-BACK` | the time lies before that of an earlier record |
/// | `LINEAGE-MISMATCH` | a start names another history |
/// | `BOOT-MISMATCH` | a start does not count on from the one before |
/// | `RULES-VERSION-UNKNOWN` | a start names rules that this program does not have |
/// | `GENESIS-MISSING` | the log does not begin with a genesis record |
/// | `GENESIS-REPEATED` | a second genesis record |
/// | `BUNDLE-MISMATCH` | a bundle is not the next of its chain, or covers records that were not there |
/// | `SIGNED-WITHOUT-RESERVATION` | a signature for what is not an open reservation |
/// | `SIGNED-AFTER-REVOCATION` | a signature for what was withheld by a revocation |
/// | `ROTATION-MISMATCH` | a request for a device CA that is not the next |
/// | `TRUST-ORDER` | a trust manifest that is not the next, or of a dispatch epoch that is over |
/// | `KEY-UNKNOWN` | a key that no entitlement brought |
/// | `FACT-FALSE` | what the vault claims to have verified does not verify |
/// | `ENTRY-MALFORMED` | the record cannot be read |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The record.
    pub sequence: LogSequence,
    /// Its kind, from the table above.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What the rules demand.
    pub expected: String,
    /// What the vault wrote.
    pub found: String,
    /// The certificate serials that it concerns: the one written and, if that is another, the one that belongs there.
    pub serials: Vec<Serial>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sequence,
            code,
            expected,
            found,
            ..
        } = self;
        write!(
            f,
            "{code} at record {sequence}: expected {expected}; found {found}"
        )
    }
}
