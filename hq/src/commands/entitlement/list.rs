//! `hq entitlement list|show`: where each entitlement stands, and what it waits for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table};
use mintmark_ledger::entry::KeyOutcome;
use mintmark_ledger::replay::Replay;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{OfficerId, VaultName};
use mintmark_protocol::key_terms::KeyUse;
use mintmark_protocol::revocation::{Revocation, Target};
use mintmark_protocol::trust::TrustManifest;
use serde_json::{Value, json};

use crate::approvals::{self, readers, words};
use crate::clock::now_unix;
use crate::commands::say;
use crate::home::Home;
use crate::record::Record;
use crate::registry::accounts::{self, Account};
use crate::registry::drafts::{self, Draft, State};
use crate::registry::entitlements::{self, Listed};
use crate::registry::{Registry, dispatches, orders, replays};
use crate::{failure, trust};

/// Where an entitlement stands, and what it waits for.
struct Standing {
    state: &'static str,
    waits_for: String,
    /// The rule by which its vault refused it.
    code: Option<String>,
}

impl Standing {
    fn new(state: &'static str, waits_for: impl Into<String>) -> Self {
        Self {
            state,
            waits_for: waits_for.into(),
            code: None,
        }
    }
}

/// Who approved a version.
struct Approvals {
    /// Whether more are collected.
    open: bool,
    counting: Vec<String>,
    /// Those whose approvals were collected and count no longer.
    former: Vec<String>,
}

impl Approvals {
    fn lines(&self) -> Vec<String> {
        let names = |officers: &[String]| match officers {
            [] => "nobody yet".to_owned(),
            _ => officers.join(", "),
        };
        let said = if self.open {
            "Approved by"
        } else {
            "Approved then by"
        };
        let mut lines = vec![format!("{said}: {}.", names(&self.counting))];
        if !self.former.is_empty() {
            let former = self.former.join(", ");
            lines.push(format!("Approvals that no longer count: {former}."));
        }
        lines
    }
}

/// What is known of entitlements beside their terms.
struct Known<'a> {
    registry: &'a Registry,
    record: Record,
    manifest: Option<Verified<TrustManifest>>,
    replays: BTreeMap<VaultName, Replay>,
    now: u64,
}

