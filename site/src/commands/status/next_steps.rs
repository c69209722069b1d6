//! What to do next, the most pressing first.

use mintmark_ledger::state::State;

use super::outlook::OutlookRow;
use super::refused::RefusedContent;
use super::store::Store;
use crate::clock::Disbelief;
use crate::commands::key::KeyRow;
use crate::vault::completable;

const SECONDS_PER_DAY: u64 = 86_400;

/// An end of the credit that is nearer than this is worth a word.
const CREDIT_DAYS_WARNED: u64 = 3;

/// What it is judged by.
pub(super) struct Circumstances<'a> {
    pub(super) state: &'a State,
    /// By the log.
    pub(super) now: u64,
    pub(super) disbelief: Option<&'a Disbelief>,
    /// A restore was declared, and headquarters has not answered it.
    pub(super) restore_pending: bool,
    /// Headquarters has seen more of this vault than this home holds.
    pub(super) rolled_back: bool,
    pub(super) trust_expired: bool,
    pub(super) refused: &'a [RefusedContent],
    pub(super) outlook: &'a [OutlookRow],
    pub(super) hsm: &'a Store,
}

/// The steps: what keeps everything else from being done stands alone.
pub(super) fn next_steps(seen: &Circumstances<'_>) -> Vec<String> {
    if seen.restore_pending {
        return vec![
            "a restore was declared: run `site media export DIR`, carry it to headquarters, and import what comes back; \
             nothing is issued until then"
                .to_owned(),
        ];
    }
    if seen.rolled_back {
        return vec![
            "this home is older than what headquarters has seen: put the newest copy back, or ask headquarters; \
             never run both copies"
                .to_owned(),
        ];
    }
    // Before anything else but a rolled-back home: by the log's time, what is in force may seem to be over.
    if let Some(Disbelief {
        code,
        message,
        advice,
        ..
    }) = seen.disbelief
    {
        return vec![format!("{message}: nothing is issued ({code}); {advice}")];
    }
    by_turn(seen)
}

fn by_turn(seen: &Circumstances<'_>) -> Vec<String> {
    let Circumstances {
        state,
        now,
        refused,
        outlook,
        hsm,
        ..
    } = *seen;
    let export = "run `site media export DIR` and carry it to headquarters";
    let mut steps = Vec::new();
    if seen.trust_expired {
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
                steps.push(issue(state, outlook, export));
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
    let soon = days_left.is_some_and(|days| days < CREDIT_DAYS_WARNED);
    Ok(soon.then(|| format!("the credit ends soon: {export}, and import its acknowledgement")))
}

/// The line may go on, now or from when its rates and hours let it.
fn issue(state: &State, outlook: &[OutlookRow], export: &str) -> String {
    let spendable = || {
        let unspent = outlook.iter().filter(|row| row.unspent > 0);
        unspent.filter(|row| !row.outlook.is_over())
    };
    if spendable().next().is_none() {
        return format!("no working hours are left: {export}, and ask for an amendment");
    }
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
        1 => format!("{issue}; 1 unit is not reported to headquarters yet"),
        count => format!("{issue}; {count} units are not reported to headquarters yet"),
    }
}
