//! `hq init`: the key ceremony.

use std::path::{Path, PathBuf};

use clap::Args;
use mintmark_console::home::expect_free;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_keys::{KeyUri, Purpose, UnparsedKeyUri};
use mintmark_pki::{CA_SERIAL_BYTES_MIN, Certificate, Issuer};
use mintmark_protocol::encryption::random;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::thumbprint;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;

use crate::clock::{DAY_SECONDS, now_unix};
use crate::config::{Config, KeyUris, Role, absolute};
use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::record::Record;
use crate::record::times::What;
use crate::registry::Registry;
use crate::roots::ROOT_CRL_DAYS;
use crate::{failure, home};

/// What leaves room for the rest of the root's common name (RFC 5280 appendix A.1: 64 characters).
const HQ_NAME_CHARACTERS_MAX: usize = 47;
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// Make headquarters: its keys, its root certificate, its home folder.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The name of headquarters, as it will stand in the root certificate.
    #[arg(long)]
    name: String,
    /// Where HQ's keys are: `pkcs11:token=...` or `file:DIR`.
    #[arg(long, value_name = "URI")]
    keys: UnparsedKeyUri,
    /// The public key (PEM, P-256) whose private half is kept in escrow, for the day the audit key is lost.
    #[arg(long, value_name = "PEM")]
    pub(super) escrow_key: PathBuf,
    /// Where the root key is; it is best on a token of its own that is kept offline.
    #[arg(long, value_name = "URI")]
    root_keys: Option<UnparsedKeyUri>,
    /// Where the dispatch key is.
    #[arg(long, value_name = "URI")]
    dispatch_keys: Option<UnparsedKeyUri>,
    /// Where the audit key is.
    #[arg(long, value_name = "URI")]
    audit_keys: Option<UnparsedKeyUri>,
    /// Check everything, open the key stores, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Init {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let path = Home::path(home)?;
        let length = self.name.chars().count();
        if !(1..=HQ_NAME_CHARACTERS_MAX).contains(&length)
            || self.name.trim() != self.name
            || self.name.chars().any(char::is_control)
        {
            return Err(failure::usage(
                "HQ-NAME-INVALID",
                "the name of headquarters is 1 to 47 characters of plain text",
                "choose a shorter name",
            ));
        }
        let escrow = escrow_key(&self.escrow_key)?;
        expect_free(&path)?;
        let stores = self.stores()?;
        let uris = stores.uris(console);
        if self.dry_run {
            return self.dry(&path, &stores, console);
        }

        let ring = Keyring::with_uris(uris.clone(), console);
        for uri in stores.each() {
            ring.adopt(&uri.to_string(), keyring::create(uri, console)?);
        }
        let make = |label: &str, purpose| {
            keyring::find_or_generate(&*ring.store(label)?, label, purpose, console)
        };
        let root_key = make(keyring::ROOT, Purpose::Sign)?;
        make(keyring::DISPATCH, Purpose::Sign)?;
        make(keyring::REPORT, Purpose::Sign)?;
        let audit = make(keyring::AUDIT, Purpose::Agree)?;
        make(keyring::SERIAL_MASTER, Purpose::Agree)?;
        make(keyring::KEYSET_MASTER, Purpose::Agree)?;
        if audit == escrow {
            return Err(failure::usage(
                "ESCROW-KEY-SAME",
                "the escrow key is the audit key itself",
                "make another key pair for escrow and keep its private half apart",
            ));
        }

        let now = now_unix();
        let signer = ring.signer(keyring::ROOT)?;
        let serial: [u8; CA_SERIAL_BYTES_MIN] = random().map_err(failure::protocol)?;
        let tbs =
            mintmark_pki::root_tbs(&self.name, &root_key, &serial, now).map_err(failure::pki)?;
        let signature = signer.sign(&tbs).map_err(failure::keys)?;
        let root = mintmark_pki::assemble(&tbs, &signature).map_err(failure::pki)?;
        let issuer = Issuer::from_certificate_der(&root).map_err(failure::pki)?;
        let until = now + ROOT_CRL_DAYS * DAY_SECONDS;
        let tbs = mintmark_pki::crl_tbs(&issuer, 1, now, until, &[]).map_err(failure::pki)?;
        let signature = signer.sign(&tbs).map_err(failure::keys)?;
        let crl = mintmark_pki::assemble_crl(&tbs, &signature).map_err(failure::pki)?;

        let config = Config {
            schema: 1,
            role: Role::Hq,
            name: self.name.clone(),
            keys: Some(uris),
            pin: None,
            auditor: None,
            changes: Vec::new(),
        };
        Home::create(&path, &config, |part| {
            Registry::create(part)?;
            let registry = Registry::open(part)?;
            let record = Record::new(part);
            home::make_folder(&part.join("record"))?;
            let escrow = hex::encode(escrow.to_sec1_bytes());
            for (name, value) in [
                ("escrow_key", escrow),
                ("root_certificate", hex::encode(&root)),
            ] {
                registry.set(name, &value)?;
                let name = name.to_owned();
                record.note(What::Fact { name, value })?;
            }
            record.keep(&record.root_crl(), &crl)
        })?;

        let fingerprint = Fingerprint::of(&root);
        let subject = Certificate::from_der(&root)
            .map_err(failure::pki)?
            .subject();
        let json = serde_json::json!({
            "schema": "mintmark/init/1",
            "name": self.name,
            "home": path.display().to_string(),
            "root_subject": subject,
            "root_fingerprint": fingerprint.to_string(),
            "root_made_at": rfc3339(now),
            "escrow_key_id": thumbprint(&escrow).to_string(),
        });
        super::say(
            console,
            &json,
            [
                format!("home              {}", path.display()),
                format!("root certificate  {subject}"),
                format!("root fingerprint  {fingerprint}"),
                format!("escrow key id     {}", thumbprint(&escrow)),
                "next: have each officer run `hq officer request`, then `hq officer add` here"
                    .to_owned(),
            ],
        )
    }

    fn stores(&self) -> Result<Stores, Failure> {
        let parse = |uri: &UnparsedKeyUri| absolute(&uri.parse().map_err(failure::keys)?);
        let maybe = |uri: &Option<UnparsedKeyUri>| uri.as_ref().map(parse).transpose();
        Ok(Stores {
            main: parse(&self.keys)?,
            root: maybe(&self.root_keys)?,
            dispatch: maybe(&self.dispatch_keys)?,
            audit: maybe(&self.audit_keys)?,
        })
    }

    fn dry(&self, path: &Path, stores: &Stores, console: &Console) -> Result<Exit, Failure> {
        for uri in stores.each() {
            if matches!(uri, KeyUri::Pkcs11(_)) {
                keyring::open(uri, console)?;
            }
        }
        let json = serde_json::json!({
            "schema": "mintmark/init/1",
            "name": self.name,
            "home": path.display().to_string(),
            "dry_run": true,
        });
        super::say(
            console,
            &json,
            [format!(
                "would make the home {} and its keys",
                path.display()
            )],
        )
    }
}

