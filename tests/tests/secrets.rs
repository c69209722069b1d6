//! Secrets are where they have to be and nowhere else: not in what is said, in files, in command lines and environments of
//! processes, in what a process leaves when it crashes, nor longer in its memory than it needs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "secrets/content_keys.rs"]
mod content_keys;
#[path = "secrets/recovery.rs"]
mod recovery;
#[path = "secrets/service.rs"]
mod service;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Service, Stores, Tool, World, files, memory, stores};
use p256::SecretKey;
use pkcs8::der::pem::PemLabel as _;
use pkcs8::{DecodePrivateKey as _, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};

/// Every key store of a world.
const NAMES: [&str; 5] = ["hq", "root", "alice", "bob", "berlin"];

const PATIENCE: Duration = Duration::from_secs(60);

fn policy() -> String {
    format!(
        "{POLICY}[[key]]\nlabel = \"service\"\nalgorithm = \"HMAC-SHA-256\"\nuse = \"derive-device-secret\"\nuses_max = 100\n\
         memory_import = true\n"
    )
}

/// A secret and what it is.
type Secrets = BTreeMap<String, Vec<u8>>;

/// The PINs of a world.
fn pins(world: &World) -> Secrets {
    let pin = |name: &&str| fs::read(stores::pin_file(world.folder(), name)).unwrap();
    NAMES
        .iter()
        .map(|name| (format!("the PIN of {name}"), pin(name)))
        .collect()
}

/// What is in the key files of a world: private scalars, and symmetric keys that were delivered.
fn keys(world: &World) -> Secrets {
    let mut found = Secrets::new();
    for name in NAMES {
        let pin = fs::read(stores::pin_file(world.folder(), name)).unwrap();
        for path in files::below(&world.path("keys").join(name)) {
            if path.extension().is_none_or(|end| end != "pem") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let (label, document) = SecretDocument::from_pem(&text).unwrap();
            EncryptedPrivateKeyInfoRef::validate_pem_label(label).unwrap();
            let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).unwrap();
            let plain = info.decrypt(&pin).unwrap();
            let secret = match SecretKey::from_pkcs8_der(plain.as_bytes()) {
                Ok(key) => key.to_bytes().to_vec(),
                Err(_) => PrivateKeyInfoRef::try_from(plain.as_bytes())
                    .unwrap()
                    .private_key
                    .as_bytes()
                    .to_vec(),
            };
            let stem = path.file_stem().unwrap().to_str().unwrap();
            found.insert(format!("the key {stem} of {name}"), secret);
        }
    }
    found
}

/// What numbers a vault's units: the point that headquarters and the vault agree on.
fn serial_secret(keys: &Secrets) -> (String, Vec<u8>) {
    let key = |name: &str| SecretKey::from_slice(&keys[name]).unwrap();
    let ours = key("the key vault-agree of berlin");
    let shared = ours.diffie_hellman(&key("the key serial-master of hq").public_key());
    (
        "the secret of serial numbers".to_owned(),
        shared.raw_secret_bytes().to_vec(),
    )
}

/// The forms in which somebody might write a secret of bytes.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let digits = hex::encode(secret);
    let mut forms = vec![
        secret.to_vec(),
        digits.clone().into_bytes(),
        digits.to_uppercase().into_bytes(),
        base64(secret).into_bytes(),
        format!("{secret:?}").into_bytes(),
    ];
    // As numbers are held in memory.
    forms.push(secret.iter().rev().copied().collect());
    forms
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    // What does not fill three bytes at the end is left out: the text before it gives a secret away by itself.
    for part in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, part[0], part[1], part[2]]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(LETTERS[(bits >> shift & 63) as usize]));
        }
    }
    text
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[track_caller]
fn expect_absent(secrets: &Secrets, place: &str, bytes: &[u8]) {
    let mut beginning: Vec<Vec<(&str, Vec<u8>)>> = vec![Vec::new(); 256];
    for (name, secret) in secrets {
        for form in forms(secret) {
            beginning[usize::from(form[0])].push((name, form));
        }
    }
    for (at, byte) in bytes.iter().enumerate() {
        for (name, form) in &beginning[usize::from(*byte)] {
            assert!(!bytes[at..].starts_with(form), "{name} is in {place}");
        }
    }
}

