//! What a registry says was sent, received, decided and found, thing by thing: of two registries of one home it tells what one
//! lacks of the other.

use std::collections::BTreeSet;
use std::path::Path;

use mintmark_protocol::envelope::Kind;
use rusqlite::{Connection, OpenFlags, Row};

use crate::registry::Registry;

/// What a thing is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// It was sent, received or put into force.
    Told,
    /// It was drafted or approved.
    Drafted,
    /// Somebody is, or was, an officer.
    Listed,
    /// It was refused and kept, or found.
    Found,
}

/// One thing that a registry has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Thing {
    pub(crate) group: Group,
    /// Where it is in the record, or what it is about.
    pub(crate) what: String,
    /// Which of that name: a fingerprint, or a state.
    pub(crate) which: String,
}

/// Of each, two columns: what, and which.
const QUERIES: [(Group, &str); 10] = [
    (
        Group::Told,
        "SELECT printf('trust/trust-%06d.cose', version), fingerprint FROM trust_manifests",
    ),
    (
        Group::Told,
        "SELECT printf('sent/%s_%s/dispatch-%d-%06d.cose', site, vault, epoch, sequence), fingerprint FROM dispatches",
    ),
    (
        Group::Told,
        "SELECT printf('received/%s_%s/%s-%06d.cose', site, vault, lineage, sequence), fingerprint FROM bundles",
    ),
    (
        Group::Told,
        "SELECT printf('received/%s_%s/restore-%s.cose', site, vault, substr(declaration, 1, 16)), declaration FROM restores",
    ),
    (
        Group::Told,
        "SELECT printf('orders/%s_%s/%s-%d', site, vault, kind, number), draft FROM orders WHERE sent_at IS NOT NULL",
    ),
    (
        Group::Told,
        "SELECT printf('vaults/%s_%s/device-ca-%d', site, vault, generation), draft FROM device_cas
         WHERE granted_at IS NOT NULL",
    ),
    (
        Group::Drafted,
        "SELECT printf('drafts/draft-%s-%s.cose', id, substr(fingerprint, 1, 16)), fingerprint FROM drafts",
    ),
    (
        Group::Drafted,
        "SELECT printf('approvals/approval-%s-%s_%s.cose', id, substr(fingerprint, 1, 16), officer), officer
         FROM approvals JOIN drafts ON fingerprint = draft",
    ),
    (
        Group::Listed,
        "SELECT 'officers/' || id, CASE WHEN removed_at IS NULL THEN roles ELSE 'removed' END FROM officers",
    ),
    (
        Group::Found,
        "SELECT printf('evidence/%s_%s/%s.cose', site, vault, fingerprint), fingerprint FROM refused_bundles",
    ),
];

/// The same of findings, whose text may be another program's.
const FINDINGS: &str = "SELECT printf('findings/%s_%s', site, vault), printf('%s, record %d of %s', code, log_sequence, lineage)
     FROM findings";

/// What was finished, but for manifests: those that were published stand for themselves.
const SEALED: &str =
    "SELECT printf('drafts/draft-%s-%s.cose', id, substr(fingerprint, 1, 16)), 'sealed' FROM drafts
     WHERE state = 'sealed' AND kind <> ?1";

/// Everything that a registry has; of one that is damaged, everything that can be read.
pub(crate) fn of(sql: &Connection) -> BTreeSet<Thing> {
    let mut found = BTreeSet::new();
    let queries = QUERIES.iter().map(|(group, query)| (*group, *query));
    for (group, query) in queries.chain([(Group::Found, FINDINGS)]) {
        select(sql, (group, query), &[], &mut found);
    }
    let manifest = Kind::TrustManifest.as_str();
    select(sql, (Group::Told, SEALED), &[manifest], &mut found);
    found
}

/// Everything that the registry which is in a home has; nothing if there is none that opens.
pub(crate) fn there(home: &Path) -> BTreeSet<Thing> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(home.join(Registry::FILE), flags);
    opened.map_or_else(|_| BTreeSet::new(), |sql| of(&sql))
}

fn select(
    sql: &Connection,
    (group, query): (Group, &str),
    given: &[&str],
    found: &mut BTreeSet<Thing>,
) {
    let Ok(mut statement) = sql.prepare(query) else {
        return;
    };
    let Ok(mut rows) = statement.query(rusqlite::params_from_iter(given)) else {
        return;
    };
    while let Ok(Some(row)) = rows.next() {
        found.extend(thing(group, row));
    }
}

fn thing(group: Group, row: &Row<'_>) -> Option<Thing> {
    Some(Thing {
        group,
        what: row.get(0).ok()?,
        which: row.get(1).ok()?,
    })
}
