//! The built `hq`, with one officer, two vaults and an entitlement for each. Made once; every test has a copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mintmark_keys::KeyUri;
use mintmark_protocol::approval::Proposal;
use mintmark_tests::rounds;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::Value;
use tempfile::TempDir;

use super::software::key;
use super::vault::Vault;

const PIN: &str = "a long passphrase";

const POLICY: &str = r#"
schema = 1
id = "demo-1"
valid_for_days = 90
[credit]
max_unreported_units = 1000
max_unreported_days = 14
[[product]]
sku = "TH-200"
units = 5
reissues_per_device = 1
device_id_source = "commonName"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=TH-200, serialNumber={device_id}"
validity_days = 7300
[[product]]
sku = "GW-1"
units = 10
device_id_source = "commonName"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=GW-1, serialNumber={device_id}"
no_expiry = true
"#;

/// The result of one command.
pub(crate) struct Run {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Its one JSON value.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// The code of the error that it ended with.
    pub(crate) fn error_code(&self) -> String {
        let errors = self.stderr.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["error"]["code"].as_str()?.to_owned())
        });
        errors.fold(String::new(), |_, last| last)
    }
}

/// A headquarters.
pub(crate) struct Hq {
    folder: TempDir,
    /// Where its keys and its officer's are.
    keys: PathBuf,
}

impl Hq {
    /// A headquarters that has enrolled `berlin/v1` and `lyon/v1` and sent each an entitlement for 5 TH-200 and 10 GW-1.
    pub(crate) fn new() -> Self {
        Self::copy_of("one")
    }

    /// Another one, with keys of its own.
    pub(crate) fn another() -> Self {
        Self::copy_of("another")
    }

    fn copy_of(name: &str) -> Self {
        let template = template(name);
        let folder = tempfile::tempdir().unwrap();
        copy(&template.join("made"), folder.path());
        // The key stores stay where they were made, as every copy's configuration names them.
        let keys = template.join("keys");
        Self { folder, keys }
    }

    /// What whoever sits at headquarters drafts, signed with its dispatch key.
    pub(crate) fn draft(&self, proposal: &Proposal) -> Vec<u8> {
        let uri: KeyUri = key_uri(&self.keys, "hq").parse().unwrap();
        let prompt = |_: &str| unreachable!("the PIN is in a file");
        let store = mintmark_keys::open(&uri, &prompt).unwrap();
        let dispatch = store.signer("dispatch").unwrap();
        let sign = |message: &[u8]| Ok(dispatch.sign(message)?);
        let draft = proposal.draft(dispatch.public_key(), &sign).unwrap();
        draft.to_bytes().unwrap()
    }

    /// The key URI of its one officer, `alice`.
    pub(crate) fn officer_keys(&self) -> String {
        key_uri(&self.keys, "alice")
    }

    /// Adds an officer, who stands in the next manifest. Returns the id of their signing key.
    pub(crate) fn add_officer(&self, name: &str) -> String {
        let file = self.path(&format!("{name}.request"));
        let (file, keys) = (file.to_str().unwrap(), self.keys_of(name));
        let request = [
            "officer", "request", "--name", name, "--keys", &keys, "--output", file,
        ];
        let made = self.run(&request);
        assert_eq!(made.exit, 0, "{}", made.stderr);
        rounds::reduce(&self.path(&format!("{name}.keys")), PIN);
        let made = made.json();
        let fingerprint = text(&made, "fingerprint");
        let add = ["officer", "add", "--request", file];
        let added = self.run(&[&add[..], &["--fingerprint", fingerprint]].concat());
        assert_eq!(added.exit, 0, "{}", added.stderr);
        text(&made, "signing_key_id").to_owned()
    }

    /// Has an officer sign a draft with HQ's own home as theirs. Returns the approval.
    pub(crate) fn sign(&self, officer: &str, draft: &Path) -> PathBuf {
        let output = draft.with_extension(officer);
        let keys = self.keys_of(officer);
        let sign = ["approval", "sign", draft.to_str().unwrap()];
        let by = ["--officer", officer, "--keys", &keys];
        let to = ["--output", output.to_str().unwrap()];
        let run = self.run(&[&sign[..], &by, &to].concat());
        assert_eq!(run.exit, 0, "{}", run.stderr);
        output
    }

