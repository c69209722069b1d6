//! What the content of a dispatch changes, once the vault accepted it.

use std::sync::Arc;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};

use crate::entry::{Content, Dispatch, Entry, LogSequence, Verdict};
use crate::policy::{day_window, hour_window};
use crate::state::{Account, DeviceCa, Enrolment, Granted, Revoked, State};

pub(super) fn take_effect(
    state: &mut State,
    sequence: LogSequence,
    entry: &Entry,
    dispatch: &Dispatch,
) {
    // Content that does not parse is never accepted by an honest vault, and has no effect in any case.
    let Verdict::Authentic(content) = &dispatch.content else {
        return;
    };
    match content {
        Content::Grant {
            fingerprint,
            plaintext,
            identity_certificate,
            device_ca_certificate,
        } => {
            if let Ok(grant) = EnrolmentGrant::from_cbor(plaintext)
                && !state.knows_grant(*fingerprint)
            {
                let certificates = (
                    identity_certificate.as_slice(),
                    device_ca_certificate.as_slice(),
                );
                enrol(
                    state,
                    (sequence, entry.clock()),
                    *fingerprint,
                    &grant,
                    certificates,
                );
            }
        }
        Content::Entitlement {
            fingerprint,
            plaintext,
        } => {
            if let Ok(entitlement) = Entitlement::from_cbor(plaintext) {
                grant(state, sequence, *fingerprint, entitlement);
            }
        }
        Content::Acknowledgement { plaintext, .. } => {
            if let Ok(acknowledgement) = Acknowledgement::from_cbor(plaintext) {
                acknowledge(state, &acknowledgement);
            }
        }
        Content::Revocation {
            fingerprint,
            plaintext,
        } => {
            if let Ok(revocation) = Revocation::from_cbor(plaintext)
                && state.revocations.follow(revocation.number, *fingerprint)
            {
                revoke(state, sequence, entry.time, &revocation);
            }
        }
        Content::ClockCorrection {
            fingerprint,
            plaintext,
        } => {
            if let Ok(correction) = ClockCorrection::from_cbor(plaintext)
                && state
                    .clock_corrections
                    .follow(correction.number, *fingerprint)
            {
                correct_clock(state, correction.time, entry.clock());
            }
        }
        Content::Reanchor {
            fingerprint,
            plaintext,
        } => {
            if let Ok(reanchor) = Reanchor::from_cbor(plaintext)
                && state.reanchors.follow(reanchor.number, *fingerprint)
            {
                state.note_reanchor();
            }
        }
    }
}

/// Lets the vault in, or gives it its next device CA.
fn enrol(
    state: &mut State,
    (sequence, clock): (LogSequence, u64),
    fingerprint: Fingerprint,
    grant: &EnrolmentGrant,
    (identity, device_ca): (&[u8], &[u8]),
) {
    // The same thing again, under a new epoch say, changes nothing.
    let known = state.enrolment.as_deref().map(|known| known.fingerprint);
    if known == Some(fingerprint) {
        return;
    }
    let ca = DeviceCa {
        generation: grant.purpose.device_ca_generation(),
        grant: fingerprint,
        certificate: device_ca.to_vec(),
        first_record: sequence,
        revoked: None,
    };
    let rotated = match (&grant.purpose, state.enrolment.as_deref()) {
        (Purpose::Rotation { .. }, Some(before)) => {
            let mut enrolment = before.clone();
            enrolment.fingerprint = fingerprint;
            enrolment.identity_certificate = identity.to_vec();
            enrolment.device_cas.push(ca);
            enrolment
        }
        _ => Enrolment {
            fingerprint,
            identity_certificate: identity.to_vec(),
            device_cas: vec![ca],
            serial_master: grant.serial_master,
            dispatch_epoch: grant.dispatch_epoch,
        },
    };
    if state.enrolment.is_none() {
        state.begin_time(clock, grant.drafted_at);
    }
    state.enrolment = Some(Arc::new(rotated));
    state.rotation = None;
    state.disabled = None;
    state.recompile();
}

