//! The rules for dispatches. That officers signed the content, and for whom, is a fact that comes with it; whether it
//! fits what the vault is and has, is decided here.

use std::sync::Arc;

use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::enrolment::EnrolmentGrant;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;

use crate::entry::{Content, Dispatch, Verdict};
use crate::refusal::Refusal;
use crate::state::{State, terms};

/// Whether the dispatch's content takes effect.
pub(super) fn judge(state: &State, time: u64, dispatch: &Dispatch) -> Result<(), Refusal> {
    in_order(state, dispatch)?;
    match &dispatch.content {
        Verdict::Rejected { code } => Err(Refusal::ContentRejected { code: code.clone() }),
        Verdict::Authentic(Content::Grant {
            plaintext,
            identity_certificate,
            device_ca_certificate,
            ..
        }) => {
            let grant = EnrolmentGrant::from_cbor(plaintext).map_err(malformed)?;
            let certificates = (
                identity_certificate.as_slice(),
                device_ca_certificate.as_slice(),
            );
            grant_fits(state, time, dispatch.epoch, &grant, certificates)
        }
        Verdict::Authentic(Content::Entitlement {
            fingerprint,
            plaintext,
        }) => {
            let entitlement = Entitlement::from_cbor(plaintext).map_err(malformed)?;
            entitlement_fits(state, time, *fingerprint, Arc::new(entitlement))
        }
        Verdict::Authentic(Content::Acknowledgement { plaintext, .. }) => {
            let acknowledgement = Acknowledgement::from_cbor(plaintext).map_err(malformed)?;
            acknowledgement_fits(state, &acknowledgement)
        }
    }
}

fn malformed(error: mintmark_protocol::Error) -> Refusal {
    Refusal::ContentMalformed {
        why: error.to_string(),
    }
}

/// The vault imports dispatches in order, so nothing that fails here gets here; it is asked again all the same.
fn in_order(state: &State, dispatch: &Dispatch) -> Result<(), Refusal> {
    let chain = state.dispatches();
    let expected_epoch = chain.epoch.unwrap_or(dispatch.epoch);
    let expected_sequence = chain.sequence.saturating_add(1);
    if dispatch.epoch == expected_epoch && dispatch.sequence == expected_sequence {
        return Ok(());
    }
    Err(Refusal::DispatchOutOfOrder {
        expected_epoch,
        expected_sequence,
        found_epoch: dispatch.epoch,
        found_sequence: dispatch.sequence,
    })
}

fn grant_fits(
    state: &State,
    time: u64,
    epoch: u64,
    grant: &EnrolmentGrant,
    (identity, device_ca): (&[u8], &[u8]),
) -> Result<(), Refusal> {
    if state.is_enrolled() {
        return Err(Refusal::GrantRepeated);
    }
    let mismatch = |what| Err(Refusal::GrantMismatch { what });
    let Some(genesis) = state.genesis() else {
        return mismatch("vault");
    };
    if grant.vault != genesis.vault {
        return mismatch("vault");
    }
    if grant.request_fingerprint != genesis.enrolment_fingerprint {
        return mismatch("enrolment request");
    }
    if Some(grant.lineage) != state.lineage() {
        return mismatch("lineage");
    }
    if grant.dispatch_epoch != epoch {
        return mismatch("dispatch epoch");
    }
    // The officers approved what is to be signed; the root may have signed exactly that and nothing else.
    let is = |der: &[u8], tbs: &[u8]| {
        Certificate::from_der(der).is_ok_and(|certificate| certificate.tbs_der() == tbs)
    };
    if !is(identity, &grant.identity_tbs) {
        return mismatch("identity certificate");
    }
    if !is(device_ca, &grant.device_ca_tbs) || Issuer::from_certificate_der(device_ca).is_err() {
        return mismatch("device CA certificate");
    }
    if grant.approve_until <= time {
        return Err(Refusal::GrantExpired {
            until: grant.approve_until,
        });
    }
    Ok(())
}

