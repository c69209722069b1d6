//! Key URIs: what is read, what is refused, and that writing one gives it back.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use mintmark_keys::{Class, Error, FileUri, KeyUri, PinSource, Pkcs11Uri};

fn pkcs11(text: &str) -> Pkcs11Uri {
    match text.parse().unwrap() {
        KeyUri::Pkcs11(uri) => uri,
        other => panic!("{text} gave {other:?}"),
    }
}

fn file(text: &str) -> FileUri {
    match text.parse().unwrap() {
        KeyUri::File(uri) => uri,
        other => panic!("{text} gave {other:?}"),
    }
}

fn pin_file(path: impl Into<PathBuf>) -> PinSource {
    PinSource::File(path.into())
}

fn refusal(text: &str) -> Error {
    let error = text.parse::<KeyUri>().unwrap_err();
    assert_eq!(error.class(), Class::Usage, "{text}");
    error
}

#[test]
fn a_token_uri_is_read_whole() {
    let uri = pkcs11(
        "pkcs11:token=My%20vault;serial=5f2c;manufacturer=SoftHSM%20project;model=v2;object=root;id=%01%ff;slot-id=17\
         ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/pin",
    );
    assert_eq!(uri.token(), Some("My vault"));
    assert_eq!(uri.serial(), Some("5f2c"));
    assert_eq!(uri.manufacturer(), Some("SoftHSM project"));
    assert_eq!(uri.model(), Some("v2"));
    assert_eq!(uri.object(), Some("root"));
    assert_eq!(uri.id(), Some(&[1, 0xff][..]));
    assert_eq!(uri.slot_id(), Some(17));
    assert_eq!(
        uri.module_path(),
        Path::new("/usr/lib/softhsm/libsofthsm2.so")
    );
    assert_eq!(uri.pin_source(), Some(&pin_file("/etc/pin")));
}

#[test]
fn a_folder_uri_is_read_whole() {
    let uri = file("file:keys/of%20vault%3F?pin-source=file:/etc/my%20pin");
    assert_eq!(uri.folder(), Path::new("keys/of vault?"));
    assert_eq!(uri.pin_source(), Some(&pin_file("/etc/my pin")));
    assert_eq!(file("file:/var/keys").folder(), Path::new("/var/keys"));
    assert_eq!(file("file:///var/keys").folder(), Path::new("/var/keys"));
    assert_eq!(
        file("file://localhost/var/keys").folder(),
        Path::new("/var/keys")
    );
}

#[test]
fn a_pin_source_is_a_file_uri_or_a_path() {
    for (text, path) in [
        ("file:/etc/pin", "/etc/pin"),
        ("file:///etc/pin", "/etc/pin"),
        ("/etc/pin", "/etc/pin"),
        ("pin", "pin"),
        ("file:pin", "pin"),
        ("/run/pin:1", "/run/pin:1"),
    ] {
        assert_eq!(
            file(&format!("file:keys?pin-source={text}")).pin_source(),
            Some(&pin_file(path)),
            "{text}"
        );
    }
    let text = "file:keys?pin-source=credential:vault-pin";
    let uri: KeyUri = text.parse().unwrap();
    assert_eq!(
        uri.pin_source(),
        Some(&PinSource::Credential("vault-pin".into()))
    );
    assert_eq!(uri.to_string(), text);
    for text in [
        "|/usr/bin/ask",
        "https:pin",
        "file://elsewhere/pin",
        "file:",
        "credential:",
        "credential:..",
        "credential:a/b",
        "credential:%2Fetc%2Fpin",
    ] {
        assert_eq!(
            refusal(&format!("file:keys?pin-source={text}")).code(),
            "URI-INVALID",
            "{text}"
        );
    }
}

#[test]
fn a_pin_in_the_uri_is_refused_and_not_repeated() {
    for text in [
        "pkcs11:token=vault?module-path=/m.so&pin-value=4711",
        "pkcs11:token=vault?pin-value=4711",
        "pkcs11:token=vault;pin-value=4711?module-path=/m.so",
        "pkcs11:nonsense;;?pin-value=4711&pin-value=4711",
        "file:keys?pin-value=4711",
    ] {
        let error = refusal(text);
        assert_eq!(error.code(), "PIN-IN-URI", "{text}");
        for shown in [
            error.to_string(),
            format!("{error:?}"),
            error.hint().unwrap(),
        ] {
            assert!(!shown.contains("4711"), "{shown}");
        }
    }
}

#[test]
fn a_token_uri_without_a_module_says_to_give_one() {
    let error = refusal("pkcs11:token=vault?pin-source=file:/etc/pin");
    assert_eq!(error.code(), "MODULE-PATH-MISSING");
    assert!(error.hint().unwrap().contains("module-path="));
}

#[test]
fn a_label_that_no_token_can_have_is_refused_with_what_tokens_keep_of_it() {
    let of = |bytes| format!("pkcs11:token={}?module-path=/m.so", "v".repeat(bytes));
    assert!(of(32).parse::<KeyUri>().is_ok());
    let error = refusal(&of(33)).to_string();
    assert!(
        error.contains("token has 33 bytes, and a token keeps 32"),
        "{error}"
    );
    let serial = "pkcs11:serial=12345678901234567?module-path=/m.so";
    assert!(refusal(serial).to_string().contains("keeps 16"));
}

