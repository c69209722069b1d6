//! `hq media export`: everything that is owed, as the same bytes until its receipt is seen.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::ObjectId;
use mintmark_protocol::media::MediaName;

use super::stick::{Stick, Written};
use super::{Item, say_items};
use crate::approvals::amendment;
use crate::clock::now_unix;
use crate::home::Home;
use crate::registry::drafts::{self, State};
use crate::registry::{self, bundles, dispatches, restores as declared, vaults};
use crate::{acknowledgements, outbox, restored, trust, vault_restores};

pub(super) fn run(
    home: Option<&Path>,
    dir: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    restored::expect_declared(&home)?;
    let stick = Stick::open(dir)?;
    if !dry_run {
        acknowledgements::seal_owed(&home, &mut registry, console)?;
        vault_restores::seal_owed(&home, &mut registry, console)?;
    }
    // What is written, in the order in which readers need it.
    let mut owed = Vec::new();
    for manifest in trust::chain(&home)? {
        let content = manifest.content();
        let name = MediaName::Trust {
            version: content.version,
        };
        owed.push((
            name,
            Kind::TrustManifest.to_string(),
            content.id(),
            record.trust(content.version),
        ));
    }
    let now = now_unix();
    let mut beside = Vec::new();
    for draft in drafts::all(&registry.sql)? {
        if draft.state == State::Open && now < draft.approve_until {
            let path = record.draft(&draft.id, &draft.fingerprint.to_string());
            let name = MediaName::Draft {
                id: registry::parsed::<ObjectId>("draft", &draft.id)?,
            };
            // Officers compare an amendment with the version before it.
            if let Some((name, id, bytes)) =
                amendment::version_before(&registry.sql, &record, &draft)?
            {
                beside.push((name, draft.kind.to_string(), id, bytes));
            }
            owed.push((name, draft.kind.to_string(), draft.id, path));
        }
    }
    let open_epoch = trust::newest(&home)?.map(|newest| newest.content().dispatch_epoch);
    let mut over = Vec::new();
    for vault in vaults::serving(&registry.sql)? {
        let contested = match open_epoch {
            Some(epoch) => outbox::contested(&registry.sql, &vault.name, epoch)?,
            None => None,
        };
        let mut current = Vec::new();
        if let Some(restore) = declared::pending(&registry.sql, &vault.name)?
            && let Some((parts, _)) = restore.tail
        {
            for part in 1..=parts {
                let path = record.tail(&vault.name, &restore.lineage, part);
                let name = MediaName::Tail {
                    vault: vault.name.clone(),
                    part,
                };
                current.push((
                    name,
                    Kind::LogTail.to_string(),
                    format!("tail-{part:06}"),
                    path,
                ));
            }
        }
        for sent in dispatches::unseen(&registry.sql, &vault.name)? {
            let (epoch, sequence) = (sent.epoch, sent.sequence);
            let path = record.dispatch(&vault.name, epoch, sequence);
            let name = MediaName::Dispatch {
                vault: vault.name.clone(),
                epoch,
                sequence,
            };
            // What it carried is in a dispatch of the epoch that is open.
            if open_epoch.is_some_and(|open| sent.epoch < open) {
                over.push((name, path));
                continue;
            }
            current.push((name, sent.kind, sent.object, path));
        }
        let Some(contested) = contested else {
            owed.append(&mut current);
            continue;
        };
        let unacknowledged = bundles::unacknowledged(&registry.sql, &vault.name)?;
        if !current.is_empty() || unacknowledged.is_some() {
            console.warn_coded(
                "DISPATCH-CONTESTED",
                format!(
                    "what {} is owed is left out: {}",
                    vault.name, contested.message
                ),
            );
        }
        // The stick may have it from before anybody knew.
        over.extend(current.into_iter().map(|(name, _, _, path)| (name, path)));
    }
    if !dry_run {
        for (name, path) in over {
            stick.withdraw(&name, &record.read(&path)?)?;
        }
    }
    if !dry_run {
        let mut leaving = Vec::new();
        for (name, _, _, path) in &owed {
            if matches!(name, MediaName::Dispatch { .. }) {
                leaving.push((path.clone(), record.read(path)?));
            }
        }
        record.expect_noted(&leaving)?;
    }
    let progress = console.progress("writing", Some((owed.len() + beside.len()) as u64));
    let mut items = Vec::new();
    let owed = owed
        .into_iter()
        .map(|(name, kind, id, path)| Ok((name, kind, id, record.read(&path)?)));
    let beside = beside.into_iter().map(Ok::<_, Failure>);
    for written in owed.chain(beside) {
        let (name, kind, id, bytes) = written?;
        let outcome = if dry_run {
            "would-export"
        } else {
            match stick.write(&name, &bytes)? {
                Written::New => "exported",
                Written::Already => "already",
                Written::Anew => {
                    console.warn(format!(
                        "{name}: the stick held something else under this name; it was replaced"
                    ));
                    "exported"
                }
            }
        };
        progress.advance(1);
        items.push(Item {
            file: name.to_string(),
            kind,
            id,
            outcome,
            failure: None,
            findings: None,
            refused_there: Vec::new(),
            note: None,
        });
    }
    progress.finish();
    say_items(&items, console)
}
