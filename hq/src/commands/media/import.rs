//! `hq media import`: what vaults and officers sent; in an officer's or auditor's home, what HQ published.

use std::path::Path;

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::bundle::{BUNDLE_BYTES_MAX, Bundle};
use mintmark_protocol::enrolment::{EnrolmentRequest, REQUEST_BYTES_MAX};
use mintmark_protocol::envelope::{Kind, Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultName};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::restore::RESTORE_BYTES_MAX;
use mintmark_protocol::segment::SEGMENT_FILE_BYTES_MAX;
use mintmark_protocol::trust::{Role as TrustRole, TRUST_BYTES_MAX, TrustManifest};

use super::stick::{Found, Stick};
use super::{Item, manifests, say_items};
use crate::approvals::collect;
use crate::config::Role;
use crate::home::Home;
use crate::import::{Importer, RefusedThere, Taken, records};
use crate::keyring::Keyring;
use crate::registry::{Registry, device_cas, vaults};
use crate::{failure, trust, vault_restores};

pub(super) fn run(
    home: Option<&Path>,
    dir: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change(home)?;
    let stick = Stick::open(dir)?;
    let found = stick.files(console)?;
    let items = match home.config.role {
        Role::Hq | Role::Auditor => at_hq(&home, &stick, found, dry_run, console)?,
        Role::Member => at_member(&home, &stick, found, dry_run)?,
    };
    if dry_run {
        console.note("nothing was changed (--dry-run)");
    }
    for item in &items {
        if let Some(findings) = item.findings.filter(|findings| *findings > 0) {
            let text = format!(
                "{}: {findings} findings; `hq reconcile` shows them",
                item.id
            );
            console.warn_coded("FINDINGS", text);
        }
    }
    for (item, refused) in items.iter().flat_map(|item| {
        item.refused_there
            .iter()
            .map(move |refused| (item, refused))
    }) {
        let RefusedThere {
            kind,
            id,
            version,
            code,
            approve_again,
            draft_again,
        } = refused;
        let text = format!(
            "{}: the vault refused the {kind} `{id}` version {version}, by the rule {code}; it is not in force",
            item.id
        );
        if let Some(again) = draft_again {
            let text = format!(
                "{text}. Too few officers of today can read its draft: draft it again: {again}"
            );
            console.warn_coded("APPROVE-AGAIN", text);
        } else if *approve_again {
            let text = format!(
                "{text}. Its draft is open again: have it approved by officers of today, then send it as before \
                 (`hq approval list` shows it)"
            );
            console.warn_coded("APPROVE-AGAIN", text);
        } else {
            console.warn_coded("REFUSED-BY-VAULT", text);
        }
    }
    say_items(&items, console)
}

/// What could not be judged is held until it can be: a stick that cannot be read, a manifest that comes too early.
pub(super) fn refusal(failure: &Failure) -> &'static str {
    match failure.exit {
        Exit::Environment => "held",
        _ => "refused",
    }
}

/// The manifest of trust that a home's is followed by, and so on.
fn at_member(
    home: &Home,
    stick: &Stick,
    found: Vec<Found>,
    dry_run: bool,
) -> Result<Vec<Item>, Failure> {
    let mut chain = trust::chain(home)?;
    let mut items = Vec::new();
    for Found { name, path } in found {
        let MediaName::Trust { version } = name else {
            continue;
        };
        let outcome = stick
            .read(&path, TRUST_BYTES_MAX)
            .and_then(|bytes| follow(home, stick, &mut chain, (version, &bytes), dry_run));
        let (outcome, failure) = outcome.map_or_else(
            |failure| (refusal(&failure), Some(failure)),
            |outcome| (outcome, None),
        );
        items.push(Item {
            file: path,
            kind: Kind::TrustManifest.to_string(),
            id: format!("trust-{version:06}"),
            outcome,
            failure,
            findings: None,
            refused_there: Vec::new(),
            note: None,
        });
    }
    Ok(items)
}

/// Refuses another manifest that our own officers did not sign, by those of its version or by those before: anybody can
/// make one, so it proves nothing.
pub(super) fn expect_officers(
    ours: &Verified<TrustManifest>,
    before: Option<&Verified<TrustManifest>>,
    bytes: &[u8],
) -> Result<(), Failure> {
    let (ours, role) = (ours.content(), TrustRole::Trust);
    let proposal = Proposal::read(bytes, TRUST_BYTES_MAX).map_err(records::untrusted)?;
    TrustManifest::proposed(&proposal).map_err(records::untrusted)?;
    let signed = proposal.known_approvers(ours, role);
    if signed.is_ok_and(|officers| officers.len() as u64 >= ours.threshold(role))
        || before.is_some_and(|before| before.successor(bytes).is_ok())
    {
        return Ok(());
    }
    let approved = proposal.approved(ours, role).map_err(records::untrusted);
    approved.map(drop)
}

