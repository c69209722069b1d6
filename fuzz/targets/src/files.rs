//! Folders for one input, and the names of what lies on media.

use std::path::Path;

use mintmark_protocol::media::MediaName;
use tempfile::TempDir;

/// A folder for one input: in memory, where there is a place for that.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.unwrap()
}

/// A name that is read is written again as the same text, and leads nowhere else.
pub(crate) fn media_name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Some(name) = MediaName::parse(text) {
        assert_eq!(name.to_string(), text, "one name, one way to write it");
        let mut parts = text.split('/');
        assert!(parts.clone().count() <= 2);
        assert!(parts.all(|part| !part.is_empty() && !part.starts_with('.')));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        assert!(text.bytes().all(plain));
    }
}
