//! The log for people: one row for each thing that happened, its decision beside it.
//!
//! `site audit log` and `hq audit log` print the same rows. An input and the decision on it are one row, under the
//! sequence of the input, so that a request that was refused shows in one row, with its code.

use std::collections::BTreeMap;
use std::fmt;

use mintmark_pki::CertificationRequest;
use mintmark_protocol::identifier::{DeviceId, Sku, StationId};
use serde::{Serialize, Serializer};

use crate::entry::{
    Body, Entry, KeyOutcome, LogSequence, Request, Reserved, StationChange, Submission,
};
use crate::refusal;
use crate::serial::{Serial, serial_of};

/// One row. As JSON it is a line of schema `mintmark/audit/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    schema: &'static str,
    /// The record; of an input and its decision, that of the input.
    #[serde(serialize_with = "sequence")]
    pub sequence: LogSequence,
    /// When, Unix seconds; RFC 3339 in JSON.
    #[serde(serialize_with = "time")]
    pub time: u64,
    /// What: the name of [`Body::kind`].
    pub kind: &'static str,
    /// `issued`, `reissued`, `existing` or `refused` of a request, `accepted` or `refused` of a dispatch, `received` or
    /// `refused` of a key; none of what else needs no decision, or has none.
    pub outcome: Option<&'static str>,
    /// The rule that refused it.
    pub code: Option<String>,
    /// The device. Of a refused request it is the name in the request, which nobody vouches for.
    pub device_id: Option<String>,
    /// The product.
    pub product: Option<String>,
    /// The certificate's serial number, hexadecimal.
    pub serial: Option<String>,
    /// The station that asked, or that is let in or shut out; `console` is the operator at the vault.
    pub station: Option<String>,
    /// What a person wants to know besides; `detail` in JSON, null where it is empty.
    #[serde(rename = "detail", serialize_with = "detail")]
    pub remark: String,
}

/// What rows for people leave out: the operator at the vault asks unless something else is said.
const CONSOLE: &str = "console";

/// The schema of a row as JSON.
pub const ROW_SCHEMA: &str = "mintmark/audit/1";

fn sequence<S: Serializer>(sequence: &LogSequence, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(sequence.number())
}

fn time<S: Serializer>(time: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&refusal::time(*time))
}

fn detail<S: Serializer>(remark: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Some(remark)
        .filter(|remark| !remark.is_empty())
        .serialize(serializer)
}

impl Row {
    fn new(sequence: LogSequence, entry: &Entry) -> Self {
        Self {
            schema: ROW_SCHEMA,
            sequence,
            time: entry.time,
            kind: entry.body.kind(),
            outcome: None,
            code: None,
            device_id: None,
            product: None,
            serial: None,
            station: station(&entry.body).map(ToString::to_string),
            remark: remark(&entry.body),
        }
    }
}

impl fmt::Display for Row {
    /// One line, without a line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = refusal::time(self.time);
        write!(f, "{:>8}  {time}  {:<14}", self.sequence, self.kind)?;
        let said = [
            self.outcome,
            self.code.as_deref(),
            self.product.as_deref(),
            self.device_id.as_deref(),
            self.serial.as_deref(),
            self.station
                .as_deref()
                .filter(|station| *station != CONSOLE),
            Some(self.remark.as_str()),
        ];
        for said in said.into_iter().flatten().filter(|said| !said.is_empty()) {
            write!(f, "  {said}")?;
        }
        Ok(())
    }
}

fn station(body: &Body) -> Option<&StationId> {
    match body {
        Body::Request(request) => Some(&request.station),
        Body::Device(order) => Some(&order.station),
        Body::Station(order) => Some(&order.station),
        _ => None,
    }
}