impl Known<'_> {
    fn replay(&mut self, vault: &VaultName) -> Result<&Replay, Failure> {
        if !self.replays.contains_key(vault) {
            let replay = replays::load(&self.registry.sql, vault)?;
            self.replays.insert(vault.clone(), replay);
        }
        let missing = || failure::home_corrupt(format!("{vault} has no replay"));
        self.replays.get(vault).ok_or_else(missing)
    }

    fn standing(&mut self, listed: &Listed, draft: &Draft) -> Result<Standing, Failure> {
        let (sql, terms, now) = (&self.registry.sql, &listed.terms, self.now);
        let content = (terms.id.as_str(), terms.version);
        match (listed.state.as_str(), draft.state) {
            ("superseded", _) | (_, State::Superseded) => {
                let text = "nothing: another draft took its place";
                return Ok(Standing::new("superseded", text));
            }
            ("refused", _) => {
                let code = dispatches::refusal_of(sql, &terms.vault, Kind::Entitlement, content)?;
                let command = if terms.version == 1 { "draft" } else { "amend" };
                let text = format!(
                    "approval again: `hq entitlement {command}`, as the vault refused it by {}",
                    code.as_deref().unwrap_or("a rule of its own")
                );
                let standing = Standing::new("refused", text);
                return Ok(Standing { code, ..standing });
            }
            ("sent", _) => {}
            _ if draft.approve_until <= now => return Ok(Standing::new("expired", "a new draft")),
            _ => {
                let missing = self.missing(draft);
                return Ok(if missing == 0 {
                    Standing::new("approved", "`hq entitlement export`")
                } else if let Some(again) = self.draft_again(draft)? {
                    let text = format!(
                        "a new draft, as too few officers of today can read this one: draft it again: {again}"
                    );
                    Standing::new("draft", text)
                } else {
                    let text = format!("{missing} approvals, then `hq entitlement export`");
                    Standing::new("draft", text)
                });
            }
        }
        let seen = |content| {
            let seen = dispatches::is_seen(sql, &terms.vault, Kind::Entitlement, content);
            seen.map(|seen| seen == Some(true))
        };
        let newest = entitlements::newest_sent(sql, &terms.vault, &terms.id)?;
        let newer = newest.map_or(0, |newest| newest.terms.version);
        let newer = (newer > terms.version).then_some(newer);
        if let Some(version) = newer
            && seen((terms.id.as_str(), version))?
        {
            let text = format!("nothing: version {version} took its place");
            return Ok(Standing::new("superseded", text));
        }
        let (ours, arrived) = (seen(content)?, newer);
        if let Some(standing) = self.revoked(listed)? {
            return Ok(standing);
        }
        Ok(match arrived {
            _ if terms.window.until <= now => Standing::new("over", "nothing: its window is over"),
            _ if !ours => Standing::new("sent", "the vault's next bundle"),
            Some(version) => Standing::new(
                "received",
                format!("version {version}, which the vault's next bundle tells of"),
            ),
            None => Standing::new("received", "nothing"),
        })
    }

    /// How many approvals a draft still needs.
    fn missing(&self, draft: &Draft) -> u64 {
        let tally = approvals::collected(&self.registry.sql, &self.record, draft)
            .and_then(|proposal| {
                let judges = approvals::judges(&proposal, self.manifest.as_ref())?;
                approvals::tally(&proposal, &judges)
            })
            .unwrap_or_default();
        let missing = tally
            .iter()
            .map(|(threshold, officers)| threshold.saturating_sub(officers.len() as u64));
        missing.max().unwrap_or(1)
    }

    /// How it is drafted again, if those who could still approve it are too few.
    fn draft_again(&self, draft: &Draft) -> Result<Option<String>, Failure> {
        let Some(manifest) = &self.manifest else {
            return Ok(None);
        };
        let sql = &self.registry.sql;
        let collected = approvals::collected(sql, &self.record, draft)?;
        readers::draft_again(sql, draft, &collected, manifest.content())
    }

    /// Who approved it. Of what is still collecting, those whose approvals count today; of what was sent, those whose
    /// approvals it was sent with.
    fn approvals(&self, listed: &Listed, draft: &Draft) -> Result<Approvals, Failure> {
        let sql = &self.registry.sql;
        let names = |officers: &[OfficerId]| officers.iter().map(ToString::to_string).collect();
        let mut approvers = drafts::approvers(sql, &draft.fingerprint)?;
        if draft.state != State::Open {
            if !listed.approvers.is_empty() {
                approvers.clone_from(&listed.approvers);
            }
            return Ok(Approvals {
                open: false,
                counting: names(&approvers),
                former: Vec::new(),
            });
        }
        let proposal = approvals::collected(sql, &self.record, draft)?;
        let judges = approvals::judges(&proposal, self.manifest.as_ref())?;
        let tally = approvals::tally(&proposal, &judges)?;
        let former = approvals::former(sql, draft, &tally)?;
        approvers.retain(|officer| !former.contains(officer));
        Ok(Approvals {
            open: true,
            counting: names(&approvers),
            former: names(&former),
        })
    }

    fn revoked(&mut self, listed: &Listed) -> Result<Option<Standing>, Failure> {
        let (vault, id) = (&listed.terms.vault, &listed.terms.id);
        let target = Target::Entitlement(id.clone());
        let mut standing = None;
        for order in orders::of_vault(&self.registry.sql, vault)? {
            let Some(revocation) = order.revocation()?.filter(|found| found.target == target)
            else {
                continue;
            };
            match order.state {
                orders::State::Sent => {
                    standing = Some(self.revoking(listed, &revocation)?);
                    break;
                }
                orders::State::Draft if self.now < revocation.approve_until => {
                    let text = format!(
                        "approvals of its revocation, then `hq entitlement export {}`",
                        mintmark_protocol::order::Order::object_id(&revocation)
                    );
                    standing = Some(Standing::new("received", text));
                }
                _ => {}
            }
        }
        Ok(standing)
    }

    fn revoking(&mut self, listed: &Listed, revocation: &Revocation) -> Result<Standing, Failure> {
        let (vault, id) = (&listed.terms.vault, &listed.terms.id);
        let over = self.replay(vault)?.state().revoked_at(id).is_some();
        if !over {
            return Ok(Standing::new("revoking", "the vault's next bundle"));
        }
        let counts: Vec<String> = accounts_of(self.registry, listed)?
            .iter()
            .map(|account| {
                format!(
                    "{} of {} {}",
                    account.spent(),
                    account.authorised,
                    account.sku
                )
            })
            .collect();
        Ok(Standing::new(
            "revoked",
            format!(
                "nothing: it ended with {}, by revocation {}",
                counts.join(", "),
                revocation.number
            ),
        ))
    }
}

fn accounts_of(registry: &Registry, listed: &Listed) -> Result<Vec<Account>, Failure> {
    let (vault, id) = (&listed.terms.vault, &listed.terms.id);
    let mut accounts = accounts::all(&registry.sql, Some(&vault.site))?;
    accounts.retain(|account| account.vault == *vault && account.entitlement == *id);
    Ok(accounts)
}

