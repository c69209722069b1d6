//! A stick that is pulled out, full, or a liar: whatever becomes of it, nothing on it is half a file under its name, the
//! home lacks nothing, and the next export completes what this one began.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mintmark_tests::strace::{Call, Stick, failing};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Tool, World, files};

/// One export that is repeated from the same beginning, each time with another fault.
struct Export {
    world: World,
    from: fn(&World, &str) -> Tool,
    to: fn(&World, &str) -> Tool,
    /// What it writes when nothing fails.
    whole: BTreeMap<String, Vec<u8>>,
    /// What may be touched on the stick.
    paths: Vec<String>,
    calls: Vec<Call>,
}

/// Both homes, and how they are named while they are kept.
const HOMES: [(&str, &str); 3] = [
    ("hq", "kept-hq"),
    ("berlin", "kept-berlin"),
    ("keys/berlin", "kept-keys"),
];

/// Of the calls that read a stick, every fifth is tried: about five read one file.
const READ_STEP: usize = 5;

impl Export {
    /// A vault that has devices to report.
    fn from_site() -> Self {
        let world = World::ready();
        world.requests("some", 1..=3);
        world.issue("some").ok();
        Self::prepare(world, World::site, World::hq)
    }

    /// A headquarters that has an entitlement to deliver, and a vault that has told what it saw.
    fn from_headquarters() -> Self {
        let world = World::with_vault();
        world.carry_home("berlin").exits_done();
        world.mint("berlin", POLICY);
        Self::prepare(world, World::hq, World::site)
    }

    fn prepare(world: World, from: fn(&World, &str) -> Tool, to: fn(&World, &str) -> Tool) -> Self {
        let mut export = Self {
            world,
            from,
            to,
            whole: BTreeMap::new(),
            paths: Vec::new(),
            calls: Vec::new(),
        };
        export.new_stick();
        // What is owed is sealed before the stick is written, so that each export from here on writes the same bytes.
        export.export().ok();
        export.whole = files::contents(&export.mount());
        for path in export.whole.keys() {
            let folder = Path::new(path).parent().unwrap().to_str().unwrap();
            for path in ["mintmark", folder, path] {
                if !export.paths.iter().any(|known| known == path) {
                    export.paths.push(path.to_owned());
                }
            }
        }
        for (home, kept) in HOMES {
            files::copy(&export.world.path(home), &export.world.path(kept));
        }
        export.new_stick();
        export.calls = export.stick(&export.export(), |stick, tool| {
            let (run, calls) = stick.calls(tool);
            drop(run.exits(0));
            calls
        });
        assert_eq!(files::contents(&export.mount()), export.whole);
        export
    }

    /// The homes are as they were before the export, and the stick is a new one.
    fn begin_again(&self) {
        self.put_homes_back();
        self.new_stick();
    }

    fn put_homes_back(&self) {
        for (home, kept) in HOMES {
            fs::remove_dir_all(self.world.path(home)).unwrap();
            files::copy(&self.world.path(kept), &self.world.path(home));
        }
    }

    fn new_stick(&self) {
        fs::remove_dir_all(self.mount()).unwrap();
        fs::create_dir(self.mount()).unwrap();
    }

    fn mount(&self) -> PathBuf {
        self.world.path("media")
    }

    fn export(&self) -> Tool {
        (self.from)(&self.world, "media export $D/media")
    }

    fn import(&self) -> Tool {
        (self.to)(&self.world, "media import $D/media")
    }

