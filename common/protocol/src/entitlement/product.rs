//! The terms of one product.

use std::str::FromStr;

use ciborium::Value;

use super::{AccountTag, INTERVALS_MAX, Interval, UNITS_MAX};
use crate::Error;
use crate::cbor::{Fields, Map};
use crate::device_ids::DeviceIds;
use crate::identifier::{Sku, StationId};
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

impl ProductTerms {
    pub(super) fn to_map(&self) -> Map {
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

    pub(super) fn from_value(value: Value) -> Result<Self, Error> {
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
