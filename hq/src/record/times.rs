//! When each object of the record was kept, and in which order; and the few things that headquarters decided and no object
//! says. A registry that is lost is made again in this order, at these times.
//!
//! One line each, `<Unix seconds> <what> <words> <check>`, appended and synced after the object is in its place. A line that was
//! cut off counts for nothing. Nobody believes anything for standing here: what an object says, it says by its signatures.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mintmark_console::{Exit, Failure};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::trust::Role;

use crate::clock;

/// Its file in the record.
const FILE: &str = "times";

/// What is noted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// An object was kept: its path within the record, and the SHA-256 of its bytes.
    Kept { path: String, digest: Fingerprint },
    /// A manifest that headquarters had forgotten was taken back.
    TakenBack { version: u64 },
    /// An order was sealed that its vault is not told of.
    Untold { draft: Fingerprint },
    /// An officer was listed, by a request of this fingerprint, with these roles; the keys that were listed before stay.
    Listed {
        officer: OfficerId,
        request: Fingerprint,
        adds_key: bool,
        roles: Vec<Role>,
    },
    /// An officer was taken off the list.
    Removed { officer: OfficerId },
    /// Of the key ceremony: the certificate of the first root, or the key in escrow, in hexadecimal.
    Fact { name: String, value: String },
}

/// What was noted, and when: Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) time: u64,
    pub(crate) what: What,
}

/// Whether it is noted when an object with this path in the record was kept: a registry is made from it, or would lack it. Segments
/// come with their bundles.
pub(crate) fn counts(path: &str) -> bool {
    let folders = [
        "trust/trust-",
        "drafts/",
        "approvals/",
        "sent/",
        "received/",
        "evidence/",
    ];
    let is_message = folders.iter().any(|folder| path.starts_with(folder))
        && path.ends_with(".cose")
        && !path.contains("/tail-");
    // Nothing else says that it was there, and nothing brings it back.
    is_message || path.starts_with("ca/root-link-") && path.ends_with(".der")
}

/// How many digits of its SHA-256 stand behind a line.
const CHECK_DIGITS: usize = 16;

impl Entry {
    fn line(&self) -> String {
        let words = match &self.what {
            What::Kept { path, digest } => format!("kept {path} {digest}"),
            What::TakenBack { version } => format!("taken-back {version}"),
            What::Untold { draft } => format!("untold {draft}"),
            What::Listed {
                officer,
                request,
                adds_key,
                roles,
            } => {
                let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                let manner = if *adds_key { "beside" } else { "alone" };
                format!("listed {officer} {request} {manner} {}", roles.join(","))
            }
            What::Removed { officer } => format!("removed {officer}"),
            What::Fact { name, value } => format!("fact {name} {value}"),
        };
        let line = format!("{} {words}", self.time);
        format!("{line} {}\n", check(&line))
    }

    fn parse(line: &str) -> Option<Self> {
        let (line, given) = line.rsplit_once(' ')?;
        if check(line) != given {
            return None;
        }
        let mut words = line.split(' ');
        let time = words.next()?.parse().ok()?;
        let verb = words.next()?;
        let words: Vec<&str> = words.collect();
        let what = match (verb, words.as_slice()) {
            ("kept", [path, digest]) => What::Kept {
                path: (*path).to_owned(),
                digest: digest.parse().ok()?,
            },
            ("taken-back", [version]) => What::TakenBack {
                version: version.parse().ok()?,
            },
            ("untold", [draft]) => What::Untold {
                draft: draft.parse().ok()?,
            },
            ("listed", [officer, request, manner, roles]) => What::Listed {
                officer: officer.parse().ok()?,
                request: request.parse().ok()?,
                adds_key: *manner == "beside",
                roles: roles
                    .split(',')
                    .filter(|role| !role.is_empty())
                    .map(|role| role.parse().ok())
                    .collect::<Option<_>>()?,
            },
            ("removed", [officer]) => What::Removed {
                officer: officer.parse().ok()?,
            },
            ("fact", [name, value]) => What::Fact {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            },
            _ => return None,
        };
        Some(Self { time, what })
    }
}

fn check(line: &str) -> String {
    let digest = Fingerprint::of(line.as_bytes()).to_string();
    digest.chars().take(CHECK_DIGITS).collect()
}

/// A line that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// Which, from 1.
    pub(crate) number: u64,
    pub(crate) meaning: Meaning,
}

/// What a damaged line can have said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It was cut off while it was written, and nothing was done that depends on it.
    Cut,
    /// That an object with this path was kept.
    Kept(String),
    /// Anything.
    Unknown,
}

/// Each that begins a line, and how many words follow it before the check.
const VERBS: [(&str, usize); 6] = [
    ("kept", 2),
    ("taken-back", 1),
    ("untold", 1),
    ("listed", 4),
    ("removed", 1),
    ("fact", 2),
];

