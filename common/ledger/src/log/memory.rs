//! A log in memory, for tests: same positions, same links, same refusals as the one in files.

use super::group::{encode_group, stored_bytes};
use super::{Head, LogStore, Position, Record, Records};
use crate::StorageError;

/// A log that is gone when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    records: Vec<Record>,
    head: Head,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn index_of(&self, at: Position) -> Result<usize, StorageError> {
        if at >= self.head.end {
            return Err(StorageError::NoRecord {
                position: at,
                end: self.head.end,
            });
        }
        self.records
            .binary_search_by_key(&at, |record| record.position)
            .map_err(|_| StorageError::LogCorrupt {
                sequence: None,
                position: at,
                reason: "no record begins here",
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
        if *expected != self.head {
            return Err(StorageError::HeadMoved {
                expected: expected.size,
                found: self.head.size,
            });
        }
        stored_bytes(records)?;
        let (head, positions) = encode_group(&self.head, records, &mut Vec::new());
        let mut link = self.head.link;
        for (index, record) in records.iter().enumerate() {
            link = super::link(&link, record);
            self.records.push(Record {
                sequence: self.head.size.saturating_add(index as u64),
                position: positions[index],
                end: positions.get(index + 1).copied().unwrap_or(head.end),
                link,
                bytes: record.clone(),
                pruned: None,
            });
        }
        self.head = head;
        Ok(positions)
    }

    fn read(&self, at: Position) -> Result<Record, StorageError> {
        Ok(self.records[self.index_of(at)?].clone())
    }

    fn scan(&self, from: Position) -> Result<Records<'_>, StorageError> {
        let first = if from == self.head.end {
            self.records.len()
        } else {
            self.index_of(from)?
        };
        Ok(Box::new(self.records[first..].iter().cloned().map(Ok)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::FileLog;

    #[test]
    fn a_log_in_memory_is_the_log_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = FileLog::create(&folder.path().join("log")).unwrap();
        let mut memory = MemoryLog::new();
        for group in [
            vec![b"one".to_vec()],
            vec![vec![], b"three".to_vec()],
            vec![vec![4; 5000]],
        ] {
            let head = file.head();
            assert_eq!(
                file.append(&head, &group).unwrap(),
                memory.append(&head, &group).unwrap()
            );
            assert_eq!(file.head(), memory.head());
        }
        let all = |log: &dyn LogStore, from| {
            log.scan(from)
                .unwrap()
                .collect::<Result<Vec<_>, _>>()
                .unwrap()
        };
        let records = all(&file, Position::START);
        assert_eq!(records.len(), 4);
        assert_eq!(records, all(&memory, Position::START));
        for record in &records {
            assert_eq!(&memory.read(record.position).unwrap(), record);
            assert_eq!(all(&file, record.position), all(&memory, record.position));
        }
        assert_eq!(all(&memory, memory.head().end), []);
        for log in [&mut file as &mut dyn LogStore, &mut memory] {
            let end = log.head().end;
            assert_eq!(log.read(end).unwrap_err().code(), "LOG-NO-RECORD");
            assert_eq!(log.read(Position(1)).unwrap_err().code(), "LOG-CORRUPT");
            assert_eq!(
                log.append(&Head::default(), &[vec![]]).unwrap_err().code(),
                "HEAD-MOVED"
            );
        }
    }
}
