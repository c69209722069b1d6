//! How entries are read: strictly, since at HQ they come from somebody who may be hostile.

use mintmark_protocol::Error;
use mintmark_protocol::cbor::Fields;
use mintmark_protocol::enrolment::FIRST_GENERATION;
use mintmark_protocol::entitlement::{AccountTag, Interval, UNITS_MAX};
use mintmark_protocol::identifier::{KeyLabel, Sku, StationId, VaultName};
use mintmark_protocol::key_terms::KEYS_MAX;
use mintmark_protocol::order::is_reason;

use super::encode::{
    BUNDLE_SEALED, BURNED, CLOCK, CLOCK_BEHIND, CLOCK_CONFIRM, CLOCK_CONFIRMED,
    CONTENT_ACKNOWLEDGEMENT, CONTENT_CLOCK_CORRECTION, CONTENT_ENTITLEMENT, CONTENT_GRANT,
    CONTENT_REANCHOR, CONTENT_REJECTED, CONTENT_REVOCATION, CRL, DEVICE, DEVICE_CHANGED, DISPATCH,
    DISPATCH_ACCEPTED, DISPATCH_REFUSED, EXISTING, GENESIS, KEY, KIND, PRUNED, REFUSED, REQUEST,
    RESERVED, RESTORED, ROTATION, SIGNED, START, STATION, STATION_CA, STATION_CHANGED, STEADY_BOOT,
    STEADY_SECONDS, TIME, TRUST,
};
use super::{
    Body, BundleSealed, Burned, BurnedSlots, CODE_BYTES_MAX, ClockFound, Content, CrlIssued,
    DeviceAction, DeviceChanged, DeviceOrder, Dispatch, ENTRY_BYTES_MAX, Entry, Genesis,
    KeyOutcome, KeyReceipt, LogSequence, PRUNED_FILES_MAX, Pruned, PrunedRecords, Refused, Request,
    Reserved, Restored, Rotation, STATION_INTERVALS_MAX, STATION_PRODUCTS_MAX, Signed, Start,
    StationApproval, StationChange, StationOrder, StationTerms, Steady, Submission, TEXT_BYTES_MAX,
    Trust, Verdict,
};
use crate::state::codec::{Numbers, read_numbered_digest};

const WHAT: &str = "log entry";
/// The most accounts whose slots one entry burns.
pub const BURNED_MAX: usize = 1000;

pub(super) fn entry(bytes: &[u8]) -> Result<Entry, Error> {
    let mut fields = Fields::decode(WHAT, bytes, ENTRY_BYTES_MAX)?;
    let kind = fields.uint(KIND)?;
    let time = fields.uint(TIME)?;
    let clock_behind_seconds = clock_behind(&mut fields, time)?;
    let body = body(kind, &mut fields)?;
    fields.finish()?;
    Ok(Entry {
        time,
        clock_behind_seconds,
        body,
    })
}

fn clock_behind(fields: &mut Fields, time: u64) -> Result<i64, Error> {
    let Some(value) = fields.optional(CLOCK_BEHIND) else {
        return Ok(0);
    };
    let seconds = value
        .as_integer()
        .and_then(|seconds| i64::try_from(seconds).ok());
    match seconds {
        None => Err(fields.wrong(CLOCK_BEHIND, "a number of seconds was expected")),
        Some(0) => Err(fields.wrong(CLOCK_BEHIND, "zero is written by leaving it out")),
        Some(seconds) => match time.checked_add_signed(seconds.saturating_neg()) {
            Some(_) => Ok(seconds),
            None => Err(fields.wrong(CLOCK_BEHIND, "the clock would stand before 1970")),
        },
    }
}

