//! `hq audit fork`: two histories of one log, as headquarters knows of them, and as a file that proves it to others.

use std::io::Read as _;
use std::path::Path;

use mintmark_console::{Console, Exit, Failure, files};
use mintmark_ledger::merkle::{Hash, consistency_proof};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::{Verified, claim};
use mintmark_protocol::fork::{FORK_PROOF_BYTES_MAX, ForkProof};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::trust::{TRUST_BYTES_MAX, TrustManifest};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::vault_named;
use crate::commands::{expect_absent, say};
use crate::findings::Finding;
use crate::forks::{self, BUNDLE_CHAIN, Contradiction, FORK, Proven};
use crate::home::Home;
use crate::import::{kept, records};
use crate::keyring::{self, AUDIT, Keyring};
use crate::record::Record;
use crate::registry::vaults::{self, Vault};
use crate::registry::{bundles, findings};
use crate::{failure, trust};

const SCHEMA: &str = "mintmark/fork/1";
/// How a map of seven begins: no message of a vault or of headquarters does.
const FIRST_OCTET: u8 = 0xa7;

/// A fork that HQ knows of, with both bundles as they were received.
struct Known {
    finding: Finding,
    vault: Vault,
    contradiction: Contradiction,
    bundles: [Verified<Bundle>; 2],
    bytes: [Vec<u8>; 2],
}

impl Known {
    fn json(&self) -> Value {
        fork_json(&self.bundles, self.contradiction, &self.finding.text)
    }

    fn is_of(&self, fingerprint: &Fingerprint) -> bool {
        let mut bundles = self.bundles.iter();
        bundles.any(|bundle| bundle.fingerprint() == *fingerprint)
    }
}

fn fork_json(bundles: &[Verified<Bundle>; 2], contradiction: Contradiction, text: &str) -> Value {
    let of = bundles[0].content();
    let each = bundles.iter().map(|bundle| {
        let content = bundle.content();
        json!({
            "sequence": content.sequence,
            "fingerprint": bundle.fingerprint().to_string(),
            "log_size": content.checkpoint.size,
            "log_root": content.checkpoint.root.to_string(),
            "sealed_at": mintmark_console::time::rfc3339(content.sealed_at),
        })
    });
    json!({
        "site": of.vault.site.as_str(),
        "vault": of.vault.vault.as_str(),
        "lineage": of.lineage.to_string(),
        "contradiction": contradiction.as_str(),
        "bundles": each.collect::<Vec<_>>(),
        "text": text,
    })
}

fn lines(bundles: &[Verified<Bundle>; 2], contradiction: Contradiction, text: &str) -> Vec<String> {
    let mut lines = vec![
        text.to_owned(),
        format!("  lineage        {}", bundles[0].content().lineage),
        format!("  contradiction  {contradiction}"),
    ];
    for bundle in bundles {
        let content = bundle.content();
        lines.push(format!(
            "  bundle {:<7} {}, of a log of {} records with root {}",
            content.sequence,
            bundle.fingerprint(),
            content.checkpoint.size,
            content.checkpoint.root
        ));
    }
    lines
}

pub(super) fn run(
    home: Option<&Path>,
    (named, bundle): (Option<&str>, Option<Fingerprint>),
    export: Option<&Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let sql = &registry.sql;
    let vaults = match named {
        Some(named) => vec![vault_named(sql, named)?],
        None => vaults::all(sql)?,
    };
    let mut known = Vec::new();
    for vault in vaults {
        known.extend(of_vault(sql, &home.record(), &vault)?);
    }
    known.retain(|fork| bundle.is_none_or(|bundle| fork.is_of(&bundle)));
    let Some(file) = export else {
        let json = json!({
            "schema": SCHEMA,
            "forks": known.iter().map(Known::json).collect::<Vec<_>>(),
        });
        let mut shown = Vec::new();
        for fork in &known {
            shown.extend(lines(&fork.bundles, fork.contradiction, &fork.finding.text));
        }
        if known.is_empty() {
            console.note("headquarters knows of no fork");
        }
        return say(console, &json, shown);
    };
    let (count, fork) = (known.len(), known.pop());
    let fork = match fork {
        Some(fork) if count == 1 => fork,
        None => return Err(forks::none_known(named.unwrap_or("any vault"))),
        Some(_) => {
            return Err(failure::usage(
                "FORK-AMBIGUOUS",
                format!("there are {count} forks to choose from"),
                "name the vault with --site, and one of its two bundles by its fingerprint with --bundle; `hq audit fork` \
                 lists them",
            ));
        }
    };
    expect_absent(file)?;
    let manifests = trust::chain(&home)?;
    let bytes = proof(&home, sql, &fork, &manifests, console)?;
    let newest = manifests
        .last()
        .map(Verified::fingerprint)
        .ok_or_else(|| failure::home_corrupt("no trust manifest is published"))?;
    let proven = forks::judge(&bytes, &newest).map_err(forks::unproven)?;
    files::write_new(file, &bytes)?;
    let mut json = fork.json();
    json["schema"] = SCHEMA.into();
    json["file"] = file.display().to_string().into();
    json["trust_fingerprint"] = newest.to_string().into();
    let mut shown = lines(
        &proven.bundles,
        proven.contradiction,
        &forks::words(&proven.vault, proven.contradiction, &proven.bundles),
    );
    shown.push(format!("proof written to {}", file.display()));
    shown.push(format!(
        "to be verified with: hq audit verify {} --fingerprint {newest}",
        file.display()
    ));
    say(console, &json, shown)
}

