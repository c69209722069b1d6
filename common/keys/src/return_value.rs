//! What a PKCS#11 module's return values mean to whoever has to put things right: the likely cause, and what to do.
//!
//! docs/pkcs11.md shows the same table; a test holds the two together.

use cryptoki::error::RvError;

/// One return value other than CKR_OK (PKCS #11 version 3.1 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnValue {
    variant: &'static str,
    /// The stable code of the error that it becomes, where nothing more particular is known.
    pub code: &'static str,
    /// The likely cause.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl ReturnValue {
    /// Its name in the standard, such as `CKR_PIN_LOCKED`.
    pub fn name(&self) -> String {
        constant(self.variant)
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

/// The table, and the way into it. A return value that the binding knows and this table does not would not compile.
macro_rules! return_values {
    ($($variant:ident $(($number:pat))? $code:literal $cause:literal $remedy:literal)*) => {
        /// Every return value that the binding knows, in its order.
        pub const RETURN_VALUES: &[ReturnValue] = &[
            $(ReturnValue {
                variant: stringify!($variant),
                code: $code,
                cause: $cause,
                remedy: $remedy,
            },)*
        ];

        /// What this return value means.
        pub(crate) fn explain(rv: RvError) -> &'static ReturnValue {
            match rv {
                $(RvError::$variant $(($number))? => &ReturnValue {
                    variant: stringify!($variant),
                    code: $code,
                    cause: $cause,
                    remedy: $remedy,
                },)*
            }
        }
    };
}

