//! `site init`: a home, the vault's keys, and the request to be let in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mintmark_console::home::{Making, expect_free};
use mintmark_console::{Console, Exit, files};
use mintmark_keys::{KeyStore, OaepHash, Purpose, StoreFacts, UnparsedKeyUri};
use mintmark_ledger::entry::Genesis;
use mintmark_pki::Issuer;
use mintmark_protocol::encryption::random;
use mintmark_protocol::enrolment::{EnrolmentRequest, FIRST_GENERATION};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, Lineage, SiteId, VaultId, VaultName};
use mintmark_protocol::media::MediaName;
use mintmark_protocol::transport::{Oaep, TransportKey};
use mintmark_protocol::trust::{TRUST_BYTES_MAX, TrustManifest};
use p256::PublicKey;
use serde::Serialize;

use super::{SOFTWARE, json, now};
use crate::config::Config;
use crate::failure::{Error, Result};
use crate::home::{fill, locate};
use crate::vault::keyring::{DEVICE_CA, VAULT_AGREE, VAULT_SIGN, VAULT_TRANSPORT, create_store};
use crate::vault::{self, anchor, trust};

/// The longest common name, in characters (RFC 5280 appendix A.1).
const COMMON_NAME_MAX: usize = 64;

/// What `site init` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The site's name, as headquarters uses it
    #[arg(long, value_name = "S")]
    site_id: SiteId,
    /// The vault's name at this site
    #[arg(long, value_name = "V", default_value = "v1")]
    vault: VaultId,
    /// Where the keys are: pkcs11:... or file:DIR
    ///
    /// pkcs11:token=LABEL?module-path=/path/to/module.so&pin-source=file:/path/to/pin, or
    /// file:DIR?pin-source=file:/path. Without pin-source the PIN is asked for.
    #[arg(long, value_name = "URI")]
    keys: UnparsedKeyUri,
    /// Headquarters' trust manifest, as a file; the one before it, if an officer who left signed this one too, lies beside
    /// it, as on a stick
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: PathBuf,
    /// The manifest's fingerprint, as a security officer reads it out
    #[arg(long, value_name = "HEX")]
    fingerprint: Fingerprint,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    site: String,
    vault: String,
    enrolment_fingerprint: Option<String>,
    home: String,
    lineage: Option<String>,
    dry_run: bool,
}

/// Makes a vault.
pub(crate) fn execute(
    arguments: &Arguments,
    home: Option<&Path>,
    console: &Console,
) -> Result<Exit> {
    let home = locate(home)?;
    expect_free(&home)?;
    let keys = arguments.keys.parse()?.absolute().map_err(|error| {
        Error::environment("HOME-UNREADABLE", "the current folder cannot be told").cause(error)
    })?;
    let now = now().clock;
    let bytes = files::read_limited(&arguments.trust, TRUST_BYTES_MAX as u64)?;
    let beside = |name: &MediaName| {
        let beside = arguments.trust.with_file_name(name.to_string());
        match files::read_limited(beside, TRUST_BYTES_MAX as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(Error::from(error)),
        }
    };
    let (manifest, before) = TrustManifest::pin_beside(&bytes, &arguments.fingerprint, beside)?;
    manifest.content().in_force(now)?;
    Issuer::from_certificate_der(&manifest.content().root_certificate)?;

    let name = VaultName {
        site: arguments.site_id.clone(),
        vault: arguments.vault.clone(),
    };
    let report = Report {
        schema: "mintmark/init/1",
        site: name.site.to_string(),
        vault: name.vault.to_string(),
        enrolment_fingerprint: None,
        home: home.display().to_string(),
        lineage: None,
        dry_run: arguments.dry_run,
    };
    if arguments.dry_run {
        return show(&report, console);
    }

    let making = Making::begin(&home)?;
    let store = create_store(&keys, console)?;
    anchor::refuse_existing(&*store)?;
    let request = request(&*store, &name, &manifest, now, console)?;
    let signer = store.signer(VAULT_SIGN)?;
    let (sealed, fingerprint) = request.seal(&|message| Ok(signer.sign(message)?))?;
    let version = manifest.content().version;
    let mut trust_files = vec![(trust::file_name(version), bytes.as_slice())];
    if let Some(before) = &before {
        trust_files.push((trust::file_name(version.saturating_sub(1)), before));
    }
    let config = Config {
        vault: name.clone(),
        keys,
    };
    fill(&making, &config, &trust_files, &sealed)?;
    let genesis = Genesis {
        vault: name,
        lineage: request.lineage,
        trust_version: manifest.content().version,
        trust_fingerprint: manifest.fingerprint(),
        enrolment_fingerprint: fingerprint,
        software: SOFTWARE.to_owned(),
    };
    let first = vault::create_ledger(making.folder(), genesis, now)?;
    making.place()?;
    // A home without an anchor that never had one gets it when it is first opened; an anchor without a home is in the way.
    anchor::write_first(&*store, &first).map_err(|error| {
        error.outcome_unknown().hint(
            "the vault is made: put right what is named, then go on with `site media export DIR`, which writes its anchor",
        )
    })?;
    let report = Report {
        enrolment_fingerprint: Some(fingerprint.to_string()),
        lineage: Some(request.lineage.to_string()),
        ..report
    };
    show(&report, console)
}

