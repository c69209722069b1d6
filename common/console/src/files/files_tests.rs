use super::*;
use crate::{Exit, Failure};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tempfile::{TempDir, tempdir};

#[path = "folder_tests.rs"]
mod folder_tests;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &TempDir) -> Vec<String> {
    let entry_name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry_name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

type Writer = fn(PathBuf, &[u8]) -> Result<(), Error>;

#[test]
fn each_writer_leaves_the_whole_file_with_its_mode_and_nothing_else() {
    let folder = tempdir().unwrap();
    let writers: [(&str, Writer, u32); 5] = [
        ("new", write_new, 0o600),
        ("public", write_public_new, 0o644),
        ("replace", write_replace, 0o600),
        ("public-replace", write_public_replace, 0o644),
        ("removable", write_removable, 0o644),
    ];
    for (name, write, expected) in writers {
        for bytes in [&b""[..], b"sealed", &[7; 200_000]] {
            let path = folder.path().join(format!("{name}-{}", bytes.len()));
            write(path.clone(), bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(mode(&path), expected, "{name}");
        }
    }
    assert_eq!(names(&folder).len(), 15);
}

#[test]
fn a_new_file_never_touches_what_has_its_name() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    let link = folder.path().join("link");
    let dangling = folder.path().join("dangling");
    let directory = folder.path().join("directory");
    fs::write(&file, b"sealed").unwrap();
    symlink(&file, &link).unwrap();
    symlink(folder.path().join("nowhere"), &dangling).unwrap();
    fs::create_dir(&directory).unwrap();
    let before = names(&folder);
    for path in [&file, &link, &dangling, &directory] {
        let writers: [Writer; 2] = [write_new, write_public_new];
        for write in writers {
            let error = write(path.clone(), b"other").unwrap_err();
            assert!(error.is_exists(), "{error}");
            assert_eq!(error.code(), "FILE-EXISTS");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"sealed");
    assert_eq!(
        names(&folder),
        before,
        "no link is followed and no part is left"
    );
}

#[test]
fn replacing_a_link_leaves_its_target_alone() {
    let folder = tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::write(&target, b"precious").unwrap();
    let writers: [Writer; 2] = [write_replace, write_removable];
    for write in writers {
        let _ = fs::remove_file(&link);
        symlink(&target, &link).unwrap();
        write(link.clone(), b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        assert_eq!(fs::read(&link).unwrap(), b"new");
        assert!(!fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[test]
fn replacing_narrows_the_mode_of_a_secret_that_was_open() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, b"old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    write_replace(&path, b"new").unwrap();
    assert_eq!(
        (fs::read(&path).unwrap().as_slice(), mode(&path)),
        (&b"new"[..], 0o600)
    );
}

#[test]
fn of_many_writers_of_one_new_file_exactly_one_wins() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("sealed");
    let wins: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8_u8)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || match write_new(path, &[writer; 10_000]) {
                    Ok(()) => 1,
                    Err(error) => {
                        assert!(error.is_exists(), "{error}");
                        0
                    }
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert_eq!(wins, 1);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes, [bytes[0]; 10_000]);
    assert_eq!(names(&folder), ["sealed"]);
}

#[test]
fn a_limit_is_inclusive_and_one_byte_more_is_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"12345").unwrap();
    assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
    let error = read_limited(&path, 4).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge { max: 4 });
    fs::write(&path, b"").unwrap();
    assert_eq!(read_limited(&path, 0).unwrap(), b"");
}

#[test]
fn a_huge_sparse_file_is_refused_without_being_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("huge");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(
        read_limited(&path, 1 << 20).unwrap_err().code(),
        "FILE-TOO-LARGE"
    );
}

#[test]
fn a_file_that_says_it_is_empty_but_is_not_is_still_limited() {
    // Files of /proc have no size until they are read, like one that grows meanwhile.
    assert_eq!(
        read_limited("/proc/self/stat", 3).unwrap_err().code(),
        "FILE-TOO-LARGE"
    );
    assert!(!read_limited("/proc/self/stat", 10_000).unwrap().is_empty());
}

