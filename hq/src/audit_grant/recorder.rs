//! Writes down what HQ's keys agreed on when they opened something, so that an auditor opens the same and nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use mintmark_console::Failure;
use mintmark_keys::Agreement;
use mintmark_protocol::audit_grant::Secret;
use mintmark_protocol::encryption::{FormerKeys, Opener};
use mintmark_protocol::{Error, KeyFailure};
use p256::PublicKey;
use zeroize::Zeroizing;

use crate::keyring::{AUDIT, Keyring};

/// Opens what HQ is a recipient of, and remembers by what.
pub(super) struct Recorder<'a> {
    ring: &'a Keyring<'a>,
    audit: Arc<dyn Agreement>,
    tried: RefCell<Option<Secret>>,
    kept: RefCell<BTreeMap<[u8; 33], Secret>>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(ring: &'a Keyring<'a>) -> Result<Self, Failure> {
        Ok(Self {
            ring,
            audit: ring.agreement(AUDIT)?,
            tried: RefCell::default(),
            kept: RefCell::default(),
        })
    }

    /// Opens something. What was agreed on for it is kept if it decrypts under its own header, and only then: whoever put the
    /// ephemeral key of another message into theirs has nothing that opens that other message. What decrypts and is not what
    /// its vault committed to is the vault's doing, and an auditor sees that, too.
    pub(super) fn open<T>(
        &self,
        open: impl FnOnce(Opener<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.tried.take();
        let agree = |peer: &PublicKey| -> Result<_, KeyFailure> {
            let shared = self.audit.agree(peer)?;
            self.note(peer, &shared);
            Ok(shared)
        };
        let opened = open(Opener {
            public_key: self.audit.public_key(),
            agree: &agree,
            former: Some(self),
        });
        let is_shut = matches!(
            opened,
            Err(Error::Decryption { .. } | Error::NotRecipient { .. } | Error::KeyOperation(_))
        );
        if let (false, Some(secret)) = (is_shut, self.tried.take()) {
            let point = Secret::point_of(&secret.ephemeral);
            self.kept.borrow_mut().insert(point, secret);
        }
        opened
    }

    fn note(&self, peer: &PublicKey, shared: &Zeroizing<[u8; 32]>) {
        self.tried.replace(Some(Secret {
            ephemeral: *peer,
            shared: shared.clone(),
        }));
    }

    /// The keys that HQ reads with, in the order in which it tries them. One that it does not have opened nothing, and
    /// whoever looked for what is encrypted to it would take what another key agreed on for its own.
    pub(super) fn public_keys(&self) -> Vec<PublicKey> {
        let mut keys = vec![*self.audit.public_key()];
        for key in self.ring.public_keys() {
            if !keys.contains(key) {
                keys.push(*key);
            }
        }
        keys
    }

    /// What was kept.
    pub(super) fn into_secrets(self) -> Vec<Secret> {
        self.kept.into_inner().into_values().collect()
    }
}

impl FormerKeys for Recorder<'_> {
    fn public_keys(&self) -> &[PublicKey] {
        self.ring.public_keys()
    }

    fn agree(&self, key: &PublicKey, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        let shared = FormerKeys::agree(self.ring, key, peer)?;
        self.note(peer, &shared);
        Ok(shared)
    }
}
