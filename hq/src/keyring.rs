//! HQ's own keys, by what they are for. Stores are opened when first needed, so that a PIN is asked for only then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use mintmark_console::{Console, Exit, Failure};
use mintmark_keys::{Agreement, KeyStore, KeyUri, Purpose, Signer};
use mintmark_protocol::KeyFailure;
use mintmark_protocol::encryption::{FormerKeys, Opener};
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::ecdsa::Signature;
use zeroize::Zeroizing;

use crate::audit_grant::AuditorKeys;
use crate::config::{Config, FormerKey, KeyUris};
use crate::failure;

/// Labels of HQ's keys (CKA_LABEL, or `<label>.pem`).
pub(crate) const ROOT: &str = "root";
pub(crate) const DISPATCH: &str = "dispatch";
pub(crate) const REPORT: &str = "report";
pub(crate) const AUDIT: &str = "audit";
pub(crate) const SERIAL_MASTER: &str = "serial-master";
pub(crate) const KEYSET_MASTER: &str = "keyset-master";
/// Labels of an officer's keys.
pub(crate) const OFFICER_SIGN: &str = "officer-sign";
pub(crate) const OFFICER_AGREE: &str = "officer-agree";

/// HQ's keys.
pub(crate) struct Keyring<'a> {
    uris: KeyUris,
    former_audit: Vec<PublicKey>,
    console: &'a Console,
    open: RefCell<BTreeMap<String, Arc<dyn KeyStore>>>,
    auditor: Option<AuditorKeys>,
}

impl<'a> Keyring<'a> {
    pub(crate) fn new(config: &Config, console: &'a Console) -> Result<Self, Failure> {
        if let Some(auditor) = &config.auditor {
            return Ok(Self::of_auditor(AuditorKeys::new(auditor), console));
        }
        let uris = config.keys.clone();
        let uris = uris.ok_or_else(|| failure::home_corrupt("config.toml names no keys"))?;
        let former: Result<_, _> = uris.former_audit.iter().map(FormerKey::key).collect();
        Ok(Self {
            former_audit: former?,
            ..Self::with_uris(uris, console)
        })
    }

    pub(crate) fn with_uris(uris: KeyUris, console: &'a Console) -> Self {
        Self {
            uris,
            former_audit: Vec::new(),
            console,
            open: RefCell::default(),
            auditor: None,
        }
    }

    /// What an auditor has in the place of HQ's keys.
    pub(crate) fn of_auditor(keys: AuditorKeys, console: &'a Console) -> Self {
        Self {
            auditor: Some(keys),
            ..Self::with_uris(KeyUris::none(), console)
        }
    }

    /// A vault's serial key, where it was granted; none at HQ, which derives it.
    pub(crate) fn serial_key(
        &self,
        vault: &VaultName,
    ) -> Result<Option<Zeroizing<[u8; 32]>>, Failure> {
        let Some(auditor) = &self.auditor else {
            return Ok(None);
        };
        auditor.granted(self.console)?.serial_key(vault).map(Some)
    }

    /// The store that holds a key.
    pub(crate) fn store(&self, label: &str) -> Result<Arc<dyn KeyStore>, Failure> {
        if self.auditor.is_some() {
            return Err(failure::home_of_auditor());
        }
        let uri = match label {
            ROOT => &self.uris.root,
            DISPATCH => &self.uris.dispatch,
            AUDIT => &self.uris.audit,
            _ => &self.uris.main,
        };
        self.store_at(uri).map_err(failure::keys)
    }

    /// The store at this place, opened once.
    fn store_at(&self, uri: &str) -> Result<Arc<dyn KeyStore>, mintmark_keys::Error> {
        if let Some(store) = self.open.borrow().get(uri) {
            return Ok(store.clone());
        }
        let parsed: KeyUri = uri.parse()?;
        let store = mintmark_keys::open(&parsed, &|prompt| self.console.secret(prompt))?;
        self.open.borrow_mut().insert(uri.to_owned(), store.clone());
        Ok(store)
    }

    /// The signer of this root key: of the root that is now, or of one before.
    pub(crate) fn root_signer(&self, key: &PublicKey) -> Result<Arc<dyn Signer>, Failure> {
        for former in &self.uris.former_root {
            if former.key()? == *key {
                let store = self.store_at(&former.uri).map_err(failure::keys)?;
                return expect_key(store.signer(ROOT).map_err(failure::keys)?, key);
            }
        }
        expect_key(self.signer(ROOT)?, key)
    }

    pub(crate) fn signer(&self, label: &str) -> Result<Arc<dyn Signer>, Failure> {
        self.store(label)?.signer(label).map_err(failure::keys)
    }

    /// The signer of what anybody may check: it is the one that the manifest names, or nobody would believe it.
    pub(crate) fn report_signer(
        &self,
        manifest: &TrustManifest,
    ) -> Result<Arc<dyn Signer>, Failure> {
        let signer = self.signer(REPORT)?;
        if *signer.public_key() == manifest.report_key {
            return Ok(signer);
        }
        Err(failure::usage(
            "KEY-NOT-LISTED",
            "the key `report` is not the one that the trust manifest names",
            "publish the manifest that lists it (`hq trust draft`, approvals, `hq trust publish`), then run this again",
        ))
    }

