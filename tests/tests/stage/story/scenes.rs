//! What happens, one scene after the other.

use mintmark_ledger::entry::{Body, BundleSealed, Content, Trust};
use mintmark_pki::{device_ca_tbs, vault_identity_tbs};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::BundleSeen;
use mintmark_protocol::enrolment::{EnrolmentGrant, EnrolmentRequest, Purpose};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{Lineage, VaultName};
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::order::Order;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, Target};
use mintmark_protocol::succession::{Succession, WriteOff};
use p256::pkcs8::EncodePublicKey as _;

use super::super::keys::key;
use super::super::secret;
use super::*;

impl Story {
    pub(super) fn trust_and_enrolment(&mut self) {
        let (request, _) = officer_request()
            .seal(&|m| key("alice-sign").sign(m))
            .unwrap();
        self.tell(
            "officer-request",
            "alice asks headquarters to list her keys",
            request,
        );
        self.tell(
            "trust-manifest-1",
            "pinned by its fingerprint",
            trust_bytes(),
        );
        self.tell(
            "enrolment-request",
            "the vault berlin/v1 asks to be let in",
            enrolment_request_bytes().0,
        );
        let proposal = grant()
            .propose(&manifest(), &key("vault-agree").public)
            .unwrap();
        let bytes = approved(&proposal, &["alice-sign", "bob-sign"]);
        self.tell("enrolment-grant", "alice and bob let it in", bytes.clone());
        self.log.now = NEW_YEAR - 19 * DAY;
        let certificates = vec![identity(), device_ca().certificate_der().to_vec()];
        let (dispatch, fingerprint) = self.dispatch(
            Kind::EnrolmentGrant,
            grant().object_id(),
            1,
            bytes,
            certificates.clone(),
        );
        let [identity_certificate, device_ca_certificate] = certificates.try_into().unwrap();
        let content = Content::Grant {
            fingerprint: proposal.fingerprint(),
            plaintext: grant().to_cbor(),
            identity_certificate,
            device_ca_certificate,
        };
        self.log.import(&dispatch, fingerprint, content);
    }

    pub(super) fn entitle(&mut self) {
        let proposal = propose(&entitlement(), &manifest());
        self.tell(
            "entitlement-draft",
            "as it goes to the officers, signed by headquarters, approved by nobody yet",
            draft_bytes(&proposal),
        );
        let carol = key("carol-sign");
        let approval = proposal.approve(&carol.public, &|m| carol.sign(m)).unwrap();
        self.tell(
            "entitlement-approval",
            "carol approves the draft",
            approval.to_bytes().unwrap(),
        );
        let bytes = approved(&proposal, &["alice-sign", "carol-sign"]);
        self.tell(
            "entitlement",
            "50 units of TH-200, approved by alice and carol",
            bytes.clone(),
        );
        self.log.now = NEW_YEAR - 17 * DAY;
        let (dispatch, fingerprint) = self.dispatch(
            Kind::Entitlement,
            entitlement().object_id(),
            1,
            bytes,
            Vec::new(),
        );
        let content = Content::Entitlement {
            fingerprint: proposal.fingerprint(),
            plaintext: entitlement().to_cbor(),
        };
        self.log.import(&dispatch, fingerprint, content);
    }

