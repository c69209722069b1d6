//! Forks: two statements that one vault signed of its log and that cannot both be true; and the file that proves it to
//! whoever has nothing else.

use std::fmt;
use std::path::PathBuf;

use mintmark_console::{Exit, Failure};
use mintmark_ledger::merkle::{Hash, verify_consistency};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::fork::{ForkProof, Statement};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;

use crate::failure;
use crate::import::records;

/// The finding of it.
pub(crate) const FORK: &str = "FORK";
/// The finding of a bundle that follows another one than HQ holds. It is a fork where the bundle before is another.
pub(crate) const BUNDLE_CHAIN: &str = "BUNDLE-CHAIN";

/// How two statements contradict each other.
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
    /// The vault declared that this history ended and went on in another one, and this history goes on all the same.
    Restore,
}

impl Contradiction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Checkpoint => "checkpoint",
            Self::Chain => "chain",
            Self::Prefix => "prefix",
            Self::Restore => "restore",
        }
    }

    /// What of the two is looked at: none if it does not show that they contradict each other.
    fn of(
        [first, second]: &[Statement; 2],
        opening: Option<&Bundle>,
        consistency: &[Fingerprint],
    ) -> Option<Self> {
        if first.lineage() != second.lineage() {
            return None;
        }
        if let (Statement::Bundle(one), Statement::Bundle(other)) = (first, second)
            && one.content().sequence == other.content().sequence
        {
            return (one.fingerprint() != other.fingerprint()).then_some(Self::Sequence);
        }
        if first.size() == second.size() && first.root() != second.root() {
            return Some(Self::Checkpoint);
        }
        if let (Statement::Bundle(one), Statement::Bundle(other)) = (first, second)
            && is_other_chain(one, other)
        {
            return Some(Self::Chain);
        }
        if let Some(opening) = opening
            && (goes_on(first, second, opening) || goes_on(second, first, opening))
        {
            return Some(Self::Restore);
        }
        began_otherwise(first, second, consistency).then_some(Self::Prefix)
    }
}

/// The later of two bundles, by one, names another one before it.
fn is_other_chain(one: &Verified<Bundle>, other: &Verified<Bundle>) -> bool {
    let (earlier, later) = if one.content().sequence < other.content().sequence {
        (one, other)
    } else {
        (other, one)
    };
    earlier.content().sequence.checked_add(1) == Some(later.content().sequence)
        && later.content().previous != Some(earlier.fingerprint())
}

/// How many records a history had when it ended, by the declaration that ended it and the first bundle of what came then:
/// what headquarters held, or what the vault had beyond that.
fn ended_at(declaration: &RestoreDeclaration, opening: &Bundle) -> Option<u64> {
    let follows = opening.lineage == declaration.lineage
        && opening.sequence == 1
        && opening.previous.is_none();
    follows.then(|| declaration.size.max(opening.first))
}

/// One statement says that a history ended, and the other one is of more of it.
fn goes_on(ended: &Statement, more: &Statement, opening: &Bundle) -> bool {
    let ended = ended.declaration();
    let end = ended.and_then(|declared| ended_at(declared.content(), opening));
    end.is_some_and(|end| more.size() > end)
}

/// The larger log began as another one than the smaller is: by the root and the proof of it in `consistency`.
fn began_otherwise(first: &Statement, second: &Statement, consistency: &[Fingerprint]) -> bool {
    let (small, large) = if first.size() < second.size() {
        (first, second)
    } else {
        (second, first)
    };
    let Some((root, proof)) = consistency.split_first() else {
        return false;
    };
    let proof: Vec<Hash> = proof.iter().map(|digest| *digest.as_bytes()).collect();
    let leads = verify_consistency(
        small.size(),
        large.size(),
        root.as_bytes(),
        large.root().as_bytes(),
        &proof,
    );
    leads && small.size() < large.size() && *root != small.root()
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
    pub(crate) statements: [Statement; 2],
    /// The first bundle of the history in which the log went on after a declared restore, where that matters.
    pub(crate) opening: Option<Verified<Bundle>>,
}

