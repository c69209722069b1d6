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
use crate::home::Home;
use crate::registry::{Registry, device_cas, vaults};
use crate::{failure, roots};

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
        let certificates = certificates(&home, &home.registry()?)?;
        match self {
            Self::List => list(&certificates, console),
            Self::Show { name } => show(&certificates, &name, console),
            Self::Export { output, dry_run } => {
                export(&home, &certificates, &output, dry_run, console)
            }
        }
    }
}

/// The roots', the newest first; the links between them; then those of each vault that was let in.
fn certificates(home: &Home, registry: &Registry) -> Result<Vec<Named>, Failure> {
    let read = |der: &[u8]| Certificate::from_der(der).map_err(failure::home_corrupt);
    let record = home.record();
    let roots = roots::all(home)?;
    let newest = roots.len() as u64;
    // The newest of a kind has the name that does not change.
    let name = |stem: &str, number: u64| {
        if number == newest {
            stem.to_owned()
        } else {
            format!("{stem}-{number}")
        }
    };
    let mut all = Vec::new();
    for root in roots.iter().rev() {
        all.push(Named {
            name: name("root", root.number),
            kind: "root",
            vault: None,
            certificate: root.issuer.certificate().clone(),
        });
    }
    for root in roots.iter().rev() {
        let path = record.root_link(root.number);
        // There is none to the first, and none from a root that was lost.
        if path.symlink_metadata().is_ok() {
            all.push(Named {
                name: name("root-link", root.number),
                kind: "root-link",
                vault: None,
                certificate: read(&record.read(&path)?)?,
            });
        }
    }
    for vault in vaults::all(&registry.sql)? {
        let Some(certificates) = vault.certificates else {
            continue;
        };
        let VaultName { site, vault: id } = &vault.name;
        let device_cas = device_cas::granted(&registry.sql, &vault.name)?;
        let newest = device_cas.last().map(|device_ca| device_ca.generation);
        for device_ca in device_cas.iter().rev() {
            let Some(der) = &device_ca.certificate else {
                continue;
            };
            let generation = device_ca.generation;
            let mut stem = format!("{site}_{id}");
            if Some(generation) != newest {
                stem += &format!("-g{generation}");
            }
            all.push(Named {
                name: format!("device-ca-{stem}"),
                kind: "device-ca",
                vault: Some(vault.name.clone()),
                certificate: read(der)?,
            });
        }
        all.push(Named {
            name: format!("identity-{site}_{id}"),
            kind: "identity",
            vault: Some(vault.name.clone()),
            certificate: read(&certificates.identity)?,
        });
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
    // Serials and whole fingerprints would double the width: `hq ca show` and JSON have them.
    let mut table =
        Table::new(["NAME", "SUBJECT", "FINGERPRINT"].map(|header| (header, Align::Left)));
    for named in certificates {
        table.row([
            named.name.clone(),
            named.certificate.subject(),
            format!("{:.16}...", named.fingerprint().to_string()),
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
    let roots = roots::all(home)?;
    let mut pems: Vec<(String, String)> = Vec::new();
    for named in certificates {
        pems.push((format!("{}.pem", named.name), named.pem()));
        if let Some(stem) = named.name.strip_prefix("device-ca-") {
            let root = roots::of(&roots, &named.certificate).ok_or_else(|| {
                failure::home_corrupt(format!("no root of ours issued `{}`", named.name))
            })?;
            let root = to_pem("CERTIFICATE", root.issuer.certificate_der());
            let chain = format!("{}{root}", named.pem());
            pems.push((format!("chain-{stem}.pem"), chain));
        }
    }
    let record = home.record();
    for root in &roots {
        let crl = record.read(&record.root_crl_of(root.number))?;
        let name = if root.number == roots.len() as u64 {
            "crl-root.pem".to_owned()
        } else {
            format!("crl-root-{}.pem", root.number)
        };
        pems.push((name, to_pem("X509 CRL", &crl)));
    }
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
