//! `hq trust`: who may sign what.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_keys::UnparsedKeyUri;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::trust::{Role, TrustManifest};

use crate::approvals::{self, words};
use crate::clock::now_unix;
use crate::config::{FormerKey, absolute};
use crate::home::Home;
use crate::keyring::{self, AUDIT};
use crate::{failure, trust};

mod draft;
mod pin;
pub(crate) mod publish;

/// Trust manifests: who may sign what.
#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    /// Draft the next trust manifest from the officers that were added, and the keys that are given.
    Draft(draft::Arguments),
    /// Draft a manifest that changes nothing but the dispatch epoch, for a headquarters that was restored: every vault is
    /// sent anew what it was not seen to have.
    Epoch(draft::EpochArguments),
    /// Show the newest trust manifest.
    Show,
    /// Finish the drafted manifest once its officers have approved it, and write every manifest to a stick.
    Publish {
        /// The stick, or any folder.
        #[arg(long, value_name = "DIR")]
        media: PathBuf,
        /// A new root is not certified by the one before, because that one is lost: what knows the former root alone
        /// will not follow.
        #[arg(long)]
        no_root_link: bool,
        /// Where the key of the newest root is, if that came back with a manifest that headquarters had forgotten.
        #[arg(long, value_name = "URI")]
        root_keys: Option<UnparsedKeyUri>,
        #[command(flatten)]
        confirmation: Confirmation,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// The audit key is lost: have headquarters read with the escrow key what was encrypted to both. Another audit key is
    /// for `hq trust draft --audit-keys`.
    Escrow {
        /// Where the escrow key is, under the label `audit`. In a folder, a line `Purpose: agree` stands before it.
        #[arg(long, value_name = "URI")]
        keys: UnparsedKeyUri,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make an officer's or auditor's home: pin the manifest whose fingerprint you compared.
    Pin {
        /// The manifest. The one before it, if an officer who left signed this one too, lies beside it, as on a stick.
        #[arg(long = "trust", value_name = "FILE")]
        file: PathBuf,
        /// The fingerprint that HQ reads out.
        #[arg(long, value_name = "HEX")]
        fingerprint: Fingerprint,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Trust {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Draft(arguments) => draft::run(&arguments, home, console),
            Self::Epoch(arguments) => draft::epoch(&arguments, home, console),
            Self::Show => {
                let home = Home::read(home)?;
                let manifest = trust::newest(&home)?.ok_or_else(unpublished)?;
                say(&manifest, None, console)
            }
            Self::Publish {
                media,
                no_root_link,
                root_keys,
                confirmation,
                dry_run,
            } => {
                let root_keys = root_keys.map(|uri| uri.parse()).transpose();
                let publishing = publish::Publishing {
                    root_link: !no_root_link,
                    root_keys: root_keys.map_err(failure::keys)?,
                    confirmation,
                    dry_run,
                };
                publish::run(home, &media, &publishing, console)
            }
            Self::Escrow { keys, dry_run } => escrow(home, &keys, dry_run, console),
            Self::Pin {
                file,
                fingerprint,
                dry_run,
            } => pin::run(home, &file, &fingerprint, dry_run, console),
        }
    }
}

fn unpublished() -> Failure {
    failure::usage(
        "TRUST-UNPUBLISHED",
        "no trust manifest has been published yet",
        "run `hq trust draft`, have it approved, then `hq trust publish`",
    )
}

fn say(
    manifest: &Verified<TrustManifest>,
    file: Option<&Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    let content = manifest.content();
    let officers: Vec<_> = content
        .officers
        .iter()
        .map(|officer| {
            serde_json::json!({
                "id": officer.id.as_str(),
                "roles": officer.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(),
                "signing_key_ids": officer.signing_keys.iter()
                    .map(|key| thumbprint(key).to_string()).collect::<Vec<_>>(),
            })
        })
        .collect();
    let thresholds: serde_json::Map<_, _> = Role::ALL
        .iter()
        .map(|role| {
            (
                role.to_string(),
                serde_json::Value::from(content.threshold(*role)),
            )
        })
        .collect();
    let json = serde_json::json!({
        "schema": "mintmark/trust/1",
        "fingerprint": manifest.fingerprint().to_string(),
        "version": content.version,
        "name": content.hq_name,
        "issued": rfc3339(content.issued_at),
        "expires": rfc3339(content.expires_at),
        "in_force": content.in_force(now_unix()).is_ok(),
        "officers": officers,
        "thresholds": thresholds,
        "dispatch_key_id": thumbprint(&content.dispatch_key).to_string(),
        "dispatch_epoch": content.dispatch_epoch,
        "encryption_keys": content.encryption_keys.iter().map(|key| serde_json::json!({
            "name": key.name.as_str(),
            "key_id": thumbprint(&key.key).to_string(),
            "escrowed": key.escrowed,
        })).collect::<Vec<_>>(),
        "root_fingerprint": Fingerprint::of(&content.root_certificate).to_string(),
        "approvers": manifest.officers().iter().map(|officer| officer.as_str()).collect::<Vec<_>>(),
        "file": file.map(|file| file.display().to_string()),
    });
    let mut lines = words::describe(&approvals::Content::Trust(Box::new(content.clone())));
    lines.push(String::new());
    if let Some(file) = file {
        lines.push(format!("file         {}", file.display()));
    }
    lines.push(format!("fingerprint  {}", manifest.fingerprint()));
    super::say(console, &json, lines)
}

fn escrow(
    home: Option<&Path>,
    keys: &UnparsedKeyUri,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let uri = absolute(&keys.parse().map_err(failure::keys)?)?;
    let store = keyring::open(&uri, console)?;
    let key = store.agreement(AUDIT).map_err(failure::keys)?;
    let key = key.public_key();
    let chain = trust::chain(&home)?;
    let mut listed = chain
        .iter()
        .flat_map(|manifest| &manifest.content().encryption_keys);
    let name = listed
        .find(|listed| listed.key == *key)
        .map(|listed| &listed.name);
    let name = name.ok_or_else(|| {
        let message = "no trust manifest names this key as one that headquarters reads with";
        Failure::new(Exit::Integrity, "KEY-NOT-LISTED", message)
            .hint("bring the private half of the escrow key that `hq trust show` names")
    })?;
    let mut config = home.config.clone();
    let uris = config
        .keys
        .as_mut()
        .ok_or_else(|| failure::home_corrupt("config.toml names no keys"))?;
    let found = FormerKey::new(&uri.to_string(), key);
    if !dry_run && !uris.former_audit.contains(&found) {
        uris.former_audit.push(found);
        config.replace(home.folder())?;
    }
    let json = serde_json::json!({
        "schema": "mintmark/trust/1",
        "name": name.as_str(),
        "key_id": thumbprint(key).to_string(),
        "dry_run": dry_run,
    });
    let verb = if dry_run { "would read" } else { "reads" };
    super::say(
        console,
        &json,
        [format!(
            "headquarters {verb} with the key `{name}` too ({})",
            thumbprint(key)
        )],
    )
}
