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

use std::fmt;
use std::str::FromStr;

use ciborium::Value;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::device_ids::DeviceIds;
use crate::envelope::Kind;
use crate::identifier::{
    EntitlementId, Fingerprint, IDENTIFIER_BYTES_MAX, Sku, StationId, VaultName,
};
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

/// The number of an account, unique per vault, 1 to 2^48 - 1. It keys the certificate serials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountTag(u64);

impl AccountTag {
    /// The tag with this number, if it is in range.
    pub fn new(number: u64) -> Option<Self> {
        (1..1 << 48).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AccountTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much a vault may do before HQ has seen its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Units issued and not yet acknowledged by HQ.
    pub unreported_units_max: u64,
    /// Age in days of the oldest issuance not yet acknowledged by HQ.
    pub unreported_days_max: u64,
}

/// Where a CSR carries the device identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceIdSource {
    /// The subject attribute serialNumber (2.5.4.5), as IEEE 802.1AR has it.
    SerialNumber,
    /// The subject attribute commonName (2.5.4.3).
    CommonName,
}

impl DeviceIdSource {
    /// Its name in policies and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SerialNumber => "serialNumber",
            Self::CommonName => "commonName",
        }
    }
}

impl FromStr for DeviceIdSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "serialNumber" => Ok(Self::SerialNumber),
            "commonName" => Ok(Self::CommonName),
            _ => Err(format!(
                "`{}` is not serialNumber or commonName",
                text.escape_default()
            )),
        }
    }
}

/// What a device certificate of a product looks like. Texts are as the policy gave them; `common/pki` parses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateTerms {
    /// The subject template.
    pub subject: String,
    /// Validity in days; none: no expiry (99991231235959Z).
    pub validity_days: Option<u32>,
    /// Extended key usages, by name or dotted OID.
    pub extended_key_usage: Vec<String>,
}

/// A stretch of time in Unix seconds: from inclusive, until exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Its first second.
    pub from: u64,
    /// The first second after it.
    pub until: u64,
}

impl Interval {
    /// Reads an array of pairs, at most so many: in order, none empty, none overlapping.
    pub fn read_all(value: Value, count_max: usize) -> Option<Vec<Self>> {
        let pairs = value.into_array().ok()?;
        if pairs.len() > count_max {
            return None;
        }
        let mut intervals: Vec<Self> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let [from, until] = <[Value; 2]>::try_from(pair.into_array().ok()?).ok()?;
            let time = |value: Value| u64::try_from(value.as_integer()?).ok();
            let (from, until) = (time(from)?, time(until)?);
            if from >= until || intervals.last().is_some_and(|before| from < before.until) {
                return None;
            }
            intervals.push(Self { from, until });
        }
        Some(intervals)
    }

    /// Whether a time lies inside.
    pub fn contains(&self, unix: u64) -> bool {
        (self.from..self.until).contains(&unix)
    }
}

/// What may be made of one product: the terms of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductTerms {
    /// The account.
    pub account: AccountTag,
    /// The product.
    pub sku: Sku,
    /// Units in all: slots 0 to units - 1.
    pub units: u64,
    /// Units per UTC day.
    pub units_per_day: Option<u64>,
    /// Units per UTC hour.
    pub units_per_hour: Option<u64>,
    /// What a device identifier must match, whole.
    pub device_id_pattern: Option<String>,
    /// Which device keys are allowed, by name: `P-256`, `P-384`, `Ed25519`, `RSA`, `RSA-2048` ...
    pub key_algorithms: Vec<String>,
    /// Re-issues of one device that need no new unit.
    pub reissues_per_device: u32,
    /// Which stations may ask; none: any.
    pub stations: Option<Vec<StationId>>,
    /// When it may be made; none: any time of the window.
    pub working_hours: Option<Vec<Interval>>,
    /// What its certificates look like.
    pub certificate: CertificateTerms,
    /// Where its CSRs carry the device identifier.
    pub device_id_source: DeviceIdSource,
    /// The device identifiers that it may have, besides matching the pattern; none: any.
    pub device_ids: Option<DeviceIds>,
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

