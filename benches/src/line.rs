//! The line: `site serve` and the stations that ask it by EST over TLS 1.3, beside the same cryptography without a network,
//! the batch path, and an EST server of somebody else's.

mod client;
mod load;
mod memory;
mod peer;
mod table;

use std::path::Path;

use mintmark_tests::Service;
use mintmark_tests::service::let_in;
use serde::Serialize;

use self::client::{Target, tls};
use self::load::Load;
use self::memory::Memory;
use self::peer::PeerOptions;
use crate::issuing::median;
use crate::requests;
use crate::scene::{Scene, processor_seconds};

pub(crate) use self::table::table;

/// How many keep-alive connections ask at a time, and which part of the requests that are asked for each level gets:
/// few connections take long for many.
const LEVELS: [(usize, u32); 3] = [(1, 10), (8, 2), (64, 1)];

/// Stations among which the connections are divided.
const STATIONS: usize = 8;

/// How long requests come in at half load, in seconds.
const HALF_LOAD_SECONDS: f64 = 8.0;

/// How much of the line is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LineOptions {
    /// How many requests 64 clients make in a round
    #[arg(long, default_value_t = 20_000)]
    requests: u32,
    /// How often each thing is measured; 0 for memory alone
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// After how many requests memory is compared with that after 1,000; 0 for not at all
    #[arg(long, default_value_t = 200_000)]
    memory: u32,
    #[command(flatten)]
    peer: PeerOptions,
    /// Where the vaults are made: a folder on the disk that is measured
    #[arg(long)]
    pub(crate) folder: Option<std::path::PathBuf>,
}

/// Everything that was measured of the line.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    /// Processors of this machine, which the service and its clients share.
    processors: usize,
    /// Stations among which the connections are divided.
    stations: usize,
    /// How fast it is, where that was measured.
    #[serde(flatten)]
    speed: Option<Speed>,
    /// What the service holds in memory.
    memory: Option<Memory>,
    /// Somebody else's server, measured by the same clients.
    peer: Option<peer::Peer>,
}

/// How fast the line is.
#[derive(Debug, Serialize)]
struct Speed {
    /// How many requests 64 clients made in a round.
    requests: u32,
    /// The median of the ceilings: a request checked, a signature by the token, its check; certificates per second.
    ceiling_rate: f64,
    /// The ceiling's processor time per certificate, in microseconds.
    ceiling_processor_microseconds: f64,
    /// The median of `site issue` of as many requests, in certificates per second, the whole command.
    batch_rate: f64,
    /// By how many clients ask.
    levels: Vec<Level>,
    /// At half of what 64 clients were given.
    half_load: Latency,
}

/// What so many clients were given.
#[derive(Debug, Serialize)]
struct Level {
    clients: usize,
    /// The median of certificates per second.
    rate: f64,
    /// The median of its ratios to the ceilings beside it.
    to_ceiling: f64,
    /// The median of its ratios to the batch path of its round.
    to_batch: f64,
    /// The ceiling's processor time per certificate to the service's.
    processor_to_ceiling: f64,
    /// Processor time of the service per certificate, in microseconds.
    service_microseconds: f64,
    /// Processor time of the clients per certificate, in microseconds: theirs is not the service's cost, and yet they share
    /// the processors.
    clients_microseconds: f64,
    /// The median of the rounds' medians of latency, in milliseconds; closed loop.
    p50_milliseconds: f64,
    /// The same of the 99th percentile.
    p99_milliseconds: f64,
}

/// How long answers take when requests come by themselves, whether the one before was answered or not.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    /// Requests per second.
    rate: f64,
    /// How many there were.
    requests: usize,
    p50_milliseconds: f64,
    p99_milliseconds: f64,
    max_milliseconds: f64,
}

/// One level in one round.
struct Sample {
    rate: f64,
    to_ceiling: f64,
    to_batch: f64,
    service_microseconds: f64,
    clients_microseconds: f64,
    p50: f64,
    p99: f64,
}

/// A service with the stations that may ask it, and how many devices have asked.
struct Floor {
    service: Service,
    target: Target,
    devices: u32,
}

impl Floor {
    /// At the vault `berlin`, which may issue.
    fn open(scene: &Scene) -> Self {
        let world = scene.world();
        let names: Vec<String> = (1..=STATIONS).map(|of| format!("line-{of}")).collect();
        for name in &names {
            if !world.path(&format!("{name}.pem")).exists() {
                let_in(world, name, "");
            }
        }
        let service = Service::start_with(world, "", &[("SITE_LOG", "info")]);
        let trusted = world.path("station-ca.pem");
        let stations = names.iter().map(|name| {
            let file = |ending: &str| world.path(&format!("{name}.{ending}"));
            tls(&trusted, &file("pem"), &file("key"))
        });
        let target = Target::new(
            &service.url("/.well-known/est/TH-200"),
            stations.collect::<Vec<_>>(),
        );
        Self {
            service,
            target,
            devices: 0,
        }
    }

