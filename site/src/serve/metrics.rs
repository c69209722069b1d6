//! `/metrics`: the numbers of the service and of the vault, in the text format of Prometheus.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;

use super::floor::{Floor, now_unix};
use super::problem::Problem;
use crate::vault::Counted;

/// The routes.
pub(crate) fn routes() -> Router<Arc<Floor>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
}

fn plain(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// The process is there and answers.
async fn healthz() -> Response {
    plain("ok\n".to_owned())
}

/// Whether anything can be issued.
async fn readyz(State(floor): State<Arc<Floor>>) -> Result<Response, Response> {
    match floor.ready() {
        Ok(()) => Ok(plain("ready\n".to_owned())),
        Err(problem) => Err(problem.into_json()),
    }
}

/// A page of metrics in the making.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.value(name, &[], value);
    }

    /// A histogram; each bound and the sum are divided by `scale`.
    fn histogram(&mut self, name: &str, help: &str, counted: &Counted, scale: f64) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in &counted.buckets {
            let bound = (*bound as f64 / scale).to_string();
            self.value(&bucket, &[("le", &bound)], count);
        }
        self.value(&bucket, &[("le", "+Inf")], counted.count);
        self.value(&format!("{name}_sum"), &[], counted.sum as f64 / scale);
        self.value(&format!("{name}_count"), &[], counted.count);
    }
}

/// A value of a label, as the format has it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

async fn metrics(State(floor): State<Arc<Floor>>) -> Response {
    plain(page(&floor))
}

fn page(floor: &Floor) -> String {
    let board = floor.wall.board();
    let mut page = Page(String::with_capacity(8192));
    let ready = floor.ready();
    page.one(
        "mintmark_ready",
        "gauge",
        "1 while certificates can be issued",
        u8::from(ready.is_ok()),
    );
    if let Err(Problem { failure, .. }) = ready {
        page.head(
            "mintmark_not_ready_reason",
            "gauge",
            "Why nothing can be issued",
        );
        page.value("mintmark_not_ready_reason", &[("code", &failure.code)], 1);
    }
    requests(&mut page, floor);
    accounts(&mut page, &board.status);
    page.one(
        "mintmark_credit_units",
        "gauge",
        "Units that may be made before headquarters has to hear of it",
        board.credit_units,
    );
    if let Some(until) = board.credit_until {
        page.one(
            "mintmark_credit_until_timestamp_seconds",
            "gauge",
            "Until when units may be made without word from headquarters",
            until,
        );
    }
    if let Some(exported) = board.exported {
        page.one(
            "mintmark_seconds_since_export",
            "gauge",
            "Since a bundle was sealed last",
            board.time.saturating_sub(exported),
        );
    }
    let meters = floor.wall.meters();
    page.histogram(
        "mintmark_token_signature_seconds",
        "How long the token took for a signature and its check",
        &meters.signing.read(),
        1_000_000.0,
    );
    page.one(
        "mintmark_token_signatures_failed_total",
        "counter",
        "Signatures that the token did not make, or made wrongly",
        meters.signing_failed.load(Ordering::Relaxed),
    );
    page.histogram(
        "mintmark_commit_group_records",
        "How many records of the log shared a sync",
        &meters.groups.read(),
        1.0,
    );
    page.one(
        "mintmark_stations",
        "gauge",
        "Stations that are let in",
        board.stations.len(),
    );
    page.one(
        "mintmark_waiting_requests",
        "gauge",
        "Requests that wait for the vault",
        floor.desk.waiting(),
    );
    page.one(
        "mintmark_board_age_seconds",
        "gauge",
        "Since the vault said something",
        now_unix().saturating_sub(board.posted),
    );
    connections(&mut page, floor);
    page.0
}

fn requests(page: &mut Page, floor: &Floor) {
    let tally = Arc::clone(&floor.wall.board().tally);
    let name = "mintmark_requests_total";
    page.head(
        name,
        "counter",
        "Requests for certificates by product and outcome, since the service was started",
    );
    for ((product, outcome), count) in &tally.requests {
        let labels = [("product", product.as_str()), ("outcome", outcome)];
        page.value(name, &labels, count);
    }
    let name = "mintmark_refusals_total";
    page.head(
        name,
        "counter",
        "Refusals by the code of the rule, since the service was started",
    );
    for (code, count) in &tally.refusals {
        page.value(name, &[("code", code)], count);
    }
}

/// How the units of each account stand.
fn accounts(page: &mut Page, status: &Value) {
    const STATES: [&str; 5] = ["good", "scrapped", "voided", "unresolved", "unspent"];
    let name = "mintmark_units";
    page.head(
        name,
        "gauge",
        "Units by product, entitlement and what became of them; their sum is what is authorised",
    );
    let accounts = status.get("accounts").and_then(Value::as_array);
    for account in accounts.into_iter().flatten() {
        let text = |field: &str| account.get(field).and_then(Value::as_str).unwrap_or("");
        for state in STATES {
            let labels = [
                ("product", text("product")),
                ("entitlement", text("entitlement")),
                ("state", state),
            ];
            let units = account.get(state).and_then(Value::as_u64);
            page.value(name, &labels, units.unwrap_or_default());
        }
    }
}

fn connections(page: &mut Page, floor: &Floor) {
    let counters = &floor.counters;
    page.one(
        "mintmark_connections",
        "gauge",
        "Connections that are open",
        counters.open_now(),
    );
    page.one(
        "mintmark_connections_total",
        "counter",
        "Connections whose TLS handshake succeeded",
        counters.connected.load(Ordering::Relaxed),
    );
    let name = "mintmark_connections_turned_away_total";
    page.head(
        name,
        "counter",
        "Connections that came to nothing, by reason",
    );
    for (why, count) in counters.turned_away_so_far() {
        page.value(name, &[("reason", why)], count);
    }
    let name = "mintmark_http_answers_total";
    page.head(name, "counter", "Answers by route and status");
    for ((route, status), count) in counters.answers_so_far() {
        let status = status.to_string();
        page.value(name, &[("route", route), ("status", &status)], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_written_as_prometheus_reads_it() {
        let mut page = Page(String::new());
        let counted = Counted {
            buckets: vec![(500, 1), (1_000_000, 3)],
            count: 4,
            sum: 2_500_000,
        };
        page.histogram("x_seconds", "Help", &counted, 1_000_000.0);
        let expected = "# HELP x_seconds Help\n# TYPE x_seconds histogram\nx_seconds_bucket{le=\"0.0005\"} 1\n\
            x_seconds_bucket{le=\"1\"} 3\nx_seconds_bucket{le=\"+Inf\"} 4\nx_seconds_sum 2.5\nx_seconds_count 4\n";
        assert_eq!(page.0, expected);
    }

    #[test]
    fn a_label_cannot_leave_its_quotes() {
        let mut page = Page(String::new());
        page.value("x", &[("code", "a\"b\\c\nd")], 1);
        assert_eq!(page.0, "x{code=\"a\\\"b\\\\c\\nd\"} 1\n");
    }
}
