//! A world of its own for a test: headquarters, two officers, vaults and a stick, in a temporary folder.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Run, Tool};
use crate::stores::{self, Stores};
use crate::{files, judge, once, request, token_server};

/// The officers of every world; both hold every role, and each role needs both.
pub const OFFICERS: [&str; 2] = ["alice", "bob"];

/// A policy for one product; what a test does not name is as good as without limit.
pub const POLICY: &str = r#"schema = 1
id = "th200"
valid_for_days = 90
[credit]
max_unreported_units = 20000
max_unreported_days = 14
[[product]]
sku = "TH-200"
units = 1000
device_id_pattern = "TH200-[0-9]{8}"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=TH-200, serialNumber={device_id}"
validity_days = 7300
extended_key_usage = ["clientAuth"]
"#;

/// [`POLICY`], by which a device may be reworked, or enrolled again with another key, once.
pub fn rework_policy() -> String {
    POLICY.replace("units = 1000\n", "units = 1000\nreissues_per_device = 1\n")
}

/// One world. In command lines `$D` is its folder, and `@NAME` the key store of that name.
#[derive(Debug)]
pub struct World {
    folder: Folder,
    stores: Stores,
    clock_seconds: Cell<i64>,
}

/// Where a world is.
#[derive(Debug)]
enum Folder {
    /// Removed with its world.
    Temporary(TempDir),
    Kept(PathBuf),
}

