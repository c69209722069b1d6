//! `hq report`: reports that `hq reconcile --sign` sealed, checked without a home, a network or a key.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::report::REPORT_BYTES_MAX;
use serde_json::json;

use super::{expect_absent, say};
use crate::clock;
use crate::trust::expiry_warning;
use crate::verdict::Trusted;

#[derive(Debug, Subcommand)]
pub(super) enum Report {
    /// Check a sealed report, with nothing but a trust manifest whose fingerprint somebody compared.
    Verify {
        /// The sealed report.
        file: PathBuf,
        /// The trust manifest.
        #[arg(long, value_name = "F")]
        trust: PathBuf,
        /// Its fingerprint, as headquarters reads it out.
        #[arg(long, value_name = "HEX")]
        fingerprint: Fingerprint,
        /// A file to write the report itself to.
        #[arg(long, value_name = "F")]
        output: Option<PathBuf>,
    },
}

impl Report {
    pub(super) fn run(self, console: &Console) -> Result<Exit, Failure> {
        let Self::Verify {
            file,
            trust,
            fingerprint,
            output,
        } = self;
        verify(&file, (&trust, &fingerprint), output.as_deref(), console)
    }
}

fn verify(
    file: &Path,
    (trust, fingerprint): (&Path, &Fingerprint),
    output: Option<&Path>,
    console: &Console,
) -> Result<Exit, Failure> {
    let trusted = Trusted::read(trust, fingerprint)?;
    let newest = trusted.newest();
    if let Some(newest) = newest
        && let Some((code, text)) = expiry_warning(newest, clock::now_unix())
    {
        console.warn_coded(code, text);
    }
    if let Some(output) = output {
        expect_absent(output)?;
    }
    let bytes = files::read_limited(file, REPORT_BYTES_MAX as u64)?;
    let (sealed, version) = trusted.report(&bytes)?;
    let report = sealed.content();
    if let Some(output) = output {
        files::write_new(output, &report.content)?;
    }
    let digest = Fingerprint::of(&report.content);
    let is_newest = newest.is_some_and(|newest| newest.version == version);
    let json = json!({
        "schema": "mintmark/report-verdict/1",
        "verdict": "genuine",
        "made_at": rfc3339(report.made_at),
        "format": report.format.as_str(),
        "bytes": report.content.len(),
        "sha256": digest.to_string(),
        "fingerprint": sealed.fingerprint().to_string(),
        "trust_version": version,
        "trust_newest": is_newest,
        "file": output.map(|output| output.display().to_string()),
    });
    let by = match is_newest {
        true => format!("the report key of trust manifest {version}"),
        false => format!("the report key of trust manifest {version}, which is not the newest"),
    };
    let mut lines = vec![
        format!("verdict      genuine: sealed by {by}"),
        format!("made         {}", rfc3339(report.made_at)),
        format!(
            "form         {}, {} bytes",
            report.format,
            report.content.len()
        ),
        format!("sha-256      {digest}"),
    ];
    match output {
        Some(output) => lines.push(format!("file         {}", output.display())),
        None => console.note("--output F writes the report itself"),
    }
    say(console, &json, lines)
}
