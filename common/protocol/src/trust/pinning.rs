//! Pinning: the manifest that a home begins with, and what is known of those before it.

use super::{Role, TRUST_BYTES_MAX, TrustManifest, WHAT};
use crate::Error;
use crate::approval::Proposal;
use crate::envelope::{Verified, claim};
use crate::identifier::Fingerprint;
use crate::media::MediaName;

impl TrustManifest {
    /// Opens a manifest that a person has compared the fingerprint of. Its own officers must have signed it.
    ///
    /// Officers who left with it may have signed it, too, for the threshold of the one `before`; the manifest names that
    /// one by its fingerprint. So it is judged by both, if what is given is that one; anything else that is given counts
    /// for nothing.
    ///
    /// # Errors
    /// [`Error::FingerprintMismatch`], [`Error::TrustBeforeMissing`] if a key that it does not list signed it and the one
    /// before is not given, and whatever refuses a proposal.
    pub fn pin(
        bytes: &[u8],
        fingerprint: &Fingerprint,
        before: Option<&[u8]>,
    ) -> Result<Verified<Self>, Error> {
        let proposal = Proposal::read(bytes, TRUST_BYTES_MAX)?;
        expect_fingerprint(&proposal, fingerprint)?;
        if let Some(before) = Self::named_before(&proposal, before)? {
            return before.successor(bytes);
        }
        Self::self_approved(&proposal).map_err(|error| match (error, Self::file_before(bytes)) {
            (Error::SignerUnknown { key, .. }, Some(file)) => {
                let file = file.to_string();
                Error::TrustBeforeMissing { file, key }
            }
            (error, _) => error,
        })
    }

    /// Opens a manifest as [`TrustManifest::pin`] does, and refuses anything else in the place of the one before it. Of that
    /// one, the signatures are not looked at.
    ///
    /// # Errors
    /// As [`TrustManifest::pin`], and [`Error::TrustBefore`].
    pub fn pin_kept(
        bytes: &[u8],
        fingerprint: &Fingerprint,
        before: Option<&[u8]>,
    ) -> Result<Verified<Self>, Error> {
        let proposal = Proposal::read(bytes, TRUST_BYTES_MAX)?;
        expect_fingerprint(&proposal, fingerprint)?;
        if let Some(before) = before {
            let manifest = Self::proposed(&proposal)?;
            let expected = manifest.expect_before(before);
            expected.map_err(|error| manifest.before_refused(error))?;
        }
        Self::pin(bytes, fingerprint, before)
    }

