//! Log entries: the inputs that reached a vault and the decisions it made from them.
//!
//! An entry is one record of the log, deterministic CBOR. An input that asks for a decision (a dispatch, a request) is
//! always followed directly by that decision, in the same commit group.
//!
//! ```cddl
//! entry = { 0: kind, 1: unix-time, ? 2: int, * fields of the kind }
//! ; 1: never below that of the entry before; 2: seconds by which the vault's clock stood behind that time, below 0: ahead of
//! ; it (absent: 0)
//!
//! genesis          = { 0: 1, 1: unix-time, 3: identifier, 4: identifier, 5: lineage, 6: uint, 7: digest, 8: digest, 9: tstr }
//!                    ; site, vault, lineage, trust manifest: version, fingerprint; enrolment request: fingerprint; software
//! start            = { 0: 2, 1: unix-time, ? 2: int, 3: lineage, 4: uint, 5: uint, 6: tstr, ? steady, ? 9: uint }
//!                    ; lineage, boot count, rules version, software; counter of the token's anchor
//! trust            = { 0: 3, 1: unix-time, ? 2: int, 3: uint, 4: digest, 5: uint }      ; version, fingerprint, dispatch epoch
//! dispatch         = { 0: 4, 1: unix-time, ? 2: int, 3: uint, 4: uint, 5: digest, 6: tstr, 7: tstr, 8: uint, 9: verdict }
//!                    ; epoch, sequence, fingerprint of the dispatch; kind, id, version of its content
//! request          = { 0: 5, 1: unix-time, ? 2: int, 3: sku, 4: identifier, 5: submission }      ; product, station
//! signed           = { 0: 6, 1: unix-time, ? 2: int, 3: sequence, 4: bstr .size 64 }      ; reservation, r || s
//! bundle-sealed    = { 0: 7, 1: unix-time, ? 2: int, 3: uint, 4: digest, 5: uint, 6: uint }
//!                    ; sequence, fingerprint, log size that it covers, requests answered and not logged
//! rotation         = { 0: 8, 1: unix-time, ? 2: int, 3: 2..65535, 4: digest }
//!                    ; generation of the device CA that the vault asked for; fingerprint of that enrolment request
//! key              = { 0: 9, 1: unix-time, ? 2: int, 3: identifier, 4: label, 5: "unwrapped" / "imported" }
//!                  / { 0: 9, 1: unix-time, ? 2: int, 3: identifier, 4: label, 5: "refused", 6: code }
//!                    ; entitlement and label of a key that it brought; how the token took it, or why not
//!
//! device           = { 0: 10, 1: unix-time, ? 2: int, 3: "scrap" / "void" / "rework", 4: sku, 5: tstr, 6: reason,
//!                      ? 7: identifier }        ; product, device id; the station that asked for it (absent: the console)
//! crl              = { 0: 11, 1: unix-time, ? 2: int, 3: 1..65535, 4: uint, 5: digest, 6: unix-time, 7: unix-time }
//!                    ; generation of the device CA, CRL number, SHA-256 of the CRL (DER), thisUpdate, nextUpdate
//! clock            = { 0: 12, 1: unix-time, ? 2: int, 3: bool, 4: unix-time, ? steady }
//!                    ; whether the clock is believed again; what it should say, or the latest that it may say
//! clock-confirm    = { 0: 13, 1: unix-time, ? 2: int, ? steady }      ; a person says that the clock is right
//! burned           = { 0: 14, 1: unix-time, ? 2: int, 3: uint, 4: [+ [tag: uint, first: uint, end: 1..281474976710656]] }
//!                    ; counter of the token's anchor; slots that were leased and may have been spent: first to end - 1
//! restored         = { 0: 15, 1: unix-time, ? 2: int, 3: lineage, 4: uint, 5: digest, 6: lineage, 7: uint }
//!                    ; the lineage before, its size and root here; the lineage that goes on from here; records that HQ holds
//! pruned           = { 0: 26, 1: unix-time, ? 2: int, 3: unix-time, 4: [1*1024 [first: uint, end: uint, digest]] }
//!                    ; the newest time of what was pruned; the records that gave way, first to end - 1, and the digest of what
//!                    ; is kept of them
//!
//! station-ca       = { 0: 23, 1: unix-time, ? 2: int, 3: bstr }            ; certificate of the vault's station CA (DER)
//! station          = { 0: 24, 1: unix-time, ? 2: int, 3: identifier, 4: "approve", 5: unix-time, 6: bstr, 7: bstr,
//!                      ? 8: [1*64 sku], ? 9: uint, ? 10: [1*2048 interval] }
//!                    ; station; until when; its request (PKCS#10) and its certificate (DER); products, new units a UTC day, hours
//!                  / { 0: 24, 1: unix-time, ? 2: int, 3: identifier, 4: "revoke", 5: reason }
//!
//! dispatch-accepted = { 0: 16, 1: unix-time, ? 2: int }
//! dispatch-refused  = { 0: 17, 1: unix-time, ? 2: int, 3: code }
//! reserved         = { 0: 18, 1: unix-time, ? 2: int, 3: identifier, 4: uint, 5: uint, 6: uint, 7: tstr, 8: digest, 9: bstr,
//!                      ? 10: [1*16 label] }
//!                    ; entitlement, account tag, slot, issue, device id, SHA-256 of the public key, TBSCertificate (DER),
//!                    ; keys from which the device gets a secret each, counted as a use
//! existing         = { 0: 19, 1: unix-time, ? 2: int, 3: sequence }
//! refused          = { 0: 20, 1: unix-time, ? 2: int, 3: code, ? 4: identifier }      ; the entitlement that came closest
//! device-changed   = { 0: 21, 1: unix-time, ? 2: int, 3: sequence, 4: uint, 5: uint, 6: uint }
//!                    ; its newest issue: reservation, account tag, slot, issue number
//! clock-confirmed  = { 0: 22, 1: unix-time, ? 2: int }
//! station-changed  = { 0: 25, 1: unix-time, ? 2: int }
//!
//! verdict    = { 1: 0, 2: code }                       ; what the vault found while verifying it
//!            / { 1: 1, 2: digest, 3: bstr, 4: bstr, 5: bstr }
//!                    ; grant: fingerprint, plaintext, certificates of the vault's identity and of its device CA
//!            / { 1: 2, 2: digest, 3: bstr }            ; entitlement: fingerprint, plaintext
//!            / { 1: 3, 2: digest, 3: bstr }            ; acknowledgement: fingerprint, plaintext
//!            / { 1: 4, 2: digest, 3: bstr }            ; revocation: fingerprint, plaintext
//!            / { 1: 5, 2: digest, 3: bstr }            ; clock correction: fingerprint, plaintext
//!            / { 1: 6, 2: digest, 3: bstr }            ; re-anchor: fingerprint, plaintext
//! submission = { 1: bstr }                             ; a request whose proof of possession was verified (PKCS#10, DER)
//!            / { 2: digest, 3: code }                  ; bytes that did not authenticate: their SHA-256, and why
//! steady = ( 7: bstr .size 16, 8: uint )       ; the boot of the machine, seconds since then
//! reason = tstr .size (1..200)                  ; without control characters
//! digest = bstr .size 32    lineage = bstr .size 16    sequence = uint    code = tstr .regexp "[A-Z0-9-]{1,64}"
//! interval = [unix-time, unix-time]
//! label = tstr .regexp "[a-z0-9-]{1,28}"
//! ```

