//! Data objects of both kinds of store, and looks at stores without a PIN.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod softhsm;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use cryptoki::object::{Attribute, ObjectClass};
use mintmark_keys::{
    Class, Error, KeyStore, KeyUri, Purpose, SecretAlgorithm, StoreHealth, create, health, open,
};
use softhsm::{PIN, SoftHsm, never, softhsm_module};

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: &str, class: Class) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.class()), (code, class), "{error}");
    assert!(error.hint().is_some(), "{error} has no hint");
}

fn sorted(store: &dyn KeyStore, label: &str) -> Vec<Vec<u8>> {
    let mut values = store.data(label).unwrap();
    values.sort_unstable();
    values
}

fn folder(path: &Path) -> KeyUri {
    let pin = path.join("pin");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!(
        "file:{}?pin-source=file:{}",
        path.join("keys").display(),
        pin.display()
    )
    .parse()
    .unwrap()
}

/// What every store has to do with data.
fn keeps_data(store: &dyn KeyStore) {
    assert!(store.data("anchor").unwrap().is_empty());
    store.add_data("anchor", b"one").unwrap();
    store.add_data("anchor", b"one").unwrap();
    assert_eq!(sorted(store, "anchor"), [b"one"]);
    store.add_data("anchor", b"two").unwrap();
    store.add_data("anchor.1", b"another label's").unwrap();
    assert_eq!(sorted(store, "anchor"), [b"one", b"two"]);
    assert!(store.data("anch").unwrap().is_empty());
    store.remove_data("anchor", b"three").unwrap();
    store.remove_data("anchor", b"another label's").unwrap();
    store.remove_data("anchor", b"one").unwrap();
    store.remove_data("anchor", b"one").unwrap();
    assert_eq!(sorted(store, "anchor"), [b"two"]);
    assert_eq!(sorted(store, "anchor.1"), [b"another label's"]);
    store.remove_data("anchor.1", b"another label's").unwrap();
    store.remove_data("anchor", b"two").unwrap();

    let large = vec![7; 64 * 1024];
    store.add_data("anchor", &large).unwrap();
    assert_eq!(store.data("anchor").unwrap(), [large]);
    let too_large = vec![7; 64 * 1024 + 1];
    refused(
        store.add_data("anchor", &too_large),
        "DATA-LIMIT",
        Class::Environment,
    );
    for count in 1..16_u8 {
        store.add_data("anchor", &[count]).unwrap();
    }
    refused(
        store.add_data("anchor", &[16]),
        "DATA-LIMIT",
        Class::Environment,
    );
    assert_eq!(store.data("anchor").unwrap().len(), 16);
    // What is there is there, also when there is no room for more.
    store.add_data("anchor", &[15]).unwrap();
    for value in store.data("anchor").unwrap() {
        store.remove_data("anchor", &value).unwrap();
    }
    assert!(store.data("anchor").unwrap().is_empty());
    for label in ["", "../anchor", "a/b"] {
        refused(store.data(label), "LABEL-INVALID", Class::Usage);
        refused(store.add_data(label, b"x"), "LABEL-INVALID", Class::Usage);
        refused(
            store.remove_data(label, b"x"),
            "LABEL-INVALID",
            Class::Usage,
        );
    }
}

/// Keys and data of one label do not meet.
fn keeps_them_apart(store: &dyn KeyStore) {
    store.add_data("vault-sign", b"data").unwrap();
    assert_eq!(store.find("vault-sign", Purpose::Sign).unwrap(), None);
    assert!(store.labels().unwrap().is_empty());
    let public = store.generate("vault-sign", Purpose::Sign).unwrap();
    store
        .import_secret("secret", SecretAlgorithm::HmacSha256, &[9; 32])
        .unwrap();
    assert!(store.data("secret").unwrap().is_empty());
    store.add_data("secret", b"data").unwrap();
    let keys = store.labels().unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key.problem.is_none()), "{keys:?}");
    store
        .destroy_secret("secret", SecretAlgorithm::HmacSha256)
        .unwrap();
    assert_eq!(store.data("secret").unwrap(), [b"data"]);
    store.remove_data("vault-sign", b"data").unwrap();
    assert_eq!(
        store.find("vault-sign", Purpose::Sign).unwrap(),
        Some(public)
    );
    assert!(
        store
            .self_test()
            .unwrap()
            .iter()
            .all(|probe| probe.outcome.is_ok())
    );
    assert_eq!(store.data("secret").unwrap(), [b"data"]);
}

