//! Which batches of certificates share a sync of their files.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The certificates of as many requests share a sync: each sync has the file system write down more than what is new.
const REQUESTS_PER_SYNC: usize = 1024;

/// How long certificates that are written wait for others to share a sync with.
const SHARING_WAIT: Duration = Duration::from_millis(250);

/// How often one who waits looks whether somebody waits for him.
const AWAITED_LOOK: Duration = Duration::from_millis(10);

/// What shares a sync with this batch: whatever waits, and what comes soon, until it is enough requests or the last batch, or
/// what comes next waits for one of these.
pub(super) fn sharing_a_sync<B>(
    first: B,
    others: &Receiver<B>,
    requests_and_is_last: impl Fn(&B) -> (usize, bool),
    is_awaited: impl Fn() -> bool,
) -> Vec<B> {
    let until = Instant::now() + SHARING_WAIT;
    let mut sharing = vec![first];
    loop {
        sharing.extend(others.try_iter());
        let batches = sharing.iter().map(&requests_and_is_last);
        let (requests, is_last) = batches.fold((0, false), |(sum, _), (requests, last)| {
            (sum + requests, last)
        });
        let left = until.saturating_duration_since(Instant::now());
        if is_last || requests >= REQUESTS_PER_SYNC || is_awaited() || left.is_zero() {
            return sharing;
        }
        match others.recv_timeout(left.min(AWAITED_LOOK)) {
            Ok(next) => sharing.push(next),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return sharing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// A batch: so many requests, and whether it is the last.
    type Batch = (usize, bool);

    fn sharing(first: Batch, others: &[Batch], more_may_come: bool) -> Vec<Batch> {
        let (sender, receiver) = channel();
        for batch in others {
            sender.send(*batch).unwrap();
        }
        let kept = more_may_come.then_some(sender);
        let sharing = sharing_a_sync(first, &receiver, |batch| *batch, || false);
        drop(kept);
        sharing
    }

    #[test]
    fn batches_wait_for_others_to_share_a_sync_with_and_the_last_one_waits_for_none() {
        let (some, all) = ((64, false), (REQUESTS_PER_SYNC, false));
        // Whatever is there shares it, be it more than enough.
        assert_eq!(sharing(all, &[all, some], true), [all, all, some]);
        assert_eq!(sharing((3, true), &[], true), [(3, true)]);
        assert_eq!(sharing(some, &[some, (1, true)], true).len(), 3);
        // Nobody waits for what cannot come, nor for ever for what may.
        assert_eq!(sharing(some, &[some], false), [some, some]);
        assert_eq!(sharing(some, &[], true), [some]);

        // One that comes once all that was there is counted is waited for.
        let (sender, receiver) = channel();
        let sender = std::cell::Cell::new(Some(sender));
        let counted = |batch: &Batch| {
            if let Some(sender) = sender.take() {
                sender.send((1, true)).unwrap();
            }
            *batch
        };
        let sharing = sharing_a_sync(some, &receiver, counted, || false);
        assert_eq!(sharing, [some, (1, true)]);

        // Where what comes next waits for this one, nothing will come.
        let looks = std::cell::Cell::new(0);
        let is_awaited = || looks.replace(looks.get() + 1) > 0;
        let (_sender, receiver) = channel();
        assert_eq!(
            sharing_a_sync(some, &receiver, |batch| *batch, is_awaited),
            [some]
        );
        assert!((1..=2).contains(&looks.get()));
    }
}
