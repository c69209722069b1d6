//! What was done to the disk, read from the lines of strace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Open {
    File {
        inode: Inode,
        at: usize,
        appends: bool,
    },
    Folder(PathBuf),
}

/// Makes steps of what strace wrote.
pub(super) struct Reader {
    pub(super) disk: Disk,
    pub(super) open: BTreeMap<i64, Open>,
    /// Calls that another thread came in between of: their beginning, and the step at which they were made.
    pub(super) begun: BTreeMap<String, (String, usize)>,
    pub(super) steps: Vec<Step>,
}

impl Reader {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            open: BTreeMap::new(),
            begun: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, line: &str) {
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

    pub(super) fn call(&mut self, call: &str, begun: usize) {
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

    pub(super) fn opened(&mut self, descriptor: i64, path: &Path, arguments: &str, creat: bool) {
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

    pub(super) fn written(&mut self, descriptor: i64, bytes: Vec<u8>, at: Option<usize>) {
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

    pub(super) fn content(&mut self, inode: Inode, content: Content) {
        let when = self.steps.len();
        self.disk.files[inode].pending.push((when, content.clone()));
        self.steps.push(Step::Content(inode, content));
    }

    pub(super) fn names(&mut self, when: usize, naming: Naming) {
        self.disk.rename(when, naming.clone());
        self.steps.push(Step::Names(naming));
    }

    /// The paths that a call names, each with the folder that it counts from.
    pub(super) fn paths(&self, arguments: &str) -> Vec<PathBuf> {
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
pub(super) fn number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || (*at == 0 && *c == '-')))
        .map_or(text.len(), |(at, _)| at);
    text[..end].parse().ok()
}

/// The path in the first pair of brackets, as `-y` gives it for a descriptor.
pub(super) fn bracketed(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    let path = String::from_utf8(unescaped(path)).unwrap();
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// The arguments of a call; commas within quotes and brackets divide nothing, as all of that is in hexadecimal.
pub(super) fn split(arguments: &str) -> Vec<String> {
    arguments.split(", ").map(str::to_owned).collect()
}

/// Every quoted string, as bytes.
pub(super) fn strings(text: &str) -> Vec<Vec<u8>> {
    text.split('"').skip(1).step_by(2).map(unescaped).collect()
}

pub(super) fn unescaped(text: &str) -> Vec<u8> {
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
