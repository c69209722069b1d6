//! `hq policy check --against`: what a policy would have refused of what vaults were asked before.
//!
//! The log that headquarters holds is run again with the policy in place of whatever the vault was granted: the log's
//! own beginning and enrolment, what officers ended, then each request and each order on a device, decided by the rules that
//! vaults have. What the vault decided itself stands beside it, so that it is known which devices would not exist.

mod replaying;
mod tally;

use std::collections::BTreeMap;

use mintmark_console::{Console, Failure};
use mintmark_ledger::entry::{Body, Entry};
use mintmark_ledger::policy::{Draft, Policy as PolicyFile};
use mintmark_ledger::state::State;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::entitlement::{AccountTag, Credit, Entitlement, Interval};
use mintmark_protocol::identifier::Sku;
use rusqlite::Connection;
use serde_json::Value;

use self::replaying::{Devices, Replaying};
use self::tally::Tally;
use crate::clock::DAY_SECONDS;
use crate::failure;
use crate::home::Home;
use crate::import::kept;
use crate::import::records::Records;
use crate::keyring::Keyring;
use crate::registry::bundles;
use crate::registry::vaults::{self, Vault};
use crate::serials::Serials;

/// Records that are read at a time.
const CHUNK_RECORDS: usize = 1024;

/// What would have become of the requests of one site.
pub(super) struct Trial {
    site: String,
    vaults: Vec<(String, Tally)>,
}

impl Trial {
    /// Tries a policy on every request in the logs that headquarters holds of a site, or of one vault of it.
    pub(super) fn run(
        home: &Home,
        named: &str,
        policy: &PolicyFile,
        console: &Console,
    ) -> Result<Self, Failure> {
        let registry = home.registry()?;
        let mut chosen = vaults::all(&registry.sql)?;
        chosen.retain(|vault| vault.name.site.as_str() == named || vault.name.to_string() == named);
        let Some(first) = chosen.first() else {
            return Err(failure::usage(
                "SITE-UNKNOWN",
                format!("there is no site or vault `{named}`"),
                "`hq site list` shows which there are",
            ));
        };
        let site = first.name.site.to_string();
        let ring = Keyring::new(&home.config, console)?;
        let serials = Serials::new(&ring);
        let audit = ring.audit()?;
        let log = Log {
            home,
            sql: &registry.sql,
            console,
            opener: audit.opener(),
        };
        let mut vaults = Vec::new();
        for vault in &chosen {
            let tally = try_on(&log, vault, policy, &serials)?;
            vaults.push((vault.name.vault.to_string(), tally));
        }
        Ok(Self { site, vaults })
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (_, tally) in &self.vaults {
            total.add(tally);
        }
        total
    }

    /// The whole site, and each of its vaults where it has several.
    pub(super) fn to_json(&self) -> Value {
        if let [(vault, tally)] = &self.vaults[..] {
            return tally.to_json(&self.site, Some(vault));
        }
        let mut json = self.total().to_json(&self.site, None);
        json["vaults"] = self
            .vaults
            .iter()
            .map(|(vault, tally)| tally.to_json(&self.site, Some(vault)))
            .collect();
        json
    }

    /// In plain words.
    pub(super) fn words(&self) -> Vec<String> {
        let total = self.total();
        let mut words = vec![
            String::new(),
            format!("Against the log of {}:", self.site),
            "  The window is widened to cover the log, and credit is not counted: only the other rules are tried."
                .to_owned(),
            format!(
                "  Of {} requests, {} would have been issued, {} answered again, {} refused.",
                total.requests,
                total.issued,
                total.existing,
                total.refused.values().map(|of| of.count).sum::<u64>(),
            ),
        ];
        if total.made > 0 {
            words.push(format!(
                "  Would have been refused: {} of {} devices that were made.",
                total.made_refused(),
                total.made
            ));
        }
        if total.newly_issued > 0 {
            words.push(format!(
                "  Would have been issued: {} that the vault refused.",
                total.newly_issued
            ));
        }
        words.extend(total.refused.iter().map(|(code, of)| match of.made {
            0 => format!("  {code}: {}", of.count),
            made => format!(
                "  {code}: {}, {made} of them of devices that were made",
                of.count
            ),
        }));
        if total.orders > 0 {
            let refused: u64 = total.orders_refused.values().sum();
            let orders = total.orders;
            words.push(format!(
                "  Of {orders} orders on devices (scrap, void, rework), {refused} would have been refused."
            ));
        }
        let counted = total.orders_refused.iter();
        words.extend(counted.map(|(code, count)| format!("  {code}: {count}")));
        words.extend(total.examples().map(|example| {
            let text = |name: &str| example[name].as_str().unwrap_or("-").to_owned();
            let (time, vault, device) = (text("time"), text("vault"), text("device_id"));
            let past = match example["outcome"].as_str() {
                Some("issued") => "  was issued",
                Some("refused") => "  was refused",
                _ => "",
            };
            format!("    {time}  {vault}  {device}  {}{past}", text("code"))
        }));
        words
    }
}

