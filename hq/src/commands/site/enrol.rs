//! `hq site enrol|rotate|succeed`: what officers are asked to approve when a vault asks for certificates.

use std::path::{Path, PathBuf};

use mintmark_console::{Console, Exit, Failure, files};
use mintmark_keys::Purpose as KeyPurpose;
use mintmark_pki::{CA_SERIAL_BYTES_MIN, CertificationRequest, Issuer};
use mintmark_protocol::encryption::random;
use mintmark_protocol::enrolment::{
    EnrolmentGrant, EnrolmentRequest, FIRST_GENERATION, Purpose, REQUEST_BYTES_MAX,
};
use mintmark_protocol::entitlement::AccountTag;
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{VaultId, VaultName};
use mintmark_protocol::succession::{Succession, WriteOff};
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;
use rusqlite::Connection;

use super::Asked;
use crate::approvals::{self, APPROVE_DAYS, Content, words};
use crate::clock::{DAY_SECONDS, now_unix};
use crate::commands::entitlement::{Drafting, GraveDrafting};
use crate::commands::say_draft;
use crate::drafting::Subject;
use crate::home::Home;
use crate::keyring::{DISPATCH, Keyring, SERIAL_MASTER};
use crate::orders::{self, Drafted};
use crate::registry::device_cas::{self, DeviceCa};
use crate::registry::vaults::{self, Vault};
use crate::registry::{accounts, bundles, orders as numbered, replays};
use crate::{failure, trust};

/// What a vault asked for, whose fingerprint a person compared.
struct Request {
    bytes: Vec<u8>,
    content: EnrolmentRequest,
    device_ca_key: PublicKey,
}

impl Request {
    fn read(
        home: &Home,
        asked: &Asked,
        manifest: &Verified<TrustManifest>,
    ) -> Result<Self, Failure> {
        let bytes = files::read_limited(&asked.request, REQUEST_BYTES_MAX as u64)?;
        let content = EnrolmentRequest::open(&bytes, &asked.fingerprint)
            .map_err(failure::protocol)?
            .into_content();
        let known = trust::chain(home)?.iter().any(|manifest| {
            manifest.content().version == content.trust_version
                && manifest.fingerprint() == content.trust_fingerprint
        });
        if !known {
            return Err(failure::refused(
                "ENROLMENT-TRUST",
                format!(
                    "the vault {} has pinned a trust manifest that is not ours",
                    content.vault
                ),
                "somebody gave the site another manifest; have it set up again with the right fingerprint",
            ));
        }
        let identity_key = csr_key(&content.identity_csr, "identity")?;
        let device_ca_key = csr_key(&content.device_ca_csr, "device CA")?;
        let keys = [identity_key, device_ca_key, content.agreement_key];
        if identity_key != content.signing_key
            || keys[0] == keys[1]
            || keys[1] == keys[2]
            || keys[0] == keys[2]
            || keys.iter().any(|key| manifest.content().lists(key))
        {
            return Err(failure::refused(
                "ENROLMENT-KEY",
                format!(
                    "the keys in the request of {} do not belong together",
                    content.vault
                ),
                "do not let this vault in; keep the request and tell your security officer",
            ));
        }
        Ok(Self {
            bytes,
            content,
            device_ca_key,
        })
    }

    /// The vault that asks, as it is to be registered.
    fn vault(&self, asked: &Asked, now: u64) -> Vault {
        Vault {
            name: self.content.vault.clone(),
            granted: false,
            request_fingerprint: asked.fingerprint,
            // Set once the draft is made.
            draft: asked.fingerprint,
            lineage: self.content.lineage,
            lineage_first: self.content.lineage,
            signing_key: self.content.signing_key,
            agreement_key: self.content.agreement_key,
            device_ca_key: self.device_ca_key,
            key_store: serde_json::to_string(&self.content.facts).unwrap_or_default(),
            certificates: None,
            requested_at: now,
            granted_at: None,
            successor: None,
        }
    }

    fn grant(
        &self,
        asked: &Asked,
        manifest: &TrustManifest,
        ring: &Keyring<'_>,
        purpose: Purpose,
        now: u64,
    ) -> Result<EnrolmentGrant, Failure> {
        let root =
            Issuer::from_certificate_der(&manifest.root_certificate).map_err(failure::pki)?;
        let serial_master = ring
            .store(SERIAL_MASTER)?
            .find(SERIAL_MASTER, KeyPurpose::Agree)
            .map_err(failure::keys)?
            .ok_or_else(|| failure::home_corrupt("the key `serial-master` is missing"))?;
        let request = &self.content;
        let (site, vault) = (request.vault.site.as_str(), request.vault.vault.as_str());
        let name = manifest.hq_name.as_str();
        let serial = || random::<CA_SERIAL_BYTES_MIN>().map_err(failure::protocol);
        let (identity, device_ca) = (&request.signing_key, &self.device_ca_key);
        let identity_tbs =
            mintmark_pki::vault_identity_tbs(&root, name, site, vault, identity, &serial()?, now)
                .map_err(failure::pki)?;
        let device_ca_tbs =
            mintmark_pki::device_ca_tbs(&root, name, site, vault, device_ca, &serial()?, now)
                .map_err(failure::pki)?;
        Ok(EnrolmentGrant {
            salt: random().map_err(failure::protocol)?,
            vault: request.vault.clone(),
            request_fingerprint: asked.fingerprint,
            lineage: request.lineage,
            identity_tbs,
            device_ca_tbs,
            serial_master,
            dispatch_epoch: manifest.dispatch_epoch,
            drafted_at: now,
            approve_until: now.saturating_add(APPROVE_DAYS * DAY_SECONDS),
            request: self.bytes.clone(),
            purpose,
        })
    }
}

