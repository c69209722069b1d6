//! When a group of records is worth a sync of the log.

use std::time::Duration;

/// As many records are worth a sync of their own while the other processors have work.
const GROUP_RECORDS: usize = 1024;

/// How long a certificate that is signed waits for a group to become worth a sync: where a token is slow, that takes seconds.
const GROUP_WAIT: Duration = Duration::from_millis(250);

/// How many batches keep the other processors busy while a group is made durable.
const BATCHES_AHEAD: usize = 4;

/// How many batches are decided and not recorded yet: after a crash, so many have to be signed for before anything else.
pub(super) const BATCHES_RESERVED_MAX: usize = 16;

/// What is on the line between two groups, in batches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// Records that a sync would make durable.
    pub(super) staged: usize,
    /// Being read.
    pub(super) reading: usize,
    /// Reserved, and the reservations not durable.
    pub(super) reserved: usize,
    /// Being signed.
    pub(super) signing: usize,
    /// Signed, and the certificates not durable.
    pub(super) recorded: usize,
    /// Since the group before.
    pub(super) passed: Duration,
}

impl Traffic {
    /// Whether to sync now: there is a group's worth, or a certificate has waited long enough, or the others will soon have
    /// nothing to do, or nothing to sign. Never, where nothing waits for it.
    pub(super) fn is_group_worth_it(self) -> bool {
        if self.reserved + self.recorded == 0 {
            return false;
        }
        self.staged >= GROUP_RECORDS
            || self.group_due().is_some_and(|due| due.is_zero())
            || self.reading + self.signing < BATCHES_AHEAD
            || self.signing == 0 && self.reserved >= BATCHES_RESERVED_MAX
    }

    /// In what time there is to be a group whatever comes, if a certificate waits for one.
    pub(super) fn group_due(self) -> Option<Duration> {
        (self.recorded > 0).then(|| GROUP_WAIT.saturating_sub(self.passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody needs a group yet: the others have work, the token too, and nothing has waited.
    const BUSY: Traffic = Traffic {
        staged: GROUP_RECORDS - 1,
        reading: BATCHES_AHEAD,
        reserved: BATCHES_RESERVED_MAX - 1,
        signing: 1,
        recorded: 1,
        passed: Duration::ZERO,
    };

    #[test]
    fn a_group_waits_while_everybody_has_work() {
        assert!(!BUSY.is_group_worth_it());
        assert_eq!(BUSY.group_due(), Some(GROUP_WAIT));
    }

    #[test]
    fn enough_records_are_a_group() {
        let staged = GROUP_RECORDS;
        assert!(Traffic { staged, ..BUSY }.is_group_worth_it());
    }

    #[test]
    fn a_signed_certificate_has_its_group_in_time_and_a_reservation_can_wait() {
        let passed = GROUP_WAIT - Duration::from_millis(1);
        let almost = Traffic { passed, ..BUSY };
        assert!(!almost.is_group_worth_it());
        assert_eq!(almost.group_due(), Some(Duration::from_millis(1)));

        for passed in [GROUP_WAIT, Duration::MAX] {
            let due = Traffic { passed, ..BUSY };
            assert!(due.is_group_worth_it());
            assert_eq!(due.group_due(), Some(Duration::ZERO));

            let recorded = 0;
            let unsigned = Traffic { recorded, ..due };
            assert!(!unsigned.is_group_worth_it());
            assert_eq!(unsigned.group_due(), None);
        }
    }

    #[test]
    fn processors_that_will_soon_have_nothing_to_do_are_given_work() {
        let reading = BATCHES_AHEAD - 2;
        assert!(Traffic { reading, ..BUSY }.is_group_worth_it());
        // A request by itself waits for nobody: nothing else is on the line.
        let alone = Traffic {
            staged: 1,
            reserved: 1,
            ..Traffic::default()
        };
        assert!(alone.is_group_worth_it());
    }

    #[test]
    fn a_token_with_nothing_to_sign_is_given_what_may_be_reserved() {
        let (signing, reserved) = (0, BATCHES_RESERVED_MAX);
        let full = Traffic { reserved, ..BUSY };
        assert!(!full.is_group_worth_it());
        assert!(Traffic { signing, ..full }.is_group_worth_it());
        assert!(!Traffic { signing, ..BUSY }.is_group_worth_it());
    }

    #[test]
    fn where_nothing_waits_there_is_no_group() {
        let nothing = Traffic {
            staged: GROUP_RECORDS,
            passed: Duration::MAX,
            ..Traffic::default()
        };
        assert!(!nothing.is_group_worth_it());
    }
}
