//! How a run is brought to its end, and what has to be so then.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::SITES;
use super::super::headquarters::{Files, MAIN};
use super::super::vault::{Answer, Until, Vault};
use super::{DAY, Ended, HOUR, MINUTE, PRODUCT, Plan, SPARE, To, World, without_digests};

impl World {
    /// Everything is carried both ways, on one stick, and nothing happens to it.
    pub(super) fn good_round(&mut self) {
        self.pass(HOUR);
        self.good_reports();
        self.pass(HOUR);
        let files = self.hq.export();
        for vault in 0..SITES.len() {
            self.arrive(To::Vault(vault), &files, false);
        }
    }

    pub(super) fn good_reports(&mut self) {
        let mut files = Files::new();
        for vault in &mut self.vaults {
            files.extend(vault.export(self.now));
        }
        if !files.is_empty() {
            self.note("every vault reports");
            self.arrive(To::Headquarters, &files, false);
        }
    }

    /// Brings the run to its end: what is still on its way arrives or does not, everything is put right that people can put
    /// right, and then everybody has to be able to work again, and everything has to fit.
    pub(super) fn end(mut self) -> Ended {
        self.note("the end begins");
        self.commit_late();
        if self.random.chance(50) {
            self.pass(9 * DAY);
            self.deliver_due();
        }
        for vault in 0..SITES.len() {
            self.vaults[vault].clock.ahead = 0;
            self.grant_if_short(vault);
        }
        // Who waits for the answer to a restore has it after one round, and has reported after another.
        let waiting: Vec<bool> = self.vaults.iter().map(Vault::is_waiting).collect();
        self.good_round();
        if waiting.contains(&true) {
            self.good_round();
        }
        for vault in 0..SITES.len() {
            self.expect_issues(vault);
        }
        // What was still on its way comes after all, and changes nothing.
        self.pass(9 * DAY);
        self.deliver_due();
        for _ in 0..2 {
            self.pass(2 * DAY);
            for vault in 0..SITES.len() {
                if !self.is_honest(vault) {
                    self.work(vault);
                }
            }
            self.good_round();
        }
        self.good_reports();
        self.close()
    }

    /// Officers grant more to a vault that has hardly any units left, with those that a restore may burn.
    pub(super) fn grant_if_short(&mut self, vault: usize) {
        let id = match self.granted[vault].spare {
            Some(_) => SPARE,
            None => MAIN,
        };
        let left = self.vaults[vault].units_left(id, PRODUCT);
        if left.is_some_and(|left| left < 4) {
            self.grant_more(vault);
        }
    }

    /// A vault that nothing was wrong with issues again.
    pub(super) fn expect_issues(&mut self, vault: usize) {
        self.pass(MINUTE);
        let device = self.new_device(vault);
        let mut answer = self.ask(vault, PRODUCT, (device, 0), Until::Done);
        if matches!(&answer, Answer::Refused(code) if code.starts_with("CLOCK-")) {
            let said = self.vaults[vault].confirm_clock(self.now);
            self.note(format_args!(
                "{} confirms its clock: {said:?}",
                SITES[vault]
            ));
            answer = self.ask(vault, PRODUCT, (device, 0), Until::Done);
        }
        assert!(
            !self.is_honest(vault) || answer == Answer::Issued,
            "{} cannot issue: {answer:?}",
            SITES[vault]
        );
    }

    /// Who has not done yet what they are up to does it now.
    pub(super) fn commit_late(&mut self) {
        for _ in 0..20 {
            self.defraud();
            let Some(Plan {
                vault, done: None, ..
            }) = self.plan
            else {
                return;
            };
            self.vaults[vault].clock.ahead = 0;
            let _ = self.vaults[vault].confirm_clock(self.now);
            self.back_up(vault);
            self.grant_if_short(vault);
            self.good_round();
            self.pass(HOUR);
            self.work(vault);
            self.good_round();
            self.work(vault);
        }
        panic!("there was nothing to commit the fraud on");
    }