#[test]
fn a_folder_keeps_data_and_only_for_its_owner() {
    let place = tempfile::tempdir().unwrap();
    let uri = folder(place.path());
    let store = create(&uri, &never).unwrap();
    keeps_data(&*store);
    keeps_them_apart(&*store);
    for value in [b"a", b"b", b"c"] {
        store.add_data("anchor", value).unwrap();
    }
    store.remove_data("anchor", b"b").unwrap();
    store.add_data("anchor", b"d").unwrap();
    // The lowest free number is taken.
    let keys = place.path().join("keys");
    for (number, content) in [(1, b"a"), (2, b"d"), (3, b"c")] {
        let path = keys.join(format!("anchor.{number}.data"));
        assert_eq!(fs::read(&path).unwrap(), content);
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
    }
    // Another process sees the same.
    assert_eq!(
        sorted(&*open(&uri, &never).unwrap(), "anchor"),
        [b"a", b"c", b"d"]
    );
}

#[test]
fn what_lies_about_in_a_folder_is_no_data_and_what_a_writer_left_is_removed() {
    let place = tempfile::tempdir().unwrap();
    let store = create(&folder(place.path()), &never).unwrap();
    let keys = place.path().join("keys");
    for name in [
        "anchor.data",
        "anchor.01.data",
        "anchor.x.data",
        "anchor.1.data.bak",
        ".anchor.1.data.00aa.part",
        ".other.1.data.00aa.part",
    ] {
        fs::write(keys.join(name), "x").unwrap();
    }
    assert!(store.data("anchor").unwrap().is_empty());
    store.add_data("anchor", b"one").unwrap();
    assert_eq!(store.data("anchor").unwrap(), [b"one"]);
    assert!(!keys.join(".anchor.1.data.00aa.part").exists());
    assert!(keys.join(".other.1.data.00aa.part").exists());
    assert!(keys.join("anchor.01.data").exists());
    // A link leads elsewhere and is not followed, to read or to remove.
    symlink(place.path().join("pin"), keys.join("anchor.2.data")).unwrap();
    refused(store.data("anchor"), "KEY-FILE-IO", Class::Environment);
    fs::remove_file(keys.join("anchor.2.data")).unwrap();
    fs::write(keys.join("anchor.2.data"), vec![0; 64 * 1024 + 1]).unwrap();
    refused(store.data("anchor"), "DATA-LIMIT", Class::Environment);
}

