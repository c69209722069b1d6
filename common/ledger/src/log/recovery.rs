//! What a log holds, found out from its files when it is opened.
//!
//! One write stores one group, and the next group is written only after the one before it is
//! durable. So a crash can leave at most one group incomplete, at the very end of the last file,
//! and any part of it may be missing. Whatever else is unreadable was damaged after it was
//! durable, and is never cut off.

use sha2::{Digest as _, Sha256};

use super::chain::Chain;
use super::frame::{FRAME_BYTES_MAX, Frame, HEADER_BYTES, Unreadable, lacks_a_sector, one_bit_off};
use super::segment::{Frames, Segments, Source, Stop, find_ending, find_frame, read_up_to};
use super::{Head, Position, link_of};
use crate::StorageError;

/// What the files of a log hold.
#[derive(Debug)]
pub(super) struct Survey {
    /// The end of the last complete group.
    pub(super) head: Head,
    /// Where the last complete group begins, if it was read.
    pub(super) last_group: Option<Position>,
    /// The bytes behind the head, left by a group that is not complete.
    pub(super) torn_bytes: u64,
    /// Where nothing could be read any more, and why, if there are such bytes.
    pub(super) unreadable: Option<(Position, Unreadable)>,
    /// The number of records that were read and checked.
    pub(super) records_checked: u64,
}

impl Survey {
    /// Makes sure that the log has not lost anything up to `known`, a head that it once had.
    ///
    /// # Errors
    /// [`StorageError::LogCorrupt`] if the bytes are there and cannot be read; [`StorageError::LogTruncated`] if they
    /// are gone.
    pub(super) fn expect(&self, known: &Head) -> Result<(), StorageError> {
        if known.size <= self.head.size {
            return Ok(());
        }
        let end = Position(self.head.end.0.saturating_add(self.torn_bytes));
        Err(match self.unreadable {
            Some((position, unreadable)) if known.end <= end => StorageError::LogCorrupt {
                sequence: None,
                position,
                reason: unreadable.reason(),
            },
            _ => truncated(known, end),
        })
    }
}

/// Reads a log from `known` on, or from its beginning.
///
/// # Errors
/// [`StorageError::LogTruncated`] when the log ends before `known`; [`StorageError::LogCorrupt`]
/// when it holds another record there, or behind it anything but whole groups and at most one torn
/// one at the end.
pub(super) fn survey(segments: &Segments, known: Option<&Head>) -> Result<Survey, StorageError> {
    let start = known.copied().unwrap_or_default();
    let end = Position(segments.last().end());
    let mut chain = match known {
        Some(known) => find_known(segments, known, end)?,
        None => Chain::start(),
    };

    let mut frames = Frames::new(segments.clone(), start.end, end);
    let mut survey = Survey {
        head: start,
        last_group: None,
        torn_bytes: 0,
        unreadable: None,
        records_checked: 0,
    };
    let mut next = start;
    let mut group_begin = start.end;
    // `start` may lie within a group: then the group must be complete, for `start` was made from a
    // complete one.
    let mut within_known_group = !chain.at_group_boundary();
    let unreadable = loop {
        let position = frames.position();
        let at_boundary = chain.at_group_boundary();
        match frames.next() {
            Ok(Some((frame, found))) => {
                let own_link = chain.accept(&frame, &found.digest()).map_err(|reason| {
                    StorageError::LogCorrupt {
                        sequence: Some(next.size),
                        position,
                        reason,
                    }
                })?;
                if at_boundary {
                    group_begin = position;
                }
                next = Head {
                    size: frame.sequence.saturating_add(1),
                    link: own_link,
                    end: frames.position(),
                };
                survey.records_checked += 1;
                if chain.at_group_boundary() {
                    survey.last_group = (!within_known_group).then_some(group_begin);
                    within_known_group = false;
                    survey.head = next;
                }
            }
            Ok(None) if at_boundary => return Ok(survey),
            Ok(None) => break Unreadable::Short,
            Err(Stop::Unreadable(unreadable)) => break unreadable,
            Err(Stop::Failed(error)) => return Err(error),
        }
    };

    let position = frames.position();
    let last = segments.last();
    let corrupt = StorageError::LogCorrupt {
        sequence: Some(next.size),
        position,
        reason: unreadable.reason(),
    };
    if within_known_group {
        return Err(if position == end {
            truncated(&start, end)
        } else {
            corrupt
        });
    }
    // A later file was begun only when everything before it was durable.
    if position.0 < last.base || survey.head.end.0 < last.base {
        return Err(corrupt);
    }
    if frame_of_another_group_behind(segments, position, end, survey.head.size)? {
        return Err(corrupt);
    }
    if is_one_bit_off(segments, position, &chain)? {
        return Err(StorageError::LogCorrupt {
            sequence: Some(next.size),
            position,
            reason: "one bit of the record was changed after it was written",
        });
    }
    survey.torn_bytes = end.0.saturating_sub(survey.head.end.0);
    survey.unreadable = Some((position, unreadable));
    Ok(survey)
}

