//! `hq entitlement draft|amend|credit`: the terms that officers are to approve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, Failure};
use mintmark_ledger::policy::{Draft as PolicyDraft, Policy};
use mintmark_protocol::encryption::random;
use mintmark_protocol::entitlement::{Credit, Entitlement};
use mintmark_protocol::identifier::{EntitlementId, VaultName};
use mintmark_protocol::key_terms::KeyTerms;
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;

use super::{Drafting, Place};
use crate::approvals::{self, APPROVE_DAYS, amendment, words};
use crate::clock::{DAY_SECONDS, now_unix};
use crate::commands::{policy, say_draft};
use crate::drafting::Subject;
use crate::home::Home;
use crate::keyring::{DISPATCH, Keyring};
use crate::keysets;
use crate::orders::{self, Drafted};
use crate::registry::entitlements::{self, Listed};
use crate::registry::vaults::Vault;
use crate::registry::{accounts, orders as numbered, replays};
use crate::{failure, own_restore, trust};

pub(super) fn draft(
    home: Option<&Path>,
    name: &VaultName,
    file: &Path,
    drafting: &Drafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let policy = policy::read(file)?;
    let registry = home.registry()?;
    let vault = orders::serving(&registry.sql, name)?;
    own_restore::expect_reported(&registry.sql, &trust::chain(&home)?, name)?;
    let id = policy.id();
    if entitlements::newest_sent(&registry.sql, name, id)?.is_some() {
        return Err(failure::usage(
            "ENTITLEMENT-EXISTS",
            format!("the vault {name} has been sent an entitlement `{id}` already"),
            "change it with `hq entitlement amend`, or give the policy another id",
        ));
    }
    let terms = compile(&home, &registry.sql, (&policy, file), &vault, 1, console)?;
    keep(&home, &vault, &terms, None, drafting, console)
}

pub(super) fn amend(
    home: Option<&Path>,
    place: &Place,
    file: &Path,
    drafting: &Drafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let policy = policy::read(file)?;
    let registry = home.registry()?;
    let name = place.resolve(&registry.sql, policy.id())?;
    let vault = orders::serving(&registry.sql, &name)?;
    own_restore::expect_reported(&registry.sql, &trust::chain(&home)?, &name)?;
    let former = entitlements::newest_sent(&registry.sql, &name, policy.id())?;
    let version = former.as_ref().map_or(1, |former| former.terms.version + 1);
    let terms = compile(
        &home,
        &registry.sql,
        (&policy, file),
        &vault,
        version,
        console,
    )?;
    keep(&home, &vault, &terms, former.as_ref(), drafting, console)
}

pub(super) fn credit(
    home: Option<&Path>,
    (id, place): (&EntitlementId, &Place),
    (units, days): (u64, Option<u64>),
    drafting: &Drafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let registry = home.registry()?;
    let name = place.resolve(&registry.sql, id)?;
    let vault = orders::serving(&registry.sql, &name)?;
    own_restore::expect_reported(&registry.sql, &trust::chain(&home)?, &name)?;
    let former = entitlements::newest_sent(&registry.sql, &name, id)?.ok_or_else(|| {
        failure::usage(
            "ENTITLEMENT-REFUSED",
            format!("the vault {name} has refused every version of `{id}`"),
            "draft it again from its policy with `hq entitlement draft`",
        )
    })?;
    let now = now_unix();
    if former.terms.window.until <= now {
        return Err(failure::usage(
            "ENTITLEMENT-OVER",
            format!("the window of `{id}` is over: more credit would be of no use"),
            "amend it with a policy whose window is open, or draft another one",
        ));
    }
    let before = &former.terms;
    let terms = Entitlement {
        salt: random().map_err(failure::protocol)?,
        version: before.version + 1,
        drafted_at: now,
        approve_until: now.saturating_add(APPROVE_DAYS * DAY_SECONDS),
        credit: Credit {
            unreported_units_max: units,
            unreported_days_max: days.unwrap_or(before.credit.unreported_days_max),
        },
        ..before.clone()
    };
    keep(&home, &vault, &terms, Some(&former), drafting, console)
}

/// The entitlement that a policy becomes for one vault, its keys included.
fn compile(
    home: &Home,
    sql: &Connection,
    (policy, file): (&Policy, &Path),
    vault: &Vault,
    version: u64,
    console: &Console,
) -> Result<Entitlement, Failure> {
    let (name, now) = (&vault.name, now_unix());
    for warning in policy.warnings(now) {
        console.warn_coded(warning.code, &warning.text);
    }
    let mut tags = BTreeMap::new();
    for (fresh, product) in (0..).zip(policy.products()) {
        let (id, sku) = (policy.id().as_str(), &product.sku);
        let tag = entitlements::account_tag(sql, name, id, sku.as_str(), fresh)?;
        tags.insert(sku.clone(), tag);
    }
    let ring = Keyring::new(&home.config, console)?;
    let keys = keysets::deliver(policy, vault, &home.record(), &ring)?;
    let draft = PolicyDraft {
        vault: name,
        version,
        drafted_at: now,
        approve_until: now.saturating_add(APPROVE_DAYS * DAY_SECONDS),
        salt: random().map_err(failure::protocol)?,
        accounts: &|sku| tags[sku],
        keys: &|label, _| keys.get(label).cloned(),
    };
    policy
        .compile(&draft)
        .map_err(|error| policy::wrong(file, &error))
}