#[test]
fn threads_that_write_to_a_folder_at_once_lose_nothing() {
    let place = tempfile::tempdir().unwrap();
    let uri = folder(place.path());
    create(&uri, &never).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let uri = &uri;
            scope.spawn(move || {
                let store = open(uri, &never).unwrap();
                for count in 0..20 {
                    store.add_data("anchor", &[writer, count]).unwrap();
                    assert!(store.data("anchor").unwrap().contains(&vec![writer, count]));
                    store.remove_data("anchor", &[writer, count]).unwrap();
                }
            });
        }
    });
    assert!(
        open(&uri, &never)
            .unwrap()
            .data("anchor")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_folder_is_looked_at_without_its_pin() {
    let place = tempfile::tempdir().unwrap();
    let uri = folder(place.path());
    refused(health(&uri), "KEY-FOLDER-MISSING", Class::Environment);
    let store = create(&uri, &never).unwrap();
    store.generate("vault-sign", Purpose::Sign).unwrap();
    store.generate("vault-agree", Purpose::Agree).unwrap();
    store.add_data("anchor", b"one").unwrap();
    fs::remove_file(place.path().join("pin")).unwrap();
    let look = || match health(&uri).unwrap() {
        StoreHealth::Folder(folder) => folder,
        other => panic!("{other:?}"),
    };
    let seen = look();
    assert_eq!(seen.keys, ["vault-agree", "vault-sign"]);
    assert_eq!(seen.data, ["anchor.1.data"]);
    assert!(seen.damages.is_empty(), "{seen:?}");
    assert_eq!(seen.facts, store.facts());

    let keys = place.path().join("keys");
    let text = fs::read_to_string(keys.join("vault-sign.pem")).unwrap();
    fs::write(keys.join("vault-sign.pem"), &text[..text.len() / 2]).unwrap();
    fs::write(
        keys.join("renamed.pem"),
        fs::read(keys.join("vault-agree.pem")).unwrap(),
    )
    .unwrap();
    fs::set_permissions(
        keys.join("anchor.1.data"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let seen = look();
    assert_eq!(seen.keys, ["vault-agree"]);
    for name in ["vault-sign.pem", "renamed.pem", "anchor.1.data"] {
        assert!(
            seen.damages.iter().any(|damage| damage.contains(name)),
            "{name}: {seen:?}"
        );
    }
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o750)).unwrap();
    refused(health(&uri), "KEY-FOLDER-EXPOSED", Class::Environment);
}

/// A data object that another program might have made.
fn plant(hsm: &SoftHsm, label: &str, value: &[u8], private: bool, application: &str) {
    let template = [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(private),
        Attribute::Application(application.into()),
        Attribute::Label(label.into()),
        Attribute::Value(value.into()),
    ];
    hsm.session("vault").create_object(&template).unwrap();
}

with_softhsm! {
    fn a_token_keeps_data(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        keeps_data(&*store);
        keeps_them_apart(&*store);
        store.add_data("anchor", b"one").unwrap();
        let listing = hsm.pkcs11_tool("vault", &["--list-objects", "--type", "data"]);
        assert!(listing.contains("'anchor'") && listing.contains("'mintmark'") && listing.contains("private"), "{listing}");
        assert!(!listing.contains("modifiable"), "{listing}");
        let file = hsm.folder.join("read");
        hsm.pkcs11_tool("vault", &["--read-object", "--type", "data", "--application-label", "mintmark", "--label", "anchor", "--output-file", file.to_str().unwrap()]);
        assert_eq!(fs::read(file).unwrap(), b"one");
    }

    fn data_that_are_public_or_anothers_are_not_there(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        plant(hsm, "anchor", b"public", false, "mintmark");
        plant(hsm, "anchor", b"another's", true, "other");
        assert!(store.data("anchor").unwrap().is_empty());
        store.remove_data("anchor", b"public").unwrap();
        plant(hsm, "anchor", b"ours", true, "mintmark");
        plant(hsm, "anchor", b"ours", true, "mintmark");
        assert_eq!(store.data("anchor").unwrap(), [b"ours", b"ours"]);
        // Twins go together.
        store.remove_data("anchor", b"ours").unwrap();
        assert!(store.data("anchor").unwrap().is_empty());
        let listing = hsm.pkcs11_tool("vault", &["--list-objects", "--type", "data"]);
        assert_eq!(listing.matches("'anchor'").count(), 2, "{listing}");
        for count in 0..17_u8 {
            plant(hsm, "many", &[count], true, "mintmark");
        }
        refused(store.data("many"), "DATA-LIMIT", Class::Environment);
        // Cleaning up needs no count.
        store.remove_data("many", &[3]).unwrap();
        assert_eq!(store.data("many").unwrap().len(), 16);
        plant(hsm, "large", &vec![0; 64 * 1024 + 1], true, "mintmark");
        refused(store.data("large"), "DATA-LIMIT", Class::Environment);
        plant(hsm, "empty", &[], true, "mintmark");
        assert_eq!(store.data("empty").unwrap(), [b""]);
    }

    fn a_token_that_lost_its_power_removes_what_it_kept_half_of(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.add_data("anchor", b"one").unwrap();
        // SoftHSM has a lock beside each object, fails to remove an object without it, and has removed it all the same.
        let token = fs::read_dir(hsm.folder.join("tokens")).unwrap().next().unwrap();
        let mut locks = 0;
        for file in fs::read_dir(token.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".lock") && !name.starts_with("token") {
                fs::remove_file(path).unwrap();
                locks += 1;
            }
        }
        assert_eq!(locks, 1);
        store.remove_data("anchor", b"one").unwrap();
        assert!(store.data("anchor").unwrap().is_empty());
    }

    fn a_token_that_lost_its_login_does_not_seem_empty(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.add_data("anchor", b"one").unwrap();
        let log_out = || hsm.session("vault").logout().unwrap();
        log_out();
        assert_eq!(store.data("anchor").unwrap(), [b"one"]);
        log_out();
        store.add_data("anchor", b"one").unwrap();
        assert_eq!(store.data("anchor").unwrap(), [b"one"]);
        log_out();
        store.add_data("anchor", b"two").unwrap();
        assert_eq!(store.data("anchor").unwrap().len(), 2);
        log_out();
        store.remove_data("anchor", b"one").unwrap();
        assert_eq!(store.data("anchor").unwrap(), [b"two"]);
    }

    fn a_uri_with_an_object_reaches_the_data_of_that_label_alone(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault;object=anchor"), &never).unwrap();
        store.add_data("anchor", b"one").unwrap();
        assert_eq!(store.data("anchor").unwrap(), [b"one"]);
        store.remove_data("anchor", b"one").unwrap();
        refused(store.data("other"), "KEY-MISSING", Class::Environment);
        refused(store.add_data("other", b"x"), "KEY-MISSING", Class::Environment);
        refused(store.remove_data("other", b"x"), "KEY-MISSING", Class::Environment);
    }

    fn a_token_is_looked_at_without_its_pin(hsm) {
        let serial = hsm.token("vault");
        // There is no such file: whoever read the PIN would fail.
        let uri = hsm.uri_with_pin(&softhsm_module(), "token=vault", Path::new("/nonexistent/pin"));
        let StoreHealth::Token(seen) = health(&uri).unwrap() else {
            panic!("a token is no folder");
        };
        assert_eq!((seen.facts.label.as_str(), seen.facts.serial.as_str()), ("vault", serial.as_str()));
        assert!(seen.facts.model.contains("SoftHSM"));
        assert!(seen.initialised && seen.pin_initialised && !seen.write_protected && !seen.pin_locked);
        refused(health(&hsm.uri("token=other")), "TOKEN-MISSING", Class::Environment);
        refused(health(&hsm.uri_through(Path::new("/nonexistent.so"), "token=vault")), "MODULE-MISSING", Class::Environment);
    }
}

/// Prints how long data take in a token with few and with many other objects. Run it with `--ignored --nocapture`.
#[test]
#[ignore = "it measures, and asserts nothing"]
fn measure() {
    softhsm::isolate_ignored("measure", |hsm| {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let mut others = 0;
        for wanted in [2, 400] {
            while others < wanted {
                plant(hsm, &format!("other-{others}"), &[1; 300], true, "mintmark");
                others += 1;
            }
            let first = vec![1; 300];
            store.add_data("anchor", &first).unwrap();
            let time = |name: &str, work: &dyn Fn(u8)| {
                let start = Instant::now();
                for count in 0..50 {
                    work(count);
                }
                println!("{wanted} others: {name} {:?}", start.elapsed() / 50);
            };
            time("data", &|_| {
                assert_eq!(store.data("anchor").unwrap().len(), 1)
            });
            time("add_data + remove_data", &|count| {
                let value = vec![count + 2; 300];
                store.add_data("anchor", &value).unwrap();
                store.remove_data("anchor", &value).unwrap();
            });
            store.remove_data("anchor", &first).unwrap();
        }
    });
}
