//! One object after the other, taken in again by the code that took it in, or noted as that noted it when it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, Failure};
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_protocol::bundle::{BUNDLE_BYTES_MAX, Bundle};
use mintmark_protocol::dispatch::{DISPATCH_BYTES_MAX, Dispatch};
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::{Kind, Party, Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, OfficerId, VaultName};
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order;
use mintmark_protocol::restore::RESTORE_BYTES_MAX;
use mintmark_protocol::trust::{Role, TrustManifest};

use super::plan::then;
use super::{Lost, Then};
use crate::applied::{self, Asking, SaidHeld, vault_of};
use crate::approvals::{self, APPROVE_DAYS, Content, collect};
use crate::clock::{self, DAY_SECONDS};
use crate::commands::media::manifests;
use crate::commands::trust::publish;
use crate::drafting::{self, Subject};
use crate::home::Home;
use crate::import::{Importer, Taken, records};
use crate::keyring::Keyring;
use crate::record::Record;
use crate::record::times::{Entry, What};
use crate::registry::drafts::{self, Draft, State};
use crate::registry::officers::{self, AddedOfficer};
use crate::registry::orders::{self, Listed};
use crate::registry::{self, Registry, vaults};
use crate::{failure, vault_restores};

pub(super) mod beside;
pub(super) mod finishing;

/// What is being made, and of what.
pub(super) struct Applying<'a> {
    home: &'a Home,
    record: Record,
    registry: &'a mut Registry,
    ring: &'a Keyring<'a>,
    console: &'a Console,
    manifests: Vec<Verified<TrustManifest>>,
    /// Versions of manifests that were taken back.
    taken_back: Vec<u64>,
    /// Officers of whom it was noted that they were listed or taken off the list.
    spoken_of: BTreeSet<OfficerId>,
    facts: Vec<String>,
    /// Bundles that headquarters held when it sent something, by its own word: the first dispatch that says so.
    said_held: BTreeMap<(VaultName, Fingerprint), (String, SaidHeld)>,
    /// Dispatches that acknowledge what was not so when they were taken in.
    untrue: Vec<(String, Vec<u8>)>,
    /// The newest manifest that a vault follows by its own word, and the bundle that says so.
    followed: Option<(u64, String)>,
    /// Whether what is taken in now comes after its time.
    is_late: bool,
    /// What could not be taken in where it stood.
    deferred: Vec<Entry>,
    lost: Vec<Lost>,
}

impl<'a> Applying<'a> {
    pub(super) fn new(
        home: &'a Home,
        registry: &'a mut Registry,
        ring: &'a Keyring<'a>,
        console: &'a Console,
        lost: Vec<Lost>,
    ) -> Result<Self, Failure> {
        // Without it nothing is opened; better to know at once.
        ring.audit()?;
        Ok(Self {
            home,
            record: home.record(),
            registry,
            ring,
            console,
            manifests: Vec::new(),
            taken_back: Vec::new(),
            spoken_of: BTreeSet::new(),
            facts: Vec::new(),
            said_held: BTreeMap::new(),
            untrue: Vec::new(),
            followed: None,
            is_late: false,
            deferred: Vec::new(),
            lost,
        })
    }

    /// Takes one in. What is not believed is tried again when everything else is there, since of what was kept unnoted the
    /// place is uncertain; what this machine fails at ends everything.
    pub(super) fn event(&mut self, event: &Entry) -> Result<(), Failure> {
        match clock::at(event.time, || self.apply(event)) {
            Err(failure) if failure.exit != Exit::Environment => {
                self.deferred.push(event.clone());
                Ok(())
            }
            done => done,
        }
    }

