//! What is signed, and with the key of which device CA.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use mintmark_keys::Signer;
use mintmark_ledger::decide::Reservation;
use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::ledger::{Ledger, Unfinished};
use mintmark_ledger::state::DeviceCa;

use crate::commands::now;
use crate::failure::{Error, Result};
use crate::vault::meter::Meters;
use crate::vault::{Vault, not_enrolled};

/// What is to be signed, and the key of the device CA that signs it.
pub(super) type Signable<P> = (P, Arc<dyn Signer>);

/// A spent unit that waits for its signature.
pub(super) trait Pinned: Sync {
    fn sequence(&self) -> LogSequence;
    fn tbs(&self) -> &[u8];
    fn record(self, ledger: &mut Ledger, signature: [u8; 64]) -> Result<()>;
}

impl Pinned for Reservation {
    fn sequence(&self) -> LogSequence {
        self.sequence()
    }

    fn tbs(&self) -> &[u8] {
        self.tbs()
    }

    fn record(self, ledger: &mut Ledger, signature: [u8; 64]) -> Result<()> {
        ledger.signed(now(), self, signature)?;
        Ok(())
    }
}

impl Pinned for Unfinished {
    fn sequence(&self) -> LogSequence {
        self.reservation
    }

    fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    fn record(self, ledger: &mut Ledger, signature: [u8; 64]) -> Result<()> {
        ledger.signed_unfinished(now(), self.reservation, signature)?;
        Ok(())
    }
}

/// A reservation that is durable, and the key that is to sign what it pins. Any thread may do that.
pub(in crate::vault) struct SigningJob {
    pub(super) reservation: Reservation,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) meters: Arc<Meters>,
}

/// What came of it.
pub(in crate::vault) struct Signature {
    pub(super) reservation: Reservation,
    /// The signature, and the certificate, DER.
    pub(super) outcome: Result<(p256::ecdsa::Signature, Vec<u8>)>,
}

impl SigningJob {
    /// Has the token sign. It verifies each signature before it gives it.
    pub(in crate::vault) fn sign(self) -> Signature {
        let Self {
            reservation,
            signer,
            meters,
        } = self;
        let signed = || {
            let begin = Instant::now();
            let signature = signer.sign(reservation.tbs());
            meters.signed(begin.elapsed(), signature.is_ok());
            let signature = signature?;
            Ok((
                signature,
                mintmark_pki::assemble(reservation.tbs(), &signature)?,
            ))
        };
        let outcome = signed();
        Signature {
            reservation,
            outcome,
        }
    }
}

impl Vault<'_> {
    /// Finds the key of the device CA that certifies each: the one that was in force when it was reserved. Gives those
    /// that have one, and why others have none.
    pub(super) fn with_signers<P: Pinned>(
        &self,
        pinned: Vec<P>,
    ) -> (Vec<Signable<P>>, Option<Error>) {
        let mut known: BTreeMap<u16, Option<Arc<dyn Signer>>> = BTreeMap::new();
        let mut failed = None;
        let mut ready = Vec::with_capacity(pinned.len());
        for pinned in pinned {
            let found = self.device_ca_of(pinned.sequence()).map(|ca| ca.generation);
            let generation = match found {
                Ok(generation) => generation,
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            let signer = known.entry(generation).or_insert_with(|| {
                let opened = self.signer_of(generation);
                opened.map_err(|error| failed.get_or_insert(error)).ok()
            });
            if let Some(signer) = signer {
                ready.push((pinned, Arc::clone(signer)));
            }
        }
        (ready, failed)
    }

    fn signer_of(&self, generation: u16) -> Result<Arc<dyn Signer>> {
        let issuer = self.issuer(generation)?;
        self.keyring()?.device_ca(generation, issuer.public_key())
    }

    pub(super) fn device_ca_of(&self, reservation: LogSequence) -> Result<&DeviceCa> {
        self.state()
            .device_ca_of(reservation)
            .ok_or_else(not_enrolled)
    }
}
