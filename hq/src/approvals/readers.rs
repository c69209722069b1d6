//! Who can read a draft: those who held its role on the day that it was drafted. Who came since cannot, and so cannot
//! approve it.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::OfficerId;
use mintmark_protocol::revocation::Target;
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;

use super::role;
use crate::failure;
use crate::registry::drafts::Draft;
use crate::registry::{device_cas, orders};

/// The command that drafts it again, in words, if those of today's officers who have approved a draft or can read it are
/// too few for it ever to be approved.
pub(crate) fn draft_again(
    sql: &Connection,
    draft: &Draft,
    collected: &Proposal,
    manifest: &TrustManifest,
) -> Result<Option<String>, Failure> {
    if !draft.kind.is_encrypted() {
        return Ok(None);
    }
    let role = role(draft.kind)?;
    let approved = collected.known_approvers(manifest, role);
    let mut able: BTreeSet<OfficerId> = approved.map_err(failure::protocol)?;
    let readers = manifest
        .holders(role)
        .filter(|officer| collected.is_for(&officer.agreement_key));
    able.extend(readers.map(|officer| officer.id.clone()));
    if able.len() as u64 >= manifest.threshold(role) {
        return Ok(None);
    }
    command(sql, draft).map(Some)
}

fn command(sql: &Connection, draft: &Draft) -> Result<String, Failure> {
    let command = match draft.kind {
        Kind::Entitlement if draft.version == 1 => "entitlement draft",
        Kind::Entitlement => "entitlement amend",
        Kind::Revocation => {
            let order = orders::by_draft(sql, &draft.fingerprint)?;
            let revocation = order.map(|order| order.revocation()).transpose()?.flatten();
            match revocation.map(|revocation| revocation.target) {
                Some(Target::Vault) => "site disable",
                Some(Target::DeviceCa(_)) => "site revoke",
                Some(Target::Devices(_)) => "device revoke",
                Some(Target::Entitlement(_)) | None => "entitlement revoke",
            }
        }
        Kind::ClockCorrection => "site clock",
        Kind::Reanchor => "site reanchor",
        _ => {
            let device_cas = match &draft.vault {
                Some(vault) => device_cas::of_vault(sql, vault)?,
                None => Vec::new(),
            };
            let asked = device_cas
                .iter()
                .find(|device_ca| device_ca.draft == draft.fingerprint);
            match asked {
                // The root has signed for this name; it does so once.
                Some(asked) if asked.granted_at.is_some() => {
                    return Ok(
                        "`hq site succeed`, for a vault of another name in its place".to_owned(),
                    );
                }
                Some(asked) if asked.generation > 1 => "site rotate",
                _ => "site enrol",
            }
        }
    };
    Ok(format!("`hq {command}`"))
}
