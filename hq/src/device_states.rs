//! What became of each unit of a vault: one pass over them costs no look-up for each.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mintmark_console::Failure;
use mintmark_ledger::replay::Replay;
use mintmark_ledger::serial::{Serial, SerialCipher};
use mintmark_protocol::dossier::{DeviceState, StateFacts};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;

use crate::certified_again::CertifiedAgain;
use crate::findings::Finding;
use crate::registry::accounts::{self, Granted};
use crate::registry::devices::{self, Unit};
use crate::registry::{device_cas, device_orders, findings, orders, replays};
use crate::serials;

/// Everything that decides about the units of one vault.
pub(crate) struct DeviceStates<'a> {
    sql: &'a Connection,
    vault: &'a VaultName,
    cipher: SerialCipher,
    replay: Replay,
    granted: BTreeMap<AccountTag, Granted>,
    /// Tags of accounts that a log spends from and nobody granted.
    ungranted: BTreeSet<AccountTag>,
    /// Slots that were spent twice.
    twice: HashSet<(AccountTag, u64, u16)>,
    /// Serial numbers that findings name, hexadecimal.
    accused: HashMap<String, DeviceState>,
    /// Findings that concern more units than they name.
    having_more: Vec<Finding>,
    /// The generations of device CAs that are revoked.
    revoked: BTreeSet<u16>,
    /// Issues that officers revoked, whether the vault has followed yet or not.
    ordered: HashSet<(AccountTag, u64, u16)>,
}

impl<'a> DeviceStates<'a> {
    pub(crate) fn of(
        sql: &'a Connection,
        vault: &'a VaultName,
        cipher: SerialCipher,
    ) -> Result<Self, Failure> {
        let mut found = findings::all(sql, None)?;
        CertifiedAgain::new(sql).explain(&mut found)?;
        let mut accused = HashMap::new();
        found.retain(|finding| finding.counts() && finding.accuses(vault));
        for finding in found {
            let state = match finding.is_of_two() {
                true => DeviceState::Duplicate,
                false => DeviceState::Doubtful,
            };
            for serial in finding.serials {
                let known = accused.entry(serial).or_insert(state);
                *known = state.max(*known);
            }
        }
        let mut having_more = findings::having_more(sql, vault)?;
        having_more.retain(Finding::counts);
        let mut revoked = BTreeSet::new();
        for device_ca in device_cas::granted(sql, vault)? {
            let Some(fingerprint) = device_ca.fingerprint() else {
                continue;
            };
            if orders::is_revoked(sql, vault, &Target::DeviceCa(fingerprint))? {
                revoked.insert(device_ca.generation);
            }
        }
        Ok(Self {
            sql,
            vault,
            cipher,
            replay: replays::load(sql, vault)?,
            granted: accounts::granted(sql, vault)?,
            ungranted: accounts::ungranted(sql, vault)?,
            twice: devices::spent_twice(sql, vault)?,
            accused,
            having_more,
            revoked,
            ordered: orders::revoked_issues(sql, vault)?,
        })
    }

    /// The serial number of a unit's certificate.
    pub(crate) fn serial(&self, unit: &Unit) -> Serial {
        let record = &unit.record;
        self.cipher
            .serial(record.account, record.slot, record.issue)
    }

    /// What became of a unit's certificate.
    pub(crate) fn state(&self, unit: &Unit) -> DeviceState {
        let record = &unit.record;
        let granted = self
            .granted
            .get(&record.account)
            .is_some_and(|granted| granted.sku == record.sku && record.slot < granted.units);
        if !granted || self.ungranted.contains(&record.account) {
            return DeviceState::Doubtful;
        }
        if self
            .twice
            .contains(&(record.account, record.slot, record.issue))
        {
            return DeviceState::Duplicate;
        }
        // Most vaults are never accused of anything, and then no serial number is computed for it.
        if !self.accused.is_empty() {
            let serial = serials::of_unit(&self.cipher, record);
            if let Some(state) = self.accused.get(&serial) {
                return *state;
            }
        }
        if self
            .having_more
            .iter()
            .any(|finding| finding.has_more(unit))
        {
            return DeviceState::Doubtful;
        }
        let state = self.replay.state();
        if let Some(withdrawn) = state.withdrawal(record.account, record.slot, record.issue) {
            // It has the name of the state that it ends in.
            return withdrawn
                .why
                .as_str()
                .parse()
                .unwrap_or(DeviceState::Doubtful);
        }
        if self
            .ordered
            .contains(&(record.account, record.slot, record.issue))
        {
            return DeviceState::Revoked;
        }
        let device_ca = state.device_ca_of(record.reservation);
        if device_ca.is_some_and(|device_ca| self.revoked.contains(&device_ca.generation)) {
            return DeviceState::Revoked;
        }
        DeviceState::Good
    }

    /// The same, with since when and why.
    pub(crate) fn facts(&self, unit: &Unit) -> Result<StateFacts, Failure> {
        let record = &unit.record;
        let state = self.replay.state();
        let withdrawn = state.withdrawal(record.account, record.slot, record.issue);
        let withdrawn = withdrawn.filter(|ended| ended.reservation == record.reservation);
        let reason = match withdrawn {
            Some(withdrawn) => device_orders::reason(self.sql, self.vault, withdrawn)?,
            None => None,
        };
        Ok(StateFacts {
            state: self.state(unit),
            since: withdrawn.map(|withdrawn| withdrawn.time),
            record: withdrawn.map(|withdrawn| withdrawn.at.number()),
            reason: reason.filter(|reason| !reason.is_empty()),
        })
    }
}
