//! Headquarters in a run: a home of its own, and the commands of `hq`, run in this process as a person would run them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use clap::Parser as _;
use mintmark_console::{Console, HasGlobal as _};
use p256::elliptic_curve::Generate as _;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::pem::PemLabel as _;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use serde_json::Value;
use tempfile::TempDir;

use super::SITES;
use super::software::{Keys, key, pinned};
use crate::clock::virtual_time;
use crate::commands::{self, Cli};

/// When every run begins, Unix seconds: 2027-01-15T08:00:00Z.
pub(super) const BEGINNING: u64 = 1_800_000_000;

/// The entitlement that every vault has from the beginning.
pub(super) const MAIN: &str = "main-1";

/// How the text of a policy follows from its id and the units of its first product.
pub(super) type Policy = fn(&str, u64) -> String;

/// What is on a stick, by the paths below `mintmark/`.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What a policy says of an entitlement with so many units of the one product, and half as many of the other.
fn policy(id: &str, units: u64) -> String {
    let half = units.div_ceil(2);
    format!(
        r#"
schema = 1
id = "{id}"
valid_from = 2027-01-15T00:00:00Z
valid_until = 2027-07-01T00:00:00Z
anchor_lease_max = 8
[credit]
max_unreported_units = 6
max_unreported_days = 9
[[product]]
sku = "TH-200"
units = {units}
reissues_per_device = 2
device_id_source = "commonName"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=TH-200, serialNumber={{device_id}}"
validity_days = 7300
[[product]]
sku = "GW-1"
units = {half}
reissues_per_device = 1
device_id_source = "commonName"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=GW-1, serialNumber={{device_id}}"
no_expiry = true
"#
    )
}

/// What a command said.
pub(super) struct Said {
    pub(super) exit: u8,
    pub(super) json: Value,
    pub(super) errors: String,
}

/// What became of a file that was imported.
pub(super) struct Item {
    pub(super) file: String,
    pub(super) outcome: String,
    pub(super) code: Option<String>,
}

/// A stream that is kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Runs `hq --json`.
fn run(home: &Path, arguments: &[&str]) -> Said {
    let before = ["hq", "--json", "--home", home.to_str().unwrap()];
    let cli = Cli::try_parse_from(before.iter().chain(arguments)).unwrap();
    let (output, errors) = (Kept::default(), Kept::default());
    let (out, err) = (Box::new(output.clone()), Box::new(errors.clone()));
    let console = Console::into_streams("hq", cli.global(), out, err);
    let exit = commands::run(cli, &console).unwrap_or_else(|failure| {
        console.report(&failure);
        failure.exit
    });
    Said {
        exit: exit.code(),
        json: serde_json::from_str(&output.text()).unwrap_or_default(),
        errors: errors.text(),
    }
}

/// The same, of what has to go well.
fn done(home: &Path, arguments: &[&str]) -> Value {
    let said = run(home, arguments);
    assert_eq!(said.exit, 0, "{arguments:?}: {}{}", said.json, said.errors);
    said.json
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json[name].as_str().unwrap()
}

/// Where a run keeps its files: in memory, if the machine has such a place.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    match tempfile::tempdir_in(memory) {
        Ok(folder) => folder,
        Err(_) => tempfile::tempdir().unwrap(),
    }
}

/// Makes a key file whose PIN costs one round to try, where the keys of real ones cost hundreds of thousands: a home is opened
/// dozens of times in a run.
fn make_key(folder: &Path, label: &str, purpose: &str) {
    let secret = p256::SecretKey::generate();
    let plain = secret.to_pkcs8_der().unwrap();
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(1, &[7; 16], [7; 16]).unwrap();
    let encrypted = parameters.encrypt(PIN, plain.as_bytes()).unwrap();
    let info = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: EncryptionScheme::Pbes2(parameters),
        encrypted_data: OctetStringRef::new(&encrypted).unwrap(),
    };
    let pem = SecretDocument::try_from(info)
        .unwrap()
        .to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
        .unwrap();
    let text = format!("Label: {label}\nPurpose: {purpose}\n{}", *pem);
    fs::write(folder.join(format!("{label}.pem")), text).unwrap();
}

const PIN: &str = "a long passphrase";

/// The headquarters that a run begins with: it has let some vaults in, and has an entitlement for each in its outbox.
pub(super) struct Template {
    folder: TempDir,
    enrolments: BTreeMap<String, Vec<u8>>,
    manifest: Vec<u8>,
    policy: Policy,
}

impl Template {
    /// The one of this process, made by whoever needs it first, and gone with the last of them.
    pub(super) fn shared() -> Arc<Self> {
        static MADE: Mutex<Weak<Template>> = Mutex::new(Weak::new());
        let mut made = MADE.lock().unwrap();
        made.upgrade().unwrap_or_else(|| {
            let template = Arc::new(Self::make(&SITES, policy));
            *made = Arc::downgrade(&template);
            template
        })
    }