#[test]
fn what_is_not_understood_is_refused() {
    for (text, reason) in [
        ("", "neither pkcs11: nor file:"),
        ("/var/keys", "neither pkcs11: nor file:"),
        ("https://example.org", "neither pkcs11: nor file:"),
        (
            "pkcs11:token=a;token=b?module-path=/m.so",
            "token stands twice",
        ),
        (
            "pkcs11:token=a?module-path=/m.so&module-path=/m.so",
            "module-path stands twice",
        ),
        (
            "file:a?pin-source=/p&pin-source=/p",
            "pin-source stands twice",
        ),
        (
            "pkcs11:token=a;type=private?module-path=/m.so",
            "type is not known",
        ),
        (
            "pkcs11:token=a;library-version=2?module-path=/m.so",
            "library-version is not known",
        ),
        (
            "pkcs11:token=a?module-path=/m.so&module-name=m",
            "module-name is not known",
        ),
        ("pkcs11:token=a;?module-path=/m.so", "NAME=VALUE"),
        ("pkcs11:token=a?module-path=/m.so&", "NAME=VALUE"),
        ("pkcs11:token?module-path=/m.so", "NAME=VALUE"),
        ("pkcs11:token=?module-path=/m.so", "token is empty"),
        ("pkcs11:token=%2?module-path=/m.so", "hexadecimal"),
        ("pkcs11:token=%zz?module-path=/m.so", "hexadecimal"),
        ("pkcs11:token=%+1?module-path=/m.so", "hexadecimal"),
        ("pkcs11:token=%ff?module-path=/m.so", "UTF-8"),
        ("pkcs11:token=a%00?module-path=/m.so", "NUL"),
        ("pkcs11:slot-id=-1?module-path=/m.so", "not a number"),
        (
            "pkcs11:slot-id=99999999999999999999?module-path=/m.so",
            "not a number",
        ),
        ("pkcs11:token=a#b?module-path=/m.so", "fragment"),
        ("pkcs11:token=a\n?module-path=/m.so", "control character"),
        ("file:", "names no path"),
        ("file:a%00b", "NUL"),
        ("file://elsewhere/keys", "another machine"),
        ("file:a?module-path=/m.so", "module-path is not known"),
        ("file:a?", "NAME=VALUE"),
    ] {
        let error = refusal(text);
        assert_eq!(error.code(), "URI-INVALID", "{text}");
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
    assert_eq!(
        refusal(&format!("file:{}", "a".repeat(40_000))).code(),
        "URI-INVALID"
    );
}

#[test]
fn a_uri_that_is_written_is_read_back_the_same() {
    for text in [
        "pkcs11:?module-path=/m.so",
        "pkcs11:slot-id=0?module-path=rel/m.so",
        "pkcs11:token=a;slot-id=3?module-path=/m.so",
        "pkcs11:token=a%3Bb%3Fc%26d%25e%23f%20%C3%BC;serial=%2F?module-path=/a%26b%3F%25.so&pin-source=file:/p%26q",
        "pkcs11:id=%00a%3b%ff?module-path=/m.so",
        "pkcs11:object=x;id=%01;slot-id=2?module-path=/m.so",
        "PKCS11:object=x?pin-source=pin&module-path=/m.so",
        "file:keys",
        "file:a%FFb?pin-source=%FFpin",
        "file:////twice?pin-source=file:////twice",
        "file:%2F%2Ftwice/keys",
        "file:a%3Fb%23c%25d",
        "file:c:/keys",
    ] {
        let uri: KeyUri = text.parse().unwrap();
        let written = uri.to_string();
        assert_eq!(
            written.parse::<KeyUri>().unwrap(),
            uri,
            "{text} was written {written}"
        );
        assert_eq!(written.parse::<KeyUri>().unwrap().to_string(), written);
    }
    for folder in ["keys", "//two/slashes", "with space?&#%", "file:x", "-"] {
        let uri = KeyUri::File(FileUri::new(folder, Some(folder.into())).unwrap());
        assert_eq!(uri.to_string().parse::<KeyUri>().unwrap(), uri, "{uri}");
    }
    assert!(FileUri::new("", None).is_err());
}

#[test]
fn a_uri_made_absolute_names_the_same_files_from_anywhere() {
    let here = std::env::current_dir().unwrap();
    for (text, module, pin) in [
        (
            "pkcs11:token=a?module-path=m.so&pin-source=file:pin",
            "m.so",
            "pin",
        ),
        ("file:keys?pin-source=file:/etc/pin", "keys", "/etc/pin"),
    ] {
        let uri = text.parse::<KeyUri>().unwrap().absolute().unwrap();
        let place = match &uri {
            KeyUri::Pkcs11(uri) => uri.module_path(),
            KeyUri::File(uri) => uri.folder(),
        };
        assert_eq!(place, here.join(module));
        assert_eq!(uri.pin_source(), Some(&pin_file(here.join(pin))));
        assert_eq!(uri.absolute().unwrap(), uri);
    }
}
