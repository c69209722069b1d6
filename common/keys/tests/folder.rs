//! File stores, with OpenSSL as the judge.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "folder/openssl.rs"]
mod openssl;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use mintmark_keys::{Class, Error, KeyStore, KeyUri, Pin, Purpose, create, open};
use p256::SecretKey;
use p256::pkcs8::LineEnding;

const PIN: &str = "correct horse";

/// A place for a key folder, and the PIN beside it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.pin_file(), format!("{PIN}\n")).unwrap();
        fs::set_permissions(
            place.pin_file(),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        place
    }

    fn pin_file(&self) -> PathBuf {
        self.0.path().join("pin")
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("keys")
    }

    fn file(&self, label: &str) -> PathBuf {
        self.folder().join(format!("{label}.pem"))
    }

    fn uri(&self) -> KeyUri {
        format!(
            "file:{}?pin-source=file:{}",
            self.folder().display(),
            self.pin_file().display()
        )
        .parse()
        .unwrap()
    }

    fn uri_without_pin(&self) -> KeyUri {
        format!("file:{}", self.folder().display()).parse().unwrap()
    }

    fn create(&self) -> Arc<dyn KeyStore> {
        create(&self.uri(), &never).unwrap()
    }

    fn open(&self) -> Arc<dyn KeyStore> {
        open(&self.uri(), &never).unwrap()
    }
}

fn never(question: &str) -> std::io::Result<Pin> {
    panic!("asked: {question}")
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: &str, class: Class) -> Error {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.class()), (code, class), "{error}");
    assert!(error.hint().is_some(), "{error} has no hint");
    error
}

fn openssl(arguments: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = Command::new("openssl");
    command.args(arguments);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_folder_and_its_files_belong_to_their_owner_alone() {
    let place = Place::new();
    place.create().generate("root", Purpose::Sign).unwrap();
    assert_eq!(mode(&place.folder()), 0o700);
    assert_eq!(mode(&place.file("root")), 0o600);
    let names: Vec<_> = fs::read_dir(place.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["root.pem"]);
    for exposed in [0o750, 0o705, 0o710, 0o701, 0o720] {
        fs::set_permissions(place.folder(), PermissionsExt::from_mode(exposed)).unwrap();
        refused(
            open(&place.uri(), &never),
            "KEY-FOLDER-EXPOSED",
            Class::Environment,
        );
        refused(
            create(&place.uri(), &never),
            "KEY-FOLDER-EXPOSED",
            Class::Environment,
        );
    }
    fs::set_permissions(place.folder(), PermissionsExt::from_mode(0o700)).unwrap();
    place.open().signer("root").unwrap();
}

#[test]
fn a_missing_folder_is_an_error_to_open_and_made_to_create() {
    let place = Place::new();
    refused(
        open(&place.uri(), &never),
        "KEY-FOLDER-MISSING",
        Class::Environment,
    );
    assert!(!place.folder().exists());
    place.create();
    place.open();
    place.create();
    fs::remove_dir(place.folder()).unwrap();
    fs::write(place.folder(), "").unwrap();
    refused(
        open(&place.uri(), &never),
        "KEY-FILE-IO",
        Class::Environment,
    );
}

#[test]
fn a_wrong_pin_is_noticed_when_the_folder_is_opened() {
    let place = Place::new();
    place.create().generate("root", Purpose::Sign).unwrap();
    fs::write(place.pin_file(), "battery staple").unwrap();
    for result in [open(&place.uri(), &never), create(&place.uri(), &never)] {
        let error = refused(result, "PIN-INCORRECT", Class::Environment);
        assert!(!format!("{error} {error:?}").contains("staple"));
    }
    fs::remove_file(place.pin_file()).unwrap();
    refused(
        open(&place.uri(), &never),
        "PIN-SOURCE-UNREADABLE",
        Class::Environment,
    );
}

#[test]
fn a_new_pin_is_asked_for_twice_and_a_known_one_once() {
    let place = Place::new();
    let asked = RefCell::new(Vec::new());
    let answers = |given: &'static [&'static str]| {
        asked.borrow_mut().clear();
        let asked = &asked;
        move |question: &str| {
            asked.borrow_mut().push(question.to_owned());
            match given.get(asked.borrow().len() - 1) {
                Some(answer) => Ok(Pin::new((*answer).into())),
                None => Err(std::io::ErrorKind::Interrupted.into()),
            }
        }
    };
    let uri = place.uri_without_pin();
    refused(
        create(&uri, &answers(&[])),
        "PIN-NOT-GIVEN",
        Class::Environment,
    );
    refused(
        create(&uri, &answers(&[PIN])),
        "PIN-NOT-GIVEN",
        Class::Environment,
    );
    refused(
        create(&uri, &answers(&[PIN, "other"])),
        "PIN-MISMATCH",
        Class::Environment,
    );
    refused(
        create(&uri, &answers(&[""])),
        "PIN-EMPTY",
        Class::Environment,
    );
    assert!(
        !place.folder().exists(),
        "a folder was made before there was a PIN"
    );
    create(&uri, &answers(&[PIN, PIN]))
        .unwrap()
        .generate("root", Purpose::Sign)
        .unwrap();
    assert!(
        asked
            .borrow()
            .iter()
            .all(|question| question.contains(place.folder().to_str().unwrap())),
        "{asked:?}"
    );
    for known in [open(&uri, &answers(&[PIN])), create(&uri, &answers(&[PIN]))] {
        known.unwrap().signer("root").unwrap();
    }
    place.open().signer("root").unwrap();
}

