//! What somebody may have meant who typed a command of the other tool, or gave a command a file that another one takes.

use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, Failure, Neighbour, files};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::recognised::{RECOGNISED_BYTES_MAX, Recognised};

/// Headquarters' tool, and what it has that this one has not.
pub(crate) const NEIGHBOUR: Neighbour = Neighbour {
    tool: "hq",
    whose: "headquarters",
    commands: &[
        "officer request",
        "officer add",
        "officer list",
        "officer show",
        "officer remove",
        "trust draft",
        "trust epoch",
        "trust show",
        "trust publish",
        "trust escrow",
        "trust pin",
        "approval list",
        "approval show",
        "approval sign",
        "approval import",
        "site enrol",
        "site rotate",
        "site succeed",
        "site disable",
        "site revoke",
        "site reanchor",
        "site clock",
        "site grant",
        "site next",
        "site list",
        "site show",
        "policy check",
        "entitlement draft",
        "entitlement amend",
        "entitlement credit",
        "entitlement revoke",
        "entitlement export",
        "audit key",
        "audit grant",
        "audit fork",
        "ceremony begin",
        "ceremony note",
        "ceremony end",
        "ceremony verify",
        "reconcile",
        "report verify",
        "device dossier",
        "device verify",
        "device revoke",
        "device sweep",
        "ca list",
        "ca show",
        "ca export",
        "status export",
    ],
};

/// A file that a command was given, and which files it takes there.
pub(crate) type Given = (PathBuf, fn(Recognised) -> bool);

/// What came of a command, with a word about a file that is none of those that it takes.
pub(crate) fn explain(
    done: Result<Exit, Failure>,
    given: &[Given],
    console: &Console,
) -> Result<Exit, Failure> {
    match done {
        Ok(Exit::Done) => Ok(Exit::Done),
        // Requests are refused one by one, and the command itself does not fail.
        Ok(exit) => {
            if let Some((path, correction)) = found(given) {
                console.note(format!("{}: {correction}", path.display()));
            }
            Ok(exit)
        }
        Err(failure) => Err(match found(given) {
            Some((path, correction)) => {
                failure.hint(format!("look at {}: {correction}", path.display()))
            }
            None => failure,
        }),
    }
}

fn found(given: &[Given]) -> Option<(&Path, String)> {
    given.iter().find_map(|(path, takes)| {
        let bytes = files::read_limited(path, RECOGNISED_BYTES_MAX as u64).ok()?;
        Some((path.as_path(), Recognised::correction(&bytes, takes)?))
    })
}

pub(crate) fn is_request(found: Recognised) -> bool {
    found == Recognised::CertificationRequest
}

/// One that is not approved yet is told by what it lacks.
pub(crate) fn is_trust(found: Recognised) -> bool {
    found == Recognised::Approved(Kind::TrustManifest)
}
