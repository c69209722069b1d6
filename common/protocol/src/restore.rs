//! A declared restore: a vault whose home folder was put back from an older copy says where its log stands now and what its
//! token had leased, and asks HQ for what is missing. Until HQ answers, it issues nothing.
//!
//! Signed by `vault-sign`.
//!
//! ```cddl
//! restore-declaration = {
//!   1: 1,                              ; format version
//!   2: identifier,                     ; site
//!   3: identifier,                     ; vault
//!   4: lineage,                        ; whose log was put back
//!   5: uint,                           ; records of it that there are
//!   6: digest,                         ; their Merkle root
//!   7: lineage,                        ; the one in which the log will go on
//!   8: unix-time,                      ; declared
//!   9: uint,                           ; counter of the anchor that the token holds
//!   10: uint,                          ; records that there were when that was written
//!   11: [*1000 [uint, uint]],          ; account tag, and the slot below which everything may be spent; in order of tags
//! }
//! ```

use ciborium::Value;
use p256::PublicKey;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::entitlement::AccountTag;
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, Lineage, VaultName};

/// The largest declaration, in bytes.
pub const RESTORE_BYTES_MAX: usize = 32 * 1024;
/// The most accounts of one declaration.
pub const LEASES_MAX: usize = 1000;
const WHAT: &str = "restore declaration";

/// Where a vault's log stands after its home folder was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreDeclaration {
    /// Whose.
    pub vault: VaultName,
    /// The history that was put back.
    pub parent: Lineage,
    /// How many records of it there are.
    pub size: u64,
    /// Their Merkle root.
    pub root: Fingerprint,
    /// The history in which the log will go on.
    pub lineage: Lineage,
    /// When it was declared, Unix seconds by the vault's clock.
    pub declared_at: u64,
    /// The counter of the anchor that the token holds.
    pub anchor: u64,
    /// How many records there were when that anchor was written.
    pub anchored_size: u64,
    /// The slot of each account below which everything may be spent, as the anchor says; in order of tags.
    pub leases: Vec<(AccountTag, u64)>,
}

impl RestoreDeclaration {
    /// Signs it with `vault-sign`.
    ///
    /// # Errors
    /// [`Error::KeyOperation`].
    pub fn seal(&self, key: &PublicKey, sign: Sign<'_>) -> Result<Vec<u8>, Error> {
        let context = Context {
            kind: Kind::RestoreDeclaration,
            sender: Party::Vault(self.vault.clone()),
            recipient: Party::Hq,
            id: "restore".to_owned(),
            commitment: None,
        };
        sign_one(&context, self.to_cbor(), key, sign)
    }

    /// Opens a declaration of `vault`, signed by its key.
    ///
    /// # Errors
    /// What refuses the signature or the parties, and what the strict reader refuses.
    pub fn open(
        bytes: &[u8],
        vault: &VaultName,
        vault_sign: &PublicKey,
    ) -> Result<Verified<Self>, Error> {
        let message = SignedOne::read(WHAT, bytes, RESTORE_BYTES_MAX)?;
        let sender = Party::Vault(vault.clone());
        message
            .context
            .expect(WHAT, Kind::RestoreDeclaration, &sender, &Party::Hq)?;
        message.verify(vault_sign)?;
        let declaration = Self::from_cbor(message.payload())?;
        if declaration.vault != *vault {
            return Err(Error::PartsDiffer {
                what: WHAT,
                why: "header and content differ in vault",
            });
        }
        let plaintext = message.payload().to_vec();
        let fingerprint = message.fingerprint();
        Ok(Verified::new(
            declaration,
            fingerprint,
            plaintext,
            Vec::new(),
        ))
    }

    /// The payload, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        let leases = self.leases.iter().map(|(account, slot)| {
            Value::Array([account.number(), *slot].map(Value::from).to_vec())
        });
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.vault.site.as_str())
            .with(3, self.vault.vault.as_str())
            .with(4, self.parent.as_bytes().to_vec())
            .with(5, self.size)
            .with(6, self.root.as_bytes().to_vec())
            .with(7, self.lineage.as_bytes().to_vec())
            .with(8, self.declared_at)
            .with(9, self.anchor)
            .with(10, self.anchored_size)
            .with_array(11, leases)
            .encode()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, RESTORE_BYTES_MAX)?;
        fields.format_version(1)?;
        let mut leases: Vec<(AccountTag, u64)> = Vec::new();
        for value in fields.array(11, LEASES_MAX)? {
            let lease = lease(value)
                .filter(|(account, _)| leases.last().is_none_or(|(last, _)| last < account));
            leases.push(lease.ok_or_else(|| {
                fields.wrong(11, "account tags in order, each with a slot, were expected")
            })?);
        }
        let declaration = Self {
            vault: VaultName {
                site: fields.parse(2)?,
                vault: fields.parse(3)?,
            },
            parent: fields.octets(4)?,
            size: fields.uint(5)?,
            root: fields.octets(6)?,
            lineage: fields.octets(7)?,
            declared_at: fields.uint(8)?,
            anchor: fields.uint(9)?,
            anchored_size: fields.uint(10)?,
            leases,
        };
        if declaration.lineage == declaration.parent {
            return Err(fields.wrong(7, "a restore goes on in a lineage of its own"));
        }
        fields.finish()?;
        Ok(declaration)
    }
}

fn lease(value: Value) -> Option<(AccountTag, u64)> {
    let [account, slot] = <[Value; 2]>::try_from(value.into_array().ok()?).ok()?;
    let number = |value: Value| u64::try_from(value.as_integer()?).ok();
    Some((AccountTag::new(number(account)?)?, number(slot)?))
}
