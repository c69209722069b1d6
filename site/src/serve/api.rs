//! JSON for factory tools: enrol one, scrap, void, rework, what became of a device, how the vault is. docs/station-api.md
//! describes it; many at a time are in [`stream`](super::stream).

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use mintmark_console::time::rfc3339;
use mintmark_ledger::entry::{DeviceAction, DeviceOrder};
use mintmark_ledger::ledger::DeviceHistory;
use mintmark_pki::{CSR_DER_BYTES_MAX, Object, est, to_pem};
use mintmark_protocol::identifier::{DeviceId, Sku};
use mintmark_protocol::order::{REASON_RULE, may_give_reason};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::desk::{Given, Want};
use super::est::{misanswered, pending};
use super::floor::{Asking, Floor, expect_type, unknown_product, whole};
use super::listener::Visitor;
use super::problem::Problem;
use super::stream;
use crate::submission::Submission;
use crate::vault::{Answer, Issued, SealedSecret};

/// Where it is.
pub(crate) const BASE: &str = "/api/v1";

const JSON: &str = "application/json";

/// The routes.
pub(crate) fn routes() -> Router<Arc<Floor>> {
    let interface = Router::new()
        .route("/enrol", post(enrol))
        .route("/enrol-many", post(stream::enrol_many))
        .route("/devices/{id}", get(device))
        .route("/devices/{id}/scrap", ordering(DeviceAction::Scrap))
        .route("/devices/{id}/void", ordering(DeviceAction::Void))
        .route("/devices/{id}/rework", ordering(DeviceAction::Rework))
        .route("/status", get(status));
    Router::new().nest(BASE, interface)
}

type Answered = Result<Response, Response>;

/// One object, on one line.
fn object(value: &impl Serialize) -> Result<Response, Problem> {
    let mut bytes = serde_json::to_vec(value).map_err(|_| misanswered())?;
    bytes.push(b'\n');
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What is asked for one device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enrol {
    /// None: the only one that the station may ask for.
    product: Option<String>,
    /// PEM, or DER in base64.
    csr: String,
    /// The device has a certificate for another key, and gives it up.
    #[serde(default)]
    again: bool,
    /// In a stream: what the answer is to be known by.
    pub(crate) id: Option<Value>,
}

/// What the device got.
#[derive(Serialize)]
pub(crate) struct Enrolled {
    schema: &'static str,
    /// `issued` or `existing`.
    outcome: &'static str,
    device_id: String,
    product: String,
    entitlement: String,
    slot: u64,
    serial: Option<String>,
    /// PEM.
    certificate: String,
    /// The device CA, and the root, PEM.
    chain: String,
    secrets: Vec<Secret>,
}

/// A secret that goes with a certificate.
#[derive(Serialize)]
struct Secret {
    /// The key that it is derived from.
    key: String,
    /// The sealed message, base64; none if it is missing.
    message: Option<String>,
    /// Why it is missing.
    code: Option<String>,
}

impl Enrol {
    /// Reads one.
    ///
    /// # Errors
    /// 400.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        parse(bytes)
    }

    /// Has the vault answer it.
    ///
    /// # Errors
    /// Why there is no certificate.
    pub(crate) async fn answer(&self, floor: &Floor, asking: &Asking) -> Result<Enrolled, Problem> {
        let product = product(self.product.as_deref(), asking)?;
        let want = Want::Certificate {
            product: product.clone(),
            submission: self.submission()?,
            again: self.again,
        };
        let given = floor.ask(asking, want).await?;
        let Given::Certificate {
            answer,
            chain,
            secrets,
            ..
        } = given
        else {
            return Err(misanswered());
        };
        let (outcome, issued) = match answer {
            Answer::Issued(issued) => ("issued", issued),
            Answer::Existing(issued) => ("existing", issued),
            Answer::Refused(refusal) => return Err(Problem::from(&refusal)),
            Answer::Open => return Err(pending()),
        };
        Ok(Enrolled::new(outcome, &product, &issued, &chain, secrets))
    }

    pub(super) fn submission(&self) -> Result<Submission, Problem> {
        let text = self.csr.trim_start().as_bytes();
        let der;
        let bytes = match text.starts_with(b"-----BEGIN ") {
            true => text,
            false => {
                let decoded = est::decode_body(text, Object::Request, CSR_DER_BYTES_MAX);
                der = decoded.map_err(Problem::unreadable)?;
                &der
            }
        };
        match Submission::from_bytes(bytes) {
            // What cannot be read is none of the log's affair: whoever sent it is told.
            Submission::Unreadable { error, .. } => Err(Problem::unreadable(error)),
            verified => Ok(verified),
        }
    }
}

