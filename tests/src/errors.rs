//! What docs/errors.md says of each error code: the tests hold every error that they see against it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

const DOCUMENT: &str = include_str!("../../docs/errors.md");

/// The exit codes of each documented code; none for what is no error by itself.
pub fn documented() -> &'static BTreeMap<&'static str, Vec<i32>> {
    static DOCUMENTED: OnceLock<BTreeMap<&str, Vec<i32>>> = OnceLock::new();
    DOCUMENTED.get_or_init(|| {
        let mut codes = BTreeMap::new();
        for line in DOCUMENT.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [code, exits, meaning, advice] = cells[..] else {
                panic!("four cells in {line}")
            };
            assert!(!meaning.is_empty() && !advice.is_empty(), "{line}");
            let exits = match exits {
                "–" => Vec::new(),
                exits => exits
                    .split(", ")
                    .map(|exit| exit.parse().unwrap())
                    .collect(),
            };
            let before = codes.insert(code.trim_matches('`'), exits);
            assert!(before.is_none(), "{code} has two lines");
        }
        codes
    })
}