    pub(crate) fn agreement(&self, label: &str) -> Result<Arc<dyn Agreement>, Failure> {
        if let (Some(auditor), AUDIT) = (&self.auditor, label) {
            return Ok(auditor.granted(self.console)?.audit.clone());
        }
        let found = self.store(label);
        let found = found.and_then(|store| store.agreement(label).map_err(failure::keys));
        match found {
            Err(failure) if label == AUDIT => self.instead_of_audit(failure),
            found => found,
        }
    }

    /// What HQ reads with: the audit key of now, and those before it.
    pub(crate) fn audit(&self) -> Result<AuditKeys<'_>, Failure> {
        let key = self.agreement(AUDIT)?;
        Ok(AuditKeys {
            public_key: *key.public_key(),
            agree: Box::new(move |peer| Ok(key.agree(peer)?)),
            former: self,
        })
    }

    /// Another key that HQ reads with, such as the one that was in escrow, where the audit key is not to be had.
    fn instead_of_audit(&self, failure: Failure) -> Result<Arc<dyn Agreement>, Failure> {
        for former in self.uris.former_audit.iter().rev() {
            let key = self.store_at(&former.uri);
            if let Ok(key) = key.and_then(|store| store.agreement(AUDIT)) {
                let id = thumbprint(key.public_key());
                let text = format!(
                    "{}; reading with the key {id} instead: draft a manifest with another audit key (`hq trust draft \
                     --audit-keys URI`)",
                    failure.message
                );
                self.console.warn_coded("AUDIT-KEY-MISSING", text);
                return Ok(key);
            }
        }
        Err(failure)
    }

    /// Takes a store that was opened to make keys in it.
    pub(crate) fn adopt(&self, uri: &str, store: Arc<dyn KeyStore>) {
        self.open.borrow_mut().insert(uri.to_owned(), store);
    }
}

/// What a private half agrees on with a public key.
type Agreeing = Box<dyn Fn(&PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure>>;

/// What HQ reads with.
pub(crate) struct AuditKeys<'a> {
    public_key: PublicKey,
    agree: Agreeing,
    former: &'a dyn FormerKeys,
}

impl AuditKeys<'_> {
    pub(crate) fn opener(&self) -> Opener<'_> {
        Opener {
            public_key: &self.public_key,
            agree: &self.agree,
            former: Some(self.former),
        }
    }
}

fn expect_key(signer: Arc<dyn Signer>, key: &PublicKey) -> Result<Arc<dyn Signer>, Failure> {
    if signer.public_key() == key {
        return Ok(signer);
    }
    let message = "the key `root` in its store is not the one that the trust manifest names";
    Err(
        Failure::new(Exit::Integrity, "KEY-NOT-LISTED", message).hint(
            "bring the token of the right root; `hq trust show` names its certificate's fingerprint",
        ),
    )
}

/// HQ's audit keys of earlier manifests.
impl FormerKeys for Keyring<'_> {
    fn public_keys(&self) -> &[PublicKey] {
        match &self.auditor {
            Some(auditor) => auditor.hq_keys(),
            None => &self.former_audit,
        }
    }

    fn agree(&self, key: &PublicKey, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        if let Some(auditor) = &self.auditor {
            return auditor.shared_with(peer);
        }
        let at = self.former_audit.iter().position(|former| former == key);
        let former = at.and_then(|at| self.uris.former_audit.get(at));
        let former = former.ok_or("this was never a key of ours")?;
        let key = self.store_at(&former.uri)?.agreement(AUDIT)?;
        Ok(key.agree(peer)?)
    }
}

/// Opens a key store, asking for its PIN on the terminal if its URI names no file that holds it.
pub(crate) fn open(uri: &KeyUri, console: &Console) -> Result<Arc<dyn KeyStore>, Failure> {
    mintmark_keys::open(uri, &|prompt| console.secret(prompt)).map_err(failure::keys)
}

/// As [`open`], and a folder of key files is made if it is not there.
pub(crate) fn create(uri: &KeyUri, console: &Console) -> Result<Arc<dyn KeyStore>, Failure> {
    mintmark_keys::create(uri, &|prompt| console.secret(prompt)).map_err(failure::keys)
}

/// The key of this label: found with the right attributes, or made.
pub(crate) fn find_or_generate(
    store: &dyn KeyStore,
    label: &str,
    purpose: Purpose,
    console: &Console,
) -> Result<PublicKey, Failure> {
    if let Some(key) = store.find(label, purpose).map_err(failure::keys)? {
        console.note(format!(
            "the key `{label}` is there already and is used as it is"
        ));
        return Ok(key);
    }
    store.generate(label, purpose).map_err(failure::keys)
}

/// Lends a signer to the message layer.
pub(crate) fn sign(signer: &dyn Signer) -> impl Fn(&[u8]) -> Result<Signature, KeyFailure> {
    |message| signer.sign(message).map_err(Into::into)
}

/// Lends an agreement key to the message layer.
pub(crate) fn agree(
    key: &dyn Agreement,
) -> impl Fn(&PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
    |peer| key.agree(peer).map_err(Into::into)
}
