//! The tail that HQ sends back, gathered from a medium: every part is judged, and all of them count together or not at all.

use std::collections::{BTreeMap, BTreeSet};

use mintmark_console::files;
use mintmark_ledger::entry::{Body, Entry};
use mintmark_ledger::ledger::Tail;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::log_tail::{LOG_TAIL_MESSAGE_BYTES_MAX, LogTail};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::trust::TRUST_BYTES_MAX;

use super::{Item, incoming};
use crate::commands::now;
use crate::failure::{Error, Result};
use crate::home::{Home, TRUST};
use crate::medium::{Medium, MediumFile};
use crate::vault::import::{Arrival, in_force};
use crate::vault::keyring::Keyring;
use crate::vault::trust::{self, Standing, TrustChain, TrustPoint};

/// Gathers the tail from a medium.
pub(super) struct Gathering<'a> {
    pub(super) home: &'a Home,
    pub(super) medium: &'a Medium,
    pub(super) files: &'a [MediumFile],
    pub(super) declared: &'a Verified<RestoreDeclaration>,
    pub(super) trust: TrustChain,
    /// Whether the manifests that come are kept: the tail may name them.
    pub(super) keep: bool,
}

impl Gathering<'_> {
    /// The whole tail, if all of it is here, and what is to be said of each part.
    pub(super) fn gather(
        &mut self,
        parts: &[&MediumFile],
        keyring: &Keyring,
    ) -> Result<(Option<Tail>, Vec<Item>)> {
        self.follow_trust()?;
        let manifest = self.trust.newest();
        let mut tails: BTreeMap<u64, LogTail> = BTreeMap::new();
        let mut items = Vec::new();
        let mut all = true;
        for file in parts {
            let arrival = match self.part(file, keyring)? {
                Ok(tail) => {
                    tails.insert(tail.part, tail);
                    match in_force(manifest.content(), now().clock) {
                        Ok(()) => Arrival::Imported,
                        Err(error) => Arrival::Held(error),
                    }
                }
                Err(error) => Arrival::of(error),
            };
            all &= matches!(arrival, Arrival::Imported);
            items.push(incoming(file, arrival));
        }
        // A part that is not what it should be, left on the stick, keeps the others from being judged.
        let held = |items: Vec<Item>, error: &dyn Fn() -> Error| {
            let items = items.into_iter().map(|(file, mut incoming)| {
                if matches!(incoming.arrival, Arrival::Imported) {
                    incoming.arrival = Arrival::Held(error());
                }
                (file, incoming)
            });
            (None, items.collect())
        };
        let incomplete = || {
            Error::environment(
                "TAIL-INCOMPLETE",
                "the medium does not hold every part of what headquarters sends back",
            )
            .hint("import a full export of headquarters: every part has to stand on one medium")
        };
        if tails.is_empty() || !all {
            return Ok(held(items, &incomplete));
        }
        let tail = match assemble(self.declared.content(), tails) {
            Some(tail) => tail,
            None => return Ok(held(items, &incomplete)),
        };
        if let Some(missing) = self.missing_trust(&tail) {
            let error = || {
                let message = format!(
                    "the log that headquarters sends back follows trust manifest {missing}"
                );
                Error::environment("TRUST-MISSING", message).hint(
                    "import it together with every manifest, from a full export of headquarters",
                )
            };
            return Ok(held(items, &error));
        }
        Ok((Some(tail), items))
    }

    /// Follows the manifests on the medium. Nothing is logged of them: the tail says which of them this vault followed,
    /// and whatever comes after them is imported afterwards.
    fn follow_trust(&mut self) -> Result<()> {
        let version = |file: &MediumFile| match file.name {
            MediaName::Trust { version } => Some(version),
            _ => None,
        };
        let mut manifests: Vec<_> = self
            .files
            .iter()
            .filter_map(|file| Some((version(file)?, file)))
            .collect();
        manifests.sort_by_key(|(version, _)| *version);
        let read = |file| self.medium.read(file, TRUST_BYTES_MAX);
        for (at, (version, file)) in manifests.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| manifests.get(at));
            let before = before.filter(|(before, _)| before.checked_add(1) == Some(*version));
            let before = before.and_then(|(_, before)| read(before).ok());
            // What is wrong with one is said when it is imported.
            let Ok(bytes) = read(file) else { continue };
            if let Ok(Standing::Next(next)) = self.trust.judge(&bytes, before.as_deref()) {
                if self.keep {
                    let point = trust::point(&next);
                    trust::keep(&self.home.folder(TRUST)?, point.version, &bytes)?;
                }
                self.trust.push(*next);
            }
        }
        Ok(())
    }

    /// One part, which has to answer the declaration. The inner error is the verdict on it.
    fn part(
        &self,
        file: &MediumFile,
        keyring: &Keyring,
    ) -> Result<std::result::Result<LogTail, Error>> {
        let bytes = match self.medium.read(file, LOG_TAIL_MESSAGE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                return Ok(Err(match error.kind() {
                    files::Kind::TooLarge { .. } => mintmark_protocol::Error::Oversize {
                        what: "log tail",
                        bytes_max: LOG_TAIL_MESSAGE_BYTES_MAX,
                    }
                    .into(),
                    _ => error.into(),
                }));
            }
        };
        let name = &self.home.config().vault;
        let opened =
            keyring.with_opener(|opener| LogTail::open(&bytes, self.trust.newest(), name, opener));
        let tail = match opened {
            Ok(tail) => tail.into_content(),
            Err(
                error @ (mintmark_protocol::Error::KeyOperation(_)
                | mintmark_protocol::Error::Random),
            ) => return Err(error.into()),
            Err(error) => return Ok(Err(error.into())),
        };
        let named = matches!(file.name, MediaName::Tail { part, .. } if part == tail.part);
        if tail.declaration != self.declared.fingerprint() || !named {
            let message = format!(
                "{} answers another restore than the one that was declared",
                file.path()
            );
            return Ok(Err(Error::negative("TAIL-OF-ANOTHER", message).hint(
                "carry the declaration to headquarters (`site media export`), and import what it sends back to that",
            )));
        }
        Ok(Ok(tail))
    }

    /// A manifest that the tail names and that is not here.
    fn missing_trust(&self, tail: &Tail) -> Option<u64> {
        let known: BTreeSet<(u64, Fingerprint)> = self
            .trust
            .manifests()
            .map(trust::point)
            .map(
                |TrustPoint {
                     version,
                     fingerprint,
                 }| (version, fingerprint),
            )
            .collect();
        let mut entries = tail
            .records
            .iter()
            .filter_map(|raw| Entry::from_cbor(raw).ok());
        entries.find_map(|entry| match entry.body {
            Body::Trust(trust) if !known.contains(&(trust.version, trust.fingerprint)) => {
                Some(trust.version)
            }
            _ => None,
        })
    }
}

/// The parts as one, if they are all there and fit together.
fn assemble(declaration: &RestoreDeclaration, tails: BTreeMap<u64, LogTail>) -> Option<Tail> {
    let (parts, log_size, root) = {
        let first = tails.get(&1)?;
        (first.parts, first.log_size, first.log_root)
    };
    let first = declaration.size.min(log_size);
    if tails.len() as u64 != parts {
        return None;
    }
    let mut records = Vec::new();
    for tail in tails.into_values() {
        let at = first.checked_add(records.len() as u64)?;
        if (tail.parts, tail.log_size, tail.log_root, tail.first) != (parts, log_size, root, at) {
            return None;
        }
        records.extend(tail.records);
    }
    let tail = Tail {
        first,
        records,
        root,
    };
    (tail.size() == log_size).then_some(tail)
}
