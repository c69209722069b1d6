//! `site serve`: the vault as a service, for the stations of its floor.

mod api;
pub(crate) mod board;
pub(crate) mod control;
mod counters;
pub(crate) mod desk;
pub(crate) mod engine;
mod est;
mod floor;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gauge;
mod listener;
mod metrics;
mod news;
mod notify;
mod pace;
mod page;
mod problem;
mod round;
mod router;
mod seats;
mod setup;
mod stream;
mod tls;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mintmark_console::{Console, Exit, Failure, GlobalOptions, Stop};
use mintmark_keys::{KeyStore, KeyUri};
use mintmark_pki::ServerName;
use mintmark_protocol::identifier::Fingerprint;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_rustls::TlsAcceptor;

use self::board::Wall;
use self::counters::Counters;
use self::desk::Desk;
use self::engine::Engine;
use self::floor::{Floor, now_unix};
use self::listener::Door;
use self::notify::Notify;
pub(crate) use self::setup::Setup;
use self::tls::{Credential, Shown};
pub(crate) use self::tls::{Key, next_credential};
use crate::commands::json;
use crate::failure::{Error, Result};
use crate::home::Home;
use crate::vault::keyring::open_store;

/// How long a service that was told to stop waits for what is begun.
const DRAIN_TIME: Duration = Duration::from_secs(25);

/// How long it waits for the vault to close after that.
const CLOSE_TIME: Duration = Duration::from_secs(60);

/// How often is looked whether somebody asked to stop.
const STOP_TIME: Duration = Duration::from_millis(100);

/// How often is looked whether the home holds another certificate.
const RELOAD_TIME: Duration = Duration::from_secs(1);

/// How often the rate is sampled.
const SAMPLE_TIME: Duration = Duration::from_secs(5);

/// How long after the certificate was to be renewed that is tried again.
const RENEWAL_TIME: Duration = Duration::from_secs(60);

/// A vault that says nothing for so long does not come back by itself: systemd is not told any more that it lives.
const SILENCE_SECONDS_MAX: u64 = 600;

/// The files that may be open: connections, the log, the index.
const FILES_MAX: u64 = 8192;

fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    let wrong = |_| "give an address and a port, such as 0.0.0.0:8443 or [::]:8443".to_owned();
    text.parse().map_err(wrong)
}

/// What `site serve` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The address and port that stations connect to, such as 0.0.0.0:8443 or [::]:8443; several may be given
    #[arg(long, value_name = "ADDR", required = true, value_parser = address)]
    listen: Vec<SocketAddr>,
    /// Where the service's own key is or is to be made; not given: in the vault's key store
    #[arg(long, value_name = "URI")]
    tls_keys: Option<KeyUri>,
    /// A name or address by which stations reach it, for its certificate; not given: this machine's name, and the addresses
    /// of --listen
    #[arg(long, value_name = "DNS|IP")]
    name: Vec<ServerName>,
    /// Allow TLS 1.2 beside 1.3, for stations that have nothing newer
    #[arg(long)]
    tls12: bool,
    /// For how long a request waits for the vault before it is told to come again
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    answer_seconds: u64,
}

/// What it says when it is ready.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    listening: Vec<String>,
    names: Vec<String>,
    certificate_sha256: String,
    station_ca_sha256: String,
}