fn body(kind: u64, fields: &mut Fields) -> Result<Body, Error> {
    Ok(match kind {
        GENESIS => Body::Genesis(Genesis {
            vault: VaultName {
                site: fields.parse(3)?,
                vault: fields.parse(4)?,
            },
            lineage: fields.octets(5)?,
            trust_version: fields.uint(6)?,
            trust_fingerprint: fields.octets(7)?,
            enrolment_fingerprint: fields.octets(8)?,
            software: text(fields, 9)?,
        }),
        START => Body::Start(Start {
            lineage: fields.octets(3)?,
            boot: fields.uint(4)?,
            rules_version: fields.uint32(5)?,
            software: text(fields, 6)?,
            steady: steady(fields)?,
            anchor: fields.optional_uint(9)?,
        }),
        TRUST => Body::Trust(Trust {
            version: fields.uint(3)?,
            fingerprint: fields.octets(4)?,
            dispatch_epoch: fields.uint(5)?,
        }),
        DISPATCH => Body::Dispatch(Dispatch {
            epoch: fields.uint(3)?,
            sequence: fields.uint(4)?,
            fingerprint: fields.octets(5)?,
            kind: text(fields, 6)?,
            id: text(fields, 7)?,
            version: fields.uint(8)?,
            content: verdict(fields.map(9, "content of a dispatch")?)?,
        }),
        REQUEST => Body::Request(Request {
            product: fields.parse(3)?,
            station: fields.parse(4)?,
            submission: submission(fields.map(5, "submission")?)?,
        }),
        SIGNED => Body::Signed(Signed {
            reservation: LogSequence(fields.uint(3)?),
            signature: signature(fields, 4)?,
        }),
        BUNDLE_SEALED => Body::BundleSealed(BundleSealed {
            sequence: fields.uint(3)?,
            fingerprint: fields.octets(4)?,
            log_size: fields.uint(5)?,
            requests_unlogged: fields.uint(6)?,
        }),
        ROTATION => Body::Rotation(Rotation {
            generation: generation(fields, 3)?,
            request_fingerprint: fields.octets(4)?,
        }),
        KEY => Body::Key(KeyReceipt {
            entitlement: fields.parse(3)?,
            label: fields.parse(4)?,
            outcome: match fields.text(5)?.as_str() {
                "unwrapped" => KeyOutcome::Unwrapped,
                "imported" => KeyOutcome::Imported,
                "refused" => KeyOutcome::Refused {
                    code: code(fields, 6)?,
                },
                _ => return Err(fields.wrong(5, "what became of a key was expected")),
            },
        }),
        DEVICE => {
            let name = fields.text(3)?;
            let action = DeviceAction::ALL
                .into_iter()
                .find(|action| action.as_str() == name);
            let order = DeviceOrder {
                action: action.ok_or_else(|| fields.wrong(3, "scrap, void or rework"))?,
                product: fields.parse(4)?,
                device_id: fields.parse(5)?,
                reason: reason(fields, 6)?,
                station: station(fields, 7)?,
            };
            Body::Device(order)
        }
        CRL => Body::Crl(CrlIssued {
            generation: match u16::try_from(fields.uint(3)?) {
                Ok(generation) if generation > 0 => generation,
                _ => return Err(fields.wrong(3, "a generation of 1 to 65535 was expected")),
            },
            number: fields.uint(4)?,
            sha256: fields.octets(5)?,
            this_update: fields.uint(6)?,
            next_update: fields.uint(7)?,
        }),
        CLOCK => {
            let believed = fields.required(3)?.as_bool();
            Body::Clock(ClockFound {
                believed: believed.ok_or_else(|| fields.wrong(3, "true or false"))?,
                expected: fields.uint(4)?,
                steady: steady(fields)?,
            })
        }
        CLOCK_CONFIRM => Body::ClockConfirm {
            steady: steady(fields)?,
        },
        BURNED => Body::Burned(Burned {
            anchor: fields.uint(3)?,
            slots: burned(fields, 4)?,
        }),
        RESTORED => Body::Restored(Restored {
            parent: fields.octets(3)?,
            size: fields.uint(4)?,
            root: fields.octets(5)?,
            lineage: fields.octets(6)?,
            held: fields.uint(7)?,
            leases: leases(fields, 8)?,
        }),
        PRUNED => Body::Pruned(Pruned {
            newest: fields.uint(3)?,
            files: pruned(fields, 4)?,
        }),
        DEVICE_CHANGED => Body::DeviceChanged(DeviceChanged {
            reservation: LogSequence(fields.uint(3)?),
            account: AccountTag::new(fields.uint(4)?)
                .ok_or_else(|| fields.wrong(4, "an account tag is 1 to 2^48 - 1"))?,
            slot: fields.uint(5)?,
            issue: u16::try_from(fields.uint(6)?).map_err(|_| fields.wrong(6, "too large"))?,
        }),
        CLOCK_CONFIRMED => Body::ClockConfirmed,
        DISPATCH_ACCEPTED => Body::DispatchAccepted,
        DISPATCH_REFUSED => Body::DispatchRefused {
            code: code(fields, 3)?,
        },
        RESERVED => Body::Reserved(Reserved {
            entitlement: fields.parse(3)?,
            account: AccountTag::new(fields.uint(4)?)
                .ok_or_else(|| fields.wrong(4, "an account tag is 1 to 2^48 - 1"))?,
            slot: fields.uint(5)?,
            issue: u16::try_from(fields.uint(6)?).map_err(|_| fields.wrong(6, "too large"))?,
            device_id: fields.parse(7)?,
            spki_sha256: fields.octets(8)?,
            tbs: fields.bytes(9)?,
            keys: keys(fields, 10)?,
        }),
        EXISTING => Body::Existing {
            reservation: LogSequence(fields.uint(3)?),
        },
        REFUSED => {
            let code = code(fields, 3)?;
            let entitlement = match fields.optional(4) {
                None => None,
                Some(value) => {
                    let id = value.into_text().ok().and_then(|id| id.parse().ok());
                    Some(id.ok_or_else(|| fields.wrong(4, "an entitlement id was expected"))?)
                }
            };
            Body::Refused(Refused { code, entitlement })
        }
        STATION_CA => Body::StationCa {
            certificate: fields.bytes(3)?,
        },
        STATION => Body::Station(StationOrder {
            station: fields.parse(3)?,
            change: match fields.text(4)?.as_str() {
                "approve" => StationChange::Approve(Box::new(StationApproval {
                    request: fields.bytes(6)?,
                    certificate: fields.bytes(7)?,
                    terms: station_terms(fields)?,
                })),
                "revoke" => StationChange::Revoke {
                    reason: reason(fields, 5)?,
                },
                _ => return Err(fields.wrong(4, "approve or revoke")),
            },
        }),
        STATION_CHANGED => Body::StationChanged,
        _ => return Err(fields.wrong(KIND, "a kind of entry that this version does not know")),
    })
}

