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

mod decode;
mod encode;
mod pruned;
mod station;

use std::fmt;

use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::{
    DeviceId, EntitlementId, Fingerprint, KeyLabel, Lineage, Sku, StationId, VaultName,
};

pub use self::decode::BURNED_MAX;
pub(crate) use self::decode::is_code;
pub use self::pruned::{PRUNED_FILES_MAX, Pruned, PrunedRecords};
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

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The log begins. Always and only record 0.
    Genesis(Genesis),
    /// A process opened the log to write.
    Start(Start),
    /// A trust manifest was pinned.
    Trust(Trust),
    /// A dispatch from HQ; a decision follows.
    Dispatch(Dispatch),
    /// Somebody asked for a device certificate; a decision follows.
    Request(Request),
    /// The HSM signed a reservation.
    Signed(Signed),
    /// An audit bundle was sealed.
    BundleSealed(BundleSealed),
    /// The vault asked for its next device CA.
    Rotation(Rotation),
    /// A key of an entitlement came into the token, or could not.
    Key(KeyReceipt),
    /// Somebody at the vault ends a device, or asks for another certificate for it; a decision follows.
    Device(DeviceOrder),
    /// The vault signed a CRL.
    Crl(CrlIssued),
    /// The clock is not believed from here on, or is again.
    Clock(ClockFound),
    /// A person says that the clock is right; a decision follows.
    ClockConfirm {
        /// What the machine's own clock says.
        steady: Option<Steady>,
    },
    /// Slots that were leased from the token's anchor are skipped, since they may have been spent.
    Burned(Burned),
    /// The log goes on in another lineage, after a restore that was declared.
    Restored(Restored),
    /// Records that headquarters holds gave way to what is kept of them.
    Pruned(Pruned),
    /// The vault made a CA for the stations that may ask it over the network.
    StationCa {
        /// Its certificate, DER.
        certificate: Vec<u8>,
    },
    /// Somebody at the vault lets a station in, or shuts it out; a decision follows.
    Station(StationOrder),
    /// Decision: the dispatch's content is in force.
    DispatchAccepted,
    /// Decision: the dispatch advances the chain, its content has no effect.
    DispatchRefused {
        /// The rule.
        code: String,
    },
    /// Decision: a unit is spent on this request.
    Reserved(Reserved),
    /// Decision: the request has been answered before.
    Existing {
        /// The reservation that answered it.
        reservation: LogSequence,
    },
    /// Decision: no.
    Refused(Refused),
    /// Decision: it is so with the device from here on.
    DeviceChanged(DeviceChanged),
    /// Decision: the clock is believed from here on.
    ClockConfirmed,
    /// Decision: it is so with the station from here on.
    StationChanged,
}

impl Body {
    /// Whether this is a decision, which follows the input that it was made from.
    pub fn is_decision(&self) -> bool {
        match self {
            Self::Genesis(_)
            | Self::Start(_)
            | Self::Trust(_)
            | Self::Dispatch(_)
            | Self::Request(_)
            | Self::Signed(_)
            | Self::BundleSealed(_)
            | Self::Rotation(_)
            | Self::Key(_)
            | Self::Device(_)
            | Self::Crl(_)
            | Self::Clock(_)
            | Self::ClockConfirm { .. }
            | Self::Burned(_)
            | Self::Restored(_)
            | Self::Pruned(_)
            | Self::StationCa { .. }
            | Self::Station(_) => false,
            Self::DispatchAccepted
            | Self::DispatchRefused { .. }
            | Self::Reserved(_)
            | Self::Existing { .. }
            | Self::Refused(_)
            | Self::DeviceChanged(_)
            | Self::ClockConfirmed
            | Self::StationChanged => true,
        }
    }

    /// Whether this is an input that a decision follows.
    pub fn wants_decision(&self) -> bool {
        matches!(
            self,
            Self::Dispatch(_)
                | Self::Request(_)
                | Self::Device(_)
                | Self::ClockConfirm { .. }
                | Self::Station(_)
        )
    }