    /// Headquarters reconciles.
    pub(super) fn close(self) -> Ended {
        let said = self.hq.reconcile();
        if self.audited {
            self.expect_same_at_auditor(&said.json);
        }
        let findings = said.json["findings"].as_array().unwrap();
        for finding in findings {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            let (code, severity, site) = (text("code"), text("severity"), text("site"));
            self.note(format_args!(
                "finding {code} ({severity}) of {site}: {}",
                without_digests(&text("text"))
            ));
        }
        let mut named = None;
        for (vault, site) in SITES.into_iter().enumerate() {
            let of = |finding: &&Value| finding["site"] == site;
            let codes = findings.iter().filter(of).map(|finding| &finding["code"]);
            let codes: BTreeSet<String> = codes
                .map(|code| code.as_str().unwrap().to_owned())
                .collect();
            match &self.plan {
                Some(plan) if plan.vault == vault => {
                    let done = plan.done.as_ref().unwrap();
                    assert!(
                        done.named.iter().any(|name| codes.contains(*name)),
                        "{:?} at {site}: none of {:?} was found, but {codes:?}",
                        plan.fraud,
                        done.named
                    );
                    assert_eq!(said.exit, 1);
                    named = Some((plan.fraud, codes));
                }
                _ => self.expect_balance(vault, &codes, &said.json),
            }
        }
        if self.plan.is_none() {
            assert_eq!(said.json["balanced"], true);
            assert_eq!(
                said.exit != 0,
                findings.iter().any(|it| it["severity"] != "note")
            );
        }
        Ended {
            fraud: named,
            issued: self.issued,
            happened: self.happened,
        }
    }

    /// An auditor who sees the record, and nothing else of headquarters, comes to the very same.
    fn expect_same_at_auditor(&self, report: &Value) {
        let (verified, reconciled) = self.hq.audited();
        let said = &verified.json;
        assert_eq!(
            said["same_as_headquarters"], true,
            "{}{}",
            said["differences"], verified.errors
        );
        assert_eq!(reconciled.json, *report);
    }

    /// Of an honest vault, nothing is found but what its own log says of it too; and the accounts are the same on both sides.
    pub(super) fn expect_balance(&self, at: usize, codes: &BTreeSet<String>, report: &Value) {
        let (vault, site) = (&self.vaults[at], SITES[at]);
        let state = vault.state();
        let mut expected = BTreeSet::new();
        if state.accounts().any(|account| account.unresolved > 0) {
            expected.insert("UNRESOLVED".to_owned());
        }
        if vault.restores > 0 {
            expected.insert("RESTORE-DECLARED".to_owned());
        }
        if self.turned_up.contains(&at) {
            expected.insert("FORK".to_owned());
        }
        assert_eq!(*codes, expected, "findings of {site}");
        let mut rows: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
        for row in report["accounts"].as_array().unwrap() {
            if row["site"] == site {
                let counts = [
                    "authorised",
                    "good",
                    "scrapped",
                    "voided",
                    "unresolved",
                    "unspent",
                ];
                let counts = counts.map(|name| row[name].as_u64().unwrap()).to_vec();
                let (entitlement, product) = (&row["entitlement"], &row["product"]);
                let key = (entitlement.as_str().unwrap(), product.as_str().unwrap());
                rows.insert(key, counts);
            }
        }
        let counted = state.accounts().map(|account| {
            let counts = [
                account.authorised,
                account.good,
                account.scrapped,
                account.voided,
                account.unresolved,
                account.unspent(),
            ];
            let key = (account.entitlement.as_str(), account.sku.as_str());
            assert_eq!(
                account.spent() + account.unspent(),
                account.authorised,
                "{site}"
            );
            (key, counts.to_vec())
        });
        let counted: BTreeMap<_, _> = counted.collect();
        assert_eq!(rows, counted, "accounts of {site}");
    }
}
