//! What the fuzz targets call of the service: what stations send, apart from who they are.

use std::cell::RefCell;

use axum::body::{Body, Bytes};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use super::api::{self, Enrol};
use super::stream::{Feed, Lines};

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// Reads a want, and the request in it.
pub(crate) fn enrol(line: &[u8]) -> bool {
    Enrol::parse(line).is_ok_and(|enrol| enrol.submission().is_ok())
}

/// Reads an order.
pub(crate) fn order(body: &[u8]) -> bool {
    api::parse::<api::Order>(body).is_ok()
}

/// The lines of a body, and whether it came to its end.
pub(crate) fn lines(pieces: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, bool) {
    let (feed, body) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        let _ = feed.try_send(Bytes::from(piece));
    }
    drop(feed);
    let (_going, stopping) = watch::channel(false);
    let mut lines = Lines::new(Body::new(Feed(body)), stopping);
    let all = async move {
        let mut found = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(line)) => found.push(line),
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    };
    RUNTIME.with_borrow_mut(|runtime| {
        if runtime.is_none() {
            *runtime = Builder::new_current_thread().enable_time().build().ok();
        }
        let runtime = runtime.as_ref();
        runtime.map_or_else(Default::default, |runtime| runtime.block_on(all))
    })
}