/// The station that asked, the console being left out.
fn station(fields: &mut Fields, key: i64) -> Result<StationId, Error> {
    let Some(value) = fields.optional(key) else {
        return Ok(StationId::console());
    };
    let station = value.into_text().ok().and_then(|name| name.parse().ok());
    station
        .filter(|station| *station != StationId::console())
        .ok_or_else(|| fields.wrong(key, "a station other than the console was expected"))
}

fn station_terms(fields: &mut Fields) -> Result<StationTerms, Error> {
    let products = fields.optional(8).map(|value| {
        let products = value.into_array().ok()?.into_iter();
        let products: Option<Vec<Sku>> = products
            .map(|product| product.into_text().ok()?.parse().ok())
            .collect();
        products.filter(|products| (1..=STATION_PRODUCTS_MAX).contains(&products.len()))
    });
    let hours = fields.optional(10).map(|value| {
        Interval::read_all(value, STATION_INTERVALS_MAX).filter(|hours| !hours.is_empty())
    });
    Ok(StationTerms {
        products: match products {
            Some(None) => return Err(fields.wrong(8, "1 to 64 products were expected")),
            products => products.flatten(),
        },
        units_per_day: fields.optional_uint(9)?,
        until: fields.uint(5)?,
        working_hours: match hours {
            Some(None) => return Err(fields.wrong(10, "working hours in order were expected")),
            hours => hours.flatten(),
        },
    })
}

