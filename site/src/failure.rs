//! How every error becomes what the operator sees: code, cause, hint and exit code. The one such place.

use mintmark_console::{Exit, Failure, cause_chain, files};
use mintmark_ledger::StorageError;
use mintmark_ledger::refusal::Refusal;
use mintmark_ledger::storage_error::StorageErrorClass;

/// Why a command stopped, ready to be shown. It exists so that `?` works on the errors of every crate.
#[derive(Debug)]
pub(crate) struct Error(Failure);

/// What most of this crate returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Nothing was changed, and something around the program is in the way.
    pub(crate) fn environment(code: &'static str, message: impl Into<String>) -> Self {
        Self(Failure::new(Exit::Environment, code, message))
    }

    /// The command line or the configuration asks for something that cannot be.
    pub(crate) fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self(Failure::new(Exit::Usage, code, message))
    }

    /// The answer is no.
    pub(crate) fn negative(code: &'static str, message: impl Into<String>) -> Self {
        Self(Failure::new(Exit::Negative, code, message))
    }

    /// What is stored or received contradicts what is known.
    pub(crate) fn integrity(code: &'static str, message: impl Into<String>) -> Self {
        Self(Failure::new(Exit::Integrity, code, message))
    }

    /// Some of it may have happened.
    pub(crate) fn unknown(code: &'static str, message: impl Into<String>) -> Self {
        Self(Failure::new(Exit::Unknown, code, message))
    }

    /// Says what to do next.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self(self.0.hint(hint))
    }

    /// Says why it happened.
    pub(crate) fn cause(self, cause: impl std::fmt::Display) -> Self {
        Self(self.0.cause(cause))
    }

    /// Says which of many things it is about.
    pub(crate) fn about(self, what: &str) -> Self {
        let Failure { message, .. } = &self.0;
        let message = format!("{what}: {message}");
        Self(Failure { message, ..self.0 })
    }

    /// Says it in other words.
    pub(crate) fn saying(self, message: String) -> Self {
        Self(Failure { message, ..self.0 })
    }

    /// It may have been done. What shows that something was tampered with stays as grave as it is.
    pub(crate) fn outcome_unknown(self) -> Self {
        let exit = self.0.exit.worst(Exit::Unknown);
        Self(Failure { exit, ..self.0 })
    }

    /// Units are reserved and not signed for, so that the outcome is not known until that is completed. What shows that
    /// something was tampered with stays as grave as it is.
    pub(crate) fn leaving_open(self) -> Self {
        self.outcome_unknown().hint(
            "nothing is lost and no unit will be spent twice: put right what is named, then run `site recover`, or the \
             same command again",
        )
    }

    /// As [`Error::leaving_open`], where so many units are reserved and not signed for; else as it is.
    pub(crate) fn with_units_open(self, count: usize) -> Self {
        let units = match count {
            0 => return self,
            1 => "1 unit is".to_owned(),
            _ => format!("{count} units are"),
        };
        let message = format!("{units} reserved and not signed for: {}", self.0.message);
        self.saying(message).leaving_open()
    }

    /// It stays so until somebody changes the configuration.
    pub(crate) fn of_the_configuration(self) -> Self {
        let exit = Exit::Usage;
        Self(Failure { exit, ..self.0 })
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    /// How the process ends because of it.
    pub(crate) fn exit(&self) -> Exit {
        self.0.exit
    }

    /// What is shown.
    pub(crate) fn failure(&self) -> &Failure {
        &self.0
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl Error {
    /// What a file holds is its own fault, and not that of whoever typed a command.
    pub(crate) fn of_a_file(mut self) -> Self {
        if self.0.exit == Exit::Usage {
            self.0.exit = Exit::Negative;
        }
        self
    }
}

impl From<files::Error> for Error {
    fn from(error: files::Error) -> Self {
        Self(error.into())
    }
}

impl From<mintmark_protocol::Error> for Error {
    fn from(error: mintmark_protocol::Error) -> Self {
        use mintmark_protocol::Error as Protocol;
        let exit = match error {
            Protocol::Identifier { .. } | Protocol::Hex { .. } => Exit::Usage,
            // What the token said is what the operator has to know.
            Protocol::KeyOperation(source) => {
                return match source.downcast::<mintmark_keys::Error>() {
                    Ok(error) => (*error).into(),
                    Err(source) => {
                        Self::environment("KEY-OPERATION", "a key operation failed").cause(source)
                    }
                };
            }
            Protocol::Random => Exit::Environment,
            _ => Exit::Negative,
        };
        let failure = Failure::new(exit, error.code(), error.to_string());
        Self(failure.hint(error.hint()))
    }
}

/// How a command ends because of what is wrong with keys.
fn exit_of_keys(class: mintmark_keys::Class) -> Exit {
    use mintmark_keys::Class;
    match class {
        Class::Usage => Exit::Usage,
        Class::Integrity => Exit::Integrity,
        Class::Environment | Class::Internal => Exit::Environment,
    }
}

impl Error {
    /// What is wrong with a key store that was examined.
    pub(crate) fn of_store(trouble: mintmark_keys::Trouble) -> Self {
        let exit = exit_of_keys(trouble.class);
        Self(Failure::new(exit, trouble.code, trouble.message).hint_maybe(trouble.hint))
    }
}

impl From<mintmark_keys::Error> for Error {
    fn from(error: mintmark_keys::Error) -> Self {
        let exit = exit_of_keys(error.class());
        Self(Failure::new(exit, error.code(), cause_chain(&error)).hint_maybe(error.hint()))
    }
}

impl From<mintmark_pki::Error> for Error {
    fn from(error: mintmark_pki::Error) -> Self {
        let failure = Failure::new(Exit::Negative, error.code(), error.to_string());
        Self(failure.hint_maybe(error.hint()))
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        let failure = Failure::new(exit_of(error.class()), error.code(), cause_chain(&error));
        Self(failure.hint_maybe(error.hint()))
    }
}

impl From<mintmark_ledger::Error> for Error {
    fn from(error: mintmark_ledger::Error) -> Self {
        let failure = Failure::new(exit_of(error.class()), error.code(), cause_chain(&error));
        Self(failure.hint_maybe(error.hint()))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.code().to_owned();
        let failure = Failure::new(Exit::Negative, code, refusal.to_string());
        Self(failure.hint(refusal.hint()))
    }
}

fn exit_of(class: StorageErrorClass) -> Exit {
    match class {
        StorageErrorClass::Environment => Exit::Environment,
        StorageErrorClass::Integrity => Exit::Integrity,
        // A call that the ledger does not allow is a defect of ours: nobody knows what else went wrong.
        _ => Exit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_token_is_named_and_not_the_message_that_needed_it() {
        let token = mintmark_keys::Error::PinEmpty {
            store: "the token".to_owned(),
        };
        let error = Error::from(mintmark_protocol::Error::KeyOperation(Box::new(token)));
        assert_eq!(
            (error.code(), error.exit()),
            ("PIN-EMPTY", Exit::Environment)
        );
    }

    #[test]
    fn a_bad_signature_is_a_negative_verdict_and_a_bad_name_a_mistyped_one() {
        let signature = mintmark_protocol::Error::SignatureInvalid { what: "dispatch" };
        assert_eq!(Error::from(signature).exit(), Exit::Negative);
        let name = "Berlin".parse::<mintmark_protocol::identifier::SiteId>();
        assert_eq!(name.map_err(|e| Error::from(e).exit()), Err(Exit::Usage));
    }
}
