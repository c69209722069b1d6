//! EST (RFC 7030, RFC 8951): what the tools of device makers speak. A label of its paths is a product.

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use mintmark_pki::est::{self, CsrAttributes};
use mintmark_protocol::entitlement::DeviceIdSource;
use mintmark_protocol::identifier::Sku;

use super::board::{Board, Product};
use super::desk::{Given, Want};
use super::floor::{Floor, expect_type, only, unknown_product, whole};
use super::listener::Visitor;
use super::problem::Problem;
use crate::failure::Error;
use crate::submission::Submission;
use crate::vault::Answer;

/// What a request comes as.
const PKCS10: &str = "application/pkcs10";
/// What certificates go as.
const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";
/// What a server wishes of requests.
const CSR_ATTRIBUTES: &str = "application/csrattrs";
/// RFC 8951 section 2 has clients ignore it; those before it want it.
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// Where EST is spoken (RFC 7030 section 3.2.2).
pub(crate) const BASE: &str = "/.well-known/est";

/// After how many seconds somebody whose unit waits for its signature asks again.
pub(crate) const PENDING_SECONDS: u64 = 3;

/// The routes: each for the product that its label names, and for the only one there is.
pub(crate) fn routes() -> Router<Arc<Floor>> {
    let operations = Router::new()
        .route("/cacerts", get(cacerts))
        .route("/csrattrs", get(csrattrs))
        .route("/simpleenroll", post(enrol::<false>))
        .route("/simplereenroll", post(enrol::<true>));
    Router::new()
        .nest(&format!("{BASE}/{{label}}"), operations.clone())
        .nest(BASE, operations)
}

type Answered = Result<Response, Response>;

fn message(media_type: &'static str, der: &[u8], request: &HeaderMap) -> Response {
    // A client that does not even say what it accepts writes and reads HTTP by itself. Such a one (strongSwan's `pki`) takes
    // ends of lines for base64; OpenSSL's command cannot do without them, and curl in front of it says what it accepts.
    let body = if request.contains_key(ACCEPT) {
        est::encode_body(der)
    } else {
        est::encode_body_in_one_line(der)
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("base64"));
    response
}

/// The device CA and the root (RFC 7030 section 4.1.3): one device CA certifies all products.
async fn cacerts(
    State(floor): State<Arc<Floor>>,
    label: Option<Path<String>>,
    headers: HeaderMap,
) -> Answered {
    let board = floor.wall.board();
    let known = label.map_or(Ok(()), |Path(label)| known(&label, &board).map(drop));
    known
        .and_then(|()| chain(&board, &headers))
        .map_err(|problem| problem.into_plain(&headers))
}

fn chain(board: &Board, request: &HeaderMap) -> Result<Response, Problem> {
    if board.chain.is_empty() {
        let failure = board.ready.clone().err();
        let failure = failure.unwrap_or_else(|| crate::vault::not_enrolled().into());
        return Err(Problem::later(failure, 60));
    }
    let chain: Vec<&[u8]> = board.chain.iter().map(Vec::as_slice).collect();
    let der = est::certs_only(&chain).map_err(Error::from)?;
    Ok(message(CERTS_ONLY, &der, request))
}

/// The product that a label names.
fn known(label: &str, board: &Board) -> Result<Sku, Problem> {
    let product: Option<Sku> = label.parse().ok();
    product
        .filter(|product| board.knows(product))
        .ok_or_else(|| unknown_product(label, board))
}

async fn csrattrs(
    State(floor): State<Arc<Floor>>,
    Extension(visitor): Extension<Visitor>,
    label: Option<Path<String>>,
    headers: HeaderMap,
) -> Answered {
    let board = floor.wall.board();
    let product = match (label, floor.station(visitor)) {
        (Some(Path(label)), _) => known(&label, &board),
        (None, Ok(asking)) => asking.only_product(),
        (None, Err(_)) => {
            let products: Vec<&Sku> = board.products.iter().map(|of| &of.sku).collect();
            only(&products)
        }
    };
    product
        .map(|product| attributes(&product, &board, &headers))
        .map_err(|problem| problem.into_plain(&headers))
}

