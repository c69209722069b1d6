//! The vault's reports: sealed once, kept as they were sealed, and carried until HQ says that it has them.

mod cargo;
mod owed;

use mintmark_console::files::Folder;
use mintmark_ledger::entry::LogSequence;
use mintmark_ledger::ledger::Fact;
use mintmark_protocol::bundle::{BUNDLE_BYTES_MAX, Bundle, Checkpoint, DispatchSeen, SEGMENTS_MAX};
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
use mintmark_protocol::media::{MediaName, TO_HQ_FOLDER};
use mintmark_protocol::segment::{SEGMENT_FILE_BYTES_MAX, SegmentBuilder, SegmentFacts};
use p256::PublicKey;

use super::Vault;
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::home::{Home, OUTBOX};

pub(crate) use cargo::{Carried, Carrier, Paper, Placed};

/// Where a bundle's parts are found: in the outbox by the names that they have on media.
pub(crate) struct Outbox {
    folder: Folder,
    vault: VaultName,
    lineage: Lineage,
}

impl Outbox {
    /// Opens the outbox of a home.
    pub(crate) fn open(home: &Home, lineage: Lineage) -> Result<Self> {
        let (folder, vault) = (home.folder(OUTBOX)?, home.config().vault.clone());
        Ok(Self {
            folder,
            vault,
            lineage,
        })
    }

    fn bundle_name(&self, sequence: u64) -> MediaName {
        MediaName::Bundle {
            vault: self.vault.clone(),
            lineage: self.lineage,
            sequence,
        }
    }

    fn segment_name(&self, sequence: u64, number: usize) -> MediaName {
        MediaName::Segment {
            vault: self.vault.clone(),
            lineage: self.lineage,
            sequence,
            number,
        }
    }