/// Runs a command, and looks at its command line and environment as long as it runs.
#[track_caller]
fn watched(tool: &Tool, secrets: &Secrets) -> Run {
    let mut command = tool.command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut seen, mut at_work, begun) = (Vec::new(), false, Instant::now());
    while child.try_wait().unwrap().is_none() {
        let now = memory::arguments_and_environment(child.id());
        if now != seen {
            expect_absent(
                secrets,
                "the arguments or the environment of a process",
                &now,
            );
            at_work |= holds(&now, b"--json");
            seen = now;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(1));
    }
    assert!(at_work, "it was not seen at work");
    let run = tool.ended(&child.wait_with_output().unwrap());
    expect_absent(secrets, "what it said", run.to_string().as_bytes());
    run
}

#[test]
fn no_secret_is_said_or_written_anywhere() {
    let world = World::with_policy(&policy());
    world.requests("some", 1..=2);
    let mut secrets = pins(&world);
    secrets.extend(keys(&world));
    secrets.extend([serial_secret(&secrets)]);
    for key in [
        "the key key-service of berlin",
        "the key root of root",
        "the key officer-sign of bob",
    ] {
        assert!(secrets.contains_key(key), "{:?}", secrets.keys());
    }
    // The search finds what is there.
    let pin = fs::read(stores::pin_file(world.folder(), "hq")).unwrap();
    for form in forms(&pin) {
        let text = [b"before ", &*form, b" after"].concat();
        let found = std::panic::catch_unwind(|| expect_absent(&secrets, "a text", &text));
        assert!(found.is_err(), "{form:?}");
    }

    for (tool, exit) in [
        (world.issue("some"), 0),
        (
            world
                .issue("some")
                .env("SITE_LOG", "trace")
                .env("RUST_BACKTRACE", "full"),
            0,
        ),
        (world.site("doctor"), 0),
        (world.hq("doctor"), 0),
        (world.site("status"), 0),
        (world.site("recover"), 0),
        (world.site("media export $D/media"), 0),
        (world.hq("media import $D/media"), 0),
        (world.hq("media export $D/media"), 0),
        (world.site("media import $D/media"), 0),
        (
            world.hq("reconcile --format html --output $D/report.html --sign"),
            0,
        ),
        (world.hq("status export --output $D/status"), 0),
        (world.site("audit log"), 0),
        (world.hq("entitlement show th200"), 0),
    ] {
        let run = watched(&tool, &secrets);
        assert_eq!(run.exit, exit, "{run}");
    }
    // What goes wrong says no more: a PIN of another store, in JSON and in words; a PIN file that all can read.
    let berlin = stores::pin_file(world.folder(), "berlin");
    let right = fs::read(&berlin).unwrap();
    fs::write(&berlin, &secrets["the PIN of alice"]).unwrap();
    for (tool, exit) in [
        (world.issue("some"), 3),
        (world.site("doctor"), 3),
        // Nobody starts it again by itself.
        (world.site("serve --listen 127.0.0.1:0"), 2),
    ] {
        let text = tool.text().run();
        assert_eq!(text.exit, exit, "{text}");
        expect_absent(&secrets, "what it said", text.to_string().as_bytes());
    }
    assert_eq!(watched(&world.issue("some"), &secrets).exit, 3);
    fs::write(&berlin, right).unwrap();

    for (name, bytes) in files::contents(world.folder()) {
        if !name.starts_with("pins/") {
            expect_absent(&secrets, &name, &bytes);
        }
    }
}

#[test]
fn a_token_gives_no_pin_to_files_either() {
    let world = World::ready_in(Stores::Tokens);
    world.requests("one", [1]);
    let secrets = pins(&world);
    for tool in [world.issue("one"), world.site("doctor"), world.hq("doctor")] {
        assert_eq!(watched(&tool, &secrets).exit, 0);
    }
    for (name, bytes) in files::contents(world.folder()) {
        if !name.starts_with("pins/") {
            expect_absent(&secrets, &name, &bytes);
        }
    }
}

