//! `hq approval sign`.

use std::path::Path;
use std::str::FromStr as _;

use mintmark_console::{Confirmation, Console, Exit, Failure, files};
use mintmark_keys::{Purpose, UnparsedKeyUri};
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::{Role, TrustManifest};

use super::{NEWEST_TRUST, changes, expect_drafted, read, read_by_officer};
use crate::approvals::{self, Content, amendment, words};
use crate::clock::now_unix;
use crate::commands::{expect_absent, say};
use crate::home::Home;
use crate::keyring::{self, OFFICER_AGREE, OFFICER_SIGN};
use crate::{failure, trust};

pub(super) fn sign(
    home: Option<&Path>,
    file: &Path,
    officer: &OfficerId,
    (keys, agreement_keys): (&UnparsedKeyUri, Option<&UnparsedKeyUri>),
    output: &Path,
    fingerprint: Option<&Fingerprint>,
    (confirmation, dry_run, console): (&Confirmation, bool, &Console),
) -> Result<Exit, Failure> {
    let proposal = read(file)?;
    let kind = proposal.context().kind;
    let role = approvals::role(kind)?;
    let pinned = pinned(home, fingerprint)?;
    let manifest = manifest_for(pinned.as_ref(), &proposal, fingerprint, officer)?;
    let listed = manifest.officer(officer).ok_or_else(|| {
        failure::usage(
            "OFFICER-UNKNOWN",
            format!("the trust manifest does not list an officer `{officer}`"),
            format!("check the name; if you are new, {NEWEST_TRUST}"),
        )
    })?;
    if !listed.roles.contains(&role) {
        return Err(failure::protocol(mintmark_protocol::Error::SignerRole {
            what: kind.as_str(),
            officer: officer.to_string(),
            role: role.as_str(),
        })
        .hint(format!(
            "{NEWEST_TRUST}, as this home's may be from before the officer had the role; if that says the same, \
             somebody who holds the role approves"
        )));
    }
    expect_drafted(home, &proposal)?;
    let store = keyring::open(&keys.parse().map_err(failure::keys)?, console)?;
    let signer = store.signer(OFFICER_SIGN).map_err(failure::keys)?;
    // A manifest that replaces this very officer's keys is approved with the old one too, by the manifest before it.
    let by_before = || {
        let before = pinned
            .as_ref()
            .and_then(|pinned| pinned.content().officer(officer));
        kind == Kind::TrustManifest
            && before.is_some_and(|before| {
                before.roles.contains(&role) && before.signing_keys.contains(signer.public_key())
            })
    };
    if !listed.signing_keys.contains(signer.public_key()) && !by_before() {
        return Err(failure::refused(
            "OFFICER-KEY-MISMATCH",
            format!(
                "this token's key is not the one that the trust manifest lists for `{officer}`"
            ),
            format!("check the key URI and the name; if the key is new, {NEWEST_TRUST}"),
        ));
    }
    let (content, differences) = if kind.is_encrypted() {
        let store = match agreement_keys {
            Some(keys) => keyring::open(&keys.parse().map_err(failure::keys)?, console)?,
            None => store,
        };
        let missing = store
            .find(OFFICER_AGREE, Purpose::Agree)
            .map_err(failure::keys)?
            .is_none();
        if missing {
            console.warn(format!(
                "the key `{OFFICER_AGREE}` is missing from this token"
            ));
        }
        let (content, differences) = read_by_officer(home, file, &proposal, &*store)?;
        if let Content::Grant(grant) = &content {
            approvals::expect_certificates(grant, [&manifest].into_iter())?;
        }
        (content, differences)
    } else {
        (Content::read(&proposal, None)?, Vec::new())
    };
    content.expect_open(now_unix())?;
    expect_absent(output).map_err(|failure| another_name(failure, output))?;
    let mut words = words::describe(&content);
    words.extend(changes(&content, pinned.as_ref()));
    words.extend(differences);
    if !console.is_json() {
        for line in &words {
            console.line(line);
        }
        console.line("");
    }
    if !dry_run {
        let (what, id) = (format!("sign it as {officer}"), &proposal.context().id);
        console.confirm_if_attended(&what, id, confirmation.identifier.as_deref())?;
        let approval = proposal
            .approve(signer.public_key(), &keyring::sign(&*signer))
            .map_err(failure::protocol)?;
        files::write_public_new(output, &approval.to_bytes().map_err(failure::protocol)?)?;
        amendment::remember(home, &proposal)?;
    }
    let json = serde_json::json!({
        "schema": "mintmark/approval/1",
        "id": proposal.context().id,
        "type": kind.as_str(),
        "officer": officer.as_str(),
        "role": role.as_str(),
        "file": (!dry_run).then(|| output.display().to_string()),
        "fingerprint": proposal.fingerprint().to_string(),
        "dry_run": dry_run,
        "words": words,
    });
    let (done, file) = if dry_run {
        ("would sign   ", "nothing was signed (--dry-run)".to_owned())
    } else {
        (
            "approved     ",
            format!("file         {}", output.display()),
        )
    };
    say(
        console,
        &json,
        [
            format!("{done}{} as {officer} ({role})", proposal.context().id),
            file,
            format!("fingerprint  {}", proposal.fingerprint()),
        ],
    )
}