pub(super) fn run(
    home: Option<&Path>,
    only: Option<&str>,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let mut known = Known {
        registry: &registry,
        record: home.record(),
        manifest: trust::newest(&home)?,
        replays: BTreeMap::new(),
        now: now_unix(),
    };
    let mut table = Table::new(
        ["ID", "VERSION", "FOR", "STATE", "WINDOW ENDS", "WAITS FOR"]
            .map(|header| (header, Align::Left)),
    );
    let mut rows = Vec::new();
    let mut details = BTreeMap::new();
    for listed in entitlements::all(&registry.sql)? {
        let Some(draft) = drafts::by_fingerprint(&registry.sql, &listed.draft)? else {
            continue;
        };
        let terms = &listed.terms;
        if only.is_some_and(|only| terms.id.as_str() != only && draft.id != only) {
            continue;
        }
        let standing = known.standing(&listed, &draft)?;
        let approvals = known.approvals(&listed, &draft)?;
        let accounts = accounts_of(&registry, &listed)?;
        rows.push(json!({
            "id": terms.id.as_str(),
            "draft": draft.id,
            "version": terms.version,
            "site": terms.vault.site.as_str(),
            "vault": terms.vault.vault.as_str(),
            "state": standing.state,
            "waits_for": standing.waits_for,
            "code": standing.code,
            "valid_from": rfc3339(terms.window.from),
            "valid_until": rfc3339(terms.window.until),
            "approvers": approvals.counting,
            "no_longer_counting": approvals.former,
            "fingerprint": draft.fingerprint.to_string(),
            "policy_digest": terms.policy_digest.to_string(),
            "products": products(&listed, &accounts),
            "keys": keys(&listed, known.replay(&terms.vault)?),
        }));
        if only.is_some() {
            let mut lines = words::terms(terms);
            for account in accounts {
                lines.push(format!(
                    "Spent by the newest bundle: {} of {} {}.",
                    account.spent(),
                    account.authorised,
                    account.sku
                ));
            }
            for key in keys(&listed, known.replay(&terms.vault)?) {
                lines.push(key_line(&key));
            }
            lines.extend(approvals.lines());
            lines.push(format!(
                "State: {}; waits for: {}.",
                standing.state, standing.waits_for
            ));
            let newest_first = Reverse((terms.version, terms.drafted_at, rows.len()));
            details.insert((terms.vault.clone(), newest_first), lines);
        }
        table.row([
            terms.id.to_string(),
            terms.version.to_string(),
            terms.vault.to_string(),
            standing.state.to_owned(),
            rfc3339(terms.window.until),
            standing.waits_for,
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
        let json = json!({ "schema": "mintmark/entitlement/1", "entitlements": rows });
        return say(console, &json, []);
    }
    if only.is_some() {
        for (at, lines) in details.into_values().enumerate() {
            if at > 0 {
                console.line("");
            }
            for line in lines {
                console.line(line);
            }
        }
    } else {
        console.table(&table);
    }
    Ok(Exit::Done)
}

/// What became of a key, in words.
fn key_line(key: &Value) -> String {
    let text = |name: &str| key[name].as_str().unwrap_or_default();
    let state = match (key["received"].as_bool(), key["code"].as_str()) {
        (Some(true), _) if text("use") == KeyUse::Hold.as_str() => {
            "in the token; its uses are not counted".to_owned()
        }
        (Some(true), _) => format!("in the token, used {} times", key["uses"]),
        (_, Some(code)) => format!("refused by the token: {code}"),
        _ => "not received yet".to_owned(),
    };
    format!("Key `{}`: {state}.", text("label"))
}

fn products(listed: &Listed, accounts: &[Account]) -> Vec<Value> {
    let products = listed.terms.products.iter();
    products
        .map(|product| {
            let tag = product.account.number();
            let account = accounts.iter().find(|account| account.tag == tag);
            json!({
                "product": product.sku.as_str(),
                "units": product.units,
                "spent": account.map(Account::spent),
                "account": tag,
            })
        })
        .collect()
}

/// The keys of an entitlement, and what the log says of each.
fn keys(listed: &Listed, replay: &Replay) -> Vec<Value> {
    let keys = listed.terms.keys.iter();
    keys.map(|key| {
        let of = |known: &mintmark_ledger::state::KeyState<'_>| {
            *known.entitlement == listed.terms.id && known.terms.label == key.label
        };
        let known = replay.state().keys().find(of);
        json!({
            "label": key.label.as_str(),
            "algorithm": key.algorithm.as_str(),
            "use": key.usage.as_str(),
            "uses_max": key.uses_max,
            "uses": known.filter(|_| key.usage != KeyUse::Hold).map(|known| known.uses),
            "received": known.is_some_and(|known| known.is_received()),
            "code": known.and_then(|known| match known.outcome {
                Some(KeyOutcome::Refused { code }) => Some(code.as_str()),
                _ => None,
            }),
        })
    })
    .collect()
}
