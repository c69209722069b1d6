//! The way into a module: who is inside, since when, and how to be alone in it.
//!
//! A module is foreign code, and a call into it may not return: a network token whose other end is gone, a driver that
//! waits. Nothing in this process can end such a call. What can be done is to see it, and to send nobody after it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long somebody who wants to be alone waits for the others to come out.
const ALONE_WITHIN: Duration = Duration::from_secs(2);

/// How often somebody who waits for others looks whether they hang.
const GLANCE: Duration = Duration::from_secs(1);

/// The gate of one module.
pub(super) struct Gate {
    inside: Mutex<Inside>,
    changed: Condvar,
    /// A call that takes longer hangs.
    patience: Duration,
    /// How many calls may be inside at once.
    most: usize,
}

struct Inside {
    /// Counts starts of the module. The handles of an earlier one mean nothing in a later one, or something else.
    epoch: u64,
    started: Instant,
    /// When each call went in; the numbers ascend.
    calls: BTreeMap<u64, Instant>,
    next: u64,
    /// Somebody is alone inside, or about to be.
    closed: bool,
}

impl Inside {
    fn oldest(&self) -> Option<Instant> {
        self.calls.first_key_value().map(|(_, since)| *since)
    }
}

/// Leave to call the module, until it is dropped.
pub(super) struct Pass<'gate> {
    gate: &'gate Gate,
    number: u64,
    epoch: u64,
}

impl Pass<'_> {
    /// In which start of the module this is.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.calls.remove(&self.number);
        let (closed, full) = (inside.closed, inside.calls.len() + 1 == self.gate.most);
        drop(inside);
        if closed {
            self.gate.changed.notify_all();
        } else if full {
            self.gate.changed.notify_one();
        }
    }
}

/// A call has been inside for longer than it may take, since then.
#[derive(Debug)]
pub(super) struct Hung {
    pub(super) since: Instant,
}

impl Gate {
    /// A gate that lets `most` calls in at once, and takes one for hung that is inside for longer than `patience`.
    pub(super) fn new(patience: Duration, most: usize) -> Self {
        Self {
            inside: Mutex::new(Inside {
                epoch: 0,
                started: Instant::now(),
                calls: BTreeMap::new(),
                next: 0,
                closed: false,
            }),
            changed: Condvar::new(),
            patience,
            most: most.max(1),
        }
    }

