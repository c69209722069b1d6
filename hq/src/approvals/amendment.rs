//! The version before an amendment. Headquarters writes it beside the amendment's draft, as it was approved; officers
//! keep what they have approved themselves, encrypted as it came. So an officer without a registry sees what changes.

use std::path::Path;

use mintmark_console::{Failure, files};
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
use crate::registry::{self, entitlements};
use crate::trust;

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
    let proposal = collected(sql, record, &former)?;
    let name = MediaName::Draft {
        id: registry::parsed::<ObjectId>("draft", &former.id)?,
    };
    let bytes = proposal.to_bytes().map_err(crate::failure::protocol)?;
    Ok(Some((name, former.id, bytes)))
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
    let bytes = proposal.to_bytes().map_err(crate::failure::protocol)?;
    record.replace(&path, &bytes)
}

/// A version before, and whether enough officers of today have approved it.
struct Before {
    terms: Entitlement,
    is_approved: bool,
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
    let mut paths = vec![file.with_file_name(format!("draft-{id}.cose"))];
    if let Some(home) = &home {
        paths.extend(home.record().drafts_of(&id));
    }
    let mut candidates: Vec<Proposal> = paths.iter().filter_map(|path| read(path)).collect();
    // Headquarters knows the approvals of what it sent.
    if let Some(home) = home
        .as_ref()
        .filter(|home| home.config.role == HomeRole::Hq)
    {
        let sql = home.registry()?.sql;
        for listed in entitlements::versions(&sql, &next.vault, &next.id)? {
            if listed.terms.version == version
                && let Some(draft) = drafts::by_fingerprint(&sql, &listed.draft)?
            {
                candidates.push(collected(&sql, &home.record(), &draft)?);
            }
        }
    }
    let mut found: Option<Before> = None;
    for proposal in candidates {
        let Some(before) = judge(&proposal, manifest, opener) else {
            continue;
        };
        let same = (&before.terms.id, &before.terms.vault, before.terms.version)
            == (&next.id, &next.vault, version);
        let better = found
            .as_ref()
            .is_none_or(|found| before.is_approved && !found.is_approved);
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
    lines.push(if before.is_approved {
        format!("Version {version} bears the approvals that it needs.")
    } else {
        format!("THAT VERSION {version} IS NOT VERIFIED: too few officers of today have signed it.")
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
    Some(Before {
        terms: *terms,
        is_approved,
    })
}
