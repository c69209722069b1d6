//! The index: a view of the log, never the record.
