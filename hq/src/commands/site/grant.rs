//! `hq site grant`: what officers approved of a vault is done, and sent. For a vault's certificates the root signs
//! exactly what they approved.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::enrolment::{EnrolmentGrant, FIRST_GENERATION, Purpose};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::succession::Succession;
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;
use serde_json::json;

use super::{enrol, list, orders as numbered};
use crate::clock::now_unix;
use crate::commands::say;
use crate::home::Home;
use crate::keyring::{DISPATCH, Keyring};
use crate::orders::{self, Ready};
use crate::registry::device_cas::{self, DeviceCa};
use crate::registry::drafts::Draft;
use crate::registry::vaults::{self, Certificates, Vault};
use crate::registry::{self, orders as numbered_orders};
use crate::{approvals, clock, failure, trust, write_offs};

pub(super) fn run(
    home: Option<&Path>,
    id: &str,
    confirmation: &Confirmation,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let kinds = [
        Kind::EnrolmentGrant,
        Kind::Revocation,
        Kind::ClockCorrection,
        Kind::Reanchor,
    ];
    let draft = approvals::find(&registry.sql, &kinds, id, |draft| {
        let vault = draft.vault.as_ref();
        Ok(vault.is_some_and(|vault| vault.to_string() == id))
    })?;
    drop(registry);
    if draft.kind == Kind::EnrolmentGrant {
        grant(&home, &draft, confirmation, dry_run, console)
    } else {
        numbered::finish(&home, &draft, confirmation, dry_run, console)
    }
}

/// A grant that enough officers approved, read back.
fn approved(home: &Home, ready: &Ready, ring: &Keyring<'_>) -> Result<EnrolmentGrant, Failure> {
    let audit = ring.audit()?;
    let opener = audit.opener();
    let grant = EnrolmentGrant::proposed(&ready.proposal, opener).map_err(failure::protocol)?;
    approvals::expect_keys_asked_for(&grant)?;
    // Made under a former root, it is refused as that, or was sent before.
    let manifests = trust::chain(home)?;
    let manifests = manifests.iter().map(Verified::content);
    approvals::expect_certificates(&grant, manifests)?;
    Ok(grant)
}

fn grant(
    home: &Home,
    draft: &Draft,
    confirmation: &Confirmation,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let mut registry = home.registry()?;
    let record = home.record();
    let manifest = trust::in_force(home)?;
    let name = orders::vault_of(draft)?.clone();
    let vault = vaults::find(&registry.sql, &name)?;
    let vault = vault.ok_or_else(|| failure::home_corrupt(format!("{name} is not registered")))?;
    if !orders::is_open(draft)? {
        console.note(format!("{name} was granted before"));
        return list::run(Some(home.folder()), Some(&name.to_string()), console);
    }
    let device_cas = device_cas::of_vault(&registry.sql, &name)?;
    let newest = device_cas.iter().filter(|known| known.granted_at.is_some());
    let newest = newest.map(|known| known.generation).max();
    // A grant that is approved once more does not bring back a device CA that another took the place of.
    let asked = device_cas.into_iter().find(|device_ca| {
        device_ca.draft == draft.fingerprint && Some(device_ca.generation) >= newest
    });
    let asked = asked.ok_or_else(|| {
        failure::refused(
            "DRAFT-SUPERSEDED",
            format!("`{}` has been drafted anew since", draft.id),
            "grant the draft that `hq approval list` shows as open",
        )
    })?;
    enrol::expect_own_keys(&registry.sql, &vault)?;
    let ready = orders::ready(&registry.sql, &record, &manifest, draft, console)?;
    let ring = Keyring::new(&home.config, console)?;
    let grant = approved(home, &ready, &ring)?;
    let succession = grant.purpose.succession();
    expect_after_disable(&registry.sql, &grant)?;
    if let Some(succession) = succession {
        expect_current(&registry.sql, &name, succession)?;
    }
    if dry_run {
        console.note(format!(
            "would have the root sign the certificates of {name}, and send them"
        ));
        return Ok(Exit::Done);
    }
    let what = format!("have the root sign the certificates of {name}, and send them");
    console.confirm_if_attended(&what, &draft.id, confirmation.identifier.as_deref())?;
    let certificates = certify(&grant, &asked, &vault, &manifest, &ring)?;
    let dispatch = ring.signer(DISPATCH)?;
    let now = now_unix();
    let transaction = registry.transaction()?;
    let seal = || {
        orders::seal(
            &transaction,
            &record,
            (&manifest, &*dispatch),
            draft,
            &ready,
            (draft.id.clone(), 1),
            vec![
                certificates.identity.clone(),
                certificates.device_ca.clone(),
            ],
        )
    };
    let sent = clock::at(now, seal)?;
    let state = match &grant.purpose {
        Purpose::Enrolment | Purpose::Succession(_) => {
            vaults::grant(&transaction, &name, &certificates, now)?;
            "granted"
        }
        Purpose::Rotation { .. } => {
            vaults::rotate(&transaction, &name, &asked, &certificates, now)?;
            "rotated"
        }
    };
    let mut written_off = Vec::new();
    if let Some(succession) = succession {
        let write_off = || write_offs::write_off(&transaction, &name, succession, &ring);
        written_off = clock::at(now, write_off)?;
    }
    registry::commit_kept(transaction, &record)?;
    let json = json!({
        "schema": "mintmark/site/1",
        "id": draft.id,
        "site": name.site.as_str(),
        "vault": name.vault.as_str(),
        "state": state,
        "device_ca": asked.generation,
        "replaces": succession.map(|succession| succession.replaces.as_str()),
        "written_off": written_off,
        "dispatch_epoch": sent.epoch,
        "dispatch_sequence": sent.sequence,
        "fingerprint": draft.fingerprint.to_string(),
    });
    let mut lines = vec![
        format!("{state:<12} {name}, device CA {}", asked.generation),
        format!("dispatch     {} of epoch {}", sent.sequence, sent.epoch),
    ];
    for off in &written_off {
        lines.push(format!(
            "written off  {} units of {} in {}",
            off["units"],
            off["product"].as_str().unwrap_or_default(),
            off["entitlement"].as_str().unwrap_or_default()
        ));
    }
    lines.push("next: `hq media export` and carry the stick to the site".to_owned());
    if !written_off.is_empty() {
        lines.push(format!(
            "then: the units may be granted again to {name}, with `hq entitlement draft`"
        ));
    }
    say(console, &json, lines)
}

