//! Writes values as deterministic CBOR (RFC 8949 section 4.2.1), without a library's machinery between: a vault writes
//! several for each device.

use ciborium::Value;

/// The major types (RFC 8949 section 3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
pub(super) const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Appends a value.
pub(super) fn value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Integer(number) => integer((*number).into(), out),
        Value::Bytes(bytes) => string(BYTES, bytes, out),
        Value::Text(text) => string(TEXT, text.as_bytes(), out),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Null => out.push(0xf6),
        Value::Array(values) => {
            head(ARRAY, values.len() as u64, out);
            values.iter().for_each(|each| self::value(each, out));
        }
        Value::Map(entries) => {
            map_head(entries.len(), out);
            for (key, each) in entries {
                self::value(key, out);
                self::value(each, out);
            }
        }
        other => {
            // Writing to memory does not fail, and every Value has an encoding.
            let _ = ciborium::into_writer(other, out);
        }
    }
}

/// Appends the beginning of a map with so many entries.
pub(super) fn map_head(entries: usize, out: &mut Vec<u8>) {
    head(MAP, entries as u64, out);
}

/// Appends an integer, which is within 64 bits and a sign.
pub(super) fn integer(number: i128, out: &mut Vec<u8>) {
    let (major, magnitude) = match number < 0 {
        // RFC 8949 section 3.1: -1 - n.
        true => (NEGATIVE, !number),
        false => (UNSIGNED, number),
    };
    head(major, u64::try_from(magnitude).unwrap_or(u64::MAX), out);
}

fn string(major: u8, bytes: &[u8], out: &mut Vec<u8>) {
    head(major, bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// The head of a value: its major type, and its argument in the fewest bytes.
pub(super) fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let [.., b6, b7] = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | b7),
        24..=0xff => out.extend_from_slice(&[major | 24, b7]),
        0x100..=0xffff => out.extend_from_slice(&[major | 25, b6, b7]),
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(argument.to_be_bytes().get(4..).unwrap_or_default());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use ciborium::value::Integer;

    use super::*;

    #[test]
    fn every_value_is_written_as_the_library_writes_it() {
        let mut values: Vec<Value> = [
            0,
            1,
            23,
            24,
            0xff,
            0x100,
            0xffff,
            0x1_0000,
            0xffff_ffff,
            0x1_0000_0000,
            u64::MAX,
        ]
        .into_iter()
        .flat_map(|number| {
            let below = Integer::try_from(-1 - i128::from(number)).unwrap();
            [Value::from(number), Value::Integer(below)]
        })
        .collect();
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            values.push(Value::Bytes(vec![7; length]));
            values.push(Value::Text("x".repeat(length)));
        }
        values.extend([true, false].map(Value::Bool));
        values.extend([Value::Null, Value::Float(1.5), Value::from(i64::MIN)]);
        values.push(Value::Tag(18, Box::new(Value::Array(values.clone()))));
        values.push(Value::Array(values.clone()));
        let keys = (0..300_i64).map(Value::from);
        values.push(Value::Map(
            keys.map(|key| (key, Value::Text("grün".to_owned())))
                .collect(),
        ));
        values.push(Value::Map(Vec::new()));
        for each in values {
            let mut expected = Vec::new();
            ciborium::into_writer(&each, &mut expected).unwrap();
            let mut written = Vec::new();
            value(&each, &mut written);
            assert_eq!(written, expected, "{each:?}");
        }
    }
}
