use super::part::Content;
use super::*;
use crate::{Exit, Failure};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use tempfile::{TempDir, tempdir};

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
fn a_medium_that_returns_other_bytes_is_refused_and_the_old_file_stays() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("dispatch");
    fs::write(&path, b"old").unwrap();
    let opened = Folder::open(folder.path()).unwrap();
    let whole = vec![7_u8; 200_000];
    let mut flipped = whole.clone();
    flipped[150_000] ^= 1;
    let mut longer = whole.clone();
    longer.push(7);
    for damaged in [
        &flipped[..],
        &longer,
        &whole[..199_999],
        &whole[..131_072],
        b"",
    ] {
        let error = opened
            .write_checked(
                "dispatch".as_ref(),
                &Content::Bytes(damaged),
                &Content::Bytes(&whole),
            )
            .unwrap_err();
        assert_eq!(error.code(), "READ-BACK-MISMATCH");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(&folder), ["dispatch"]);
    }
    opened.write_removable("dispatch", &whole).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a_copy_to_a_medium_is_the_whole_file_wherever_the_source_was_read_to() {
    use std::io::Read;
    let folder = tempdir().unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(folder.path().join("source"), &bytes).unwrap();
    let opened = Folder::open(folder.path()).unwrap();
    let (mut source, size) = opened.open_limited("source", 300_000).unwrap();
    assert_eq!(size, 300_000);
    source.read_exact(&mut [0; 100]).unwrap();
    opened.copy_removable(&source, "copy").unwrap();
    assert_eq!(fs::read(folder.path().join("copy")).unwrap(), bytes);
    assert!(opened.open_limited("source", 299_999).is_err());
}

#[test]
fn below_an_opened_folder_no_link_and_no_path_is_followed() {
    let (medium, outside) = (tempdir().unwrap(), tempdir().unwrap());
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    symlink(outside.path(), medium.path().join("mintmark")).unwrap();
    let folder = Folder::open(medium.path()).unwrap();
    for made in [
        folder.subfolder("mintmark"),
        folder.create_subfolder("mintmark"),
        folder.create_public_subfolder("mintmark"),
    ] {
        assert_eq!(made.unwrap_err().code(), "FILE-NOT-REGULAR");
    }
    for name in ["../secret", "mintmark/secret", "..", ".", "", "/etc/passwd"] {
        assert_eq!(
            folder.read_limited(name, 99).unwrap_err().code(),
            "FILE-NAME-INVALID"
        );
        assert_eq!(
            folder.write_replace(name, b"").unwrap_err().code(),
            "FILE-NAME-INVALID"
        );
        assert_eq!(
            folder.write_removable(name, b"").unwrap_err().code(),
            "FILE-NAME-INVALID"
        );
        assert_eq!(folder.remove(name).unwrap_err().code(), "FILE-NAME-INVALID");
        assert!(folder.subfolder(name).is_err());
    }
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn an_opened_folder_stays_itself_when_its_path_is_moved() {
    let medium = tempdir().unwrap();
    let (here, there) = (medium.path().join("here"), medium.path().join("there"));
    fs::create_dir(&here).unwrap();
    let folder = Folder::open(&here).unwrap();
    fs::rename(&here, &there).unwrap();
    fs::create_dir(&here).unwrap();
    folder.write_new("file", b"x").unwrap();
    assert!(there.join("file").exists() && !here.join("file").exists());
}

#[test]
fn folders_are_made_once_with_their_mode() {
    let medium = tempdir().unwrap();
    let folder = Folder::open(medium.path()).unwrap();
    folder.create_subfolder("home").unwrap();
    folder
        .create_public_subfolder("mintmark")
        .unwrap()
        .write_new("kept", b"x")
        .unwrap();
    assert_eq!(mode(&medium.path().join("home")), 0o700);
    assert_eq!(mode(&medium.path().join("mintmark")), 0o755);
    let again = folder.create_public_subfolder("mintmark").unwrap();
    assert_eq!(again.read_limited("kept", 1).unwrap(), b"x");
    folder.write_new("file", b"").unwrap();
    assert_eq!(
        folder.create_subfolder("file").unwrap_err().code(),
        "FILE-NOT-REGULAR"
    );
}

#[test]
fn a_listing_is_sorted_capped_and_without_parts() {
    let medium = tempdir().unwrap();
    let at = |name: &str| medium.path().join(name);
    fs::write(at("b"), b"").unwrap();
    fs::write(at("c.part"), b"").unwrap();
    fs::create_dir(at("a")).unwrap();
    symlink("b", at("d")).unwrap();
    let folder = Folder::open(medium.path()).unwrap();
    let entries = folder.entries(4).unwrap();
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.to_str().unwrap(), entry.kind))
        .collect();
    let expected = [
        ("a", EntryKind::Folder),
        ("b", EntryKind::File),
        ("d", EntryKind::Other),
    ];
    assert_eq!(shown, expected);
    let error = folder.entries(3).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge { max: 3 });
    assert!(
        error.to_string().ends_with("it has more than 3 entries"),
        "{error}"
    );
}