    /// Requests of devices that have not asked yet.
    fn next(&mut self, count: u32) -> Load {
        let first = self.devices;
        self.devices += count;
        Load::new(first, count)
    }

    /// That many clients, each of which asks again when it is answered.
    fn closed(&mut self, clients: usize, count: u32) -> load::Run {
        let load = self.next(count);
        load.closed(&self.target, clients, Some(self.service.pid()))
    }

    /// Ends it; the vault must have spent what was asked for, and not a unit more.
    fn close(self, scene: &Scene) {
        assert_eq!(self.service.stop(), 0, "the service ends well");
        let status = scene.world().status("berlin");
        let issued = status["accounts"][0]["good"].as_u64();
        assert_eq!(issued, Some(u64::from(self.devices)), "{status}");
    }
}

/// Measures all of it.
pub(crate) fn measure(options: &LineOptions, binaries: &Path) -> Report {
    let say = |text: &str| eprintln!("mintmark-benches: {text}");
    let speed = (options.rounds > 0).then(|| speed(options, binaries, say));
    let memory = (options.memory > 0).then(|| {
        say("comparing memory");
        // A vault that has done nothing yet.
        memory::measure(options.memory)
    });
    Report {
        schema: "mintmark/bench-line/2",
        processors: requests::threads(),
        stations: STATIONS,
        speed,
        memory,
        peer: peer::measure(&options.peer, options.requests, say),
    }
}

/// Measures how fast it is.
fn speed(options: &LineOptions, binaries: &Path, say: impl Fn(&str)) -> Speed {
    say("making headquarters, a vault and its stations");
    let scene = Scene::new();
    scene.vault("berlin");
    let folder = scene.path("requests");
    requests::write(&folder, 0, options.requests);
    let mut floor = Floor::open(&scene);
    // Caches fill, and pages of the log are allotted.
    floor.closed(8, 1_000);
    let mut samples: Vec<Vec<Sample>> = LEVELS.iter().map(|_| Vec::new()).collect();
    let (mut ceilings, mut batches) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let vault = format!("batch-{round}");
        scene.vault(&vault);
        let run = scene.issue(binaries, &vault, &folder);
        let batch = f64::from(options.requests) / run.whole.as_secs_f64();
        batches.push(batch);
        let mut before = scene.ceiling(&vault);
        ceilings.push(before);
        for ((clients, part), of) in LEVELS.iter().zip(&mut samples) {
            let run = floor.closed(*clients, options.requests / part);
            let after = scene.ceiling(&vault);
            let rate = run.rate();
            say(&format!(
                "round {round}: {clients} clients {rate:.0}/s, ceilings {:.0}/s and {:.0}/s, batch {batch:.0}/s",
                before.rate, after.rate
            ));
            of.push(Sample {
                rate,
                to_ceiling: rate / f64::midpoint(before.rate, after.rate),
                to_batch: rate / batch,
                service_microseconds: run.service_microseconds(),
                clients_microseconds: run.clients_microseconds(),
                p50: run.percentile(50.0),
                p99: run.percentile(99.0),
            });
            ceilings.push(after);
            before = after;
        }
    }
    let ceiling_processor_microseconds = median(
        ceilings
            .iter()
            .map(|of| of.processor_microseconds)
            .collect(),
    );
    let levels: Vec<Level> = LEVELS
        .iter()
        .zip(&samples)
        .map(|((clients, _), of)| level(*clients, of, ceiling_processor_microseconds))
        .collect();
    let most = levels.last().map_or(0.0, |level| level.rate);
    let half = floor.next((most / 2.0 * HALF_LOAD_SECONDS) as u32);
    let half_load = half.open(&floor.target, most / 2.0);
    floor.close(&scene);
    Speed {
        requests: options.requests,
        ceiling_rate: median(ceilings.iter().map(|of| of.rate).collect()),
        ceiling_processor_microseconds,
        batch_rate: median(batches),
        levels,
        half_load,
    }
}

fn level(clients: usize, samples: &[Sample], ceiling_microseconds: f64) -> Level {
    let of = |what: fn(&Sample) -> f64| median(samples.iter().map(what).collect());
    let service_microseconds = of(|sample| sample.service_microseconds);
    Level {
        clients,
        rate: of(|sample| sample.rate),
        to_ceiling: of(|sample| sample.to_ceiling),
        to_batch: of(|sample| sample.to_batch),
        processor_to_ceiling: ceiling_microseconds / service_microseconds,
        service_microseconds,
        clients_microseconds: of(|sample| sample.clients_microseconds),
        p50_milliseconds: of(|sample| sample.p50),
        p99_milliseconds: of(|sample| sample.p99),
    }
}

/// Processor time of a process, in seconds; nothing of one that is not known.
fn spent(pid: Option<u32>) -> f64 {
    let process = pid.map(|pid| format!("/proc/{pid}"));
    let spent = process.and_then(|process| processor_seconds(Path::new(&process)));
    spent.unwrap_or(0.0)
}
