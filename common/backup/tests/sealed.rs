//! A backup is what was sealed, or it is refused: whatever was changed, cut off, exchanged, or made by somebody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use mintmark_backup::{
    Error, Item, Opened, Placing, RecoveryKey, RecoveryPublicKey, Sealed, Signed, Subject, Watch,
    Watched, parse, seal,
};
use mintmark_console::{Console, GlobalOptions};
use mintmark_protocol::envelope::Party;
use mintmark_protocol::key::thumbprint;
use p256::SecretKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use tempfile::TempDir;

fn watch() -> Watch<'static> {
    let console = Console::new("test", &GlobalOptions::default());
    Watch::to_the_end(Box::leak(Box::new(console)))
}

fn watched() -> Watched<'static> {
    watch().begin("x", 1)
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_slice(&[seed; 32]).unwrap()
}

fn files() -> Vec<(String, Vec<u8>)> {
    vec![
        ("log/0000000000000000.log".to_owned(), vec![7; 3000]),
        ("outbox/empty".to_owned(), Vec::new()),
        ("config.toml".to_owned(), b"schema = 1\n".to_vec()),
    ]
}

struct Scene {
    folder: TempDir,
    recovery: RecoveryKey,
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            recovery: RecoveryKey::generate().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn seal_items(
        &self,
        name: &str,
        signer: &SecretKey,
        to: &RecoveryPublicKey,
        items: Vec<Item>,
    ) -> Result<Sealed, Error> {
        let subject = Subject {
            home: Party::Hq,
            made_at: 1_800_000_000,
            software: "test 1".to_owned(),
            signer: signer.public_key(),
            log: None,
        };
        let signing = SigningKey::from(signer);
        let sign = |message: &[u8]| {
            let signature: Signature = signing.sign(message);
            Ok(signature)
        };
        seal(&self.path(name), to, subject, items, &sign, &watch())
    }

    fn seal_as(
        &self,
        name: &str,
        signer: u8,
        files: &[(String, Vec<u8>)],
    ) -> Result<Sealed, Error> {
        let items = files
            .iter()
            .map(|(path, bytes)| Item::bytes(path, bytes.clone()))
            .collect();
        self.seal_items(name, &key(signer), &self.recovery.public(), items)
    }

    /// Opens and reads all of it, as somebody who knows the signer and has the words.
    fn read(&self, path: &Path) -> Result<(), Error> {
        let mut opened = Opened::open(path)?;
        opened.expect_signed(Signed::By(thumbprint(&key(1).public_key())))?;
        opened.expect_whole(&watched())?;
        let content_key = opened.unlock(&self.recovery)?;
        opened.expect_readable(&content_key, &watched())
    }
}

#[test]
fn what_was_sealed_is_put_back_with_the_rights_of_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    // More than one chunk, and what does not compress.
    let mut noise = Vec::new();
    let mut seed: u64 = 1;
    while noise.len() < (3 << 20) + 17 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&(seed ^ (seed >> 29)).to_be_bytes());
    }
    let mut files = files();
    files.insert(0, ("record/a/b/noise".to_owned(), noise));
    files.insert(0, ("record/exact".to_owned(), vec![1; 1 << 20]));
    let sealed = scene.seal_as("one", 1, &files).unwrap();
    assert_eq!(sealed.backup.files, 5);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scene.path("one")), 0o600);

    let mut opened = Opened::open(&scene.path("one")).unwrap();
    assert_eq!(opened.fingerprint(), sealed.fingerprint);
    opened
        .expect_signed(Signed::As(sealed.fingerprint))
        .unwrap();
    let content_key = opened.unlock(&scene.recovery).unwrap();
    let home = scene.path("home");
    fs::create_dir(&home).unwrap();
    let mut placing = Placing::begin(&home).unwrap();
    placing.fill(&mut opened, &content_key, &watched()).unwrap();
    // What makes it a home is not there before everything else is.
    assert!(!placing.path().join("config.toml").exists());
    assert_eq!(placing.config(), b"schema = 1\n");
    placing.settle().unwrap();
    for (path, bytes) in &files {
        assert_eq!(&fs::read(home.join(path)).unwrap(), bytes, "{path}");
        assert_eq!(mode(&home.join(path)), 0o600, "{path}");
    }
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(&home.join("record/a")), 0o700);
    let left = fs::read_dir(scene.folder.path()).unwrap().count();
    assert_eq!(left, 2, "the backup and the home");
    let again = Placing::begin(&home).err().unwrap();
    assert_eq!(again.code, "HOME-EXISTS");
}

