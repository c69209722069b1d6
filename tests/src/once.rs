//! What is made once for a whole run of the tests, and used by each of them.
//!
//! nextest runs every test in a process of its own, so that this has to be a folder and not a variable.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How long the folder of a run is kept: nobody tells the tests that all of them are done.
const KEPT: Duration = Duration::from_secs(3600);

/// The folder of this run: `target/<profile>/.mintmark-tests/<run>`.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let runs = profile_folder().join(".mintmark-tests");
        let run = std::env::var("NEXTEST_RUN_ID")
            .ok()
            .filter(|run| !run.is_empty());
        let folder = runs.join(run.unwrap_or_else(|| format!("process-{}", std::process::id())));
        fs::create_dir_all(&folder).unwrap();
        for other in fs::read_dir(&runs).unwrap().flatten() {
            let modified = other.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > KEPT) {
                // Another process may be doing the same.
                let _ = fs::remove_dir_all(other.path());
            }
        }
        folder
    })
}

/// `target/<profile>`, in which this test's own binary was built.
pub fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// A folder that `make` fills, once; every other process waits for that.
pub fn made(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = folder().join(name);
    let lock = File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !folder.exists() {
        let part = folder.with_extension("part");
        let _ = fs::remove_dir_all(&part);
        fs::create_dir(&part).unwrap();
        make(&part);
        fs::rename(part, &folder).unwrap();
    }
    folder
}
