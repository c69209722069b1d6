//! The succession: what a grant says when a new vault takes the place of one whose HSM was lost. The chains of the old one
//! end; its slots that no bundle has reported are written off, and only a new entitlement grants them again.
//!
//! ```cddl
//! succession = {
//!   1: identifier,                     ; the vault that is replaced, at the same site
//!   2: lineage,                        ; of its log
//!   3: uint,                           ; newest bundle of it that HQ holds: sequence; 0: none
//!   4: uint,                           ; size of the log that this covers, in records
//!   5: [0*1024 write-off],             ; no account twice
//! }
//! write-off = {
//!   1: 1..281474976710655,             ; account tag
//!   2: identifier,                     ; entitlement
//!   3: sku,
//!   4: uint,                           ; the first slot that no bundle has reported
//!   5: uint,                           ; how many from there on are written off
//! }
//! ```

use std::collections::BTreeSet;

use ciborium::Value;

use crate::Error;
use crate::cbor::{Fields, Map};
use crate::entitlement::AccountTag;
use crate::identifier::{EntitlementId, Lineage, Sku, VaultId};

/// The most accounts of a vault that is replaced.
const WRITE_OFFS_MAX: usize = 1024;
const WHAT: &str = "succession";

/// Which vault a new one replaces, and what is written off with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The vault that is replaced, at the same site.
    pub replaces: VaultId,
    /// The lineage of its log.
    pub lineage: Lineage,
    /// The newest bundle of it that HQ holds; 0: none.
    pub bundle_sequence: u64,
    /// How many records of its log HQ holds.
    pub log_size: u64,
    /// What is written off, one per account.
    pub write_offs: Vec<WriteOff>,
}

/// The slots of one account that nobody may spend any more, and that may have been spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOff {
    /// The account.
    pub account: AccountTag,
    /// Its entitlement.
    pub entitlement: EntitlementId,
    /// Its product.
    pub sku: Sku,
    /// The first slot that no bundle has reported.
    pub first_slot: u64,
    /// How many from there on are written off.
    pub units: u64,
}

impl Succession {
    pub(crate) fn to_map(&self) -> Map {
        let write_offs = self.write_offs.iter().map(|off| {
            Map::new()
                .with(1, off.account.number())
                .with(2, off.entitlement.as_str())
                .with(3, off.sku.as_str())
                .with(4, off.first_slot)
                .with(5, off.units)
        });
        Map::new()
            .with(1, self.replaces.as_str())
            .with(2, self.lineage.as_bytes().to_vec())
            .with(3, self.bundle_sequence)
            .with(4, self.log_size)
            .with_array(5, write_offs)
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, Error> {
        let mut fields = Fields::new(WHAT, value)?;
        let succession = Self {
            replaces: fields.parse(1)?,
            lineage: fields.octets(2)?,
            bundle_sequence: fields.uint(3)?,
            log_size: fields.uint(4)?,
            write_offs: fields
                .array(5, WRITE_OFFS_MAX)?
                .into_iter()
                .map(write_off)
                .collect::<Result<_, _>>()?,
        };
        let mut accounts = BTreeSet::new();
        if !succession
            .write_offs
            .iter()
            .all(|off| accounts.insert(off.account))
        {
            return Err(fields.wrong(5, "an account stands twice"));
        }
        fields.finish()?;
        Ok(succession)
    }
}

fn write_off(value: Value) -> Result<WriteOff, Error> {
    let mut fields = Fields::new("write-off of a succession", value)?;
    let account = AccountTag::new(fields.uint(1)?);
    let off = WriteOff {
        account: account.ok_or_else(|| fields.wrong(1, "an account tag is 1 to 2^48 - 1"))?,
        entitlement: fields.parse(2)?,
        sku: fields.parse(3)?,
        first_slot: fields.uint(4)?,
        units: fields.uint(5)?,
    };
    fields.finish()?;
    Ok(off)
}
