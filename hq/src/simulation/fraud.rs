//! Frauds: what a patched program, or somebody who has the disk, does at one vault; and by which names headquarters may call
//! each.
//!
//! What nobody ever reported leaves no trace in any log: records that are thrown away before any bundle covers them, or a
//! backup from which no bundle had gone out since. Against these stands the anchor in the token, which is not in these runs;
//! here each fraud contradicts something that headquarters holds, or will.

use mintmark_ledger::decide::{DeviceRecord, Input, Lookup, LookupError, decide};
use mintmark_ledger::entry::{
    Body, BundleSealed, Entry, LogSequence, Request, Reserved, Signed, StationTerms, Submission,
};
use mintmark_ledger::ledger::Fact;
use mintmark_ledger::{State, Submitted};
use mintmark_pki::CertificationRequest;
use mintmark_protocol::identifier::{DeviceId, Fingerprint, Sku, StationId};

use super::random::Random;
use super::software::moved;
use super::vault::{Answer, Backup, Until, Vault};

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fraud {
    OverIssue,
    ReuseSlot,
    BackDate,
    EditRecord,
    DropTail,
    RestoreBackup,
    Station,
}

/// Every fraud.
pub(super) const FRAUDS: [Fraud; 7] = [
    Fraud::OverIssue,
    Fraud::ReuseSlot,
    Fraud::BackDate,
    Fraud::EditRecord,
    Fraud::DropTail,
    Fraud::RestoreBackup,
    Fraud::Station,
];

/// The newest bundle of a vault that headquarters holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) sequence: u64,
    pub(super) fingerprint: Fingerprint,
    pub(super) log_size: u64,
}

/// What was done, and the findings of which there has to be one.
pub(super) struct Done {
    pub(super) what: String,
    pub(super) named: &'static [&'static str],
}

/// A patched program looks nothing up.
struct Blind;

impl Lookup for Blind {
    fn device(&self, _: &Sku, _: &DeviceId) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }

    fn key(&self, _: &Fingerprint) -> Result<Option<DeviceRecord>, LookupError> {
        Ok(None)
    }
}

impl Fraud {
    /// Does it, if there is yet what it takes: `fresh` gives requests of devices that were never asked for.
    pub(super) fn commit(
        self,
        vault: &mut Vault,
        now: u64,
        random: &mut Random,
        (held, backup): (Option<Held>, Option<&Backup>),
        fresh: &mut dyn FnMut() -> CertificationRequest,
    ) -> Option<Done> {
        let console = StationId::console();
        match self {
            Self::OverIssue => {
                let beyond = random.below(3);
                let at = vault.state().mark().max(now);
                let slot = forge(vault, at, (&console, &fresh()), |authorised, _| {
                    Some(authorised + beyond)
                })?;
                Some(Done {
                    what: format!("spends slot {slot}, beyond the quota"),
                    named: &["OVER-ISSUE"],
                })
            }
            Self::ReuseSlot => {
                let at = vault.state().mark().max(now);
                let mut spent = |_, next| (next > 0).then(|| random.below(next));
                let slot = forge(vault, at, (&console, &fresh()), &mut spent)?;
                Some(Done {
                    what: format!("spends slot {slot} again"),
                    named: &["SLOT-REUSE"],
                })
            }
            Self::BackDate if random.chance(50) => {
                let back = random.between(3600, 5 * 86_400);
                let at = vault.state().mark() - back;
                let slot = forge(vault, at, (&console, &fresh()), |_, next| Some(next))?;
                Some(Done {
                    what: format!("spends slot {slot} {back} seconds before the record before"),
                    named: &["TIME-BACK"],
                })
            }
            Self::BackDate => {
                vault.unspent.as_ref()?;
                vault.clock.frozen_at = Some(now);
                Some(Done {
                    what: "lets its clock stand still".to_owned(),
                    named: &["TIME-BEFORE-DISPATCH"],
                })
            }
            Self::EditRecord => edit(vault, random, held),
            Self::DropTail => drop_tail(vault, now, random, held?, fresh),
            Self::RestoreBackup => {
                let backup =
                    backup.filter(|backup| backup.sealed < held.map_or(0, |it| it.sequence))?;
                vault.put_back(backup);
                vault.restart(now, true);
                Some(Done {
                    what: format!(
                        "goes on from a backup of {} records, with {} bundles sealed",
                        backup.size, backup.sealed
                    ),
                    named: &["FORK", "BUNDLE-CHAIN"],
                })
            }
            Self::Station => serve_station(vault, now, random, fresh),
        }
    }
}

/// Serves a station that was shut out, or one that had its units of the day.
fn serve_station(
    vault: &mut Vault,
    now: u64,
    random: &mut Random,
    fresh: &mut dyn FnMut() -> CertificationRequest,
) -> Option<Done> {
    vault.unspent.as_ref()?;
    let (station, at) = ("line-9".parse().unwrap(), vault.state().mark().max(now));
    let terms = StationTerms {
        products: None,
        units_per_day: Some(1),
        until: at + 60 * 86_400,
        working_hours: None,
    };
    if vault.let_in(now, &station, 9, terms) != Answer::Issued {
        return None;
    }
    let shut_out = random.chance(50);
    if shut_out && vault.shut_out(now, &station) != Answer::Issued {
        return None;
    }
    let at = vault.state().mark().max(at);
    let next = |authorised, next| (next < authorised).then_some(next);
    let mut slot = forge(vault, at, (&station, &fresh()), next)?;
    if !shut_out {
        slot = forge(vault, at, (&station, &fresh()), next)?;
    }
    let what = match shut_out {
        true => "that was shut out",
        false => "that had its units of the day",
    };
    Some(Done {
        what: format!("spends slot {slot} for a station {what}"),
        named: &["POLICY-BREACH"],
    })
}

