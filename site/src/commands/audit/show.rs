//! `site audit show N`.

use std::path::Path;

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit};
use serde::Serialize;

use super::super::json;
use super::sealed;
use crate::failure::{Error, Result};
use crate::home::LOG;
use crate::vault::Outbox;
use crate::vault::reading::Reading;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    sequence: u64,
    fingerprint: String,
    previous: Option<String>,
    lineage: String,
    log_size: u64,
    log_root: String,
    first: u64,
    sealed_at: String,
    trust_version: u64,
    dispatch: Option<DispatchSeen>,
    acknowledged: bool,
    requests_unlogged: u64,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct DispatchSeen {
    epoch: u64,
    sequence: u64,
}

#[derive(Serialize)]
struct Segment {
    first: u64,
    count: u64,
    bytes: u64,
    sha256: String,
}

/// Shows one bundle, as it was sealed.
pub(super) fn execute(sequence: u64, home: Option<&Path>, console: &Console) -> Result<Exit> {
    let reading = Reading::open(home, console)?;
    let (home, state) = (reading.home(), reading.state());
    let found = sealed(reading.view())?
        .into_iter()
        .find(|(_, bundle)| bundle.sequence == sequence);
    let (_, logged) = found.ok_or_else(|| {
        Error::usage(
            "BUNDLE-UNKNOWN",
            format!("this vault has sealed no bundle {sequence}"),
        )
        .hint("`site audit list` names those that it has")
    })?;
    let lineage = state
        .lineage()
        .ok_or_else(|| home.corrupt(LOG, "without a lineage"))?;
    let outbox = Outbox::open(home, lineage)?;
    let key = &reading.facts().identity.sign;
    let (_, bundle) = outbox.bundle(home, sequence, &logged.fingerprint, key)?;
    let bundle = bundle.content();
    let report = Report {
        schema: "mintmark/bundle/1",
        sequence,
        fingerprint: logged.fingerprint.to_string(),
        previous: bundle.previous.map(|previous| previous.to_string()),
        lineage: bundle.lineage.to_string(),
        log_size: bundle.checkpoint.size,
        log_root: bundle.checkpoint.root.to_string(),
        first: bundle.first,
        sealed_at: rfc3339(bundle.sealed_at),
        trust_version: bundle.trust_version,
        dispatch: bundle.dispatch_seen.map(|seen| DispatchSeen {
            epoch: seen.epoch,
            sequence: seen.sequence,
        }),
        acknowledged: sequence <= state.bundles().acknowledged,
        requests_unlogged: logged.requests_unlogged,
        segments: bundle
            .segments
            .iter()
            .map(|segment| Segment {
                first: segment.first,
                count: segment.count,
                bytes: segment.file_bytes,
                sha256: segment.file_digest.to_string(),
            })
            .collect(),
    };
    if console.is_json() {
        return json(console, &report);
    }
    let word = if report.acknowledged {
        "acknowledged"
    } else {
        "not acknowledged yet"
    };
    console.line(format!(
        "bundle {sequence}, sealed at {}, {word}",
        report.sealed_at
    ));
    console.line(format!("fingerprint  {}", report.fingerprint));
    console.line(format!("log          {} records", report.log_size));
    console.line(format!("root         {}", report.log_root));
    console.line(format!("brings       records from {} on", report.first));
    for segment in &report.segments {
        let Segment {
            first,
            count,
            bytes,
            sha256,
        } = segment;
        console.line(format!(
            "segment      {count} records from {first} on, {bytes} bytes"
        ));
        console.line(format!("sha256       {sha256}"));
    }
    Ok(Exit::Done)
}
