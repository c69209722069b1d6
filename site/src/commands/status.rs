//! `site status`: what may be made, what was made, and what to do next. It needs no PIN.

mod outlook;
mod store;

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Style, Table};
use mintmark_ledger::entry::{Body, Entry, LogSequence};
use mintmark_ledger::state::{self, DeviceCa, Revoked, State};
use mintmark_protocol::envelope::Kind;
use serde::Serialize;

use self::outlook::Outlook;
use self::store::Store;
use super::entitlement::history::is_of_dispatch;
use super::key::{self, KeyRow};
use super::{json, now};
use crate::clock::Disbelief;
use crate::failure::Result;
use crate::vault::anchor::burned_in_words;
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
    /// Of the same accounts, in the same order: rates, windows, forecast.
    outlook: Vec<OutlookRow>,
    /// By the most generous of the entitlements that can still spend.
    credit_units: u64,
    credit_until: Option<String>,
    /// Under each entitlement that can still spend.
    credit: Vec<CreditRow>,
    lineage: Option<String>,
    /// The lineage before, if a restore was declared.
    parent: Option<String>,
    log_size: u64,
    log_root: String,
    /// The token's anchor as the log states it; the token itself is not asked.
    anchor: Option<AnchorRow>,
    enrolled: bool,
    enrolment_fingerprint: Option<String>,
    trust_version: u64,
    trust_expires: String,
    /// The trust manifest has expired, or will within 30 days.
    trust_expires_soon: bool,
    dispatch: DispatchRow,
    bundle: BundleRow,
    /// Headquarters ended the making of new devices here.
    disabled: Option<RevokedRow>,
    /// The device CA in force.
    device_ca: Option<DeviceCaRow>,
    /// The device CAs before it.
    device_cas_before: Vec<DeviceCaRow>,
    /// The next device CA, which was asked for and waits for its grant.
    rotation: Option<RotationRow>,
    keys: Vec<KeyRow>,
    /// What came from headquarters, was refused, and is not known there to have been.
    refused: Vec<RefusedContent>,
    /// How many of the keys in force are not in the token.
    keys_missing: usize,
    /// Headquarters has seen more of this vault than this home holds.
    rolled_back: bool,
    /// A restore was declared, and headquarters has not answered it.
    restore_pending: bool,
    /// What this machine's clock says: nothing of the vault, so that two looks at the same vault say the same.
    #[serde(skip)]
    clock: String,
    /// Whether the machine counts since it booted, so that the clock is compared with that.
    clock_steady: bool,
    /// The clock is not believed, and nothing is issued.
    clock_stopped: Option<ClockStoppedRow>,
    /// How far behind the log somebody confirmed the clock to be, in seconds; 0 once it has caught up.
    clock_behind: u64,
    /// The key store, as it is seen without its PIN.
    hsm: Store,
    media: MediaRow,
    /// What to do next, the most pressing first: the first of `next_steps`.
    next: String,
    next_steps: Vec<String>,
}

/// What waits to be carried.
#[derive(Serialize)]
struct MediaRow {
    /// Sealed bundles that headquarters has not acknowledged: every export carries them.
    bundles_waiting: u64,
    /// Something was logged that no bundle holds yet: the next export seals one.
    bundle_needed: bool,
    /// Every export carries the enrolment request until the grant is here.
    enrolment_request: bool,
    /// The same of the request for the next device CA.
    rotation_request: bool,
    /// Units that headquarters has not acknowledged.
    units_unreported: u64,
    /// The dispatch that comes next from headquarters; what comes before its turn stays on its medium.
    dispatch_next: u64,
}

impl MediaRow {
    fn of(state: &State, now: u64) -> Self {
        let bundles = state.bundles();
        Self {
            bundles_waiting: bundles.sequence.saturating_sub(bundles.acknowledged),
            bundle_needed: state.is_enrolled() && state.needs_bundle(now),
            enrolment_request: !state.is_enrolled(),
            rotation_request: state.rotation_pending().is_some(),
            units_unreported: state.units_unreported(),
            dispatch_next: state.next_dispatch().sequence,
        }
    }

