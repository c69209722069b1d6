//! What came of each request: the certificate of now or of before, or why there is none.

use std::collections::BTreeMap;

use mintmark_ledger::entry::{LogSequence, Reserved};
use mintmark_ledger::ledger::DeviceHistory;
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::serial::{Serial, serial_of};
use mintmark_protocol::identifier::{DeviceId, EntitlementId, Fingerprint, KeyLabel, Sku};

use super::{New, Pending, Signing};
use crate::failure::{Error, Result};
use crate::submission::Submission;
use crate::vault::Vault;
use crate::vault::device_secret::{SecretDue, SecretsDue};

/// A certificate whose record is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
    /// The unit.
    pub(crate) unit: Unit,
    /// The certificate, DER.
    pub(crate) der: Vec<u8>,
    /// The device CA that certified it.
    pub(crate) device_ca: u16,
    /// The secrets that go with it.
    pub(crate) secrets: Vec<SecretDue>,
    /// The keys that it once got a secret from and gets none from any more, and the code that says why.
    pub(crate) keys_over: BTreeMap<KeyLabel, &'static str>,
    /// The certificates that it takes the place of: of the same unit, for the same key, or for one that a rework gave up.
    pub(crate) earlier: Vec<EarlierIssue>,
}

/// A certificate that a re-issue took the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EarlierIssue {
    /// Its issue number.
    pub(crate) issue: u16,
    /// The certificate, DER.
    pub(crate) der: Vec<u8>,
    /// The device CA that certified it.
    pub(crate) device_ca: u16,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub(crate) spki_sha256: Fingerprint,
}

/// A spent unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The device.
    pub(crate) device_id: DeviceId,
    /// The entitlement that it is spent from.
    pub(crate) entitlement: EntitlementId,
    /// Its slot.
    pub(crate) slot: u64,
    /// The serial number of its certificate.
    pub(crate) serial: Option<Serial>,
}

impl From<&Reserved> for Unit {
    fn from(reserved: &Reserved) -> Self {
        Self {
            device_id: reserved.device_id.clone(),
            entitlement: reserved.entitlement.clone(),
            slot: reserved.slot,
            serial: serial_of(&reserved.tbs),
        }
    }
}

/// What came of one request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A unit was spent on it.
    Issued(Issued),
    /// It was answered before, by this certificate.
    Existing(Issued),
    /// No unit was spent.
    Refused(Refusal),
    /// A unit is spent and could not be signed for yet.
    Open,
}

/// What a request was answered with before.
enum Earlier {
    Issued(Box<Issued>),
    /// Its certificate was pruned.
    Pruned(Refusal),
}

impl Vault<'_> {
    /// The answers to a batch whose records are durable, each in its place.
    ///
    /// # Errors
    /// What keeps earlier answers from being found.
    pub(in crate::vault) fn answers<'s>(
        &self,
        signing: Signing,
        submissions: impl Iterator<Item = &'s Submission>,
    ) -> Result<Vec<Answer>> {
        let Signing { product, pending } = signing;
        let answer = |(pending, submission): (Pending, &Submission)| {
            Ok(match pending {
                Pending::Refused(refusal) => Answer::Refused(refusal),
                Pending::Reserved(_) => Answer::Open,
                Pending::New(new) => self.answer(&product, submission, *new)?,
                Pending::Existing(sequence) => {
                    match self.existing(&product, submission, sequence)? {
                        Some(Earlier::Issued(issued)) => Answer::Existing(*issued),
                        Some(Earlier::Pruned(refusal)) => Answer::Refused(refusal),
                        None => self
                            .state()
                            .withheld(sequence)
                            .map_or(Answer::Open, Answer::Refused),
                    }
                }
            })
        };
        pending.into_iter().zip(submissions).map(answer).collect()
    }

    fn answer(&self, product: &Sku, submission: &Submission, new: New) -> Result<Answer> {
        let Some(der) = new.der else {
            return Ok(Answer::Open);
        };
        let mut issued = Issued {
            unit: new.unit,
            der,
            device_ca: self.device_ca_of(new.sequence)?.generation,
            secrets: Vec::new(),
            keys_over: BTreeMap::new(),
            earlier: Vec::new(),
        };
        match new.secrets {
            Some(secrets) => issued.secrets = secrets,
            None => {
                let device_id = &issued.unit.device_id;
                let history = self.ledger.device(Some(product), device_id)?;
                let SecretsDue { due, over } = self.secrets_due(&history, submission);
                (issued.secrets, issued.keys_over) = (due, over);
                issued.earlier = self.earlier(&history, new.sequence)?;
            }
        }
        Ok(Answer::Issued(issued))
    }

    /// The certificates that the one of this reservation took the place of.
    fn earlier(
        &self,
        history: &[DeviceHistory],
        reservation: LogSequence,
    ) -> Result<Vec<EarlierIssue>> {
        let Some(newest) = history.iter().find(|at| at.reservation == reservation) else {
            return Ok(Vec::new());
        };
        let unit = |of: &DeviceHistory| (of.account, of.slot);
        let before = history
            .iter()
            .filter(|other| unit(other) == unit(newest) && other.issue < newest.issue);
        before
            .filter_map(|before| {
                let der = before.certificate.clone()?;
                let device_ca = self.device_ca_of(before.reservation);
                Some(device_ca.map(|device_ca| EarlierIssue {
                    issue: before.issue,
                    der,
                    device_ca: device_ca.generation,
                    spki_sha256: before.spki_sha256,
                }))
            })
            .collect()
    }

    /// What a request was answered with before, from its records; none while its reservation is open.
    fn existing(
        &self,
        product: &Sku,
        submission: &Submission,
        reservation: LogSequence,
    ) -> Result<Option<Earlier>> {
        let Submission::Verified(csr) = submission else {
            return Ok(None);
        };
        // The entitlement says which of the two it goes by.
        let names = [csr.subject_serial_number(), csr.common_name()];
        for device_id in names
            .into_iter()
            .flatten()
            .filter_map(|name| name.parse().ok())
        {
            let history = self.ledger.device(Some(product), &device_id)?;
            let earlier = self.earlier(&history, reservation)?;
            let SecretsDue { due, over } = self.secrets_due(&history, submission);
            let issue = history
                .into_iter()
                .find(|issue| issue.reservation == reservation);
            if let Some(DeviceHistory {
                device_id,
                entitlement,
                slot,
                serial,
                certificate,
                pruned,
                ..
            }) = issue
            {
                if pruned {
                    return Ok(Some(Earlier::Pruned(Refusal::CertificatePruned {
                        sku: product.clone(),
                        device_id,
                        serial: serial.map(hex::encode).unwrap_or_default(),
                    })));
                }
                let unit = Unit {
                    device_id,
                    entitlement,
                    slot,
                    serial,
                };
                let Some(der) = certificate else {
                    return Ok(None);
                };
                return Ok(Some(Earlier::Issued(Box::new(Issued {
                    unit,
                    der,
                    device_ca: self.device_ca_of(reservation)?.generation,
                    secrets: due,
                    keys_over: over,
                    earlier,
                }))));
            }
        }
        Err(Error::integrity(
            "LOG-RECORD-UNREADABLE",
            "the records of an earlier answer are not found",
        )
        .hint("run `site audit verify`"))
    }
}