/// Where each key is to be; what is not given is with the others.
struct Stores {
    main: KeyUri,
    root: Option<KeyUri>,
    dispatch: Option<KeyUri>,
    audit: Option<KeyUri>,
}

impl Stores {
    fn each(&self) -> impl Iterator<Item = &KeyUri> {
        let apart = [&self.root, &self.dispatch, &self.audit];
        std::iter::once(&self.main).chain(apart.into_iter().flatten())
    }

    /// What the home will remember, with a warning for each key that shares a store with the others.
    fn uris(&self, console: &Console) -> KeyUris {
        let place = |given: &Option<KeyUri>, flag: &str, key: &str| {
            if given.is_none() {
                console.warn(format!(
                    "no {flag}: the {key} key shares a store with HQ's other keys"
                ));
            }
            given.as_ref().unwrap_or(&self.main).to_string()
        };
        KeyUris {
            main: self.main.to_string(),
            root: place(&self.root, "--root-keys", "root"),
            dispatch: place(&self.dispatch, "--dispatch-keys", "dispatch"),
            audit: place(&self.audit, "--audit-keys", "audit"),
            former_audit: Vec::new(),
            former_root: Vec::new(),
        }
    }
}

pub(super) fn escrow_key(path: &Path) -> Result<PublicKey, Failure> {
    public_key(path, "ESCROW-KEY-INVALID")
}

/// The public key in a PEM file.
pub(super) fn public_key(path: &Path, code: &'static str) -> Result<PublicKey, Failure> {
    let wrong = || {
        failure::usage(
            code,
            format!("{} holds no P-256 public key in PEM", path.display()),
            "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` and `openssl pkey -pubout`",
        )
    };
    let bytes = files::read_limited(path, PEM_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    PublicKey::from_public_key_pem(text).map_err(|error| wrong().cause(error))
}
