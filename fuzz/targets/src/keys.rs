//! The names of key stores, key files, and files with a PIN.

use std::fs;

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

/// A file with a PIN: it is the file's one line, and is repeated in no error.
pub(crate) fn pin_file(input: &[u8]) {
    let folder = crate::files::folder();
    let path = folder.path().join("pin");
    for (planted, bytes) in [
        (false, input.to_vec()),
        (true, [PLANTED.as_bytes(), input].concat()),
    ] {
        fs::write(&path, &bytes).unwrap();
        match mintmark_keys::fuzzing::pin_file(&path) {
            Ok(pin) => {
                let rest = bytes.strip_prefix(pin.as_bytes()).expect("it stands there");
                assert!(matches!(rest, b"" | b"\n" | b"\r\n"), "{rest:?}");
                assert!(!pin.is_empty() && !pin.contains(['\n', '\r', '\0']));
            }
            Err(error) if planted => {
                let words = format!("{error} {error:?} {:?}", error.hint());
                assert!(!words.contains(PLANTED), "a PIN was repeated: {words}");
            }
            Err(_) => {}
        }
    }
}
