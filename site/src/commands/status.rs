//! `site status`: what may be made, what was made, and what to do next. It needs no PIN.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Style, Table};
use mintmark_ledger::state::State;
use serde::Serialize;

use super::{json, now};
use crate::failure::Result;
use crate::vault::completable;
use crate::vault::reading::Reading;

/// An end of the credit that is nearer than this is worth a word.
const DAYS_WARNED: u64 = 3;
const SECONDS_PER_DAY: u64 = 86_400;

/// An expiry of the trust manifest that is nearer than this is worth a word, in days: its successor has to be carried here.
const TRUST_DAYS_WARNED: u64 = 30;

/// What `site status` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    site: String,
    vault: String,
    accounts: Vec<AccountRow>,
    credit_units: u64,
    credit_until: Option<String>,
    lineage: Option<String>,
    log_size: u64,
    log_root: String,
    enrolled: bool,
    enrolment_fingerprint: Option<String>,
    trust_version: u64,
    trust_expires: String,
    /// The trust manifest has expired, or will within 30 days.
    trust_expires_soon: bool,
    dispatch: DispatchRow,
    bundle: BundleRow,
    /// Headquarters has seen more of this vault than this home holds.
    rolled_back: bool,
    next: String,
}

#[derive(Serialize)]
struct AccountRow {
    site: String,
    vault: String,
    product: String,
    entitlement: String,
    authorised: u64,
    good: u64,
    scrapped: u64,
    voided: u64,
    unresolved: u64,
    unspent: u64,
}

#[derive(Serialize)]
struct DispatchRow {
    epoch: Option<u64>,
    sequence: u64,
}

#[derive(Serialize)]
struct BundleRow {
    sequence: u64,
    acknowledged: u64,
}

/// Shows it.
pub(crate) fn execute(_: &Arguments, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let report = report(&reading, now());
    warn_of_expiry(&reading, console);
    if console.is_json() {
        return json(console, &report);
    }
    show(&report, console);
    Ok(Exit::Done)
}

/// Whether the trust manifest has expired, or is about to.
fn expires_soon(expires: u64, now: u64) -> bool {
    expires.saturating_sub(now) <= TRUST_DAYS_WARNED * SECONDS_PER_DAY
}

fn warn_of_expiry(reading: &Reading, console: &Console) {
    let manifest = reading.facts().trust.newest().content();
    let (version, expires) = (manifest.version, rfc3339(manifest.expires_at));
    let now = now().max(reading.state().mark());
    if manifest.expires_at <= now {
        let text = format!(
            "trust manifest {version} expired at {expires}: nothing from headquarters is accepted before its successor"
        );
        return console.warn_coded("TRUST-EXPIRED", text);
    }
    if expires_soon(manifest.expires_at, now) {
        let days = (manifest.expires_at - now) / SECONDS_PER_DAY;
        let text = format!(
            "trust manifest {version} expires in {days} days, at {expires}: ask headquarters for its successor"
        );
        console.warn_coded("TRUST-EXPIRES", text);
    }
}

fn report(reading: &Reading, now: u64) -> Report {
    let (state, facts) = (reading.state(), reading.facts());
    let now = now.max(state.mark());
    let manifest = facts.trust.newest().content();
    let rolled_back = reading.home().expect_newest().is_err();
    let credit = state.credit(now);
    let accounts = state.accounts().map(|account| AccountRow {
        site: facts.name.site.to_string(),
        vault: facts.name.vault.to_string(),
        product: account.sku.to_string(),
        entitlement: account.entitlement.to_string(),
        authorised: account.authorised,
        good: account.good,
        scrapped: account.scrapped,
        voided: account.voided,
        unresolved: account.unresolved,
        unspent: account.unspent(),
    });
    let genesis = state.genesis();
    Report {
        schema: "mintmark/status/1",
        site: facts.name.site.to_string(),
        vault: facts.name.vault.to_string(),
        accounts: accounts.collect(),
        credit_units: credit.units,
        credit_until: credit.until.map(rfc3339),
        lineage: state.lineage().map(|lineage| lineage.to_string()),
        log_size: state.size(),
        log_root: state.root().to_string(),
        enrolled: state.is_enrolled(),
        enrolment_fingerprint: genesis.map(|genesis| genesis.enrolment_fingerprint.to_string()),
        trust_version: manifest.version,
        trust_expires: rfc3339(manifest.expires_at),
        trust_expires_soon: expires_soon(manifest.expires_at, now),
        dispatch: DispatchRow {
            epoch: state.dispatches().epoch,
            sequence: state.dispatches().sequence,
        },
        bundle: BundleRow {
            sequence: state.bundles().sequence,
            acknowledged: state.bundles().acknowledged,
        },
        rolled_back,
        next: next(state, rolled_back, manifest.expires_at, now),
    }
}

