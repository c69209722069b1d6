//! The floor: what all routes share. Who asks is looked up on the board at every request, so that whoever was shut out a
//! moment ago is shut out now, on whatever connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mintmark_ledger::refusal::{Refusal, StationRefusal};
use mintmark_ledger::state::Station;
use mintmark_protocol::identifier::Sku;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::board::{Board, Wall};
use super::counters::Counters;
use super::desk::{Desk, Given, Want};
use super::listener::Visitor;
use super::page::Rate;
use super::problem::Problem;
use super::stream::Streams;

/// The body of a request for one thing, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long such a body may take.
const BODY_TIME: Duration = Duration::from_secs(15);

/// How many streams of requests are read at once, in all.
const STREAMS_MAX: usize = 16;

/// What all routes share.
pub(crate) struct Floor {
    /// Where wants are put.
    pub(crate) desk: Arc<Desk>,
    /// Where the board hangs.
    pub(crate) wall: Arc<Wall>,
    /// The numbers.
    pub(crate) counters: Arc<Counters>,
    /// How fast certificates are made.
    pub(crate) rate: Rate,
    /// The streams that may still be opened.
    pub(crate) streams: Arc<Semaphore>,
    /// Those that stations have open.
    pub(crate) streams_of_stations: Arc<Streams>,
    /// Turns true when the service is to stop.
    pub(crate) stopping: watch::Receiver<bool>,
    answer_seconds: u64,
}

/// A station that asks, as the board has it now.
pub(crate) struct Asking {
    /// What the vault said last.
    pub(crate) board: Arc<Board>,
    /// Who it is.
    pub(crate) station: Station,
}

impl Floor {
    /// Whoever waits for the vault does so for so many seconds.
    pub(crate) fn new(
        (desk, wall): (Arc<Desk>, Arc<Wall>),
        counters: Arc<Counters>,
        answer_seconds: u64,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            desk,
            wall,
            counters,
            rate: Rate::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            streams_of_stations: Arc::default(),
            stopping,
            answer_seconds,
        }
    }

    /// Who asks.
    ///
    /// # Errors
    /// 401 if they showed no certificate; 403 if they are shut out, or their time is over.
    pub(crate) fn station(&self, visitor: Visitor) -> Result<Asking, Problem> {
        let Some(certificate) = visitor.certificate else {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "CLIENT-CERTIFICATE-MISSING",
                "this is for stations that show their certificate",
                "connect with the certificate that `site station approve` made for this station, and its key",
            ));
        };
        let board = self.wall.board();
        // Whoever the TLS layer let in has a certificate of the station CA: it was good once.
        let Some(station) = board.stations.get(&certificate).cloned() else {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "STATION-REVOKED",
                "the certificate that this station shows is good no more: the station was shut out, or got another one",
                "ask the vault's operator, whose `site station list` tells",
            ));
        };
        let until = station.approval.terms.until;
        if board.time >= until {
            let station = station.id;
            let refusal = Refusal::Station(StationRefusal::Expired { station, until });
            return Err(Problem::from(&refusal));
        }
        Ok(Asking { board, station })
    }

    /// Asks the vault, and waits for it.
    ///
    /// # Errors
    /// 503 with the time to come again.
    pub(crate) async fn ask(&self, asking: &Asking, want: Want) -> Result<Given, Problem> {
        let answer = self.desk.ask(&asking.station.id, want)?;
        let late = || Problem::unanswered_in(self.answer_seconds);
        match timeout(Duration::from_secs(self.answer_seconds), answer).await {
            Ok(Ok(given)) => Ok(given?),
            // Dropped unanswered: the vault's thread is gone, or begins anew.
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }

    /// Whether anything can be issued now, and if not, why.
    pub(crate) fn ready(&self) -> Result<(), Problem> {
        let board = self.wall.board();
        let ready = board.ready.clone();
        ready.map_err(|failure| Problem::later(failure, 5))
    }
}