impl Enrolled {
    fn new(
        outcome: &'static str,
        product: &Sku,
        issued: &Issued,
        chain: &[Vec<u8>],
        secrets: Vec<SealedSecret>,
    ) -> Self {
        let sealed = secrets.into_iter().map(|secret| {
            let (message, code) = match &secret.message {
                Ok(message) => (Some(base64(message)), None),
                Err(error) => (None, Some(error.code().to_owned())),
            };
            Secret {
                key: secret.label.to_string(),
                message,
                code,
            }
        });
        let over = issued.keys_over.iter().map(|(key, code)| Secret {
            key: key.to_string(),
            message: None,
            code: Some((*code).to_owned()),
        });
        Self {
            schema: "mintmark/enrolment/1",
            outcome,
            device_id: issued.unit.device_id.to_string(),
            product: product.to_string(),
            entitlement: issued.unit.entitlement.to_string(),
            slot: issued.unit.slot,
            serial: issued.unit.serial.map(hex::encode),
            certificate: to_pem("CERTIFICATE", &issued.der),
            chain: chain.iter().map(|der| to_pem("CERTIFICATE", der)).collect(),
            secrets: sealed.chain(over).collect(),
        }
    }
}

/// On one line.
fn base64(bytes: &[u8]) -> String {
    est::encode_body(bytes).replace("\r\n", "")
}

pub(super) fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::malformed(
            format!("the request is not the JSON object that is expected: {error}"),
            "docs/station-api.md has its fields; others are refused",
        )
    })
}

/// The product that is named, or the only one.
fn product(name: Option<&str>, asking: &Asking) -> Result<Sku, Problem> {
    let Some(name) = name else {
        return asking.only_product();
    };
    let product: Option<Sku> = name.parse().ok();
    product
        .filter(|product| asking.board.knows(product))
        .ok_or_else(|| unknown_product(name, &asking.board))
}

async fn enrol(
    State(floor): State<Arc<Floor>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Answered {
    let answer = async {
        let asking = floor.station(visitor)?;
        expect_type(request.headers(), JSON)?;
        let body = whole(request.into_body()).await?;
        let enrolled = Enrol::parse(&body)?.answer(&floor, &asking).await?;
        object(&enrolled)
    };
    answer.await.map_err(Problem::into_json)
}

/// Why something is done with a device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    reason: String,
    /// None: the only one that the station may ask for.
    product: Option<String>,
}

/// What was done with a device.
#[derive(Serialize)]
struct Ordered {
    schema: &'static str,
    device_id: String,
    product: String,
    action: &'static str,
    /// `scrapped`, `voided` or `allowed`.
    outcome: &'static str,
    serial: Option<String>,
    slot: Option<u64>,
    issue: Option<u16>,
    entitlement: Option<String>,
}

/// The route of one thing that is done with a device.
fn ordering(action: DeviceAction) -> MethodRouter<Arc<Floor>> {
    post(
        async move |State(floor): State<Arc<Floor>>,
                    Extension(visitor): Extension<Visitor>,
                    Path(id): Path<String>,
                    request: Request| {
            order(&floor, visitor, (action, &id), request).await
        },
    )
}

