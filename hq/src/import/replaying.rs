//! The replay of one bundle, on top of those before: every record is decided again, every fact is verified again, and
//! what comes of it is written, all in the caller's transaction.
//!
//! While one chunk of records is replayed, the requests of those after it and the certificates of those before are verified
//! by the other processors.

use std::collections::BTreeMap;

use mintmark_console::{Failure, Progress};
use mintmark_ledger::apply::Effect;
use mintmark_ledger::decide::DecideError;
use mintmark_ledger::entry::{Body, DeviceOrder, Entry, LogSequence, Reserved};
use mintmark_ledger::replay::Replay;
use mintmark_ledger::serial::{SerialCipher, serial_of};
use mintmark_pki::Issuer;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::Fingerprint;
use p256::PublicKey;
use rusqlite::Connection;

use self::capped::LeftOut;
use self::journal::Journal;
use self::verifying::{CHUNKS_AHEAD, Certified, Prepared, Queue, not_signed, prepare};
use self::whole::Gathered;
use super::checks::{Checks, RefusedThere};
use super::lookup::Devices;
use super::records::Records;
use crate::certified_again::CertifiedAgain;
use crate::findings::{Finding, Severity};
use crate::registry::accounts::{self, Granted};
use crate::registry::device_cas as registry_cas;
use crate::registry::vaults::Vault;
use crate::registry::{bundles, device_orders, findings};
use crate::serials::Serials;
use crate::{clock, failure, vault_restores};

mod capped;
mod crl;
mod duplicates;
mod journal;
mod verifying;
mod whole;

/// Records that are verified and replayed at a time.
const CHUNK_RECORDS: usize = 1024;

/// Findings of one severity that one bundle may add. A vault that makes up as many as it likes cannot fill the disk with
/// them, and cannot hide what is grave behind what is not.
const FINDINGS_PER_SEVERITY_MAX: u64 = 2500;

const OVER_ISSUE: &str = "OVER-ISSUE";

/// The replay of one bundle.
pub(super) struct Replaying<'a> {
    sql: &'a Connection,
    vault: &'a Vault,
    checks: &'a Checks<'a>,
    serials: &'a Serials<'a>,
    cipher: SerialCipher,
    /// The device CAs that HQ granted, by generation.
    device_cas: BTreeMap<u16, Issuer>,
    devices: Devices<'a>,
    replay: Replay,
    /// What the log does with units.
    journal: Journal,
    /// Whether another vault can hold the same devices.
    elsewhere: bool,
    /// The entry before, if a decision follows it.
    input: Option<Entry>,
    /// Whether that says of a dispatch what is not so.
    input_false: bool,
    /// New findings that make a verdict negative.
    found: u64,
    /// What HQ sent and the vault refused.
    refused: Vec<RefusedThere>,
    /// New findings of each severity.
    kept: BTreeMap<Severity, u64>,
    /// What HQ granted.
    granted: BTreeMap<AccountTag, Granted>,
    /// When this import is.
    imported_at: u64,
    /// When HQ made the newest dispatch that the vault has seen.
    dispatched_at: u64,
    /// What is wrong with the record before, if a decision follows it.
    doubtful: Vec<Finding>,
    /// Whether the log names another bundle than HQ holds.
    sealed_differs: bool,
    /// What is one finding of the whole bundle, by code and severity.
    gathered: BTreeMap<(&'static str, Severity), Gathered>,
    /// The vault that took the place of this one, and since when: what comes of this one now was not known then.
    replaced: Option<whole::Replaced>,
    certified_again: CertifiedAgain<'a>,
    /// The device CA whose CRL the bundle brings, if nothing is wrong with that.
    crl_of: Option<u16>,
    /// What somebody at the vault said of a device, if the decision on it follows.
    order: Option<DeviceOrder>,
    /// Findings that were too many to keep.
    left_out: LeftOut,
}

