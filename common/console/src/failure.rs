//! An error as a person reads it: what happened, why, and what to do next.

use crate::Exit;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

/// The code of a result that could not be written to standard output.
pub(crate) const OUTPUT_FAILED: &str = "OUTPUT-FAILED";

/// A command that did not do what was asked, ready to be shown.
///
/// ```
/// use mintmark_console::{Exit, Failure};
/// let failure = Failure::new(Exit::Negative, "QUOTA-EXHAUSTED", "no unit of TH-200 is left")
///     .cause("5000 of 5000 spent")
///     .hint("ask HQ for an amendment");
/// assert_eq!(failure.code, "QUOTA-EXHAUSTED");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a failure that is not reported is lost"]
pub struct Failure {
    /// The stable code, upper-case words joined by hyphens, that scripts and documents refer to.
    pub code: Cow<'static, str>,
    /// What happened, in one sentence without a full stop.
    pub message: String,
    /// Why it happened, where something underneath said so.
    pub cause: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// How the process ends because of it.
    pub exit: Exit,
}

impl Failure {
    /// A failure without cause and hint yet.
    pub fn new(exit: Exit, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            cause: None,
            hint: None,
            exit,
        }
    }

    /// Says why it happened.
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Says why it happened, with everything underneath that `error` names as its source.
    pub fn caused_by(self, error: &dyn Error) -> Self {
        let chain = cause_chain(error);
        self.cause(chain)
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what to do next, if there is something to say.
    pub fn hint_maybe(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }

    /// The result could not be written to standard output.
    ///
    /// The command itself may well have done its work by then, so the exit is [`Exit::Unknown`]: the reader does not
    /// know the outcome. Where the command said that it [only looks](crate::Console::only_looks), that is mended.
    pub fn output(error: &io::Error) -> Self {
        Self::new(
            Exit::Unknown,
            OUTPUT_FAILED,
            "the result could not be written to standard output",
        )
        .cause(error)
        .hint("the command itself may have done its work: look at the present state before running it again")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}

/// The message of `error` and of everything that it names as its source, joined by colons.
///
/// A message that already ends with its source's message is not said twice.
#[must_use]
pub fn cause_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let message = inner.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the token did not answer")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("the token did not answer: {0}")]
    struct Repeating(#[source] io::Error);

    #[test]
    fn the_cause_names_every_source_once() {
        let broken = || io::Error::other("the cable is out");
        let expected = "the token did not answer: the cable is out";
        assert_eq!(cause_chain(&Outer(broken())), expected);
        assert_eq!(cause_chain(&Repeating(broken())), expected);
    }

    #[test]
    fn a_failure_reads_as_code_message_and_cause() {
        let failure = Failure::new(Exit::Environment, "HSM-ABSENT", "no token named vault")
            .caused_by(&io::Error::other("slot list is empty"))
            .hint("plug it in");
        assert_eq!(
            failure.to_string(),
            "HSM-ABSENT: no token named vault: slot list is empty"
        );
        assert_eq!(failure.hint.as_deref(), Some("plug it in"));
    }

    #[test]
    fn no_hint_leaves_the_hint_that_was_there() {
        let failure = Failure::new(Exit::Usage, "X", "y")
            .hint("first")
            .hint_maybe(None::<String>);
        assert_eq!(failure.hint.as_deref(), Some("first"));
        assert_eq!(
            failure.hint_maybe(Some("second")).hint.as_deref(),
            Some("second")
        );
    }
}
