//! The records of a bundle, segment by segment: no more than one segment is held at a time.

use std::vec::IntoIter;

use mintmark_console::{Exit, Failure};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::segment::{Segment, SegmentFacts};

use crate::failure;

/// Reads the file of one segment, by its number from 1; none if there is no such file.
pub(crate) type ReadSegment<'a> = &'a dyn Fn(usize) -> Result<Option<Vec<u8>>, Failure>;

/// The code of a segment that is the one that its vault signed for and cannot be read all the same.
pub(crate) const ROTTEN: &str = "SEGMENT-ROTTEN";

/// One record: its sequence, and its bytes.
pub(crate) type Record = (u64, Vec<u8>);

/// What a medium holds is not believed: whatever is wrong with it is its own fault, and nobody's who runs this.
pub(crate) fn untrusted(error: mintmark_protocol::Error) -> Failure {
    let mut failure = failure::protocol(error);
    if failure.exit == Exit::Usage {
        failure.exit = Exit::Negative;
    }
    failure
}

/// A segment whose bytes are those that the vault signed for: what is wrong with it is the vault's doing, unless it is
/// our key that failed.
fn rotten(number: usize, error: mintmark_protocol::Error) -> Failure {
    use mintmark_protocol::Error as E;
    if matches!(error, E::KeyOperation(_) | E::Random) {
        return failure::protocol(error);
    }
    let message = format!("segment {number}, which the vault signed for, cannot be read");
    Failure::new(Exit::Integrity, ROTTEN, message)
        .cause(error)
        .hint("keep the file, stop production at this vault and tell your security officer")
}

/// Reads a segment's file and checks that it is the one that the bundle names, whatever else is wrong with it.
pub(crate) fn signed_for(
    bundle: &Bundle,
    number: usize,
    facts: &SegmentFacts,
    read: ReadSegment<'_>,
) -> Result<Vec<u8>, Failure> {
    let name = Bundle::segment_id(&bundle.lineage, bundle.sequence, number);
    let missing = |what: &str| {
        let message = format!(
            "segment {number} of {} ({name}) {what}",
            bundle.segments.len()
        );
        Failure::new(Exit::Environment, "SEGMENT-MISSING", message).hint(
            "the stick does not hold the whole bundle: have the site export again, and import that",
        )
    };
    let bytes = read(number)
        .map_err(|failure| match failure.exit {
            Exit::Integrity => failure,
            _ => missing("cannot be read").cause(failure),
        })?
        .ok_or_else(|| missing("is not there"))?;
    let found_bytes = bytes.len() as u64;
    if Fingerprint::of(&bytes) != facts.file_digest {
        if found_bytes < facts.file_bytes {
            return Err(missing("is cut short"));
        }
        return Err(failure::refused(
            "SEGMENT-DIGEST",
            format!("segment {number} ({name}) is not the one that the vault signed for"),
            "the stick may be damaged: have the site export again, on another one",
        ));
    }
    Ok(bytes)
}

/// Reads a segment's file and checks that it is what the bundle says.
pub(crate) fn file(
    bundle: &Bundle,
    number: usize,
    facts: &SegmentFacts,
    read: ReadSegment<'_>,
) -> Result<Vec<u8>, Failure> {
    let bytes = signed_for(bundle, number, facts, read)?;
    // It is the very file that was signed for, so what the bundle says of its size is the vault's own untruth.
    if bytes.len() as u64 != facts.file_bytes {
        let why = "the bundle says another size of this file than it has";
        let what = "audit segment";
        return Err(rotten(
            number,
            mintmark_protocol::Error::PartsDiffer { what, why },
        ));
    }
    Ok(bytes)
}

/// Checks that every segment of a bundle is there and is the one that was sealed.
pub(crate) fn expect_whole(bundle: &Bundle, read: ReadSegment<'_>) -> Result<(), Failure> {
    for (number, facts) in (1..).zip(&bundle.segments) {
        file(bundle, number, facts, read)?;
    }
    Ok(())
}

/// Checks that no segment that is there, whole, is another one than was sealed; for a bundle that HQ holds, those that
/// are missing are no loss.
pub(crate) fn expect_undamaged(bundle: &Bundle, read: ReadSegment<'_>) -> Result<(), Failure> {
    let refused = |failure: &Failure| failure.exit != Exit::Environment;
    for (number, facts) in (1..).zip(&bundle.segments) {
        match file(bundle, number, facts, read) {
            Err(failure) if refused(&failure) => return Err(failure),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// The records of a bundle, in order.
pub(crate) struct Records<'a> {
    bundle: &'a Bundle,
    read: ReadSegment<'a>,
    opener: Opener<'a>,
    /// The first record that is wanted.
    first: u64,
    /// Segments opened so far.
    opened: usize,
    segment: IntoIter<Record>,
}

impl<'a> Records<'a> {
    pub(crate) fn new(bundle: &'a Bundle, read: ReadSegment<'a>, opener: Opener<'a>) -> Self {
        Self {
            bundle,
            read,
            opener,
            first: 0,
            opened: 0,
            segment: Vec::new().into_iter(),
        }
    }

    /// Leaves out those before this one.
    pub(crate) fn starting_at(mut self, first: u64) -> Self {
        self.first = first;
        self
    }

    /// The next records, at most this many; none at the end.
    pub(crate) fn chunk(&mut self, records_max: usize) -> Result<Vec<Record>, Failure> {
        while self.segment.len() == 0 {
            let Some(facts) = self.bundle.segments.get(self.opened) else {
                return Ok(Vec::new());
            };
            self.opened += 1;
            let file = file(self.bundle, self.opened, facts, self.read)?;
            let Bundle {
                vault,
                lineage,
                sequence,
                ..
            } = self.bundle;
            let id = Bundle::segment_id(lineage, *sequence, self.opened);
            let segment = Segment::open(&file, facts, vault, &id, self.opener)
                .map_err(|error| rotten(self.opened, error))?;
            let records = segment.records().filter(|(at, _)| *at >= self.first);
            let records = records.map(|(at, bytes)| (at, bytes.to_vec()));
            self.segment = records.collect::<Vec<_>>().into_iter();
        }
        Ok(self.segment.by_ref().take(records_max).collect())
    }
}
