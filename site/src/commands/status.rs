//! `site status`: what may be made, what was made, and what to do next. It needs no PIN.

mod accounts;
mod clock;
mod credit;
mod device_ca;
mod log;
mod media;
mod next_steps;
mod outlook;
mod refused;
mod store;
mod trust;

use std::path::Path;

use mintmark_console::{Console, Exit, Style};
use mintmark_ledger::state::{self, State};
use mintmark_protocol::identifier::VaultName;
use serde::Serialize;

use self::accounts::AccountRow;
use self::clock::Clock;
use self::credit::Credit;
use self::device_ca::DeviceCas;
pub(crate) use self::device_ca::RevokedRow;
use self::log::Log;
use self::media::{Bundles, Dispatches, Waiting};
use self::next_steps::{Circumstances, next_steps};
use self::outlook::OutlookRow;
pub(crate) use self::refused::{RefusedContent, refused};
pub(crate) use self::store::{PATIENCE, Store};
use self::trust::Trust;
use super::key::{self, KeyRow};
use super::{json, now};
use crate::clock::Disbelief;
use crate::failure::Result;
use crate::home::Home;
use crate::vault::reading::Reading;
use crate::vault::trust::TrustChain;

/// What `site status` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// What is told of a vault.
#[derive(Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    site: String,
    vault: String,
    accounts: Vec<AccountRow>,
    /// Of the same accounts, in the same order: rates, windows, forecast.
    outlook: Vec<OutlookRow>,
    #[serde(flatten)]
    credit: Credit,
    #[serde(flatten)]
    log: Log,
    enrolled: bool,
    enrolment_fingerprint: Option<String>,
    #[serde(flatten)]
    trust: Trust,
    dispatch: Dispatches,
    bundle: Bundles,
    #[serde(flatten)]
    device_cas: DeviceCas,
    keys: Vec<KeyRow>,
    /// What came from headquarters, was refused, and is not known there to have been.
    refused: Vec<RefusedContent>,
    /// How many of the keys in force are not in the token.
    keys_missing: usize,
    /// Headquarters has seen more of this vault than this home holds.
    rolled_back: bool,
    /// A restore was declared, and headquarters has not answered it.
    restore_pending: bool,
    #[serde(flatten)]
    clock: Clock,
    /// The key store, as it is seen without its PIN.
    hsm: Store,
    media: Waiting,
    /// What to do next, the most pressing first: the first of `next_steps`.
    next: String,
    next_steps: Vec<String>,
}

/// Shows it.
pub(crate) fn execute(_: &Arguments, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let report = Report::of(
        &Subject {
            home: reading.home(),
            state: reading.state(),
            name: &reading.facts().name,
            trust: &reading.facts().trust,
        },
        now(),
        refused(reading.view()),
        Store::look(&reading.home().config().keys),
    );
    report.trust.warn(console);
    if console.is_json() {
        return json(console, &report);
    }
    show(&report, console);
    Ok(Exit::Done)
}

/// Whose status it is.
pub(crate) struct Subject<'a> {
    /// The home.
    pub(crate) home: &'a Home,
    /// What the log adds up to.
    pub(crate) state: &'a State,
    /// Whose home it is.
    pub(crate) name: &'a VaultName,
    /// The trust manifests.
    pub(crate) trust: &'a TrustChain,
}

impl Report {
    /// At a moment, with what came and was refused, and with how the key store is.
    pub(crate) fn of(
        subject: &Subject<'_>,
        clocks: state::Reading,
        refused: Vec<RefusedContent>,
        hsm: Store,
    ) -> Self {
        let Subject {
            home,
            state,
            name,
            trust,
        } = subject;
        let now = state.time_at(clocks);
        let disbelief = Disbelief::of(state, clocks);
        // What cannot be looked at is not nothing.
        let restore_pending = !matches!(home.restore_declared(), Ok(None));
        let rolled_back = !restore_pending && home.expect_newest().is_err();
        let rows = state
            .accounts()
            .map(|account| AccountRow::new(name, account));
        let outlook = state
            .accounts()
            .map(|account| OutlookRow::new(state, account, now));
        let outlook: Vec<OutlookRow> = outlook.collect();
        let trust = Trust::of(trust, now);
        let genesis = state.genesis();
        let keys: Vec<KeyRow> = state.keys().map(|key| KeyRow::new(&key, now)).collect();
        let next_steps = next_steps(&Circumstances {
            state,
            now,
            disbelief: disbelief.as_ref(),
            restore_pending,
            rolled_back,
            trust_expired: trust.is_expired(),
            refused: &refused,
            outlook: &outlook,
            hsm: &hsm,
        });
        Self {
            schema: "mintmark/status/1",
            site: name.site.to_string(),
            vault: name.vault.to_string(),
            accounts: rows.collect(),
            outlook,
            credit: Credit::of(state, now),
            log: Log::of(state),
            enrolled: state.is_enrolled(),
            enrolment_fingerprint: genesis.map(|genesis| genesis.enrolment_fingerprint.to_string()),
            trust,
            dispatch: Dispatches::of(state),
            bundle: Bundles::of(state),
            device_cas: DeviceCas::of(state),
            keys_missing: keys.iter().filter(|key| key.is_absent()).count(),
            keys,
            rolled_back,
            restore_pending,
            clock: Clock::new(state, clocks, disbelief.as_ref()),
            hsm,
            media: Waiting::of(state, now),
            next: next_steps.first().cloned().unwrap_or_default(),
            next_steps,
            refused,
        }
    }
}

fn show(report: &Report, console: &Console) {
    let Report { site, vault, .. } = report;
    console.line(format!("vault {vault} of site {site}"));
    if report.enrolled {
        report.credit.show(console);
    } else if let Some(fingerprint) = &report.enrolment_fingerprint {
        console.line(format!("enrolment_fingerprint  {fingerprint}"));
    }
    report.device_cas.show(console);
    console.line(format!("trust       {}", report.trust.words()));
    report.clock.show(console);
    console.line(format!("dispatches  {}", report.dispatch.words()));
    console.line(format!("bundles     {}", report.bundle.words()));
    report.log.show(console);
    let store = report.hsm.words();
    let store = if report.hsm.is_ok() {
        store
    } else {
        console.styled(Style::Bad, store)
    };
    console.line(format!("keys        {store}"));
    console.line(format!("media       {}", report.media.words()));
    if !report.accounts.is_empty() {
        console.line("");
        console.table(&accounts::table(&report.accounts, console));
    }
    for row in &report.outlook {
        if let Some(because) = &row.burned_because {
            let (product, entitlement) = (&row.product, &row.entitlement);
            console.line(format!("{product}, {entitlement}: {because}"));
        }
    }
    for row in &report.outlook {
        console.line("");
        console.line(format!("{} of {}", row.product, row.entitlement));
        for line in row.outlook.words() {
            console.line(format!("  {line}"));
        }
    }
    if !report.keys.is_empty() {
        console.line("");
        console.table(&key::table(&report.keys, console));
    }
    console.line("");
    for (at, step) in report.next_steps.iter().enumerate() {
        let what = if at == 0 { "next" } else { "then" };
        console.line(format!("{what}: {step}"));
    }
}