    /// The kind's name in reports: `request`, `reserved` and so on.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Genesis(_) => "genesis",
            Self::Start(_) => "start",
            Self::Trust(_) => "trust",
            Self::Dispatch(_) => "dispatch",
            Self::Request(_) => "request",
            Self::Signed(_) => "signed",
            Self::BundleSealed(_) => "bundle-sealed",
            Self::Rotation(_) => "rotation",
            Self::Key(_) => "key",
            Self::DispatchAccepted => "dispatch-accepted",
            Self::DispatchRefused { .. } => "dispatch-refused",
            Self::Reserved(_) => "reserved",
            Self::Existing { .. } => "existing",
            Self::Refused(_) => "refused",
            Self::Device(order) => order.action.as_str(),
            Self::Crl(_) => "crl",
            Self::Clock(_) => "clock",
            Self::ClockConfirm { .. } => "clock-confirm",
            Self::Burned(_) => "burned",
            Self::Restored(_) => "restored",
            Self::Pruned(_) => "pruned",
            Self::DeviceChanged(_) => "device-changed",
            Self::ClockConfirmed => "clock-confirmed",
            Self::StationCa { .. } => "station-ca",
            Self::Station(StationOrder {
                change: StationChange::Approve(_),
                ..
            }) => "station-approve",
            Self::Station(_) => "station-revoke",
            Self::StationChanged => "station-changed",
        }
    }

    /// The rule that refused, if this is a refusal; why the token refused a key.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Key(KeyReceipt {
                outcome: KeyOutcome::Refused { code },
                ..
            }) => Some(code),
            Self::DispatchRefused { code } => Some(code),
            Self::Refused(refused) => Some(&refused.code),
            _ => None,
        }
    }
}

/// How a vault's log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Whose log this is.
    pub vault: VaultName,
    /// The random name of this history.
    pub lineage: Lineage,
    /// Version of the trust manifest that was pinned at `site init`.
    pub trust_version: u64,
    /// Its fingerprint.
    pub trust_fingerprint: Fingerprint,
    /// Fingerprint of the enrolment request that the vault signed.
    pub enrolment_fingerprint: Fingerprint,
    /// The program that wrote it, such as `site 0.1.0`.
    pub software: String,
}

/// A process begins to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The history that it continues.
    pub lineage: Lineage,
    /// How often the log was opened to write, this time included.
    pub boot: u64,
    /// The rules by which it decides: [`crate::decide::RULES_VERSION`] of that program.
    pub rules_version: u32,
    /// The program, such as `site 0.1.0`.
    pub software: String,
    /// What the machine's own clock said.
    pub steady: Option<Steady>,
    /// The counter of the anchor that the token held; none where there is no anchor.
    pub anchor: Option<u64>,
}

/// What a machine's own clock says, which nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    /// Which boot of the machine it counts from: random.
    pub boot: [u8; 16],
    /// Seconds since then, those included in which the machine slept.
    pub seconds: u64,
}

/// A trust manifest that was pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Its version.
    pub version: u64,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// The dispatch epoch that it states: if it is above that of the vault's chain, a new chain begins.
    pub dispatch_epoch: u64,
}

/// An authentic dispatch in its place of the chain, and what verification of its content found: a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The dispatch epoch.
    pub epoch: u64,
    /// Its place within the epoch, counted from 1.
    pub sequence: u64,
    /// Fingerprint of the dispatch.
    pub fingerprint: Fingerprint,
    /// The kind of its content, as the message names it.
    pub kind: String,
    /// The id of its content.
    pub id: String,
    /// The version of its content.
    pub version: u64,
    /// What came of verifying the content.
    pub content: Verdict,
}

/// What came of verifying a dispatch's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its signatures, threshold, addressee and commitment hold.
    Authentic(Content),
    /// They do not, or this version cannot read it.
    Rejected {
        /// The rule that it breaks.
        code: String,
    },
}

