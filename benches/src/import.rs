//! Importing: `hq media import` of what a real vault made, beside the bare verification of all the same signatures, and what
//! reports and look-ups take once it is in.

mod bare;
mod plant;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mintmark_tests::{files, stores};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::plant::{Plant, Stage};
use crate::issuing::median;
use crate::requests;
use crate::scene::{memory, processor_seconds};

pub(crate) use self::bare::{Order, Pace, measure as bare};
pub(crate) use self::table::table;

/// How often a report and a look-up are timed.
const TIMES: usize = 9;

/// The stages of a round, as far as it has come.
const MEASURED: &str = "measured.json";

/// How much is imported.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ImportOptions {
    /// The largest log that is imported, in records: 10 thousand, a million or ten million
    #[arg(long, default_value_t = 1_000_000)]
    records_max: u64,
    /// How often all of it is imported, each time by headquarters that hold nothing
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Goes on with a round that was stopped, whose stages are kept as they were measured
    #[arg(long, requires = "keep")]
    go_on: bool,
    /// Makes the vault's log and stops
    #[arg(long)]
    make_only: bool,
    /// Where the vault and its sticks are made, and kept for the next time; without it, they are removed
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Where temporary folders are made
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    /// Processors of this machine.
    processors: usize,
    /// Rounds that it is all the median of.
    rounds: u32,
    /// The stages in order, of which each is imported on top of those before.
    stages: Vec<Measured>,
    /// Records of the whole log, and the certificates among what they say.
    records: u64,
    certificates: u64,
    /// Signatures that were verified bare, and again by the import.
    signatures: u64,
    /// All of them by the bare verification, in signatures per second.
    bare_rate: f64,
    /// All of them by the import, in signatures per second.
    import_rate: f64,
    /// The import's rate to that of the bare verification; to be at least 0.8.
    import_to_bare: f64,
    /// Processor time of the bare verification to that of the import.
    processor_to_bare: f64,
    /// Records that the import takes in per second.
    records_rate: f64,
    /// Processor time of a record with most in the registry to that with least; to be at most 1.2.
    flat: Option<f64>,
    /// The same in elapsed time.
    flat_elapsed: Option<f64>,
    /// The most memory of any `hq media import`, in bytes; to be less than 512 MiB.
    memory_bytes: u64,
    /// The registry, in bytes.
    registry_bytes: u64,
    /// The median of `hq reconcile` over everything, the whole command, in milliseconds.
    reconcile_milliseconds: f64,
    /// The medians of `hq device show`, the whole command, in milliseconds.
    by_id_milliseconds: f64,
    by_serial_milliseconds: f64,
    by_key_milliseconds: f64,
    /// The median of `hq --version`: what a process takes that does nothing.
    nothing_milliseconds: f64,
    /// The median of `hq device dossier`, in milliseconds.
    dossier_milliseconds: f64,
}

/// What a stage took.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    /// Records that headquarters held before.
    held: u64,
    /// Records of this stage.
    records: u64,
    /// Whether cost by size is read from it: each of these is as large as the others.
    window: bool,
    bundles: usize,
    bare_seconds: f64,
    bare_processor_seconds: f64,
    import_seconds: f64,
    import_processor_seconds: f64,
    memory_bytes: u64,
}

impl Measured {
    fn microseconds(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.records as f64
    }
}

/// One run of a command.
struct Ran {
    elapsed: Duration,
    processor_seconds: f64,
    memory_bytes: u64,
    output: String,
}

/// Makes what is not there yet, and measures all of it; nothing if it is only to be made.
pub(crate) fn measure(options: &ImportOptions, binaries: &Path) -> Option<Report> {
    let plant = Plant::open(options.keep.as_deref());
    let stages = plant.make(options.records_max);
    if options.make_only {
        return None;
    }
    let mut rounds = Vec::new();
    let mut last = None;
    for round in 1..=options.rounds {
        // One after the other: what is measured at the end is the last.
        drop(last.take());
        let go_on = options.go_on && round == 1;
        let (headquarters, mut measured) = Headquarters::new(&plant, binaries, go_on);
        measured.truncate(stages.len());
        for stage in &stages[measured.len()..] {
            measured.push(headquarters.take_in(&plant, stage));
            let kept = serde_json::to_vec(&measured).unwrap();
            fs::write(plant.world.path(MEASURED), kept).unwrap();
        }
        say(&format!(
            "round {round}: {} stages imported",
            measured.len()
        ));
        rounds.push(measured);
        last = Some(headquarters);
    }
    let headquarters = last?;
    let measured: Vec<Measured> = (0..stages.len())
        .map(|stage| medians(rounds.iter().map(|round| &round[stage]).collect()))
        .collect();
    Some(report(options, &headquarters, &stages, measured))
}

