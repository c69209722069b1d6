//! What a disk holds after the power went: everything that was synced, and of the rest whatever it happens to be.
//!
//! A command is recorded with strace, each change with its bytes. The changes are done again in a model of a file system
//! that knows of each file and each name what is durable and what is pending. At any moment the power can go: of the pending
//! writes any sectors have arrived, pending names are there or not. Nothing is promised to a program that it did not sync:
//! neither that a name is kept with its file, nor that what was written first arrived first.

mod disk;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::disk::*;
use self::reader::*;
use crate::command::{Run, Tool};
use crate::strace;

/// What is traced: every call that changes files, and those that say which file a descriptor is.
const TRACED: &str = "openat,open,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,truncate,\
                      ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,\
                      mkdir,mkdirat,fsync,fdatasync,syncfs,sync,copy_file_range,sendfile,msync";

/// A source of randomness that gives the same again for the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as this number says.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `below`.
    pub fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % below.max(1)
    }

    fn chance(&mut self, of_sixteen: usize) -> bool {
        self.below(16) < of_sixteen
    }
}

fn name(names: &mut BTreeMap<PathBuf, Inode>, naming: &Naming) {
    for (path, inode) in naming {
        match inode {
            Some(inode) => names.insert(path.clone(), *inode),
            None => names.remove(path),
        };
    }
}

/// A change, or something said.
#[derive(Clone, Debug)]
enum Step {
    Names(Naming),
    Make(Inode, bool),
    Content(Inode, Content),
    Sync(Inode, usize),
    SyncFolder(PathBuf, usize),
    SyncAll(usize),
    Said(Vec<u8>),
}

/// Everything that a command did to some folders, in order.
#[derive(Clone, Debug)]
pub struct Recording {
    before: Disk,
    steps: Vec<Step>,
}

/// What was known to the world when the power went.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// What had been said on standard output.
    pub said: String,
    /// The files that could be seen, with what they held.
    pub seen: BTreeMap<PathBuf, Vec<u8>>,
}

impl Recording {
    /// Runs a command and records what it does below these folders.
    pub fn of(tool: &Tool, below: &[PathBuf]) -> (Run, Self) {
        let before = Disk::read(below);
        let (run, lines) = strace::recorded(tool, TRACED);
        let mut reader = Reader::new(before.clone());
        for line in &lines {
            reader.read(line);
        }
        let steps = reader.steps;
        (run, Self { before, steps })
    }

    /// How many moments there are at which the power can go.
    pub fn moments(&self) -> usize {
        self.steps.len() + 1
    }

    /// The moments right behind something that was said.
    pub fn moments_after_words(&self) -> Vec<usize> {
        let said = |(at, step): (usize, &Step)| matches!(step, Step::Said(_)).then_some(at + 1);
        self.steps.iter().enumerate().filter_map(said).collect()
    }

    /// The moments right behind a write to a file that was there before and whose name ends so: it is not synced then.
    pub fn moments_amid_writes(&self, ending: &str) -> Vec<usize> {
        let names = self.before.live.iter();
        let of: Vec<Inode> = names
            .filter(|(path, _)| path.to_str().is_some_and(|path| path.ends_with(ending)))
            .map(|(_, inode)| *inode)
            .collect();
        let written = |(at, step): (usize, &Step)| match step {
            Step::Content(inode, _) if of.contains(inode) => Some(at + 1),
            _ => None,
        };
        self.steps.iter().enumerate().filter_map(written).collect()
    }

    /// Has the power go after so many steps, and puts what is left in the place of the folders.
    pub fn lose_power(&self, after: usize, dice: &mut Dice) -> Acknowledged {
        let mut disk = self.before.clone();
        let mut said = Vec::new();
        for (when, step) in self.steps[..after].iter().enumerate() {
            match step {
                Step::Names(naming) => disk.rename(when, naming.clone()),
                Step::Make(inode, is_folder) => assert_eq!(disk.make(*is_folder), *inode),
                Step::Content(inode, content) => {
                    disk.files[*inode].pending.push((when, content.clone()));
                }
                Step::Sync(inode, begun) => disk.files[*inode].sync(*begun),
                Step::SyncFolder(folder, begun) => disk.sync_folder(folder, *begun),
                Step::SyncAll(begun) => disk.sync_all(*begun),
                Step::Said(bytes) => said.extend_from_slice(bytes),
            }
        }
        disk.lose_power(dice);
        let files = disk
            .live
            .iter()
            .filter(|(_, inode)| !disk.files[**inode].is_folder);
        let seen = files.map(|(path, inode)| (path.clone(), disk.files[*inode].live()));
        Acknowledged {
            said: String::from_utf8_lossy(&said).into_owned(),
            seen: seen.collect(),
        }
    }
}
