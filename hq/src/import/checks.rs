//! What a log says about HQ itself, held against what HQ knows: how the vault was enrolled, what it was sent, which
//! manifests there are, which bundles arrived.
//!
//! The replay takes these as facts. Without these checks a vault could replay itself, without a flaw, under an
//! entitlement that HQ never sent.

mod sent;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use mintmark_console::Failure;
use mintmark_ledger::entry::{
    Body, BundleSealed, Dispatch as Logged, Entry, Genesis, LogSequence, Rotation, Trust,
};
use mintmark_ledger::state::State;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::envelope::{Kind, Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, Lineage};
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;
use serde_json::json;

use crate::approvals::{self, readers};
use crate::findings::{Finding, Severity};
use crate::record::Record;
use crate::registry::dispatches::{self, Sent};
use crate::registry::vaults::Vault;
use crate::registry::{bundles, device_cas, restores};
use crate::{clock, failure, own_restore};

/// Everything that HQ knows of one vault's beginnings and mail.
pub(super) struct Checks<'a> {
    sql: &'a Connection,
    record: &'a Record,
    vault: &'a Vault,
    manifests: &'a [Verified<TrustManifest>],
    /// Opens what HQ sent, as HQ is among its recipients.
    opener: Opener<'a>,
    sent: BTreeMap<(u64, u64), Sent>,
    /// The epoch that the newest declared restore opened: what is unknown of those before is forgotten.
    restored: Option<u64>,
    /// Bundles that the log names and that are forgotten.
    missing: Option<(Lineage, RangeInclusive<u64>)>,
}

/// What HQ sent and its vault refused.
#[derive(Clone, Debug)]
pub(crate) struct RefusedThere {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) version: u64,
    /// The rule, by its code.
    pub(crate) code: String,
    /// Whether it was for its approvals, and its draft collects others now.
    pub(crate) approve_again: bool,
    /// How it is drafted again, if too few officers of today can read that draft.
    pub(crate) draft_again: Option<String>,
}

/// What was expected, and what was found.
type Mismatch = (String, String);

impl<'a> Checks<'a> {
    pub(super) fn new(
        sql: &'a Connection,
        record: &'a Record,
        vault: &'a Vault,
        manifests: &'a [Verified<TrustManifest>],
        opener: Opener<'a>,
    ) -> Result<Self, Failure> {
        let sent: BTreeMap<_, _> = dispatches::all(sql, &vault.name)?
            .into_iter()
            .map(|sent| ((sent.epoch, sent.sequence), sent))
            .collect();
        let restored = own_restore::declared_to(sql, manifests, &vault.name)?;
        Ok(Self {
            sql,
            record,
            vault,
            manifests,
            opener,
            sent,
            restored,
            missing: None,
        })
    }

    /// Bundles of this lineage that nobody has any more, since HQ has forgotten them.
    pub(super) fn without(mut self, missing: (Lineage, RangeInclusive<u64>)) -> Self {
        self.missing = Some(missing);
        self
    }

    /// Whether a dispatch that HQ does not know is one that it has forgotten, as officers have declared: of an epoch before
    /// the one that they opened.
    pub(super) fn is_forgotten(
        &self,
        epoch: u64,
        sequence: u64,
        fingerprint: &Fingerprint,
    ) -> bool {
        self.restored.is_some_and(|restored| epoch < restored)
            && !self.was_sent(epoch, sequence, fingerprint)
    }

    /// Whether HQ sent this dispatch, as far as it knows or has forgotten.
    pub(super) fn knows(&self, epoch: u64, sequence: u64, fingerprint: &Fingerprint) -> bool {
        self.was_sent(epoch, sequence, fingerprint)
            || self.is_forgotten(epoch, sequence, fingerprint)
    }

    /// Whether this brings what headquarters has forgotten, after a gap.
    pub(super) fn resumes(&self) -> bool {
        self.missing.is_some()
    }

    /// Whether a vault says that it follows a manifest that is newer than all that HQ has: then HQ may have forgotten it.
    pub(super) fn newer_trust(&self, version: u64) -> bool {
        let newest = self.manifests.last();
        newest.is_none_or(|newest| newest.content().version < version)
    }

    /// Takes in what a forgotten dispatch brought, once the vault has accepted it.
    pub(super) fn adopt(
        &self,
        sequence: LogSequence,
        input: &Entry,
        entry: &Entry,
    ) -> Result<Option<Finding>, Failure> {
        let (Body::Dispatch(logged), Body::DispatchAccepted) = (&input.body, &entry.body) else {
            return Ok(None);
        };
        if !self.is_forgotten(logged.epoch, logged.sequence, &logged.fingerprint) {
            return Ok(None);
        }
        let at = (sequence.number(), entry.time);
        own_restore::adopt(self.sql, self.vault, self.manifests, at, logged)
    }

