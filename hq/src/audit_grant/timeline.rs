//! Everything that headquarters sent and took in, in the order in which it did: taken in again in that order, it leads to the
//! same books.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mintmark_console::Failure;
use mintmark_protocol::bundle::BUNDLE_BYTES_MAX;
use mintmark_protocol::envelope::{Kind, Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;

use crate::failure;
use crate::outbox;
use crate::record::Record;
use crate::registry::bundles::{self, Held};
use crate::registry::dispatches::{self, Sent};
use crate::registry::restores::{self, Restore};
use crate::registry::{drafts, findings, orders, trust_manifests};

/// What was done.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A manifest was published.
    Trust(u64),
    /// Something was sent.
    Dispatch {
        vault: VaultName,
        sent: Sent,
        /// The newest bundle that HQ held then.
        after: Option<Fingerprint>,
    },
    /// Something was ordered of a vault that is told nothing any more.
    Order { draft: Fingerprint },
    /// A bundle was taken in.
    Bundle(Held),
    /// A restore was declared.
    Restore(Restore),
    /// A bundle, or a declaration, was refused or held back, and is kept.
    Evidence {
        vault: VaultName,
        fingerprint: Fingerprint,
        kind: Kind,
    },
}

/// When it was done, Unix seconds, by HQ's clock.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) time: u64,
    pub(super) what: What,
}

/// Everything of these vaults, in order.
pub(super) fn of(
    sql: &Connection,
    record: &Record,
    manifests: &[Verified<TrustManifest>],
    vaults: &BTreeSet<VaultName>,
) -> Result<Vec<Event>, Failure> {
    let event = |time, what| Event { time, what };
    let trust: VecDeque<_> = trust_manifests::times(sql)?
        .into_iter()
        .map(|(version, time)| event(time, What::Trust(version)))
        .collect();
    let mut sent = VecDeque::new();
    for (vault, place, time) in dispatches::in_order(sql)? {
        if !vaults.contains(&vault) {
            continue;
        }
        let dispatch = outbox::read_back(record, manifests, &vault, &place)?;
        let after = dispatch.bundle_seen.map(|seen| seen.fingerprint);
        sent.push_back(event(
            time,
            What::Dispatch {
                vault,
                sent: place,
                after,
            },
        ));
    }
    let held = bundles::in_order(sql)?.into_iter();
    let held = held.filter(|held| vaults.contains(&held.vault));
    let held: VecDeque<_> = held
        .map(|held| event(held.imported_at, What::Bundle(held)))
        .collect();
    let (mut restored, mut ordered, mut evidence) = (Vec::new(), Vec::new(), Vec::new());
    for vault in vaults {
        let restores = restores::of_vault(sql, vault)?.into_iter();
        restored.extend(restores.map(|of| event(of.imported_at, What::Restore(of))));
        ordered.extend(untold(sql, vault)?);
        evidence.extend(kept(sql, record, vault)?);
    }
    restored.sort_by_key(|event| match &event.what {
        What::Restore(restore) => restore.number,
        _ => 0,
    });
    evidence.sort_by_key(|event: &Event| event.time);
    ordered.sort_by_key(|event: &Event| event.time);
    let (restored, ordered, evidence) = (restored.into(), ordered.into(), evidence.into());
    let queues = [trust, sent, ordered, held, restored, evidence];
    Ok(Merge::new(queues).run())
}

/// Orders that were sealed and never sent, as another vault has the place of theirs.
fn untold(sql: &Connection, vault: &VaultName) -> Result<Vec<Event>, Failure> {
    let mut found = Vec::new();
    for order in orders::of_vault(sql, vault)? {
        let (orders::State::Sent, Some(time)) = (order.state, order.sent_at) else {
            continue;
        };
        let Some(draft) = drafts::by_fingerprint(sql, &order.draft)? else {
            continue;
        };
        if dispatches::is_seen(sql, vault, order.kind, (&draft.id, order.number))?.is_none() {
            found.push(Event {
                time,
                what: What::Order { draft: order.draft },
            });
        }
    }
    Ok(found)
}

