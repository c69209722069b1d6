//! The device CAs of each vault, one generation after the other.

use mintmark_console::Failure;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use p256::PublicKey;
use rusqlite::{Connection, Row, params};

use super::{key, parsed};
use crate::failure;

/// One device CA of a vault.
#[derive(Clone, Debug)]
pub(crate) struct DeviceCa {
    /// From 1.
    pub(crate) generation: u16,
    /// The request that asked for it.
    pub(crate) request_fingerprint: Fingerprint,
    /// The draft of its grant.
    pub(crate) draft: Fingerprint,
    pub(crate) public_key: PublicKey,
    /// DER, once granted.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) requested_at: u64,
    pub(crate) granted_at: Option<u64>,
}

impl DeviceCa {
    /// SHA-256 of its certificate, once granted: the name by which it is revoked.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.certificate.as_deref().map(Fingerprint::of)
    }
}

/// Notes that a vault asks for a device CA; one that was not granted yet gives way to a newer one.
pub(crate) fn request(
    sql: &Connection,
    vault: &VaultName,
    device_ca: &DeviceCa,
) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO device_cas (site, vault, generation, request_fingerprint, draft, public_key, requested_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (site, vault, generation) DO UPDATE SET request_fingerprint = excluded.request_fingerprint,
             draft = excluded.draft, public_key = excluded.public_key, requested_at = excluded.requested_at
             WHERE granted_at IS NULL",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            device_ca.generation,
            device_ca.request_fingerprint.to_string(),
            device_ca.draft.to_string(),
            device_ca.public_key.to_sec1_bytes(),
            device_ca.requested_at,
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Notes that the root certified a device CA.
pub(crate) fn grant(
    sql: &Connection,
    vault: &VaultName,
    generation: u16,
    certificate: &[u8],
    now: u64,
) -> Result<(), Failure> {
    sql.execute(
        "UPDATE device_cas SET certificate = ?4, granted_at = ?5
         WHERE site = ?1 AND vault = ?2 AND generation = ?3",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            generation,
            certificate,
            now
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Those of one vault, the newest last; the last may not be granted yet.
pub(crate) fn of_vault(sql: &Connection, vault: &VaultName) -> Result<Vec<DeviceCa>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT generation, request_fingerprint, draft, public_key, certificate, requested_at, granted_at
             FROM device_cas WHERE site = ?1 AND vault = ?2 ORDER BY generation",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Those of one vault that were granted, the newest last.
pub(crate) fn granted(sql: &Connection, vault: &VaultName) -> Result<Vec<DeviceCa>, Failure> {
    let mut found = of_vault(sql, vault)?;
    found.retain(|device_ca| device_ca.certificate.is_some());
    Ok(found)
}

/// The vault that has, or asked for, a device CA of this key.
pub(crate) fn owner(sql: &Connection, key: &PublicKey) -> Result<Option<VaultName>, Failure> {
    let mut statement = sql
        .prepare("SELECT site, vault FROM device_cas WHERE public_key = ?1")
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([key.to_sec1_bytes()])
        .map_err(failure::sql)?;
    let Some(row) = rows.next().map_err(failure::sql)? else {
        return Ok(None);
    };
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    Ok(Some(VaultName {
        site: parsed("site", &text(0)?)?,
        vault: parsed("vault", &text(1)?)?,
    }))
}

fn read(row: &Row<'_>) -> Result<DeviceCa, Failure> {
    let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
    let public_key: Vec<u8> = row.get(3).map_err(failure::sql)?;
    Ok(DeviceCa {
        generation: row.get(0).map_err(failure::sql)?,
        request_fingerprint: parsed("request_fingerprint", &text(1)?)?,
        draft: parsed("draft", &text(2)?)?,
        public_key: key("public_key", &public_key)?,
        certificate: row.get(4).map_err(failure::sql)?,
        requested_at: row.get(5).map_err(failure::sql)?,
        granted_at: row.get(6).map_err(failure::sql)?,
    })
}
