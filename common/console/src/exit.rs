//! The exit codes, which scripts at a site rely on.

/// How a command ended, as the caller of the process sees it.
///
/// The numbers are part of the tools' interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A negative verdict: refused by policy, discrepancy found, invalid signature.
    Negative = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Environment (file, HSM, PIN, cancelled); nothing changed.
    Environment = 3,
    /// Integrity: broken chain, rollback, fork; stop the line.
    Integrity = 4,
    /// Outcome unknown: recovery must look.
    Unknown = 5,
}

impl Exit {
    /// The number the process exits with, 0 to 5.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Every one of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 6] = [
        Self::Done,
        Self::Negative,
        Self::Usage,
        Self::Environment,
        Self::Integrity,
        Self::Unknown,
    ];

    /// What it means, in words.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Negative => {
                "a negative verdict: refused by policy, discrepancy found, invalid signature"
            }
            Self::Usage => "usage or configuration",
            Self::Environment => "environment (file, HSM, PIN, cancelled); nothing changed",
            Self::Integrity => "integrity: broken chain, rollback, fork; stop the line",
            Self::Unknown => "outcome unknown: recovery must look",
        }
    }

    /// The worse of two ends, for a command that did several things.
    ///
    /// From the worst: integrity, unknown, environment, usage, negative, done. This is not the order of the numbers:
    /// a broken chain must not be hidden by anything else.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.severity() > self.severity() {
            other
        } else {
            self
        }
    }

    fn severity(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Unknown => 4,
            Self::Integrity => 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit::{self, *};

    #[test]
    fn the_numbers_are_the_documented_ones() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_worst_of_two_does_not_depend_on_their_order() {
        let ascending = [Done, Negative, Usage, Environment, Unknown, Integrity];
        for (rank, mild) in ascending.iter().enumerate() {
            for severe in &ascending[rank..] {
                assert_eq!(mild.worst(*severe), *severe);
                assert_eq!(severe.worst(*mild), *severe);
            }
        }
    }
}
