//! What is said to a command, until it is taken.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{framed, lock};

/// How much may wait for whoever asked when something new is begun for them, in bytes.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// Frames on their way to a command. Whoever puts one there does not wait for whoever takes it: the vault may be lent to them.
#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Something of the queue is another.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// Nothing is put there any more.
    ended: bool,
    /// Whoever asked says nothing any more.
    left: bool,
    /// What is put there reaches nobody.
    lost: bool,
}

impl Outbox {
    /// Puts a frame there.
    ///
    /// # Errors
    /// Nobody takes it.
    pub(super) fn put(&self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let frame = framed(kind, bytes)?;
        let mut queue = lock(&self.queue);
        if queue.lost {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        queue.waiting_bytes = queue.waiting_bytes.saturating_add(frame.len());
        queue.frames.push_back(frame);
        drop(queue);
        self.changed.notify_all();
        Ok(())
    }

    /// Nothing is put there any more.
    pub(super) fn end(&self) {
        lock(&self.queue).ended = true;
        self.changed.notify_all();
    }

    /// Whoever asked has gone, or says nothing any more.
    pub(super) fn leave(&self) {
        lock(&self.queue).left = true;
        self.changed.notify_all();
    }

    /// Whether whoever asked has gone.
    pub(super) fn is_gone(&self) -> bool {
        let queue = lock(&self.queue);
        queue.left || queue.lost
    }

    /// Waits until most is taken, or nothing will be.
    pub(super) fn wait_until_taken(&self) {
        let much = |queue: &mut Queue| {
            queue.waiting_bytes > WAITING_BYTES_MAX && !queue.left && !queue.lost
        };
        drop(self.wait_while(lock(&self.queue), much));
    }

    /// Carries what is put there to whoever asked, until the end.
    ///
    /// # Errors
    /// It was not taken, and the conversation is over.
    pub(super) fn carry(&self, mut stream: &UnixStream) -> io::Result<()> {
        let idle = |queue: &mut Queue| queue.frames.is_empty() && !queue.ended;
        loop {
            let mut queue = self.wait_while(lock(&self.queue), idle);
            let Some(frame) = queue.frames.pop_front() else {
                return Ok(());
            };
            drop(queue);
            let written = stream.write_all(&frame);
            let mut queue = lock(&self.queue);
            queue.waiting_bytes = queue.waiting_bytes.saturating_sub(frame.len());
            if written.is_err() {
                queue.lost = true;
                queue.frames.clear();
                // Whoever waits for an answer is told that there will be none.
                let _ = stream.shutdown(Shutdown::Both);
            }
            drop(queue);
            self.changed.notify_all();
            written?;
        }
    }

    fn wait_while<'a>(
        &self,
        queue: MutexGuard<'a, Queue>,
        condition: impl FnMut(&mut Queue) -> bool,
    ) -> MutexGuard<'a, Queue> {
        let waited = self.changed.wait_while(queue, condition);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// An outbox that ends when this is dropped.
pub(super) struct Ending<'a>(pub(super) &'a Outbox);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
