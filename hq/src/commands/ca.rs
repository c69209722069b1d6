//! `hq ca`: the certificates that the root made, and its own.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use mintmark_console::time::rfc3339;
use mintmark_console::{Align, Console, Exit, Failure, Table, files};
use mintmark_ledger::state::State;
use mintmark_pki::{Certificate, Crl, Issuer, to_pem};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::revocation::Target;
use serde_json::{Value, json};

use super::say;
use crate::home::Home;
use crate::record::Record;
use crate::registry::{Registry, device_cas, orders, replays, vaults};
use crate::{clock, failure, restored, root_crl, roots, trust};

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
    /// Write them as PEM files, each device CA with its chain and its newest CRL too, and the root's CRL.
    Export {
        /// The folder; it is made if the folder it is in is there.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
        /// Say what would be written and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// The code of a CRL that does not say what its vault's log says.
const CRL_BEHIND: &str = "CRL-BEHIND";
/// The code of a CRL that is past half its life.
const CRL_AGEING: &str = "CRL-AGEING";
/// The code of a CRL that is over.
const CRL_EXPIRED: &str = "CRL-EXPIRED";

/// How much of a CRL's life is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// Half or more.
    Current,
    /// Less than half.
    PastHalf,
    /// Nothing.
    Expired,
}

impl Age {
    fn of(crl: &Crl, now: u64) -> Self {
        let (from, until) = (crl.this_update_unix(), crl.next_update_unix());
        let half = from.saturating_add(until.saturating_sub(from) / 2);
        match now {
            now if now >= until => Self::Expired,
            now if now >= half => Self::PastHalf,
            _ => Self::Current,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::PastHalf => "past-half",
            Self::Expired => "expired",
        }
    }
}

/// One certificate, under the name of its file.
struct Named {
    name: String,
    kind: &'static str,
    vault: Option<VaultName>,
    certificate: Certificate,
    /// The newest CRL that it signed, as far as HQ holds it.
    crl: Option<Crl>,
    /// What its vault's log says that this CRL does not.
    behind: Option<String>,
    /// Whether the root's CRL ends everything that it certified.
    revoked: bool,
}

impl Ca {
    pub(super) fn run(self, home: Option<&Path>, console: &Console) -> Result<Exit, Failure> {
        let home = Home::read_hq(home)?;
        // What a root signed of its own is at headquarters alone.
        home.expect_own()?;
        if matches!(self, Self::Export { .. }) {
            restored::expect_declared(&home)?;
        }
        let certificates = certificates(&home, &home.registry()?)?;
        let of_interest = |named: &&Named| match &self {
            Self::Show { name } => named.name == *name,
            Self::List | Self::Export { .. } => true,
        };
        let (now, manifests) = (clock::now_unix(), trust::chain(&home)?);
        for named in certificates.iter().filter(of_interest) {
            named.warn(now, console);
            if named.kind == "root"
                && let Some(crl) = &named.crl
                && let Some(text) = root_crl::warning(crl, &manifests)
            {
                console.warn_coded(root_crl::FORGOTTEN, format!("{}: {text}", named.name));
            }
        }
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
            crl: Some(root_crl::of(home, root)?),
            behind: None,
            revoked: false,
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
                crl: None,
                behind: None,
                revoked: false,
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
        let replay = replays::load(&registry.sql, &vault.name)?;
        for device_ca in device_cas.iter().rev() {
            let Some(der) = &device_ca.certificate else {
                continue;
            };
            let generation = device_ca.generation;
            let crl = device_ca_crl(&record, &vault.name, generation, der)?;
            let mut stem = format!("{site}_{id}");
            if Some(generation) != newest {
                stem += &format!("-g{generation}");
            }
            all.push(Named {
                name: format!("device-ca-{stem}"),
                kind: "device-ca",
                vault: Some(vault.name.clone()),
                certificate: read(der)?,
                behind: behind(replay.state(), generation, crl.as_ref()),
                revoked: is_revoked(registry, &vault.name, der)?,
                crl,
            });
        }
        all.push(Named {
            name: format!("identity-{site}_{id}"),
            kind: "identity",
            vault: Some(vault.name.clone()),
            certificate: read(&certificates.identity)?,
            crl: None,
            behind: None,
            revoked: false,
        });
    }
    Ok(all)
}