/// What requests for a product are to be like (RFC 7030 section 4.5.2); 204 if it can be asked for no more.
fn attributes(product: &Sku, board: &Board, request: &HeaderMap) -> Response {
    let Some(product) = board.products.iter().find(|of| of.sku == *product) else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return response;
    };
    message(CSR_ATTRIBUTES, &wishes(product).to_der(), request)
}

fn wishes(product: &Product) -> CsrAttributes {
    let keys = product.key_algorithms.iter();
    let keys: Vec<_> = keys.filter_map(|name| name.parse().ok()).collect();
    CsrAttributes {
        subject_serial_number: product.device_id_source == DeviceIdSource::SerialNumber,
        challenge_password: false,
        keys: Some(keys).filter(|keys| !keys.is_empty()),
    }
}

async fn enrol<const AGAIN: bool>(
    State(floor): State<Arc<Floor>>,
    Extension(visitor): Extension<Visitor>,
    label: Option<Path<String>>,
    request: Request,
) -> Answered {
    let (parts, body) = request.into_parts();
    let answer = async {
        let asking = floor.station(visitor)?;
        expect_type(&parts.headers, PKCS10)?;
        let product = match label {
            Some(Path(label)) => known(&label, &asking.board)?,
            None => asking.only_product()?,
        };
        let body = whole(body).await?;
        let request = est::request(&body).map_err(Problem::unreadable)?;
        let want = Want::Certificate {
            product,
            submission: Submission::Verified(Box::new(request)),
            again: AGAIN,
        };
        certificate(floor.ask(&asking, want).await?, &parts.headers)
    };
    answer
        .await
        .map_err(|problem| accepted(problem).into_plain(&parts.headers))
}

/// What EST says of a request that is accepted and not answered yet (RFC 7030 section 4.2.3): its clients poll.
fn accepted(problem: Problem) -> Problem {
    if problem.failure.code == PENDING {
        Problem {
            status: StatusCode::ACCEPTED,
            ..problem
        }
    } else {
        problem
    }
}

/// The certificate, alone (RFC 7030 section 4.2.3): its chain is what cacerts gives.
fn certificate(given: Given, request: &HeaderMap) -> Result<Response, Problem> {
    let Given::Certificate { answer, .. } = given else {
        return Err(misanswered());
    };
    match answer {
        Answer::Issued(issued) | Answer::Existing(issued) => {
            let der = est::certs_only(&[&issued.der]).map_err(Error::from)?;
            Ok(message(CERTS_ONLY, &der, request))
        }
        Answer::Refused(refusal) => Err(Problem::from(&refusal)),
        Answer::Open => Err(pending()),
    }
}

/// The code of a request for which a unit is spent, and whose signature is to come.
const PENDING: &str = "CERTIFICATE-PENDING";

/// A unit is spent on the request, and its signature is to come.
pub(crate) fn pending() -> Problem {
    use mintmark_console::{Exit, Failure};
    let message = "a unit is reserved for this request, and the token has not signed for it yet";
    let failure = Failure::new(Exit::Unknown, PENDING, message)
        .hint("ask again with the same request: it gets that very certificate, and nothing is spent twice");
    Problem::later(failure, PENDING_SECONDS)
}

/// A defect of ours.
pub(crate) fn misanswered() -> Problem {
    let message = "the vault gave an answer to another question";
    Problem::from(Error::unknown("INTERNAL", message).hint("report it"))
}

#[cfg(test)]
mod tests {
    use axum::http::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn who_waits_for_a_signature_is_told_to_poll_and_nobody_else_is() {
        let response = accepted(pending()).into_plain(&HeaderMap::new());
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers()[RETRY_AFTER], PENDING_SECONDS.to_string());
        let late = accepted(Problem::unanswered_in(15)).into_plain(&HeaderMap::new());
        assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
