//! What goes wrong at a vault: its clock, its disk, or whoever has the disk.

use super::super::SITES;
use super::super::fraud::Fraud;
use super::{HOUR, World, request};

impl World {
    /// A clock is set wrong, or right again; or a person says that it is right as it is.
    pub(super) fn misset_clock(&mut self, vault: usize) {
        let site = SITES[vault];
        match self.random.below(3) {
            0 => {
                let hours = self.random.between(1, 20) as i64;
                let ahead = hours * HOUR as i64;
                let ahead = if self.random.chance(50) {
                    ahead
                } else {
                    -ahead
                };
                self.vaults[vault].clock.ahead = ahead;
                self.note(format_args!("the clock of {site} is {ahead} seconds ahead"));
            }
            1 => {
                self.vaults[vault].clock.ahead = 0;
                self.note(format_args!("the clock of {site} is set right"));
            }
            _ => {
                let answer = self.vaults[vault].confirm_clock(self.now);
                self.note(format_args!("{site} confirms its clock: {answer:?}"));
            }
        }
    }

    pub(super) fn back_up(&mut self, vault: usize) {
        if self.vaults[vault].is_waiting() || !self.vaults[vault].state().is_enrolled() {
            return;
        }
        let backup = self.vaults[vault].backup();
        self.note(format_args!(
            "the home of {} is copied: {} records",
            SITES[vault], backup.size
        ));
        self.backups[vault].push(backup);
    }

    /// The disk of an honest vault breaks, and a copy of its home is put back.
    pub(super) fn lose_home(&mut self, vault: usize) {
        if !self.is_honest(vault) || self.vaults[vault].restores >= 2 {
            return;
        }
        let backups = &self.backups[vault];
        let fitting = |at: &usize| self.vaults[vault].goes_on_from(&backups[*at]);
        let fitting: Vec<usize> = (0..backups.len()).filter(fitting).collect();
        let Some(at) = self.random.pick(&fitting).copied() else {
            return;
        };
        let backup = &backups[at];
        if backup.size == self.vaults[vault].state().size() {
            return;
        }
        self.note(format_args!(
            "{} declares a restore from {} records to {}",
            SITES[vault],
            self.vaults[vault].state().size(),
            backup.size
        ));
        self.count("restores declared");
        self.vaults[vault].restore(self.now, &self.backups[vault][at], &mut self.random);
    }

    /// Somebody does what they are up to, if there is what it takes.
    pub(super) fn defraud(&mut self) {
        let Some(mut plan) = self.plan.take() else {
            return;
        };
        if plan.done.is_none() {
            let at = plan.vault;
            let mut next = self.next[at];
            let mut fresh = || {
                next += 1;
                request(at, next - 1, 0).clone()
            };
            let vault = &mut self.vaults[at];
            let held = self.held[at];
            let backup = match self.backups[at].len() as u64 {
                0 => None,
                count => self.backups[at].get(self.random.below(count) as usize),
            };
            let twin = (plan.fraud == Fraud::RestoreBackup && self.random.chance(50))
                .then(|| vault.backup());
            let (now, random) = (self.now, &mut self.random);
            plan.done = plan
                .fraud
                .commit(vault, now, random, (held, backup), &mut fresh);
            self.next[at] = next;
            if let Some(done) = &plan.done {
                vault.honest = false;
                plan.twin = twin;
                let beside = if plan.twin.is_some() {
                    ", beside the other"
                } else {
                    ""
                };
                let site = SITES[at];
                self.note(format_args!(
                    "FRAUD {:?}: {site} {}{beside}",
                    plan.fraud, done.what
                ));
            }
        }
        self.plan = Some(plan);
    }

    /// Where two copies of a home are in use, the other one goes on.
    pub(super) fn change_copies(&mut self, vault: usize) {
        let Some(twin) = self.plan.as_mut().and_then(|plan| plan.twin.take()) else {
            return;
        };
        let other = self.vaults[vault].backup();
        self.vaults[vault].put_back(&twin);
        self.note(format_args!("the other copy of {} goes on", SITES[vault]));
        if let Some(plan) = &mut self.plan {
            plan.twin = Some(other);
        }
    }
}
