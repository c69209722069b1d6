//! What was sent to each vault, in order.

use mintmark_console::Failure;
use mintmark_protocol::dispatch::BundleSeen;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{EntitlementId, Fingerprint, VaultName};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::parsed;
use crate::failure;

/// The place of one dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) kind: String,
    pub(crate) object: String,
    pub(crate) version: u64,
}

/// Notes a dispatch.
pub(crate) fn add(
    sql: &Connection,
    vault: &VaultName,
    sent: &Sent,
    now: u64,
) -> Result<(), Failure> {
    sql.execute(
        "INSERT INTO dispatches (site, vault, epoch, sequence, fingerprint, kind, object, version, made_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            sent.epoch,
            sent.sequence,
            sent.fingerprint.to_string(),
            sent.kind,
            sent.object,
            sent.version,
            now
        ],
    )
    .map_err(failure::sql)?;
    Ok(())
}

/// Everything sent to one vault, in order.
pub(crate) fn all(sql: &Connection, vault: &VaultName) -> Result<Vec<Sent>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT epoch, sequence, fingerprint, kind, object, version FROM dispatches
             WHERE site = ?1 AND vault = ?2 ORDER BY epoch, sequence",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str()])
        .map_err(failure::sql)?;
    let mut dispatches = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        dispatches.push(sent(row, 0)?);
    }
    Ok(dispatches)
}

/// Everything that was sent to any vault, with the time of each, in the order in which it was made.
pub(crate) fn in_order(sql: &Connection) -> Result<Vec<(VaultName, Sent, u64)>, Failure> {
    let mut statement = sql
        .prepare(
            "SELECT epoch, sequence, fingerprint, kind, object, version, made_at, site, vault FROM dispatches
             ORDER BY rowid",
        )
        .map_err(failure::sql)?;
    let mut rows = statement.query([]).map_err(failure::sql)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let text = |column: usize| row.get::<_, String>(column).map_err(failure::sql);
        let vault = VaultName {
            site: parsed("site", &text(7)?)?,
            vault: parsed("vault", &text(8)?)?,
        };
        found.push((vault, sent(row, 0)?, row.get(6).map_err(failure::sql)?));
    }
    Ok(found)
}

/// Notes that a vault refused a dispatch, as its log says. Returns whether that is news.
pub(crate) fn refuse(
    sql: &Connection,
    vault: &VaultName,
    fingerprint: &Fingerprint,
    code: &str,
) -> Result<bool, Failure> {
    let changed = sql
        .execute(
            "UPDATE dispatches SET refused = ?4
             WHERE site = ?1 AND vault = ?2 AND fingerprint = ?3 AND refused IS NULL",
            params![
                vault.site.as_str(),
                vault.vault.as_str(),
                fingerprint.to_string(),
                code
            ],
        )
        .map_err(failure::sql)?;
    Ok(changed > 0)
}

/// When the first dispatch of a kind was made for a vault, Unix seconds.
pub(crate) fn first_made_at(
    sql: &Connection,
    vault: &VaultName,
    kind: Kind,
) -> Result<Option<u64>, Failure> {
    sql.query_row(
        "SELECT MIN(made_at) FROM dispatches WHERE site = ?1 AND vault = ?2 AND kind = ?3",
        [vault.site.as_str(), vault.vault.as_str(), kind.as_str()],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}

/// Whether the vault was sent the same thing, or a later version of it, after this dispatch.
pub(crate) fn is_sent_again(
    sql: &Connection,
    vault: &VaultName,
    sent: &Sent,
) -> Result<bool, Failure> {
    let place = (sent.epoch, sent.sequence);
    let later = |other: &Sent| {
        (&other.kind, &other.object) == (&sent.kind, &sent.object)
            && other.version >= sent.version
            && (other.epoch, other.sequence) > place
    };
    Ok(all(sql, vault)?.iter().any(later))
}

/// One dispatch, from the six columns that begin at `first`.
fn sent(row: &Row<'_>, first: usize) -> Result<Sent, Failure> {
    let text = |column: usize| row.get::<_, String>(first + column).map_err(failure::sql);
    let number = |column: usize| row.get::<_, u64>(first + column).map_err(failure::sql);
    Ok(Sent {
        epoch: number(0)?,
        sequence: number(1)?,
        fingerprint: parsed("fingerprint", &text(2)?)?,
        kind: text(3)?,
        object: text(4)?,
        version: number(5)?,
    })
}

/// The highest epoch that anything was ever sent in.
pub(crate) fn epoch_max(sql: &Connection) -> Result<Option<u64>, Failure> {
    sql.query_row("SELECT MAX(epoch) FROM dispatches", [], |row| row.get(0))
        .map_err(failure::sql)
}

/// What a vault was sent and has not said that it saw, in order.
pub(crate) fn unseen(sql: &Connection, vault: &VaultName) -> Result<Vec<Sent>, Failure> {
    let seen = seen_by_vault(sql, vault)?;
    let mut unseen = all(sql, vault)?;
    unseen.retain(|sent| seen.is_none_or(|seen| (sent.epoch, sent.sequence) > seen));
    Ok(unseen)
}

/// The newest version of an entitlement that a vault accepted up to this dispatch: epoch and sequence.
pub(crate) fn version_by(
    sql: &Connection,
    vault: &VaultName,
    id: &EntitlementId,
    (epoch, sequence): (u64, u64),
) -> Result<Option<u64>, Failure> {
    sql.query_row(
        "SELECT MAX(version) FROM dispatches
         WHERE site = ?1 AND vault = ?2 AND kind = ?3 AND object = ?4 AND refused IS NULL
           AND (epoch < ?5 OR (epoch = ?5 AND sequence <= ?6))",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            Kind::Entitlement.as_str(),
            id.as_str(),
            epoch,
            sequence,
        ],
        |row| row.get(0),
    )
    .map_err(failure::sql)
}