#[test]
fn a_missing_key_is_an_error_to_use_and_none_to_find() {
    let store = Place::new();
    let store = store.create();
    assert_eq!(store.find("root", Purpose::Sign).unwrap(), None);
    refused(store.signer("root"), "KEY-MISSING", Class::Environment);
    refused(store.agreement("root"), "KEY-MISSING", Class::Environment);
    for label in ["../root", "", ".root", "a/b"] {
        refused(store.signer(label), "LABEL-INVALID", Class::Usage);
        refused(
            store.generate(label, Purpose::Sign),
            "LABEL-INVALID",
            Class::Usage,
        );
    }
}

#[test]
fn a_key_of_the_other_purpose_is_refused() {
    let place = Place::new();
    let store = place.create();
    store.generate("sign", Purpose::Sign).unwrap();
    store.generate("agree", Purpose::Agree).unwrap();
    for store in [store, place.open()] {
        refused(
            store.find("sign", Purpose::Agree),
            "KEY-ATTRIBUTES",
            Class::Integrity,
        );
        refused(store.agreement("sign"), "KEY-ATTRIBUTES", Class::Integrity);
        refused(store.signer("agree"), "KEY-ATTRIBUTES", Class::Integrity);
    }
}

#[test]
fn a_key_is_never_overwritten() {
    let place = Place::new();
    let store = place.create();
    let public = store.generate("root", Purpose::Sign).unwrap();
    let before = fs::read(place.file("root")).unwrap();
    for store in [&store, &place.open()] {
        refused(
            store.generate("root", Purpose::Sign),
            "KEY-EXISTS",
            Class::Environment,
        );
        refused(
            store.generate("root", Purpose::Agree),
            "KEY-EXISTS",
            Class::Environment,
        );
    }
    assert_eq!(fs::read(place.file("root")).unwrap(), before);
    // A link that leads nowhere takes its name too, and is not followed.
    let elsewhere = place.0.path().join("elsewhere");
    symlink(&elsewhere, place.file("audit")).unwrap();
    refused(
        store.generate("audit", Purpose::Sign),
        "KEY-EXISTS",
        Class::Environment,
    );
    assert!(!elsewhere.exists());
    assert_eq!(
        place.open().find("root", Purpose::Sign).unwrap(),
        Some(public)
    );
}

