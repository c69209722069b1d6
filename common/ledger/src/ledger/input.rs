//! From what the caller hands in to what a record can hold.

use crate::decide::{Input, Submitted};
use mintmark_protocol::order::is_reason;

use crate::entry::{
    Body, ENTRY_BYTES_MAX, Request, StationChange, Steady, Submission, TEXT_BYTES_MAX, Verdict,
    is_code,
};
use crate::error::Error;

/// The error for an entry above the ceiling.
pub(super) fn too_large(bytes: usize) -> Error {
    Error::Input {
        why: format!("an entry of {bytes} bytes is above the limit of {ENTRY_BYTES_MAX}"),
    }
}

/// The entry of an input, once its texts are known to fit.
pub(super) fn body_of(input: Input<'_>, steady: Option<Steady>) -> Result<Body, Error> {
    let code_fits = |code: &str| {
        let why = || format!("`{}` is not a code", code.escape_default());
        if is_code(code) {
            Ok(())
        } else {
            Err(Error::Input { why: why() })
        }
    };
    Ok(match input {
        Input::Request {
            product,
            station,
            submission,
        } => Body::Request(Request {
            product: product.clone(),
            station: station.clone(),
            submission: match submission {
                Submitted::Verified(csr) => Submission::Csr {
                    der: csr.der().to_vec(),
                },
                Submitted::Unreadable { sha256, code } => {
                    code_fits(code)?;
                    Submission::Unreadable {
                        sha256,
                        code: code.to_owned(),
                    }
                }
            },
        }),
        Input::Device(order) => {
            if !is_reason(&order.reason) {
                let why = "a reason is 1 to 200 characters of plain text".to_owned();
                return Err(Error::Input { why });
            }
            Body::Device(order.clone())
        }
        Input::ClockConfirm => Body::ClockConfirm { steady },
        Input::Station(order) => {
            if let StationChange::Revoke { reason } = &order.change
                && !is_reason(reason)
            {
                let why = "a reason is 1 to 200 characters of plain text".to_owned();
                return Err(Error::Input { why });
            }
            Body::Station(order.clone())
        }
        Input::Dispatch(dispatch) => {
            text_fits(&dispatch.kind)?;
            text_fits(&dispatch.id)?;
            if let Verdict::Rejected { code } = &dispatch.content {
                code_fits(code)?;
            }
            Body::Dispatch(dispatch.clone())
        }
    })
}

/// Whether an entry can hold a text.
pub(super) fn text_fits(text: &str) -> Result<(), Error> {
    if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let shown: String = text
        .chars()
        .take(TEXT_BYTES_MAX)
        .flat_map(char::escape_default)
        .collect();
    Err(Error::Input {
        why: format!("`{shown}` is too long or not printable"),
    })
}