/// The content of a dispatch, as officers approved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// HQ lets the vault in.
    Grant {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::enrolment::EnrolmentGrant`], encoded.
        plaintext: Vec<u8>,
        /// The vault's identity certificate, DER; that the root signed it is a fact.
        identity_certificate: Vec<u8>,
        /// The vault's device CA certificate, DER; that the root signed it is a fact.
        device_ca_certificate: Vec<u8>,
    },
    /// What the vault may make.
    Entitlement {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::entitlement::Entitlement`], encoded.
        plaintext: Vec<u8>,
    },
    /// HQ holds a bundle.
    Acknowledgement {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::acknowledgement::Acknowledgement`], encoded.
        plaintext: Vec<u8>,
    },
    /// Something is over.
    Revocation {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::revocation::Revocation`], encoded.
        plaintext: Vec<u8>,
    },
    /// The log goes on at another time.
    ClockCorrection {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::clock_correction::ClockCorrection`], encoded.
        plaintext: Vec<u8>,
    },
    /// Officers vouch for a head of the log.
    Reanchor {
        /// Fingerprint of the signed object.
        fingerprint: Fingerprint,
        /// [`mintmark_protocol::reanchor::Reanchor`], encoded.
        plaintext: Vec<u8>,
    },
}

impl Content {
    /// Fingerprint of the signed object.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Grant { fingerprint, .. }
            | Self::Entitlement { fingerprint, .. }
            | Self::Acknowledgement { fingerprint, .. }
            | Self::Revocation { fingerprint, .. }
            | Self::ClockCorrection { fingerprint, .. }
            | Self::Reanchor { fingerprint, .. } => *fingerprint,
        }
    }

    /// What was signed, decrypted.
    pub fn plaintext(&self) -> &[u8] {
        match self {
            Self::Grant { plaintext, .. }
            | Self::Entitlement { plaintext, .. }
            | Self::Acknowledgement { plaintext, .. }
            | Self::Revocation { plaintext, .. }
            | Self::ClockCorrection { plaintext, .. }
            | Self::Reanchor { plaintext, .. } => plaintext,
        }
    }
}

/// Somebody asks for a device certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For which product.
    pub product: Sku,
    /// Through which station; that it authenticated is a fact.
    pub station: StationId,
    /// With what.
    pub submission: Submission,
}

/// What was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// A certification request whose signature proves possession of the key: a fact that HQ checks again.
    Csr {
        /// PKCS#10, as received.
        der: Vec<u8>,
    },
    /// Something else. Bytes that do not authenticate are never logged.
    Unreadable {
        /// SHA-256 of what was received.
        sha256: Fingerprint,
        /// Why it is none: the code of [`mintmark_pki::Error`].
        code: String,
    },
}

/// The HSM's answer for a reservation, verified by the vault: a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Which reservation.
    pub reservation: LogSequence,
    /// The ECDSA P-256 signature over its to-be-signed certificate, r || s.
    pub signature: [u8; 64],
}

/// A bundle that can now leave the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSealed {
    /// Its place in the chain of bundles, counted from 1.
    pub sequence: u64,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// How many records of the log it and the bundles before it cover.
    pub log_size: u64,
    /// How many requests were answered and not logged since the bundle before, because the cap was reached.
    pub requests_unlogged: u64,
}

/// The vault made the key of its next device CA, and asks HQ to certify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The generation of that device CA, from 2.
    pub generation: u16,
    /// Fingerprint of the enrolment request that the vault signed for it.
    pub request_fingerprint: Fingerprint,
}

/// What became of a key that an entitlement brought: a fact that HQ cannot see, only the vault's token can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReceipt {
    /// The entitlement that brought it.
    pub entitlement: EntitlementId,
    /// Its label.
    pub label: KeyLabel,
    /// What became of it.
    pub outcome: KeyOutcome,
}

/// How a key came into the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The token unwrapped it: it was never in the clear outside.
    Unwrapped,
    /// It passed through the vault's memory.
    Imported,
    /// It is not in the token.
    Refused {
        /// Why.
        code: String,
    },
}

impl KeyOutcome {
    /// Its name in entries and reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unwrapped => "unwrapped",
            Self::Imported => "imported",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A spent unit, with everything that its certificate will say; or, with an issue number above 0, another certificate for
/// a unit that was spent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The entitlement that it is spent from.
    pub entitlement: EntitlementId,
    /// The account within it.
    pub account: AccountTag,
    /// The slot, 0 to units - 1.
    pub slot: u64,
    /// 0, and one more with each re-issue.
    pub issue: u16,
    /// The device.
    pub device_id: DeviceId,
    /// SHA-256 of the device key's SubjectPublicKeyInfo (DER).
    pub spki_sha256: Fingerprint,
    /// The whole to-be-signed certificate, DER: the only thing that may be signed for this unit.
    pub tbs: Vec<u8>,
    /// The keys from which the device gets a secret each, in the order of the entitlement. A re-issue has none: the device
    /// has its secrets.
    pub keys: Vec<KeyLabel>,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule.
    pub code: String,
    /// The entitlement that came closest to allowing it.
    pub entitlement: Option<EntitlementId>,
}

/// What somebody at the vault wants of a device that has a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceOrder {
    /// What.
    pub action: DeviceAction,
    /// The product.
    pub product: Sku,
    /// The device.
    pub device_id: DeviceId,
    /// Why, as [`mintmark_protocol::order::is_reason`] allows it.
    pub reason: String,
    /// Through which station; that it authenticated is a fact.
    pub station: StationId,
}

/// What a device order concerns: the newest issue of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceChanged {
    /// The reservation of that issue.
    pub reservation: LogSequence,
    /// Its account.
    pub account: AccountTag,
    /// Its slot.
    pub slot: u64,
    /// Its issue number.
    pub issue: u16,
}

/// What is done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceAction {
    /// It was made and destroyed: its unit counts as scrapped, its certificate is revoked.
    Scrap,
    /// Its unit never became a device: it counts as voided, and what certificate there is is revoked.
    Void,
    /// It may have one more certificate, for whatever key, without another unit.
    Rework,
}

impl DeviceAction {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Scrap, Self::Void, Self::Rework];

    /// Its name in entries, commands and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scrap => "scrap",
            Self::Void => "void",
            Self::Rework => "rework",
        }
    }
}

/// A CRL that a device CA of the vault signed: a fact that HQ checks when the CRL reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlIssued {
    /// The generation of the device CA.
    pub generation: u16,
    /// The CRL number (RFC 5280 section 5.2.3): counted from 1 for each device CA.
    pub number: u64,
    /// SHA-256 of the CRL, DER.
    pub sha256: Fingerprint,
    /// Its thisUpdate, Unix seconds.
    pub this_update: u64,
    /// Its nextUpdate, Unix seconds.
    pub next_update: u64,
}

/// What the vault found of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockFound {
    /// Whether it is believed again; otherwise it is not believed from here on.
    pub believed: bool,
    /// What it should say, or the latest that it may say, Unix seconds.
    pub expected: u64,
    /// What the machine's own clock says.
    pub steady: Option<Steady>,
}

/// Slots that are skipped after a stop that was not clean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burned {
    /// The counter of the anchor that leased them.
    pub anchor: u64,
    /// Which, by account; at least one.
    pub slots: Vec<BurnedSlots>,
}

/// Slots of one account, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurnedSlots {
    /// The account.
    pub account: AccountTag,
    /// The first of them.
    pub first: u64,
    /// The one after the last.
    pub end: u64,
}

/// A restore that was declared: from here on the log is of another lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The lineage before.
    pub parent: Lineage,
    /// How many records of it there are, this one not counted.
    pub size: u64,
    /// Their root.
    pub root: Fingerprint,
    /// The lineage from here on.
    pub lineage: Lineage,
    /// How many records HQ holds: what the first bundle of the lineage begins after. At most `size`.
    pub held: u64,
    /// The slot of each account below which everything may have been spent, as the token's anchor said when the restore was
    /// declared; in order of tags.
    pub leases: Vec<(AccountTag, u64)>,
}

#[cfg(test)]
mod tests;
