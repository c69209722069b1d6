//! `hq site next`: the order in which a vault that cannot be relied on any more is dealt with: disable, inspect, rotate,
//! revoke. It says which step is next, and the command for it.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;
use serde_json::json;

use crate::commands::say;
use crate::home::Home;
use crate::record::Record;
use crate::registry::drafts::{self, Draft, State as DraftState};
use crate::registry::replays;
use crate::registry::vaults::{self, Vault};
use crate::standing::{self, Standing, State};
use crate::{approvals, clock, failure, trust};

/// A step, and what is to be done for it.
struct Step {
    /// `enrol`, `disable`, `inspect`, `rotate`, `revoke` or `none`.
    name: &'static str,
    why: String,
    commands: Vec<String>,
    /// Of what waits for approval: how many approvals count today, and how many it needs.
    approvals: Option<(u64, u64)>,
}

/// What is known beside a vault and its standing.
struct Known<'a> {
    sql: &'a Connection,
    record: Record,
    manifest: Option<Verified<TrustManifest>>,
}

impl Known<'_> {
    /// How many approvals of a draft count today, and how many it needs, by the judge whom it lacks most of.
    fn approvals(&self, draft: &Draft) -> Result<(u64, u64), Failure> {
        let proposal = approvals::collected(self.sql, &self.record, draft)?;
        let judges = approvals::judges(&proposal, self.manifest.as_ref())?;
        let tally = approvals::tally(&proposal, &judges)?.into_iter();
        let counted = tally.map(|(needed, officers)| (officers.len() as u64, needed));
        Ok(counted
            .max_by_key(|(counted, needed)| needed.saturating_sub(*counted))
            .unwrap_or_default())
    }

    fn approve(&self, name: &'static str, what: &str, draft: &Draft) -> Result<Step, Failure> {
        let (counted, needed) = self.approvals(draft)?;
        let grant = format!("hq site grant {}", draft.id);
        let mut commands = Vec::new();
        if counted < needed {
            commands.push(
                "hq media export DIR, for the officers to approve it, then hq media import DIR"
                    .to_owned(),
            );
        }
        commands.push(grant);
        Ok(Step {
            name,
            why: format!(
                "{what} is drafted: `{}`, with {counted} of {needed} approvals",
                draft.id
            ),
            commands,
            approvals: Some((counted, needed)),
        })
    }
}

impl Step {
    fn new<const N: usize>(
        name: &'static str,
        why: impl Into<String>,
        commands: [String; N],
    ) -> Self {
        Self {
            name,
            why: why.into(),
            commands: commands.into(),
            approvals: None,
        }
    }

    fn carry(name: &'static str, what: &str) -> Self {
        Self::new(
            name,
            format!("{what} is on its way; the vault's next bundle tells that it follows"),
            [
                "hq media export DIR".to_owned(),
                "site media import DIR, then site media export DIR".to_owned(),
                "hq media import DIR".to_owned(),
            ],
        )
    }
}

pub(super) fn run(home: Option<&Path>, named: &str, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let mut vaults = vaults::all(&registry.sql)?;
    vaults.retain(|vault| vault.name.site.as_str() == named || vault.name.to_string() == named);
    if vaults.is_empty() {
        return Err(failure::usage(
            "SITE-UNKNOWN",
            format!("there is no site or vault `{named}`"),
            "`hq site list` shows which there are",
        ));
    }
    let known = Known {
        sql: &registry.sql,
        record: home.record(),
        manifest: trust::newest(&home)?,
    };
    let mut rows = Vec::new();
    let mut lines = Vec::new();
    for vault in vaults {
        let standing = standing::of(&registry.sql, &vault)?;
        let step = step(&known, &vault, &standing)?;
        let mut row = json!({
            "site": vault.name.site.as_str(),
            "vault": vault.name.vault.as_str(),
            "state": standing.state.as_str(),
            "device_ca": standing.generation,
            "step": step.name,
            "why": step.why,
            "commands": step.commands,
        });
        if let Some((counted, needed)) = step.approvals {
            row["approvals"] = json!({ "counted": counted, "needed": needed });
        }
        rows.push(row);
        lines.push(format!(
            "{} is {}; next step: {}",
            vault.name,
            standing.state.as_str(),
            step.name
        ));
        lines.push(format!("  {}", step.why));
        lines.extend(step.commands.iter().map(|command| format!("  {command}")));
    }
    let json = json!({ "schema": "mintmark/site/1", "vaults": rows });
    say(console, &json, lines)
}

