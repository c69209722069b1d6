//! The door: connections are taken, greeted and handed to those who answer, each within its limits.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mintmark_protocol::identifier::Fingerprint;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::counters::{Counters, TurnedAway};
use super::pace::{Pace, Paced, Verdict};
use super::seats::{Seat, Seats};

/// How long a handshake may take, from the connection on.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The fields of a head.
const HEADERS_MAX: usize = 64;

/// As a last resort, should a connection's pace not be noticed.
const SILENCE_TIME: Duration = Duration::from_secs(90);

/// How often the pace of a connection is looked at.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// After a failure to accept, such as too many open files.
const PAUSE_TIME: Duration = Duration::from_millis(100);

/// What a client is told that speaks HTTP where TLS is spoken.
const TLS_REQUIRED: &str = "TLS-REQUIRED";

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    /// Where from.
    pub(crate) address: SocketAddr,
    /// SHA-256 of the certificate that it proved to have the key of.
    pub(crate) certificate: Option<Fingerprint>,
}

/// Keeps a connection from being taken for idle, while it is held by anybody.
#[derive(Clone, Debug)]
pub(crate) struct AtWork(
    #[expect(dead_code, reason = "it is held, and dropped")] Arc<super::pace::Working>,
);

/// What every connection has in common.
#[derive(Clone)]
pub(crate) struct Door {
    /// TLS.
    pub(crate) acceptor: TlsAcceptor,
    /// Who answers.
    pub(crate) router: Router,
    /// The limits.
    pub(crate) seats: Arc<Seats>,
    /// The numbers.
    pub(crate) counters: Arc<Counters>,
    /// Turns true when the service is to stop.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Dropped by the last connection.
    #[expect(dead_code, reason = "it is held, and dropped")]
    pub(crate) open: mpsc::Sender<()>,
}

/// Takes connections until the service is to stop.
pub(crate) async fn listen(listener: TcpListener, door: Door) {
    let mut stopping = door.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE_TIME).await;
                continue;
            }
        };
        match door.seats.take(address.ip()) {
            Ok(seat) => {
                tokio::spawn(door.clone().converse(stream, address, seat));
            }
            // Closed as soon as it is dropped.
            Err(why) => door.turn_away(why, address, None),
        }
    }
}

/// Counts what is open.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn one(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    fn turn_away(&self, why: TurnedAway, address: SocketAddr, error: Option<&io::Error>) {
        self.counters.turned_away(why);
        let (why, error) = (why.as_str(), error.map(ToString::to_string));
        tracing::debug!(why, %address, error, "a connection came to nothing");
    }

    async fn converse(self, stream: TcpStream, address: SocketAddr, mut seat: Seat) {
        let counters = Arc::clone(&self.counters);
        let _open = Open::one(&counters.open);
        // An answer is not to wait for more of it.
        let _ = stream.set_nodelay(true);
        let mut stopping = self.stopping.clone();
        let greeting = timeout(HANDSHAKE_TIME, self.greet(stream));
        let greeted = tokio::select! {
            greeted = greeting => greeted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let stream = match greeted {
            Ok(Ok(stream)) => stream,
            Ok(Err((why, error))) => return self.turn_away(why, address, error.as_ref()),
            Err(_) => return self.turn_away(TurnedAway::HandshakeLate, address, None),
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let leaf = certificates.and_then(<[_]>::first);
        let certificate = leaf.map(|leaf| Fingerprint::of(leaf));
        if let Err(why) = seat.name(certificate) {
            return self.turn_away(why, address, None);
        }
        counters.connected.fetch_add(1, Ordering::Relaxed);
        let visitor = Visitor {
            address,
            certificate,
        };
        self.serve(stream, visitor).await;
    }

    /// The handshake. What does not begin like one is not given to TLS at all.
    async fn greet(
        &self,
        mut stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, (TurnedAway, Option<io::Error>)> {
        /// A record of a handshake (RFC 8446 section 5.1).
        const HANDSHAKE: u8 = 22;
        let failed = |error| (TurnedAway::Handshake, Some(error));
        let mut first = [0_u8];
        match stream.peek(&mut first).await.map_err(failed)? {
            0 => return Err((TurnedAway::NotTls, None)),
            _ if first == [HANDSHAKE] => {}
            _ => {
                if first[0].is_ascii_alphabetic() {
                    let _ = stream.write_all(not_tls().as_bytes()).await;
                    close_gently(stream).await;
                }
                return Err((TurnedAway::NotTls, None));
            }
        }
        self.acceptor.accept(stream).await.map_err(failed)
    }

    async fn serve(&self, stream: TlsStream<TcpStream>, visitor: Visitor) {
        let pace = Pace::new();
        let stream = TokioIo::new(Paced::new(stream, Arc::clone(&pace)));
        let service = TowerToHyperService::new(self.router.clone());
        let answer = service_fn(|mut request: Request<Incoming>| {
            let working = AtWork(Arc::new(pace.working()));
            let extensions = request.extensions_mut();
            extensions.insert(visitor);
            extensions.insert(working.clone());
            let answer = service.call(request.map(Body::new));
            async move {
                let _working = working;
                answer.await
            }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(SILENCE_TIME)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .half_close(false);
        let mut conversation = pin!(builder.serve_connection(stream, answer));
        let mut stopping = self.stopping.clone();
        let mut is_stopping = false;
        let mut look = interval(LOOK_TIME);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // How it ended is the client's affair.
                _ = conversation.as_mut() => return,
                _ = look.tick() => match pace.verdict() {
                    Verdict::Good => {}
                    Verdict::Idle => conversation.as_mut().graceful_shutdown(),
                    Verdict::Late => return self.turn_away(TurnedAway::Slow, visitor.address, None),
                },
                _ = stopping.wait_for(|stopping| *stopping), if !is_stopping => {
                    is_stopping = true;
                    conversation.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn not_tls() -> String {
    let body =
        format!("error[{TLS_REQUIRED}]: this port speaks HTTPS alone\nhint: ask with https://\n");
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// Lets the other end read what was said to it before the connection is gone: a reset would take it away.
async fn close_gently(mut stream: TcpStream) {
    use tokio::io::AsyncReadExt as _;
    let _ = stream.shutdown().await;
    let mut rest = [0_u8; 1024];
    let mut read = 0;
    while let Ok(Ok(more @ 1..)) = timeout(LOOK_TIME, stream.read(&mut rest)).await {
        read += more;
        if read > HEAD_BYTES_MAX {
            return;
        }
    }
}

/// Waits until every connection is closed, or that time is over. Gives whether all of them are.
pub(crate) async fn all_closed(
    mut open: mpsc::Receiver<()>,
    patience: impl Future<Output = ()>,
) -> bool {
    tokio::select! {
        _ = open.recv() => true,
        () = patience => false,
    }
}
