//! The trust manifests of this vault: from the one that was pinned, each verified by the one before.

use mintmark_console::files::{self, Folder};
use mintmark_pki::Issuer;
use mintmark_protocol::Error as Refusal;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::{Role, TRUST_BYTES_MAX, TrustManifest};

use crate::failure::{Error, Result};
use crate::home::{Home, TRUST};

/// A manifest in its place: what the log says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TrustPoint {
    /// Its version.
    pub(crate) version: u64,
    /// Its fingerprint.
    pub(crate) fingerprint: Fingerprint,
}

/// Every manifest from the pinned one to the newest, all verified.
#[derive(Debug)]
pub(crate) struct TrustChain {
    /// What the pinned one follows, if it was beside that: officers who left with the pinned one may have signed it.
    before_pinned: Option<Vec<u8>>,
    before: Vec<Verified<TrustManifest>>,
    newest: Verified<TrustManifest>,
}

/// What a manifest from outside is to a chain.
pub(crate) enum Standing {
    /// It is the one that follows: verified, and not yet part of the chain.
    Next(Box<Verified<TrustManifest>>),
    /// It is part of the chain already, or older than it.
    Known,
}

/// The name of a manifest's file.
pub(crate) fn file_name(version: u64) -> String {
    MediaName::Trust { version }.to_string()
}

impl TrustChain {
    /// Reads the chain from the home: from what the log's first record pins to what its last one says.
    pub(crate) fn load(home: &Home, pinned: TrustPoint, newest: TrustPoint) -> Result<Self> {
        let folder = home.folder(TRUST)?;
        let corrupt = |version, what: &dyn std::fmt::Display| {
            home.corrupt(&format!("{TRUST}/{}", file_name(version)), what)
        };
        let read = |version| match folder.read_limited(file_name(version), TRUST_BYTES_MAX as u64) {
            Err(error) if error.is_missing() => Err(corrupt(version, &"missing")),
            read => read.map_err(Error::from),
        };
        let broken = |version| {
            move |error: Refusal| corrupt(version, &"not the one that was imported").cause(error)
        };
        let before = kept_before(&folder, pinned.version)?;
        let first = TrustManifest::pin_kept(
            &read(pinned.version)?,
            &pinned.fingerprint,
            before.as_deref(),
        );
        let first = first.map_err(|error| match &error {
            Refusal::TrustBefore { .. } | Refusal::TrustBeforeMissing { .. } => {
                let what = match &before {
                    Some(_) => "not the one that the pinned one follows",
                    None => "missing, and an officer who left with the pinned one signed that too",
                };
                let before = pinned.version.saturating_sub(1);
                corrupt(before, &what).cause(&error).hint(format!(
                    "copy {} from a stick of headquarters into the folder `{TRUST}` of the home: no other counts there",
                    file_name(before)
                ))
            }
            _ => broken(pinned.version)(error),
        })?;
        let mut chain = Self {
            before_pinned: before,
            before: Vec::new(),
            newest: first,
        };
        for version in pinned.version.saturating_add(1)..=newest.version {
            let next = chain
                .newest
                .successor(&read(version)?)
                .map_err(broken(version))?;
            chain.push(next);
        }
        if chain.point() != newest {
            return Err(corrupt(newest.version, &"not the one that the log names"));
        }
        Ok(chain)
    }

    /// The manifest that everything is judged by.
    pub(crate) fn newest(&self) -> &Verified<TrustManifest> {
        &self.newest
    }

    /// The newest manifest's place.
    pub(crate) fn point(&self) -> TrustPoint {
        point(&self.newest)
    }