/// What is kept as evidence against a vault and still speaks against it: what was explained since, or came again and was taken
/// in, does not. Of one second, in the order in which headquarters found it.
fn kept(sql: &Connection, record: &Record, vault: &VaultName) -> Result<Vec<Event>, Failure> {
    let times = findings::times(sql, vault)?;
    let mut found = Vec::new();
    for fingerprint in record.evidence_of(vault) {
        let text = fingerprint.to_string();
        let named = times
            .iter()
            .enumerate()
            .find_map(|(at, (evidence, time))| Some(((*time, at, evidence.find(&text)?), *time)));
        let (Some((order, time)), None) = (named, bundles::by_fingerprint(sql, &fingerprint)?)
        else {
            continue;
        };
        let path = record.evidence(vault, &format!("{text}.cose"));
        let claim = claim(&record.read(&path)?, BUNDLE_BYTES_MAX).map_err(failure::home_corrupt)?;
        let what = What::Evidence {
            vault: vault.clone(),
            fingerprint,
            kind: claim.context.kind,
        };
        found.push((order, Event { time, what }));
    }
    found.sort_by_key(|(order, _)| *order);
    Ok(found.into_iter().map(|(_, event)| event).collect())
}

/// Puts the queues into one order: by time, and of one second by what names what. A clock that was set back does not put
/// anything before what it names.
struct Merge {
    queues: [VecDeque<Event>; 6],
    sent: BTreeSet<(VaultName, u64, u64)>,
    held: BTreeSet<Fingerprint>,
    sizes: BTreeMap<VaultName, u64>,
    opened: BTreeSet<Lineage>,
    /// What will be there: nothing waits for anything else.
    known_sent: BTreeSet<(VaultName, u64, u64)>,
    known_held: BTreeSet<Fingerprint>,
    known_opened: BTreeSet<Lineage>,
}

impl Merge {
    fn new(queues: [VecDeque<Event>; 6]) -> Self {
        let (mut known_sent, mut known_held) = (BTreeSet::new(), BTreeSet::new());
        let mut known_opened = BTreeSet::new();
        for event in queues.iter().flatten() {
            match &event.what {
                What::Dispatch { vault, sent, .. } => {
                    known_sent.insert((vault.clone(), sent.epoch, sent.sequence));
                }
                What::Bundle(held) => {
                    known_held.insert(held.fingerprint);
                }
                What::Restore(restore) => {
                    known_opened.insert(restore.lineage);
                }
                What::Trust(_) | What::Order { .. } | What::Evidence { .. } => {}
            }
        }
        Self {
            queues,
            sent: BTreeSet::new(),
            held: BTreeSet::new(),
            sizes: BTreeMap::new(),
            opened: BTreeSet::new(),
            known_sent,
            known_held,
            known_opened,
        }
    }

    fn run(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let heads = self.queues.iter().enumerate();
            let heads = heads.filter_map(|(at, queue)| Some((at, queue.front()?)));
            let next = heads
                .min_by_key(|(at, event)| (self.waits(event), event.time, *at))
                .map(|(at, _)| at);
            let next = next.and_then(|at| self.queues.get_mut(at)?.pop_front());
            let Some(event) = next else { break };
            self.note(&event);
            events.push(event);
        }
        events
    }

    /// Whether something comes before it that is not there yet.
    fn waits(&self, event: &Event) -> bool {
        match &event.what {
            What::Dispatch { after, .. } => after.is_some_and(|after| {
                self.known_held.contains(&after) && !self.held.contains(&after)
            }),
            What::Bundle(held) => {
                let seen = held.dispatch_seen;
                let seen = seen.map(|(epoch, sequence)| (held.vault.clone(), epoch, sequence));
                let unsent = seen.is_some_and(|seen| {
                    self.known_sent.contains(&seen) && !self.sent.contains(&seen)
                });
                let unopened = self.known_opened.contains(&held.lineage)
                    && !self.opened.contains(&held.lineage);
                unsent || unopened
            }
            What::Restore(restore) => {
                let size = self.sizes.get(&restore.vault).copied();
                size.unwrap_or_default() < restore.held
            }
            What::Trust(_) | What::Order { .. } | What::Evidence { .. } => false,
        }
    }

    fn note(&mut self, event: &Event) {
        match &event.what {
            What::Dispatch { vault, sent, .. } => {
                self.sent.insert((vault.clone(), sent.epoch, sent.sequence));
            }
            What::Bundle(held) => {
                self.held.insert(held.fingerprint);
                self.sizes.insert(held.vault.clone(), held.log_size);
            }
            What::Restore(restore) => {
                self.opened.insert(restore.lineage);
            }
            What::Trust(_) | What::Order { .. } | What::Evidence { .. } => {}
        }
    }
}
