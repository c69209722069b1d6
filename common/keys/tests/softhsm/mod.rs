//! SoftHSM with tokens of its own for each test.
//!
//! SoftHSM reads SOFTHSM2_CONF from the environment of the process when it starts, and a process cannot change its own
//! environment safely. So each test runs its own body in a process of its own: it starts this very binary again, for
//! that one test, with the environment set.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use mintmark_keys::{KeyUri, Pin};

const FOLDER: &str = "MINTMARK_TEST_FOLDER";

/// The PIN of every token here.
pub(crate) const PIN: &str = "471100";

/// Object identifier of P-256, as CKA_EC_PARAMS has it.
pub(crate) const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Object identifier of P-384 (1.3.132.0.34).
pub(crate) const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// Defines tests that run with a [`SoftHsm`] of their own.
#[macro_export]
macro_rules! with_softhsm {
    ($(fn $name:ident($hsm:ident) $body:block)*) => {
        $(
            #[test]
            fn $name() {
                let name = $crate::softhsm::known_as(module_path!(), stringify!($name));
                $crate::softhsm::isolate(&name, |$hsm: &$crate::softhsm::SoftHsm| $body);
            }
        )*
    };
}

/// The first of `candidates` that exists. SoftHSM and OpenSC are requirements of this suite, never skipped.
fn installed(what: &str, candidates: &[&str]) -> PathBuf {
    candidates
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{what} is not installed at any of {candidates:?}"))
}

pub(crate) fn softhsm_module() -> PathBuf {
    installed(
        "SoftHSM (package softhsm2)",
        &[
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
            "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
        ],
    )
}

/// OpenSC's module that writes every call to a file and passes it on to SoftHSM.
pub(crate) fn spy_module() -> PathBuf {
    installed(
        "pkcs11-spy (package opensc)",
        &[
            "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so",
            "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so",
            "/usr/lib64/pkcs11-spy.so",
            "/usr/lib/pkcs11-spy.so",
        ],
    )
}

/// The module that passes every call through a socket to `p11-kit server`.
pub(crate) fn remote_module() -> PathBuf {
    installed(
        "p11-kit-client (package p11-kit-modules)",
        &[
            "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
            "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
            "/usr/lib64/pkcs11/p11-kit-client.so",
            "/usr/lib/pkcs11/p11-kit-client.so",
        ],
    )
}

/// kryoptic's module, as `./test` builds it.
pub(crate) fn kryoptic_module() -> PathBuf {
    let module = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../target/kryoptic/libkryoptic_pkcs11.so"
    );
    installed("kryoptic (run ./test, which builds it)", &[module])
}

/// Runs `body` in a process of its own, with an empty SoftHSM.
pub(crate) fn isolate(name: &str, body: impl Fn(&SoftHsm)) {
    isolate_with(name, &[], body);
}

/// What the harness calls a test of this name in this module, whose path begins with the binary's.
pub(crate) fn known_as(module: &str, name: &str) -> String {
    match module.split_once("::") {
        Some((_, within)) => format!("{within}::{name}"),
        None => name.to_owned(),
    }
}

/// The same for a test that is ignored, and whose words are to be seen.
pub(crate) fn isolate_ignored(name: &str, body: impl Fn(&SoftHsm)) {
    isolate_with(name, &["--ignored"], body);
}