impl Damaged {
    fn new(number: u64, line: &str) -> Self {
        let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let words: Vec<&str> = line.split(' ').collect();
        let known = words.get(1).and_then(|verb| {
            let mut verbs = VERBS.iter();
            verbs.find(|(known, _)| known == verb)
        });
        let meaning = match (words.as_slice(), known) {
            ([_, "kept", path, digest, check], _)
                if digest.len() == 64 && check.len() == CHECK_DIGITS && counts(path) =>
            {
                Meaning::Kept((*path).to_owned())
            }
            ([time], _) if time.bytes().all(|byte| byte.is_ascii_digit()) => Meaning::Cut,
            ([_, begun], _) if VERBS.iter().any(|(verb, _)| verb.starts_with(begun)) => {
                Meaning::Cut
            }
            ([.., last], Some((_, count))) => {
                let rest = words.len().saturating_sub(2);
                // A digest that is cut is no check, and neither is what is not whole.
                let of_check = rest == count + 1 && last.len() < CHECK_DIGITS && is_hex(last);
                let is_path = words.get(2).is_some_and(|path| counts(path));
                let digest = matches!(words.get(1), Some(&"kept")) && rest == 2 && is_path
                    || matches!(words.get(1), Some(&"untold")) && rest == 1
                    || matches!(words.get(1), Some(&"listed")) && rest == 2;
                let end = last.len().saturating_sub(CHECK_DIGITS);
                let may_be_check = last.len() >= CHECK_DIGITS && last.get(end..).is_none_or(is_hex);
                let of_words = rest <= *count && (digest && last.len() <= 64 || !may_be_check);
                if of_check || of_words {
                    Meaning::Cut
                } else {
                    Meaning::Unknown
                }
            }
            _ => Meaning::Unknown,
        };
        Self { number, meaning }
    }
}

/// The file.
pub(crate) struct Times(PathBuf);

impl Times {
    /// That of a record.
    pub(crate) fn of(record: &Path) -> Self {
        Self(record.join(FILE))
    }

    /// Notes something, now.
    pub(super) fn append(&self, what: &What) -> Result<(), Failure> {
        let entry = Entry {
            time: clock::now_unix(),
            what: what.clone(),
        };
        self.append_all(&[entry])
    }

    /// Notes several things, each at its own time.
    pub(super) fn append_all(&self, entries: &[Entry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let lines: String = entries.iter().map(Entry::line).collect();
        self.write(&lines).map_err(|error| self.io(error))
    }

    fn write(&self, lines: &str) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.0)?;
        let length = file.metadata()?.len();
        if length == 0 {
            // It has its name for good before anything in it counts.
            let folder = self.0.parent().unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()?;
        } else {
            // A line that was cut off ends here.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()
    }

    /// Everything that was noted, in order; and the lines that are damaged. Nothing where there is no such file: then the home is
    /// of a version that noted nothing.
    pub(crate) fn read(&self) -> Result<(Vec<Entry>, Vec<Damaged>), Failure> {
        let bytes = match std::fs::read(&self.0) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok((vec![], vec![]));
            }
            read => read.map_err(|error| self.io(error))?,
        };
        let (mut entries, mut damaged) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(String::from_utf8_lossy(&bytes).lines()) {
            match Entry::parse(line) {
                Some(entry) => entries.push(entry),
                None => damaged.push(Damaged::new(number, line)),
            }
        }
        Ok((entries, damaged))
    }

    fn io(&self, error: std::io::Error) -> Failure {
        let message = format!("{} could not be written or read", self.0.display());
        Failure::new(Exit::Environment, "FILE-IO", message)
            .cause(error)
            .hint("check the path, its permissions and the disk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<What> {
        let digest = Fingerprint::of(b"object");
        vec![
            What::Fact {
                name: "escrow_key".to_owned(),
                value: "04ab".to_owned(),
            },
            What::Listed {
                officer: "alice".parse().unwrap(),
                request: digest,
                adds_key: true,
                roles: vec![Role::Trust, Role::ALL[1]],
            },
            What::Listed {
                officer: "bob".parse().unwrap(),
                request: digest,
                adds_key: false,
                roles: Vec::new(),
            },
            What::Kept {
                path: "trust/trust-000001.cose".to_owned(),
                digest,
            },
            What::TakenBack { version: 2 },
            What::Untold { draft: digest },
            What::Removed {
                officer: "alice".parse().unwrap(),
            },
        ]
    }

    #[test]
    fn what_was_noted_is_read_in_its_order_and_what_was_cut_off_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let times = Times::of(folder.path());
        assert_eq!(times.read().unwrap(), (vec![], vec![]));
        for what in every_kind() {
            clock::at(7, || times.append(&what)).unwrap();
        }
        let (entries, damaged) = times.read().unwrap();
        assert_eq!(damaged, []);
        assert!(entries.iter().all(|entry| entry.time == 7));
        let whole: Vec<What> = entries.into_iter().map(|entry| entry.what).collect();
        assert_eq!(whole, every_kind());
        // Cut anywhere in its last line, and written on.
        let bytes = std::fs::read(&times.0).unwrap();
        let last = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap();
        for cut in last + 2..bytes.len() - 1 {
            std::fs::write(&times.0, &bytes[..cut]).unwrap();
            times.append(&What::TakenBack { version: 3 }).unwrap();
            let (entries, damaged) = times.read().unwrap();
            assert_eq!((entries.len(), damaged.len()), (whole.len(), 1), "{cut}");
            assert_eq!(damaged[0].meaning, Meaning::Cut, "{cut}");
        }
    }

    #[test]
    fn a_line_that_was_changed_counts_for_nothing() {
        for what in every_kind() {
            let line = Entry { time: 7, what }.line();
            let line = line.trim_end();
            assert!(Entry::parse(line).is_some());
            for at in 0..line.len() {
                let mut changed = line.as_bytes().to_vec();
                changed[at] ^= 1;
                let changed = String::from_utf8_lossy(&changed).into_owned();
                assert_eq!(Entry::parse(&changed), None, "{changed}");
                // And nobody takes it for one that was cut off.
                let damaged = Damaged::new(1, &changed);
                assert_ne!(damaged.meaning, Meaning::Cut, "{changed}");
            }
        }
    }
}
