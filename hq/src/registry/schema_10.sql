-- Of each device CA, the record of its vault's log that states the newest CRL that came home.
CREATE TABLE crls_held (
    site TEXT NOT NULL,
    vault TEXT NOT NULL,
    device_ca TEXT NOT NULL,
    record BIGINT NOT NULL,
    PRIMARY KEY (site, vault, device_ca),
    FOREIGN KEY (site, vault) REFERENCES vaults (site, vault)
);
