//! What `doctor` tries of the machine around the program: the process itself, folders, disks, the clock, media.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{fdatasync, statfs, statvfs};

use crate::files::{self, Folder};
use crate::process::leaves_no_core;
use crate::time::rfc3339;
use crate::{Check, Exit, Failure};

/// Less free space than this lets nothing be written that is larger than a message.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Less than this is used up before somebody looks again.
const FREE_BYTES_ENOUGH: u64 = 1 << 30;
/// A medium carries messages, and some logs.
const MEDIUM_BYTES_MIN: u64 = 16 << 20;
/// How often a sync is tried, and with how much.
const SYNCS: u32 = 8;
const SYNC_BYTES: usize = 4096;
/// Files of a home that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// No clock that is right stands before this program was written: 2026-01-01.
const CLOCK_EARLIEST: u64 = 1_767_225_600;

/// What is written and read back to try a medium.
const TRIAL: &str = "mintmark-doctor.part";

fn environment(code: &'static str, message: impl Into<String>) -> Failure {
    Failure::new(Exit::Environment, code, message)
}

/// Whether this process leaves its memory to others.
#[must_use]
pub fn process() -> Check {
    if leaves_no_core() {
        return Check::good(
            "process",
            "it leaves no core file, and no other process of this user reads its memory",
        );
    }
    let failure = environment(
        "PROCESS-EXPOSED",
        "the system lets other processes of this user read this one's memory, or write it to a core file",
    )
    .hint("run it without a debugger, and with RLIMIT_CORE 0 (in a unit of systemd: LimitCORE=0)");
    Check::bad("process", &failure).warning()
}

/// Whether everything in a home belongs to its owner, and to nobody else.
#[must_use]
pub fn rights(home: &Path) -> Check {
    let user = rustix::process::geteuid().as_raw();
    let (mut seen, mut open, mut wrong) = (0, vec![home.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            wrong.push(format!("{} cannot be listed", folder.display()));
            continue;
        };
        for entry in entries.flatten() {
            seen += 1;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let path = entry.path();
            if metadata.file_type().is_symlink() {
                wrong.push(format!("{} is a link", path.display()));
            } else if metadata.uid() != user {
                wrong.push(format!(
                    "{} belongs to user {}",
                    path.display(),
                    metadata.uid()
                ));
            } else if metadata.mode() & 0o077 != 0 {
                let mode = metadata.permissions().mode() & 0o7777;
                wrong.push(format!("{} has the mode {mode:04o}", path.display()));
            } else if metadata.is_dir() && seen < ENTRIES_MAX {
                open.push(path);
            }
        }
    }
    let Some(first) = wrong.first() else {
        let files = format!("all {seen} files and folders in it are this user's alone");
        return Check::good("rights", files);
    };
    let more = match wrong.len() {
        1 => String::new(),
        count => format!(", and {} more are so", count - 1),
    };
    let failure = environment("HOME-FILE-EXPOSED", format!("{first}{more}")).hint(format!(
        "find out who did it, then run `chmod -R go= {}` as its owner; the folder itself keeps others out meanwhile",
        home.display()
    ));
    Check::bad("rights", &failure).warning()
}

/// Whether the disk of a folder has room.
#[must_use]
pub fn space(folder: &Path) -> Check {
    let name = "free space";
    let shown = folder.display();
    let status = match statvfs(folder) {
        Ok(status) => status,
        Err(error) => {
            let failure = environment("FILE-IO", format!("the disk of {shown} cannot be asked"));
            return Check::bad(name, &failure.cause(error).hint("check the disk"));
        }
    };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let no_files = status.f_files > 0 && status.f_favail == 0;
    let message = match no_files {
        true => format!("the disk of {shown} takes no more files"),
        false => format!("{} are free for {shown}", in_bytes(free)),
    };
    let hint = "make room before it is used up: what cannot be put on record is not done";
    if no_files || free < FREE_BYTES_MIN {
        return Check::bad(name, &environment("DISK-FULL", message).hint(hint));
    }
    if free < FREE_BYTES_ENOUGH {
        return Check::bad(name, &environment("DISK-LOW", message).hint(hint)).warning();
    }
    Check::good(name, message)
}

/// Whether what is synced in a folder lasts, as far as its file system tells, and how long a sync takes: it is done.
#[must_use]
pub fn sync(folder: &Path) -> Check {
    let name = "disk sync";
    let shown = folder.display();
    let took = match synced(folder) {
        Ok(took) => took,
        Err(error) => {
            let message = format!("nothing can be made durable in {shown}");
            let failure = Failure::from(error);
            let cause = failure.cause.unwrap_or(failure.message);
            let failure = Failure::new(Exit::Environment, failure.code, message)
                .cause(cause)
                .hint_maybe(failure.hint);
            return Check::bad(name, &failure);
        }
    };
    let (slowest, all) = (took.iter().max(), took.iter().sum::<Duration>());
    let message = format!(
        "{SYNCS} writes of {SYNC_BYTES} bytes were synced in {}, the slowest in {}",
        in_time(all),
        in_time(slowest.copied().unwrap_or_default())
    );
    let kind = statfs(folder).map(|status| status.f_type as u64 & 0xffff_ffff);
    // The numbers of magic.h in Linux.
    match kind {
        Ok(0x0102_1994 | 0x8584_58f6) => {
            let message = format!("{shown} is in memory: a loss of power takes all of it");
            let hint = "use a folder on a disk for anything that has to last";
            Check::bad(name, &environment("DISK-VOLATILE", message).hint(hint)).warning()
        }
        Ok(0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b) => {
            let message = format!("{shown} is on another machine ({message})");
            let hint = "use a folder on a disk of this machine: locks and syncs of network file systems cannot be relied upon";
            Check::bad(name, &environment("DISK-REMOTE", message).hint(hint)).warning()
        }
        _ => Check::good(name, message),
    }
}

