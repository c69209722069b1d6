//! An EST server of somebody else's, which runs already, measured by the same clients in the same run.

use std::path::PathBuf;

use serde::Serialize;

use super::client::{Target, tls};
use super::load::Load;
use super::{HALF_LOAD_SECONDS, LEVELS, Latency};

/// Which server, and who asks it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PeerOptions {
    /// An EST server of another project to measure in the same run: the URL that its `simpleenroll` is under
    #[arg(long, value_name = "URL", requires_all = ["peer_ca", "peer_certificate", "peer_key"])]
    peer: Option<String>,
    /// What its certificate is checked with (PEM)
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_ca: Option<PathBuf>,
    /// The client certificate that it is shown (PEM)
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_certificate: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_key: Option<PathBuf>,
    /// The process whose processor time is the server's
    #[arg(long, value_name = "PID", requires = "peer")]
    peer_pid: Option<u32>,
}

/// What it gave.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) url: String,
    pub(crate) levels: Vec<PeerLevel>,
    /// At half of what 64 clients were given by it.
    pub(crate) half_load: Latency,
}

/// What so many clients were given.
#[derive(Debug, Serialize)]
pub(crate) struct PeerLevel {
    pub(crate) clients: usize,
    /// Certificates per second.
    pub(crate) rate: f64,
    /// Processor time of the server per certificate, in microseconds; 0 where its process was not named.
    pub(crate) service_microseconds: f64,
    pub(crate) p50_milliseconds: f64,
    pub(crate) p99_milliseconds: f64,
}

/// Measures it, if one was named.
pub(crate) fn measure(options: &PeerOptions, requests: u32, say: impl Fn(&str)) -> Option<Peer> {
    let url = options.peer.clone()?;
    let identity = tls(
        options.peer_ca.as_deref()?,
        options.peer_certificate.as_deref()?,
        options.peer_key.as_deref()?,
    );
    let target = Target::new(&url, vec![identity]);
    let mut devices = 0;
    let mut next = |count: u32| {
        let load = Load::new(devices, count);
        devices += count;
        load
    };
    next(200).closed(&target, 8, None);
    let mut levels = Vec::new();
    for (clients, part) in LEVELS {
        // Slower servers than ours are asked for less.
        let count = (requests / part / 4).max(100);
        let run = next(count).closed(&target, clients, options.peer_pid);
        say(&format!("{url}: {clients} clients {:.0}/s", run.rate()));
        levels.push(PeerLevel {
            clients,
            rate: run.rate(),
            service_microseconds: run.service_microseconds(),
            p50_milliseconds: run.percentile(50.0),
            p99_milliseconds: run.percentile(99.0),
        });
    }
    let half = levels.last()?.rate / 2.0;
    let half_load = next((half * HALF_LOAD_SECONDS) as u32).open(&target, half);
    Some(Peer {
        url,
        levels,
        half_load,
    })
}