/// Has the root sign exactly what officers approved. What it signed before for the same approval stays as it is.
fn certify(
    grant: &EnrolmentGrant,
    asked: &DeviceCa,
    vault: &Vault,
    manifest: &Verified<TrustManifest>,
    ring: &Keyring<'_>,
) -> Result<Certificates, Failure> {
    let is_of = |der: &[u8], tbs: &[u8]| {
        Certificate::from_der(der).is_ok_and(|certificate| certificate.tbs_der() == tbs)
    };
    if let (Some(known), Some(_)) = (&vault.certificates, asked.granted_at)
        && is_of(&known.identity, &grant.identity_tbs)
        && is_of(&known.device_ca, &grant.device_ca_tbs)
    {
        return Ok(known.clone());
    }
    let issuer =
        Issuer::from_certificate_der(&manifest.content().root_certificate).map_err(failure::pki)?;
    let root = ring.root_signer(issuer.public_key())?;
    let sign = |tbs: &[u8]| -> Result<Vec<u8>, Failure> {
        let signature = root.sign(tbs).map_err(failure::keys)?;
        let der = mintmark_pki::assemble(tbs, &signature).map_err(failure::pki)?;
        // The officers approved what names its issuer, and that is a former root if there is a new one since.
        let certificate = Certificate::from_der(&der).map_err(failure::pki)?;
        if certificate.verify_issued_by(&issuer).is_err() {
            let command = if asked.generation == FIRST_GENERATION {
                "enrol"
            } else {
                "rotate"
            };
            return Err(failure::refused(
                "GRANT-ROOT-FORMER",
                format!(
                    "the draft for {} was made under a root that another has taken the place of",
                    vault.name
                ),
                format!("draft it again with `hq site {command}`, and have that approved"),
            ));
        }
        Ok(der)
    };
    Ok(Certificates {
        identity: sign(&grant.identity_tbs)?,
        device_ca: sign(&grant.device_ca_tbs)?,
    })
}

/// A rotation ends a disablement. One that officers approved before the vault was disabled says nothing of that, and the
/// vault will refuse it.
fn expect_after_disable(sql: &Connection, grant: &EnrolmentGrant) -> Result<(), Failure> {
    let (Purpose::Rotation { .. }, Some(disabled_at)) = (
        &grant.purpose,
        numbered_orders::disabled_at(sql, &grant.vault, true)?,
    ) else {
        return Ok(());
    };
    if grant.drafted_at > disabled_at {
        return Ok(());
    }
    Err(failure::refused(
        "GRANT-BEFORE-DISABLE",
        format!(
            "the rotation of {} was drafted at {}, and the order that disables it at {}",
            grant.vault,
            rfc3339(grant.drafted_at),
            rfc3339(disabled_at)
        ),
        "have the rotation drafted and approved again",
    ))
}

/// Officers approved what was known of the lost vault when it was drafted. If HQ has learnt more since, they approve that.
fn expect_current(
    sql: &Connection,
    successor: &VaultName,
    approved: &Succession,
) -> Result<(), Failure> {
    let old = VaultName {
        site: successor.site.clone(),
        vault: approved.replaces.clone(),
    };
    // An approval that is collected once more finds the old vault closed, and nothing to be done there.
    if let Some(vault) = vaults::find(sql, &old)?
        && vault.successor.as_ref() == Some(&successor.vault)
    {
        return Ok(());
    }
    if enrol::succession(sql, &old)? == *approved {
        return Ok(());
    }
    Err(failure::refused(
        "SUCCESSION-STALE",
        format!("HQ has learnt more of {old} since this was drafted: other slots are in doubt now"),
        "draft it again with `hq site succeed`, and have that approved",
    ))
}
