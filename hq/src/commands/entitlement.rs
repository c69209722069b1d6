//! `hq entitlement`: what a vault may make.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table};
use mintmark_protocol::encryption::random;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{SiteId, VaultId, VaultName};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::trust::Role;

use super::policy;
use super::site::vault_name;
use crate::approvals::{self, APPROVE_DAYS, Content as DraftContent, words};
use crate::clock::{DAY_SECONDS, now_unix};
use crate::home::Home;
use crate::keyring::{DISPATCH, Keyring};
use crate::outbox::{self, Content};
use crate::registry::drafts::{self, Draft, State};
use crate::registry::entitlements::{self, Listed};
use crate::registry::{self, dispatches, vaults};
use crate::{failure, trust};

/// Entitlements: what a vault may make.
#[derive(Debug, Subcommand)]
pub(super) enum Entitlement {
    /// Draft an entitlement from a policy, for officers to approve.
    Draft {
        /// The site.
        #[arg(long)]
        site: SiteId,
        /// The vault at that site.
        #[arg(long, default_value = "v1")]
        vault: VaultId,
        /// The policy.
        #[arg(long, value_name = "F")]
        policy: PathBuf,
        /// A file to write the draft to; it goes out with the next `hq media export` in any case.
        #[arg(long, value_name = "F")]
        output: Option<PathBuf>,
        /// Say what would be drafted and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Once officers have approved it, seal it for its vault.
    Export {
        /// The draft's id, or the entitlement's.
        id: String,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List every entitlement.
    List,
    /// Show one entitlement.
    Show {
        /// The entitlement's id, or the draft's.
        id: String,
    },
}

impl Entitlement {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Draft {
                site,
                vault,
                policy,
                output,
                dry_run,
            } => draft(
                home,
                &vault_name(site, vault),
                &policy,
                output.as_deref(),
                dry_run,
                console,
            ),
            Self::Export { id, dry_run } => export(home, &id, dry_run, console),
            Self::List => list(home, None, console),
            Self::Show { id } => list(home, Some(&id), console),
        }
    }
}

fn draft(
    home: Option<&Path>,
    name: &VaultName,
    file: &Path,
    output: Option<&Path>,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    let manifest = trust::in_force(&home)?;
    let policy = policy::read(file)?;
    let vault = vaults::find(&registry.sql, name)?.ok_or_else(|| {
        failure::usage(
            "SITE-UNKNOWN",
            format!("there is no vault {name}"),
            "`hq site list` shows which there are; a vault is enrolled with `hq site enrol`",
        )
    })?;
    if !vault.granted {
        return Err(failure::usage(
            "VAULT-NOT-GRANTED",
            format!("the vault {name} has asked to be enrolled and was not let in yet"),
            "have its enrolment approved, then run `hq site grant`",
        ));
    }
    let now = now_unix();
    for warning in policy.warnings(now) {
        console.warn_coded(warning.code, &warning.text);
    }
    let id = policy.id().clone();
    let sent = entitlements::all(&registry.sql)?.into_iter().any(|listed| {
        listed.terms.id == id && listed.terms.vault == *name && listed.state == "sent"
    });
    if sent {
        return Err(failure::usage(
            "ENTITLEMENT-EXISTS",
            format!("the vault {name} has been sent an entitlement `{id}` already"),
            "give the policy another id",
        ));
    }
    let mut tags = std::collections::BTreeMap::new();
    for (fresh, product) in (0..).zip(policy.products()) {
        let sku = &product.sku;
        let tag = entitlements::account_tag(&registry.sql, name, id.as_str(), sku.as_str(), fresh)?;
        tags.insert(sku.clone(), tag);
    }
    let approve_until = now.saturating_add(APPROVE_DAYS * DAY_SECONDS);
    let salt = random().map_err(failure::protocol)?;
    let terms = policy
        .compile(name, 1, now, approve_until, salt, &|sku| tags[sku])
        .map_err(|error| policy::wrong(file, &error))?;
    let proposal = terms
        .propose(manifest.content(), &vault.agreement_key)
        .map_err(failure::protocol)?;
    let draft = Draft {
        id: terms.object_id(),
        fingerprint: proposal.fingerprint(),
        kind: Kind::Entitlement,
        vault: Some(name.clone()),
        version: terms.version,
        drafted_at: now,
        approve_until,
        state: State::Open,
    };
    let words = words::terms(&terms);
    let file = if dry_run {
        PathBuf::new()
    } else {
        let transaction = registry.transaction()?;
        for gone in approvals::supersede_open(&transaction, &draft.id)? {
            entitlements::supersede(&transaction, &gone.fingerprint)?;
            console.note(format!(
                "the draft {} with fingerprint {} is superseded",
                gone.id, gone.fingerprint
            ));
        }
        let file = approvals::keep_draft(&transaction, &record, &proposal, &draft, output)?;
        entitlements::add(&transaction, &terms, &draft.fingerprint)?;
        registry::commit(transaction)?;
        file
    };
    super::say_draft(
        console,
        "mintmark/entitlement/1",
        &draft,
        &file,
        &words,
        dry_run,
    )
}

