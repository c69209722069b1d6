//! What homes are kept by: a backup of the vault of the story, of two files, and the transcript of its founding.

use mintmark_backup::{Item, RecoveryKey, Sheet, Subject, seal};
use mintmark_console::{Console, GlobalOptions};
use mintmark_protocol::backup::{Backup, BackupLog};
use mintmark_protocol::cbor::read_bytes_head;
use mintmark_protocol::envelope::Party;
use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::transcript::{Entry, Transcript};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::keys::{key, pretty};
use super::story::{END, HOUR, Told, vault};

/// The name of the file that the message is the end of.
pub const FILE: &str = "backup.bin";

/// What is in the home: more than one chunk of it, and a configuration.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let line = |number: u32| format!("record {number}\n");
    vec![
        (
            "log/0000000000000000.log",
            (0..90_000).map(line).collect::<String>().into_bytes(),
        ),
        (
            "config.toml",
            b"schema = 1\nsite = \"berlin\"\nvault = \"v1\"\n".to_vec(),
        ),
    ]
}

/// The private half of the recovery key, made from its name.
fn recovery_bytes() -> [u8; 32] {
    Sha256::digest("mintmark test key: recovery").into()
}

pub fn recovery_key() -> RecoveryKey {
    RecoveryKey::new(Zeroizing::new(recovery_bytes()))
}

/// The whole file of the backup.
pub fn file() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join(FILE);
    let sign = key("vault-sign");
    let subject = Subject {
        home: Party::Vault(vault()),
        made_at: END - HOUR,
        software: "site 0.1.0".to_owned(),
        signer: sign.public,
        log: Some(BackupLog {
            lineage: Lineage::new([7; 16]),
            size: 90_000,
            root: Fingerprint::of(b"a root"),
        }),
    };
    let items = files().into_iter();
    let items = items
        .map(|(path, bytes)| Item::bytes(path, bytes))
        .collect();
    let console = Console::new("test", &GlobalOptions::default());
    let watch = mintmark_backup::Watch::to_the_end(&console);
    let to = recovery_key().public();
    seal(&output, &to, subject, items, &|m| sign.sign(m), &watch).unwrap();
    std::fs::read(output).unwrap()
}

/// The message at the end of the file.
pub fn message_of(file: &[u8]) -> Vec<u8> {
    let mut at = 1 + mintmark_protocol::backup::MARK.len();
    loop {
        let (length, head) = read_bytes_head(&file[at..]).unwrap();
        let end = at + head + length as usize;
        if end == file.len() {
            return file[at + head..].to_vec();
        }
        at = end;
    }
}

/// What the file is opened with, and what is in it.
pub fn described() -> Vec<u8> {
    let key = recovery_key();
    let sheet = Sheet::of(&key).unwrap();
    let held: Vec<Value> = files()
        .iter()
        .map(|(path, bytes)| json!({"path": path, "bytes": bytes.len(), "sha256": Fingerprint::of(bytes).to_string()}))
        .collect();
    let said = json!({
        "file": FILE,
        "recovery_key": hex::encode(recovery_bytes()),
        "recovery_public_key": hex::encode(key.public().as_bytes()),
        "words": sheet.text().lines().collect::<Vec<_>>(),
        "files": held,
    });
    pretty(&said)
}

/// What was done at the founding.
pub fn transcript() -> Transcript {
    let entry = |time, command: &str, text: &str| Entry {
        time,
        command: command.to_owned(),
        exit: 0,
        text: text.to_owned(),
    };
    Transcript {
        sealed_at: END - HOUR,
        purpose: "founding of headquarters".to_owned(),
        present: ["Alice", "Bob", "Carol"].map(str::to_owned).into(),
        entries: vec![
            entry(
                END - 3 * HOUR,
                "hq init --name Acme",
                "{\"schema\":\"mintmark/init/1\"}",
            ),
            entry(END - 2 * HOUR, "note", "The seal of bag 0042 was whole."),
        ],
    }
}

/// Both messages, of this file.
pub fn told(file: &[u8]) -> [Told; 2] {
    let message = message_of(file);
    Backup::open(&message).unwrap();
    let report = key("report");
    [
        Told {
            name: "backup".to_owned(),
            about: "the message at the end of `backup.bin`, which is a whole backup of a home of two files; `backup-file.json` has the recovery key, and what is in them",
            bytes: message,
        },
        Told {
            name: "transcript".to_owned(),
            about: "what was done at the founding of headquarters: one command, and one note",
            bytes: transcript()
                .seal(&report.public, &|m| report.sign(m))
                .unwrap(),
        },
    ]
}
