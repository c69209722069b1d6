//! The entitlement: what one vault may make, how much of it, when and how.
//!
//! ```cddl
//! entitlement = {
//!   0: salt,
//!   1: 1,                              ; format version
//!   2: identifier,                     ; entitlement id
//!   3: uint,                           ; its version, from 1
//!   4: identifier,                     ; site
//!   5: identifier,                     ; vault
//!   6: unix-time,                      ; drafted at
//!   7: unix-time,                      ; to be approved and imported before
//!   8: unix-time,                      ; valid from
//!   9: unix-time,                      ; valid until, exclusive; later than from
//!   10: credit,
//!   11: uint,                          ; units of one anchor lease, at most
//!   12: [1*32 product],                ; no SKU and no account tag twice
//!   13: digest,                        ; SHA-256 of the policy file that it was drafted from
//!   ? 14: [1*16 key-terms],            ; no label twice
//!   ? 15: digest,                      ; of an amendment: fingerprint of the version that it replaces
//!   ? 16: 1..3650,                     ; days by which the vault's clock may be ahead of its log after a pause
//!   ? 17: 1..36500,                    ; days after which the vault may prune what HQ acknowledged; absent: never
//! }
//! credit = { 1: uint, 2: uint }
//! product = {
//!   1: 1..281474976710655,             ; account tag, unique per vault, kept through amendments
//!   2: sku,
//!   3: 0..281474976710656,             ; units: slots 0 to units - 1
//!   ? 4: uint,                         ; units per UTC day
//!   ? 5: uint,                         ; units per UTC hour
//!   ? 6: tstr,                         ; device identifier pattern: a regular expression that matches the whole, ASCII
//!   7: [1*8 tstr],                     ; key algorithms: "P-256", "P-384", "Ed25519", "RSA", "RSA-2048" ...
//!   8: uint .size 4,                   ; re-issues per device without a new unit
//!   ? 9: [1*64 identifier],            ; stations; absent: any
//!   ? 10: [0*8192 interval],           ; working hours, in order, none overlapping; absent: any time
//!   11: certificate-terms,
//!   12: "serialNumber" / "commonName", ; where in a request's subject the device id stands
//!   ? 13: device-ids,                  ; the device identifiers that it may have; absent: any
//! }
//! interval = [unix-time, unix-time]
//! certificate-terms = {
//!   1: tstr,                           ; subject template
//!   ? 2: uint .size 4,                 ; validity in days; absent: no expiry (99991231235959Z)
//!   3: [0*16 tstr],                    ; extended key usages, by name or dotted OID
//! }
//! ```

mod account;
mod interval;
mod product;
#[cfg(test)]
pub(crate) mod tests;

pub use self::account::AccountTag;
pub use self::interval::Interval;
pub use self::product::{CertificateTerms, DeviceIdSource, ProductTerms};
use crate::Error;
use crate::cbor::{Fields, Map};
use crate::envelope::Kind;
use crate::identifier::{EntitlementId, Fingerprint, IDENTIFIER_BYTES_MAX, Sku, VaultName};
use crate::key_terms::{self, KeyTerms};
use crate::order::Order;
use crate::trust::Role;

/// The most days of [`Entitlement::clock_gap_days_max`].
pub const CLOCK_GAP_DAYS_MAX: u64 = 3650;
/// The most days of [`Entitlement::retention_days`].
pub const RETENTION_DAYS_MAX: u64 = 36_500;
/// The largest entitlement plaintext, in bytes: a log record holds it whole.
pub const ENTITLEMENT_BYTES_MAX: usize = 96 * 1024;
/// The most products of one entitlement.
pub const PRODUCTS_MAX: usize = 32;
/// The most working-hours intervals of one product.
pub const INTERVALS_MAX: usize = 8192;
/// The most units of one account: 2^48, so that sums never overflow.
pub const UNITS_MAX: u64 = 1 << 48;
const WHAT: &str = "entitlement";

/// How much a vault may do before HQ has seen its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Units issued and not yet acknowledged by HQ.
    pub unreported_units_max: u64,
    /// Age in days of the oldest issuance not yet acknowledged by HQ.
    pub unreported_days_max: u64,
}

/// The terms that officers approved for one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// Random, so that the public commitment to the plaintext reveals nothing.
    pub salt: [u8; 32],
    /// Its name.
    pub id: EntitlementId,
    /// 1, and one more with each amendment.
    pub version: u64,
    /// For whom.
    pub vault: VaultName,
    /// When it was drafted, Unix seconds.
    pub drafted_at: u64,
    /// Until when it may be approved and imported, Unix seconds.
    pub approve_until: u64,
    /// When units may be made.
    pub window: Interval,
    /// Audit or stop.
    pub credit: Credit,
    /// The most units of one anchor lease.
    pub anchor_lease_max: u64,
    /// How far ahead of the log the vault's clock may be after the machine was off, and how far a person may confirm it to
    /// be, in days, 1 to 3,650; none: as the vault's rules say.
    pub clock_gap_days_max: Option<u64>,
    /// How many days old records of the log are, at least, before the vault may prune them, once HQ has acknowledged them: 1
    /// to 36,500; none: it prunes nothing.
    pub retention_days: Option<u64>,
    /// One account each; SKUs and tags are unique.
    pub products: Vec<ProductTerms>,
    /// SHA-256 of the policy file.
    pub policy_digest: Fingerprint,
    /// The symmetric keys that it brings; no label stands twice.
    pub keys: Vec<KeyTerms>,
    /// Of an amendment: fingerprint of the signed version that it replaces. A vault accepts it over no other, so what
    /// officers are shown as the difference is what happens.
    pub amends: Option<Fingerprint>,
}

