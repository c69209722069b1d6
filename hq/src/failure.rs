//! From the errors of the libraries to what a person reads, and to the exit code.

use std::fmt;

use mintmark_console::{Exit, Failure};
use mintmark_keys::{Class, Trouble};

/// A message was not believed, or could not be made.
pub(crate) fn protocol(error: mintmark_protocol::Error) -> Failure {
    use mintmark_protocol::Error as E;
    if let E::KeyOperation(cause) = error {
        return match cause.downcast::<mintmark_keys::Error>() {
            Ok(error) => keys(*error),
            Err(cause) => Failure::new(
                Exit::Environment,
                "KEY-OPERATION",
                "the key operation failed",
            )
            .cause(cause)
            .hint("run `hq doctor` to check the token"),
        };
    }
    let exit = match error {
        E::Identifier { .. } | E::Length { .. } | E::Hex { .. } => Exit::Usage,
        E::Random => Exit::Environment,
        _ => Exit::Negative,
    };
    Failure::new(exit, error.code(), error.to_string()).hint(error.hint())
}

/// A key store failed.
pub(crate) fn keys(error: mintmark_keys::Error) -> Failure {
    of_store(error.into())
}

/// What is wrong with a key store that was examined.
pub(crate) fn of_store(trouble: Trouble) -> Failure {
    let exit = match trouble.class {
        Class::Usage => Exit::Usage,
        Class::Integrity => Exit::Integrity,
        _ => Exit::Environment,
    };
    Failure::new(exit, trouble.code, trouble.message).hint_maybe(trouble.hint)
}

/// A certificate or request was not what it should be.
pub(crate) fn pki(error: mintmark_pki::Error) -> Failure {
    Failure::new(Exit::Negative, error.code(), error.to_string()).hint_maybe(error.hint())
}

/// What to do about a registry that is lost, older than the record, or broken.
pub(crate) const RECOVER: &str = "run `hq recover`, which makes the registry again from the record; an auditor's home is made \
     again from its grant, with `hq audit verify`";

/// The code of what the registry cannot hold beside what it has.
const CONTRADICTED: &str = "REGISTRY-CONTRADICTED";

/// The registry failed.
pub(crate) fn sql(error: rusqlite::Error) -> Failure {
    use rusqlite::ErrorCode;
    let (code, hint) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ("DISK-FULL", "free space on the disk of the home folder"),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("REGISTRY-BUSY", "wait until the other command is done")
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ("REGISTRY-CORRUPT", RECOVER),
        Some(ErrorCode::ConstraintViolation) => (CONTRADICTED, RECOVER),
        _ => ("REGISTRY-FAILED", "check the home folder and its disk"),
    };
    let exit = if ["REGISTRY-CORRUPT", CONTRADICTED].contains(&code) {
        Exit::Integrity
    } else {
        Exit::Environment
    };
    Failure::new(exit, code, "the registry could not be read or written")
        .cause(error)
        .hint(hint)
}

/// Something in the home folder contradicts something else there.
pub(crate) fn home_corrupt(what: impl fmt::Display) -> Failure {
    Failure::new(
        Exit::Integrity,
        "HOME-CORRUPT",
        format!("the home folder contradicts itself: {what}"),
    )
    .hint("stop using this home; restore it from a backup")
}

/// A command that does not fit the state that things are in.
pub(crate) fn usage(
    code: &'static str,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Exit::Usage, code, message).hint(hint)
}

/// An auditor's home is to look at: nothing in it changes, and it signs nothing.
pub(crate) fn home_of_auditor() -> Failure {
    usage(
        "HOME-AUDITOR",
        "this is an auditor's home, which is there to be looked at: it drafts, signs, sends and exports nothing",
        "run this with the home that `hq init` made; of a newer grant, `hq audit verify` makes another home",
    )
}

/// A backup that is not of headquarters' home.
pub(crate) fn backup_of_another(of: &mintmark_protocol::envelope::Party) -> Failure {
    mintmark_backup::Error::OfAnother {
        found: of.to_string(),
    }
    .into()
}

/// A negative verdict.
pub(crate) fn refused(
    code: &'static str,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Failure {
    Failure::new(Exit::Negative, code, message).hint(hint)
}
