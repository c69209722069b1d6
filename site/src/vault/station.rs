//! The stations of a vault: which may ask it over the network. Their CA is the vault's own, in its token; who is let in is
//! in the log, and a certificate is worth no more than what the log says of its station.

use mintmark_keys::{Purpose, Signer};
use mintmark_ledger::decide::Input;
use mintmark_ledger::entry::{StationApproval, StationChange, StationOrder, StationTerms};
use mintmark_ledger::ledger::{Fact, Outcome};
use mintmark_ledger::refusal::Refusal;
use mintmark_pki::{CertificationRequest, Issuer, Validity, assemble, station_ca_tbs, station_tbs};
use mintmark_protocol::encryption::random;
use mintmark_protocol::identifier::StationId;
use p256::PublicKey;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use std::sync::Arc;

use super::keyring::expect_same;
use super::{Vault, not_enrolled};
use crate::commands::now;
use crate::failure::{Error, Result};

/// The key that certifies stations, and the service that they ask.
pub(crate) const STATION_CA: &str = "station-ca";

/// By how much a certificate begins earlier than it is made, in seconds: clocks of stations differ.
const BACKDATED_SECONDS: u64 = 300;

/// The bytes of a serial number of the station CA's: random, since nothing is counted by it.
type Serial = [u8; 16];

/// A private key's one operation.
type Sign<'s> = &'s dyn Fn(&[u8]) -> Result<Signature>;

/// A station that was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// Its certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// The station CA's, DER.
    pub(crate) station_ca: Vec<u8>,
}