impl Entitlement {
    /// The plaintext, encoded.
    pub fn to_cbor(&self) -> Vec<u8> {
        let credit = Map::new()
            .with(1, self.credit.unreported_units_max)
            .with(2, self.credit.unreported_days_max);
        Map::new()
            .with(0, self.salt.to_vec())
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.id.as_str())
            .with(3, self.version)
            .with(4, self.vault.site.as_str())
            .with(5, self.vault.vault.as_str())
            .with(6, self.drafted_at)
            .with(7, self.approve_until)
            .with(8, self.window.from)
            .with(9, self.window.until)
            .with(10, credit)
            .with(11, self.anchor_lease_max)
            .with_array(12, self.products.iter().map(ProductTerms::to_map))
            .with(13, self.policy_digest.as_bytes().to_vec())
            .with_some(14, key_terms::to_value(&self.keys))
            .with_some(15, self.amends.map(|digest| digest.as_bytes().to_vec()))
            .with_some(16, self.clock_gap_days_max)
            .with_some(17, self.retention_days)
            .encode()
    }

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`] and [`Error::FormatVersion`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Fields::decode(WHAT, bytes, ENTITLEMENT_BYTES_MAX)?;
        fields.format_version(1)?;
        let salt = fields.octets(0)?;
        let mut credit = fields.map(10, WHAT)?;
        let entitlement = Self {
            salt,
            id: fields.parse(2)?,
            version: fields.uint(3)?,
            vault: VaultName {
                site: fields.parse(4)?,
                vault: fields.parse(5)?,
            },
            drafted_at: fields.uint(6)?,
            approve_until: fields.uint(7)?,
            window: Interval {
                from: fields.uint(8)?,
                until: fields.uint(9)?,
            },
            credit: Credit {
                unreported_units_max: credit.uint(1)?,
                unreported_days_max: credit.uint(2)?,
            },
            anchor_lease_max: fields.uint(11)?,
            clock_gap_days_max: match fields.optional_uint(16)? {
                Some(days) if !(1..=CLOCK_GAP_DAYS_MAX).contains(&days) => {
                    return Err(fields.wrong(16, "1 to 3650 days were expected"));
                }
                days => days,
            },
            retention_days: match fields.optional_uint(17)? {
                Some(days) if !(1..=RETENTION_DAYS_MAX).contains(&days) => {
                    return Err(fields.wrong(17, "1 to 36500 days were expected"));
                }
                days => days,
            },
            products: fields
                .array(12, PRODUCTS_MAX)?
                .into_iter()
                .map(ProductTerms::from_value)
                .collect::<Result<_, _>>()?,
            policy_digest: fields.octets(13)?,
            keys: key_terms::from_value(fields.optional(14))?,
            amends: match fields.optional(15) {
                None => None,
                Some(digest) => {
                    let digest = digest.into_bytes().unwrap_or_default();
                    Some(Fingerprint::try_from(digest.as_slice())?)
                }
            },
        };
        credit.finish()?;
        fields.finish()?;
        let shape = |why: &str| Error::Shape {
            what: WHAT,
            why: why.to_owned(),
        };
        if entitlement.version == 0 {
            return Err(shape("versions count from 1"));
        }
        if entitlement.version == 1 && entitlement.amends.is_some() {
            return Err(shape("the first version replaces none"));
        }
        if entitlement.window.from >= entitlement.window.until {
            return Err(shape("the window ends before it starts"));
        }
        if entitlement.products.is_empty() {
            return Err(shape("it names no product"));
        }
        for (at, product) in entitlement.products.iter().enumerate() {
            let before = &entitlement.products[..at];
            if before
                .iter()
                .any(|p| p.sku == product.sku || p.account == product.account)
            {
                return Err(shape("two of its products share a SKU or an account tag"));
            }
        }
        let named = entitlement
            .keys
            .iter()
            .filter_map(|key| key.products.as_ref());
        if named
            .flatten()
            .any(|sku| entitlement.product(sku).is_none())
        {
            return Err(shape("a key is for a product that it does not name"));
        }
        Ok(entitlement)
    }

    /// The id under which this version travels: the entitlement's own id, its version, and a mark of vault and
    /// entitlement, since one policy may be drafted for many vaults. It is an identifier like any other, so of a long
    /// entitlement id it has as much as fits into 32 characters; the mark still tells the two apart.
    pub fn object_id(&self) -> String {
        let named = format!("{}/{}", self.vault, self.id);
        let mark = Fingerprint::of(named.as_bytes()).to_string();
        let ending = format!("-v{}-{}", self.version, mark.get(..8).unwrap_or(&mark));
        let room = IDENTIFIER_BYTES_MAX.saturating_sub(ending.len());
        let id: String = self.id.as_str().chars().take(room).collect();
        id + &ending
    }

    /// The terms of one product.
    pub fn product(&self, sku: &Sku) -> Option<&ProductTerms> {
        self.products.iter().find(|product| product.sku == *sku)
    }
}

impl Order for Entitlement {
    const KIND: Kind = Kind::Entitlement;
    const WHAT: &'static str = WHAT;
    const ROLE: Role = Role::Mint;

    fn vault(&self) -> &VaultName {
        &self.vault
    }

    fn object_id(&self) -> String {
        Self::object_id(self)
    }

    fn approve_until(&self) -> u64 {
        self.approve_until
    }

    fn to_cbor(&self) -> Vec<u8> {
        Self::to_cbor(self)
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_cbor(bytes)
    }
}