    /// Drafts the next manifest, has these officers approve it, and publishes it on the stick.
    pub(crate) fn publish_trust(&self, version: u64, officers: &[&str], thresholds: &[&str]) {
        let file = self.path(&format!("trust-{version}.cose"));
        let mut draft = vec!["trust", "draft", "--output", file.to_str().unwrap()];
        let thresholds = thresholds.iter().flat_map(|given| ["--threshold", given]);
        let one = ["--threshold", "trust=1"];
        draft.extend(one.into_iter().chain(thresholds));
        let run = self.run(&draft);
        assert_eq!(run.exit, 0, "{}", run.stderr);
        for officer in officers {
            let approval = self.sign(officer, &file);
            let run = self.run(&["approval", "import", approval.to_str().unwrap()]);
            assert_eq!(run.exit, 0, "{}", run.stderr);
        }
        let stick = self.path("stick");
        let run = self.run(&["trust", "publish", "--media", stick.to_str().unwrap()]);
        assert_eq!(run.exit, 0, "{}", run.stderr);
    }

    /// The fingerprint of a signed file.
    pub(crate) fn fingerprint_of(&self, file: &Path) -> String {
        let bytes = fs::read(file).unwrap();
        let claim = mintmark_protocol::envelope::claim(&bytes, bytes.len()).unwrap();
        claim.fingerprint.to_string()
    }

    /// The key URI of an officer who was added here, or of the first.
    pub(crate) fn keys_of(&self, name: &str) -> String {
        if name == "alice" {
            return self.officer_keys();
        }
        let (store, pin) = (self.path(&format!("{name}.keys")), self.keys.join("pin"));
        format!("file:{}?pin-source=file:{}", store.display(), pin.display())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `hq --json`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        run_in(&self.path("home"), arguments)
    }

    /// Runs `hq` as a person does.
    pub(crate) fn run_plain(&self, arguments: &[&str]) -> Run {
        run_plain(&self.path("home"), arguments)
    }

    /// A vault that was let in, with what it was sent.
    pub(crate) fn vault(&self, site: &str) -> Vault {
        let mut vault = Vault::new(site, &self.path("stick/mintmark"));
        vault.import(&self.path("stick/mintmark"));
        vault
    }

    /// Imports a stick; what became of the files on it.
    pub(crate) fn import(&self, stick: &Path) -> (i32, Vec<Value>) {
        let run = self.run(&["media", "import", stick.to_str().unwrap()]);
        let items = run.json()["items"].as_array().unwrap().clone();
        (run.exit, items)
    }

    /// Imports a stick with one bundle: exit, outcome and code.
    pub(crate) fn import_one(&self, stick: &Path) -> (i32, String, Option<String>) {
        let (exit, items) = self.import(stick);
        assert_eq!(items.len(), 1, "{items:?}");
        let text = |name: &str| items[0][name].as_str().map(str::to_owned);
        (exit, text("outcome").unwrap(), text("code"))
    }

    /// What `hq reconcile` says.
    pub(crate) fn reconcile(&self) -> (i32, Value) {
        let run = self.run(&["reconcile"]);
        (run.exit, run.json())
    }

    /// The findings: code, severity, record.
    pub(crate) fn findings(&self) -> Vec<(String, String, Option<u64>)> {
        let (_, report) = self.reconcile();
        let findings = report["findings"].as_array().unwrap();
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        findings
            .iter()
            .map(|finding| {
                let sequence = finding["log_sequence"].as_u64();
                (text(finding, "code"), text(finding, "severity"), sequence)
            })
            .collect()
    }

    /// Seals what is owed to the vaults and writes it to the stick that the vaults read.
    pub(crate) fn export(&self) {
        let stick = self.path("stick");
        let run = self.run(&["media", "export", stick.to_str().unwrap()]);
        assert_eq!(run.exit, 0, "{}", run.stderr);
    }
}

/// How long a headquarters is copied before another one is made, in seconds: times in it are soon those of another day.
const TEMPLATE_SECONDS: u64 = 3600;

/// The headquarters of this name that all tests copy, each in a process of its own: made by the first of them, by this very
/// `hq`, and not longer than an hour ago.
fn template(name: &str) -> PathBuf {
    let age = |path: &Path| {
        let made = fs::metadata(path).unwrap().modified().unwrap();
        made.elapsed().unwrap_or_default().as_secs()
    };
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("headquarters");
    fs::create_dir_all(&parent).unwrap();
    let lock = fs::File::create(parent.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let built = fs::metadata(env!("CARGO_BIN_EXE_hq")).unwrap();
    let built = built.modified().unwrap();
    let built = built.duration_since(std::time::UNIX_EPOCH).unwrap();
    let prefix = format!("{name}-{}-", built.as_nanos());
    let mut newest = None;
    for entry in fs::read_dir(&parent).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        if !file.starts_with(&format!("{name}-")) {
            continue;
        }
        if file.starts_with(&prefix)
            && path.join("whole").exists()
            && age(&path.join("whole")) < TEMPLATE_SECONDS
        {
            newest = Some(path);
        } else if age(&path) > 4 * TEMPLATE_SECONDS {
            // Whoever copied it is done.
            let _ = fs::remove_dir_all(&path);
        }
    }
    newest.unwrap_or_else(|| {
        let number = std::process::id();
        let path = parent.join(format!("{prefix}{number}"));
        let (made, keys) = (path.join("made"), path.join("keys"));
        for folder in [&path, &made, &keys] {
            fs::create_dir(folder).unwrap();
        }
        ceremony(&made, &keys);
        fs::write(path.join("whole"), "").unwrap();
        path
    })
}

