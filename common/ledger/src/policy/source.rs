//! The text of a policy, as error messages speak of it: lines, names, and what was probably meant.

use toml::Spanned;

use super::PolicyError;

/// The text of a policy.
#[derive(Clone, Copy)]
pub(super) struct Source<'a>(pub(super) &'a str);

impl Source<'_> {
    /// Line and column of an offset, from 1; columns count characters.
    fn place(self, offset: usize) -> (usize, usize) {
        let before = self.0.get(..offset).unwrap_or(self.0);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        (line, column)
    }

    /// The line of a value, from 1.
    pub(super) fn line<T>(self, at: &Spanned<T>) -> usize {
        self.place(at.span().start).0
    }

    /// The name in front of the `=` before an offset, or of the table that starts there.
    fn field_at(self, offset: usize) -> String {
        let before = self.0.get(..offset).unwrap_or_default();
        let head = before.rsplit('\n').next().unwrap_or_default();
        let name = match head.rsplit_once('=') {
            Some((names, _)) => names.rsplit(['{', ',']).next().unwrap_or_default(),
            None => self
                .0
                .get(offset..)
                .and_then(|rest| rest.lines().next())
                .unwrap_or_default(),
        };
        let name = name.trim_matches(|c: char| c.is_whitespace() || "[]\"'".contains(c));
        if name.is_empty() {
            "a value".to_owned()
        } else {
            shown(name)
        }
    }

    /// What serde says of a wrong type. It takes a date or a time for a table of its own.
    fn plain_at(self, offset: usize, message: &str) -> String {
        let value = self.0.get(offset..).unwrap_or_default();
        match message.strip_prefix("invalid type: map") {
            Some(rest) if value.starts_with(|c: char| c.is_ascii_digit()) => {
                let is_of_it = |c: &char| c.is_ascii_alphanumeric() || ":-+.".contains(*c);
                let time: String = value.chars().take_while(is_of_it).collect();
                plain(&format!("invalid type: the time `{time}`{rest}"))
            }
            _ => plain(message),
        }
    }

    /// Why the TOML reader could not make a document of it.
    pub(super) fn shape(self, error: &toml::de::Error) -> PolicyError {
        let offset = error.span().map_or(0, |span| span.start);
        let (line, column) = self.place(offset);
        let message = error.message();
        if let Some((field, known)) = unknown_field(message) {
            let near = nearest(&field, &known);
            return PolicyError::UnknownField {
                line,
                column,
                field: shown(&field),
                near,
                known,
            };
        }
        let missing = message
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        if let Some(field) = missing {
            let why = "every policy must say it";
            return PolicyError::FieldMissing {
                line,
                field: shown(field),
                why,
            };
        }
        if message.starts_with("invalid type") || message.starts_with("invalid value") {
            return PolicyError::Value {
                line,
                field: self.field_at(offset),
                reason: self.plain_at(offset, message),
            };
        }
        PolicyError::Syntax {
            line,
            column,
            reason: shown(message),
        }
    }
}

/// The name and the list in serde's "unknown field `a`, expected one of `b`, `c`".
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let (field, expected) = message
        .strip_prefix("unknown field `")?
        .rsplit_once("`, expected ")?;
    let known = expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    Some((field.to_owned(), known))
}

/// The known field that an unknown one was probably meant to be: two typing errors away at most, or one within the
/// other.
fn nearest(field: &str, known: &[String]) -> Option<String> {
    let close = known
        .iter()
        .map(|known| (distance(field, known), known))
        .min();
    if let Some((distance, known)) = close
        && distance <= 2
        && distance < field.chars().count()
    {
        return Some(known.clone());
    }
    let related = |known: &&String| {
        field.len() > 3 && (known.contains(field) || field.contains(known.as_str()))
    };
    known.iter().find(related).cloned()
}

/// Insertions, deletions and replacements that lead from one name to the other (Levenshtein). What is longer than any
/// field is not measured.
fn distance(one: &str, other: &str) -> usize {
    if one.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, left) in one.chars().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        let mut next = vec![before];
        for (right, above) in other.chars().zip(row.iter().copied().skip(1)) {
            before = (diagonal + usize::from(left != right))
                .min(before + 1)
                .min(above + 1);
            diagonal = above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// What serde says of a wrong type, in the words of someone who writes TOML.
fn plain(message: &str) -> String {
    let (found, expected) = message
        .rsplit_once(", expected ")
        .unwrap_or((message, "something else"));
    let found = found
        .trim_start_matches("invalid type: ")
        .trim_start_matches("invalid value: ");
    let found = found
        .replace(" as i128", "")
        .replace("floating point `", "the number `");
    let found = found
        .replace("integer `", "the number `")
        .replace("string \"", "the text \"");
    let found = if found == "map" {
        "a table".to_owned()
    } else {
        found
    };
    let expected = match expected {
        "i64" => "a whole number of at most 63 bits",
        "a sequence" => "a list",
        "a string" => "a text in quotes",
        "a boolean" => "true or false",
        "a TOML datetime" => "a time like 2027-01-01T00:00:00Z, without quotes,",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{} stands where {expected} belongs", shown(&found))
}

/// Text of the policy in an error message: cut short, with nothing a terminal would act on.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(200) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(200).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_far_apart_as_typing_errors_lie_between_them() {
        for (one, other, errors) in [
            ("", "", 0),
            ("", "units", 5),
            ("units", "", 5),
            ("units", "units", 0),
            ("unit", "units", 1),
            ("xunits", "units", 1),
            ("untis", "units", 2),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("abcdef", "azced", 3),
        ] {
            assert_eq!(distance(one, other), errors, "{one} {other}");
        }
    }

    #[test]
    fn a_field_is_meant_that_is_near_enough_or_within_the_other() {
        let known = ["id", "units", "units_per_day", "stations"].map(str::to_owned);
        for (field, meant) in [
            ("unit", Some("units")),
            ("ids", Some("id")),
            // Two errors away, and no longer than that.
            ("xy", None),
            ("iy", Some("id")),
            ("per_day", Some("units_per_day")),
            ("all_stations_here", Some("stations")),
            // Within another, and too short to tell.
            ("day", None),
            ("_day", Some("units_per_day")),
            ("colour", None),
        ] {
            assert_eq!(nearest(field, &known).as_deref(), meant, "{field}");
        }
    }

    #[test]
    fn a_wrong_type_is_told_in_words() {
        for (message, told) in [
            (
                "invalid type: integer `5`, expected struct Credit",
                "the number `5` stands where a table belongs",
            ),
            (
                "invalid type: map, expected a sequence",
                "a table stands where a list belongs",
            ),
            (
                "invalid type: string \"x\", expected i64",
                "the text \"x\" stands where a whole number of at most 63 bits belongs",
            ),
            (
                "invalid type: integer `5`, expected something",
                "the number `5` stands where something belongs",
            ),
        ] {
            assert_eq!(plain(message), told);
        }
    }
}
