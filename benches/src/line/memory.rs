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
    /// Resident bytes after so many requests, each of which was given a certificate.
    pub(crate) after: Vec<(u32, u64)>,
    /// The last to the first; to be at most 1.1.
    pub(crate) ratio: f64,
}

/// A vault and a service of their own, which are asked by 64 clients.
pub(crate) fn measure(most: u32) -> Memory {
    let scene = Scene::new();
    scene.vault("berlin");
    let mut floor = Floor::open(&scene);
    floor.closed(CLIENTS, FEW);
    let resident = |floor: &Floor| (floor.devices, resident_bytes(floor.service.pid()));
    let mut after = vec![resident(&floor)];
    while floor.devices < most {
        let count = PART.min(most - floor.devices);
        floor.closed(CLIENTS, count);
        after.push(resident(&floor));
        eprintln!("mintmark-benches: memory {:?}", after.last());
    }
    floor.close(&scene);
    let bytes = |at: Option<&(u32, u64)>| at.map_or(0.0, |(_, bytes)| *bytes as f64);
    Memory {
        ratio: bytes(after.last()) / bytes(after.first()),
        after,
    }
}

/// What a process has in memory now.
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    kibibytes * 1024
}
