//! Forks: two bundles of one vault that cannot both be true; and the file that proves it to whoever has nothing else.

use std::fmt;

use mintmark_console::{Exit, Failure};
use mintmark_ledger::merkle::{Hash, verify_consistency};
use mintmark_pki::{Certificate, Issuer, vault_identity_tbs};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::fork::ForkProof;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;

use crate::failure;
use crate::import::records;

/// The finding of it.
pub(crate) const FORK: &str = "FORK";
/// The finding of a bundle that follows another one than HQ holds. It is a fork where the bundle before is another.
pub(crate) const BUNDLE_CHAIN: &str = "BUNDLE-CHAIN";

/// How two bundles contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contradiction {
    /// One sequence, two contents.
    Sequence,
    /// One size of the log, two roots.
    Checkpoint,
    /// The later one follows another bundle than the earlier one is.
    Chain,
    /// The larger log was another one when it was as small as the smaller.
    Prefix,
}

impl Contradiction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Checkpoint => "checkpoint",
            Self::Chain => "chain",
            Self::Prefix => "prefix",
        }
    }

    /// What of the two is looked at: none if it does not show that they contradict each other.
    fn of(
        first: (&Bundle, Fingerprint),
        second: (&Bundle, Fingerprint),
        consistency: &[Fingerprint],
    ) -> Option<Self> {
        if first.0.vault != second.0.vault || first.0.lineage != second.0.lineage {
            return None;
        }
        if first.0.sequence == second.0.sequence {
            return (first.1 != second.1).then_some(Self::Sequence);
        }
        let (one, other) = (first.0.checkpoint, second.0.checkpoint);
        if one.size == other.size && one.root != other.root {
            return Some(Self::Checkpoint);
        }
        let (earlier, later) = if first.0.sequence < second.0.sequence {
            (first, second.0)
        } else {
            (second, first.0)
        };
        if earlier.0.sequence.checked_add(1) == Some(later.sequence)
            && later.previous != Some(earlier.1)
        {
            return Some(Self::Chain);
        }
        let (small, large) = if one.size < other.size {
            (one, other)
        } else {
            (other, one)
        };
        let (root, proof) = consistency.split_first()?;
        let proof: Vec<Hash> = proof.iter().map(|digest| *digest.as_bytes()).collect();
        let leads = verify_consistency(
            small.size,
            large.size,
            root.as_bytes(),
            large.root.as_bytes(),
            &proof,
        );
        (leads && small.size < large.size && *root != small.root).then_some(Self::Prefix)
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a proof of a fork shows, each part of it verified.
pub(crate) struct Proven {
    pub(crate) vault: VaultName,
    /// The name of headquarters, as the manifest says that certified the vault.
    pub(crate) hq_name: String,
    pub(crate) contradiction: Contradiction,
    pub(crate) bundles: [Verified<Bundle>; 2],
}

/// What a fork comes to, in a sentence.
pub(crate) fn words(
    name: &VaultName,
    contradiction: Contradiction,
    [first, second]: &[Verified<Bundle>; 2],
) -> String {
    let (one, other) = (first.content(), second.content());
    match contradiction {
        Contradiction::Sequence => format!(
            "{name} has signed two bundles {}: its log has two histories",
            one.sequence
        ),
        Contradiction::Checkpoint => format!(
            "{name} has signed two logs of {} records, in bundles {} and {}: its log has two histories",
            one.checkpoint.size, one.sequence, other.sequence
        ),
        Contradiction::Chain => format!(
            "{name} has signed a bundle {} and a bundle {} that follows another one: its log has two histories",
            one.sequence.min(other.sequence),
            one.sequence.max(other.sequence)
        ),
        Contradiction::Prefix => format!(
            "{name} has signed a log of {} records and one of {} that began in another way: its log has two histories",
            one.checkpoint.size.min(other.checkpoint.size),
            one.checkpoint.size.max(other.checkpoint.size)
        ),
    }
}

/// Judges a proof by a trust manifest that a person knows by its fingerprint.
///
/// # Errors
/// FORK-UNPROVEN if all of it is genuine and nothing in it contradicts itself; otherwise what is not genuine.
pub(crate) fn judge(bytes: &[u8], known: &Fingerprint) -> Result<Proven, Failure> {
    let proof = ForkProof::from_cbor(bytes).map_err(records::untrusted)?;
    let manifests = proof.manifests(known).map_err(records::untrusted)?;
    let vault = proof.sender().map_err(records::untrusted)?;
    let (key, hq_name) = identity(&proof.identity_certificate, &vault, &manifests)?;
    let bundles = proof.bundles(&vault, &key).map_err(records::untrusted)?;
    let contradiction = contradiction(&bundles, &proof.consistency).ok_or_else(|| {
        failure::refused(
            "FORK-UNPROVEN",
            format!("{vault} has signed both bundles, and they do not contradict each other"),
            "nothing is proven against the vault",
        )
    })?;
    Ok(Proven {
        vault,
        hq_name,
        contradiction,
        bundles,
    })
}

/// How two bundles of one vault contradict each other; none if they do not, as far as these show.
pub(crate) fn contradiction(
    [first, second]: &[Verified<Bundle>; 2],
    consistency: &[Fingerprint],
) -> Option<Contradiction> {
    Contradiction::of(
        (first.content(), first.fingerprint()),
        (second.content(), second.fingerprint()),
        consistency,
    )
}

/// The key by which a vault signs, as the root of one of these manifests certified it, and the name of headquarters.
/// The certificate has to be, to the byte, what headquarters makes for a vault's identity.
fn identity(
    der: &[u8],
    vault: &VaultName,
    manifests: &[Verified<TrustManifest>],
) -> Result<(PublicKey, String), Failure> {
    let strange = || {
        failure::refused(
            "FORK-IDENTITY",
            format!(
                "the certificate in this file does not say, by a root of these trust manifests, who {vault} is"
            ),
            "believe nothing of it; ask headquarters for the file again",
        )
    };
    let certificate = Certificate::from_der(der).map_err(|error| strange().cause(error))?;
    let key = PublicKey::from_public_key_der(certificate.spki_der())
        .map_err(|error| strange().cause(error))?;
    for manifest in manifests {
        let content = manifest.content();
        let Ok(root) = Issuer::from_certificate_der(&content.root_certificate) else {
            continue;
        };
        let made = vault_identity_tbs(
            &root,
            &content.hq_name,
            vault.site.as_str(),
            vault.vault.as_str(),
            &key,
            certificate.serial(),
            certificate.not_before_unix(),
        );
        if made.is_ok_and(|made| made == certificate.tbs_der())
            && certificate.verify_issued_by(&root).is_ok()
        {
            return Ok((key, content.hq_name.clone()));
        }
    }
    Err(strange())
}

/// The code of a bundle of which no two contradict each other.
pub(crate) fn none_known(vault: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        "FORK-UNKNOWN",
        format!("headquarters knows of no fork of {vault}"),
    )
    .hint("`hq audit fork` lists those that it knows")
}

/// A proof that HQ itself could not verify is not handed out.
pub(crate) fn unproven(error: Failure) -> Failure {
    failure::home_corrupt("what is kept of this fork proves nothing").cause(error.message)
}

/// A fingerprint that evidence names.
pub(crate) fn named(evidence: &serde_json::Value, field: &str) -> Option<Fingerprint> {
    evidence[field].as_str()?.parse().ok()
}
