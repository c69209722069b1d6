//! What an auditor of the story is given: the trust manifests, its first report, and what opens that.

use std::cell::RefCell;
use std::collections::HashMap;

use mintmark_ledger::serial::SerialCipher;
use mintmark_protocol::audit_grant::{AuditGrant, Part, PartKind, Secret, SerialKey};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::segment::Segment;
use p256::PublicKey;

use super::keys::key;
use super::story::{END, HOUR, Told, salt, vault};

/// What the grant is of, as messages.
pub struct Record {
    manifests: Vec<Vec<u8>>,
    bundle: Vec<u8>,
    segments: Vec<Vec<u8>>,
}

impl Record {
    /// The messages of these names.
    pub fn of(bytes: &dyn Fn(&str) -> Vec<u8>) -> Self {
        let all = |names: [&str; 2]| names.map(bytes).into();
        Self {
            manifests: all(["trust-manifest-1", "trust-manifest-2"]),
            bundle: bytes("audit-bundle-1"),
            segments: all(["audit-segment-1-1", "audit-segment-1-2"]),
        }
    }
}

/// The segments, each opened as whoever gives this opener does.
fn opened<'a>(record: &Record, opener: impl Fn() -> Opener<'a>) -> Vec<Segment> {
    let bundle = Bundle::open(&record.bundle, &vault(), &key("vault-sign").public).unwrap();
    let bundle = bundle.content();
    let facts = (1..).zip(&bundle.segments);
    let segments = facts.zip(&record.segments).map(|((number, facts), bytes)| {
        let id = Bundle::segment_id(&bundle.lineage, bundle.sequence, number);
        Segment::open(bytes, facts, &vault(), &id, opener()).unwrap()
    });
    segments.collect()
}

/// What headquarters' key agrees on to open them.
fn secrets(record: &Record) -> Vec<Secret> {
    let audit = key("audit");
    let found = RefCell::new(Vec::new());
    let agree = |ephemeral: &PublicKey| {
        let shared = audit.agree(ephemeral)?;
        found.borrow_mut().push(Secret {
            ephemeral: *ephemeral,
            shared: shared.clone(),
        });
        Ok(shared)
    };
    opened(record, || Opener {
        public_key: &audit.public,
        agree: &agree,
        former: None,
    });
    found.into_inner()
}

/// What headquarters grants.
pub fn grant(record: &Record) -> AuditGrant {
    let part = |kind, number, bytes: &[u8]| Part {
        kind,
        time: END - 2 * HOUR,
        bytes: bytes.len() as u64,
        digest: Fingerprint::of(bytes),
        number,
    };
    let numbered = |kind, all: &[Vec<u8>]| -> Vec<Part> {
        let numbered = (1..).zip(all);
        numbered.map(|(at, bytes)| part(kind, at, bytes)).collect()
    };
    let mut parts = numbered(PartKind::TrustManifest, &record.manifests);
    parts.push(part(PartKind::Bundle, 0, &record.bundle));
    parts.extend(numbered(PartKind::Segment, &record.segments));
    let shared = key("serial-master").agree(&key("vault-agree").public);
    AuditGrant {
        salt: salt("audit-grant"),
        made_at: END - HOUR,
        auditor: key("auditor").public,
        from_day: None,
        to_day: None,
        hq_keys: ["audit", "escrow"].map(|name| key(name).public).into(),
        secrets: secrets(record),
        serial_keys: vec![SerialKey {
            vault: vault(),
            key: SerialCipher::derive_key(&shared.unwrap(), &vault()),
        }],
        parts,
    }
}

/// Opens segments with what a grant brings, and no key of headquarters.
pub fn opened_by(grant: &AuditGrant, record: &Record) -> Vec<Segment> {
    let secrets: HashMap<_, _> = grant
        .secrets
        .iter()
        .map(|secret| (Secret::point_of(&secret.ephemeral), secret.shared.clone()))
        .collect();
    let agree = |ephemeral: &PublicKey| Ok(secrets[&Secret::point_of(ephemeral)].clone());
    opened(record, || Opener {
        public_key: &grant.hq_keys[0],
        agree: &agree,
        former: None,
    })
}

/// The message.
pub fn told(record: &Record) -> Told {
    let report = key("report");
    let grant = grant(record);
    Told {
        name: "audit-grant".to_owned(),
        about: "what an auditor is given for the first report: the list of its parts, which are vectors of their own, and what opens them",
        bytes: grant.seal(&report.public, &|m| report.sign(m)).unwrap(),
    }
}
