//! The verification of all the signatures in a part of a log, and nothing else, on all processors.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use mintmark_ledger::entry::{Body, Content, Entry, Submission, Verdict};
use mintmark_ledger::log::{FileLog, LogStore as _, Position};
use mintmark_pki::Issuer;
use serde::{Deserialize, Serialize};

use super::own_seconds;
use crate::libraries::{Signed, taken_apart};
use crate::requests;

/// Signatures that are taken from the log before they are verified. Only the latter is timed.
const BATCH: usize = 131_072;

/// Signatures that a thread verifies before it looks for more.
const SHARE: usize = 64;

/// Which part of a log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Order {
    #[arg(long)]
    home: PathBuf,
    #[arg(long)]
    first: u64,
    #[arg(long)]
    end: u64,
}

/// What it took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Pace {
    pub(crate) signatures: u64,
    pub(crate) seconds: f64,
    /// All threads together.
    pub(crate) processor_seconds: f64,
}

/// Verifies the request and the certificate of every device that got one there.
pub(crate) fn measure(order: &Order) -> Pace {
    let (log, _) = FileLog::open_read_only(&order.home.join("log"), None).unwrap();
    let mut pace = Pace::default();
    let mut batch: Vec<(Signed, &'static EcdsaVerificationAlgorithm)> = Vec::new();
    let (mut device_ca, mut reserved) = (Vec::new(), HashMap::new());
    for record in log.scan(Position::START).unwrap().map(Result::unwrap) {
        if record.sequence >= order.end {
            break;
        }
        let wanted = record.sequence >= order.first;
        // The grant is one of the first.
        if !wanted && !device_ca.is_empty() {
            continue;
        }
        let entry = Entry::from_cbor(&record.bytes).unwrap();
        match entry.body {
            Body::Dispatch(dispatch) => {
                if let Verdict::Authentic(Content::Grant {
                    device_ca_certificate,
                    ..
                }) = &dispatch.content
                {
                    let issuer = Issuer::from_certificate_der(device_ca_certificate).unwrap();
                    device_ca = issuer.public_key().to_sec1_bytes().to_vec();
                }
            }
            Body::Request(request) if wanted => {
                if let Submission::Csr { der } = &request.submission {
                    batch.push((taken_apart(der), &ECDSA_P256_SHA256_ASN1));
                }
            }
            Body::Reserved(unit) if wanted => {
                reserved.insert(record.sequence, unit.tbs);
            }
            Body::Signed(signed) if wanted => {
                let message = reserved.remove(&signed.reservation.number()).unwrap();
                let certificate = Signed {
                    message,
                    signature: signed.signature.to_vec(),
                    point: device_ca.clone(),
                };
                batch.push((certificate, &ECDSA_P256_SHA256_FIXED));
            }
            _ => {}
        }
        if batch.len() >= BATCH {
            pace.verify(&batch);
            batch.clear();
        }
    }
    pace.verify(&batch);
    pace
}

impl Pace {
    fn verify(&mut self, batch: &[(Signed, &'static EcdsaVerificationAlgorithm)]) {
        let next = AtomicUsize::new(0);
        let processor = own_seconds();
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..requests::threads() {
                scope.spawn(|| {
                    loop {
                        let first = next.fetch_add(SHARE, Ordering::Relaxed);
                        let Some(rest) = batch.get(first..) else {
                            return;
                        };
                        for (signed, algorithm) in rest.iter().take(SHARE) {
                            UnparsedPublicKey::new(*algorithm, &signed.point)
                                .verify(&signed.message, &signed.signature)
                                .unwrap();
                        }
                    }
                });
            }
        });
        self.seconds += begin.elapsed().as_secs_f64();
        self.processor_seconds += own_seconds() - processor;
        self.signatures += batch.len() as u64;
    }
}
