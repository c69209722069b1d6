//! Failures inside this module, before it is known whether a new connection would cure them.

use cryptoki::error::{Error as CryptokiError, RvError};

use crate::error::Error;
use crate::return_value::{ReturnValue, explain};

/// What a call on a session came to.
#[derive(Debug)]
pub(super) enum Fault {
    /// The token answered with an error.
    Token {
        action: &'static str,
        error: CryptokiError,
    },
    /// The verdict stands, whatever the connection.
    Final(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Fault {
    /// For `map_err`: what was asked of the token when it failed.
    pub(super) fn while_(action: &'static str) -> impl Fn(CryptokiError) -> Self {
        move |error| Self::Token { action, error }
    }

    /// Whether sessions, login or handles were lost, so that connecting again may help.
    ///
    /// CKR_DEVICE_ERROR is among them because network tokens say it when their connection broke.
    pub(super) fn is_lost(&self) -> bool {
        matches!(
            self.rv(),
            Some(
                RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::UserNotLoggedIn
                    | RvError::DeviceRemoved
                    | RvError::DeviceError
                    | RvError::TokenNotPresent
                    | RvError::TokenNotRecognized
                    | RvError::SlotIdInvalid
                    | RvError::ObjectHandleInvalid
                    | RvError::KeyHandleInvalid
                    | RvError::CryptokiNotInitialized
            )
        )
    }

    /// The token's return value, if that is what failed.
    pub(super) fn rv(&self) -> Option<RvError> {
        match self {
            Self::Token {
                error: CryptokiError::Pkcs11(rv, _),
                ..
            } => Some(*rv),
            _ => None,
        }
    }

    /// What happened, for a sentence that has named the token.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Token { action, error } => format!("it failed to {action}: {}", explained(error)),
            Self::Final(error) => error.to_string(),
        }
    }

    pub(super) fn into_error(self, store: &str) -> Error {
        let (action, error) = match self {
            Self::Token { action, error } => (action, error),
            Self::Final(error) => return error,
        };
        let (store, reason, returned) = (store.into(), explained(&error), returned(&error));
        match returned.map(|value| value.code) {
            Some("MECHANISM-MISSING") => Error::MechanismMissing {
                store,
                action,
                reason,
            },
            Some("TOKEN-FULL") => Error::TokenFull { store, action },
            Some("TOKEN-WRITE-PROTECTED") => Error::TokenWriteProtected { store, action },
            Some("TOKEN-SESSIONS") => Error::TokenSessions { store },
            Some("PIN-EXPIRED") => Error::PinExpired { store },
            _ => Error::TokenFailed {
                store,
                action,
                reason,
                returned,
            },
        }
    }
}

/// What is known of the return value, if that is what failed.
pub(super) fn returned(error: &CryptokiError) -> Option<&'static ReturnValue> {
    match error {
        CryptokiError::Pkcs11(rv, _) => Some(explain(*rv)),
        _ => None,
    }
}

/// As [`reason`], with the likely cause.
pub(super) fn explained(error: &CryptokiError) -> String {
    match returned(error) {
        Some(value) => format!("{}: {}", reason(error), value.cause),
        None => reason(error),
    }
}

/// The name of the return value and of the function that gave it, such as `CKR_PIN_LOCKED from C_Login`.
pub(super) fn reason(error: &CryptokiError) -> String {
    match error {
        CryptokiError::Pkcs11(RvError::VendorDefined(value), function) => {
            format!("vendor error 0x{value:x} from C_{function:?}")
        }
        CryptokiError::Pkcs11(RvError::UnknownErrorCode(value), function) => {
            format!("unknown error 0x{value:x} from C_{function:?}")
        }
        CryptokiError::Pkcs11(rv, function) => {
            format!("{} from C_{function:?}", explain(*rv).name())
        }
        CryptokiError::NullFunctionPointer => "the module has no such function".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn return_values_are_named_as_the_standard_names_them() {
        let error = CryptokiError::Pkcs11(RvError::PinLocked, Function::Login);
        assert_eq!(reason(&error), "CKR_PIN_LOCKED from C_Login");
    }
}
