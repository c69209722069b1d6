//! Bundles that HQ holds, read from the record as they were received.

use std::ops::Range;

use mintmark_console::Failure;
use mintmark_ledger::merkle::{Hash, leaf_hash};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;
use rusqlite::Connection;

use super::records::Records;
use crate::failure;
use crate::record::Record;
use crate::registry::bundles::{self, Held};
use crate::registry::vaults::Vault;

/// Reads a bundle, which must be the one that was imported.
pub(crate) fn bundle(
    record: &Record,
    vault: &Vault,
    held: &Held,
) -> Result<Verified<Bundle>, Failure> {
    let path = record.bundle(&held.vault, &held.lineage, held.sequence);
    let corrupt = || failure::home_corrupt(format!("{} is not what was imported", path.display()));
    let bytes = record.read(&path)?;
    let bundle = Bundle::open(&bytes, &vault.name, &vault.signing_key)
        .map_err(|error| corrupt().cause(error))?;
    if bundle.fingerprint() != held.fingerprint {
        return Err(corrupt());
    }
    Ok(bundle)
}

/// Reads the file of one of its segments, which must be the one that was imported: a damaged one is this home's fault,
/// and no medium's.
pub(crate) fn segment(
    record: &Record,
    bundle: &Bundle,
    number: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    let path = record.segment(&bundle.vault, &bundle.lineage, bundle.sequence, number);
    let bytes = record.read(&path)?;
    let facts = number
        .checked_sub(1)
        .and_then(|at| bundle.segments.get(at))
        .map(|facts| facts.file_digest);
    if facts != Some(Fingerprint::of(&bytes)) {
        let message = format!("{} is not what was imported", path.display());
        return Err(failure::home_corrupt(message));
    }
    Ok(Some(bytes))
}

/// Records that are read at a time.
const CHUNK_RECORDS: usize = 1024;

/// The leaves of a vault's log, as HQ holds it.
pub(crate) struct Leaves<'a> {
    sql: &'a Connection,
    record: &'a Record,
    vault: &'a Vault,
    opener: Opener<'a>,
}

impl<'a> Leaves<'a> {
    pub(crate) fn new(
        sql: &'a Connection,
        record: &'a Record,
        vault: &'a Vault,
        opener: Opener<'a>,
    ) -> Self {
        Self {
            sql,
            record,
            vault,
            opener,
        }
    }

    /// Gives each record of these, in order; fewer if HQ holds fewer.
    pub(crate) fn records(
        &self,
        range: Range<u64>,
        mut take: impl FnMut(Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut at = range.start;
        for held in bundles::of_vault(self.sql, &self.vault.name)? {
            if at >= range.end {
                break;
            }
            if held.log_size <= at || held.first > at {
                continue;
            }
            let bundle = bundle(self.record, self.vault, &held)?;
            let read = |number| segment(self.record, bundle.content(), number);
            let mut records = Records::new(bundle.content(), &read, self.opener);
            while at < range.end {
                let chunk = records.chunk(CHUNK_RECORDS)?;
                if chunk.is_empty() {
                    break;
                }
                for (sequence, raw) in chunk {
                    // What two bundles bring is one record.
                    if sequence == at && at < range.end {
                        take(raw)?;
                        at += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives each of the first `count`, in order; fewer if HQ holds fewer. Whichever lineages they are of, what HQ holds is one
    /// history.
    pub(crate) fn each(&self, count: u64, mut take: impl FnMut(Hash)) -> Result<(), Failure> {
        self.records(0..count, |raw| {
            take(leaf_hash(&raw));
            Ok(())
        })
    }
}