#[test]
fn of_many_that_make_one_key_at_once_one_succeeds() {
    let place = Place::new();
    place.create();
    let stores: Vec<_> = (0..4).map(|_| place.open()).collect();
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = stores
            .iter()
            .map(|store| scope.spawn(|| store.generate("root", Purpose::Sign)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (made, refusals): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    assert!(
        refusals
            .into_iter()
            .all(|refusal| refusal.unwrap_err().code() == "KEY-EXISTS")
    );
    assert_eq!(
        place.open().find("root", Purpose::Sign).unwrap(),
        Some(*made[0].as_ref().unwrap())
    );
    assert_eq!(
        fs::read_dir(place.folder()).unwrap().count(),
        1,
        "something was left behind"
    );
}

#[test]
fn a_file_that_was_renamed_or_linked_is_refused() {
    let place = Place::new();
    place.create().generate("root", Purpose::Sign).unwrap();
    fs::copy(place.file("root"), place.file("audit")).unwrap();
    let error = refused(
        place.open().signer("audit"),
        "KEY-ATTRIBUTES",
        Class::Integrity,
    );
    assert!(error.to_string().contains("renamed"), "{error}");
    symlink(place.file("root"), place.file("dispatch")).unwrap();
    refused(
        place.open().signer("dispatch"),
        "KEY-FILE-IO",
        Class::Environment,
    );
    fs::create_dir(place.file("report")).unwrap();
    refused(
        place.open().signer("report"),
        "KEY-FILE-INVALID",
        Class::Integrity,
    );
}

#[test]
fn a_file_that_is_no_encrypted_key_of_p256_is_refused_with_its_reason() {
    let place = Place::new();
    let store = place.create();
    let pin = format!("file:{}", place.pin_file().display());
    let plain = |curve: &str| {
        text(&openssl(
            &[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                &format!("ec_paramgen_curve:{curve}"),
            ],
            &[],
        ))
    };
    let encrypted = |curve: &str, options: &[&str]| {
        let path = place.0.path().join("plain");
        fs::write(&path, plain(curve)).unwrap();
        text(&openssl(
            &[&["pkcs8", "-topk8", "-passout", &pin], options].concat(),
            &[("-in", &path)],
        ))
    };
    let proper = encrypted("P-256", &[]);
    let cases = [
        ("holds a PRIVATE KEY", plain("P-256")),
        ("not one of P-256", encrypted("P-384", &[])),
        ("not use PBKDF2", encrypted("P-256", &["-scrypt"])),
        (
            "PBES1",
            encrypted(
                "P-256",
                &[
                    "-v1",
                    "PBE-MD5-DES",
                    "-provider",
                    "default",
                    "-provider",
                    "legacy",
                ],
            ),
        ),
        ("unknown way", encrypted("P-256", &["-v1", "PBE-SHA1-3DES"])),
        ("no PEM block", String::new()),
        ("no PEM block", proper.replace("-----END", "----END")),
        ("twice", format!("Purpose: agree\n{proper}")),
        ("neither sign nor agree", proper.clone()),
        ("too large", format!("{}\n{proper}", "x".repeat(20_000))),
    ];
    for (reason, content) in cases {
        let purpose = if reason.starts_with("neither") {
            "Purpose: both"
        } else {
            "Purpose: sign"
        };
        fs::write(place.file("root"), format!("{purpose}\n{content}")).unwrap();
        let error = refused(store.signer("root"), "KEY-FILE-INVALID", Class::Integrity);
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    fs::write(place.file("root"), [0xff, 0xfe]).unwrap();
    refused(store.signer("root"), "KEY-FILE-INVALID", Class::Integrity);
    fs::write(place.file("root"), format!("Purpose: sign\n{proper}")).unwrap();
    store.signer("root").unwrap();
}

#[test]
fn a_file_that_asks_for_endless_work_is_refused_before_the_work() {
    use p256::pkcs8::pkcs5::{EncryptionScheme, pbes2::Parameters};
    use p256::pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument, der::asn1::OctetStringRef};
    let place = Place::new();
    let store = place.create();
    let parameters =
        Parameters::generate_pbkdf2_sha256_aes256cbc(90_000_000, &[1; 16], [2; 16]).unwrap();
    let info = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: EncryptionScheme::Pbes2(parameters),
        encrypted_data: OctetStringRef::new(&[3; 160]).unwrap(),
    };
    let pem = SecretDocument::try_from(info)
        .unwrap()
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .unwrap();
    fs::write(place.file("root"), format!("Purpose: sign\n{}", *pem)).unwrap();
    let error = refused(store.signer("root"), "KEY-FILE-INVALID", Class::Integrity);
    assert!(error.to_string().contains("90000000 rounds"), "{error}");
}

#[test]
fn a_damaged_file_keeps_no_other_key_out_of_reach_and_is_described() {
    let place = Place::new();
    let store = place.create();
    store.generate("root", Purpose::Sign).unwrap();
    fs::write(place.file("audit"), "nothing of use").unwrap();
    fs::write(place.folder().join("not a label.pem"), "").unwrap();
    fs::write(place.folder().join("README"), "").unwrap();
    let store = place.open();
    store.signer("root").unwrap();
    let described = store.labels().unwrap();
    let shown: Vec<_> = described
        .iter()
        .map(|key| (key.label.as_str(), key.purpose, key.problem.is_some()))
        .collect();
    assert_eq!(
        shown,
        [
            ("audit", None, true),
            ("not a label", None, true),
            ("root", Some(Purpose::Sign), false)
        ]
    );
    let probes = store.self_test().unwrap();
    let failed: Vec<_> = probes
        .iter()
        .filter(|probe| probe.outcome.is_err())
        .map(|probe| probe.name.as_str())
        .collect();
    assert_eq!(failed, ["login"]);
}

#[test]
fn a_self_test_performs_each_operation_and_leaves_nothing_behind() {
    let place = Place::new();
    let store = place.create();
    store.generate("root", Purpose::Sign).unwrap();
    let probes = store.self_test().unwrap();
    let names: Vec<_> = probes.iter().map(|probe| probe.name.as_str()).collect();
    assert_eq!(
        names,
        ["login", "random", "sign", "agree", "unwrap", "hmac", "cmac"]
    );
    assert!(
        probes.iter().all(|probe| probe.outcome.is_ok()),
        "{probes:?}"
    );
    assert_eq!(fs::read_dir(place.folder()).unwrap().count(), 1);
    assert_eq!(store.facts().kind, "file");
    assert_eq!(store.facts().label, "keys");
}

#[test]
fn no_single_changed_byte_gives_another_key() {
    let place = Place::new();
    let store = place.create();
    // One round, for the sake of the hundreds of attempts.
    let path = place.0.path().join("plain");
    text(&openssl(
        &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ],
        &[("-out", &path)],
    ));
    let pin = format!("file:{}", place.pin_file().display());
    let encrypted = text(&openssl(
        &["pkcs8", "-topk8", "-iter", "1", "-passout", &pin],
        &[("-in", &path)],
    ));
    let original = format!("Label: root\nPurpose: sign\n{encrypted}");
    fs::write(place.file("root"), &original).unwrap();
    let public = store.find("root", Purpose::Sign).unwrap();
    assert!(public.is_some());
    let mut refusals = 0;
    for position in 0..original.len() {
        let mut changed = original.clone().into_bytes();
        changed[position] ^= 1;
        fs::write(place.file("root"), changed).unwrap();
        // A store of its own each time, since a key that was read once is kept.
        match open(&place.uri(), &never).and_then(|store| store.find("root", Purpose::Sign)) {
            Ok(found) => assert_eq!(found, public, "at byte {position}"),
            Err(_) => refusals += 1,
        }
    }
    assert!(
        refusals > encrypted.len() / 2,
        "only {refusals} of {} changes were refused",
        original.len()
    );
}

#[test]
fn a_secret_that_begins_with_zero_keeps_its_zero() {
    let place = Place::new();
    let store = place.create();
    let public = store.generate("a", Purpose::Agree).unwrap();
    let agreement = store.agreement("a").unwrap();
    let found = (1_u64..).map(|scalar| {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&scalar.to_be_bytes());
        SecretKey::from_slice(&bytes).unwrap()
    });
    let (secret, shared) = found
        .map(|secret| {
            (
                secret.public_key(),
                secret.diffie_hellman(&public).raw_secret_bytes().to_vec(),
            )
        })
        .find(|(_, shared)| shared[0] == 0)
        .unwrap();
    assert_eq!(agreement.agree(&secret).unwrap().to_vec(), shared);
}
