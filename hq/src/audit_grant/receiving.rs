//! An auditor's home, made of a grant: everything in it is verified and taken in by the very code that headquarters has for
//! that, in the order in which headquarters took it in.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mintmark_console::home::expect_free;
use mintmark_console::{Console, Exit, Failure};
use mintmark_keys::KeyUri;
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::audit_grant::{AuditGrant, Part, PartKind};
use mintmark_protocol::bundle::BUNDLE_BYTES_MAX;
use mintmark_protocol::envelope::{Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, SiteId, VaultName};
use mintmark_protocol::restore::RESTORE_BYTES_MAX;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use serde_json::Value;

use super::comparison;
use super::container::Reader;
use super::cut;
use super::keys::{self, AuditorKeys, GrantedKeys};
use super::partial::Partial;
use crate::applied::{Applying, SaidHeld, vault_of};
use crate::config::{Auditor, Config, Pin, Role};
use crate::home::Home;
use crate::import::{Importer, Taken, records};
use crate::keyring::Keyring;
use crate::registry::{Registry, trust_manifests, vaults};
use crate::report::period::Period;
use crate::report::{Query, Report};
use crate::{clock, failure, trust, vault_restores};

/// What came of a grant.
pub(crate) struct Received {
    /// Of the grant.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) made_at: u64,
    pub(crate) period: Period,
    /// What is not as headquarters says, one thing each.
    pub(crate) differences: Vec<String>,
    /// Whether all findings were compared: of a part of the record, those of that part are.
    pub(crate) findings_compared: bool,
    /// How many of those that headquarters says were not.
    pub(crate) findings_left_out: u64,
    /// What acknowledgements were compared with what is here.
    pub(crate) acknowledgements: u64,
}

/// A grant whose signature and whose trust are verified.
struct Opened {
    reader: Reader,
    trust: Vec<Vec<u8>>,
    manifests: Vec<Verified<TrustManifest>>,
    message: Vec<u8>,
    fingerprint: Fingerprint,
    grant: AuditGrant,
    keys: GrantedKeys,
    report_key: PublicKey,
}

impl Opened {
    fn new(
        file: &Path,
        known: &Fingerprint,
        uri: &KeyUri,
        console: &Console,
    ) -> Result<Self, Failure> {
        let mut reader = Reader::open(file)?;
        let trust = reader.trust()?;
        let what = "trust manifest of an audit grant";
        let manifests = TrustManifest::known(what, &trust, known).map_err(records::untrusted)?;
        let newest = manifests.last().map(Verified::content);
        let newest = newest.ok_or_else(|| reader.damaged("it has no trust manifest"))?;
        let report_key = newest.report_key;
        let message = reader.grant()?;
        let claim = claim(&message, message.len()).map_err(records::untrusted)?;
        let (grant, own) = keys::open(uri, &message, &report_key, console)?;
        let keys = GrantedKeys::new(&grant, own);
        Ok(Self {
            reader,
            trust,
            manifests,
            fingerprint: claim.fingerprint,
            message,
            grant,
            keys,
            report_key,
        })
    }
}

/// Verifies a grant and makes a home of it at `path`.
pub(crate) fn receive(
    file: &Path,
    known: &Fingerprint,
    uri: &KeyUri,
    path: &Path,
    console: &Console,
) -> Result<Received, Failure> {
    expect_free(path)?;
    let opened = Opened::new(file, known, uri, console)?;
    let newest = opened.manifests.last().map(Verified::content);
    let newest = newest.ok_or_else(|| opened.reader.damaged("it has no trust manifest"))?;
    comparison::expect_period(&opened.grant)?;
    for doubt in comparison::doubts(&opened.grant, newest.expires_at, clock::now_unix()) {
        console.warn(doubt);
    }
    let mut manifests = opened.manifests.iter();
    let pinned = manifests.find(|manifest| manifest.fingerprint() == *known);
    let config = Config {
        schema: 1,
        role: Role::Auditor,
        name: newest.hq_name.clone(),
        keys: None,
        pin: Some(Pin {
            version: pinned.map_or(newest.version, |pinned| pinned.content().version),
            fingerprint: known.to_string(),
        }),
        auditor: Some(Auditor {
            keys: uri.to_string(),
            report_key: hex::encode(opened.report_key.to_sec1_bytes()),
            grant: PathBuf::new(),
        }),
        changes: Vec::new(),
    };
    let making = Home::begin(path)?;
    Registry::create(making.folder())?;
    let record = crate::record::Record::unnoted(making.folder());
    record.keep(&record.audit_grant(), &opened.message)?;
    Home::configure(making.folder(), &config)?;
    let received = fill(opened, making.folder(), console)?;
    making.place()?;
    Ok(received)
}

