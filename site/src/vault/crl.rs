//! The CRLs of the vault's device CAs: each names the certificates of its device CA that were taken back, is signed in the
//! token, and is on record before anybody sees it.

use mintmark_console::files::Folder;
use mintmark_ledger::entry::CrlIssued;
use mintmark_ledger::ledger::Fact;
use mintmark_ledger::state::Withdrawal;
use mintmark_pki::{CRL_DER_BYTES_MAX, Crl, CrlReason, RevokedSerial, assemble_crl, crl_tbs};
use mintmark_protocol::bundle::CRL_BYTES_MAX;
use mintmark_protocol::identifier::Fingerprint;

use super::{Vault, not_enrolled};
use crate::commands::now;
use crate::failure::Result;

/// From this size on, in bytes of DER, it is time for another device CA: what that certifies stands on a CRL of its own.
const LARGE_BYTES: usize = CRL_BYTES_MAX / 2;

/// A CRL, and what the log says of it.
#[derive(Debug)]
pub(crate) struct SignedCrl {
    /// What is on record.
    pub(crate) issued: CrlIssued,
    /// The CRL, DER.
    pub(crate) der: Vec<u8>,
    /// How many certificates it names.
    pub(crate) revoked: usize,
}

/// Where the newest CRL of a device CA is kept in the home.
fn crl_file(generation: u16) -> String {
    format!("crl-{generation}.der")
}

/// What a CRL says of why a certificate is no longer good. A unit that came to nothing is, like a scrapped one, a device
/// that is not in operation.
fn reason(why: Withdrawal) -> CrlReason {
    match why {
        Withdrawal::Scrapped | Withdrawal::Voided => CrlReason::CessationOfOperation,
        Withdrawal::Superseded => CrlReason::Superseded,
        Withdrawal::Revoked => CrlReason::PrivilegeWithdrawn,
    }
}

