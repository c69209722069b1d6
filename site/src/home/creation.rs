//! The making of a home: whole, or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use mintmark_console::files;

use super::{CONFIG, ENROLMENT, LOCK, OUTBOX, RECEIVED, TRUST};
use crate::config::Config;
use crate::failure::{Error, Result};

/// A home under another name, `<home>.part-<random>`, until it is complete. Dropped before that, it is removed.
#[derive(Debug)]
pub(crate) struct Creation {
    home: PathBuf,
    part: PathBuf,
    settled: bool,
}

/// Refuses to make a home where something is already.
pub(crate) fn refuse_existing(home: &Path) -> Result<()> {
    let exists = |what: &str| {
        let message = format!("{} exists already: {what}", home.display());
        Error::environment("HOME-EXISTS", message)
            .hint("choose another --home; a vault is never made over what is there")
    };
    match fs::symlink_metadata(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", home, error)),
        Ok(metadata) if !metadata.is_dir() => Err(exists("it is not a folder")),
        Ok(_) => match fs::read_dir(home).map(|mut entries| entries.next().is_some()) {
            Ok(false) => Ok(()),
            Ok(true) => Err(exists("the folder is not empty")),
            Err(error) => Err(failed("look into", home, error)),
        },
    }
}

impl Creation {
    /// Begins a home that will be at `home`, whose parent folder must exist.
    pub(crate) fn begin(home: &Path) -> Result<Self> {
        refuse_existing(home)?;
        let random: [u8; 8] = mintmark_protocol::encryption::random()?;
        let name = home.file_name().ok_or_else(|| {
            Error::usage("HOME-NAME", format!("{} names no folder", home.display()))
                .hint("name a folder that `site init` can make")
        })?;
        let mut part = name.to_owned();
        part.push(format!(".part-{}", hex::encode(random)));
        let part = home.with_file_name(part);
        make_folder(&part)?;
        Ok(Self {
            home: home.to_owned(),
            part,
            settled: false,
        })
    }

    /// Where it is being made.
    pub(crate) fn path(&self) -> &Path {
        &self.part
    }

    /// Writes everything but the log.
    pub(crate) fn fill(
        &self,
        config: &Config,
        trust: &[(String, &[u8])],
        enrolment: &[u8],
    ) -> Result<()> {
        for name in [TRUST, RECEIVED, OUTBOX] {
            make_folder(&self.part.join(name))?;
        }
        for (name, manifest) in trust {
            files::write_new(self.part.join(TRUST).join(name), manifest)?;
        }
        files::write_new(self.part.join(ENROLMENT), enrolment)?;
        files::write_new(self.part.join(LOCK), b"")?;
        files::write_new(self.part.join(CONFIG), config.to_toml()?.as_bytes())?;
        Ok(())
    }

    /// Gives it its name.
    pub(crate) fn settle(mut self) -> Result<()> {
        sync(&self.part)?;
        match fs::rename(&self.part, &self.home) {
            Ok(()) => self.settled = true,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty
                        | io::ErrorKind::AlreadyExists
                        | io::ErrorKind::NotADirectory
                ) =>
            {
                return refuse_existing(&self.home);
            }
            Err(error) => return Err(failed("rename", &self.part, error)),
        }
        let parent = self.home.parent().unwrap_or(Path::new("/")).to_owned();
        sync(&parent).or_else(|error| self.take_back(error, &parent))
    }

    /// A name that may not last is taken away again: of a home that is there nobody is told that it could not be made. What is
    /// in it is deleted once that lasts, and else kept: after a power cut the name may be back, and must not stand for half a
    /// home.
    fn take_back(&mut self, error: Error, parent: &Path) -> Result<()> {
        if fs::rename(&self.home, &self.part).is_err() {
            return Err(error.outcome_unknown().hint(
                "the home is there and complete, but its name may not outlast a power cut: go on with it once its disk is right",
            ));
        }
        self.settled = sync(parent).is_err();
        if !self.settled {
            return Err(error);
        }
        let hint = format!(
            "put the disk right first; then look which name there is: a home with its own is complete, and {} may be removed",
            self.part.display()
        );
        Err(error.outcome_unknown().hint(hint))
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        if !self.settled {
            // What cannot be removed has a name that nobody takes for a home.
            let _ = fs::remove_dir_all(&self.part);
        }
    }
}

fn make_folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|error| failed("make", path, error))
}

fn sync(folder: &Path) -> Result<()> {
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("sync", folder, error))
}

fn failed(action: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {action} {}", path.display());
    Error::environment("HOME-NOT-MADE", message)
        .cause(error)
        .hint("check that its parent folder exists, belongs to this user and has space")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let (site, vault) = ("berlin".parse().unwrap(), "v1".parse().unwrap());
        let vault = mintmark_protocol::identifier::VaultName { site, vault };
        Config {
            vault,
            keys: "file:/keys".parse().unwrap(),
        }
    }

    #[test]
    fn what_was_begun_and_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let creation = Creation::begin(&folder.path().join("home")).unwrap();
        creation
            .fill(
                &config(),
                &[("trust-000001.cose".to_owned(), b"x".as_slice())],
                b"y",
            )
            .unwrap();
        drop(creation);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_home_appears_whole_also_in_an_empty_folder_and_never_over_something() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        let creation = Creation::begin(&home).unwrap();
        creation
            .fill(
                &config(),
                &[("trust-000001.cose".to_owned(), b"x".as_slice())],
                b"y",
            )
            .unwrap();
        creation.settle().unwrap();
        assert!(home.join(CONFIG).is_file() && home.join("trust/trust-000001.cose").is_file());
        assert_eq!(Creation::begin(&home).unwrap_err().code(), "HOME-EXISTS");
        fs::write(folder.path().join("file"), "").unwrap();
        let taken = Creation::begin(&folder.path().join("file")).unwrap_err();
        assert_eq!(taken.code(), "HOME-EXISTS");
    }
}
