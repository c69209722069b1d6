//! The floor's page: what is left, how fast it goes, and what is wrong, large enough to be read from three metres. It is one
//! document; nothing in it comes from elsewhere, and its policy forbids that it could.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use mintmark_console::time::rfc3339;
use mintmark_pki::est;
use mintmark_protocol::identifier::Fingerprint;
use serde::Serialize;
use serde_json::Value;

use super::board::Board;
use super::floor::{Floor, now_unix};
use super::problem::Problem;

const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Over how long the present rate is taken.
const RATE_TIME: Duration = Duration::from_secs(120);

/// A warning that is shown as such: the credit has less left than so many days.
const CREDIT_DAYS_WARNED: u64 = 3;

const SECONDS_PER_DAY: u64 = 86_400;

/// The routes.
pub(crate) fn routes() -> Router<Arc<Floor>> {
    Router::new()
        .route("/", get(document))
        .route("/status.json", get(status))
}

/// The digest by which the policy names what may run.
fn digest(text: &str) -> String {
    let sha256 = Fingerprint::of(text.as_bytes());
    let base64 = est::encode_body(sha256.as_bytes());
    format!("'sha256-{}'", base64.trim_ascii_end())
}

async fn document() -> Response {
    let body = DOCUMENT
        .replace("{STYLE}", STYLE)
        .replace("{SCRIPT}", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// How many certificates there were, some time ago and now.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<VecDeque<(Instant, u64)>>);

impl Rate {
    /// So many were issued up to now.
    pub(crate) fn sample(&self, issued: u64) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        samples.push_back((now, issued));
        while samples.len() > 2
            && samples
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > RATE_TIME)
        {
            samples.pop_front();
        }
    }

    /// Certificates a minute, of late.
    fn per_minute(&self) -> f64 {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((from, before)), Some((to, after))) = (samples.front(), samples.back()) else {
            return 0.0;
        };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds < 1.0 {
            return 0.0;
        }
        after.saturating_sub(*before) as f64 * 60.0 / seconds
    }
}

/// How many certificates were issued since the service was started.
pub(crate) fn issued(board: &Board) -> u64 {
    let requests = board.tally.requests.iter();
    let issued = requests.filter(|((_, outcome), _)| *outcome == "issued");
    issued.map(|(_, count)| count).sum()
}

#[derive(Serialize)]
struct Status {
    schema: &'static str,
    site: Value,
    vault: Value,
    time: String,
    /// `good`, `warning` or `stopped`.
    state: &'static str,
    /// What is wrong, the gravest first.
    alarms: Vec<Alarm>,
    products: Vec<Row>,
    rate_per_minute: f64,
    credit_units: u64,
    credit_until: Option<String>,
    credit_seconds: Option<u64>,
    exported: Option<String>,
    exported_seconds: Option<u64>,
    hsm: Store,
    stations: usize,
    connections: u64,
    waiting: usize,
}

/// The key store. What it says of itself in words has paths in it, which are nobody's on the network.
#[derive(Serialize)]
struct Store {
    kind: Value,
    state: Value,
    name: Value,
    code: Value,
}

impl Store {
    fn of(board: &Board) -> Self {
        let hsm = board.status.get("hsm");
        let field = |name: &str| {
            hsm.and_then(|hsm| hsm.get(name))
                .cloned()
                .unwrap_or_default()
        };
        Self {
            kind: field("kind"),
            state: field("state"),
            name: field("name"),
            code: field("code"),
        }
    }

    fn is_ok(&self) -> bool {
        self.state == "ok" || self.state.is_null()
    }
}

#[derive(Serialize)]
struct Alarm {
    /// `warning` or `stopped`.
    level: &'static str,
    code: String,
    message: String,
    hint: Option<String>,
}

/// What may still be made of a product.
#[derive(Serialize)]
struct Row {
    product: String,
    authorised: u64,
    unspent: u64,
    unresolved: u64,
    today: u64,
}