impl Vault<'_> {
    /// The station CA: its certificate, and its key in the token. It is made when the first station is let in.
    ///
    /// # Errors
    /// NOT-ENROLLED; VAULT-KEY-CHANGED if the token holds another key than the log names; what token and log fail with.
    pub(crate) fn station_ca(&mut self) -> Result<(Issuer, Arc<dyn Signer>)> {
        if let Some(present) = self.present_station_ca()? {
            return Ok(present);
        }
        let store = Arc::clone(self.keyring()?.store());
        // An interruption left a key without its certificate.
        let key = match store.find(STATION_CA, Purpose::Sign)? {
            Some(key) => key,
            None => store.generate(STATION_CA, Purpose::Sign)?,
        };
        let signer = store.signer(STATION_CA)?;
        let certificate = self.station_ca_certificate(&key, &|tbs| Ok(signer.sign(tbs)?))?;
        let issuer = Issuer::from_certificate_der(&certificate)?;
        self.ledger.record(now(), Fact::StationCa { certificate })?;
        self.ledger.commit()?;
        Ok((issuer, signer))
    }

    fn station_ca_certificate(&self, key: &PublicKey, sign: Sign<'_>) -> Result<Vec<u8>> {
        let hq_name = &self.trust.newest().content().hq_name;
        let serial: Serial = random()?;
        let begin = self.time().saturating_sub(BACKDATED_SECONDS);
        let (site, vault) = (self.name.site.as_str(), self.name.vault.as_str());
        let tbs = station_ca_tbs(hq_name, site, vault, key, &serial, begin)?;
        Ok(assemble(&tbs, &sign(&tbs)?)?)
    }

    /// The station CA as it is; none if it is still to be made.
    ///
    /// # Errors
    /// As [`Vault::station_ca`].
    pub(crate) fn present_station_ca(&self) -> Result<Option<(Issuer, Arc<dyn Signer>)>> {
        let Some(certificate) = self.state().station_ca() else {
            return match self.state().is_enrolled() {
                true => Ok(None),
                false => Err(not_enrolled()),
            };
        };
        let issuer = Issuer::from_certificate_der(certificate)?;
        let signer = self.keyring()?.store().signer(STATION_CA)?;
        expect_same(STATION_CA, signer.public_key(), issuer.public_key())?;
        Ok(Some((issuer, signer)))
    }

    /// Lets a station in, if the rules allow it: its certificate is signed, and the log says so before anybody has it.
    pub(crate) fn approve_station(
        &mut self,
        station: &StationId,
        request: &CertificationRequest,
        terms: StationTerms,
    ) -> Result<std::result::Result<Admitted, Refusal>> {
        self.begin()?;
        let (issuer, signer) = self.station_ca()?;
        let sign = |tbs: &[u8]| Ok(signer.sign(tbs)?);
        let approval = self.station_approval(station, request, terms, (&issuer, &sign))?;
        let certificate = approval.certificate.clone();
        let order = StationOrder {
            station: station.clone(),
            change: StationChange::Approve(Box::new(approval)),
        };
        Ok(match self.order_station(&order)? {
            Some(refusal) => Err(refusal),
            None => Ok(Admitted {
                certificate,
                station_ca: issuer.certificate_der().to_vec(),
            }),
        })
    }

    fn station_approval(
        &self,
        station: &StationId,
        request: &CertificationRequest,
        terms: StationTerms,
        (issuer, sign): (&Issuer, Sign<'_>),
    ) -> Result<StationApproval> {
        let serial: Serial = random()?;
        let begin = self.time().saturating_sub(BACKDATED_SECONDS);
        let validity = Validity {
            not_before_unix: begin.min(terms.until.saturating_sub(1)),
            not_after_unix: terms.until,
        };
        let (name, key) = (station.as_str(), request.spki_der());
        let tbs = station_tbs(issuer, name, key, &serial, validity)?;
        Ok(StationApproval {
            request: request.der().to_vec(),
            certificate: assemble(&tbs, &sign(&tbs)?)?,
            terms,
        })
    }

    /// What would be decided of letting a station in, and the certificate of the station CA that would sign for it; none if
    /// that would be made first. Nothing becomes durable; the vault must not be used for anything else afterwards.
    ///
    /// # Errors
    /// As [`Vault::station_ca`].
    pub(crate) fn rehearse_station_approval(
        &mut self,
        station: &StationId,
        request: &CertificationRequest,
        terms: StationTerms,
    ) -> Result<std::result::Result<Option<Vec<u8>>, Refusal>> {
        let present = self.present_station_ca()?;
        let known = present.as_ref().map(|(issuer, _)| issuer.certificate_der());
        let known = known.map(<[u8]>::to_vec);
        let approval = match present {
            Some((issuer, signer)) => {
                let sign = |tbs: &[u8]| Ok(signer.sign(tbs)?);
                self.station_approval(station, request, terms, (&issuer, &sign))?
            }
            None => {
                // The token has to be the vault's, as when it makes the key.
                self.keyring()?;
                // A key that nobody will ever hear of: the token makes its own when it comes to that.
                let key = passing_key()?;
                let sign = |tbs: &[u8]| Ok(key.sign(tbs));
                let public = PublicKey::from(key.verifying_key());
                let certificate = self.station_ca_certificate(&public, &sign)?;
                let issuer = Issuer::from_certificate_der(&certificate)?;
                self.ledger.record(now(), Fact::StationCa { certificate })?;
                self.station_approval(station, request, terms, (&issuer, &sign))?
            }
        };
        let order = StationOrder {
            station: station.clone(),
            change: StationChange::Approve(Box::new(approval)),
        };
        Ok(match self.stage_station(&order)? {
            Some(refusal) => Err(refusal),
            None => Ok(known),
        })
    }

    /// Shuts a station out; why not, if that is refused.
    pub(crate) fn revoke_station(
        &mut self,
        station: &StationId,
        reason: &str,
    ) -> Result<Option<Refusal>> {
        self.begin()?;
        self.order_station(&revocation(station, reason))
    }

    /// What would be decided of that. Nothing becomes durable; the vault must not be used for anything else afterwards.
    pub(crate) fn rehearse_station_revocation(
        &mut self,
        station: &StationId,
        reason: &str,
    ) -> Result<Option<Refusal>> {
        self.stage_station(&revocation(station, reason))
    }

    fn order_station(&mut self, order: &StationOrder) -> Result<Option<Refusal>> {
        let refusal = self.stage_station(order)?;
        self.ledger.commit()?;
        Ok(refusal)
    }

    fn stage_station(&mut self, order: &StationOrder) -> Result<Option<Refusal>> {
        match self.ledger.submit(None, now(), Input::Station(order))? {
            Outcome::Accepted => Ok(None),
            Outcome::Refused(refusal) => Ok(Some(refusal)),
            Outcome::Reserved(_) | Outcome::Existing { .. } | Outcome::DeviceChanged(_) => {
                Err(Error::unknown(
                    "INTERNAL",
                    "an order about a station was answered as if it were about a device",
                ))
            }
        }
    }
}

/// A key that lives for as long as something is tried.
fn passing_key() -> Result<SigningKey> {
    loop {
        // All but about 2^-32 of the candidates are scalars.
        if let Ok(key) = SigningKey::from_slice(&random::<32>()?) {
            return Ok(key);
        }
    }
}

fn revocation(station: &StationId, reason: &str) -> StationOrder {
    StationOrder {
        station: station.clone(),
        change: StationChange::Revoke {
            reason: reason.to_owned(),
        },
    }
}
