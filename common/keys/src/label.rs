//! The name of a key: CKA_LABEL in a token, the stem of a `.pem` file in a folder.

use crate::error::Error;

/// Longest label. Some tokens keep no more than 32 bytes of CKA_LABEL; file names allow far more.
const LABEL_BYTES_MAX: usize = 64;

/// A label that may become a file name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
///
/// The first character is never a dot or a dash, and there is no slash, so no label leads out of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label<'a>(&'a str);

impl<'a> Label<'a> {
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> TryFrom<&'a str> for Label<'a> {
    type Error = Error;

    fn try_from(text: &'a str) -> Result<Self, Error> {
        let mut bytes = text.bytes();
        let head = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        let tail =
            bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if head && tail && text.len() <= LABEL_BYTES_MAX {
            Ok(Self(text))
        } else {
            Err(Error::LabelInvalid {
                label: text.escape_debug().take(LABEL_BYTES_MAX).collect(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_could_leave_a_folder_are_refused() {
        for text in [
            "",
            ".",
            "..",
            "../root",
            "a/b",
            "-rf",
            "a\0b",
            "schlüssel",
            &"a".repeat(65),
        ] {
            assert_eq!(
                Label::try_from(text).unwrap_err().code(),
                "LABEL-INVALID",
                "{text:?}"
            );
        }
        for text in ["root", "vault-sign", "a", "A.b_c-9", &"a".repeat(64)] {
            assert_eq!(Label::try_from(text).unwrap().as_str(), text);
        }
    }
}
