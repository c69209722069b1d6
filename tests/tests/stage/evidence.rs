//! What headquarters signs for third parties: the dossier of the first device of the story, and the status of all.

use mintmark_ledger::entry::{Body, Entry};
use mintmark_ledger::inclusion::InclusionProver;
use mintmark_ledger::merkle::leaf_hash;
use mintmark_pki::{Certificate, assemble};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::digest_set::{BITS_MAX, DigestSet, cut};
use mintmark_protocol::dossier::{
    DeviceState, Dossier, EntitlementFacts, LoggedRecord, StateFacts,
};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::receipt::{InclusionProof, Receipt, log_name};
use mintmark_protocol::report::{Report, ReportFormat};
use mintmark_protocol::status::{DeviceCaStatus, SERIAL_DOUBT_BITS, Status, VaultStatus};
use p256::ecdsa::Signature;

use super::keys::key;
use super::story::{END, HOUR, Told, device_ca, identity, manifest, vault};

/// The certificates that a log says were signed: position of the reservation, of the signature, and the certificate.
fn certificates(records: &[Vec<u8>]) -> Vec<(u64, u64, Certificate)> {
    let entries: Vec<_> = records
        .iter()
        .map(|record| Entry::from_cbor(record).unwrap().body)
        .collect();
    let mut made = Vec::new();
    for (at, body) in (0..).zip(&entries) {
        let Body::Signed(signed) = body else { continue };
        let reservation = signed.reservation.number();
        let Body::Reserved(reserved) = &entries[reservation as usize] else {
            panic!("a signature of no reservation");
        };
        let signature = Signature::from_slice(&signed.signature).unwrap();
        let der = assemble(&reserved.tbs, &signature).unwrap();
        made.push((reservation, at, Certificate::from_der(&der).unwrap()));
    }
    made
}

/// The dossier of the first device, by the first report.
pub fn dossier(records: &[Vec<u8>], bundle: &[u8]) -> Dossier {
    let opened = Bundle::open(bundle, &vault(), &key("vault-sign").public).unwrap();
    let (lineage, checkpoint) = (opened.content().lineage, opened.content().checkpoint);
    let (reserved, signed, certificate) = certificates(records).remove(0);
    let indices = [reserved - 1, reserved, signed];
    let mut prover = InclusionProver::new(checkpoint.size, &indices).unwrap();
    for record in records {
        prover.append(leaf_hash(record));
    }
    let (root, paths) = prover.finish().unwrap();
    assert_eq!(Fingerprint::new(root), checkpoint.root);
    let log = log_name(&vault(), &lineage);
    let report = key("report");
    let logged = |(index, path): (u64, Vec<[u8; 32]>)| LoggedRecord {
        record: records[index as usize].clone(),
        receipt: Receipt::issue(
            &log,
            &InclusionProof {
                size: checkpoint.size,
                index,
                path,
            },
            &checkpoint.root,
            (&report.public, &|m| report.sign(m)),
        )
        .unwrap(),
    };
    let logged: Vec<_> = indices.into_iter().zip(paths).map(logged).collect();
    let terms = terms(records);
    Dossier {
        vault: vault(),
        made_at: END - HOUR,
        certificate: certificate.der().to_vec(),
        device_ca: device_ca().certificate_der().to_vec(),
        root: manifest().root_certificate,
        identity: identity(),
        lineage,
        checkpoint,
        bundle: Some(bundle.to_vec()),
        records: logged.try_into().unwrap(),
        entitlement: EntitlementFacts {
            id: terms.id.clone(),
            version: terms.version,
            sku: terms.products[0].sku.clone(),
            valid_from: terms.window.from,
            valid_until: terms.window.until,
            approvers: vec!["alice".parse().unwrap(), "bob".parse().unwrap()],
        },
        state: StateFacts {
            state: DeviceState::Good,
            since: None,
            record: None,
            reason: None,
        },
    }
}

/// The entitlement that the vault was sent first.
fn terms(records: &[Vec<u8>]) -> Entitlement {
    use mintmark_ledger::entry::{Content, Verdict};
    let mut entries = records
        .iter()
        .map(|record| Entry::from_cbor(record).unwrap());
    let found = entries.find_map(|entry| match entry.body {
        Body::Dispatch(dispatch) => match dispatch.content {
            Verdict::Authentic(Content::Entitlement { plaintext, .. }) => Some(plaintext),
            _ => None,
        },
        _ => None,
    });
    Entitlement::from_cbor(&found.unwrap()).unwrap()
}

/// The status of every device of the story.
pub fn status(records: &[Vec<u8>], bundle: &[u8]) -> Status {
    let opened = Bundle::open(bundle, &vault(), &key("vault-sign").public).unwrap();
    let checkpoint = opened.content().checkpoint;
    let made = certificates(&records[..checkpoint.size as usize]);
    let digest = |bytes: &[u8]| cut(&Fingerprint::of(bytes), BITS_MAX);
    let good = made.iter().map(|(_, _, made)| digest(made.tbs_der()));
    let serials = made.iter().map(|(_, _, made)| digest(made.serial()));
    let mut states = DeviceState::ALL.map(|_| DigestSet::new(Vec::new(), BITS_MAX));
    states[0] = DigestSet::new(good.collect(), BITS_MAX);
    Status {
        made_at: END - HOUR,
        trust_version: 2,
        vaults: vec![VaultStatus {
            vault: vault(),
            device_cas: vec![DeviceCaStatus {
                certificate: device_ca().certificate_der().to_vec(),
                revoked: false,
            }],
            checkpoint: Some(checkpoint),
            states,
            serials: DigestSet::filter(serials.collect(), SERIAL_DOUBT_BITS),
        }],
    }
}

/// A report of headquarters, sealed.
pub fn sealed_report() -> Report {
    Report {
        made_at: END - HOUR,
        format: ReportFormat::Csv,
        content:
            b"row,site,vault,product,entitlement,authorised\r\naccount,berlin,v1,TH-200,q1,50\r\n"
                .to_vec(),
    }
}

/// The messages, over the log of the story and its first report.
pub fn told(records: &[Vec<u8>], bundle: &[u8]) -> [Told; 3] {
    let report = key("report");
    let dossier = dossier(records, bundle);
    let status = status(records, bundle);
    let told = |name: &str, about, bytes| Told {
        name: name.to_owned(),
        about,
        bytes,
    };
    [
        told(
            "dossier",
            "where the first device comes from, with receipts of inclusion under the root of the first report",
            dossier.seal(&report.public, &|m| report.sign(m)).unwrap(),
        ),
        told(
            "status",
            "which devices headquarters accounts for, as of the first report",
            status.seal(&report.public, &|m| report.sign(m)).unwrap(),
        ),
        told(
            "report",
            "what headquarters showed of its books, in the form of CSV",
            sealed_report()
                .seal(&report.public, &|m| report.sign(m))
                .unwrap(),
        ),
    ]
}