/// Serves until it is told to stop.
pub(crate) fn execute(
    arguments: &Arguments,
    home: Option<&Path>,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit> {
    let stop = Stop::listen().map_err(|error| {
        Error::environment(
            "SIGNALS-UNAVAILABLE",
            "the system does not let it be stopped",
        )
        .cause(error)
        .hint("report it")
    })?;
    tell_through_standard_error();
    let setup = Setup {
        tls_keys: arguments.tls_keys.clone(),
        names: names(arguments)?,
    };
    more_files();
    let listeners = bind(&arguments.listen)?;
    let home = Home::open(home)?;
    let place = home.path().to_owned();
    let own_store = arguments.tls_keys.as_ref();
    let own_store = own_store
        .map(|uri| open_store(uri, console).map_err(not_again))
        .transpose()?;
    let (desk, wall) = (Arc::new(Desk::default()), Arc::new(Wall::new()));
    let own_console = Arc::new(Console::new(console.tool(), global));
    let engine = Engine::start(home, Arc::clone(&desk), Arc::clone(&wall), own_console)
        .map_err(not_again)?;
    let began = begin(&place, own_store, &setup, &desk).map_err(not_again);
    let ended = began.and_then(|(credential, store)| {
        let service = Service {
            place: &place,
            setup: &setup,
            desk: &desk,
            wall: &wall,
            engine: &engine,
            console,
        };
        service.run(arguments, listeners, (&credential, store), &stop)
    });
    desk.drain();
    ended.and(close(engine))?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Whoever starts a service again by itself, as systemd does, takes up each try of a PIN that is wrong, until the token locks.
/// So that is told as what a configuration is wrong with, which nobody tries again without a person.
fn not_again(error: Error) -> Error {
    match error.code() {
        "PIN-INCORRECT" | "PIN-LOCKED" | "PIN-EXPIRED" => error.of_the_configuration(),
        _ => error,
    }
}

/// Waits for the vault to close; not for one that hangs in its token, whose lease burns then.
fn close(engine: Engine) -> Result<()> {
    let begin = Instant::now();
    while !engine.is_over() {
        if begin.elapsed() > CLOSE_TIME {
            let message = "the vault did not close in time: a call to its token hangs";
            return Err(Error::unknown("VAULT-SILENT", message)
                .hint("nothing is lost: the next start completes what is open"));
        }
        thread::sleep(STOP_TIME);
    }
    engine.join()
}

/// By which names the service is reached.
fn names(arguments: &Arguments) -> Result<Vec<ServerName>> {
    let mut names = arguments.name.clone();
    if names.is_empty() {
        let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        names.extend(machine.trim().parse());
        for address in &arguments.listen {
            names.extend(address.ip().to_string().parse());
            if address.ip().is_loopback() || address.ip().is_unspecified() {
                names.extend("localhost".parse());
                names.extend(IpAddr::from([127, 0, 0, 1]).to_string().parse());
            }
        }
    }
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    if seen.is_empty() {
        let message =
            "neither this machine's name nor an address of --listen can stand in a certificate";
        return Err(Error::usage("SERVER-NAME-INVALID", message)
            .hint("say by which name stations reach it: --name vault.example"));
    }
    Ok(seen)
}

/// Takes the addresses, before anything else is begun.
fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let bind = |address: &SocketAddr| {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map_err(|error| {
            let message = format!("it cannot listen at {address}");
            Error::environment("LISTEN-FAILED", message)
                .cause(error)
                .hint("give an address of this machine, and a port that nobody else uses")
        })
    };
    addresses.iter().map(bind).collect()
}

/// As many open files as connections need. Where the system allows fewer, fewer connections are taken.
fn more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(FILES_MAX, |maximum| maximum.min(FILES_MAX));
    if current.is_some_and(|current| current < wanted) {
        let limit = Rlimit {
            current: Some(wanted),
            maximum,
        };
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// What happens is told on standard error: for people at a terminal, as JSON elsewhere. SITE_LOG says of what, such as
/// `debug`; no request's content and no secret is among it.
fn tell_through_standard_error() {
    use std::io::{IsTerminal as _, stderr};
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SITE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let told = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    // Somebody else of this process may tell already.
    let _ = match stderr().is_terminal() {
        true => told.try_init(),
        false => told.json().flatten_event(true).with_ansi(false).try_init(),
    };
}

/// The vault is open, and the service has its certificate.
fn begin(
    place: &Path,
    own_store: Option<Arc<dyn KeyStore>>,
    setup: &Setup,
    desk: &Desk,
) -> Result<(Credential, Arc<dyn KeyStore>)> {
    let mut loan = desk.borrow()?;
    let vault = loan.vault()?;
    let store = match own_store {
        Some(store) => store,
        None => Arc::clone(vault.keyring()?.store()),
    };
    let credential = vault.service_credential(place, &store, &setup.names, Key::Present)?;
    vault.rest()?;
    setup.write(place)?;
    Ok((credential, store))
}

/// The service at work.
struct Service<'a> {
    place: &'a Path,
    setup: &'a Setup,
    desk: &'a Arc<Desk>,
    wall: &'a Arc<Wall>,
    engine: &'a Engine,
    console: &'a Console,
}

impl Service<'_> {
    fn run(
        &self,
        arguments: &Arguments,
        listeners: Vec<TcpListener>,
        (credential, store): (&Credential, Arc<dyn KeyStore>),
        stop: &Stop,
    ) -> Result<()> {
        let shown = Shown::new(self.place, store, credential)?;
        let config = tls::config(
            Arc::clone(&shown),
            &credential.station_ca,
            self.wall,
            arguments.tls12,
        )?;
        let runtime = runtime()?;
        let served = runtime.block_on(async {
            let (stopped, stopping) = watch::channel(false);
            let counters = Arc::new(Counters::default());
            let floor = Arc::new(Floor::new(
                (Arc::clone(self.desk), Arc::clone(self.wall)),
                Arc::clone(&counters),
                arguments.answer_seconds,
                stopping.clone(),
            ));
            let (open, all_closed) = mpsc::channel(1);
            let door = Door {
                acceptor: TlsAcceptor::from(config),
                router: router::router(&floor),
                seats: Arc::default(),
                counters,
                stopping,
                open,
            };
            let mut addresses = Vec::new();
            for listener in listeners {
                let listener = tokio::net::TcpListener::from_std(listener).map_err(listening)?;
                addresses.push(listener.local_addr().map_err(listening)?);
                tokio::spawn(listener::listen(listener, door.clone()));
            }
            drop(door);
            self.report(&addresses, credential)?;
            let notify = Notify::from_environment();
            let place = format!("listening at {}", joined(&addresses));
            tracing::info!(
                addresses = joined(&addresses),
                made = credential.made,
                "ready"
            );
            notify.ready(&place);
            let signal = self.work((&floor, &shown), (&notify, &place), stop).await;
            tracing::info!(signal, "stopping: what is begun is finished");
            notify.stopping();
            // There are those who listen.
            let _ = stopped.send(true);
            if !listener::all_closed(all_closed, sleep(DRAIN_TIME)).await {
                tracing::warn!(open = floor.counters.open_now(), "connections were cut off");
            }
            Ok(())
        });
        // A call into a module that hangs is not waited for.
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    }

    fn report(&self, addresses: &[SocketAddr], credential: &Credential) -> Result<()> {
        let report = Report {
            schema: "mintmark/serve/1",
            listening: addresses.iter().map(ToString::to_string).collect(),
            names: self.setup.names.iter().map(ToString::to_string).collect(),
            certificate_sha256: Fingerprint::of(&credential.certificate).to_string(),
            station_ca_sha256: Fingerprint::of(&credential.station_ca).to_string(),
        };
        if self.console.is_json() {
            json(self.console, &report)?;
            return Ok(());
        }
        for address in &report.listening {
            self.console.line(format!("listening at https://{address}"));
        }
        let names = report.names.join(", ");
        self.console.line(format!("as {names}"));
        Ok(())
    }

    /// What is done beside answering, until somebody asks to stop, or the vault ends by itself: says which.
    async fn work(
        &self,
        (floor, shown): (&Arc<Floor>, &Arc<Shown>),
        (notify, place): (&Notify, &str),
        stop: &Stop,
    ) -> &'static str {
        let every = |time| {
            let mut every = interval(time);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            every
        };
        let (mut look, mut reload) = (every(STOP_TIME), every(RELOAD_TIME));
        let (mut sample, mut renewed) = (every(SAMPLE_TIME), None::<Instant>);
        let mut alive = every(Notify::watchdog().unwrap_or(SAMPLE_TIME));
        loop {
            tokio::select! {
                _ = look.tick() => {
                    if let Some(signal) = stop.asked() {
                        return signal;
                    }
                    if self.engine.is_over() {
                        return "the vault has ended";
                    }
                }
                _ = reload.tick() => {
                    let shown = Arc::clone(shown);
                    // Where the token does not answer, the next look waits, and nobody else.
                    drop(spawn_blocking(move || reload_certificate(&shown)));
                }
                _ = sample.tick() => {
                    floor.rate.sample(page::issued(&floor.wall.board()));
                    // The vault's time may be set right at any moment.
                    let is_due = shown.is_due(floor.wall.time().unwrap_or_else(now_unix));
                    if is_due && renewed.is_none_or(|last| last.elapsed() >= RENEWAL_TIME) {
                        renewed = Some(Instant::now());
                        self.renew(shown);
                    }
                }
                _ = alive.tick() => {
                    let age = now_unix().saturating_sub(floor.wall.board().posted);
                    if age < SILENCE_SECONDS_MAX {
                        notify.alive(place);
                    }
                }
            }
        }
    }

    /// Has the vault make another certificate, on a thread of its own; the next look takes it up.
    fn renew(&self, shown: &Arc<Shown>) {
        let (place, setup) = (self.place.to_owned(), self.setup.clone());
        let (desk, store) = (Arc::clone(self.desk), Arc::clone(shown.store()));
        drop(spawn_blocking(move || {
            match begin(&place, Some(store), &setup, &desk) {
                Ok((credential, _)) => tracing::info!(
                    until = credential.until,
                    made = credential.made,
                    "the service's certificate was renewed"
                ),
                Err(error) => tell_of("the service's certificate was not renewed", error.failure()),
            }
        }));
    }
}

fn reload_certificate(shown: &Shown) {
    match shown.reload() {
        Ok(false) => {}
        Ok(true) => tracing::info!("the service's certificate in the home is taken up"),
        Err(error) => tell_of(
            "the service's certificate was not taken up",
            error.failure(),
        ),
    }
}

fn tell_of(what: &'static str, failure: &Failure) {
    let Failure {
        code,
        message,
        cause,
        hint,
        ..
    } = failure;
    tracing::error!(code = &**code, message, cause, hint, "{what}");
}

fn joined(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

fn listening(error: std::io::Error) -> Error {
    Error::environment("LISTEN-FAILED", "it cannot listen")
        .cause(error)
        .hint("give an address of this machine, and a port that nobody else uses")
}

fn runtime() -> Result<Runtime> {
    let processors = thread::available_parallelism().map_or(1, |count| count.get());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.max(2))
        .thread_name("serve")
        .enable_all()
        .build()
        .map_err(|error| {
            Error::environment("RUNTIME-FAILED", "the system gives it no threads")
                .cause(error)
                .hint("end other programs, or raise the limit of processes")
        })
}
