//! The shape of JSON that scripts rely on.

use serde_json::Value;

/// Checks an object's fields, written `name: type` and separated by commas. The types: `text`, `number`, `flag`, `list`,
/// `object`, `time` (RFC 3339, UTC), `hex` (lower case); with `?` it may be null, but it is there.
#[track_caller]
pub fn expect(object: &Value, fields: &str) {
    for field in fields.split(',') {
        let (name, kind) = field.split_once(':').expect("name: type");
        let (name, kind) = (name.trim(), kind.trim());
        let value = object
            .get(name)
            .unwrap_or_else(|| panic!("no field `{name}` in {object}"));
        let (kind, may_be_null) = match kind.strip_suffix('?') {
            Some(kind) => (kind, true),
            None => (kind, false),
        };
        let fits = (may_be_null && value.is_null()) || fits(value, kind);
        assert!(fits, "field `{name}` is no {kind} in {object}");
    }
}

fn fits(value: &Value, kind: &str) -> bool {
    let text = value.as_str();
    match kind {
        "text" => text.is_some_and(|text| !text.is_empty()),
        "number" => value.is_u64(),
        "flag" => value.is_boolean(),
        "list" => value.is_array(),
        "object" => value.is_object(),
        "hex" => text.is_some_and(|text| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }),
        "time" => text.is_some_and(|text| {
            let shape: String = text
                .chars()
                .map(|c| if c.is_ascii_digit() { '0' } else { c })
                .collect();
            shape == "0000-00-00T00:00:00Z"
        }),
        other => panic!("`{other}` is no type"),
    }
}

/// The values of one field in a list of objects.
pub fn column<'a>(rows: impl IntoIterator<Item = &'a Value>, field: &str) -> Vec<&'a str> {
    rows.into_iter()
        .map(|row| row[field].as_str().unwrap_or_default())
        .collect()
}
