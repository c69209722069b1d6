//! What the files of a certificate cost when nothing else is done: its own and its chain's, new ones in one folder, synced
//! and named as `site issue` does that.

use std::fs;
use std::path::Path;

use mintmark_console::files::Folder;

use crate::requests;
use crate::scene::processor_seconds;

/// How many certificates share their syncs; about as many as wait for one while the line works.
const GROUP: u32 = 1024;

/// About as long as a certificate, and as one with that of its issuer behind it, PEM.
const BYTES: [usize; 2] = [700, 1_500];

/// The processor time of the files of one certificate among so many, in microseconds. What the kernel does in threads of
/// its own is not in it, as it is not in that of issuing.
pub(crate) fn microseconds(path: &Path, certificates: u32) -> f64 {
    fs::create_dir(path).unwrap();
    let folder = Folder::open(path).unwrap();
    let before = processor_seconds(Path::new("/proc/self")).unwrap();
    for first in (0..certificates).step_by(GROUP as usize) {
        let numbers = first..certificates.min(first.saturating_add(GROUP));
        let files: Vec<(String, Vec<u8>)> = numbers
            .flat_map(|number| {
                let device = requests::device_id(number);
                let text = |bytes: usize| device.bytes().cycle().take(bytes).collect();
                let [leaf, chain] = BYTES.map(text);
                [
                    (format!("{device}.pem"), leaf),
                    (format!("{device}.chain.pem"), chain),
                ]
            })
            .collect();
        let written = folder.write_public_new_all(&files);
        written.into_iter().for_each(|written| written.unwrap());
    }
    let after = processor_seconds(Path::new("/proc/self")).unwrap();
    (after - before) * 1e6 / f64::from(certificates)
}
