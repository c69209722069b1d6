//! How the key store is, as it is seen without its PIN: what cannot be said about it is no reason to say nothing else.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mintmark_keys::{KeyUri, StoreHealth};
use serde::Serialize;

/// How long a token may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The key store.
#[derive(Serialize)]
pub(super) struct Store {
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
        let kind = match uri {
            KeyUri::Pkcs11(_) => "token",
            KeyUri::File(_) => "folder",
        };
        let nothing = |state, code: Option<String>, problem: String| Self {
            kind,
            state,
            name: None,
            code,
            problems: vec![problem],
        };
        match told.recv_timeout(PATIENCE) {
            Ok(Ok(health)) => Self::of(kind, &health),
            Ok(Err(error)) => nothing(
                "unreachable",
                Some(error.code().to_owned()),
                error.to_string(),
            ),
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                let problem = format!("it did not answer within {seconds} seconds");
                nothing("silent", None, problem)
            }
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

    pub(super) fn is_ok(&self) -> bool {
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