    /// Opens a manifest as [`TrustManifest::pin_kept`] does, by what is beside it: `beside` gives a file by its name, or
    /// none. Gives the manifest before it, too, if it is there: it is to be kept, so each of its signatures has to stand.
    ///
    /// # Errors
    /// As [`TrustManifest::pin_kept`], and what `beside` ends in.
    pub fn pin_beside<E: From<Error>>(
        bytes: &[u8],
        fingerprint: &Fingerprint,
        beside: impl Fn(&MediaName) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<(Verified<Self>, Option<Vec<u8>>), E> {
        let before_of = |bytes: &[u8]| match Self::file_before(bytes) {
            Some(name) => beside(&name),
            None => Ok(None),
        };
        let before = before_of(bytes)?;
        let manifest = Self::pin_kept(bytes, fingerprint, before.as_deref())?;
        if let Some(before) = &before {
            let first = before_of(before)?;
            Proposal::read(before, TRUST_BYTES_MAX)
                .and_then(|before| Self::expect_undamaged(&before, first.as_deref()))
                .map_err(|error| manifest.content().before_refused(error))?;
        }
        Ok((manifest, before))
    }

    /// Verifies manifests that follow one another from one of them that a person knows by its fingerprint: those before it by
    /// the digests that lead back, those after it by their officers' signatures.
    ///
    /// # Errors
    /// [`Error::FingerprintMismatch`] if none has this fingerprint, and whatever refuses a manifest.
    pub fn known(
        what: &'static str,
        trust: &[Vec<u8>],
        known: &Fingerprint,
    ) -> Result<Vec<Verified<Self>>, Error> {
        let claims: Result<Vec<_>, Error> = trust
            .iter()
            .map(|bytes| Ok(claim(bytes, TRUST_BYTES_MAX)?.fingerprint))
            .collect();
        let claims = claims?;
        let Some(at) = claims.iter().position(|found| found == known) else {
            let newest = claims.last().map(Fingerprint::to_string);
            return Err(Error::FingerprintMismatch {
                what,
                expected: known.to_string(),
                found: newest.unwrap_or_default(),
            });
        };
        let (mut fingerprint, mut manifests) = (Some(*known), Vec::new());
        for at in (0..=at).rev() {
            let (Some(expected), Some(bytes)) = (fingerprint, trust.get(at)) else {
                return Err(Error::PartsDiffer {
                    what,
                    why: "its trust manifests do not follow one another",
                });
            };
            let before = at.checked_sub(1).and_then(|before| trust.get(before));
            let pinned = TrustManifest::pin_kept(bytes, &expected, before.map(Vec::as_slice))?;
            fingerprint = pinned.content().previous;
            manifests.insert(0, pinned);
        }
        for bytes in trust.iter().skip(at.saturating_add(1)) {
            let next = match manifests.last() {
                Some(last) => last.successor(bytes)?,
                None => break,
            };
            manifests.push(next);
        }
        Ok(manifests)
    }

    /// The name of the file in which the manifest before this one travels; none for the first, and for what is none.
    pub fn file_before(bytes: &[u8]) -> Option<MediaName> {
        let proposal = Proposal::read(bytes, TRUST_BYTES_MAX).ok()?;
        let version = Self::proposed(&proposal).ok()?.version.checked_sub(1)?;
        (version > 0).then_some(MediaName::Trust { version })
    }

    /// Refuses what is not the manifest that this one names as the one before it. Its signatures are not looked at: the
    /// fingerprint is of all that it says.
    fn expect_before(&self, before: &[u8]) -> Result<(), Error> {
        let before = Proposal::read(before, TRUST_BYTES_MAX)?;
        Self::proposed(&before)?;
        match &self.previous {
            Some(previous) => expect_fingerprint(&before, previous),
            None => Err(Error::TrustSuccession {
                version: self.version,
                why: "it is the first, and follows none",
            }),
        }
    }

    fn before_refused(&self, error: Error) -> Error {
        let version = self.version.saturating_sub(1);
        Error::TrustBefore {
            file: MediaName::Trust { version }.to_string(),
            error: Box::new(error),
        }
    }

    /// Refuses a manifest whose signatures do not stand for themselves: it says nothing of whether it is to be believed.
    ///
    /// # Errors
    /// As [`TrustManifest::pin`].
    pub fn expect_undamaged(proposal: &Proposal, before: Option<&[u8]>) -> Result<(), Error> {
        Self::pin(&proposal.to_bytes()?, &proposal.fingerprint(), before).map(drop)
    }

    /// What is given as the manifest before, if it is the one that a proposal names.
    fn named_before(
        proposal: &Proposal,
        before: Option<&[u8]>,
    ) -> Result<Option<Verified<Self>>, Error> {
        let manifest = Self::proposed(proposal)?;
        let Some(before) = before.filter(|before| manifest.expect_before(before).is_ok()) else {
            return Ok(None);
        };
        let before = Proposal::read(before, TRUST_BYTES_MAX)?;
        let fingerprint = before.fingerprint();
        let manifest = Self::proposed(&before)?;
        let plaintext = before.payload().to_vec();
        Ok(Some(Verified::new(
            manifest,
            fingerprint,
            plaintext,
            Vec::new(),
        )))
    }

    fn self_approved(proposal: &Proposal) -> Result<Verified<Self>, Error> {
        let manifest = Self::proposed(proposal)?;
        let officers = proposal
            .approved(&manifest, Role::Trust)?
            .into_iter()
            .collect();
        let plaintext = proposal.payload().to_vec();
        Ok(Verified::new(
            manifest,
            proposal.fingerprint(),
            plaintext,
            officers,
        ))
    }
}

fn expect_fingerprint(proposal: &Proposal, expected: &Fingerprint) -> Result<(), Error> {
    let found = proposal.fingerprint();
    if found == *expected {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(Error::FingerprintMismatch {
        what: WHAT,
        expected,
        found,
    })
}
