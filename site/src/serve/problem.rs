//! What a station is told when it does not get what it asked for: the codes and hints of the command line, under the status
//! of HTTP that fits.

use axum::body::Body;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use mintmark_console::{Exit, Failure};
use mintmark_ledger::refusal::Refusal;
use serde_json::{Value, json};

use super::desk::Unanswered;
use crate::failure::Error;

/// After how many seconds whoever met a service that is being stopped may come again.
const DRAINING_SECONDS: u64 = 5;

/// Why there is no answer, or why it is no.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// For the client's library.
    pub(crate) status: StatusCode,
    /// For people and their scripts.
    pub(crate) failure: Box<Failure>,
    /// When to come again, where that helps.
    pub(crate) retry_after_seconds: Option<u64>,
}

impl Problem {
    /// Nothing was spent, and the same request again comes to the same.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let exit = match status {
            StatusCode::FORBIDDEN
            | StatusCode::CONFLICT
            | StatusCode::NOT_FOUND
            | StatusCode::UNAUTHORIZED => Exit::Negative,
            status if status.is_server_error() => Exit::Environment,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Exit::Environment,
            _ => Exit::Usage,
        };
        Self {
            status,
            failure: Box::new(Failure::new(exit, code, message).hint(hint)),
            retry_after_seconds: None,
        }
    }

    /// A request that cannot be read.
    pub(crate) fn unreadable(error: mintmark_pki::Error) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            failure: Box::new(Error::from(error).into()),
            retry_after_seconds: None,
        }
    }

    /// The request has a form that nothing here has.
    pub(crate) fn malformed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "REQUEST-MALFORMED", message, hint)
    }

    /// Come again.
    pub(crate) fn later(failure: Failure, seconds: u64) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            failure: Box::new(failure),
            retry_after_seconds: Some(seconds.max(1)),
        }
    }

    /// The vault did not answer in the time that a client waits.
    pub(crate) fn unanswered_in(seconds: u64) -> Self {
        let message = format!("the vault did not answer within {seconds} seconds");
        let failure = Failure::new(Exit::Environment, "ANSWER-LATE", message).hint(
            "ask again with the same request: what was reserved for it meanwhile is given then, and nothing is spent twice",
        );
        Self::later(failure, 2)
    }

    fn headers(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1 wants a challenge; what is wanted is a certificate in the TLS handshake.
            let challenge = HeaderValue::from_static("ClientCertificate");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
    }

    /// The object that the command line writes under `--json`.
    pub(crate) fn to_json(&self) -> Value {
        let Failure {
            code,
            message,
            cause,
            hint,
            exit,
        } = &*self.failure;
        let mut error = json!({
            "code": code,
            "message": message,
            "cause": cause,
            "hint": hint,
            "exit_code": exit.code(),
        });
        if let (Some(seconds), Some(error)) = (self.retry_after_seconds, error.as_object_mut()) {
            error.insert("retry_after_seconds".to_owned(), seconds.into());
        }
        json!({ "error": error })
    }

    /// For a program.
    pub(crate) fn into_json(self) -> Response {
        let mut body = self.to_json().to_string();
        body.push('\n');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        self.headers(&mut response);
        response
    }

    /// For an EST client, which shows it to a person (RFC 7030 section 4.2.3), unless it asks for JSON.
    pub(crate) fn into_plain(self, request: &HeaderMap) -> Response {
        let accepts = request.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        if accepts.is_some_and(|accept| accept.contains("application/json")) {
            return self.into_json();
        }
        let Failure {
            code,
            message,
            cause,
            hint,
            ..
        } = &*self.failure;
        let cause = cause
            .as_ref()
            .map_or(String::new(), |cause| format!(": {cause}"));
        let hint = hint
            .as_ref()
            .map_or(String::new(), |hint| format!("hint: {hint}\n"));
        let body = format!("error[{code}]: {message}{cause}\n{hint}");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        self.headers(&mut response);
        response
    }
}

impl From<Unanswered> for Problem {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Busy {
                retry_after_seconds,
            } => {
                let message = "too many requests wait for the vault already";
                let hint = "ask again in a moment; fewer at a time are answered as fast, and nothing was spent";
                let failure = Failure::new(Exit::Environment, "SERVICE-BUSY", message).hint(hint);
                Self::later(failure, retry_after_seconds)
            }
            Unanswered::Unavailable {
                failure,
                retry_after_seconds,
            } => Self::later(failure, retry_after_seconds),
            Unanswered::Draining => {
                let message = "the service is being stopped";
                let failure = Failure::new(Exit::Environment, "SERVICE-STOPPING", message)
                    .hint("ask again when it is back; asking twice is free");
                Self::later(failure, DRAINING_SECONDS)
            }
        }
    }
}

impl From<&Refusal> for Problem {
    fn from(refusal: &Refusal) -> Self {
        let code = refusal.code().to_owned();
        let status = match &*code {
            "DEVICE-KEY-CHANGED" | "KEY-REUSED" => StatusCode::CONFLICT,
            "DEVICE-UNKNOWN" => StatusCode::NOT_FOUND,
            _ => StatusCode::FORBIDDEN,
        };
        let failure = Failure::new(Exit::Negative, code, refusal.to_string());
        Self {
            status,
            failure: Box::new(failure.hint(refusal.hint())),
            retry_after_seconds: None,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            failure: Box::new(error.into()),
            retry_after_seconds: None,
        }
    }
}