    /// Tries again what was not believed, as long as that makes a difference. What is left is not had back.
    fn deferred(&mut self) -> Result<(), Failure> {
        loop {
            let (tried, mut failed) = (std::mem::take(&mut self.deferred), Vec::new());
            let count = tried.len();
            for event in tried {
                self.is_late = true;
                match clock::at(event.time, || self.apply(&event)) {
                    Err(failure) if failure.exit != Exit::Environment => {
                        failed.push((event, failure));
                    }
                    done => done?,
                }
            }
            if failed.len() < count {
                self.deferred = failed.into_iter().map(|(event, _)| event).collect();
                continue;
            }
            for (event, failure) in failed {
                let (what, then) = match event.what {
                    What::Kept { path, .. } => {
                        let then = then(&path);
                        (path, then)
                    }
                    What::Listed { officer, .. } | What::Removed { officer } => {
                        (format!("officers/{officer}"), Then::Officers)
                    }
                    // What it revoked would count as good again.
                    What::Untold { draft } => (format!("untold/{draft}"), Then::Declare),
                    What::TakenBack { version } => (format!("trust/{version}"), Then::Declare),
                    What::Fact { name, .. } => (name, Then::Again),
                };
                self.lost.push(Lost {
                    then,
                    what,
                    code: failure.code.to_string(),
                    why: failure.message,
                });
            }
            return Ok(());
        }
    }

    fn apply(&mut self, event: &Entry) -> Result<(), Failure> {
        match &event.what {
            What::Kept { path, .. } => self.object(path),
            What::TakenBack { version } => {
                self.taken_back.push(*version);
                Ok(())
            }
            What::Untold { draft } => self.untold(draft, event.time),
            What::Listed {
                officer,
                request,
                adds_key,
                roles,
            } => self.listed((officer, request), *adds_key, roles, event.time),
            What::Removed { officer } => {
                self.spoken_of.insert(officer.clone());
                officers::remove(&self.registry.sql, officer, event.time)
            }
            What::Fact { name, value } => {
                self.facts.push(name.clone());
                self.registry.set(name, value)
            }
        }
    }

    fn object(&mut self, path: &str) -> Result<(), Failure> {
        let file = self.record.folder().join(path);
        let bytes = self.record.read(&file)?;
        match path.split('/').next().unwrap_or_default() {
            "trust" => self.manifest(&bytes),
            "drafts" => self.draft(&bytes),
            "approvals" => self.approval(path, &bytes),
            "sent" => self.dispatch(path, bytes),
            "received" => self.received(&file, &bytes),
            // A link from root to root, which is judged when the roots are known.
            "ca" => Ok(()),
            _ => self.evidence(&file, &bytes),
        }
    }

    fn manifest(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let manifest = next(&self.manifests, bytes).map_err(records::untrusted)?;
        let fingerprint = manifest.fingerprint();
        let is_known = drafts::by_fingerprint(&self.registry.sql, &fingerprint)?.is_some();
        let is_taken_back = !is_known || self.taken_back.contains(&manifest.content().version);
        let sql = self.registry.transaction()?;
        if is_taken_back && !self.manifests.is_empty() {
            manifests::taken_back(&sql, &manifest)?;
        } else {
            publish::published(&sql, &self.record, &manifest)?;
        }
        registry::commit(sql)?;
        self.manifests.push(manifest);
        Ok(())
    }

