//! Two chains, each acknowledging the other: what HQ says that it has seen of this vault must be in this vault's home.

use mintmark_console::files::Folder;
use mintmark_ledger::entry::{Content, Verdict};
use mintmark_ledger::state::State;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::dispatch::BundleSeen;
use mintmark_protocol::identifier::VaultName;

use crate::failure::{Error, Result};
use crate::home::{Home, ROLLED_BACK};

/// The code of a home that is older than what HQ has seen of it, or another than that.
pub(crate) const HOME_ROLLED_BACK: &str = "HOME-ROLLED-BACK";

/// Holds a bundle that HQ names against those that this home sealed. Of those that HQ acknowledged before, the home
/// keeps no fingerprint but the newest one's.
///
/// # Errors
/// HOME-ROLLED-BACK if this home did not seal it.
pub(super) fn expect_sealed(state: &State, seen: &BundleSeen) -> Result<()> {
    let (chain, sequence) = (state.bundles(), seen.sequence);
    // Of a lineage before, HQ sent back all that it holds.
    if state.parents().contains(&seen.lineage) {
        return Ok(());
    }
    let why = if state.lineage() != Some(seen.lineage) {
        format!(
            "headquarters names bundle {sequence} of lineage {}, which is not this home's",
            seen.lineage
        )
    } else if sequence > chain.sequence {
        format!(
            "headquarters has seen bundle {sequence} of this vault, and this home has sealed {}",
            chain.sequence
        )
    } else if chain
        .sealed
        .get(&sequence)
        .is_some_and(|sealed| sealed.fingerprint != seen.fingerprint)
    {
        format!(
            "headquarters has seen another bundle {sequence} of this vault than this home has sealed"
        )
    } else {
        return Ok(());
    };
    Err(rolled_back(why))
}

/// The bundle that the content of a dispatch acknowledges, if it is this vault's acknowledgement.
pub(super) fn acknowledged(verdict: &Verdict, vault: &VaultName) -> Option<BundleSeen> {
    let Verdict::Authentic(Content::Acknowledgement { plaintext, .. }) = verdict else {
        return None;
    };
    let receipt = Acknowledgement::from_cbor(plaintext).ok()?;
    (receipt.vault == *vault).then_some(BundleSeen {
        lineage: receipt.lineage,
        sequence: receipt.bundle_sequence,
        fingerprint: receipt.bundle_fingerprint,
    })
}

/// Keeps the dispatch that proves it: from now on nothing is changed in this home.
pub(super) fn keep(home: &Home, dispatch: &[u8]) -> Result<()> {
    Ok(Folder::open(home.path())?.write_new(ROLLED_BACK, dispatch)?)
}

impl Home {
    /// Whether this home is known not to be the newest copy; what stands there is the evidence.
    ///
    /// # Errors
    /// RESTORE-PENDING if that was declared, and HOME-ROLLED-BACK if it was not.
    pub(crate) fn expect_newest(&self) -> Result<()> {
        self.expect_restored()?;
        let path = self.path().join(ROLLED_BACK);
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                let message = format!("{} cannot be looked at", path.display());
                Err(Error::environment("HOME-UNREADABLE", message).cause(error))
            }
            Ok(_) => Err(rolled_back(format!(
                "this home is not the newest copy of the vault; {} proves it",
                path.display()
            ))),
        }
    }
}

fn rolled_back(why: String) -> Error {
    Error::integrity(HOME_ROLLED_BACK, why).hint(
        "this home is older than what headquarters has seen: put the newest copy back; if there is none, run `site recover \
         --declare-restore`; never run both copies",
    )
}
