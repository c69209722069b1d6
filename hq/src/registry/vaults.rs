//! Vaults that asked to be enrolled, and those that were.

use mintmark_console::Failure;
use mintmark_protocol::enrolment::FIRST_GENERATION;
use mintmark_protocol::identifier::{Fingerprint, Lineage, VaultId, VaultName};
use p256::PublicKey;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::device_cas::{self, DeviceCa};
use super::{key, parsed};
use crate::failure;

/// A vault as HQ knows it.
#[derive(Clone, Debug)]
pub(crate) struct Vault {
    pub(crate) name: VaultName,
    pub(crate) granted: bool,
    pub(crate) request_fingerprint: Fingerprint,
    /// The grant's draft.
    pub(crate) draft: Fingerprint,
    /// The one that its log is of now: the newest that it declared, or the one that it began with.
    pub(crate) lineage: Lineage,
    /// The one that its log began with.
    pub(crate) lineage_first: Lineage,
    pub(crate) signing_key: PublicKey,
    pub(crate) agreement_key: PublicKey,
    pub(crate) device_ca_key: PublicKey,
    /// JSON: what the vault says of its key store.
    pub(crate) key_store: String,
    /// Identity and device CA, DER, once granted.
    pub(crate) certificates: Option<Certificates>,
    pub(crate) requested_at: u64,
    pub(crate) granted_at: Option<u64>,
    /// The vault that took its place: this one gets nothing more.
    pub(crate) successor: Option<VaultId>,
}

impl Vault {
    /// Every key that its token holds.
    fn keys(&self) -> [PublicKey; 3] {
        [self.signing_key, self.agreement_key, self.device_ca_key]
    }
}

/// What the root made for a vault.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    pub(crate) identity: Vec<u8>,
    pub(crate) device_ca: Vec<u8>,
}

const COLUMNS: &str = "site, vault, state, request_fingerprint, draft, lineage, signing_key, agreement_key, \
                       key_store, identity_certificate, device_ca_certificate, requested_at, granted_at, \
                       device_ca_key, successor, \
                       (SELECT restores.lineage FROM restores \
                        WHERE restores.site = vaults.site AND restores.vault = vaults.vault \
                        ORDER BY number DESC LIMIT 1)";

/// Notes a request; one that was not granted yet gives way to a newer one.
pub(crate) fn request(sql: &Connection, vault: &Vault) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO vaults (site, vault, state, request_fingerprint, draft, lineage, signing_key,
             agreement_key, key_store, requested_at, device_ca_key)
         VALUES (?1, ?2, 'requested', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (site, vault) DO UPDATE SET request_fingerprint = excluded.request_fingerprint,
             draft = excluded.draft, lineage = excluded.lineage, signing_key = excluded.signing_key,
             agreement_key = excluded.agreement_key, key_store = excluded.key_store,
             requested_at = excluded.requested_at, device_ca_key = excluded.device_ca_key",
        params![
            vault.name.site.as_str(),
            vault.name.vault.as_str(),
            vault.request_fingerprint.to_string(),
            vault.draft.to_string(),
            vault.lineage_first.to_string(),
            vault.signing_key.to_sec1_bytes(),
            vault.agreement_key.to_sec1_bytes(),
            vault.key_store,
            vault.requested_at,
            vault.device_ca_key.to_sec1_bytes(),
        ],
    )
    .map_err(failure::sql)?;
    device_cas::request(
        sql,
        &vault.name,
        &DeviceCa {
            generation: FIRST_GENERATION,
            request_fingerprint: vault.request_fingerprint,
            draft: vault.draft,
            public_key: vault.device_ca_key,
            certificate: None,
            requested_at: vault.requested_at,
            granted_at: None,
        },
    )
}

/// Notes that a vault was let in.
pub(crate) fn grant(
    sql: &Connection,
    name: &VaultName,
    certificates: &Certificates,
    now: u64,
) -> Result<(), Failure> {
    sql.execute(
        "UPDATE vaults SET state = 'granted', identity_certificate = ?3, device_ca_certificate = ?4,
             granted_at = ?5 WHERE site = ?1 AND vault = ?2",
        params![
            name.site.as_str(),
            name.vault.as_str(),
            certificates.identity,
            certificates.device_ca,
            now
        ],
    )
    .map_err(failure::sql)?;
    device_cas::grant(sql, name, FIRST_GENERATION, &certificates.device_ca, now)
}

