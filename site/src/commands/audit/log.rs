//! `site audit log`: the log, one line for each thing that happened. A request and its answer are one line.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure};
use mintmark_ledger::entry::{Body, Entry, LogSequence, Request, Submission};
use mintmark_ledger::serial::serial_of;
use mintmark_pki::CertificationRequest;
use serde::Serialize;

use crate::failure::Result;
use crate::vault::reading::Reading;

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    schema: &'static str,
    sequence: u64,
    time: String,
    kind: &'static str,
    outcome: Option<&'static str>,
    code: Option<String>,
    device_id: Option<String>,
    product: Option<String>,
    serial: Option<String>,
    /// What a person wants to know besides.
    #[serde(skip)]
    remark: String,
}

/// Shows the log.
pub(super) fn execute(from: u64, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home)?;
    let mut input = None;
    for entry in reading.view().entries(LogSequence(from))? {
        let (sequence, entry) = entry?;
        if entry.body.wants_decision() {
            input = Some((sequence, entry));
            continue;
        }
        let row = match input.take() {
            Some((sequence, input)) => decided(sequence, &input, &entry),
            None => Row::new(sequence, &entry),
        };
        row.show(console)?;
    }
    Ok(Exit::Done)
}

/// An input and its decision.
fn decided(sequence: LogSequence, input: &Entry, decision: &Entry) -> Row {
    let row = Row::new(sequence, input);
    let (outcome, code) = match &decision.body {
        Body::DispatchAccepted => ("accepted", None),
        Body::DispatchRefused { code } => ("refused", Some(code.clone())),
        Body::Reserved(_) => ("issued", None),
        Body::Existing { .. } => ("existing", None),
        Body::Refused(refused) => ("refused", Some(refused.code.clone())),
        // No honest vault writes such a log; each record is shown for what it is.
        _ => return row,
    };
    let row = Row {
        outcome: Some(outcome),
        code,
        ..row
    };
    match &decision.body {
        Body::Reserved(reserved) => Row {
            device_id: Some(reserved.device_id.to_string()),
            serial: serial_of(&reserved.tbs).map(hex::encode),
            ..row
        },
        Body::Existing { reservation } => Row {
            device_id: claimed_device(input),
            remark: format!("record {reservation}"),
            ..row
        },
        _ => Row {
            device_id: claimed_device(input),
            ..row
        },
    }
}

impl Row {
    fn new(sequence: LogSequence, entry: &Entry) -> Self {
        let row = Self {
            schema: "mintmark/audit/1",
            sequence: sequence.number(),
            time: rfc3339(entry.time),
            kind: entry.body.kind(),
            outcome: None,
            code: entry.body.code().map(str::to_owned),
            device_id: None,
            product: None,
            serial: None,
            remark: String::new(),
        };
        match &entry.body {
            Body::Genesis(genesis) => Self {
                remark: genesis.vault.to_string(),
                ..row
            },
            Body::Start(start) => Self {
                remark: start.software.clone(),
                ..row
            },
            Body::Trust(trust) => Self {
                remark: format!("version {}", trust.version),
                ..row
            },
            Body::Dispatch(dispatch) => Self {
                remark: format!(
                    "{}-{} {} {}",
                    dispatch.epoch, dispatch.sequence, dispatch.kind, dispatch.id
                ),
                ..row
            },
            Body::Request(request) => Self {
                product: Some(request.product.to_string()),
                ..row
            },
            Body::Signed(signed) => Self {
                remark: format!("record {}", signed.reservation),
                ..row
            },
            Body::BundleSealed(bundle) => Self {
                remark: format!("bundle {}", bundle.sequence),
                ..row
            },
            Body::Reserved(reserved) => Self {
                device_id: Some(reserved.device_id.to_string()),
                serial: serial_of(&reserved.tbs).map(hex::encode),
                ..row
            },
            Body::Existing { reservation } => Self {
                remark: format!("record {reservation}"),
                ..row
            },
            Body::DispatchAccepted | Body::DispatchRefused { .. } | Body::Refused(_) => row,
        }
    }

    fn show(&self, console: &Console) -> Result<()> {
        if console.is_json() {
            return Ok(console
                .json_line(self)
                .map_err(|error| Failure::output(&error))?);
        }
        let said = [
            self.outcome,
            self.code.as_deref(),
            self.product.as_deref(),
            self.device_id.as_deref(),
            self.serial.as_deref(),
            Some(self.remark.as_str()),
        ];
        let said: Vec<&str> = said
            .into_iter()
            .flatten()
            .filter(|said| !said.is_empty())
            .collect();
        let Self {
            sequence,
            time,
            kind,
            ..
        } = self;
        console.line(format!(
            "{sequence:>8}  {time}  {kind:<14} {}",
            said.join("  ")
        ));
        Ok(())
    }
}

/// What a request says which device it is for. Until it is answered with a certificate, it is nothing but a claim.
fn claimed_device(input: &Entry) -> Option<String> {
    let Body::Request(Request {
        submission: Submission::Csr { der },
        ..
    }) = &input.body
    else {
        return None;
    };
    let csr = CertificationRequest::from_der(der).ok()?;
    csr.subject_serial_number()
        .or(csr.common_name())
        .map(str::to_owned)
}
