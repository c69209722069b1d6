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
    /// What stands in the place of HQ's audit key. The auditor's own key opens the grant and nothing else: whoever encrypts
    /// something to it, too, does not choose what the auditor reads.
    pub(crate) audit: Arc<dyn Agreement>,
    hq_keys: Vec<PublicKey>,
    serial_keys: BTreeMap<VaultName, Zeroizing<[u8; 32]>>,
}

/// What HQ's keys agreed on, instead of the keys.
pub(super) struct Agreed {
    audit: PublicKey,
    secrets: HashMap<[u8; 33], Zeroizing<[u8; 32]>>,
    /// What comes of anything else. It opens nothing.
    nothing: Zeroizing<[u8; 32]>,
}

impl Agreed {
    fn new(grant: &AuditGrant) -> Result<Self, Failure> {
        let audit = grant.hq_keys.first().copied();
        let secrets = grant.secrets.iter();
        Ok(Self {
            audit: audit.ok_or_else(|| failure::home_corrupt("the grant names no key of HQ"))?,
            secrets: secrets
                .map(|secret| (Secret::point_of(&secret.ephemeral), secret.shared.clone()))
                .collect(),
            nothing: Zeroizing::new(random().map_err(failure::protocol)?),
        })
    }
}

impl Agreement for Agreed {
    fn public_key(&self) -> &PublicKey {
        &self.audit
    }

    /// Of what HQ could not open itself it grants nothing, and whatever comes of something else opens it no more.
    fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, mintmark_keys::Error> {
        let found = self.secrets.get(&Secret::point_of(peer));
        Ok(found.unwrap_or(&self.nothing).clone())
    }
}

impl GrantedKeys {
    pub(super) fn new(grant: &AuditGrant, agreed: Agreed) -> Self {
        let serial_keys = grant.serial_keys.iter();
        Self {
            audit: Arc::new(agreed),
            hq_keys: grant.hq_keys.clone(),
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
) -> Result<(AuditGrant, Agreed), Failure> {
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
    let grant = grant.into_content();
    let agreed = Agreed::new(&grant)?;
    Ok((grant, agreed))
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
        let (grant, agreed) = open(&uri, &message, &place.report_key()?, console)?;
        Ok(self
            .granted
            .get_or_init(|| GrantedKeys::new(&grant, agreed)))
    }

    /// HQ's keys, of which the grant has what they agreed on; none before it was opened.
    pub(crate) fn hq_keys(&self) -> &[PublicKey] {
        self.granted.get().map_or(&[], |granted| &granted.hq_keys)
    }

    /// What one of HQ's keys agreed on with this ephemeral key.
    pub(crate) fn shared_with(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyFailure> {
        let granted = self.granted.get().ok_or("the grant was not opened")?;
        Ok(granted.audit.agree(peer)?)
    }
}

#[cfg(test)]
mod tests {
    use mintmark_console::{Console, GlobalOptions};
    use mintmark_protocol::encryption::FormerKeys as _;
    use mintmark_protocol::identifier::Fingerprint;
    use mintmark_protocol::key::thumbprint;
    use mintmark_protocol::segment::{Segment, SegmentBuilder};
    use p256::SecretKey;

    use super::*;
    use crate::keyring::Keyring;

    fn key(number: u8) -> SecretKey {
        SecretKey::from_slice(&[number; 32]).unwrap()
    }

    fn agree(key: &SecretKey, peer: &PublicKey) -> Zeroizing<[u8; 32]> {
        let shared = key.diffie_hellman(peer);
        Zeroizing::new(shared.raw_secret_bytes().as_slice().try_into().unwrap())
    }

    #[test]
    fn a_segment_that_is_encrypted_to_the_auditor_as_well_opens_as_headquarters_opens_it() {
        let (hq, auditor) = (key(1), key(2).public_key());
        let vault: VaultName = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v1".parse().unwrap(),
        };
        let mut builder = SegmentBuilder::new(1);
        builder.push(b"record");
        let recipients = [auditor, hq.public_key()];
        let (mut file, mut facts) = builder.seal(&vault, "b-1", &recipients).unwrap();
        // What is wrapped for the auditor does not open it.
        let id = thumbprint(&auditor);
        let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what);
        let at = find(&file, id.as_bytes()).unwrap();
        let wrapped = at + find(&file[at..], &[0x58, 40]).unwrap() + 2;
        file[wrapped] ^= 1;
        facts.file_digest = Fingerprint::of(&file);
        let secrets = std::cell::RefCell::new(Vec::new());
        let noting = |peer: &PublicKey| {
            let shared = agree(&hq, peer);
            secrets.borrow_mut().push(Secret {
                ephemeral: *peer,
                shared: shared.clone(),
            });
            Ok(shared)
        };
        let opener = Opener {
            public_key: &hq.public_key(),
            agree: &noting,
            former: None,
        };
        Segment::open(&file, &facts, &vault, "b-1", opener).unwrap();
        let grant = AuditGrant {
            salt: [0; 32],
            made_at: 1,
            auditor,
            from_day: None,
            to_day: None,
            hq_keys: vec![hq.public_key()],
            secrets: secrets.into_inner(),
            serial_keys: Vec::new(),
            parts: Vec::new(),
        };
        let granted = GrantedKeys::new(&grant, Agreed::new(&grant).unwrap());
        let console = Console::new("hq", &GlobalOptions::default());
        let ring = Keyring::of_auditor(AuditorKeys::opened(granted), &console);
        let audit = ring.audit().unwrap();
        let opener = audit.opener();
        assert!(!ring.public_keys().contains(&auditor));
        Segment::open(&file, &facts, &vault, "b-1", opener).unwrap();
    }
}
