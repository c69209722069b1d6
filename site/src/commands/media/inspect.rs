//! `site media inspect DIR`: what a medium claims. It needs no home, and believes nothing.

use std::path::Path;

use mintmark_console::{Align, Console, Exit, Table};
use mintmark_protocol::approval::PROPOSAL_BYTES_MAX;
use mintmark_protocol::bundle::BUNDLE_BYTES_MAX;
use mintmark_protocol::dispatch::DISPATCH_BYTES_MAX;
use mintmark_protocol::enrolment::REQUEST_BYTES_MAX;
use mintmark_protocol::envelope::{self, Claim, Kind};
use mintmark_protocol::log_tail::LOG_TAIL_MESSAGE_BYTES_MAX;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::restore::RESTORE_BYTES_MAX;
use mintmark_protocol::segment::SEGMENT_FILE_BYTES_MAX;
use mintmark_protocol::trust::TRUST_BYTES_MAX;
use serde::Serialize;

use super::super::json;
use crate::failure::{Error, Result};
use crate::medium::{Interest, Medium, MediumFile};

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    items: Vec<Item>,
}

/// What one file says of itself. Nobody has verified it.
#[derive(Serialize)]
struct Item {
    file: String,
    r#type: Option<String>,
    id: Option<String>,
    outcome: &'static str,
    code: Option<String>,
    message: Option<String>,
    hint: Option<String>,
    sender: Option<String>,
    recipient: Option<String>,
    fingerprint: Option<String>,
    bytes: Option<usize>,
}

impl Item {
    fn problem(&mut self, error: &Error) {
        let failure = error.failure();
        self.code = Some(failure.code.to_string());
        self.message = Some(failure.message.clone());
        self.hint = failure.hint.clone();
    }
}

/// Shows what stands there.
pub(crate) fn execute(dir: &Path, console: &Console) -> Result<Exit> {
    let medium = Medium::open(dir)?;
    let survey = medium.survey(Interest::All)?;
    survey.warn(console);
    let items: Vec<Item> = survey
        .files
        .iter()
        .map(|file| inspect(&medium, file))
        .collect();
    if console.is_json() {
        return json(
            console,
            &Report {
                schema: "mintmark/media/1",
                items,
            },
        );
    }
    let columns = ["file", "claims to be", "id", "from", "to", "problem"];
    let mut table = Table::new(columns.map(|column| (column, Align::Left)));
    for item in items {
        let text = |value: Option<String>| value.unwrap_or_default();
        table.row([
            item.file,
            text(item.r#type),
            text(item.id),
            text(item.sender),
            text(item.recipient),
            text(item.code),
        ]);
    }
    console.table(&table);
    console.note("these are the files' own words: nothing was verified, and nothing was changed");
    Ok(Exit::Done)
}

fn inspect(medium: &Medium, file: &MediumFile) -> Item {
    let bytes_max = match file.name {
        MediaName::Trust { .. } => TRUST_BYTES_MAX,
        MediaName::Enrolment { .. } => REQUEST_BYTES_MAX,
        MediaName::Draft { .. } | MediaName::Approval { .. } => PROPOSAL_BYTES_MAX,
        MediaName::Dispatch { .. } => DISPATCH_BYTES_MAX,
        MediaName::Restore { .. } => RESTORE_BYTES_MAX,
        MediaName::Tail { .. } => LOG_TAIL_MESSAGE_BYTES_MAX,
        MediaName::Bundle { .. } => BUNDLE_BYTES_MAX,
        MediaName::Segment { .. } => SEGMENT_FILE_BYTES_MAX,
    };
    let mut item = Item {
        file: file.path(),
        r#type: None,
        id: None,
        outcome: "inspected",
        code: None,
        message: None,
        hint: None,
        sender: None,
        recipient: None,
        fingerprint: None,
        bytes: None,
    };
    let bytes = match medium.read(file, bytes_max) {
        Ok(bytes) => bytes,
        Err(error) => {
            item.problem(&error.into());
            return item;
        }
    };
    item.bytes = Some(bytes.len());
    // A segment is not signed: the bundle beside it says what it is.
    if matches!(file.name, MediaName::Segment { .. }) {
        item.r#type = Some(Kind::AuditSegment.to_string());
        return item;
    }
    match envelope::claim(&bytes, bytes_max) {
        Ok(Claim {
            context,
            fingerprint,
        }) => {
            item.r#type = Some(context.kind.to_string());
            item.id = Some(context.id);
            item.sender = Some(context.sender.to_string());
            item.recipient = Some(context.recipient.to_string());
            item.fingerprint = Some(fingerprint.to_string());
        }
        Err(error) => item.problem(&error.into()),
    }
    item
}
