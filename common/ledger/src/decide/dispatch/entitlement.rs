//! The rules for entitlements and their amendments.

use std::sync::Arc;

use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;

use super::keys;
use crate::refusal::{DispatchRefusal, Refusal};
use crate::state::{State, terms};

pub(super) fn fits(
    state: &State,
    time: u64,
    fingerprint: Fingerprint,
    entitlement: Entitlement,
) -> Result<(), Refusal> {
    if !state.is_enrolled() {
        return Err(Refusal::NotEnrolled);
    }
    let entitlement = Arc::new(entitlement);
    let id = || entitlement.id.clone();
    if state.vault() != Some(&entitlement.vault) {
        let found = entitlement.vault.to_string();
        return Err(DispatchRefusal::EntitlementMismatch {
            entitlement: id(),
            found,
        }
        .into());
    }
    let known = state.entitlements().get(&entitlement.id);
    if let Some(revoked) = known.and_then(|known| known.revoked.as_ref()) {
        return Err(Refusal::EntitlementRevoked {
            entitlement: id(),
            since: revoked.time,
        });
    }
    if known.is_some_and(|known| known.has_had(entitlement.version, fingerprint)) {
        // The same thing again, under a new epoch say, changes nothing: what gave way to a later version stays so.
        return Ok(());
    }
    if entitlement.approve_until <= time {
        let until = entitlement.approve_until;
        return Err(DispatchRefusal::EntitlementExpired {
            entitlement: id(),
            until,
        }
        .into());
    }
    if entitlement.window.until <= time {
        let until = entitlement.window.until;
        return Err(DispatchRefusal::EntitlementWindowOver {
            entitlement: id(),
            until,
        }
        .into());
    }
    let expected = known.map_or(0, |known| known.version).saturating_add(1);
    if entitlement.version != expected {
        let found = entitlement.version;
        return Err(DispatchRefusal::EntitlementVersion {
            entitlement: id(),
            expected,
            found,
        }
        .into());
    }
    if let (Some(known), Some(named)) = (known, entitlement.amends)
        && known.fingerprint != named
    {
        return Err(DispatchRefusal::EntitlementAmendsAnother {
            entitlement: id(),
            version: entitlement.version,
            found: known.version,
        }
        .into());
    }
    terms::check(&entitlement).map_err(|(sku, why)| DispatchRefusal::EntitlementTerms {
        entitlement: id(),
        sku,
        why,
    })?;
    accounts_fit(state, &entitlement)?;
    Ok(keys::fit(state, time, &entitlement)?)
}

/// Tags stay with their accounts, and no account shrinks below what is spent.
fn accounts_fit(state: &State, entitlement: &Entitlement) -> Result<(), DispatchRefusal> {
    let id = || entitlement.id.clone();
    for product in &entitlement.products {
        if let Some(owner) = state.account(product.account)
            && (owner.entitlement != entitlement.id || owner.sku != product.sku)
        {
            return Err(DispatchRefusal::EntitlementTagReused {
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
            return Err(DispatchRefusal::EntitlementTagChanged {
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
            return Err(DispatchRefusal::EntitlementBelowSpent {
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
