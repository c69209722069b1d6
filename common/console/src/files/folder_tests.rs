//! An opened folder, and what is written below it.

use super::super::part::Content;
use super::super::*;
use super::{mode, names};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::tempdir;

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
