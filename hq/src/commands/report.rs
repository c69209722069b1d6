//! `hq report`: reports that `hq reconcile --sign` sealed, checked without a home, a network or a key.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files, printable};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::report::REPORT_BYTES_MAX;
use serde_json::json;

use super::{expect_absent, say};
use crate::trust::expiry_warning;
use crate::verdict::Trusted;
use crate::{clock, failure};

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
        /// A file to write the report itself to. Exit 0 means genuine, by a key that is in use.
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
    if let Some(newest) = trusted.newest()
        && let Some((code, text)) = expiry_warning(newest, clock::now_unix())
    {
        console.warn_coded(code, text);
    }
    if let Some(output) = output {
        expect_absent(output)?;
    }
    let bytes = files::read_limited(file, REPORT_BYTES_MAX as u64)?;
    let sealed = trusted.report(&bytes)?;
    let (report, version) = (sealed.opened.content(), sealed.manifest.version);
    let given_up = sealed.successor;
    if let Some(successor) = given_up
        && report.made_at >= successor.issued_at
    {
        return Err(failure::refused(
            "REPORT-KEY-GIVEN-UP",
            format!(
                "the report is dated {} and sealed by the report key of trust manifest {version}, which manifest {} of {} \
                 gave up",
                rfc3339(report.made_at),
                successor.version,
                rfc3339(successor.issued_at)
            ),
            "believe nothing of it, and tell headquarters: whoever sealed it has a key that is out of use",
        ));
    }
    if let Some(output) = output {
        files::write_new(output, &report.content)?;
    }
    let digest = Fingerprint::of(&report.content);
    let verdict = match given_up {
        None => "genuine",
        Some(_) => "key-given-up",
    };
    let json = json!({
        "schema": "mintmark/report-verdict/1",
        "verdict": verdict,
        "hq_name": sealed.manifest.hq_name,
        "made_at": rfc3339(report.made_at),
        "format": report.format.as_str(),
        "bytes": report.content.len(),
        "sha256": digest.to_string(),
        "fingerprint": sealed.opened.fingerprint().to_string(),
        "trust_version": version,
        "trust_newest": given_up.is_none(),
        "key_given_up_at": given_up.map(|successor| rfc3339(successor.issued_at)),
        "file": output.map(|output| output.display().to_string()),
    });
    let said = match given_up {
        None => format!("genuine: sealed by the report key of trust manifest {version}"),
        Some(successor) => format!(
            "key given up: sealed by the report key of trust manifest {version}, which manifest {} of {} gave up; whoever \
             has that key dates a report as they like",
            successor.version,
            rfc3339(successor.issued_at)
        ),
    };
    let mut lines = vec![
        format!("verdict      {said}"),
        format!("of           {}", printable(&sealed.manifest.hq_name)),
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
    say(console, &json, lines)?;
    Ok(match given_up {
        None => Exit::Done,
        Some(_) => Exit::Negative,
    })
}
