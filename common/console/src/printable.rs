//! Text that cannot steer the terminal it is shown on.

use crate::style;
use std::borrow::Cow;

/// `text` with everything escaped that a terminal would obey and not show.
///
/// File names on media, fields of foreign requests and messages of a PKCS#11 module all reach the screen. A control
/// character among them could rewrite lines that were already shown, and a bidirectional override could make an
/// identifier read as another one (CVE-2021-42574), so both appear as `\u{1b}`. Line feeds and tabs stay.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if steers(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// The same, but keeping the style sequences that this crate writes, when it writes them at all.
pub(crate) fn printable_styled(text: &str, styled: bool) -> Cow<'_, str> {
    if !styled || !text.contains('\u{1b}') {
        return printable(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, from) = rest.split_at(at);
        shown.push_str(&printable(before));
        let sequence = style::SEQUENCES
            .iter()
            .find(|sequence| from.starts_with(**sequence));
        let length = sequence.map_or(1, |sequence| sequence.len());
        let (escape, after) = from.split_at(length);
        match sequence {
            Some(sequence) => shown.push_str(sequence),
            None => shown.push_str(&printable(escape)),
        }
        rest = after;
    }
    shown.push_str(&printable(rest));
    Cow::Owned(shown)
}

/// The same on one line: line breaks become spaces.
pub(crate) fn printable_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    printable(&lines.join(" ")).replace('\t', " ")
}

/// JSON text whose control characters are escapes, as they may only stand within its strings.
///
/// RFC 8259 section 7 demands this below U+0020 alone, but terminals also obey U+007F to U+009F.
pub(crate) fn printable_json(json: String) -> String {
    // What is ASCII and shown steers nothing, and of its octets a processor looks at many at once.
    let is_plain = json.bytes().all(|octet| matches!(octet, b' '..=b'~'));
    if is_plain || !json.chars().any(steers) {
        return json;
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if steers(character) {
            // Every such character lies in the basic plane, so one escape of four digits is enough.
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    shown
}

fn steers(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{2028}' | '\u{2029}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_sequence_in_a_name_is_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\u{d}");
        assert_eq!(printable("x\u{9b}31m"), "x\\u{9b}31m");
        assert_eq!(printable("abc\u{202e}fed"), "abc\\u{202e}fed");
    }

    #[test]
    fn ordinary_text_is_borrowed_unchanged() {
        assert!(matches!(printable("Werk Süd\t東京\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn only_our_own_style_sequences_pass_and_only_when_styled() {
        let text = "\u{1b}[32mok\u{1b}[0m \u{1b}[5mblink";
        assert_eq!(
            printable_styled(text, true),
            "\u{1b}[32mok\u{1b}[0m \\u{1b}[5mblink"
        );
        assert_eq!(
            printable_styled(text, false),
            "\\u{1b}[32mok\\u{1b}[0m \\u{1b}[5mblink"
        );
    }

    #[test]
    fn json_keeps_its_meaning_when_control_characters_are_escaped() {
        let value = "a\u{7f}b\u{9b}c\u{202e}d\n";
        let json = printable_json(serde_json::to_string(value).unwrap());
        assert_eq!(json, "\"a\\u007fb\\u009bc\\u202ed\\n\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
    }

    #[test]
    fn an_error_text_of_several_lines_becomes_one() {
        assert_eq!(
            printable_line("first\n\n   second\tthird\r\n"),
            "first second third"
        );
    }
}
