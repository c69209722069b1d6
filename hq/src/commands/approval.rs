//! `hq approval`: what officers sign, each on their own machine, and how it comes together.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Confirmation, Console, Exit, Failure, Table, files};
use mintmark_keys::{Purpose, UnparsedKeyUri};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::trust::{Role, TrustManifest};

use crate::approvals::collect;
use crate::approvals::{self, Content, amendment, device_ca, readers, words};
use crate::clock::now_unix;
use crate::config::Role as HomeRole;
use crate::home::Home;
use crate::import::records::untrusted;
use crate::keyring::{self, AUDIT, Keyring, OFFICER_AGREE, OFFICER_SIGN};
use crate::registry::drafts::{self, State};
use crate::{failure, trust};

/// Approvals of drafts.
#[derive(Debug, Subcommand)]
pub(super) enum Approval {
    /// At HQ: list the drafts and who has approved them.
    List,
    /// Show what a draft says.
    Show {
        /// The draft.
        file: PathBuf,
        /// An officer whom it is for; not needed at HQ.
        #[arg(long, requires = "keys")]
        officer: Option<OfficerId>,
        /// Where that officer's keys are.
        #[arg(long, value_name = "URI", requires = "officer")]
        keys: Option<UnparsedKeyUri>,
    },
    /// On the officer's own machine: read a draft, and sign it.
    Sign {
        /// The draft.
        file: PathBuf,
        /// The officer's name.
        #[arg(long)]
        officer: OfficerId,
        /// Where the officer's keys are.
        #[arg(long, value_name = "URI")]
        keys: UnparsedKeyUri,
        /// Where the key is that the officer reads drafts with, if it is not with the one that signs: an officer with two
        /// signing keys has one of those.
        #[arg(long, value_name = "URI")]
        agreement_keys: Option<UnparsedKeyUri>,
        /// The file to write the approval to.
        #[arg(long, value_name = "F")]
        output: PathBuf,
        /// The fingerprint that HQ reads out; needed for the first trust manifest.
        #[arg(long, value_name = "HEX")]
        fingerprint: Option<Fingerprint>,
        #[command(flatten)]
        confirmation: Confirmation,
        /// Say what would be signed, and sign nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// At HQ: collect approvals from a file or a folder.
    Import {
        /// An approval, a folder of approvals, or a stick.
        path: PathBuf,
        /// Verify everything and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Approval {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::List => list(home, console),
            Self::Show {
                file,
                officer,
                keys,
            } => show(home, &file, officer.zip(keys), console),
            Self::Sign {
                file,
                officer,
                keys,
                agreement_keys,
                output,
                fingerprint,
                confirmation,
                dry_run,
            } => sign(
                home,
                &file,
                &officer,
                (&keys, agreement_keys.as_ref()),
                &output,
                fingerprint.as_ref(),
                (&confirmation, dry_run, console),
            ),
            Self::Import { path, dry_run } => import(home, &path, dry_run, console),
        }
    }
}

