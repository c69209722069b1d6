//! Audit bundles that come in: each is verified whole and replayed before anything of it counts.

use std::ops::RangeInclusive;

use mintmark_console::{Console, Exit, Failure};
use mintmark_ledger::merkle::Frontier;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::trust::TrustManifest;
use rusqlite::{Connection, Savepoint};
use serde_json::json;

use self::chain::{Offence, Place};
use self::checks::Checks;
pub(crate) use self::checks::RefusedThere;
use self::records::{ReadSegment, Records};
use self::replaying::Replaying;
use crate::home::Home;
use crate::keyring::Keyring;
use crate::own_restore::{self, DISPATCH_UNKNOWN};
use crate::record::Record;
use crate::registry::bundles::{self, Held};
use crate::registry::vaults::{self, Vault};
use crate::registry::{Registry, accounts, crls, findings, log_trees, replays};
use crate::serials::Serials;
use crate::{clock, failure, trust};

pub(crate) mod chain;
mod checks;
pub(crate) mod kept;
mod lookup;
pub(crate) mod records;
mod replaying;

/// The code of a vault that follows a newer manifest than headquarters has.
const TRUST_FORGOTTEN: &str = "TRUST-FORGOTTEN";

/// What became of a bundle.
pub(crate) enum Taken {
    /// It was replayed, and HQ holds it now.
    Imported {
        /// New findings that make a verdict negative.
        found: u64,
        /// What was sent and is not in force: the vault refused it.
        refused: Vec<RefusedThere>,
    },
    /// HQ held it before.
    Already,
    /// Something is missing that must come first.
    Held(Failure),
    /// It is not believed.
    Refused(Failure),
}

/// Takes bundles in.
pub(crate) struct Importer<'a> {
    record: Record,
    manifests: Vec<Verified<TrustManifest>>,
    ring: &'a Keyring<'a>,
    serials: Serials<'a>,
    console: &'a Console,
    dry_run: bool,
}

/// A vault that was let in, whose word is taken; or why nothing of its name is.
pub(crate) fn let_in(
    sql: &Connection,
    name: &VaultName,
) -> Result<Result<Vault, Failure>, Failure> {
    let vault = vaults::find(sql, name)?.filter(|vault| vault.granted);
    Ok(vault.ok_or_else(|| {
        failure::refused(
            "VAULT-UNKNOWN",
            format!("the vault {name} is not enrolled here"),
            "check which stick this is; a vault is let in with `hq site enrol` and `hq site grant`",
        )
    }))
}

impl<'a> Importer<'a> {
    /// For the home of headquarters. On a dry run nothing is written to the record; the registry is the caller's to
    /// roll back.
    pub(crate) fn new(
        home: &Home,
        ring: &'a Keyring<'a>,
        console: &'a Console,
        dry_run: bool,
    ) -> Result<Self, Failure> {
        Ok(Self {
            record: home.record(),
            manifests: trust::chain(home)?,
            ring,
            serials: Serials::new(ring),
            console,
            dry_run,
        })
    }

    /// Takes in one bundle of `name`, its segments read by `read`.
    pub(crate) fn bundle(
        &self,
        registry: &mut Registry,
        name: &VaultName,
        bytes: &[u8],
        read: ReadSegment<'_>,
    ) -> Result<Taken, Failure> {
        clock::once(|| self.take(registry, name, bytes, read))
    }

