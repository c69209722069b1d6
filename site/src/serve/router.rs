//! Every route of the service, and what is done around each: it is counted, and told of.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{HeaderName, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use super::floor::Floor;
use super::listener::Visitor;
use super::problem::Problem;
use super::{api, est, metrics, page};

const NO_SNIFFING: HeaderName = HeaderName::from_static("x-content-type-options");

/// All of them.
pub(crate) fn router(floor: &Arc<Floor>) -> Router {
    Router::new()
        .merge(est::routes())
        .merge(api::routes())
        .merge(metrics::routes())
        .merge(page::routes())
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(Arc::clone(floor), around))
        .with_state(Arc::clone(floor))
}

async fn nowhere(uri: Uri) -> Response {
    let shown: String = uri.path().escape_debug().take(100).collect();
    let message = format!("there is nothing at {shown}");
    let hint = "docs/station-api.md lists what there is; EST is under /.well-known/est/";
    Problem::new(StatusCode::NOT_FOUND, "ROUTE-UNKNOWN", message, hint).into_json()
}

async fn not_so() -> Response {
    let message = "this is not done by this method of HTTP";
    let hint = "docs/station-api.md and RFC 7030 say which: GET to read, POST to ask";
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD-UNKNOWN",
        message,
        hint,
    )
    .into_json()
}

async fn around(State(floor): State<Arc<Floor>>, request: Request, next: Next) -> Response {
    let route = route_of(request.uri().path());
    let visitor = request.extensions().get::<Visitor>().copied();
    let begin = Instant::now();
    let mut response = next.run(request).await;
    let status = response.status();
    floor.counters.answered(route, status.as_u16());
    let headers = response.headers_mut();
    headers.insert(NO_SNIFFING, HeaderValue::from_static("nosniff"));
    let address = visitor.map(|visitor| visitor.address);
    let board = floor.wall.board();
    let certificate = visitor.and_then(|visitor| visitor.certificate);
    let station = certificate.and_then(|certificate| board.stations.get(&certificate));
    let station = station.map(|station| station.id.as_str());
    let milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let status = status.as_u16();
    tracing::debug!(route, status, station, ?address, milliseconds, "answered");
    if status >= 500
        && let Some(passed_over) = floor.counters.may_tell_of_trouble()
    {
        tracing::warn!(
            route,
            status,
            station,
            passed_over,
            "a request could not be answered"
        );
    }
    response
}

/// The name of a route in metrics: there are few, whatever is asked for.
fn route_of(path: &str) -> &'static str {
    const OPERATIONS: [(&str, &str); 4] = [
        ("/cacerts", "est/cacerts"),
        ("/csrattrs", "est/csrattrs"),
        ("/simpleenroll", "est/simpleenroll"),
        ("/simplereenroll", "est/simplereenroll"),
    ];
    const DEVICES: [(&str, &str); 3] = [
        ("/scrap", "api/scrap"),
        ("/void", "api/void"),
        ("/rework", "api/rework"),
    ];
    let ending = |routes: &[(&'static str, &'static str)]| {
        let mut routes = routes.iter();
        let found = routes.find(|(end, _)| path.ends_with(end));
        found.map(|(_, route)| *route)
    };
    if path.starts_with(est::BASE) {
        return ending(&OPERATIONS).unwrap_or("other");
    }
    if let Some(path) = path.strip_prefix(api::BASE) {
        return match path {
            "/enrol" => "api/enrol",
            "/enrol-many" => "api/enrol-many",
            "/status" => "api/status",
            path if path.starts_with("/devices/") => ending(&DEVICES).unwrap_or("api/device"),
            _ => "other",
        };
    }
    match path {
        "/" => "page",
        "/status.json" => "status",
        "/metrics" => "metrics",
        "/healthz" => "healthz",
        "/readyz" => "readyz",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_the_names_of_routes_are_few() {
        for (path, route) in [
            ("/.well-known/est/cacerts", "est/cacerts"),
            ("/.well-known/est/TH-200/simpleenroll", "est/simpleenroll"),
            ("/.well-known/est/TH-200/fullcmc", "other"),
            ("/api/v1/devices/TH200-1", "api/device"),
            ("/api/v1/devices/TH200-1/scrap", "api/scrap"),
            ("/", "page"),
            ("/etc/passwd", "other"),
        ] {
            assert_eq!(route_of(path), route, "{path}");
        }
    }
}
