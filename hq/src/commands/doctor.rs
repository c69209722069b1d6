//! `hq doctor`: everything around headquarters that can be wrong, tried rather than believed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use mintmark_console::time::rfc3339;
use mintmark_console::{Check, Console, Exit, Failure, places};
use mintmark_keys::{KeyStore, KeyUri, Purpose, UnparsedKeyUri, examine};
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;

use crate::clock::now_unix;
use crate::config::{KeyUris, Role};
use crate::home::Home;
use crate::registry::{bundles, trust_manifests};
use crate::{failure, keyring, roots, trust};

/// Check the module, the tokens, the keys and the home.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Check this key store alone: an officer's, or one for which there is no home yet.
    #[arg(long, value_name = "URI")]
    keys: Option<UnparsedKeyUri>,
    /// Try a medium as well: it is written, read back and left as it was.
    #[arg(long, value_name = "DIR")]
    media: Option<PathBuf>,
}

/// What is not at hand where a token is kept elsewhere, as the root's is.
const ABSENT: [&str; 3] = ["TOKEN-MISSING", "MODULE-MISSING", "KEY-FOLDER-MISSING"];

impl Doctor {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let mut checks = vec![places::process()];
        if let Some(medium) = &self.media {
            checks.extend(places::medium(medium));
        }
        match &self.keys {
            Some(uri) => {
                checks.push(places::clock(now_unix(), None));
                let uri: KeyUri = uri.parse().map_err(failure::keys)?;
                store(&uri, "", &mut checks, console);
            }
            None => of_home(&Home::path(home)?, &mut checks, console)?,
        }
        console.checks(&checks)
    }
}

/// The home, and the stores that it names.
fn of_home(path: &Path, checks: &mut Vec<Check>, console: &Console) -> Result<(), Failure> {
    let home = match Home::read(Some(path)) {
        Ok(home) => home,
        Err(failure) if ["HOME-MISSING", "CONFIG-INVALID"].contains(&&*failure.code) => {
            return Err(failure);
        }
        Err(failure) => {
            checks.push(Check::bad("home", &failure));
            checks.push(places::rights(path));
            checks.push(places::space(path));
            return Ok(());
        }
    };
    let shown = path.display();
    let kind = match home.config.role {
        Role::Hq => "headquarters",
        Role::Member => "an officer or auditor",
        Role::Auditor => "an auditor, made of a grant",
    };
    checks.push(Check::good(
        "home",
        format!("{shown}, of {kind}, is this user's alone"),
    ));
    checks.push(places::rights(path));
    checks.push(places::space(path));
    checks.push(places::sync(path));
    if home.config.role != Role::Member {
        registry(&home, checks);
    }
    let manifest = match trust::newest(&home) {
        Ok(manifest) => manifest,
        Err(failure) => {
            checks.push(Check::bad("trust", &failure));
            None
        }
    };
    let manifest = manifest.as_ref().map(|manifest| manifest.content());
    match manifest {
        Some(manifest) => checks.push(in_force(manifest)),
        None => checks.push(Check::good("trust", "no manifest was published yet")),
    }
    checks.push(clock(&home));
    if let Some(auditor) = &home.config.auditor {
        let uri: KeyUri = auditor.keys.parse().map_err(failure::keys)?;
        store(&uri, "", checks, console);
    } else if let Some(uris) = &home.config.keys {
        headquarters(&home, uris, manifest, checks, console)?;
    }
    Ok(())
}

fn in_force(manifest: &TrustManifest) -> Check {
    let until = rfc3339(manifest.expires_at);
    let version = manifest.version;
    match trust::expiry_warning(manifest, now_unix()) {
        None => Check::good(
            "trust",
            format!("manifest {version} is in force until {until}"),
        ),
        Some((code, text)) => {
            let failure = Failure::new(Exit::Environment, code, text)
                .hint("draft, approve and publish the next one");
            let check = Check::bad("trust", &failure);
            match now_unix() < manifest.expires_at {
                true => check.warning(),
                false => check,
            }
        }
    }
}

/// What SQLite says of the registry when it reads all of it.
fn registry(home: &Home, checks: &mut Vec<Check>) {
    let found = home.registry().and_then(|registry| {
        let first = |pragma: &str| {
            let mut statement = registry.sql.prepare(pragma).map_err(failure::sql)?;
            let mut rows = statement.query([]).map_err(failure::sql)?;
            let row = rows.next().map_err(failure::sql)?;
            row.map(|row| row.get::<_, String>(0))
                .transpose()
                .map_err(failure::sql)
        };
        let whole = first("PRAGMA quick_check(1)")?;
        let dangling = first("PRAGMA foreign_key_check")?;
        match (whole.as_deref(), dangling) {
            (Some("ok"), None) => Ok(()),
            (Some("ok"), Some(table)) => Err(failure::home_corrupt(format!(
                "registry.sqlite: a row of {table} names one that is not there"
            ))
            .hint(failure::RECOVER)),
            (said, _) => Err(failure::home_corrupt(format!(
                "registry.sqlite: {}",
                said.unwrap_or("it says nothing")
            ))
            .hint(failure::RECOVER)),
        }
    });
    checks.push(match found {
        Ok(()) => Check::good("registry", "all of it was read, and it agrees with itself"),
        Err(failure) => Check::bad("registry", &failure),
    });
}

