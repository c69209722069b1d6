//! `hq init`: the key ceremony.

use std::path::{Path, PathBuf};

use clap::Args;
use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files};
use mintmark_keys::{KeyUri, Purpose};
use mintmark_pki::{CA_SERIAL_BYTES_MIN, Certificate, Issuer};
use mintmark_protocol::encryption::random;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::trust::HQ_NAME_BYTES_MAX;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;

use crate::clock::{DAY_SECONDS, now_unix};
use crate::config::{Config, KeyUris, Role, absolute};
use crate::home::Home;
use crate::keyring::{self, Keyring};
use crate::record::Record;
use crate::registry::Registry;
use crate::{failure, home};

/// How long the root's first CRL, an empty one, is good for, in days. It is made anew whenever the root signs.
const ROOT_CRL_DAYS: u64 = 3650;
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// Make headquarters: its keys, its root certificate, its home folder.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The name of headquarters, as it will stand in the root certificate.
    #[arg(long)]
    name: String,
    /// Where HQ's keys are: `pkcs11:token=...` or `file:DIR`.
    #[arg(long, value_name = "URI")]
    keys: KeyUri,
    /// The public key (PEM, P-256) whose private half is kept in escrow, for the day the audit key is lost.
    #[arg(long, value_name = "PEM")]
    escrow_key: PathBuf,
    /// Where the root key is; it is best on a token of its own that is kept offline.
    #[arg(long, value_name = "URI")]
    root_keys: Option<KeyUri>,
    /// Where the dispatch key is.
    #[arg(long, value_name = "URI")]
    dispatch_keys: Option<KeyUri>,
    /// Where the audit key is.
    #[arg(long, value_name = "URI")]
    audit_keys: Option<KeyUri>,
    /// Check everything, open the key stores, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Init {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let path = Home::path(home)?;
        if self.name.is_empty()
            || self.name.len() > HQ_NAME_BYTES_MAX
            || self.name.chars().any(char::is_control)
        {
            return Err(failure::usage(
                "HQ-NAME-INVALID",
                "the name of headquarters is 1 to 47 characters of plain text",
                "choose a shorter name",
            ));
        }
        let escrow = escrow_key(&self.escrow_key)?;
        let uris = self.uris(console)?;
        if self.dry_run {
            return self.dry(&path, console);
        }

        let ring = Keyring::with_uris(uris.clone(), console);
        for (uri, given) in [
            (&uris.main, &Some(self.keys.clone())),
            (&uris.root, &self.root_keys),
            (&uris.dispatch, &self.dispatch_keys),
            (&uris.audit, &self.audit_keys),
        ] {
            if let Some(given) = given {
                ring.adopt(
                    uri,
                    keyring::create(&given.absolute().map_err(|e| unusable(given, e))?, console)?,
                );
            }
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
        };
        Home::create(&path, &config, |part| {
            Registry::create(part)?;
            let registry = Registry::open(part)?;
            registry.set("escrow_key", &hex::encode(escrow.to_sec1_bytes()))?;
            registry.set("root_certificate", &hex::encode(&root))?;
            let record = Record::new(part);
            home::make_folder(&part.join("record"))?;
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

    /// Where each key is, with a warning for each that shares a store with the others.
    fn uris(&self, console: &Console) -> Result<KeyUris, Failure> {
        let main = absolute(&self.keys)?;
        let place = |given: &Option<KeyUri>, flag: &str, key: &str| match given {
            Some(uri) => absolute(uri),
            None => {
                console.warn(format!(
                    "no {flag}: the {key} key shares a store with HQ's other keys"
                ));
                Ok(main.clone())
            }
        };
        Ok(KeyUris {
            root: place(&self.root_keys, "--root-keys", "root")?,
            dispatch: place(&self.dispatch_keys, "--dispatch-keys", "dispatch")?,
            audit: place(&self.audit_keys, "--audit-keys", "audit")?,
            main,
        })
    }

    fn dry(&self, path: &Path, console: &Console) -> Result<Exit, Failure> {
        for uri in [
            Some(&self.keys),
            self.root_keys.as_ref(),
            self.dispatch_keys.as_ref(),
            self.audit_keys.as_ref(),
        ]
        .into_iter()
        .flatten()
        {
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

fn unusable(uri: &KeyUri, error: std::io::Error) -> Failure {
    failure::usage(
        "URI-INVALID",
        format!("`{uri}` cannot be used"),
        "give an absolute path",
    )
    .cause(error)
}

fn escrow_key(path: &Path) -> Result<PublicKey, Failure> {
    let wrong = || {
        failure::usage(
            "ESCROW-KEY-INVALID",
            format!("{} holds no P-256 public key in PEM", path.display()),
            "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` and `openssl pkey -pubout`",
        )
    };
    let bytes = files::read_limited(path, PEM_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    PublicKey::from_public_key_pem(text).map_err(|error| wrong().cause(error))
}
