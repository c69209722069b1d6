//! The writer of maps with integer keys.

use ciborium::Value;

use super::{check_deterministic, writer};
/// Room for most of what is encoded.
const ENCODED_BYTES_EXPECTED: usize = 512;

/// Builds a map with integer keys; absent options leave no trace.
#[derive(Default)]
pub struct Map(Vec<(i64, Value)>);

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `key: value`.
    #[must_use]
    pub fn with(mut self, key: i64, value: impl Into<Value>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// Adds `key: value` if there is one.
    #[must_use]
    pub fn with_some(self, key: i64, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds `key: value`, or `key: null`.
    #[must_use]
    pub fn with_nullable(self, key: i64, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self.with(key, Value::Null),
        }
    }

    /// Adds `key: [each]`.
    #[must_use]
    pub fn with_array<T: Into<Value>>(self, key: i64, values: impl IntoIterator<Item = T>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.with(key, Value::Array(values))
    }

    /// The map as a value, its keys in deterministic order.
    pub fn value(self) -> Value {
        let entries = self.sorted().into_iter();
        Value::Map(
            entries
                .map(|(key, value)| (Value::from(key), value))
                .collect(),
        )
    }

    /// The map, encoded.
    pub fn encode(self) -> Vec<u8> {
        let entries = self.sorted();
        let mut out = Vec::with_capacity(ENCODED_BYTES_EXPECTED);
        writer::map_head(entries.len(), &mut out);
        for (key, value) in &entries {
            writer::integer(i128::from(*key), &mut out);
            writer::value(value, &mut out);
        }
        debug_assert_eq!(check_deterministic(&out), Ok(()));
        out
    }

    fn sorted(mut self) -> Vec<(i64, Value)> {
        // Bytewise order of encoded integers: non-negative ascending, then negative descending.
        self.0
            .sort_by_key(|(key, _)| (*key < 0, key.unsigned_abs()));
        self.0
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        map.value()
    }
}