    fn take(
        &self,
        registry: &mut Registry,
        name: &VaultName,
        bytes: &[u8],
        read: ReadSegment<'_>,
    ) -> Result<Taken, Failure> {
        let vault = match let_in(&registry.sql, name)? {
            Ok(vault) => vault,
            Err(refused) => return Ok(Taken::Refused(refused)),
        };
        let bundle = match Bundle::open(bytes, name, &vault.signing_key) {
            Ok(bundle) => bundle,
            Err(error) => return Ok(Taken::Refused(records::untrusted(error))),
        };
        let arrived = Arrived {
            vault: &vault,
            bundle: &bundle,
            bytes,
            read,
        };
        let fingerprint = bundle.fingerprint();
        let restored = own_restore::unreported_since(&registry.sql, &self.manifests, name)?;
        let place = chain::place(
            &registry.sql,
            &vault,
            bundle.content(),
            &fingerprint,
            restored,
        )?;
        let mut missing = None;
        match place {
            Place::Already => {
                // HQ has what is in them, and whoever carries a damaged stick is told so all the same.
                return Ok(match records::expect_undamaged(bundle.content(), read) {
                    Ok(()) => Taken::Already,
                    Err(failure) => Taken::Refused(failure),
                });
            }
            Place::Ahead(failure) => {
                let offence = match self.other_prefix(&registry.sql, &arrived)? {
                    Some(offence) => Some(offence),
                    None => self.ahead_of_dispatches(&registry.sql, &arrived)?,
                };
                return match offence {
                    Some(offence) => self.accuse(registry, &arrived, offence),
                    None => {
                        self.keep_message(&arrived)?;
                        let gap =
                            chain::gap(&registry.sql, &vault, bundle.content(), &fingerprint)?;
                        findings::add(&registry.sql, &gap, clock::now_unix())?;
                        Ok(Taken::Held(failure))
                    }
                };
            }
            Place::Over(failure) => return Ok(Taken::Refused(failure)),
            Place::Offence(offence) => return self.accuse(registry, &arrived, *offence),
            Place::Passed => {
                return match self.other_prefix(&registry.sql, &arrived)? {
                    Some(offence) => self.accuse(registry, &arrived, offence),
                    None => Ok(Taken::Already),
                };
            }
            Place::Resumes { missing: first } => {
                missing = Some(first..=bundle.content().sequence.saturating_sub(1));
            }
            Place::Next => {}
        }
        let sql = registry.savepoint()?;
        let outcome = self.replay(&sql, &arrived, missing);
        match outcome {
            Ok(Ok(Replayed {
                found,
                refused,
                crl_of,
            })) => {
                self.keep(&arrived, crl_of)?;
                sql.commit().map_err(failure::sql)?;
                Ok(Taken::Imported { found, refused })
            }
            Ok(Err(offence)) => {
                drop(sql);
                self.accuse(registry, &arrived, *offence)
            }
            Err(failure) if failure.code == records::ROTTEN => {
                drop(sql);
                let offence = rotten(&arrived, failure);
                self.accuse(registry, &arrived, offence)
            }
            // What the stick holds is at fault, or the stick is; the machine is well.
            Err(failure) if failure.code == "SEGMENT-MISSING" => Ok(Taken::Held(failure)),
            Err(failure) if failure.exit == Exit::Negative => Ok(Taken::Refused(failure)),
            Err(failure) => Err(failure),
        }
    }

    /// A bundle that comes too early can be judged by its checkpoint, where that is of records that HQ holds.
    fn other_prefix(
        &self,
        sql: &Connection,
        arrived: &Arrived<'_>,
    ) -> Result<Option<Offence>, Failure> {
        let (vault, bundle) = (arrived.vault, arrived.bundle.content());
        let size = bundle.checkpoint.size;
        let held = bundles::of_vault(sql, &vault.name)?.into_iter();
        let larger = held
            .filter(|held| held.lineage == bundle.lineage)
            .find(|held| held.log_size > size);
        let Some(larger) = larger else {
            return Ok(None);
        };
        let audit = self.ring.audit()?;
        let opener = audit.opener();
        let leaves = kept::Leaves::new(sql, &self.record, vault, opener);
        let mut tree = Frontier::new();
        leaves.each(size, |leaf| tree.append(leaf))?;
        let (known, root) = (tree.size() == size, Fingerprint::new(tree.root()));
        let offence = (known && root != bundle.checkpoint.root).then(|| {
            let fingerprint = arrived.bundle.fingerprint();
            chain::other_prefix(vault, bundle, &fingerprint, (&larger, &root))
        });
        Ok(offence)
    }

    /// A bundle that comes too early may name a dispatch that HQ does not know: neither it nor those before it were seen.
    fn ahead_of_dispatches(
        &self,
        sql: &Connection,
        arrived: &Arrived<'_>,
    ) -> Result<Option<Offence>, Failure> {
        let audit = self.ring.audit()?;
        let opener = audit.opener();
        let checks = Checks::new(sql, &self.record, arrived.vault, &self.manifests, opener)?;
        Ok(unknown_dispatch(arrived, &checks))
    }