/// The newest CRL of a device CA that came home; none if none did.
fn device_ca_crl(
    record: &Record,
    vault: &VaultName,
    generation: u16,
    certificate: &[u8],
) -> Result<Option<Crl>, Failure> {
    let path = record.device_ca_crl(vault, generation);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let issuer = Issuer::from_certificate_der(certificate).map_err(failure::home_corrupt)?;
    let crl = Crl::from_der(&record.read(&path)?, &issuer).map_err(failure::home_corrupt)?;
    Ok(Some(crl))
}

fn is_revoked(registry: &Registry, vault: &VaultName, certificate: &[u8]) -> Result<bool, Failure> {
    let target = Target::DeviceCa(Fingerprint::of(certificate));
    orders::is_revoked(&registry.sql, vault, &target)
}

/// What the log says of a device CA's certificates that its newest CRL here does not say.
fn behind(state: &State, generation: u16, held: Option<&Crl>) -> Option<String> {
    let taken_back = state.crl_entries(generation).count();
    let Some(held) = held else {
        return (taken_back > 0).then(|| {
            format!("{taken_back} of its certificates were taken back, and no CRL of it is here")
        });
    };
    let stated = state.crl(generation).map_or(0, |(_, crl)| crl.number);
    if stated != held.number() {
        let number = held.number();
        return Some(format!(
            "its log states CRL {stated}, and the one here is {number}"
        ));
    }
    let said = held.revoked().len();
    (taken_back != said).then(|| {
        format!("{taken_back} of its certificates were taken back, and its newest CRL names {said}")
    })
}

impl Named {
    fn pem(&self) -> String {
        to_pem("CERTIFICATE", self.certificate.der())
    }

    /// Says what whoever relies on its CRL should know.
    fn warn(&self, now: u64, console: &Console) {
        if self.revoked {
            return;
        }
        let carry = match self.kind {
            "root" => "",
            _ => ": have the site run `site media export`, and import what it brings",
        };
        if let Some(behind) = &self.behind {
            console.warn_coded(CRL_BEHIND, format!("{}: {behind}{carry}", self.name));
        }
        let Some(crl) = &self.crl else {
            return;
        };
        let (name, number, until) = (&self.name, crl.number(), rfc3339(crl.next_update_unix()));
        match Age::of(crl, now) {
            Age::Current => {}
            Age::PastHalf => console.warn_coded(
                CRL_AGEING,
                format!("{name}: more than half of the life of CRL {number} is over, which ends at {until}{carry}"),
            ),
            Age::Expired => console.warn_coded(
                CRL_EXPIRED,
                format!("{name}: CRL {number} ended at {until}: whoever checks it accepts nothing{carry}"),
            ),
        }
    }

    fn to_json(&self) -> Value {
        let now = clock::now_unix();
        let crl = self.crl.as_ref().map(|crl| {
            json!({
                "number": crl.number(),
                "this_update": rfc3339(crl.this_update_unix()),
                "next_update": rfc3339(crl.next_update_unix()),
                "revoked": crl.revoked().len(),
                "status": Age::of(crl, now).as_str(),
                "sha256": Fingerprint::of(crl.der()).to_string(),
            })
        });
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
            "crl": crl,
            "crl_behind": self.behind,
            "revoked": self.revoked,
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
    let columns = [("CRL OF", Align::Left), ("NUMBER", Align::Right)];
    let more = [("NEXT UPDATE", Align::Left), ("REVOKED", Align::Right)];
    let mut crls = Table::new(columns.into_iter().chain(more));
    for named in certificates {
        if let Some(crl) = &named.crl {
            crls.row([
                named.name.clone(),
                crl.number().to_string(),
                rfc3339(crl.next_update_unix()),
                crl.revoked().len().to_string(),
            ]);
        }
    }
    console.line("");
    console.table(&crls);
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
    let crl = named.crl.as_ref().map(|crl| {
        let (number, count) = (crl.number(), crl.revoked().len());
        let until = rfc3339(crl.next_update_unix());
        format!("crl          {number} until {until}, {count} certificates revoked")
    });
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
    ];
    let lines = lines.into_iter().chain(crl);
    say(
        console,
        &json,
        lines.chain([named.pem().trim_end().to_owned()]),
    )
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
            if let Some(crl) = &named.crl {
                pems.push((format!("crl-{stem}.pem"), to_pem("X509 CRL", crl.der())));
            }
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