impl World {
    /// An empty world.
    pub fn empty(stores: Stores) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("mintmark-")
            .tempdir()
            .unwrap();
        Self::within(Folder::Temporary(folder), stores)
    }

    /// The world in a folder that stays: as it was left there, or an empty one.
    pub fn kept(folder: &Path, stores: Stores) -> Self {
        Self::within(Folder::Kept(folder.to_owned()), stores)
    }

    fn within(folder: Folder, stores: Stores) -> Self {
        let path = match &folder {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        };
        for name in ["media", "officers", "csr", "out"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        Self {
            folder,
            stores,
            clock_seconds: Cell::new(0),
        }
    }

    /// A world with key files, after the key ceremony: two officers, a published and pinned trust manifest.
    pub fn with_headquarters() -> Self {
        Self::with_headquarters_in(Stores::Files)
    }

    fn with_headquarters_in(stores: Stores) -> Self {
        let before = || Self::empty(stores);
        Self::like("headquarters", stores, before, |world| {
            drop(world.ceremony(&OFFICERS, ""))
        })
    }

    /// A world with key files and a vault `berlin/v1` that HQ let in, and nothing to issue yet.
    pub fn with_vault() -> Self {
        Self::with_vault_in(Stores::Files)
    }

    /// The same with key stores of this kind.
    pub fn with_vault_in(stores: Stores) -> Self {
        let before = || Self::with_headquarters_in(stores);
        Self::like("vault", stores, before, |world| world.enrol("berlin"))
    }

    /// A world with key files and a vault `berlin/v1` that may issue 1000 TH-200 by [`POLICY`].
    pub fn ready() -> Self {
        Self::ready_in(Stores::Files)
    }

    /// The same with key stores of this kind.
    pub fn ready_in(stores: Stores) -> Self {
        let before = || Self::with_vault_in(stores);
        Self::like("ready", stores, before, |world| {
            world.grant("berlin", POLICY)
        })
    }

    /// A world with key files and a vault `berlin/v1` that may issue by this policy.
    pub fn with_policy(policy: &str) -> Self {
        Self::with_policy_in(Stores::Files, policy)
    }

    /// The same with key stores of this kind.
    pub fn with_policy_in(stores: Stores, policy: &str) -> Self {
        let world = Self::with_vault_in(stores);
        world.grant("berlin", policy);
        world
    }

    /// A copy of a world that is made once for all tests of a run. Two copies share their keys and their history: what
    /// becomes of them is up to their tests.
    pub fn like(
        name: &str,
        stores: Stores,
        before: impl FnOnce() -> Self,
        make: impl FnOnce(&Self),
    ) -> Self {
        let pattern = once::made(&format!("{name}-{stores:?}"), |folder| {
            let world = before();
            make(&world);
            files::copy(world.folder(), folder);
            fs::write(folder.join("made-in"), world.folder().to_str().unwrap()).unwrap();
        });
        let world = Self::empty(stores);
        files::copy(&pattern, world.folder());
        // The homes name the folders of their keys, and the modules' files those of the tokens.
        let (before, now) = (
            fs::read_to_string(pattern.join("made-in")).unwrap(),
            world.folder(),
        );
        for config in files::below(now).iter().filter(|path| {
            ["config.toml", "softhsm2.conf", "kryoptic.conf"]
                .iter()
                .any(|name| path.ends_with(name))
        }) {
            let text = fs::read_to_string(config).unwrap();
            fs::write(config, text.replace(&before, now.to_str().unwrap())).unwrap();
        }
        world
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// A path on the stick, below `mintmark/`.
    pub fn on_stick(&self, name: &str) -> PathBuf {
        self.path("media/mintmark").join(name)
    }

    /// The URI of a key store, which is made if it is not there yet.
    pub fn keys(&self, name: &str) -> String {
        stores::uri(self.folder(), self.stores, name)
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A library of this C source, to be put in front of the C library's own functions.
    pub fn preload(&self, name: &str, source: &str) -> PathBuf {
        let source = self.write(&format!("{name}.c"), source);
        let library = self.path(&format!("{name}.so"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]);
        judge::succeed(compiler.arg(&library).arg(&source).arg("-ldl"));
        library
    }

    /// From now on every clock is that far ahead, or behind.
    pub fn set_clock(&self, seconds: i64) {
        self.clock_seconds.set(seconds);
    }

    /// `hq`, at headquarters unless the line names another home.
    pub fn hq(&self, line: &str) -> Tool {
        self.tool("hq", line)
    }

    /// `site`, at the vault `berlin/v1` unless the line names another home.
    pub fn site(&self, line: &str) -> Tool {
        self.tool("site", line)
    }

    fn tool(&self, tool: &'static str, line: &str) -> Tool {
        // What made keys may not have been run by [`Tool::run`].
        stores::reduce_rounds(self.folder());
        let folder = self.folder().to_str().unwrap();
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.keys(name),
            None => word.replace("$D", folder),
        };
        let words = line.split_whitespace().map(word).collect();
        Tool::new(tool, words, self.folder().to_owned())
            .env("HQ_HOME", format!("{folder}/hq"))
            .env("SITE_HOME", format!("{folder}/berlin"))
            .env(
                "SOFTHSM2_CONF",
                stores::configuration(self.folder()).to_str().unwrap(),
            )
            .env(
                "KRYOPTIC_CONF",
                stores::kryoptic_configuration(self.folder())
                    .to_str()
                    .unwrap(),
            )
            .env(
                "P11_KIT_SERVER_ADDRESS",
                token_server::address(self.folder()),
            )
            .clock(self.clock_seconds.get())
    }

    /// The key pair that a headquarters' keys are sealed to: `$D/escrow.key`, `$D/escrow.pem`.
    pub fn make_escrow_key(&self) {
        judge::openssl(
            self.folder(),
            "genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out escrow.key",
        );
        judge::openssl(self.folder(), "pkey -in escrow.key -pubout -out escrow.pem");
    }

    /// The founding of backups: a recovery key, whose words are in `$D/words`, and a folder for what is sealed.
    pub fn make_recovery_key(&self) {
        self.hq("backup key --output $D/recovery.pub --words $D/words")
            .without("HQ_HOME")
            .ok();
        fs::create_dir_all(self.path("backups")).unwrap();
    }

    /// The key ceremony: headquarters with a root apart, officers, the first trust manifest, which every officer pins.
    /// Gives the manifest's fingerprint.
    pub fn ceremony(&self, officers: &[&str], draft_options: &str) -> String {
        self.make_escrow_key();
        self.hq("init --name Acme --keys @hq --root-keys @root --escrow-key $D/escrow.pem")
            .ok();
        for name in officers {
            self.add_officer(name, "");
        }
        let fingerprint = self
            .hq(&format!(
                "trust draft --output $D/officers/trust.draft {draft_options}"
            ))
            .ok()
            .text("fingerprint");
        for name in officers {
            self.hq(&format!(
                "approval sign $D/officers/trust.draft --officer {name} --keys @{name} \
                 --fingerprint {fingerprint} --output $D/officers/trust.{name}"
            ))
            .ok();
            self.hq(&format!("approval import $D/officers/trust.{name}"))
                .ok();
        }
        self.hq("trust publish --media $D/media").ok();
        for name in officers {
            self.hq(&format!(
                "--home $D/officers/{name} trust pin --trust $D/media/mintmark/trust-000001.cose \
                 --fingerprint {fingerprint}"
            ))
            .ok();
        }
        fingerprint
    }

    /// Has an officer ask to be listed, and adds them.
    pub fn add_officer(&self, name: &str, options: &str) {
        let request = format!(
            "officer request --name {name} --keys @{name} --output $D/officers/{name}.request"
        );
        let fingerprint = self.hq(&request).ok().text("fingerprint");
        let add = "officer add --request $D/officers";
        self.hq(&format!(
            "{add}/{name}.request --fingerprint {fingerprint} {options}"
        ))
        .ok();
    }

    /// The next trust manifest: drafted with these options, approved by these officers, published, and brought to their
    /// homes. Gives what publishing said.
    #[track_caller]
    pub fn next_trust(&self, options: &str, officers: &[&str]) -> Run {
        let draft = self.draft_trust(options);
        for officer in officers {
            let approval = self.sign(&draft, officer);
            self.hq(&format!("approval import {approval}")).ok();
        }
        let published = self.hq("trust publish --media $D/media").ok();
        for officer in officers {
            self.hq(&format!(
                "--home $D/officers/{officer} media import $D/media"
            ))
            .ok();
        }
        published
    }

    /// Drafts the next trust manifest. Gives the draft's file.
    #[track_caller]
    pub fn draft_trust(&self, options: &str) -> String {
        let number = fs::read_dir(self.path("officers")).unwrap().count();
        let draft = format!("$D/officers/trust-{number}.draft");
        self.hq(&format!("trust draft --output {draft} {options}"))
            .ok();
        draft
    }

    /// Somebody pins a version of the trust manifest in a home of their own.
    #[track_caller]
    pub fn pin_version(&self, name: &str, version: u64) {
        let file = format!("$D/media/mintmark/trust-{version:06}.cose");
        let shown = self.hq(&format!("approval show {file}")).ok();
        let fingerprint = shown.text("fingerprint");
        self.hq(&format!(
            "--home $D/officers/{name} trust pin --trust {file} --fingerprint {fingerprint}"
        ))
        .ok();
    }

    /// The fingerprint of the newest trust manifest.
    pub fn trust_fingerprint(&self) -> String {
        self.hq("trust show").ok().text("fingerprint")
    }

    /// One officer signs a draft in their own home; gives the approval's file.
    #[track_caller]
    pub fn sign(&self, draft: &str, officer: &str) -> String {
        let approval = format!("{draft}.{officer}");
        self.hq(&format!(
            "--home $D/officers/{officer} approval sign {draft} --officer {officer} --keys @{officer} --output {approval}"
        ))
        .ok();
        approval
    }

    /// Both officers approve a draft, and HQ collects.
    #[track_caller]
    pub fn approve(&self, draft: &str) {
        for officer in OFFICERS {
            let approval = self.sign(draft, officer);
            self.hq(&format!("approval import {approval}")).ok();
        }
    }

    /// Makes the home of a vault `SITE/v1` in `$D/SITE`, with keys in a store of the site's name. Gives what it said.
    #[track_caller]
    pub fn site_init(&self, site: &str) -> Run {
        let shown = self.hq("trust show").ok().json();
        self.site_init_with(site, shown["version"].as_u64().unwrap())
    }

    /// As [`World::site_init`]; the vault pins this version of the trust manifest.
    #[track_caller]
    pub fn site_init_with(&self, site: &str, version: u64) -> Run {
        let file = format!("$D/media/mintmark/trust-{version:06}.cose");
        let fingerprint = self
            .hq(&format!("approval show {file}"))
            .ok()
            .text("fingerprint");
        self.site(&format!(
            "--home $D/{site} init --site-id {site} --keys @{site} --trust {file} --fingerprint {fingerprint}"
        ))
        .ok()
    }

    /// Makes and enrols a vault `SITE/v1`, and brings it its grant.
    #[track_caller]
    pub fn enrol(&self, site: &str) {
        self.site_init(site);
        self.let_in(site, &OFFICERS);
    }

    /// Enrols a vault `SITE/v1` that was made before, with these officers' approval, and brings it its grant.
    #[track_caller]
    pub fn let_in(&self, site: &str, officers: &[&str]) {
        self.admit(site, officers);
        self.carry_out(site).exits_done();
    }

    /// The same, and leaves its grant at headquarters.
    #[track_caller]
    pub fn admit(&self, site: &str, officers: &[&str]) {
        let status = self.status(site);
        let fingerprint = status["enrolment_fingerprint"].as_str().unwrap();
        self.site(&format!("--home $D/{site} media export $D/media"))
            .ok();
        let draft = format!("$D/officers/enrol-{site}.draft");
        let id = self
            .hq(&format!(
                "site enrol --request $D/media/mintmark/enrol-{site}_v1.cose --fingerprint {fingerprint} --output {draft}"
            ))
            .ok()
            .text("id");
        for officer in officers {
            let approval = self.sign(&draft, officer);
            self.hq(&format!("approval import {approval}")).ok();
        }
        self.hq(&format!("site grant {id}")).ok();
    }

    /// Drafts an entitlement for a vault. Gives its draft's id; the draft is `$D/officers/SITE-ID.draft`.
    #[track_caller]
    pub fn draft(&self, site: &str, policy: &str) -> String {
        let id = policy
            .lines()
            .find_map(|line| line.strip_prefix("id = "))
            .unwrap()
            .trim_matches('"');
        self.write(&format!("policies/{id}.toml"), policy);
        let draft =
            format!("entitlement draft --site {site} --vault v1 --policy $D/policies/{id}.toml");
        self.hq(&format!("{draft} --output $D/officers/{site}-{id}.draft"))
            .ok()
            .text("id")
    }

    /// Drafts, approves and seals an entitlement for a vault.
    #[track_caller]
    pub fn mint(&self, site: &str, policy: &str) {
        let draft = self.draft(site, policy);
        let id = policy
            .lines()
            .find_map(|line| line.strip_prefix("id = "))
            .unwrap()
            .trim_matches('"');
        self.approve(&format!("$D/officers/{site}-{id}.draft"));
        self.hq(&format!("entitlement export {draft}")).ok();
    }

    /// Mints an entitlement and brings it to its vault.
    #[track_caller]
    pub fn grant(&self, site: &str, policy: &str) {
        self.mint(site, policy);
        self.carry_out(site).exits_done();
    }

    /// HQ writes the stick, and a vault imports it.
    #[track_caller]
    pub fn carry_out(&self, site: &str) -> Run {
        self.hq("media export $D/media").ok();
        self.site(&format!("--home $D/{site} media import $D/media"))
            .run()
    }

    /// A vault writes the stick, and HQ imports it.
    #[track_caller]
    pub fn carry_home(&self, site: &str) -> Run {
        self.site(&format!("--home $D/{site} media export $D/media"))
            .ok();
        self.hq("media import $D/media").run()
    }

    /// A copy of the vault `berlin/v1` that knows nothing of the first: its home in `$D/NAME`, and the key files beside.
    pub fn clone_vault(&self, name: &str) {
        let keys = self.path("keys/berlin");
        files::copy(&self.path("berlin"), &self.path(name));
        files::copy(&keys, &self.path("keys").join(name));
        let config = self.path(name).join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        let (from, to) = (keys, self.path("keys").join(name));
        let text = text.replace(from.to_str().unwrap(), to.to_str().unwrap());
        fs::write(&config, text).unwrap();
    }

    /// Writes requests for the devices of these numbers into `$D/csr/NAME`.
    pub fn requests(&self, name: &str, numbers: impl IntoIterator<Item = u32>) {
        request::write_many(&self.path("csr").join(name), numbers);
    }

    /// `site issue` of a folder or file in `$D/csr`, into `$D/out`.
    pub fn issue(&self, name: &str) -> Tool {
        self.site(&format!(
            "issue --product TH-200 --csr $D/csr/{name} --output $D/out"
        ))
    }

    /// `site status` of a vault.
    #[track_caller]
    pub fn status(&self, site: &str) -> Value {
        self.site(&format!("--home $D/{site} status")).ok().json()
    }

    /// `hq reconcile`, whatever its verdict.
    pub fn reconcile_run(&self) -> Run {
        self.hq("reconcile").run()
    }

    /// What `hq reconcile` reports.
    #[track_caller]
    pub fn reconcile(&self) -> Value {
        self.reconcile_run().json()
    }

    /// The rows of `site audit log`.
    #[track_caller]
    pub fn log(&self, site: &str) -> Vec<Value> {
        self.site(&format!("--home $D/{site} audit log"))
            .ok()
            .lines()
    }
}

impl Run {
    /// It must have succeeded.
    #[track_caller]
    pub fn exits_done(self) -> Self {
        self.exits(0)
    }
}
