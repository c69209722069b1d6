//! Making the dossier of one device from the record: what the vault wrote of it, and the way from there to a signed root.

use std::ops::Range;

use mintmark_console::{Console, Failure, files};
use mintmark_keys::Signer;
use mintmark_ledger::entry::{Body, Entry};
use mintmark_ledger::inclusion::InclusionProver;
use mintmark_ledger::merkle::{Frontier, leaf_hash};
use mintmark_pki::{Certificate, Issuer, assemble};
use mintmark_protocol::bundle::Checkpoint;
use mintmark_protocol::dossier::{
    DOSSIER_BUNDLE_BYTES_MAX, Dossier, EntitlementFacts, LoggedRecord, StateFacts,
};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{EntitlementId, Fingerprint};
use mintmark_protocol::receipt::{InclusionProof, Receipt, log_name};
use p256::ecdsa::Signature;

use crate::home::Home;
use crate::import::kept;
use crate::keyring::{self, Keyring};
use crate::registry::bundles::{self, Held};
use crate::registry::devices::Unit;
use crate::registry::entitlements::Listed;
use crate::registry::vaults::Vault;
use crate::registry::{Registry, device_cas, dispatches, entitlements, log_trees};
use crate::roots::{self, Root};
use crate::{clock, failure};

/// Where what is known of devices is kept.
pub(crate) struct Archive<'a> {
    pub(crate) home: &'a Home,
    pub(crate) registry: &'a Registry,
    pub(crate) ring: &'a Keyring<'a>,
    /// The report key that the manifest in force lists: nobody believes a receipt by another one.
    pub(crate) signer: &'a dyn Signer,
    pub(crate) console: &'a Console,
}

/// The records of one unit, and the root that they are under.
struct Logged {
    checkpoint: Checkpoint,
    /// The request, the reservation, the signature: where, and as the vault wrote it.
    records: [(u64, Vec<u8>); 3],
    paths: Vec<Vec<[u8; 32]>>,
}

