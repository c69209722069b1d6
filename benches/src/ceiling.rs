//! The ceiling: what the cryptography of a certificate costs when nothing else is done.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mintmark_keys::{KeyUri, Signer};
use mintmark_pki::CertificationRequest;

use serde::{Deserialize, Serialize};

use crate::issuing::median;
use crate::requests;
use crate::scene::processor_seconds;

/// How many different requests are checked in turn.
const REQUESTS: u32 = 1_000;

/// How long one measurement takes.
const DURATION: Duration = Duration::from_millis(2_000);

/// How many signatures are timed one by one.
const SIGNATURES_ALONE: u32 = 200;

/// About as long as a certificate that is to be signed.
const SIGNED_BYTES: usize = 420;

/// How fast certificates are made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Certificates per second.
    pub(crate) rate: f64,
    /// Processor time per certificate, all threads together, in microseconds: what other programs on the machine hardly
    /// change.
    pub(crate) processor_microseconds: f64,
    /// One signature by the token by itself, and its check, in microseconds of elapsed time.
    pub(crate) signature_microseconds: f64,
}

/// One request's check, one signature by the token and the check of that signature, per certificate.
pub(crate) struct Ceiling {
    requests: Vec<Vec<u8>>,
    signer: Arc<dyn Signer>,
}

impl Ceiling {
    /// With this key of a token.
    pub(crate) fn new(keys: &str, label: &str) -> Self {
        let uri: KeyUri = keys.parse().unwrap();
        let store =
            mintmark_keys::open(&uri, &|_| unreachable!("the URI names a PIN file")).unwrap();
        Self {
            requests: (0..REQUESTS).map(requests::der).collect(),
            signer: store.signer(label).unwrap(),
        }
    }

    /// What there is time for, on every processor.
    pub(crate) fn pace(&self) -> Pace {
        let processor_before = processor_seconds(Path::new("/proc/self"));
        let done = AtomicUsize::new(0);
        let begin = Instant::now();
        thread::scope(|scope| {
            for thread in 0..requests::threads() {
                let done = &done;
                scope.spawn(move || {
                    let mut message = vec![0_u8; SIGNED_BYTES];
                    let mut count = 0_usize;
                    while begin.elapsed() < DURATION {
                        let at = thread * 500 + count;
                        let der = &self.requests[at % self.requests.len()];
                        CertificationRequest::from_der(der).unwrap();
                        message[..8].copy_from_slice(&at.to_le_bytes());
                        // The store checks each signature before it gives it.
                        self.signer.sign(&message).unwrap();
                        count += 1;
                    }
                    done.fetch_add(count, Ordering::Relaxed);
                });
            }
        });
        let elapsed = begin.elapsed();
        let processor = processor_seconds(Path::new("/proc/self")).zip(processor_before);
        let alone = (0..SIGNATURES_ALONE).map(|number: u32| {
            let begin = Instant::now();
            self.signer.sign(&number.to_le_bytes()).unwrap();
            begin.elapsed().as_secs_f64() * 1e6
        });
        let signature_microseconds = median(alone.collect());
        let count = done.load(Ordering::Relaxed) as f64;
        Pace {
            rate: count / elapsed.as_secs_f64(),
            processor_microseconds: processor
                .map_or(0.0, |(after, before)| (after - before) * 1e6 / count),
            signature_microseconds,
        }
    }
}
