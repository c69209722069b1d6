//! What happened and needs no decision, and whether the ledger may record it.

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{Fingerprint, Lineage};

use super::Ledger;
use crate::entry::{
    BURNED_MAX, Body, BundleSealed, Burned, CrlIssued, KeyOutcome, KeyReceipt, LogSequence,
    Restored, Rotation, StationOrder, Trust, is_code,
};
use crate::error::Error;
use crate::state::Reading;

/// Something that happened and needs no decision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A trust manifest was pinned.
    Trust(Trust),
    /// A bundle was sealed; the ledger adds how many requests it did not log.
    BundleSealed {
        /// Its place in the chain of bundles, counted from 1.
        sequence: u64,
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// How many records it and the bundles before it cover.
        log_size: u64,
    },
    /// The vault made the key of its next device CA and signed a request for it.
    Rotation(Rotation),
    /// A key of an entitlement came into the token, or could not.
    Key(KeyReceipt),
    /// A device CA of the vault signed a CRL.
    Crl(CrlIssued),
    /// The vault made a CA for its stations.
    StationCa {
        /// Its certificate, DER.
        certificate: Vec<u8>,
    },
    /// Slots are skipped that may have been spent.
    Burned(Burned),
    /// The log goes on in another lineage from here.
    Restored {
        /// The lineage in which it goes on.
        lineage: Lineage,
        /// How many records HQ holds.
        held: u64,
        /// The slot of each account below which everything may have been spent; in order of tags.
        leases: Vec<(AccountTag, u64)>,
    },
}

impl Ledger {
    /// Stages something that needs no decision.
    ///
    /// # Errors
    /// [`Error::BundleSize`] if a bundle claims records that are not durable; [`Error::Input`] if it is not the next of
    /// its chain, a rotation is not to the next generation, or a key is none that an entitlement brought or may not be
    /// taken so; [`Error::Poisoned`]; as [`Ledger::commit`], when much is staged.
    pub fn record(&mut self, now: impl Into<Reading>, fact: Fact) -> Result<LogSequence, Error> {
        let now = now.into();
        self.ready(now)?;
        let body = match fact {
            Fact::Trust(trust) => Body::Trust(trust),
            Fact::Rotation(rotation) => {
                self.rotation_fits(&rotation)?;
                Body::Rotation(rotation)
            }
            Fact::Key(receipt) => {
                self.key_fits(&receipt)?;
                Body::Key(receipt)
            }
            Fact::Crl(crl) => {
                let time = self.entry(now, Body::Crl(crl)).time;
                self.crl_fits(&crl, time)?;
                Body::Crl(crl)
            }
            Fact::StationCa { certificate } => {
                self.station_ca_fits(&certificate)?;
                Body::StationCa { certificate }
            }
            Fact::Burned(burned) => {
                self.burned_fits(&burned)?;
                Body::Burned(burned)
            }
            Fact::Restored {
                lineage,
                held,
                leases,
            } => Body::Restored(self.restored(lineage, held, leases)?),
            Fact::BundleSealed {
                sequence,
                fingerprint,
                log_size,
            } => {
                let (size, chain) = (self.size(), self.state.bundles());
                if log_size > size || log_size < chain.log_size {
                    return Err(Error::BundleSize {
                        log_size,
                        size,
                        covered: chain.log_size,
                    });
                }
                let next = chain.sequence.saturating_add(1);
                if sequence != next {
                    let why = format!("bundle {sequence} is not the next one, which is {next}");
                    return Err(Error::Input { why });
                }
                let requests_unlogged = std::mem::take(&mut self.requests_unlogged);
                Body::BundleSealed(BundleSealed {
                    sequence,
                    fingerprint,
                    log_size,
                    requests_unlogged,
                })
            }
        };
        Ok(self.stage_body(now, body))
    }

    pub(super) fn rotation_fits(&self, rotation: &Rotation) -> Result<(), Error> {
        let next = self.state.next_generation();
        let why = if !self.state.is_enrolled() {
            "the vault has no device CA yet".to_owned()
        } else if rotation.generation != next {
            format!(
                "device CA {} is not the next one, which is {next}",
                rotation.generation
            )
        } else {
            return Ok(());
        };
        Err(Error::Input { why })
    }

    pub(super) fn crl_fits(&self, crl: &CrlIssued, time: u64) -> Result<(), Error> {
        self.state
            .crl_fits(crl, time)
            .map_err(|why| Error::Input { why })
    }

    pub(super) fn station_ca_fits(&self, certificate: &[u8]) -> Result<(), Error> {
        self.state
            .station_ca_fits(certificate)
            .map_err(|why| Error::Input { why })
    }

    pub(super) fn station_fits(&self, order: &StationOrder) -> Result<(), Error> {
        self.state
            .station_fits(order)
            .map_err(|why| Error::Input { why })
    }

    pub(super) fn burned_fits(&self, burned: &Burned) -> Result<(), Error> {
        if burned.slots.len() > BURNED_MAX {
            let why = "slots of too many accounts are burned at once".to_owned();
            return Err(Error::Input { why });
        }
        self.state
            .burned_fits(burned)
            .map_err(|why| Error::Input { why })
    }

    /// The record that the log goes on in another lineage from here.
    pub(super) fn restored(
        &self,
        lineage: Lineage,
        held: u64,
        leases: Vec<(AccountTag, u64)>,
    ) -> Result<Restored, Error> {
        let why = |why: &str| Error::Input {
            why: why.to_owned(),
        };
        if leases.len() > BURNED_MAX {
            return Err(why("slots of too many accounts are in doubt"));
        }
        let parent = self.state.lineage();
        let restored = Restored {
            parent: parent.ok_or_else(|| why("the log has no genesis record"))?,
            size: self.state.size(),
            root: self.state.root(),
            lineage,
            held,
            leases,
        };
        self.state
            .restored_fits(&restored)
            .map_err(|why| Error::Input { why })?;
        Ok(restored)
    }

    pub(super) fn key_fits(&self, receipt: &KeyReceipt) -> Result<(), Error> {
        let KeyReceipt {
            entitlement,
            label,
            outcome,
        } = receipt;
        let mut keys = self.state.keys();
        let known = keys.find(|key| key.entitlement == entitlement && key.terms.label == *label);
        let why = match (known, outcome) {
            (None, _) => format!("entitlement {entitlement} brings no key {label}"),
            (Some(key), KeyOutcome::Imported) if !key.terms.memory_import => {
                format!("key {label} of {entitlement} may not pass through memory")
            }
            (_, KeyOutcome::Refused { code }) if !is_code(code) => {
                format!("`{}` is not a code", code.escape_default())
            }
            _ => return Ok(()),
        };
        Err(Error::Input { why })
    }
}