/// What to do next, the most pressing first.
fn next(state: &State, rolled_back: bool, trust_expires: u64, now: u64) -> String {
    let export = "run `site media export DIR` and carry it to headquarters";
    if rolled_back {
        return "this home is older than what headquarters has seen: put the newest copy back, or ask headquarters; \
                never run both copies"
            .to_owned();
    }
    if trust_expires <= now {
        return "the trust manifest has expired: import a newer one from headquarters".to_owned();
    }
    if !state.is_enrolled() {
        return format!(
            "not enrolled: {export}, read the enrolment fingerprint out there, and import what comes back"
        );
    }
    let count = completable(state);
    if count > 0 {
        return format!("run `site recover`: {count} reserved, without a certificate yet");
    }
    let live = || {
        state
            .entitlements()
            .values()
            .filter(|granted| granted.terms.window.until > now)
    };
    if live().next().is_none() {
        return format!(
            "no entitlement is live: {export}, and import the entitlement that comes back"
        );
    }
    let credit = state.credit(now);
    let days_left = credit
        .until
        .map(|until| until.saturating_sub(now) / SECONDS_PER_DAY);
    if credit.units == 0 || days_left == Some(0) {
        return format!("the credit is used up: {export}, and import its acknowledgement");
    }
    let unspent = |sku: &str| {
        let accounts = state
            .accounts()
            .filter(|account| account.sku.as_str() == sku);
        accounts
            .map(mintmark_ledger::state::Account::unspent)
            .sum::<u64>()
    };
    let products = live().flat_map(|granted| &granted.terms.products);
    if products
        .clone()
        .all(|product| unspent(product.sku.as_str()) == 0)
    {
        return format!("every unit is spent: {export}, and ask for an amendment");
    }
    if days_left.is_some_and(|days| days < DAYS_WARNED) {
        return format!("the credit ends soon: {export}, and import its acknowledgement");
    }
    if live().all(|granted| granted.terms.window.from > now) {
        return "wait: no entitlement has begun yet".to_owned();
    }
    let unreported = state.units_unreported();
    match unreported {
        0 => "issue with `site issue`".to_owned(),
        count => {
            format!("issue with `site issue`; {count} units are not reported to headquarters yet")
        }
    }
}

fn show(report: &Report, console: &Console) {
    let Report { site, vault, .. } = report;
    console.line(format!("vault {vault} of site {site}"));
    if report.enrolled {
        let credit = match &report.credit_until {
            Some(until) => format!("{} units, until {until}", report.credit_units),
            None => format!("{} units", report.credit_units),
        };
        console.line(format!("credit      {credit}"));
    } else if let Some(fingerprint) = &report.enrolment_fingerprint {
        console.line(format!("enrolment_fingerprint  {fingerprint}"));
    }
    let (dispatch, bundle) = (&report.dispatch, &report.bundle);
    let epoch = dispatch
        .epoch
        .map_or("-".to_owned(), |epoch| epoch.to_string());
    console.line(format!(
        "trust       version {}, until {}",
        report.trust_version, report.trust_expires
    ));
    console.line(format!(
        "dispatches  {} in epoch {epoch}",
        dispatch.sequence
    ));
    console.line(format!(
        "bundles     {} sealed, {} acknowledged",
        bundle.sequence, bundle.acknowledged
    ));
    console.line(format!(
        "log         {} records, root {}",
        report.log_size, report.log_root
    ));
    if !report.accounts.is_empty() {
        console.line("");
        console.table(&accounts(report, console));
    }
    console.line("");
    console.line(format!("next: {}", report.next));
}

fn accounts(report: &Report, console: &Console) -> Table {
    let texts = ["product", "entitlement"].map(|name| (name, Align::Left));
    let numbers = [
        "authorised",
        "good",
        "scrapped",
        "voided",
        "unresolved",
        "unspent",
    ];
    let mut table = Table::new(
        texts
            .into_iter()
            .chain(numbers.map(|name| (name, Align::Right))),
    );
    for account in &report.accounts {
        let unresolved = match account.unresolved {
            0 => "0".to_owned(),
            count => console.styled(Style::Warn, count.to_string()),
        };
        table.row([
            account.product.clone(),
            account.entitlement.clone(),
            account.authorised.to_string(),
            account.good.to_string(),
            account.scrapped.to_string(),
            account.voided.to_string(),
            unresolved,
            account.unspent.to_string(),
        ]);
    }
    table
}
