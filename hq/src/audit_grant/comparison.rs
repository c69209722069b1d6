//! What headquarters says of its books, held against what the books say here.

use serde_json::Value;

/// How many differences are named.
const NAMED_MAX: usize = 100;
/// What depends on bundles that came after the part of the record that was granted.
const OF_THE_WHOLE: [&str; 6] = [
    "as_of",
    "findings",
    "refusals",
    "revoked",
    "written_off",
    "used_after_all",
];

/// How they differ, one thing each; `is_cut` if a part of the record is left out that headquarters' own books have.
pub(super) fn differences(said: &Value, here: &Value, is_cut: bool) -> Vec<String> {
    let mut found = Vec::new();
    compare("", said, here, is_cut, &mut found);
    let count = found.len();
    if count > NAMED_MAX {
        found.truncate(NAMED_MAX);
        found.push(format!("and {} more", count - NAMED_MAX));
    }
    found
}

fn compare(at: &str, said: &Value, here: &Value, is_cut: bool, found: &mut Vec<String>) {
    match (said, here) {
        (Value::Object(one), Value::Object(other)) => {
            let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                if is_cut && OF_THE_WHOLE.contains(&name.as_str()) {
                    continue;
                }
                let at = format!("{at}/{name}");
                let (said, here) = (one.get(name), other.get(name));
                let (said, here) = (said.unwrap_or(&Value::Null), here.unwrap_or(&Value::Null));
                compare(&at, said, here, is_cut, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if at.ends_with("/findings") => {
            for (of, others, who) in [
                (one, other, "headquarters says, and nothing here shows"),
                (other, one, "headquarters does not say"),
            ] {
                let mut left: Vec<&Value> = others.iter().collect();
                for finding in of {
                    match left.iter().position(|other| *other == finding) {
                        Some(same) => drop(left.swap_remove(same)),
                        None => found.push(format!(
                            "finding {} of {}/{}, which {who}: {}",
                            words(&finding["code"]),
                            words(&finding["site"]),
                            words(&finding["vault"]),
                            words(&finding["text"])
                        )),
                    }
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (number, (said, here)) in one.iter().zip(other).enumerate() {
                compare(&format!("{at}/{number}"), said, here, is_cut, found);
            }
        }
        (Value::Array(one), Value::Array(other)) => found.push(format!(
            "{at}: {} rows at headquarters, {} here",
            one.len(),
            other.len()
        )),
        (said, here) if said != here => {
            found.push(format!("{at}: {said} at headquarters, {here} here"));
        }
        _ => {}
    }
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