fn remark(body: &Body) -> String {
    match body {
        Body::Genesis(genesis) => genesis.vault.to_string(),
        Body::Start(start) => format!("boot {} of {}", start.boot, start.software),
        Body::Trust(trust) => format!("version {}", trust.version),
        Body::Dispatch(dispatch) => format!(
            "{}-{} {} {}",
            dispatch.epoch, dispatch.sequence, dispatch.kind, dispatch.id
        ),
        Body::Signed(signed) => format!("record {}", signed.reservation),
        Body::BundleSealed(bundle) => format!("bundle {}", bundle.sequence),
        Body::Rotation(rotation) => format!("device CA {}", rotation.generation),
        Body::Key(receipt) => format!(
            "key {} of {}: {}",
            receipt.label,
            receipt.entitlement,
            receipt.outcome.as_str()
        ),
        Body::Reserved(reserved) if !reserved.keys.is_empty() => {
            let keys: Vec<&str> = reserved.keys.iter().map(|key| key.as_str()).collect();
            format!("secret from {}", keys.join(" and "))
        }
        Body::Existing { reservation } => format!("record {reservation}"),
        Body::Station(order) => match &order.change {
            StationChange::Approve(approval) => {
                format!("until {}", refusal::time(approval.terms.until))
            }
            StationChange::Revoke { reason } => reason.clone(),
        },
        Body::Device(order) => order.reason.clone(),
        Body::Crl(crl) => format!("CRL {} of device CA {}", crl.number, crl.generation),
        Body::Clock(found) if found.believed => "believed again".to_owned(),
        Body::Clock(found) => format!("not believed: expected {}", refusal::time(found.expected)),
        Body::Burned(burned) => {
            let slots: Vec<String> = burned
                .slots
                .iter()
                .map(|slots| {
                    let last = slots.end.saturating_sub(1);
                    format!(
                        "slots {} to {last} of account {}",
                        slots.first, slots.account
                    )
                })
                .collect();
            slots.join(", ")
        }
        Body::Pruned(pruned) => format!("records below {}", pruned.end()),
        Body::Restored(restored) => {
            format!("lineage {} after {}", restored.lineage, restored.parent)
        }
        _ => String::new(),
    }
}

/// A unit without its certificate yet.
struct Unit {
    device_id: DeviceId,
    product: Option<Sku>,
    serial: Option<Serial>,
}

/// Turns entries, in the order of the log, into rows. A log is read from its beginning for this: what a signature is of
/// stands before it.
#[derive(Default)]
pub struct Rows {
    /// An input whose decision comes next.
    input: Option<Row>,
    /// Reservations without a signature.
    open: BTreeMap<LogSequence, Unit>,
    /// The serial of every reservation, for answers that name one: a few dozen bytes for each unit.
    serials: BTreeMap<LogSequence, Serial>,
}

impl Rows {
    /// For a log from its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rows that the next entry completes: none while its decision is to come, two where an input had none. `known`
    /// gives the serial of a reservation that was not read here, where the caller can tell.
    pub fn push(
        &mut self,
        sequence: LogSequence,
        entry: &Entry,
        known: &dyn Fn(LogSequence) -> Option<Serial>,
    ) -> Vec<Row> {
        let input = self.input.take();
        if entry.body.is_decision() {
            let row = input.unwrap_or_else(|| Row::new(sequence, entry));
            return vec![self.decided(row, sequence, &entry.body, known)];
        }
        let mut rows: Vec<Row> = input.into_iter().collect();
        let mut row = Row::new(sequence, entry);
        match &entry.body {
            Body::Request(request) => {
                row.product = Some(request.product.to_string());
                row.device_id = name(request);
                self.input = Some(row);
            }
            Body::Dispatch(_) | Body::ClockConfirm { .. } | Body::Station(_) => {
                self.input = Some(row);
            }
            Body::Device(order) => {
                row.product = Some(order.product.to_string());
                row.device_id = Some(order.device_id.to_string());
                self.input = Some(row);
            }
            Body::Signed(signed) => {
                if let Some(unit) = self.open.remove(&signed.reservation) {
                    row.device_id = Some(unit.device_id.to_string());
                    row.product = unit.product.map(|product| product.to_string());
                    row.serial = unit.serial.map(hex::encode);
                }
                rows.push(row);
            }
            Body::Key(receipt) => {
                row.code = entry.body.code().map(str::to_owned);
                row.outcome = Some(match &receipt.outcome {
                    KeyOutcome::Unwrapped | KeyOutcome::Imported => "received",
                    KeyOutcome::Refused { .. } => "refused",
                });
                rows.push(row);
            }
            _ => rows.push(row),
        }
        rows
    }