    pub(super) fn report(&mut self) {
        self.log.now = NEW_YEAR + 8 * HOUR;
        self.log.start();
        self.log.issue("TH-200", "TH200-00000001", "device-1");
        self.log.issue("TH-200", "TH200-00000002", "device-2");
        self.log.issue("TH-300", "TH300-00000001", "device-3");
        let size = self.log.state.size();
        let sealed = seal(&self.log, 1, None, 0, &[7, size - 7], 1);
        self.tell(
            "audit-bundle-1",
            "the vault's first report, of two segments",
            sealed.bytes.clone(),
        );
        for (number, segment) in (1..).zip(&sealed.segments) {
            self.tell(
                &format!("audit-segment-1-{number}"),
                "records of the first report",
                segment.clone(),
            );
        }
        self.log.write(Body::BundleSealed(BundleSealed {
            sequence: 1,
            fingerprint: sealed.fingerprint,
            log_size: size,
            requests_unlogged: 0,
        }));
        self.log.now = NEW_YEAR + 3 * DAY;
        let acknowledgement = Acknowledgement {
            salt: salt("acknowledgement"),
            vault: vault(),
            hq_time: self.log.now,
            lineage: lineage(),
            bundle_sequence: 1,
            bundle_fingerprint: sealed.fingerprint,
            log_size: size,
            log_root: sealed.bundle.checkpoint.root,
            findings: 0,
        };
        let bytes = acknowledgement
            .seal(&manifest(), &key("vault-agree").public, &|m| {
                key("dispatch").sign(m)
            })
            .unwrap();
        self.tell(
            "acknowledgement",
            "headquarters holds the first report",
            bytes.clone(),
        );
        self.seen = Some(BundleSeen {
            lineage: lineage(),
            sequence: 1,
            fingerprint: sealed.fingerprint,
        });
        let fingerprint = mintmark_protocol::envelope::claim(&bytes, bytes.len())
            .unwrap()
            .fingerprint;
        let id = acknowledgement.object_id();
        let (dispatch, dispatched) = self.dispatch(Kind::Acknowledgement, id, 1, bytes, Vec::new());
        let content = Content::Acknowledgement {
            fingerprint,
            plaintext: acknowledgement.to_cbor(),
        };
        self.log.import(&dispatch, dispatched, content);
    }

    pub(super) fn amend(&mut self) {
        self.log.now = NEW_YEAR + 7 * DAY;
        let bytes = trust_second_bytes();
        self.tell(
            "trust-manifest-2",
            "alice has left, erin is new; the vault follows it from version 1",
            bytes,
        );
        self.log.write(Body::Trust(Trust {
            version: 2,
            fingerprint: pinned_second().fingerprint(),
            dispatch_epoch: EPOCH,
        }));
        let proposal = propose(&amendment(), &manifest_second());
        let bytes = approved(&proposal, &["bob-sign", "erin-sign"]);
        self.tell(
            "amendment",
            "version 2 of the entitlement: 80 units, approved by bob and erin",
            bytes.clone(),
        );
        let (dispatch, fingerprint) = self.dispatch(
            Kind::Entitlement,
            amendment().object_id(),
            2,
            bytes,
            Vec::new(),
        );
        let content = Content::Entitlement {
            fingerprint: proposal.fingerprint(),
            plaintext: amendment().to_cbor(),
        };
        self.log.import(&dispatch, fingerprint, content);
        self.log.now = NEW_YEAR + 8 * DAY;
        self.log.start();
        self.log.issue("TH-200", "TH200-00000003", "device-4");
        let (first, size) = (self.log.state.bundles().log_size, self.log.state.size());
        let previous = self.log.state.bundles().fingerprint;
        let sealed = seal(&self.log, 2, previous, first, &[size - first], 2);
        self.tell(
            "audit-bundle-2",
            "the vault's second report, which continues the first",
            sealed.bytes.clone(),
        );
        self.tell(
            "audit-segment-2-1",
            "records of the second report",
            sealed.segments[0].clone(),
        );
        self.log.write(Body::BundleSealed(BundleSealed {
            sequence: 2,
            fingerprint: sealed.fingerprint,
            log_size: size,
            requests_unlogged: 0,
        }));
        // What follows is on its way: no record of it is in the log.
        let end = self.log.now;
        self.log.now = END;
        let proposal = propose(&second_entitlement(), &manifest_second());
        let bytes = approved(&proposal, &["bob-sign", "carol-sign"]);
        self.tell(
            "second-entitlement",
            "30 units of GW-1, which the vault has not seen yet",
            bytes.clone(),
        );
        let id = second_entitlement().object_id();
        self.dispatch(Kind::Entitlement, id, 1, bytes, Vec::new());
        self.order();
        self.rotate();
        self.succeed();
        self.deliver();
        self.log.now = end;
    }