    /// Whether a sealed bundle is still here with all of its segments, as far as their names tell.
    fn has(&self, sequence: u64, bundle: &Bundle) -> Result<bool> {
        for number in 1..=bundle.segments.len() {
            if !self.is_there(&self.segment_name(sequence, number))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_there(&self, name: &MediaName) -> Result<bool> {
        match self.folder.read_limited(file_name(name), 0) {
            Err(error) if error.is_missing() => Ok(false),
            _ => Ok(true),
        }
    }

    /// A sealed bundle, which must be the one that the log names.
    pub(crate) fn bundle(
        &self,
        home: &Home,
        sequence: u64,
        fingerprint: &Fingerprint,
        key: &PublicKey,
    ) -> Result<(Vec<u8>, Verified<Bundle>)> {
        let name = file_name(&self.bundle_name(sequence));
        let corrupt = |what: &str| damaged(home, &name, what);
        let bytes = match self.folder.read_limited(&name, BUNDLE_BYTES_MAX as u64) {
            Err(error) if error.is_missing() => return Err(corrupt("missing")),
            read => read?,
        };
        let bundle = Bundle::open(&bytes, &self.vault, key)
            .map_err(|error| corrupt("not what was sealed").cause(error))?;
        if bundle.fingerprint() != *fingerprint {
            return Err(corrupt("not the bundle that the log names"));
        }
        Ok((bytes, bundle))
    }

    /// A segment of a sealed bundle, as the bundle describes it.
    pub(crate) fn segment(
        &self,
        home: &Home,
        sequence: u64,
        number: usize,
        facts: &SegmentFacts,
    ) -> Result<Vec<u8>> {
        let name = file_name(&self.segment_name(sequence, number));
        let corrupt = |what: &str| damaged(home, &name, what);
        match self
            .folder
            .read_limited(&name, SEGMENT_FILE_BYTES_MAX as u64)
        {
            Err(error) if error.is_missing() => Err(corrupt("missing")),
            Err(error) => Err(error.into()),
            Ok(bytes) if Fingerprint::of(&bytes) == facts.file_digest => Ok(bytes),
            Ok(_) => Err(corrupt("not what was sealed")),
        }
    }

    /// Removes what an interrupted sealing left: the log does not name it, so it never left the home.
    fn remove_orphans(&self, newest: u64) -> Result<()> {
        self.folder.remove_parts()?;
        for entry in self.folder.entries(usize::MAX)? {
            let name = entry
                .name
                .to_str()
                .map(|name| format!("{TO_HQ_FOLDER}/{name}"));
            let sequence = match name.as_deref().and_then(MediaName::parse) {
                Some(MediaName::Bundle {
                    vault,
                    lineage,
                    sequence,
                })
                | Some(MediaName::Segment {
                    vault,
                    lineage,
                    sequence,
                    ..
                }) if vault == self.vault && lineage == self.lineage => sequence,
                _ => continue,
            };
            if sequence > newest {
                self.folder.remove(&entry.name)?;
            }
        }
        Ok(())
    }
}

/// The log says what was sealed, and this is not it.
fn damaged(home: &Home, name: &str, what: &str) -> Error {
    home.corrupt(&format!("{OUTBOX}/{name}"), what).hint(format!(
        "put {name} back from a stick that it was written to, or from a backup of the home; if it is nowhere, and \
         headquarters has not acknowledged it, `site recover --declare-restore`: headquarters answers, and the log goes on from there"
    ))
}

/// The name of a file in the outbox: without the folder that it has on media.
fn file_name(name: &MediaName) -> String {
    let path = name.to_string();
    path.strip_prefix(TO_HQ_FOLDER)
        .map_or(path.clone(), |rest| rest.trim_start_matches('/').to_owned())
}

impl Vault<'_> {
    /// Seals a bundle if there is something to report, the CRLs that are due signed first. Says whether it did. A bundle
    /// has room for one CRL: where several device CAs signed another one, each has a bundle of its own.
    pub(crate) fn seal_if_needed(&mut self) -> Result<bool> {
        self.ledger.commit()?;
        self.sign_crls_due();
        let lost = self.lost()?;
        if lost.is_none() && !self.state().has_news() {
            return Ok(false);
        }
        let mut unreported = self.crls_unreported().into_iter();
        let next = self.state().bundles().sequence.saturating_add(1);
        let crl = unreported.next().or_else(|| self.crl_in_turn(next));
        let mut first = self.state().bundles().log_size;
        if let Some(lost) = lost {
            self.console
                .warn_coded(owed::BUNDLES_GONE, lost.words(next));
            first = lost.held_size;
        }
        self.seal_bundle(crl, first)?;
        for generation in unreported {
            let first = self.state().bundles().log_size;
            self.seal_bundle(Some(generation), first)?;
        }
        Ok(true)
    }

    /// Seals a bundle of the records from `first` on, with the CRL of one device CA.
    fn seal_bundle(&mut self, device_ca: Option<u16>, first: u64) -> Result<()> {
        let lineage = self.lineage()?;
        let outbox = Outbox::open(&self.home, lineage)?;
        let chain = self.state().bundles();
        let previous = chain.fingerprint;
        let sequence = chain.sequence.saturating_add(1);
        outbox.remove_orphans(chain.sequence)?;
        let checkpoint = Checkpoint {
            size: self.ledger.size(),
            root: self.state().root(),
            time: self.state().mark(),
        };
        let segments = self.seal_segments(&outbox, sequence, first, checkpoint.size)?;
        let trust_version = self.trust.newest().content().version;
        let crl = device_ca.map(|generation| self.carried_crl(generation));
        let crl = crl.transpose()?.flatten();
        let bundle = Bundle {
            vault: self.name.clone(),
            lineage,
            sequence,
            previous,
            dispatch_seen: self.dispatch_seen(),
            checkpoint,
            first,
            segments,
            trust_version,
            sealed_at: self.time(),
            crl,
        };
        let keyring = self.keyring()?;
        let (bytes, fingerprint) =
            bundle.seal(&self.identity.sign, &|message| keyring.sign(message))?;
        outbox
            .folder
            .write_new(file_name(&outbox.bundle_name(sequence)), &bytes)?;
        let log_size = checkpoint.size;
        self.ledger.record(
            now(),
            Fact::BundleSealed {
                sequence,
                fingerprint,
                log_size,
            },
        )?;
        self.ledger.commit()?;
        Ok(())
    }

    fn seal_segments(
        &self,
        outbox: &Outbox,
        sequence: u64,
        first: u64,
        size: u64,
    ) -> Result<Vec<SegmentFacts>> {
        let recipients = self.trust.newest().content().hq_recipients();
        let progress = self
            .console
            .progress("sealing the log", size.checked_sub(first));
        let mut segments = Vec::new();
        let mut seal = |builder: SegmentBuilder| -> Result<()> {
            let number = segments.len() + 1;
            if number > SEGMENTS_MAX {
                let message = "there is more to report than one bundle can hold";
                return Err(Error::environment("BUNDLE-OVERSIZE", message)
                    .hint("tell headquarters; nothing was changed"));
            }
            let id = Bundle::segment_id(&outbox.lineage, sequence, number);
            let (file, facts) = builder.seal(&self.name, &id, &recipients)?;
            outbox
                .folder
                .write_new(file_name(&outbox.segment_name(sequence, number)), &file)?;
            segments.push(facts);
            Ok(())
        };
        let mut builder = SegmentBuilder::new(first);
        for record in self.ledger.reader(LogSequence(first))? {
            let record = record?;
            let Some(bytes) = record.whole() else {
                return Err(pruned(record.sequence));
            };
            if !builder.has_room(bytes.len()) {
                seal(std::mem::replace(
                    &mut builder,
                    SegmentBuilder::new(record.sequence),
                ))?;
            }
            builder.push(bytes);
            progress.advance(1);
        }
        if !builder.is_empty() {
            seal(builder)?;
        }
        Ok(segments)
    }

    fn dispatch_seen(&self) -> Option<DispatchSeen> {
        let chain = self.state().dispatches();
        let (epoch, fingerprint) = chain.epoch.zip(chain.fingerprint)?;
        Some(DispatchSeen {
            epoch,
            sequence: chain.sequence,
            fingerprint,
        })
    }

    pub(super) fn lineage(&self) -> Result<Lineage> {
        self.state()
            .lineage()
            .ok_or_else(|| self.home.corrupt(crate::home::LOG, "without a lineage"))
    }

    /// The bundle that would be sealed now, if there is something to report.
    pub(crate) fn next_bundle(&self) -> Result<Option<Carried>> {
        let state = self.state();
        if !state.is_enrolled() || (!state.needs_bundle(self.crl_time()) && self.lost()?.is_none())
        {
            return Ok(None);
        }
        let (lineage, sequence) = (
            self.lineage()?,
            self.state().bundles().sequence.saturating_add(1),
        );
        let name = Outbox::open(&self.home, lineage)?.bundle_name(sequence);
        let id = Bundle::object_id(&lineage, sequence);
        Ok(Some(Carried {
            name,
            kind: Kind::AuditBundle,
            id,
            placed: Placed::Planned,
        }))
    }
}

/// Headquarters has forgotten records that this vault pruned, and the bundles that brought them are gone.
fn pruned(sequence: u64) -> Error {
    let message = format!(
        "headquarters asks for record {sequence} again, which was pruned here, and the bundle that brought it is not in this home"
    );
    Error::integrity("LOG-PRUNED", message)
        .hint("put the vault's `outbox` back, or find a stick with that bundle; if there is none, have another vault take its place")
}
