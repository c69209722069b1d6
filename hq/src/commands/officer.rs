//! `hq officer`: those who approve.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table, files};
use mintmark_keys::{KeyUri, Purpose, UnparsedKeyUri};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::officer::{OFFICER_REQUEST_BYTES_MAX, OfficerRequest};
use mintmark_protocol::trust::{Officer as ListedOfficer, Role};

use crate::clock::{self, now_unix};
use crate::home::Home;
use crate::keyring::{self, OFFICER_AGREE, OFFICER_SIGN};
use crate::record::times::What;
use crate::registry;
use crate::registry::officers::{self, AddedOfficer};
use crate::{failure, trust};

/// The most keys that one officer signs with, as a trust manifest lists them.
const SIGNING_KEYS_MAX: usize = 4;

/// Officers: those who approve.
#[derive(Debug, Subcommand)]
pub(super) enum Officer {
    /// On the officer's own machine: make the officer's keys and a request to be listed. Needs no home.
    Request {
        /// The officer's name, `[a-z0-9-]{1,32}`.
        #[arg(long)]
        name: OfficerId,
        /// Where the officer's keys are, or will be made.
        #[arg(long, value_name = "URI")]
        keys: UnparsedKeyUri,
        /// The file to write the request to.
        #[arg(long, value_name = "F")]
        output: PathBuf,
        /// Say what would happen, make no key and write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// At HQ: add an officer to the next trust manifest.
    Add {
        /// The officer's request.
        #[arg(long, value_name = "F")]
        request: PathBuf,
        /// The fingerprint that the officer reads out.
        #[arg(long, value_name = "HEX")]
        fingerprint: Fingerprint,
        /// What the officer may approve: mint, enrol, revoke, trust; all four if none is given, or, with --replace
        /// and --add-key, what the officer may approve now.
        #[arg(long = "role", value_name = "R")]
        roles: Vec<Role>,
        /// The officer is listed: these keys take the place of theirs.
        #[arg(long, conflicts_with = "add_key")]
        replace: bool,
        /// The officer is listed: they may sign with this key too. What they read drafts with stays.
        #[arg(long)]
        add_key: bool,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List the officers.
    List,
    /// Show one officer.
    Show {
        /// The officer's name.
        name: OfficerId,
    },
    /// Take an officer off the next trust manifest.
    Remove {
        /// The officer's name.
        name: OfficerId,
        /// The name once more, where there is no terminal to type it on.
        #[arg(long, value_name = "ID")]
        confirm: Option<String>,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Officer {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Request {
                name,
                keys,
                output,
                dry_run,
            } => request(name, &keys, &output, dry_run, console),
            Self::Add {
                request,
                fingerprint,
                roles,
                replace,
                add_key,
                dry_run,
            } => {
                let manner = match (replace, add_key) {
                    (true, _) => Manner::Replace,
                    (_, true) => Manner::AddKey,
                    _ => Manner::New,
                };
                add(
                    home,
                    &request,
                    &fingerprint,
                    roles,
                    manner,
                    (dry_run, console),
                )
            }
            Self::List => list(home, console),
            Self::Show { name } => show(home, &name, console),
            Self::Remove {
                name,
                confirm,
                dry_run,
            } => remove(home, &name, confirm.as_deref(), dry_run, console),
        }
    }
}

fn request(
    name: OfficerId,
    keys: &UnparsedKeyUri,
    output: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    super::expect_absent(output)?;
    let uri = keys.parse().map_err(failure::keys)?;
    if dry_run {
        // A token has to be there; a folder of keys would be made.
        if matches!(uri, KeyUri::Pkcs11(_)) {
            keyring::open(&uri, console)?;
        }
        let json = serde_json::json!({
            "schema": "mintmark/officer/1",
            "name": name.as_str(),
            "file": null,
            "dry_run": true,
        });
        let line = format!(
            "would make the keys of `{name}` where they are missing, and write {}",
            output.display()
        );
        return super::say(console, &json, [line]);
    }
    let store = keyring::create(&uri, console)?;
    let signing_key = keyring::find_or_generate(&*store, OFFICER_SIGN, Purpose::Sign, console)?;
    let agreement_key = keyring::find_or_generate(&*store, OFFICER_AGREE, Purpose::Agree, console)?;
    let signer = store.signer(OFFICER_SIGN).map_err(failure::keys)?;
    let facts = store.facts();
    let key_store = format!(
        "{} {} {} {}",
        facts.kind, facts.manufacturer, facts.model, facts.serial
    );
    let request = OfficerRequest {
        id: name,
        signing_key,
        agreement_key,
        made_at: now_unix(),
        key_store: key_store.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    let (bytes, fingerprint) = request
        .seal(&keyring::sign(&*signer))
        .map_err(failure::protocol)?;
    files::write_public_new(output, &bytes)?;
    let json = serde_json::json!({
        "schema": "mintmark/officer/1",
        "name": request.id.as_str(),
        "file": output.display().to_string(),
        "fingerprint": fingerprint.to_string(),
        "signing_key_id": thumbprint(&request.signing_key).to_string(),
    });
    super::say(
        console,
        &json,
        [
            format!("file         {}", output.display()),
            format!("fingerprint  {fingerprint}"),
            "read the fingerprint out to HQ over another channel than the file's".to_owned(),
        ],
    )
}

/// What becomes of the keys that an officer has already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// There are none: the name is new.
    New,
    /// They give way.
    Replace,
    /// They stay, and the new one is listed beside them.
    AddKey,
}

fn add(
    home: Option<&Path>,
    request: &Path,
    fingerprint: &Fingerprint,
    roles: Vec<Role>,
    manner: Manner,
    (dry_run, console): (bool, &Console),
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let bytes = files::read_limited(request, OFFICER_REQUEST_BYTES_MAX as u64)?;
    let request = OfficerRequest::open(&bytes, fingerprint)
        .map_err(failure::protocol)?
        .into_content();
    let known = officers::all(&registry.sql)?;
    expect_free_keys(&known, &request)?;
    let listed = known
        .iter()
        .find(|known| known.officer.id == request.id && known.removed_at.is_none());
    let roles: BTreeSet<Role> = match listed {
        _ if !roles.is_empty() => roles.into_iter().collect(),
        Some(listed) if manner != Manner::New => listed.officer.roles.clone(),
        _ => Role::ALL.into(),
    };
    if let Some(listed) = listed
        && listed.request_fingerprint == fingerprint.to_string()
        && listed.officer.roles == roles
    {
        console.note(format!("officer `{}` is listed already", request.id));
        return say_officer(&home, listed, console);
    }
    let id = request.id.clone();
    let (before, adds_key) = (
        listed.map(|listed| &listed.officer),
        manner == Manner::AddKey,
    );
    let asked = (request, fingerprint);
    let added = AddedOfficer::new(asked, roles, before, adds_key, now_unix());
    match (manner, listed) {
        (Manner::New, None) | (Manner::Replace | Manner::AddKey, Some(_)) => {}
        (Manner::New, Some(_)) => {
            return Err(failure::usage(
                "OFFICER-EXISTS",
                format!("officer `{id}` is listed already, with other keys or roles"),
                "give --replace if these take the place of the officer's own, or --add-key if the officer has both; \
                 another person needs another name",
            ));
        }
        (_, None) => {
            return Err(failure::usage(
                "OFFICER-UNKNOWN",
                format!("no officer `{id}` is listed"),
                "check the name in the request; a new officer is added without --replace and --add-key",
            ));
        }
    }
    if added.officer.signing_keys.len() > SIGNING_KEYS_MAX {
        return Err(failure::usage(
            "OFFICER-KEYS",
            format!("an officer signs with {SIGNING_KEYS_MAX} keys at most"),
            "list the ones in use anew, with --replace and then --add-key",
        ));
    }
    let file = home.record().officer_request(&id, &fingerprint.to_string());
    if dry_run {
        console.note("would list the officer with the next trust manifest (--dry-run)");
        return say_officer(&home, &added, console);
    }
    let record = home.record();
    record.keep(&file, &bytes)?;
    let listed = What::Listed {
        officer: added.officer.id.clone(),
        request: *fingerprint,
        adds_key,
        roles: added.officer.roles.iter().copied().collect(),
    };
    clock::at(added.added_at, || record.note(listed))?;
    let transaction = registry.transaction()?;
    officers::add(&transaction, &added)?;
    registry::commit(transaction)?;
    console.note("the officer is listed with the next trust manifest: run `hq trust draft`");
    say_officer(&home, &added, console)
}

/// Refuses a request with a key that another person uses.
fn expect_free_keys(known: &[AddedOfficer], request: &OfficerRequest) -> Result<(), Failure> {
    let taken = |officer: &ListedOfficer| {
        let mut keys = [request.signing_key, request.agreement_key].into_iter();
        keys.any(|key| officer.signing_keys.contains(&key) || officer.agreement_key == key)
    };
    let others = known.iter().map(|known| &known.officer);
    let mut others = others.filter(|officer| officer.id != request.id);
    match others.find(|officer| taken(officer)) {
        None => Ok(()),
        Some(other) => Err(failure::refused(
            "OFFICER-KEY-TAKEN",
            format!(
                "officer `{}` uses a key of officer `{}`",
                request.id, other.id
            ),
            "every officer has a token of their own; a person counts once",
        )),
    }
}

/// `now` is how the newest manifest lists the officer.
fn json(added: &AddedOfficer, now: Option<&ListedOfficer>) -> serde_json::Value {
    let officer = &added.officer;
    serde_json::json!({
        "schema": "mintmark/officer/1",
        "name": officer.id.as_str(),
        "roles": officer.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(),
        "signing_key_ids":
            officer.signing_keys.iter().map(|key| thumbprint(key).to_string()).collect::<Vec<_>>(),
        "agreement_key_id": thumbprint(&officer.agreement_key).to_string(),
        "request_fingerprint": added.request_fingerprint,
        "key_store": added.key_store,
        "added_at": rfc3339(added.added_at),
        "removed_at": added.removed_at.map(rfc3339),
        "in_force": now.is_some(),
        "changes": added.removed_at.is_none() && now.is_some_and(|now| now != officer),
    })
}

/// Where an officer stands, in words.
fn state(added: &AddedOfficer, now: Option<&ListedOfficer>) -> &'static str {
    match (added.removed_at.is_some(), now) {
        (true, Some(_)) => "leaves with the next manifest",
        (true, None) => "removed",
        (false, Some(now)) if *now == added.officer => "in force",
        (false, Some(_)) => "changes with the next manifest",
        (false, None) => "waits for the next manifest",
    }
}

fn say_officer(home: &Home, added: &AddedOfficer, console: &Console) -> Result<Exit, Failure> {
    let officer = &added.officer;
    let manifest = trust::newest(home)?;
    let now = manifest.as_ref();
    let now = now.and_then(|manifest| manifest.content().officer(&officer.id));
    let roles: Vec<&str> = officer.roles.iter().map(|role| role.as_str()).collect();
    let mut lines = vec![
        format!("officer      {}", officer.id),
        format!("roles        {}", roles.join(", ")),
        format!(
            "key store    {} (in the officer's own words)",
            added.key_store
        ),
        format!("fingerprint  {}", added.request_fingerprint),
        format!(
            "signs with   {}",
            officer
                .signing_keys
                .iter()
                .map(|key| thumbprint(key).to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        format!("state        {}", state(added, now)),
    ];
    if let Some(removed) = added.removed_at {
        lines.push(format!("removed      {}", rfc3339(removed)));
    }
    super::say(console, &json(added, now), lines)
}

fn list(home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let manifest = trust::newest(&home)?;
    let now = |id: &OfficerId| {
        manifest
            .as_ref()
            .and_then(|manifest| manifest.content().officer(id))
    };
    let added = officers::all(&home.registry()?.sql)?;
    if console.is_json() {
        let officers: Vec<_> = added
            .iter()
            .map(|added| json(added, now(&added.officer.id)))
            .collect();
        let json = serde_json::json!({ "schema": "mintmark/officer/1", "officers": officers });
        return super::say(console, &json, []);
    }
    let mut table =
        Table::new(["NAME", "ROLES", "STATE", "ADDED"].map(|header| (header, Align::Left)));
    for added in &added {
        let officer = &added.officer;
        let roles: Vec<&str> = officer.roles.iter().map(|role| role.as_str()).collect();
        let state = state(added, now(&officer.id));
        table.row([
            officer.id.to_string(),
            roles.join(","),
            state.to_owned(),
            rfc3339(added.added_at),
        ]);
    }
    console.table(&table);
    Ok(Exit::Done)
}

fn named(added: Vec<AddedOfficer>, name: &OfficerId) -> Result<AddedOfficer, Failure> {
    added
        .into_iter()
        .find(|added| added.officer.id == *name)
        .ok_or_else(|| {
            failure::usage(
                "OFFICER-UNKNOWN",
                format!("there is no officer `{name}`"),
                "`hq officer list` shows who there is",
            )
        })
}

fn show(home: Option<&Path>, name: &OfficerId, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let added = named(officers::all(&home.registry()?.sql)?, name)?;
    say_officer(&home, &added, console)
}

fn remove(
    home: Option<&Path>,
    name: &OfficerId,
    confirm: Option<&str>,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let mut added = named(officers::all(&registry.sql)?, name)?;
    if added.removed_at.is_some() {
        console.note(format!("officer `{name}` is removed already"));
        return say_officer(&home, &added, console);
    }
    if dry_run {
        console.note(format!("would take `{name}` off the next trust manifest"));
        return say_officer(&home, &added, console);
    }
    console.confirm_identifier(
        "remove the officer from the next manifest",
        name.as_str(),
        confirm,
    )?;
    let now = now_unix();
    let removed = What::Removed {
        officer: name.clone(),
    };
    clock::at(now, || home.record().note(removed))?;
    let transaction = registry.transaction()?;
    officers::remove(&transaction, name, now)?;
    registry::commit(transaction)?;
    added.removed_at = Some(now);
    console.note("the officer stays in force until the next trust manifest: run `hq trust draft`");
    say_officer(&home, &added, console)
}
