//! `hq site disable|revoke|reanchor|clock`: numbered orders, from the draft to the dispatch.

use std::path::{Path, PathBuf};

use mintmark_console::time::rfc3339;
use mintmark_console::{Confirmation, Console, Exit, Failure};
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::encryption::random;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::order::{Order, REASON_RULE, may_give_reason};
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};
use rusqlite::Connection;
use serde_json::json;

use super::{list, resolve};
use crate::approvals::{self, APPROVE_DAYS, Content, device_ca, words};
use crate::clock::{self, DAY_SECONDS, now_unix};
use crate::commands::entitlement::{Drafting, GraveDrafting};
use crate::commands::{say, say_draft};
use crate::drafting::Subject;
use crate::home::Home;
use crate::keyring::{DISPATCH, Keyring};
use crate::orders::{self, Drafted};
use crate::record::times::What;
use crate::registry::drafts::Draft;
use crate::registry::orders::{self as numbered, Listed, State};
use crate::registry::vaults::{self, Vault};
use crate::registry::{self, bundles, device_cas, dispatches};
use crate::serials::{self, Serials};
use crate::{failure, own_restore, restored, root_crl, trust};

/// A moment as a person writes it, in Unix seconds.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no time such as 2027-01-31T12:00:00Z");
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
    u64::try_from(time.timestamp()).map_err(|_| wrong())
}

pub(super) fn disable(
    home: Option<&Path>,
    named: &str,
    reason: &str,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let vault = orders::serving(&registry.sql, &resolve(&registry.sql, named)?)?;
    drop(registry);
    revoke(&home, &vault, Target::Vault, reason, drafting, console)
}

pub(super) fn revoke_ca(
    home: Option<&Path>,
    (named, generation): (&str, Option<u16>),
    reason: &str,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let name = resolve(&registry.sql, named)?;
    let vault = vaults::find(&registry.sql, &name)?;
    let vault = vault.ok_or_else(|| failure::home_corrupt(format!("{name} is not registered")))?;
    let granted = device_cas::granted(&registry.sql, &name)?;
    let found = granted
        .iter()
        .rev()
        .find(|known| generation.is_none_or(|generation| known.generation == generation));
    let found = found.and_then(|found| {
        let certificate = found.certificate.as_deref()?;
        Some((found.generation, found.fingerprint()?, certificate))
    });
    let Some((generation, fingerprint, certificate)) = found else {
        return Err(failure::usage(
            "DEVICE-CA-UNKNOWN",
            format!("the vault {name} has no such device CA"),
            format!("`hq site show {name}` lists those that it has"),
        ));
    };
    let target = Target::DeviceCa(fingerprint);
    // An order that headquarters had forgotten, and a vault has told it of, left no trace on its root's CRL.
    if numbered::is_ordered(&registry.sql, &name, &target)? && root_crl::names(&home, certificate)?
    {
        return Err(failure::usage(
            "DEVICE-CA-REVOKED",
            format!("device CA {generation} of {name} was revoked before"),
            "`hq ca export` writes the root's CRL, which says so",
        ));
    }
    drop(registry);
    revoke(&home, &vault, target, reason, drafting, console)
}

/// Drafts a revocation, in place of an open draft of one that ends the same.
pub(crate) fn revoke(
    home: &Home,
    vault: &Vault,
    target: Target,
    reason: &str,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let same = |listed: &Listed| {
        let revocation = listed.revocation()?;
        Ok(revocation.is_some_and(|revocation| revocation.target == target))
    };
    if matches!(target, Target::Entitlement(_))
        && numbered::is_ordered(&home.registry()?.sql, &vault.name, &target)?
    {
        return Err(failure::usage(
            "ENTITLEMENT-REVOKED",
            format!("{target} of {} was revoked before", vault.name),
            "`hq entitlement show` says whether the vault has followed",
        ));
    }
    draft(
        home,
        vault,
        same,
        drafting,
        console,
        |number, now, until| {
            let revocation = Revocation {
                salt: random().map_err(failure::protocol)?,
                vault: vault.name.clone(),
                number,
                target: target.clone(),
                reason: reason_of(reason)?,
                drafted_at: now,
                approve_until: until,
            };
            Ok((
                Content::Revocation(Box::new(revocation.clone())),
                revocation,
            ))
        },
    )
}

