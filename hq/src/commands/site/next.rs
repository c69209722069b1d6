//! `hq site next`: the order in which a vault that cannot be relied on any more is dealt with: disable, inspect, rotate,
//! revoke. It says which step is next, and the command for it.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use rusqlite::Connection;
use serde_json::json;

use crate::commands::say;
use crate::failure;
use crate::home::Home;
use crate::registry::drafts::Draft;
use crate::registry::vaults::{self, Vault};
use crate::standing::{self, Standing, State};

/// A step, and what is to be done for it.
struct Step {
    /// `enrol`, `disable`, `inspect`, `rotate`, `revoke` or `none`.
    name: &'static str,
    why: String,
    commands: Vec<String>,
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
        }
    }

    fn approve(name: &'static str, what: &str, draft: &Draft) -> Self {
        Self::new(
            name,
            format!("{what} is drafted: `{}`", draft.id),
            [
                "hq media export DIR, for the officers to approve it, then hq media import DIR"
                    .to_owned(),
                format!("hq site grant {}", draft.id),
            ],
        )
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
    let mut rows = Vec::new();
    let mut lines = Vec::new();
    for vault in vaults {
        let standing = standing::of(&registry.sql, &vault)?;
        let step = step(&registry.sql, &vault, &standing)?;
        rows.push(json!({
            "site": vault.name.site.as_str(),
            "vault": vault.name.vault.as_str(),
            "state": standing.state.as_str(),
            "device_ca": standing.generation,
            "step": step.name,
            "why": step.why,
            "commands": step.commands,
        }));
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

fn step(sql: &Connection, vault: &Vault, standing: &Standing) -> Result<Step, Failure> {
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
        State::Requested => Step::new(
            "enrol",
            "it asked to be let in",
            [format!(
                "hq site grant {name}, once officers have approved it"
            )],
        ),
        State::Succeeded => match open(&standing.revoke_drafts) {
            Some(draft) => Step::approve("revoke", "the revocation of its device CA", &draft),
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
            (Some(draft), _, _) => Step::approve("revoke", "the revocation of a device CA", &draft),
            (None, Some(draft), _) => Step::approve("disable", "the order to stop", draft),
            (None, None, _) if standing.state == State::Revoked => rotate(vault, standing),
            (None, None, Some(former)) => revoke(former.generation),
            (None, None, None) => Step::new(
                "disable",
                "nothing is under way; if the vault cannot be relied on, this comes first",
                [format!("hq site disable {name} --reason TEXT")],
            ),
        },
        State::Disabling => Step::carry("disable", "the order to stop"),
        State::Disabled => {
            if standing.rotation_draft.is_some() {
                rotate(vault, standing)
            } else {
                inspect(sql, vault)?
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

fn rotate(vault: &Vault, standing: &Standing) -> Step {
    if let Some(draft) = &standing.rotation_draft {
        return Step::approve("rotate", "the next device CA", draft);
    }
    Step::new(
        "rotate",
        format!(
            "{} certifies nothing until it has its next device CA",
            vault.name
        ),
        [
            "site rotate, at the vault; then site media export DIR".to_owned(),
            "hq site rotate --request FILE --fingerprint HEX".to_owned(),
        ],
    )
}
