//! What headquarters sent, put into an auditor's registry, or into one of its own that is made again, as headquarters put it
//! there when it sent it: each by the signatures that the vault believes it for.

use mintmark_console::Failure;
use mintmark_pki::{Certificate, CertificationRequest};
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::{BundleSeen, DISPATCH_BYTES_MAX, Dispatch};
use mintmark_protocol::enrolment::{EnrolmentGrant, FIRST_GENERATION, Purpose};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Party, Verified, claim};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::order::Order;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;
use rusqlite::Connection;

use crate::import::records;
use crate::keyring::Keyring;
use crate::record::Record;
use crate::registry::device_cas::{self, DeviceCa};
use crate::registry::dispatches::{self, Sent};
use crate::registry::drafts::{self, Draft, State};
use crate::registry::orders::{self, Listed};
use crate::registry::vaults::{self, Certificates, Vault};
use crate::registry::{bundles, entitlements};
use crate::{approvals, clock, failure, identity, outbox, write_offs};

/// What came of a dispatch.
#[derive(Default)]
pub(crate) struct Applied {
    pub(crate) is_acknowledgement: bool,
    /// What it says of the log that is not so, by what is here.
    pub(crate) untrue: Option<String>,
    /// The bundle that headquarters held when it sent it, by its own word.
    pub(crate) held: Option<SaidHeld>,
}

/// A bundle that a dispatch says headquarters held.
pub(crate) struct SaidHeld {
    pub(crate) vault: VaultName,
    pub(crate) seen: BundleSeen,
    place: String,
}

impl SaidHeld {
    /// What is said if it is not among what headquarters handed out: whoever leaves out a bundle, and everything after it, has
    /// still signed that they held it. Of a period that ends then, the bundles after the first that goes beyond it are left out.
    pub(crate) fn missing(
        &self,
        sql: &Connection,
        end: Option<u64>,
    ) -> Result<Option<String>, Failure> {
        let Self { vault, seen, place } = self;
        let here = bundles::find(sql, vault, &seen.lineage, seen.sequence)?;
        let is_beyond = || -> Result<bool, Failure> {
            let newest = bundles::of_vault(sql, vault)?.pop();
            let ends = newest
                .zip(end)
                .filter(|(of, end)| of.checkpoint_time >= *end);
            Ok(ends.is_some_and(|(newest, _)| {
                newest.lineage != seen.lineage || newest.sequence < seen.sequence
            }))
        };
        Ok(match here {
            Some(held) if held.fingerprint == seen.fingerprint => None,
            None if is_beyond()? => None,
            _ => Some(format!(
                "{place} says that headquarters held bundle {} of lineage {} ({}), which is not here",
                seen.sequence, seen.lineage, seen.fingerprint
            )),
        })
    }
}

/// Takes dispatches in.
pub(crate) struct Applying<'a> {
    pub(crate) record: &'a Record,
    pub(crate) manifests: &'a [Verified<TrustManifest>],
    pub(crate) ring: &'a Keyring<'a>,
}

/// What headquarters sent does not fit together.
pub(crate) fn inconsistent(what: String) -> Failure {
    failure::refused(
        "GRANT-INCONSISTENT",
        format!("what headquarters granted contradicts itself: {what}"),
        "keep the file, and ask headquarters how this came to be; nothing was made of it",
    )
}

