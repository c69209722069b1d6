//! `hq site`: sites and their vaults.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table, files};
use mintmark_keys::Purpose;
use mintmark_pki::{CA_SERIAL_BYTES_MIN, Certificate, CertificationRequest, Issuer};
use mintmark_protocol::encryption::{Opener, random};
use mintmark_protocol::enrolment::{
    EnrolmentGrant, EnrolmentRequest, Purpose as GrantPurpose, REQUEST_BYTES_MAX,
};
use mintmark_protocol::envelope::Kind;
use mintmark_protocol::identifier::{Fingerprint, SiteId, VaultId, VaultName};
use mintmark_protocol::order::Order as _;
use mintmark_protocol::trust::Role;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;
use rusqlite::Connection;

use crate::approvals::{self, APPROVE_DAYS, Content as DraftContent, words};
use crate::clock::{DAY_SECONDS, now_unix};
use crate::home::Home;
use crate::keyring::{self, AUDIT, DISPATCH, Keyring, SERIAL_MASTER};
use crate::outbox::{self, Content};
use crate::registry::drafts::{self, Draft, State};
use crate::registry::vaults::{self, Certificates, Vault};
use crate::registry::{self, dispatches};
use crate::{failure, trust};

/// Sites and their vaults.
#[derive(Debug, Subcommand)]
pub(super) enum Site {
    /// Draft a vault's enrolment from its request, for officers to approve.
    Enrol {
        /// The enrolment request.
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// The fingerprint that the operator reads out.
        #[arg(long, value_name = "HEX")]
        fingerprint: Fingerprint,
        /// A file to write the draft to; it goes out with the next `hq media export` in any case.
        #[arg(long, value_name = "F")]
        output: Option<PathBuf>,
        /// Say what would be drafted and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Once officers have approved it, have the root sign exactly what they approved, and send it.
    Grant {
        /// The draft's id, or the vault as SITE/VAULT.
        id: String,
        /// Say what would happen and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// List every vault.
    List,
    /// Show the vaults of one site.
    Show {
        /// The site, or SITE/VAULT.
        site: String,
    },
}

impl Site {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        match self {
            Self::Enrol {
                request,
                fingerprint,
                output,
                dry_run,
            } => enrol(
                home,
                &request,
                &fingerprint,
                output.as_deref(),
                dry_run,
                console,
            ),
            Self::Grant { id, dry_run } => grant(home, &id, dry_run, console),
            Self::List => list(home, None, console),
            Self::Show { site } => list(home, Some(&site), console),
        }
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
fn expect_own_keys(sql: &Connection, vault: &Vault) -> Result<(), Failure> {
    let Some(other) = vaults::sharing_key(sql, vault)? else {
        return Ok(());
    };
    Err(failure::refused(
        "ENROLMENT-KEY-KNOWN",
        format!("the vault {} has a key of the vault {other}", vault.name),
        "this token serves another vault already; a vault has a token of its own",
    ))
}

fn enrol(
    home: Option<&Path>,
    file: &Path,
    fingerprint: &Fingerprint,
    output: Option<&Path>,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    let manifest = trust::in_force(&home)?;
    let bytes = files::read_limited(file, REQUEST_BYTES_MAX as u64)?;
    let request = EnrolmentRequest::open(&bytes, fingerprint)
        .map_err(failure::protocol)?
        .into_content();
    let known = trust::chain(&home)?.iter().any(|manifest| {
        manifest.content().version == request.trust_version
            && manifest.fingerprint() == request.trust_fingerprint
    });
    if !known {
        return Err(failure::refused(
            "ENROLMENT-TRUST",
            format!(
                "the vault {} has pinned a trust manifest that is not ours",
                request.vault
            ),
            "somebody gave the site another manifest; have it set up again with the right fingerprint",
        ));
    }
    if let Some(vault) = vaults::find(&registry.sql, &request.vault)?
        && vault.granted
    {
        return Err(failure::refused(
            "VAULT-EXISTS",
            format!("the vault {} is enrolled already", request.vault),
            "give the new vault another name at `site init --vault`",
        ));
    }
    let identity_key = csr_key(&request.identity_csr, "identity")?;
    let device_ca_key = csr_key(&request.device_ca_csr, "device CA")?;
    let keys = [identity_key, device_ca_key, request.agreement_key];
    if identity_key != request.signing_key
        || keys[0] == keys[1]
        || keys[1] == keys[2]
        || keys[0] == keys[2]
        || keys.iter().any(|key| manifest.content().lists(key))
    {
        return Err(failure::refused(
            "ENROLMENT-KEY",
            format!(
                "the keys in the request of {} do not belong together",
                request.vault
            ),
            "do not let this vault in; keep the request and tell your security officer",
        ));
    }
    let now = now_unix();
    let mut asking = Vault {
        name: request.vault.clone(),
        granted: false,
        request_fingerprint: *fingerprint,
        // Set once the draft is made.
        draft: *fingerprint,
        lineage: request.lineage,
        signing_key: request.signing_key,
        agreement_key: request.agreement_key,
        device_ca_key,
        key_store: serde_json::to_string(&request.facts).unwrap_or_default(),
        certificates: None,
        requested_at: now,
        granted_at: None,
        successor: None,
    };
    expect_own_keys(&registry.sql, &asking)?;
    let root =
        Issuer::from_certificate_der(&manifest.content().root_certificate).map_err(failure::pki)?;
    let serial_master = Keyring::new(&home.config, console)?
        .store(SERIAL_MASTER)?
        .find(SERIAL_MASTER, Purpose::Agree)
        .map_err(failure::keys)?
        .ok_or_else(|| failure::home_corrupt("the key `serial-master` is missing"))?;
    let (site, vault) = (request.vault.site.as_str(), request.vault.vault.as_str());
    let name = manifest.content().hq_name.as_str();
    let serial = || random::<CA_SERIAL_BYTES_MIN>().map_err(failure::protocol);
    let identity_tbs =
        mintmark_pki::vault_identity_tbs(&root, name, site, vault, &identity_key, &serial()?, now)
            .map_err(failure::pki)?;
    let device_ca_tbs =
        mintmark_pki::device_ca_tbs(&root, name, site, vault, &device_ca_key, &serial()?, now)
            .map_err(failure::pki)?;
    let grant = EnrolmentGrant {
        salt: random().map_err(failure::protocol)?,
        vault: request.vault.clone(),
        request_fingerprint: *fingerprint,
        lineage: request.lineage,
        identity_tbs,
        device_ca_tbs,
        serial_master,
        dispatch_epoch: manifest.content().dispatch_epoch,
        drafted_at: now,
        approve_until: now.saturating_add(APPROVE_DAYS * DAY_SECONDS),
        request: bytes.clone(),
        purpose: GrantPurpose::Enrolment,
    };
    let proposal = grant
        .propose(manifest.content(), &request.agreement_key)
        .map_err(failure::protocol)?;
    let draft = Draft {
        id: grant.object_id(),
        fingerprint: proposal.fingerprint(),
        kind: Kind::EnrolmentGrant,
        vault: Some(request.vault.clone()),
        version: 1,
        drafted_at: now,
        approve_until: grant.approve_until,
        state: State::Open,
    };
    let words = words::describe(&DraftContent::Grant(Box::new(grant)));
    let file = if dry_run {
        PathBuf::new()
    } else {
        record.keep(
            &record.enrolment(&request.vault, &fingerprint.to_string()),
            &bytes,
        )?;
        let transaction = registry.transaction()?;
        approvals::supersede_open(&transaction, &draft.id)?;
        let file = approvals::keep_draft(&transaction, &record, &proposal, &draft, output)?;
        asking.draft = draft.fingerprint;
        vaults::request(&transaction, &asking)?;
        registry::commit(transaction)?;
        file
    };
    super::say_draft(console, "mintmark/site/1", &draft, &file, &words, dry_run)
}

fn grant(home: Option<&Path>, id: &str, dry_run: bool, console: &Console) -> Result<Exit, Failure> {
    let home = Home::change_hq(home)?;
    let mut registry = home.registry()?;
    let record = home.record();
    let manifest = trust::in_force(&home)?;
    let draft = approvals::find(&registry.sql, Kind::EnrolmentGrant, id, |draft| {
        Ok(draft
            .vault
            .as_ref()
            .is_some_and(|vault| vault.to_string() == id))
    })?;
    let name = draft
        .vault
        .clone()
        .ok_or_else(|| failure::home_corrupt("a grant names no vault"))?;
    let vault = vaults::find(&registry.sql, &name)?;
    let vault = vault.ok_or_else(|| failure::home_corrupt(format!("{name} is not registered")))?;
    if draft.state == State::Sealed {
        console.note(format!("{name} was granted before"));
        return list(Some(home.folder()), Some(&name.to_string()), console);
    }
    if draft.state == State::Superseded || vault.draft != draft.fingerprint {
        return Err(failure::refused(
            "DRAFT-SUPERSEDED",
            format!("`{}` has been drafted anew since", draft.id),
            "grant the draft that `hq approval list` shows as open",
        ));
    }
    expect_own_keys(&registry.sql, &vault)?;
    // First in the words of HQ, then as the vault itself will judge it.
    let finished = approvals::finished(&registry.sql, &record, &draft, Some(&manifest), console)?;
    finished
        .approved(manifest.content(), Role::Enrol)
        .map_err(failure::protocol)?;
    let ring = Keyring::new(&home.config, console)?;
    let audit = ring.agreement(AUDIT)?;
    let agree = keyring::agree(&*audit);
    let opener = Opener {
        public_key: audit.public_key(),
        agree: &agree,
        former: Some(&ring),
    };
    let grant = EnrolmentGrant::proposed(&finished, opener).map_err(failure::protocol)?;
    approvals::expect_keys_asked_for(&grant)?;
    DraftContent::Grant(Box::new(grant.clone())).expect_open(now_unix())?;
    if dry_run {
        console.note(format!(
            "would have the root sign the certificates of {name}, and send them"
        ));
        return Ok(Exit::Done);
    }
    let issuer =
        Issuer::from_certificate_der(&manifest.content().root_certificate).map_err(failure::pki)?;
    let root = ring.root_signer(issuer.public_key())?;
    let dispatch = ring.signer(DISPATCH)?;
    let sign = |tbs: &[u8]| -> Result<Vec<u8>, Failure> {
        let signature = root.sign(tbs).map_err(failure::keys)?;
        let der = mintmark_pki::assemble(tbs, &signature).map_err(failure::pki)?;
        // The officers approved what names its issuer, and that is a former root if there is a new one since.
        let certificate = Certificate::from_der(&der).map_err(failure::pki)?;
        if certificate.verify_issued_by(&issuer).is_err() {
            return Err(failure::refused(
                "GRANT-ROOT-FORMER",
                format!("`{}` was drafted under a root that another has taken the place of", draft.id),
                "draft it again with `hq site enrol`, and have that approved",
            ));
        }
        Ok(der)
    };
    let certificates = Certificates {
        identity: sign(&grant.identity_tbs)?,
        device_ca: sign(&grant.device_ca_tbs)?,
    };
    let content = Content {
        kind: Kind::EnrolmentGrant,
        id: draft.id.clone(),
        version: 1,
        bytes: finished.to_bytes().map_err(failure::protocol)?,
        certificates: vec![
            certificates.identity.clone(),
            certificates.device_ca.clone(),
        ],
    };
    let transaction = registry.transaction()?;
    let sent = outbox::seal(&transaction, &record, &manifest, &*dispatch, &name, content)?;
    vaults::grant(&transaction, &name, &certificates, now_unix())?;
    drafts::set_state(&transaction, &draft.fingerprint, State::Sealed)?;
    registry::commit(transaction)?;
    let json = serde_json::json!({
        "schema": "mintmark/site/1",
        "id": draft.id,
        "site": name.site.as_str(),
        "vault": name.vault.as_str(),
        "state": "granted",
        "dispatch_epoch": sent.epoch,
        "dispatch_sequence": sent.sequence,
        "fingerprint": draft.fingerprint.to_string(),
    });
    super::say(
        console,
        &json,
        [
            format!("granted      {name}"),
            format!("dispatch     {} of epoch {}", sent.sequence, sent.epoch),
            "next: `hq media export` and carry the stick to the site".to_owned(),
        ],
    )
}

/// Which vault a person means.
pub(super) fn vault_name(site: SiteId, vault: VaultId) -> VaultName {
    VaultName { site, vault }
}

fn list(home: Option<&Path>, only: Option<&str>, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let mut vaults = vaults::all(&registry.sql)?;
    if let Some(only) = only {
        vaults.retain(|vault| vault.name.site.as_str() == only || vault.name.to_string() == only);
        if vaults.is_empty() {
            return Err(failure::usage(
                "SITE-UNKNOWN",
                format!("there is no site or vault `{only}`"),
                "`hq site list` shows which there are",
            ));
        }
    }
    let mut table = Table::new(
        ["SITE", "VAULT", "STATE", "REQUESTED", "DISPATCHES", "SEEN"]
            .map(|header| (header, Align::Left)),
    );
    let mut rows = Vec::new();
    let mut facts = Vec::new();
    for vault in vaults {
        let sent = dispatches::all(&registry.sql, &vault.name)?;
        let seen = dispatches::seen_by_vault(&registry.sql, &vault.name)?.map_or(0, |seen| seen.1);
        let bundle = dispatches::bundle_seen(&registry.sql, &vault.name)?;
        let state = if vault.granted {
            "granted"
        } else {
            "requested"
        };
        let key_store: serde_json::Value =
            serde_json::from_str(&vault.key_store).unwrap_or_default();
        rows.push(serde_json::json!({
            "site": vault.name.site.as_str(),
            "vault": vault.name.vault.as_str(),
            "state": state,
            "enrolment_fingerprint": vault.request_fingerprint.to_string(),
            "lineage": vault.lineage.to_string(),
            "requested_at": rfc3339(vault.requested_at),
            "granted_at": vault.granted_at.map(rfc3339),
            "key_store": key_store,
            "dispatches": sent.iter().map(|sent| serde_json::json!({
                "epoch": sent.epoch, "sequence": sent.sequence, "type": sent.kind, "id": sent.object,
                "version": sent.version,
                "seen": sent.sequence <= seen,
            })).collect::<Vec<_>>(),
            "bundle": bundle.map(|bundle| bundle.sequence),
        }));
        if only.is_some() {
            facts.push(format!("{}, in its own word:", vault.name));
            let map = key_store.as_object().cloned().unwrap_or_default();
            facts
                .extend(map.iter().map(|(name, fact)| {
                    format!("  {name}: {}", fact.as_str().unwrap_or_default())
                }));
        }
        table.row([
            vault.name.site.to_string(),
            vault.name.vault.to_string(),
            state.to_owned(),
            rfc3339(vault.requested_at),
            sent.len().to_string(),
            seen.to_string(),
        ]);
    }
    if console.is_json() {
        let json = serde_json::json!({ "schema": "mintmark/site/1", "vaults": rows });
        return super::say(console, &json, []);
    }
    console.table(&table);
    for line in facts {
        console.line(line);
    }
    Ok(Exit::Done)
}