    /// The row of an input that the log ends with.
    pub fn finish(self) -> Option<Row> {
        self.input
    }

    fn decided(
        &mut self,
        mut row: Row,
        sequence: LogSequence,
        body: &Body,
        known: &dyn Fn(LogSequence) -> Option<Serial>,
    ) -> Row {
        row.code = body.code().map(str::to_owned);
        row.outcome = match body {
            Body::DispatchAccepted | Body::ClockConfirmed | Body::StationChanged => {
                Some("accepted")
            }
            Body::DeviceChanged(changed) => {
                let serial = self.serials.get(&changed.reservation).copied();
                row.serial = serial
                    .or_else(|| known(changed.reservation))
                    .map(hex::encode);
                Some("accepted")
            }
            Body::Reserved(reserved) => {
                self.reserve(&mut row, sequence, reserved);
                row.remark = remark(body);
                Some(if reserved.issue == 0 {
                    "issued"
                } else {
                    "reissued"
                })
            }
            Body::Existing { reservation } => {
                let serial = self.serials.get(reservation).copied();
                row.serial = serial.or_else(|| known(*reservation)).map(hex::encode);
                row.remark = remark(body);
                Some("existing")
            }
            _ => Some("refused"),
        };
        row
    }

    fn reserve(&mut self, row: &mut Row, sequence: LogSequence, reserved: &Reserved) {
        let serial = serial_of(&reserved.tbs);
        row.device_id = Some(reserved.device_id.to_string());
        row.serial = serial.map(hex::encode);
        let unit = Unit {
            device_id: reserved.device_id.clone(),
            product: row.product.as_deref().and_then(|sku| sku.parse().ok()),
            serial,
        };
        self.serials.extend(serial.map(|serial| (sequence, serial)));
        self.open.insert(sequence, unit);
    }
}

