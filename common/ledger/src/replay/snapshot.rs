//! A replay as bytes, to go on with the next bundle.
//!
//! ```cddl
//! replay = { 0: 1, 1: bstr, 2: 0 / 1 / 2 / 3, ? 3: bstr, ? 4: tstr, ? 5: [+ uint] }
//! ; state; expecting an input, this decision (entry, and why), some decision, anything; records and when each was
//! ; written, by turns
//! ```

use mintmark_protocol::cbor::{Fields, Map};

use super::{Expected, Expecting, Replay, Times};
use crate::entry::Entry;
use crate::state::{SnapshotError, State};

const WHAT: &str = "replay snapshot";
const FORMAT: u64 = 1;
const BYTES_MAX: usize = 1 << 30;

/// Why bytes are no replay.
pub type ReplaySnapshotError = SnapshotError;

impl Replay {
    /// The replay as bytes, deterministically. Whoever keeps them vouches for them.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let (kind, expected) = match &self.expecting {
            Expecting::Input => (0_u64, None),
            Expecting::Decision(expected) => (1, Some(expected)),
            Expecting::AnyDecision => (2, None),
            Expecting::Anything => (3, None),
        };
        Map::new()
            .with(0, FORMAT)
            .with(1, self.state.to_snapshot())
            .with(2, kind)
            .with_some(3, expected.map(|expected| expected.entry.to_cbor()))
            .with_some(4, expected.and_then(|expected| expected.why.as_deref()))
            .with_some(5, self.times.to_value())
            .encode()
    }

    /// Reads a replay that [`Replay::to_snapshot`] wrote.
    ///
    /// # Errors
    /// The bytes are damaged, or of another version.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, ReplaySnapshotError> {
        let mut fields = Fields::decode(WHAT, bytes, BYTES_MAX)?;
        if fields.uint(0)? != FORMAT {
            return Err(fields.wrong(0, "another version of the format").into());
        }
        let state = State::from_snapshot(&fields.bytes(1)?)?;
        let expecting = match fields.uint(2)? {
            0 => Expecting::Input,
            1 => {
                let entry = Entry::from_cbor(&fields.bytes(3)?)?;
                let why = fields.optional(4).map(|why| why.into_text()).transpose();
                let why = why.map_err(|_| fields.wrong(4, "a text was expected"))?;
                Expecting::Decision(Box::new(Expected { entry, why }))
            }
            2 => Expecting::AnyDecision,
            3 => Expecting::Anything,
            _ => return Err(fields.wrong(2, "not an expectation").into()),
        };
        // What was kept before there were any has none.
        let times = match fields.optional(5) {
            None => Times::default(),
            Some(times) => Times::from_value(times)
                .ok_or_else(|| fields.wrong(5, "records and times were expected"))?,
        };
        fields.finish()?;
        Ok(Self {
            state,
            expecting,
            times,
        })
    }
}