pub(super) fn clock(
    home: Option<&Path>,
    (named, time): (&str, Option<u64>),
    reason: &str,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let vault = orders::serving(&registry.sql, &resolve(&registry.sql, named)?)?;
    drop(registry);
    let any = |_: &Listed| Ok(true);
    draft(
        &home,
        &vault,
        any,
        drafting,
        console,
        |number, now, until| {
            let correction = ClockCorrection {
                salt: random().map_err(failure::protocol)?,
                vault: vault.name.clone(),
                number,
                time: time.unwrap_or(now),
                reason: reason_of(reason)?,
                drafted_at: now,
                approve_until: until,
            };
            let content = Content::ClockCorrection(Box::new(correction.clone()));
            Ok((content, correction))
        },
    )
}

pub(super) fn reanchor(
    home: Option<&Path>,
    named: &str,
    reason: &str,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let vault = orders::serving(&registry.sql, &resolve(&registry.sql, named)?)?;
    let newest = bundles::newest_of(&registry.sql, &vault.name)?;
    drop(registry);
    let newest = newest.ok_or_else(|| {
        failure::usage(
            "REANCHOR-NO-BUNDLE",
            format!(
                "HQ holds no bundle of {}: there is nothing to vouch for",
                vault.name
            ),
            "a vault that has reported nothing yet is set up anew, with `hq site succeed`",
        )
    })?;
    let any = |_: &Listed| Ok(true);
    draft(
        &home,
        &vault,
        any,
        drafting,
        console,
        |number, now, until| {
            let reanchor = Reanchor {
                salt: random().map_err(failure::protocol)?,
                vault: vault.name.clone(),
                number,
                lineage: newest.lineage,
                bundle_sequence: newest.sequence,
                bundle_fingerprint: newest.fingerprint,
                log_size: newest.log_size,
                log_root: newest.log_root,
                reason: reason_of(reason)?,
                drafted_at: now,
                approve_until: until,
            };
            Ok((Content::Reanchor(Box::new(reanchor.clone())), reanchor))
        },
    )
}

/// A reason as orders can state it.
fn reason_of(text: &str) -> Result<String, Failure> {
    if may_give_reason(text) {
        return Ok(text.to_owned());
    }
    Err(failure::usage(
        "REASON-INVALID",
        REASON_RULE,
        "say in one line why; officers and the vault's log will show it",
    ))
}

/// Drafts the next order of its kind, in place of an open draft of the same.
fn draft<T: Order>(
    home: &Home,
    vault: &Vault,
    same: impl Fn(&Listed) -> Result<bool, Failure>,
    drafting: &GraveDrafting,
    console: &Console,
    make: impl FnOnce(u64, u64, u64) -> Result<(Content, T), Failure>,
) -> Result<Exit, Failure> {
    let mut registry = home.registry()?;
    let manifest = trust::in_force(home)?;
    if let Some(text) = own_restore::warning(&registry.sql, &trust::chain(home)?, &vault.name)? {
        console.warn_coded(own_restore::UNREPORTED, text);
    }
    let now = now_unix();
    let number = numbered::next_number(&registry.sql, &vault.name, T::KIND, now, same)?;
    let until = now.saturating_add(APPROVE_DAYS * DAY_SECONDS);
    let (content, order) = make(number, now, until)?;
    let drafted = Drafted::new(&order, manifest.content(), vault, (number, now))?;
    let mut words = words::describe(&content);
    words.extend(device_ca::known_at_hq(&registry.sql, &content)?);
    let Drafting { output, dry_run } = &drafting.drafting;
    let file = if *dry_run {
        PathBuf::new()
    } else {
        let (what, identifier) = gravity(&content, vault);
        let given = drafting.confirmation.identifier.as_deref();
        console.confirm_if_attended(&what, &identifier, given)?;
        let dispatch = Keyring::new(&home.config, console)?.signer(DISPATCH)?;
        let transaction = registry.transaction()?;
        let output = output.as_deref();
        let listed = Listed {
            draft: drafted.draft.fingerprint,
            vault: vault.name.clone(),
            kind: T::KIND,
            number,
            state: State::Draft,
            sent_at: None,
            plaintext: order.to_cbor(),
        };
        let (subject, record) = (Subject::Order(&listed), home.record());
        let (file, gone) = drafted.keep(&transaction, &record, &*dispatch, &subject, output)?;
        approvals::commit_draft(transaction, &record, &gone, console)?;
        file
    };
    let schema = "mintmark/site/1";
    say_draft(console, schema, &drafted.draft, &file, &words, *dry_run)
}

