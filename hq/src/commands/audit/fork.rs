//! `hq audit fork`: two histories of one log, as headquarters knows of them, and as a file that proves it to others.

mod known;

use std::io::Read as _;
use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_ledger::merkle::{Hash, consistency_proof};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::{Verified, claim};
use mintmark_protocol::fork::{FORK_PROOF_BYTES_MAX, ForkProof, Statement};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::trust::{TRUST_BYTES_MAX, TrustManifest};
use rusqlite::Connection;
use serde_json::{Value, json};

use self::known::{Known, Pair, Search, Shown};
use super::vault_named;
use crate::commands::{expect_absent, say};
use crate::forks::{self, Contradiction, Proven};
use crate::home::Home;
use crate::import::{kept, records};
use crate::keyring::Keyring;
use crate::registry::vaults::{self, Vault};
use crate::{failure, trust};

const SCHEMA: &str = "mintmark/fork/1";
/// How a map of seven or eight begins: no message of a vault or of headquarters does.
const FIRST_OCTETS: [u8; 2] = [0xa7, 0xa8];

/// A fork as it can be shown.
struct Fork<'a> {
    vault: &'a VaultName,
    contradiction: Contradiction,
    statements: [&'a Statement; 2],
    opening: Option<&'a Verified<Bundle>>,
    text: &'a str,
}

impl<'a> Fork<'a> {
    fn of(known: &'a Known, pair: &'a Pair) -> Self {
        let [(_, first), (_, second)] = &pair.statements;
        Self {
            vault: &known.vault.name,
            contradiction: pair.contradiction,
            statements: [first, second],
            opening: pair.opening.as_ref().map(|(_, bundle)| bundle),
            text: &known.finding.text,
        }
    }

    fn json(&self) -> Value {
        let bundles = self.statements.into_iter().filter_map(Statement::bundle);
        let declared = self
            .statements
            .into_iter()
            .filter_map(Statement::declaration);
        let declared = declared.map(|declared| {
            let content = declared.content();
            json!({
                "fingerprint": declared.fingerprint().to_string(),
                "parent": content.parent.to_string(),
                "lineage": content.lineage.to_string(),
                "log_size": content.size,
                "log_root": content.root.to_string(),
                "declared_at": rfc3339(content.declared_at),
            })
        });
        json!({
            "site": self.vault.site.as_str(),
            "vault": self.vault.vault.as_str(),
            "lineage": self.statements[0].lineage().to_string(),
            "contradiction": self.contradiction.as_str(),
            "bundles": bundles.map(bundle_json).collect::<Vec<_>>(),
            "declarations": declared.collect::<Vec<_>>(),
            "opening": self.opening.map(bundle_json),
            "text": self.text,
        })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            self.text.to_owned(),
            format!("  lineage        {}", self.statements[0].lineage()),
            format!("  contradiction  {}", self.contradiction),
        ];
        for statement in self.statements {
            let what = match statement {
                Statement::Bundle(bundle) => format!("bundle {:<7}", bundle.content().sequence),
                Statement::Declaration(_) => "declaration   ".to_owned(),
            };
            lines.push(format!(
                "  {what} {}, of a log of {} records with root {}",
                statement.fingerprint(),
                statement.size(),
                statement.root()
            ));
        }
        if let Some(opening) = self.opening {
            let content = opening.content();
            lines.push(format!(
                "  went on in     {}, from record {} on: bundle {}, {}",
                content.lineage,
                content.first,
                content.sequence,
                opening.fingerprint()
            ));
        }
        lines
    }
}

fn bundle_json(bundle: &Verified<Bundle>) -> Value {
    let content = bundle.content();
    json!({
        "sequence": content.sequence,
        "fingerprint": bundle.fingerprint().to_string(),
        "log_size": content.checkpoint.size,
        "log_root": content.checkpoint.root.to_string(),
        "sealed_at": rfc3339(content.sealed_at),
    })
}

impl Known {
    fn json(&self) -> Value {
        match &self.shown {
            Shown::Both(pair) => Fork::of(self, pair).json(),
            Shown::OneSided { why, evidence } => json!({
                "site": self.vault.name.site.as_str(),
                "vault": self.vault.name.vault.as_str(),
                "lineage": self.finding.lineage.to_string(),
                "contradiction": null,
                "bundles": [],
                "declarations": [],
                "code": "FORK-ONE-SIDED",
                "why": why,
                "evidence": evidence.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
                "text": self.finding.text,
            }),
        }
    }