    /// Verifies and replays a bundle whose place is right. Returns the number of findings and what the vault refused, or
    /// why the bundle is refused.
    fn replay(
        &self,
        sql: &Savepoint<'_>,
        arrived: &Arrived<'_>,
        missing: Option<RangeInclusive<u64>>,
    ) -> Result<Result<Replayed, Box<Offence>>, Failure> {
        let Arrived { vault, .. } = arrived;
        let (bundle, fingerprint) = (arrived.bundle.content(), arrived.bundle.fingerprint());
        let audit = self.ring.audit()?;
        let opener = audit.opener();
        let mut checks = Checks::new(sql, &self.record, vault, &self.manifests, opener)?;
        if let Some(offence) = unknown_dispatch(arrived, &checks) {
            return Ok(Err(Box::new(offence)));
        }
        if let Some(missing) = &missing {
            checks = checks.without((bundle.lineage, missing.clone()));
        }
        if checks.newer_trust(bundle.trust_version) {
            self.console.warn_coded(
                TRUST_FORGOTTEN,
                format!(
                    "bundle {} of {} follows trust manifest {}, which headquarters does not have: if it was restored from \
                     an older copy, take back its manifests before anything else: `hq media import` of a stick that has \
                     them",
                    bundle.sequence, vault.name, bundle.trust_version
                ),
            );
        }
        // It was refused for a dispatch that headquarters has forgotten, as officers have declared since.
        findings::withdraw(sql, &[DISPATCH_UNKNOWN], &fingerprint)?;
        withdraw_explained(sql, vault, &self.manifests, &checks)?;
        chain::narrow_gaps(sql, &vault.name, bundle, clock::now_unix())?;
        bundles::unrefuse(sql, &fingerprint)?;
        records::expect_whole(bundle, arrived.read)?;

        let replay = replays::load(sql, &vault.name)?;
        let size = replay.state().size();
        if size != bundle.first && (missing.is_none() || size < bundle.first) {
            let what = format!("the replay of {} is not of its newest bundle", vault.name);
            return Err(failure::home_corrupt(what));
        }
        // What comes again is in the log already: that it is the same, the root tells.
        let records = Records::new(bundle, arrived.read, opener).starting_at(size);
        let count = bundle.checkpoint.size.saturating_sub(size);
        let progress = self
            .console
            .progress(&format!("replaying {}", vault.name), Some(count));
        let mut replaying = Replaying::new(sql, vault, &checks, &self.serials, replay)?;
        replaying.run(records, &progress)?;
        progress.finish();

        let root = replaying.replay().state().root();
        if root != bundle.checkpoint.root {
            return Ok(Err(Box::new(inconsistent(arrived, &root.to_string()))));
        }
        replaying.compare_with_bundle(bundle)?;
        replaying.close(bundle)?;
        let (replay, found, crl_of) = (replaying.replay(), replaying.found(), replaying.crl_of());
        if let Some(missing) = missing {
            let finding = own_restore::bundles_forgotten(vault, missing, (bundle, &fingerprint));
            findings::add(sql, &finding, clock::now_unix())?;
        }
        bundles::add(sql, &arrived.held(replay.state().mark()))?;
        log_trees::keep(sql, &vault.name, replay.state().tree())?;
        accounts::update(sql, &vault.name, replay.state())?;
        replays::keep(sql, &vault.name, replay)?;
        let of = crl_of.and_then(|generation| {
            let mut device_cas = replay.state().device_cas().iter();
            let device_ca = device_cas.find(|ca| ca.generation == generation)?;
            Some((device_ca, replay.state().crl(generation)?.0))
        });
        if let Some((device_ca, stated)) = of {
            crls::keep(sql, &vault.name, &device_ca.fingerprint(), stated)?;
        }
        Ok(Ok(Replayed {
            found,
            refused: replaying.into_refused(),
            crl_of,
        }))
    }