fn say(text: &str) {
    eprintln!("mintmark-benches: {text}");
}

/// The same stage in several rounds.
fn medians(rounds: Vec<&Measured>) -> Measured {
    let of = |field: fn(&Measured) -> f64| median(rounds.iter().map(|one| field(one)).collect());
    Measured {
        bare_seconds: of(|one| one.bare_seconds),
        bare_processor_seconds: of(|one| one.bare_processor_seconds),
        import_seconds: of(|one| one.import_seconds),
        import_processor_seconds: of(|one| one.import_processor_seconds),
        memory_bytes: rounds.iter().map(|one| one.memory_bytes).max().unwrap(),
        ..rounds[0].clone()
    }
}

fn report(
    options: &ImportOptions,
    headquarters: &Headquarters<'_>,
    stages: &[Stage],
    measured: Vec<Measured>,
) -> Report {
    let total = |of: fn(&Measured) -> f64| measured.iter().map(of).sum::<f64>();
    let (bare, import) = (
        total(|one| one.bare_seconds),
        total(|one| one.import_seconds),
    );
    let (bare_processor, import_processor) = (
        total(|one| one.bare_processor_seconds),
        total(|one| one.import_processor_seconds),
    );
    let records: u64 = measured.iter().map(|one| one.records).sum();
    let certificates: u64 = stages
        .iter()
        .map(|stage| u64::from(stage.certificates))
        .sum();
    // A request and a certificate each, and the bundles.
    let bundles: u64 = measured.iter().map(|one| one.bundles as u64).sum();
    let signatures = 2 * certificates + bundles;
    let windows: Vec<&Measured> = measured.iter().filter(|one| one.window).collect();
    let ends = windows
        .first()
        .zip(windows.last())
        .filter(|_| windows.len() > 1);
    let ratio = |of: fn(&Measured) -> f64| {
        ends.map(|(small, large)| large.microseconds(of(large)) / small.microseconds(of(small)))
    };
    let device = requests::device_id(u32::try_from(certificates / 2).unwrap());
    let shown: Value = serde_json::from_str(&headquarters.device(&device).output).unwrap();
    let text = |name: &str| shown[name].as_str().unwrap().to_owned();
    let milliseconds = |run: &dyn Fn() -> Ran| {
        let elapsed = (0..TIMES).map(|_| run().elapsed.as_secs_f64() * 1e3);
        median(elapsed.collect())
    };
    Report {
        schema: "mintmark/bench-importing/1",
        processors: requests::threads(),
        rounds: options.rounds,
        records,
        certificates,
        signatures,
        bare_rate: signatures as f64 / bare,
        import_rate: signatures as f64 / import,
        import_to_bare: bare / import,
        processor_to_bare: bare_processor / import_processor,
        records_rate: records as f64 / import,
        flat: ratio(|one| one.import_processor_seconds),
        flat_elapsed: ratio(|one| one.import_seconds),
        memory_bytes: measured.iter().map(|one| one.memory_bytes).max().unwrap(),
        registry_bytes: fs::metadata(headquarters.home.join("registry.sqlite"))
            .unwrap()
            .len(),
        reconcile_milliseconds: milliseconds(&|| headquarters.hq(&["reconcile", "--json"])),
        by_id_milliseconds: milliseconds(&|| headquarters.device(&device)),
        by_serial_milliseconds: milliseconds(&|| headquarters.device(&text("serial"))),
        by_key_milliseconds: milliseconds(&|| headquarters.device(&text("public_key_sha256"))),
        nothing_milliseconds: milliseconds(&|| headquarters.hq(&["--version"])),
        dossier_milliseconds: headquarters.dossier(&device).elapsed.as_secs_f64() * 1e3,
        stages: measured,
    }
}