fn read(file: &Path) -> Result<Proposal, Failure> {
    let bytes = files::read_limited(file, PROPOSAL_BYTES_MAX as u64)?;
    Proposal::read(&bytes, PROPOSAL_BYTES_MAX).map_err(untrusted)
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

/// How an officer's home comes by the newest manifest.
const NEWEST_TRUST: &str = "import the newest trust manifest: `hq --home ... media import STICK`, with a stick that HQ wrote";

/// Says why an officer may be unable to read a draft.
fn not_for_officer(failure: Failure) -> Failure {
    if failure.code != "NOT-RECIPIENT" {
        return failure;
    }
    failure.hint(
        "it was drafted before this officer had the role, or this key: have HQ draft it again; or the key that reads \
         drafts is in another token (`approval sign` takes --agreement-keys)",
    )
}

fn list(home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let manifest = trust::newest(&home)?;
    let record = home.record();
    let now = now_unix();
    let mut table = Table::new(
        ["ID", "TYPE", "FOR", "STATE", "APPROVED BY", "NEEDS"].map(|header| (header, Align::Left)),
    );
    let mut rows = Vec::new();
    let mut stale = false;
    for draft in drafts::all(&registry.sql)? {
        let mut approvers = drafts::approvers(&registry.sql, &draft.fingerprint)?;
        let mut former = Vec::new();
        let mut again = None;
        let proposal = approvals::collected(&registry.sql, &record, &draft)?;
        let needed = match approvals::judges(&proposal, manifest.as_ref()) {
            Ok(judges) => {
                let tally = approvals::tally(&proposal, &judges)?;
                // What is finished was judged by those of its day.
                if draft.state == State::Open {
                    former = approvals::former(&registry.sql, &draft, &tally)?;
                    approvers.retain(|officer| !former.contains(officer));
                    if let Some(manifest) = &manifest {
                        let manifest = manifest.content();
                        again = readers::draft_again(&registry.sql, &draft, &proposal, manifest)?;
                    }
                }
                tally
                    .iter()
                    .map(|(threshold, officers)| threshold.saturating_sub(officers.len() as u64))
                    .max()
                    .unwrap_or(0)
            }
            Err(_) => 0,
        };
        let state = match draft.state {
            State::Open if draft.approve_until <= now => "expired",
            State::Open if needed == 0 => "approved",
            State::Open if !former.is_empty() => "stale",
            state => state.as_str(),
        };
        stale |= state == "stale";
        let vault = draft.vault.as_ref().map(ToString::to_string);
        let names = |officers: &[OfficerId]| -> Vec<String> {
            officers.iter().map(ToString::to_string).collect()
        };
        let (approvers, former) = (names(&approvers), names(&former));
        rows.push(serde_json::json!({
            "id": draft.id,
            "type": draft.kind.as_str(),
            "vault": vault,
            "version": draft.version,
            "fingerprint": draft.fingerprint.to_string(),
            "state": state,
            "approvers": approvers,
            "no_longer_counting": former,
            "missing": needed,
            "draft_again": again,
            "drafted_at": rfc3339(draft.drafted_at),
            "approve_until": rfc3339(draft.approve_until),
        }));
        let missing = match (state, again) {
            ("expired", _) => String::new(),
            (_, Some(again)) => format!("to be drafted again: {again}"),
            _ if draft.state == State::Open => format!("{needed} more"),
            _ => String::new(),
        };
        table.row([
            draft.id,
            draft.kind.to_string(),
            vault.unwrap_or_else(|| "all".to_owned()),
            state.to_owned(),
            approvers.join(","),
            missing,
        ]);
    }
    if console.is_json() {
        let json = serde_json::json!({ "schema": "mintmark/approval/1", "drafts": rows });
        return super::say(console, &json, []);
    }
    console.table(&table);
    if stale {
        console.note(
            "stale: an approval is by somebody who may no longer give it; others have to approve, of those who could \
             read the draft when it was made",
        );
    }
    Ok(Exit::Done)
}

fn show(
    home: Option<&Path>,
    file: &Path,
    officer: Option<(OfficerId, UnparsedKeyUri)>,
    console: &Console,
) -> Result<Exit, Failure> {
    let proposal = read(file)?;
    let context = proposal.context();
    let mut differences = Vec::new();
    let content = if let Some((_, keys)) = officer {
        let store = keyring::open(&keys.parse().map_err(failure::keys)?, console)?;
        let key = store.agreement(OFFICER_AGREE).map_err(failure::keys)?;
        let agree = keyring::agree(&*key);
        let opener = Opener {
            public_key: key.public_key(),
            agree: &agree,
            former: None,
        };
        let content = Content::read(&proposal, Some(opener)).map_err(not_for_officer)?;
        differences = amendment::differences(home, file, &content, opener)?;
        differences.extend(device_ca::unknown_here(&content));
        Some(content)
    } else if !context.kind.is_encrypted() {
        Some(Content::read(&proposal, None)?)
    } else {
        match Home::read(home) {
            Ok(home) if home.config.role == HomeRole::Hq => {
                let ring = Keyring::new(&home.config, console)?;
                let key = ring.agreement(AUDIT)?;
                let agree = keyring::agree(&*key);
                let opener = Opener {
                    public_key: key.public_key(),
                    agree: &agree,
                    former: Some(&ring),
                };
                let content = Content::read(&proposal, Some(opener))?;
                differences = amendment::differences(Some(home.folder()), file, &content, opener)?;
                differences.extend(device_ca::known_at_hq(&home.registry()?.sql, &content)?);
                Some(content)
            }
            _ => {
                console.warn("the content is encrypted: give --officer and --keys to read it");
                None
            }
        }
    };
    // What bears approvals is judged by them; what bears none is a draft.
    let knows = || Home::read(home).is_ok();
    let is_trust = context.kind == Kind::TrustManifest;
    let mut words = content.as_ref().map(words::describe).unwrap_or_default();
    if proposal.signature_count() == 0 && (is_trust || knows()) {
        expect_drafted(home, &proposal)?;
    } else {
        words.push("WHO WROTE THIS WAS NOT VERIFIED.".to_owned());
    }
    words.extend(differences);
    if let (Some(content), Some(_)) = (&content, home)
        && let Ok(home) = Home::read(home)
    {
        words.extend(changes(content, trust::newest(&home)?.as_ref()));
    }
    let json = serde_json::json!({
        "schema": "mintmark/approval/1",
        "id": context.id,
        "type": context.kind.as_str(),
        "sender": context.sender.to_string(),
        "recipient": context.recipient.to_string(),
        "fingerprint": proposal.fingerprint().to_string(),
        "signatures": proposal.signature_count(),
        "words": words,
    });
    let mut lines = words;
    lines.push(format!("type         {}", context.kind));
    lines.push(format!("id           {}", context.id));
    lines.push(format!(
        "from, for    {}, {}",
        context.sender, context.recipient
    ));
    lines.push(format!("fingerprint  {}", proposal.fingerprint()));
    lines.push(format!(
        "signatures   {} (not verified)",
        proposal.signature_count()
    ));
    super::say(console, &json, lines)
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

/// What a drafted manifest changes against the one that it follows.
fn changes(content: &Content, pinned: Option<&Verified<TrustManifest>>) -> Vec<String> {
    match (content, pinned) {
        (Content::Trust(next), Some(pinned)) if next.previous == Some(pinned.fingerprint()) => {
            words::changes(pinned.content(), next)
        }
        _ => Vec::new(),
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

/// Refuses a draft that headquarters did not sign as it is: by a dispatch key that this home knows, or, of a manifest, by the
/// one that it lists itself.
fn expect_drafted(home: Option<&Path>, proposal: &Proposal) -> Result<(), Failure> {
    let manifests = if proposal.context().kind == Kind::TrustManifest {
        vec![TrustManifest::proposed(proposal).map_err(failure::protocol)?]
    } else {
        let home = Home::read(home)?;
        home.expect_own()?;
        let chain = trust::chain(&home)?.into_iter();
        chain.map(Verified::into_content).collect()
    };
    let keys = manifests.iter().map(|manifest| &manifest.dispatch_key);
    proposal
        .expect_drafted_by(keys)
        .map_err(|error| match error {
            mintmark_protocol::Error::SignerUnknown { .. } => failure::protocol(error).hint(format!(
                "if headquarters' dispatch key changed, {NEWEST_TRUST}, or have HQ draft it again; else do not approve it, \
                 keep it and tell your security officer"
            )),
            error => failure::protocol(error),
        })
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

fn sign(
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
    let mut differences = Vec::new();
    let content = if kind.is_encrypted() {
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
        let key = store.agreement(OFFICER_AGREE).map_err(failure::keys)?;
        let agree = keyring::agree(&*key);
        let opener = Opener {
            public_key: key.public_key(),
            agree: &agree,
            former: None,
        };
        let content = Content::read(&proposal, Some(opener)).map_err(not_for_officer)?;
        if let Content::Grant(grant) = &content {
            approvals::expect_certificates(grant, [&manifest].into_iter())?;
        }
        differences = amendment::differences(home, file, &content, opener)?;
        differences.extend(device_ca::unknown_here(&content));
        content
    } else {
        Content::read(&proposal, None)?
    };
    content.expect_open(now_unix())?;
    super::expect_absent(output).map_err(|failure| another_name(failure, output))?;
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
    super::say(
        console,
        &json,
        [
            format!("{done}{} as {officer} ({role})", proposal.context().id),
            file,
            format!("fingerprint  {}", proposal.fingerprint()),
        ],
    )
}

fn import(
    home: Option<&Path>,
    path: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let manifest = trust::newest(&home)?;
    let record = home.record();
    let mut exit = Exit::Done;
    let mut items = Vec::new();
    let mut first_failure = None;
    for file in collect::files_of(path)? {
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let taken = files::read_limited(&file, PROPOSAL_BYTES_MAX as u64)
            .map_err(Failure::from)
            .and_then(|bytes| {
                collect::take(&mut registry, &record, manifest.as_ref(), &bytes, dry_run)
            })
            .and_then(|collected| {
                // Among others it is only passed over.
                if !path.is_dir() {
                    collected.expect_in_time()?;
                }
                Ok(collected)
            });
        let mut note = None;
        let (outcome, code, id, officer) = match taken {
            Ok(collected) => {
                note = collected.note();
                let outcome = if collected.new { "imported" } else { "already" };
                let officer = collected.officer.map(|officer| officer.to_string());
                (outcome, None, Some(collected.id), officer)
            }
            // Not the file's fault: nothing more can be believed of this home.
            Err(failure) if failure.exit == Exit::Integrity => return Err(failure),
            Err(failure) => {
                exit = exit.worst(failure.exit);
                let code = failure.code.to_string();
                if path.is_dir() {
                    let message = format!("{name}: {}", failure.message);
                    console.report(&Failure {
                        message,
                        ..failure.clone()
                    });
                }
                first_failure.get_or_insert(failure);
                ("refused", Some(code), None, None)
            }
        };
        items.push(serde_json::json!({
            "file": name, "type": "approval", "id": id, "officer": officer, "outcome": outcome, "code": code,
            "note": note,
        }));
    }
    if let Some(failure) = first_failure
        && !path.is_dir()
    {
        return Err(failure);
    }
    if dry_run {
        console.note("nothing was changed (--dry-run)");
    }
    if items.is_empty() {
        console.warn(format!("there is no approval in {}", path.display()));
    }
    let lines: Vec<String> = items
        .iter()
        .map(|item| {
            let text = |field: &str| item[field].as_str().unwrap_or("-").to_owned();
            let note = item["note"].as_str();
            format!(
                "{:<9} {} {} {}{}",
                text("outcome"),
                text("id"),
                text("officer"),
                text("file"),
                note.map(|note| format!(", {note}")).unwrap_or_default()
            )
        })
        .collect();
    let json = serde_json::json!({ "schema": "mintmark/approval/1", "items": items });
    super::say(console, &json, lines)?;
    Ok(exit)
}