/// What an order does once it is approved and sent, and the identifier that a person types to have it drafted.
fn gravity(content: &Content, vault: &Vault) -> (String, String) {
    let name = vault.name.to_string();
    let what = match content {
        Content::Revocation(revocation) => match &revocation.target {
            Target::Vault => {
                format!("draft that {name} makes no new devices until its device CA is changed")
            }
            Target::DeviceCa(_) => format!(
                "draft that a device CA of {name}, and every device that it certified, is no longer good"
            ),
            Target::Entitlement(id) => {
                return (
                    format!("draft the end of entitlement {id} of {name}, for good"),
                    id.to_string(),
                );
            }
            Target::Devices(devices) => format!(
                "draft the end of {} certificates of devices that {name} made",
                devices.len()
            ),
        },
        Content::Reanchor(_) => {
            format!("draft that {name} goes on from what headquarters holds of its log")
        }
        _ => format!("draft another time for the log of {name}"),
    };
    (what, name)
}

/// Seals an approved order for its vault. For a device CA, the root's CRL says so first.
pub(crate) fn finish(
    home: &Home,
    draft: &Draft,
    confirmation: &Confirmation,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let mut registry = home.registry()?;
    let record = home.record();
    restored::expect_declared(home)?;
    let manifest = trust::in_force(home)?;
    let name = orders::vault_of(draft)?.clone();
    if !orders::is_open(draft)? {
        console.note(format!(
            "`{}` was sent before; `hq media export` carries it",
            draft.id
        ));
        return list::run(Some(home.folder()), Some(&name.to_string()), console);
    }
    let listed = numbered::by_draft(&registry.sql, &draft.fingerprint)?;
    let listed =
        listed.ok_or_else(|| failure::home_corrupt(format!("{} has no content", draft.id)))?;
    let target = listed.revocation()?.map(|revocation| revocation.target);
    let revoked_ca = match &target {
        Some(Target::DeviceCa(fingerprint)) => Some(*fingerprint),
        _ => None,
    };
    // A lost vault is told nothing any more; that what it certified is no longer good, everybody else is.
    let vault = match target {
        Some(Target::DeviceCa(_) | Target::Devices(_)) => orders::let_in(&registry.sql, &name)?,
        _ => orders::serving(&registry.sql, &name)?,
    };
    let is_closed = vault.successor.is_some();
    let ready = orders::ready(&registry.sql, &record, &manifest, draft, console)?;
    // Headquarters goes by what it noted, the vault by what officers approved.
    if ready.proposal.context().commitment != Some(Fingerprint::of(&listed.plaintext)) {
        return Err(failure::home_corrupt(format!(
            "what is noted of `{}` is not what officers approved",
            draft.id
        )));
    }
    let ring = Keyring::new(&home.config, console)?;
    if let Some(Target::Devices(devices)) = &target {
        serials::expect_right(&Serials::new(&ring).of(&vault)?, devices)?;
    }
    if dry_run {
        let crl = if revoked_ca.is_some() {
            ", and have the root sign its CRL"
        } else {
            ""
        };
        console.note(format!("would send `{}` to {name}{crl}", draft.id));
        return Ok(Exit::Done);
    }
    let what = match revoked_ca {
        Some(_) => format!(
            "send `{}` to {name}, and have the root sign its CRL",
            draft.id
        ),
        None => format!("send `{}` to {name}", draft.id),
    };
    console.confirm_if_attended(&what, &draft.id, confirmation.identifier.as_deref())?;
    let mut crl_number = None;
    if let Some(fingerprint) = &revoked_ca {
        let number = root_crl::sign(home, &registry.sql, &ring, (&name, fingerprint), console)?;
        crl_number = Some(number);
    }
    let now = now_unix();
    let transaction = registry.transaction()?;
    let sent = if is_closed {
        let draft = draft.fingerprint;
        numbered::seal_untold(&transaction, &draft)?;
        clock::at(now, || record.note(What::Untold { draft }))?;
        None
    } else {
        let signer = ring.signer(DISPATCH)?;
        let seal = || {
            orders::seal(
                &transaction,
                &record,
                (&manifest, &*signer),
                draft,
                &ready,
                (draft.id.clone(), listed.number),
                Vec::new(),
            )
        };
        Some(clock::at(now, seal)?)
    };
    numbered::set_state(&transaction, &draft.fingerprint, State::Sent, now)?;
    registry::commit_kept(transaction, &record)?;
    let json = json!({
        "schema": "mintmark/site/1",
        "id": draft.id,
        "type": draft.kind.as_str(),
        "number": listed.number,
        "site": name.site.as_str(),
        "vault": name.vault.as_str(),
        "state": "sent",
        "crl_number": crl_number,
        "approvers": ready.approvers.iter().map(|officer| officer.as_str()).collect::<Vec<_>>(),
        "dispatch_epoch": sent.as_ref().map(|sent| sent.epoch),
        "dispatch_sequence": sent.as_ref().map(|sent| sent.sequence),
        "fingerprint": draft.fingerprint.to_string(),
    });
    let mut lines = vec![format!("sealed       {} for {name}", draft.id)];
    if let Some(number) = crl_number {
        lines.push(format!("root CRL     {number}"));
        lines.push("next: `hq ca export` writes it; give it to whoever checks devices".to_owned());
    }
    if let Some(sent) = sent {
        lines.push(format!(
            "dispatch     {} of epoch {}",
            sent.sequence, sent.epoch
        ));
        lines.push("next: `hq media export` and carry the stick to the site".to_owned());
    } else {
        lines.push(format!("{name} was replaced: nothing is sent to it"));
    }
    say(console, &json, lines)
}

/// What officers ordered of a vault, line by line: for people.
pub(super) fn told(sql: &Connection, vault: &Vault) -> Result<Vec<serde_json::Value>, Failure> {
    let mut told = Vec::new();
    for order in numbered::of_vault(sql, &vault.name)? {
        let draft = registry::drafts::by_fingerprint(sql, &order.draft)?;
        let id = draft.map(|draft| draft.id).unwrap_or_default();
        let sent = (id.as_str(), order.number);
        let followed = dispatches::is_seen(sql, &vault.name, order.kind, sent)? == Some(true);
        let state = match order.state {
            State::Sent if followed => "followed",
            State::Sent => "sent",
            State::Draft => "draft",
            State::Superseded => "superseded",
            State::Refused => "refused",
        };
        let target = order.revocation()?.map(|found| found.target.to_string());
        told.push(json!({
            "id": id,
            "type": order.kind.as_str(),
            "number": order.number,
            "target": target,
            "state": state,
            "sent_at": order.sent_at.map(rfc3339),
        }));
    }
    Ok(told)
}
