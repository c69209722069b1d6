//! Signatures cost most, so all processors verify them: the requests of the chunks that are to be replayed, and the
//! certificates of those that were.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver};

use mintmark_console::Failure;
use mintmark_ledger::entry::{Body, Entry, LogSequence, Submission};
use mintmark_pki::{CertificationRequest, verify_p256};
use mintmark_protocol::Error;
use p256::PublicKey;
use p256::ecdsa::Signature;
use rayon::Scope;
use rayon::prelude::*;

use crate::failure;
use crate::import::records::Record;

/// Chunks that are verified ahead of the replay, and as many behind it: it is to wait for none. What waits in memory is
/// twice this.
pub(super) const CHUNKS_AHEAD: usize = 8;

/// A record as it stands in the log, what it says, and its certification request if it holds one that proves possession.
pub(super) struct Prepared {
    pub(super) sequence: u64,
    pub(super) raw: Vec<u8>,
    pub(super) entry: Result<Entry, Error>,
    pub(super) request: Option<CertificationRequest>,
}

/// A certificate that the log says was signed.
pub(super) struct Certified {
    /// The `Signed` record.
    pub(super) sequence: LogSequence,
    pub(super) reservation: LogSequence,
    pub(super) tbs: Vec<u8>,
    pub(super) signature: [u8; 64],
    /// The device CA that was in force when it was reserved; none if HQ granted none such.
    pub(super) device_ca: Option<PublicKey>,
}

/// Work that other processors do meanwhile; what comes of it is taken in the order in which it was given.
pub(super) struct Queue<T> {
    waiting: VecDeque<Receiver<T>>,
}

impl<T: Send> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn give<'scope>(
        &mut self,
        scope: &Scope<'scope>,
        work: impl FnOnce() -> T + Send + 'scope,
    ) where
        T: 'scope,
    {
        let (done, waiting) = mpsc::channel();
        // Nobody waits for it any more where the replay has failed.
        scope.spawn(move |_| drop(done.send(work())));
        self.waiting.push_back(waiting);
    }

    /// What came of the oldest; none if there is no other.
    pub(super) fn take(&mut self) -> Result<Option<T>, Failure> {
        let oldest = self.waiting.pop_front();
        let taken = oldest.map(|oldest| oldest.recv());
        taken
            .transpose()
            .map_err(|_| failure::home_corrupt("a thread of the replay has ended"))
    }
}

/// Reads what records say, and verifies requests.
pub(super) fn prepare(records: Vec<Record>) -> Vec<Prepared> {
    records
        .into_par_iter()
        .map(|(sequence, raw)| {
            let entry = Entry::from_cbor(&raw);
            Prepared {
                sequence,
                request: entry.as_ref().ok().and_then(request),
                entry,
                raw,
            }
        })
        .collect()
}

/// The certification request of a record, verified. One that does not verify is for the replay to name.
fn request(entry: &Entry) -> Option<CertificationRequest> {
    let Body::Request(request) = &entry.body else {
        return None;
    };
    let Submission::Csr { der } = &request.submission else {
        return None;
    };
    CertificationRequest::from_der(der).ok()
}

/// Those that their device CA did not sign.
pub(super) fn not_signed(certified: Vec<Certified>) -> Vec<Certified> {
    certified
        .into_par_iter()
        .filter(|certified| {
            let signature = Signature::from_slice(&certified.signature);
            !signature.is_ok_and(|signature| {
                certified
                    .device_ca
                    .is_some_and(|key| verify_p256(&key, &certified.tbs, &signature))
            })
        })
        .collect()
}
