//! What issuing costs, in one run and on any machine, as ratios: to what the cryptography that cannot be avoided costs
//! alone (the ceiling), to a log in memory, to an index of another size.
//!
//! ```text
//! cargo run --release -p mintmark-benches -- issuing                       all of it, 100,000 requests
//! cargo run --release -p mintmark-benches -- issuing --csrs 10000 --index-max 100000   in a minute
//! cargo run --release -p mintmark-benches -- line                          the service, over EST
//! cargo run --release -p mintmark-benches -- import                        headquarters, a million records
//! ```
//!
//! Machines are noisy. So the ceiling is measured before and after every round of issuing, each round is compared with the
//! two beside it, and medians are given. The vaults are real ones: the built `site`, a SoftHSM token each, an entitlement
//! that officers approved, and every certificate delivered as files.

// Clippy takes a program for a product; this one is a measurement, and what it cannot do ends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ceiling;
mod files;
mod import;
mod issuing;
mod libraries;
mod line;
mod memory_log;
mod openssl_ca;
mod report;
mod requests;
mod scene;
mod sync;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use mintmark_console::{Console, GlobalOptions};
use mintmark_ledger::log::LogStore;
use tikv_jemallocator::Jemalloc;

/// The allocator of `site`: the ceiling and the log in memory are to differ from it in nothing else.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Where the tests' library looks for the built binaries.
const BINARIES: &str = "MINTMARK_BINARIES";

