//! The device CAs of a vault, one after the other, and which reservation is certified by which.

use mintmark_protocol::identifier::Fingerprint;

use super::{Enrolment, OpenReservation, Revoked, State};
use crate::entry::LogSequence;
use crate::refusal::Refusal;

/// One device CA of the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCa {
    /// 1 for the first, and one more with each rotation.
    pub generation: u16,
    /// Fingerprint of the grant that brought it.
    pub grant: Fingerprint,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The record that put it in force: it certifies what is reserved after that, until the next one.
    pub first_record: LogSequence,
    /// Officers revoked it; none while what it certified is good.
    pub revoked: Option<Revoked>,
}

impl DeviceCa {
    /// SHA-256 of its certificate: the name by which it is revoked.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }
}

impl Enrolment {
    /// The device CA in force.
    pub fn device_ca(&self) -> Option<&DeviceCa> {
        self.device_cas.last()
    }

    /// The certificate of the device CA in force, DER.
    pub fn device_ca_certificate(&self) -> &[u8] {
        self.device_ca().map_or(&[], |ca| &ca.certificate)
    }
}

impl State {
    /// Every device CA of the vault, the newest last: that one is in force.
    pub fn device_cas(&self) -> &[DeviceCa] {
        self.enrolment
            .as_deref()
            .map_or(&[], |enrolment| &enrolment.device_cas)
    }

    /// The device CA that certifies what was reserved by this record.
    pub fn device_ca_of(&self, reservation: LogSequence) -> Option<&DeviceCa> {
        let before = |ca: &&DeviceCa| ca.first_record <= reservation;
        let mut newest_first = self.device_cas().iter().rev();
        newest_first.find(before)
    }

    /// Whether this grant took effect before.
    pub(crate) fn knows_grant(&self, fingerprint: Fingerprint) -> bool {
        self.device_cas().iter().any(|ca| ca.grant == fingerprint)
    }

    /// The generation that the next rotation has.
    pub fn next_generation(&self) -> u16 {
        let newest = self.device_cas().last();
        newest.map_or(1, |ca| ca.generation.saturating_add(1))
    }

    /// Since when the vault makes no new devices; none while it does. An accepted rotation ends it.
    pub fn disabled_at(&self) -> Option<&Revoked> {
        self.disabled.as_ref()
    }

    /// Why nothing new is certified; none while it is.
    pub(crate) fn stopped(&self) -> Option<Refusal> {
        if let Some(disabled) = &self.disabled {
            return Some(Refusal::VaultDisabled {
                since: disabled.time,
            });
        }
        let ca = self.device_cas().last()?;
        let revoked = ca.revoked.as_ref()?;
        Some(Refusal::DeviceCaRevoked {
            generation: ca.generation,
            since: revoked.time,
        })
    }

    /// Why an open reservation must not be completed: its entitlement or its device CA is revoked, or the vault is
    /// disabled; none if it may be.
    pub fn withheld(&self, reservation: LogSequence) -> Option<Refusal> {
        let open = self.reservations.get(&reservation)?;
        self.withheld_open(reservation, open)
            .map(|(refusal, _)| refusal)
    }

    /// The same of an open reservation that is at hand, and the record since which it is so.
    pub(crate) fn withheld_open(
        &self,
        reservation: LogSequence,
        open: &OpenReservation,
    ) -> Option<(Refusal, LogSequence)> {
        if let Some(ended) = self.taken_back.ended(open.account, open.slot) {
            let device_id = open.device_id.clone();
            return Some((Refusal::DeviceUnitEnded { device_id }, ended.at));
        }
        let account = self.accounts.get(&open.account);
        let granted = account.and_then(|account| self.entitlements.get(&account.entitlement));
        if let Some(granted) = granted
            && let Some(revoked) = &granted.revoked
        {
            let refusal = Refusal::EntitlementRevoked {
                entitlement: granted.terms.id.clone(),
                since: revoked.time,
            };
            return Some((refusal, revoked.at));
        }
        if let Some(ca) = self.device_ca_of(reservation)
            && let Some(revoked) = &ca.revoked
        {
            let refusal = Refusal::DeviceCaRevoked {
                generation: ca.generation,
                since: revoked.time,
            };
            return Some((refusal, revoked.at));
        }
        let disabled = self.disabled.as_ref()?;
        let since = disabled.time;
        Some((Refusal::VaultDisabled { since }, disabled.at))
    }
}
