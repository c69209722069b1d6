//! The stations of a vault: let in and shut out by somebody at the vault, whose token has the station CA.

use mintmark_ledger::decide::Input;
use mintmark_ledger::entry::{StationApproval, StationChange, StationOrder, StationTerms};
use mintmark_ledger::ledger::{Fact, Outcome};
use mintmark_pki::{Issuer, Validity, assemble, station_ca_tbs, station_tbs};
use mintmark_protocol::identifier::StationId;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;

use super::super::headquarters::BEGINNING;
use super::super::software::{csr, key, public};
use super::{Answer, Vault};

/// The key of every station CA: which vault it is of is in its name.
const CA_KEY: u64 = 8_000_000;

fn ca_key() -> SigningKey {
    key(CA_KEY)
}

fn sign(tbs: &[u8]) -> Vec<u8> {
    assemble(tbs, &ca_key().sign(tbs)).unwrap()
}

impl Vault {
    /// The station CA, which comes on record when it is needed first; the same one after a home was put back that lacks it.
    fn station_ca(&mut self, now: u64) -> Issuer {
        let begin = BEGINNING - 86_400;
        let public = public(&ca_key());
        let tbs = station_ca_tbs("Acme HQ", self.site, "v1", &public, &[1; 16], begin).unwrap();
        let certificate = sign(&tbs);
        if self.state().station_ca().is_none() {
            let reading = self.reading(now);
            let fact = Fact::StationCa {
                certificate: certificate.clone(),
            };
            self.ledger().record(reading, fact).unwrap();
            self.commit();
        }
        Issuer::from_certificate_der(&certificate).unwrap()
    }

    /// Lets a station in with the key of this number, perhaps once more.
    pub(in crate::simulation) fn let_in(
        &mut self,
        now: u64,
        station: &StationId,
        key: u64,
        terms: StationTerms,
    ) -> Answer {
        if self.is_waiting() {
            return Answer::Waiting;
        }
        if !self.state().is_enrolled() {
            return Answer::Refused("NOT-ENROLLED".to_owned());
        }
        let issuer = self.station_ca(now);
        let request = csr(station.as_str(), CA_KEY + key);
        let validity = Validity {
            not_before_unix: BEGINNING - 86_400,
            not_after_unix: terms.until,
        };
        let (name, spki) = (station.as_str(), request.spki_der());
        let tbs = station_tbs(&issuer, name, spki, &[2; 16], validity).unwrap();
        let approval = StationApproval {
            request: request.der().to_vec(),
            certificate: sign(&tbs),
            terms,
        };
        let change = StationChange::Approve(Box::new(approval));
        self.change_station(now, station, change)
    }

    /// Shuts a station out.
    pub(in crate::simulation) fn shut_out(&mut self, now: u64, station: &StationId) -> Answer {
        if self.is_waiting() {
            return Answer::Waiting;
        }
        let reason = "it was stolen".to_owned();
        self.change_station(now, station, StationChange::Revoke { reason })
    }

    fn change_station(&mut self, now: u64, station: &StationId, change: StationChange) -> Answer {
        let order = StationOrder {
            station: station.clone(),
            change,
        };
        let reading = self.reading(now);
        let input = Input::Station(&order);
        let outcome = self.ledger().submit(None, reading, input).unwrap();
        self.commit();
        match outcome {
            Outcome::Refused(refusal) => Answer::Refused(refusal.code().to_owned()),
            _ => Answer::Issued,
        }
    }
}