/// Follows the chain of manifests by one step. Nothing but the signatures of the officers before decides.
fn follow(
    home: &Home,
    stick: &Stick,
    chain: &mut Vec<Verified<TrustManifest>>,
    (version, bytes): (u64, &[u8]),
    dry_run: bool,
) -> Result<&'static str, Failure> {
    let newest = chain.last();
    let newest = newest.ok_or_else(|| failure::home_corrupt("no manifest is pinned"))?;
    let known = newest.content().version;
    if version <= known {
        let proposal = Proposal::read(bytes, TRUST_BYTES_MAX).map_err(records::untrusted)?;
        // One from before the pinned one was never anything to this home.
        let ours = chain
            .iter()
            .find(|manifest| manifest.content().version == version);
        let before = chain
            .iter()
            .find(|manifest| manifest.content().version.checked_add(1) == Some(version));
        if let Some(ours) = ours
            && ours.fingerprint() != proposal.fingerprint()
        {
            expect_officers(ours, before, bytes)?;
            let message = format!("there are two trust manifests of version {version}");
            return Err(
                Failure::new(Exit::Integrity, "TRUST-FORK", message).hint(
                    "believe neither; compare the fingerprint of the one you hold (`hq trust show`) with headquarters",
                ),
            );
        }
        // It may bear the signatures of other officers than the one that is held; each has to verify.
        match (ours, before) {
            (Some(_), Some(before)) => before.successor(bytes).map(drop),
            // Its signatures stand by the one before it, which was beside what was pinned, or is on the stick.
            (_, None) | (None, _) => {
                // What cannot be read speaks for nothing; its own item says why.
                let name = TrustManifest::file_before(bytes);
                let before = name.and_then(|name| stick.find(&name, TRUST_BYTES_MAX).ok()?);
                let kept = match ours {
                    Some(_) => trust::kept_before(&home.record(), version)?,
                    None => None,
                };
                TrustManifest::expect_undamaged(&proposal, kept.or(before).as_deref())
            }
        }
        .map_err(records::untrusted)?;
        return Ok("already");
    }
    if version > known.saturating_add(1) {
        let message = format!(
            "trust manifest {version} comes after version {}, which is not here",
            known.saturating_add(1)
        );
        return Err(Failure::new(Exit::Environment, "TRUST-MISSING", message)
            .hint("import a stick that has every version; `hq media export` writes them all"));
    }
    let next = newest.successor(bytes).map_err(records::untrusted)?;
    if !dry_run {
        let record = home.record();
        record.replace(&record.trust(version), bytes)?;
        record.set_newest_trust(version)?;
    }
    chain.push(next);
    Ok("imported")
}

fn at_hq(
    home: &Home,
    stick: &Stick,
    found: Vec<Found>,
    dry_run: bool,
    console: &Console,
) -> Result<Vec<Item>, Failure> {
    let mut registry = home.registry()?;
    if dry_run {
        registry.rehearse()?;
    }
    let ring = Keyring::new(&home.config, console)?;
    let mut items = manifests::take_back(home, &mut registry, stick, &found, dry_run, console)?;
    let importer = Importer::new(home, &ring, console, dry_run)?;
    let (mut declared, mut of_new_lineages) = (Vec::new(), Vec::new());
    for Found { name, path } in found {
        let item = match name {
            // What else the vault sent comes first: what HQ holds is what it sends back.
            MediaName::Restore { vault } => {
                declared.push((vault, path));
                continue;
            }
            MediaName::Approval { id, .. } => {
                approval(home, &mut registry, stick, path, id.to_string(), dry_run)?
            }
            MediaName::Enrolment { vault } => enrolment(&registry, stick, path, &vault, console)?,
            MediaName::Bundle {
                vault,
                lineage,
                sequence,
            } => {
                // A declaration beside it may say where its history comes from.
                if !vault_restores::knows_lineage(&registry.sql, &vault, &lineage)? {
                    of_new_lineages.push((vault, lineage, sequence, path));
                    continue;
                }
                let named = (&vault, &lineage, sequence);
                bundle(&importer, &mut registry, stick, path, named)?
            }
            // Segments are read with their bundles; the rest went out from here.
            _ => continue,
        };
        items.push(item);
    }
    for (vault, path) in declared {
        items.push(declaration(
            home,
            &mut registry,
            &ring,
            stick,
            (path, &vault),
            dry_run,
        )?);
    }
    for (vault, lineage, sequence, path) in of_new_lineages {
        let named = (&vault, &lineage, sequence);
        items.push(bundle(&importer, &mut registry, stick, path, named)?);
    }
    if dry_run {
        registry.forget()?;
    }
    Ok(items)
}

fn approval(
    home: &Home,
    registry: &mut Registry,
    stick: &Stick,
    path: String,
    id: String,
    dry_run: bool,
) -> Result<Item, Failure> {
    let manifest = trust::newest(home)?;
    let taken = stick.read(&path, PROPOSAL_BYTES_MAX).and_then(|bytes| {
        collect::take(registry, &home.record(), manifest.as_ref(), &bytes, dry_run)
    });
    let mut note = None;
    let (outcome, failure) = match taken {
        Ok(collected) if collected.new => ("imported", None),
        Ok(collected) => {
            note = collected.note();
            ("already", None)
        }
        // Not the stick's fault: nothing more can be believed of this home.
        Err(failure) if failure.exit == Exit::Integrity => return Err(failure),
        Err(failure) => (refusal(&failure), Some(failure)),
    };
    Ok(Item {
        file: path,
        kind: "approval".to_owned(),
        id,
        outcome,
        failure,
        findings: None,
        refused_there: Vec::new(),
        note,
    })
}