async fn order(
    floor: &Floor,
    visitor: Visitor,
    (action, id): (DeviceAction, &str),
    request: Request,
) -> Answered {
    let answer = async {
        let asking = floor.station(visitor)?;
        expect_type(request.headers(), JSON)?;
        let body = whole(request.into_body()).await?;
        let order: Order = parse(&body)?;
        if !may_give_reason(&order.reason) {
            let hint = "say in one line why, without line breaks";
            let status = StatusCode::BAD_REQUEST;
            return Err(Problem::new(status, "REASON-INVALID", REASON_RULE, hint));
        }
        let order = DeviceOrder {
            action,
            product: product(order.product.as_deref(), &asking)?,
            device_id: device_id(id)?,
            reason: order.reason,
            station: asking.station.id.clone(),
        };
        let (device_id, product) = (order.device_id.to_string(), order.product.to_string());
        let Given::Device(changed) = floor.ask(&asking, Want::Device(order)).await? else {
            return Err(misanswered());
        };
        let newest = changed.map_err(|refusal| Problem::from(&refusal))?;
        let newest = newest.as_ref();
        object(&Ordered {
            schema: "mintmark/device/1",
            device_id,
            product,
            action: action.as_str(),
            outcome: match action {
                DeviceAction::Scrap => "scrapped",
                DeviceAction::Void => "voided",
                DeviceAction::Rework => "allowed",
            },
            serial: newest.and_then(|unit| unit.serial).map(hex::encode),
            slot: newest.map(|unit| unit.slot),
            issue: newest.map(|unit| unit.issue),
            entitlement: newest.map(|unit| unit.entitlement.to_string()),
        })
    };
    answer.await.map_err(Problem::into_json)
}

fn device_id(id: &str) -> Result<DeviceId, Problem> {
    id.parse().map_err(|_| {
        Problem::malformed(
            "the path names no device",
            "give the device's identifier, percent-encoded",
        )
    })
}

/// What the log holds of a device.
#[derive(Serialize)]
struct Device {
    schema: &'static str,
    device_id: String,
    units: Vec<Unit>,
}

/// One issue of a unit, oldest first.
#[derive(Serialize)]
struct Unit {
    product: String,
    entitlement: String,
    slot: u64,
    issue: u16,
    serial: Option<String>,
    /// As `site device show` has it: good, unresolved, scrapped, voided ...
    status: &'static str,
    issued_at: String,
    /// PEM; none while it is not signed.
    certificate: Option<String>,
}

impl Unit {
    fn new((issue, status): &(DeviceHistory, &'static str)) -> Self {
        let certificate = issue.certificate.as_ref();
        Self {
            product: issue.sku.to_string(),
            entitlement: issue.entitlement.to_string(),
            slot: issue.slot,
            issue: issue.issue,
            serial: issue.serial.map(hex::encode),
            status,
            issued_at: rfc3339(issue.reserved_at),
            certificate: certificate.map(|der| to_pem("CERTIFICATE", der)),
        }
    }
}

async fn device(
    State(floor): State<Arc<Floor>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    uri: Uri,
) -> Answered {
    let answer = async {
        let asking = floor.station(visitor)?;
        let device_id = device_id(&id)?;
        let mut pairs = uri.query().unwrap_or_default().split('&');
        let named = pairs.find_map(|pair| pair.strip_prefix("product="));
        let product = named.map(|name| product(Some(name), &asking)).transpose()?;
        let want = Want::History {
            product,
            device_id: device_id.clone(),
        };
        let Given::History(mut history) = floor.ask(&asking, want).await? else {
            return Err(misanswered());
        };
        // A station sees what it may ask for.
        history.retain(|(issue, _)| asking.may_ask_for(&issue.sku));
        if history.is_empty() {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "DEVICE-UNKNOWN",
                format!("this vault's log holds no device {device_id}"),
                "check the spelling; the vault knows only devices that it issued to",
            ));
        }
        object(&Device {
            schema: "mintmark/device/1",
            device_id: device_id.to_string(),
            units: history.iter().map(Unit::new).collect(),
        })
    };
    answer.await.map_err(Problem::into_json)
}

async fn status(
    State(floor): State<Arc<Floor>>,
    Extension(visitor): Extension<Visitor>,
) -> Answered {
    let answer = || {
        let asking = floor.station(visitor)?;
        object(&*asking.board.status)
    };
    answer().map_err(Problem::into_json)
}