/// The newest manifest of the officer's home, if there is one.
fn pinned(
    home: Option<&Path>,
    fingerprint: Option<&Fingerprint>,
) -> Result<Option<Verified<TrustManifest>>, Failure> {
    match home {
        // Before there is a home to pin it in, the first manifest is judged by its fingerprint alone.
        Some(path) if fingerprint.is_none() || path.exists() => {
            trust::newest(&Home::read(Some(path))?)
        }
        _ => Ok(None),
    }
}

/// The manifest that says who this officer is: the pinned one, or the first of all, whose fingerprint was compared.
fn manifest_for(
    pinned: Option<&Verified<TrustManifest>>,
    proposal: &Proposal,
    fingerprint: Option<&Fingerprint>,
    officer: &OfficerId,
) -> Result<TrustManifest, Failure> {
    if let Some(expected) = fingerprint {
        let found = proposal.fingerprint();
        if found != *expected {
            return Err(failure::protocol(
                mintmark_protocol::Error::FingerprintMismatch {
                    what: "draft",
                    expected: expected.to_string(),
                    found: found.to_string(),
                },
            ));
        }
    }
    let is_trust = proposal.context().kind == Kind::TrustManifest;
    if is_trust {
        let next = TrustManifest::proposed(proposal).map_err(failure::protocol)?;
        match pinned {
            Some(pinned) => expect_successor(&next, pinned)?,
            None if fingerprint.is_some() => {}
            None => {
                return Err(failure::usage(
                    "FINGERPRINT-REQUIRED",
                    "nothing is pinned yet that this manifest could be judged by",
                    "give --fingerprint with what HQ reads out, or --home with your pinned home",
                ));
            }
        }
        // An officer who leaves with it counts by the manifest before, and that is where they are listed.
        let may_approve = |manifest: &TrustManifest| {
            let listed = manifest.officer(officer);
            listed.is_some_and(|listed| listed.roles.contains(&Role::Trust))
        };
        return Ok(match pinned {
            Some(pinned) if !may_approve(&next) && may_approve(pinned.content()) => {
                pinned.content().clone()
            }
            _ => next,
        });
    }
    let pinned = pinned.ok_or_else(|| {
        failure::usage(
            "TRUST-UNPINNED",
            "no trust manifest is pinned here",
            "run `hq trust pin --home DIR ...` once, then give --home DIR",
        )
    })?;
    trust::expect_in_force(pinned.content(), NEWEST_TRUST)?;
    Ok(pinned.content().clone())
}

fn expect_successor(next: &TrustManifest, pinned: &Verified<TrustManifest>) -> Result<(), Failure> {
    let follows = pinned.content().version.checked_add(1) == Some(next.version)
        && next.previous == Some(pinned.fingerprint());
    let same = next.version == pinned.content().version && next == pinned.content();
    if follows || same {
        return Ok(());
    }
    let why = "it follows another manifest than the newest that is pinned here";
    let version = next.version;
    Err(failure::protocol(
        mintmark_protocol::Error::TrustSuccession { version, why },
    ))
}

/// On a stick an earlier draft of the same id may have left its approval: names another name that HQ takes too.
fn another_name(failure: Failure, output: &Path) -> Failure {
    let name = output.file_name().map(|name| name.to_string_lossy());
    let named = name.as_deref().and_then(MediaName::parse);
    let Some(MediaName::Approval { id, officer }) = named else {
        return failure;
    };
    for number in 2..100 {
        let Ok(other) = OfficerId::from_str(&format!("{officer}-{number}")) else {
            break;
        };
        let id = id.clone();
        let other = MediaName::Approval { id, officer: other }.to_string();
        if output.with_file_name(&other).symlink_metadata().is_err() {
            return failure.hint(format!(
                "an earlier draft of this id may have left it there: write to {other} beside it, which HQ takes as well"
            ));
        }
    }
    failure
}
