//! How the key store is, as it is seen without its PIN: what cannot be said about it is no reason to say nothing else.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mintmark_keys::{KeyUri, StoreHealth};
use serde::Serialize;

/// How long a token may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The key store.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Store {
    /// `token` or `folder`.
    kind: &'static str,
    /// `ok`, `trouble`, `unreachable` or `silent`.
    state: &'static str,
    /// What it is called.
    name: Option<String>,
    /// Why it cannot be reached: the code of the error.
    code: Option<String>,
    /// What somebody should look at, a sentence each, the worst first.
    problems: Vec<String>,
}

impl Store {
    /// Looks at it, for so long and no longer.
    pub(super) fn look(uri: &KeyUri) -> Self {
        let (tell, told) = mpsc::channel();
        let asked = uri.clone();
        // A module that hangs holds this thread until the process ends.
        thread::spawn(move || {
            let _ = tell.send(mintmark_keys::health(&asked));
        });
        match told.recv_timeout(PATIENCE) {
            Ok(health) => Self::found(uri, health),
            Err(_) => Self::silent(uri),
        }
    }

    /// What was found.
    pub(crate) fn found(
        uri: &KeyUri,
        health: std::result::Result<StoreHealth, mintmark_keys::Error>,
    ) -> Self {
        match health {
            Ok(health) => Self::of(kind(uri), &health),
            Err(error) => {
                let code = Some(error.code().to_owned());
                Self::nothing(uri, "unreachable", code, error.to_string())
            }
        }
    }

    /// It does not answer.
    pub(crate) fn silent(uri: &KeyUri) -> Self {
        let seconds = PATIENCE.as_secs();
        let problem = format!("it did not answer within {seconds} seconds");
        Self::nothing(uri, "silent", None, problem)
    }

    fn nothing(uri: &KeyUri, state: &'static str, code: Option<String>, problem: String) -> Self {
        Self {
            kind: kind(uri),
            state,
            name: None,
            code,
            problems: vec![problem],
        }
    }

    fn of(kind: &'static str, health: &StoreHealth) -> Self {
        let problems = health.problems();
        Self {
            kind,
            state: if problems.is_empty() { "ok" } else { "trouble" },
            name: Some(health.facts().label.clone()),
            code: None,
            problems,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.state == "ok"
    }

    /// In words, the first of the problems among them.
    pub(super) fn words(&self) -> String {
        let name = self
            .name
            .as_deref()
            .map_or(String::new(), |name| format!(" {name}"));
        let kind = self.kind;
        match self.problems.first() {
            None => format!("{kind}{name} is there (its PIN was not asked for)"),
            Some(problem) => format!("{kind}{name}: {problem}"),
        }
    }
}

fn kind(uri: &KeyUri) -> &'static str {
    match uri {
        KeyUri::Pkcs11(_) => "token",
        KeyUri::File(_) => "folder",
    }
}
