//! `hq trust draft` and `hq trust epoch`: what the next manifest is to say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_keys::{KeyStore, KeyUri, Purpose, Signer, UnparsedKeyUri};
use mintmark_pki::Issuer;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::trust::{HqEncryptionKey, Role, TrustManifest, VERSION_MAX};
use p256::PublicKey;

use crate::approvals::{self, APPROVE_DAYS, words};
use crate::clock::{DAY_SECONDS, now_unix};
use crate::commands::init::escrow_key;
use crate::commands::say_draft;
use crate::config::{Config, KeyChange, Replacement, absolute};
use crate::drafting::{self, Subject};
use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::registry::drafts::{Draft, State};
use crate::registry::{self, Registry, dispatches, officers};
use crate::{failure, restored, roots, trust};

/// How long a manifest is in force, in days, if nothing else is said.
const VALID_DAYS: u64 = 730;

/// What `hq trust draft` is told.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct Arguments {
    /// How many officers a role needs: mint, enrol, revoke or trust. By default as many as before, but two, where two
    /// hold it.
    #[arg(long = "threshold", value_name = "ROLE=M", value_parser = threshold)]
    thresholds: Vec<(Role, u64)>,
    /// How long it is in force, in days.
    #[arg(long, value_name = "D", default_value_t = VALID_DAYS, value_parser = clap::value_parser!(u64).range(1..=3650))]
    valid_days: u64,
    /// Where another dispatch key is, or will be made. What no vault was seen to have goes out again under it.
    #[arg(long, value_name = "URI")]
    dispatch_keys: Option<UnparsedKeyUri>,
    /// Where another audit key is, or will be made. The one before goes on reading what was encrypted to it.
    #[arg(long, value_name = "URI")]
    audit_keys: Option<UnparsedKeyUri>,
    /// Another escrow key: the public half of a P-256 key whose private half is kept apart.
    #[arg(long, value_name = "PEM")]
    escrow_key: Option<PathBuf>,
    /// Where another root key is, or will be made. What the one before certified stays as it is.
    #[arg(long, value_name = "URI")]
    root_keys: Option<UnparsedKeyUri>,
    #[command(flatten)]
    outcome: Outcome,
}

/// What `hq trust epoch` is told.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct EpochArguments {
    /// How long it is in force, in days; by default as long as the one before.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u64).range(1..=3650))]
    valid_days: Option<u64>,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    outcome: Outcome,
}

#[derive(Debug, clap::Args)]
struct Outcome {
    /// A file to write the draft to; it goes out with the next `hq media export` in any case.
    #[arg(long, value_name = "F")]
    output: Option<PathBuf>,
    /// Say what would be drafted and change nothing.
    #[arg(long)]
    dry_run: bool,
}

fn threshold(text: &str) -> Result<(Role, u64), String> {
    let (role, count) = text.split_once('=').ok_or("write ROLE=M, such as mint=2")?;
    let count: u64 = count
        .parse()
        .map_err(|_| format!("`{count}` is not a number"))?;
    Ok((role.parse()?, count))
}

/// Drafts the next manifest from the officers that were added, with the keys that stay and those that are given.
pub(in crate::commands) fn run(
    arguments: &Arguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let before = trust::newest(&home)?;
    let listed: Vec<_> = officers::all(&registry.sql)?
        .into_iter()
        .filter(|added| added.removed_at.is_none())
        .map(|added| added.officer)
        .collect();
    if listed.is_empty() {
        return Err(failure::usage(
            "OFFICERS-NONE",
            "no officer has been added yet",
            "have each officer run `hq officer request`, then run `hq officer add`",
        ));
    }
    let mut manifest = match &before {
        Some(before) => after(before)?,
        None => first(&home, &registry, console)?,
    };
    manifest.expires_at = manifest
        .issued_at
        .saturating_add(arguments.valid_days * DAY_SECONDS);
    manifest.officers = listed;
    set_thresholds(
        &mut manifest,
        before.as_ref(),
        &arguments.thresholds,
        console,
    );
    let dry_run = arguments.outcome.dry_run;
    let (change, dispatch) = match replace_keys(&mut manifest, arguments, &home, console)? {
        Some(replaced) => replaced,
        None => {
            let json = serde_json::json!({
                "schema": "mintmark/trust/1",
                "id": manifest.id(),
                "type": Kind::TrustManifest.as_str(),
                "file": null,
                "fingerprint": null,
                "dry_run": true,
            });
            let line = "nothing was made or written (--dry-run); with its keys made, the draft can be shown";
            return super::super::say(console, &json, [line.to_owned()]);
        }
    };
    if before
        .as_ref()
        .is_some_and(|before| before.content().dispatch_key != manifest.dispatch_key)
    {
        manifest.dispatch_epoch = next_epoch(&home, &registry, &manifest)?;
    }
    if dry_run && !change.is_empty() {
        console.note("the keys that were given count once this manifest is published");
    }
    finish(
        manifest,
        (change, dispatch),
        &home,
        registry,
        before.as_ref(),
        &arguments.outcome,
        console,
    )
}