    /// One that has let these vaults in, each with twelve units of the policy's first product.
    pub(super) fn make(sites: &[&str], policy: Policy) -> Self {
        virtual_time::set(BEGINNING);
        let folder = folder();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("pin"), format!("{PIN}\n")).unwrap();
        fs::set_permissions(
            at("pin"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        for (store, keys) in [
            (
                "hq",
                &[
                    ("root", "sign"),
                    ("dispatch", "sign"),
                    ("report", "sign"),
                    ("audit", "agree"),
                    ("serial-master", "agree"),
                    ("keyset-master", "agree"),
                ][..],
            ),
            (
                "alice",
                &[("officer-sign", "sign"), ("officer-agree", "agree")],
            ),
            ("auditor", &[("auditor", "agree")]),
        ] {
            crate::home::make_folder(Path::new(&at(store))).unwrap();
            for (label, purpose) in keys {
                make_key(Path::new(&at(store)), label, purpose);
            }
        }
        let escrow = key(9).verifying_key().to_public_key_pem(LineEnding::LF);
        fs::write(at("escrow.pem"), escrow.unwrap()).unwrap();
        let auditor = ["audit", "key", "--output", &at("auditor.pem"), "--keys"];
        let store = format!("file:{}?pin-source=file:{}", at("auditor"), at("pin"));
        done(folder.path(), &[&auditor[..], &[&store]].concat());
        let mut hq = Headquarters {
            home: folder.path().join("home"),
            keys: folder.path().to_owned(),
            folder: folder.path().to_owned(),
            copy: None,
            drafts: 0,
            policy,
        };
        let (keys, escrow) = (hq.store("hq"), at("escrow.pem"));
        let init = ["init", "--name", "Acme", "--keys", &keys];
        done(&hq.home, &[&init[..], &["--escrow-key", &escrow]].concat());
        let (alice, request) = (hq.store("alice"), at("alice.cose"));
        let officer = ["officer", "request", "--name", "alice", "--keys", &alice];
        let officer = done(&hq.home, &[&officer[..], &["--output", &request]].concat());
        let fingerprint = ["--fingerprint", text(&officer, "fingerprint")];
        let add = ["officer", "add", "--request", &request];
        done(&hq.home, &[&add[..], &fingerprint].concat());
        let manifest = hq.publish_trust();
        let mut enrolments = BTreeMap::new();
        for site in sites {
            let (bytes, fingerprint) = Keys::of(site).request(site, &pinned(&manifest));
            let (request, fingerprint) =
                (at(&format!("enrol-{site}.cose")), fingerprint.to_string());
            fs::write(&request, &bytes).unwrap();
            enrolments.insert((*site).to_owned(), bytes);
            let enrol = ["site", "enrol", "--request", &request];
            let draft = hq.approved(&[&enrol[..], &["--fingerprint", &fingerprint]].concat());
            done(&hq.home, &["site", "grant", &draft]);
            hq.grant(site, MAIN, 12);
        }
        drop(hq);
        Self {
            folder,
            enrolments,
            manifest,
            policy,
        }
    }
}

/// A headquarters.
pub(super) struct Headquarters {
    home: PathBuf,
    /// Where the key stores are.
    keys: PathBuf,
    folder: PathBuf,
    /// What it is a copy of, and the folder that it has to itself; none of the one that is copied.
    copy: Option<(Arc<Template>, TempDir)>,
    /// How many were made.
    drafts: u64,
    policy: Policy,
}

impl Headquarters {
    /// A copy of the one that every run begins with.
    pub(super) fn new() -> Self {
        Self::copy_of(Template::shared())
    }

    /// A copy of this one.
    pub(super) fn copy_of(template: Arc<Template>) -> Self {
        let own = folder();
        let home = own.path().join("home");
        copy(&template.folder.path().join("home"), &home);
        Self {
            home,
            keys: template.folder.path().to_owned(),
            folder: own.path().to_owned(),
            policy: template.policy,
            copy: Some((template, own)),
            // Far from those of the one that is copied.
            drafts: 1_000_000,
        }
    }

    fn template(&self) -> &Template {
        &self.copy.as_ref().unwrap().0
    }

    /// What the vault of a site asked to be let in with.
    pub(super) fn enrolment(&self, site: &str) -> &[u8] {
        &self.template().enrolments[site]
    }

    /// The first trust manifest.
    pub(super) fn manifest(&self) -> &[u8] {
        &self.template().manifest
    }