#[test]
fn only_regular_files_are_read_and_nothing_blocks() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), b"x").unwrap();
    symlink(at("file"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    for (path, found) in [
        (at("link"), "a symbolic link"),
        (at("dangling"), "a symbolic link"),
        (at("directory"), "a folder"),
        (at("pipe"), "a pipe"),
        (at("socket"), "a socket"),
        ("/dev/zero".into(), "a device"),
    ] {
        let error = read_limited(&path, 10).unwrap_err();
        assert_eq!(error.kind(), Kind::NotRegular { found }, "{error}");
        assert_eq!(error.code(), "FILE-NOT-REGULAR");
    }
}

#[test]
fn a_missing_file_and_a_missing_folder_are_told_apart() {
    let folder = tempdir().unwrap();
    let read = read_limited(folder.path().join("absent"), 10).unwrap_err();
    assert!(read.is_missing());
    assert!(
        read.to_string()
            .ends_with("absent cannot be read: it does not exist"),
        "{read}"
    );
    let write = write_new(folder.path().join("absent/file"), b"").unwrap_err();
    assert!(write.is_missing());
    assert!(
        write.to_string().ends_with("there is no such folder"),
        "{write}"
    );
    assert!(
        write
            .hint()
            .contains(&folder.path().join("absent").display().to_string())
    );
}

#[test]
fn a_path_without_a_name_is_refused() {
    for path in ["", "/", "..", "x/.."] {
        assert_eq!(
            write_new(path, b"").unwrap_err().code(),
            "FILE-NAME-INVALID",
            "{path}"
        );
        assert_eq!(
            read_limited(path, 9).unwrap_err().code(),
            "FILE-NAME-INVALID",
            "{path}"
        );
    }
}

#[test]
fn every_refusal_of_the_operating_system_has_its_own_code_and_advice() {
    use rustix::io::Errno;
    let path = Path::new("/media/stick/mintmark/dispatch.cose");
    let cases = [
        (
            Operation::Read,
            Errno::NOENT,
            "FILE-MISSING",
            "it does not exist",
        ),
        (
            Operation::Write,
            Errno::NOENT,
            "FILE-MISSING",
            "there is no such folder",
        ),
        (
            Operation::Write,
            Errno::EXIST,
            "FILE-EXISTS",
            "it exists already and was left as it is",
        ),
        (
            Operation::Read,
            Errno::LOOP,
            "FILE-NOT-REGULAR",
            "it is a symbolic link",
        ),
        (
            Operation::Write,
            Errno::ISDIR,
            "FILE-NOT-REGULAR",
            "it is a folder",
        ),
        (
            Operation::List,
            Errno::NOTDIR,
            "FILE-NOT-REGULAR",
            "it is not a folder",
        ),
        (
            Operation::Read,
            Errno::ACCESS,
            "FILE-DENIED",
            "permission denied",
        ),
        (
            Operation::Write,
            Errno::PERM,
            "FILE-DENIED",
            "permission denied",
        ),
        (
            Operation::Write,
            Errno::NOSPC,
            "DISK-FULL",
            "no space is left",
        ),
        (
            Operation::WriteMedia,
            Errno::DQUOT,
            "DISK-FULL",
            "no space is left",
        ),
        (
            Operation::Write,
            Errno::FBIG,
            "FILE-SYSTEM-LIMIT",
            "it is larger than its file system allows (FAT32: 4 GiB)",
        ),
        (
            Operation::Write,
            Errno::ROFS,
            "FILE-READ-ONLY",
            "the disk is read-only",
        ),
        (
            Operation::WriteMedia,
            Errno::ROFS,
            "MEDIA-READ-ONLY",
            "the medium is read-only",
        ),
        (
            Operation::WriteMedia,
            Errno::IO,
            "FILE-IO",
            "the operating system reports a fault",
        ),
        (
            Operation::Remove,
            Errno::IO,
            "FILE-IO",
            "the operating system reports a fault",
        ),
    ];
    for (operation, errno, code, reason) in cases {
        let error = Error::new(operation, path, errno);
        assert_eq!(error.code(), code);
        assert!(
            error.to_string().starts_with(&*path.to_string_lossy()) || operation == Operation::List
        );
        assert!(
            error.to_string().ends_with(&format!(": {reason}")),
            "{error}"
        );
        let failure = Failure::from(error);
        assert_eq!(
            (failure.code.as_ref(), failure.exit),
            (code, Exit::Environment)
        );
        assert!(failure.hint.is_some_and(|hint| !hint.is_empty()));
        assert_eq!(failure.cause.is_some(), code == "FILE-IO");
    }
}

#[test]
fn a_refusal_reads_as_one_sentence_with_advice() {
    let path = Path::new("/media/stick/mintmark/dispatch.cose");
    let failure = Failure::from(Error::new(
        Operation::WriteMedia,
        path,
        rustix::io::Errno::ROFS,
    ));
    assert_eq!(
        failure.message,
        "/media/stick/mintmark/dispatch.cose cannot be written to the medium: the medium is read-only"
    );
    assert_eq!(
        failure.hint.as_deref(),
        Some(
            "open the write-protect switch of the medium, mount it for writing, or use another one"
        )
    );
}
