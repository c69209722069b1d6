//! What goes to vaults: sealed once, in order, and exported as the same bytes until the vault says it has seen them.

use std::collections::BTreeSet;

use mintmark_console::{Exit, Failure};
use mintmark_keys::Signer;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::trust::{Role, TrustManifest};
use rusqlite::Connection;

use crate::own_restore::DISPATCH_UNKNOWN;
use crate::record::Record;
use crate::registry::dispatches::{self, Sent};
use crate::registry::{self, bundles, findings};
use crate::{clock, failure, keyring, own_restore, trust};

/// More epochs than headquarters can have forgotten.
const EPOCHS_FORGOTTEN_MAX: u64 = 100;

/// What a dispatch carries.
pub(crate) struct Content {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) version: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) certificates: Vec<Vec<u8>>,
}

/// Seals the next dispatch for a vault and keeps it. The registry's part is within the caller's transaction, which ends with
/// [`registry::commit_kept`]; the file is written first, so that a committed row always has its file. A file whose transaction
/// did not commit is replaced, since it never left. Where the manifest opened a new epoch, what the vault has not seen comes first.
pub(crate) fn seal(
    sql: &Connection,
    record: &Record,
    manifest: &Verified<TrustManifest>,
    signer: &dyn Signer,
    vault: &VaultName,
    content: Content,
) -> Result<Sent, Failure> {
    open_epoch(sql, record, manifest, signer, vault)?;
    append(sql, record, manifest, signer, vault, content)
}

/// Why nothing goes to a vault in this epoch: it says that it has a dispatch of it, or of a later one, that headquarters did not
/// send. So another one of that number, or one that follows another, may be a fork there, and what headquarters holds of its log
/// may not be all that it gave. That holds until the claim is taken back, or a later epoch is open.
pub(crate) fn contested(
    sql: &Connection,
    vault: &VaultName,
    epoch: u64,
) -> Result<Option<Failure>, Failure> {
    let claims = findings::of_code(sql, vault, DISPATCH_UNKNOWN)?;
    let claims = claims.iter().filter_map(|finding| {
        let evidence = &finding.evidence;
        Some((evidence["epoch"].as_u64()?, evidence["sequence"].as_u64()?))
    });
    let newest = claims.filter(|(claimed, _)| *claimed >= epoch).max();
    Ok(newest.map(|(claimed, sequence)| {
        let declare = match claimed.saturating_sub(epoch) {
            0 => "if headquarters was restored from an older copy, declare it with `hq trust epoch`, and import what was refused; if \
                  it was not, ",
            1..=EPOCHS_FORGOTTEN_MAX => {
                "if headquarters was restored from an older copy, take back the trust manifests that opened that epoch (`hq media \
                 import` of a stick that went out), declare it with `hq trust epoch`, and import what was refused; if it was not, "
            }
            // No copy is that old.
            _ => "",
        };
        failure::refused(
            "DISPATCH-CONTESTED",
            format!(
                "{vault} says that it has a dispatch {sequence} of epoch {claimed} that headquarters did not send \
                 ({DISPATCH_UNKNOWN}): what goes there now may be a fork, or lack what headquarters has forgotten, and stop \
                 its line"
            ),
            format!(
                "{declare}stop production at this vault, tell your security officer, and have another vault take its place (`hq site \
                 succeed`)"
            ),
        )
    }))
}

/// Whether a vault was not seen to have something of an epoch before that of the manifest, or that epoch was opened because
/// headquarters was restored, and nothing was put into it.
pub(crate) fn waits_for_epoch(
    sql: &Connection,
    record: &Record,
    manifest: &TrustManifest,
    vault: &VaultName,
) -> Result<bool, Failure> {
    let epoch = manifest.dispatch_epoch;
    let sent = dispatches::all(sql, vault)?;
    if sent.is_empty() || sent.iter().any(|sent| sent.epoch == epoch) {
        return Ok(false);
    }
    let unseen = dispatches::unseen(sql, vault)?;
    Ok(unseen.iter().any(|sent| sent.epoch < epoch) || is_restored(sql, record, epoch)?)
}

/// Whether officers opened an epoch because headquarters was restored: then every vault is to be told which bundle
/// headquarters holds, whatever it was seen to have.
fn is_restored(sql: &Connection, record: &Record, epoch: u64) -> Result<bool, Failure> {
    Ok(own_restore::declared(&trust::published(record, sql)?) == Some(epoch))
}