async fn status(State(floor): State<Arc<Floor>>) -> Response {
    let body = serde_json::to_vec(&describe(&floor)).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn describe(floor: &Floor) -> Status {
    let board = floor.wall.board();
    let field = |name: &str| board.status.get(name).cloned().unwrap_or_default();
    // The board stands still while the vault does; the clock does not.
    let time = board
        .time
        .saturating_add(now_unix().saturating_sub(board.posted));
    let ready = floor.ready().err();
    let products = products(&board);
    let alarms = alarms(&board, ready.as_ref(), &products, time);
    let state = match alarms.first() {
        None => "good",
        Some(alarm) => alarm.level,
    };
    Status {
        schema: "mintmark/floor/1",
        site: field("site"),
        vault: field("vault"),
        time: rfc3339(time),
        state,
        alarms,
        products,
        rate_per_minute: floor.rate.per_minute(),
        credit_units: board.credit_units,
        credit_until: board.credit_until.map(rfc3339),
        credit_seconds: board.credit_until.map(|until| until.saturating_sub(time)),
        exported: board.exported.map(rfc3339),
        exported_seconds: board.exported.map(|at| time.saturating_sub(at)),
        hsm: Store::of(&board),
        stations: board.stations.len(),
        connections: floor.counters.open_now(),
        waiting: floor.desk.waiting(),
    }
}

fn products(board: &Board) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let list = |name: &str| board.status.get(name).and_then(Value::as_array);
    let text = |of: &Value, name: &str| of.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64).unwrap_or_default();
    let accounts = list("accounts").into_iter().flatten();
    let mut outlook = list("outlook").into_iter().flatten();
    for account in accounts {
        let rate = outlook.next().and_then(|row| row.get("rate_day"));
        let today = rate.map_or(0, |rate| number(rate, "used"));
        let Some(product) = text(account, "product") else {
            continue;
        };
        let row = match rows.iter().position(|row| row.product == product) {
            Some(at) => rows.get_mut(at),
            None => {
                rows.push(Row {
                    product,
                    authorised: 0,
                    unspent: 0,
                    unresolved: 0,
                    today: 0,
                });
                rows.last_mut()
            }
        };
        if let Some(row) = row {
            row.authorised += number(account, "authorised");
            row.unspent += number(account, "unspent");
            row.unresolved += number(account, "unresolved");
            row.today += today;
        }
    }
    rows
}

fn alarms(board: &Board, ready: Option<&Problem>, products: &[Row], time: u64) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    if let Some(Problem { failure, .. }) = ready {
        alarms.push(Alarm {
            level: "stopped",
            code: failure.code.to_string(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
        });
    }
    let mut warn = |code: &str, message: String| {
        alarms.push(Alarm {
            level: "warning",
            code: code.to_owned(),
            message,
            hint: None,
        });
    };
    let hsm = Store::of(board);
    if !hsm.is_ok() {
        let state = hsm.state.as_str().unwrap_or_default();
        let code = hsm.code.as_str().map(|code| format!(" [{code}]"));
        let message = format!(
            "the HSM is {state}{}: `site status` at the vault says why",
            code.unwrap_or_default()
        );
        warn("HSM", message);
    }
    for row in products {
        if row.unspent == 0 {
            warn("UNITS", format!("no unit of {} is left", row.product));
        } else if row.unspent < row.authorised / 10 {
            let (left, product) = (row.unspent, &row.product);
            warn("UNITS", format!("{left} units of {product} are left"));
        }
        if row.unresolved > 0 {
            let (count, product) = (row.unresolved, &row.product);
            warn(
                "UNRESOLVED",
                format!("{count} units of {product} are unresolved"),
            );
        }
    }
    let soon = CREDIT_DAYS_WARNED * SECONDS_PER_DAY;
    if let Some(until) = board
        .credit_until
        .filter(|until| until.saturating_sub(time) < soon)
    {
        let until = rfc3339(until);
        warn(
            "CREDIT",
            format!("the vault stops at {until} unless headquarters hears of it"),
        );
    }
    alarms
}
