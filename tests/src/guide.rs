//! Documents whose commands are run: what stands in a block that is marked `sh`, in its order.

use std::fmt::Write as _;

/// Ends a script at the first command that fails, and says where that stands.
pub const PRELUDE: &str = r#"set -eEu -o pipefail
trap 'echo "$AT: $BASH_COMMAND" >&2' ERR
cargo() { :; }
"#;

/// The blocks of a document as one script.
pub fn script(document: &str, text: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        // A block in a list stands as far in as its item.
        match line.trim_start() {
            "```sh" => {
                inside = true;
                writeln!(script, "AT={document}:{}", number + 2).unwrap();
            }
            "```" => inside = false,
            _ if inside => writeln!(script, "{line}").unwrap(),
            _ => {}
        }
    }
    assert!(!inside, "{document}");
    assert!(!script.is_empty(), "{document} has no commands");
    script
}