fn export(
    home: Option<&Path>,
    id: &str,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    let manifest = trust::in_force(&home)?;
    let draft = approvals::find(&registry.sql, Kind::Entitlement, id, |draft| {
        let listed = entitlements::by_draft(&registry.sql, &draft.fingerprint)?;
        Ok(listed.is_some_and(|listed| listed.terms.id.as_str() == id))
    })?;
    let listed = entitlements::by_draft(&registry.sql, &draft.fingerprint)?;
    let listed =
        listed.ok_or_else(|| failure::home_corrupt(format!("{} has no terms", draft.id)))?;
    match draft.state {
        State::Open => {}
        State::Sealed => {
            console.note(format!(
                "`{}` was sealed before; `hq media export` carries it",
                draft.id
            ));
            return list(Some(home.folder()), Some(&draft.id), console);
        }
        State::Superseded => {
            return Err(failure::refused(
                "DRAFT-SUPERSEDED",
                format!("`{}` has been drafted anew since", draft.id),
                "export the draft that `hq approval list` shows as open",
            ));
        }
    }
    let finished = approvals::finished(&registry.sql, &record, &draft, Some(&manifest), console)?;
    let approvers: Vec<_> = finished
        .approved(manifest.content(), Role::Mint)
        .map_err(failure::protocol)?
        .into_iter()
        .collect();
    DraftContent::Entitlement(Box::new(listed.terms.clone())).expect_open(now_unix())?;
    if dry_run {
        console.note(format!(
            "would seal `{}` for {}",
            draft.id, listed.terms.vault
        ));
        return Ok(Exit::Done);
    }
    let signer = Keyring::new(&home.config, console)?.signer(DISPATCH)?;
    let name = listed.terms.vault.clone();
    let content = Content {
        kind: Kind::Entitlement,
        id: listed.terms.id.to_string(),
        version: listed.terms.version,
        bytes: finished.to_bytes().map_err(failure::protocol)?,
        certificates: Vec::new(),
    };
    let transaction = registry.transaction()?;
    let sent = outbox::seal(&transaction, &record, &manifest, &*signer, &name, content)?;
    entitlements::send(&transaction, &listed.terms, &draft.fingerprint, &approvers)?;
    drafts::set_state(&transaction, &draft.fingerprint, State::Sealed)?;
    registry::commit(transaction)?;
    let json = serde_json::json!({
        "schema": "mintmark/entitlement/1",
        "id": listed.terms.id.as_str(),
        "draft": draft.id,
        "version": listed.terms.version,
        "site": name.site.as_str(),
        "vault": name.vault.as_str(),
        "state": "sent",
        "approvers": approvers.iter().map(|officer| officer.as_str()).collect::<Vec<_>>(),
        "fingerprint": draft.fingerprint.to_string(),
        "dispatch_epoch": sent.epoch,
        "dispatch_sequence": sent.sequence,
    });
    super::say(
        console,
        &json,
        [
            format!("sealed       {} for {name}", draft.id),
            format!("dispatch     {} of epoch {}", sent.sequence, sent.epoch),
            "next: `hq media export` and carry the stick to the site".to_owned(),
        ],
    )
}