/// Takes everything in.
fn fill(opened: Opened, folder: &Path, console: &Console) -> Result<Received, Failure> {
    let Opened {
        reader,
        trust,
        manifests,
        fingerprint,
        grant,
        keys,
        ..
    } = opened;
    let home = Home::read(Some(folder))?;
    let ring = Keyring::of_auditor(AuditorKeys::opened(keys), console);
    let places = reader.places(&grant)?;
    let mut filling = Filling {
        registry: home.registry()?,
        home: &home,
        ring: &ring,
        console,
        reader: RefCell::new(reader),
        trust: &trust,
        parts: &grant.parts,
        places,
        manifests: Vec::new(),
        reports: Vec::new(),
        said_held: BTreeMap::new(),
        differences: Vec::new(),
        acknowledgements: 0,
    };
    let progress = console.progress("verifying the grant", Some(grant.parts.len() as u64));
    for at in 0..grant.parts.len() {
        filling.part(at)?;
        progress.advance(1);
    }
    progress.finish();
    if filling.manifests.len() != manifests.len() {
        return Err(filling.damaged("it does not list every trust manifest that it has"));
    }
    let Filling {
        registry,
        reports,
        said_held,
        mut differences,
        acknowledgements,
        ..
    } = filling;
    let end = grant.to_day.map(cut::end);
    for said in said_held.values() {
        differences.extend(said.missing(&registry.sql, end)?);
    }
    let partial = end.map(|_| Partial::new(&registry.sql)).transpose()?;
    let mut findings_left_out = 0_u64;
    let mut sites: BTreeSet<_> = {
        let keys = grant.serial_keys.iter();
        keys.map(|of| of.vault.site.clone()).collect()
    };
    let here = vaults::all(&registry.sql)?;
    sites.extend(here.into_iter().map(|vault| vault.name.site));
    let period = comparison::period(&grant);
    for (site, said) in comparison::by_site(&reports, &sites)? {
        let here = clock::at(grant.made_at, || books(&home, &registry, site, period))?;
        let (differ, left_out) = comparison::differences(&said, &here, partial.as_ref())?;
        differences.extend(differ);
        findings_left_out = findings_left_out.saturating_add(left_out);
    }
    Ok(Received {
        fingerprint,
        made_at: grant.made_at,
        period,
        differences,
        findings_compared: partial.is_none(),
        findings_left_out,
        acknowledgements,
    })
}

/// What the books here say of a site and the days that were granted.
fn books(home: &Home, registry: &Registry, site: SiteId, period: Period) -> Result<Value, Failure> {
    let query = Query {
        site: Some(site),
        period,
        ..Query::default()
    };
    Ok(Report::new(&registry.sql, &home.config.name, query)?.to_json())
}

/// A damaged file is nobody's fraud.
fn damaged(mut failure: Failure) -> Failure {
    if failure.code == "GRANT-DAMAGED" {
        failure.exit = Exit::Negative;
    }
    failure
}

/// What is being filled, and of what.
struct Filling<'a> {
    registry: Registry,
    home: &'a Home,
    ring: &'a Keyring<'a>,
    console: &'a Console,
    reader: RefCell<Reader>,
    trust: &'a [Vec<u8>],
    parts: &'a [Part],
    places: Vec<u64>,
    manifests: Vec<Verified<TrustManifest>>,
    reports: Vec<Vec<u8>>,
    /// By vault and fingerprint, the first time that it is said.
    said_held: BTreeMap<(VaultName, Fingerprint), SaidHeld>,
    differences: Vec<String>,
    acknowledgements: u64,
}