    /// Goes in. Where a call hangs, nobody follows it.
    pub(super) fn enter(&self) -> Result<Pass<'_>, Hung> {
        let asked = Instant::now();
        let mut inside = self.inside();
        loop {
            self.demand_moving(&inside)?;
            if !inside.closed && inside.calls.len() < self.most {
                break;
            }
            let Some(left) = self.patience.checked_sub(asked.elapsed()) else {
                return Err(Hung { since: asked });
            };
            inside = self.wait(inside, left.min(GLANCE));
        }
        Ok(self.admit(inside))
    }

    /// Goes in, unless a call hangs or somebody is alone inside. Waits for its turn, and for nothing else.
    pub(super) fn enter_in_turn(&self) -> Option<Pass<'_>> {
        let mut inside = self.inside();
        while !inside.closed && self.demand_moving(&inside).is_ok() {
            if inside.calls.len() < self.most {
                return Some(self.admit(inside));
            }
            inside = self.wait(inside, GLANCE);
        }
        None
    }

    fn admit(&self, mut inside: MutexGuard<'_, Inside>) -> Pass<'_> {
        let number = inside.next;
        inside.next += 1;
        inside.calls.insert(number, Instant::now());
        Pass {
            gate: self,
            number,
            epoch: inside.epoch,
        }
    }

    /// Notes that the module was started anew, because others in this process had stopped it.
    pub(super) fn was_restarted(&self, pass: &mut Pass<'_>) {
        let mut inside = self.inside();
        inside.epoch += 1;
        inside.started = Instant::now();
        pass.epoch = inside.epoch;
    }

    /// Whether a call hangs now.
    pub(super) fn demand_no_hung_call(&self) -> Result<(), Hung> {
        self.demand_moving(&self.inside())
    }

    fn demand_moving(&self, inside: &Inside) -> Result<(), Hung> {
        match inside.oldest() {
            Some(since) if since.elapsed() > self.patience => Err(Hung { since }),
            _ => Ok(()),
        }
    }

    /// How many calls are inside, and since when the oldest of them.
    pub(super) fn calls(&self) -> (usize, Option<Instant>) {
        let inside = self.inside();
        (inside.calls.len(), inside.oldest())
    }

    /// Starts the module anew by `start`, alone with it, unless it was started less than `pause` ago, others do not come
    /// out, or `forgo` says that there is no need. Where somebody else is at it, waits for them instead.
    pub(super) fn restart<'gate>(
        &'gate self,
        mut pass: Pass<'gate>,
        pause: Duration,
        forgo: impl FnOnce() -> bool,
        start: impl FnOnce(),
    ) -> Result<Pass<'gate>, Hung> {
        let mut inside = self.inside();
        if inside.closed {
            drop(inside);
            // Whoever is at it waits for this call to come out.
            drop(pass);
            return self.enter();
        }
        if inside.epoch != pass.epoch || inside.started.elapsed() < pause {
            return Ok(pass);
        }
        inside.closed = true;
        let asked = Instant::now();
        while inside.calls.len() > 1 {
            match ALONE_WITHIN.checked_sub(asked.elapsed()) {
                Some(left) => inside = self.wait(inside, left),
                None => break,
            }
        }
        let alone = inside.calls.len() == 1;
        drop(inside);
        let restarted = alone && !forgo();
        if restarted {
            start();
        }
        let mut inside = self.inside();
        if restarted {
            inside.epoch += 1;
            inside.started = Instant::now();
            pass.epoch = inside.epoch;
        }
        inside.closed = false;
        drop(inside);
        self.changed.notify_all();
        Ok(pass)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'gate>(
        &self,
        inside: MutexGuard<'gate, Inside>,
        at_most: Duration,
    ) -> MutexGuard<'gate, Inside> {
        self.changed
            .wait_timeout(inside, at_most)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn nobody_follows_a_call_that_hangs_until_it_returns() {
        let gate = Gate::new(Duration::from_millis(1), usize::MAX);
        let hangs = gate.enter().unwrap();
        let (calls, since) = gate.calls();
        assert_eq!(calls, 1);
        thread::sleep(Duration::from_millis(2));
        assert_eq!(gate.enter().map(|_| ()).unwrap_err().since, since.unwrap());
        gate.demand_no_hung_call().unwrap_err();
        drop(hangs);
        gate.demand_no_hung_call().unwrap();
        assert_eq!(gate.calls(), (0, None));
        drop(gate.enter().unwrap());
    }

    #[test]
    fn no_more_are_inside_than_may_be_and_everybody_gets_in() {
        for most in [1, 3] {
            let gate = Gate::new(LONG, most);
            let (now, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|scope| {
                for thread in 0..8 {
                    let (gate, now, done) = (&gate, &now, &done);
                    scope.spawn(move || {
                        for turn in 0..200 {
                            let pass = match (thread + turn) % 2 {
                                0 => gate.enter().unwrap(),
                                _ => gate.enter_in_turn().unwrap(),
                            };
                            assert!(now.fetch_add(1, Ordering::SeqCst) < most);
                            thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                            drop(pass);
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            assert_eq!(done.load(Ordering::SeqCst), 1600);
            assert_eq!(gate.calls(), (0, None));
        }
    }

    #[test]
    fn nobody_waits_for_the_turn_of_a_call_that_hangs() {
        let gate = Gate::new(Duration::from_millis(20), 1);
        let hangs = gate.enter().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| assert!(gate.enter().is_err()));
            scope.spawn(|| assert!(gate.enter_in_turn().is_none()));
        });
        drop(hangs);
        assert!(gate.enter_in_turn().is_some());
    }

    #[test]
    fn a_start_is_alone_with_the_module_and_done_once() {
        let gate = Gate::new(LONG, usize::MAX);
        let (starts, working) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let pass = gate.enter().unwrap();
                        working.fetch_add(1, Ordering::SeqCst);
                        working.fetch_sub(1, Ordering::SeqCst);
                        let before = pass.epoch();
                        let start = || {
                            assert_eq!(working.load(Ordering::SeqCst), 0);
                            starts.fetch_add(1, Ordering::SeqCst);
                        };
                        let pass = gate.restart(pass, Duration::ZERO, || false, start).unwrap();
                        assert!(pass.epoch() > before);
                    }
                });
            }
        });
        let starts = starts.load(Ordering::SeqCst);
        assert!((200..=1600).contains(&starts), "{starts}");
        assert_eq!(
            gate.enter().unwrap().epoch(),
            u64::try_from(starts).unwrap()
        );
    }

    #[test]
    fn no_start_comes_too_soon_or_where_others_are_well_or_inside() {
        let gate = Gate::new(LONG, usize::MAX);
        let never = || panic!("started");
        let pass = gate.enter().unwrap();
        let pass = gate.restart(pass, LONG, || false, never).unwrap();
        let pass = gate.restart(pass, Duration::ZERO, || true, never).unwrap();
        let other = gate.enter().unwrap();
        let pass = gate.restart(pass, Duration::ZERO, || false, never).unwrap();
        assert_eq!((pass.epoch(), gate.calls().0), (0, 2));
        drop(other);
        let pass = gate.restart(pass, Duration::ZERO, || false, || {}).unwrap();
        assert_eq!(pass.epoch(), 1);
    }
}
