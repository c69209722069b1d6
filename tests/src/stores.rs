//! Key stores: SoftHSM tokens, or folders of encrypted key files, each with a PIN of its own in a file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use p256::elliptic_curve::Generate as _;

use crate::{judge, rounds};

/// What kind of key stores a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// PKCS#11 tokens of SoftHSM.
    Tokens,
    /// Folders of encrypted key files.
    Files,
    /// PKCS#11 tokens of kryoptic, which is another implementation.
    Kryoptic,
}

/// kryoptic's module, as `./test` builds it.
pub fn kryoptic() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let module = workspace.join("target/kryoptic/libkryoptic_pkcs11.so");
    let shown = module.display();
    assert!(
        module.exists(),
        "{shown} is missing: run ./test, which builds it"
    );
    module
}

/// The file that tells kryoptic where a world's tokens are: each is an SQLite database in a slot of its own.
pub fn kryoptic_configuration(folder: &Path) -> PathBuf {
    folder.join("kryoptic.conf")
}

/// Makes a token of kryoptic.
fn kryoptic_token(folder: &Path, label: &str, pin: &str) {
    let tokens = folder.join("tokens");
    fs::create_dir_all(&tokens).unwrap();
    let configuration = kryoptic_configuration(folder);
    let mut settings = fs::read_to_string(&configuration).unwrap_or_default();
    let slot = settings.matches("[[slots]]").count();
    let database = tokens.join(format!("{label}.sql"));
    settings.push_str(&format!(
        "[[slots]]\nslot = {slot}\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
        database.display()
    ));
    fs::write(&configuration, settings).unwrap();
    let tool = |arguments: &[&str]| {
        judge::succeed(
            Command::new("pkcs11-tool")
                .env("KRYOPTIC_CONF", &configuration)
                .arg("--module")
                .arg(kryoptic())
                .args(["--slot", &slot.to_string(), "--so-pin", "0000471100"])
                .args(arguments),
        )
    };
    tool(&["--init-token", "--label", label]);
    tool(&["--login", "--login-type", "so", "--init-pin", "--pin", pin]);
}

/// SoftHSM's module; it is a requirement of these tests, never skipped.
pub fn module() -> &'static Path {
    const CANDIDATES: [&str; 3] = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
    ];
    let found = CANDIDATES.iter().map(Path::new).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("SoftHSM (package softhsm2) is at none of {CANDIDATES:?}"))
}

/// The file that tells SoftHSM where a world's tokens are.
pub fn configuration(folder: &Path) -> PathBuf {
    folder.join("softhsm2.conf")
}

/// The URI of a store, which is made if it is not there yet.
pub fn uri(folder: &Path, stores: Stores, name: &str) -> String {
    let pin = pin_file(folder, name);
    match stores {
        Stores::Files => {
            let keys = folder.join("keys");
            fs::create_dir_all(&keys).unwrap();
            format!(
                "file:{}?pin-source=file:{}",
                keys.join(name).display(),
                pin.display()
            )
        }
        Stores::Tokens | Stores::Kryoptic => {
            let made = folder.join("tokens").join(format!(".made-{name}"));
            if !made.exists() {
                let make = match stores {
                    Stores::Kryoptic => kryoptic_token,
                    _ => token,
                };
                make(folder, name, &fs::read_to_string(&pin).unwrap());
                fs::write(made, "").unwrap();
            }
            let module = match stores {
                Stores::Kryoptic => kryoptic(),
                _ => module().to_owned(),
            };
            format!(
                "pkcs11:token={name}?module-path={}&pin-source=file:{}",
                module.display(),
                pin.display()
            )
        }
    }
}

/// Has the PINs of a world's key files cost one round to try, those of files too that were made just now.
pub fn reduce_rounds(folder: &Path) {
    for store in fs::read_dir(folder.join("keys"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = store.file_name().into_string().unwrap();
        if let Ok(pin) = fs::read_to_string(folder.join("pins").join(format!("{name}.pin"))) {
            rounds::reduce(&store.path(), &pin);
        }
    }
}

/// Makes a token.
pub fn token(folder: &Path, label: &str, pin: &str) {
    let tokens = folder.join("tokens");
    fs::create_dir_all(&tokens).unwrap();
    let settings = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    fs::write(configuration(folder), settings).unwrap();
    judge::succeed(
        Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", configuration(folder))
            .args([
                "--init-token",
                "--free",
                "--label",
                label,
                "--so-pin",
                "0000471100",
                "--pin",
                pin,
            ]),
    );
}

/// What SoftHSM knows of its tokens: `token.object`, which it cuts short and writes again at every login, without a copy.
/// A process that is killed in between takes the token with it; a module that keeps its tokens itself does not.
#[derive(Debug)]
pub struct TokenObjects(BTreeMap<PathBuf, Vec<u8>>);

impl TokenObjects {
    /// The tokens of a folder as they are now, when no process uses them; none where the stores are key files.
    pub fn of(folder: &Path) -> Self {
        let Ok(tokens) = fs::read_dir(folder.join("tokens")) else {
            return Self(BTreeMap::new());
        };
        let objects = tokens
            .map(|token| token.unwrap().path().join("token.object"))
            .filter_map(|object| fs::read(&object).ok().map(|bytes| (object, bytes)));
        Self(objects.collect())
    }

    /// Puts back what was cut short since: all that SoftHSM changes in there are flags, at the same length.
    pub fn put_back_what_was_cut_short(&self) {
        for (object, bytes) in &self.0 {
            if fs::metadata(object).map_or(0, |now| now.len()) < bytes.len() as u64 {
                fs::write(object, bytes).unwrap();
            }
        }
    }
}

/// The file that holds the PIN of a store. A PIN is random, so that it can be looked for.
pub fn pin_file(folder: &Path, name: &str) -> PathBuf {
    let pins = folder.join("pins");
    fs::create_dir_all(&pins).unwrap();
    let file = pins.join(format!("{name}.pin"));
    if !file.exists() {
        let secret = p256::SecretKey::generate().to_bytes();
        fs::write(&file, hex::encode(&secret[..8])).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    file
}

/// OpenSC's tool, logged in to a token of a world's folder.
#[track_caller]
pub fn pkcs11_tool(folder: &Path, token: &str, arguments: &[&str]) -> Output {
    let pin = fs::read_to_string(pin_file(folder, token)).unwrap();
    judge::succeed(
        Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", configuration(folder))
            .arg("--module")
            .arg(module())
            .args(["--token-label", token, "--login", "--pin", &pin])
            .args(arguments),
    )
}
