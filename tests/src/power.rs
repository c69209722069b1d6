//! What a disk holds after the power went: everything that was synced, and of the rest whatever it happens to be.
//!
//! A command is recorded with strace, each change with its bytes. The changes are done again in a model of a file system
//! that knows of each file and each name what is durable and what is pending. At any moment the power can go: of the pending
//! writes any sectors have arrived, pending names are there or not. Nothing is promised to a program that it did not sync:
//! neither that a name is kept with its file, nor that what was written first arrived first.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::command::{Run, Tool};
use crate::strace;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

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

type Inode = usize;

#[derive(Clone, Debug)]
enum Content {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    /// With the moment at which each was done.
    pending: Vec<(usize, Content)>,
    is_folder: bool,
}

impl File {
    fn live(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (_, content) in &self.pending {
            content.apply(&mut bytes);
        }
        bytes
    }

    fn live_length(&self) -> usize {
        self.live().len()
    }

    fn sync(&mut self, upto: usize) {
        let pending = std::mem::take(&mut self.pending);
        let (done, left): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|(when, _)| *when < upto);
        for (_, content) in done {
            content.apply(&mut self.durable);
        }
        self.pending = left;
    }

    /// What is left of it: `arrives` of sixteen sectors that were not synced.
    fn after_power_loss(&self, dice: &mut Dice, arrives: usize) -> Vec<u8> {
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
    fn apply(&self, file: &mut Vec<u8>) {
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
type Naming = Vec<(PathBuf, Option<Inode>)>;

/// The model.
#[derive(Clone, Debug, Default)]
struct Disk {
    files: Vec<File>,
    /// The names as the program sees them.
    live: BTreeMap<PathBuf, Inode>,
    durable: BTreeMap<PathBuf, Inode>,
    pending: Vec<(usize, Naming)>,
    below: Vec<PathBuf>,
}

fn name(names: &mut BTreeMap<PathBuf, Inode>, naming: &Naming) {
    for (path, inode) in naming {
        match inode {
            Some(inode) => names.insert(path.clone(), *inode),
            None => names.remove(path),
        };
    }
}

impl Disk {
    /// What is on the disk below these folders, all of it durable.
    fn read(below: &[PathBuf]) -> Self {
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

    fn is_ours(&self, path: &Path) -> bool {
        self.below.iter().any(|below| path.starts_with(below))
    }

    fn make(&mut self, is_folder: bool) -> Inode {
        self.files.push(File {
            is_folder,
            ..File::default()
        });
        self.files.len() - 1
    }

    fn rename(&mut self, when: usize, naming: Naming) {
        let naming: Naming = naming
            .into_iter()
            .filter(|(path, _)| self.is_ours(path))
            .collect();
        name(&mut self.live, &naming);
        self.pending.push((when, naming));
    }

    fn sync_folder(&mut self, folder: &Path, upto: usize) {
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

    fn sync_all(&mut self, upto: usize) {
        for file in &mut self.files {
            file.sync(upto);
        }
        let pending = std::mem::take(&mut self.pending);
        for (_, naming) in pending {
            name(&mut self.durable, &naming);
        }
    }

    /// Puts what is left after the power went in the place of what is there.
    fn lose_power(&self, dice: &mut Dice) {
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

#[derive(Clone, Debug)]
enum Open {
    File {
        inode: Inode,
        at: usize,
        appends: bool,
    },
    Folder(PathBuf),
}

/// Makes steps of what strace wrote.
struct Reader {
    disk: Disk,
    open: BTreeMap<i64, Open>,
    /// Calls that another thread came in between of: their beginning, and the step at which they were made.
    begun: BTreeMap<String, (String, usize)>,
    steps: Vec<Step>,
}

impl Reader {
    fn new(disk: Disk) -> Self {
        Self {
            disk,
            open: BTreeMap::new(),
            begun: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    fn read(&mut self, line: &str) {
        let Some((thread, call)) = line.split_once(' ') else {
            return;
        };
        let call = call.trim_start();
        if let Some(beginning) = call.strip_suffix("<unfinished ...>") {
            let begun = (beginning.to_owned(), self.steps.len());
            self.begun.insert(thread.to_owned(), begun);
            return;
        }
        if let Some(rest) = call.strip_prefix("<... ") {
            let (_, rest) = rest.split_once("resumed>").unwrap();
            let (beginning, at) = self.begun.remove(thread).unwrap();
            self.call(&format!("{beginning}{rest}"), at);
            return;
        }
        self.call(call, self.steps.len());
    }

    fn call(&mut self, call: &str, begun: usize) {
        let Some((name, rest)) = call.split_once('(') else {
            return;
        };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            return;
        };
        let result_number = number(result);
        if result_number.is_none_or(|number| number < 0) {
            return;
        }
        let strings = strings(arguments);
        let descriptor = number(arguments);
        let when = self.steps.len();
        match name {
            "open" | "openat" | "creat" => {
                let descriptor = result_number.unwrap();
                self.open.remove(&descriptor);
                let Some(path) = bracketed(result) else {
                    return;
                };
                self.opened(descriptor, &path, arguments, name == "creat");
            }
            "close" => drop(self.open.remove(&descriptor.unwrap())),
            "dup" | "dup2" | "dup3" | "fcntl" => {
                if name != "fcntl" || arguments.contains("F_DUPFD") {
                    let found = self.open.get(&descriptor.unwrap()).cloned();
                    self.open.remove(&result_number.unwrap());
                    self.open
                        .extend(found.map(|found| (result_number.unwrap(), found)));
                }
            }
            "lseek" => {
                if let Some(Open::File { at, .. }) = self.open.get_mut(&descriptor.unwrap()) {
                    *at = usize::try_from(result_number.unwrap()).unwrap();
                }
            }
            "write" | "writev" => {
                let mut bytes = strings.concat();
                bytes.truncate(usize::try_from(result_number.unwrap()).unwrap());
                self.written(descriptor.unwrap(), bytes, None);
            }
            "pwrite64" | "pwritev" | "pwritev2" => {
                let mut bytes = strings.concat();
                bytes.truncate(usize::try_from(result_number.unwrap()).unwrap());
                let last = arguments
                    .trim_end()
                    .trim_end_matches(')')
                    .rsplit(", ")
                    .next();
                let at = number(last.unwrap()).unwrap();
                assert_ne!(name, "pwritev2", "{call}");
                self.written(
                    descriptor.unwrap(),
                    bytes,
                    Some(usize::try_from(at).unwrap()),
                );
            }
            "ftruncate" | "fallocate" => {
                let Some(Open::File { inode, .. }) = self.open.get(&descriptor.unwrap()) else {
                    return;
                };
                let numbers: Vec<i64> = arguments.split(", ").skip(1).filter_map(number).collect();
                let mut length = usize::try_from(
                    numbers
                        .iter()
                        .rev()
                        .take(if name == "fallocate" { 2 } else { 1 })
                        .sum::<i64>(),
                )
                .unwrap();
                if name == "fallocate" {
                    length = length.max(self.disk.files[*inode].live_length());
                }
                self.content(*inode, Content::Length(length));
            }
            "fsync" | "fdatasync" => match self.open.get(&descriptor.unwrap()).cloned() {
                Some(Open::File { inode, .. }) => {
                    self.disk.files[inode].sync(begun);
                    self.steps.push(Step::Sync(inode, begun));
                }
                Some(Open::Folder(path)) => {
                    self.disk.sync_folder(&path, begun);
                    self.steps.push(Step::SyncFolder(path, begun));
                }
                None => {}
            },
            "syncfs" | "sync" => {
                self.disk.sync_all(begun);
                self.steps.push(Step::SyncAll(begun));
            }
            "rename" | "renameat" | "renameat2" => {
                let paths = self.paths(arguments);
                let [from, to] = &paths[..] else {
                    panic!("{call}")
                };
                assert!(!arguments.contains("RENAME_EXCHANGE"), "{call}");
                let Some(inode) = self.disk.live.get(from).copied() else {
                    return;
                };
                let mut naming = vec![(from.clone(), None), (to.clone(), Some(inode))];
                let below: Vec<_> = self
                    .disk
                    .live
                    .iter()
                    .filter(|(path, _)| path.starts_with(from) && *path != from)
                    .map(|(path, inode)| (path.clone(), *inode))
                    .collect();
                for (path, inode) in below {
                    let moved = to.join(path.strip_prefix(from).unwrap());
                    naming.push((path, None));
                    naming.push((moved, Some(inode)));
                }
                self.names(when, naming);
            }
            "link" | "linkat" => {
                let paths = self.paths(arguments);
                let [from, to] = &paths[..] else {
                    panic!("{call}")
                };
                if arguments.contains("AT_EMPTY_PATH") {
                    let Some(Open::File { inode, .. }) = self.open.get(&descriptor.unwrap()) else {
                        return;
                    };
                    let inode = *inode;
                    self.names(when, vec![(to.clone(), Some(inode))]);
                    return;
                }
                let by_number = from
                    .strip_prefix("/proc/self/fd")
                    .ok()
                    .and_then(|number| number.to_str()?.parse().ok());
                let inode = match by_number.and_then(|number: i64| self.open.get(&number)) {
                    Some(Open::File { inode, .. }) => *inode,
                    _ => match self.disk.live.get(from) {
                        Some(inode) => *inode,
                        None => return,
                    },
                };
                self.names(when, vec![(to.clone(), Some(inode))]);
            }
            "unlink" | "unlinkat" | "rmdir" => {
                let path = self.paths(arguments).remove(0);
                self.names(when, vec![(path, None)]);
            }
            "mkdir" | "mkdirat" => {
                let path = self.paths(arguments).remove(0);
                if self.disk.is_ours(&path) {
                    let inode = self.disk.make(true);
                    self.steps.push(Step::Make(inode, true));
                    self.names(when, vec![(path, Some(inode))]);
                }
            }
            // Nothing of the kind may touch our folders: the model does not know what it does.
            _ => {
                let ours = self
                    .paths(arguments)
                    .iter()
                    .any(|path| self.disk.is_ours(path));
                let open = descriptor.is_some_and(|number| self.open.contains_key(&number));
                assert!(!ours && !open, "{call}");
            }
        }
    }

    fn opened(&mut self, descriptor: i64, path: &Path, arguments: &str, creat: bool) {
        if !self.disk.is_ours(path) {
            return;
        }
        let flag = |flag: &str| creat || arguments.contains(flag);
        let found = self.disk.live.get(path).copied();
        let inode = match found {
            Some(inode) if self.disk.files[inode].is_folder => {
                self.open.insert(descriptor, Open::Folder(path.to_owned()));
                return;
            }
            Some(inode) => inode,
            None if flag("O_CREAT") || arguments.contains("O_TMPFILE") => {
                let inode = self.disk.make(false);
                self.steps.push(Step::Make(inode, false));
                if !arguments.contains("O_TMPFILE") {
                    let when = self.steps.len();
                    self.names(when, vec![(path.to_owned(), Some(inode))]);
                }
                inode
            }
            None => return,
        };
        if flag("O_TRUNC") && found.is_some() {
            self.content(inode, Content::Length(0));
        }
        let appends = arguments.contains("O_APPEND");
        self.open.insert(
            descriptor,
            Open::File {
                inode,
                at: 0,
                appends,
            },
        );
    }

    fn written(&mut self, descriptor: i64, bytes: Vec<u8>, at: Option<usize>) {
        if descriptor == 1 {
            self.steps.push(Step::Said(bytes));
            return;
        }
        let Some(Open::File {
            inode,
            at: next,
            appends,
        }) = self.open.get_mut(&descriptor)
        else {
            return;
        };
        let inode = *inode;
        let at = match at {
            Some(at) => at,
            None => {
                if *appends {
                    *next = self.disk.files[inode].live_length();
                }
                let at = *next;
                *next += bytes.len();
                at
            }
        };
        self.content(inode, Content::Write { at, bytes });
    }

    fn content(&mut self, inode: Inode, content: Content) {
        let when = self.steps.len();
        self.disk.files[inode].pending.push((when, content.clone()));
        self.steps.push(Step::Content(inode, content));
    }

    fn names(&mut self, when: usize, naming: Naming) {
        self.disk.rename(when, naming.clone());
        self.steps.push(Step::Names(naming));
    }

    /// The paths that a call names, each with the folder that it counts from.
    fn paths(&self, arguments: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folder = PathBuf::new();
        for part in split(arguments) {
            if part.starts_with('"') {
                let bytes = strings(&part).concat();
                found.push(folder.join(String::from_utf8(bytes).unwrap()));
            } else if let Some(path) = bracketed(&part) {
                folder = path;
            }
        }
        found
    }
}

/// The number that a text begins with.
fn number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || (*at == 0 && *c == '-')))
        .map_or(text.len(), |(at, _)| at);
    text[..end].parse().ok()
}

/// The path in the first pair of brackets, as `-y` gives it for a descriptor.
fn bracketed(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    let path = String::from_utf8(unescaped(path)).unwrap();
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// The arguments of a call; commas within quotes and brackets divide nothing, as all of that is in hexadecimal.
fn split(arguments: &str) -> Vec<String> {
    arguments.split(", ").map(str::to_owned).collect()
}

/// Every quoted string, as bytes.
fn strings(text: &str) -> Vec<Vec<u8>> {
    text.split('"').skip(1).step_by(2).map(unescaped).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
            rest = &hex[2..];
        } else {
            let mut buffer = [0; 4];
            bytes.extend_from_slice(first.encode_utf8(&mut buffer).as_bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, Recording) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("old"), vec![1; 2000]).unwrap();
        let path = home.display();
        let lines = [
            format!("1 openat(AT_FDCWD<{path}>, \"{path}/old\", O_RDWR) = 3<{path}/old>"),
            format!(
                "1 openat(AT_FDCWD<{path}>, \"{path}/new\", O_RDWR|O_CREAT, 0600) = 4<{path}/new>"
            ),
            format!("1 pwrite64(3<{path}/old>, \"\\x02\\x02\", 2, 600) = 2"),
            format!("1 fdatasync(3<{path}/old>) = 0"),
            format!("1 write(4<{path}/new>, \"\\x41\", 1) = 1"),
            "1 write(1<pipe:[1]>, \"\\x6f\\x6b\", 2) = 2".to_owned(),
            format!("1 pwrite64(3<{path}/old>, \"\\x03\\x03\", 2, 1023) = 2"),
        ];
        let mut reader = Reader::new(Disk::read(std::slice::from_ref(&home)));
        lines.iter().for_each(|line| reader.read(line));
        let before = Disk::read(&[home]);
        let steps = reader.steps;
        (folder, Recording { before, steps })
    }

    #[test]
    fn what_was_synced_is_kept_and_the_rest_is_there_or_not_by_sectors() {
        let (folder, recording) = disk();
        let (mut torn, mut named) = (0, 0);
        for seed in 0..300 {
            let known = recording.lose_power(recording.steps.len(), &mut Dice::new(seed));
            assert_eq!(known.said, "ok");
            let home = folder.path().join("home");
            assert_eq!(known.seen[&home.join("new")], b"A");
            let old = fs::read(home.join("old")).unwrap();
            assert_eq!(old[600..602], [2, 2]);
            torn += u32::from(old[1023] != old[1024]);
            named += u32::from(home.join("new").exists());
        }
        assert!(torn > 20 && named > 50 && named < 250, "{torn} {named}");
    }
}
