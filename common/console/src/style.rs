//! Emphasis that repeats what the words already say.

/// How a word is emphasised where colour is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Green: what is as it should be.
    Good,
    /// Red: what is not.
    Bad,
    /// Yellow: what needs attention.
    Warn,
    /// Bold: what the eye should find first.
    Bold,
    /// Underlined: the head of a table.
    Underline,
}

const RESET: &str = "\u{1b}[0m";

/// Every sequence that this crate writes; all others are escaped before they reach a terminal.
pub(crate) const SEQUENCES: [&str; 6] = [
    "\u{1b}[32m",
    "\u{1b}[31m",
    "\u{1b}[33m",
    "\u{1b}[1m",
    "\u{1b}[4m",
    RESET,
];

impl Style {
    fn sequence(self) -> &'static str {
        match self {
            Self::Good => "\u{1b}[32m",
            Self::Bad => "\u{1b}[31m",
            Self::Warn => "\u{1b}[33m",
            Self::Bold => "\u{1b}[1m",
            Self::Underline => "\u{1b}[4m",
        }
    }

    pub(crate) fn paint(self, text: &str, colored: bool) -> String {
        if colored {
            format!("{}{text}{RESET}", self.sequence())
        } else {
            text.to_owned()
        }
    }
}

/// `text` without our sequences, as wide as it appears.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = text.to_owned();
    for sequence in SEQUENCES {
        if plain.contains(sequence) {
            plain = plain.replace(sequence, "");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_style_writes_only_sequences_that_are_let_through() {
        for style in [
            Style::Good,
            Style::Bad,
            Style::Warn,
            Style::Bold,
            Style::Underline,
        ] {
            assert!(SEQUENCES.contains(&style.sequence()));
            assert_eq!(plain(&style.paint("text", true)), "text");
            assert_eq!(style.paint("text", false), "text");
        }
    }
}