    fn store(&self, name: &str) -> String {
        let (store, pin) = (self.keys.join(name), self.keys.join("pin"));
        format!("file:{}?pin-source=file:{}", store.display(), pin.display())
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Drafts something and has the officer approve it. The draft's id.
    fn approved(&mut self, arguments: &[&str]) -> String {
        self.drafts += 1;
        let (draft, approval) = (
            self.path(&format!("draft-{}", self.drafts)),
            self.path(&format!("approval-{}", self.drafts)),
        );
        let drafted = done(&self.home, &[arguments, &["--output", &draft]].concat());
        let keys = self.store("alice");
        let fingerprint = text(&drafted, "fingerprint");
        let sign = [
            "approval",
            "sign",
            &draft,
            "--officer",
            "alice",
            "--keys",
            &keys,
        ];
        let to = ["--output", &approval, "--fingerprint", fingerprint];
        done(&self.home, &[&sign[..], &to].concat());
        done(&self.home, &["approval", "import", &approval]);
        text(&drafted, "id").to_owned()
    }

    /// The same, and puts it into the outbox.
    fn order(&mut self, arguments: &[&str]) {
        let draft = self.approved(arguments);
        done(&self.home, &["entitlement", "export", &draft]);
    }

    fn policy(&self, id: &str, units: u64) -> String {
        let file = self.path("policy.toml");
        fs::write(&file, (self.policy)(id, units)).unwrap();
        file
    }

    /// Grants a vault an entitlement.
    pub(super) fn grant(&mut self, site: &str, id: &str, units: u64) {
        let policy = self.policy(id, units);
        self.order(&["entitlement", "draft", "--site", site, "--policy", &policy]);
    }

    /// Amends an entitlement.
    pub(super) fn amend(&mut self, site: &str, id: &str, units: u64) {
        let policy = self.policy(id, units);
        self.order(&["entitlement", "amend", "--site", site, "--policy", &policy]);
    }

    /// Extends an entitlement's credit.
    pub(super) fn credit(&mut self, site: &str, id: &str, units: u64) {
        let units = units.to_string();
        self.order(&[
            "entitlement",
            "credit",
            id,
            "--site",
            site,
            "--units",
            &units,
        ]);
    }

    /// Revokes an entitlement.
    pub(super) fn revoke(&mut self, site: &str, id: &str) {
        let why = ["--reason", "no longer needed"];
        self.order(&[&["entitlement", "revoke", id, "--site", site][..], &why].concat());
    }

    /// Publishes the next trust manifest, which changes nothing but its version. Gives it.
    pub(super) fn publish_trust(&mut self) -> Vec<u8> {
        self.approved(&["trust", "draft"]);
        let stick = self.path("trust");
        let _ = fs::remove_dir_all(&stick);
        fs::create_dir(&stick).unwrap();
        done(&self.home, &["trust", "publish", "--media", &stick]);
        let files = read(Path::new(&stick));
        files.into_iter().next_back().unwrap().1
    }

    /// Writes everything that is owed to an empty stick.
    pub(super) fn export(&self) -> Files {
        let stick = self.path("out");
        fs::create_dir(&stick).unwrap();
        done(&self.home, &["media", "export", &stick]);
        let files = read(Path::new(&stick));
        fs::remove_dir_all(&stick).unwrap();
        files
    }

    /// Takes in a stick.
    pub(super) fn import(&self, files: &Files) -> (u8, Vec<Item>) {
        let stick = self.folder.join("in");
        fs::create_dir_all(stick.join("mintmark")).unwrap();
        for (path, bytes) in files {
            let path = stick.join("mintmark").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let said = run(&self.home, &["media", "import", stick.to_str().unwrap()]);
        fs::remove_dir_all(&stick).unwrap();
        let items = said.json["items"].as_array();
        let items = items.unwrap_or_else(|| panic!("{}: {}", said.exit, said.errors));
        let items = items.iter().map(|item| Item {
            file: text(item, "file").to_owned(),
            outcome: text(item, "outcome").to_owned(),
            code: item["code"].as_str().map(str::to_owned),
        });
        (said.exit, items.collect())
    }

    /// What an auditor says who was granted everything, and what `hq reconcile` says in their home.
    pub(super) fn audited(&self) -> (Said, Said) {
        let (key, file) = (self.keys.join("auditor.pem"), self.path("grant"));
        let home = self.folder.join("audited");
        let grant = ["audit", "grant", "--output", &file, "--auditor"];
        done(&self.home, &[&grant[..], &[key.to_str().unwrap()]].concat());
        let trust = done(&self.home, &["trust", "show"]);
        let (known, keys) = (text(&trust, "fingerprint"), self.store("auditor"));
        let verify = ["audit", "verify", &file, "--fingerprint", known];
        let verified = run(&home, &[&verify[..], &["--keys", &keys]].concat());
        let reconciled = run(&home, &["reconcile"]);
        (verified, reconciled)
    }

    /// What `hq reconcile` says.
    pub(super) fn reconcile(&self) -> Said {
        run(&self.home, &["reconcile"])
    }
}

/// Everything of a stick.
fn read(stick: &Path) -> Files {
    let mut files = Files::new();
    let top = stick.join("mintmark");
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&top).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Copies a folder, modes included.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, from.metadata().unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