    /// What else officers order, each in a dispatch.
    pub(super) fn order(&mut self) {
        let (drafted_at, approve_until) = (END, END + 20 * DAY);
        let revocation = Revocation {
            salt: salt("revocation"),
            vault: vault(),
            number: 1,
            target: Target::Entitlement("th200-2027q1".parse().unwrap()),
            reason: "the product is made elsewhere now".to_owned(),
            drafted_at,
            approve_until,
        };
        let bytes = approved(&drafted(&revocation), &["bob-sign", "dave-sign"]);
        self.tell(
            "revocation",
            "ends the entitlement; approved by bob and dave, who may revoke",
            bytes.clone(),
        );
        self.dispatch(
            Kind::Revocation,
            revocation.object_id(),
            1,
            bytes,
            Vec::new(),
        );
        let correction = ClockCorrection {
            salt: salt("clock correction"),
            vault: vault(),
            number: 1,
            time: END,
            reason: "the clock was replaced".to_owned(),
            drafted_at,
            approve_until,
        };
        let bytes = approved(&drafted(&correction), &["bob-sign", "carol-sign"]);
        self.tell(
            "clock-correction",
            "sets the newest time of the log",
            bytes.clone(),
        );
        self.dispatch(
            Kind::ClockCorrection,
            correction.object_id(),
            1,
            bytes,
            Vec::new(),
        );
        let sealed = self.log.state.bundles().sealed[&1];
        let root = self
            .told
            .iter()
            .find(|told| told.name == "audit-bundle-1")
            .unwrap();
        let opened = Bundle::open(&root.bytes, &vault(), &key("vault-sign").public).unwrap();
        let reanchor = Reanchor {
            salt: salt("re-anchor"),
            vault: vault(),
            number: 1,
            lineage: lineage(),
            bundle_sequence: 1,
            bundle_fingerprint: sealed.fingerprint,
            log_size: sealed.log_size,
            log_root: opened.content().checkpoint.root,
            reason: "the token was initialised anew".to_owned(),
            drafted_at,
            approve_until,
        };
        let bytes = approved(&drafted(&reanchor), &["carol-sign", "erin-sign"]);
        self.tell(
            "re-anchor",
            "states the head of the log that headquarters holds",
            bytes.clone(),
        );
        self.dispatch(Kind::Reanchor, reanchor.object_id(), 1, bytes, Vec::new());
    }

    /// The vault asks for its second device CA, now with a transport key, and is granted it.
    pub(super) fn rotate(&mut self) {
        let request = EnrolmentRequest {
            device_ca_csr: csr("device-ca-2", "berlin v1 Device CA"),
            made_at: END,
            trust_version: 2,
            trust_fingerprint: pinned_second().fingerprint(),
            transport_key: Some(secret::transport_key()),
            device_ca_generation: 2,
            ..enrolment_request()
        };
        let (request, request_fingerprint) = request.seal(&|m| key("vault-sign").sign(m)).unwrap();
        self.tell(
            "rotation-request",
            "asks for the second device CA; states an RSA key that the token unwraps with",
            request.clone(),
        );
        let (ca, serial) = (key("device-ca-2").public, serial_number("device CA 2"));
        let device_ca_tbs =
            device_ca_tbs(&root(), NAME, "berlin", "v1", &ca, &serial, END).unwrap();
        let rotation = EnrolmentGrant {
            salt: salt("rotation"),
            request_fingerprint,
            device_ca_tbs: device_ca_tbs.clone(),
            drafted_at: END,
            approve_until: END + 20 * DAY,
            request,
            purpose: Purpose::Rotation { generation: 2 },
            ..grant()
        };
        let bytes = approved(&drafted(&rotation), &["bob-sign", "carol-sign"]);
        self.tell(
            "rotation-grant",
            "a device CA beside the first",
            bytes.clone(),
        );
        let certificates = vec![identity(), certificate(&device_ca_tbs)];
        self.dispatch(
            Kind::EnrolmentGrant,
            rotation.object_id(),
            1,
            bytes,
            certificates,
        );
    }