fn revoke(state: &mut State, sequence: LogSequence, time: u64, revocation: &Revocation) {
    let revoked = Revoked {
        at: sequence,
        time,
        number: revocation.number,
        reason: revocation.reason.clone(),
        drafted_at: revocation.drafted_at,
    };
    // What is over already stays over since then.
    match &revocation.target {
        Target::Entitlement(id) => {
            if let Some(granted) = state.entitlements.get_mut(id) {
                granted.revoked.get_or_insert(revoked);
            }
        }
        Target::Vault => {
            // What was approved before the newest of them does not end it.
            let drafted_at = revoked.drafted_at;
            let disabled = state.disabled.get_or_insert(revoked);
            disabled.drafted_at = disabled.drafted_at.max(drafted_at);
        }
        Target::Devices(devices) => {
            for device in devices {
                let reservation = LogSequence(device.reservation);
                state.revoke_issue(device.place(), reservation, (sequence, time));
            }
        }
        Target::DeviceCa(fingerprint) => {
            if let Some(enrolment) = &mut state.enrolment {
                let cas = &mut Arc::make_mut(enrolment).device_cas;
                if let Some(ca) = cas.iter_mut().find(|ca| ca.fingerprint() == *fingerprint) {
                    ca.revoked.get_or_insert(revoked);
                }
            }
        }
    }
}

/// The log goes on at another time. If that is an earlier one, what was issued later is as old as now, and no rate is
/// given back: not that of the hour and day that are now by the clock either, which may be later than the corrected time.
fn correct_clock(state: &mut State, time: u64, clock: u64) {
    state.mark = time;
    state.restart_clock();
    // Officers left it open until when this may take effect, so that the clock is not too far ahead of their time.
    if clock > state.clock_latest() {
        state.mark = clock;
    }
    state.unreported.go_on_at(time);
    let now = time.max(clock);
    for account in state.accounts.values_mut() {
        account.hour.go_on_in(hour_window(now));
        account.day.go_on_in(day_window(now));
    }
}

fn grant(
    state: &mut State,
    sequence: LogSequence,
    fingerprint: Fingerprint,
    entitlement: Entitlement,
) {
    let known = state.entitlements.get(&entitlement.id);
    if known.is_some_and(|known| known.has_had(entitlement.version, fingerprint)) {
        return;
    }
    let mut versions = known
        .map(|known| known.versions.clone())
        .unwrap_or_default();
    versions.follow(entitlement.version, fingerprint);
    let revoked = known.and_then(|known| known.revoked.clone());
    for account in state
        .accounts
        .values_mut()
        .filter(|a| a.entitlement == entitlement.id)
    {
        account.authorised = 0;
    }
    for product in &entitlement.products {
        let account = state.accounts.entry(product.account).or_insert_with(|| {
            Account::new(
                product.account,
                entitlement.id.clone(),
                product.sku.clone(),
                0,
            )
        });
        account.authorised = product.units;
    }
    let granted = Granted {
        version: entitlement.version,
        fingerprint,
        accepted_at: sequence,
        terms: Arc::new(entitlement),
        revoked,
        versions,
    };
    state.entitlements.insert(granted.terms.id.clone(), granted);
    state.recompile();
}

fn acknowledge(state: &mut State, acknowledgement: &Acknowledgement) {
    // Of a lineage before, nothing is left to be acknowledged.
    if state.lineage != Some(acknowledgement.lineage) {
        return;
    }
    let bundles = &mut state.bundles;
    let sequence = acknowledgement.bundle_sequence;
    if sequence <= bundles.acknowledged {
        return;
    }
    bundles.acknowledged = sequence;
    bundles.acknowledged_log_size = acknowledgement.log_size;
    bundles.sealed = bundles.sealed.split_off(&sequence);
    state.unreported.acknowledge(acknowledgement.log_size);
}