/// What issuing costs, as ratios.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Print one JSON object instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Certificates for a folder of requests, through SoftHSM
    Issuing(Options),
    /// Certificates over EST from `site serve`, to stations that connect by TLS, and what it holds in memory
    Line(line::LineOptions),
    /// `hq media import` of the log of a vault with key files, and what `hq` takes to report on it
    Import(import::ImportOptions),
    /// The ceiling alone: for this program itself, which has it measured by a process of its own
    #[command(hide = true)]
    Ceiling {
        #[arg(long)]
        keys: String,
    },
    /// The signatures of a log by themselves: for this program itself
    #[command(hide = true)]
    Bare(import::Order),
    /// `site issue` over a log in memory: for this program itself
    #[command(hide = true)]
    InMemory(Order),
    /// One request after another in one vault: for this program itself
    #[command(hide = true)]
    OneByOne(Order),
    /// Certificates for so many devices, which are on record and nowhere else: for this program itself
    #[command(hide = true)]
    Fill {
        #[arg(long)]
        home: PathBuf,
        #[arg(long)]
        first: u32,
        #[arg(long)]
        count: u32,
    },
    /// Makes vaults and requests and leaves them there, to look at `site issue` with other tools
    Prepare {
        /// How many vaults
        #[arg(long, default_value_t = 4)]
        vaults: u32,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Order {
    #[arg(long)]
    home: PathBuf,
    #[arg(long)]
    csr: PathBuf,
    #[arg(long)]
    output: PathBuf,
}

impl Order {
    fn of_site(&self) -> mintmark_site::bench::Order<'_> {
        mintmark_site::bench::Order {
            home: &self.home,
            product: "TH-200",
            csr: &self.csr,
            output: &self.output,
        }
    }
}

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// How many requests the folder has
    #[arg(long, default_value_t = 100_000)]
    csrs: u32,
    /// How often each thing is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// The largest index that is measured, in certificates; 0 for none
    #[arg(long, default_value_t = 1_000_000)]
    index_max: u32,
    /// Where the vaults are made: a folder on the disk that is measured
    #[arg(long)]
    folder: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            csrs: 100_000,
            rounds: 3,
            index_max: 1_000_000,
            folder: None,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = match &arguments.what {
        None => Options::default(),
        Some(What::Issuing(options)) => options.clone(),
        Some(What::Prepare { options, .. }) => options.clone(),
        Some(What::Line(options)) => Options {
            folder: options.folder.clone(),
            ..Options::default()
        },
        Some(What::Import(options)) => Options {
            folder: options.folder.clone(),
            ..Options::default()
        },
        Some(What::Bare(order)) => {
            println!("{}", serde_json::to_string(&import::bare(order)).unwrap());
            return ExitCode::SUCCESS;
        }
        Some(What::Ceiling { keys }) => {
            let pace = ceiling::Ceiling::new(keys, "device-ca").pace();
            println!("{}", serde_json::to_string(&pace).unwrap());
            return ExitCode::SUCCESS;
        }
        Some(What::InMemory(_) | What::OneByOne(_) | What::Fill { .. }) => Options::default(),
    };
    let console = |json| {
        let options = GlobalOptions {
            json,
            ..GlobalOptions::default()
        };
        Console::new("mintmark-benches", &options)
    };
    match &arguments.what {
        Some(What::InMemory(order)) => {
            let console = console(true);
            let log = |folder: &Path| -> Box<dyn LogStore> {
                Box::new(memory_log::MemoryLog::copy_of(folder))
            };
            mintmark_site::bench::issue_over(log, order.of_site(), &console).unwrap();
            return ExitCode::SUCCESS;
        }
        Some(What::Fill { home, first, count }) => {
            let request = |at: usize| requests::der(first + u32::try_from(at).unwrap());
            let count = usize::try_from(*count).unwrap();
            mintmark_site::bench::fill(home, "TH-200", count, request, &console(true)).unwrap();
            return ExitCode::SUCCESS;
        }
        Some(What::OneByOne(order)) => {
            let console = console(false);
            let took = mintmark_site::bench::issue_one_by_one(order.of_site(), &console).unwrap();
            println!("{}", serde_json::to_string(&took).unwrap());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let Some(binaries) = std::env::var_os(BINARIES) else {
        return again(&options);
    };
    if let Some(What::Prepare { vaults, options }) = arguments.what {
        let scene = scene::Scene::new();
        requests::write(&scene.path("requests"), 0, options.csrs);
        (1..=vaults).for_each(|number| scene.vault(&format!("vault-{number}")));
        println!("{}", scene.path("").display());
        // What is there stays there.
        std::process::exit(0);
    }
    if let Some(What::Line(options)) = &arguments.what {
        let report = line::measure(options, Path::new(&binaries));
        if arguments.json {
            println!("{}", serde_json::to_string(&report).unwrap());
        } else {
            println!("{}", line::table(&report));
        }
        return ExitCode::SUCCESS;
    }
    if let Some(What::Import(options)) = &arguments.what {
        let Some(report) = import::measure(options, Path::new(&binaries)) else {
            return ExitCode::SUCCESS;
        };
        if arguments.json {
            println!("{}", serde_json::to_string(&report).unwrap());
        } else {
            println!("{}", import::table(&report));
        }
        return ExitCode::SUCCESS;
    }
    // Removed last: millions of files take a disk minutes, and what was measured need not wait for that.
    let scene = scene::Scene::new();
    let report = issuing::measure(&scene, &options, Path::new(&binaries));
    if arguments.json {
        println!("{}", serde_json::to_string(&report).unwrap());
    } else {
        println!("{}", report::table(&report));
    }
    ExitCode::SUCCESS
}

/// Builds `site` and `hq` beside this program, then has it start again knowing where they are.
fn again(options: &Options) -> ExitCode {
    let program = std::env::current_exe().unwrap();
    let folder = program.parent().unwrap();
    let release = folder.ends_with("release");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut build = Command::new(env!("CARGO"));
    build
        .args([
            "build",
            "--quiet",
            "-p",
            "mintmark-site",
            "-p",
            "mintmark-hq",
        ])
        .args(["--profile", if release { "release" } else { "dev" }])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(folder.parent().unwrap());
    assert!(build.status().unwrap().success(), "site and hq are built");
    let mut command = Command::new(&program);
    command
        .args(std::env::args_os().skip(1))
        .env(BINARIES, folder);
    if let Some(folder) = &options.folder {
        // Where temporary folders are made.
        command.env("TMPDIR", folder);
    }
    match command.status().unwrap().code() {
        Some(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