return_values! {
    Cancel "TOKEN-FAILED"
        "somebody cancelled at the token's own keypad, or its driver did"
        "run the command again, and confirm at the token"
    HostMemory "TOKEN-FAILED"
        "the module got no memory of this machine"
        "free memory, or raise the service's limit, then run the command again"
    SlotIdInvalid "TOKEN-GONE"
        "the reader or slot is not there any more"
        "plug the reader in again; where the key URI has slot-id=, name the token by token= and serial= instead"
    GeneralError "TOKEN-FAILED"
        "the module failed and does not say at what: its configuration, its files or its service"
        "look at the module's own log; check its configuration file (SoftHSM: SOFTHSM2_CONF) and the rights to its files"
    FunctionFailed "TOKEN-FAILED"
        "the token failed at this one operation, and may succeed at the next"
        "run the command again; if it stays, look at the module's own log"
    ArgumentsBad "TOKEN-FAILED"
        "the module takes a parameter in another form than the standard has it"
        "update the token's module; report it with the module's version if it stays"
    NoEvent "TOKEN-FAILED"
        "the module answers a question about slots that was not asked"
        "update the token's module"
    NeedToCreateThreads "MODULE-FAILED"
        "the module needs threads of its own, which it was told it may have"
        "update the token's module"
    CantLock "MODULE-FAILED"
        "the module does not work with several threads"
        "update the token's module: this program needs one that is safe with threads"
    AttributeReadOnly "TOKEN-FAILED"
        "the token does not let an attribute be set that keys are made with here"
        "check the token's policy for keys that are made on it; use another token if it cannot be changed"
    AttributeSensitive "TOKEN-FAILED"
        "the token keeps back what it should show, such as a public key or an agreed secret"
        "check the token's policy (FIPS modes forbid to read an agreed secret), or use another token"
    AttributeTypeInvalid "TOKEN-FAILED"
        "the token does not know an attribute that keys are made with here"
        "update the token's firmware and module, or use another token"
    AttributeValueInvalid "TOKEN-FAILED"
        "the token does not take a value that keys are made with here: the curve P-256, say, or a long label"
        "see in doctor which operation fails; update the token's firmware and module, or use another token"
    ActionProhibited "TOKEN-FAILED"
        "the token's policy forbids it, or the object may not be copied or destroyed"
        "have the token's administrator allow it, or use another token"
    DataInvalid "TOKEN-FAILED"
        "the token refuses what it was given to work on"
        "update the token's module; if a delivered key is concerned, have headquarters send it again"
    DataLenRange "TOKEN-FAILED"
        "the token takes no data of this length: some sign no hash of 32 bytes with this key"
        "check that the key is on P-256; update the token's module"
    DeviceError "TOKEN-GONE"
        "the token, or the way to it, failed: a network token says this when its connection broke"
        "check cable, network and the token's service, then run the command again"
    DeviceMemory "TOKEN-FULL"
        "the token has no room for another object"
        "remove what it does not need with its own tool, or use a larger one"
    DeviceRemoved "TOKEN-GONE"
        "the token was pulled out"
        "plug it in; a service finds it by itself, any other command is run again"
    EncryptedDataInvalid "TOKEN-FAILED"
        "what was to be decrypted is damaged, or was encrypted to another key"
        "compare the transport key that headquarters has with the token's, and have the key sent again"
    EncryptedDataLenRange "TOKEN-FAILED"
        "what was to be decrypted was encrypted to a key of another size"
        "compare the transport key that headquarters has with the token's, and have the key sent again"
    FunctionCanceled "TOKEN-FAILED"
        "the operation was broken off, at the token or by its driver"
        "run the command again"
    FunctionNotParallel "TOKEN-FAILED"
        "the module is of a version of the standard that ended in 1999"
        "update the token's module"
    FunctionNotSupported "TOKEN-FAILED"
        "the module does not have this function at all"
        "update the token's module, or use another token; where a module passes calls on, use the token's own"
    CurveNotSupported "TOKEN-FAILED"
        "the token does not know the curve P-256"
        "enable the curve in the token's configuration, or use another token"
    KeyHandleInvalid "TOKEN-GONE"
        "the key went away while it was in use: it was removed, or the token was reset"
        "run the command again; if the key is missing then, find out who removed it"
    KeySizeRange "TOKEN-FAILED"
        "the token makes or takes no key of this size"
        "check the token's policy; use a token that has P-256, and RSA of 3072 bits where it is to unwrap keys"
    KeyTypeInconsistent "TOKEN-FAILED"
        "the key is of another type than the operation needs"
        "find out who made the key of this label, and use a store with a proper key"
    KeyNotNeeded "TOKEN-FAILED"
        "the module was given a key where it wants none"
        "update the token's module"
    KeyChanged "TOKEN-FAILED"
        "a key is not the one with which an operation began"
        "run the command again; find out who else uses the token"
    KeyNeeded "TOKEN-FAILED"
        "the module wants a key where the standard asks for none"
        "update the token's module"
    KeyIndigestible "TOKEN-FAILED"
        "the token cannot hash its own key"
        "update the token's module"
    KeyFunctionNotPermitted "TOKEN-FAILED"
        "the key's attributes, or the token's policy for it, forbid the operation"
        "find out how the key was made: keys of this program are made for their one purpose by `init`"
    KeyNotWrappable "TOKEN-FAILED"
        "the token does not wrap this key"
        "nothing here wraps keys out of a token: report it"
    KeyUnextractable "TOKEN-FAILED"
        "the key may not leave the token, as it should be"
        "nothing here takes keys out of a token: report it"
    MechanismInvalid "MECHANISM-MISSING"
        "the token does not have this mechanism, or what passes calls on to it leaves it out (p11-kit 0.24 does so with ECDH)"
        "run the command where the token is, through its own module; enable the mechanism in the token's policy"
    MechanismParamInvalid "TOKEN-FAILED"
        "the token takes no such parameters of a mechanism that it has, such as a hash function of OAEP"
        "update the token's module; doctor shows which variants work"
    ObjectHandleInvalid "TOKEN-GONE"
        "an object went away while it was in use"
        "run the command again; find out who else changes the token"
    OperationActive "TOKEN-FAILED"
        "an operation that failed before left its session busy"
        "run the command again; a service opens another session by itself"
    OperationNotInitialized "TOKEN-FAILED"
        "the token forgot the operation that had begun, as after a reset"
        "run the command again"
    PinIncorrect "PIN-INCORRECT"
        "the PIN is not the token's"
        "correct it before the next try: it is not tried again by itself, and a token counts tries"
    PinInvalid "PIN-INCORRECT"
        "the PIN has characters that no PIN of this token has"
        "check the file that pin-source names for blanks, line ends and other encodings than UTF-8"
    PinLenRange "PIN-INCORRECT"
        "the PIN is shorter or longer than any PIN of this token"
        "check the file that pin-source names; some tokens want an identifier before the PIN (YubiHSM: four digits)"
    PinExpired "PIN-EXPIRED"
        "the PIN is too old, or still the maker's, and has to be changed"
        "change it with the token's own tool (pkcs11-tool --change-pin), then put the new one into the PIN file"
    PinLocked "PIN-LOCKED"
        "too many wrong PINs were tried"
        "have the token's security officer set a new one (pkcs11-tool --login --login-type so --init-pin)"
    SessionClosed "TOKEN-GONE"
        "the session was closed by somebody else: the token was pulled out, or its service started again"
        "run the command again"
    SessionCount "TOKEN-SESSIONS"
        "no session is free: other programs hold all that the token has"
        "end the programs that use this token, or raise its number of sessions"
    SessionHandleInvalid "TOKEN-GONE"
        "the session ended: the token was pulled out, or its service started again"
        "run the command again"
    SessionParallelNotSupported "TOKEN-FAILED"
        "the module is of a version of the standard that ended in 1999"
        "update the token's module"
    SessionReadOnly "TOKEN-WRITE-PROTECTED"
        "the token gives only sessions that change nothing"
        "take the write protection off, or use another token"
    SessionExists "TOKEN-FAILED"
        "somebody initialises the token while it is in use"
        "wait until that is done, and find out who it is"
    SessionReadOnlyExists "TOKEN-FAILED"
        "the token's security officer cannot log in beside sessions that only read"
        "end the programs that use this token, then run the command again"
    SessionReadWriteSoExists "TOKEN-FAILED"
        "the token's security officer is logged in, in this very process"
        "end what manages the token, then run the command again"
    SignatureInvalid "TOKEN-FAILED"
        "the token calls a signature wrong"
        "report it: nothing here has a token verify"
    SignatureLenRange "TOKEN-FAILED"
        "the token calls a signature too short or too long"
        "report it: nothing here has a token verify"
    TemplateIncomplete "TOKEN-FAILED"
        "the token wants an attribute that keys are made without here"
        "update the token's module, or use another token"
    TemplateInconsistent "TOKEN-FAILED"
        "the token does not make or keep keys with these attributes together: sensitive, not extractable, for one purpose"
        "check the token's policy (some forbid keys from outside, or session keys); doctor shows which operation fails"
    TokenNotPresent "TOKEN-GONE"
        "there is no token in the slot"
        "plug it in, then run the command again"
    TokenNotRecognized "TOKEN-GONE"
        "the module does not recognise what is in the slot"
        "check that module-path names the module of this very token, and that it sits well in its reader"
    TokenWriteProtected "TOKEN-WRITE-PROTECTED"
        "the token takes no change"
        "take the write protection off, or use another token"
    UnwrappingKeyHandleInvalid "TOKEN-FAILED"
        "the transport key went away while it was in use"
        "run the command again; if the key is missing then, find out who removed it"
    UnwrappingKeySizeRange "TOKEN-FAILED"
        "the token unwraps with no key of this size"
        "use a token that unwraps with RSA of 3072 bits, or allow memory_import in the policy"
    UnwrappingKeyTypeInconsistent "TOKEN-FAILED"
        "the transport key is of another type than the mechanism needs"
        "find out who made the key vault-transport"
    UserAlreadyLoggedIn "TOKEN-FAILED"
        "this process is logged in already, which is no failure here"
        "report it"
    UserNotLoggedIn "TOKEN-GONE"
        "the token logged this program out: it was reset, or somebody else in the process did so"
        "run the command again; the PIN is asked for or read anew"
    UserPinNotInitialized "PIN-NOT-INITIALISED"
        "the token has no user PIN yet"
        "have its security officer set one (pkcs11-tool --login --login-type so --init-pin)"
    UserTypeInvalid "TOKEN-FAILED"
        "the token knows no ordinary user"
        "check that module-path names the right module"
    UserAnotherAlreadyLoggedIn "TOKEN-FAILED"
        "the token's security officer is logged in, and it takes one user at a time"
        "end what manages the token, then run the command again"
    UserTooManyTypes "TOKEN-FAILED"
        "more kinds of user are logged in than the token takes"
        "end what manages the token, then run the command again"
    WrappedKeyInvalid "TOKEN-FAILED"
        "the wrapped key is damaged, or was wrapped to another transport key"
        "compare the transport key that headquarters has with the token's, and have the key sent again"
    WrappedKeyLenRange "TOKEN-FAILED"
        "the wrapped key was wrapped to a transport key of another size"
        "compare the transport key that headquarters has with the token's, and have the key sent again"
    WrappingKeyHandleInvalid "TOKEN-FAILED"
        "a key to wrap with went away while it was in use"
        "nothing here wraps keys in a token: report it"
    WrappingKeySizeRange "TOKEN-FAILED"
        "the token wraps with no key of this size"
        "nothing here wraps keys in a token: report it"
    WrappingKeyTypeInconsistent "TOKEN-FAILED"
        "a key to wrap with is of the wrong type"
        "nothing here wraps keys in a token: report it"
    RandomSeedNotSupported "TOKEN-FAILED"
        "the token's generator takes no seed"
        "nothing here seeds a token: report it"
    RandomNoRng "TOKEN-FAILED"
        "the token has no generator of random numbers"
        "use another token"
    DomainParamsInvalid "TOKEN-FAILED"
        "the token does not take the curve P-256 by its identifier"
        "enable the curve in the token's configuration, update its module, or use another token"
    BufferTooSmall "TOKEN-FAILED"
        "the module changed its mind about the length of an answer"
        "update the token's module"
    SavedStateInvalid "TOKEN-FAILED"
        "the module was given a saved state that is none"
        "nothing here saves states: report it"
    InformationSensitive "TOKEN-FAILED"
        "the token keeps back what it was asked for"
        "check the token's policy, or use another token"
    StateUnsaveable "TOKEN-FAILED"
        "the module cannot save the state of an operation"
        "nothing here saves states: report it"
    CryptokiNotInitialized "TOKEN-GONE"
        "the module was stopped by something else in this process"
        "run the command again"
    CryptokiAlreadyInitialized "MODULE-FAILED"
        "the module was started by something else in this process, which is no failure here"
        "report it"
    MutexBad "MODULE-FAILED"
        "the module has a fault in its own locks"
        "update the token's module"
    MutexNotLocked "MODULE-FAILED"
        "the module has a fault in its own locks"
        "update the token's module"
    NewPinMode "PIN-EXPIRED"
        "the token wants a new PIN before anything else"
        "set one with the token's own tool, then put it into the PIN file"
    NextOtp "TOKEN-FAILED"
        "the token wants the next one-time password"
        "use a token that takes a PIN: nobody is there to type at every login"
    ExceededMaxIterations "TOKEN-FAILED"
        "the token gave up in making domain parameters"
        "update the token's module: nothing here has it make any"
    FipsSelfTestFailed "TOKEN-FAILED"
        "the token failed its own test, and does nothing any more"
        "reset or restart it; if it fails again, stop using it and have it replaced"
    LibraryLoadFailed "MODULE-FAILED"
        "the module could not load a library that it needs"
        "install what the module depends on (`ldd` on it shows what is missing)"
    PinTooWeak "PIN-INCORRECT"
        "the token wants a stronger PIN"
        "set a longer one with the token's own tool"
    PublicKeyInvalid "TOKEN-FAILED"
        "the token refuses a public key: the point is not on the curve, or it takes it in another form"
        "update the token's module; if a peer's key is concerned, have it made again"
    FunctionRejected "TOKEN-FAILED"
        "somebody refused at the token's own confirmation, or its policy did"
        "run the command again and confirm, or have the token's administrator allow it"
    VendorDefined(_) "TOKEN-FAILED"
        "the token's maker says more with this number than the standard can"
        "look the number up in the manual of the token's module"
    UnknownErrorCode(_) "TOKEN-FAILED"
        "the module answers with a number that no version of the standard has"
        "look the number up in the manual of the token's module, and update the module"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_values_are_named_as_the_standard_names_them() {
        for (rv, name) in [
            (RvError::PinLocked, "CKR_PIN_LOCKED"),
            (RvError::FipsSelfTestFailed, "CKR_FIPS_SELF_TEST_FAILED"),
            (RvError::RandomNoRng, "CKR_RANDOM_NO_RNG"),
            (RvError::VendorDefined(0x8000_0001), "CKR_VENDOR_DEFINED"),
        ] {
            assert_eq!(explain(rv).name(), name);
        }
    }

    #[test]
    fn every_return_value_has_a_cause_a_remedy_and_a_row_of_its_own() {
        for (index, value) in RETURN_VALUES.iter().enumerate() {
            assert!(
                value.cause.len() > 15 && value.remedy.len() > 8,
                "{value:?}"
            );
            let same = |other: &ReturnValue| other.variant == value.variant;
            assert_eq!(
                RETURN_VALUES.iter().position(same),
                Some(index),
                "{value:?}"
            );
        }
    }

    #[test]
    fn the_document_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pkcs11.md");
        let document = std::fs::read_to_string(path).unwrap();
        let rows = document.lines().filter(|line| line.starts_with("| `CKR_"));
        let expected = RETURN_VALUES.iter().map(|value| {
            let (
                name,
                ReturnValue {
                    code,
                    cause,
                    remedy,
                    ..
                },
            ) = (value.name(), value);
            format!("| `{name}` | `{code}` | {cause} | {remedy} |")
        });
        assert_eq!(
            rows.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "docs/pkcs11.md"
        );
    }
}