    fn stick<T>(&self, tool: &Tool, work: impl FnOnce(Stick<'_>, &Tool) -> T) -> T {
        let mount = self.mount();
        let stick = Stick {
            mount: &mount,
            paths: &self.paths,
        };
        work(stick, tool)
    }

    fn pulled_at(&self, nth: usize) -> Run {
        self.stick(&self.export(), |stick, tool| {
            stick.pulled_at(tool, &self.calls, nth)
        })
    }

    fn tampered_at(&self, nth: usize, how: &str) -> Run {
        self.stick(&self.export(), |stick, tool| {
            stick.tampered_at(tool, &self.calls, nth, how)
        })
    }

    /// What stands on the stick under final names.
    fn written(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = files::contents(&self.mount());
        files.retain(|name, _| !name.ends_with(".part"));
        files
    }

    /// An export failed. What is on the stick is whole and is taken in, and another export brings the rest.
    #[track_caller]
    fn expect_completed(&self, failed: &Run) {
        for (name, bytes) in self.written() {
            let whole = self.whole.get(&name);
            assert!(whole == Some(&bytes), "{name} is not whole after\n{failed}");
        }
        if self.mount().join("mintmark").exists() {
            let run = self.import().ok();
            for item in run.json()["items"].as_array().unwrap() {
                let good = ["imported", "already"].contains(&item["outcome"].as_str().unwrap());
                assert!(good, "{run}\nafter\n{failed}");
            }
        } else {
            self.import().fails(3, "MEDIA-EMPTY");
        }
        self.export().ok();
        let now = files::contents(&self.mount());
        assert!(
            now == self.whole,
            "{:?} is on the stick after\n{failed}",
            now.keys()
        );
    }

    /// After all of this, everything is known at both ends.
    fn expect_arrived(&self) {
        self.import().ok();
        self.world.site("media export $D/media").ok();
        self.world.hq("media import $D/media").ok();
        self.world.site("audit verify").ok();
        let report = self.world.hq("reconcile").ok().json();
        assert_eq!(report["balanced"], true, "{report}");
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0));
        assert_eq!(report["accounts"][0]["authorised"], 1000);
        assert_eq!(
            report["accounts"][0]["good"],
            self.world.status("berlin")["accounts"][0]["good"]
        );
    }

    /// Every call on the stick in turn is the first that finds it pulled out.
    fn pull_at_every_call(&self) -> usize {
        for nth in 0..self.calls.len() {
            self.begin_again();
            let run = self.pulled_at(nth).exits(3);
            assert_eq!(run.codes(), ["FILE-IO"], "{run}");
            assert!(
                run.errors()[0]["hint"]
                    .as_str()
                    .unwrap()
                    .contains("plugged in"),
                "{run}"
            );
            self.expect_completed(&run);
        }
        self.expect_arrived();
        self.calls.len()
    }

    /// Now this call on the stick, now that is the first of the other end's import that finds it pulled out. What is on
    /// the stick is taken in when it is plugged in again.
    fn pull_while_read(&self) -> usize {
        let import = self.import();
        let (_, calls) = self.stick(&import, |stick, tool| stick.calls(tool));
        let sample = (0..calls.len()).step_by(READ_STEP);
        let tried = sample.len();
        for nth in sample {
            self.put_homes_back();
            let run = self.stick(&import, |stick, tool| stick.pulled_at(tool, &calls, nth));
            let run = run.exits(3);
            assert!(!run.errors().is_empty(), "{run}");
            assert!(!run.stdout.contains("refused"), "{run}");
            let again = import.ok();
            for item in again.json()["items"].as_array().unwrap() {
                let good = ["imported", "already"].contains(&item["outcome"].as_str().unwrap());
                assert!(good, "{again}\nafter\n{run}");
            }
        }
        self.expect_arrived();
        tried
    }

    /// Every call that takes room in turn is told that there is none.
    fn fill_at_every_call(&self) -> usize {
        let takes_room = |call: &Call| match call.name.as_str() {
            "openat" => call.line.contains("O_CREAT"),
            name => ["mkdirat", "write", "fsync", "renameat"].contains(&name),
        };
        let calls: Vec<usize> = (0..self.calls.len())
            .filter(|nth| takes_room(&self.calls[*nth]))
            .collect();
        for nth in &calls {
            self.begin_again();
            let run = self.tampered_at(*nth, "error=ENOSPC").exits(3);
            assert_eq!(run.codes(), ["DISK-FULL"], "{run}");
            let hint = run.errors()[0]["hint"].as_str().unwrap().to_owned();
            assert!(hint.contains("medium"), "{run}");
            assert_eq!(files::contents(&self.mount()), self.written(), "{run}");
            self.expect_completed(&run);
        }
        self.expect_arrived();
        calls.len()
    }

    /// The calls on each part, in order, up to where it gets its name.
    fn calls_by_part(&self) -> Vec<Vec<&Call>> {
        let mut parts: Vec<Vec<&Call>> = Vec::new();
        for call in &self.calls {
            if call.line.contains("O_CREAT") {
                parts.push(Vec::new());
            }
            if let Some(part) = parts.last_mut() {
                part.push(call);
            }
        }
        parts
    }

    /// Each file is synced, then dropped from the page cache, then read to its end, then named, and then its folder synced.
    fn expect_read_back(&self) {
        let parts = self.calls_by_part();
        let files = self
            .paths
            .iter()
            .filter(|path| path.contains(".cose") || path.contains(".seg"));
        assert_eq!(parts.len(), files.count());
        for part in parts {
            let mut names: Vec<&str> = part.iter().map(|call| call.name.as_str()).collect();
            names.truncate(names.iter().position(|name| *name == "renameat").unwrap() + 2);
            names.dedup();
            assert_eq!(
                names,
                [
                    "openat",
                    "fchmod",
                    "write",
                    "fsync",
                    "openat",
                    "fadvise64",
                    "pread64",
                    "renameat",
                    "fsync"
                ]
            );
            let advice = part.iter().find(|call| call.name == "fadvise64").unwrap();
            assert!(
                advice.line.contains(", 0, 0, POSIX_FADV_DONTNEED) = 0"),
                "{}",
                advice.line
            );
            let end = part.iter().rfind(|call| call.name == "pread64").unwrap();
            assert!(end.line.ends_with("= 0"), "{}", end.line);
        }
    }

    /// What is there already is not believed to be because the page cache says so: an export that failed may have left it
    /// there, and the stick may have kept nothing of it.
    fn expect_kept_is_read_back(&self) {
        let (run, calls) = self.stick(&self.export(), |stick, tool| stick.calls(tool));
        let outcomes = run.exits(0).json();
        for item in outcomes["items"].as_array().unwrap() {
            assert_eq!(item["outcome"], "already");
        }
        let opened: Vec<usize> = (0..calls.len())
            .filter(|nth| calls[*nth].name == "openat" && calls[*nth].line.contains("NONBLOCK"))
            .collect();
        assert_eq!(opened.len(), self.whole.len());
        for nth in opened {
            let mut names: Vec<&str> = calls[nth..].iter().map(|call| call.name.as_str()).collect();
            names.dedup();
            names.retain(|name| *name != "fstat");
            assert_eq!(
                names[..5],
                ["openat", "fsync", "fadvise64", "pread64", "fsync"]
            );
        }
        assert!(calls.iter().all(|call| call.name != "write"));
    }

    /// A stick that takes what it is given and keeps nothing of it, or something else, is found out.
    fn expect_liar_found(&self) {
        let first = |name: &str| {
            let found = self.calls.iter().position(|call| call.name == name);
            found.unwrap()
        };
        let write = first("write");
        let (_, bytes) = self.calls[write].line.rsplit_once("= ").unwrap();
        for (nth, how) in [
            (write, format!("retval={bytes}")),
            (first("pread64"), "poke_exit=@arg2=ff".to_owned()),
            (first("pread64"), "retval=0".to_owned()),
        ] {
            self.begin_again();
            let run = self.tampered_at(nth, &how).exits(3);
            assert_eq!(run.codes(), ["READ-BACK-MISMATCH"], "{how}\n{run}");
            assert_eq!(files::below(&self.mount()).len(), 0, "{how}\n{run}");
            self.expect_completed(&run);
        }
    }
}

