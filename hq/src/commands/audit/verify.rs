//! `hq audit verify`: a bundle by itself, and how it stands to those that HQ holds.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, Progress, files};
use mintmark_ledger::merkle::{Frontier, leaf_hash};
use mintmark_protocol::bundle::{BUNDLE_BYTES_MAX, Bundle};
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::{Party, claim};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::segment::SEGMENT_FILE_BYTES_MAX;
use rusqlite::Connection;
use serde_json::json;

use crate::commands::say;
use crate::home::Home;
use crate::import::chain::{self, Place};
use crate::import::kept;
use crate::import::records::{self, Records};
use crate::keyring::Keyring;
use crate::record::Record;
use crate::registry::vaults::{self, Vault};
use crate::{failure, own_restore, trust};

/// Records that are read at a time.
const CHUNK_RECORDS: usize = 1024;

pub(super) fn run(home: Option<&Path>, file: &Path, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let bytes = files::read_limited(file, BUNDLE_BYTES_MAX as u64)?;
    let vault = sender(&registry.sql, &bytes)?;
    let verified =
        Bundle::open(&bytes, &vault.name, &vault.signing_key).map_err(records::untrusted)?;
    let (bundle, fingerprint) = (verified.content(), verified.fingerprint());
    let restored =
        own_restore::unreported_since(&registry.sql, &trust::chain(&home)?, &vault.name)?;
    let position = match chain::place(&registry.sql, &vault, bundle, &fingerprint, restored)? {
        Place::Already => "held",
        Place::Next | Place::Resumes { .. } => "next",
        Place::Passed => "passed",
        Place::Ahead(_) => "ahead",
        Place::Over(failure) => return Err(failure),
        Place::Offence(offence) => {
            return Err(offence.failure.hint(
                "keep the file, stop production at this vault and tell your security officer",
            ));
        }
    };
    let read = |number: usize| {
        let path = file.with_extension(format!("seg{number:04}"));
        match files::read_limited(&path, SEGMENT_FILE_BYTES_MAX as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    records::expect_whole(bundle, &read)?;
    let ring = Keyring::new(&home.config, console)?;
    let audit = ring.audit()?;
    let opener = audit.opener();
    let before = before(&registry.sql, &home.record(), &vault, bundle.first, opener)?;
    let known = before.is_some();
    let mut tree = before.unwrap_or_default();
    let count = bundle.checkpoint.size.saturating_sub(bundle.first);
    let progress = console.progress("verifying the bundle", Some(count));
    append(&mut tree, Records::new(bundle, &read, opener), &progress)?;
    progress.finish();
    let root = Fingerprint::new(tree.root());
    if known && root != bundle.checkpoint.root {
        let message = format!(
            "the checkpoint of bundle {} of {} is not that of its records: {root}, not {}",
            bundle.sequence, vault.name, bundle.checkpoint.root
        );
        return Err(Failure::new(Exit::Integrity, "LOG-INCONSISTENT", message)
            .hint("keep the file, stop production at this vault and tell your security officer"));
    }
    let json = json!({
        "schema": "mintmark/audit/1",
        "file": file.display().to_string(),
        "site": vault.name.site.as_str(),
        "vault": vault.name.vault.as_str(),
        "lineage": bundle.lineage.to_string(),
        "sequence": bundle.sequence,
        "fingerprint": fingerprint.to_string(),
        "first_record": bundle.first,
        "records": count,
        "segments": bundle.segments.len(),
        "log_size": bundle.checkpoint.size,
        "log_root": bundle.checkpoint.root.to_string(),
        "checkpoint_time": rfc3339(bundle.checkpoint.time),
        "sealed_at": rfc3339(bundle.sealed_at),
        "signature": "valid",
        "root": if known { "valid" } else { "unknown" },
        "position": position,
    });
    let root = if known {
        "valid: the checkpoint is that of the records"
    } else {
        "not checked: headquarters does not hold the records before"
    };
    let position = match position {
        "held" => "headquarters holds it",
        "next" => "the next one to be imported",
        "passed" => "headquarters has forgotten it, and another one brought its records",
        _ => "there are others to be imported before it",
    };
    say(
        console,
        &json,
        [
            format!("bundle       {} of {}", bundle.sequence, vault.name),
            format!("fingerprint  {fingerprint}"),
            "signature    valid".to_owned(),
            format!(
                "records      {count}, from {}, in {} segments: all there, all decrypted",
                bundle.first,
                bundle.segments.len()
            ),
            format!("root         {root}"),
            format!("position     {position}"),
            "what the records say is judged at import".to_owned(),
        ],
    )
}

/// The vault that a bundle says it is of.
fn sender(sql: &Connection, bytes: &[u8]) -> Result<Vault, Failure> {
    let claim = claim(bytes, BUNDLE_BYTES_MAX).map_err(records::untrusted)?;
    let Party::Vault(name) = claim.context.sender else {
        return Err(failure::refused(
            "MESSAGE-TYPE",
            format!(
                "this is a message of type `{}`, not an audit bundle",
                claim.context.kind
            ),
            "give the .cose file of a bundle",
        ));
    };
    let vault = vaults::find(sql, &name)?.filter(|vault| vault.granted);
    vault.ok_or_else(|| {
        failure::refused(
            "VAULT-UNKNOWN",
            format!("the vault {name} is not enrolled here"),
            "check which headquarters this bundle is for",
        )
    })
}

/// The tree over the records before `first`; none if HQ does not hold them all.
fn before(
    sql: &Connection,
    record: &Record,
    vault: &Vault,
    first: u64,
    opener: Opener<'_>,
) -> Result<Option<Frontier>, Failure> {
    let mut tree = Frontier::new();
    kept::Leaves::new(sql, record, vault, opener).each(first, |leaf| tree.append(leaf))?;
    Ok((tree.size() == first).then_some(tree))
}

fn append(
    tree: &mut Frontier,
    mut records: Records<'_>,
    progress: &Progress,
) -> Result<(), Failure> {
    loop {
        let chunk = records.chunk(CHUNK_RECORDS)?;
        if chunk.is_empty() {
            return Ok(());
        }
        progress.advance(chunk.len() as u64);
        for (_, raw) in chunk {
            tree.append(leaf_hash(&raw));
        }
    }
}