impl Filling<'_> {
    fn damaged(&self, why: &str) -> Failure {
        self.reader.borrow().damaged(why)
    }

    fn read(&self, at: usize) -> Result<Vec<u8>, Failure> {
        let (Some(part), Some(place)) = (self.parts.get(at), self.places.get(at)) else {
            return Err(self.damaged("it is cut short"));
        };
        self.reader.borrow_mut().part(part, *place)
    }

    fn part(&mut self, at: usize) -> Result<(), Failure> {
        let Some(part) = self.parts.get(at) else {
            return Ok(());
        };
        match part.kind {
            PartKind::TrustManifest => self.manifest(part),
            PartKind::Draft => self.draft(&self.read(at)?),
            PartKind::Dispatch => self.dispatch(&self.read(at)?),
            PartKind::Order => self.order(&self.read(at)?, part.time),
            PartKind::Bundle | PartKind::RefusedBundle => self.bundle(at, part),
            // They were read with their bundle.
            PartKind::Segment => Ok(()),
            PartKind::Restore | PartKind::RefusedRestore => self.restore(&self.read(at)?, part),
            PartKind::Report => {
                let report = self.read(at)?;
                self.reports.push(report);
                Ok(())
            }
        }
    }

    fn manifest(&mut self, part: &Part) -> Result<(), Failure> {
        let missing = || self.damaged("it lists a trust manifest that it does not have");
        let at = usize::try_from(part.number)
            .ok()
            .and_then(|at| at.checked_sub(1));
        let bytes = at.and_then(|at| self.trust.get(at)).ok_or_else(missing)?;
        let claim = claim(bytes, bytes.len()).map_err(records::untrusted)?;
        if Fingerprint::of(bytes) != part.digest || at != Some(self.manifests.len()) {
            return Err(missing());
        }
        let record = self.home.record();
        record.keep(&record.trust(part.number), bytes)?;
        let next = match self.manifests.last() {
            None => TrustManifest::pin(bytes, &claim.fingerprint, None),
            Some(last) => last.successor(bytes),
        };
        let next = next.map_err(records::untrusted)?;
        let content = next.content();
        if self.manifests.is_empty() {
            let root = hex::encode(&content.root_certificate);
            self.registry.set("root_certificate", &root)?;
        }
        trust_manifests::publish(
            &self.registry.sql,
            content.version,
            &next.fingerprint(),
            content.expires_at,
            part.time,
        )?;
        self.manifests = trust::chain(self.home)?;
        Ok(())
    }

    fn draft(&self, bytes: &[u8]) -> Result<(), Failure> {
        let proposal = Proposal::read(bytes, PROPOSAL_BYTES_MAX).map_err(records::untrusted)?;
        let record = self.home.record();
        let fingerprint = proposal.fingerprint().to_string();
        record.keep(&record.draft(&proposal.context().id, &fingerprint), bytes)
    }

    fn dispatch(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let record = self.home.record();
        let applying = Applying {
            record: &record,
            manifests: &self.manifests,
            ring: self.ring,
        };
        let sql = self.registry.savepoint()?;
        let applied = applying.dispatch(&sql, bytes)?;
        sql.commit().map_err(failure::sql)?;
        self.acknowledgements += u64::from(applied.is_acknowledgement);
        self.differences.extend(applied.untrue);
        if let Some(held) = applied.held {
            let key = (held.vault.clone(), held.seen.fingerprint);
            self.said_held.entry(key).or_insert(held);
        }
        Ok(())
    }

    fn order(&mut self, bytes: &[u8], time: u64) -> Result<(), Failure> {
        let record = self.home.record();
        let applying = Applying {
            record: &record,
            manifests: &self.manifests,
            ring: self.ring,
        };
        applying.untold(&self.registry.sql, bytes, time)
    }

    /// The segments of a bundle follow it.
    fn bundle(&mut self, at: usize, part: &Part) -> Result<(), Failure> {
        let bytes = self.read(at)?;
        let name = vault_of(&bytes, BUNDLE_BYTES_MAX)?;
        let importer = Importer::new(self.home, self.ring, self.console, false)?;
        let first = at.saturating_add(1);
        let segments = self.parts.iter().skip(first);
        let segments = segments.take_while(|part| part.kind == PartKind::Segment);
        let numbers: Vec<u64> = segments.map(|part| part.number).collect();
        let (parts, places, reader) = (self.parts, &self.places, &self.reader);
        let read = |number: usize| {
            let found = numbers.iter().position(|of| *of == number as u64);
            let at = found.map(|found| first + found);
            let found = at.and_then(|at| Some((parts.get(at)?, places.get(at)?)));
            found
                .map(|(part, place)| reader.borrow_mut().part(part, *place))
                .transpose()
                // Whoever damaged the file is not the vault.
                .map_err(|mut failure| {
                    failure.exit = Exit::Integrity;
                    failure
                })
        };
        if part.kind == PartKind::RefusedBundle {
            // Of evidence, what cannot be read is left out.
            for number in &numbers {
                read(usize::try_from(*number).unwrap_or(usize::MAX)).map_err(damaged)?;
            }
        }
        let registry = &mut self.registry;
        let taken = clock::at(part.time, || {
            importer.bundle(registry, &name, &bytes, &read)
        });
        let taken = taken.map_err(damaged)?;
        let said = part.kind == PartKind::Bundle;
        match taken {
            Taken::Imported { .. } | Taken::Already if said => Ok(()),
            Taken::Held(_) | Taken::Refused(_) if !said => Ok(()),
            Taken::Imported { .. } | Taken::Already => {
                let text =
                    format!("{name}: headquarters refused a bundle that nothing is wrong with");
                self.differences.push(text);
                Ok(())
            }
            Taken::Held(failure) | Taken::Refused(failure) => {
                self.differences.push(format!(
                    "{name}: headquarters holds a bundle that is refused here: {}: {}",
                    failure.code, failure.message
                ));
                Ok(())
            }
        }
    }

    fn restore(&mut self, bytes: &[u8], part: &Part) -> Result<(), Failure> {
        let name = vault_of(bytes, RESTORE_BYTES_MAX)?;
        let (home, registry, ring) = (self.home, &mut self.registry, self.ring);
        let taken = clock::at(part.time, || {
            vault_restores::take(home, registry, ring, &name, bytes, false)
        })?;
        let said = part.kind == PartKind::Restore;
        let text = match taken {
            vault_restores::Taken::Refused(failure) if said => format!(
                "{name}: headquarters noted a restore that is refused here: {}: {}",
                failure.code, failure.message
            ),
            vault_restores::Taken::Imported(_) if !said => {
                format!(
                    "{name}: headquarters refused the declaration of a restore that nothing is wrong with"
                )
            }
            _ => return Ok(()),
        };
        self.differences.push(text);
        Ok(())
    }
}