/// The forks of one vault: what was found, and can be shown by two bundles that are kept.
fn of_vault(sql: &Connection, record: &Record, vault: &Vault) -> Result<Vec<Known>, Failure> {
    let mut known = Vec::new();
    for finding in findings::all(sql, Some(&vault.name.site))? {
        if finding.vault != vault.name || ![FORK, BUNDLE_CHAIN].contains(&finding.code.as_str()) {
            continue;
        }
        let evidence = &finding.evidence;
        let first = forks::named(evidence, "held").or_else(|| forks::named(evidence, "refused"));
        let (Some(first), Some(second)) = (first, forks::named(evidence, "other")) else {
            continue;
        };
        let (one, first) = read(sql, record, vault, &first)?;
        let (other, second) = read(sql, record, vault, &second)?;
        let bundles = [first, second];
        let prefix = forks::named(evidence, "expected_log_root").map(|_| Contradiction::Prefix);
        let Some(contradiction) = forks::contradiction(&bundles, &[]).or(prefix) else {
            continue;
        };
        known.push(Known {
            finding,
            vault: vault.clone(),
            contradiction,
            bundles,
            bytes: [one, other],
        });
    }
    Ok(known)
}

/// A bundle as it was received, be it held or refused.
fn read(
    sql: &Connection,
    record: &Record,
    vault: &Vault,
    fingerprint: &Fingerprint,
) -> Result<(Vec<u8>, Verified<Bundle>), Failure> {
    let path = match bundles::by_fingerprint(sql, fingerprint)? {
        Some(held) => record.bundle(&held.vault, &held.lineage, held.sequence),
        None => record.evidence(&vault.name, &format!("{fingerprint}.cose")),
    };
    let corrupt = || failure::home_corrupt(format!("{} is not what was kept", path.display()));
    let bytes = record.read(&path)?;
    let bundle = Bundle::open(&bytes, &vault.name, &vault.signing_key)
        .map_err(|error| corrupt().cause(error))?;
    if bundle.fingerprint() != *fingerprint {
        return Err(corrupt());
    }
    Ok((bytes, bundle))
}

fn proof(
    home: &Home,
    sql: &Connection,
    fork: &Known,
    manifests: &[Verified<TrustManifest>],
    console: &Console,
) -> Result<Vec<u8>, Failure> {
    let record = home.record();
    let trust: Result<Vec<_>, Failure> = manifests
        .iter()
        .map(|manifest| record.read(&record.trust(manifest.content().version)))
        .collect();
    let certificates =
        fork.vault.certificates.as_ref().ok_or_else(|| {
            failure::home_corrupt(format!("{} has no certificate", fork.vault.name))
        })?;
    let consistency = match fork.contradiction {
        Contradiction::Prefix => consistency(home, sql, fork, console)?,
        _ => Vec::new(),
    };
    let proof = ForkProof {
        trust: trust?,
        identity_certificate: certificates.identity.clone(),
        bundles: fork.bytes.clone(),
        consistency,
    };
    Ok(proof.to_cbor())
}