/// What a vault was sent of a kind and has neither said that it saw nor refused, with the time of each, in order.
pub(crate) fn unseen_of(
    sql: &Connection,
    vault: &VaultName,
    kind: Kind,
) -> Result<Vec<(Sent, u64)>, Failure> {
    let seen = seen_by_vault(sql, vault)?;
    let mut statement = sql
        .prepare(
            "SELECT epoch, sequence, fingerprint, kind, object, version, made_at FROM dispatches
             WHERE site = ?1 AND vault = ?2 AND kind = ?3 AND refused IS NULL ORDER BY epoch, sequence",
        )
        .map_err(failure::sql)?;
    let mut rows = statement
        .query([vault.site.as_str(), vault.vault.as_str(), kind.as_str()])
        .map_err(failure::sql)?;
    let mut unseen = Vec::new();
    while let Some(row) = rows.next().map_err(failure::sql)? {
        let sent = sent(row, 0)?;
        if seen.is_none_or(|seen| (sent.epoch, sent.sequence) > seen) {
            unseen.push((sent, row.get(6).map_err(failure::sql)?));
        }
    }
    Ok(unseen)
}

/// The newest bundle that HQ holds of a vault.
pub(crate) fn bundle_seen(
    sql: &Connection,
    vault: &VaultName,
) -> Result<Option<BundleSeen>, Failure> {
    let row: Option<(String, u64, String)> = sql
        .query_row(
            "SELECT lineage, sequence, fingerprint FROM bundles WHERE site = ?1 AND vault = ?2
             ORDER BY log_size DESC, sequence DESC LIMIT 1",
            [vault.site.as_str(), vault.vault.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()
        .map_err(failure::sql)?;
    row.map(|(lineage, sequence, fingerprint)| {
        Ok(BundleSeen {
            lineage: parsed("lineage", &lineage)?,
            sequence,
            fingerprint: parsed("fingerprint", &fingerprint)?,
        })
    })
    .transpose()
}

/// The last dispatch that a vault has said it has seen: epoch and sequence.
pub(crate) fn seen_by_vault(
    sql: &Connection,
    vault: &VaultName,
) -> Result<Option<(u64, u64)>, Failure> {
    sql.query_row(
        "SELECT dispatch_epoch, dispatch_sequence FROM bundles
         WHERE site = ?1 AND vault = ?2 AND dispatch_epoch IS NOT NULL
         ORDER BY dispatch_epoch DESC, dispatch_sequence DESC LIMIT 1",
        [vault.site.as_str(), vault.vault.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()
    .map_err(failure::sql)
}

/// By which rule a vault refused something that it was sent, the last time that it did.
pub(crate) fn refusal_of(
    sql: &Connection,
    vault: &VaultName,
    kind: Kind,
    (object, version): (&str, u64),
) -> Result<Option<String>, Failure> {
    sql.query_row(
        "SELECT refused FROM dispatches
         WHERE site = ?1 AND vault = ?2 AND kind = ?3 AND object = ?4 AND version = ?5 AND refused IS NOT NULL
         ORDER BY epoch DESC, sequence DESC LIMIT 1",
        params![
            vault.site.as_str(),
            vault.vault.as_str(),
            kind.as_str(),
            object,
            version
        ],
        |row| row.get(0),
    )
    .optional()
    .map_err(failure::sql)
}

/// Whether a vault has said that it saw something that it was sent; none if it was sent no such thing.
pub(crate) fn is_seen(
    sql: &Connection,
    vault: &VaultName,
    kind: Kind,
    (object, version): (&str, u64),
) -> Result<Option<bool>, Failure> {
    let seen = seen_by_vault(sql, vault)?;
    let sent = all(sql, vault)?.into_iter().rfind(|sent| {
        (sent.kind.as_str(), sent.object.as_str(), sent.version) == (kind.as_str(), object, version)
    });
    Ok(sent.map(|sent| seen.is_some_and(|seen| (sent.epoch, sent.sequence) <= seen)))
}
