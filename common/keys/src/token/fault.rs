//! Failures inside this module, before it is known whether a new connection would cure them.

use cryptoki::error::{Error as CryptokiError, RvError};

use crate::error::Error;

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
            Self::Token { action, error } => format!("it failed to {action}: {}", reason(error)),
            Self::Final(error) => error.to_string(),
        }
    }

    pub(super) fn into_error(self, store: &str) -> Error {
        let lacks_mechanism = self.rv() == Some(RvError::MechanismInvalid);
        match self {
            Self::Token { action, error } if lacks_mechanism => Error::MechanismMissing {
                store: store.into(),
                action,
                reason: reason(&error),
            },
            Self::Token { action, error } => Error::TokenFailed {
                store: store.into(),
                action,
                reason: reason(&error),
            },
            Self::Final(error) => error,
        }
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
            format!("{} from C_{function:?}", constant(&format!("{rv:?}")))
        }
        CryptokiError::NullFunctionPointer => "the module has no such function".into(),
        other => other.to_string(),
    }
}

/// `PinLocked` to `CKR_PIN_LOCKED`: the names that manuals and search engines know.
fn constant(variant: &str) -> String {
    let mut name = String::from("CKR");
    for character in variant.chars() {
        if character.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
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