/// A certification request of an enrolment, whose key must be the one that it is about.
fn csr_key(der: &[u8], what: &str) -> Result<PublicKey, Failure> {
    let csr = CertificationRequest::from_der(der).map_err(failure::pki)?;
    PublicKey::from_public_key_der(csr.spki_der()).map_err(|_| {
        failure::refused(
            "ENROLMENT-KEY",
            format!("the {what} key of this vault is not a P-256 key"),
            "the vault was not set up by this product; do not let it in",
        )
    })
}

/// Two vaults in one token would be one: what the one signs, the other could have.
pub(super) fn expect_own_keys(sql: &Connection, vault: &Vault) -> Result<(), Failure> {
    let Some(other) = vaults::sharing_key(sql, vault)? else {
        return Ok(());
    };
    Err(failure::refused(
        "ENROLMENT-KEY-KNOWN",
        format!("the vault {} has a key of the vault {other}", vault.name),
        "this token serves another vault already; a vault has a token of its own",
    ))
}

pub(super) fn enrol(
    home: Option<&Path>,
    asked: &Asked,
    drafting: &Drafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let manifest = trust::in_force(&home)?;
    let request = Request::read(&home, asked, &manifest)?;
    let purpose = |_: &Connection| Ok(Purpose::Enrolment);
    let_in(&home, asked, &request, purpose, drafting, console)
}

pub(super) fn succeed(
    home: Option<&Path>,
    asked: &Asked,
    replaces: &VaultId,
    drafting: &GraveDrafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let manifest = trust::in_force(&home)?;
    let request = Request::read(&home, asked, &manifest)?;
    let old = VaultName {
        site: request.content.vault.site.clone(),
        vault: replaces.clone(),
    };
    if old == request.content.vault {
        return Err(failure::usage(
            "SUCCESSION-SAME-NAME",
            format!("{old} cannot take its own place: chains, slots and serials belong to a name"),
            "give the new vault another name at `site init --vault`",
        ));
    }
    let purpose = |sql: &Connection| Ok(Purpose::Succession(succession(sql, &old)?));
    if !drafting.drafting.dry_run {
        let what =
            format!("draft that {old} is given up, and what it has not reported written off");
        let given = drafting.confirmation.identifier.as_deref();
        console.confirm_if_attended(&what, &old.to_string(), given)?;
    }
    let_in(&home, asked, &request, purpose, &drafting.drafting, console)
}

/// What is written off with a vault, by what HQ holds of its log today.
pub(super) fn succession(sql: &Connection, old: &VaultName) -> Result<Succession, Failure> {
    let vault = orders::serving(sql, old)?;
    let replay = replays::load(sql, old)?;
    let newest = bundles::newest_of(sql, old)?;
    let mut write_offs = Vec::new();
    for granted in accounts::all(sql, Some(&old.site))? {
        let tag = AccountTag::new(granted.tag).filter(|_| granted.vault == *old);
        let Some(tag) = tag else {
            continue;
        };
        let account = replay.state().account(tag);
        let first_slot = account.map_or(0, |account| account.next_slot);
        let units = granted.authorised.saturating_sub(first_slot);
        if units > 0 {
            write_offs.push(WriteOff {
                account: tag,
                entitlement: granted.entitlement,
                sku: granted.sku,
                first_slot,
                units,
            });
        }
    }
    Ok(Succession {
        replaces: old.vault.clone(),
        lineage: vault.lineage,
        bundle_sequence: newest.map_or(0, |newest| newest.sequence),
        log_size: replay.state().size(),
        write_offs,
    })
}

