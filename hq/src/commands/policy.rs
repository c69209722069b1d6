//! `hq policy`: policies, as people write them.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_ledger::policy::{POLICY_BYTES_MAX, Policy as PolicyFile, PolicyError};

use crate::clock::now_unix;
use crate::failure;

/// Policies, as people write them.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Say in plain words what a policy allows, and what is odd about it. Needs no home.
    Check {
        /// The policy.
        file: PathBuf,
    },
}

impl Policy {
    pub(super) fn run(self, _home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let Self::Check { file } = self;
        let policy = read(&file)?;
        let now = now_unix();
        let words = policy.explain(now);
        let warnings = policy.warnings(now);
        for warning in &warnings {
            console.warn(format!("{} ({})", warning.text, warning.code));
        }
        let listed: Vec<_> = warnings
            .iter()
            .map(|warning| serde_json::json!({ "code": warning.code, "text": warning.text }))
            .collect();
        let json = serde_json::json!({
            "schema": "mintmark/policy/1",
            "file": file.display().to_string(),
            "policy": policy.summary(now),
            "words": words,
            "warnings": listed,
        });
        super::say(console, &json, words)
    }
}

/// Reads and parses a policy file.
pub(super) fn read(file: &Path) -> Result<PolicyFile, Failure> {
    let bytes = files::read_limited(file, POLICY_BYTES_MAX as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        failure::usage(
            "POLICY-SYNTAX",
            format!("{} is not UTF-8 text", file.display()),
            "save it as UTF-8",
        )
    })?;
    PolicyFile::parse(&text).map_err(|error| wrong(file, &error))
}

/// What is wrong with a policy, and in which file.
pub(super) fn wrong(file: &Path, error: &PolicyError) -> Failure {
    let message = format!("{}: {error}", file.display());
    Failure::new(Exit::Usage, error.code(), message).hint_maybe(error.hint())
}