/// Keeps the draft of a version, and says what it changes.
fn keep(
    home: &Home,
    vault: &Vault,
    terms: &Entitlement,
    former: Option<&Listed>,
    drafting: &Drafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let mut registry = home.registry()?;
    let manifest = trust::in_force(home)?;
    expect_possible(&registry.sql, terms)?;
    let at = (terms.version, terms.drafted_at);
    // The vault accepts it over that very version, and over no other.
    let amends = former.filter(|former| former.terms.version < terms.version);
    let terms = &Entitlement {
        amends: amends.map(|former| former.draft),
        ..terms.clone()
    };
    let drafted = Drafted::new(terms, manifest.content(), vault, at)?;
    let mut words = words::terms(terms);
    if let Some(former) = former {
        words.extend(words::differences(&former.terms, terms));
    }
    let file = if drafting.dry_run {
        PathBuf::new()
    } else {
        let dispatch = Keyring::new(&home.config, console)?.signer(DISPATCH)?;
        let transaction = registry.transaction()?;
        let output = drafting.output.as_deref();
        let (subject, record) = (Subject::Entitlement(terms), home.record());
        let (file, gone) = drafted.keep(&transaction, &record, &*dispatch, &subject, output)?;
        if let Some(output) = output {
            amendment::write_beside(&transaction, &record, &drafted.draft, output, console)?;
        }
        approvals::commit_draft(transaction, &record, &gone, console)?;
        file
    };
    let schema = "mintmark/entitlement/1";
    say_draft(
        console,
        schema,
        &drafted.draft,
        &file,
        &words,
        drafting.dry_run,
    )
}

/// Refuses to have officers approve what the vault would refuse by what HQ knows of it.
fn expect_possible(sql: &Connection, terms: &Entitlement) -> Result<(), Failure> {
    let Entitlement { vault, id, .. } = terms;
    if numbered::is_revoked(sql, vault, &Target::Entitlement(id.clone()))? {
        return Err(failure::usage(
            "ENTITLEMENT-REVOKED",
            format!("entitlement `{id}` of {vault} was revoked, for good"),
            "give the policy another id and draft that",
        ));
    }
    for account in accounts::all(sql, Some(&vault.site))? {
        if account.vault != *vault || account.entitlement != *id || account.spent() == 0 {
            continue;
        }
        let units = terms
            .product(&account.sku)
            .map_or(0, |product| product.units);
        if units < account.spent() {
            return Err(failure::usage(
                "ENTITLEMENT-BELOW-SPENT",
                format!(
                    "{units} units of {} are fewer than the {} that {vault} has spent",
                    account.sku,
                    account.spent()
                ),
                "an amendment states all units, those that are spent included",
            ));
        }
    }
    for listed in entitlements::in_force(sql, vault, terms.drafted_at)? {
        expect_keys_kept(terms, &listed.terms)?;
    }
    let replay = replays::load(sql, vault)?;
    for key in replay.state().keys().filter(|key| key.entitlement == id) {
        let next = terms.keys.iter().find(|next| next.label == key.terms.label);
        let uses_max = next.and_then(|next| next.uses_max);
        if uses_max.is_some_and(|uses_max| uses_max < key.uses) {
            return Err(failure::usage(
                "ENTITLEMENT-BELOW-SPENT",
                format!(
                    "key `{}` was used {} times by {vault}, more often than this allows",
                    key.terms.label, key.uses
                ),
                "an amendment states all uses, those that were made included",
            ));
        }
    }
    Ok(())
}

/// A label stays with its key while an entitlement in force names it.
fn expect_keys_kept(terms: &Entitlement, other: &Entitlement) -> Result<(), Failure> {
    for key in &terms.keys {
        let is_over = |known: &KeyTerms| known.until.is_some_and(|until| until <= terms.drafted_at);
        let known = other.keys.iter().find(|known| known.label == key.label);
        let Some(known) = known.filter(|known| !is_over(known)) else {
            continue;
        };
        if known.algorithm != key.algorithm {
            return Err(failure::usage(
                "ENTITLEMENT-KEY-CHANGED",
                format!(
                    "key `{}` is for {}, and in entitlement `{}` of {}, which is in force, it is for {}",
                    key.label, key.algorithm, other.id, other.vault, known.algorithm
                ),
                "give the new key another label in the policy",
            ));
        }
    }
    Ok(())
}
