//! What headquarters keeps for itself: a backup's message and the transcript of a ceremony.

use mintmark_protocol::Error;
use mintmark_protocol::backup::{Backup, BackupLog};
use mintmark_protocol::envelope::{Party, Verified};
use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::transcript::{Entry, Transcript};

use super::{report_key, vault, vault_sign};

/// A backup of a vault's home.
pub fn backup() -> Backup {
    Backup {
        made_at: 1_800_100_000,
        software: "site 0.1.0".to_owned(),
        signer: vault_sign().public,
        recovery_key: [9; 32],
        sealed_key: [7; 96],
        commitment: Fingerprint::of(b"content key"),
        sealed_bytes: 1 << 33,
        sealed_digest: Fingerprint::of(b"file"),
        files: 12,
        bytes: 1 << 34,
        log: Some(BackupLog {
            lineage: Lineage::new([3; 16]),
            size: 1000,
            root: Fingerprint::of(b"root"),
        }),
    }
}

/// The same of headquarters' home.
pub fn hq_backup() -> Backup {
    Backup {
        signer: report_key().public,
        log: None,
        ..backup()
    }
}

pub fn backup_bytes() -> Vec<u8> {
    let key = vault_sign();
    backup()
        .seal(&Party::Vault(vault()), &|m| key.sign(m))
        .unwrap()
}

pub fn hq_backup_bytes() -> Vec<u8> {
    let key = report_key();
    hq_backup().seal(&Party::Hq, &|m| key.sign(m)).unwrap()
}

/// The transcript of a ceremony of one command and one note.
pub fn transcript() -> Transcript {
    let entry = |time, command: &str, text: &str| Entry {
        time,
        command: command.to_owned(),
        exit: 0,
        text: text.to_owned(),
    };
    Transcript {
        sealed_at: 1_800_110_000,
        purpose: "founding".to_owned(),
        present: vec!["Alice A.".to_owned(), "Bob B.".to_owned()],
        entries: vec![
            entry(1_800_109_000, "hq init --name Acme", "{\"name\":\"Acme\"}"),
            entry(1_800_109_500, "note", "seal 0042 was whole"),
        ],
    }
}

pub fn transcript_bytes() -> Vec<u8> {
    let key = report_key();
    transcript().seal(&key.public, &|m| key.sign(m)).unwrap()
}

pub fn open_transcript(bytes: &[u8]) -> Result<Verified<Transcript>, Error> {
    Transcript::open(bytes, &report_key().public)
}
