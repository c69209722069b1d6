//! A vault: the built `site` binary, a home, a file key store and a stick.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::media::MediaName;
use mintmark_tests::rounds;
use serde_json::Value;
use tempfile::TempDir;

use super::hq::{Hq, Key, put};

/// The token that the tests use.
pub(crate) const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The PIN of key files.
const PIN: &str = "correct horse";

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The errors' codes on standard error.
    pub(crate) fn errors(&self) -> Vec<String> {
        let lines = self
            .err
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let codes = lines.filter_map(|line| line["error"]["code"].as_str().map(str::to_owned));
        codes.collect()
    }

    /// What came of each file: (outcome, code).
    pub(crate) fn outcomes(&self) -> Vec<(String, Option<String>)> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let items = self.json()["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|item| (text(&item["outcome"]).unwrap(), text(&item["code"])))
            .collect()
    }
}

pub(crate) struct Vault {
    folder: TempDir,
    pub(crate) name: VaultName,
    keys: String,
    environment: Vec<(String, PathBuf)>,
}

impl Vault {
    /// Nothing is made yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pin"), PIN).unwrap();
        std::fs::set_permissions(
            folder.path().join("pin"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        std::fs::create_dir(folder.path().join("stick")).unwrap();
        let keys = format!(
            "file:{0}/keys?pin-source=file:{0}/pin",
            folder.path().display()
        );
        let name = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        };
        Self {
            folder,
            name,
            keys,
            environment: Vec::new(),
        }
    }