fn step(known: &Known<'_>, vault: &Vault, standing: &Standing) -> Result<Step, Failure> {
    let name = &vault.name;
    let revoke = |generation: u16| {
        Step::new(
            "revoke",
            format!(
                "device CA {generation} is no longer in force; if what it certified may be forged, revoke it: those \
                 devices are certified again by device CA {}",
                standing.generation
            ),
            [format!(
                "hq site revoke {name} --device-ca {generation} --reason TEXT"
            )],
        )
    };
    let open = |drafts: &[Draft]| drafts.first().cloned();
    Ok(match standing.state {
        State::Requested => {
            let open = |draft: &Draft| {
                draft.state == DraftState::Open && clock::now_unix() < draft.approve_until
            };
            match drafts::by_fingerprint(known.sql, &vault.draft)?.filter(open) {
                Some(draft) => known.approve("enrol", "that it is let in", &draft)?,
                None => Step::new(
                    "enrol",
                    "it asked to be let in, and no draft of that collects approvals any more",
                    [
                        "hq site enrol --request FILE --fingerprint HEX, or hq site succeed if it replaces another vault"
                            .to_owned(),
                    ],
                ),
            }
        }
        State::Succeeded => match open(&standing.revoke_drafts) {
            Some(draft) => known.approve("revoke", "the revocation of its device CA", &draft)?,
            None => Step::new(
                "none",
                "another vault took its place; if its keys may be in wrong hands, revoke its device CA",
                [format!("hq site revoke {name} --reason TEXT")],
            ),
        },
        State::Granted | State::Revoked => match (
            open(&standing.revoke_drafts),
            &standing.disable_draft,
            standing.former.last(),
        ) {
            (Some(draft), _, _) => {
                known.approve("revoke", "the revocation of a device CA", &draft)?
            }
            (None, Some(draft), _) => known.approve("disable", "the order to stop", draft)?,
            (None, None, _)
                if standing.state == State::Revoked
                    || rotation_is_asked(known, vault, standing)? =>
            {
                rotate(known, vault, standing)?
            }
            (None, None, Some(former)) => revoke(former.generation),
            (None, None, None) => Step::new(
                "disable",
                "nothing is under way; if the vault cannot be relied on, this comes first",
                [format!("hq site disable {name} --reason TEXT")],
            ),
        },
        State::Disabling => Step::carry("disable", "the order to stop"),
        State::Disabled => {
            if rotation_is_asked(known, vault, standing)? {
                rotate(known, vault, standing)?
            } else {
                inspect(known.sql, vault)?
            }
        }
        State::Rotating => Step::carry("rotate", "the next device CA"),
    })
}

fn inspect(sql: &Connection, vault: &Vault) -> Result<Step, Failure> {
    let (name, site) = (&vault.name, &vault.name.site);
    let findings = crate::registry::bundles::finding_count(sql, name)?;
    Ok(Step::new(
        "inspect",
        format!(
            "the vault makes nothing new; {findings} findings are on record. Look at what it did, then rotate if its \
             token is sound, or replace the vault if it is not"
        ),
        [
            format!("hq reconcile --site {site}"),
            format!("hq audit log --site {site}"),
            "site doctor, at the vault".to_owned(),
            "sound: site rotate, at the vault; then hq site rotate --request FILE --fingerprint HEX".to_owned(),
            format!(
                "not sound: site init --vault NEW, at the site; then hq site succeed --request FILE --fingerprint HEX \
                 --replaces {}",
                name.vault
            ),
        ],
    ))
}

/// Whether the next device CA is drafted, or the vault's log says that it asks for it.
fn rotation_is_asked(
    known: &Known<'_>,
    vault: &Vault,
    standing: &Standing,
) -> Result<bool, Failure> {
    Ok(standing.rotation_draft.is_some() || pending(known, vault)?.is_some())
}

/// The device CA that the vault asks for, as its newest bundle has it.
fn pending(known: &Known<'_>, vault: &Vault) -> Result<Option<u16>, Failure> {
    let replay = replays::load(known.sql, &vault.name)?;
    let asked = replay.state().rotation_pending();
    Ok(asked.map(|rotation| rotation.generation))
}

fn rotate(known: &Known<'_>, vault: &Vault, standing: &Standing) -> Result<Step, Failure> {
    if let Some(draft) = &standing.rotation_draft {
        return known.approve("rotate", "the next device CA", draft);
    }
    let name = &vault.name;
    let draft = "hq site rotate --request FILE --fingerprint HEX".to_owned();
    Ok(match pending(known, vault)? {
        Some(generation) => Step::new(
            "rotate",
            format!(
                "{name} asks for its device CA {generation}; have the operator read out the fingerprint of the request"
            ),
            [draft],
        ),
        None => Step::new(
            "rotate",
            format!("{name} certifies nothing until it has its next device CA"),
            [
                "site rotate, at the vault; then site media export DIR".to_owned(),
                draft,
            ],
        ),
    })
}