/// Puts what a vault was not seen to have of earlier epochs into that of the manifest: the same contents, as new
/// dispatches. A vault that has one of them all the same knows it by its type, id and version. What the dispatch key
/// itself vouched for is made anew, since that key may be another now. Returns how many were sealed.
pub(crate) fn open_epoch(
    sql: &Connection,
    record: &Record,
    manifest: &Verified<TrustManifest>,
    signer: &dyn Signer,
    vault: &VaultName,
) -> Result<usize, Failure> {
    let epoch = manifest.content().dispatch_epoch;
    if !waits_for_epoch(sql, record, manifest.content(), vault)? {
        return Ok(0);
    }
    owe_for_epoch(sql, record, epoch, vault)?;
    let manifests = trust::published(record, sql)?;
    let mut contents = BTreeSet::new();
    for sent in dispatches::unseen(sql, vault)? {
        let dispatch = read_back(record, &manifests, vault, &sent)?;
        if sent.epoch >= epoch || Role::for_kind(dispatch.kind).is_none() {
            continue;
        }
        // Of two epochs that were never seen, the later one holds what the earlier one held.
        if !contents.insert(Fingerprint::of(&dispatch.content)) {
            continue;
        }
        let content = Content {
            kind: dispatch.kind,
            id: dispatch.id,
            version: dispatch.version,
            bytes: dispatch.content,
            certificates: dispatch.certificates,
        };
        append(sql, record, manifest, signer, vault, content)?;
    }
    Ok(contents.len())
}

/// Notes that a vault's newest bundle is to be acknowledged in a new epoch: officers opened it because headquarters was restored, or
/// what acknowledged that bundle was not seen.
pub(crate) fn owe_for_epoch(
    sql: &Connection,
    record: &Record,
    epoch: u64,
    vault: &VaultName,
) -> Result<(), Failure> {
    let mut owed = is_restored(sql, record, epoch)?;
    for sent in dispatches::unseen(sql, vault)? {
        let kind: Kind = registry::parsed("kind", &sent.kind)?;
        owed |= sent.epoch < epoch && Role::for_kind(kind).is_none();
    }
    match owed {
        true => bundles::owe_acknowledgement(sql, vault),
        false => Ok(()),
    }
}

/// A dispatch as it was sent, from the record. The dispatch key may have changed since: the manifests say which it was.
pub(crate) fn read_back(
    record: &Record,
    manifests: &[Verified<TrustManifest>],
    vault: &VaultName,
    sent: &Sent,
) -> Result<Dispatch, Failure> {
    let path = record.dispatch(vault, sent.epoch, sent.sequence);
    let bytes = record.read(&path)?;
    let opened = manifests
        .iter()
        .rev()
        .find_map(|manifest| Dispatch::open(&bytes, manifest, vault).ok());
    match opened {
        Some(dispatch) if dispatch.fingerprint() == sent.fingerprint => Ok(dispatch.into_content()),
        _ => Err(failure::home_corrupt(format!(
            "{} is not what was sent",
            path.display()
        ))),
    }
}

fn append(
    sql: &Connection,
    record: &Record,
    manifest: &Verified<TrustManifest>,
    signer: &dyn Signer,
    vault: &VaultName,
    content: Content,
) -> Result<Sent, Failure> {
    if *signer.public_key() != manifest.content().dispatch_key {
        let message =
            "the key `dispatch` in its store is not the one that the trust manifest names";
        return Err(
            Failure::new(Exit::Integrity, "KEY-NOT-LISTED", message).hint(
                "bring the store that `hq init` or `hq trust draft --dispatch-keys` was given; no vault would follow \
                 what another key signs",
            ),
        );
    }
    let epoch = manifest.content().dispatch_epoch;
    let last = dispatches::all(sql, vault)?
        .into_iter()
        .rfind(|sent| sent.epoch == epoch);
    let now = clock::now_unix();
    let dispatch = Dispatch {
        vault: vault.clone(),
        epoch,
        sequence: last.as_ref().map_or(1, |last| last.sequence + 1),
        previous: last.map(|last| last.fingerprint),
        bundle_seen: dispatches::bundle_seen(sql, vault)?,
        kind: content.kind,
        id: content.id,
        version: content.version,
        content: content.bytes,
        certificates: content.certificates,
        made_at: now,
    };
    let (bytes, fingerprint) = dispatch
        .seal(manifest.content(), &keyring::sign(signer))
        .map_err(failure::protocol)?;
    record.replace_uncommitted(&record.dispatch(vault, epoch, dispatch.sequence), &bytes)?;
    let sent = Sent {
        epoch,
        sequence: dispatch.sequence,
        fingerprint,
        kind: dispatch.kind.to_string(),
        object: dispatch.id,
        version: dispatch.version,
    };
    dispatches::add(sql, vault, &sent, now)?;
    Ok(sent)
}
