//! Content that was verified.

use crate::identifier::{Fingerprint, OfficerId};
/// Content whose every check has passed. Only the `open` functions of this crate make one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    content: T,
    fingerprint: Fingerprint,
    plaintext: Vec<u8>,
    officers: Vec<OfficerId>,
}

impl<T> Verified<T> {
    pub(crate) fn new(
        content: T,
        fingerprint: Fingerprint,
        plaintext: Vec<u8>,
        officers: Vec<OfficerId>,
    ) -> Self {
        Self {
            content,
            fingerprint,
            plaintext,
            officers,
        }
    }

    /// The content.
    pub fn content(&self) -> &T {
        &self.content
    }

    /// The content, alone.
    pub fn into_content(self) -> T {
        self.content
    }

    /// SHA-256 of the signed payload.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The bytes that the content was read from: the decrypted plaintext, or the bare payload.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }

    /// The officers whose approvals it bears, in order of their ids; empty where one key signs alone.
    pub fn officers(&self) -> &[OfficerId] {
        &self.officers
    }
}
