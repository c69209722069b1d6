//! The measurements of issuing, in an order in which noise of the machine cancels.

use std::path::Path;

use serde::Serialize;

use crate::ceiling::Pace;
use crate::libraries::{self, Library};
use crate::openssl_ca::{self, Peer};
use crate::scene::{Run, SAMPLE, Scene};
use crate::{Options, files, requests, sync};

/// How many certificates are looked at where cost by size of the index is asked for.
const WINDOW: u32 = 10_000;

/// How often a lone request is timed.
const LONE: u32 = 7;

/// Requests that are answered one by one.
const ONE_BY_ONE: u32 = 50;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    /// Processors of this machine.
    pub(crate) processors: usize,
    /// Requests in the folder.
    pub(crate) csrs: u32,
    /// Each round of issuing, with the ceilings beside it.
    pub(crate) rounds: Vec<Round>,
    /// The median of the ceilings, in certificates per second.
    pub(crate) ceiling_rate: f64,
    /// The median of issuing, in certificates per second, from the start of the command to its end.
    pub(crate) issuing_rate: f64,
    /// The median of the rounds' ratios; to be at least 0.8.
    pub(crate) issuing_to_ceiling: f64,
    /// The same for the certificates between the first and the last, without the command's start and end.
    pub(crate) steady_to_ceiling: f64,
    /// The ceiling's processor time per certificate to that of issuing: the same ratio where other programs are running.
    pub(crate) processor_to_ceiling: f64,
    /// The processor time of writing as many files of the same sizes into one folder and nothing else, per certificate, in
    /// microseconds.
    pub(crate) files_microseconds: f64,
    /// The ceiling's processor time with that of the files to that of issuing.
    pub(crate) processor_to_ceiling_with_files: f64,
    /// The median of what issuing takes to what it takes over a log in memory; to be at most 1.05.
    pub(crate) log_to_memory: f64,
    /// The same in processor time.
    pub(crate) log_to_memory_processor: f64,
    /// Costs by size of the index.
    pub(crate) index: Vec<Size>,
    /// Processor time per certificate in the largest index to that in the smallest; to be at most 1.2.
    pub(crate) flat: Option<f64>,
    /// The same in elapsed time, which noise touches.
    pub(crate) flat_elapsed: Option<f64>,
    /// The most memory of any `site issue`, in bytes.
    pub(crate) memory_bytes: u64,
    /// The median of `site issue` of one request, the whole command, in milliseconds.
    pub(crate) command_milliseconds: f64,
    /// The median of one request by itself in a vault that is open, from its file to its certificate's, in milliseconds.
    pub(crate) request_milliseconds: f64,
    /// That to the least it can take: two syncs of the disk and one signature by the token, each by itself.
    pub(crate) request_to_least: f64,
    /// The peer.
    pub(crate) openssl_ca: Peer,
    /// The verification libraries.
    pub(crate) verification: Vec<Library>,
}

/// One round.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    ceiling_before: Pace,
    ceiling_after: Pace,
    issuing: f64,
    steady: f64,
    /// Issuing to the mean of the two ceilings.
    ratio: f64,
    steady_ratio: f64,
    /// Processor time per certificate, in microseconds.
    processor_microseconds: f64,
    /// That of the ceiling to it.
    processor_ratio: f64,
    /// Certificates per second over a log in memory.
    in_memory: f64,
    /// What issuing took to what it took over a log in memory.
    log_ratio: f64,
    /// The same in processor time.
    log_processor_ratio: f64,
}

/// What a certificate costs in an index of some size.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    /// Certificates in the index before the first that was measured.
    pub(crate) certificates: u32,
    /// Processor time per certificate, in microseconds.
    pub(crate) processor_microseconds: f64,
    /// Elapsed time per certificate, in microseconds.
    pub(crate) elapsed_microseconds: f64,
}

