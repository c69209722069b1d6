//! `hq trust`: who may sign what.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_keys::Purpose;
use mintmark_protocol::approval::PROPOSAL_BYTES_MAX;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::trust::{HqEncryptionKey, Role, TRUST_BYTES_MAX, TrustManifest};

use crate::approvals::{self, APPROVE_DAYS, words};
use crate::clock::{DAY_SECONDS, now_unix};
use crate::config::{Config, Pin, Role as HomeRole};
use crate::home::{self, Home};
use crate::keyring::{self, Keyring};
use crate::record::Record;
use crate::registry::drafts::{self, Draft, State};
use crate::registry::{self, officers, trust_manifests};
use crate::{failure, trust};

use super::media::stick::Stick;

/// Trust manifests: who may sign what.
#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    /// Draft the next trust manifest from the officers that were added.
    Draft {
        /// How many officers a role needs: mint, enrol, revoke or trust. By default two, or one if only one holds it.
        #[arg(long = "threshold", value_name = "ROLE=M", value_parser = threshold)]
        thresholds: Vec<(Role, u64)>,
        /// How long it is in force, in days.
        #[arg(long, value_name = "D", default_value_t = 730, value_parser = clap::value_parser!(u64).range(1..=3650))]
        valid_days: u64,
        /// A file to write the draft to; it goes out with the next `hq media export` in any case.
        #[arg(long, value_name = "F")]
        output: Option<PathBuf>,
        /// Say what would be drafted and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the newest trust manifest.
    Show,
    /// Finish the drafted manifest once its officers have approved it, and write every manifest to a stick.
    Publish {
        /// The stick, or any folder.
        #[arg(long, value_name = "DIR")]
        media: PathBuf,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make an officer's or auditor's home: pin the manifest whose fingerprint you compared.
    Pin {
        /// The manifest.
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

fn threshold(text: &str) -> Result<(Role, u64), String> {
    let (role, count) = text.split_once('=').ok_or("write ROLE=M, such as mint=2")?;
    let count: u64 = count
        .parse()
        .map_err(|_| format!("`{count}` is not a number"))?;
    Ok((role.parse()?, count))
}

impl Trust {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Draft {
                thresholds,
                valid_days,
                output,
                dry_run,
            } => draft(
                home,
                &thresholds,
                valid_days,
                output.as_deref(),
                dry_run,
                console,
            ),
            Self::Show => {
                let home = Home::read(home)?;
                let manifest = trust::newest(&home)?.ok_or_else(unpublished)?;
                say(&manifest, None, console)
            }
            Self::Publish { media, dry_run } => publish(home, &media, dry_run, console),
            Self::Pin {
                file,
                fingerprint,
                dry_run,
            } => pin(home, &file, &fingerprint, dry_run, console),
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

fn draft(
    home: Option<&Path>,
    thresholds: &[(Role, u64)],
    valid_days: u64,
    output: Option<&Path>,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let ring = Keyring::new(&home.config, console)?;
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
    let key = |label: &str, purpose| {
        let found = ring
            .store(label)?
            .find(label, purpose)
            .map_err(failure::keys)?;
        found.ok_or_else(|| failure::home_corrupt(format!("the key `{label}` is missing")))
    };
    let escrow = registry.bytes("escrow_key")?;
    let now = now_unix();
    let mut manifest = TrustManifest {
        version: before
            .as_ref()
            .map_or(1, |before| before.content().version.saturating_add(1)),
        hq_name: home.config.name.clone(),
        issued_at: now,
        expires_at: now.saturating_add(valid_days * DAY_SECONDS),
        previous: before.as_ref().map(Verified::fingerprint),
        root_certificate: registry.bytes("root_certificate")?,
        officers: listed,
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
        dispatch_epoch: before
            .as_ref()
            .map_or(1, |before| before.content().dispatch_epoch),
    };
    for role in Role::ALL {
        let given = thresholds
            .iter()
            .rfind(|(of, _)| *of == role)
            .map(|(_, count)| *count);
        let holders = manifest.holders(role).count() as u64;
        manifest.thresholds[role as usize] = given.unwrap_or(holders.min(2));
        if manifest.thresholds[role as usize] == 1 {
            console.warn(format!(
                "role `{role}` needs one officer only: nobody looks over their shoulder"
            ));
        }
    }
    let proposal = manifest.propose().map_err(|error| {
        // It is no message yet whose form could be wrong; its content is.
        let why = match error {
            mintmark_protocol::Error::Shape { why, .. } => why,
            other => other.to_string(),
        };
        failure::usage(
            "TRUST-UNWORKABLE",
            format!("such a trust manifest would not work: {why}"),
            "give thresholds that the officers can meet, and each role to somebody",
        )
    })?;
    let draft = Draft {
        id: manifest.id(),
        fingerprint: proposal.fingerprint(),
        kind: Kind::TrustManifest,
        vault: None,
        version: manifest.version,
        drafted_at: now,
        approve_until: now.saturating_add(APPROVE_DAYS * DAY_SECONDS),
        state: State::Open,
    };
    let changes = before
        .as_ref()
        .map(|before| words::changes(before.content(), &manifest))
        .unwrap_or_default();
    let mut words = words::describe(&approvals::Content::Trust(Box::new(manifest)));
    words.extend(changes);
    let record = home.record();
    let file = if dry_run {
        PathBuf::new()
    } else {
        let transaction = registry.transaction()?;
        for gone in approvals::supersede_open(&transaction, &draft.id)? {
            console.note(format!(
                "the draft {} with fingerprint {} is superseded",
                gone.id, gone.fingerprint
            ));
        }
        let file = approvals::keep_draft(&transaction, &record, &proposal, &draft, output)?;
        registry::commit(transaction)?;
        file
    };
    super::say_draft(console, "mintmark/trust/1", &draft, &file, &words, dry_run)
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
                    .map(|key| mintmark_protocol::key::thumbprint(key).to_string()).collect::<Vec<_>>(),
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

fn publish(
    home: Option<&Path>,
    media: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    let stick = Stick::open(media)?;
    let before = trust::newest(&home)?;
    let open = drafts::all(&registry.sql)?
        .into_iter()
        .rfind(|draft| draft.kind == Kind::TrustManifest && draft.state == State::Open);
    if let Some(draft) = open {
        let finished =
            approvals::finished(&registry.sql, &record, &draft, before.as_ref(), console)?;
        let bytes = finished.to_bytes().map_err(failure::protocol)?;
        let manifest = match &before {
            None => TrustManifest::pin(&bytes, &draft.fingerprint),
            Some(before) => before.successor(&bytes),
        }
        .map_err(failure::protocol)?;
        if dry_run {
            console.note("nothing was written (--dry-run)");
            return say(&manifest, None, console);
        }
        let content = manifest.content();
        record.replace(&record.trust(content.version), &bytes)?;
        let transaction = registry.transaction()?;
        let (fingerprint, now) = (manifest.fingerprint(), now_unix());
        trust_manifests::publish(
            &transaction,
            content.version,
            &fingerprint,
            content.expires_at,
            now,
        )?;
        drafts::set_state(&transaction, &draft.fingerprint, State::Sealed)?;
        registry::commit(transaction)?;
    }
    let chain = trust::chain(&home)?;
    let newest = chain.last().ok_or_else(unpublished)?;
    if dry_run {
        return say(newest, None, console);
    }
    let file = stick.write_trust(&record, &chain)?;
    say(newest, Some(&file), console)
}

fn pin(
    home: Option<&Path>,
    file: &Path,
    fingerprint: &Fingerprint,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let path = Home::path(home)?;
    Home::expect_free(&path)?;
    let bytes = files::read_limited(file, TRUST_BYTES_MAX.max(PROPOSAL_BYTES_MAX) as u64)?;
    let manifest = TrustManifest::pin(&bytes, fingerprint).map_err(failure::protocol)?;
    let content = manifest.content();
    content.in_force(now_unix()).map_err(failure::protocol)?;
    if dry_run {
        console.note(format!(
            "would pin {} in {} (--dry-run)",
            content.id(),
            path.display()
        ));
        return say(&manifest, None, console);
    }
    let config = Config {
        schema: 1,
        role: HomeRole::Member,
        name: content.hq_name.clone(),
        keys: None,
        pin: Some(Pin {
            version: content.version,
            fingerprint: fingerprint.to_string(),
        }),
    };
    Home::create(&path, &config, |part| {
        home::make_folder(&part.join("record"))?;
        let record = Record::new(part);
        record.keep(&record.trust(content.version), &bytes)?;
        record.set_newest_trust(content.version)
    })?;
    console.note(format!("{} is pinned in {}", content.id(), path.display()));
    say(&manifest, None, console)
}