impl Archive<'_> {
    /// Everything about a unit that has a certificate, to be signed.
    pub(crate) fn dossier(
        &self,
        vault: &Vault,
        unit: &Unit,
        state: StateFacts,
    ) -> Result<Dossier, Failure> {
        let signed = unit.record.signed.ok_or_else(|| {
            failure::refused(
                "DEVICE-UNRESOLVED",
                format!(
                    "the log says of no certificate for {}: its unit was reserved and never signed for",
                    unit.record.device_id
                ),
                "import the vault's newest bundles, then run this again",
            )
        })?;
        let reserved = unit.record.reservation.number();
        // A decision stands directly after the input that it was made from.
        let indices = [reserved.saturating_sub(1), reserved, signed.number()];
        let held = self.covering(vault, indices[2])?;
        let logged = self.logged(vault, &held, indices)?;
        let entries = logged.entries()?;
        let certificate = entries.certificate(unit)?;
        let (device_ca, root) = self.issuers(vault, &certificate)?;
        let records = self.receipts(vault, &held, &logged)?;
        let identity = vault.certificates.as_ref();
        let identity = identity
            .ok_or_else(|| failure::home_corrupt(format!("{} has no certificate", vault.name)))?;
        let record = self.home.record();
        let bundle = record.bundle(&vault.name, &held.lineage, held.sequence);
        let bundle = files::read_limited(&bundle, DOSSIER_BUNDLE_BYTES_MAX as u64).ok();
        let id = entries.entitlement.clone();
        let sent = self.terms_at(vault, &id, (reserved, &held))?;
        let sent = sent.ok_or_else(|| {
            failure::refused(
                "DEVICE-UNACCOUNTED",
                format!("the log spends this unit from {id}, which headquarters never granted"),
                "there is nothing to vouch for: `hq device show` says what is known of it",
            )
        })?;
        Ok(Dossier {
            vault: vault.name.clone(),
            made_at: clock::now_unix(),
            certificate: certificate.der().to_vec(),
            device_ca,
            root: root.issuer.certificate_der().to_vec(),
            identity: identity.identity.clone(),
            lineage: held.lineage,
            checkpoint: logged.checkpoint,
            bundle,
            records,
            entitlement: EntitlementFacts {
                id,
                version: sent.terms.version,
                sku: unit.record.sku.clone(),
                valid_from: sent.terms.window.from,
                valid_until: sent.terms.window.until,
                approvers: sent.approvers,
            },
            state,
        })
    }

    /// The first bundle that covers a record and is small enough to be handed on; the first that covers it, if none is.
    fn covering(&self, vault: &Vault, record: u64) -> Result<Held, Failure> {
        let mut held = bundles::of_vault(&self.registry.sql, &vault.name)?;
        held.retain(|held| held.log_size > record);
        let small = |held: &&Held| {
            let record = self.home.record();
            let path = record.bundle(&held.vault, &held.lineage, held.sequence);
            let bytes = path.metadata().map_or(u64::MAX, |file| file.len());
            bytes <= DOSSIER_BUNDLE_BYTES_MAX as u64
        };
        let found = held.iter().find(small).or(held.first()).cloned();
        found.ok_or_else(|| {
            failure::home_corrupt(format!("no bundle of {} holds record {record}", vault.name))
        })
    }

    /// The version of an entitlement that its vault had accepted when it wrote a reservation, which a bundle brings; where it
    /// had accepted none, the newest that it was sent.
    fn terms_at(
        &self,
        vault: &Vault,
        id: &EntitlementId,
        (reserved, held): (u64, &Held),
    ) -> Result<Option<Listed>, Failure> {
        let sql = &self.registry.sql;
        let mut sent = entitlements::versions(sql, &vault.name, id)?;
        sent.retain(|listed| listed.state == "sent");
        if sent.len() <= 1 {
            return Ok(sent.pop());
        }
        let mut before = bundles::of_vault(sql, &vault.name)?.into_iter();
        let before = before.rfind(|before| before.log_size <= reserved);
        let accepted = |held: &Held| match held.dispatch_seen {
            Some(seen) => dispatches::version_by(sql, &vault.name, id, seen),
            None => Ok(None),
        };
        let known = before.as_ref().map(accepted).transpose()?.flatten();
        let from = before.map_or(0, |before| before.log_size);
        let version = match accepted(held)? {
            last if last == known => known,
            // Another one came with the very bundle, before the reservation or after it.
            _ => self.accepted(vault, id, from..reserved)?.or(known),
        };
        let found = sent
            .iter()
            .rposition(|listed| Some(listed.terms.version) == version);
        Ok(match found {
            Some(at) => Some(sent.swap_remove(at)),
            None => sent.pop(),
        })
    }

    /// The newest version of an entitlement that these records accept.
    fn accepted(
        &self,
        vault: &Vault,
        id: &EntitlementId,
        records: Range<u64>,
    ) -> Result<Option<u64>, Failure> {
        let audit = self.ring.audit()?;
        let opener = audit.opener();
        let record = self.home.record();
        let leaves = kept::Leaves::new(&self.registry.sql, &record, vault, opener);
        let (mut asked, mut accepted) = (None, None);
        leaves.records(records, |raw| {
            match Entry::from_cbor(&raw).map(|entry| entry.body) {
                Ok(Body::Dispatch(dispatch)) => {
                    let of =
                        dispatch.kind == Kind::Entitlement.as_str() && dispatch.id == id.as_str();
                    asked = of.then_some(dispatch.version);
                }
                Ok(Body::DispatchAccepted) => accepted = asked.take().or(accepted),
                _ => {}
            }
            Ok(())
        })?;
        Ok(accepted)
    }

    /// The tree of the bundles before the one that holds a record: that spares reading them, as its root is what the vault
    /// signed.
    fn tree_before(&self, vault: &Vault, record: u64) -> Result<Frontier, Failure> {
        let sql = &self.registry.sql;
        let before = bundles::of_vault(sql, &vault.name)?.into_iter().rev();
        for held in before.filter(|held| held.log_size <= record) {
            if let Some(tree) = log_trees::at(sql, &held)? {
                return Ok(tree);
            }
        }
        Ok(Frontier::new())
    }

    fn logged(&self, vault: &Vault, held: &Held, indices: [u64; 3]) -> Result<Logged, Failure> {
        let audit = self.ring.audit()?;
        let opener = audit.opener();
        let missing = || {
            failure::refused(
                "RECORDS-MISSING",
                format!(
                    "headquarters does not hold every record of {} before the device's: there is no way to a root",
                    vault.name
                ),
                "what was lost at a restore of headquarters cannot be shown to others",
            )
        };
        let tree = self.tree_before(vault, indices[0])?;
        let (record, mut at) = (self.home.record(), tree.size());
        let mut prover =
            InclusionProver::after(tree, held.log_size, &indices).ok_or_else(missing)?;
        let mut records = indices.map(|index| (index, Vec::new()));
        let leaves = kept::Leaves::new(&self.registry.sql, &record, vault, opener);
        let count = held.log_size.saturating_sub(at);
        let progress = self.console.progress("reading the log", Some(count));
        leaves.records(at..held.log_size, |raw| {
            progress.advance(1);
            prover.append(leaf_hash(&raw));
            if let Some((_, wanted)) = records.iter_mut().find(|(index, _)| *index == at) {
                *wanted = raw;
            }
            at = at.saturating_add(1);
            Ok(())
        })?;
        let (root, paths) = prover.finish().ok_or_else(missing)?;
        if Fingerprint::new(root) != held.log_root {
            return Err(failure::home_corrupt(format!(
                "the records of {} do not lead to the root of its bundle {}",
                vault.name, held.sequence
            )));
        }
        Ok(Logged {
            checkpoint: Checkpoint {
                size: held.log_size,
                root: held.log_root,
                time: held.checkpoint_time,
            },
            records,
            paths,
        })
    }

    /// The device CA that issued a certificate, and the root that issued that.
    fn issuers(&self, vault: &Vault, device: &Certificate) -> Result<(Vec<u8>, Root), Failure> {
        let roots = roots::all(self.home)?;
        for device_ca in device_cas::granted(&self.registry.sql, &vault.name)? {
            let der = device_ca.certificate.unwrap_or_default();
            let Ok(issuer) = Issuer::from_certificate_der(&der) else {
                continue;
            };
            if device.verify_issued_by(&issuer).is_err() {
                continue;
            }
            if let Some(root) = roots::of(&roots, issuer.certificate()) {
                return Ok((der, root.clone()));
            }
        }
        Err(failure::refused(
            "DEVICE-FOREIGN",
            "no device CA of the vault signed the certificate that its log holds of this device",
            "`hq device show` names the findings; nobody can vouch for it",
        ))
    }

    /// A receipt for each record, signed by the report key.
    fn receipts(
        &self,
        vault: &Vault,
        held: &Held,
        logged: &Logged,
    ) -> Result<[LoggedRecord; 3], Failure> {
        let sign = keyring::sign(self.signer);
        let log = log_name(&vault.name, &held.lineage);
        let mut receipts = Vec::new();
        for ((index, record), path) in logged.records.iter().zip(&logged.paths) {
            let proof = InclusionProof {
                size: logged.checkpoint.size,
                index: *index,
                path: path.clone(),
            };
            let key = (self.signer.public_key(), &sign as _);
            let receipt = Receipt::issue(&log, &proof, &logged.checkpoint.root, key)
                .map_err(failure::protocol)?;
            receipts.push(LoggedRecord {
                record: record.clone(),
                receipt,
            });
        }
        <[LoggedRecord; 3]>::try_from(receipts)
            .map_err(|_| failure::home_corrupt("a record of the unit has no receipt"))
    }
}