#[test]
fn a_stick_pulled_out_of_a_vault_at_any_moment_is_completed_by_the_next_export() {
    let calls = Export::from_site().pull_at_every_call();
    assert!(calls >= 30, "only {calls} moments were tried");
}

#[test]
fn a_stick_pulled_out_of_headquarters_at_any_moment_is_completed_by_the_next_export() {
    let calls = Export::from_headquarters().pull_at_every_call();
    assert!(calls >= 40, "only {calls} moments were tried");
}

#[test]
fn a_stick_pulled_out_while_it_is_read_is_taken_in_when_it_is_back() {
    for export in [Export::from_site(), Export::from_headquarters()] {
        let calls = export.pull_while_read();
        assert!(calls >= 4, "only {calls} moments were tried");
    }
}

#[test]
fn a_stick_that_is_full_at_any_moment_says_so_and_takes_the_rest_when_there_is_room() {
    for export in [Export::from_site(), Export::from_headquarters()] {
        let calls = export.fill_at_every_call();
        assert!(calls >= 12, "only {calls} moments were tried");
    }
}

#[test]
fn every_file_is_read_back_from_the_stick_and_not_from_the_page_cache() {
    for export in [Export::from_site(), Export::from_headquarters()] {
        export.expect_read_back();
        export.expect_kept_is_read_back();
    }
}