impl ProductTerms {
    fn to_map(&self) -> Map {
        let certificate = Map::new()
            .with(1, self.certificate.subject.as_str())
            .with_some(2, self.certificate.validity_days)
            .with_array(
                3,
                self.certificate
                    .extended_key_usage
                    .iter()
                    .map(String::as_str),
            );
        let stations = self.stations.as_ref().map(|stations| {
            Value::Array(
                stations
                    .iter()
                    .map(|station| Value::from(station.as_str()))
                    .collect(),
            )
        });
        let hours = self.working_hours.as_ref().map(|hours| {
            let pair = |i: &Interval| Value::Array(vec![Value::from(i.from), Value::from(i.until)]);
            Value::Array(hours.iter().map(pair).collect())
        });
        Map::new()
            .with(1, self.account.number())
            .with(2, self.sku.as_str())
            .with(3, self.units)
            .with_some(4, self.units_per_day)
            .with_some(5, self.units_per_hour)
            .with_some(6, self.device_id_pattern.as_deref())
            .with_array(7, self.key_algorithms.iter().map(String::as_str))
            .with(8, self.reissues_per_device)
            .with_some(9, stations)
            .with_some(10, hours)
            .with(11, certificate)
            .with(12, self.device_id_source.as_str())
            .with_some(13, self.device_ids.as_ref().map(DeviceIds::to_value))
    }