    fn lines(&self) -> Vec<String> {
        match &self.shown {
            Shown::Both(pair) => Fork::of(self, pair).lines(),
            Shown::OneSided { why, evidence } => {
                let mut lines = vec![self.finding.text.clone(), format!("  no proof yet   {why}")];
                let kept = evidence
                    .iter()
                    .map(|path| format!("  kept           {}", path.display()));
                lines.extend(kept);
                lines
            }
        }
    }
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
        let search = Search {
            sql,
            record: &home.record(),
            vault: &vault,
        };
        known.extend(search.forks()?);
    }
    known.retain(|fork| bundle.is_none_or(|bundle| fork.is_of(&bundle)));
    let Some(file) = export else {
        let json = json!({
            "schema": SCHEMA,
            "forks": known.iter().map(Known::json).collect::<Vec<_>>(),
        });
        let mut shown = Vec::new();
        for fork in &known {
            shown.extend(fork.lines());
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
                "name the vault with --site, and one of its statements by its fingerprint with --bundle; `hq audit fork` \
                 lists them",
            ));
        }
    };
    let pair = match &fork.shown {
        Shown::Both(pair) => pair,
        Shown::OneSided { why, evidence } => {
            return Err(forks::one_sided(&fork.finding.text, why, evidence));
        }
    };
    expect_absent(file)?;
    let manifests = trust::chain(&home)?;
    let bytes = proof(&home, sql, (&fork.vault, pair), &manifests, console)?;
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
    let text = in_words(&proven);
    let mut shown = shown_as(&proven, &text).lines();
    shown.push(format!("proof written to {}", file.display()));
    shown.push(format!(
        "to be verified with: hq audit verify {} --fingerprint {newest}",
        file.display()
    ));
    say(console, &json, shown)
}

fn in_words(proven: &Proven) -> String {
    let opening = proven.opening.as_ref();
    forks::words(
        &proven.vault,
        proven.contradiction,
        &proven.statements,
        opening,
    )
}

fn shown_as<'a>(proven: &'a Proven, text: &'a str) -> Fork<'a> {
    let [first, second] = &proven.statements;
    Fork {
        vault: &proven.vault,
        contradiction: proven.contradiction,
        statements: [first, second],
        opening: proven.opening.as_ref(),
        text,
    }
}

fn proof(
    home: &Home,
    sql: &Connection,
    (vault, pair): (&Vault, &Pair),
    manifests: &[Verified<TrustManifest>],
    console: &Console,
) -> Result<Vec<u8>, Failure> {
    let record = home.record();
    let trust: Result<Vec<_>, Failure> = manifests
        .iter()
        .map(|manifest| record.read(&record.trust(manifest.content().version)))
        .collect();
    let certificates = vault.certificates.as_ref();
    let certificates = certificates
        .ok_or_else(|| failure::home_corrupt(format!("{} has no certificate", vault.name)))?;
    let [(one, first), (other, second)] = &pair.statements;
    let sizes = [first, second].map(Statement::size);
    let consistency = match pair.contradiction {
        Contradiction::Prefix => consistency(home, sql, (vault, sizes), console)?,
        _ => Vec::new(),
    };
    let proof = ForkProof {
        trust: trust?,
        identity_certificate: certificates.identity.clone(),
        statements: [one.clone(), other.clone()],
        opening: pair.opening.as_ref().map(|(bytes, _)| bytes.clone()),
        consistency,
    };
    Ok(proof.to_cbor())
}

/// The root of the log that HQ holds at the smaller size, and the proof that the larger one began so.
fn consistency(
    home: &Home,
    sql: &Connection,
    (vault, [first, second]): (&Vault, [u64; 2]),
    console: &Console,
) -> Result<Vec<Fingerprint>, Failure> {
    let (small, large) = (first.min(second), first.max(second));
    let ring = Keyring::new(&home.config, console)?;
    let audit = ring.audit()?;
    let opener = audit.opener();
    let record = home.record();
    let mut leaves: Vec<Hash> = Vec::new();
    kept::Leaves::new(sql, &record, vault, opener).each(large, |leaf| leaves.push(leaf))?;
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
    read.is_ok() && FIRST_OCTETS.contains(&first[0])
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
        None => {
            let read = Home::read(home).map_err(|failure| match home {
                Some(_) => failure,
                None => failure.hint(
                    "give --fingerprint HEX, of a trust manifest in the proof, which needs no home; or --home DIR, or set HQ_HOME",
                ),
            });
            known_at_home(&read?, &bytes)?
        }
    };
    let proven = forks::judge(&bytes, &known)?;
    let words = in_words(&proven);
    let fork = shown_as(&proven, &words);
    let mut json = fork.json();
    json["schema"] = SCHEMA.into();
    json["file"] = file.display().to_string().into();
    json["verdict"] = "proven".into();
    json["hq_name"] = proven.hq_name.as_str().into();
    json["trust_fingerprint"] = known.to_string().into();
    let mut shown = fork.lines();
    shown.push(format!(
        "proven: each statement is signed by the key that the root of {} certified as that of {}",
        proven.hq_name, proven.vault
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
