//! The secret that goes with a device: derived in the token, encrypted to the device's own key, signed by the vault. It is
//! made when its certificate is durable, and made again whenever the same request comes again: it is the same secret, so
//! nothing is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mintmark_keys::{KeyStore, Signer};
use mintmark_ledger::entry::Reserved;
use mintmark_ledger::ledger::DeviceHistory;
use mintmark_protocol::device_secret::{DERIVATION_LABEL, DeviceSecret, derivation_context};
use mintmark_protocol::encryption::random;
use mintmark_protocol::identifier::{EntitlementId, Fingerprint, KeyLabel, Sku, VaultName};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_terms::{KeyAlgorithm, KeyUse};
use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::key_set::{secret_algorithm, token_label};
use super::{Issued, Vault, not_enrolled};
use crate::failure::{Error, Result};
use crate::submission::Submission;

/// A secret that a device gets, by the key that it comes from and the entitlement under which its use was counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecretDue {
    /// The key.
    pub(crate) label: KeyLabel,
    /// The entitlement.
    pub(crate) entitlement: EntitlementId,
}

impl SecretDue {
    /// What goes with a unit.
    pub(crate) fn of(reserved: &Reserved) -> Vec<Self> {
        let keys = reserved.keys.iter();
        keys.map(|label| Self {
            label: label.clone(),
            entitlement: reserved.entitlement.clone(),
        })
        .collect()
    }
}

/// What is due with a device that had a certificate before.
#[derive(Debug, Default)]
pub(crate) struct SecretsDue {
    pub(crate) due: Vec<SecretDue>,
    /// The keys that the device once got a secret from and gets none from any more, and the code that says why.
    pub(crate) over: BTreeMap<KeyLabel, &'static str>,
}

/// The message that brings a device its secret, or why there is none.
#[derive(Debug)]
pub(crate) struct SealedSecret {
    /// The key that it comes from.
    pub(crate) label: KeyLabel,
    /// The message.
    pub(crate) message: Result<Vec<u8>>,
}

impl Vault<'_> {
    /// Makes the messages for units whose certificates are durable, each in its place. That one fails concerns no other.
    pub(crate) fn seal_secrets(
        &self,
        product: &Sku,
        units: &[(&Submission, &Issued)],
    ) -> Vec<Vec<SealedSecret>> {
        let mut sealed: Vec<Vec<SealedSecret>> = units.iter().map(|_| Vec::new()).collect();
        let jobs: Vec<(usize, &Submission, &Issued, &SecretDue)> = units
            .iter()
            .enumerate()
            .flat_map(|(at, (submission, issued))| {
                let due = issued.secrets.iter();
                due.map(move |due| (at, *submission, *issued, due))
            })
            .collect();
        if jobs.is_empty() {
            return sealed;
        }
        let messages: Vec<Result<Vec<u8>>> = match self.workshop() {
            Ok(workshop) => jobs
                .par_iter()
                .map(|(_, submission, issued, due)| workshop.seal(product, submission, issued, due))
                .collect(),
            Err(error) => {
                let again = || Error::from(error.failure().clone());
                jobs.iter().map(|_| Err(again())).collect()
            }
        };
        for ((at, .., due), message) in jobs.into_iter().zip(messages) {
            if let Some(place) = sealed.get_mut(at) {
                let label = due.label.clone();
                place.push(SealedSecret { label, message });
            }
        }
        sealed
    }

    /// What is due with a device that had a certificate before: as far as the keys are still to be used, and why not of
    /// the others.
    pub(super) fn secrets_due(
        &self,
        history: &[DeviceHistory],
        submission: &Submission,
    ) -> SecretsDue {
        let mut due = BTreeSet::new();
        if let Submission::Verified(csr) = submission {
            let spki_sha256 = Fingerprint::new(csr.spki_sha256());
            for issue in history.iter().filter(|of| of.spki_sha256 == spki_sha256) {
                due.extend(issue.keys.iter().map(|label| SecretDue {
                    label: label.clone(),
                    entitlement: issue.entitlement.clone(),
                }));
            }
        }
        let mut over = BTreeMap::new();
        due.retain(|due| match self.key_is_over(&due.label) {
            None => true,
            Some(code) => {
                over.insert(due.label.clone(), code);
                false
            }
        });
        SecretsDue {
            due: due.into_iter().collect(),
            over,
        }
    }

    /// Why no secret is derived from a key any more; none while it is to be used.
    fn key_is_over(&self, label: &KeyLabel) -> Option<&'static str> {
        let time = self.time();
        let keys = || {
            let keys = self.state().keys();
            keys.filter(|key| {
                key.terms.label == *label && key.terms.usage == KeyUse::DeriveDeviceSecret
            })
        };
        let mut in_force = keys().filter(|key| key.is_in_force(time)).peekable();
        if in_force.peek().is_some() {
            let received = in_force.any(|key| key.is_received());
            return (!received).then_some("KEY-NOT-RECEIVED");
        }
        let revoked = keys().next().is_some() && keys().all(|key| key.revoked);
        Some(match revoked {
            true => "ENTITLEMENT-REVOKED",
            false => "KEY-EXPIRED",
        })
    }

    fn workshop(&self) -> Result<Workshop<'_>> {
        let keyring = self.keyring()?;
        let enrolment = self.state().enrolment().ok_or_else(not_enrolled)?;
        Ok(Workshop {
            vault: &self.name,
            store: keyring.store(),
            signer: keyring.signer(),
            identity_certificate: &enrolment.identity_certificate,
            algorithms: self
                .state()
                .keys()
                .map(|key| (&key.terms.label, key.terms.algorithm))
                .collect(),
        })
    }
}

/// What makes the messages, on every processor.
struct Workshop<'a> {
    vault: &'a VaultName,
    store: &'a Arc<dyn KeyStore>,
    signer: &'a Arc<dyn Signer>,
    identity_certificate: &'a [u8],
    algorithms: BTreeMap<&'a KeyLabel, KeyAlgorithm>,
}

impl Workshop<'_> {
    fn seal(
        &self,
        product: &Sku,
        submission: &Submission,
        issued: &Issued,
        due: &SecretDue,
    ) -> Result<Vec<u8>> {
        let contradiction = |what: &str| Error::unknown("INTERNAL", what);
        let Submission::Verified(csr) = submission else {
            return Err(contradiction("a secret is due to what is no request"));
        };
        let device_key = AgreementKey::from_spki(csr.spki_der()).ok_or_else(|| {
            contradiction("a secret is due to a key that nothing can be encrypted to")
        })?;
        let algorithm = self
            .algorithms
            .get(&due.label)
            .ok_or_else(|| contradiction("a secret is due from a key that no entitlement names"))?;
        let key = self
            .store
            .secret(&token_label(&due.label), secret_algorithm(*algorithm))?;
        let device_id = &issued.unit.device_id;
        let secret = key.derive(DERIVATION_LABEL, &derivation_context(&due.label, device_id))?;
        let message = DeviceSecret {
            salt: random()?,
            vault: self.vault.clone(),
            sku: product.clone(),
            device_id: device_id.clone(),
            spki_sha256: Fingerprint::new(csr.spki_sha256()),
            label: due.label.clone(),
            entitlement: due.entitlement.clone(),
            secret,
        };
        let sign = |message: &[u8]| Ok(self.signer.sign(message)?);
        let public = self.signer.public_key();
        Ok(message.seal(&device_key, public, self.identity_certificate, &sign)?)
    }
}