fn isolate_with(name: &str, arguments: &[&str], body: impl Fn(&SoftHsm)) {
    if let Ok(folder) = std::env::var(FOLDER) {
        let hsm = SoftHsm {
            folder: folder.into(),
        };
        body(&hsm);
        fs::write(hsm.folder.join("finished"), "").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let conf = folder.path().join("softhsm2.conf");
    let settings = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    fs::write(&conf, settings).unwrap();
    fs::write(folder.path().join("pin"), format!("{PIN}\n")).unwrap();
    fs::set_permissions(
        folder.path().join("pin"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .args(arguments)
        .env("SOFTHSM2_CONF", &conf)
        .env("KRYOPTIC_CONF", folder.path().join("kryoptic.conf"))
        .env("PKCS11SPY", softhsm_module())
        .env("PKCS11SPY_OUTPUT", folder.path().join("spy"))
        .env("FAULTY_TARGET", softhsm_module())
        .env("FAULTY_FOLDER", folder.path())
        .env(
            "P11_KIT_SERVER_ADDRESS",
            format!("unix:path={}", folder.path().join("p11-kit").display()),
        )
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{name} failed in its own process ({}):\n{said}",
        output.status
    );
    // A name that no test has would run nothing, successfully.
    assert!(
        folder.path().join("finished").exists(),
        "{name} did not run in its own process:\n{said}"
    );
    if !arguments.is_empty() {
        println!("{said}");
    }
}

/// SoftHSM as this process sees it.
pub(crate) struct SoftHsm {
    pub(crate) folder: PathBuf,
}

impl SoftHsm {
    /// Makes a token and gives its serial number.
    pub(crate) fn token(&self, label: &str) -> String {
        let before = self.serials();
        run(Command::new("softhsm2-util").args([
            "--init-token",
            "--free",
            "--label",
            label,
            "--pin",
            PIN,
            "--so-pin",
            "0000471100",
        ]));
        self.serials()
            .into_iter()
            .find(|serial| !before.contains(serial))
            .expect("the new token has a serial number")
    }

    /// Makes the one token of kryoptic.
    pub(crate) fn kryoptic_token(&self, label: &str) {
        let settings = format!(
            "[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
            self.folder.join("kryoptic.sql").display()
        );
        fs::write(self.folder.join("kryoptic.conf"), settings).unwrap();
        let tool = |arguments: &[&str]| {
            let mut command = Command::new("pkcs11-tool");
            command.arg("--module").arg(kryoptic_module());
            run(command
                .args(["--slot", "0", "--so-pin", "0000471100"])
                .args(arguments));
        };
        tool(&["--init-token", "--label", label]);
        tool(&["--login", "--login-type", "so", "--init-pin", "--pin", PIN]);
    }

    fn serials(&self) -> Vec<String> {
        let listed = run(Command::new("softhsm2-util").arg("--show-slots"));
        let listed = String::from_utf8(listed.stdout).unwrap();
        let serials = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Serial number:"));
        serials
            .map(|serial| serial.trim().to_owned())
            .filter(|serial| !serial.is_empty())
            .collect()
    }

    pub(crate) fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// A file with another PIN.
    pub(crate) fn pin_file_of(&self, pin: &str) -> PathBuf {
        let path = self.folder.join(format!("pin-{pin}"));
        fs::write(&path, pin).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    /// The URI of tokens with `attributes`, reached through `module`.
    pub(crate) fn uri_through(&self, module: &Path, attributes: &str) -> KeyUri {
        self.uri_with_pin(module, attributes, &self.pin_file())
    }

    pub(crate) fn uri_with_pin(&self, module: &Path, attributes: &str, pin_file: &Path) -> KeyUri {
        format!(
            "pkcs11:{attributes}?module-path={}&pin-source=file:{}",
            module.display(),
            pin_file.display()
        )
        .parse()
        .unwrap()
    }

    pub(crate) fn uri(&self, attributes: &str) -> KeyUri {
        self.uri_through(&softhsm_module(), attributes)
    }

    /// How often the spy saw the function called.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let seen = fs::read_to_string(self.folder.join("spy")).unwrap();
        seen.lines()
            .filter(|line| {
                line.split_once(": ")
                    .is_some_and(|(_, name)| name == function)
            })
            .count()
    }

    /// What `pkcs11-tool` prints, logged in to the token.
    pub(crate) fn pkcs11_tool(&self, token: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(softhsm_module()).args([
            "--token-label",
            token,
            "--login",
            "--pin",
            PIN,
        ]);
        String::from_utf8(run(command.args(arguments)).stdout).unwrap()
    }

    /// A session of another user of the module in this same process. It shares the login with the store under test.
    pub(crate) fn session(&self, token: &str) -> Session {
        let module = self.module();
        let slot = module
            .get_slots_with_initialized_token()
            .unwrap()
            .into_iter()
            .find(|slot| module.get_token_info(*slot).unwrap().label() == token)
            .unwrap();
        let session = module.open_rw_session(slot).unwrap();
        // Fails where the process is logged in already, which is as well.
        let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
        session
    }

    /// The module in this process, as another user of it has it.
    pub(crate) fn module(&self) -> Pkcs11 {
        let module = Pkcs11::new(softhsm_module()).unwrap();
        let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        module
    }
}

/// The template of a proper private key to sign with; attributes of `changed` take the place of their likes.
pub(crate) fn private_template(label: &str, changed: &[Attribute]) -> Vec<Attribute> {
    overlay(
        vec![
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Derive(false),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::SignRecover(false),
            Attribute::Label(label.into()),
            Attribute::Id(label.into()),
        ],
        changed,
    )
}

pub(crate) fn public_template(label: &str, changed: &[Attribute]) -> Vec<Attribute> {
    overlay(
        vec![
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(P256.into()),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Label(label.into()),
            Attribute::Id(label.into()),
        ],
        changed,
    )
}

pub(crate) fn overlay(mut template: Vec<Attribute>, changed: &[Attribute]) -> Vec<Attribute> {
    for attribute in changed {
        template.retain(|kept| kept.attribute_type() != attribute.attribute_type());
        template.push(attribute.clone());
    }
    template
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A prompt for where none may be shown.
pub(crate) fn never(question: &str) -> std::io::Result<Pin> {
    panic!("asked: {question}")
}