#[test]
fn no_octet_of_a_backup_changes_unseen_and_nothing_is_cut_off() {
    let scene = Scene::new();
    scene.seal_as("whole", 1, &files()).unwrap();
    let whole = fs::read(scene.path("whole")).unwrap();
    scene.read(&scene.path("whole")).unwrap();
    let changed = scene.path("changed");
    for at in 0..whole.len() {
        // All bits of the message are tried where it is at home, in common/protocol.
        let bit = at % 8;
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&changed, &bytes).unwrap();
        assert!(scene.read(&changed).is_err(), "bit {bit} of octet {at}");
        fs::write(&changed, &whole[..at]).unwrap();
        assert!(scene.read(&changed).is_err(), "cut off at {at}");
    }
    for more in [&[0][..], &whole] {
        fs::write(&changed, [&whole[..], more].concat()).unwrap();
        let error = scene.read(&changed).unwrap_err();
        assert_eq!(error.code(), "BACKUP-DAMAGED");
    }
}

#[test]
fn chunks_of_another_backup_are_refused() {
    let scene = Scene::new();
    for name in ["one", "two"] {
        scene.seal_as(name, 1, &files()).unwrap();
    }
    let read = |name: &str| fs::read(scene.path(name)).unwrap();
    let (one, two) = (read("one"), read("two"));
    // The head of the message: a byte string of less than 65,536 octets, which begins with the tag of a COSE_Sign1.
    let begins = |bytes: &[u8]| {
        let mut places = bytes.windows(4).enumerate();
        let found = places.rfind(|(_, four)| four[0] == 0x59 && four[3] == 0xd2);
        found.unwrap().0
    };
    let mixed = [&two[..begins(&two)], &one[begins(&one)..]].concat();
    fs::write(scene.path("mixed"), mixed).unwrap();
    let error = scene.read(&scene.path("mixed")).unwrap_err();
    assert_eq!(error.code(), "BACKUP-DAMAGED");
    assert!(error.to_string().contains("not what was signed"), "{error}");
}

#[test]
fn what_somebody_else_made_is_not_taken_for_a_backup_of_this_home() {
    let scene = Scene::new();
    // The public half is no secret: anybody can seal to it.
    scene.seal_as("forged", 2, &files()).unwrap();
    let error = scene.read(&scene.path("forged")).unwrap_err();
    assert_eq!(error.code(), "BACKUP-SIGNER");
    let genuine = scene.seal_as("genuine", 1, &files()).unwrap();
    let opened = Opened::open(&scene.path("forged")).unwrap();
    let error = opened
        .expect_signed(Signed::As(genuine.fingerprint))
        .unwrap_err();
    assert_eq!(error.code(), "FINGERPRINT-MISMATCH");
}

#[test]
fn the_words_of_another_key_open_nothing_and_say_so() {
    let scene = Scene::new();
    scene.seal_as("one", 1, &files()).unwrap();
    let other = RecoveryKey::generate().unwrap();
    let opened = Opened::open(&scene.path("one")).unwrap();
    let error = opened.unlock(&other).err().unwrap();
    assert_eq!(error.code(), "RECOVERY-KEY-OTHER");
    let text = error.to_string();
    assert!(
        text.contains(&scene.recovery.public().to_string()),
        "{text}"
    );
}

