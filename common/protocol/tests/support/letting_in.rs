//! How a vault is let in: its request, the grant, its next device CA, its successor.

use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, Purpose};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::succession::{Succession, WriteOff};
use mintmark_protocol::transport::{Oaep, TransportKey};

use super::*;

pub fn enrolment_request() -> EnrolmentRequest {
    // Lengths on both sides of the text key "label": their order is that of their encodings.
    let facts = [("kind", "pkcs11"), ("label", "vault"), ("a-long-name", "x")];
    EnrolmentRequest {
        vault: vault(),
        lineage: lineage(),
        trust_version: 1,
        trust_fingerprint: pinned().fingerprint(),
        signing_key: vault_sign().public,
        agreement_key: vault_agree().public,
        identity_csr: vec![0x30, 0x00],
        device_ca_csr: vec![0x30, 0x01, 0x00],
        facts: facts
            .map(|(name, fact)| (name.to_owned(), fact.to_owned()))
            .into(),
        made_at: 1_800_000_100,
        transport_key: Some(transport_key()),
        device_ca_generation: 1,
    }
}

pub fn enrolment_request_bytes() -> (Vec<u8>, Fingerprint) {
    enrolment_request().seal(&|m| vault_sign().sign(m)).unwrap()
}

pub fn grant() -> EnrolmentGrant {
    EnrolmentGrant {
        salt: [7; 32],
        vault: vault(),
        request_fingerprint: enrolment_request_bytes().1,
        lineage: lineage(),
        identity_tbs: vec![0x30, 0x00],
        device_ca_tbs: vec![0x30, 0x01, 0x00],
        serial_master: Key::new(104).public,
        dispatch_epoch: 1,
        drafted_at: 1_800_000_200,
        approve_until: 1_800_100_000,
        request: enrolment_request_bytes().0,
        purpose: Purpose::Enrolment,
    }
}

/// The public half of a key that a token could unwrap with; nobody has the other half.
pub fn transport_key() -> TransportKey {
    TransportKey {
        oaep: Oaep::Sha1,
        modulus: vec![0xc3; 384],
        exponent: vec![1, 0, 1],
    }
}

/// The next device CA of the vault.
pub fn rotation() -> EnrolmentGrant {
    let request = EnrolmentRequest {
        device_ca_generation: 2,
        ..enrolment_request()
    };
    let (request, request_fingerprint) = request.seal(&|m| vault_sign().sign(m)).unwrap();
    EnrolmentGrant {
        request_fingerprint,
        request,
        purpose: Purpose::Rotation { generation: 2 },
        ..grant()
    }
}

/// A new vault in place of one that was lost.
pub fn succession() -> EnrolmentGrant {
    let write_off = WriteOff {
        account: AccountTag::new(1).unwrap(),
        entitlement: "th200-2027q1".parse().unwrap(),
        sku: "TH-200".parse().unwrap(),
        first_slot: 17,
        units: 33,
    };
    EnrolmentGrant {
        purpose: Purpose::Succession(Succession {
            replaces: "v0".parse().unwrap(),
            lineage: lineage(),
            bundle_sequence: 4,
            log_size: 1000,
            write_offs: vec![write_off],
        }),
        ..grant()
    }
}

pub fn grant_bytes() -> Vec<u8> {
    let proposal = grant().propose(&manifest(), &vault_agree().public).unwrap();
    approved(&proposal, &[signing(ALICE), signing(BOB)])
}
