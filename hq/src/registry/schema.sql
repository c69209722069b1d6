-- The fleet registry. Portable SQL: no vendor's types or functions; times are Unix seconds; digests are lower-case hex.
-- The record (the signed objects, kept whole) is what counts; this is what is known from it.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE officers (
    id TEXT PRIMARY KEY,
    agreement_key BLOB NOT NULL UNIQUE,
    roles TEXT NOT NULL,
    key_store TEXT NOT NULL,
    request_fingerprint TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    removed_at BIGINT
);

-- Each as a point as in SEC 1. Whichever an officer signs with, it counts as one.
CREATE TABLE officer_signing_keys (
    signing_key BLOB PRIMARY KEY,
    officer TEXT NOT NULL REFERENCES officers (id),
    position BIGINT NOT NULL,
    UNIQUE (officer, position)
);

CREATE TABLE trust_manifests (
    version BIGINT PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    expires_at BIGINT NOT NULL,
    published_at BIGINT NOT NULL
);

CREATE TABLE drafts (
    fingerprint TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    site TEXT,
    vault TEXT,
    version BIGINT NOT NULL,
    drafted_at BIGINT NOT NULL,
    approve_until BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'superseded'))
);
CREATE INDEX drafts_by_id ON drafts (id);

CREATE TABLE approvals (
    draft TEXT NOT NULL REFERENCES drafts (fingerprint),
    officer TEXT NOT NULL,
    imported_at BIGINT NOT NULL,
    PRIMARY KEY (draft, officer)
);

CREATE TABLE vaults (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('requested', 'granted')),
    request_fingerprint TEXT NOT NULL,
    draft TEXT NOT NULL REFERENCES drafts (fingerprint),
    lineage TEXT NOT NULL,
    signing_key BLOB NOT NULL UNIQUE,
    agreement_key BLOB NOT NULL UNIQUE,
    device_ca_key BLOB NOT NULL UNIQUE,
    key_store TEXT NOT NULL,
    identity_certificate BLOB,
    device_ca_certificate BLOB,
    requested_at BIGINT NOT NULL,
    granted_at BIGINT,
    -- The vault of the same site that took its place. This one gets nothing more.
    successor TEXT,
    PRIMARY KEY (site, vault)
);