impl Applying<'_> {
    /// Takes one in.
    pub(crate) fn dispatch(&self, sql: &Connection, bytes: &[u8]) -> Result<Applied, Failure> {
        let claim = claim(bytes, DISPATCH_BYTES_MAX).map_err(records::untrusted)?;
        let Party::Vault(name) = claim.context.recipient else {
            return Err(inconsistent("a dispatch is for no vault".to_owned()));
        };
        let opened = self.by_any(|manifest| Dispatch::open(bytes, manifest, &name))?;
        let dispatch = opened.content();
        let place = format!(
            "dispatch {} of epoch {} to {name}",
            dispatch.sequence, dispatch.epoch
        );
        let before = dispatches::all(sql, &name)?;
        let last = before.iter().rfind(|sent| sent.epoch == dispatch.epoch);
        let follows = match last {
            Some(last) => {
                last.sequence.checked_add(1) == Some(dispatch.sequence)
                    && dispatch.previous == Some(last.fingerprint)
            }
            None => dispatch.sequence == 1,
        };
        if !follows {
            return Err(inconsistent(format!(
                "{place} does not follow the one before"
            )));
        }
        let is_new_epoch = !before.iter().any(|sent| sent.epoch == dispatch.epoch);
        if is_new_epoch && !before.is_empty() {
            outbox::owe_for_epoch(sql, self.record, dispatch.epoch, &name)?;
        }
        // The same content goes out again in a new epoch, and does nothing anew.
        if !self.is_sent_again(&before, dispatch)? {
            self.content(sql, dispatch)?;
        }
        let sent = Sent {
            epoch: dispatch.epoch,
            sequence: dispatch.sequence,
            fingerprint: opened.fingerprint(),
            kind: dispatch.kind.to_string(),
            object: dispatch.id.clone(),
            version: dispatch.version,
        };
        dispatches::add(sql, &name, &sent, dispatch.made_at)?;
        let path = self.record.dispatch(&name, sent.epoch, sent.sequence);
        self.record.keep(&path, bytes)?;
        let held = dispatch.bundle_seen.map(|seen| SaidHeld {
            vault: name.clone(),
            seen,
            place: place.clone(),
        });
        if dispatch.kind != Kind::Acknowledgement {
            return Ok(Applied {
                held,
                ..Applied::default()
            });
        }
        let untrue = self.acknowledged(sql, dispatch)?;
        Ok(Applied {
            is_acknowledgement: true,
            held,
            untrue: untrue.map(|untrue| format!("{place} acknowledges what is not so: {untrue}")),
        })
    }

    /// Whether the very content of a dispatch went out in an earlier epoch.
    fn is_sent_again(&self, before: &[Sent], dispatch: &Dispatch) -> Result<bool, Failure> {
        let kind = dispatch.kind.to_string();
        let of_same = before.iter().filter(|sent| {
            sent.epoch < dispatch.epoch
                && (&sent.kind, &sent.object, sent.version)
                    == (&kind, &dispatch.id, dispatch.version)
        });
        for sent in of_same {
            let known = outbox::read_back(self.record, self.manifests, &dispatch.vault, sent)?;
            if known.content == dispatch.content {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens something with the newest manifest that lets it be opened: it may have been sent in the day of one before.
    fn by_any<T>(
        &self,
        open: impl Fn(&Verified<TrustManifest>) -> Result<T, mintmark_protocol::Error>,
    ) -> Result<T, Failure> {
        let mut refused = None;
        for manifest in self.manifests.iter().rev() {
            match open(manifest) {
                Ok(opened) => return Ok(opened),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(match refused {
            Some(error) => records::untrusted(error),
            None => inconsistent("something was sent before there was a trust manifest".to_owned()),
        })
    }

    fn order<T: Order>(&self, bytes: &[u8], vault: &VaultName) -> Result<Verified<T>, Failure> {
        let audit = self.ring.audit()?;
        self.by_any(|manifest| T::open(bytes, manifest, vault, audit.opener()))
    }

    /// Takes in what officers ordered of a vault that was told nothing of it.
    pub(crate) fn untold(&self, sql: &Connection, bytes: &[u8], time: u64) -> Result<(), Failure> {
        let claim = claim(bytes, DISPATCH_BYTES_MAX).map_err(records::untrusted)?;
        let Party::Vault(name) = claim.context.recipient else {
            return Err(inconsistent("an order is for no vault".to_owned()));
        };
        let order = self.order::<Revocation>(bytes, &name)?;
        let number = order.content().number;
        numbered(sql, (&name, time), &order, number)
    }

    fn content(&self, sql: &Connection, dispatch: &Dispatch) -> Result<(), Failure> {
        let at = (&dispatch.vault, dispatch.made_at);
        match dispatch.kind {
            Kind::EnrolmentGrant => self.enrolment(sql, dispatch),
            Kind::Entitlement => self.entitlement(sql, dispatch),
            Kind::Revocation => {
                let order = self.order::<Revocation>(&dispatch.content, &dispatch.vault)?;
                let number = order.content().number;
                numbered(sql, at, &order, number)
            }
            Kind::ClockCorrection => {
                let order = self.order::<ClockCorrection>(&dispatch.content, &dispatch.vault)?;
                let number = order.content().number;
                numbered(sql, at, &order, number)
            }
            Kind::Reanchor => {
                let order = self.order::<Reanchor>(&dispatch.content, &dispatch.vault)?;
                let number = order.content().number;
                numbered(sql, at, &order, number)
            }
            _ => Ok(()),
        }
    }

    fn entitlement(&self, sql: &Connection, dispatch: &Dispatch) -> Result<(), Failure> {
        let opened = self.order::<Entitlement>(&dispatch.content, &dispatch.vault)?;
        let (terms, fingerprint) = (opened.content(), opened.fingerprint());
        keep_draft(sql, &opened, (terms.version, terms.drafted_at))?;
        let known = entitlements::by_draft(sql, &fingerprint)?;
        if known.is_none() {
            entitlements::add(sql, terms, &fingerprint)?;
        }
        if known.is_none_or(|known| known.state != "sent") {
            entitlements::send(sql, terms, &fingerprint, opened.officers())?;
        }
        Ok(())
    }

    fn enrolment(&self, sql: &Connection, dispatch: &Dispatch) -> Result<(), Failure> {
        let opened = self.order::<EnrolmentGrant>(&dispatch.content, &dispatch.vault)?;
        let (grant, draft) = (opened.content(), opened.fingerprint());
        let name = &grant.vault;
        approvals::expect_keys_asked_for(grant)?;
        let manifests = self.manifests.iter().map(Verified::content);
        approvals::expect_certificates(grant, manifests)?;
        let certificates = self.certificates(grant, dispatch)?;
        let asking = Asking::of(grant, draft, grant.drafted_at)?;
        keep_draft(sql, &opened, (1, grant.drafted_at))?;
        // Headquarters noted that it asks when that was drafted; an auditor is told of what was granted alone.
        let drafted = device_cas::of_vault(sql, name)?;
        let is_noted = drafted.iter().any(|known| known.draft == draft);
        match asking {
            Asking::DeviceCa(next) => {
                if !is_noted {
                    device_cas::request(sql, name, &next)?;
                }
                return vaults::rotate(sql, name, &next, &certificates, dispatch.made_at);
            }
            Asking::Vault(vault) => {
                if !is_noted {
                    vaults::request(sql, &vault)?;
                }
                vaults::grant(sql, name, &certificates, dispatch.made_at)?;
            }
        }
        let path = self
            .record
            .enrolment(name, &grant.request_fingerprint.to_string());
        self.record.keep(&path, &grant.request)?;
        match grant.purpose.succession() {
            Some(succession) => {
                let write_off = || write_offs::write_off(sql, name, succession, self.ring);
                clock::at(dispatch.made_at, write_off).map(drop)
            }
            None => Ok(()),
        }
    }

    /// The certificates that go with a grant: the root signed what officers approved, and nothing else.
    fn certificates(
        &self,
        grant: &EnrolmentGrant,
        dispatch: &Dispatch,
    ) -> Result<Certificates, Failure> {
        let name = &grant.vault;
        let strange = || {
            inconsistent(format!(
                "the certificates of {name} are not those that officers approved"
            ))
        };
        let [identity, device_ca] = dispatch.certificates.as_slice() else {
            return Err(strange());
        };
        let is_of = |der: &[u8], tbs: &[u8]| {
            Certificate::from_der(der).is_ok_and(|certificate| certificate.tbs_der() == tbs)
        };
        if !is_of(identity, &grant.identity_tbs)
            || !is_of(device_ca, &grant.device_ca_tbs)
            || identity::certified(identity, name, self.manifests).is_err()
            || !identity::by_root(device_ca, self.manifests)
        {
            return Err(strange());
        }
        Ok(Certificates {
            identity: identity.clone(),
            device_ca: device_ca.clone(),
        })
    }

    /// What a dispatch that was taken in acknowledges that is still not so, now that more came in.
    pub(crate) fn acknowledged_by_now(
        &self,
        sql: &Connection,
        bytes: &[u8],
    ) -> Result<Option<String>, Failure> {
        let name = match claim(bytes, DISPATCH_BYTES_MAX)
            .map_err(records::untrusted)?
            .context
            .recipient
        {
            Party::Vault(name) => name,
            _ => return Err(inconsistent("a dispatch is for no vault".to_owned())),
        };
        let opened = self.by_any(|manifest| Dispatch::open(bytes, manifest, &name))?;
        self.acknowledged(sql, opened.content())
    }

    /// What an acknowledgement says of the log that is not so.
    fn acknowledged(
        &self,
        sql: &Connection,
        dispatch: &Dispatch,
    ) -> Result<Option<String>, Failure> {
        let audit = self.ring.audit()?;
        let opened = self.by_any(|manifest| {
            Acknowledgement::open(&dispatch.content, manifest, &dispatch.vault, audit.opener())
        })?;
        let said = opened.content();
        let name = &dispatch.vault;
        let held = bundles::find(sql, name, &said.lineage, said.bundle_sequence)?;
        let Some(held) = held else {
            return Ok(Some(format!(
                "it names bundle {} of lineage {}, which is not here",
                said.bundle_sequence, said.lineage
            )));
        };
        bundles::acknowledge(sql, name, &held)?;
        let heads = |fingerprint: &Fingerprint, size: u64, root: &Fingerprint| {
            format!("bundle {fingerprint} over {size} records with root {root}")
        };
        let said = heads(&said.bundle_fingerprint, said.log_size, &said.log_root);
        let held = heads(&held.fingerprint, held.log_size, &held.log_root);
        Ok((said != held).then(|| format!("{said}, where it is {held}")))
    }
}

/// Whom a grant is for.
pub(crate) enum Asking {
    /// A vault that is to be let in.
    Vault(Box<Vault>),
    /// The next device CA of a vault.
    DeviceCa(Box<DeviceCa>),
}

impl Asking {
    /// By the request in it, and the draft that it is of.
    pub(crate) fn of(
        grant: &EnrolmentGrant,
        draft: Fingerprint,
        requested_at: u64,
    ) -> Result<Self, Failure> {
        let name = &grant.vault;
        let request = grant.asked().map_err(records::untrusted)?;
        let csr = CertificationRequest::from_der(&request.device_ca_csr).map_err(failure::pki)?;
        let device_ca_key = PublicKey::from_public_key_der(csr.spki_der())
            .map_err(|_| inconsistent(format!("the device CA of {name} has no key on P-256")))?;
        if let Purpose::Rotation { generation } = grant.purpose {
            return Ok(Self::DeviceCa(Box::new(DeviceCa {
                generation,
                request_fingerprint: grant.request_fingerprint,
                draft,
                public_key: device_ca_key,
                certificate: None,
                requested_at,
                granted_at: None,
            })));
        }
        debug_assert_eq!(grant.purpose.device_ca_generation(), FIRST_GENERATION);
        Ok(Self::Vault(Box::new(Vault {
            name: name.clone(),
            granted: false,
            request_fingerprint: grant.request_fingerprint,
            draft,
            lineage: request.lineage,
            lineage_first: request.lineage,
            signing_key: request.signing_key,
            agreement_key: request.agreement_key,
            device_ca_key,
            key_store: serde_json::to_string(&request.facts).unwrap_or_default(),
            certificates: None,
            requested_at,
            granted_at: None,
            successor: None,
        })))
    }
}

/// What officers approved was sent: their draft is finished.
fn keep_draft<T: Order>(
    sql: &Connection,
    opened: &Verified<T>,
    (version, drafted_at): (u64, u64),
) -> Result<(), Failure> {
    let (order, fingerprint) = (opened.content(), opened.fingerprint());
    if drafts::by_fingerprint(sql, &fingerprint)?.is_some() {
        return drafts::set_state(sql, &fingerprint, State::Sealed);
    }
    let draft = Draft {
        id: order.object_id(),
        fingerprint,
        kind: T::KIND,
        vault: Some(order.vault().clone()),
        version,
        drafted_at,
        approve_until: order.approve_until(),
        state: State::Sealed,
    };
    drafts::add(sql, &draft)
}

fn numbered<T: Order>(
    sql: &Connection,
    (vault, time): (&VaultName, u64),
    opened: &Verified<T>,
    number: u64,
) -> Result<(), Failure> {
    let fingerprint = opened.fingerprint();
    keep_draft(sql, opened, (number, time))?;
    let known = orders::by_draft(sql, &fingerprint)?;
    if known.is_none() {
        let listed = Listed {
            draft: fingerprint,
            vault: vault.clone(),
            kind: T::KIND,
            number,
            state: orders::State::Draft,
            sent_at: None,
            plaintext: opened.plaintext().to_vec(),
        };
        orders::add(sql, &listed)?;
    }
    if known.is_none_or(|known| known.state != orders::State::Sent) {
        orders::set_state(sql, &fingerprint, orders::State::Sent, time)?;
    }
    Ok(())
}

/// The vault that a message says it is of, or for.
pub(crate) fn vault_of(bytes: &[u8], bytes_max: usize) -> Result<VaultName, Failure> {
    match claim(bytes, bytes_max)
        .map_err(records::untrusted)?
        .context
        .sender
    {
        Party::Vault(name) => Ok(name),
        other => Err(inconsistent(format!(
            "a message of a vault is from {other}"
        ))),
    }
}