/// This machine's clock.
pub(crate) fn now_unix() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Asking {
    /// Whether the station was let in for this product.
    pub(crate) fn may_ask_for(&self, product: &Sku) -> bool {
        let products = self.station.approval.terms.products.as_ref();
        products.is_none_or(|products| products.contains(product))
    }

    /// The product that is meant where none is named: the only one that the station may ask for.
    ///
    /// # Errors
    /// 400, with the names of those that it may ask for.
    pub(crate) fn only_product(&self) -> Result<Sku, Problem> {
        let products = self.board.products.iter().map(|product| &product.sku);
        let products: Vec<&Sku> = products.filter(|sku| self.may_ask_for(sku)).collect();
        only(&products)
    }
}

/// The only one.
///
/// # Errors
/// 400, with the names of all.
pub(crate) fn only(products: &[&Sku]) -> Result<Sku, Problem> {
    match products {
        [only] => Ok((*only).clone()),
        [] => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "PRODUCT-UNNAMED",
            "no product is named, and there is none that may be asked for now",
            "carry an entitlement to the vault; `site entitlement list` shows what it has",
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|sku| sku.as_str()).collect();
            let names = names.join(", ");
            Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "PRODUCT-UNNAMED",
                format!("no product is named, and there are several: {names}"),
                "name it: in EST as a label, /.well-known/est/PRODUCT/simpleenroll; in JSON as \"product\"",
            ))
        }
    }
}

impl Board {
    /// Whether the vault has, or ever had, an account of this product. One that is over is still asked for what was issued.
    pub(crate) fn knows(&self, product: &Sku) -> bool {
        let offered = self.products.iter().any(|of| of.sku == *product);
        offered || self.accounts().contains(product.as_str())
    }

    fn accounts(&self) -> BTreeSet<&str> {
        let accounts = self.status.get("accounts").and_then(Value::as_array);
        let accounts = accounts.into_iter().flatten();
        accounts
            .filter_map(|account| account.get("product").and_then(Value::as_str))
            .collect()
    }
}

/// 404.
pub(crate) fn unknown_product(name: &str, board: &Board) -> Problem {
    let names: Vec<&str> = board.products.iter().map(|of| of.sku.as_str()).collect();
    let hint = match names.as_slice() {
        [] => {
            "nothing may be made here now; `site entitlement list` at the vault shows what it has"
                .to_owned()
        }
        names => format!("there are: {}", names.join(", ")),
    };
    let shown: String = name.escape_debug().take(64).collect();
    let message = format!("no product {shown} is made here");
    Problem::new(StatusCode::NOT_FOUND, "PRODUCT-UNKNOWN", message, hint)
}

/// That a body is of this media type, whatever its parameters, and not compressed.
///
/// # Errors
/// 415.
pub(crate) fn expect_type(headers: &HeaderMap, media_type: &str) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let unsupported = |message: String| {
        let hint = format!("send it with `Content-Type: {media_type}`, not compressed");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Problem::new(status, "CONTENT-TYPE-UNSUPPORTED", message, hint)
    };
    let essence = text(CONTENT_TYPE).map(|value| value.split(';').next().unwrap_or("").trim());
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case(media_type) => {}
        Some(essence) => {
            let essence: String = essence.escape_debug().take(64).collect();
            return Err(unsupported(format!(
                "a body of type {essence} is not taken here"
            )));
        }
        None => return Err(unsupported("the body's type is not stated".to_owned())),
    }
    match text(CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(_) => Err(unsupported(
            "a compressed body is not taken here".to_owned(),
        )),
    }
}

/// A whole body.
///
/// # Errors
/// 413, 408, 400 if it broke off.
pub(crate) async fn whole(body: Body) -> Result<Bytes, Problem> {
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    match timeout(BODY_TIME, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Problem::malformed(
            "the body broke off",
            "send it again, whole",
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "BODY-LATE",
            format!(
                "the body did not arrive within {} seconds",
                BODY_TIME.as_secs()
            ),
            "send it again, faster",
        )),
    }
}

/// 413.
pub(crate) fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "BODY-TOO-LARGE",
        format!("a request has at most {BODY_BYTES_MAX} bytes"),
        "leave out of the request what is not needed for the certificate",
    )
}
