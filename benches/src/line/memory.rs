//! What the service holds in memory after many requests, beside what it holds after few.

use std::fs;

use serde::Serialize;

use super::Floor;
use crate::scene::Scene;

/// After how many requests it is looked at first.
const FEW: u32 = 1_000;

/// How many requests are made at a time.
const PART: u32 = 20_000;

/// How many clients ask.
const CLIENTS: usize = 64;

/// Memory of one service.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    /// What it held after so many requests, each of which was given a certificate.
    pub(crate) after: Vec<Sample>,
    /// All that is resident, the last to the first; to be at most 1.1.
    pub(crate) ratio: f64,
    /// The same of what no file stands behind.
    pub(crate) ratio_anonymous: f64,
}

/// What a service held at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) requests: u32,
    /// Resident bytes.
    pub(crate) resident: u64,
    /// Those of them that no file stands behind: what a machine runs out of.
    pub(crate) anonymous: u64,
}

/// A vault and a service of their own, which are asked by 64 clients.
pub(crate) fn measure(most: u32) -> Memory {
    let scene = Scene::new();
    scene.vault("berlin");
    let mut floor = Floor::open(&scene);
    let mut after = Vec::new();
    let mut count = FEW;
    while count > 0 {
        let rate = floor.closed(CLIENTS, count).rate();
        let sample = sample(&floor);
        eprintln!("mintmark-benches: memory {sample:?}, {rate:.0}/s");
        after.push(sample);
        count = PART.min(most.saturating_sub(floor.devices));
    }
    floor.close(&scene);
    let ratio = |of: fn(&Sample) -> u64| {
        let bytes = |at: Option<&Sample>| at.map_or(0.0, |sample| of(sample) as f64);
        bytes(after.last()) / bytes(after.first())
    };
    Memory {
        ratio: ratio(|sample| sample.resident),
        ratio_anonymous: ratio(|sample| sample.anonymous),
        after,
    }
}

/// What the service holds now.
fn sample(floor: &Floor) -> Sample {
    let status = fs::read_to_string(format!("/proc/{}/status", floor.service.pid())).unwrap();
    let bytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes: u64 = line
            .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap();
        kibibytes * 1024
    };
    Sample {
        requests: floor.devices,
        resident: bytes("VmRSS:"),
        anonymous: bytes("RssAnon:"),
    }
}
