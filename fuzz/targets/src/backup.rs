//! Backups, and the recovery key that they are sealed to: its words, and its public half.

use std::fs;
use std::sync::LazyLock;

use mintmark_backup::{
    Item, Opened, RecoveryKey, RecoveryPublicKey, Sheet, Signed, Subject, Watch, fuzzing, parse,
    seal,
};
use mintmark_console::{Console, GlobalOptions};
use mintmark_protocol::KeyFailure;
use mintmark_protocol::envelope::Party;
use mintmark_protocol::key::thumbprint;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use zeroize::Zeroizing;

use crate::files::folder;

/// The key of the home that a backup is of.
static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_slice(&[1; 32]).unwrap());

/// A word that is in no list.
const PLANTED: &str = "zqxjkvbwplm";

fn recovery_key() -> RecoveryKey {
    RecoveryKey::new(Zeroizing::new([7; 32]))
}

fn console() -> Console {
    let (out, err) = (Box::new(std::io::sink()), Box::new(std::io::sink()));
    Console::into_streams("fuzz", &GlobalOptions::default(), out, err)
}

/// A backup that is as it was sealed: a corpus begins with it.
pub(crate) fn sealed() -> Vec<u8> {
    let path = folder();
    let path = path.path().join("backup");
    let subject = Subject {
        home: Party::Hq,
        made_at: 1_800_000_000,
        software: "fuzz 1".to_owned(),
        signer: SIGNER.verifying_key().into(),
        log: None,
    };
    let items = vec![
        Item::bytes("record/a", b"the first".to_vec()),
        Item::bytes("record/empty", Vec::new()),
        Item::bytes("config.toml", b"schema = 1\n".to_vec()),
    ];
    let sign = |message: &[u8]| -> Result<Signature, KeyFailure> { Ok(SIGNER.sign(message)) };
    let console = console();
    let watch = Watch::to_the_end(&console);
    seal(
        &path,
        &recovery_key().public(),
        subject,
        items,
        &sign,
        &watch,
    )
    .unwrap();
    fs::read(path).unwrap()
}

/// The file of a backup: what the home's key signed and is whole opens with the recovery key.
pub(crate) fn file(input: &[u8]) {
    let folder = folder();
    let path = folder.path().join("backup");
    fs::write(&path, input).unwrap();
    let console = console();
    let watch = Watch::to_the_end(&console);
    let watched = watch.begin("opening", input.len() as u64);
    let Ok(mut opened) = Opened::open(&path) else {
        return;
    };
    let whole = opened.expect_whole(&watched).is_ok();
    let content_key = opened.unlock(&recovery_key());
    let signer = Signed::By(thumbprint(&SIGNER.verifying_key().into()));
    if opened.expect_signed(signer).is_ok() && whole {
        let content_key = content_key.expect("it was sealed to this key");
        let read = opened.expect_readable(&content_key, &watched);
        read.expect("it was sealed with this key");
    } else if let Ok(content_key) = content_key {
        // Whoever has the public half can seal what they like: it is read, or refused.
        let _ = opened.expect_readable(&content_key, &watched);
    }
}

/// The files in a backup: however the stream is cut into chunks, they are the same. The first byte says how long these are.
pub(crate) fn stream(input: &[u8]) {
    let Some((length, stream)) = input.split_first() else {
        return;
    };
    let pieces = stream.chunks(usize::from(*length).max(1));
    let (cut, whole) = (fuzzing::files(pieces), fuzzing::files([stream].into_iter()));
    assert_eq!(cut, whole);
    if let Some((_, bytes)) = whole {
        assert!(bytes <= stream.len() as u64);
    }
}

/// The words of a recovery key: those that are read are written again to mean the same, and none of them is repeated.
pub(crate) fn words(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(key) = parse(text) {
        let sheet = Sheet::of(&key).unwrap();
        for written in [sheet.text(), &sheet.file(&key)] {
            assert_eq!(parse(written).unwrap().public(), key.public());
        }
    }
    let planted = format!("{PLANTED} {text}");
    if let Err(error) = parse(&planted) {
        let words = format!("{error} {error:?} {:?}", error.hint());
        assert!(!words.contains(PLANTED), "a word was repeated: {words}");
    }
}

/// The words of the key that a corpus begins with.
pub(crate) fn sheet() -> [String; 2] {
    let key = recovery_key();
    let sheet = Sheet::of(&key).unwrap();
    [sheet.text().to_owned(), sheet.file(&key).to_string()]
}

/// The public half of a recovery key: what is read is written again as the same text.
pub(crate) fn public_half(input: &[u8]) {
    let folder = folder();
    let path = folder.path().join("recovery.pub");
    fs::write(&path, input).unwrap();
    if let Ok(key) = RecoveryPublicKey::read(&path) {
        let written = key.to_text();
        assert_eq!(written.trim_end().as_bytes(), input.trim_ascii_end());
    }
}

/// That of the same key.
pub(crate) fn public_text() -> String {
    recovery_key().public().to_text()
}
