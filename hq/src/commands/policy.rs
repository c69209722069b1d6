//! `hq policy`: policies, as people write them.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::files::Kind;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_ledger::policy::{POLICY_BYTES_MAX, Policy as PolicyFile, PolicyError};

use self::against::Trial;
use crate::clock::now_unix;
use crate::failure;
use crate::home::Home;

mod against;

/// Policies, as people write them.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Say in plain words what a policy allows, and what is odd about it. Needs no home but with --against.
    Check {
        /// The policy.
        file: PathBuf,
        /// Also say what it would have refused of what this site's vaults were asked; or one vault, as SITE/VAULT.
        #[arg(long, value_name = "SITE")]
        against: Option<String>,
    },
}

impl Policy {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let Self::Check { file, against } = self;
        let policy = read(&file)?;
        let now = now_unix();
        // What is wrong with the window is a warning here, and its error at the draft.
        if let Err(
            error @ (PolicyError::DeviceIds { .. }
            | PolicyError::Entitlement { .. }
            | PolicyError::Subject { .. }),
        ) = policy.check_compiles(now)
        {
            return Err(wrong(&file, &error));
        }
        let mut words = policy.explain(now);
        let warnings = policy.warnings(now);
        for warning in &warnings {
            console.warn_coded(warning.code, &warning.text);
        }
        let listed: Vec<_> = warnings
            .iter()
            .map(|warning| serde_json::json!({ "code": warning.code, "text": warning.text }))
            .collect();
        let mut json = serde_json::json!({
            "schema": "mintmark/policy/1",
            "file": file.display().to_string(),
            "policy": policy.summary(now),
            "words": words,
            "warnings": listed,
        });
        if let Some(named) = against {
            let trial = Trial::run(&Home::read_hq(home)?, &named, &policy, console)?;
            json["against"] = trial.to_json();
            words.extend(trial.words());
            json["words"] = words.as_slice().into();
        }
        super::say(console, &json, words)
    }
}

/// Reads and parses a policy file.
pub(super) fn read(file: &Path) -> Result<PolicyFile, Failure> {
    let bytes = files::read_limited(file, POLICY_BYTES_MAX as u64).map_err(|error| {
        if matches!(error.kind(), Kind::TooLarge { .. }) {
            let bytes = file.metadata().map_or(0, |file| file.len());
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            return wrong(file, &PolicyError::TooLarge { bytes });
        }
        error.into()
    })?;
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