impl Vault<'_> {
    /// The time by which CRLs are made: that of the log where the clock is not believed.
    pub(super) fn crl_time(&self) -> u64 {
        let state = self.state();
        let held = state.clock_stopped().is_some() || state.clock_off(now()).is_some();
        match held {
            true => state.mark(),
            false => self.time(),
        }
    }

    /// What the next CRL of a device CA would be, its digest aside, and how many certificates it would name.
    pub(crate) fn next_crl(&self, generation: u16) -> (CrlIssued, usize) {
        let state = self.state();
        let this_update = self.crl_time();
        let next = CrlIssued {
            generation,
            number: state.next_crl_number(generation, this_update),
            sha256: Fingerprint::new([0; 32]),
            this_update,
            next_update: state.crl_next_update(this_update),
        };
        (next, state.crl_entries(generation).count())
    }

    /// Signs the next CRL of a device CA, and puts it on record.
    ///
    /// # Errors
    /// NOT-ENROLLED if the vault has no such device CA; what the token or the log fails with.
    pub(crate) fn sign_crl(&mut self, generation: u16) -> Result<SignedCrl> {
        self.begin()?;
        let issuer = self.issuer(generation)?;
        let (next, revoked) = self.next_crl(generation);
        let entries = self.revoked_serials(generation)?;
        let (number, this_update, next_update) = (next.number, next.this_update, next.next_update);
        let tbs = crl_tbs(&issuer, number, this_update, next_update, &entries)?;
        let signer = self.keyring()?.device_ca(generation, issuer.public_key())?;
        let der = assemble_crl(&tbs, &signer.sign(&tbs)?)?;
        // What is released is what everybody else can read.
        Crl::from_der(&der, &issuer)?;
        // Before the log names it: one that it does not name never left the home, and its number is given again.
        Folder::open(self.home.path())?.write_replace(crl_file(generation), &der)?;
        let issued = CrlIssued {
            sha256: Fingerprint::of(&der),
            ..next
        };
        self.ledger.record(now(), Fact::Crl(issued))?;
        self.ledger.commit()?;
        Ok(SignedCrl {
            issued,
            der,
            revoked,
        })
    }

    fn revoked_serials(&self, generation: u16) -> Result<Vec<RevokedSerial>> {
        let serials = self.serials()?.ok_or_else(not_enrolled)?;
        let entries = self.state().crl_entries(generation);
        let entries = entries.map(|((account, slot, issue), withdrawn)| RevokedSerial {
            serial: serials.serial(*account, *slot, *issue).to_vec(),
            revoked_at_unix: withdrawn.time,
            reason: Some(reason(withdrawn.why)),
        });
        Ok(entries.collect())
    }

    /// Signs every CRL that is due. That one cannot be signed is said, and keeps no bundle from being sealed.
    pub(super) fn sign_crls_due(&mut self) {
        // Nothing but messages leaves the vault before officers vouch for its log.
        if self.anchor_trouble().is_some() {
            return;
        }
        let due: Vec<u16> = self.state().crls_due(self.crl_time()).collect();
        for generation in due {
            if let Err(error) = self.sign_crl(generation) {
                let failure = error.failure();
                let message = format!(
                    "the CRL of device CA {generation} is due and was not signed: {}",
                    failure.message
                );
                self.console.warn_coded(&failure.code, &message);
            }
        }
    }

    /// The newest CRL of a device CA, DER, if the home holds the one that the log names, and a bundle has room for it.
    pub(super) fn carried_crl(&self, generation: u16) -> Result<Option<Vec<u8>>> {
        let Some((_, issued)) = self.state().crl(generation) else {
            return Ok(None);
        };
        let folder = Folder::open(self.home.path())?;
        let der = match folder.read_limited(crl_file(generation), CRL_DER_BYTES_MAX as u64) {
            Ok(der) => der,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // An interruption left one that the log does not name: the next one is signed when it is due.
        if Fingerprint::of(&der) != issued.sha256 {
            return Ok(None);
        }
        let (bytes, mebibytes) = (der.len(), CRL_BYTES_MAX >> 20);
        if bytes > CRL_BYTES_MAX {
            self.console.warn_coded(
                "CRL-UNCARRIED",
                format!(
                    "the CRL of device CA {generation} has {bytes} bytes, and a bundle has room for {mebibytes} MiB: \
                     headquarters does not get it, and publishes the one before; `site crl issue --output FILE` writes it, \
                     and officers can revoke the device CA"
                ),
            );
            return Ok(None);
        }
        if bytes > LARGE_BYTES {
            self.console.warn_coded(
                "CRL-LARGE",
                format!(
                    "the CRL of device CA {generation} has {bytes} bytes, and a bundle has room for {mebibytes} MiB: go on with \
                     another device CA before it is full (`site rotate`)"
                ),
            );
        }
        Ok(Some(der))
    }

    /// The device CAs whose newest CRL no bundle reports yet.
    pub(super) fn crls_unreported(&self) -> Vec<u16> {
        let covered = self.state().bundles().log_size;
        let generations = self.state().device_cas().iter().map(|ca| ca.generation);
        generations
            .filter(|generation| {
                let crl = self.state().crl(*generation);
                crl.is_some_and(|(at, _)| at.number() >= covered)
            })
            .collect()
    }

    /// Whose CRL goes with a bundle when none is new: each device CA in its turn, so that one that was lost on the way comes
    /// again.
    pub(super) fn crl_in_turn(&self, sequence: u64) -> Option<u16> {
        let generations = self.state().device_cas().iter();
        let signing: Vec<u16> = generations
            .filter(|ca| ca.revoked.is_none() && self.state().crl(ca.generation).is_some())
            .map(|ca| ca.generation)
            .collect();
        let count = u64::try_from(signing.len()).ok()?;
        let at = sequence.checked_rem(count)?;
        signing.get(usize::try_from(at).ok()?).copied()
    }
}
