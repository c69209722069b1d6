//! What an auditor opens the record with: their own key, and what the grant brings that HQ's keys agreed on.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use mintmark_console::{Console, Failure, files};
use mintmark_keys::{Agreement, KeyUri};
use mintmark_protocol::KeyFailure;
use mintmark_protocol::audit_grant::{AUDIT_GRANT_BYTES_MAX, AuditGrant, Secret};
use mintmark_protocol::encryption::{Opener, random};
use mintmark_protocol::identifier::VaultName;
use p256::PublicKey;
use zeroize::Zeroizing;

use crate::config::Auditor;
use crate::{failure, keyring};

/// The label of an auditor's key.
pub(crate) const AUDITOR: &str = "auditor";

/// What a grant opens.
pub(crate) struct GrantedKeys {
    /// The auditor's own key.
    pub(crate) own: Arc<dyn Agreement>,
    hq_keys: Vec<PublicKey>,
    secrets: HashMap<[u8; 33], Zeroizing<[u8; 32]>>,
    serial_keys: BTreeMap<VaultName, Zeroizing<[u8; 32]>>,
}

impl GrantedKeys {
    pub(super) fn new(grant: &AuditGrant, own: Arc<dyn Agreement>) -> Self {
        let secrets = grant.secrets.iter();
        let serial_keys = grant.serial_keys.iter();
        Self {
            own,
            hq_keys: grant.hq_keys.clone(),
            secrets: secrets
                .map(|secret| (Secret::point_of(&secret.ephemeral), secret.shared.clone()))
                .collect(),
            serial_keys: serial_keys
                .map(|of| (of.vault.clone(), of.key.clone()))
                .collect(),
        }
    }

    /// A vault's serial key.
    pub(crate) fn serial_key(&self, vault: &VaultName) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let key = self.serial_keys.get(vault).cloned();
        key.ok_or_else(|| failure::home_corrupt(format!("the grant has no serial key of {vault}")))
    }
}

/// Opens a grant with the auditor's key in this store.
pub(super) fn open(
    uri: &KeyUri,
    message: &[u8],
    report_key: &PublicKey,
    console: &Console,
) -> Result<(AuditGrant, Arc<dyn Agreement>), Failure> {
    let own = keyring::open(uri, console)?
        .agreement(AUDITOR)
        .map_err(failure::keys)?;
    let agree = keyring::agree(&*own);
    let opener = Opener {
        public_key: own.public_key(),
        agree: &agree,
        former: None,
    };
    let grant = AuditGrant::open(message, report_key, opener).map_err(failure::protocol)?;
    Ok((grant.into_content(), own.clone()))
}

/// Those keys, opened when they are first needed, so that a PIN is asked for only then.
pub(crate) struct AuditorKeys {
    place: Option<Auditor>,
    granted: OnceCell<GrantedKeys>,
}

impl AuditorKeys {
    /// Those of a home.
    pub(crate) fn new(place: &Auditor) -> Self {
        Self {
            place: Some(place.clone()),
            granted: OnceCell::new(),
        }
    }

    /// Those of a grant that is open.
    pub(super) fn opened(granted: GrantedKeys) -> Self {
        Self {
            place: None,
            granted: OnceCell::from(granted),
        }
    }

    /// The keys, from the home's grant if they are not there yet.
    pub(crate) fn granted(&self, console: &Console) -> Result<&GrantedKeys, Failure> {
        if let Some(granted) = self.granted.get() {
            return Ok(granted);
        }
        let missing = || failure::home_corrupt("the home has no grant");
        let place = self.place.as_ref().ok_or_else(missing)?;
        let path: &PathBuf = &place.grant;
        let message = files::read_limited(path, AUDIT_GRANT_BYTES_MAX as u64)?;
        let uri: KeyUri = place.keys.parse().map_err(failure::keys)?;
        let (grant, own) = open(&uri, &message, &place.report_key()?, console)?;
        Ok(self.granted.get_or_init(|| GrantedKeys::new(&grant, own)))
    }

    /// HQ's keys, of which the grant has what they agreed on; none before it was opened.
    pub(crate) fn hq_keys(&self) -> &[PublicKey] {
        self.granted.get().map_or(&[], |granted| &granted.hq_keys)
    }

    /// What one of HQ's keys agreed on with this ephemeral key. Of what HQ could not open itself it grants nothing, and
    /// whatever comes of something else opens it no more.
    pub(crate) fn shared_with(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        let granted = self.granted.get().ok_or("the grant was not opened")?;
        match granted.secrets.get(&Secret::point_of(peer)) {
            Some(shared) => Ok(shared.clone()),
            None => Ok(Zeroizing::new(random()?)),
        }
    }
}
