//! A log that is nothing but memory: what issuing costs without one. No product has it.

use std::path::Path;

use mintmark_ledger::StorageError;
use mintmark_ledger::log::{FileLog, Head, LogStore, Position, Record, Records, link};

/// What a record takes in a file beside itself, in bytes: so positions are those of the log that it began with.
struct Stored {
    header_bytes: u64,
}

/// The log.
pub(crate) struct MemoryLog {
    records: Vec<Record>,
    head: Head,
    stored: Stored,
}

impl MemoryLog {
    /// With what the log of a home holds.
    pub(crate) fn copy_of(folder: &Path) -> Self {
        let (log, _) = FileLog::open_read_only(folder, None).unwrap();
        let records: Vec<Record> = log
            .scan(Position::START)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let first = records.first().unwrap();
        let header_bytes = first.end.to_u64() - first.position.to_u64() - first.bytes.len() as u64;
        Self {
            records,
            head: log.head(),
            stored: Stored { header_bytes },
        }
    }

    fn index_of(&self, at: Position) -> Result<usize, StorageError> {
        let found = self
            .records
            .binary_search_by_key(&at, |record| record.position);
        found.map_err(|_| StorageError::NoRecord {
            position: at,
            end: self.head.end,
        })
    }
}

impl LogStore for MemoryLog {
    fn head(&self) -> Head {
        self.head
    }

    fn append(
        &mut self,
        expected: &Head,
        records: &[Vec<u8>],
    ) -> Result<Vec<Position>, StorageError> {
        assert_eq!(*expected, self.head, "the one writer knows the head");
        let mut positions = Vec::with_capacity(records.len());
        for bytes in records {
            let position = self.head.end;
            let end = position.to_u64() + self.stored.header_bytes + bytes.len() as u64;
            let record = Record {
                sequence: self.head.size,
                position,
                end: Position::from_u64(end),
                // The chain is part of what a log costs; it is not made here.
                link: self.head.link,
                bytes: bytes.clone(),
                pruned: None,
            };
            self.head = record.head();
            positions.push(position);
            self.records.push(record);
        }
        // The index is told apart by its head.
        if let Some(last) = records.last() {
            self.head.link = link(&self.head.link, last);
        }
        Ok(positions)
    }

    fn read(&self, at: Position) -> Result<Record, StorageError> {
        Ok(self.records[self.index_of(at)?].clone())
    }

    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError> {
        let first = match from == self.head.end {
            true => self.records.len(),
            false => self.index_of(from)?,
        };
        Ok(Box::new(self.records[first..].iter().cloned().map(Ok)))
    }
}