    /// Whether HQ sent this dispatch.
    pub(super) fn was_sent(&self, epoch: u64, sequence: u64, fingerprint: &Fingerprint) -> bool {
        self.sent
            .get(&(epoch, sequence))
            .is_some_and(|sent| sent.fingerprint == *fingerprint)
    }

    /// When HQ made a dispatch, Unix seconds; none if it made none such.
    pub(super) fn made_at(&self, epoch: u64, sequence: u64) -> Result<Option<u64>, Failure> {
        let sent = self.sent.get(&(epoch, sequence));
        sent.map(|sent| Ok(self.kept(sent)?.made_at)).transpose()
    }

    /// What is wrong with an entry, in the light of what HQ knows. `state` is that after it.
    pub(super) fn entry(
        &self,
        sequence: LogSequence,
        entry: &Entry,
        state: &State,
    ) -> Result<Option<Finding>, Failure> {
        let trust = state.trust();
        let (code, mismatch) = match &entry.body {
            Body::Genesis(genesis) => ("GENESIS-MISMATCH", self.genesis(genesis)),
            Body::Trust(trust) => ("TRUST-UNKNOWN", self.trust(trust)),
            Body::Dispatch(logged)
                if self.is_forgotten(logged.epoch, logged.sequence, &logged.fingerprint) =>
            {
                let finding = own_restore::forgotten(self.vault, sequence.number(), logged);
                return Ok(Some(finding));
            }
            Body::Dispatch(dispatch) => match self.dispatch(dispatch)? {
                Some(words) => ("DISPATCH-CONTENT", Some(words)),
                None => ("FACT-FALSE", self.verdict(dispatch, trust)?),
            },
            Body::BundleSealed(sealed) => ("BUNDLE-SEALED-MISMATCH", self.sealed(sealed, state)?),
            Body::Rotation(rotation) => ("ROTATION-UNKNOWN", self.rotation(rotation)?),
            _ => return Ok(None),
        };
        let (vault, lineage) = (&self.vault.name, self.vault.lineage);
        Ok(
            mismatch
                .map(|words| Finding::of_record(vault, lineage, sequence.number(), code, words)),
        )
    }

    /// Officers want to know that what they sent is not in force: the vault saw it and refused it, by a rule.
    pub(super) fn refused(
        &self,
        sequence: LogSequence,
        input: &Entry,
        entry: &Entry,
    ) -> Option<Finding> {
        let (Body::Dispatch(dispatch), Body::DispatchRefused { code }) = (&input.body, &entry.body)
        else {
            return None;
        };
        let Logged {
            kind, id, version, ..
        } = dispatch;
        // What officers wanted ended goes on there.
        let severity = match kind == Kind::Revocation.as_str() {
            true => Severity::Major,
            false => Severity::Note,
        };
        Some(Finding {
            vault: self.vault.name.clone(),
            lineage: self.vault.lineage,
            log_sequence: Some(sequence.number()),
            code: "DISPATCH-REFUSED".to_owned(),
            severity,
            serials: Vec::new(),
            evidence: json!({ "type": kind, "id": id, "version": version, "rule": code }),
            text: format!("the vault did not accept the {kind} `{id}`, by the rule {code}"),
        })
    }

    /// Notes what became of a dispatch of ours. A draft that too few of today's officers have approved is open again; one
    /// that was thought to be so, and is in force all the same, is closed.
    pub(super) fn decided(
        &self,
        input: &Entry,
        entry: &Entry,
    ) -> Result<Option<RefusedThere>, Failure> {
        let Body::Dispatch(logged) = &input.body else {
            return Ok(None);
        };
        let sent = self.sent.get(&(logged.epoch, logged.sequence));
        let Some(sent) = sent.filter(|sent| sent.fingerprint == logged.fingerprint) else {
            return Ok(None);
        };
        let content = || -> Result<Fingerprint, Failure> {
            let content = self.kept(sent)?.content;
            let claim = claim(&content, content.len()).map_err(failure::home_corrupt)?;
            Ok(claim.fingerprint)
        };
        match &entry.body {
            Body::DispatchAccepted if logged.kind != Kind::Acknowledgement.as_str() => {
                approvals::close(self.sql, &content()?)?;
                Ok(None)
            }
            Body::DispatchRefused { code } => {
                let name = &self.vault.name;
                dispatches::refuse(self.sql, name, &sent.fingerprint, code)?;
                // What was sent anew since, as it was approved again, is on its way.
                let is_newest = !dispatches::is_sent_again(self.sql, name, sent)?;
                let lacking = approvals::APPROVAL_LACKING.contains(&code.as_str());
                let mut reopened = None;
                if is_newest && lacking {
                    reopened = approvals::reopen(self.sql, &content()?, clock::now_unix())?;
                }
                let approve_again = reopened.is_some();
                let mut draft_again = None;
                if let (Some(draft), Some(newest)) = (reopened, self.manifests.last()) {
                    let collected = approvals::collected(self.sql, self.record, &draft)?;
                    let newest = newest.content();
                    draft_again = readers::draft_again(self.sql, &draft, &collected, newest)?;
                }
                if is_newest && !approve_again && sent.kind != Kind::Acknowledgement.as_str() {
                    approvals::fail(self.sql, &content()?)?;
                }
                Ok(Some(RefusedThere {
                    kind: sent.kind.clone(),
                    id: sent.object.clone(),
                    version: sent.version,
                    code: code.clone(),
                    approve_again,
                    draft_again,
                }))
            }
            _ => Ok(None),
        }
    }