/// What the three records of a unit say.
pub(crate) struct Entries {
    pub(crate) station: String,
    pub(crate) product: String,
    pub(crate) entitlement: EntitlementId,
    pub(crate) slot: u64,
    pub(crate) issue: u16,
    pub(crate) device_id: String,
    pub(crate) reserved_at: u64,
    pub(crate) issued_at: u64,
    tbs: Vec<u8>,
    /// The reservation that the signature is of.
    pub(crate) reservation: u64,
    signature: [u8; 64],
}

impl Entries {
    /// Reads a request, a reservation and a signature; none if they are anything else.
    pub(crate) fn read(records: [&[u8]; 3]) -> Option<Self> {
        let [request, reserved, signed] = records.map(|raw| Entry::from_cbor(raw).ok());
        let (reserved_at, issued_at) = (reserved.as_ref()?.time, signed.as_ref()?.time);
        match (request?.body, reserved?.body, signed?.body) {
            (Body::Request(request), Body::Reserved(reserved), Body::Signed(signed)) => {
                Some(Self {
                    station: request.station.to_string(),
                    product: request.product.to_string(),
                    entitlement: reserved.entitlement,
                    slot: reserved.slot,
                    issue: reserved.issue,
                    device_id: reserved.device_id.to_string(),
                    reserved_at,
                    issued_at,
                    tbs: reserved.tbs,
                    reservation: signed.reservation.number(),
                    signature: signed.signature,
                })
            }
            _ => None,
        }
    }

    /// The certificate that these records made; none if what they hold makes none.
    pub(crate) fn made(&self) -> Option<Certificate> {
        let signature = Signature::from_slice(&self.signature).ok()?;
        let der = assemble(&self.tbs, &signature).ok()?;
        Certificate::from_der(&der).ok()
    }

    fn certificate(&self, unit: &Unit) -> Result<Certificate, Failure> {
        let made = self.made();
        let of_unit = |made: &Certificate| Fingerprint::of(made.tbs_der()) == unit.tbs_digest;
        made.filter(of_unit).ok_or_else(|| {
            failure::home_corrupt("the registry and the record differ in the certificate of a unit")
        })
    }
}

impl Logged {
    fn entries(&self) -> Result<Entries, Failure> {
        let [request, reserved, signed] = &self.records;
        Entries::read([&request.1, &reserved.1, &signed.1]).ok_or_else(|| {
            failure::home_corrupt("the record of a unit is no request, reservation and signature")
        })
    }
}