fn synced(folder: &Path) -> Result<Vec<Duration>, files::Error> {
    let path = folder.join(format!("doctor.{}.part", std::process::id()));
    // Whole and durable once, as everything is written; the file goes before it is written again, and leaves no name.
    files::write_new(&path, &[0; SYNC_BYTES])?;
    let opened = File::options().write(true).open(&path);
    Folder::open(folder)?.remove(path.file_name().unwrap_or_default())?;
    let failed = |error| files::Error::new(files::Operation::Write, &path, error);
    let file = opened.map_err(failed)?;
    let mut took = Vec::new();
    for round in 0..SYNCS {
        let begun = Instant::now();
        rustix::io::pwrite(
            &file,
            &[1; SYNC_BYTES],
            u64::from(round) * SYNC_BYTES as u64,
        )
        .and_then(|_| fdatasync(&file))
        .map_err(|error| failed(error.into()))?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

/// Whether the clock, in Unix seconds, can be right: it stands behind nothing that is known to have been. `known` is the
/// newest such time, and where it is from.
#[must_use]
pub fn clock(now: u64, known: Option<(u64, &str)>) -> Check {
    let earliest = (CLOCK_EARLIEST, "when this program was written");
    let (then, what) = known.filter(|known| *known > earliest).unwrap_or(earliest);
    if now >= then {
        return Check::good(
            "clock",
            format!("{}, behind nothing that is known", rfc3339(now)),
        );
    }
    let message = format!(
        "it says {}, and that is before {what} ({})",
        rfc3339(now),
        rfc3339(then)
    );
    let failure = environment("CLOCK-IMPOSSIBLE", message)
        .hint("set the clock right before anything is signed or judged: validity is told by it");
    Check::bad("clock", &failure)
}

/// Whether a medium can be written and gives back what was written, past this machine's memory. Leaves nothing on it.
pub fn medium(folder: &Path) -> Vec<Check> {
    let mut checks = vec![match tried(folder) {
        Ok(took) => Check::good(
            "media",
            format!(
                "{} was written, synced, read back from the medium itself and removed, in {}",
                folder.display(),
                in_time(took)
            ),
        ),
        Err(error) => Check::bad("media", &Failure::from(error)),
    }];
    if let Ok(status) = statvfs(folder) {
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        let message = format!("{} are free on {}", in_bytes(free), folder.display());
        checks.push(match free < MEDIUM_BYTES_MIN {
            true => {
                let hint = "remove what is not needed, or use a larger medium";
                Check::bad("media space", &environment("DISK-LOW", message).hint(hint)).warning()
            }
            false => Check::good("media space", message),
        });
    }
    checks
}

fn tried(path: &Path) -> Result<Duration, files::Error> {
    let folder = Folder::open(path)?;
    let bytes: Vec<u8> = (0..=255).cycle().take(64 << 10).collect();
    let begun = Instant::now();
    let written = folder.write_removable(TRIAL, &bytes);
    let held = written.and_then(|()| folder.holds_removable(TRIAL, &bytes));
    let removed = folder.remove(TRIAL);
    match held? {
        true => removed.map(|()| begun.elapsed()),
        false => Err(files::Error::of(
            files::Operation::WriteMedia,
            &path.join(TRIAL),
            files::Kind::ReadBackMismatch,
        )),
    }
}

fn in_bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

fn in_time(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let check = sync(folder.path());
        assert_ne!(check.outcome, "bad", "{check:?}");
        let checks = medium(folder.path());
        assert_eq!(checks[0].outcome, "ok", "{checks:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let absent = folder.path().join("absent");
        assert_eq!(sync(&absent).outcome, "bad");
        assert_eq!(space(&absent).code.as_deref(), Some("FILE-IO"));
        assert_eq!(medium(&absent)[0].outcome, "bad");
    }

    #[test]
    fn one_file_that_others_can_use_is_named() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("log")).unwrap();
        set_mode(&home.path().join("log"), 0o700);
        let file = home.path().join("log/1");
        fs::write(&file, "x").unwrap();
        set_mode(&file, 0o600);
        assert_eq!(rights(home.path()).outcome, "ok");
        set_mode(&file, 0o604);
        let check = rights(home.path());
        assert_eq!(check.code.as_deref(), Some("HOME-FILE-EXPOSED"));
        assert!(
            check.message.contains("log/1 has the mode 0604"),
            "{check:?}"
        );
    }

    #[test]
    fn a_clock_behind_what_is_known_is_wrong() {
        assert_eq!(clock(CLOCK_EARLIEST, None).outcome, "ok");
        assert_eq!(clock(CLOCK_EARLIEST - 1, None).outcome, "bad");
        let known = Some((CLOCK_EARLIEST + 100, "the newest manifest"));
        assert_eq!(clock(CLOCK_EARLIEST + 100, known).outcome, "ok");
        let check = clock(CLOCK_EARLIEST + 99, known);
        assert!(check.message.contains("the newest manifest"), "{check:?}");
    }
}