/// The root of the log that HQ holds at the smaller size, and the proof that the larger one began so.
fn consistency(
    home: &Home,
    sql: &Connection,
    fork: &Known,
    console: &Console,
) -> Result<Vec<Fingerprint>, Failure> {
    let of = |bundle: &Verified<Bundle>| bundle.content().checkpoint.size;
    let [first, second] = &fork.bundles;
    let (small, large) = (of(first).min(of(second)), of(first).max(of(second)));
    let ring = Keyring::new(&home.config, console)?;
    let audit = ring.agreement(AUDIT)?;
    let agree = keyring::agree(&*audit);
    let opener = Opener {
        public_key: audit.public_key(),
        agree: &agree,
        former: Some(&ring),
    };
    let record = home.record();
    let mut leaves: Vec<Hash> = Vec::new();
    kept::Leaves::new(sql, &record, &fork.vault, opener).each(large, |leaf| leaves.push(leaf))?;
    let missing = || failure::home_corrupt("records of a bundle that is held are missing");
    let mut leaf = |at: u64| {
        let at = usize::try_from(at).map_err(|_| missing())?;
        leaves.get(at).copied().ok_or_else(missing)
    };
    let path = consistency_proof(&mut leaf, small, large)?.ok_or_else(missing)?;
    let small = usize::try_from(small).map_err(|_| missing())?;
    let root = mintmark_ledger::merkle::root_of(leaves.iter().take(small).copied());
    let digests = [root].into_iter().chain(path);
    Ok(digests.map(Fingerprint::new).collect())
}

/// Whether a file is to be read as a proof, by its first octet.
pub(super) fn is_proof(file: &Path) -> bool {
    let mut first = [0];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && first[0] == FIRST_OCTET
}

/// Judges a proof with nothing but a fingerprint, or by the trust manifests of a home.
pub(super) fn verify(
    home: Option<&Path>,
    file: &Path,
    (manifest, fingerprint): (Option<&Path>, Option<Fingerprint>),
    console: &Console,
) -> Result<Exit, Failure> {
    let bytes = files::read_limited(file, FORK_PROOF_BYTES_MAX as u64)?;
    let known = match fingerprint {
        Some(fingerprint) => {
            if let Some(path) = manifest {
                expect_manifest(path, &fingerprint)?;
            }
            fingerprint
        }
        None => known_at_home(&Home::read(home)?, &bytes)?,
    };
    let Proven {
        vault,
        hq_name,
        contradiction,
        bundles,
    } = &forks::judge(&bytes, &known)?;
    let words = forks::words(vault, *contradiction, bundles);
    let mut json = fork_json(bundles, *contradiction, &words);
    json["schema"] = SCHEMA.into();
    json["file"] = file.display().to_string().into();
    json["verdict"] = "proven".into();
    json["hq_name"] = hq_name.as_str().into();
    json["trust_fingerprint"] = known.to_string().into();
    let mut shown = lines(bundles, *contradiction, &words);
    shown.push(format!(
        "proven: both bundles are signed by the key that the root of {hq_name} certified as that of {vault}"
    ));
    say(console, &json, shown)
}

/// The manifest that a person gives is the one whose fingerprint they compared.
fn expect_manifest(path: &Path, fingerprint: &Fingerprint) -> Result<(), Failure> {
    let bytes = files::read_limited(path, TRUST_BYTES_MAX as u64)?;
    let found = claim(&bytes, TRUST_BYTES_MAX).map_err(records::untrusted)?;
    if found.fingerprint == *fingerprint {
        return Ok(());
    }
    let error = mintmark_protocol::Error::FingerprintMismatch {
        what: "trust manifest",
        expected: fingerprint.to_string(),
        found: found.fingerprint.to_string(),
    };
    Err(records::untrusted(error))
}

/// The newest manifest of a home that is in the proof.
fn known_at_home(home: &Home, bytes: &[u8]) -> Result<Fingerprint, Failure> {
    let proof = ForkProof::from_cbor(bytes).map_err(records::untrusted)?;
    let mut held = Vec::new();
    for bytes in &proof.trust {
        let claim = claim(bytes, TRUST_BYTES_MAX).map_err(records::untrusted)?;
        held.push(claim.fingerprint);
    }
    let chain = trust::chain(home)?;
    let ours = chain.iter().rev().map(Verified::fingerprint);
    let mut known = ours.filter(|fingerprint| held.contains(fingerprint));
    known.next().ok_or_else(|| {
        failure::refused(
            "FORK-IDENTITY",
            "no trust manifest of this home is in the proof",
            "believe nothing of it, or name the headquarters that it is of: --fingerprint HEX",
        )
    })
}
