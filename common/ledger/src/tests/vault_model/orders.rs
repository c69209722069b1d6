//! What headquarters sends, and what somebody at the vault wants of it.

use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::revocation::Target;

use super::super::fixture::*;
use super::super::withdrawals::device_order;
use super::rules::Bundle;
use super::*;
use crate::decide::Input;
use crate::entry::{Burned, BurnedSlots, Content, CrlIssued, DeviceAction, Verdict};
use crate::ledger::{Fact, Outcome};

impl Vault {
    pub(super) fn import(&mut self, content: Content) -> String {
        self.ready();
        let next = self.live.dispatches + 1;
        let dispatch = dispatch(next, Verdict::Authentic(content));
        let outcome = self.submit(Input::Dispatch(&dispatch));
        self.live.dispatches = next;
        match outcome {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn order(&mut self, action: DeviceAction, asked: Asked) {
        self.ready();
        let Asked {
            station,
            product,
            device,
            ..
        } = asked;
        let expected = self.live.order(self.now, action, asked);
        let mut order = device_order(action, PRODUCTS[product], &format!("D{device}"));
        order.station = stations::id(station);
        let told = match self.submit(Input::Device(&order)) {
            Outcome::DeviceChanged(_) => "device-changed".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
    }

    pub(super) fn seal(&mut self) {
        self.ready();
        let (sequence, log_size) = (self.live.bundles.len() as u64 + 1, self.durable.size);
        let fingerprint = Fingerprint::of(format!("bundle {sequence} {log_size}").as_bytes());
        let fact = Fact::BundleSealed {
            sequence,
            fingerprint,
            log_size,
        };
        assert!(self.record(fact));
        self.live.bundles.push(Bundle {
            fingerprint,
            log_size,
        });
    }

    pub(super) fn acknowledge_at(&mut self, at: usize) {
        let sequence = at as u64 + 1;
        let bundle = self.live.bundles.get(at).copied();
        let claimed = bundle.unwrap_or(Bundle {
            fingerprint: Fingerprint::of(b"of nobody"),
            log_size: self.durable.size,
        });
        let acknowledged = acknowledgement(sequence, claimed.fingerprint, claimed.log_size);
        let told = self.import(acknowledgement_content(&acknowledged));
        let Some(bundle) = bundle else {
            return assert_eq!(told, "ACK-UNKNOWN-BUNDLE");
        };
        assert_eq!(told, "accepted");
        self.live.acknowledged_size = self.live.acknowledged_size.max(bundle.log_size);
    }

    pub(super) fn amend(&mut self, product: usize, units: u64) {
        let mut amended = self.live.authorised;
        amended[product] = units;
        let version = self.live.version + 1;
        let told = self.import(entitlement_content(&terms(version, amended)));
        let expected = if self.live.revoked {
            "ENTITLEMENT-REVOKED"
        } else if units < self.live.next_slot[product] {
            "ENTITLEMENT-BELOW-SPENT"
        } else {
            "accepted"
        };
        assert_eq!(told, expected);
        if expected == "accepted" {
            self.live.version = version;
            self.live.authorised = amended;
        }
    }

    pub(super) fn again(&mut self) {
        let known = terms(self.live.version, self.live.authorised);
        let expected = if self.live.revoked {
            "ENTITLEMENT-REVOKED"
        } else {
            "accepted"
        };
        assert_eq!(self.import(entitlement_content(&known)), expected);
    }

    pub(super) fn revoke(&mut self, target: Target) {
        let number = self.live.revocations + 1;
        let content = revocation_content(&revocation(number, target));
        assert_eq!(self.import(content), "accepted");
        self.live.revocations = number;
    }

    pub(super) fn crl(&mut self) {
        self.ready();
        let (now, number) = (self.now, self.live.crls + 1);
        let state = self.ledger.as_ref().unwrap().state();
        assert_eq!(
            state.crl_is_behind(1),
            self.live.withdrawn.len() > self.live.on_crl
        );
        let this_update = state.time_at(now.into());
        let crl = CrlIssued {
            generation: 1,
            number,
            sha256: Fingerprint::of(b"a CRL"),
            this_update,
            next_update: state.crl_next_update(this_update),
        };
        assert!(self.record(Fact::Crl(crl)));
        self.live.crls = number;
        self.live.on_crl = self.live.withdrawn.len();
    }

    pub(super) fn confirm(&mut self) {
        self.ready();
        let expected = self.live.confirmation(self.now);
        let told = match self.submit(Input::ClockConfirm) {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::Refused(refusal) => refusal.code().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
        if told == "accepted" {
            self.live.confirmed(self.now);
        }
    }

    pub(super) fn burn(&mut self, product: usize, slots: u64) {
        self.ready();
        let first = self.live.next_slot[product];
        let end = first + slots;
        let slots_of = BurnedSlots {
            account: tag(product as u64 + 1),
            first,
            end,
        };
        let fits = slots <= LEASE && end <= self.live.authorised[product];
        let burned = Burned {
            anchor: rules::ANCHOR,
            slots: vec![slots_of],
        };
        assert_eq!(self.record(Fact::Burned(burned)), fits);
        if fits {
            self.live.next_slot[product] = end;
            self.live.burned[product] += slots;
        }
    }
}