/// What must not be in a process's memory is not, and what shows that the search works is. Nothing is shown where this
/// user may look into no process.
#[track_caller]
fn expect_gone(pid: u32, gone: &Secrets, there: &[u8]) {
    let needles: Vec<Vec<u8>> = gone.values().cloned().chain([there.to_vec()]).collect();
    let Some(counts) = memory::counts(pid, &needles) else {
        eprintln!("not tried: this user may not read the memory of a process that is not dumpable");
        return;
    };
    let (control, counts) = counts.split_last().unwrap();
    assert!(*control > 0, "the search finds nothing at all");
    for ((name, _), count) in gone.iter().zip(counts) {
        assert_eq!(*count, 0, "{name} is in the memory of the process");
    }
}

fn only(secrets: &Secrets, name: &str) -> Secrets {
    BTreeMap::from([(name.to_owned(), secrets[name].clone())])
}

fn served(kind: Stores) {
    let world = World::ready_in(kind);
    let service = Service::start(&world, "");
    let path = stores::pin_file(world.folder(), "berlin");
    let secrets = pins(&world);
    expect_absent(
        &secrets,
        "the service's environment",
        &memory::arguments_and_environment(service.pid()),
    );
    // After the start, when every key is open: the file of the PIN is known by name, and the PIN itself is not.
    expect_gone(
        service.pid(),
        &only(&secrets, "the PIN of berlin"),
        path.to_str().unwrap().as_bytes(),
    );
    expect_absent(&secrets, "the service's log", service.log().as_bytes());
    // It leaves nothing when it crashes.
    let limits = fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    service.signal("ABRT");
    let mut service = service;
    assert_eq!(service.wait(), -1);
    let left = files::below(world.folder());
    assert!(
        left.iter().all(|path| !path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("core")),
        "{left:?}"
    );
}

#[test]
fn a_service_forgets_the_pin_of_its_key_files_once_they_are_open() {
    served(Stores::Files);
}

#[test]
fn a_service_forgets_the_pin_of_its_token_once_it_is_logged_in() {
    served(Stores::Tokens);
}

/// A command whose report nobody takes: it stands still when it has done its work, until it is told to go on.
struct Held {
    process: Child,
    reader: std::io::PipeReader,
}

impl Held {
    #[track_caller]
    fn start(tool: &Tool) -> Self {
        let (reader, mut writer) = std::io::pipe().unwrap();
        // As much as a pipe takes.
        writer.write_all(&[b'\n'; 65_536]).unwrap();
        let process = tool
            .command()
            .stdout(writer)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (held, begun) = (Self { process, reader }, Instant::now());
        let state = || {
            let pid = held.process.id();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let rest = stat.rsplit_once(") ").unwrap().1;
            let fields: Vec<&str> = rest.split(' ').collect();
            // Whether it sleeps, and how long it has worked.
            (
                fields[0] == "S",
                fields[11].to_owned(),
                fields[12].to_owned(),
            )
        };
        let mut before = state();
        let mut same = 0;
        while same < 20 {
            thread::sleep(Duration::from_millis(50));
            let now = state();
            same = if now.0 && now == before { same + 1 } else { 0 };
            before = now;
            assert!(begun.elapsed() < PATIENCE, "it does not come to its report");
        }
        held
    }

    #[track_caller]
    fn end(mut self) {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).unwrap();
        assert!(self.process.wait().unwrap().success());
        assert!(holds(&rest, b"\"schema\""));
    }
}

#[test]
fn headquarters_forgets_pins_and_what_it_opened_after_an_import() {
    let world = World::with_policy(&policy());
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    let secrets = pins(&world);
    let held = Held::start(&world.hq("media import $D/media"));
    let pid = held.process.id();
    let path = stores::pin_file(world.folder(), "hq");
    expect_gone(pid, &secrets, path.to_str().unwrap().as_bytes());
    held.end();
}