/// Drafts a manifest that changes nothing but the epoch: every vault is to be sent anew what it was not seen to have.
pub(in crate::commands) fn epoch(
    arguments: &EpochArguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let before = trust::newest(&home)?.ok_or_else(super::unpublished)?;
    let mut manifest = after(&before)?;
    let days = match arguments.valid_days {
        None if manifest.expires_at <= manifest.issued_at => Some(VALID_DAYS),
        given => given,
    };
    if let Some(days) = days {
        manifest.expires_at = manifest.issued_at.saturating_add(days * DAY_SECONDS);
    }
    manifest.dispatch_epoch = next_epoch(&home, &registry, &manifest)?;
    if !arguments.outcome.dry_run {
        let what = format!(
            "draft dispatch epoch {}, in which every vault is sent anew what it was not seen to have",
            manifest.dispatch_epoch
        );
        let given = arguments.confirmation.identifier.as_deref();
        console.confirm_if_attended(&what, &manifest.id(), given)?;
    }
    finish(
        manifest,
        (KeyChange::default(), None),
        &home,
        registry,
        Some(&before),
        &arguments.outcome,
        console,
    )
}

/// The next version, otherwise as the one before.
fn after(before: &Verified<TrustManifest>) -> Result<TrustManifest, Failure> {
    let content = before.content();
    if content.version >= VERSION_MAX {
        return Err(failure::home_corrupt(
            "there is no next version of the trust manifest",
        ));
    }
    Ok(TrustManifest {
        version: content.version + 1,
        issued_at: now_unix(),
        previous: Some(before.fingerprint()),
        ..content.clone()
    })
}

/// The first version, with the keys of the key ceremony.
fn first(home: &Home, registry: &Registry, console: &Console) -> Result<TrustManifest, Failure> {
    let ring = Keyring::new(&home.config, console)?;
    let key = |label: &str, purpose| {
        let found = ring
            .store(label)?
            .find(label, purpose)
            .map_err(failure::keys)?;
        found.ok_or_else(|| failure::home_corrupt(format!("the key `{label}` is missing")))
    };
    let escrow = registry.bytes("escrow_key")?;
    let now = now_unix();
    Ok(TrustManifest {
        version: 1,
        hq_name: home.config.name.clone(),
        issued_at: now,
        expires_at: now,
        previous: None,
        root_certificate: registry.bytes("root_certificate")?,
        officers: Vec::new(),
        thresholds: [0; 4],
        dispatch_key: key(keyring::DISPATCH, Purpose::Sign)?,
        report_key: key(keyring::REPORT, Purpose::Sign)?,
        encryption_keys: vec![
            HqEncryptionKey {
                name: registry::parsed("name", "audit")?,
                key: key(keyring::AUDIT, Purpose::Agree)?,
                escrowed: false,
            },
            HqEncryptionKey {
                name: registry::parsed("name", "escrow")?,
                key: registry::key("escrow_key", &escrow)?,
                escrowed: true,
            },
        ],
        dispatch_epoch: 1,
    })
}

/// One above every epoch in use, and every one that was drafted before headquarters was put back.
fn next_epoch(home: &Home, registry: &Registry, manifest: &TrustManifest) -> Result<u64, Failure> {
    let used = dispatches::epoch_max(&registry.sql)?.unwrap_or_default();
    let used = used.max(restored::epoch(home.folder())?);
    Ok(used.max(manifest.dispatch_epoch).saturating_add(1))
}

