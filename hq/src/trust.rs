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

/// Every manifest from the pinned one on.
pub(crate) fn chain(home: &Home) -> Result<Vec<Verified<TrustManifest>>, Failure> {
    let Some((version, fingerprint)) = beginning(home)? else {
        return Ok(Vec::new());
    };
    let record = home.record();
    let bytes = record.read(&record.trust(version))?;
    let mut chain = vec![TrustManifest::pin(&bytes, &fingerprint).map_err(failure::home_corrupt)?];
    while let Some(last) = chain.last() {
        let path = record.trust(last.content().version.saturating_add(1));
        if !path.exists() {
            break;
        }
        let next = last
            .successor(&record.read(&path)?)
            .map_err(failure::home_corrupt)?;
        chain.push(next);
    }
    Ok(chain)
}

fn beginning(home: &Home) -> Result<Option<(u64, Fingerprint)>, Failure> {
    match home.config.role {
        Role::Hq => Ok(trust_manifests::first(&home.registry()?.sql)?.map(|first| (1, first))),
        Role::Member => {
            let pin = home.config.pin.as_ref();
            let pin = pin.ok_or_else(|| failure::home_corrupt("config.toml pins no manifest"))?;
            Ok(Some((
                pin.version,
                registry::parsed("pin", &pin.fingerprint)?,
            )))
        }
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
    manifest
        .content()
        .in_force(clock::now_unix())
        .map_err(|error| {
            failure::protocol(error)
                .hint("draft, approve and publish the next manifest with `hq trust draft`")
        })?;
    Ok(manifest)
}