/// The name that a request gives its device: its serial number, else its common name.
fn name(request: &Request) -> Option<String> {
    let Submission::Csr { der } = &request.submission else {
        return None;
    };
    let csr = CertificationRequest::from_der(der).ok()?;
    let name = csr.subject_serial_number().or(csr.common_name())?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use mintmark_protocol::identifier::Fingerprint;

    use super::*;
    use crate::entry::{KeyReceipt, Refused, Rotation, Signed};

    fn entry(body: Body) -> Entry {
        Entry {
            time: 1_798_761_600,
            clock_behind_seconds: 0,
            body,
        }
    }

    fn request() -> Body {
        Body::Request(Request {
            product: "TH-200".parse().unwrap(),
            station: StationId::console(),
            submission: Submission::Unreadable {
                sha256: Fingerprint::of(b"x"),
                code: "CSR-MALFORMED".to_owned(),
            },
        })
    }

    fn refused(code: &str) -> Body {
        Body::Refused(Refused {
            code: code.to_owned(),
            entitlement: None,
        })
    }

    fn reserved() -> Body {
        Body::Reserved(Reserved {
            entitlement: "e".parse().unwrap(),
            account: mintmark_protocol::entitlement::AccountTag::new(1).unwrap(),
            slot: 0,
            issue: 0,
            device_id: "D-1".parse().unwrap(),
            spki_sha256: Fingerprint::of(b"k"),
            tbs: Vec::new(),
            keys: Vec::new(),
        })
    }

    fn rows(bodies: Vec<Body>) -> Vec<Row> {
        let mut rows = Rows::new();
        let mut all = Vec::new();
        for (at, body) in bodies.into_iter().enumerate() {
            let at = LogSequence(at as u64);
            all.extend(rows.push(at, &entry(body), &|_| Some([0x4d; 17])));
        }
        all.extend(rows.finish());
        all
    }

    #[test]
    fn a_request_and_its_refusal_are_one_row_with_the_code() {
        let rows = rows(vec![request(), refused("QUOTA-EXHAUSTED")]);
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(
            json,
            serde_json::json!([{
                "schema": "mintmark/audit/1", "sequence": 0, "time": "2027-01-01T00:00:00Z",
                "kind": "request", "outcome": "refused", "code": "QUOTA-EXHAUSTED", "device_id": null,
                "product": "TH-200", "serial": null, "station": "console", "detail": null,
            }])
        );
    }

    #[test]
    fn a_signature_is_shown_with_the_device_that_it_is_for() {
        let signed = Body::Signed(Signed {
            reservation: LogSequence(1),
            signature: [1; 64],
        });
        let rows = rows(vec![request(), reserved(), signed]);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.kind,
                    row.outcome,
                    row.device_id.as_deref(),
                    row.product.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("request", Some("issued"), Some("D-1"), Some("TH-200")),
                ("signed", None, Some("D-1"), Some("TH-200")),
            ]
        );
    }

    #[test]
    fn a_re_issue_a_key_and_a_rotation_are_told_for_what_they_are() {
        let Body::Reserved(mut again) = reserved() else {
            panic!("a reservation");
        };
        again.issue = 1;
        let Body::Reserved(mut keyed) = reserved() else {
            panic!("a reservation");
        };
        keyed.keys = vec!["service".parse().unwrap(), "update".parse().unwrap()];
        let key = |outcome| {
            Body::Key(KeyReceipt {
                entitlement: "e".parse().unwrap(),
                label: "service".parse().unwrap(),
                outcome,
            })
        };
        let refused = KeyOutcome::Refused {
            code: "KEY-CHECK-VALUE".to_owned(),
        };
        let rotation = Body::Rotation(Rotation {
            generation: 2,
            request_fingerprint: Fingerprint::of(b"request"),
        });
        let rows = rows(vec![
            request(),
            Body::Reserved(again),
            request(),
            Body::Reserved(keyed),
            key(KeyOutcome::Imported),
            key(refused),
            rotation,
        ]);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.kind,
                    row.outcome,
                    row.code.as_deref(),
                    row.remark.as_str(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("request", Some("reissued"), None, ""),
                (
                    "request",
                    Some("issued"),
                    None,
                    "secret from service and update"
                ),
                ("key", Some("received"), None, "key service of e: imported"),
                (
                    "key",
                    Some("refused"),
                    Some("KEY-CHECK-VALUE"),
                    "key service of e: refused"
                ),
                ("rotation", None, None, "device CA 2"),
            ]
        );
    }

    #[test]
    fn an_answer_given_before_has_the_serial_that_the_caller_knows() {
        let existing = Body::Existing {
            reservation: LogSequence(7),
        };
        let rows = rows(vec![request(), existing]);
        assert_eq!(rows[0].outcome, Some("existing"));
        assert_eq!(rows[0].serial, Some("4d".repeat(17)));
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["detail"], "record 7");
    }

    #[test]
    fn an_input_without_its_decision_is_a_row_all_the_same() {
        let kinds: Vec<_> = rows(vec![request(), request()])
            .iter()
            .map(|row| (row.kind, row.outcome))
            .collect();
        assert_eq!(kinds, [("request", None), ("request", None)]);
        // A decision that nobody asked for stands under its own name.
        let alone = rows(vec![refused("X")]);
        assert_eq!(
            (alone[0].kind, alone[0].outcome),
            ("refused", Some("refused"))
        );
    }
}
