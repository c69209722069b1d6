//! What is said of a bundle as a whole: its records against what HQ granted and when, and what it says of its own log.

use std::collections::BTreeSet;

use mintmark_console::Failure;
use mintmark_console::time::rfc3339;
use mintmark_ledger::decide::DeviceRecord;
use mintmark_ledger::entry::{Body, Entry, LogSequence, Reserved};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{Sku, VaultId, VaultName};
use rusqlite::Connection;

use super::{OVER_ISSUE, Replaying};
use crate::clock::{self, DAY_SECONDS};
use crate::findings::{Finding, Severity};
use crate::registry::vaults::Vault;
use crate::registry::{accounts, dispatches, findings};

/// Serials that one finding names. Of the others it says between which records they are.
const SERIALS_PER_FINDING_MAX: usize = 1000;

const REPLACED_VAULT_ISSUED: &str = "REPLACED-VAULT-ISSUED";

/// The vault that took the place of another.
pub(super) struct Replaced {
    by: VaultId,
    /// When that was granted for the first time. Its grant stated everything that HQ held by then, so that every bundle
    /// which comes now is beyond that.
    since: u64,
    /// What it was granted to make: units that were written off with the other one among it, as likely as not.
    granted: BTreeSet<Sku>,
}

/// Which vault took the place of this one, if any did.
pub(super) fn replaced(sql: &Connection, vault: &Vault) -> Result<Option<Replaced>, Failure> {
    let Some(successor) = &vault.successor else {
        return Ok(None);
    };
    let name = VaultName {
        site: vault.name.site.clone(),
        vault: successor.clone(),
    };
    let since = dispatches::first_made_at(sql, &name, Kind::EnrolmentGrant)?;
    let granted = accounts::granted(sql, &name)?;
    let granted: BTreeSet<Sku> = granted.into_values().map(|account| account.sku).collect();
    Ok(since.map(|since| Replaced {
        by: successor.clone(),
        since,
        granted,
    }))
}

/// What several records of one bundle have in common, for one finding.
pub(super) struct Gathered {
    /// The first of them.
    first: u64,
    /// What was expected there, and what was found.
    words: (String, String),
    /// How many there are.
    count: u64,
    /// Certificate serials that they concern, hexadecimal.
    serials: Vec<String>,
    /// Whether they concern more than those.
    more: bool,
    /// The products of those, if others are not concerned.
    products: BTreeSet<Sku>,
}

