//! The version before an amendment. Headquarters writes it beside the amendment's draft, as it was approved; officers
//! keep what they have approved themselves, encrypted as it came. So an officer without a registry sees what changes.

use std::path::Path;

use mintmark_console::{Console, Failure, files};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::ObjectId;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::{Role, TrustManifest};
use rusqlite::Connection;

use super::{Content, collected, words};
use crate::config::Role as HomeRole;
use crate::home::Home;
use crate::record::Record;
use crate::registry::drafts::{self, Draft};
use crate::registry::entitlements::Listed;
use crate::registry::{self, entitlements};
use crate::{failure, trust};

/// What an amendment's draft is to be accompanied by: the newest version that the vault was sent, with its approvals.
pub(crate) fn version_before(
    sql: &Connection,
    record: &Record,
    draft: &Draft,
) -> Result<Option<(MediaName, String, Vec<u8>)>, Failure> {
    if draft.kind != Kind::Entitlement {
        return Ok(None);
    }
    let Some(listed) = entitlements::by_draft(sql, &draft.fingerprint)? else {
        return Ok(None);
    };
    let before = entitlements::newest_sent(sql, &listed.terms.vault, &listed.terms.id)?;
    let Some(before) = before.filter(|before| before.terms.version < listed.terms.version) else {
        return Ok(None);
    };
    let Some(former) = drafts::by_fingerprint(sql, &before.draft)? else {
        return Ok(None);
    };
    if is_forgotten(record, &before, &former) {
        return Ok(None);
    }
    let proposal = collected(sql, record, &former)?;
    let name = MediaName::Draft {
        id: registry::parsed::<ObjectId>("draft", &former.id)?,
    };
    let bytes = proposal.to_bytes().map_err(failure::protocol)?;
    Ok(Some((name, former.id, bytes)))
}

/// Of a version that headquarters has forgotten, and learned of from the vault's log, it has the terms and no signed object.
/// Officers have kept what they approved themselves.
fn is_forgotten(record: &Record, listed: &Listed, draft: &Draft) -> bool {
    let path = record.draft(&draft.id, &draft.fingerprint.to_string());
    listed.approvers.is_empty() && path.symlink_metadata().is_err()
}

/// Writes the version before beside an amendment's draft, under the name that officers' tools look for.
pub(crate) fn write_beside(
    sql: &Connection,
    record: &Record,
    draft: &Draft,
    output: &Path,
    console: &Console,
) -> Result<(), Failure> {
    let Some((name, _, bytes)) = version_before(sql, record, draft)? else {
        return Ok(());
    };
    let path = output.with_file_name(name.to_string());
    if path == output {
        return Ok(());
    }
    if path.symlink_metadata().is_err() {
        files::write_public_new(&path, &bytes)?;
    } else {
        let before = Proposal::read(&bytes, PROPOSAL_BYTES_MAX).map_err(failure::protocol)?;
        // It may be there from its own day, when nobody had approved it.
        if read(&path).is_none_or(|found| found.fingerprint() != before.fingerprint()) {
            console.warn(format!(
                "{} is something else than the version before, and was left as it is: officers cannot see from it what \
                 changes",
                path.display()
            ));
            return Ok(());
        }
        files::write_public_replace(&path, &bytes)?;
    }
    console.note(format!(
        "the version before, with its approvals, is in {}: give officers both files",
        path.display()
    ));
    Ok(())
}

/// In an officer's home: keeps a draft that was approved, as it came.
pub(crate) fn remember(home: Option<&Path>, proposal: &Proposal) -> Result<(), Failure> {
    let Some(home) = home.filter(|home| home.exists()) else {
        return Ok(());
    };
    let home = Home::read(Some(home))?;
    let context = proposal.context();
    if home.config.role != HomeRole::Member || context.kind != Kind::Entitlement {
        return Ok(());
    }
    let record = home.record();
    let path = record.draft(&context.id, &proposal.fingerprint().to_string());
    let bytes = proposal.to_bytes().map_err(failure::protocol)?;
    record.replace(&path, &bytes)
}

/// A version before, and what speaks for it.
struct Before {
    terms: Entitlement,
    standing: Standing,
}

/// What speaks for a version before, the most last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// That it is beside the draft.
    Unknown,
    /// This home has kept it, or the amendment itself names it.
    Known,
    /// Enough officers of today have approved it.
    Approved,
}

