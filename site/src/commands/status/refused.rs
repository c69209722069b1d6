//! What came from headquarters, was refused, and is not known there to have been.

use mintmark_ledger::entry::{Body, Entry, LogSequence};
use mintmark_ledger::ledger::View;
use mintmark_protocol::envelope::Kind;
use serde::Serialize;

use crate::commands::entitlement::history::is_of_dispatch;

/// What headquarters sent and this vault refused.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RefusedContent {
    pub(super) r#type: String,
    pub(super) id: String,
    pub(super) code: String,
}

/// What was refused since the log that headquarters acknowledged, and was not accepted later; as far as the log can be
/// read, since it is `site audit verify` and `site doctor` that say what is wrong with it.
pub(crate) fn refused(view: &View) -> Vec<RefusedContent> {
    let acknowledged = view.state().bundles().acknowledged_log_size;
    let mut refused: Vec<RefusedContent> = Vec::new();
    let mut asked = None;
    let records = view.reader(LogSequence(acknowledged));
    for record in records
        .into_iter()
        .flatten()
        .map_while(std::result::Result::ok)
    {
        let entry = is_of_dispatch(&record.bytes).then(|| Entry::from_cbor(&record.bytes));
        let before = asked.take();
        match (entry.and_then(std::result::Result::ok), before) {
            (
                Some(Entry {
                    body: Body::Dispatch(dispatch),
                    ..
                }),
                _,
            ) => {
                // A receipt that was refused is no loss: the next one counts for it.
                let is_receipt = dispatch.kind == Kind::Acknowledgement.as_str();
                asked = (!is_receipt).then_some((dispatch.kind, dispatch.id));
            }
            (Some(Entry { body, .. }), Some((r#type, id))) => {
                refused.retain(|row| (&row.r#type, &row.id) != (&r#type, &id));
                if let Body::DispatchRefused { code } = body {
                    refused.push(RefusedContent { r#type, id, code });
                }
            }
            _ => {}
        }
    }
    refused
}