    fn genesis(&self, genesis: &Genesis) -> Option<Mismatch> {
        let Vault {
            name,
            lineage_first: lineage,
            request_fingerprint,
            ..
        } = self.vault;
        let known = self.manifest(genesis.trust_version, &genesis.trust_fingerprint);
        if genesis.vault == *name
            && genesis.lineage == *lineage
            && genesis.enrolment_fingerprint == *request_fingerprint
            && known
        {
            return None;
        }
        let expected = format!(
            "the vault {name} of lineage {lineage} that asked for enrolment with {request_fingerprint}, and a \
             published trust manifest"
        );
        let found = format!(
            "the vault {} of lineage {} that asked with {}, and trust manifest {} with {}",
            genesis.vault,
            genesis.lineage,
            genesis.enrolment_fingerprint,
            genesis.trust_version,
            genesis.trust_fingerprint,
        );
        Some((expected, found))
    }

    fn trust(&self, trust: &Trust) -> Option<Mismatch> {
        let published = self.manifests.iter().any(|manifest| {
            manifest.content().version == trust.version
                && manifest.fingerprint() == trust.fingerprint
                && manifest.content().dispatch_epoch == trust.dispatch_epoch
        });
        if published {
            return None;
        }
        let found = format!(
            "version {} with fingerprint {}, which opens dispatch epoch {}",
            trust.version, trust.fingerprint, trust.dispatch_epoch
        );
        Some(("a published trust manifest".to_owned(), found))
    }

    /// A vault asks for its next device CA once it has made the key, and HQ may not have the request yet. Of one that was
    /// granted, it is the request that officers approved.
    fn rotation(&self, logged: &Rotation) -> Result<Option<Mismatch>, Failure> {
        let device_cas = device_cas::granted(self.sql, &self.vault.name)?;
        let granted = device_cas
            .iter()
            .find(|device_ca| device_ca.generation == logged.generation);
        let Some(granted) = granted else {
            return Ok(None);
        };
        if granted.request_fingerprint == logged.request_fingerprint {
            return Ok(None);
        }
        let words = |fingerprint: &Fingerprint| {
            format!(
                "the request {fingerprint} for device CA {}",
                logged.generation
            )
        };
        Ok(Some((
            words(&granted.request_fingerprint),
            words(&logged.request_fingerprint),
        )))
    }

    /// Whether HQ published this manifest.
    pub(super) fn manifest(&self, version: u64, fingerprint: &Fingerprint) -> bool {
        self.manifests.iter().any(|manifest| {
            manifest.content().version == version && manifest.fingerprint() == *fingerprint
        })
    }

    fn is_missing(&self, lineage: &Lineage, sequence: u64) -> bool {
        let missing = self.missing.as_ref();
        missing.is_some_and(|(of, missing)| of == lineage && missing.contains(&sequence))
    }

    fn sealed(&self, sealed: &BundleSealed, state: &State) -> Result<Option<Mismatch>, Failure> {
        let name = &self.vault.name;
        let lineage = &state.lineage().unwrap_or(self.vault.lineage);
        let held = bundles::find(self.sql, name, lineage, sealed.sequence)?;
        let describe = |fingerprint: &Fingerprint, log_size: u64| {
            format!(
                "bundle {} covering {log_size} records, with fingerprint {fingerprint}",
                sealed.sequence
            )
        };
        let found = describe(&sealed.fingerprint, sealed.log_size);
        Ok(match held {
            Some(held) => {
                let same =
                    (held.fingerprint, held.log_size) == (sealed.fingerprint, sealed.log_size);
                (!same).then(|| (describe(&held.fingerprint, held.log_size), found))
            }
            // Before a restore, a vault may have sealed what never arrived, and its records come with the next lineage.
            None if restores::closing(self.sql, name, lineage)?.is_some() => None,
            None if self.is_missing(lineage, sealed.sequence) => None,
            None => Some(("a bundle that HQ holds".to_owned(), found)),
        })
    }
}