/// Headquarters that have granted and imported nothing yet, in a folder of their own.
struct Headquarters<'a> {
    home: PathBuf,
    plant: &'a Plant,
    binaries: &'a Path,
}

impl<'a> Headquarters<'a> {
    /// New ones, or those of a round that was stopped with what was measured of it.
    fn new(plant: &'a Plant, binaries: &'a Path, go_on: bool) -> (Self, Vec<Measured>) {
        let home = plant.world.path("measured");
        let headquarters = Self {
            home: home.clone(),
            plant,
            binaries,
        };
        if go_on && let Ok(kept) = fs::read(plant.world.path(MEASURED)) {
            return (headquarters, serde_json::from_slice(&kept).unwrap());
        }
        if home.exists() {
            fs::remove_dir_all(&home).unwrap();
        }
        files::copy(&plant.world.path("hq"), &home);
        fs::write(plant.world.path(MEASURED), "[]").unwrap();
        stores::reduce_rounds(plant.world.folder());
        (headquarters, Vec::new())
    }

    /// Verifies the signatures of a stage by themselves, then imports it.
    fn take_in(&self, plant: &Plant, stage: &Stage) -> Measured {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("bare").arg("--home").arg(plant.vault());
        command.args(["--first", &stage.first.to_string()]);
        command.args(["--end", &stage.end.to_string()]);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let bare: Pace = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(bare.signatures, 2 * u64::from(stage.certificates));
        let run = self.hq(&["media", "import", plant.stick(stage).to_str().unwrap()]);
        let measured = Measured {
            held: stage.first,
            records: stage.end - stage.first,
            window: stage.window,
            bundles: 1,
            bare_seconds: bare.seconds,
            bare_processor_seconds: bare.processor_seconds,
            import_seconds: run.elapsed.as_secs_f64(),
            import_processor_seconds: run.processor_seconds,
            memory_bytes: run.memory_bytes,
        };
        say(&format!(
            "records {} to {}: bare {:.2} us a record, {:.2} of a processor; imported {:.2} us, {:.2} of a processor; ratio {:.2}",
            stage.first,
            stage.end,
            measured.microseconds(bare.seconds),
            measured.microseconds(bare.processor_seconds),
            measured.microseconds(measured.import_seconds),
            measured.microseconds(measured.import_processor_seconds),
            bare.seconds / measured.import_seconds
        ));
        measured
    }

    fn device(&self, asked: &str) -> Ran {
        self.hq(&["device", "show", asked, "--json"])
    }

    fn dossier(&self, asked: &str) -> Ran {
        let output = self.home.join("measured.dossier");
        if output.exists() {
            fs::remove_file(&output).unwrap();
        }
        self.hq(&[
            "device",
            "dossier",
            asked,
            "--output",
            output.to_str().unwrap(),
        ])
    }

    /// Runs `hq`, which is to end well.
    fn hq(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(self.binaries.join("hq"));
        command
            .args(words)
            .env("HQ_HOME", &self.home)
            .current_dir(self.plant.world.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let before = children_seconds();
        let begin = Instant::now();
        let mut child = command.spawn().unwrap();
        let process = PathBuf::from(format!("/proc/{}", child.id()));
        let watch = thread::spawn(move || {
            let mut most = 0;
            loop {
                match memory(&process) {
                    0 => return most,
                    bytes => most = most.max(bytes),
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        let output = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        let status = child.wait().unwrap();
        let elapsed = begin.elapsed();
        assert!(status.success(), "hq {words:?} ends well: {output}");
        Ran {
            elapsed,
            processor_seconds: children_seconds() - before,
            memory_bytes: watch.join().unwrap(),
            output,
        }
    }
}

/// The processor time of the processes that this one has waited for, in seconds.
fn children_seconds() -> f64 {
    // proc(5): fields 16 and 17 are cutime and cstime, in hundredths of a second.
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = |at: usize| {
        let field = fields.split_whitespace().nth(at).unwrap();
        field.parse::<f64>().unwrap()
    };
    (ticks(13) + ticks(14)) / 100.0
}

/// The processor time of this process, in seconds.
fn own_seconds() -> f64 {
    processor_seconds(Path::new("/proc/self")).unwrap()
}
