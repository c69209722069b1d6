//! The secret that serial numbers are made of, and a copy of it in the token.
//!
//! Both ends agree on it: HQ's `serial-master` with this vault's `vault-agree`. Some modules that pass calls on to a token
//! pass no agreement on, and serial numbers are all that issuing needs it for. So a token that has agreed once keeps the
//! secret as a private data object, and a vault that cannot ask it to agree reads it there. That gives nothing away:
//! whoever has the PIN, and so may read the object, may have the token agree as well. A key folder needs no copy.
//!
//! ```text
//! object  = binding (32 octets) || secret (32 octets) || SHA-256(binding || secret)
//! binding = SHA-256("mintmark serial secret v1" || site || 0x00 || vault || 0x00 || serial-master || vault-agree)
//! ```
//!
//! Whatever it comes from, it has to give the serial number that the log has for its newest reservation: a token that was put
//! back, or an object in it that somebody changed, would have all further units numbered by another secret, and headquarters
//! would take them for forged.
//!
//! The keys are uncompressed points (SEC 1 section 2.3.3). An object of another binding is none.

use mintmark_keys::{Error as KeysError, KeyStore};
use mintmark_ledger::Ledger;
use mintmark_ledger::serial::{SerialCipher, serial_of};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use p256::PublicKey;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use zeroize::Zeroizing;

use super::keyring::Keyring;
use crate::failure::{Error, Result};

/// The label of the object.
const LABEL: &str = "mintmark-serials";
/// What the token at hand is, where it is one.
const TOKEN: &str = "pkcs11";
const DOMAIN: &[u8] = b"mintmark serial secret v1";
const DIGEST_BYTES: usize = 32;
const SECRET_BYTES: usize = 32;
const OBJECT_BYTES: usize = DIGEST_BYTES + SECRET_BYTES + DIGEST_BYTES;

type Secret = Zeroizing<[u8; SECRET_BYTES]>;

/// The secret that this vault shares with HQ's `serial-master`, agreed on, or as the token kept it.
///
/// # Errors
/// MECHANISM-MISSING if the way to the token offers no agreement, and the token never kept the secret; what else the token
/// fails with.
pub(super) fn agreed(keyring: &Keyring, master: &PublicKey, vault: &VaultName) -> Result<Secret> {
    let (store, agreement) = (&**keyring.store(), keyring.agreement());
    let binding = binding(master, agreement.public_key(), vault);
    match agreement.agree(master) {
        Ok(secret) => {
            // A token without room for it can still agree.
            let _ = keep(store, &binding, &secret);
            Ok(secret)
        }
        Err(error @ KeysError::MechanismMissing { .. }) => Ok(kept(store, &binding)?.ok_or(error)?),
        Err(error) => Err(error.into()),
    }
}

/// Stops where these serial numbers are not those of the log.
///
/// # Errors
/// SERIAL-SECRET-WRONG; what the log fails with if that reservation cannot be read.
pub(super) fn expect_right(ledger: &Ledger, serials: &SerialCipher) -> Result<()> {
    let Some((at, newest)) = ledger.newest_reservation()? else {
        return Ok(());
    };
    let serial = serials.serial(newest.account, newest.slot, newest.issue);
    if serial_of(&newest.tbs) == Some(serial) {
        return Ok(());
    }
    let message = format!(
        "the token gives another secret for serial numbers than the one by which record {at} numbered device {}",
        newest.device_id
    );
    Err(Error::integrity("SERIAL-SECRET-WRONG", message).hint(format!(
        "issue nothing: headquarters would take it for forged. Put the token, or its copy, in place that this vault was made \
         with; if that one is there, delete its data object `{LABEL}` and reach the token by its own module once, so that it \
         agrees again; tell headquarters if that does not help"
    )))
}

fn binding(master: &PublicKey, own: &PublicKey, vault: &VaultName) -> Fingerprint {
    let keys = [master, own].map(|key| key.to_sec1_point(false));
    let parts: [&[u8]; 7] = [
        DOMAIN,
        vault.site.as_str().as_bytes(),
        &[0],
        vault.vault.as_str().as_bytes(),
        &[0],
        keys[0].as_bytes(),
        keys[1].as_bytes(),
    ];
    Fingerprint::of(&parts.concat())
}

fn object(binding: &Fingerprint, secret: &Secret) -> Zeroizing<Vec<u8>> {
    let mut object = Zeroizing::new(Vec::with_capacity(OBJECT_BYTES));
    object.extend_from_slice(binding.as_bytes());
    object.extend_from_slice(&**secret);
    let digest = Fingerprint::of(&object);
    object.extend_from_slice(digest.as_bytes());
    object
}

/// What the token holds in its place, whatever it is.
fn held(store: &dyn KeyStore) -> std::result::Result<Vec<Zeroizing<Vec<u8>>>, KeysError> {
    let objects = store.data(LABEL)?.into_iter();
    Ok(objects.map(Zeroizing::new).collect())
}

/// Has the token keep the secret, and nothing else in its place.
fn keep(
    store: &dyn KeyStore,
    binding: &Fingerprint,
    secret: &Secret,
) -> std::result::Result<(), KeysError> {
    if store.facts().kind != TOKEN {
        return Ok(());
    }
    let object = object(binding, secret);
    let mut others = held(store)?;
    let count = others.len();
    others.retain(|other| **other != *object);
    if others.len() == count {
        store.add_data(LABEL, &object)?;
    }
    others
        .iter()
        .try_for_each(|other| store.remove_data(LABEL, other))
}

/// The secret as the token kept it, if it did.
fn kept(
    store: &dyn KeyStore,
    binding: &Fingerprint,
) -> std::result::Result<Option<Secret>, KeysError> {
    for held in held(store)? {
        let secret = held.get(DIGEST_BYTES..DIGEST_BYTES + SECRET_BYTES);
        let Some(secret) = secret.and_then(|secret| <[u8; SECRET_BYTES]>::try_from(secret).ok())
        else {
            continue;
        };
        let secret = Zeroizing::new(secret);
        if *object(binding, &secret) == *held {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}