    /// What a manifest that was carried here is to this chain. The one that it follows, as it is on the medium, is looked
    /// at where this vault holds none.
    ///
    /// # Errors
    /// TRUST-FORK if it is another one than the one that this vault holds, and signed by a threshold of the officers
    /// whom the vault knows from its own of that version (from its oldest, for one before that); TRUST-MISSING if others
    /// come before it; and what the protocol refuses, be it of one that is known.
    pub(crate) fn judge(&self, bytes: &[u8], before: Option<&[u8]>) -> Result<Standing> {
        let proposal = Proposal::read(bytes, TRUST_BYTES_MAX)?;
        let version = TrustManifest::proposed(&proposal)?.version;
        let newest = self.newest.content().version;
        if version > newest.saturating_add(1) {
            let message = format!(
                "trust manifest {version} came without version {}",
                newest + 1
            );
            return Err(Error::environment("TRUST-MISSING", message)
                .hint("import it together with every manifest in between, from a full HQ export"));
        }
        if version > newest {
            return Ok(Standing::Next(Box::new(self.newest.successor(bytes)?)));
        }
        let known = self
            .manifests()
            .find(|manifest| manifest.content().version == version);
        let expected = match known {
            Some(manifest) => Some(manifest.fingerprint()),
            // The oldest that is held names the one before it; of those before that, nothing is known.
            None => self.manifests().next().and_then(|oldest| {
                let follows = version.checked_add(1) == Some(oldest.content().version);
                oldest.content().previous.filter(|_| follows)
            }),
        };
        let found = proposal.fingerprint();
        if expected.is_none_or(|expected| expected == found) {
            // What is held may have come with the signatures of other officers, so that its bytes do not have to be the
            // same; each signature has to verify.
            let held = self
                .manifests()
                .find(|before| before.content().version.checked_add(1) == Some(version));
            match (known, held) {
                (Some(_), Some(held)) => drop(held.successor(bytes)?),
                (Some(_), None) => {
                    let before = self.before_pinned.as_deref().or(before);
                    TrustManifest::expect_undamaged(&proposal, before)?;
                }
                (None, _) => TrustManifest::expect_undamaged(&proposal, before)?,
            }
            return Ok(Standing::Known);
        }
        // Anybody can carry a manifest of his own here, signed by officers of his own. Only what enough of the officers
        // whom this vault knows have signed shows that headquarters has two histories; anything else is refused for
        // what it lacks.
        let judge = known.or(self.manifests().next()).unwrap_or(&self.newest);
        let judge = judge.content();
        let signed = proposal.known_approvers(judge, Role::Trust)?.len() as u64;
        if signed < judge.threshold(Role::Trust) {
            proposal.approved(judge, Role::Trust)?;
        }
        Err(fork(version))
    }

    /// Adds what [`TrustChain::judge`] found to come next.
    pub(crate) fn push(&mut self, next: Verified<TrustManifest>) {
        self.before.push(std::mem::replace(&mut self.newest, next));
    }

    /// Every manifest, the newest last.
    pub(crate) fn manifests(&self) -> impl DoubleEndedIterator<Item = &Verified<TrustManifest>> {
        self.before.iter().chain([&self.newest])
    }

    /// The root of every manifest, the newest last.
    pub(crate) fn roots(&self) -> Result<Vec<Issuer>> {
        let mut ders: Vec<&[u8]> = Vec::new();
        for manifest in self.manifests() {
            let der = manifest.content().root_certificate.as_slice();
            if !ders.contains(&der) {
                ders.push(der);
            }
        }
        let roots = ders.into_iter().map(Issuer::from_certificate_der);
        Ok(roots.collect::<std::result::Result<_, _>>()?)
    }
}

/// The place of a manifest.
pub(crate) fn point(manifest: &Verified<TrustManifest>) -> TrustPoint {
    TrustPoint {
        version: manifest.content().version,
        fingerprint: manifest.fingerprint(),
    }
}

fn fork(version: u64) -> Error {
    let message =
        format!("this is another trust manifest {version} than the one that this vault holds");
    Error::integrity("TRUST-FORK", message).hint(
        "stop the line, keep the medium and tell your security officer: headquarters has two histories, or this is \
         another headquarters' medium",
    )
}

fn kept_before(folder: &Folder, pinned: u64) -> Result<Option<Vec<u8>>> {
    if pinned <= 1 {
        return Ok(None);
    }
    let name = file_name(pinned.saturating_sub(1));
    match folder.read_limited(name, TRUST_BYTES_MAX as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Keeps a manifest as it was received, before the log names it.
///
/// A file that an interrupted import left is replaced: the log does not name it, so nothing rests on it.
pub(crate) fn keep(
    folder: &Folder,
    version: u64,
    bytes: &[u8],
) -> std::result::Result<(), files::Error> {
    folder.write_replace(file_name(version), bytes)
}