#[test]
fn a_stick_that_keeps_something_else_than_it_was_given_is_found_out() {
    for export in [Export::from_site(), Export::from_headquarters()] {
        export.expect_liar_found();
    }
}

#[test]
fn a_stick_that_cannot_be_written_is_said_to_be_so_and_the_next_one_gets_everything() {
    let world = World::ready();
    world.requests("some", 1..=3);
    world.issue("some").ok();
    let inner = world.path("media/mintmark/to-hq");
    fs::create_dir_all(&inner).unwrap();
    let folder = inner.to_str().unwrap();
    for (error, code) in [
        ("ENOSPC", "DISK-FULL"),
        ("EROFS", "MEDIA-READ-ONLY"),
        ("EIO", "FILE-IO"),
        ("EACCES", "FILE-DENIED"),
    ] {
        // The folder itself is opened first, then the file in it.
        let run = failing(
            &world.site("media export $D/media"),
            "openat",
            folder,
            error,
            2,
        )
        .exits(3);
        assert_eq!(run.codes(), [code], "{run}");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0, "{run}");
    }
    let run = world.site("media export $D/media").ok();
    assert_eq!(run.item(".cose")["outcome"], "exported");
    world.hq("media import $D/media").ok();
    // HQ's own stick.
    world.mint(
        "berlin",
        &POLICY.replace("id = \"th200\"", "id = \"another\""),
    );
    fs::create_dir_all(world.path("other/mintmark/to-berlin_v1")).unwrap();
    let folder = world.path("other/mintmark/to-berlin_v1");
    for (error, code) in [("ENOSPC", "DISK-FULL"), ("EROFS", "MEDIA-READ-ONLY")] {
        let run = failing(
            &world.hq("media export $D/other"),
            "openat",
            folder.to_str().unwrap(),
            error,
            2,
        )
        .exits(3);
        assert_eq!(run.codes(), [code], "{run}");
    }
    world.hq("media export $D/other").ok();
    world.site("media import $D/other").ok();
}

#[test]
fn an_export_never_writes_over_something_else() {
    let world = World::ready();
    world.requests("some", 1..=2);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    let bundle = files::below(&world.on_stick("to-hq"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "cose"));
    let bundle = bundle.unwrap();
    fs::create_dir_all(world.path("other/mintmark/to-hq")).unwrap();
    let taken = world
        .path("other/mintmark/to-hq")
        .join(bundle.file_name().unwrap());
    fs::write(&taken, "something else").unwrap();
    let run = world.site("media export $D/other").exits(3);
    let name = Path::new(bundle.file_name().unwrap())
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(run.item(&name)["outcome"], "refused");
    assert_eq!(run.codes(), ["MEDIA-CONFLICT"]);
    assert_eq!(fs::read(taken).unwrap(), b"something else");
    // On the stick that has it already, it is there already, to the byte.
    let before = files::contents(&world.path("media"));
    assert_eq!(
        world.site("media export $D/media").ok().item(&name)["outcome"],
        "already"
    );
    assert_eq!(files::contents(&world.path("media")), before);
}
