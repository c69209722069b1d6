//! What holds between a record and the one before it.

use super::frame::Frame;
use super::{Head, link_of};

/// A group of which the last record was part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    first: u64,
    count: u32,
}

/// The end of a chain of records, and what the next one must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Sequence number and previous link of the next record; `None` when any will do, because
    /// reading began in the middle of the log.
    next: Option<(u64, [u8; 32])>,
    /// The group that the next record must belong to; `None` when it must begin one.
    open_group: Option<Group>,
}

impl Chain {
    /// In front of the first record of a log.
    pub(super) fn start() -> Self {
        Self::after_group(&Head::default())
    }

    /// Behind the last record of a group.
    pub(super) fn after_group(head: &Head) -> Self {
        Self {
            next: Some((head.size, head.link)),
            open_group: None,
        }
    }

    /// Behind a record that is known to be right.
    pub(super) fn after(frame: &Frame, own_link: [u8; 32]) -> Self {
        Self {
            next: Some((frame.sequence.saturating_add(1), own_link)),
            open_group: (!frame.ends_group()).then_some(Group {
                first: frame.group_first,
                count: frame.group_count,
            }),
        }
    }

    /// Somewhere in a log: the next record is believed.
    pub(super) fn anywhere() -> Self {
        Self {
            next: None,
            open_group: None,
        }
    }

    /// The sequence number of the next record, where it is known.
    pub(super) fn next_sequence(&self) -> Option<u64> {
        self.next.map(|(sequence, _)| sequence)
    }

    /// Whether the next record begins a group.
    pub(super) fn at_group_boundary(&self) -> bool {
        self.open_group.is_none()
    }

    /// Takes the next record, by its SHA-256, and returns its link; or says why it cannot follow.
    pub(super) fn accept(
        &mut self,
        frame: &Frame,
        digest: &[u8; 32],
    ) -> Result<[u8; 32], &'static str> {
        if let Some((sequence, previous)) = self.next {
            if frame.sequence != sequence {
                return Err("the record has another sequence number");
            }
            if frame.previous != previous {
                return Err("the record does not link to the one before it");
            }
            let expected = self.open_group.map_or(sequence, |group| group.first);
            if frame.group_first != expected
                || self
                    .open_group
                    .is_some_and(|group| group.count != frame.group_count)
            {
                return Err("the record belongs to another group");
            }
        }
        let own_link = link_of(&frame.previous, digest);
        *self = Self::after(frame, own_link);
        Ok(own_link)
    }
}
