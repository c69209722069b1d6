//! Every version of every entitlement that ever reached this vault, as the log tells it.

use mintmark_console::time::rfc3339;
use mintmark_ledger::entry::{Body, Content, Entry, LogSequence, Verdict};
use mintmark_ledger::ledger::View;
use mintmark_ledger::state::State;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::Kind;
use serde::Serialize;

use crate::failure::Result;

/// A version, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Version {
    /// The entitlement; of content that did not authenticate, the id that its dispatch names.
    pub(super) id: String,
    pub(super) version: u64,
    /// `accepted`: in force, or revoked since; `superseded`: by a later version; `refused`.
    pub(super) state: &'static str,
    /// The rule that refused it.
    pub(super) code: Option<String>,
    pub(super) time: String,
    pub(super) log_sequence: u64,
}

/// Reads the whole log.
pub(super) fn read(view: &View) -> Result<Vec<Version>> {
    let mut versions = Vec::new();
    let mut pending: Option<Version> = None;
    for record in view.reader(LogSequence(0))? {
        let record = record.map_err(mintmark_ledger::Error::from)?;
        // Most records are none of these, and only their kind is looked at.
        if !is_of_dispatch(&record.bytes) {
            pending = None;
            continue;
        }
        let Ok(entry) = Entry::from_cbor(&record.bytes) else {
            pending = None;
            continue;
        };
        let asked = pending.take();
        match entry.body {
            Body::Dispatch(dispatch) if dispatch.kind == Kind::Entitlement.as_str() => {
                let (id, version) = match &dispatch.content {
                    Verdict::Authentic(Content::Entitlement { plaintext, .. }) => {
                        match Entitlement::from_cbor(plaintext) {
                            Ok(terms) => (terms.id.to_string(), terms.version),
                            Err(_) => (dispatch.id.clone(), dispatch.version),
                        }
                    }
                    _ => (dispatch.id.clone(), dispatch.version),
                };
                pending = Some(Version {
                    id,
                    version,
                    state: "accepted",
                    code: None,
                    time: rfc3339(entry.time),
                    log_sequence: record.sequence,
                });
            }
            Body::DispatchAccepted => versions.extend(asked),
            Body::DispatchRefused { code } => versions.extend(asked.map(|asked| Version {
                state: "refused",
                code: Some(code),
                ..asked
            })),
            _ => {}
        }
    }
    supersede(&mut versions, view.state());
    Ok(versions)
}

fn supersede(versions: &mut [Version], state: &State) {
    for version in versions
        .iter_mut()
        .filter(|version| version.state == "accepted")
    {
        let mut granted = state.entitlements().values();
        let newest = granted.find(|granted| granted.terms.id.as_str() == version.id);
        if newest.is_some_and(|newest| newest.version > version.version) {
            version.state = "superseded";
        }
    }
}

/// Whether a record is a dispatch or the decision on one: its first field, key 0, is the kind.
pub(in crate::commands) fn is_of_dispatch(record: &[u8]) -> bool {
    matches!(record, [_, 0, 4 | 16 | 17, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_of_dispatches_are_told_by_their_first_bytes() {
        let record = |body| {
            let entry = Entry {
                time: 1,
                clock_behind_seconds: 0,
                body,
            };
            entry.to_cbor()
        };
        let refused = Body::DispatchRefused {
            code: "X".to_owned(),
        };
        assert!(is_of_dispatch(&record(Body::DispatchAccepted)));
        assert!(is_of_dispatch(&record(refused)));
        let reservation = LogSequence(1);
        assert!(!is_of_dispatch(&record(Body::Existing { reservation })));
    }
}
