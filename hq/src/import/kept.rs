//! Bundles that HQ holds, read from the record as they were received.

use mintmark_console::Failure;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::Fingerprint;

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
