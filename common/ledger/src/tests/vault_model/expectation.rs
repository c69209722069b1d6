//! What has to be so after every step.

use std::collections::BTreeSet;

use super::super::fixture::*;
use super::*;
use crate::entry::{Body, LogSequence};
use crate::replay::Replay;
use crate::serial::serial_of;

impl Vault {
    /// What is signed for and durable leaves the vault, and what left it is the same for ever.
    pub(super) fn release(&mut self) {
        for issue in &self.durable.issues {
            let ledger = self.ledger.as_ref().unwrap();
            let certificate = ledger.certificate(LogSequence(issue.reservation)).unwrap();
            if self.gone.contains(&issue.reservation) {
                assert_eq!(certificate, None, "{issue:?}");
                continue;
            }
            assert_eq!(certificate.is_some(), issue.signed, "{issue:?}");
            let Some(certificate) = certificate else {
                assert!(!self.released.contains_key(&issue.reservation));
                continue;
            };
            let before = self.released.entry(issue.reservation);
            assert_eq!(*before.or_insert_with(|| certificate.clone()), certificate);
        }
        let signed = self.durable.issues.iter().filter(|issue| issue.signed);
        assert_eq!(signed.count(), self.released.len());
    }

    /// The log holds what the model holds, each unit and each serial number once.
    pub(super) fn expect_log(&mut self) {
        let ledger = self.ledger.as_ref().unwrap();
        let (mut slots, mut serials) = (BTreeSet::new(), BTreeSet::new());
        let mut issues = self.durable.issues.iter();
        let mut signed = BTreeSet::new();
        for entry in ledger.entries(LogSequence(0)).unwrap() {
            let (sequence, entry) = entry.unwrap();
            match entry.body {
                Body::Reserved(reserved) => {
                    let issue = issues.next().unwrap();
                    assert_eq!(issue.reservation, sequence.number());
                    if self.gone.contains(&issue.reservation) {
                        assert_eq!(serial_of(&issue.tbs), serial_of(&reserved.tbs));
                    } else {
                        assert_eq!(issue.tbs, reserved.tbs);
                    }
                    assert!(slots.insert((reserved.account, reserved.slot, reserved.issue)));
                    assert!(serials.insert(serial_of(&reserved.tbs).unwrap()));
                }
                Body::Signed(of) => assert!(signed.insert(of.reservation.number())),
                _ => {}
            }
        }
        assert!(issues.next().is_none());
        let expected = self.durable.issues.iter().filter(|issue| issue.signed);
        let expected: BTreeSet<_> = expected.map(|issue| issue.reservation).collect();
        assert_eq!(signed, expected);
    }

    /// Everything that can be counted is as the model counts it.
    pub(super) fn expect_counts(&self) {
        let (ledger, live) = (self.ledger.as_ref().unwrap(), &self.live);
        let state = ledger.state();
        assert_eq!(
            (state.size(), ledger.size()),
            (live.size, self.durable.size)
        );
        assert_eq!(state.mark(), live.mark);
        assert_eq!(state.clock_behind(), live.behind);
        assert_eq!(state.clock_stopped().is_some(), live.stopped);
        for product in 0..PRODUCTS.len() {
            let account = state.account(tag(product as u64 + 1)).unwrap();
            let told = [
                account.good,
                account.scrapped,
                account.voided,
                account.unresolved,
                account.burned,
            ];
            assert_eq!(told, live.counts(product));
            assert_eq!(account.next_slot, live.next_slot[product]);
            assert_eq!(account.authorised, live.authorised[product]);
            let sum: u64 = told[..4].iter().sum();
            assert_eq!(account.authorised, sum + account.unspent());
        }
        assert_eq!(state.units_unreported(), live.unreported().count() as u64);
        assert_eq!(state.withdrawn().count(), live.withdrawn.len());
        assert_eq!(state.disabled_at().is_some(), live.disabled);
        self.expect_stations();
        let unfinished = ledger.unfinished();
        let unfinished: Vec<_> = unfinished
            .iter()
            .map(|open| (open.reservation.number(), &open.tbs))
            .collect();
        let open = live.issues.iter().filter(|issue| {
            let durable = issue.reservation < self.durable.size;
            !issue.signed && !issue.replaced && durable && live.withheld(issue).is_none()
        });
        let open: Vec<_> = open.map(|issue| (issue.reservation, &issue.tbs)).collect();
        assert_eq!(unfinished, open);
    }

    /// Replaying the whole log at headquarters finds nothing, and ends where the vault is.
    pub(super) fn expect_replay(&mut self) {
        self.commit(Fate::Done);
        self.expect_log();
        let whole = self.whole_records();
        let ledger = self.ledger();
        let (mut replay, mut devices) = (Replay::new(), Devices::default());
        for raw in whole {
            let replayed = replay.feed(&devices, Some(&serials()), &raw, None).unwrap();
            assert_eq!(replayed.divergences, []);
            devices.keep(replayed.effect.as_ref());
        }
        assert_eq!(replay.state(), ledger.state());
    }
}