impl Replaying<'_> {
    /// What a log may spend is HQ's to say, whatever the log calls its terms.
    pub(super) fn compare_with_grants(&mut self, reserved: &Reserved, device: &DeviceRecord) {
        let account = self.granted.get(&reserved.account).filter(|account| {
            account.entitlement == reserved.entitlement && account.sku == device.sku
        });
        let expected = match account {
            Some(account) if reserved.slot < account.units => return,
            Some(account) => format!(
                "no more than the {} units of {} that HQ granted in {}",
                account.units, account.sku, account.entitlement
            ),
            None => "units of an account that HQ granted".to_owned(),
        };
        let found = format!(
            "slot {} (issue {}) of account {} spent from entitlement {}",
            reserved.slot, reserved.issue, reserved.account, reserved.entitlement
        );
        let serials = self.serials_of(reserved);
        self.gather(
            (OVER_ISSUE, Severity::Critical),
            device.reservation.number(),
            (expected, found),
            serials,
        );
    }

    /// What a vault made beyond what its succession stated was written off, and may have been granted again since.
    pub(super) fn compare_with_succession(
        &mut self,
        reserved: &Reserved,
        time: u64,
        device: &DeviceRecord,
    ) {
        let Some(Replaced { by, since, granted }) = &self.replaced else {
            return;
        };
        let site = &self.vault.name.site;
        let replaced = format!("{site}/{by} took its place at {}", rfc3339(*since));
        let spent = format!(
            "slot {} (issue {}) of account {} spent at {}",
            reserved.slot,
            reserved.issue,
            reserved.account,
            rfc3339(time)
        );
        let (severity, words) = if time > *since {
            let expected = format!("no unit spent after {replaced}");
            (Severity::Major, (expected, spent))
        } else {
            let expected = format!("no unit that was not reported before {replaced}");
            let found = format!("{spent}, by its own clock, and reported late");
            // Once the other vault may make the product, what was written off may exist twice.
            let severity = match granted.contains(&device.sku) {
                true => Severity::Minor,
                false => Severity::Note,
            };
            (severity, (expected, found))
        };
        let serials = self.serials_of(reserved);
        let sequence = device.reservation.number();
        let kind = (REPLACED_VAULT_ISSUED, severity);
        let gathered = self.gather(kind, sequence, words, serials);
        gathered.products.insert(device.sku.clone());
    }

    /// A vault's clock is its own; HQ knows when it sent what the vault has seen, and when the report came in.
    pub(super) fn bracket(&mut self, sequence: LogSequence, entry: &Entry) -> Result<(), Failure> {
        if let Body::Dispatch(dispatch) = &entry.body {
            let made_at = self.checks.made_at(dispatch.epoch, dispatch.sequence)?;
            self.dispatched_at = self.dispatched_at.max(made_at.unwrap_or_default());
        }
        // While a vault does not believe its clock, the time of its log stands still, as the rules have it.
        let seen = entry.time.max(entry.clock());
        if entry.time > self.latest() {
            let serials = match &entry.body {
                Body::Reserved(reserved) => self.serials_of(reserved),
                _ => Vec::new(),
            };
            self.gather_ahead(sequence.number(), entry.time, serials);
        } else if seen.saturating_add(DAY_SECONDS) < self.dispatched_at {
            let words = (
                format!(
                    "no time before {}, when HQ made a dispatch that the vault had seen by then",
                    rfc3339(self.dispatched_at)
                ),
                rfc3339(entry.time),
            );
            let kind = ("TIME-BEFORE-DISPATCH", Severity::Major);
            self.gather(kind, sequence.number(), words, Vec::new());
        }
        Ok(())
    }

    /// The latest time that a vault with an honest clock can have written.
    pub(super) fn latest(&self) -> u64 {
        self.imported_at.saturating_add(DAY_SECONDS)
    }

    pub(super) fn gather_ahead(&mut self, sequence: u64, time: u64, serials: Vec<String>) {
        let words = (
            format!(
                "no time after {}, when HQ took it in",
                rfc3339(self.imported_at)
            ),
            rfc3339(time),
        );
        self.gather(("TIME-AHEAD", Severity::Major), sequence, words, serials);
    }

    /// Adds a record to what is one finding of the bundle.
    pub(super) fn gather(
        &mut self,
        kind: (&'static str, Severity),
        sequence: u64,
        words: (String, String),
        serials: Vec<String>,
    ) -> &mut Gathered {
        let gathered = self.gathered.entry(kind).or_insert_with(|| Gathered {
            first: sequence,
            words,
            count: 0,
            serials: Vec::new(),
            more: false,
            products: BTreeSet::new(),
        });
        gathered.count += 1;
        if gathered.serials.len() < SERIALS_PER_FINDING_MAX {
            gathered.serials.extend(serials);
        } else {
            gathered.more |= !serials.is_empty();
        }
        gathered
    }

    /// The findings about the whole bundle. They are few, and no number of others keeps them out.
    pub(super) fn accuse_gathered(&mut self, bundle: &Bundle) -> Result<(), Failure> {
        for ((code, severity), gathered) in std::mem::take(&mut self.gathered) {
            let Vault { name, lineage, .. } = self.vault;
            let (expected, found) = &gathered.words;
            let mut finding =
                Finding::of_record(name, *lineage, gathered.first, code, (expected, found));
            if gathered.count > 1 {
                finding.text = format!(
                    "{}; so {} records of bundle {}",
                    finding.text, gathered.count, bundle.sequence
                );
            }
            finding.severity = severity;
            finding.evidence["bundle"] = bundle.sequence.into();
            finding.evidence["count"] = gathered.count.into();
            finding.serials = gathered.serials;
            if gathered.more && finding.counts() {
                // Once a log's time is beyond a limit, it stays there.
                let last = bundle.checkpoint.size.saturating_sub(1);
                finding.and_more((gathered.first, last), &gathered.products);
            }
            if findings::add(self.sql, &finding, clock::now_unix())? {
                self.found += u64::from(finding.counts());
            }
        }
        Ok(())
    }

    /// What the bundle says of the log, held against the log.
    pub(in crate::import) fn compare_with_bundle(
        &mut self,
        bundle: &Bundle,
    ) -> Result<(), Failure> {
        let (name, lineage) = (self.vault.name.clone(), self.vault.lineage);
        let state = self.replay.state();
        let last = bundle.checkpoint.size.saturating_sub(1);
        let finding = |code, words| Finding {
            severity: Severity::Major,
            ..Finding::of_record(&name, lineage, last, code, words)
        };
        let (mut wrong, mut crl_of) = (Vec::new(), None);
        let previous = bundle.sequence.saturating_sub(1);
        let sealed = state.bundles();
        if sealed.sequence != previous
            || (sealed.fingerprint != bundle.previous && !self.sealed_differs)
        {
            let words = (
                format!("bundle {previous} as the newest that the log says was sealed"),
                format!("bundle {}", sealed.sequence),
            );
            wrong.push(finding("BUNDLE-SEALED-MISSING", words));
        }
        // Where the log names a manifest that HQ never published, that is the finding.
        if let Some(trust) = state.trust()
            && trust.version != bundle.trust_version
            && self.checks.manifest(trust.version, &trust.fingerprint)
        {
            let words = (
                format!("trust manifest {}, as the log has it", trust.version),
                format!("trust manifest {}", bundle.trust_version),
            );
            wrong.push(finding("TRUST-VERSION-MISMATCH", words));
        }
        if let Some(crl) = &bundle.crl {
            // Each device CA of the vault signs its own, and each goes home with a bundle in its turn.
            match self.check_crl(crl) {
                Ok(generation) => crl_of = Some(generation),
                Err(mut fault) => {
                    fault.serials.truncate(SERIALS_PER_FINDING_MAX);
                    wrong.push(Finding {
                        serials: fault.serials,
                        severity: fault.severity,
                        ..finding(fault.code, fault.words)
                    });
                }
            }
        }
        if state.awaits_decision() {
            let words = (
                "the decision on the last record".to_owned(),
                "the end of the log".to_owned(),
            );
            wrong.push(Finding {
                severity: Severity::Critical,
                ..finding("DECISION-MISSING", words)
            });
        }
        let ahead = bundle.sealed_at > self.latest();
        self.crl_of = crl_of;
        let (logged, claimed) = (state.mark(), bundle.checkpoint.time);
        if logged != claimed {
            let time = mintmark_console::time::rfc3339;
            let words = (
                format!("a checkpoint of {}", time(logged)),
                format!("one of {}", time(claimed)),
            );
            wrong.push(finding("CHECKPOINT-TIME", words));
        }
        let chain = state.dispatches();
        let head = chain.epoch.zip(chain.fingerprint);
        let logged = head.map(|(epoch, fingerprint)| (epoch, chain.sequence, fingerprint));
        let claimed = bundle.dispatch_seen;
        let claimed = claimed.map(|seen| (seen.epoch, seen.sequence, seen.fingerprint));
        // Where the log names what HQ never sent, that is the finding.
        let genuine = logged.is_none_or(|(epoch, sequence, fingerprint)| {
            self.checks.was_sent(epoch, sequence, &fingerprint)
        });
        if logged != claimed && genuine {
            let describe = |seen: Option<(u64, u64, _)>| match seen {
                Some((epoch, sequence, _)) => {
                    format!("dispatch {sequence} of epoch {epoch} as the newest in the log")
                }
                None => "no dispatch in the log".to_owned(),
            };
            let words = (describe(logged), describe(claimed));
            wrong.push(finding("DISPATCH-SEEN-MISMATCH", words));
        }
        for finding in wrong {
            self.accuse(&finding)?;
        }
        if ahead {
            self.gather_ahead(last, bundle.sealed_at, Vec::new());
        }
        Ok(())
    }
}
