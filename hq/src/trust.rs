//! The trust manifests of a home: from the pinned one, step by step, to the newest.

use mintmark_console::Failure;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::trust::TrustManifest;

use crate::config::Role;
use crate::home::Home;
use crate::registry::{self, trust_manifests};
use crate::{clock, failure};

/// The newest manifest of a home, in force or not; none at an HQ that has not published one.
pub(crate) fn newest(home: &Home) -> Result<Option<Verified<TrustManifest>>, Failure> {
    Ok(chain(home)?.pop())
}

/// Every manifest from the pinned one on. One that this home is known to have had must still be there: without it, the
/// home would trust those whom it no longer should.
pub(crate) fn chain(home: &Home) -> Result<Vec<Verified<TrustManifest>>, Failure> {
    match home.config.role {
        Role::Hq => published(home),
        Role::Member => followed(home),
    }
}

/// What HQ published: what the registry lists, no less and no more.
fn published(home: &Home) -> Result<Vec<Verified<TrustManifest>>, Failure> {
    let record = home.record();
    let mut chain: Vec<Verified<TrustManifest>> = Vec::new();
    for (version, fingerprint) in trust_manifests::all(&home.registry()?.sql)? {
        let bytes = record.read(&record.trust(version))?;
        let next = match chain.last() {
            None => TrustManifest::pin(&bytes, &fingerprint),
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
    let fingerprint: Fingerprint = registry::parsed("pin", &pin.fingerprint)?;
    let newest = record.newest_trust()?;
    let bytes = record.read(&record.trust(pin.version))?;
    let mut chain = vec![TrustManifest::pin(&bytes, &fingerprint).map_err(failure::home_corrupt)?];
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

/// The newest manifest, which must be in force.
pub(crate) fn in_force(home: &Home) -> Result<Verified<TrustManifest>, Failure> {
    let manifest = newest(home)?.ok_or_else(|| {
        failure::usage(
            "TRUST-UNPUBLISHED",
            "no trust manifest has been published yet",
            "run `hq trust draft`, have it approved, then `hq trust publish`",
        )
    })?;
    manifest
        .content()
        .in_force(clock::now_unix())
        .map_err(|error| {
            failure::protocol(error)
                .hint("draft, approve and publish the next manifest with `hq trust draft`")
        })?;
    Ok(manifest)
}