    fn words(&self) -> String {
        let mut parts = Vec::new();
        if self.enrolment_request {
            parts.push("the enrolment request".to_owned());
        }
        if self.rotation_request {
            parts.push("the request for a device CA".to_owned());
        }
        match self.bundles_waiting {
            0 => {}
            1 => parts.push("1 bundle".to_owned()),
            many => parts.push(format!("{many} bundles")),
        }
        if self.bundle_needed {
            parts.push("what no bundle holds yet".to_owned());
        }
        if parts.is_empty() {
            "nothing to carry to headquarters".to_owned()
        } else {
            format!("to carry to headquarters: {}", parts.join(", "))
        }
    }
}

/// A clock that is not believed.
#[derive(Serialize)]
struct ClockStoppedRow {
    code: &'static str,
    /// The newest time of the log, at which its time stands still; none while the log does not say so yet.
    since: Option<String>,
    /// The record that says so.
    record: Option<u64>,
    clock: String,
    /// What it should say, or the latest that it may say; of a clock that stands behind the log, the log's newest time.
    expected: String,
    message: String,
    advice: &'static str,
}

impl ClockStoppedRow {
    fn new(state: &State, clock: u64, disbelief: &Disbelief) -> Self {
        let logged = state.clock_stopped();
        Self {
            code: disbelief.code,
            since: logged.map(|_| rfc3339(state.mark())),
            record: logged.map(|stopped| stopped.at.number()),
            clock: rfc3339(clock),
            expected: rfc3339(disbelief.expected),
            message: disbelief.message.clone(),
            advice: disbelief.advice,
        }
    }
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

/// What one account may still make, and what it cannot make any more.
#[derive(Serialize)]
struct OutlookRow {
    product: String,
    entitlement: String,
    /// Of the unresolved units, those that were leased and may have been spent. Headquarters' accounts, which have the
    /// same fields as those here, count them among the unresolved ones.
    burned: u64,
    /// What that means, where there are any.
    burned_because: Option<String>,
    #[serde(skip)]
    unspent: u64,
    #[serde(flatten)]
    outlook: Outlook,
}

#[derive(Serialize)]
struct AnchorRow {
    counter: u64,
    /// How many records there were when that was stated.
    log_size: u64,
}

/// What headquarters sent and this vault refused.
#[derive(Serialize)]
struct RefusedContent {
    r#type: String,
    id: String,
    code: String,
}

#[derive(Serialize)]
struct CreditRow {
    entitlement: String,
    units: u64,
    until: Option<String>,
}

/// What officers ended, and why.
#[derive(Serialize)]
pub(crate) struct RevokedRow {
    pub(crate) number: u64,
    pub(crate) since: String,
    pub(crate) reason: String,
}

impl From<&Revoked> for RevokedRow {
    fn from(revoked: &Revoked) -> Self {
        Self {
            number: revoked.number,
            since: rfc3339(revoked.time),
            reason: revoked.reason.clone(),
        }
    }
}

#[derive(Serialize)]
struct DeviceCaRow {
    generation: u16,
    /// SHA-256 of its certificate.
    fingerprint: String,
    revoked: Option<RevokedRow>,
}

impl From<&DeviceCa> for DeviceCaRow {
    fn from(ca: &DeviceCa) -> Self {
        Self {
            generation: ca.generation,
            fingerprint: ca.fingerprint().to_string(),
            revoked: ca.revoked.as_ref().map(RevokedRow::from),
        }
    }
}

#[derive(Serialize)]
struct RotationRow {
    generation: u16,
    /// Of the request that waits: to be read out at headquarters.
    enrolment_fingerprint: String,
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
    let now = reading.state().time_at(now());
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

/// What was refused since the log that headquarters acknowledged, and was not accepted later; as far as the log can be
/// read, since it is `site audit verify` and `site doctor` that say what is wrong with it.
fn refused(reading: &Reading) -> Vec<RefusedContent> {
    let acknowledged = reading.state().bundles().acknowledged_log_size;
    let mut refused: Vec<RefusedContent> = Vec::new();
    let mut asked = None;
    let records = reading.view().reader(LogSequence(acknowledged));
    for record in records
        .into_iter()
        .flatten()
        .map_while(std::result::Result::ok)
    {
        let entry = is_of_dispatch(&record.bytes).then(|| Entry::from_cbor(&record.bytes));
        let before = asked.take();
        match (entry.and_then(std::result::Result::ok), before) {
            (
                Some(Entry {
                    body: Body::Dispatch(dispatch),
                    ..
                }),
                _,
            ) => {
                // A receipt that was refused is no loss: the next one counts for it.
                let is_receipt = dispatch.kind == Kind::Acknowledgement.as_str();
                asked = (!is_receipt).then_some((dispatch.kind, dispatch.id));
            }
            (Some(Entry { body, .. }), Some((r#type, id))) => {
                refused.retain(|row| (&row.r#type, &row.id) != (&r#type, &id));
                if let Body::DispatchRefused { code } = body {
                    refused.push(RefusedContent { r#type, id, code });
                }
            }
            _ => {}
        }
    }
    refused
}

fn report(reading: &Reading, clocks: state::Reading) -> Report {
    let (state, facts) = (reading.state(), reading.facts());
    let now = state.time_at(clocks);
    let disbelief = Disbelief::of(state, clocks);
    let manifest = facts.trust.newest().content();
    // What cannot be looked at is not nothing.
    let restore_pending = !matches!(reading.home().restore_declared(), Ok(None));
    let rolled_back = !restore_pending && reading.home().expect_newest().is_err();
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
    let outlook = state.accounts().map(|account| OutlookRow {
        product: account.sku.to_string(),
        entitlement: account.entitlement.to_string(),
        burned: account.burned,
        burned_because: (account.burned > 0).then(|| burned_in_words(account.burned)),
        unspent: account.unspent(),
        outlook: Outlook::new(state, account, now),
    });
    let outlook: Vec<OutlookRow> = outlook.collect();
    let hsm = Store::look(&reading.home().config().keys);
    let genesis = state.genesis();
    let mut device_cas: Vec<DeviceCaRow> =
        state.device_cas().iter().map(DeviceCaRow::from).collect();
    let device_ca = device_cas.pop();
    let keys: Vec<KeyRow> = state.keys().map(|key| KeyRow::new(&key, now)).collect();
    let refused = refused(reading);
    // Before anything else but a rolled-back home: by the log's time, what is in force may seem to be over.
    let next_steps = match &disbelief {
        _ if restore_pending => vec![
            "a restore was declared: run `site media export DIR`, carry it to headquarters, and import what comes back; \
             nothing is issued until then"
                .to_owned(),
        ],
        Some(Disbelief {
            code,
            message,
            advice,
            ..
        }) if !rolled_back => vec![format!(
            "{message}: nothing is issued ({code}); {advice}"
        )],
        _ => next(
            state,
            &refused,
            rolled_back,
            manifest.expires_at,
            now,
            (&outlook, &hsm),
        ),
    };
    Report {
        schema: "mintmark/status/1",
        site: facts.name.site.to_string(),
        vault: facts.name.vault.to_string(),
        accounts: accounts.collect(),
        outlook,
        credit_units: credit.units,
        credit_until: credit.until.map(rfc3339),
        credit: state
            .credits(now)
            .map(|(entitlement, left)| CreditRow {
                entitlement: entitlement.to_string(),
                units: left.units,
                until: left.until.map(rfc3339),
            })
            .collect(),
        lineage: state.lineage().map(|lineage| lineage.to_string()),
        parent: state.parent().map(|lineage| lineage.to_string()),
        log_size: state.size(),
        log_root: state.root().to_string(),
        anchor: state.anchor_stated_at().map(|at| AnchorRow {
            counter: state.anchor(),
            log_size: at.number(),
        }),
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
        disabled: state.disabled_at().map(RevokedRow::from),
        device_ca,
        device_cas_before: device_cas,
        rotation: state.rotation_pending().map(|rotation| RotationRow {
            generation: rotation.generation,
            enrolment_fingerprint: rotation.request_fingerprint.to_string(),
        }),
        keys_missing: keys.iter().filter(|key| key.is_absent()).count(),
        keys,
        rolled_back,
        restore_pending,
        clock: rfc3339(clocks.clock),
        clock_steady: clocks.steady.is_some(),
        clock_stopped: disbelief
            .as_ref()
            .map(|disbelief| ClockStoppedRow::new(state, clocks.clock, disbelief)),
        clock_behind: state.clock_behind(),
        hsm,
        media: MediaRow::of(state, now),
        next: next_steps.first().cloned().unwrap_or_default(),
        next_steps,
        refused,
    }
}

/// What to do next, the most pressing first: what keeps everything else from being done stands alone.
fn next(
    state: &State,
    refused: &[RefusedContent],
    rolled_back: bool,
    trust_expires: u64,
    now: u64,
    (outlook, hsm): (&[OutlookRow], &Store),
) -> Vec<String> {
    let export = "run `site media export DIR` and carry it to headquarters";
    if rolled_back {
        return vec![
            "this home is older than what headquarters has seen: put the newest copy back, or ask headquarters; \
             never run both copies"
                .to_owned(),
        ];
    }
    let mut steps = Vec::new();
    if trust_expires <= now {
        steps.push(
            "the trust manifest has expired: import a newer one from headquarters".to_owned(),
        );
    }
    if !state.is_enrolled() {
        steps.push(format!(
            "not enrolled: {export}, read the enrolment fingerprint out there, and import what comes back"
        ));
        steps.extend(see_to(hsm));
        return steps;
    }
    // What is wrong with the keys is found by whatever needs them; first things first all the same.
    steps.extend(see_to(hsm));
    let count = completable(state);
    if count > 0 {
        steps.push(format!(
            "run `site recover`: {count} reserved, without a certificate yet"
        ));
    }
    let ca_revoked = state
        .device_cas()
        .last()
        .is_some_and(|ca| ca.revoked.is_some());
    match state.rotation_pending() {
        Some(rotation) => steps.push(format!(
            "device CA {} was asked for: {export}, read its enrolment fingerprint out there, and import the grant \
             that comes back",
            rotation.generation
        )),
        None if state.disabled_at().is_some() => steps.push(format!(
            "headquarters disabled this vault: {export}; when officers ask for another device CA, run `site rotate`"
        )),
        None if ca_revoked => steps.push(
            "the device CA was revoked: run `site rotate`, then `site media export DIR`".to_owned(),
        ),
        None => {}
    }
    if let Some(RefusedContent {
        r#type: kind,
        id,
        code,
    }) = refused.first()
    {
        steps.push(format!(
            "what headquarters sent as {kind} {id} was refused ({code}): {export}, where it is seen, and import what \
             comes back"
        ));
    }
    let stops = state.disabled_at().is_some() || ca_revoked;
    match spending(state, now, export) {
        Err(step) => steps.push(step),
        Ok(soon) => {
            steps.extend(soon);
            let missing: Vec<KeyRow> = state
                .keys()
                .map(|key| KeyRow::new(&key, now))
                .filter(KeyRow::is_absent)
                .collect();
            if let Some(KeyRow { key, code, .. }) = missing.first() {
                steps.push(match code {
                    Some(code) => format!(
                        "key {key} is not in the token ({code}): run `site recover`, which says why"
                    ),
                    None => format!(
                        "key {key} is not in the token yet: run `site recover`, which takes it in"
                    ),
                });
            }
            if !stops {
                steps.push(issue(state, outlook));
            }
        }
    }
    steps
}

/// Somebody has to look at the key store.
fn see_to(hsm: &Store) -> Option<String> {
    (!hsm.is_ok()).then(|| format!("see to the key store: {}", hsm.words()))
}

/// What keeps every unit from being spent; or else what will soon.
fn spending(state: &State, now: u64, export: &str) -> std::result::Result<Option<String>, String> {
    let live = || {
        state
            .entitlements()
            .values()
            .filter(|granted| granted.terms.window.until > now && granted.revoked.is_none())
    };
    if live().next().is_none() {
        return Err(format!(
            "no entitlement is live: {export}, and import the entitlement that comes back"
        ));
    }
    if state.credits(now).next().is_none() {
        return Err(format!(
            "every unit is spent: {export}, and ask for an amendment"
        ));
    }
    let mut credits = state.credits(now).map(|(_, credit)| credit);
    if credits.all(|credit| credit.is_used_up(now)) {
        return Err(format!(
            "the credit is used up: {export}, and import its acknowledgement"
        ));
    }
    if live().all(|granted| granted.terms.window.from > now) {
        return Err("wait: no entitlement has begun yet".to_owned());
    }
    let until = state.credit(now).until;
    let days_left = until.map(|until| until.saturating_sub(now) / SECONDS_PER_DAY);
    let soon = days_left.is_some_and(|days| days < DAYS_WARNED);
    Ok(soon.then(|| format!("the credit ends soon: {export}, and import its acknowledgement")))
}

/// The line may go on, now or from when its rates and hours let it.
fn issue(state: &State, outlook: &[OutlookRow]) -> String {
    let spendable = || outlook.iter().filter(|row| row.unspent > 0);
    let waits: Option<Vec<&str>> = spendable()
        .map(|row| row.outlook.hours_next().or_else(|| row.outlook.waits()))
        .collect();
    let waits = waits.and_then(|waits| waits.into_iter().min());
    let issue = match waits {
        Some(from) => format!("wait until {from}, and issue with `site issue`"),
        None => "issue with `site issue`".to_owned(),
    };
    match state.units_unreported() {
        0 => issue,
        count => format!("{issue}; {count} units are not reported to headquarters yet"),
    }
}

fn show(report: &Report, console: &Console) {
    let Report { site, vault, .. } = report;
    console.line(format!("vault {vault} of site {site}"));
    if report.enrolled {
        let left = |units: u64, until: &Option<String>| match until {
            Some(until) => format!("{units} units, until {until}"),
            None => format!("{units} units"),
        };
        let mut credit: Vec<String> = report
            .credit
            .iter()
            .map(|row| left(row.units, &row.until))
            .collect();
        credit.dedup();
        if credit.len() < 2 {
            let credit = left(report.credit_units, &report.credit_until);
            console.line(format!("credit      {credit}"));
        } else {
            for row in &report.credit {
                let (left, entitlement) = (left(row.units, &row.until), &row.entitlement);
                console.line(format!("credit      {left}, under {entitlement}"));
            }
        }
    } else if let Some(fingerprint) = &report.enrolment_fingerprint {
        console.line(format!("enrolment_fingerprint  {fingerprint}"));
    }
    show_device_ca(report, console);
    let (dispatch, bundle) = (&report.dispatch, &report.bundle);
    let epoch = dispatch
        .epoch
        .map_or("-".to_owned(), |epoch| epoch.to_string());
    console.line(format!(
        "trust       version {}, until {}",
        report.trust_version, report.trust_expires
    ));
    show_clock(report, console);
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
    if let Some(AnchorRow { counter, log_size }) = &report.anchor {
        console.line(format!(
            "anchor      version {counter}, stated at record {log_size}"
        ));
    }
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
        console.table(&accounts(report, console));
    }
    for row in &report.outlook {
        if let Some(because) = &row.burned_because {
            let OutlookRow {
                product,
                entitlement,
                ..
            } = row;
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

fn show_device_ca(report: &Report, console: &Console) {
    if let Some(disabled) = &report.disabled {
        let word = console.styled(Style::Bad, "disabled");
        let RevokedRow { since, reason, .. } = disabled;
        console.line(format!("{word}    since {since}: {reason}"));
    }
    if let Some(ca) = &report.device_ca {
        let revoked = match &ca.revoked {
            Some(revoked) => format!(
                ", {} {}: {}",
                console.styled(Style::Bad, "revoked"),
                revoked.since,
                revoked.reason
            ),
            None => String::new(),
        };
        let (generation, fingerprint) = (ca.generation, &ca.fingerprint);
        console.line(format!("device CA   {generation}, {fingerprint}{revoked}"));
    }
    if let Some(rotation) = &report.rotation {
        let (generation, fingerprint) = (rotation.generation, &rotation.enrolment_fingerprint);
        console.line(format!(
            "rotation    device CA {generation} waits for its grant"
        ));
        console.line(format!("enrolment_fingerprint  {fingerprint}"));
    }
}

fn show_clock(report: &Report, console: &Console) {
    let clock = &report.clock;
    console.line(match &report.clock_stopped {
        Some(ClockStoppedRow { code, .. }) => {
            let stopped = console.styled(Style::Bad, format!("not believed ({code})"));
            format!("clock       {clock}, {stopped}")
        }
        None if report.clock_behind > 0 => format!(
            "clock       {clock}, confirmed to be up to {} seconds behind the log, whose time stands until then",
            report.clock_behind
        ),
        None => format!("clock       {clock}"),
    });
    if !report.clock_steady {
        console.line(
            "            this machine does not say how long it has been running: the clock is only compared with the log",
        );
    }
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
