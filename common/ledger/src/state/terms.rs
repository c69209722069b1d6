//! What an entitlement's terms compile to: kept beside the state, since it follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mintmark_pki::{DeviceProfile, Issuer, KeyAlgorithm, NotAfter};
use mintmark_protocol::entitlement::{AccountTag, Entitlement, ProductTerms};
use mintmark_protocol::identifier::{EntitlementId, Sku};

use super::{Enrolment, Granted};
use crate::policy::DeviceIdPattern;

/// The terms of one account, parsed.
pub(crate) struct AccountTerms {
    pub(crate) entitlement: Arc<Entitlement>,
    /// Which of its products.
    index: usize,
    pub(crate) profile: DeviceProfile,
    pub(crate) pattern: Option<DeviceIdPattern>,
    pub(crate) key_algorithms: Vec<KeyAlgorithm>,
}

impl AccountTerms {
    /// The terms of the product.
    pub(crate) fn product(&self) -> Option<&ProductTerms> {
        self.entitlement.products.get(self.index)
    }
}

/// Parses the terms of the product at `index` of an entitlement, and says in words why they cannot be enforced.
fn compile(entitlement: &Arc<Entitlement>, index: usize) -> Result<AccountTerms, String> {
    let product = entitlement
        .products
        .get(index)
        .ok_or("there is no such product")?;
    let certificate = &product.certificate;
    let words = |error: mintmark_pki::Error| error.to_string();
    let profile = DeviceProfile {
        subject: certificate.subject.parse().map_err(words)?,
        not_after: match certificate.validity_days {
            Some(0) => return Err("certificates would be valid for 0 days".to_owned()),
            Some(days) => NotAfter::Days(days),
            None => NotAfter::NoExpiry,
        },
        extended_key_usage: certificate
            .extended_key_usage
            .iter()
            .map(|usage| usage.parse().map_err(words))
            .collect::<Result<_, _>>()?,
    };
    let pattern = product
        .device_id_pattern
        .as_deref()
        .map(|pattern| {
            pattern
                .parse::<DeviceIdPattern>()
                .map_err(|error| error.to_string())
        })
        .transpose()?;
    let key_algorithms = product
        .key_algorithms
        .iter()
        .map(|name| name.parse::<KeyAlgorithm>().map_err(words))
        .collect::<Result<_, _>>()?;
    Ok(AccountTerms {
        entitlement: Arc::clone(entitlement),
        index,
        profile,
        pattern,
        key_algorithms,
    })
}

/// Whether each product's terms can be enforced.
///
/// # Errors
/// The first product whose terms cannot, and why.
pub(crate) fn check(entitlement: &Arc<Entitlement>) -> Result<(), (Sku, String)> {
    for (index, product) in entitlement.products.iter().enumerate() {
        compile(entitlement, index).map_err(|why| (product.sku.clone(), why))?;
    }
    Ok(())
}

/// Everything that is parsed once and used for each request. It follows from the state, so two states with equal facts
/// are equal whatever stands here.
#[derive(Clone, Default)]
pub(crate) struct Compiled {
    pub(crate) issuer: Option<Arc<Issuer>>,
    accounts: BTreeMap<AccountTag, Arc<AccountTerms>>,
    by_sku: BTreeMap<Sku, Vec<AccountTag>>,
}

impl PartialEq for Compiled {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Compiled {}

impl Compiled {
    pub(crate) fn new(
        enrolment: Option<&Enrolment>,
        entitlements: &BTreeMap<EntitlementId, Granted>,
    ) -> Self {
        let issuer = enrolment
            .and_then(|e| Issuer::from_certificate_der(e.device_ca_certificate()).ok())
            .map(Arc::new);
        let mut accounts = BTreeMap::new();
        let mut order: BTreeMap<Sku, Vec<_>> = BTreeMap::new();
        for granted in entitlements.values() {
            let terms = &granted.terms;
            for (index, product) in terms.products.iter().enumerate() {
                // Terms that do not compile are refused before they get here; an account without terms refuses all.
                if let Ok(compiled) = compile(terms, index) {
                    accounts.insert(product.account, Arc::new(compiled));
                    order.entry(product.sku.clone()).or_default().push((
                        terms.window.until,
                        &terms.id,
                        product.account,
                    ));
                }
            }
        }
        let by_sku = order
            .into_iter()
            .map(|(sku, mut accounts)| {
                accounts.sort();
                (sku, accounts.into_iter().map(|(.., tag)| tag).collect())
            })
            .collect();
        Self {
            issuer,
            accounts,
            by_sku,
        }
    }

    /// The accounts of a product, in the order in which they are spent: those that end first, then by entitlement id.
    pub(crate) fn accounts_of(&self, sku: &Sku) -> &[AccountTag] {
        self.by_sku.get(sku).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn terms(&self, account: AccountTag) -> Option<&Arc<AccountTerms>> {
        self.accounts.get(&account)
    }
}
