//! From what a person asks about to the unit that was spent on it, and everything that is known of that.

use mintmark_console::time::rfc3339;
use mintmark_console::{Failure, printable};
use mintmark_ledger::serial::Serial;
use mintmark_pki::{Certificate, Issuer, verify_chain};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{EntitlementId, Fingerprint, OfficerId, VaultName};
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::asked::{self, Asked};
use crate::certified_again::CertifiedAgain;
use crate::failure;
use crate::findings::Finding;
use crate::home::Home;
use crate::keyring::Keyring;
use crate::registry::devices::{self, Unit};
use crate::registry::orders::Sealed;
use crate::registry::vaults::{self, Vault};
use crate::registry::{
    Registry, accounts, device_cas, device_orders, entitlements, findings, orders, replays,
};
use crate::roots::{self, Root};
use crate::serials::{self, Serials};

/// Looks a device up in the logs that were imported.
pub(super) struct Tracing<'a> {
    pub(super) registry: &'a Registry,
    /// Whatever any of them certified is ours.
    roots: Vec<Root>,
    serials: Serials<'a>,
    /// Those that were let in.
    pub(super) vaults: Vec<Vault>,
}

impl<'a> Tracing<'a> {
    /// Keys are opened when a serial number is to be read.
    pub(super) fn new(
        home: &Home,
        registry: &'a Registry,
        ring: &'a Keyring<'a>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            registry,
            roots: roots::all(home)?,
            serials: Serials::new(ring),
            vaults: vaults::all(&registry.sql)?
                .into_iter()
                .filter(|vault| vault.granted)
                .collect(),
        })
    }

    /// Everything that is known of what a person asks about, the newest unit last; and whether it was asked by a certificate,
    /// whose chain is then valid. There is one unit at least.
    pub(super) fn asked(&self, asked: &str) -> Result<(Vec<Traced>, bool), Failure> {
        let sql = &self.registry.sql;
        let (units, by_certificate) = match asked::read(asked)? {
            Asked::Certificate(certificate) => (self.by_certificate(&certificate)?, true),
            Asked::Serial(serial) => (self.by_serial(&serial)?, false),
            Asked::Id(device_id) => (devices::by_id(sql, &device_id)?, false),
            Asked::Key(digest) => (devices::by_key(sql, &digest)?, false),
            Asked::KeyOrId(digest, device_id) => {
                let mut units = devices::by_key(sql, &digest)?;
                units.extend(devices::by_id(sql, &device_id)?);
                (units, false)
            }
        };
        let traced: Result<Vec<_>, Failure> =
            units.into_iter().map(|unit| self.trace(unit)).collect();
        let mut traced = traced?;
        // A stable sort: of units of one second, the one further on in its log is the newer one.
        traced.sort_by_key(|traced| traced.unit.reserved_at);
        if traced.is_empty() {
            return Err(failure::refused(
                "DEVICE-UNKNOWN",
                format!("no imported log holds `{asked}`"),
                "check the spelling; what was made since the last stick came in is not known yet",
            ));
        }
        Ok((traced, by_certificate))
    }

    /// The one device that a person means: its newest certificate, unless another one was named.
    pub(super) fn one(&self, asked: &str) -> Result<Traced, Failure> {
        let (mut traced, _) = self.asked(asked)?;
        let newest = traced.pop();
        let newest = newest.ok_or_else(|| failure::home_corrupt("a device without a unit"))?;
        for other in &traced {
            if self.is_another(&other.unit, &newest.unit)? {
                let line = |traced: &Traced| {
                    let Unit { vault, record, .. } = &traced.unit;
                    let id = printable(record.device_id.as_str());
                    format!(
                        "{id}, a {} of {vault}, serial {}",
                        record.sku, traced.serial
                    )
                };
                return Err(failure::usage(
                    "DEVICE-AMBIGUOUS",
                    format!(
                        "`{asked}` names several devices: {}; and {}",
                        line(other),
                        line(&newest)
                    ),
                    "give the serial number of the one that is meant, or its certificate",
                ));
            }
        }
        Ok(newest)
    }

    /// Whether two units are of two devices. An id is of one device within a product and a vault, those whose place that
    /// took included.
    fn is_another(&self, unit: &Unit, newest: &Unit) -> Result<bool, Failure> {
        let (one, other) = (&unit.record, &newest.record);
        let same_vault = unit.vault == newest.vault;
        if same_vault
            && (one.account, one.slot, one.issue) == (other.account, other.slot, other.issue)
        {
            return Ok(false);
        }
        if (&one.sku, &one.device_id) != (&other.sku, &other.device_id) {
            return Ok(true);
        }
        let sql = &self.registry.sql;
        Ok(!same_vault && !vaults::is_succeeded_by(sql, &unit.vault, &newest.vault)?)
    }

    /// The units that a serial number stands for, at whichever vault's.
    fn by_serial(&self, serial: &Serial) -> Result<Vec<Unit>, Failure> {
        let mut units = Vec::new();
        for vault in &self.vaults {
            if let Some((account, slot, issue)) = self.serials.of(vault)?.open(serial) {
                let sql = &self.registry.sql;
                units.extend(devices::by_slot(sql, &vault.name, account, slot, issue)?);
            }
        }
        Ok(units)
    }

    /// The unit of a certificate that one of our device CAs signed.
    pub(super) fn by_certificate(&self, certificate: &Certificate) -> Result<Vec<Unit>, Failure> {
        let Some(vault) = self.issuing_vault(certificate)? else {
            return Err(failure::refused(
                "DEVICE-UNKNOWN",
                format!(
                    "not issued by us: no device CA of ours signed the certificate of `{}`",
                    certificate.subject()
                ),
                "treat the device as counterfeit",
            ));
        };
        let serial = hex::encode(certificate.serial());
        let unaccounted = |why: String| {
            let message = format!(
                "chain valid, accounting unknown: no imported log of {} holds serial {serial}",
                vault.name
            );
            failure::refused(
                "DEVICE-UNKNOWN",
                message,
                "import the vault's newest bundles, then ask again; do not accept the device before",
            )
            .cause(why)
        };
        let opened = self.serials.of(vault)?.open(certificate.serial());
        let Some((account, slot, issue)) = opened else {
            return Err(unaccounted("this is no serial number of ours".to_owned()));
        };
        let sql = &self.registry.sql;
        let mut units = devices::by_slot(sql, &vault.name, account, slot, issue)?;
        if units.is_empty() {
            return Err(unaccounted(place(sql, &vault.name, account, slot, issue)?));
        }
        let key = Fingerprint::new(certificate.spki_sha256());
        let mismatch = |what: &str| {
            failure::refused(
                "DEVICE-MISMATCH",
                format!(
                    "the log of {} holds serial {serial} for another {what}: its device CA has signed two \
                     certificates with one serial",
                    vault.name
                ),
                "keep the certificate; stop production at this vault and tell your security officer",
            )
        };
        units.retain(|unit| unit.record.spki_sha256 == key);
        if units.is_empty() {
            return Err(mismatch("key"));
        }
        let tbs_digest = Fingerprint::of(certificate.tbs_der());
        units.retain(|unit| unit.tbs_digest == tbs_digest);
        if units.is_empty() {
            return Err(mismatch("certificate of this key"));
        }
        if units.iter().all(|unit| unit.issued_at.is_none()) {
            return Err(failure::refused(
                "CERTIFICATE-UNRECORDED",
                format!(
                    "the log of {} says that no certificate was signed for serial {serial}, and here is one",
                    vault.name
                ),
                "import the vault's newest bundles, then ask again; if it is still not recorded, stop production at \
                 this vault and tell your security officer",
            ));
        }
        Ok(units)
    }

    /// The vault that has, or had, the device CA that signed a certificate.
    pub(super) fn issuing_vault(
        &self,
        certificate: &Certificate,
    ) -> Result<Option<&Vault>, Failure> {
        for vault in &self.vaults {
            for device_ca in device_cas::granted(&self.registry.sql, &vault.name)? {
                let der = device_ca.certificate.as_deref().unwrap_or_default();
                let issued = Issuer::from_certificate_der(der).is_ok_and(|device_ca| {
                    let mut roots = self.roots.iter();
                    roots.any(|root| verify_chain(certificate, &device_ca, &root.issuer).is_ok())
                });
                if issued {
                    return Ok(Some(vault));
                }
            }
        }
        Ok(None)
    }

    /// The orders of officers that end a unit's certificate, by its device CA or by itself.
    fn revocations(&self, unit: &Unit) -> Result<Vec<Sealed>, Failure> {
        let (record, vault) = (&unit.record, &unit.vault);
        let device_ca = replays::device_ca_of(&self.registry.sql, vault, record.reservation)?;
        let place = (record.account, record.slot, record.issue);
        let mut sealed = orders::revocations(&self.registry.sql, vault)?;
        sealed.retain(|sealed| match &sealed.revocation.target {
            Target::DeviceCa(revoked) => Some(*revoked) == device_ca,
            Target::Devices(devices) => devices.iter().any(|device| device.place() == place),
            Target::Entitlement(_) | Target::Vault => false,
        });
        Ok(sealed)
    }

    /// Since when and why an issue is no longer good by what was done at its vault.
    fn withdrawal(&self, unit: &Unit) -> Result<Option<Ended>, Failure> {
        let (sql, vault) = (&self.registry.sql, &unit.vault);
        let Some(withdrawn) = replays::withdrawal(sql, vault, &unit.record)? else {
            return Ok(None);
        };
        let reason = device_orders::reason(sql, vault, &withdrawn)?;
        Ok(Some(Ended {
            status: withdrawn.why.as_str(),
            at: withdrawn.time,
            record: withdrawn.at.number(),
            reason,
        }))
    }

    pub(super) fn trace(&self, unit: Unit) -> Result<Traced, Failure> {
        let sql = &self.registry.sql;
        let vault = self.vaults.iter().find(|vault| vault.name == unit.vault);
        let vault = vault
            .ok_or_else(|| failure::home_corrupt(format!("{} is not enrolled", unit.vault)))?;
        let serial = serials::of_unit(&self.serials.of(vault)?, &unit.record);
        let account = accounts::find(sql, &unit.vault, unit.record.account)?;
        let entitlement = account.map(|account| account.entitlement);
        let approvers = match &entitlement {
            Some(entitlement) => approvers(sql, &unit.vault, entitlement)?,
            None => Vec::new(),
        };
        let mut findings = findings::about(sql, &unit, &serial)?;
        findings.retain(|finding| finding.accuses(&unit.vault));
        CertifiedAgain::new(sql).explain(&mut findings)?;
        let revocations = self.revocations(&unit)?;
        Ok(Traced {
            findings,
            accounted: accounts::covers(sql, &unit.vault, &unit.record)?,
            revoked: !revocations.is_empty(),
            ordered: revocations.iter().any(|sealed| sealed.stands),
            withdrawn: self.withdrawal(&unit)?,
            unit,
            serial,
            entitlement,
            approvers,
        })
    }
}