fn let_in(
    home: &Home,
    asked: &Asked,
    request: &Request,
    purpose: impl FnOnce(&Connection) -> Result<Purpose, Failure>,
    drafting: &Drafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let mut registry = home.registry()?;
    let manifest = trust::in_force(home)?;
    let name = &request.content.vault;
    if request.content.device_ca_generation != FIRST_GENERATION {
        return Err(failure::usage(
            "ENROLMENT-ROTATION",
            format!(
                "this asks for device CA {} of {name}: it is no new vault",
                request.content.device_ca_generation
            ),
            "draft it with `hq site rotate`",
        ));
    }
    if let Some(vault) = vaults::find(&registry.sql, name)?
        && vault.granted
    {
        return Err(failure::refused(
            "VAULT-EXISTS",
            format!("the vault {name} is enrolled already"),
            "give the new vault another name at `site init --vault`",
        ));
    }
    let now = now_unix();
    let mut asking = request.vault(asked, now);
    expect_own_keys(&registry.sql, &asking)?;
    let ring = Keyring::new(&home.config, console)?;
    let purpose = purpose(&registry.sql)?;
    let grant = request.grant(asked, manifest.content(), &ring, purpose, now)?;
    let drafted = Drafted::new(&grant, manifest.content(), &asking, (1, now))?;
    asking.draft = drafted.draft.fingerprint;
    let words = words::describe(&Content::Grant(Box::new(grant)));
    let file = if drafting.dry_run {
        PathBuf::new()
    } else {
        let dispatch = ring.signer(DISPATCH)?;
        let record = home.record();
        let path = record.enrolment(name, &asked.fingerprint.to_string());
        record.keep(&path, &request.bytes)?;
        let transaction = registry.transaction()?;
        let output = drafting.output.as_deref();
        let subject = Subject::Vault(&asking);
        let (file, gone) = drafted.keep(&transaction, &record, &*dispatch, &subject, output)?;
        approvals::commit_draft(transaction, &record, &gone, console)?;
        file
    };
    let (schema, dry_run) = ("mintmark/site/1", drafting.dry_run);
    say_draft(console, schema, &drafted.draft, &file, &words, dry_run)
}

pub(super) fn rotate(
    home: Option<&Path>,
    asked: &Asked,
    drafting: &Drafting,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let manifest = trust::in_force(&home)?;
    let request = Request::read(&home, asked, &manifest)?;
    let mut registry = home.registry()?;
    let content = &request.content;
    let vault = orders::serving(&registry.sql, &content.vault)?;
    if content.signing_key != vault.signing_key || content.agreement_key != vault.agreement_key {
        return Err(failure::refused(
            "ROTATION-IDENTITY",
            format!(
                "this request is not by the vault {} that was let in: its keys are others",
                vault.name
            ),
            "a vault whose keys are lost is enrolled anew, with `hq site succeed`",
        ));
    }
    let granted = device_cas::granted(&registry.sql, &vault.name)?;
    let newest = granted.last().map_or(0, |newest| newest.generation);
    let generation = content.device_ca_generation;
    if Some(generation) != newest.checked_add(1) {
        return Err(failure::refused(
            "ROTATION-GENERATION",
            format!(
                "this asks for device CA {generation} of {}, which has device CA {newest} now",
                vault.name
            ),
            "give the newest request that `site rotate` made",
        ));
    }
    let now = now_unix();
    let asking = Vault {
        device_ca_key: request.device_ca_key,
        ..vault.clone()
    };
    expect_own_keys(&registry.sql, &asking)?;
    if granted
        .iter()
        .any(|known| known.public_key == request.device_ca_key)
    {
        return Err(failure::refused(
            "ROTATION-SAME-KEY",
            format!(
                "device CA {generation} of {} has the key of one before",
                vault.name
            ),
            "a rotation brings a new key; keep the request and tell your security officer",
        ));
    }
    let ring = Keyring::new(&home.config, console)?;
    let purpose = Purpose::Rotation { generation };
    let mut grant = request.grant(asked, manifest.content(), &ring, purpose, now)?;
    // It comes after every order to stop that there is, also one of this second, or of a clock that was ahead.
    if let Some(disabled_at) = numbered::disabled_at(&registry.sql, &vault.name, false)? {
        grant.drafted_at = grant.drafted_at.max(disabled_at.saturating_add(1));
    }
    let drafted = Drafted::new(&grant, manifest.content(), &vault, (1, now))?;
    let words = words::describe(&Content::Grant(Box::new(grant)));
    let file = if drafting.dry_run {
        PathBuf::new()
    } else {
        let dispatch = ring.signer(DISPATCH)?;
        let record = home.record();
        let path = record.enrolment(&vault.name, &asked.fingerprint.to_string());
        record.keep(&path, &request.bytes)?;
        let transaction = registry.transaction()?;
        let output = drafting.output.as_deref();
        let next = DeviceCa {
            generation,
            request_fingerprint: asked.fingerprint,
            draft: drafted.draft.fingerprint,
            public_key: request.device_ca_key,
            certificate: None,
            requested_at: now,
            granted_at: None,
        };
        let subject = Subject::DeviceCa(&next);
        let (file, gone) = drafted.keep(&transaction, &record, &*dispatch, &subject, output)?;
        approvals::commit_draft(transaction, &record, &gone, console)?;
        file
    };
    let (schema, dry_run) = ("mintmark/site/1", drafting.dry_run);
    say_draft(console, schema, &drafted.draft, &file, &words, dry_run)
}
