//! Many requests at once: closed loops, for the most that there is, and an open one, for how long answers take.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use mintmark_pki::{Object, est};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinSet, LocalSet};

use super::client::Target;
use super::{Latency, spent};
use crate::requests;

/// Of how many answers one is read.
const READ_ONE_OF: usize = 64;

/// Connections of the open loop: so many that a request seldom waits for one; whoever waits, that counts.
const OPEN_CONNECTIONS: usize = 64;

/// Requests, as EST sends them, made before anything is measured.
pub(crate) struct Load {
    first: u32,
    bodies: Vec<Bytes>,
}

/// What came of a closed loop.
pub(crate) struct Run {
    elapsed: Duration,
    /// In milliseconds, in ascending order.
    latencies: Vec<f64>,
    service_seconds: f64,
    clients_seconds: f64,
}

impl Run {
    /// Certificates per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn service_microseconds(&self) -> f64 {
        self.service_seconds * 1e6 / self.latencies.len() as f64
    }

    pub(crate) fn clients_microseconds(&self) -> f64 {
        self.clients_seconds * 1e6 / self.latencies.len() as f64
    }

    /// In milliseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        percentile(&self.latencies, percent)
    }
}

/// One of some values in ascending order.
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

impl Load {
    /// For the devices from `first` on, each with a key of its own; made on every processor.
    pub(crate) fn new(first: u32, count: u32) -> Self {
        let threads = requests::threads();
        let part = (count as usize).div_ceil(threads).max(1);
        let mut bodies = vec![Bytes::new(); count as usize];
        thread::scope(|scope| {
            for (at, part_of) in bodies.chunks_mut(part).enumerate() {
                scope.spawn(move || {
                    for (number, body) in (first + (at * part) as u32..).zip(part_of) {
                        *body = Bytes::from(est::encode_body(&requests::der(number)));
                    }
                });
            }
        });
        Self { first, bodies }
    }

    /// Each client asks when it was answered, until all have been asked for.
    pub(crate) fn closed(&self, target: &Target, clients: usize, service: Option<u32>) -> Run {
        let next = Rc::new(Cell::new(0));
        let all: Rc<[Bytes]> = self.bodies.clone().into();
        let local = LocalSet::new();
        local.block_on(&runtime(), async {
            let mut connections = Vec::new();
            for client in 0..clients {
                connections.push(target.connect(client).await);
            }
            let before = (spent(service), spent(Some(std::process::id())));
            let begin = Instant::now();
            let mut tasks = JoinSet::new();
            for mut connection in connections {
                let next = Rc::clone(&next);
                let bodies = Rc::clone(&all);
                let first = self.first;
                tasks.spawn_local(async move {
                    let mut latencies = Vec::new();
                    while let Some(body) = bodies.get(next.get()) {
                        let at = next.replace(next.get() + 1);
                        let begin = Instant::now();
                        let answer = connection.enrol(body.clone()).await;
                        latencies.push(milliseconds(begin));
                        read(first, at, &answer);
                    }
                    latencies
                });
            }
            let mut latencies = tasks.join_all().await.concat();
            let elapsed = begin.elapsed();
            latencies.sort_by(f64::total_cmp);
            assert_eq!(latencies.len(), self.bodies.len());
            Run {
                elapsed,
                latencies,
                service_seconds: spent(service) - before.0,
                clients_seconds: spent(Some(std::process::id())) - before.1,
            }
        })
    }

    /// Requests come at this rate, at moments that do not depend on each other or on any answer. What a request takes
    /// counts from the moment at which it was to come, so that whatever holds one up is seen in those behind it too.
    pub(crate) fn open(&self, target: &Target, rate: f64) -> Latency {
        let local = LocalSet::new();
        let mut latencies = local.block_on(&runtime(), async {
            let (sender, receiver) = mpsc::unbounded_channel();
            let receiver = Arc::new(Mutex::new(receiver));
            let mut tasks = JoinSet::new();
            for client in 0..OPEN_CONNECTIONS {
                let mut connection = target.connect(client).await;
                let receiver = Arc::clone(&receiver);
                let first = self.first;
                tasks.spawn_local(async move {
                    let mut latencies = Vec::new();
                    loop {
                        let came = receiver.lock().await.recv().await;
                        let Some((at, body, due)) = came else {
                            return latencies;
                        };
                        let answer = connection.enrol(body).await;
                        latencies.push(milliseconds(due));
                        read(first, at, &answer);
                    }
                });
            }
            let bodies = self.bodies.clone();
            // A thread's sleep ends within a tenth of a millisecond; the runtime's timer counts whole ones.
            let clock = thread::spawn(move || {
                let mut due = Instant::now();
                let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
                for (at, body) in bodies.into_iter().enumerate() {
                    // What is as likely at any moment as at another: gaps are distributed exponentially.
                    due += Duration::from_secs_f64(-chance.next().ln() / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    sender.send((at, body, due)).unwrap();
                }
            });
            let latencies = tasks.join_all().await.concat();
            clock.join().unwrap();
            latencies
        });
        latencies.sort_by(f64::total_cmp);
        assert_eq!(latencies.len(), self.bodies.len());
        Latency {
            rate,
            requests: latencies.len(),
            p50_milliseconds: percentile(&latencies, 50.0),
            p99_milliseconds: percentile(&latencies, 99.0),
            max_milliseconds: percentile(&latencies, 100.0),
        }
    }
}

/// All clients share one thread: whatever they take is missing to the service.
fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// It must be one certificate, and that of this device: of some, so that reading costs little.
fn read(first: u32, at: usize, answer: &[u8]) {
    if at.is_multiple_of(READ_ONE_OF) {
        let der =
            est::decode_body(answer, Object::CertsOnly, est::CERTS_ONLY_DER_BYTES_MAX).unwrap();
        let device_id = requests::device_id(first + at as u32);
        let device_id = device_id.as_bytes();
        assert!(der.windows(device_id.len()).any(|part| part == device_id));
        assert!(!est::certificates(&der).unwrap().is_empty());
    }
}

/// Numbers between 0 and 1, the same ones in every run (xorshift64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}