/// Where a serial that no log holds would belong: HQ can tell without any log whether it lies within a quota.
fn place(
    sql: &Connection,
    vault: &VaultName,
    tag: AccountTag,
    slot: u64,
    issue: u16,
) -> Result<String, Failure> {
    let account = accounts::find(sql, vault, tag)?;
    Ok(match account {
        Some(account) if slot < account.authorised => format!(
            "it is slot {slot} (issue {issue}) of the {} units of {} in {}, which has not been reported",
            account.authorised, account.sku, account.entitlement
        ),
        _ => "it lies outside everything that was ever granted".to_owned(),
    })
}

/// The officers who approved the newest version of an entitlement that was sent.
fn approvers(
    sql: &Connection,
    vault: &VaultName,
    entitlement: &EntitlementId,
) -> Result<Vec<OfficerId>, Failure> {
    let sent = entitlements::all(sql)?.into_iter().rfind(|listed| {
        listed.terms.vault == *vault && listed.terms.id == *entitlement && listed.state == "sent"
    });
    Ok(sent.map_or_else(Vec::new, |listed| listed.approvers))
}

/// That an issue is no longer good by what was done at its vault.
pub(super) struct Ended {
    /// Scrapped, voided or superseded.
    pub(super) status: &'static str,
    /// Since when, Unix seconds.
    pub(super) at: u64,
    /// The record of the log that says so.
    pub(super) record: u64,
    /// Why, as somebody at the vault wrote it.
    pub(super) reason: Option<String>,
}

