//! The stations that may ask a vault over the network, as its log has them.

use std::collections::BTreeMap;

use mintmark_pki::{Certificate, CertificationRequest, Issuer};
use mintmark_protocol::identifier::{Fingerprint, StationId};

use super::{State, WindowCount};
use crate::entry::{LogSequence, StationApproval, StationChange, StationOrder};
use crate::policy::day_window;

/// The most stations that a vault lets in at once.
pub const STATIONS_MAX: usize = 512;

/// A station that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its name.
    pub id: StationId,
    /// The record by which it was let in.
    pub approved_at: LogSequence,
    /// When, Unix seconds.
    pub since: u64,
    /// What it asked with, the certificate that it got, and what it may do.
    pub approval: StationApproval,
    /// SHA-256 of that certificate: how it is known again.
    pub certificate_sha256: Fingerprint,
    /// It was shut out; none while it is not.
    pub revoked: Option<StationRevoked>,
    /// New units that it had in the newest UTC day with any.
    pub day: WindowCount,
}

/// A station that was shut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StationRevoked {
    /// Since when, Unix seconds.
    pub time: u64,
    /// Why.
    pub reason: String,
}

/// Every station, and the CA that their certificates are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stations {
    /// The certificate of the station CA, DER.
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) known: BTreeMap<StationId, Station>,
}

impl State {
    /// The certificate of the vault's station CA, DER; none before it has one.
    pub fn station_ca(&self) -> Option<&[u8]> {
        self.stations.ca.as_deref()
    }

    /// Every station that was ever let in, by name.
    pub fn stations(&self) -> impl Iterator<Item = &Station> {
        self.stations.known.values()
    }

    /// One station.
    pub fn station(&self, id: &StationId) -> Option<&Station> {
        self.stations.known.get(id)
    }

    /// The station that this certificate, by its SHA-256, was given to and none since; whether it may still ask is for the
    /// rules to say.
    pub fn station_of(&self, certificate_sha256: &Fingerprint) -> Option<&Station> {
        let mut stations = self.stations();
        stations.find(|station| station.certificate_sha256 == *certificate_sha256)
    }

    /// Whether a certificate can be that of the vault's station CA, or why not.
    pub(crate) fn station_ca_fits(&self, certificate: &[u8]) -> Result<(), String> {
        if self.stations.ca.is_some() {
            return Err("the vault has a station CA already".to_owned());
        }
        let issuer = Issuer::from_certificate_der(certificate).map_err(|e| e.to_string())?;
        let certificate = issuer.certificate();
        if certificate.issuer_der() != certificate.subject_der() {
            return Err("a station CA signs its own certificate".to_owned());
        }
        Ok(())
    }

    /// Whether what is said of a station's request and certificate can be so, or why not.
    pub(crate) fn station_fits(&self, order: &StationOrder) -> Result<(), String> {
        let StationChange::Approve(approval) = &order.change else {
            return Ok(());
        };
        let request =
            CertificationRequest::from_der(&approval.request).map_err(|e| e.to_string())?;
        let ca = self.station_ca().ok_or("the vault has no station CA")?;
        let ca = Issuer::from_certificate_der(ca).map_err(|e| e.to_string())?;
        let certificate =
            Certificate::from_der(&approval.certificate).map_err(|e| e.to_string())?;
        certificate
            .verify_issued_by(&ca)
            .map_err(|e| e.to_string())?;
        if certificate.is_ca() {
            return Err("a station's certificate is not that of a CA".to_owned());
        }
        if certificate.spki_der() != request.spki_der() {
            return Err("the certificate is for another key than the request".to_owned());
        }
        if certificate.not_after_unix() != approval.terms.until {
            return Err(
                "the certificate ends at another time than what the station may do".to_owned(),
            );
        }
        Ok(())
    }

    /// Somebody at the vault let a station in, or shut it out.
    pub(crate) fn change_station(&mut self, order: &StationOrder, (at, time): (LogSequence, u64)) {
        match &order.change {
            StationChange::Approve(approval) => {
                let before = self.stations.known.get(&order.station);
                let day = before.map(|before| before.day).unwrap_or_default();
                let station = Station {
                    id: order.station.clone(),
                    approved_at: at,
                    since: time,
                    approval: (**approval).clone(),
                    certificate_sha256: Fingerprint::of(&approval.certificate),
                    revoked: None,
                    day,
                };
                self.stations.known.insert(order.station.clone(), station);
            }
            StationChange::Revoke { reason } => {
                if let Some(station) = self.stations.known.get_mut(&order.station) {
                    station.revoked.get_or_insert(StationRevoked {
                        time,
                        reason: reason.clone(),
                    });
                }
            }
        }
    }

    /// A station had a new unit.
    pub(crate) fn count_station(&mut self, station: &StationId, time: u64) {
        if let Some(station) = self.stations.known.get_mut(station) {
            station.day.add(day_window(time));
        }
    }
}
