use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::{TempDir, tempdir};

fn medium() -> (TempDir, Folder) {
    let folder = tempdir().unwrap();
    let opened = Folder::open(folder.path()).unwrap();
    (folder, opened)
}

#[test]
fn what_a_medium_holds_is_compared_whole() {
    let (folder, medium) = medium();
    let bytes = vec![7_u8; 200_000];
    fs::write(folder.path().join("dispatch"), &bytes).unwrap();
    assert!(medium.holds_removable("dispatch", &bytes).unwrap());
    let mut flipped = bytes.clone();
    flipped[150_000] ^= 1;
    for other in [
        &flipped[..],
        &bytes[..199_999],
        &[&bytes[..], &[7]].concat(),
        b"",
    ] {
        assert!(!medium.holds_removable("dispatch", other).unwrap());
    }
    fs::write(folder.path().join("empty"), b"").unwrap();
    assert!(medium.holds_removable("empty", b"").unwrap());
}

#[test]
fn what_is_no_file_holds_nothing() {
    let (folder, medium) = medium();
    fs::write(folder.path().join("dispatch"), b"sealed").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    symlink("dispatch", folder.path().join("link")).unwrap();
    let kind = |name: &str| medium.holds_removable(name, b"sealed").unwrap_err().kind();
    assert_eq!(kind("absent"), Kind::Missing);
    assert_eq!(kind("folder"), Kind::NotRegular { found: "a folder" });
    assert_eq!(
        kind("link"),
        Kind::NotRegular {
            found: "a symbolic link"
        }
    );
    assert_eq!(kind("../dispatch"), Kind::NameInvalid);
}

#[test]
fn a_folder_of_a_medium_is_made_once_and_open_to_all() {
    let (folder, medium) = medium();
    for _ in 0..2 {
        let made = medium.create_removable_subfolder("mintmark").unwrap();
        made.write_removable("dispatch", b"sealed").unwrap();
    }
    let path = folder.path().join("mintmark");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    symlink(&path, folder.path().join("link")).unwrap();
    let error = medium.create_removable_subfolder("link").unwrap_err();
    assert!(matches!(error.kind(), Kind::NotRegular { .. }));
}

#[test]
fn writing_a_file_again_removes_what_was_half_written_of_it_and_nothing_else() {
    let (folder, medium) = medium();
    let others = [
        "dispatch.7-0.part.cose",
        "dispatch.part",
        "dispatch.x-1.part",
        "other.7-0.part",
    ];
    for name in ["dispatch.7-0.part", "dispatch.99999999-12.part"]
        .iter()
        .chain(&others)
    {
        fs::write(folder.path().join(name), b"half").unwrap();
    }
    fs::create_dir(folder.path().join("dispatch.8-0.part")).unwrap();
    medium.write_removable("dispatch", b"sealed").unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected = vec!["dispatch", "dispatch.8-0.part"];
    expected.extend(others);
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(fs::read(folder.path().join("dispatch")).unwrap(), b"sealed");
}
