//! Making a grant: everything is opened once, so that what opens it can be handed on, and written as it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mintmark_console::{Console, Failure};
use mintmark_protocol::Error;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::audit_grant::{AuditGrant, PartKind, SerialKey, trust_to_cbor};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::encryption::random;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, SiteId, VaultName};
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::segment::Segment;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use rusqlite::Connection;

use super::container::Writer;
use super::cut;
use super::parts::{self, Parts, Source};
use super::recorder::Recorder;
use super::timeline::{self, Event, What};
use crate::home::Home;
use crate::import::kept;
use crate::keyring::{self, Keyring};
use crate::record::Record;
use crate::registry::bundles::Held;
use crate::registry::drafts;
use crate::registry::vaults::{self, Vault};
use crate::report::period::{Day, Period};
use crate::report::{Query, Report};
use crate::serials::Serials;
use crate::{approvals, clock, failure, outbox, trust};

/// What is granted.
pub(crate) struct Scope {
    /// These sites; all if there are none.
    pub(crate) sites: Vec<SiteId>,
    /// The first day that the auditor is asked to look at.
    pub(crate) from: Option<Day>,
    /// The last one.
    pub(crate) to: Option<Day>,
}

impl Scope {
    /// The days.
    pub(crate) fn period(&self) -> Period {
        Period {
            since: self.from,
            as_of: self.to,
        }
    }
}

/// What was granted.
pub(crate) struct Granted {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) made_at: u64,
    pub(crate) vaults: Vec<VaultName>,
    pub(crate) bundles: usize,
    pub(crate) parts: usize,
}

/// Gathers the parts of a grant.
struct Gathering<'a> {
    sql: &'a Connection,
    record: &'a Record,
    manifests: &'a [Verified<TrustManifest>],
    recorder: Recorder<'a>,
    console: &'a Console,
    parts: Parts,
    drafts: BTreeSet<Fingerprint>,
}

/// The vaults that a grant would be of.
pub(crate) fn planned(home: &Home, scope: &Scope) -> Result<Vec<VaultName>, Failure> {
    let vaults = granted_vaults(&home.registry()?.sql, scope)?;
    Ok(vaults.into_iter().map(|vault| vault.name).collect())
}

/// Writes a grant for an auditor.
pub(crate) fn grant(
    home: &Home,
    scope: &Scope,
    auditor: &PublicKey,
    output: &Path,
    console: &Console,
) -> Result<Granted, Failure> {
    let registry = home.registry()?;
    let (sql, record) = (&registry.sql, home.record());
    let vaults = granted_vaults(sql, scope)?;
    let manifest = trust::in_force(home)?;
    let manifests = trust::chain(home)?;
    let ring = Keyring::new(&home.config, console)?;
    // First, as it is asked for its PIN and everything else takes its time.
    let signer = ring.report_signer(manifest.content())?;
    let made_at = clock::now_unix();
    let names: BTreeSet<_> = vaults.iter().map(|vault| vault.name.clone()).collect();
    let events = timeline::of(sql, &record, &manifests, &names)?;
    let events = cut::events(events, scope.to);
    // Of what is known before anything is opened.
    parts::expect_listed(vaults.len(), 0)?;
    let bundles = events.iter();
    let bundles = bundles.filter(|event| matches!(event.what, What::Bundle(_)));
    let bundles = bundles.count();
    let mut gathering = Gathering {
        sql,
        record: &record,
        manifests: &manifests,
        recorder: Recorder::new(&ring)?,
        console,
        parts: Parts::default(),
        drafts: BTreeSet::new(),
    };
    let progress = console.progress("opening the record", Some(events.len() as u64));
    for event in &events {
        gathering.event(event, &vaults)?;
        progress.advance(1);
    }
    progress.finish();
    let sites: BTreeSet<_> = names.iter().map(|name| name.site.clone()).collect();
    for site in sites {
        let report = clock::at(made_at, || report(home, sql, site, scope))?;
        gathering.parts.memory(PartKind::Report, made_at, report)?;
    }
    let serials = Serials::new(&ring);
    let serial_keys: Result<Vec<_>, Failure> = vaults
        .iter()
        .map(|vault| {
            Ok(SerialKey {
                vault: vault.name.clone(),
                key: serials.key_of(vault)?,
            })
        })
        .collect();
    let Gathering {
        recorder, parts, ..
    } = gathering;
    let grant = AuditGrant {
        salt: random().map_err(failure::protocol)?,
        made_at,
        auditor: *auditor,
        from_day: scope.from.map(|day| day.0),
        to_day: scope.to.map(|day| day.0),
        hq_keys: recorder.public_keys(),
        secrets: recorder.into_secrets(),
        serial_keys: serial_keys?,
        parts: parts.listed(),
    };
    parts::expect_listed(names.len(), grant.hq_keys.len())?;
    let message = grant.seal(signer.public_key(), &keyring::sign(&*signer));
    let message = message.map_err(|error| match error {
        error @ Error::Oversize { .. } => parts::oversize(error.to_string()),
        error => failure::protocol(error),
    })?;
    let fingerprint = mintmark_protocol::envelope::claim(&message, message.len());
    let fingerprint = fingerprint.map_err(failure::protocol)?.fingerprint;
    let trust: Result<Vec<_>, Failure> = manifests
        .iter()
        .map(|manifest| record.read(&record.trust(manifest.content().version)))
        .collect();
    let trust = trust?;
    let trust_cbor = trust_to_cbor(&trust);
    parts::expect_trust(trust.len(), trust_cbor.len())?;
    let mut writer = Writer::create(output)?;
    writer.item(&trust_cbor)?;
    writer.item(&message)?;
    let parts = parts.into_iter();
    let count = parts.len();
    let progress = console.progress("writing the grant", Some(count as u64));
    for (part, source) in parts {
        progress.advance(1);
        match source {
            Source::Trust => {}
            Source::Memory(bytes) => writer.item(&bytes)?,
            Source::File(path) => {
                let bytes = record.read(&path)?;
                if Fingerprint::of(&bytes) != part.digest {
                    let what = format!("{} has changed just now", path.display());
                    return Err(failure::home_corrupt(what));
                }
                writer.item(&bytes)?;
            }
        }
    }
    writer.finish()?;
    progress.finish();
    Ok(Granted {
        fingerprint,
        made_at,
        vaults: names.into_iter().collect(),
        bundles,
        parts: count,
    })
}