    /// Keeps a bundle and its segments in the record. A file that is there is of an import that was not finished. A CRL
    /// with which nothing is wrong is the newest that the log states for its device CA: it takes the place of the one before.
    fn keep(&self, arrived: &Arrived<'_>, crl_of: Option<u16>) -> Result<(), Failure> {
        if self.dry_run {
            return Ok(());
        }
        let (name, bundle) = (&arrived.vault.name, arrived.bundle.content());
        for (number, facts) in (1..).zip(&bundle.segments) {
            let file = records::file(bundle, number, facts, arrived.read)?;
            let path = self
                .record
                .segment(name, &bundle.lineage, bundle.sequence, number);
            self.record.replace(&path, &file)?;
        }
        if let Some((generation, crl)) = crl_of.zip(bundle.crl.as_deref()) {
            let path = self.record.device_ca_crl(name, generation);
            self.record.replace(&path, crl)?;
        }
        let path = self.record.bundle(name, &bundle.lineage, bundle.sequence);
        self.record.replace(&path, arrived.bytes)
    }

    /// Keeps what a vault signed, without its segments: by it, others see what a finding says.
    fn keep_message(&self, arrived: &Arrived<'_>) -> Result<(), Failure> {
        if self.dry_run {
            return Ok(());
        }
        let (vault, fingerprint) = (&arrived.vault.name, arrived.bundle.fingerprint());
        self.record
            .keep_evidence(vault, &fingerprint, arrived.bytes)
    }

    /// Notes what a bundle proves against its vault, and keeps the bundle, with what is there of its segments.
    fn accuse(
        &self,
        registry: &mut Registry,
        arrived: &Arrived<'_>,
        offence: Offence,
    ) -> Result<Taken, Failure> {
        let Offence { finding, failure } = offence;
        if !self.dry_run {
            let (name, bundle) = (&arrived.vault.name, arrived.bundle.content());
            let stem = arrived.bundle.fingerprint().to_string();
            for (number, facts) in (1..).zip(&bundle.segments) {
                if let Ok(file) = records::signed_for(bundle, number, facts, arrived.read) {
                    let path = self
                        .record
                        .evidence(name, &format!("{stem}.seg{number:04}"));
                    self.record.replace(&path, &file)?;
                }
            }
            self.keep_message(arrived)?;
        }
        let sql = registry.savepoint()?;
        findings::add(&sql, &finding, clock::now_unix())?;
        let (bundle, fingerprint) = (arrived.bundle.content(), arrived.bundle.fingerprint());
        bundles::refuse(&sql, bundle, &fingerprint)?;
        sql.commit().map_err(failure::sql)?;
        Ok(Taken::Refused(failure))
    }
}

/// What a replay found.
struct Replayed {
    /// How many findings count.
    found: u64,
    /// What the vault refused.
    refused: Vec<RefusedThere>,
    /// The device CA whose CRL is to be kept.
    crl_of: Option<u16>,
}

/// A bundle that its vault signed, and where the rest of it is.
struct Arrived<'a> {
    vault: &'a Vault,
    bundle: &'a Verified<Bundle>,
    bytes: &'a [u8],
    read: ReadSegment<'a>,
}

impl Arrived<'_> {
    fn held(&self, checkpoint_time: u64) -> Held {
        let bundle = self.bundle.content();
        Held {
            vault: self.vault.name.clone(),
            lineage: bundle.lineage,
            sequence: bundle.sequence,
            fingerprint: self.bundle.fingerprint(),
            first: bundle.first,
            log_size: bundle.checkpoint.size,
            log_root: bundle.checkpoint.root,
            segments: bundle.segments.len() as u64,
            checkpoint_time,
            sealed_at: bundle.sealed_at,
            imported_at: clock::now_unix(),
            dispatch_seen: bundle.dispatch_seen.map(|seen| (seen.epoch, seen.sequence)),
            acknowledged: false,
        }
    }
}

/// Takes back that a vault named dispatches that headquarters did not send, where it has forgotten them, as officers have
/// declared since: also where the bundle that named one is of no use any more. What was named in an epoch before that one of
/// the declaration, no restore explains.
fn withdraw_explained(
    sql: &Connection,
    vault: &Vault,
    manifests: &[Verified<TrustManifest>],
    checks: &Checks<'_>,
) -> Result<(), Failure> {
    let Some(declared_in) = own_restore::declared_in(manifests) else {
        return Ok(());
    };
    for claim in findings::of_code(sql, &vault.name, DISPATCH_UNKNOWN)? {
        let evidence = &claim.evidence;
        let number = |name: &str| evidence[name].as_u64();
        let fingerprint = |name: &str| evidence[name].as_str()?.parse::<Fingerprint>().ok();
        if let (Some(epoch), Some(sequence)) = (number("epoch"), number("sequence"))
            && let (Some(dispatch), Some(bundle)) =
                (fingerprint("fingerprint"), fingerprint("bundle"))
            && epoch >= declared_in
            && checks.knows(epoch, sequence, &dispatch)
        {
            findings::withdraw(sql, &[DISPATCH_UNKNOWN], &bundle)?;
        }
    }
    Ok(())
}

