//! A vector in its folder, and what it opens with.

use std::fs;

use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::audit_grant::AuditGrant;
use mintmark_protocol::backup::Backup;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::dossier::Dossier;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, OfficerId, VaultName};
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::report::Report;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::status::Status;
use mintmark_protocol::transcript::Transcript;
use mintmark_protocol::trust::TrustManifest;
use serde_json::Value;

use super::stage::story::vault;
use super::stage::{Key, vectors};
use super::*;

/// A vector as it stands in its folder.
pub(super) struct Vector {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) said: Value,
}

impl Vector {
    pub(super) fn read(name: &str) -> Self {
        let file = |end: &str| vectors().join(format!("{name}.{end}"));
        Self {
            name: name.to_owned(),
            bytes: fs::read(file("cose")).unwrap(),
            said: serde_json::from_slice(&fs::read(file("json")).unwrap()).unwrap(),
        }
    }

    pub(super) fn all() -> Vec<Self> {
        let index: Value =
            serde_json::from_slice(&fs::read(vectors().join("index.json")).unwrap()).unwrap();
        let listed = index["vectors"].as_array().unwrap();
        let found = listed
            .iter()
            .map(|listed| Self::read(listed["name"].as_str().unwrap()));
        found.collect()
    }

    pub(super) fn kind(&self) -> &str {
        self.said["type"].as_str().unwrap()
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.said["fingerprint"].as_str().unwrap().parse().unwrap()
    }

    /// The keys that it opens with, from their files.
    pub(super) fn openers(&self) -> Vec<Key> {
        let names = self.said["opens_with"].as_array().unwrap();
        names
            .iter()
            .map(|name| key_file(name.as_str().unwrap()))
            .collect()
    }

    pub(super) fn content(&self) -> Vec<u8> {
        fs::read(vectors().join(format!("{}.cbor", self.name))).unwrap()
    }
}

pub(super) fn key_file(name: &str) -> Key {
    Key::from_pem(&fs::read_to_string(vectors().join(format!("keys/{name}.pem"))).unwrap())
}

pub(super) fn manifest_first() -> Verified<TrustManifest> {
    let vector = Vector::read("trust-manifest-1");
    TrustManifest::pin(&vector.bytes, &vector.fingerprint(), None).unwrap()
}

/// The manifest that was in force when a message arrived.
pub(super) fn manifest_for(vector: &Vector) -> Verified<TrustManifest> {
    let first = manifest_first();
    match vector.said["trust"].as_u64().unwrap() {
        1 => first,
        _ => first
            .successor(&Vector::read("trust-manifest-2").bytes)
            .unwrap(),
    }
}

/// What a message says once it has been opened: its fingerprint, its content as bytes, who approved it.
pub(super) struct Opened {
    pub(super) fingerprint: Fingerprint,
    pub(super) content: Vec<u8>,
    pub(super) officers: Vec<String>,
}

impl Opened {
    pub(super) fn of<T>(verified: &Verified<T>) -> Self {
        Self {
            fingerprint: verified.fingerprint(),
            content: verified.plaintext().to_vec(),
            officers: verified
                .officers()
                .iter()
                .map(OfficerId::to_string)
                .collect(),
        }
    }
}

/// The vault that a message is for, if it is for one.
pub(super) fn addressee(vector: &Vector) -> VaultName {
    let to = vector.said["to"].as_str().unwrap();
    let Some((site, vault)) = to.strip_prefix("vault:").and_then(|to| to.split_once('/')) else {
        return stage::story::vault();
    };
    VaultName {
        site: site.parse().unwrap(),
        vault: vault.parse().unwrap(),
    }
}

/// Opens a message that is no segment, with one of the keys that it is encrypted to.
pub(super) fn open(vector: &Vector, key: Option<&Key>) -> Opened {
    let (bytes, trust) = (&vector.bytes[..], manifest_for(vector));
    let with = |read: &dyn Fn(Opener<'_>) -> Opened| key.unwrap().open(read);
    let sign_key = || key_file("vault-sign").public;
    let to = addressee(vector);
    match vector.kind() {
        "trust-manifest" if vector.name.ends_with('2') => {
            Opened::of(&manifest_first().successor(bytes).unwrap())
        }
        "trust-manifest" => {
            Opened::of(&TrustManifest::pin(bytes, &vector.fingerprint(), None).unwrap())
        }
        "officer-request" => {
            Opened::of(&OfficerRequest::open(bytes, &vector.fingerprint()).unwrap())
        }
        "enrolment-request" => {
            Opened::of(&EnrolmentRequest::open(bytes, &vector.fingerprint()).unwrap())
        }
        "enrolment-grant" => {
            with(&|opener| Opened::of(&EnrolmentGrant::open(bytes, &trust, &to, opener).unwrap()))
        }
        "entitlement" => {
            with(&|opener| Opened::of(&Entitlement::open(bytes, &trust, &to, opener).unwrap()))
        }
        "revocation" => {
            with(&|opener| Opened::of(&Revocation::open(bytes, &trust, &to, opener).unwrap()))
        }
        "clock-correction" => {
            with(&|opener| Opened::of(&ClockCorrection::open(bytes, &trust, &to, opener).unwrap()))
        }
        "re-anchor" => {
            with(&|opener| Opened::of(&Reanchor::open(bytes, &trust, &to, opener).unwrap()))
        }
        "acknowledgement" => {
            with(&|opener| Opened::of(&Acknowledgement::open(bytes, &trust, &to, opener).unwrap()))
        }
        "log-tail" => {
            with(&|opener| Opened::of(&LogTail::open(bytes, &trust, &to, opener).unwrap()))
        }
        "dispatch" => Opened::of(&Dispatch::open(bytes, &trust, &vault()).unwrap()),
        "restore-declaration" => {
            Opened::of(&RestoreDeclaration::open(bytes, &vault(), &sign_key()).unwrap())
        }
        "dossier" => Opened::of(&Dossier::open(bytes, &trust.content().report_key).unwrap()),
        // The plaintext of a status is not kept.
        "status" => {
            let status = Status::open(bytes, &trust.content().report_key).unwrap();
            Opened {
                content: status.content().to_cbor(),
                ..Opened::of(&status)
            }
        }
        // Nor that of a report.
        "report" => {
            let report = Report::open(bytes, &trust.content().report_key).unwrap();
            Opened {
                content: report.content().to_cbor(),
                ..Opened::of(&report)
            }
        }
        // Nor that of a grant, which holds keys.
        "audit-grant" => with(&|opener| {
            let grant = AuditGrant::open(bytes, &trust.content().report_key, opener).unwrap();
            Opened {
                content: grant.content().to_cbor(),
                ..Opened::of(&grant)
            }
        }),
        "backup" => {
            let (_, backup) = Backup::open(bytes).unwrap();
            assert_eq!(backup.content().signer, sign_key());
            Opened::of(&backup)
        }
        "transcript" => {
            let transcript = Transcript::open(bytes, &trust.content().report_key).unwrap();
            Opened {
                content: transcript.content().to_cbor(),
                ..Opened::of(&transcript)
            }
        }
        "audit-bundle" => Opened::of(&Bundle::open(bytes, &vault(), &sign_key()).unwrap()),
        other => panic!("nobody opens a {other} here"),
    }
}

pub(super) fn is_on_the_way(vector: &Vector) -> bool {
    ["-draft", "-approval"]
        .iter()
        .any(|end| vector.name.ends_with(end))
}
