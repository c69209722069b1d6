//! `hq ca`: the certificates that the root made, and its own.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table, files};
use mintmark_pki::{Certificate, to_pem};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use serde_json::{Value, json};

use super::say;
use crate::failure;
use crate::home::Home;
use crate::registry::{Registry, vaults};

/// The certificates of the root, of device CAs and of vaults.
#[derive(Debug, Subcommand)]
pub(super) enum Ca {
    /// List them.
    List,
    /// Show one, with its PEM.
    Show {
        /// `root`, or as `hq ca list` names it, such as `device-ca-berlin_v1`.
        name: String,
    },
    /// Write them as PEM files, each device CA with its chain too, and the root's CRL.
    Export {
        /// The folder; it is made if the folder it is in is there.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
        /// Say what would be written and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// One certificate, under the name of its file.
struct Named {
    name: String,
    kind: &'static str,
    vault: Option<VaultName>,
    certificate: Certificate,
}

impl Ca {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let home = Home::read_hq(home)?;
        let certificates = certificates(&home.registry()?)?;
        match self {
            Self::List => list(&certificates, console),
            Self::Show { name } => show(&certificates, &name, console),
            Self::Export { output, dry_run } => {
                export(&home, &certificates, &output, dry_run, console)
            }
        }
    }
}

/// The root's, then those of each vault that was let in.
fn certificates(registry: &Registry) -> Result<Vec<Named>, Failure> {
    let read = |der: &[u8]| Certificate::from_der(der).map_err(failure::home_corrupt);
    let mut all = vec![Named {
        name: "root".to_owned(),
        kind: "root",
        vault: None,
        certificate: read(&registry.bytes("root_certificate")?)?,
    }];
    for vault in vaults::all(&registry.sql)? {
        let Some(certificates) = vault.certificates else {
            continue;
        };
        let VaultName { site, vault: id } = &vault.name;
        for (kind, der) in [
            ("device-ca", &certificates.device_ca),
            ("identity", &certificates.identity),
        ] {
            all.push(Named {
                name: format!("{kind}-{site}_{id}"),
                kind,
                vault: Some(vault.name.clone()),
                certificate: read(der)?,
            });
        }
    }
    Ok(all)
}

impl Named {
    fn pem(&self) -> String {
        to_pem("CERTIFICATE", self.certificate.der())
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "site": self.vault.as_ref().map(|vault| vault.site.as_str()),
            "vault": self.vault.as_ref().map(|vault| vault.vault.as_str()),
            "subject": self.certificate.subject(),
            "issuer": self.certificate.issuer(),
            "serial": hex::encode(self.certificate.serial()),
            "not_before": rfc3339(self.certificate.not_before_unix()),
            "not_after": rfc3339(self.certificate.not_after_unix()),
            "fingerprint": self.fingerprint().to_string(),
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.certificate.der())
    }
}

fn list(certificates: &[Named], console: &Console) -> Result<Exit, Failure> {
    if console.is_json() {
        let rows: Vec<_> = certificates.iter().map(Named::to_json).collect();
        let json = json!({ "schema": "mintmark/ca/1", "certificates": rows });
        return say(console, &json, []);
    }
    let mut table = Table::new(
        ["NAME", "SUBJECT", "SERIAL", "FINGERPRINT"].map(|header| (header, Align::Left)),
    );
    for named in certificates {
        table.row([
            named.name.clone(),
            named.certificate.subject(),
            hex::encode(named.certificate.serial()),
            named.fingerprint().to_string(),
        ]);
    }
    console.table(&table);
    Ok(Exit::Done)
}

fn show(certificates: &[Named], name: &str, console: &Console) -> Result<Exit, Failure> {
    let named = certificates
        .iter()
        .find(|named| named.name == name)
        .ok_or_else(|| {
            failure::usage(
                "CA-UNKNOWN",
                format!("there is no certificate `{name}`"),
                "`hq ca list` shows which there are",
            )
        })?;
    let mut json = named.to_json();
    json["schema"] = "mintmark/ca/1".into();
    json["certificate"] = named.pem().into();
    let certificate = &named.certificate;
    let lines = [
        format!("name         {}", named.name),
        format!("subject      {}", certificate.subject()),
        format!("issuer       {}", certificate.issuer()),
        format!("serial       {}", hex::encode(certificate.serial())),
        format!(
            "valid        {} to {}",
            rfc3339(certificate.not_before_unix()),
            rfc3339(certificate.not_after_unix())
        ),
        format!("fingerprint  {}", named.fingerprint()),
        named.pem().trim_end().to_owned(),
    ];
    say(console, &json, lines)
}

fn export(
    home: &Home,
    certificates: &[Named],
    output: &Path,
    dry_run: bool,
    console: &Console,
) -> Result<Exit, Failure> {
    let mut pems: Vec<(String, String)> = Vec::new();
    for named in certificates {
        pems.push((format!("{}.pem", named.name), named.pem()));
        if let (Some(VaultName { site, vault }), "device-ca") = (&named.vault, named.kind) {
            let root = certificates.first().map(Named::pem).unwrap_or_default();
            let chain = format!("{}{root}", named.pem());
            pems.push((format!("chain-{site}_{vault}.pem"), chain));
        }
    }
    let record = home.record();
    let crl = record.read(&record.root_crl())?;
    pems.push(("crl-root.pem".to_owned(), to_pem("X509 CRL", &crl)));
    if !dry_run {
        make_folder(output)?;
    }
    let mut written = Vec::new();
    for (name, pem) in &pems {
        let path = output.join(name);
        if !dry_run {
            files::write_public_replace(&path, pem.as_bytes())?;
        }
        written.push(path.display().to_string());
    }
    let json = json!({ "schema": "mintmark/ca/1", "files": written, "dry_run": dry_run });
    if dry_run {
        console.note("nothing was written (--dry-run)");
    }
    say(console, &json, written)
}

/// Makes the folder that certificates go to; everybody may read them. The folder around it must be there.
fn make_folder(path: &Path) -> Result<(), Failure> {
    match DirBuilder::new().create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            let message = format!("the folder {} could not be made", path.display());
            Err(Failure::new(Exit::Environment, "FILE-IO", message)
                .cause(error)
                .hint("check the path: the folder that it is in must be there"))
        }
        _ => Ok(()),
    }
}
