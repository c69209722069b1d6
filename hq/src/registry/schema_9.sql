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
