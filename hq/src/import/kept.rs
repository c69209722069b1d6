//! Bundles that HQ holds, read from the record as they were received.

use mintmark_console::Failure;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::Verified;

use crate::failure;
use crate::record::Record;
use crate::registry::bundles::Held;
use crate::registry::vaults::Vault;

/// Reads a bundle, which must be the one that was imported.
pub(crate) fn bundle(
    record: &Record,
    vault: &Vault,
    held: &Held,
) -> Result<Verified<Bundle>, Failure> {
    let path = record.bundle(&held.vault, &held.lineage, held.sequence);
    let corrupt = || failure::home_corrupt(format!("{} is not what was imported", path.display()));
    let bytes = record.read(&path).map_err(failure::home_corrupt)?;
    let bundle = Bundle::open(&bytes, &vault.name, &vault.signing_key)
        .map_err(|error| corrupt().cause(error))?;
    if bundle.fingerprint() != held.fingerprint {
        return Err(corrupt());
    }
    Ok(bundle)
}

/// Reads the file of one of its segments; that it is the right one is for the reader of records to see.
pub(crate) fn segment(
    record: &Record,
    held: &Held,
    number: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    let path = record.segment(&held.vault, &held.lineage, held.sequence, number);
    record.read(&path).map(Some).map_err(failure::home_corrupt)
}