/// What an amendment changes, in words; nothing for whatever is no amendment.
pub(crate) fn differences(
    home: Option<&Path>,
    file: &Path,
    content: &Content,
    opener: Opener<'_>,
) -> Result<Vec<String>, Failure> {
    let Content::Entitlement(next) = content else {
        return Ok(Vec::new());
    };
    let Some(version) = next.version.checked_sub(1).filter(|version| *version > 0) else {
        return Ok(Vec::new());
    };
    let home = home.filter(|home| home.exists());
    let home = home.map(|home| Home::read(Some(home))).transpose()?;
    let manifest = match &home {
        Some(home) => trust::newest(home)?,
        None => None,
    };
    let manifest = manifest.as_ref().map(|manifest| manifest.content());
    let id = Entitlement {
        version,
        ..(**next).clone()
    }
    .object_id();
    let beside = file.with_file_name(format!("draft-{id}.cose"));
    let mut candidates: Vec<(Standing, Proposal)> = Vec::new();
    candidates.extend(read(&beside).map(|beside| (Standing::Unknown, beside)));
    if let Some(home) = &home {
        let kept = home.record().drafts_of(&id);
        let kept = kept.iter().filter_map(|path| read(path));
        candidates.extend(kept.map(|kept| (Standing::Known, kept)));
    }
    // Headquarters knows the approvals of what it sent.
    if let Some(home) = home
        .as_ref()
        .filter(|home| home.config.role == HomeRole::Hq)
    {
        let sql = home.registry()?.sql;
        for listed in entitlements::versions(&sql, &next.vault, &next.id)? {
            if listed.terms.version == version
                && let Some(draft) = drafts::by_fingerprint(&sql, &listed.draft)?
                && !is_forgotten(&home.record(), &listed, &draft)
            {
                let proposal = collected(&sql, &home.record(), &draft)?;
                candidates.push((Standing::Known, proposal));
            }
        }
    }
    let mut found: Option<Before> = None;
    for (mut standing, proposal) in candidates {
        // The vault takes the amendment over the very version that it names, so nothing else is shown for that.
        if let Some(named) = next.amends {
            if proposal.fingerprint() != named {
                continue;
            }
            standing = Standing::Known;
        }
        let Some(before) = judge(&proposal, standing, manifest, opener) else {
            continue;
        };
        let same = (&before.terms.id, &before.terms.vault, before.terms.version)
            == (&next.id, &next.vault, version);
        let better = found
            .as_ref()
            .is_none_or(|found| before.standing > found.standing);
        if same && better {
            found = Some(before);
        }
    }
    let Some(before) = found else {
        return Ok(vec![
            format!(
                "VERSION {version} WAS NOT FOUND beside this file, so that what changes cannot be shown."
            ),
            "Compare every term above with what was approved before.".to_owned(),
        ]);
    };
    let mut lines = words::differences(&before.terms, next);
    lines.push(match before.standing {
        Standing::Approved => format!("Version {version} bears the approvals that it needs."),
        Standing::Known => format!(
            "Version {version} is here without its approvals; sign the draft on the stick, which brings them."
        ),
        Standing::Unknown => format!(
            "THAT VERSION {version} IS NOT VERIFIED: too few officers of today have signed it."
        ),
    });
    Ok(lines)
}

/// Reads what may be a version before; what cannot be read is none.
fn read(path: &Path) -> Option<Proposal> {
    let bytes = files::read_limited(path, PROPOSAL_BYTES_MAX as u64).ok()?;
    Proposal::read(&bytes, PROPOSAL_BYTES_MAX).ok()
}

fn judge(
    proposal: &Proposal,
    mut standing: Standing,
    manifest: Option<&TrustManifest>,
    opener: Opener<'_>,
) -> Option<Before> {
    let Content::Entitlement(terms) = Content::read(proposal, Some(opener)).ok()? else {
        return None;
    };
    let is_approved = manifest.is_some_and(|manifest| {
        let officers = proposal.known_approvers(manifest, Role::Mint);
        officers.is_ok_and(|officers| officers.len() as u64 >= manifest.threshold(Role::Mint))
    });
    if is_approved {
        standing = Standing::Approved;
    }
    Some(Before {
        terms: *terms,
        standing,
    })
}
