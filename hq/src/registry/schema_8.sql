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
