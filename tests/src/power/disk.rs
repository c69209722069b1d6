//! What a disk holds for sure, and what it may hold besides.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;

/// What a disk writes whole or not at all, in bytes.
pub(super) const SECTOR: usize = 512;

pub(super) type Inode = usize;

#[derive(Clone, Debug)]
pub(super) enum Content {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) durable: Vec<u8>,
    /// With the moment at which each was done.
    pub(super) pending: Vec<(usize, Content)>,
    pub(super) is_folder: bool,
}

impl File {
    pub(super) fn live(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (_, content) in &self.pending {
            content.apply(&mut bytes);
        }
        bytes
    }

    pub(super) fn live_length(&self) -> usize {
        self.live().len()
    }

    pub(super) fn sync(&mut self, upto: usize) {
        let pending = std::mem::take(&mut self.pending);
        let (done, left): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|(when, _)| *when < upto);
        for (_, content) in done {
            content.apply(&mut self.durable);
        }
        self.pending = left;
    }

    /// What is left of it: `arrives` of sixteen sectors that were not synced.
    pub(super) fn after_power_loss(&self, dice: &mut Dice, arrives: usize) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (_, content) in &self.pending {
            match content {
                Content::Length(_) => {
                    if dice.chance(arrives) {
                        content.apply(&mut bytes);
                    }
                }
                Content::Write { at, bytes: written } => {
                    let mut from = 0;
                    while from < written.len() {
                        // To the end of the sector on the disk, not of the write.
                        let end = (((at + from) / SECTOR + 1) * SECTOR - at).min(written.len());
                        if dice.chance(arrives) {
                            Content::Write {
                                at: at + from,
                                bytes: written[from..end].to_vec(),
                            }
                            .apply(&mut bytes);
                        }
                        from = end;
                    }
                }
            }
        }
        bytes
    }
}

impl Content {
    pub(super) fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Length(length) => file.resize(*length, 0),
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*at..end].copy_from_slice(bytes);
            }
        }
    }
}

/// A change of names: each path is this file's from now on, or nobody's.
pub(super) type Naming = Vec<(PathBuf, Option<Inode>)>;

/// The model.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) files: Vec<File>,
    /// The names as the program sees them.
    pub(super) live: BTreeMap<PathBuf, Inode>,
    pub(super) durable: BTreeMap<PathBuf, Inode>,
    pub(super) pending: Vec<(usize, Naming)>,
    pub(super) below: Vec<PathBuf>,
}

impl Disk {
    /// What is on the disk below these folders, all of it durable.
    pub(super) fn read(below: &[PathBuf]) -> Self {
        let mut disk = Self {
            below: below.to_vec(),
            ..Self::default()
        };
        let mut left = below.to_vec();
        while let Some(path) = left.pop() {
            let Ok(found) = fs::symlink_metadata(&path) else {
                continue;
            };
            let mut file = File::default();
            if found.is_dir() {
                file.is_folder = true;
                left.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else {
                file.durable = fs::read(&path).unwrap();
            }
            disk.files.push(file);
            disk.live.insert(path, disk.files.len() - 1);
        }
        disk.durable = disk.live.clone();
        disk
    }

    pub(super) fn is_ours(&self, path: &Path) -> bool {
        self.below.iter().any(|below| path.starts_with(below))
    }

    pub(super) fn make(&mut self, is_folder: bool) -> Inode {
        self.files.push(File {
            is_folder,
            ..File::default()
        });
        self.files.len() - 1
    }

    pub(super) fn rename(&mut self, when: usize, naming: Naming) {
        let naming: Naming = naming
            .into_iter()
            .filter(|(path, _)| self.is_ours(path))
            .collect();
        name(&mut self.live, &naming);
        self.pending.push((when, naming));
    }

    pub(super) fn sync_folder(&mut self, folder: &Path, upto: usize) {
        let pending = std::mem::take(&mut self.pending);
        for (when, naming) in pending {
            let here = naming.iter().any(|(path, _)| path.parent() == Some(folder));
            if when < upto && here {
                name(&mut self.durable, &naming);
            } else {
                self.pending.push((when, naming));
            }
        }
    }

    pub(super) fn sync_all(&mut self, upto: usize) {
        for file in &mut self.files {
            file.sync(upto);
        }
        let pending = std::mem::take(&mut self.pending);
        for (_, naming) in pending {
            name(&mut self.durable, &naming);
        }
    }

    /// Puts what is left after the power went in the place of what is there.
    pub(super) fn lose_power(&self, dice: &mut Dice) {
        // All of what was not synced, nothing of it, or anything.
        let arrives = [0, 16, 8, 4, 14][dice.below(5)];
        let mut names = self.durable.clone();
        for (_, naming) in &self.pending {
            if dice.chance(arrives) {
                name(&mut names, naming);
            }
        }
        for below in &self.below {
            if below.exists() {
                fs::remove_dir_all(below).unwrap();
            }
        }
        for (path, inode) in &names {
            // Folders come before what is in them, and without them nothing is.
            let parent = path.parent().unwrap();
            let is_top = self.below.contains(path);
            if !is_top && !parent.is_dir() {
                continue;
            }
            let file = &self.files[*inode];
            if file.is_folder {
                fs::create_dir(path).unwrap();
                fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
            } else {
                fs::write(path, file.after_power_loss(dice, arrives)).unwrap();
                fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
}