    fn from_value(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::new("product of an entitlement", value)?;
        let account = AccountTag::new(fields.uint(1)?);
        let account = account.ok_or_else(|| fields.wrong(1, "an account tag is 1 to 2^48 - 1"))?;
        let mut certificate = fields.map(11, "certificate terms")?;
        let validity_days = certificate.optional_uint(2)?.map(u32::try_from).transpose();
        let validity_days = validity_days.map_err(|_| certificate.wrong(2, "too large"))?;
        let certificate_terms = CertificateTerms {
            subject: certificate.text(1)?,
            validity_days,
            extended_key_usage: certificate.texts(3, 16)?,
        };
        certificate.finish()?;
        let units = fields.uint(3)?;
        if units > UNITS_MAX {
            return Err(fields.wrong(3, "more than 2^48 units"));
        }
        let pattern = fields.optional(6).map(Value::into_text).transpose();
        let working_hours = match fields.optional(10) {
            None => None,
            Some(value) => {
                let intervals = Interval::read_all(value, INTERVALS_MAX);
                Some(intervals.ok_or_else(|| {
                    fields.wrong(
                        10,
                        "ordered pairs of times, and not too many, were expected",
                    )
                })?)
            }
        };
        let stations = match fields.optional(9) {
            None => None,
            Some(value) => {
                let mut wrapped = Fields::new("stations", Map::new().with(9, value).value())?;
                let stations: Vec<StationId> = wrapped.texts(9, 64)?;
                if stations.is_empty() {
                    return Err(fields.wrong(9, "no station may ask"));
                }
                Some(stations)
            }
        };
        let key_algorithms: Vec<String> = fields.texts(7, 8)?;
        if key_algorithms.is_empty() {
            return Err(fields.wrong(7, "no key algorithm is allowed"));
        }
        let device_ids = fields.optional(13).map(DeviceIds::from_value).transpose();
        let device_ids = device_ids.map_err(|error| fields.wrong(13, &error.to_string()))?;
        let terms = Self {
            account,
            sku: fields.parse(2)?,
            units,
            units_per_day: fields.optional_uint(4)?,
            units_per_hour: fields.optional_uint(5)?,
            device_id_pattern: pattern.map_err(|_| fields.wrong(6, "a text was expected"))?,
            key_algorithms,
            reissues_per_device: fields.uint32(8)?,
            stations,
            working_hours,
            certificate: certificate_terms,
            device_id_source: fields.parse(12)?,
            device_ids,
        };
        fields.finish()?;
        Ok(terms)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Entitlement {
        let product = |account, sku: &str| ProductTerms {
            account: AccountTag::new(account).unwrap(),
            sku: sku.parse().unwrap(),
            units: 5,
            units_per_day: Some(3),
            units_per_hour: None,
            device_id_pattern: Some("TH200-[0-9]{8}".to_owned()),
            key_algorithms: vec!["P-256".to_owned()],
            reissues_per_device: 1,
            stations: Some(vec![StationId::console()]),
            working_hours: Some(vec![
                Interval { from: 1, until: 2 },
                Interval { from: 2, until: 9 },
            ]),
            certificate: CertificateTerms {
                subject: "O=Acme, serialNumber={device_id}".to_owned(),
                validity_days: Some(7300),
                extended_key_usage: vec!["clientAuth".to_owned()],
            },
            device_id_source: DeviceIdSource::SerialNumber,
            device_ids: Some(
                DeviceIds::new(vec!["TH200-00000100..TH200-00000199".parse().unwrap()]).unwrap(),
            ),
        };
        Entitlement {
            salt: [9; 32],
            id: "th200-2027q1".parse().unwrap(),
            version: 1,
            vault: VaultName {
                site: "berlin".parse().unwrap(),
                vault: "v1".parse().unwrap(),
            },
            drafted_at: 10,
            approve_until: 20,
            window: Interval {
                from: 30,
                until: 40,
            },
            credit: Credit {
                unreported_units_max: 100,
                unreported_days_max: 14,
            },
            anchor_lease_max: 256,
            clock_gap_days_max: None,
            retention_days: Some(90),
            products: vec![product(1, "TH-200"), product(2, "TH-300")],
            policy_digest: Fingerprint::of(b"policy"),
            keys: Vec::new(),
            amends: None,
        }
    }

    #[test]
    fn an_entitlement_survives_its_encoding() {
        let entitlement = example();
        assert_eq!(
            Entitlement::from_cbor(&entitlement.to_cbor()).unwrap(),
            entitlement
        );
    }

    #[test]
    fn the_id_of_a_draft_is_an_identifier_that_tells_vaults_entitlements_and_versions_apart() {
        let mut seen = std::collections::BTreeSet::new();
        let long = "x".repeat(IDENTIFIER_BYTES_MAX);
        for id in ["e", "th200-2027q1", &long[1..], &long] {
            for version in [1, 2, u64::MAX] {
                for site in ["berlin", "lyon"] {
                    let mut entitlement = example();
                    entitlement.id = id.parse().unwrap();
                    entitlement.version = version;
                    entitlement.vault.site = site.parse().unwrap();
                    let draft = entitlement.object_id();
                    assert!(draft.parse::<EntitlementId>().is_ok(), "{draft}");
                    assert!(seen.insert(draft));
                }
            }
        }
        // printf berlin/v1/th200-2027q1 | sha256sum
        assert_eq!(example().object_id(), "th200-2027q1-v1-6696483c");
    }

    #[test]
    fn an_entitlement_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut Entitlement)| {
            let mut entitlement = example();
            change(&mut entitlement);
            Entitlement::from_cbor(&entitlement.to_cbor())
                .unwrap_err()
                .to_string()
        };
        assert!(refused(|e| e.version = 0).contains("count from 1"));
        assert!(refused(|e| e.amends = Some(e.policy_digest)).contains("replaces none"));
        assert!(refused(|e| e.window.until = 30).contains("ends before it starts"));
        assert!(refused(|e| e.products[1].account = e.products[0].account).contains("account tag"));
        assert!(refused(|e| e.products.clear()).contains("no product"));
        assert!(refused(|e| e.products[0].units = UNITS_MAX + 1).contains("2^48"));
        let backwards = |e: &mut Entitlement| {
            e.products[0].working_hours = Some(vec![Interval { from: 5, until: 4 }]);
        };
        assert!(refused(backwards).contains("ordered pairs"));
    }
}