/// Where an entitlement stands, and what it waits for.
fn standing(listed: &Listed, draft: &Draft, seen: bool, now: u64) -> (&'static str, &'static str) {
    match (listed.state.as_str(), draft.state) {
        ("superseded", _) | (_, State::Superseded) => {
            ("superseded", "nothing: another draft took its place")
        }
        ("sent", _) if listed.terms.window.until <= now => ("over", "nothing: its window is over"),
        ("sent", _) if !seen => ("sent", "the vault's next bundle"),
        ("sent", _) => ("received", "nothing"),
        _ if draft.approve_until <= now => ("expired", "a new draft"),
        _ => ("draft", "approvals, then `hq entitlement export`"),
    }
}

fn list(home: Option<&Path>, only: Option<&str>, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let now = now_unix();
    let mut table = Table::new(
        ["ID", "VERSION", "FOR", "STATE", "WINDOW ENDS", "WAITS FOR"]
            .map(|header| (header, Align::Left)),
    );
    let mut rows = Vec::new();
    let mut details = Vec::new();
    for listed in entitlements::all(&registry.sql)? {
        let Some(draft) = drafts::by_fingerprint(&registry.sql, &listed.draft)? else {
            continue;
        };
        let terms = &listed.terms;
        if only.is_some_and(|only| terms.id.as_str() != only && draft.id != only) {
            continue;
        }
        let sent = dispatches::all(&registry.sql, &terms.vault)?
            .into_iter()
            .find(|sent| {
                sent.kind == Kind::Entitlement.as_str()
                    && sent.object == terms.id.as_str()
                    && sent.version == terms.version
            });
        let seen = dispatches::seen_by_vault(&registry.sql, &terms.vault)?;
        let seen =
            sent.is_some_and(|sent| seen.is_some_and(|seen| (sent.epoch, sent.sequence) <= seen));
        let (state, waits_for) = standing(&listed, &draft, seen, now);
        let approvers: Vec<String> = drafts::approvers(&registry.sql, &draft.fingerprint)?
            .iter()
            .map(ToString::to_string)
            .collect();
        let products: Vec<_> = terms
            .products
            .iter()
            .map(|product| {
                serde_json::json!({
                    "product": product.sku.as_str(),
                    "units": product.units,
                    "account": product.account.number(),
                })
            })
            .collect();
        rows.push(serde_json::json!({
            "id": terms.id.as_str(),
            "draft": draft.id,
            "version": terms.version,
            "site": terms.vault.site.as_str(),
            "vault": terms.vault.vault.as_str(),
            "state": state,
            "waits_for": waits_for,
            "valid_from": rfc3339(terms.window.from),
            "valid_until": rfc3339(terms.window.until),
            "approvers": approvers,
            "fingerprint": draft.fingerprint.to_string(),
            "policy_digest": terms.policy_digest.to_string(),
            "products": products,
        }));
        if only.is_some() {
            details.extend(words::terms(terms));
            details.push(format!("Approved by: {}.", approvers.join(", ")));
            details.push(format!("State: {state}; waits for: {waits_for}."));
        }
        table.row([
            terms.id.to_string(),
            terms.version.to_string(),
            terms.vault.to_string(),
            state.to_owned(),
            rfc3339(terms.window.until),
            waits_for.to_owned(),
        ]);
    }
    if let Some(only) = only
        && rows.is_empty()
    {
        return Err(failure::usage(
            "ENTITLEMENT-UNKNOWN",
            format!("there is no entitlement `{only}`"),
            "`hq entitlement list` shows which there are",
        ));
    }
    if console.is_json() {
        let json = serde_json::json!({ "schema": "mintmark/entitlement/1", "entitlements": rows });
        return super::say(console, &json, []);
    }
    if only.is_some() {
        for line in details {
            console.line(line);
        }
    } else {
        console.table(&table);
    }
    Ok(Exit::Done)
}
