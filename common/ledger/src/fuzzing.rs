//! What the fuzz targets call of this crate that nobody else may: the file of the state, apart from its file.

use sha2::{Digest as _, Sha256};

use crate::snapshot::Snapshot;

/// Where the state begins in the file, and where what the checksum is of.
const SUMMED: usize = 40;

/// Reads the file of a snapshot and writes it again; none if it is no fit one.
pub fn snapshot(bytes: &[u8]) -> Option<Vec<u8>> {
    let snapshot = Snapshot::from_bytes(bytes)?;
    Some(Snapshot::to_bytes(&snapshot.state, &snapshot.head))
}

/// Makes the checksum of a snapshot fit: whoever writes one on purpose sees to that.
pub fn mend_snapshot(bytes: &mut [u8]) {
    if let Some((head, summed)) = bytes.split_at_mut_checked(SUMMED)
        && let Some(digest) = head.last_chunk_mut::<32>()
    {
        *digest = Sha256::digest(summed).into();
    }
}