/// Where a vault said something of its log.
fn place(statement: &Statement) -> String {
    match statement {
        Statement::Bundle(bundle) => format!("bundle {}", bundle.content().sequence),
        Statement::Declaration(_) => "its declaration of a restore".to_owned(),
    }
}

/// What a fork comes to, in a sentence.
pub(crate) fn words(
    name: &VaultName,
    contradiction: Contradiction,
    [first, second]: &[Statement; 2],
    opening: Option<&Verified<Bundle>>,
) -> String {
    let sequence = |statement: &Statement| {
        let bundle = statement.bundle();
        bundle.map_or(0, |bundle| bundle.content().sequence)
    };
    let (small, large) = (
        first.size().min(second.size()),
        first.size().max(second.size()),
    );
    match contradiction {
        Contradiction::Sequence => format!(
            "{name} has signed two bundles {}: its log has two histories",
            sequence(first)
        ),
        Contradiction::Checkpoint => format!(
            "{name} has signed two logs of {small} records, in {} and {}: its log has two histories",
            place(first),
            place(second)
        ),
        Contradiction::Chain => format!(
            "{name} has signed a bundle {} and a bundle {} that follows another one: its log has two histories",
            sequence(first).min(sequence(second)),
            sequence(first).max(sequence(second))
        ),
        Contradiction::Prefix => format!(
            "{name} has signed a log of {small} records and one of {large} that began in another way: its log has two \
             histories"
        ),
        Contradiction::Restore => {
            let declared = [first, second].map(Statement::declaration).into_iter();
            let end = declared
                .flatten()
                .zip(std::iter::repeat(opening))
                .find_map(|(declared, opening)| ended_at(declared.content(), opening?.content()));
            format!(
                "{name} has declared that its log ended after {} records and went on in another lineage, has reported from \
                 that one, and has signed a log of {large} records of the one that ended: its log has two histories",
                end.unwrap_or(small)
            )
        }
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
    let statements = proof.statements(&vault, &key).map_err(records::untrusted)?;
    let opening = proof.opening(&vault, &key).map_err(records::untrusted)?;
    let contradiction = contradiction(&statements, opening.as_ref(), &proof.consistency);
    let contradiction = contradiction.ok_or_else(|| {
        failure::refused(
            "FORK-UNPROVEN",
            format!("{vault} has signed both statements, and they do not contradict each other"),
            "nothing is proven against the vault",
        )
    })?;
    Ok(Proven {
        vault,
        hq_name,
        contradiction,
        statements,
        opening,
    })
}

/// How two statements of one vault contradict each other; none if they do not, as far as these show.
pub(crate) fn contradiction(
    statements: &[Statement; 2],
    opening: Option<&Verified<Bundle>>,
    consistency: &[Fingerprint],
) -> Option<Contradiction> {
    Contradiction::of(statements, opening.map(Verified::content), consistency)
}

fn identity(
    der: &[u8],
    vault: &VaultName,
    manifests: &[Verified<TrustManifest>],
) -> Result<(PublicKey, String), Failure> {
    crate::identity::certified(der, vault, manifests).map_err(|error| {
        let strange = failure::refused(
            "FORK-IDENTITY",
            format!(
                "the certificate in this file does not say, by a root of these trust manifests, who {vault} is"
            ),
            "believe nothing of it; ask headquarters for the file again",
        );
        match error {
            Some(error) => strange.cause(error),
            None => strange,
        }
    })
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

/// A fork of which headquarters has no two statements that show it to others.
pub(crate) fn one_sided(text: &str, why: &str, evidence: &[PathBuf]) -> Failure {
    let files: Vec<_> = evidence
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    failure::refused(
        "FORK-ONE-SIDED",
        format!("there is no proof of this fork that others could verify: {why}"),
        format!("what there is: {}", files.join(", ")),
    )
    .cause(text)
}

/// A proof that HQ itself could not verify is not handed out.
pub(crate) fn unproven(error: Failure) -> Failure {
    failure::home_corrupt("what is kept of this fork proves nothing").cause(error.message)
}

/// A fingerprint that evidence names.
pub(crate) fn named(evidence: &serde_json::Value, field: &str) -> Option<Fingerprint> {
    evidence[field].as_str()?.parse().ok()
}
