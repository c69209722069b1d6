//! A symmetric key of a folder, decrypted.

use zeroize::Zeroizing;

use crate::error::Error;
use crate::locked::LockedSecret;
use crate::secret::{SecretAlgorithm, SecretKey, counter_kdf};

/// A symmetric key in memory, locked there and wiped when dropped.
pub(super) struct FileSecret {
    algorithm: SecretAlgorithm,
    key: LockedSecret,
}

impl FileSecret {
    pub(super) fn new(algorithm: SecretAlgorithm, key: LockedSecret) -> Self {
        Self { algorithm, key }
    }
}

impl SecretKey for FileSecret {
    fn algorithm(&self) -> SecretAlgorithm {
        self.algorithm
    }

    fn derive(&self, label: &str, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
        counter_kdf(self.algorithm, &self.key, label, context)
    }
}