/// What is given counts. Otherwise a threshold stays, and is two at least where two hold the role: nobody should lower
/// one without saying so.
fn set_thresholds(
    manifest: &mut TrustManifest,
    before: Option<&Verified<TrustManifest>>,
    given: &[(Role, u64)],
    console: &Console,
) {
    for role in Role::ALL {
        let holders = manifest.holders(role).count() as u64;
        let was = before.map_or(0, |before| before.content().threshold(role));
        let given = given.iter().rfind(|(of, _)| *of == role);
        let count = match given {
            Some((_, count)) => *count,
            None if was > holders => {
                console.warn(format!(
                    "role `{role}` needed {was} officers and {holders} hold it now: the draft asks for {}",
                    holders.min(2)
                ));
                holders.min(2)
            }
            None => was.max(holders.min(2)),
        };
        manifest.thresholds[role as usize] = count;
        if count == 1 {
            console.warn(format!(
                "role `{role}` needs one officer only: nobody looks over their shoulder"
            ));
        }
    }
}

/// Where the keys are that take the place of others, and the signer of another dispatch key, if there is one.
type Replaced = (KeyChange, Option<Arc<dyn Signer>>);

/// Puts the keys that were given in the place of those before, and tells the signer of another dispatch key. None if, on a dry run, one would have to be made first.
fn replace_keys(
    manifest: &mut TrustManifest,
    arguments: &Arguments,
    home: &Home,
    console: &Console,
) -> Result<Option<Replaced>, Failure> {
    let dry_run = arguments.outcome.dry_run;
    let mut change = KeyChange::default();
    let mut dispatch = None;
    let mut missing = false;
    let mut key = |given: &Option<UnparsedKeyUri>, label: &str, purpose, old: &PublicKey| {
        let Some(given) = given else {
            return Ok(None);
        };
        let given = Given::open(given, home, label, dry_run, console)?;
        let Some(key) = given.key(label, purpose, dry_run, console)? else {
            missing = true;
            return Ok(None);
        };
        if key == *old {
            console.note(format!(
                "the key `{label}` there is the one in use: it stays"
            ));
            return Ok(None);
        }
        let replacement = Replacement::new(given.uri.to_string(), old);
        Ok::<_, Failure>(Some((key, replacement, given.store)))
    };
    if let Some((new, replacement, store)) = key(
        &arguments.dispatch_keys,
        keyring::DISPATCH,
        Purpose::Sign,
        &manifest.dispatch_key.clone(),
    )? {
        manifest.dispatch_key = new;
        change.dispatch = Some(replacement);
        let signer = store.map(|store| store.signer(keyring::DISPATCH));
        dispatch = signer.transpose().map_err(failure::keys)?;
    }
    let in_use = manifest
        .encryption_keys
        .iter_mut()
        .find(|key| !key.escrowed);
    if let Some(in_use) = in_use
        && let Some((new, replacement, _)) = key(
            &arguments.audit_keys,
            keyring::AUDIT,
            Purpose::Agree,
            &in_use.key.clone(),
        )?
    {
        in_use.key = new;
        change.audit = Some(replacement);
    }
    let root = Issuer::from_certificate_der(&manifest.root_certificate).map_err(failure::pki)?;
    if let Some((_, replacement, store)) = key(
        &arguments.root_keys,
        keyring::ROOT,
        Purpose::Sign,
        root.public_key(),
    )? {
        let signer =
            store.ok_or_else(|| failure::home_corrupt("the new root's store is not open"))?;
        let signer = signer.signer(keyring::ROOT).map_err(failure::keys)?;
        manifest.root_certificate =
            roots::certify(&roots::all(home)?, &manifest.hq_name, &*signer)?;
        change.root = Some(replacement);
    }
    if let Some(pem) = &arguments.escrow_key {
        let key = escrow_key(pem)?;
        for escrowed in manifest
            .encryption_keys
            .iter_mut()
            .filter(|key| key.escrowed)
        {
            escrowed.key = key;
        }
    }
    Ok((!missing).then_some((change, dispatch)))
}

/// A store that the command line names.
struct Given {
    uri: KeyUri,
    /// None if it is a folder that is not there yet, on a dry run.
    store: Option<Arc<dyn KeyStore>>,
}