    /// With a SoftHSM token of its own in place of key files.
    pub(crate) fn with_softhsm() -> Self {
        let mut vault = Self::new();
        std::fs::create_dir(vault.path("tokens")).unwrap();
        std::fs::write(vault.path("pin"), "1234").unwrap();
        std::fs::set_permissions(
            vault.path("pin"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        vault.configure_softhsm();
        let made = Command::new("softhsm2-util")
            .args([
                "--init-token",
                "--free",
                "--label",
                "vault",
                "--so-pin",
                "4321",
                "--pin",
                "1234",
            ])
            .envs(vault.environment.iter().cloned())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        vault.keys = format!(
            "pkcs11:token=vault?module-path={SOFTHSM}&pin-source=file:{}/pin",
            vault.folder.path().display()
        );
        vault
    }

    /// The same vault in another place, with a copy of its token or its key files.
    pub(crate) fn fork(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "home",
            "stick",
            "csr",
            "trust.cose",
            "tokens",
            "keys",
            "pin",
        ] {
            if self.path(name).exists() {
                super::copy(&self.path(name), folder.path());
            }
        }
        let moved = |text: &str| {
            let (from, to) = (self.folder.path(), folder.path());
            text.replace(from.to_str().unwrap(), to.to_str().unwrap())
        };
        let (keys, name) = (moved(&self.keys), self.name.clone());
        let config = folder.path().join("home/config.toml");
        if config.exists() {
            std::fs::write(&config, moved(&read(&config))).unwrap();
        }
        let mut vault = Self {
            folder,
            name,
            keys,
            environment: Vec::new(),
        };
        if vault.path("tokens").exists() {
            vault.configure_softhsm();
        }
        vault
    }

    /// Has SoftHSM look for this vault's tokens.
    fn configure_softhsm(&mut self) {
        let (tokens, conf) = (self.path("tokens"), self.path("softhsm2.conf"));
        let settings = format!("directories.tokendir = {}\n", tokens.display());
        std::fs::write(&conf, settings).unwrap();
        self.environment.push(("SOFTHSM2_CONF".to_owned(), conf));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub(crate) fn stick(&self) -> PathBuf {
        self.path("stick")
    }

    /// Has the PIN of its key files cost one round to try, those of files too that were made just now.
    pub(crate) fn reduce_rounds(&self) {
        rounds::reduce(&self.keys(), PIN);
    }

    /// The binary, with the home in place and JSON asked for.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.reduce_rounds();
        let mut command = Command::new(env!("CARGO_BIN_EXE_site"));
        command
            .args(arguments)
            .arg("--json")
            .env("SITE_HOME", self.home())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }

    /// `site init`, trusting this headquarters.
    pub(crate) fn init(&self, hq: &Hq) -> Run {
        let (_, trust, fingerprint) = &hq.manifests[0];
        std::fs::write(self.path("trust.cose"), trust).unwrap();
        self.init_with(&fingerprint.to_string())
    }

    pub(crate) fn init_with(&self, fingerprint: &str) -> Run {
        let arguments = self.init_arguments(fingerprint);
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn init_arguments(&self, fingerprint: &str) -> Vec<String> {
        let trust = self.path("trust.cose");
        let trust = trust.to_str().unwrap();
        let keys = &self.keys;
        [
            "init",
            "--site-id",
            "berlin",
            "--keys",
            keys,
            "--trust",
            trust,
            "--fingerprint",
            fingerprint,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    pub(crate) fn import(&self) -> Run {
        self.run(&["media", "import", self.stick().to_str().unwrap()])
    }

    pub(crate) fn export(&self) -> Run {
        self.run(&["media", "export", self.stick().to_str().unwrap()])
    }

    pub(crate) fn status(&self) -> Value {
        self.run(&["status"]).expect(0).json()
    }

    /// The arguments that issue for the requests in `csr`.
    pub(crate) fn issue_arguments(&self) -> Vec<String> {
        let (csr, output) = (self.path("csr"), self.path("out"));
        [
            "issue",
            "--product",
            "TH-200",
            "--csr",
            csr.to_str().unwrap(),
            "--output",
            output.to_str().unwrap(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    pub(crate) fn issue(&self) -> Run {
        let arguments = self.issue_arguments();
        self.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Enrolled, with an entitlement of so many units.
    pub(crate) fn enrol(&self, hq: &mut Hq, units: u64) {
        self.enrol_with(hq, units, |_, _| {});
    }

    /// As [`Vault::enrol`]; `shape` has its say on the entitlement.
    pub(crate) fn enrol_with(
        &self,
        hq: &mut Hq,
        units: u64,
        shape: impl FnOnce(&Hq, &mut Entitlement),
    ) {
        let init = self.init(hq).expect(0).json();
        self.export().expect(0);
        hq.carry_trust(&self.stick());
        let fingerprint = init["enrolment_fingerprint"].as_str().unwrap();
        let (name, grant) = hq.grant(&self.stick(), &self.name, fingerprint);
        put(&self.stick(), &name, &grant);
        let mut terms = hq.terms("th200", 1, units);
        shape(hq, &mut terms);
        self.bring(hq.mint(&terms, 2)).expect(0);
    }

    /// Puts a file on the stick and imports it.
    pub(crate) fn bring(&self, (name, bytes): (MediaName, Vec<u8>)) -> Run {
        put(&self.stick(), &name, &bytes);
        self.import()
    }

    /// The key store, as the command line names it.
    pub(crate) fn uri(&self) -> &str {
        &self.keys
    }

    /// Runs pkcs11-tool on the vault's token.
    pub(crate) fn pkcs11(&self, arguments: &[&str]) -> String {
        let mut tool = Command::new("pkcs11-tool");
        tool.args(["--module", SOFTHSM, "--token-label", "vault"])
            .args(["--login", "--pin", "1234"])
            .args(arguments)
            .envs(self.environment.iter().cloned());
        let output = tool.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The folder of the key files, where there is no token.
    pub(crate) fn keys(&self) -> PathBuf {
        self.path("keys")
    }

    /// Runs a command with a clock that is wrong by so many seconds.
    pub(crate) fn run_at(&self, seconds: i64, arguments: &[&str]) -> Run {
        let library = self.path("clock.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/clock/clock.c"
            ))
            .arg("-ldl")
            .status();
        assert!(compiled.unwrap().success());
        let mut command = self.command(arguments);
        command
            .env("LD_PRELOAD", library)
            .env("MINTMARK_CLOCK_SECONDS", seconds.to_string());
        Run::of(command.output().unwrap())
    }

    /// Writes a request of device `id` with key `number` into `csr/`.
    pub(crate) fn request(&self, file: &str, id: &str, number: u8) {
        let key = Key::new(number);
        let sign = |message: &[u8]| Ok::<_, mintmark_pki::Error>(key.sign(message).unwrap());
        let der = mintmark_pki::certification_request(id, &key.public(), sign).unwrap();
        std::fs::create_dir_all(self.path("csr")).unwrap();
        std::fs::write(
            self.path("csr").join(file),
            mintmark_pki::to_pem("CERTIFICATE REQUEST", &der),
        )
        .unwrap();
    }

    /// Every certificate in `out/`: name and content.
    pub(crate) fn certificates(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = std::fs::read_dir(self.path("out"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    read(&entry.path()),
                )
            })
            .filter(|(name, _)| name.ends_with(".pem") && !name.ends_with(".chain.pem"))
            .collect();
        found.sort();
        found
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
