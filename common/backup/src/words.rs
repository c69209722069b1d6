//! The private half as words: 24 of the list of BIP 39 with its checksum, in six lines of four, each with two check characters,
//! so that what was misread is found by its line.

use std::fmt::Write as _;
use std::path::Path;

use bip39::{Language, Mnemonic};
use mintmark_console::{Console, files};
use mintmark_protocol::backup::RECOVERY_KEY_BYTES;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Error, RecoveryKey};

/// How many words there are: 256 bits, and a checksum of 8.
pub const WORDS: usize = 24;
/// How many stand in a line.
const LINE_WORDS: usize = 4;
const LINES: usize = WORDS / LINE_WORDS;
/// Digits and letters that are not taken for one another (Crockford's base 32).
const CHECK_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHECK_CHARACTERS: usize = 2;
/// How many letters name a word of the list.
const PREFIX_LETTERS: usize = 4;
/// The largest file with words, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// What is written on the paper.
pub struct Sheet(Zeroizing<String>);

impl Sheet {
    /// The sheet of a key.
    ///
    /// # Errors
    /// Never for a key of its length.
    pub fn of(key: &RecoveryKey) -> Result<Self, Error> {
        let mut mnemonic = Mnemonic::from_entropy(key.as_bytes())
            .map_err(|_| Error::Internal("the words could not be made"))?;
        let words: Vec<&str> = mnemonic.words().collect();
        // With room for all of it, so that no copy of the text stays behind.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        for (number, line) in (1..).zip(words.chunks(LINE_WORDS)) {
            let check = check_of(number, line);
            let [a, b, c, d] = line else { continue };
            let _ = writeln!(text, "{number}  {a:<9} {b:<9} {c:<9} {d:<9}  {check}");
        }
        mnemonic.zeroize();
        Ok(Self(text))
    }

    /// Its lines.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The lines with what they are of, as they stand in a file. What begins with `#` is none of the words.
    pub fn file(&self, key: &RecoveryKey) -> Zeroizing<String> {
        let heading = format!(
            "# mintmark recovery key {}\n# whoever has these words reads every backup that is sealed to it\n",
            key.public()
        );
        let mut text = Zeroizing::new(String::with_capacity(heading.len() + self.0.len()));
        text.push_str(&heading);
        text.push_str(&self.0);
        text
    }
}

/// The check characters of a line, from 1: ten bits of the SHA-256 of a text that names the line and its words.
fn check_of(number: usize, words: &[&str]) -> String {
    let text = Zeroizing::new(format!("mintmark recovery {number} {}", words.join(" ")));
    let digest = Sha256::digest(text.as_bytes());
    let bits = u16::from_be_bytes([digest[0], digest[1]]) >> 6;
    let character = |index: u16| char::from(CHECK_ALPHABET[usize::from(index & 31)]);
    [character(bits >> 5), character(bits)].iter().collect()
}

fn wrong(why: impl Into<String>) -> Error {
    Error::Words { why: why.into() }
}