    /// A draft that headquarters signed, by a dispatch key of its own: of a manifest, by the one that it lists.
    fn draft(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let proposal = Proposal::read(bytes, PROPOSAL_BYTES_MAX).map_err(records::untrusted)?;
        let content = Content::read(&proposal, Some(self.ring.audit()?.opener()))?;
        let published = self.manifests.iter().map(Verified::content);
        let listed = match &content {
            Content::Trust(next) => Some(&**next),
            _ => None,
        };
        let keys = published.chain(listed).map(|of| &of.dispatch_key);
        proposal
            .expect_drafted_by(keys)
            .map_err(failure::protocol)?;
        let draft = Draft {
            id: proposal.context().id.clone(),
            fingerprint: proposal.fingerprint(),
            kind: proposal.context().kind,
            vault: None,
            version: 1,
            drafted_at: clock::now_unix(),
            approve_until: content.approve_until(),
            state: State::Open,
        };
        let known = drafts::by_fingerprint(&self.registry.sql, &draft.fingerprint)?;
        if known.is_some_and(|known| known.state == State::Sealed) {
            // What was made of it came first, where nothing says which did.
            return Ok(());
        }
        let sql = self.registry.transaction()?;
        let gone = match &content {
            Content::Trust(next) => {
                let draft = Draft {
                    version: next.version,
                    drafted_at: next.issued_at,
                    approve_until: next.issued_at.saturating_add(APPROVE_DAYS * DAY_SECONDS),
                    ..draft
                };
                drafting::note(&sql, &draft, &Subject::Trust)?
            }
            Content::Grant(grant) => {
                let draft = Draft {
                    vault: Some(grant.vault.clone()),
                    ..draft
                };
                let request = grant.request_fingerprint.to_string();
                let path = self.record.enrolment(&grant.vault, &request);
                self.record.keep(&path, &grant.request)?;
                match Asking::of(grant, draft.fingerprint, draft.drafted_at)? {
                    Asking::Vault(vault) => drafting::note(&sql, &draft, &Subject::Vault(&vault))?,
                    Asking::DeviceCa(next) => {
                        drafting::note(&sql, &draft, &Subject::DeviceCa(&next))?
                    }
                }
            }
            Content::Entitlement(terms) => {
                let draft = Draft {
                    vault: Some(terms.vault.clone()),
                    version: terms.version,
                    drafted_at: terms.drafted_at,
                    ..draft
                };
                drafting::note(&sql, &draft, &Subject::Entitlement(terms))?
            }
            Content::Revocation(order) => note_order(&sql, draft, &**order, order.number)?,
            Content::ClockCorrection(order) => note_order(&sql, draft, &**order, order.number)?,
            Content::Reanchor(order) => note_order(&sql, draft, &**order, order.number)?,
        };
        registry::commit(sql)?;
        let time = drafted_at(&content);
        if !self.is_late {
            return Ok(());
        }
        for gone in gone {
            let file = self.record.draft(&gone.id, &gone.fingerprint.to_string());
            let bytes = self.record.read(&file)?;
            // The newer one stays open, whichever is taken in last.
            if signed_at(&bytes, self.ring.audit()?.opener()).is_some_and(|of| of > time) {
                self.draft(&bytes)?;
            }
        }
        Ok(())
    }