/// The log that headquarters holds of each vault.
struct Log<'a> {
    home: &'a Home,
    sql: &'a Connection,
    console: &'a Console,
    opener: Opener<'a>,
}

impl Log<'_> {
    /// Reads every record that can be read, in order. A person sees how far that has come, after what it is done for.
    fn each(
        &self,
        vault: &Vault,
        what: &str,
        mut visit: impl FnMut(&[u8], u64, Entry) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let record = self.home.record();
        let held = bundles::of_vault(self.sql, &vault.name)?;
        let count = |held: &bundles::Held| held.log_size.saturating_sub(held.first);
        let records = held.iter().map(count).sum();
        let what = format!("{what} the log of {}", vault.name);
        let progress = self.console.progress(&what, Some(records));
        for held in held {
            let bundle = kept::bundle(&record, vault, &held)?;
            let read = |number| kept::segment(&record, bundle.content(), number);
            let mut records = Records::new(bundle.content(), &read, self.opener);
            loop {
                let chunk = records.chunk(CHUNK_RECORDS)?;
                if chunk.is_empty() {
                    break;
                }
                progress.advance(chunk.len() as u64);
                for (sequence, raw) in chunk {
                    // What cannot be read asked for nothing; the import has found it.
                    if let Ok(entry) = Entry::from_cbor(&raw) {
                        visit(&raw, sequence, entry)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn try_on(
    log: &Log<'_>,
    vault: &Vault,
    policy: &PolicyFile,
    serials: &Serials<'_>,
) -> Result<Tally, Failure> {
    let mut asked: Option<Interval> = None;
    log.each(vault, "reading", |_, _, entry| {
        if let Body::Request(_) = entry.body {
            let (from, until) = (entry.time, entry.time.saturating_add(1));
            let before = asked.get_or_insert(Interval { from, until });
            before.from = before.from.min(from);
            before.until = before.until.max(until);
        }
        Ok(())
    })?;
    let Some(asked) = asked else {
        return Ok(Tally::default());
    };
    // Wide enough for any weekly hours to lie in it, so that what was asked outside of them is refused as such.
    let asked = Interval {
        from: asked.from.saturating_sub(7 * DAY_SECONDS),
        until: asked.until.saturating_add(7 * DAY_SECONDS),
    };
    let mut trial = Replaying {
        vault: vault.name.vault.as_str(),
        entitlement: Some(entitlement(vault, policy, asked)?),
        cipher: serials.of(vault)?,
        sources: policy
            .products()
            .iter()
            .map(|product| (product.sku.clone(), product.device_id_source))
            .collect(),
        state: State::new(),
        devices: Devices::default(),
        dispatch: None,
        tried: None,
        tally: Tally::default(),
    };
    log.each(vault, "trying", |raw, sequence, entry| {
        trial.record(raw, sequence, entry)
    })?;
    trial.settle(None);
    Ok(trial.tally)
}

/// The policy as the vault would have had it: in force whenever it was asked, on credit without end.
fn entitlement(
    vault: &Vault,
    policy: &PolicyFile,
    asked: Interval,
) -> Result<Entitlement, Failure> {
    let tags: BTreeMap<&Sku, AccountTag> = (1..)
        .zip(policy.products())
        .filter_map(|(number, product)| Some((&product.sku, AccountTag::new(number)?)))
        .collect();
    let compiled = policy.in_window(asked).compile(&Draft {
        vault: &vault.name,
        version: 1,
        drafted_at: asked.from,
        approve_until: u64::MAX,
        salt: [0; 32],
        accounts: &|sku| tags[sku],
        // Nothing is delivered: what the keys allow is tried, as if the token had taken them.
        keys: &|_, _| Some(([0; 32], Vec::new())),
    });
    let mut entitlement = compiled.map_err(|error| {
        failure::usage(
            "POLICY-NOT-TRIED",
            format!(
                "the policy cannot be tried on the log of {}: {error}",
                vault.name
            ),
            "take out what this version cannot grant; a log whose times jump far apart holds too many working hours",
        )
    })?;
    entitlement.credit = Credit {
        unreported_units_max: u64::MAX,
        unreported_days_max: u64::MAX,
    };
    Ok(entitlement)
}
