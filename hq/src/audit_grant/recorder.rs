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
    /// The former key that could not be reached last.
    away: RefCell<Option<PublicKey>>,
    kept: RefCell<BTreeMap<[u8; 33], Secret>>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(ring: &'a Keyring<'a>) -> Result<Self, Failure> {
        Ok(Self {
            ring,
            audit: ring.agreement(AUDIT)?,
            tried: RefCell::default(),
            away: RefCell::default(),
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
        self.away.take();
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

    /// Opens what HQ refused and keeps as evidence, if it can: a former key that it would take, and that cannot be reached.
    /// What a vault encrypts to such a key, and HQ refuses, keeps nothing else from an auditor.
    pub(super) fn open_evidence<T>(
        &self,
        open: impl FnOnce(Opener<'_>) -> Result<T, Error>,
    ) -> Result<Option<PublicKey>, Error> {
        match self.open(open) {
            Err(error @ Error::KeyOperation(_)) => self.away.take().map(Some).ok_or(error),
            _ => Ok(None),
        }
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
        let shared = FormerKeys::agree(self.ring, key, peer);
        let shared = shared.inspect_err(|_| {
            self.away.replace(Some(*key));
        })?;
        self.note(peer, &shared);
        Ok(shared)
    }
}

#[cfg(test)]
mod tests {
    use mintmark_console::{Console, GlobalOptions};
    use mintmark_keys::{KeyUri, Purpose};
    use mintmark_protocol::identifier::VaultName;
    use mintmark_protocol::segment::{Segment, SegmentBuilder};
    use p256::SecretKey;

    use super::*;
    use crate::config::{FormerKey, KeyUris};
    use crate::keyring;

    #[test]
    fn evidence_for_a_former_key_that_is_away_stops_no_grant() {
        let folder = tempfile::tempdir().unwrap();
        let pin = folder.path().join("pin");
        mintmark_console::files::write_new(&pin, b"a passphrase for a test").unwrap();
        let uri = |name: &str| {
            let path = folder.path().join(name);
            format!("file:{}?pin-source=file:{}", path.display(), pin.display())
        };
        let console = Console::new("hq", &GlobalOptions::default());
        let parsed: KeyUri = uri("audit").parse().unwrap();
        let store = keyring::create(&parsed, &console).unwrap();
        store.generate(AUDIT, Purpose::Agree).unwrap();
        let former = SecretKey::from_slice(&[1; 32]).unwrap().public_key();
        let config = crate::config::Config {
            schema: 1,
            role: crate::config::Role::Hq,
            name: "Acme".to_owned(),
            keys: Some(KeyUris {
                audit: uri("audit"),
                former_audit: vec![FormerKey::new(&uri("gone"), &former)],
                ..KeyUris::none()
            }),
            pin: None,
            auditor: None,
            changes: Vec::new(),
        };
        let ring = Keyring::new(&config, &console).unwrap();
        let recorder = Recorder::new(&ring).unwrap();
        let vault = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        };
        let mut builder = SegmentBuilder::new(1);
        builder.push(b"record");
        let (file, facts) = builder.seal(&vault, "b-1", &[former]).unwrap();
        let away = recorder
            .open_evidence(|opener| Segment::open(&file, &facts, &vault, "b-1", opener).map(drop));
        assert_eq!(away.unwrap(), Some(former));
        // The audit key that is in use is another matter.
        let failing = |_: Opener<'_>| Err::<(), _>(Error::KeyOperation("it is gone".into()));
        assert!(recorder.open_evidence(failing).is_err());
    }
}