/// The fingerprint of a vault's request, which is whole: the vault signed it with the key that it names itself. Whether
/// it is that vault's, only its operator can say.
fn asks(bytes: &[u8], vault: &VaultName) -> Result<Fingerprint, mintmark_protocol::Error> {
    let claim = claim(bytes, REQUEST_BYTES_MAX)?;
    let (expected, found) = (Kind::EnrolmentRequest, claim.context.kind);
    if found != expected {
        let (expected, found) = (expected.to_string(), found.to_string());
        return Err(mintmark_protocol::Error::WrongType { expected, found });
    }
    let request = EnrolmentRequest::open(bytes, &claim.fingerprint)?;
    if request.content().vault != *vault {
        let (what, why) = ("enrolment request", "its file has another vault's name");
        return Err(mintmark_protocol::Error::PartsDiffer { what, why });
    }
    Ok(claim.fingerprint)
}

/// A vault asks to be let in. Nothing follows from that before a person has compared its fingerprint.
fn enrolment(
    registry: &Registry,
    stick: &Stick,
    path: String,
    vault: &VaultName,
    console: &Console,
) -> Result<Item, Failure> {
    let asked = stick
        .read(&path, REQUEST_BYTES_MAX)
        .and_then(|bytes| asks(&bytes, vault).map_err(records::untrusted));
    let (outcome, failure) = match asked {
        Ok(fingerprint) => {
            let known = vaults::find(&registry.sql, vault)?;
            let drafted = device_cas::of_vault(&registry.sql, vault)?;
            let drafted = drafted
                .iter()
                .any(|device_ca| device_ca.request_fingerprint == fingerprint);
            if drafted {
                ("already", None)
            } else {
                let (what, command) = if known.is_some_and(|known| known.granted) {
                    ("asks for its next device CA", "rotate")
                } else {
                    ("asks to be enrolled", "enrol")
                };
                console.note(format!(
                    "{vault} {what}: have the operator read out its fingerprint, then run `hq site {command} --request \
                     {} --fingerprint ...`",
                    stick.path_of(&path).display()
                ));
                ("imported", None)
            }
        }
        Err(failure) => (refusal(&failure), Some(failure)),
    };
    Ok(Item {
        file: path,
        kind: Kind::EnrolmentRequest.to_string(),
        id: vault.to_string(),
        outcome,
        failure,
        findings: None,
        refused_there: Vec::new(),
        note: None,
    })
}

/// A vault declares that its home was put back from an older copy.
fn declaration(
    home: &Home,
    registry: &mut Registry,
    ring: &Keyring<'_>,
    stick: &Stick,
    (path, vault): (String, &VaultName),
    dry_run: bool,
) -> Result<Item, Failure> {
    let taken = match stick.read(&path, RESTORE_BYTES_MAX) {
        Ok(bytes) => vault_restores::take(home, registry, ring, vault, &bytes, dry_run)?,
        Err(failure) => vault_restores::Taken::Refused(failure),
    };
    let (outcome, failure, findings) = match taken {
        vault_restores::Taken::Imported(found) => ("imported", None, Some(found)),
        vault_restores::Taken::Already => ("already", None, None),
        vault_restores::Taken::Refused(failure) => (refusal(&failure), Some(failure), None),
    };
    Ok(Item {
        file: path,
        kind: Kind::RestoreDeclaration.to_string(),
        id: vault.to_string(),
        outcome,
        failure,
        findings,
        refused_there: Vec::new(),
        note: None,
    })
}

fn bundle(
    importer: &Importer<'_>,
    registry: &mut Registry,
    stick: &Stick,
    path: String,
    (vault, lineage, sequence): (&VaultName, &Lineage, u64),
) -> Result<Item, Failure> {
    let segment = |number| {
        let name = MediaName::Segment {
            vault: vault.clone(),
            lineage: *lineage,
            sequence,
            number,
        };
        stick.find(&name, SEGMENT_FILE_BYTES_MAX)
    };
    let taken = match stick.read(&path, BUNDLE_BYTES_MAX) {
        Ok(bytes) => importer.bundle(registry, vault, &bytes, &segment)?,
        Err(failure) if failure.exit == Exit::Environment => Taken::Held(failure),
        Err(failure) => Taken::Refused(failure),
    };
    let mut refused_there = Vec::new();
    let (outcome, failure, findings) = match taken {
        Taken::Imported { found, refused } => {
            refused_there = refused;
            ("imported", None, found)
        }
        Taken::Already => ("already", None, 0),
        Taken::Held(failure) => ("held", Some(failure), 0),
        Taken::Refused(failure) => ("refused", Some(failure), 0),
    };
    Ok(Item {
        file: path,
        kind: Kind::AuditBundle.to_string(),
        id: Bundle::object_id(lineage, sequence),
        outcome,
        failure,
        findings: Some(findings),
        refused_there,
        note: None,
    })
}
