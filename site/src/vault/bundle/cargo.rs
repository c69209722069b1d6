//! What goes to HQ with an export: the vault says what that is, and it is carried without the vault, so that nobody waits
//! for a slow medium. What is carried stays where it is in the home until HQ has it, and never changes.

use std::collections::VecDeque;

use mintmark_console::{Console, Progress};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::enrolment::REQUEST_BYTES_MAX;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::media::MediaName;
use p256::PublicKey;

use super::Outbox;
use crate::failure::{Error, Result};
use crate::home::{ENROLMENT, Home};
use crate::medium::{MEDIA_CONFLICT, Medium, Written};
use crate::vault::{Vault, restore, rotation};

/// A file that goes to HQ, and what came of carrying it.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Where it stands on the medium.
    pub(crate) name: MediaName,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its id.
    pub(crate) id: String,
    /// What came of it.
    pub(crate) placed: Placed,
}

/// What came of carrying a file.
#[derive(Debug)]
pub(crate) enum Placed {
    /// It stands on the medium now.
    Exported,
    /// It stood there already.
    Already,
    /// Something else stands in its place.
    Conflict(Error),
    /// It would be written.
    Planned,
}

/// Where files are carried to.
#[derive(Clone, Copy)]
pub(crate) enum Carrier<'a> {
    /// A medium.
    Medium(&'a Medium),
    /// Nowhere: it is only said what would be written.
    Nowhere,
}

impl Carrier<'_> {
    fn place(self, name: &MediaName, bytes: &[u8]) -> Result<Placed> {
        self.place_over(name, bytes, &[])
    }

    /// As `place`, and what this vault put there before is no conflict.
    fn place_over(self, name: &MediaName, bytes: &[u8], before: &[Vec<u8>]) -> Result<Placed> {
        let Self::Medium(medium) = self else {
            return Ok(Placed::Planned);
        };
        match medium.write(name, bytes, before) {
            Ok(Written::New) => Ok(Placed::Exported),
            Ok(Written::Already) => Ok(Placed::Already),
            Err(error) if error.code() == MEDIA_CONFLICT => Ok(Placed::Conflict(error)),
            Err(error) => Err(error),
        }
    }
}

/// A file that stands by itself, and what this vault may have put in its place before.
pub(crate) struct Paper {
    /// Where it stands on the medium.
    pub(crate) name: MediaName,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its id.
    pub(crate) id: &'static str,
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// What it takes the place of.
    pub(crate) before: Vec<Vec<u8>>,
}

impl Paper {
    /// Carries it.
    ///
    /// # Errors
    /// What keeps it from being written.
    pub(crate) fn carry(&self, carrier: Carrier<'_>) -> Result<Carried> {
        Ok(Carried {
            name: self.name.clone(),
            kind: self.kind,
            id: self.id.to_owned(),
            placed: carrier.place_over(&self.name, &self.bytes, &self.before)?,
        })
    }
}

/// Bundles in the outbox, each with all of its segments.
struct Bundles {
    outbox: Outbox,
    home: Home,
    /// What they are signed with.
    key: PublicKey,
    /// In their order: sequence and fingerprint.
    owed: VecDeque<(u64, Fingerprint)>,
}

/// Everything that HQ has not said that it has.
pub(crate) struct Cargo {
    papers: Vec<Paper>,
    bundles: Option<Bundles>,
}

impl Cargo {
    /// Carries all of it, the segments of a bundle before it, so that a bundle on a medium is whole.
    ///
    /// # Errors
    /// What keeps anything from being written, or shows that the home is not what it was.
    pub(crate) fn carry(&self, carrier: Carrier<'_>, console: &Console) -> Result<Vec<Carried>> {
        let owed = self
            .bundles
            .as_ref()
            .map_or(0, |bundles| bundles.owed.len());
        let count = self.papers.len().saturating_add(owed);
        let progress = console.progress("carrying bundles", Some(count as u64));
        let mut carried = Vec::new();
        for paper in &self.papers {
            carried.push(paper.carry(carrier)?);
            progress.advance(1);
        }
        if let Some(bundles) = &self.bundles {
            bundles.carry(carrier, &mut carried, &progress)?;
        }
        Ok(carried)
    }
}

impl Bundles {
    fn carry(
        &self,
        carrier: Carrier<'_>,
        carried: &mut Vec<Carried>,
        progress: &Progress,
    ) -> Result<()> {
        let Self { outbox, home, .. } = self;
        let lineage = &outbox.lineage;
        for (sequence, fingerprint) in &self.owed {
            let sequence = *sequence;
            let (bytes, bundle) = outbox.bundle(home, sequence, fingerprint, &self.key)?;
            let mut whole = true;
            for (number, facts) in (1..).zip(&bundle.content().segments) {
                let file = outbox.segment(home, sequence, number, facts)?;
                let name = outbox.segment_name(sequence, number);
                let placed = carrier.place(&name, &file)?;
                whole &= !matches!(placed, Placed::Conflict(_));
                let id = Bundle::segment_id(lineage, sequence, number);
                carried.push(Carried {
                    name,
                    kind: Kind::AuditSegment,
                    id,
                    placed,
                });
            }
            if whole {
                let name = outbox.bundle_name(sequence);
                let placed = carrier.place(&name, &bytes)?;
                let id = Bundle::object_id(lineage, sequence);
                carried.push(Carried {
                    name,
                    kind: Kind::AuditBundle,
                    id,
                    placed,
                });
            }
            progress.advance(1);
        }
        Ok(())
    }
}

impl Vault<'_> {
    /// What HQ has not said that it has: before the grant, the enrolment request; then the request for the next device CA
    /// until it is granted, and every bundle that is not acknowledged.
    ///
    /// # Errors
    /// What shows that the home is not what it was.
    pub(crate) fn cargo(&self) -> Result<Cargo> {
        if !self.state().is_enrolled() {
            let bytes = self.home.file(ENROLMENT, REQUEST_BYTES_MAX)?;
            return Ok(Cargo {
                papers: vec![self.request(bytes, Vec::new())],
                bundles: None,
            });
        }
        let mut papers: Vec<Paper> = self.next_device_ca_request()?.into_iter().collect();
        let outbox = Outbox::open(&self.home, self.lineage()?)?;
        let owed = self.owed(&outbox)?;
        if owed.restored {
            papers.extend(restore::newest_over(&self.home)?);
        }
        let bundles = Bundles {
            outbox,
            home: self.home.clone(),
            key: self.identity.sign,
            owed: owed.carried,
        };
        Ok(Cargo {
            papers,
            bundles: Some(bundles),
        })
    }

    fn request(&self, bytes: Vec<u8>, before: Vec<Vec<u8>>) -> Paper {
        Paper {
            name: MediaName::Enrolment {
                vault: self.name.clone(),
            },
            kind: Kind::EnrolmentRequest,
            id: "enrolment",
            bytes,
            before,
        }
    }

    /// The request for the next device CA, while it waits for its grant.
    fn next_device_ca_request(&self) -> Result<Option<Paper>> {
        let Some(rotation) = self.state().rotation_pending() else {
            return Ok(None);
        };
        let bytes = rotation::request(&self.home, rotation)?;
        // A medium may still hold the request for an earlier device CA, which was granted.
        let mut before = Vec::new();
        for generation in 1..rotation.generation {
            let name = rotation::request_file(generation);
            before.push(self.home.file(&name, REQUEST_BYTES_MAX)?);
        }
        Ok(Some(self.request(bytes, before)))
    }
}
