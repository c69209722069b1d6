//! The CRL that a bundle brings, held against the log that comes with it.

use std::collections::BTreeMap;

use mintmark_console::time::rfc3339;
use mintmark_ledger::entry::CrlIssued;
use mintmark_ledger::state::{Withdrawal, Withdrawn};
use mintmark_pki::{Crl, CrlReason};
use mintmark_protocol::identifier::Fingerprint;

use super::Replaying;
use crate::findings::Severity;

/// Serials that the words of a finding name; all of them are in its list.
const SERIALS_NAMED: usize = 3;

/// What is wrong with a CRL.
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// What was expected, and what was found.
    pub(super) words: (String, String),
    /// Certificate serials that it concerns, hexadecimal.
    pub(super) serials: Vec<String>,
}

/// When a certificate was revoked, Unix seconds, and why.
type Entry = (u64, Option<CrlReason>);

/// What a CRL gives as the reason (RFC 5280 section 5.3.1). A unit that came to nothing is, like a scrapped one, a device
/// that is not in operation.
fn reason(why: Withdrawal) -> CrlReason {
    match why {
        Withdrawal::Scrapped | Withdrawal::Voided => CrlReason::CessationOfOperation,
        Withdrawal::Superseded => CrlReason::Superseded,
        Withdrawal::Revoked => CrlReason::PrivilegeWithdrawn,
    }
}

impl Replaying<'_> {
    /// The device CA, by its generation, whose newest CRL this is: signed by it, as the log states it, and with every
    /// certificate on it that the vault had taken back by then, and no other.
    pub(super) fn check_crl(&self, der: &[u8]) -> Result<u16, Fault> {
        let (generation, crl) = self.signed_crl(der)?;
        let state = self.replay.state();
        let mismatch = |words, serials| Fault {
            code: "CRL-MISMATCH",
            // What is revoked and what the record says of it was tampered with: no honest vault signs another one.
            severity: Severity::Critical,
            words,
            serials,
        };
        let brought = CrlIssued {
            generation,
            number: crl.number(),
            sha256: Fingerprint::of(der),
            this_update: crl.this_update_unix(),
            next_update: crl.next_update_unix(),
        };
        let Some((at, issued)) = state.crl(generation) else {
            let expected = format!("no CRL of device CA {generation}, as the log states none");
            return Err(mismatch((expected, described(&brought)), Vec::new()));
        };
        if brought != *issued {
            let expected = format!("{}, as record {at} states it", described(issued));
            return Err(mismatch((expected, described(&brought)), Vec::new()));
        }
        // What was taken back since belongs on the next one.
        let before = state
            .crl_entries(generation)
            .filter(|(_, withdrawn)| withdrawn.at < *at);
        let mut expected = BTreeMap::<Vec<u8>, Entry>::new();
        for ((account, slot, issue), Withdrawn { why, time, .. }) in before {
            let serial = self.cipher.serial(*account, *slot, *issue).to_vec();
            expected.insert(serial, (*time, Some(reason(*why))));
        }
        let (mut strange, mut changed) = (Vec::new(), Vec::new());
        let (taken_back, named) = (expected.len(), crl.revoked().len());
        for entry in crl.revoked() {
            match expected.remove(&entry.serial) {
                None => strange.push(hex::encode(&entry.serial)),
                Some(known) if known != (entry.revoked_at_unix, entry.reason) => {
                    changed.push(hex::encode(&entry.serial));
                }
                Some(_) => {}
            }
        }
        let missing: Vec<String> = expected.keys().map(hex::encode).collect();
        let faults: Vec<String> = [
            ("left out", &missing),
            ("named and never taken back", &strange),
            ("of another time or for another reason", &changed),
        ]
        .into_iter()
        .filter(|(_, serials)| !serials.is_empty())
        .map(|(what, serials)| format!("{} {what} ({})", serials.len(), named_in_words(serials)))
        .collect();
        if faults.is_empty() {
            return Ok(generation);
        }
        let code = match strange.is_empty() && changed.is_empty() {
            true => "SCRAP-UNREVOKED",
            false => "CRL-MISMATCH",
        };
        let expected = format!(
            "CRL {} of device CA {generation} to name the {taken_back} certificates that were taken back before record {at}, \
             each with its time and reason",
            crl.number()
        );
        let found = format!("one that names {named}: {}", faults.join(", "));
        let serials = [missing, strange, changed].concat();
        Err(Fault {
            code,
            ..mismatch((expected, found), serials)
        })
    }

    /// The CRL, and which device CA signed it.
    fn signed_crl(&self, der: &[u8]) -> Result<(u16, Crl), Fault> {
        let mut found = "one by a device CA that HQ did not grant".to_owned();
        for (generation, issuer) in &self.device_cas {
            match Crl::from_der(der, issuer) {
                Ok(crl) => return Ok((*generation, crl)),
                Err(error) => found = format!("{}: {error}", error.code()),
            }
        }
        let expected = "a revocation list by a device CA of the vault".to_owned();
        Err(Fault {
            code: "CRL-INVALID",
            severity: Severity::Major,
            words: (expected, found),
            serials: Vec::new(),
        })
    }
}

fn described(crl: &CrlIssued) -> String {
    format!(
        "CRL {} of device CA {}, from {} to {}, with SHA-256 {}",
        crl.number,
        crl.generation,
        rfc3339(crl.this_update),
        rfc3339(crl.next_update),
        crl.sha256
    )
}

fn named_in_words(serials: &[String]) -> String {
    let named = serials.iter().take(SERIALS_NAMED).cloned();
    let named: Vec<String> = named.collect();
    match serials.len().saturating_sub(SERIALS_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