/// Reads the words as they stand on the paper: with or without the numbers of lines and their check characters, in letters of
/// either case, each whole or its first four letters.
///
/// # Errors
/// [`Error::Words`], which names by their places the words that are not in the list, and the line that was misread.
pub fn parse(text: &str) -> Result<RecoveryKey, Error> {
    let mut lower = Zeroizing::new(String::with_capacity(text.len()));
    lower.extend(text.chars().map(|c| c.to_ascii_lowercase()));
    let mut words: Vec<&str> = Vec::with_capacity(WORDS + 1);
    let mut checks: Vec<(usize, &str)> = Vec::new();
    let lines = lower
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    for token in lines.flat_map(str::split_whitespace) {
        if is_line_number(token) {
            continue;
        }
        // No word of the list has two letters.
        if token.chars().count() == CHECK_CHARACTERS {
            checks.push((words.len(), token));
            continue;
        }
        words.push(completed(token));
        if words.len() > WORDS {
            return Err(wrong(format!("there are more than {WORDS}")));
        }
    }
    let list = Language::English;
    // By its place alone: whatever is said ends in logs and transcripts, and what was nearly typed right is the word itself.
    let unknown: Vec<String> = (1..)
        .zip(&words)
        .filter(|(_, word)| list.find_word(word).is_none())
        .map(|(at, _)| format!("word {at} is not in the list"))
        .collect();
    if !unknown.is_empty() {
        return Err(wrong(unknown.join("; ")));
    }
    for (before, check) in checks {
        let number = before / LINE_WORDS;
        let line = before
            .checked_sub(LINE_WORDS)
            .and_then(|from| words.get(from..before));
        let (Some(line), 0) = (line, before % LINE_WORDS) else {
            return Err(wrong(format!(
                "check characters stand after word {before}, where no line ends: one is missing or too many before them"
            )));
        };
        if alike(check) != check_of(number, line) {
            return Err(wrong(format!(
                "line {number} (words {} to {before}) does not fit its check characters",
                before - LINE_WORDS + 1
            )));
        }
    }
    if words.len() != WORDS {
        let count = words.len();
        return Err(wrong(format!(
            "there are {count}, and {WORDS} were expected"
        )));
    }
    let joined = Zeroizing::new(words.join(" "));
    let mut mnemonic = Mnemonic::parse_in_normalized(list, &joined).map_err(|_| {
        wrong("every word is in the list, but together they do not fit: at least one is another, or their order is")
    })?;
    let (mut entropy, count) = mnemonic.to_entropy_array();
    mnemonic.zeroize();
    let mut key = Zeroizing::new([0; RECOVERY_KEY_BYTES]);
    if let (Some(found), RECOVERY_KEY_BYTES) = (entropy.get(..RECOVERY_KEY_BYTES), count) {
        key.copy_from_slice(found);
    }
    entropy.zeroize();
    Ok(RecoveryKey::new(key))
}