#[test]
fn what_an_interrupted_writer_left_is_stepped_over_and_can_be_removed() {
    let medium = tempdir().unwrap();
    let process = std::process::id();
    for number in 0..100 {
        fs::write(
            medium.path().join(format!("file.{process}-{number}.part")),
            b"torn",
        )
        .unwrap();
    }
    fs::create_dir(medium.path().join("folder.part")).unwrap();
    let folder = Folder::open(medium.path()).unwrap();
    folder.write_new("file", b"whole").unwrap();
    assert_eq!(fs::read(medium.path().join("file")).unwrap(), b"whole");
    assert_eq!(folder.remove_parts().unwrap(), 100);
    assert_eq!(names(&medium), ["file", "folder.part"]);
}

#[test]
fn removing_a_link_keeps_its_target() {
    let medium = tempdir().unwrap();
    fs::write(medium.path().join("file"), b"x").unwrap();
    symlink("file", medium.path().join("link")).unwrap();
    let folder = Folder::open(medium.path()).unwrap();
    folder.remove("link").unwrap();
    assert_eq!(names(&medium), ["file"]);
    assert!(folder.remove("link").unwrap_err().is_missing());
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

#[test]
fn many_files_are_written_as_one_is_and_each_is_judged_alone() {
    // Also where the file system has no files without a name.
    for nameless in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let opened = Folder::open(folder.path()).unwrap();
        if !nameless {
            opened.nameless().refuse();
        }
        writes_many(folder.path(), &opened);
    }
}

#[test]
fn a_file_that_has_not_got_its_name_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Folder::open(folder.path()).unwrap();
    let count = || fs::read_dir(folder.path()).unwrap().count();
    let begun = opened.begin_public_new(OsStr::new("a"), b"one").unwrap();
    assert_eq!(count(), 0);
    drop(begun);
    assert_eq!(count(), 0);
    opened.nameless().refuse();
    let begun = opened.begin_public_new(OsStr::new("a"), b"one").unwrap();
    assert_eq!(count(), 1);
    drop(begun);
    assert_eq!(count(), 0);
}

fn writes_many(folder: &Path, opened: &Folder) {
    fs::write(folder.join("taken"), "before").unwrap();
    let files = [
        ("a", "one"),
        ("taken", "two"),
        ("../b", "three"),
        ("c", "four"),
    ];
    let written = opened.write_public_new_all(&files);
    let kinds: Vec<Option<Kind>> = written
        .iter()
        .map(|written| written.as_ref().err().map(Error::kind))
        .collect();
    assert_eq!(
        kinds,
        [None, Some(Kind::Exists), Some(Kind::NameInvalid), None]
    );
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert!(mode == 0o644 || entry.file_name() == "taken", "{mode:o}");
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect();
    found.sort();
    let expected = [("a", "one"), ("c", "four"), ("taken", "before")];
    assert_eq!(
        found,
        expected.map(|(name, text)| (name.to_owned(), text.to_owned()))
    );
}

#[test]
fn only_the_parts_of_writers_that_are_gone_are_abandoned() {
    let medium = tempfile::tempdir().unwrap();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let own = std::process::id();
    let stays = [
        format!("a.pem.{own}-1.part"),
        "b.part".to_owned(),
        "c.pem".to_owned(),
        "d.1-x.part".to_owned(),
    ];
    for name in &stays {
        fs::write(medium.path().join(name), b"").unwrap();
    }
    fs::write(
        medium.path().join(format!("a.pem.{}-7.part", gone.id())),
        b"",
    )
    .unwrap();
    assert_eq!(
        Folder::open(medium.path())
            .unwrap()
            .remove_abandoned_parts()
            .unwrap(),
        1
    );
    for name in stays {
        assert!(medium.path().join(&name).exists(), "{name}");
    }
}
