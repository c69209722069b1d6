//! `hq entitlement export`: what was approved of an entitlement, sealed for its vault.

use std::path::Path;

use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::revocation::Target;

use super::list;
use crate::commands::site;
use crate::home::Home;
use crate::keyring::{DISPATCH, Keyring};
use crate::registry::{self, entitlements, orders as numbered};
use crate::{approvals, failure, orders, own_restore, trust};

pub(super) fn run(
    home: Option<&Path>,
    id: &str,
    confirmation: &Confirmation,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    let manifest = trust::in_force(&home)?;
    let kinds = [Kind::Entitlement, Kind::Revocation];
    let draft = approvals::find(&registry.sql, &kinds, id, |draft| {
        if let Some(listed) = entitlements::by_draft(&registry.sql, &draft.fingerprint)? {
            return Ok(listed.terms.id.as_str() == id);
        }
        let order = numbered::by_draft(&registry.sql, &draft.fingerprint)?;
        let revocation = order.map(|order| order.revocation()).transpose()?.flatten();
        Ok(revocation.is_some_and(
            |revocation| matches!(&revocation.target, Target::Entitlement(of) if of.as_str() == id),
        ))
    })?;
    if draft.kind == Kind::Revocation {
        return site::orders::finish(&home, &draft, confirmation, dry_run, console);
    }
    let listed = entitlements::by_draft(&registry.sql, &draft.fingerprint)?;
    let listed =
        listed.ok_or_else(|| failure::home_corrupt(format!("{} has no terms", draft.id)))?;
    let terms = &listed.terms;
    if !orders::is_open(&draft)? {
        console.note(format!(
            "`{}` was sealed before; `hq media export` carries it",
            draft.id
        ));
        return list::run(Some(home.folder()), Some(&draft.id), console);
    }
    let name = orders::serving(&registry.sql, &terms.vault)?.name;
    own_restore::expect_reported(&registry.sql, &trust::chain(&home)?, &name)?;
    if numbered::is_revoked(&registry.sql, &name, &Target::Entitlement(terms.id.clone()))? {
        return Err(failure::usage(
            "ENTITLEMENT-REVOKED",
            format!("entitlement `{}` of {name} was revoked, for good", terms.id),
            "give the policy another id and draft that",
        ));
    }
    let ready = orders::ready(&registry.sql, &record, &manifest, &draft, console)?;
    if dry_run {
        console.note(format!("would seal `{}` for {name}", draft.id));
        return Ok(Exit::Done);
    }
    let what = format!(
        "seal `{}` for {name}, which then may make what it says",
        draft.id
    );
    console.confirm_if_attended(&what, &draft.id, confirmation.identifier.as_deref())?;
    let signer = Keyring::new(&home.config, console)?.signer(DISPATCH)?;
    let transaction = registry.transaction()?;
    let sent = orders::seal(
        &transaction,
        &record,
        (&manifest, &*signer),
        &draft,
        &ready,
        (terms.id.to_string(), terms.version),
        Vec::new(),
    )?;
    entitlements::send(&transaction, terms, &draft.fingerprint, &ready.approvers)?;
    registry::commit_kept(transaction, &record)?;
    let approvers = &ready.approvers;
    let json = serde_json::json!({
        "schema": "mintmark/entitlement/1",
        "id": terms.id.as_str(),
        "draft": draft.id,
        "version": terms.version,
        "site": name.site.as_str(),
        "vault": name.vault.as_str(),
        "state": "sent",
        "approvers": approvers.iter().map(|officer| officer.as_str()).collect::<Vec<_>>(),
        "fingerprint": draft.fingerprint.to_string(),
        "dispatch_epoch": sent.epoch,
        "dispatch_sequence": sent.sequence,
    });
    crate::commands::say(
        console,
        &json,
        [
            format!("sealed       {} for {name}", draft.id),
            format!("dispatch     {} of epoch {}", sent.sequence, sent.epoch),
            "next: `hq media export` and carry the stick to the site".to_owned(),
        ],
    )
}