/// What the machine's own clock said: both of its fields, or neither.
fn steady(fields: &mut Fields) -> Result<Option<Steady>, Error> {
    let Some(boot) = fields.optional(STEADY_BOOT) else {
        return Ok(None);
    };
    let boot = boot
        .as_bytes()
        .and_then(|boot| boot.as_slice().try_into().ok());
    Ok(Some(Steady {
        boot: boot.ok_or_else(|| fields.wrong(STEADY_BOOT, "16 bytes were expected"))?,
        seconds: fields.uint(STEADY_SECONDS)?,
    }))
}

/// Accounts, each with a slot, in order of tags.
fn leases(fields: &mut Fields, key: i64) -> Result<Vec<(AccountTag, u64)>, Error> {
    let mut leases: Vec<(AccountTag, u64)> = Vec::new();
    for value in fields.array(key, BURNED_MAX)? {
        let lease = Numbers::read(value).and_then(|Numbers([tag, end])| {
            let tag = AccountTag::new(tag)?;
            let follows = leases.last().is_none_or(|(last, _)| *last < tag);
            follows.then_some((tag, end))
        });
        leases.push(lease.ok_or_else(|| {
            fields.wrong(
                key,
                "account tags in order, each with a slot, were expected",
            )
        })?);
    }
    Ok(leases)
}

/// Slots of accounts, in the order of their tags, each account once.
fn burned(fields: &mut Fields, key: i64) -> Result<Vec<BurnedSlots>, Error> {
    let mut slots: Vec<BurnedSlots> = Vec::new();
    for value in fields.array(key, BURNED_MAX)? {
        let wrong = || fields.wrong(key, "slots of accounts in order were expected");
        let Numbers([tag, first, end]) = Numbers::read(value).ok_or_else(wrong)?;
        let account = AccountTag::new(tag).ok_or_else(wrong)?;
        if first >= end || slots.last().is_some_and(|last| last.account >= account) {
            return Err(wrong());
        }
        // No account has more slots, and whoever counts them, as SQL does, need not count further.
        if end > UNITS_MAX {
            return Err(fields.wrong(key, "no account has slots beyond 2^48"));
        }
        slots.push(BurnedSlots {
            account,
            first,
            end,
        });
    }
    if slots.is_empty() {
        return Err(fields.wrong(key, "slots were expected"));
    }
    Ok(slots)
}

/// Files that were pruned, in order, none overlapping.
fn pruned(fields: &mut Fields, key: i64) -> Result<Vec<PrunedRecords>, Error> {
    let mut files: Vec<PrunedRecords> = Vec::new();
    for value in fields.array(key, PRUNED_FILES_MAX)? {
        let file = read_numbered_digest(value).filter(|(first, end, _)| {
            first < end && files.last().is_none_or(|last| last.end <= *first)
        });
        let (first, end, digest) = file
            .ok_or_else(|| fields.wrong(key, "records in order, with a digest, were expected"))?;
        files.push(PrunedRecords { first, end, digest });
    }
    if files.is_empty() {
        return Err(fields.wrong(key, "records were expected"));
    }
    Ok(files)
}