/// The vault's keys, found or made, and what it says of itself.
fn request(
    store: &dyn KeyStore,
    name: &VaultName,
    manifest: &Verified<TrustManifest>,
    now: u64,
    console: &Console,
) -> Result<EnrolmentRequest> {
    // What a way to the token that passes calls on may lack comes first.
    let agreement_key = key(store, VAULT_AGREE, Purpose::Agree, console)?;
    let signing_key = key(store, VAULT_SIGN, Purpose::Sign, console)?;
    key(store, DEVICE_CA, Purpose::Sign, console)?;
    let transport_key = transport(store, console)?;
    let csr = |label, what| certification_request(store, name, label, what);
    Ok(EnrolmentRequest {
        vault: name.clone(),
        lineage: Lineage::new(random()?),
        trust_version: manifest.content().version,
        trust_fingerprint: manifest.fingerprint(),
        identity_csr: csr(VAULT_SIGN, "Vault")?,
        device_ca_csr: csr(DEVICE_CA, "Device CA")?,
        signing_key,
        agreement_key,
        facts: facts(&store.facts(), transport_key.as_ref()),
        made_at: now,
        transport_key,
        device_ca_generation: FIRST_GENERATION,
    })
}

/// A request to have a key of the store certified, signed by that key.
pub(crate) fn certification_request(
    store: &dyn KeyStore,
    name: &VaultName,
    label: &str,
    what: &str,
) -> Result<Vec<u8>> {
    let signer = store.signer(label)?;
    let sign = |message: &[u8]| signer.sign(message).map_err(Error::from);
    mintmark_pki::certification_request(&common_name(name, what), signer.public_key(), sign)
}

/// Finds the key that others are unwrapped with, or makes it where the token can use one.
fn transport(store: &dyn KeyStore, console: &Console) -> Result<Option<TransportKey>> {
    let found = match store.transport(VAULT_TRANSPORT)? {
        Some(key) => {
            console.note(format!(
                "the key {VAULT_TRANSPORT} was there already and is used"
            ));
            Some(key)
        }
        None => store.generate_transport(VAULT_TRANSPORT)?,
    };
    if found.is_none() {
        console.note(
            "this store does not unwrap keys itself: keys from headquarters reach it only where their terms let them pass \
             through this machine's memory",
        );
    }
    Ok(found.map(|key| TransportKey {
        oaep: match key.oaep {
            OaepHash::Sha1 => Oaep::Sha1,
            OaepHash::Sha256 => Oaep::Sha256,
        },
        modulus: key.n,
        exponent: key.e,
    }))
}

/// Finds a key, or makes it. One that is there with other attributes is an error, never made again.
fn key(
    store: &dyn KeyStore,
    label: &str,
    purpose: Purpose,
    console: &Console,
) -> Result<PublicKey> {
    match store.find(label, purpose)? {
        Some(key) => {
            console.note(format!("the key {label} was there already and is used"));
            Ok(key)
        }
        None => Ok(store.generate(label, purpose)?),
    }
}

/// The subject of a request; HQ gives the certificate its own.
fn common_name(name: &VaultName, what: &str) -> String {
    let full = format!("{} {} {what}", name.site, name.vault);
    if full.len() <= COMMON_NAME_MAX {
        full
    } else {
        format!("{} {what}", name.vault)
    }
}

/// What the vault says of its key store, and of the way that keys take into it.
pub(crate) fn facts(
    facts: &StoreFacts,
    transport: Option<&TransportKey>,
) -> BTreeMap<String, String> {
    let mechanisms = facts.mechanisms.join(" ");
    let keys = match transport.map(|transport| transport.oaep) {
        Some(Oaep::Sha1) => "unwrapped inside the token (RSA-OAEP with SHA-1)",
        Some(Oaep::Sha256) => "unwrapped inside the token (RSA-OAEP with SHA-256)",
        None => "imported through the vault's memory, where their terms allow that",
    };
    let keys = keys.to_owned();
    [
        ("kind", &facts.kind),
        ("label", &facts.label),
        ("manufacturer", &facts.manufacturer),
        ("model", &facts.model),
        ("serial", &facts.serial),
        ("firmware", &facts.firmware),
        ("library", &facts.library),
        ("mechanisms", &mechanisms),
        ("keys", &keys),
    ]
    .into_iter()
    .filter(|(_, fact)| !fact.is_empty())
    .map(|(name, fact)| (name.to_owned(), fact.clone()))
    .collect()
}

fn show(report: &Report, console: &Console) -> Result<Exit> {
    if console.is_json() {
        return json(console, report);
    }
    let Report {
        site, vault, home, ..
    } = report;
    match &report.enrolment_fingerprint {
        None => console.line(format!("would make vault {vault} of site {site} in {home}")),
        Some(fingerprint) => {
            console.line(format!("made vault {vault} of site {site}"));
            console.line(format!("home                   {home}"));
            if let Some(lineage) = &report.lineage {
                console.line(format!("lineage                {lineage}"));
            }
            console.line(format!("enrolment_fingerprint  {fingerprint}"));
            console.note(
                "next: `site media export DIR`, carry the medium to headquarters, and read the enrolment fingerprint \
                 out to the security officer over another channel",
            );
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_leave_room_for_what_a_common_name_says() {
        let name = |site: &str, vault: &str| VaultName {
            site: site.parse().unwrap(),
            vault: vault.parse().unwrap(),
        };
        assert_eq!(
            common_name(&name("berlin", "v1"), "Vault"),
            "berlin v1 Vault"
        );
        let (site, vault) = ("s".repeat(32), "v".repeat(32));
        let common = common_name(&name(&site, &vault), "Device CA");
        assert_eq!(common, format!("{vault} Device CA"));
    }
}