mod body;
mod decode;
mod device;
mod dispatch;
mod encode;
mod history;
mod key;
mod pruned;
mod request;
mod station;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::body::Body;
pub use self::decode::BURNED_MAX;
pub(crate) use self::decode::is_code;
pub use self::device::{DeviceAction, DeviceChanged, DeviceOrder};
pub use self::dispatch::{Content, Dispatch, Verdict};
pub use self::history::{
    BundleSealed, Burned, BurnedSlots, ClockFound, Genesis, Restored, Start, Steady, Trust,
};
pub use self::key::{CrlIssued, KeyOutcome, KeyReceipt, Rotation};
pub use self::pruned::{PRUNED_FILES_MAX, Pruned, PrunedRecords};
pub use self::request::{Refused, Request, Reserved, Signed, Submission};
pub use self::station::{
    STATION_INTERVALS_MAX, STATION_PRODUCTS_MAX, StationApproval, StationChange, StationOrder,
    StationTerms,
};

/// The largest entry, in bytes.
pub const ENTRY_BYTES_MAX: usize = 128 << 10;

/// The longest code, in bytes.
pub const CODE_BYTES_MAX: usize = 64;

/// The longest free text (software version, kind and id of a dispatch's content), in bytes.
pub const TEXT_BYTES_MAX: usize = 64;

/// The position of a record in the log, counted from 0. A reservation is known by that of its `Reserved` entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogSequence(pub u64);

impl LogSequence {
    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for LogSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, Unix seconds: the vault's clock, or the time of the entry before if that is later.
    pub time: u64,
    /// By how many seconds the vault's clock stood behind `time`; 0 while the clock runs forward, below 0 where it stands
    /// ahead and is not believed.
    pub clock_behind_seconds: i64,
    /// What.
    pub body: Body,
}

impl Entry {
    /// What the vault's clock said, Unix seconds.
    pub fn clock(&self) -> u64 {
        self.time
            .saturating_add_signed(self.clock_behind_seconds.saturating_neg())
    }

    /// The record: deterministic CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        encode::entry(self)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`mintmark_protocol::Error`] with the rule that the bytes break: they are oversize, not deterministic, of
    /// another shape, or hold a field that this version does not know.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, mintmark_protocol::Error> {
        decode::entry(bytes)
    }
}
