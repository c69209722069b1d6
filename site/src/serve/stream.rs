//! Many requests in one: a line for each, and a line for each answer, in the same order. However long it is, no more than a
//! bounded number of lines is held.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use mintmark_protocol::identifier::StationId;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::api::Enrol;
use super::floor::{BODY_BYTES_MAX, Floor, expect_type, too_large};
use super::listener::{AtWork, Visitor};
use super::problem::Problem;

const NDJSON: &str = "application/x-ndjson";

/// How many lines of a stream are answered at the same time.
const LINES_MAX: usize = 64;

/// How many streams one station may have open.
const STREAMS_PER_STATION_MAX: usize = 4;

/// How long the next piece of a stream may take.
const SILENCE_TIME: Duration = Duration::from_secs(60);

/// How long a line may take, from its first byte on.
const LINE_TIME: Duration = Duration::from_secs(30);

/// How long a line waits before it asks a busy vault again.
const BUSY_TIME: Duration = Duration::from_millis(100);

/// How many streams each station has open.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<BTreeMap<StationId, usize>>);

/// One stream.
struct Ticket {
    streams: Arc<Streams>,
    station: StationId,
}

impl Streams {
    fn open(self: &Arc<Self>, station: &StationId) -> Option<Ticket> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_station = open.entry(station.clone()).or_default();
        if *of_station >= STREAMS_PER_STATION_MAX {
            return None;
        }
        *of_station += 1;
        Some(Ticket {
            streams: Arc::clone(self),
            station: station.clone(),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self
            .streams
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(of_station) = open.get_mut(&self.station) {
            *of_station = of_station.saturating_sub(1);
            if *of_station == 0 {
                open.remove(&self.station);
            }
        }
    }
}

/// The lines of a body.
pub(super) struct Lines {
    body: Body,
    read: Vec<u8>,
    /// How much of it was looked through.
    looked: usize,
    ended: bool,
    stopping: watch::Receiver<bool>,
}

impl Lines {
    /// Nothing of the body is read yet.
    pub(super) fn new(body: Body, stopping: watch::Receiver<bool>) -> Self {
        Self {
            body,
            read: Vec::new(),
            looked: 0,
            ended: false,
            stopping,
        }
    }

    /// The next line that is not empty; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        let mut begun = None;
        loop {
            let unseen = self.read.get(self.looked..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(self.looked + at + 1);
                let line = std::mem::replace(&mut self.read, rest);
                self.looked = 0;
                let line = line.trim_ascii();
                if line.len() > BODY_BYTES_MAX {
                    return Err(too_large());
                }
                if !line.is_empty() {
                    return Ok(Some(line.to_vec()));
                }
                continue;
            }
            self.looked = self.read.len();
            if self.looked > BODY_BYTES_MAX {
                return Err(too_large());
            }
            if self.ended {
                let line = std::mem::take(&mut self.read);
                self.looked = 0;
                let line = line.trim_ascii();
                return Ok((!line.is_empty()).then(|| line.to_vec()));
            }
            let left = match self.read.is_empty() {
                true => SILENCE_TIME,
                false => LINE_TIME.saturating_sub(begun.get_or_insert_with(Instant::now).elapsed()),
            };
            let frame = tokio::select! {
                frame = timeout(left, self.body.frame()) => frame,
                _ = self.stopping.wait_for(|stopping| *stopping) => {
                    return Err(super::desk::Unanswered::Draining.into());
                }
            };
            match frame {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(_))) => {
                    return Err(Problem::malformed(
                        "the body broke off",
                        "send what was not answered again",
                    ));
                }
                Ok(None) => self.ended = true,
                Err(_) => {
                    return Err(Problem::new(
                        StatusCode::REQUEST_TIMEOUT,
                        "BODY-LATE",
                        "the next line did not arrive in time",
                        "send what was not answered again, faster",
                    ));
                }
            }
        }
    }
}

/// A body whose pieces come from elsewhere.
pub(super) struct Feed(pub(super) mpsc::Receiver<Bytes>);