#[test]
fn a_name_that_leads_out_of_the_home_is_not_sealed() {
    let scene = Scene::new();
    for path in ["../x", "/etc/passwd", "a//b", ".ssh/id"] {
        let files = [(path.to_owned(), b"x".to_vec())];
        let error = scene.seal_as("bad", 1, &files).err().unwrap();
        assert_eq!(error.code(), "BACKUP-NAME", "{path}");
        // Nothing is left of it, under no name.
        assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn nothing_is_written_over_and_a_file_that_ends_early_is_noticed() {
    let scene = Scene::new();
    scene.seal_as("one", 1, &files()).unwrap();
    let before = fs::read(scene.path("one")).unwrap();
    let again = scene.seal_as("one", 1, &files()).err().unwrap();
    assert_eq!(again.code(), "FILE-EXISTS");
    assert_eq!(fs::read(scene.path("one")).unwrap(), before);

    fs::write(scene.path("short"), b"abc").unwrap();
    let short = fs::File::open(scene.path("short")).unwrap();
    let items = vec![Item::beginning("log/x", short, 4)];
    let failed = scene.seal_items("two", &key(1), &scene.recovery.public(), items);
    assert_eq!(failed.err().unwrap().code(), "BACKUP-HOME-CHANGED");
    assert!(!scene.path("two").exists());
    // What is gone when its turn comes is no fault of the disk.
    let items = vec![Item::file("outbox/gone", scene.path("gone"))];
    let failed = scene.seal_items("two", &key(1), &scene.recovery.public(), items);
    assert_eq!(failed.err().unwrap().code(), "BACKUP-HOME-CHANGED");
}

#[test]
fn nonsense_is_no_recovery_key() {
    for text in [
        "",
        "abandon",
        "\u{0}\u{1f600} \u{e4}",
        &"zoo ".repeat(24),
        &"a1 ".repeat(99),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.code(), "RECOVERY-WORDS-INVALID");
    }
}

#[test]
fn a_home_whose_path_ends_in_a_slash_is_made_beside_it_and_never_in_it() {
    let scene = Scene::new();
    let home = scene.path("home");
    for there in [false, true] {
        if there {
            fs::create_dir(&home).unwrap();
        }
        let placing = Placing::begin(&home.join("")).unwrap();
        assert_eq!(placing.path().parent(), Some(scene.folder.path()));
        placing.settle().unwrap();
        assert!(home.join("config.toml").exists());
        assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 1);
        fs::remove_dir_all(&home).unwrap();
    }
    let nameless = Placing::begin(Path::new("..")).err().unwrap();
    assert!(["HOME-NAME", "HOME-EXISTS"].contains(&&*nameless.code));
}

/// At each of the moments at which somebody may leave.
#[test]
fn a_backup_that_nobody_waits_for_any_more_is_ended_and_leaves_nothing() {
    let scene = Scene::new();
    let console = Console::new("test", &GlobalOptions::default());
    let signing = SigningKey::from(&key(1));
    let sign = |message: &[u8]| {
        let signature: Signature = signing.sign(message);
        Ok(signature)
    };
    let (moments, asked) = (Cell::new(0), Cell::new(0));
    let has_gone = || asked.replace(asked.get() + 1) == moments.get();
    let sealed = || {
        asked.set(0);
        let files = files().into_iter();
        let items = files.map(|(path, bytes)| Item::bytes(path, bytes));
        let subject = Subject {
            home: Party::Hq,
            made_at: 1_800_000_000,
            software: "test 1".to_owned(),
            signer: key(1).public_key(),
            log: None,
        };
        let (path, to) = (scene.path("one"), scene.recovery.public());
        let watch = Watch::new(&console, &has_gone);
        seal(&path, &to, subject, items.collect(), &sign, &watch)
    };
    let left = || fs::read_dir(scene.folder.path()).unwrap().count();
    while let Err(error) = sealed() {
        assert_eq!(error.code(), "INTERRUPTED");
        assert_eq!(left(), 0, "{}", moments.get());
        moments.set(moments.get() + 1);
    }
    // At each file, and while it was read back.
    assert!(moments.get() > files().len());
    assert_eq!(left(), 1);
}