/// The vault says that it saw a dispatch that HQ never sent, or has forgotten without anybody's having said so.
fn unknown_dispatch(arrived: &Arrived<'_>, checks: &Checks<'_>) -> Option<Offence> {
    let (vault, bundle) = (arrived.vault, arrived.bundle.content());
    let seen = bundle.dispatch_seen?;
    let (epoch, sequence) = (seen.epoch, seen.sequence);
    if checks.knows(epoch, sequence, &seen.fingerprint) {
        return None;
    }
    let evidence = json!({
        "epoch": epoch,
        "sequence": sequence,
        "fingerprint": seen.fingerprint.to_string(),
        "bundle": arrived.bundle.fingerprint().to_string(),
    });
    let text = format!(
        "bundle {} of {} says that the vault saw dispatch {sequence} of epoch {epoch} with fingerprint {}, which HQ never \
         sent",
        bundle.sequence, vault.name, seen.fingerprint
    );
    let mut offence = Offence::new(vault, (DISPATCH_UNKNOWN, DISPATCH_UNKNOWN), evidence, text);
    offence.failure = offence.failure.hint(
        "the bundle is kept as evidence. If headquarters was restored from an older copy: take back its trust manifests \
         (`hq media import` of the newest stick), declare it with `hq trust epoch`, have that approved and published, and \
         import this again. If it was not: stop production at this vault and tell your security officer",
    );
    Some(offence)
}

/// The vault signed for a segment, and nobody can read it.
fn rotten(arrived: &Arrived<'_>, failure: Failure) -> Offence {
    let bundle = arrived.bundle.content();
    let evidence = json!({
        "bundle": arrived.bundle.fingerprint().to_string(),
        "sequence": bundle.sequence,
        "expected": "segments that open and hold the records that the bundle names",
        "found": failure.message,
        "cause": failure.cause,
    });
    let text = format!(
        "bundle {} of {}: {}",
        bundle.sequence, arrived.vault.name, failure.message
    );
    let mut offence = Offence::new(
        arrived.vault,
        (records::ROTTEN, records::ROTTEN),
        evidence,
        text,
    );
    offence.failure.cause = failure.cause;
    offence
}

/// The root that the vault signed is not that of the records which HQ holds and of those that came.
fn inconsistent(arrived: &Arrived<'_>, root: &str) -> Offence {
    let (name, bundle) = (&arrived.vault.name, arrived.bundle.content());
    let evidence = json!({
        "bundle": arrived.bundle.fingerprint().to_string(),
        "checkpoint_sequence": bundle.sequence,
        "checkpoint_size": bundle.checkpoint.size,
        "expected_root": root,
        "found_root": bundle.checkpoint.root.to_string(),
        "records_before": bundle.first,
    });
    let (code, text) = if bundle.first > 0 {
        let text = format!(
            "the log of {name} before record {first} is not the one that HQ holds: the checkpoint of bundle {sequence}, \
             over {size} records, does not continue that of bundle {before}, over {first}",
            first = bundle.first,
            sequence = bundle.sequence,
            size = bundle.checkpoint.size,
            before = bundle.sequence.saturating_sub(1),
        );
        ("RECORD-EDITED", text)
    } else {
        let text = format!(
            "the checkpoint of bundle {} of {name}, over {} records, is not that of the records in it",
            bundle.sequence, bundle.checkpoint.size
        );
        ("CHECKPOINT-MISMATCH", text)
    };
    let mut offence = Offence::new(arrived.vault, (code, "LOG-INCONSISTENT"), evidence, text);
    offence.finding.log_sequence = Some(bundle.first);
    offence
}