impl hyper::body::Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// `POST /api/v1/enrol-many`.
pub(crate) async fn enrol_many(
    State(floor): State<Arc<Floor>>,
    Extension(visitor): Extension<Visitor>,
    Extension(at_work): Extension<AtWork>,
    request: Request,
) -> Result<Response, Response> {
    let begin = async {
        let asking = floor.station(visitor)?;
        expect_type(request.headers(), NDJSON)?;
        let busy = || {
            Problem::from(super::desk::Unanswered::Busy {
                retry_after_seconds: 5,
            })
        };
        let ticket = floor
            .streams_of_stations
            .open(&asking.station.id)
            .ok_or_else(busy)?;
        let permit = Arc::clone(&floor.streams)
            .try_acquire_owned()
            .map_err(|_| busy())?;
        let mut lines = Lines::new(request.into_body(), floor.stopping.clone());
        // A client that waits to be told to go on (RFC 9110 section 10.1.1) is told so by this, before there is an answer.
        let first = lines.next().await?;
        Ok((lines, first, (ticket, permit, at_work)))
    };
    let (lines, first, held) = begin.await.map_err(Problem::into_json)?;
    let (feed, answers) = mpsc::channel(4);
    let floor = Arc::clone(&floor);
    tokio::spawn(async move {
        converse((floor, visitor), lines, first, feed).await;
        drop(held);
    });
    let mut response = Response::new(Body::new(Feed(answers)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(response)
}

/// Reads lines and writes answers, at the same time.
async fn converse(
    (floor, visitor): (Arc<Floor>, Visitor),
    mut lines: Lines,
    first: Option<Vec<u8>>,
    feed: mpsc::Sender<Bytes>,
) {
    let (queue, mut answers) = mpsc::channel::<JoinHandle<Value>>(LINES_MAX);
    let reading = async move {
        let mut next: Result<_, Problem> = Ok(first);
        let mut number = 0_u64;
        loop {
            number += 1;
            let (answer, is_last) = match next {
                Ok(None) => return,
                Ok(Some(line)) => {
                    let floor = Arc::clone(&floor);
                    let answer = async move { answer(&floor, visitor, number, &line).await };
                    (tokio::spawn(answer), false)
                }
                Err(problem) => {
                    let last = labelled(problem.to_json(), number, None);
                    (tokio::spawn(async move { last }), true)
                }
            };
            if queue.send(answer).await.is_err() || is_last {
                return;
            }
            next = lines.next().await;
        }
    };
    let writing = async move {
        while let Some(answer) = answers.recv().await {
            let Ok(answer) = answer.await else {
                return;
            };
            let mut line = answer.to_string();
            line.push('\n');
            // Whoever has gone asks again for what they missed.
            if feed.send(Bytes::from(line)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// One line's answer. Who asks is looked up for each.
async fn answer(floor: &Floor, visitor: Visitor, number: u64, line: &[u8]) -> Value {
    let enrol = match Enrol::parse(line) {
        Ok(enrol) => enrol,
        Err(problem) => return labelled(problem.to_json(), number, None),
    };
    let begin = Instant::now();
    let answered = loop {
        let answered = match floor.station(visitor) {
            Ok(asking) => enrol.answer(floor, &asking).await,
            Err(problem) => Err(problem),
        };
        match answered {
            // It is this very stream that keeps the vault busy: nobody else has to hear of it.
            Err(problem)
                if problem.failure.code == "SERVICE-BUSY" && begin.elapsed() < LINE_TIME =>
            {
                sleep(BUSY_TIME).await;
            }
            answered => break answered,
        }
    };
    let answered = match answered {
        Ok(enrolled) => serde_json::to_value(&enrolled).unwrap_or_default(),
        Err(problem) => problem.to_json(),
    };
    labelled(answered, number, enrol.id.as_ref())
}

/// What the answer belongs to.
fn labelled(mut answer: Value, number: u64, id: Option<&Value>) -> Value {
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("line".to_owned(), number.into());
        if let Some(id) = id {
            fields.insert("id".to_owned(), id.clone());
        }
    }
    answer
}
