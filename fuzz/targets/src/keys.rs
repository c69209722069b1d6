//! The names of key stores, and key files.

use mintmark_keys::{KeyUri, UnparsedKeyUri};

/// A PIN that nobody typed.
const PLANTED: &str = "a-planted-PIN-7391";

/// A URI that is read is written again to mean the same; whatever is wrong with one, no PIN in it is repeated.
pub(crate) fn uri(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(uri) = text.parse::<KeyUri>() {
        let written = uri.to_string();
        assert_eq!(written.parse::<KeyUri>().ok(), Some(uri), "{written}");
    }
    for separator in ["?", "&", ";", ""] {
        for attribute in ["pin-value", "PIN-VALUE", "%70in-value"] {
            let planted = format!("{text}{separator}{attribute}={PLANTED}");
            let unparsed: UnparsedKeyUri = planted.parse().unwrap();
            assert!(!format!("{unparsed:?}").contains(PLANTED));
            if let Err(error) = unparsed.parse() {
                let words = format!("{} {error} {error:?} {:?}", error.code(), error.hint());
                assert!(!words.contains(PLANTED), "a PIN was repeated: {words}");
            }
        }
    }
}

/// The text of a key file: another PIN than its own opens none.
pub(crate) fn file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (refused, opened) = mintmark_keys::fuzzing::key_file(text, "vault-sign", "1234");
    let (same, other) = mintmark_keys::fuzzing::key_file(text, "vault-sign", "4321");
    assert_eq!(refused, same);
    assert!(!(opened && other), "two PINs open one file");
}
