//! The trust manifests of a home: from the pinned one, step by step, to the newest.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Failure, files};
use mintmark_protocol::Error;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::{TRUST_BYTES_MAX, TrustManifest};
use rusqlite::Connection;

use crate::config::Role;
use crate::home::Home;
use crate::record::Record;
use crate::registry::trust_manifests;
use crate::{clock, failure};

/// The newest manifest of a home, in force or not; none at an HQ that has not published one.
pub(crate) fn newest(home: &Home) -> Result<Option<Verified<TrustManifest>>, Failure> {
    Ok(chain(home)?.pop())
}

/// Pins the manifest of a file by the fingerprint that a person compared: with the one before it, if that stands in the same
/// folder and this one needs it.
pub(crate) fn pinned_beside(
    file: &Path,
    bytes: &[u8],
    fingerprint: &Fingerprint,
) -> Result<(Verified<TrustManifest>, Option<Vec<u8>>), Failure> {
    struct Refused(Failure);
    impl From<Error> for Refused {
        fn from(error: Error) -> Self {
            Self(failure::protocol(error))
        }
    }
    let beside = |name: &MediaName| {
        let beside = file.with_file_name(name.to_string());
        match files::read_limited(beside, TRUST_BYTES_MAX as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(Refused(error.into())),
        }
    };
    let pinned = TrustManifest::pin_beside(bytes, fingerprint, beside);
    pinned.map_err(|Refused(failure)| failure)
}

/// Every manifest from the pinned one on. One that this home is known to have had must still be there: without it, the
/// home would trust those whom it no longer should.
pub(crate) fn chain(home: &Home) -> Result<Vec<Verified<TrustManifest>>, Failure> {
    match home.config.role {
        Role::Hq | Role::Auditor => published(&home.record(), &home.registry()?.sql),
        Role::Member => followed(home),
    }
}

/// What HQ published: what the registry lists, no less and no more.
pub(crate) fn published(
    record: &Record,
    sql: &Connection,
) -> Result<Vec<Verified<TrustManifest>>, Failure> {
    let mut chain: Vec<Verified<TrustManifest>> = Vec::new();
    for (version, fingerprint) in trust_manifests::all(sql)? {
        let bytes = record.read(&record.trust(version))?;
        let next = match chain.last() {
            None => TrustManifest::pin(&bytes, &fingerprint, None),
            Some(last) => last.successor(&bytes),
        }
        .map_err(failure::home_corrupt)?;
        if next.content().version != version || next.fingerprint() != fingerprint {
            let message = format!("trust manifest {version} is not the one that was published");
            return Err(failure::home_corrupt(message));
        }
        chain.push(next);
    }
    Ok(chain)
}

/// What an officer or auditor pinned, and what they imported since.
fn followed(home: &Home) -> Result<Vec<Verified<TrustManifest>>, Failure> {
    let record = home.record();
    let pin = home.config.pin.as_ref();
    let pin = pin.ok_or_else(|| failure::home_corrupt("config.toml pins no manifest"))?;
    let fingerprint: Fingerprint = pin.fingerprint.parse().map_err(failure::home_corrupt)?;
    let newest = record.newest_trust()?;
    let bytes = record.read(&record.trust(pin.version))?;
    let before = kept_before(&record, pin.version)?;
    let first = TrustManifest::pin_kept(&bytes, &fingerprint, before.as_deref());
    let first = first.map_err(|error| match &error {
        Error::TrustBefore { .. } | Error::TrustBeforeMissing { .. } => {
            let path = record.trust(pin.version.saturating_sub(1));
            failure::home_corrupt(&error).hint(format!(
                "copy the file of that name from a stick of headquarters to {}: no other counts there",
                path.display()
            ))
        }
        _ => failure::home_corrupt(error),
    })?;
    let mut chain = vec![first];
    while let Some(last) = chain.last() {
        let version = last.content().version.saturating_add(1);
        let path = record.trust(version);
        // One beyond the newest was written when the import was cut off: its officers' signatures decide.
        if version > newest && path.symlink_metadata().is_err() {
            break;
        }
        let next = last
            .successor(&record.read(&path)?)
            .map_err(failure::home_corrupt)?;
        chain.push(next);
    }
    Ok(chain)
}

/// The manifest before the pinned one, if it was beside that when it was pinned: officers who left with the pinned one may
/// have signed it.
pub(crate) fn kept_before(record: &Record, pinned: u64) -> Result<Option<Vec<u8>>, Failure> {
    if pinned <= 1 {
        return Ok(None);
    }
    let path = record.trust(pinned.saturating_sub(1));
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => record.read(&path).map(Some),
    }
}

/// How long before a manifest expires people are told, in days: a successor has to reach every site before that.
const WARNED_DAYS: u64 = 30;

/// How a manifest's expiry is to be spoken of, if it is near or past.
pub(crate) fn expiry_warning(manifest: &TrustManifest, now: u64) -> Option<(&'static str, String)> {
    let TrustManifest {
        version,
        expires_at,
        ..
    } = manifest;
    let expires = rfc3339(*expires_at);
    let left = expires_at.saturating_sub(now);
    if left == 0 {
        let text = format!(
            "trust manifest {version} expired at {expires}: nothing can be approved or sent before its successor is \
             published (`hq trust draft`)"
        );
        return Some(("TRUST-EXPIRED", text));
    }
    (left <= WARNED_DAYS * clock::DAY_SECONDS).then(|| {
        let text = format!(
            "trust manifest {version} expires in {} days, at {expires}: its successor has to be at every site by then \
             (`hq trust draft`, approvals, `hq trust publish`)",
            left / clock::DAY_SECONDS
        );
        ("TRUST-EXPIRES", text)
    })
}

/// Warns of the expiry of a home's newest manifest. Whatever is wrong with the home itself, the commands say.
pub(crate) fn warn_of_expiry(home: &Path, console: &Console) {
    let Ok(home) = Home::read(Some(home)) else {
        return;
    };
    let Ok(Some(manifest)) = newest(&home) else {
        return;
    };
    if let Some((code, text)) = expiry_warning(manifest.content(), clock::now_unix()) {
        console.warn_coded(code, text);
    }
}

/// The newest manifest, which must be in force.
pub(crate) fn in_force(home: &Home) -> Result<Verified<TrustManifest>, Failure> {
    let manifest = newest(home)?.ok_or_else(|| {
        failure::usage(
            "TRUST-UNPUBLISHED",
            "no trust manifest has been published yet",
            "run `hq trust draft`, have it approved, then `hq trust publish`",
        )
    })?;
    expect_in_force(
        manifest.content(),
        "draft, approve and publish the next one (`hq trust draft`, approvals, `hq trust publish`), then run this again",
    )?;
    Ok(manifest)
}

/// Refuses a manifest that has expired. The hint says how to get its successor.
pub(crate) fn expect_in_force(manifest: &TrustManifest, hint: &str) -> Result<(), Failure> {
    if manifest.in_force(clock::now_unix()).is_ok() {
        return Ok(());
    }
    let (version, expired) = (manifest.version, rfc3339(manifest.expires_at));
    Err(failure::refused(
        "TRUST-EXPIRED",
        format!("trust manifest {version} expired at {expired}"),
        hint,
    ))
}
