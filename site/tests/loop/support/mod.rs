//! A headquarters of a few lines, made of the protocol's own functions and of keys in memory, and a vault that is the
//! built binary.

pub(crate) mod hq;
pub(crate) mod vault;

pub(crate) use hq::Hq;
pub(crate) use vault::{Run, Vault};

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Copies a folder, as `cp -a` does.
pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}
