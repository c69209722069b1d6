//! The reader of maps with integer keys.

use ciborium::Value;

use super::decode;
use crate::Error;
use crate::identifier::Fingerprint;

/// Reads a map with integer keys, field by field; a field that nobody took is an error.
pub struct Fields {
    what: &'static str,
    fields: Vec<(i64, Option<Value>)>,
}

impl Fields {
    /// Decodes `bytes` strictly as a map.
    ///
    /// # Errors
    /// As [`decode`], and [`Error::Shape`] if it is no map with integer keys.
    pub fn decode(what: &'static str, bytes: &[u8], bytes_max: usize) -> Result<Self, Error> {
        Self::new(what, decode(what, bytes, bytes_max)?)
    }

    /// Reads an already decoded value as a map.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is no map with integer keys.
    pub fn new(what: &'static str, value: Value) -> Result<Self, Error> {
        let Value::Map(entries) = value else {
            return Err(Error::Shape {
                what,
                why: "a map was expected".to_owned(),
            });
        };
        let mut fields = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = key.as_integer().and_then(|key| i64::try_from(key).ok());
            let key = key.ok_or_else(|| Error::Shape {
                what,
                why: "a map key is not a small integer".to_owned(),
            })?;
            fields.push((key, Some(value)));
        }
        Ok(Self { what, fields })
    }

    /// An error about the field `key`.
    pub fn wrong(&self, key: i64, why: &str) -> Error {
        Error::Shape {
            what: self.what,
            why: format!("field {key}: {why}"),
        }
    }

    /// Takes an optional field; null counts as a value.
    pub fn optional(&mut self, key: i64) -> Option<Value> {
        self.fields
            .iter_mut()
            .find(|(found, _)| *found == key)
            .and_then(|(_, value)| value.take())
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing.
    pub fn required(&mut self, key: i64) -> Result<Value, Error> {
        self.optional(key).ok_or_else(|| self.wrong(key, "missing"))
    }

    /// Takes a field that must be there but may be null.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing.
    pub fn nullable(&mut self, key: i64) -> Result<Option<Value>, Error> {
        Ok(Some(self.required(key)?).filter(|value| !value.is_null()))
    }

    /// Takes an unsigned integer.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type.
    pub fn uint(&mut self, key: i64) -> Result<u64, Error> {
        let value = self.required(key)?;
        self.as_uint(key, &value)
    }

    /// Takes an optional unsigned integer.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is of another type.
    pub fn optional_uint(&mut self, key: i64) -> Result<Option<u64>, Error> {
        self.optional(key)
            .map(|value| self.as_uint(key, &value))
            .transpose()
    }

    fn as_uint(&self, key: i64, value: &Value) -> Result<u64, Error> {
        value
            .as_integer()
            .and_then(|value| u64::try_from(value).ok())
            .ok_or_else(|| self.wrong(key, "an unsigned integer was expected"))
    }

    /// Takes an unsigned integer that fits a `u32`.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type, or too large.
    pub fn uint32(&mut self, key: i64) -> Result<u32, Error> {
        let value = self.uint(key)?;
        u32::try_from(value).map_err(|_| self.wrong(key, "too large"))
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type.
    pub fn text(&mut self, key: i64) -> Result<String, Error> {
        let value = self.required(key)?;
        value
            .into_text()
            .map_err(|_| self.wrong(key, "a text was expected"))
    }

    /// Takes a text and parses it as an identifier or other domain type.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type, and what the parser says.
    pub fn parse<T: std::str::FromStr>(&mut self, key: i64) -> Result<T, Error>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(key)?;
        text.parse()
            .map_err(|error: T::Err| self.wrong(key, &error.to_string()))
    }

    /// Takes a byte string.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or of another type.
    pub fn bytes(&mut self, key: i64) -> Result<Vec<u8>, Error> {
        let value = self.required(key)?;
        value
            .into_bytes()
            .map_err(|_| self.wrong(key, "a byte string was expected"))
    }

    /// Takes a byte string of a fixed length.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type or length.
    pub fn octets<T: for<'a> TryFrom<&'a [u8]>>(&mut self, key: i64) -> Result<T, Error> {
        let bytes = self.bytes(key)?;
        T::try_from(&bytes).map_err(|_| self.wrong(key, "a byte string of the wrong length"))
    }

    /// Takes a fingerprint that may be null.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type or length.
    pub fn nullable_fingerprint(&mut self, key: i64) -> Result<Option<Fingerprint>, Error> {
        let Some(value) = self.nullable(key)? else {
            return Ok(None);
        };
        let bytes = value
            .into_bytes()
            .map_err(|_| self.wrong(key, "not a byte string"))?;
        Fingerprint::try_from(bytes.as_slice()).map(Some)
    }

    /// Takes an array of at most `count_max` values.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing, of another type, or longer.
    pub fn array(&mut self, key: i64, count_max: usize) -> Result<Vec<Value>, Error> {
        let value = self.required(key)?;
        let array = value
            .into_array()
            .map_err(|_| self.wrong(key, "an array was expected"))?;
        if array.len() > count_max {
            return Err(self.wrong(key, "too many values"));
        }
        Ok(array)
    }

    /// Takes an array of texts, each parsed.
    ///
    /// # Errors
    /// As [`Fields::array`] and [`Fields::parse`].
    pub fn texts<T: std::str::FromStr>(
        &mut self,
        key: i64,
        count_max: usize,
    ) -> Result<Vec<T>, Error>
    where
        T::Err: std::fmt::Display,
    {
        let mut parsed = Vec::new();
        for value in self.array(key, count_max)? {
            let text = value
                .into_text()
                .map_err(|_| self.wrong(key, "texts were expected"))?;
            parsed.push(
                text.parse()
                    .map_err(|e: T::Err| self.wrong(key, &e.to_string()))?,
            );
        }
        Ok(parsed)
    }

    /// Takes a nested map.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is missing or no such map.
    pub fn map(&mut self, key: i64, what: &'static str) -> Result<Fields, Error> {
        Fields::new(what, self.required(key)?)
    }

    /// Takes the format version, which must be ours.
    ///
    /// # Errors
    /// [`Error::FormatVersion`] if it is another.
    pub fn format_version(&mut self, key: i64) -> Result<(), Error> {
        match self.uint(key)? {
            crate::FORMAT_VERSION => Ok(()),
            found => Err(Error::FormatVersion {
                what: self.what,
                found,
            }),
        }
    }

    /// Ends the reading: whatever was not taken is unknown.
    ///
    /// # Errors
    /// [`Error::Shape`] naming an unknown field.
    pub fn finish(self) -> Result<(), Error> {
        match self.fields.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err(self.wrong(*key, "unknown field")),
            None => Ok(()),
        }
    }
}