impl Given {
    fn open(
        given: &UnparsedKeyUri,
        home: &Home,
        label: &str,
        dry_run: bool,
        console: &Console,
    ) -> Result<Self, Failure> {
        let uri = absolute(&given.parse().map_err(failure::keys)?)?;
        let main = home.config.keys.as_ref().map(|keys| keys.main.as_str());
        if main == Some(uri.to_string().as_str()) {
            console.warn(format!(
                "the key `{label}` shares a store with HQ's other keys"
            ));
        }
        let store = if !dry_run {
            Some(keyring::create(&uri, console)?)
        } else {
            match keyring::open(&uri, console) {
                Ok(store) => Some(store),
                Err(failure) if failure.code.as_ref() == "KEY-FOLDER-MISSING" => None,
                Err(failure) => return Err(failure),
            }
        };
        Ok(Self { uri, store })
    }

    fn key(
        &self,
        label: &str,
        purpose: Purpose,
        dry_run: bool,
        console: &Console,
    ) -> Result<Option<PublicKey>, Failure> {
        let key = match &self.store {
            Some(store) if !dry_run => Some(keyring::find_or_generate(
                &**store, label, purpose, console,
            )?),
            Some(store) => store.find(label, purpose).map_err(failure::keys)?,
            None => None,
        };
        if key.is_none() {
            console.note(format!("would make the key `{label}` in {}", self.uri));
        }
        Ok(key)
    }
}

/// Keeps a draft, with the places of its keys, and says what it says.
fn finish(
    manifest: TrustManifest,
    (mut change, dispatch): Replaced,
    home: &Home,
    mut registry: Registry,
    before: Option<&Verified<TrustManifest>>,
    outcome: &Outcome,
    console: &Console,
) -> Result<Exit, Failure> {
    let proposal = manifest.propose().map_err(|error| {
        // It is no message yet whose form could be wrong; its content is.
        let why = match error {
            mintmark_protocol::Error::Shape { why, .. } => why,
            other => other.to_string(),
        };
        failure::usage(
            "TRUST-UNWORKABLE",
            format!("such a trust manifest would not work: {why}"),
            "give thresholds that the officers can meet, each role to somebody, and each purpose a key of its own",
        )
    })?;
    let draft = Draft {
        id: manifest.id(),
        fingerprint: proposal.fingerprint(),
        kind: Kind::TrustManifest,
        vault: None,
        version: manifest.version,
        drafted_at: manifest.issued_at,
        approve_until: manifest
            .issued_at
            .saturating_add(APPROVE_DAYS * DAY_SECONDS),
        state: State::Open,
    };
    let changes = before
        .map(|before| words::changes(before.content(), &manifest))
        .unwrap_or_default();
    let mut words = words::describe(&approvals::Content::Trust(Box::new(manifest)));
    words.extend(changes);
    let record = home.record();
    let file = if outcome.dry_run {
        PathBuf::new()
    } else {
        // First, so that no manifest is published whose keys nobody can find. It counts with the draft alone.
        // By the dispatch key that it lists, so that it can be drafted where the one before is lost.
        let dispatch = match dispatch {
            Some(dispatch) => dispatch,
            None => Keyring::new(&home.config, console)?.signer(keyring::DISPATCH)?,
        };
        change.draft = draft.fingerprint.to_string();
        remember(home, change)?;
        let transaction = registry.transaction()?;
        let gone = drafting::note(&transaction, &draft, &Subject::Trust)?;
        let output = outcome.output.as_deref();
        let file = approvals::keep_draft(&record, (&proposal, &draft), &*dispatch, output)?;
        approvals::commit_draft(transaction, &record, &gone, console)?;
        file
    };
    say_draft(
        console,
        "mintmark/trust/1",
        &draft,
        &file,
        &words,
        outcome.dry_run,
    )
}

/// Notes in the home's configuration where the keys of a draft are. The places of an earlier draft stay there: it may
/// still be the one that is published, if keeping this one fails.
fn remember(home: &Home, change: KeyChange) -> Result<(), Failure> {
    if change.is_empty() {
        return Ok(());
    }
    let mut config: Config = home.config.clone();
    config.changes.push(change);
    config.replace(home.folder())
}
