//! `hq approval`: what officers sign, each on their own machine, and how it comes together.

mod import;
mod list;
mod show;
mod sign;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::{Confirmation, Console, Exit, Failure, files};
use mintmark_keys::{KeyStore, UnparsedKeyUri};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::trust::TrustManifest;

use self::import::import;
use self::list::list;
use self::show::show;
use self::sign::sign;
use crate::approvals::{Content, amendment, device_ca, words};
use crate::home::Home;
use crate::import::records::untrusted;
use crate::keyring::{self, OFFICER_AGREE};
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

/// How an officer's home comes by the newest manifest.
const NEWEST_TRUST: &str = "import the newest trust manifest: `hq --home ... media import STICK`, with a stick that HQ wrote";

/// What an officer reads of an encrypted draft with the key in this store, and in words what it changes and names that the
/// officer's home does not have as it is there.
fn read_by_officer(
    home: Option<&Path>,
    file: &Path,
    proposal: &Proposal,
    store: &dyn KeyStore,
) -> Result<(Content, Vec<String>), Failure> {
    let key = store.agreement(OFFICER_AGREE).map_err(failure::keys)?;
    let agree = keyring::agree(&*key);
    let opener = Opener {
        public_key: key.public_key(),
        agree: &agree,
        former: None,
    };
    let content = Content::read(proposal, Some(opener)).map_err(not_for_officer)?;
    let mut differences = amendment::differences(home, file, &content, opener)?;
    differences.extend(device_ca::unknown_here(&content));
    Ok((content, differences))
}

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

/// What a drafted manifest changes against the one that it follows.
fn changes(content: &Content, pinned: Option<&Verified<TrustManifest>>) -> Vec<String> {
    match (content, pinned) {
        (Content::Trust(next), Some(pinned)) if next.previous == Some(pinned.fingerprint()) => {
            words::changes(pinned.content(), next)
        }
        _ => Vec::new(),
    }
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
