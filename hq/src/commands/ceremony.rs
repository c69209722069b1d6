//! `hq ceremony`: what was done, written down by the tool that did it, and sealed.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files, printable};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::transcript::{TRANSCRIPT_BYTES_MAX, Transcript};
use serde_json::json;

use super::{expect_absent, say};
use crate::home::Home;
use crate::keyring::{self, Keyring, REPORT};
use crate::transcript::{self, Held};
use crate::verdict::Trusted;
use crate::{failure, trust};

/// Transcripts of ceremonies.
#[derive(Debug, Subcommand)]
pub(super) enum Ceremony {
    /// Begin a transcript, in the file that --transcript or HQ_TRANSCRIPT names: every later command adds itself.
    Begin {
        /// What the ceremony is for.
        #[arg(long, value_name = "TEXT")]
        purpose: String,
        /// Somebody who is there; once for each of them.
        #[arg(long, value_name = "NAME", required = true)]
        present: Vec<String>,
    },
    /// Add what somebody says or sees.
    Note {
        /// What.
        text: String,
    },
    /// Seal the transcript with the report key; nothing is added to it any more. Once more, it gives the same.
    End {
        /// The file that is written.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check a sealed transcript, with nothing but a trust manifest whose fingerprint somebody compared, and show it.
    Verify {
        /// The sealed transcript.
        file: PathBuf,
        /// The trust manifest.
        #[arg(long, value_name = "F")]
        trust: PathBuf,
        /// Its fingerprint, as headquarters reads it out.
        #[arg(long, value_name = "HEX")]
        fingerprint: Fingerprint,
    },
}

impl Ceremony {
    /// Whether it changes nothing.
    pub(super) fn only_looks(&self) -> bool {
        matches!(self, Self::Verify { .. })
    }

    pub(super) fn run(
        self,
        home: Option<&Path>,
        transcript: Option<&Path>,
        console: &Console,
    ) -> Result<Exit, Failure> {
        let named = || {
            transcript.ok_or_else(|| {
                failure::usage(
                    "TRANSCRIPT-UNSET",
                    "no transcript is named",
                    "give --transcript FILE or set HQ_TRANSCRIPT",
                )
            })
        };
        match self {
            Self::Begin { purpose, present } => begin(named()?, &purpose, &present, console),
            Self::Note { text } => {
                transcript::note(named()?, &text)?;
                let json = json!({ "schema": "mintmark/ceremony-note/1", "note": text });
                say(console, &json, [format!("noted: {}", printable(&text))])
            }
            Self::End { output } => end(home, named()?, &output, console),
            Self::Verify {
                file,
                trust,
                fingerprint,
            } => verify(&file, (&trust, &fingerprint), console),
        }
    }
}

fn begin(
    path: &Path,
    purpose: &str,
    present: &[String],
    console: &Console,
) -> Result<Exit, Failure> {
    transcript::begin(path, purpose, present)?;
    let json = json!({
        "schema": "mintmark/ceremony-begin/1",
        "transcript": path.display().to_string(),
        "purpose": purpose,
        "present": present,
    });
    let lines = [
        format!("transcript  {}", path.display()),
        format!("purpose     {purpose}"),
        format!("present     {}", present.join(", ")),
    ];
    say(console, &json, lines)
}

fn end(
    home: Option<&Path>,
    path: &Path,
    output: &Path,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    home.expect_own()?;
    expect_absent(output)?;
    // Nothing is added, and nobody else seals it, until this is over.
    let held = Held::open(path)?;
    let transcript = held.transcript()?;
    let signer = Keyring::new(&home.config, console)?.signer(REPORT)?;
    // Whoever checks it later goes by the manifest. There is none before the first one is published.
    if let Some(newest) = trust::newest(&home)?
        && newest.content().report_key != *signer.public_key()
    {
        return Err(failure::usage(
            "KEY-NOT-LISTED",
            "the key `report` is not the one that the trust manifest names",
            "publish the manifest that lists it, then run this again",
        ));
    }
    let bytes = transcript
        .seal(signer.public_key(), &keyring::sign(&*signer))
        .map_err(failure::protocol)?;
    let fingerprint = Fingerprint::of(&transcript.to_cbor()).to_string();
    // What is let out is what the file says from then on; whoever ends it once more gets the same.
    held.end(&fingerprint, transcript.sealed_at)?;
    files::write_public_new(output, &bytes).map_err(|error| {
        let message = format!(
            "the transcript is over, but {} was not written",
            output.display()
        );
        Failure::new(Exit::Unknown, "TRANSCRIPT-NOT-WRITTEN", message)
            .caused_by(&error)
            .hint(
                "run this again with an --output that can be written: it gives the same transcript",
            )
    })?;
    let json = json!({
        "schema": "mintmark/ceremony-end/1",
        "file": output.display().to_string(),
        "fingerprint": fingerprint,
        "entries": transcript.entries.len(),
        "sealed_at": rfc3339(transcript.sealed_at),
    });
    let lines = [
        format!("file         {}", output.display()),
        format!("entries      {}", transcript.entries.len()),
        format!("fingerprint  {fingerprint}"),
        "read the fingerprint aloud; everybody who is there writes it down".to_owned(),
    ];
    say(console, &json, lines)
}

fn verify(
    file: &Path,
    (trust, fingerprint): (&Path, &Fingerprint),
    console: &Console,
) -> Result<Exit, Failure> {
    let trusted = Trusted::read(trust, fingerprint)?;
    let bytes = files::read_limited(file, TRANSCRIPT_BYTES_MAX as u64)?;
    let sealed = trusted.by_report_key(|key| Transcript::open(&bytes, key))?;
    let transcript = sealed.opened.content();
    let entries = transcript.entries.iter();
    let json = json!({
        "schema": "mintmark/transcript/1",
        "fingerprint": sealed.opened.fingerprint().to_string(),
        "trust_version": sealed.manifest.version,
        "sealed_at": rfc3339(transcript.sealed_at),
        "purpose": transcript.purpose,
        "present": transcript.present,
        "entries": entries.clone().map(|entry| json!({
            "time": rfc3339(entry.time),
            "command": entry.command,
            "exit_code": entry.exit,
            "text": entry.text,
        })).collect::<Vec<_>>(),
    });
    let mut lines = vec![
        format!(
            "genuine: sealed at {} by the report key of trust manifest {}",
            rfc3339(transcript.sealed_at),
            sealed.manifest.version
        ),
        format!("fingerprint  {}", sealed.opened.fingerprint()),
        format!("purpose      {}", printable(&transcript.purpose)),
        format!("present      {}", printable(&transcript.present.join(", "))),
    ];
    for entry in entries {
        lines.push(String::new());
        let ended = match entry.exit {
            0 => String::new(),
            exit => format!("  (exit {exit})"),
        };
        lines.push(format!(
            "{}  {}{ended}",
            rfc3339(entry.time),
            printable(&entry.command)
        ));
        let said = entry.text.lines();
        lines.extend(said.map(|line| format!("    {}", printable(line))));
    }
    say(console, &json, lines)
}