impl<'a> Replaying<'a> {
    pub(super) fn new(
        sql: &'a Connection,
        vault: &'a Vault,
        checks: &'a Checks<'a>,
        serials: &'a Serials<'a>,
        replay: Replay,
    ) -> Result<Self, Failure> {
        let mut device_cas = BTreeMap::new();
        for device_ca in registry_cas::granted(sql, &vault.name)? {
            if let Some(der) = &device_ca.certificate {
                let issuer = Issuer::from_certificate_der(der).map_err(failure::home_corrupt)?;
                device_cas.insert(device_ca.generation, issuer);
            }
        }
        let chain = replay.state().dispatches();
        let dispatched_at = match chain.epoch {
            Some(epoch) => checks.made_at(epoch, chain.sequence)?,
            None => None,
        };
        Ok(Self {
            sql,
            vault,
            checks,
            serials,
            cipher: serials.of(vault)?,
            device_cas,
            devices: Devices::new(sql, &vault.name),
            elsewhere: bundles::any_elsewhere(sql, &vault.name)?,
            journal: Journal::new(replay.state()),
            replay,
            input: None,
            input_false: false,
            found: 0,
            refused: Vec::new(),
            kept: BTreeMap::new(),
            granted: accounts::granted(sql, &vault.name)?,
            gathered: BTreeMap::new(),
            replaced: whole::replaced(sql, vault)?,
            certified_again: CertifiedAgain::new(sql),
            imported_at: clock::now_unix(),
            dispatched_at: dispatched_at.unwrap_or_default(),
            doubtful: Vec::new(),
            sealed_differs: false,
            crl_of: None,
            order: None,
            left_out: LeftOut::new(),
        })
    }