    /// A new vault of another site takes the place of one that was lost.
    pub(super) fn succeed(&mut self) {
        let named = VaultName {
            site: "berlin".parse().unwrap(),
            vault: "v2".parse().unwrap(),
        };
        let request = EnrolmentRequest {
            vault: named.clone(),
            lineage: Lineage::new(*b"mintmark-another"),
            signing_key: key("successor-sign").public,
            agreement_key: key("successor-agree").public,
            identity_csr: csr("successor-sign", "berlin v2 Vault"),
            device_ca_csr: csr("successor-ca", "berlin v2 Device CA"),
            made_at: END,
            trust_version: 2,
            trust_fingerprint: pinned_second().fingerprint(),
            ..enrolment_request()
        };
        let (request, request_fingerprint) =
            request.seal(&|m| key("successor-sign").sign(m)).unwrap();
        self.tell(
            "successor-request",
            "a new vault at the same site asks to be let in",
            request.clone(),
        );
        let serial = |name: &str| serial_number(name);
        let identity_tbs = vault_identity_tbs(
            &root(),
            NAME,
            "berlin",
            "v2",
            &key("successor-sign").public,
            &serial("identity of v2"),
            END,
        )
        .unwrap();
        let device_ca_tbs = device_ca_tbs(
            &root(),
            NAME,
            "berlin",
            "v2",
            &key("successor-ca").public,
            &serial("device CA of v2"),
            END,
        )
        .unwrap();
        let succession = EnrolmentGrant {
            salt: salt("succession"),
            vault: named,
            request_fingerprint,
            lineage: Lineage::new(*b"mintmark-another"),
            identity_tbs,
            device_ca_tbs,
            drafted_at: END,
            approve_until: END + 20 * DAY,
            request,
            purpose: Purpose::Succession(Succession {
                replaces: "v1".parse().unwrap(),
                lineage: lineage(),
                bundle_sequence: 1,
                log_size: self.log.state.bundles().sealed[&1].log_size,
                write_offs: vec![WriteOff {
                    account: AccountTag::new(1).unwrap(),
                    entitlement: "th200-2027q1".parse().unwrap(),
                    sku: "TH-200".parse().unwrap(),
                    first_slot: 2,
                    units: 78,
                }],
            }),
            ..grant()
        };
        let proposal = succession
            .propose(&manifest_second(), &key("successor-agree").public)
            .unwrap();
        let bytes = approved(&proposal, &["carol-sign", "erin-sign"]);
        self.tell(
            "succession-grant",
            "lets the new vault in, in place of berlin/v1 as if that had been lost",
            bytes,
        );
    }

    /// Keys on their way to the vault, and what it derives from one of them for two devices.
    pub(super) fn deliver(&mut self) {
        let agreed = delivered("service", KeyAlgorithm::HmacSha256);
        self.tell(
            "key-delivery",
            "the key `service`, agreed on with vault-agree, as the second entitlement has it",
            agreed,
        );
        let transported = key_facts("line", KeyAlgorithm::Aes256)
            .seal_transported(
                &keyset_key("line", KeyAlgorithm::Aes256),
                &secret::transport_key(),
                &|_, bytes| Ok(secret::oaep_encrypt(bytes)),
            )
            .unwrap();
        self.tell(
            "key-delivery-transported",
            "the key `line`, for a token that unwraps with its RSA key",
            transported,
        );
        let device = key("device-1").public;
        let spki = device.to_public_key_der().unwrap();
        let bytes = device_secret("GW1-00000001", &AgreementKey::P256(device), spki.as_bytes());
        self.tell(
            "device-secret",
            "the secret of a device whose key is on P-256",
            bytes,
        );
        let device = secret::large_device().public_key();
        let spki = device.to_public_key_der().unwrap();
        let bytes = device_secret("GW1-00000002", &AgreementKey::P384(device), spki.as_bytes());
        self.tell(
            "device-secret-p384",
            "the secret of a device whose key is on P-384",
            bytes,
        );
    }
}
