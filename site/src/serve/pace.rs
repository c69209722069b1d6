//! How fast a client sends and takes: who is too slow is cut off, so that a slow one costs no more than its time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long the head of a request may take, from its first byte.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a connection may lie idle between two requests.
const IDLE_TIME: Duration = Duration::from_secs(75);

/// How long an answer may wait for a client to take it.
const STALL_TIME: Duration = Duration::from_secs(30);

/// What a connection is doing.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle(Instant),
    Head(Instant),
    Working,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It keeps pace.
    Good,
    /// It has not asked for anything for long.
    Idle,
    /// It is too slow.
    Late,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    stalled: Option<Instant>,
}

/// The pace of one connection.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<State>);

impl Pace {
    /// Of a connection that was made now.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            phase: Phase::Idle(Instant::now()),
            stalled: None,
        })))
    }

    /// How it keeps.
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict_at(Instant::now())
    }

    fn verdict_at(&self, now: Instant) -> Verdict {
        self.with(|state| {
            let longer = |since: Instant, limit| now.saturating_duration_since(since) > limit;
            match (state.stalled, state.phase) {
                (Some(since), _) if longer(since, STALL_TIME) => Verdict::Late,
                (_, Phase::Head(since)) if longer(since, HEAD_TIME) => Verdict::Late,
                (_, Phase::Idle(since)) if longer(since, IDLE_TIME) => Verdict::Idle,
                _ => Verdict::Good,
            }
        })
    }

    /// A request is read and is worked on, until what is given is dropped.
    pub(crate) fn working(self: &Arc<Self>) -> Working {
        self.with(|state| state.phase = Phase::Working);
        Working(Arc::clone(self))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn received(&self) {
        self.with(|state| {
            if let Phase::Idle(_) = state.phase {
                state.phase = Phase::Head(Instant::now());
            }
        });
    }

    fn taken<T>(&self, outcome: &Poll<T>) {
        self.with(|state| match outcome {
            Poll::Pending => {
                state.stalled.get_or_insert_with(Instant::now);
            }
            Poll::Ready(_) => state.stalled = None,
        });
    }
}

/// That a request is worked on.
#[derive(Debug)]
pub(crate) struct Working(Arc<Pace>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0
            .with(|state| state.phase = Phase::Idle(Instant::now()));
    }
}

/// A stream that keeps its pace in mind.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
}

impl<S> Paced<S> {
    /// This stream, at this pace.
    pub(crate) fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.pace.received();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.pace.taken(&outcome);
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.pace.taken(&outcome);
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.pace.taken(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.pace.taken(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_does_not_end_is_late_and_a_silence_is_idle() {
        let pace = Pace::new();
        let now = Instant::now();
        assert_eq!(pace.verdict_at(now + IDLE_TIME + HEAD_TIME), Verdict::Idle);
        pace.received();
        assert_eq!(pace.verdict_at(now + HEAD_TIME + HEAD_TIME), Verdict::Late);
        let working = pace.working();
        assert_eq!(pace.verdict_at(now + IDLE_TIME + HEAD_TIME), Verdict::Good);
        drop(working);
        assert_eq!(pace.verdict_at(now), Verdict::Good);
    }

    #[test]
    fn whoever_does_not_take_an_answer_is_late_even_while_it_is_made() {
        let pace = Pace::new();
        let _working = pace.working();
        pace.taken(&Poll::<()>::Pending);
        let later = Instant::now() + STALL_TIME + HEAD_TIME;
        assert_eq!(pace.verdict_at(later), Verdict::Late);
        pace.taken(&Poll::Ready(()));
        assert_eq!(pace.verdict_at(later), Verdict::Good);
    }
}