fn entitlement_fits(
    state: &State,
    time: u64,
    fingerprint: Fingerprint,
    entitlement: Arc<Entitlement>,
) -> Result<(), Refusal> {
    if !state.is_enrolled() {
        return Err(Refusal::NotEnrolled);
    }
    let id = || entitlement.id.clone();
    if state.vault() != Some(&entitlement.vault) {
        let found = entitlement.vault.to_string();
        return Err(Refusal::EntitlementMismatch {
            entitlement: id(),
            found,
        });
    }
    let known = state.entitlements().get(&entitlement.id);
    if known.is_some_and(|k| k.version == entitlement.version && k.fingerprint == fingerprint) {
        // The same thing again, under a new epoch say, changes nothing.
        return Ok(());
    }
    if entitlement.approve_until <= time {
        let until = entitlement.approve_until;
        return Err(Refusal::EntitlementExpired {
            entitlement: id(),
            until,
        });
    }
    if entitlement.window.until <= time {
        let until = entitlement.window.until;
        return Err(Refusal::EntitlementWindowOver {
            entitlement: id(),
            until,
        });
    }
    let expected = known.map_or(0, |known| known.version).saturating_add(1);
    if entitlement.version != expected {
        let found = entitlement.version;
        return Err(Refusal::EntitlementVersion {
            entitlement: id(),
            expected,
            found,
        });
    }
    terms::check(&entitlement).map_err(|(sku, why)| Refusal::EntitlementTerms {
        entitlement: id(),
        sku,
        why,
    })?;
    accounts_fit(state, &entitlement)
}

/// Tags stay with their accounts, and no account shrinks below what is spent.
fn accounts_fit(state: &State, entitlement: &Entitlement) -> Result<(), Refusal> {
    let id = || entitlement.id.clone();
    for product in &entitlement.products {
        if let Some(owner) = state.account(product.account)
            && (owner.entitlement != entitlement.id || owner.sku != product.sku)
        {
            return Err(Refusal::EntitlementTagReused {
                entitlement: id(),
                sku: product.sku.clone(),
                account: product.account,
                owner: owner.entitlement.clone(),
                owner_sku: owner.sku.clone(),
            });
        }
    }
    for account in state
        .accounts()
        .filter(|account| account.entitlement == entitlement.id)
    {
        let product = entitlement.product(&account.sku);
        if let Some(product) = product
            && product.account != account.tag
        {
            return Err(Refusal::EntitlementTagChanged {
                entitlement: id(),
                sku: account.sku.clone(),
                expected: account.tag,
                found: product.account,
            });
        }
        let units = product.map_or(0, |product| product.units);
        // Slots are spent in order, so what is spent is what lies below the next one.
        let spent = account.spent().max(account.next_slot);
        if units < spent {
            return Err(Refusal::EntitlementBelowSpent {
                entitlement: id(),
                version: entitlement.version,
                sku: account.sku.clone(),
                units,
                spent,
            });
        }
    }
    Ok(())
}

fn acknowledgement_fits(state: &State, acknowledgement: &Acknowledgement) -> Result<(), Refusal> {
    if state.vault() != Some(&acknowledgement.vault) {
        return Err(Refusal::AckMismatch { what: "vault" });
    }
    if state.lineage() != Some(acknowledgement.lineage) {
        return Err(Refusal::AckMismatch { what: "lineage" });
    }
    let sequence = acknowledgement.bundle_sequence;
    if sequence < state.bundles().acknowledged {
        // Overtaken by a newer one: nothing is left of it to check or to do.
        return Ok(());
    }
    let sealed = state.bundles().sealed.get(&sequence);
    let fits = sealed.is_some_and(|bundle| {
        bundle.fingerprint == acknowledgement.bundle_fingerprint
            && bundle.log_size == acknowledgement.log_size
    });
    if fits {
        Ok(())
    } else {
        Err(Refusal::AckUnknownBundle { sequence })
    }
}
