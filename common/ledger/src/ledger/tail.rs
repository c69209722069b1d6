//! The tail of the log, sent back by HQ to a vault whose folder was put back from an older copy.

use mintmark_protocol::identifier::Fingerprint;

use super::Ledger;
use super::stage::{STAGED_BYTES_MAX, STAGED_RECORDS_MAX, Staged};
use crate::apply::apply;
use crate::entry::{Entry, LogSequence};
use crate::error::Error;
use crate::merkle::{Frontier, leaf_hash};
use crate::state::State;

/// Records that this vault once wrote, and lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The position of the first of them.
    pub first: u64,
    /// The records, as they stood in the log.
    pub records: Vec<Vec<u8>>,
    /// The root of the log with all of them.
    pub root: Fingerprint,
}

impl Tail {
    /// How many records the log has with all of them.
    pub fn size(&self) -> u64 {
        self.first.saturating_add(self.records.len() as u64)
    }
}

impl Ledger {
    /// Appends records that this vault once wrote, as they stand. Those that are there already, of a time that this was
    /// interrupted, have to be the same. All of them are tried before the first is written, and an input is never durable
    /// without its decision.
    ///
    /// # Errors
    /// [`Error::Tail`] if they do not continue this log, or do not lead to the root; nothing is changed then. As
    /// [`Ledger::commit`] otherwise; it is continued by doing it again.
    pub fn adopt_tail(&mut self, tail: &Tail) -> Result<(), Error> {
        self.usable()?;
        self.commit()?;
        if self.index_behind {
            self.catch_up_index()?;
            self.index_behind = false;
        }
        let size = self.size();
        if tail.first > size {
            return Err(refused(format!(
                "its first record is {}, and this log has {size} records",
                tail.first
            )));
        }
        let mut fresh = tail.records.as_slice();
        if tail.first < size || tail.records.is_empty() {
            // What is there already.
            let mut before = Frontier::new();
            for record in self.reader(LogSequence(0))? {
                let record = record?;
                if record.sequence < tail.size() {
                    before.append(record.leaf());
                }
                if record.sequence < tail.first {
                    continue;
                }
                let Some((expected, rest)) = fresh.split_first() else {
                    break;
                };
                if leaf_hash(expected) != record.leaf() {
                    let sequence = record.sequence;
                    return Err(refused(format!(
                        "record {sequence} is another one in this log"
                    )));
                }
                fresh = rest;
            }
            if fresh.is_empty() {
                let root = Fingerprint::new(before.root());
                return if root == tail.root {
                    Ok(())
                } else {
                    Err(refused(other_root(tail, &root)))
                };
            }
        }
        let mut tried = self.state.clone();
        for raw in fresh {
            let entry = read(&tried, raw)?;
            apply(&mut tried, raw, &entry);
        }
        if tried.awaits_decision() {
            let why = "it ends between an input and its decision";
            return Err(refused(why.to_owned()));
        }
        let root = tried.root();
        if root != tail.root {
            return Err(refused(other_root(tail, &root)));
        }
        drop(tried);
        let mut fresh = fresh.iter().peekable();
        while let Some(raw) = fresh.next() {
            let entry = read(&self.state, raw)?;
            apply(&mut self.state, raw, &entry);
            let raw = raw.clone();
            self.staged_bytes = self.staged_bytes.saturating_add(raw.len());
            self.staged.push(Staged { raw, entry });
            let full =
                self.staged.len() >= STAGED_RECORDS_MAX || self.staged_bytes >= STAGED_BYTES_MAX;
            let decided = fresh
                .peek()
                .is_none_or(|next| Entry::from_cbor(next).is_ok_and(|e| !e.body.is_decision()));
            if full && decided {
                self.commit()?;
            }
        }
        self.commit()
    }
}

fn refused(why: String) -> Error {
    Error::Tail { why }
}

fn other_root(tail: &Tail, root: &Fingerprint) -> String {
    format!(
        "{} records of this log have the root {root}, and headquarters holds {}",
        tail.size(),
        tail.root
    )
}

fn read(state: &State, raw: &[u8]) -> Result<Entry, Error> {
    Entry::from_cbor(raw)
        .map_err(|error| refused(format!("record {} cannot be read: {error}", state.size())))
}
