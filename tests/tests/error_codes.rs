//! docs/errors.md has a line for every code that the programs can say, and for no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mintmark_tests::{errors, files};

/// What is written as codes are, and is none: names of algorithms and of examples.
const NOT_CODES: [&str; 9] = [
    "P-", "RSA-", "RSASSA-", "AES-", "HMAC-", "ML-DSA-", "SHA-", "TH-", "GW-",
];

/// Codes of one word, which a scan for codes cannot tell from other words in capitals.
const ONE_WORD: [&str; 8] = [
    "INTERRUPTED",
    "USAGE",
    "INTERNAL",
    "RANDOM",
    "FINDINGS",
    "FORK",
    "UNRESOLVED",
    "UNANCHORED",
];

/// Where each code stands in the programs' sources, their tests left out.
fn in_sources() -> BTreeMap<String, BTreeSet<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crates = [
        "hq",
        "site",
        "common/backup",
        "common/console",
        "common/keys",
        "common/ledger",
        "common/pki",
        "common/protocol",
    ];
    let mut found: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in crates
        .iter()
        .flat_map(|name| files::below(&root.join(name).join("src")))
    {
        let shown = path.strip_prefix(root).unwrap().to_owned();
        let name = shown.display().to_string();
        let is_test = ["/tests/", "/simulation/"]
            .iter()
            .any(|part| name.contains(part))
            || name.ends_with("tests.rs")
            || name.ends_with("faulty.rs");
        if is_test || !name.ends_with(".rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for code in literals(line).filter(|literal| is_code(literal)) {
                found
                    .entry(code.to_owned())
                    .or_default()
                    .insert(shown.clone());
            }
        }
    }
    found
}

/// The string literals of a line that hold nothing to escape.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

fn is_code(text: &str) -> bool {
    let words = text.split('-').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    });
    let begins = text.starts_with(|c: char| c.is_ascii_uppercase());
    ONE_WORD.contains(&text)
        || (words
            && begins
            && text.contains('-')
            && !NOT_CODES.iter().any(|other| text.starts_with(other)))
}

#[test]
fn every_code_in_the_sources_has_its_line_and_no_line_is_stale() {
    let (sources, document) = (in_sources(), errors::documented());
    assert!(sources.len() > 200, "the scan finds codes");
    let missing: Vec<_> = sources
        .iter()
        .filter(|(code, _)| !document.contains_key(&***code))
        .collect();
    assert!(
        missing.is_empty(),
        "no line in docs/errors.md: {missing:#?}"
    );
    let stale: Vec<_> = document
        .keys()
        .filter(|code| !sources.contains_key(**code))
        .collect();
    assert!(
        stale.is_empty(),
        "no source says what docs/errors.md explains: {stale:#?}"
    );
}
