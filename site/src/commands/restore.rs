//! `site restore`: a vault's home from a backup. Whether it is the newest is for the token to say, at the next command.

use std::path::Path;

use mintmark_backup::command::RestoreArguments;
use mintmark_backup::{Opened, Placing};
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_protocol::enrolment::{EnrolmentRequest, REQUEST_BYTES_MAX};
use mintmark_protocol::envelope::{Party, claim};

use crate::config::Config;
use crate::failure::{Error, Result};
use crate::home::{CONFIG, ENROLMENT, LOG, OUTBOX, RECEIVED, TRUST, locate};

const NEXT: [&str; 2] = [
    "`site recover`: the token says whether this is the newest copy",
    "if it is not, and there is no newer one: `site recover --declare-restore`; docs/recovery.md has every step",
];

pub(crate) fn execute(
    arguments: &RestoreArguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit> {
    let home = locate(home)?;
    Ok(arguments.run(&home, expect_vault, finish, &NEXT, console)?)
}

fn expect_vault(of: &Party) -> std::result::Result<(), Failure> {
    match of {
        Party::Vault(_) => Ok(()),
        other => Err(mintmark_backup::Error::OfAnother {
            found: other.to_string(),
        }
        .into()),
    }
}

/// What was in the backup is a home of the vault that it names, whose enrolment was signed by the same key.
fn finish(placing: &Placing, opened: &Opened) -> std::result::Result<(), Failure> {
    for folder in [LOG, OUTBOX, RECEIVED, TRUST] {
        placing.folder(folder)?;
    }
    let config = Config::from_toml(placing.config())?;
    let corrupt = |name: &str, what: &str| {
        let message = format!("{name} in the backup is {what}");
        Failure::from(Error::integrity("HOME-CORRUPT", message).hint(
            "take another backup, and keep this one: it was signed by the key that you named",
        ))
    };
    if Party::Vault(config.vault) != *opened.home() {
        return Err(corrupt(CONFIG, "of another vault"));
    }
    let bytes = files::read_limited(placing.path().join(ENROLMENT), REQUEST_BYTES_MAX as u64)?;
    let request = claim(&bytes, REQUEST_BYTES_MAX)
        .and_then(|claim| EnrolmentRequest::open(&bytes, &claim.fingerprint));
    match request {
        Ok(request) if request.content().signing_key == opened.backup().signer => Ok(()),
        _ => Err(corrupt(ENROLMENT, "not of the vault whose key signed it")),
    }
}
