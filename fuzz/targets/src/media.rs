//! Media as the two tools read them, and the file of an auditor.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use mintmark_protocol::media::{MEDIA_FOLDER, MediaName};

use crate::files::folder;

/// What no reader of a medium may ever come to see.
const ELSEWHERE: &[u8] = b"what is elsewhere";
const READ_MAX: usize = 24;

/// A medium with these entries: each line is a kind (`l` a link, `d` a folder, else a file) and a path below `mintmark/`.
/// Both tools find the same files on it, read what stands in them and no more, and follow no link.
pub(crate) fn folders(input: &[u8]) {
    let medium = folder();
    let outside = medium.path().join("outside");
    fs::write(&outside, ELSEWHERE).unwrap();
    let top = medium.path().join(MEDIA_FOLDER);
    fs::create_dir(&top).unwrap();
    for (at, line) in input.split(|byte| *byte == b'\n').enumerate().take(24) {
        let Some((kind, path)) = line.split_first() else {
            continue;
        };
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let names =
            |part: &&[u8]| !matches!(**part, [] | [b'.'] | [b'.', b'.']) && !part.contains(&0);
        if !(1..=3).contains(&parts.len()) || !parts.iter().all(names) {
            continue;
        }
        let place = top.join(OsStr::from_bytes(path));
        if let Some(parent) = place.parent() {
            let _ = fs::create_dir_all(parent);
        }
        let _ = match kind {
            b'l' if at % 2 == 0 => symlink(&outside, &place),
            b'l' => symlink(medium.path(), &place),
            b'd' => fs::create_dir(&place),
            _ => fs::write(&place, b"x".repeat(at * 2)),
        };
    }
    let site = mintmark_site::fuzzing::medium(medium.path(), READ_MAX);
    let hq = mintmark_hq::fuzzing::stick(medium.path(), READ_MAX);
    for found in [&site, &hq].into_iter().flatten().flatten() {
        let (path, bytes) = found;
        assert_eq!(
            MediaName::parse(path).map(|name| name.to_string()).as_ref(),
            Some(path)
        );
        let place = top.join(path);
        assert!(
            fs::symlink_metadata(&place).unwrap().is_file(),
            "{path} is no file"
        );
        let stands = fs::read(&place).unwrap();
        assert_ne!(stands, ELSEWHERE);
        let expected = (stands.len() <= READ_MAX).then_some(stands);
        assert_eq!(*bytes, expected, "{path}");
    }
    if let (Ok(site), Ok(hq)) = (site, hq) {
        let [site, hq] = [site, hq].map(|found| found.into_iter().collect::<BTreeMap<_, _>>());
        assert_eq!(site, hq, "both tools find the same");
    }
}

/// The file of an auditor, whose grant stands unsigned: it is whole, or it is refused.
pub(crate) fn audit_grant(input: &[u8]) {
    let folder = folder();
    let path = folder.path().join("grant");
    fs::write(&path, input).unwrap();
    if mintmark_hq::fuzzing::audit_grant(&path).is_ok() {
        fs::write(&path, [input, &[0]].concat()).unwrap();
        assert!(
            mintmark_hq::fuzzing::audit_grant(&path).is_err(),
            "a byte behind it"
        );
        fs::write(&path, &input[..input.len() - 1]).unwrap();
        assert!(
            mintmark_hq::fuzzing::audit_grant(&path).is_err(),
            "a byte less"
        );
    }
}