fn verdict(mut fields: Fields) -> Result<Verdict, Error> {
    let verdict = match fields.uint(1)? {
        CONTENT_REJECTED => Verdict::Rejected {
            code: code(&mut fields, 2)?,
        },
        CONTENT_GRANT => Verdict::Authentic(Content::Grant {
            fingerprint: fields.octets(2)?,
            plaintext: fields.bytes(3)?,
            identity_certificate: fields.bytes(4)?,
            device_ca_certificate: fields.bytes(5)?,
        }),
        CONTENT_ENTITLEMENT => Verdict::Authentic(Content::Entitlement {
            fingerprint: fields.octets(2)?,
            plaintext: fields.bytes(3)?,
        }),
        CONTENT_ACKNOWLEDGEMENT => Verdict::Authentic(Content::Acknowledgement {
            fingerprint: fields.octets(2)?,
            plaintext: fields.bytes(3)?,
        }),
        CONTENT_REVOCATION => Verdict::Authentic(Content::Revocation {
            fingerprint: fields.octets(2)?,
            plaintext: fields.bytes(3)?,
        }),
        CONTENT_CLOCK_CORRECTION => Verdict::Authentic(Content::ClockCorrection {
            fingerprint: fields.octets(2)?,
            plaintext: fields.bytes(3)?,
        }),
        CONTENT_REANCHOR => Verdict::Authentic(Content::Reanchor {
            fingerprint: fields.octets(2)?,
            plaintext: fields.bytes(3)?,
        }),
        _ => return Err(fields.wrong(1, "a kind of content that this version does not know")),
    };
    fields.finish()?;
    Ok(verdict)
}

fn submission(mut fields: Fields) -> Result<Submission, Error> {
    let submission = match fields.optional(1) {
        Some(der) => Submission::Csr {
            der: der
                .into_bytes()
                .map_err(|_| fields.wrong(1, "a byte string was expected"))?,
        },
        None => Submission::Unreadable {
            sha256: fields.octets(2)?,
            code: code(&mut fields, 3)?,
        },
    };
    fields.finish()?;
    Ok(submission)
}

/// Whether a text is a code: 1 to [`CODE_BYTES_MAX`] of `[A-Z0-9-]`.
pub(crate) fn is_code(text: &str) -> bool {
    (1..=CODE_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
}

fn code(fields: &mut Fields, key: i64) -> Result<String, Error> {
    let code = fields.text(key)?;
    if is_code(&code) {
        Ok(code)
    } else {
        Err(fields.wrong(key, "a code was expected"))
    }
}

fn reason(fields: &mut Fields, key: i64) -> Result<String, Error> {
    let reason = fields.text(key)?;
    if is_reason(&reason) {
        Ok(reason)
    } else {
        Err(fields.wrong(key, "1 to 200 characters of plain text were expected"))
    }
}

fn text(fields: &mut Fields, key: i64) -> Result<String, Error> {
    let text = fields.text(key)?;
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(fields.wrong(key, "a short text without control characters was expected"));
    }
    Ok(text)
}

fn signature(fields: &mut Fields, key: i64) -> Result<[u8; 64], Error> {
    let bytes = fields.bytes(key)?;
    bytes
        .try_into()
        .map_err(|_| fields.wrong(key, "a signature of 64 bytes was expected"))
}

fn generation(fields: &mut Fields, key: i64) -> Result<u16, Error> {
    let generation = u16::try_from(fields.uint(key)?).ok();
    generation
        .filter(|generation| *generation > FIRST_GENERATION)
        .ok_or_else(|| fields.wrong(key, "a generation of 2 to 65535 was expected"))
}

/// The keys of a reservation.
fn keys(fields: &mut Fields, key: i64) -> Result<Vec<KeyLabel>, Error> {
    let Some(value) = fields.optional(key) else {
        return Ok(Vec::new());
    };
    let wrong = || fields.wrong(key, "1 to 16 different key labels were expected");
    let values = value.into_array().map_err(|_| wrong())?;
    let labels: Option<Vec<KeyLabel>> = values
        .into_iter()
        .map(|label| label.into_text().ok()?.parse().ok())
        .collect();
    let labels = labels.ok_or_else(wrong)?;
    let repeated = labels
        .iter()
        .enumerate()
        .any(|(at, label)| labels.iter().take(at).any(|before| before == label));
    if labels.is_empty() || labels.len() > KEYS_MAX || repeated {
        return Err(wrong());
    }
    Ok(labels)
}