/// A unit with everything that is known of it.
pub(super) struct Traced {
    pub(super) unit: Unit,
    pub(super) serial: String,
    pub(super) entitlement: Option<EntitlementId>,
    pub(super) approvers: Vec<OfficerId>,
    pub(super) findings: Vec<Finding>,
    /// Whether HQ granted it.
    pub(super) accounted: bool,
    /// Whether officers revoked it, or the device CA that certified it.
    pub(super) revoked: bool,
    /// Whether such an order is on its way to its vault or followed there. Another one may take the place of what was
    /// refused.
    pub(super) ordered: bool,
    /// Whether its vault took it back, or made its device again.
    pub(super) withdrawn: Option<Ended>,
}

impl Traced {
    pub(super) fn status(&self) -> &'static str {
        match (self.unit.issued_at, &self.withdrawn) {
            _ if !self.accounted => "unaccounted",
            (_, Some(ended)) => ended.status,
            (Some(_), None) if self.revoked => "revoked",
            (Some(_), None) => "good",
            (None, None) => "unresolved",
        }
    }

    /// Since when it is no longer good and why, for people.
    fn ended_in_words(&self) -> String {
        let Some(ended) = &self.withdrawn else {
            return String::new();
        };
        let reason = ended.reason.as_ref();
        let reason = reason.map_or(String::new(), |reason| format!(": {}", printable(reason)));
        format!(
            " since {} (record {}){reason}",
            rfc3339(ended.at),
            ended.record
        )
    }

    pub(super) fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = self.findings.iter().map(|f| f.code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    pub(super) fn to_json(&self) -> Value {
        let Unit { vault, record, .. } = &self.unit;
        let ended = self.withdrawn.as_ref();
        json!({
            "serial": self.serial,
            "slot": record.slot,
            "issue": record.issue,
            "device_id": record.device_id.as_str(),
            "product": record.sku.as_str(),
            "status": self.status(),
            "reserved_at": rfc3339(self.unit.reserved_at),
            "issued_at": self.unit.issued_at.map(rfc3339),
            "ended_at": ended.map(|ended| rfc3339(ended.at)),
            "ended_by": ended.map(|ended| ended.record),
            "reason": ended.and_then(|ended| ended.reason.as_deref()),
            "entitlement": self.entitlement.as_ref().map(EntitlementId::as_str),
            "approvers": self.approvers.iter().map(OfficerId::as_str).collect::<Vec<_>>(),
            "site": vault.site.as_str(),
            "vault": vault.vault.as_str(),
            "log_sequence": record.reservation.number(),
            "public_key_sha256": record.spki_sha256.to_string(),
            "findings": self.codes(),
        })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let Unit { vault, record, .. } = &self.unit;
        let entitlement = self.entitlement.as_ref().map(ToString::to_string);
        let approvers: Vec<&str> = self.approvers.iter().map(OfficerId::as_str).collect();
        let mut lines = vec![
            format!("device       {} of {}", record.device_id, record.sku),
            format!("serial       {}", self.serial),
            format!("status       {}{}", self.status(), self.ended_in_words()),
            format!(
                "issued       {} at {vault}",
                rfc3339(self.unit.issued_at.unwrap_or(self.unit.reserved_at))
            ),
            format!(
                "slot         {} (issue {}) of {}",
                record.slot,
                record.issue,
                entitlement.as_deref().unwrap_or("no entitlement of ours")
            ),
            format!("approved by  {}", approvers.join(", ")),
            format!("record       {} of the log", record.reservation),
        ];
        lines.extend(self.findings.iter().map(|finding| {
            format!(
                "finding      {} {}: {}",
                finding.severity, finding.code, finding.text
            )
        }));
        lines
    }
}
