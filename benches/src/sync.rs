//! How long the disk takes to make one record last.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::issuing::median;

/// How often that is timed.
const SYNCS: usize = 100;

/// About as long as what a log holds of one request.
const BYTES: usize = 1_500;

/// The median of appending to a file in this folder and syncing it, in milliseconds.
pub(crate) fn milliseconds(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("synced")).unwrap();
    let one = |_| {
        let begin = Instant::now();
        file.write_all(&[7; BYTES]).unwrap();
        file.sync_data().unwrap();
        begin.elapsed().as_secs_f64() * 1e3
    };
    median((0..SYNCS).map(one).collect())
}