/// The number that a line begins with, as on the paper: `3`, `3.` or `3:`.
fn is_line_number(token: &str) -> bool {
    let digits = token.trim_end_matches(['.', ':']);
    digits.len() == 1 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What was written for something that looks like it.
fn alike(check: &str) -> String {
    let character = |c| match c {
        'o' => '0',
        'i' | 'l' => '1',
        'u' => 'v',
        other => other,
    };
    check.chars().map(character).collect()
}

/// The word of the list that four letters name: no two of it begin with the same four (BIP 39). Everything else is as it was
/// written.
fn completed(token: &str) -> &str {
    match Language::English.words_by_prefix(token) {
        [only] if token.len() == PREFIX_LETTERS => only,
        _ => token,
    }
}

/// The recovery key whose words are in a file, or are typed at the terminal line by line, without echo.
///
/// # Errors
/// [`Error::WordsExposed`] for a file that others may read; [`Error::WordsMissing`] without a terminal; as [`parse`].
pub(crate) fn ask(file: Option<&Path>, console: &Console) -> Result<RecoveryKey, Error> {
    if let Some(path) = file {
        return from_file(path);
    }
    let mut text = Zeroizing::new(String::with_capacity(LINES * 4096));
    console
        .note("type the words of the recovery key as they stand on the paper; they are not shown");
    for number in 1..=LINES {
        let line = console
            .secret(&format!("line {number} of {LINES}"))
            .map_err(|_| {
                Error::WordsMissing(std::io::Error::other(
                    "there is no terminal, or nothing was typed",
                ))
            })?;
        text.push_str(&line);
        text.push('\n');
    }
    parse(&text)
}

fn from_file(path: &Path) -> Result<RecoveryKey, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::symlink_metadata(path).map_err(Error::io(path))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let path = path.to_owned();
        return Err(Error::WordsExposed { path });
    }
    let bytes = Zeroizing::new(files::read_limited(path, FILE_BYTES_MAX)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("the file is no text"))?;
    parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> RecoveryKey {
        RecoveryKey::new(Zeroizing::new([byte; 32]))
    }

    fn why(text: &str) -> String {
        match parse(text) {
            Err(Error::Words { why }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn tokens(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_words_on_the_paper_are_the_key_with_their_checks_or_without_in_either_case() {
        for byte in [0, 1, 0x7f, 0xff] {
            let key = key(byte);
            let sheet = Sheet::of(&key).unwrap();
            assert_eq!(sheet.text().lines().count(), LINES);
            let same = |text: &str| *parse(text).unwrap().as_bytes() == *key.as_bytes();
            assert!(same(sheet.text()));
            assert!(same(&sheet.text().to_uppercase()));
            assert!(same(&sheet.file(&key)));
            let bare: Vec<_> = tokens(sheet.text())
                .into_iter()
                .filter(|t| t.len() > 2)
                .collect();
            assert_eq!(bare.len(), WORDS);
            assert!(same(&bare.join(" ")));
        }
    }

    #[test]
    fn the_words_are_those_of_bip_39() {
        // From the vectors of BIP 39 for 256 bits.
        let sheet = Sheet::of(&key(0x7f)).unwrap();
        let words: Vec<_> = tokens(sheet.text())
            .into_iter()
            .filter(|t| t.len() > 2)
            .collect();
        assert_eq!(
            words.join(" "),
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful \
             legal winner thank year wave sausage worth title"
        );
    }

    #[test]
    fn a_word_that_is_not_in_the_list_is_named_by_its_place_and_by_nothing_else() {
        let mut words = tokens(Sheet::of(&key(0x7f)).unwrap().text());
        // The seventh word: line 2 begins with its number.
        let at = words.iter().position(|word| word == "worth").unwrap();
        for misread in ["wrth", "worthy", "worht", "xqzvk", "w\u{f6}rt"] {
            words[at] = misread.to_owned();
            assert_eq!(why(&words.join(" ")), "word 7 is not in the list");
        }
        words[at + 1] = "usefull".to_owned();
        assert_eq!(
            why(&words.join(" ")),
            "word 7 is not in the list; word 8 is not in the list"
        );
    }

    #[test]
    fn four_letters_are_their_word_and_fewer_are_none() {
        let key = key(0x7f);
        let sheet = Sheet::of(&key).unwrap();
        let cut = |letters: usize| {
            let cut: Vec<String> = tokens(sheet.text())
                .into_iter()
                .map(|token| token.chars().take(letters).collect())
                .collect();
            cut.join(" ")
        };
        assert!(parse(&cut(4)).unwrap().as_bytes() == key.as_bytes());
        assert!(why(&cut(3)).contains("word 3 is not in the list"));
    }

    #[test]
    fn a_word_that_is_another_of_the_list_is_found_by_its_line() {
        let text = Sheet::of(&key(0x7f)).unwrap().text().to_owned();
        let changed = text.replacen("sausage", "satoshi", 1);
        let why = why(&changed);
        assert_eq!(
            why,
            "line 2 (words 5 to 8) does not fit its check characters"
        );
        // Without the check characters the checksum of them all notices.
        let bare: Vec<_> = tokens(&changed)
            .into_iter()
            .filter(|t| t.len() > 2)
            .collect();
        assert!(super::tests::why(&bare.join(" ")).contains("together they do not fit"));
    }

    #[test]
    fn a_word_too_few_or_too_many_is_noticed() {
        let text = Sheet::of(&key(3)).unwrap().text().to_owned();
        let words: Vec<_> = tokens(&text).into_iter().filter(|t| t.len() > 2).collect();
        assert_eq!(
            why(&words[..23].join(" ")),
            "there are 23, and 24 were expected"
        );
        assert_eq!(why(""), "there are 0, and 24 were expected");
        let more = [&words[..], &words[..1]].concat().join(" ");
        assert_eq!(why(&more), "there are more than 24");
        let missing = text.replacen(&words[1], "", 1);
        assert!(why(&missing).contains("after word 3, where no line ends"));
    }

    #[test]
    fn check_characters_that_look_alike_are_the_same() {
        assert_eq!(alike("oi"), "01");
        assert_eq!(alike("lu"), "1v");
        assert_eq!(alike("7q"), "7q");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        let key = key(9);
        let text = Sheet::of(&key).unwrap().file(&key);
        std::fs::write(&path, text.as_bytes()).unwrap();
        let set =
            |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o640);
        assert_eq!(
            from_file(&path).unwrap_err().code(),
            "RECOVERY-WORDS-EXPOSED"
        );
        set(0o600);
        assert_eq!(from_file(&path).unwrap().as_bytes(), key.as_bytes());
    }
}