    /// Replays every record of a bundle.
    pub(super) fn run(
        &mut self,
        mut records: Records<'_>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        rayon::in_place_scope(|scope| -> Result<(), Failure> {
            let (mut prepared, mut invalid) = (Queue::new(), Queue::new());
            let mut more = true;
            loop {
                while more && prepared.len() < CHUNKS_AHEAD {
                    let chunk = records.chunk(CHUNK_RECORDS)?;
                    more = !chunk.is_empty();
                    if more {
                        prepared.give(scope, move || prepare(chunk));
                    }
                }
                let Some(chunk) = prepared.take()? else {
                    break;
                };
                let count = chunk.len() as u64;
                let certified = self.feed(chunk)?;
                invalid.give(scope, move || not_signed(certified));
                if invalid.len() > CHUNKS_AHEAD {
                    self.accuse_signatures(invalid.take()?.unwrap_or_default())?;
                }
                progress.advance(count);
            }
            while let Some(invalid) = invalid.take()? {
                self.accuse_signatures(invalid)?;
            }
            Ok(())
        })?;
        self.accuse_doubtful(&[])
    }

    /// The state that the records have led to.
    pub(super) fn replay(&self) -> &Replay {
        &self.replay
    }

    /// New findings that make a verdict negative.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// The device CA, by its generation, whose CRL the bundle brings, if nothing is wrong with that.
    pub(super) fn crl_of(&self) -> Option<u16> {
        self.crl_of
    }

    /// What HQ sent and the vault refused.
    pub(super) fn into_refused(self) -> Vec<RefusedThere> {
        self.refused
    }

    fn feed(&mut self, chunk: Vec<Prepared>) -> Result<Vec<Certified>, Failure> {
        let mut certified = Vec::new();
        for record in chunk {
            self.record(record, &mut certified)?;
        }
        self.devices.flush()?;
        Ok(certified)
    }

    fn record(&mut self, record: Prepared, certified: &mut Vec<Certified>) -> Result<(), Failure> {
        let (lookup, cipher) = (&self.devices, Some(&self.cipher));
        let Prepared {
            sequence,
            raw,
            entry,
            request,
        } = record;
        let replayed = self
            .replay
            .feed_read(lookup, cipher, (&raw, entry), request.as_ref())
            .map_err(undecided)?;
        debug_assert_eq!(replayed.sequence.number(), sequence);
        let sequence = replayed.sequence;
        let body = replayed.entry.as_ref().map(|entry| &entry.body);
        let serials = match (body, &replayed.effect) {
            _ if self.doubtful.is_empty() && replayed.divergences.is_empty() => Vec::new(),
            (Some(Body::Reserved(reserved)), _) => self.serials_of(reserved),
            (_, Some(Effect::Signed { reserved, .. })) => written(&reserved.tbs),
            _ => Vec::new(),
        };
        // What is said of a request concerns the device that gets a unit for it.
        let undecided = body.is_none_or(|body| matches!(body, Body::Request(_)));
        let is_right = self.doubtful.is_empty() && replayed.divergences.is_empty();
        self.accuse_doubtful(&serials)?;
        let (name, lineage) = (&self.vault.name, self.vault.lineage);
        let findings = replayed.divergences.iter().map(|divergence| {
            let mut finding = Finding::of_replay(name, lineage, divergence);
            let fresh = |serial: &&String| !finding.serials.contains(serial);
            let fresh: Vec<_> = serials.iter().filter(fresh).cloned().collect();
            finding.serials.extend(fresh);
            finding
        });
        let findings: Vec<_> = findings.collect();
        if undecided {
            self.doubtful = findings;
        } else {
            for finding in findings {
                self.accuse(&finding)?;
            }
        }
        let Some(entry) = replayed.entry else {
            self.input = None;
            self.order = None;
            return Ok(());
        };
        let signed = match &replayed.effect {
            Some(Effect::Signed { reserved, .. }) => Some(reserved.account),
            _ => None,
        };
        self.journal.note(self.replay.state(), &entry, signed);
        if let Body::Restored(restored) = &entry.body {
            let (state, at) = (self.replay.state(), (sequence.number(), restored));
            let cipher = (&self.cipher, self.checks.resumes());
            if let Some(finding) = vault_restores::settle(self.sql, self.vault, state, at, cipher)?
            {
                self.accuse(&finding)?;
            }
        }
        let wrong = self.checks.entry(sequence, &entry, self.replay.state())?;
        let is_false = wrong.as_ref().is_some_and(Finding::counts);
        if let Some(finding) = wrong {
            self.sealed_differs |= matches!(entry.body, Body::BundleSealed(_));
            self.accuse(&finding)?;
        }
        let input_false = std::mem::replace(&mut self.input_false, is_false);
        self.bracket(sequence, &entry)?;
        if let Some(input) = self.input.take()
            && replayed.divergences.is_empty()
        {
            if let Some(finding) = self.checks.refused(sequence, &input, &entry) {
                self.accuse(&finding)?;
            }
            // What is not so takes nothing back that officers ordered. It may take back what was granted: that helps nobody
            // at the vault.
            if !input_false || is_entitlement(&input) {
                self.refused.extend(self.checks.decided(&input, &entry)?);
            }
            if let Some(finding) = self.checks.adopt(sequence, &input, &entry)? {
                self.accuse(&finding)?;
            }
            self.learn_device_cas()?;
            // What a vault accepts after all, or refuses, is granted, or is not, from there on.
            if is_entitlement(&input) {
                self.granted = accounts::granted(self.sql, &self.vault.name)?;
            }
        }
        match replayed.effect {
            Some(Effect::Reserved(device)) => {
                if self.elsewhere {
                    self.compare_with_others(&device, is_right)?;
                }
                let Body::Reserved(reserved) = &entry.body else {
                    return Err(failure::home_corrupt("a reservation that is none"));
                };
                self.compare_serial(&reserved.tbs, &device)?;
                self.compare_with_succession(reserved, entry.time, &device);
                let known = replayed.divergences.iter().any(|d| d.code == OVER_ISSUE);
                if !known {
                    self.compare_with_grants(reserved, &device);
                }
                let tbs_digest = Fingerprint::of(&reserved.tbs);
                self.devices.reserve(device, tbs_digest, entry.time);
            }
            Some(Effect::Signed {
                reservation,
                reserved,
                signature,
            }) => {
                self.devices.sign(reservation, sequence, entry.time)?;
                certified.push(Certified {
                    sequence,
                    reservation,
                    tbs: reserved.tbs,
                    signature,
                    device_ca: self.device_ca_of(reservation),
                });
            }
            None => {}
        }
        let order = self.order.take();
        match entry.body {
            Body::Dispatch(_) => self.input = Some(entry),
            Body::Device(order) => self.order = Some(order),
            Body::DeviceChanged(changed) => {
                if let Some(order) = &order {
                    device_orders::add(self.sql, name, sequence, &changed, order)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A device CA that was granted and forgotten is known again once the log has it.
    fn learn_device_cas(&mut self) -> Result<(), Failure> {
        let known = self.replay.state().device_cas().len();
        if known <= self.device_cas.len() {
            return Ok(());
        }
        for device_ca in registry_cas::granted(self.sql, &self.vault.name)? {
            if let Some(der) = &device_ca.certificate {
                let issuer = Issuer::from_certificate_der(der).map_err(failure::home_corrupt)?;
                self.device_cas.insert(device_ca.generation, issuer);
            }
        }
        Ok(())
    }

    /// The key of the device CA that certifies what this record reserved, as HQ granted it.
    fn device_ca_of(&self, reservation: LogSequence) -> Option<PublicKey> {
        let device_ca = self.replay.state().device_ca_of(reservation)?;
        let issuer = self.device_cas.get(&device_ca.generation)?;
        Some(*issuer.public_key())
    }

    /// The serials of a reservation: the one that belongs to its unit, and the one that is written.
    fn serials_of(&self, reserved: &Reserved) -> Vec<String> {
        let Reserved {
            account,
            slot,
            issue,
            tbs,
            ..
        } = reserved;
        let mut serials = vec![hex::encode(self.cipher.serial(*account, *slot, *issue))];
        serials.extend(written(tbs));
        serials.dedup();
        serials
    }

    /// Notes what is wrong with the input before, with the serials of the unit that was spent on it.
    fn accuse_doubtful(&mut self, serials: &[String]) -> Result<(), Failure> {
        for mut finding in std::mem::take(&mut self.doubtful) {
            finding.serials.extend_from_slice(serials);
            self.accuse(&finding)?;
        }
        Ok(())
    }

    /// Notes a finding; those beyond measure are only counted.
    pub(super) fn accuse(&mut self, finding: &Finding) -> Result<(), Failure> {
        let kept = self.kept.entry(finding.severity).or_default();
        if *kept >= FINDINGS_PER_SEVERITY_MAX {
            self.left_out.add(finding, &self.cipher, &self.granted);
            return Ok(());
        }
        if findings::add(self.sql, finding, clock::now_unix())? {
            *kept += 1;
            self.found += u64::from(finding.counts());
        }
        Ok(())
    }

    /// Notes what is said of the whole bundle, and how many findings were only counted, if any were.
    pub(super) fn close(&mut self, bundle: &Bundle) -> Result<(), Failure> {
        let today = self.imported_at / clock::DAY_SECONDS;
        self.journal.write(self.sql, &self.vault.name, today)?;
        self.accuse_gathered(bundle)?;
        self.accuse_left_out(bundle)
    }

    fn accuse_signatures(&mut self, invalid: Vec<Certified>) -> Result<(), Failure> {
        for certified in invalid {
            let Vault { name, lineage, .. } = self.vault;
            let sequence = certified.sequence.number();
            let words = (
                "the device CA's signature over the certificate that was reserved",
                format!(
                    "a signature for record {} that does not verify",
                    certified.reservation
                ),
            );
            let serial = serial_of(&certified.tbs).map(hex::encode);
            self.accuse(&Finding {
                serials: serial.into_iter().collect(),
                ..Finding::of_record(name, *lineage, sequence, "SIGNATURE-INVALID", words)
            })?;
        }
        Ok(())
    }
}

fn is_entitlement(entry: &Entry) -> bool {
    matches!(&entry.body, Body::Dispatch(logged) if logged.kind == Kind::Entitlement.as_str())
}

/// The serial that a certificate has, hexadecimal.
fn written(tbs: &[u8]) -> Vec<String> {
    serial_of(tbs).map(hex::encode).into_iter().collect()
}

fn undecided(error: DecideError) -> Failure {
    match error {
        DecideError::Lookup(source) => match source.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(source) => failure::home_corrupt(source),
        },
        other => failure::home_corrupt(other),
    }
}