    fn approval(&mut self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let manifest = self.manifests.last();
        collect::take_kept(self.registry, &self.record, manifest, bytes)?;
        // Where nothing says when it came, what was made of it may be there already.
        let kept = Proposal::read(bytes, PROPOSAL_BYTES_MAX).map_err(records::untrusted)?;
        let fingerprint = kept.fingerprint();
        let draft = drafts::by_fingerprint(&self.registry.sql, &fingerprint)?;
        let Some(draft) = draft.filter(|draft| draft.state == State::Sealed) else {
            return Ok(());
        };
        let (text, role) = (fingerprint.to_string(), approvals::role(draft.kind)?);
        for judge in self.manifests.iter().map(Verified::content) {
            let Ok(officers) = kept.known_approvers(judge, role) else {
                continue;
            };
            for officer in officers {
                let of = self.record.approval(&draft.id, &text, &officer);
                if of.ends_with(path) {
                    let now = clock::now_unix();
                    drafts::approve(&self.registry.sql, &fingerprint, &officer, now)?;
                }
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, path: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let applying = applied::Applying {
            record: &self.record,
            manifests: &self.manifests,
            ring: self.ring,
        };
        let sql = self.registry.savepoint()?;
        let applied = applying.dispatch(&sql, &bytes)?;
        sql.commit().map_err(failure::sql)?;
        if let Some(held) = applied.held {
            let key = (held.vault.clone(), held.seen.fingerprint);
            self.said_held.entry(key).or_insert((path.to_owned(), held));
        }
        if applied.untrue.is_some() {
            self.untrue.push((path.to_owned(), bytes));
        }
        Ok(())
    }

    fn untold(&mut self, draft: &Fingerprint, time: u64) -> Result<(), Failure> {
        let sql = self.registry.transaction()?;
        approvals::approved_once(&sql, &self.record, &self.manifests, draft)?;
        orders::seal_untold(&sql, draft)?;
        orders::set_state(&sql, draft, orders::State::Sent, time)?;
        registry::commit(sql)
    }

    /// What was taken in is taken in, or it changes nothing: whoever lacks what came before it accuses nobody.
    fn received(&mut self, file: &Path, bytes: &[u8]) -> Result<(), Failure> {
        match self.take_as(file, bytes, true)? {
            Outcome::In => Ok(()),
            Outcome::Out(mut failure) => {
                // Of the record, and no medium's fault.
                failure.exit = Exit::Integrity;
                Err(failure)
            }
        }
    }

    /// What was refused or held back is refused, or held back, again. If it is not, it changes nothing all the same.
    fn evidence(&mut self, file: &Path, bytes: &[u8]) -> Result<(), Failure> {
        self.take_as(file, bytes, false).map(drop)
    }

    fn take_as(&mut self, file: &Path, bytes: &[u8], is_in: bool) -> Result<Outcome, Failure> {
        let run =
            |registry: &Registry, sql: &str| registry.sql.execute_batch(sql).map_err(failure::sql);
        run(self.registry, "SAVEPOINT taking")?;
        let missed = self.record.missed();
        let taken = self.take(file, bytes);
        let as_before = matches!(
            (&taken, is_in),
            (Ok(Outcome::In), true) | (Ok(Outcome::Out(_)), false)
        );
        if !as_before {
            run(self.registry, "ROLLBACK TO taking")?;
            self.record.miss_again(missed);
        }
        run(self.registry, "RELEASE taking")?;
        taken
    }

    /// Takes in a bundle or the declaration of a restore.
    fn take(&mut self, file: &Path, bytes: &[u8]) -> Result<Outcome, Failure> {
        let claim = claim(bytes, BUNDLE_BYTES_MAX).map_err(records::untrusted)?;
        if claim.context.kind == Kind::RestoreDeclaration {
            let name = vault_of(bytes, RESTORE_BYTES_MAX)?;
            let taken =
                vault_restores::take(self.home, self.registry, self.ring, &name, bytes, false)?;
            return Ok(match taken {
                vault_restores::Taken::Refused(failure) => Outcome::Out(failure),
                _ => Outcome::In,
            });
        }
        let name = vault_of(bytes, BUNDLE_BYTES_MAX)?;
        let importer = Importer::new(self.home, self.ring, self.console, false)?;
        let read = |number: usize| {
            let path = segment(file, number);
            match path.symlink_metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                _ => self.record.read(&path).map(Some),
            }
        };
        Ok(match importer.bundle(self.registry, &name, bytes, &read)? {
            Taken::Imported { .. } | Taken::Already => {
                self.follows(&name, bytes)?;
                Outcome::In
            }
            Taken::Held(failure) | Taken::Refused(failure) => Outcome::Out(failure),
        })
    }

    /// Notes which manifest a vault follows by its own word.
    fn follows(&mut self, name: &VaultName, bytes: &[u8]) -> Result<(), Failure> {
        let Some(vault) = vaults::find(&self.registry.sql, name)? else {
            return Ok(());
        };
        let bundle = Bundle::open(bytes, name, &vault.signing_key).map_err(records::untrusted)?;
        let bundle = bundle.content();
        let newest = self.followed.as_ref().map_or(0, |(version, _)| *version);
        if bundle.trust_version > newest {
            let said = format!("bundle {} of {name}", bundle.sequence);
            self.followed = Some((bundle.trust_version, said));
        }
        Ok(())
    }

    fn listed(
        &mut self,
        (id, fingerprint): (&OfficerId, &Fingerprint),
        adds_key: bool,
        roles: &[Role],
        time: u64,
    ) -> Result<(), Failure> {
        self.spoken_of.insert(id.clone());
        let path = self.record.officer_request(id, &fingerprint.to_string());
        let request = OfficerRequest::open(&self.record.read(&path)?, fingerprint);
        let request = request.map_err(records::untrusted)?.into_content();
        let known = officers::all(&self.registry.sql)?;
        let listed = known
            .iter()
            .find(|known| known.officer.id == *id && known.removed_at.is_none());
        let before = listed.map(|listed| &listed.officer);
        let roles = roles.iter().copied().collect();
        let asked = (request, fingerprint);
        let added = AddedOfficer::new(asked, roles, before, adds_key, time);
        let sql = self.registry.transaction()?;
        officers::add(&sql, &added)?;
        registry::commit(sql)
    }
}

/// What became of something that a vault sent.
enum Outcome {
    In,
    Out(Failure),
}

/// The file of a segment, beside that of its bundle.
fn segment(bundle: &Path, number: usize) -> PathBuf {
    bundle.with_extension(format!("seg{number:04}"))
}

/// The manifests that are in a record, as far as each follows the one before.
pub(super) fn manifests(record: &Record) -> Result<Vec<Verified<TrustManifest>>, Failure> {
    let mut found: Vec<Verified<TrustManifest>> = Vec::new();
    for version in 1.. {
        let path = record.trust(version);
        if path.symlink_metadata().is_err() {
            break;
        }
        match next(&found, &record.read(&path)?) {
            Ok(manifest) => found.push(manifest),
            // Why is said when it is taken in.
            Err(_) => break,
        }
    }
    Ok(found)
}

/// The first manifest, or the one after those.
fn next(
    before: &[Verified<TrustManifest>],
    bytes: &[u8],
) -> Result<Verified<TrustManifest>, mintmark_protocol::Error> {
    match before.last() {
        None => TrustManifest::pin(bytes, &claim(bytes, bytes.len())?.fingerprint, None),
        Some(last) => last.successor(bytes),
    }
}

/// When a dispatch was made, by its own word, if headquarters signed it.
pub(super) fn made_at(bytes: &[u8], manifests: &[Verified<TrustManifest>]) -> Option<u64> {
    let Party::Vault(vault) = claim(bytes, DISPATCH_BYTES_MAX).ok()?.context.recipient else {
        return None;
    };
    let mut opened = manifests
        .iter()
        .filter_map(|manifest| Dispatch::open(bytes, manifest, &vault).ok());
    opened.next().map(|dispatch| dispatch.content().made_at)
}

/// When a draft was made, by its own word.
pub(super) fn signed_at(bytes: &[u8], opener: Opener<'_>) -> Option<u64> {
    let proposal = Proposal::read(bytes, PROPOSAL_BYTES_MAX).ok()?;
    let content = Content::read(&proposal, Some(opener)).ok()?;
    Some(drafted_at(&content))
}

fn drafted_at(content: &Content) -> u64 {
    match content {
        Content::Trust(next) => next.issued_at,
        Content::Grant(grant) => grant.drafted_at,
        Content::Entitlement(terms) => terms.drafted_at,
        Content::Revocation(order) => order.drafted_at,
        Content::ClockCorrection(order) => order.drafted_at,
        Content::Reanchor(order) => order.drafted_at,
    }
}

fn note_order<T: Order>(
    sql: &rusqlite::Connection,
    draft: Draft,
    order: &T,
    number: u64,
) -> Result<Vec<Draft>, Failure> {
    let vault: &VaultName = order.vault();
    let draft = Draft {
        vault: Some(vault.clone()),
        version: number,
        ..draft
    };
    let listed = Listed {
        draft: draft.fingerprint,
        vault: vault.clone(),
        kind: T::KIND,
        number,
        state: orders::State::Draft,
        sent_at: None,
        plaintext: order.to_cbor(),
    };
    drafting::note(sql, &draft, &Subject::Order(&listed))
}
