//! Sticks as they are sold: an image of a FAT32 file system, filled and emptied by mtools, which needs no mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::judge;

/// The size of a stick. A FAT32 of clusters of 512 bytes has at least 65,525 of them.
const KIBIBYTES: &str = "131072";
/// Where Debian has it: a user's PATH does not lead there.
const MKFS: &str = "/usr/sbin/mkfs.vfat";
const FSCK: &str = "/usr/sbin/fsck.vfat";
const MCOPY: &str = "/usr/bin/mcopy";

/// A stick with FAT32 on it.
#[derive(Debug)]
pub struct Fat {
    image: PathBuf,
}

impl Fat {
    /// A new, empty one, as a file of this name. What it does not hold takes no room.
    pub fn new(image: PathBuf) -> Self {
        for tool in [MKFS, FSCK, MCOPY] {
            let there = Path::new(tool).exists();
            assert!(
                there,
                "{tool} (packages dosfstools and mtools) is a requirement of these tests, never skipped"
            );
        }
        judge::succeed(
            Command::new(MKFS)
                .args(["-F", "32", "-s", "1", "-C"])
                .arg(&image)
                .arg(KIBIBYTES),
        );
        Self { image }
    }

    /// Copies the folder `mintmark` of a folder to the stick. A name that FAT takes for another one is an error: mcopy
    /// would ask what to do, and nobody answers. One that FAT does not allow becomes another one.
    pub fn put(&self, folder: &Path) {
        let mut mcopy = self.mcopy();
        judge::succeed(mcopy.arg(folder.join("mintmark")).arg("::/"));
        judge::succeed(Command::new(FSCK).arg("-n").arg(&self.image));
    }

    /// Copies the folder `mintmark` on the stick into a new folder. What FAT does not keep is lost: who owns a file, and
    /// who may do what with it.
    pub fn take(&self, folder: &Path) {
        fs::create_dir(folder).unwrap();
        let mut mcopy = self.mcopy();
        judge::succeed(mcopy.arg("::/mintmark").arg(folder));
    }

    fn mcopy(&self) -> Command {
        let mut mcopy = Command::new(MCOPY);
        // With everything below it and its time, and without a guess at what is text.
        mcopy
            .args(["-s", "-m", "-i"])
            .arg(&self.image)
            .stdin(Stdio::null());
        mcopy
    }
}