/// Measures all of it.
pub(crate) fn measure(scene: &Scene, options: &Options, binaries: &Path) -> Report {
    let say = |text: &str| eprintln!("mintmark-benches: {text}");
    say("making a vault for each round");
    let folder = scene.path("requests");
    requests::write(&folder, 0, options.csrs);
    scene.vault("warm");
    let mut rounds = Vec::new();
    let mut memory_bytes = 0;
    for round in 1..=options.rounds {
        let vault = format!("round-{round}");
        scene.vault(&vault);
        let ceiling_before = scene.ceiling("warm");
        let run = scene.issue(binaries, &vault, &folder);
        let ceiling_after = scene.ceiling("warm");
        memory_bytes = memory_bytes.max(run.memory_bytes);
        let bare = format!("bare-{round}");
        scene.vault(&bare);
        let in_memory = scene.issue_in_memory(&bare, &folder);
        let ceiling = f64::midpoint(ceiling_before.rate, ceiling_after.rate);
        let processor = f64::midpoint(
            ceiling_before.processor_microseconds,
            ceiling_after.processor_microseconds,
        );
        let processor_microseconds = processor_of(&run, 0);
        let issuing = f64::from(options.csrs) / run.whole.as_secs_f64();
        let steady = steady(&run);
        say(&format!(
            "round {round}: ceiling {ceiling:.0}/s and {processor:.0} us of a processor, issuing {issuing:.0}/s and \
             {processor_microseconds:.0} us, between first and last {steady:.0}/s"
        ));
        rounds.push(Round {
            ceiling_before,
            ceiling_after,
            issuing,
            steady,
            ratio: issuing / ceiling,
            steady_ratio: steady / ceiling,
            processor_microseconds,
            processor_ratio: processor / processor_microseconds,
            in_memory: f64::from(options.csrs) / in_memory.whole.as_secs_f64(),
            log_ratio: run.whole.as_secs_f64() / in_memory.whole.as_secs_f64(),
            log_processor_ratio: processor_microseconds / processor_of(&in_memory, 0),
        });
    }

    let mut lone = Vec::new();
    for number in 0..LONE {
        let requests = scene.path(&format!("lone-{number}"));
        requests::write(&requests, 9_000_000 + number, 1);
        lone.push(scene.issue(binaries, "warm", &requests).whole.as_secs_f64() * 1e3);
    }
    let requests = scene.path("one-by-one");
    requests::write(&requests, 9_100_000, ONE_BY_ONE);
    let one_by_one = scene.one_by_one("warm", &requests).into_iter();
    let one_by_one = median(one_by_one.map(|took| took.as_secs_f64() * 1e3).collect());
    // The reservation is synced before it is signed, and the signature before anybody sees it.
    let sync = sync::milliseconds(&scene.path(""));
    let signature = scene.ceiling("warm").signature_microseconds / 1e3;
    let least = 2.0 * sync + signature;
    say(&format!(
        "a sync takes {sync:.2} ms, a signature {signature:.2} ms, a request by itself {one_by_one:.2} ms"
    ));

    let files_microseconds = files::microseconds(&scene.path("files"), options.csrs);
    say(&format!(
        "the files of a certificate by themselves take {files_microseconds:.0} us of a processor"
    ));

    let index = sizes(scene, binaries, options.index_max, &mut memory_bytes, &say);
    let ends = index.first().zip(index.last()).filter(|_| index.len() > 1);
    let median_of = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    Report {
        schema: "mintmark/bench-issuing/1",
        processors: requests::threads(),
        csrs: options.csrs,
        ceiling_rate: median_of(|round| {
            f64::midpoint(round.ceiling_before.rate, round.ceiling_after.rate)
        }),
        processor_to_ceiling: median_of(|round| round.processor_ratio),
        files_microseconds,
        processor_to_ceiling_with_files: median_of(|round| round.processor_ratio)
            + files_microseconds / median_of(|round| round.processor_microseconds),
        issuing_rate: median_of(|round| round.issuing),
        issuing_to_ceiling: median_of(|round| round.ratio),
        steady_to_ceiling: median_of(|round| round.steady_ratio),
        log_to_memory: median_of(|round| round.log_ratio),
        log_to_memory_processor: median_of(|round| round.log_processor_ratio),
        flat: ends
            .map(|(small, large)| large.processor_microseconds / small.processor_microseconds),
        flat_elapsed: ends
            .map(|(small, large)| large.elapsed_microseconds / small.elapsed_microseconds),
        index,
        memory_bytes,
        command_milliseconds: median(lone),
        request_milliseconds: one_by_one,
        request_to_least: one_by_one / least,
        openssl_ca: openssl_ca::measure(scene, "warm"),
        verification: libraries::measure(),
        rounds,
    }
}

/// Certificates per second between the first and the last.
fn steady(run: &Run) -> f64 {
    let (first, last) = (run.at.first().unwrap(), run.at.last().unwrap());
    let same = run.at.iter().take_while(|at| **at <= *first).count();
    (run.at.len() - same) as f64 / (*last - *first).as_secs_f64()
}

/// Fills the index of one vault, and looks at what certificates cost at ten thousand, a hundred thousand, a million.
fn sizes(
    scene: &Scene,
    binaries: &Path,
    index_max: u32,
    memory_bytes: &mut u64,
    say: &impl Fn(&str),
) -> Vec<Size> {
    let mut sizes = Vec::new();
    let mut certificates = 0;
    let levels = [10_000, 100_000, 1_000_000].into_iter();
    for level in levels.filter(|level| *level <= index_max) {
        scene.fill("warm", certificates, level - certificates);
        let requests = scene.path(&format!("requests-{level}"));
        requests::write(&requests, level, 2 * WINDOW);
        let run = scene.issue(binaries, "warm", &requests);
        *memory_bytes = (*memory_bytes).max(run.memory_bytes);
        sizes.push(size(level, &run));
        say(&format!(
            "with {level} certificates in the index: {:?}",
            sizes.last().unwrap()
        ));
        certificates = level + 2 * WINDOW;
    }
    sizes
}

fn size(certificates: u32, run: &Run) -> Size {
    // The first samples are left out: caches fill.
    let skipped = 2;
    let last = run.processor_seconds.len() - 1;
    let elapsed = run.at[last * SAMPLE] - run.at[skipped * SAMPLE];
    Size {
        certificates,
        processor_microseconds: processor_of(run, skipped),
        elapsed_microseconds: elapsed.as_secs_f64() * 1e6 / ((last - skipped) * SAMPLE) as f64,
    }
}

/// Processor time per certificate after some samples, in microseconds.
fn processor_of(run: &Run, skipped: usize) -> f64 {
    let samples = &run.processor_seconds[skipped..];
    let (first, last) = (samples.first().unwrap(), samples.last().unwrap());
    (last - first) * 1e6 / ((samples.len() - 1) * SAMPLE) as f64
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