/// The vaults that were let in at these sites.
fn granted_vaults(sql: &Connection, scope: &Scope) -> Result<Vec<Vault>, Failure> {
    let all = vaults::all(sql)?;
    for site in &scope.sites {
        if !all.iter().any(|vault| vault.name.site == *site) {
            return Err(failure::usage(
                "SITE-UNKNOWN",
                format!("there is no site `{site}`"),
                "`hq site list` shows which there are",
            ));
        }
    }
    let mut granted = all;
    granted.retain(|vault| {
        vault.granted && (scope.sites.is_empty() || scope.sites.contains(&vault.name.site))
    });
    if granted.is_empty() {
        return Err(failure::usage(
            "GRANT-EMPTY",
            "no vault was let in there yet: there is nothing to look at",
            "grant it once a vault is let in (`hq site grant`)",
        ));
    }
    Ok(granted)
}

/// What HQ's own books say of a site.
fn report(home: &Home, sql: &Connection, site: SiteId, scope: &Scope) -> Result<Vec<u8>, Failure> {
    let query = Query {
        site: Some(site),
        period: scope.period(),
        ..Query::default()
    };
    let report = Report::new(sql, &home.config.name, query)?;
    Ok(report.to_json().to_string().into_bytes())
}

impl Gathering<'_> {
    /// Reads a file of the record and lists it.
    fn file(&mut self, kind: PartKind, time: u64, path: PathBuf) -> Result<Vec<u8>, Failure> {
        let bytes = self.record.read(&path)?;
        self.parts
            .push(kind, time, 0, (&bytes, Source::File(path)))?;
        Ok(bytes)
    }

    fn event(&mut self, event: &Event, vaults: &[Vault]) -> Result<(), Failure> {
        let time = event.time;
        let vault_of = |name: &VaultName| {
            let found = vaults.iter().find(|vault| vault.name == *name);
            found.ok_or_else(|| failure::home_corrupt(format!("{name} is not registered")))
        };
        match &event.what {
            What::Trust(version) => {
                let bytes = self.record.read(&self.record.trust(*version))?;
                let source = (bytes.as_slice(), Source::Trust);
                self.parts
                    .push(PartKind::TrustManifest, time, *version, source)?;
            }
            What::Dispatch { vault, sent, .. } => {
                let dispatch = outbox::read_back(self.record, self.manifests, vault, sent)?;
                self.draft_of(&dispatch)?;
                self.open_content(&dispatch)?;
                let path = self.record.dispatch(vault, sent.epoch, sent.sequence);
                self.file(PartKind::Dispatch, time, path)?;
            }
            What::Order { draft } => {
                let order = self.order(draft)?;
                self.parts.memory(PartKind::Order, time, order)?;
            }
            What::Bundle(held) => self.bundle(vault_of(&held.vault)?, held, time)?,
            What::Restore(restore) => {
                let path = self.record.restore(&restore.vault, &restore.declaration);
                self.file(PartKind::Restore, time, path)?;
            }
            What::Evidence {
                vault,
                fingerprint,
                kind,
            } => {
                let path = self.record.evidence(vault, &format!("{fingerprint}.cose"));
                if *kind == Kind::RestoreDeclaration {
                    self.file(PartKind::RefusedRestore, time, path)?;
                    return Ok(());
                }
                let bytes = self.file(PartKind::RefusedBundle, time, path)?;
                let vault = vault_of(vault)?;
                let opened = Bundle::open(&bytes, &vault.name, &vault.signing_key);
                let bundle = opened.map_err(failure::home_corrupt)?.into_content();
                self.evidence_segments(&bundle, *fingerprint, time)?;
            }
        }
        Ok(())
    }

    /// The draft that officers approved, once: if the vault refuses it for its approvals, it collects others.
    fn draft_of(&mut self, dispatch: &Dispatch) -> Result<(), Failure> {
        let Ok(proposal) = Proposal::read(&dispatch.content, PROPOSAL_BYTES_MAX) else {
            return Ok(());
        };
        let fingerprint = proposal.fingerprint();
        let Some(draft) = drafts::by_fingerprint(self.sql, &fingerprint)? else {
            return Ok(());
        };
        let path = self.record.draft(&draft.id, &fingerprint.to_string());
        // What an own restore has forgotten, and a log has told again, has no draft here.
        if path.exists() && self.drafts.insert(fingerprint) {
            self.file(PartKind::Draft, draft.drafted_at, path)?;
        }
        Ok(())
    }

    /// What officers approved, with the approvals of those who could give one.
    fn order(&self, fingerprint: &Fingerprint) -> Result<Vec<u8>, Failure> {
        let proposal =
            approvals::approved_once(self.sql, self.record, self.manifests, fingerprint)?;
        let opened = self
            .recorder
            .open(|opener| proposal.plaintext(Some(opener)).map(drop));
        opened.map_err(failure::protocol)?;
        proposal.to_bytes().map_err(failure::protocol)
    }

    /// Opens what a dispatch brings.
    fn open_content(&self, dispatch: &Dispatch) -> Result<(), Failure> {
        let bytes = &dispatch.content;
        let opened = match dispatch.kind {
            Kind::Acknowledgement => self.recorder.open(|opener| {
                let mut newest = self.manifests.iter().rev();
                let found = newest.find_map(|manifest| {
                    Acknowledgement::open(bytes, manifest, &dispatch.vault, opener).ok()
                });
                let what = "acknowledgement";
                found.map(drop).ok_or(Error::NotRecipient { what })
            }),
            _ => self.recorder.open(|opener| {
                Proposal::read(bytes, PROPOSAL_BYTES_MAX)?
                    .plaintext(Some(opener))
                    .map(drop)
            }),
        };
        opened.map_err(failure::protocol)
    }

    fn bundle(&mut self, vault: &Vault, held: &Held, time: u64) -> Result<(), Failure> {
        let bundle = kept::bundle(self.record, vault, held)?.into_content();
        let Held {
            vault: name,
            lineage,
            sequence,
            ..
        } = held;
        self.file(
            PartKind::Bundle,
            time,
            self.record.bundle(name, lineage, *sequence),
        )?;
        for (number, facts) in (1..).zip(&bundle.segments) {
            let bytes = kept::segment(self.record, &bundle, number)?.unwrap_or_default();
            let id = Bundle::segment_id(lineage, *sequence, number);
            self.recorder
                .open(|opener| Segment::open(&bytes, facts, name, &id, opener).map(drop))
                .map_err(failure::protocol)?;
            let path = self.record.segment(name, lineage, *sequence, number);
            let source = (bytes.as_slice(), Source::File(path));
            self.parts
                .push(PartKind::Segment, time, number as u64, source)?;
        }
        Ok(())
    }

    /// What is kept of the segments of a bundle that was refused. One that nobody can open opens for the auditor neither.
    fn evidence_segments(
        &mut self,
        bundle: &Bundle,
        fingerprint: Fingerprint,
        time: u64,
    ) -> Result<(), Failure> {
        for (number, facts) in (1..).zip(&bundle.segments) {
            let file = format!("{fingerprint}.seg{number:04}");
            let path = self.record.evidence(&bundle.vault, &file);
            if !path.exists() {
                continue;
            }
            let bytes = self.record.read(&path)?;
            let id = Bundle::segment_id(&bundle.lineage, bundle.sequence, number);
            let name = &bundle.vault;
            let away = self
                .recorder
                .open_evidence(|opener| Segment::open(&bytes, facts, name, &id, opener))
                .map_err(failure::protocol)?;
            if let Some(away) = away {
                let text = format!(
                    "{name}: the former audit key {} cannot be reached: segment {number} of the refused bundle \
                     {fingerprint} is not opened, and the auditor cannot open it",
                    thumbprint(&away)
                );
                self.console.warn_coded("KEY-OPERATION", text);
            }
            let source = (bytes.as_slice(), Source::File(path));
            self.parts
                .push(PartKind::Segment, time, number as u64, source)?;
        }
        Ok(())
    }
}
