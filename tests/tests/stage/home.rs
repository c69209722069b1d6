//! The vault of the fixed world, as the built `site` finds it: its home, put together from the vectors, and its keys.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use mintmark_ledger::entry::{Body, BundleSealed, Entry};
use mintmark_ledger::log::{FileLog, LogStore as _};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_tests::{Run, Tool, files, once};
use serde_json::Value;
use tempfile::TempDir;

use super::keys::key;
use super::story::{self, DAY, END, NEW_YEAR};
use super::vectors;

const PIN: &str = "a-pin-for-tests";

/// The vault, and a stick.
pub struct Receiver {
    folder: TempDir,
    now: u64,
}

/// A file of the vectors.
pub fn vector(name: &str) -> Vec<u8> {
    fs::read(vectors().join(name)).unwrap()
}

/// The vault's log: what its bundles brought, and that the last of them was sealed.
pub fn records() -> Vec<Vec<u8>> {
    let listed: Value = serde_json::from_slice(&vector("log.json")).unwrap();
    let listed = listed.as_array().unwrap().iter();
    let mut records: Vec<Vec<u8>> = listed
        .map(|record| hex::decode(record["bytes"].as_str().unwrap()).unwrap())
        .collect();
    let sealed = vector("audit-bundle-2.cose");
    let sealed = Bundle::open(&sealed, &story::vault(), &key("vault-sign").public).unwrap();
    let entry = Entry {
        time: NEW_YEAR + 8 * DAY,
        clock_behind_seconds: 0,
        body: Body::BundleSealed(BundleSealed {
            sequence: 2,
            fingerprint: sealed.fingerprint(),
            log_size: sealed.content().checkpoint.size,
            requests_unlogged: 0,
        }),
    };
    records.push(entry.to_cbor());
    records
}

/// The fingerprint of a dispatch of the vectors.
pub fn fingerprint(name: &str) -> Fingerprint {
    let said: Value = serde_json::from_slice(&vector(&format!("{name}.json"))).unwrap();
    said["fingerprint"].as_str().unwrap().parse().unwrap()
}

fn private_folder(path: &Path) {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .unwrap();
}

/// Writes a key file as the key store has them, with few rounds: OpenSSL encrypts it.
fn write_key(folder: &Path, label: &str, purpose: &str, name: &str) {
    let options = [
        "pkcs8",
        "-topk8",
        "-v2",
        "aes-256-cbc",
        "-v2prf",
        "hmacWithSHA256",
        "-iter",
        "1000",
    ];
    let mut openssl = Command::new("openssl")
        .args(options)
        .args(["-passout", &format!("pass:{PIN}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pem = key(name).pem();
    openssl
        .stdin
        .take()
        .unwrap()
        .write_all(pem.as_bytes())
        .unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success());
    let pem = String::from_utf8(output.stdout).unwrap();
    let text =
        format!("Mintmark key, P-256, encrypted PKCS#8\nLabel: {label}\nPurpose: {purpose}\n{pem}");
    fs::write(folder.join(format!("{label}.pem")), text).unwrap();
}

/// Makes the home of the vault after the last message of the story.
fn make(folder: &Path) {
    let (home, keys) = (folder.join("home"), folder.join("keys"));
    for folder in ["trust", "received", "outbox"].map(|name| home.join(name)) {
        private_folder(&folder);
    }
    private_folder(&keys);
    for (label, purpose) in [
        ("vault-sign", "sign"),
        ("vault-agree", "agree"),
        ("device-ca", "sign"),
    ] {
        write_key(&keys, label, purpose, label);
    }
    fs::write(folder.join("pin"), PIN).unwrap();
    fs::set_permissions(
        folder.join("pin"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    fs::write(home.join("lock"), "").unwrap();
    fs::write(home.join("enrol.cose"), vector("enrolment-request.cose")).unwrap();
    for version in 1..=2 {
        let bytes = vector(&format!("trust-manifest-{version}.cose"));
        fs::write(home.join(format!("trust/trust-{version:06}.cose")), bytes).unwrap();
    }
    for sequence in 1..=4 {
        let bytes = vector(&format!("dispatch-{sequence}.cose"));
        fs::write(
            home.join(format!("received/dispatch-1-{sequence:06}.cose")),
            bytes,
        )
        .unwrap();
    }
    let lineage = story::lineage();
    for (sequence, segments) in [(1, 2), (2, 1)] {
        let stem = home.join(format!("outbox/berlin_v1_{lineage}-{sequence:06}"));
        let bytes = vector(&format!("audit-bundle-{sequence}.cose"));
        fs::write(stem.with_extension("cose"), bytes).unwrap();
        for number in 1..=segments {
            let bytes = vector(&format!("audit-segment-{sequence}-{number}.cose"));
            fs::write(stem.with_extension(format!("seg{number:04}")), bytes).unwrap();
        }
    }
    let mut log = FileLog::create(&home.join("log")).unwrap();
    let head = log.head();
    log.append(&head, &records()).unwrap();
}

impl Receiver {
    /// The vault, a day after the last message of the story.
    pub fn new() -> Self {
        let pattern = once::made("fixed-vault", make);
        let folder = tempfile::Builder::new()
            .prefix("mintmark-")
            .tempdir()
            .unwrap();
        files::copy(&pattern, folder.path());
        let shown = folder.path().display();
        let config = format!(
            "schema = 1\nsite = \"berlin\"\nvault = \"v1\"\nkeys = \"file:{shown}/keys?pin-source=file:{shown}/pin\"\n"
        );
        fs::write(folder.path().join("home/config.toml"), config).unwrap();
        fs::create_dir(folder.path().join("media")).unwrap();
        Self {
            folder,
            now: END + DAY,
        }
    }

    /// From now on it is this time there.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// A path of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `site`.
    pub fn site(&self, line: &str) -> Tool {
        let folder = self.folder.path().to_str().unwrap();
        let words = line
            .split_whitespace()
            .map(|word| word.replace("$D", folder));
        Tool::new("site", words.collect(), self.folder.path().to_owned())
            .env("SITE_HOME", format!("{folder}/home"))
            .clock(self.clock())
    }

    /// `hq`.
    pub fn hq(&self, line: &str) -> Tool {
        let folder = self.folder.path().to_str().unwrap();
        let words = line
            .split_whitespace()
            .map(|word| word.replace("$D", folder));
        Tool::new("hq", words.collect(), self.folder.path().to_owned()).clock(self.clock())
    }

    /// Makes a folder of keys: label, purpose, and which key of the fixed world it is.
    pub fn make_keys(&self, folder: &str, keys: &[(&str, &str, &str)]) {
        let folder = self.path(folder);
        private_folder(&folder);
        for (label, purpose, name) in keys {
            write_key(&folder, label, purpose, name);
        }
    }

    /// How far the clock there is ahead.
    fn clock(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.now as i64 - real.as_secs() as i64
    }

    /// Puts files on an empty stick, and imports that.
    pub fn import(&self, files: &[(&str, &[u8])]) -> Run {
        let stick = self.path("media/mintmark");
        let _ = fs::remove_dir_all(&stick);
        for (name, bytes) in files {
            let path = stick.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        self.site("media import $D/media").run()
    }

    /// What is in force: what `site status` says.
    pub fn status(&self) -> Value {
        self.site("status").ok().json()
    }

    /// What was received and followed.
    pub fn received(&self) -> Vec<String> {
        files::contents(&self.path("home/received"))
            .into_keys()
            .collect()
    }
}
