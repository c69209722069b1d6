//! The change to the next device CA: a key is made, the request to have it certified is signed and kept, and only then does
//! the log say so. Interrupted anywhere, it gives the same request when it is run again.

use mintmark_keys::{KeyStore, Purpose};
use mintmark_ledger::entry::Rotation;
use mintmark_ledger::ledger::Fact;
use mintmark_protocol::enrolment::{EnrolmentRequest, FIRST_GENERATION, REQUEST_BYTES_MAX};
use mintmark_protocol::envelope;
use mintmark_protocol::identifier::Fingerprint;

use super::keyring::{VAULT_SIGN, device_ca_key, device_ca_label};
use super::{Vault, not_enrolled};
use crate::commands::init::{certification_request, facts};
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::home::{ENROLMENT, Home};

/// The name of the file in the home that keeps the request for a device CA.
pub(crate) fn request_file(generation: u16) -> String {
    match generation {
        FIRST_GENERATION => ENROLMENT.to_owned(),
        later => format!("enrol-{later}.cose"),
    }
}

/// The request that the log names.
pub(super) fn request(home: &Home, rotation: Rotation) -> Result<Vec<u8>> {
    let name = request_file(rotation.generation);
    let bytes = home.file(&name, REQUEST_BYTES_MAX)?;
    EnrolmentRequest::open(&bytes, &rotation.request_fingerprint).map_err(|error| {
        home.corrupt(&name, "not the request that the log names")
            .cause(error)
    })?;
    Ok(bytes)
}

impl Vault<'_> {
    /// Asks for the next device CA. Gives the request that waits for its grant, and whether it was there before.
    pub(crate) fn rotate(&mut self) -> Result<(Rotation, bool)> {
        if let Some(rotation) = self.state().rotation_pending() {
            request(&self.home, rotation)?;
            return Ok((rotation, true));
        }
        let generation = self.next_generation()?;
        let keyring = self.keyring()?;
        let label = device_ca_label(generation);
        let key = match keyring.store().find(&label, Purpose::Sign)? {
            Some(key) => key,
            None => keyring.store().generate(&label, Purpose::Sign)?,
        };
        let folder = mintmark_console::files::Folder::open(self.home.path())?;
        let name = request_file(generation);
        let kept = match folder.read_limited(&name, REQUEST_BYTES_MAX as u64) {
            Ok(bytes) => self.kept_request(&bytes, generation, &key),
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error.into()),
        };
        let fingerprint = match kept {
            Some(fingerprint) => fingerprint,
            None => {
                let request = self.rotation_request(&**keyring.store(), generation)?;
                let (bytes, fingerprint) = request.seal(&|message| keyring.sign(message))?;
                // The log names none yet, so nothing rests on what may stand there.
                folder.write_replace(&name, &bytes)?;
                fingerprint
            }
        };
        let rotation = Rotation {
            generation,
            request_fingerprint: fingerprint,
        };
        self.ledger.record(now(), Fact::Rotation(rotation))?;
        self.ledger.commit()?;
        Ok((rotation, false))
    }

    /// The generation that `site rotate` would ask for.
    ///
    /// # Errors
    /// NOT-ENROLLED; ROTATIONS-EXHAUSTED.
    pub(crate) fn next_generation(&self) -> Result<u16> {
        if !self.state().is_enrolled() {
            return Err(not_enrolled());
        }
        let generation = self.state().next_generation();
        let newest = self.state().device_cas().last();
        if newest.is_some_and(|newest| newest.generation >= generation) {
            let message = "this vault has had as many device CAs as it can have";
            return Err(Error::negative("ROTATIONS-EXHAUSTED", message)
                .hint("ask headquarters for a new vault that succeeds this one"));
        }
        Ok(generation)
    }

    /// The request that an interruption left before the log named it, if it is one for this very key.
    fn kept_request(
        &self,
        bytes: &[u8],
        generation: u16,
        key: &p256::PublicKey,
    ) -> Option<Fingerprint> {
        let fingerprint = envelope::claim(bytes, REQUEST_BYTES_MAX).ok()?.fingerprint;
        let request = EnrolmentRequest::open(bytes, &fingerprint).ok()?;
        let request = request.content();
        let fits = request.vault == self.name
            && Some(request.lineage) == self.state().lineage()
            && request.device_ca_generation == generation
            && request.signing_key == self.identity.sign
            && request.agreement_key == self.identity.agree
            && device_ca_key(request).as_ref() == Ok(key);
        fits.then_some(fingerprint)
    }

    fn rotation_request(&self, store: &dyn KeyStore, generation: u16) -> Result<EnrolmentRequest> {
        let manifest = self.trust.newest();
        let csr = |label: &str, what| certification_request(store, &self.name, label, what);
        Ok(EnrolmentRequest {
            vault: self.name.clone(),
            lineage: self.lineage()?,
            trust_version: manifest.content().version,
            trust_fingerprint: manifest.fingerprint(),
            identity_csr: csr(VAULT_SIGN, "Vault")?,
            device_ca_csr: csr(&device_ca_label(generation), "Device CA")?,
            signing_key: self.identity.sign,
            agreement_key: self.identity.agree,
            facts: facts(&store.facts(), self.identity.transport.as_ref()),
            made_at: now().clock,
            transport_key: self.identity.transport.clone(),
            device_ca_generation: generation,
        })
    }
}