/// Makes sure that the log holds the record that `known` ends with, and returns what must follow.
pub(super) fn find_known(
    segments: &Segments,
    known: &Head,
    end: Position,
) -> Result<Chain, StorageError> {
    if known.end > end {
        return Err(truncated(known, end));
    }
    let another = StorageError::LogCorrupt {
        sequence: known.size.checked_sub(1),
        position: known.end,
        reason: "the record that is known to end here is not there, or is another one",
    };
    let (Some(sequence), Some(byte)) = (known.size.checked_sub(1), known.end.0.checked_sub(1))
    else {
        return if *known == Head::default() {
            Ok(Chain::start())
        } else {
            Err(another)
        };
    };
    let Some((_, segment)) = segments.holding(Position(byte)) else {
        return Err(another);
    };
    let file = match segments.source(segment.base)? {
        Source::Whole(file) => file,
        Source::Pruned(pruned) => {
            let kept = match pruned.record_ending(known.end.0) {
                Ok(kept) => kept,
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Unreadable(_)) => None,
            };
            let frame = kept.filter(|kept| {
                kept.frame.sequence == sequence
                    && link_of(&kept.frame.previous, &kept.digest()) == known.link
            });
            return frame.map_or(Err(another), |kept| {
                Ok(Chain::after(&kept.frame, known.link))
            });
        }
    };
    let found = find_ending(&file, segment.base, known.end, sequence, &known.link)
        .map_err(segments.read_error(segment.base))?;
    found.map_or(Err(another), |frame| Ok(Chain::after(&frame, known.link)))
}

/// Whether anything readable behind `position` is not of the group that begins with the record
/// `group_first`.
fn frame_of_another_group_behind(
    segments: &Segments,
    position: Position,
    end: Position,
    group_first: u64,
) -> Result<bool, StorageError> {
    let base = segments.last().base;
    let file = segments.open(base)?;
    let mut from = position;
    while let Some((found, frame, stored)) =
        find_frame(&file, base, from, end).map_err(segments.read_error(base))?
    {
        if frame.group_first != group_first {
            return Ok(true);
        }
        // Behind it, not within it: what its record holds is none of our frames.
        from = Position(found.0.saturating_add(stored as u64));
    }
    Ok(false)
}

/// Whether the next record of a chain stands at `position` but for one bit.
fn is_one_bit_off(
    segments: &Segments,
    position: Position,
    chain: &Chain,
) -> Result<bool, StorageError> {
    let last = segments.last();
    let left = usize::try_from(last.end().saturating_sub(position.0)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(FRAME_BYTES_MAX)];
    let file = segments.open(last.base)?;
    let filled = read_up_to(&file, &mut bytes, position.0.saturating_sub(last.base))
        .map_err(segments.read_error(last.base))?;
    bytes.truncate(filled);
    let Some(frame) = one_bit_off(&bytes, position) else {
        return Ok(false);
    };
    // Whether that bit was ever written is for those to say who know how far the log was durable.
    if lacks_a_sector(&bytes, &frame, position.0.saturating_sub(last.base)) {
        return Ok(false);
    }
    Ok(
        Frame::decode(&frame, position).is_ok_and(|(header, stored)| {
            let record = frame.get(HEADER_BYTES..stored).unwrap_or_default();
            let digest = Sha256::digest(record).into();
            chain.clone().accept(&header, &digest).is_ok()
        }),
    )
}

pub(super) fn truncated(known: &Head, end: Position) -> StorageError {
    StorageError::LogTruncated {
        known: known.size,
        known_end: known.end,
        end,
    }
}