/// The clock, held against what was published and received.
fn clock(home: &Home) -> Check {
    let known = home.registry().ok().and_then(|registry| {
        let published = trust_manifests::times(&registry.sql).ok()?;
        let published = published
            .last()
            .map(|(_, time)| (*time, "the newest manifest"));
        let reported = bundles::as_of(&registry.sql, None).ok()?;
        let reported = reported.map(|time| (time, "the newest report of a vault"));
        // A vault's clock is its own: it is no witness against headquarters, unless nothing else is known.
        published.or(reported)
    });
    places::clock(now_unix(), known)
}

/// HQ's stores, each once, and HQ's keys in them.
fn headquarters(
    home: &Home,
    uris: &KeyUris,
    manifest: Option<&TrustManifest>,
    checks: &mut Vec<Check>,
    console: &Console,
) -> Result<(), Failure> {
    let root = roots::all(home)?
        .pop()
        .map(|root| *root.issuer.public_key());
    let named = [
        ("", &uris.main),
        ("root: ", &uris.root),
        ("dispatch: ", &uris.dispatch),
        ("audit: ", &uris.audit),
    ];
    let mut stores: BTreeMap<&str, Option<Arc<dyn KeyStore>>> = BTreeMap::new();
    for (prefix, uri) in named {
        if stores.contains_key(uri.as_str()) {
            continue;
        }
        let parsed: KeyUri = uri.parse().map_err(failure::keys)?;
        let opened = store(&parsed, prefix, checks, console);
        stores.insert(uri, opened);
    }
    let dispatch = manifest.map(|manifest| manifest.dispatch_key);
    let report = manifest.map(|manifest| manifest.report_key);
    for (label, uri, purpose, expected) in [
        (keyring::ROOT, &uris.root, Purpose::Sign, root),
        (keyring::DISPATCH, &uris.dispatch, Purpose::Sign, dispatch),
        (keyring::REPORT, &uris.main, Purpose::Sign, report),
        (keyring::AUDIT, &uris.audit, Purpose::Agree, None),
        (keyring::SERIAL_MASTER, &uris.main, Purpose::Agree, None),
        (keyring::KEYSET_MASTER, &uris.main, Purpose::Agree, None),
    ] {
        if let Some(Some(store)) = stores.get(uri.as_str()) {
            checks.push(key(&**store, label, purpose, expected.as_ref()));
        }
    }
    Ok(())
}

/// One of HQ's keys: there, as it must be, and the one that others know.
fn key(store: &dyn KeyStore, label: &str, purpose: Purpose, expected: Option<&PublicKey>) -> Check {
    let name = format!("own key {label}");
    match (store.find(label, purpose), expected) {
        (Err(error), _) => Check::bad(name, &failure::keys(error)),
        (Ok(None), _) => {
            let failure = Failure::new(Exit::Environment, "KEY-MISSING", "the key is not there");
            Check::bad(name, &failure.hint("put headquarters' own token back"))
        }
        (Ok(Some(_)), None) => Check::good(name, "there, and it fits its public key"),
        (Ok(Some(found)), Some(expected)) if found == *expected => {
            Check::good(name, "there, and the one that the trust manifest names")
        }
        (Ok(Some(_)), Some(_)) => {
            let message = "it is not the one that the trust manifest names";
            let failure = Failure::new(Exit::Integrity, "KEY-NOT-LISTED", message);
            Check::bad(
                name,
                &failure.hint(
                    "put headquarters' own token back, or publish the manifest that names this key",
                ),
            )
        }
    }
}

/// What is found of a store. One that is kept elsewhere is no fault while it is not needed.
fn store(
    uri: &KeyUri,
    prefix: &str,
    checks: &mut Vec<Check>,
    console: &Console,
) -> Option<Arc<dyn KeyStore>> {
    let found = examine(uri, &|question| console.secret(question));
    for finding in found.findings {
        let name = format!("{prefix}{}", finding.check);
        checks.push(match finding.outcome {
            Ok(found) => Check::good(name, found),
            Err(trouble) => {
                let works = trouble.works || (!prefix.is_empty() && ABSENT.contains(&trouble.code));
                let check = Check::bad(name, &failure::of_store(trouble));
                match works {
                    true => check.warning(),
                    false => check,
                }
            }
        });
    }
    found.store
}