/// Notes that a vault was given its next device CA, and that its identity was certified again.
pub(crate) fn rotate(
    sql: &Connection,
    name: &VaultName,
    next: &DeviceCa,
    certificates: &Certificates,
    now: u64,
) -> Result<(), Failure> {
    sql.execute(
        "UPDATE vaults SET identity_certificate = ?3, device_ca_certificate = ?4, device_ca_key = ?5
         WHERE site = ?1 AND vault = ?2",
        params![
            name.site.as_str(),
            name.vault.as_str(),
            certificates.identity,
            certificates.device_ca,
            next.public_key.to_sec1_bytes(),
        ],
    )
    .map_err(failure::sql)?;
    device_cas::grant(sql, name, next.generation, &certificates.device_ca, now)
}

/// Notes that another vault of its site took the place of this one.
pub(crate) fn close(
    sql: &Connection,
    name: &VaultName,
    successor: &VaultId,
) -> Result<(), Failure> {
    sql.execute(
        "UPDATE vaults SET successor = ?3 WHERE site = ?1 AND vault = ?2",
        [name.site.as_str(), name.vault.as_str(), successor.as_str()],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// One vault.
pub(crate) fn find(sql: &Connection, name: &VaultName) -> Result<Option<Vault>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM vaults WHERE site = ?1 AND vault = ?2");
    sql.query_row(&query, [name.site.as_str(), name.vault.as_str()], |row| {
        Ok(read(row))
    })
    .optional()
    .map_err(failure::sql)?
    .transpose()
}

/// Every vault, by name.
pub(crate) fn all(sql: &Connection) -> Result<Vec<Vault>, Failure> {
    let query = format!("SELECT {COLUMNS} FROM vaults ORDER BY site, vault");
    let mut statement = sql.prepare(&query).map_err(failure::sql)?;
    let mut rows = statement.query([]).map_err(failure::sql)?;
    let mut vaults = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        vaults.push(read(row)?);
    }
    Ok(vaults)
}

/// Every vault whose place no other one took. The others get nothing more.
pub(crate) fn serving(sql: &Connection) -> Result<Vec<Vault>, Failure> {
    let mut vaults = all(sql)?;
    vaults.retain(|vault| vault.successor.is_none());
    Ok(vaults)
}

/// Whether another vault took the place of `former`, at once or through those between.
pub(crate) fn is_succeeded_by(
    sql: &Connection,
    former: &VaultName,
    by: &VaultName,
) -> Result<bool, Failure> {
    let mut seen = Vec::new();
    let mut at = former.clone();
    while let Some(vault) = find(sql, &at)?.and_then(|vault| vault.successor) {
        seen.push(at.clone());
        at.vault = vault;
        if at == *by {
            return Ok(true);
        }
        if seen.contains(&at) {
            break;
        }
    }
    Ok(false)
}

/// Another vault that has one of the keys of `of`, whatever it uses it for.
pub(crate) fn sharing_key(sql: &Connection, of: &Vault) -> Result<Option<VaultName>, Failure> {
    let keys = of.keys();
    let other = all(sql)?
        .into_iter()
        .find(|other| other.name != of.name && other.keys().iter().any(|key| keys.contains(key)));
    if let Some(other) = other {
        return Ok(Some(other.name));
    }
    for key in keys {
        let owner = device_cas::owner(sql, &key)?;
        if let Some(owner) = owner.filter(|owner| *owner != of.name) {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

fn read(row: &Row<'_>) -> Result<Vault, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let bytes = |column: usize| row.get::<_, Vec<u8>>(column).map_err(failure::sql);
    let optional = |column: usize| row.get::<_, Option<Vec<u8>>>(column).map_err(failure::sql);
    let certificates = match (optional(9)?, optional(10)?) {
        (Some(identity), Some(device_ca)) => Some(Certificates {
            identity,
            device_ca,
        }),
        _ => None,
    };
    let lineage_first: Lineage = parsed("lineage", &text(5)?)?;
    let restored: Option<String> = row.get(15).map_err(failure::sql)?;
    let restored = restored.map(|lineage| parsed("lineage", &lineage));
    Ok(Vault {
        name: VaultName {
            site: parsed("site", &text(0)?)?,
            vault: parsed("vault", &text(1)?)?,
        },
        granted: text(2)? == "granted",
        request_fingerprint: parsed("request_fingerprint", &text(3)?)?,
        draft: parsed("draft", &text(4)?)?,
        lineage: restored.transpose()?.unwrap_or(lineage_first),
        lineage_first,
        signing_key: key("signing_key", &bytes(6)?)?,
        agreement_key: key("agreement_key", &bytes(7)?)?,
        key_store: text(8)?,
        certificates,
        requested_at: row.get(11).map_err(failure::sql)?,
        granted_at: row.get(12).map_err(failure::sql)?,
        device_ca_key: key("device_ca_key", &bytes(13)?)?,
        successor: row
            .get::<_, Option<String>>(14)
            .map_err(failure::sql)?
            .map(|successor| parsed("successor", &successor))
            .transpose()?,
    })
}