/// Spends the slot that is chosen by how many are authorised and which is the next, whatever the rules say.
fn forge(
    vault: &mut Vault,
    time: u64,
    (station, csr): (&StationId, &CertificationRequest),
    choose: impl FnOnce(u64, u64) -> Option<u64>,
) -> Option<u64> {
    let unspent = vault.unspent.clone()?;
    vault.serials()?;
    let reserved = decided(vault, &unspent, time, csr)?;
    let account = vault.state().account(reserved.account)?;
    let slot = choose(account.authorised, account.next_slot)?;
    let reserved = moved(reserved, vault.serials()?, slot);
    let (reservation, tbs) = (vault.state().size() + 1, reserved.tbs.clone());
    let signature = vault.certifies(&tbs);
    let request = Request {
        product: PRODUCT.parse().unwrap(),
        station: station.clone(),
        submission: Submission::Csr {
            der: csr.der().to_vec(),
        },
    };
    let entry = |time, body| Entry {
        time,
        clock_behind_seconds: 0,
        body,
    };
    let mark = vault.state().mark();
    let signed = Signed {
        reservation: LogSequence(reservation),
        signature,
    };
    vault.write(&[
        entry(time, Body::Request(request)),
        entry(time, Body::Reserved(reserved)),
        entry(time.max(mark), Body::Signed(signed)),
    ]);
    Some(slot)
}

const PRODUCT: &str = "TH-200";

/// What the rules would have decided while there were units.
fn decided(
    vault: &mut Vault,
    unspent: &State,
    time: u64,
    csr: &CertificationRequest,
) -> Option<Reserved> {
    let input = Input::Request {
        product: &PRODUCT.parse().unwrap(),
        station: &StationId::console(),
        submission: Submitted::Verified(csr),
    };
    let decision = decide(unspent, &Blind, vault.serials(), time, input).unwrap();
    match decision.to_body() {
        Body::Reserved(reserved) => Some(reserved),
        _ => None,
    }
}

/// Changes a record, and makes the hashes behind it anew.
fn edit(vault: &mut Vault, random: &mut Random, held: Option<Held>) -> Option<Done> {
    let mut entries = vault.entries();
    let reported = random.chance(50);
    let (first, end) = match (reported, held) {
        (true, Some(held)) => (0, held.log_size as usize),
        (true, None) => return None,
        (false, _) => (vault.state().bundles().log_size as usize, entries.len()),
    };
    let tells = |at: &usize| {
        matches!(
            entries[*at].body,
            Body::Signed(_) | Body::Reserved(_) | Body::Refused(_)
        )
    };
    let found: Vec<usize> = (first..end).filter(tells).collect();
    let at = *random.pick(&found)?;
    let named: &[&str] = match &mut entries[at].body {
        Body::Signed(signed) => {
            signed.signature[random.below(64) as usize] ^= 1;
            &["SIGNATURE-INVALID"]
        }
        Body::Reserved(reserved) => {
            reserved.device_id = "SOMEBODY-ELSE".parse().unwrap();
            &["DECISION-DIVERGES"]
        }
        Body::Refused(refused) => {
            let code = match refused.code.as_str() {
                "QUOTA-EXHAUSTED" => "CREDIT-EXHAUSTED",
                _ => "QUOTA-EXHAUSTED",
            };
            code.clone_into(&mut refused.code);
            &["DECISION-DIVERGES"]
        }
        _ => return None,
    };
    vault.rewrite(&entries);
    Some(Done {
        what: format!("edits record {at}, reported: {reported}"),
        named: if reported { &["RECORD-EDITED"] } else { named },
    })
}

/// Takes away records that headquarters holds: then seals the bundle of the same number once more, or goes on with the next
/// one as if nothing had been.
fn drop_tail(
    vault: &mut Vault,
    now: u64,
    random: &mut Random,
    held: Held,
    fresh: &mut dyn FnMut() -> CertificationRequest,
) -> Option<Done> {
    let entries = vault.entries();
    let before = entries.iter().position(|entry| match &entry.body {
        Body::BundleSealed(BundleSealed { sequence, .. }) => *sequence + 1 == held.sequence,
        _ => false,
    });
    let spent = |entry: &Entry| matches!(entry.body, Body::Reserved(_));
    let first = before.unwrap_or(0).max(entries.iter().position(spent)?) + 1;
    let cut: Vec<usize> = (first + 1..held.log_size as usize)
        .filter(|at| !entries[*at].body.is_decision())
        .collect();
    let cut = *random.pick(&cut)?;
    vault.rewrite(&entries[..cut]);
    let gone = entries.len() - cut;
    if random.chance(50) {
        vault.restart(now, true);
        return Some(Done {
            what: format!("throws {gone} records away"),
            named: &["FORK", "BUNDLE-CHAIN"],
        });
    }
    while vault.state().size() < held.log_size {
        let _ = vault.request(now, PRODUCT, &fresh(), Until::Done);
    }
    let Held {
        sequence,
        fingerprint,
        log_size,
    } = held;
    let sealed = Fact::BundleSealed {
        sequence,
        fingerprint,
        log_size,
    };
    vault.claim_sealed(now, sealed);
    Some(Done {
        what: format!("throws {gone} records away, and claims to have sealed bundle {sequence}"),
        named: &["RECORD-EDITED", "FORK", "BUNDLE-CHAIN"],
    })
}