-- The device CAs of a vault, from the first; the newest that was granted is in the row of its vault too.
CREATE TABLE device_cas (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    generation BIGINT NOT NULL,
    request_fingerprint TEXT NOT NULL,
    draft TEXT NOT NULL REFERENCES drafts (fingerprint),
    public_key BLOB NOT NULL UNIQUE,
    certificate BLOB,
    requested_at BIGINT NOT NULL,
    granted_at BIGINT,
    PRIMARY KEY (site, vault, generation),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- Revocations, clock corrections and re-anchors, each numbered for its vault and kind from 1.
CREATE TABLE orders (
    draft TEXT PRIMARY KEY REFERENCES drafts (fingerprint),
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    kind TEXT NOT NULL,
    number BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('draft', 'sent', 'superseded', 'refused')),
    sent_at BIGINT,
    plaintext BLOB NOT NULL,
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

CREATE TABLE entitlements (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    draft TEXT NOT NULL UNIQUE REFERENCES drafts (fingerprint),
    valid_from BIGINT NOT NULL,
    valid_until BIGINT NOT NULL,
    credit_units BIGINT NOT NULL,
    credit_days BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('draft', 'sent', 'superseded', 'refused')),
    approvers TEXT,
    plaintext BLOB NOT NULL,
    PRIMARY KEY (site, vault, id, version, draft),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- One product of one entitlement. The counts are those of the replay, as of the newest bundle.
CREATE TABLE accounts (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    tag BIGINT NOT NULL,
    entitlement TEXT NOT NULL,
    sku TEXT NOT NULL,
    authorised BIGINT NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,
    spent BIGINT NOT NULL DEFAULT 0,
    good BIGINT NOT NULL DEFAULT 0,
    scrapped BIGINT NOT NULL DEFAULT 0,
    voided BIGINT NOT NULL DEFAULT 0,
    unresolved BIGINT NOT NULL DEFAULT 0,
    -- Of those: slots that were skipped, as they may have been spent, and that nobody can complete.
    burned BIGINT NOT NULL DEFAULT 0,
    -- When the vault followed the revocation of the entitlement, by its log.
    revoked_at BIGINT,
    PRIMARY KEY (site, vault, tag),
    UNIQUE (site, vault, entitlement, sku),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- What a log spends from although HQ never granted it. A row here is always beside a finding.
CREATE TABLE ungranted_accounts (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    tag BIGINT NOT NULL,
    entitlement TEXT NOT NULL,
    sku TEXT NOT NULL,
    good BIGINT NOT NULL,
    scrapped BIGINT NOT NULL,
    voided BIGINT NOT NULL,
    unresolved BIGINT NOT NULL,
    burned BIGINT NOT NULL,
    revoked_at BIGINT,
    PRIMARY KEY (site, vault, tag),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- The journal: every unit that a log moved, from one of an account's buckets (debit) to another (credit), by UTC day: that of
-- the log, and that on which HQ learned of it. Buckets: unspent, reserved, burned, good, scrapped, voided.
CREATE TABLE postings (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    tag BIGINT NOT NULL,
    day BIGINT NOT NULL,
    reported_day BIGINT NOT NULL,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL,
    units BIGINT NOT NULL,
    PRIMARY KEY (site, vault, tag, day, reported_day, debit, credit),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- Requests that a vault refused, by the UTC day of its log, product and rule.
CREATE TABLE refusals (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    day BIGINT NOT NULL,
    sku TEXT NOT NULL,
    code TEXT NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (site, vault, day, sku, code),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- Units that are reserved and have no certificate as of the newest bundle, by the record that reserved them. withheld: 1 if
-- what officers revoked keeps it from them.
CREATE TABLE open_units (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    reservation BIGINT NOT NULL,
    tag BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    serial TEXT NOT NULL,
    withheld INTEGER NOT NULL,
    PRIMARY KEY (site, vault, reservation),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

CREATE TABLE dispatches (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    version BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    -- The rule by which the vault refused it, as its log says.
    refused TEXT,
    PRIMARY KEY (site, vault, epoch, sequence),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

CREATE TABLE bundles (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    lineage TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    first_record BIGINT NOT NULL,
    log_size BIGINT NOT NULL,
    log_root TEXT NOT NULL,
    segments BIGINT NOT NULL,
    checkpoint_time BIGINT NOT NULL,
    sealed_at BIGINT NOT NULL,
    imported_at BIGINT NOT NULL,
    dispatch_epoch BIGINT,
    dispatch_sequence BIGINT,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (site, vault, lineage, sequence),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- Restores that vaults declared, in the order of their coming in. Bundles of the newest one's lineage begin at `held`.
-- leases: JSON, pairs of account tag and slot. tail_key: the dispatch key that signed the parts of the tail, none before
-- they were made.
CREATE TABLE restores (
    number INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    declaration TEXT NOT NULL UNIQUE,
    parent TEXT NOT NULL,
    lineage TEXT NOT NULL UNIQUE,
    size BIGINT NOT NULL,
    held BIGINT NOT NULL,
    held_root TEXT NOT NULL,
    leases TEXT NOT NULL,
    declared_at BIGINT NOT NULL,
    imported_at BIGINT NOT NULL,
    tail_parts BIGINT,
    tail_key BLOB,
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- What was refused and kept as evidence, the first of each place: another bundle for the same place is a fork.
CREATE TABLE refused_bundles (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    lineage TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    log_size BIGINT NOT NULL,
    log_root TEXT NOT NULL,
    PRIMARY KEY (site, vault, lineage, sequence),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- The state machine as it stood after the newest bundle, so that the next one can be replayed on top.
CREATE TABLE replays (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    snapshot BLOB NOT NULL,
    PRIMARY KEY (site, vault),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- One row per unit that a log reserved, by the record that did. A serial needs no index: it decrypts to account and
-- slot. Of a key's digest the first 8 bytes are the index, as a signed number; slots beyond the signed range wrap.
-- tbs_digest is of the certificate, unsigned, that was reserved: no other one is this unit's.
CREATE TABLE devices (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    reservation BIGINT NOT NULL,
    sku TEXT NOT NULL,
    device_id TEXT NOT NULL,
    key_prefix BIGINT NOT NULL,
    key_digest BLOB NOT NULL,
    tbs_digest BLOB NOT NULL,
    account BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    issue BIGINT NOT NULL,
    reserved_at BIGINT NOT NULL,
    signed BIGINT,
    issued_at BIGINT,
    PRIMARY KEY (site, vault, reservation),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);
CREATE INDEX devices_by_id ON devices (device_id, reservation);
CREATE INDEX devices_by_key ON devices (key_prefix, reservation);
CREATE INDEX devices_by_slot ON devices (site, vault, account, slot, issue, reservation);

-- What somebody at a vault said of a device: that it was scrapped, voided, or is to be made again. One row for each order
-- that the log carried out, by the record of that; the reservation is that of the issue which it concerns.
CREATE TABLE device_orders (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    record BIGINT NOT NULL,
    reservation BIGINT NOT NULL,
    action TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (site, vault, record),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);
CREATE INDEX device_orders_by_reservation ON device_orders (site, vault, reservation, record);

-- What departs from the rules. Of one about no single record, log_sequence is -1.
CREATE TABLE findings (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    lineage TEXT NOT NULL,
    log_sequence BIGINT NOT NULL,
    code TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('critical', 'major', 'minor', 'note')),
    text TEXT NOT NULL,
    serials TEXT NOT NULL,
    evidence TEXT NOT NULL,
    found_at BIGINT NOT NULL,
    UNIQUE (site, vault, lineage, log_sequence, code, evidence)
);

-- The right edge of a vault's Merkle tree at the end of each bundle: its size (8 octets, big-endian) and its hashes. With it,
-- inclusion of a later record is proven without the records before.
CREATE TABLE log_trees (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    log_size BIGINT NOT NULL,
    tree BLOB NOT NULL,
    PRIMARY KEY (site, vault, log_size),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- Each serial that a finding names, to find it by; `*` for those beyond, of a finding that concerns more than it names.
CREATE TABLE finding_serials (
    serial TEXT NOT NULL,
    finding BIGINT NOT NULL REFERENCES findings (id) ON DELETE CASCADE,
    PRIMARY KEY (serial, finding)
);
CREATE INDEX finding_serials_by_finding ON finding_serials (finding);

-- Of the state machine, what is asked of one device at a time, so that no look-up reads all of it. Issues that are no longer
-- good, by account, slot and issue; slots beyond the signed range wrap.
CREATE TABLE withdrawals (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    account BIGINT NOT NULL,
    slot BIGINT NOT NULL,
    issue BIGINT NOT NULL,
    why TEXT NOT NULL CHECK (why IN ('scrapped', 'voided', 'superseded', 'revoked')),
    reservation BIGINT NOT NULL,
    record BIGINT NOT NULL,
    withdrawn_at BIGINT NOT NULL,
    PRIMARY KEY (site, vault, account, slot, issue),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);
CREATE INDEX withdrawals_by_record ON withdrawals (site, vault, record);

-- The device CAs that a log puts in force, each from this record on until the next.
CREATE TABLE device_cas_in_force (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    first_record BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (site, vault, first_record),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- Of each device CA, the record of its vault's log that states the newest CRL that came home.
CREATE TABLE crls_held (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    device_ca TEXT NOT NULL,
    record BIGINT NOT NULL,
    PRIMARY KEY (site, vault, device_ca),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);

-- What is written from here on is for readers: docs/registry.md describes these views, and they keep their columns. The tables
-- above may change with any version.

CREATE VIEW audit_accounts AS
SELECT site, vault, product, entitlement, authorised, good, scrapped, voided,
    unresolved + CASE WHEN replaced = 1 THEN left_over ELSE 0 END AS unresolved,
    CASE WHEN replaced = 1 THEN 0 ELSE left_over END AS unspent,
    burned,
    CASE WHEN replaced = 1 THEN left_over ELSE 0 END AS written_off,
    granted, revoked_at, tag
FROM (
    SELECT a.site, a.vault, a.sku AS product, a.entitlement, a.authorised, a.good, a.scrapped, a.voided, a.unresolved, a.burned,
        CASE WHEN a.authorised > a.good + a.scrapped + a.voided + a.unresolved
            THEN a.authorised - a.good - a.scrapped - a.voided - a.unresolved ELSE 0 END AS left_over,
        CASE WHEN v.successor IS NULL THEN 0 ELSE 1 END AS replaced,
        1 AS granted, a.revoked_at, a.tag
    FROM accounts a JOIN vaults v ON v.site = a.site AND v.vault = a.vault
    WHERE a.sent = 1
    UNION ALL
    SELECT site, vault, sku, entitlement, 0, good, scrapped, voided, unresolved, burned, 0, 0, 0, revoked_at, tag
    FROM ungranted_accounts
) counted;

CREATE VIEW audit_postings AS
SELECT p.site, p.vault, a.product, a.entitlement, p.day, p.reported_day, p.debit, p.credit, p.units, p.tag
FROM postings p JOIN audit_accounts a ON a.site = p.site AND a.vault = p.vault AND a.tag = p.tag;

CREATE VIEW audit_days AS
SELECT site, vault, product, entitlement, day,
    SUM(CASE WHEN credit = 'reserved' THEN units ELSE 0 END) AS newly_reserved,
    SUM(CASE WHEN credit = 'burned' THEN units ELSE 0 END) AS newly_burned,
    SUM(CASE WHEN credit = 'good' THEN units ELSE 0 END) AS newly_good,
    SUM(CASE WHEN credit = 'scrapped' THEN units ELSE 0 END) AS newly_scrapped,
    SUM(CASE WHEN credit = 'voided' THEN units ELSE 0 END) AS newly_voided
FROM audit_postings
GROUP BY site, vault, product, entitlement, day;

CREATE VIEW audit_refusals AS
SELECT site, vault, sku AS product, code AS rule, day, requests
FROM refusals;

CREATE VIEW audit_findings AS
SELECT site, vault, lineage, CASE WHEN log_sequence < 0 THEN NULL ELSE log_sequence END AS log_sequence, code, severity, text,
    serials, evidence, found_at
FROM findings;

CREATE VIEW audit_vaults AS
SELECT site, vault, state, requested_at, granted_at, successor
FROM vaults;

CREATE VIEW audit_entitlements AS
SELECT e.site, e.vault, e.id AS entitlement, e.version, e.state, e.valid_from, e.valid_until, e.credit_units, e.credit_days,
    e.approvers,
    (SELECT MIN(d.made_at) FROM dispatches d WHERE d.site = e.site AND d.vault = e.vault AND d.kind = 'entitlement'
        AND d.object = e.id AND d.version = e.version) AS sent_at
FROM entitlements e;

CREATE VIEW audit_bundles AS
SELECT site, vault, lineage, sequence, fingerprint, first_record, log_size, log_root, checkpoint_time, sealed_at, imported_at,
    acknowledged
FROM bundles;

CREATE VIEW audit_units AS
SELECT u.site, u.vault, u.sku AS product, u.device_id, a.entitlement, u.slot, u.issue, u.reservation, u.reserved_at, u.signed,
    u.issued_at, u.key_digest
FROM devices u LEFT JOIN audit_accounts a ON a.site = u.site AND a.vault = u.vault AND a.tag = u.account;

CREATE VIEW audit_orders AS
SELECT o.site, o.vault, o.record, o.reservation, u.sku AS product, u.device_id, o.action, o.reason
FROM device_orders o
JOIN devices u ON u.site = o.site AND u.vault = o.vault AND u.reservation = o.reservation;