/// Runs `hq --json` with any home.
pub(crate) fn run_in(home: &Path, arguments: &[&str]) -> Run {
    run_plain(home, &[&["--json"], arguments].concat())
}

fn run_plain(home: &Path, arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_hq"))
        .arg("--home")
        .arg(home)
        .args(arguments)
        .env_remove("HQ_HOME")
        .output()
        .unwrap();
    Run {
        exit: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn done(home: &Path, arguments: &[&str]) -> Value {
    let run = run_in(home, arguments);
    assert_eq!(run.exit, 0, "{arguments:?}: {}{}", run.stdout, run.stderr);
    serde_json::from_str(&run.stdout).unwrap_or_default()
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json[name].as_str().unwrap()
}

fn key_uri(keys: &Path, name: &str) -> String {
    let (store, pin) = (keys.join(name), keys.join("pin"));
    format!("file:{}?pin-source=file:{}", store.display(), pin.display())
}

fn ceremony(folder: &Path, keys: &Path) {
    let home = &folder.join("home");
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(keys.join("pin"), PIN).unwrap();
    fs::set_permissions(
        keys.join("pin"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let escrow = key(9).verifying_key().to_public_key_pem(LineEnding::LF);
    fs::write(at("escrow.pem"), escrow.unwrap()).unwrap();
    let (hq, alice) = (key_uri(keys, "hq"), key_uri(keys, "alice"));
    done(
        home,
        &[
            "init",
            "--name",
            "Acme",
            "--keys",
            &hq,
            "--escrow-key",
            &at("escrow.pem"),
        ],
    );
    let request = at("alice.cose");
    let officer = [
        "officer", "request", "--name", "alice", "--keys", &alice, "--output", &request,
    ];
    let officer = done(home, &officer);
    let fingerprint = text(&officer, "fingerprint");
    done(
        home,
        &[
            "officer",
            "add",
            "--request",
            &request,
            "--fingerprint",
            fingerprint,
        ],
    );

    let mut approvals = 0;
    let mut approve = |draft: &Value| {
        approvals += 1;
        let approval = at(&format!("approval-{approvals}.cose"));
        let (file, fingerprint) = (text(draft, "file"), text(draft, "fingerprint"));
        let sign = [
            "approval",
            "sign",
            file,
            "--officer",
            "alice",
            "--keys",
            &alice,
        ];
        let sign = [
            &sign[..],
            &["--output", &approval, "--fingerprint", fingerprint],
        ]
        .concat();
        done(home, &sign);
        done(home, &["approval", "import", &approval]);
    };
    let draft = done(home, &["trust", "draft", "--output", &at("trust.cose")]);
    approve(&draft);
    fs::create_dir(at("stick")).unwrap();
    done(home, &["trust", "publish", "--media", &at("stick")]);
    fs::write(at("policy.toml"), POLICY).unwrap();
    for site in ["berlin", "lyon"] {
        let (bytes, fingerprint) = Vault::request(site, Path::new(&at("stick/mintmark")));
        let request = at(&format!("enrol-{site}.cose"));
        fs::write(&request, bytes).unwrap();
        let fingerprint = fingerprint.to_string();
        let output = at(&format!("grant-{site}.cose"));
        let enrol = [
            "site",
            "enrol",
            "--request",
            &request,
            "--fingerprint",
            &fingerprint,
        ];
        let draft = done(home, &[&enrol[..], &["--output", &output]].concat());
        approve(&draft);
        done(home, &["site", "grant", text(&draft, "id")]);
        let output = at(&format!("entitlement-{site}.cose"));
        let policy = at("policy.toml");
        let draft = ["entitlement", "draft", "--site", site, "--policy", &policy];
        let draft = done(home, &[&draft[..], &["--output", &output]].concat());
        approve(&draft);
        done(home, &["entitlement", "export", text(&draft, "id")]);
    }
    done(home, &["media", "export", &at("stick")]);
    for store in ["hq", "alice"] {
        rounds::reduce(&keys.join(store), PIN);
    }
}

/// Copies a folder, modes included.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
