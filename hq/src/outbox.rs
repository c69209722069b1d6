//! What goes to vaults: sealed once, in order, and exported as the same bytes until the vault says it has seen them.

use mintmark_console::Failure;
use mintmark_keys::Signer;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;

use crate::record::Record;
use crate::registry::dispatches::{self, Sent};
use crate::{clock, failure, keyring};

/// What a dispatch carries.
pub(crate) struct Content {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) version: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) certificates: Vec<Vec<u8>>,
}

/// Seals the next dispatch for a vault and keeps it. The registry's part is within the caller's transaction; the file is
/// written first, so that a committed row always has its file. A file whose transaction did not commit is replaced,
/// since it never left.
pub(crate) fn seal(
    sql: &Connection,
    record: &Record,
    manifest: &Verified<TrustManifest>,
    signer: &dyn Signer,
    vault: &VaultName,
    content: Content,
) -> Result<Sent, Failure> {
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
    record.replace(&record.dispatch(vault, epoch, dispatch.sequence), &bytes)?;
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
