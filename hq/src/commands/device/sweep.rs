//! `hq device sweep`: certificates that were collected in the field, held against the logs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use mintmark_console::{Align, Console, Exit, Failure, Progress, Table, files};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, Certificate};
use mintmark_protocol::digest_set::{BITS_MAX, cut};
use mintmark_protocol::dossier::DeviceState;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use serde_json::{Value, json};

use super::tracing::Tracing;
use crate::commands::say;
use crate::device_states::DeviceStates;
use crate::failure;
use crate::home::Home;
use crate::keyring::Keyring;
use crate::registry::device_cas;
use crate::roots::{self, Root};
use crate::serials::Serials;

/// What is wrong with one certificate.
struct Finding {
    file: String,
    serial: String,
    vault: Option<VaultName>,
    verdict: &'static str,
    text: String,
}

/// How many of what.
#[derive(Default)]
struct Tally {
    checked: u64,
    good: u64,
    repeated: u64,
    /// Certificates of our own roots and device CAs.
    authorities: u64,
    /// Files, folders and blocks of files that could not be judged.
    skipped: u64,
}

pub(super) fn run(home: Option<&Path>, folder: &Path, console: &Console) -> Result<Exit, Failure> {
    let home = Home::read_hq(home)?;
    let registry = home.registry()?;
    let ring = Keyring::new(&home.config, console)?;
    let tracing = Tracing::new(&home, &registry, &ring)?;
    let serials = Serials::new(&ring);
    let mut sweep = Sweep {
        tracing: &tracing,
        serials: &serials,
        authorities: Authorities::of(&home, &tracing)?,
        states: BTreeMap::new(),
        seen: HashSet::new(),
        folders: Vec::new(),
        progress: console.progress("looking at files", count(folder)),
        tally: Tally::default(),
        findings: Vec::new(),
    };
    let unreadable = |error: std::io::Error| {
        Failure::new(
            Exit::Environment,
            "FILE-IO",
            format!("{} cannot be read", folder.display()),
        )
        .cause(error)
        .hint("check the path and its permissions")
    };
    sweep.entries(folder, fs::read_dir(folder).map_err(unreadable)?, console)?;
    while let Some(folder) = sweep.folders.pop() {
        match fs::read_dir(&folder) {
            Ok(entries) => sweep.entries(&folder, entries, console)?,
            Err(error) => sweep.leave_out(&folder, ("FILE-IO", &error.to_string()), console),
        }
    }
    sweep.progress.finish();
    sweep.say(console)
}

/// How many files there are to look at; none where that cannot be told beforehand.
fn count(folder: &Path) -> Option<u64> {
    let mut files = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()? {
            let entry = entry.ok()?;
            match entry.file_type().ok()?.is_dir() {
                true => folders.push(entry.path()),
                false => files += 1,
            }
        }
    }
    Some(files)
}

/// The certificates that stand above devices: every root, each that one root made for the next, and every device CA.
struct Authorities {
    roots: Vec<Root>,
    device_cas: HashSet<Vec<u8>>,
}

impl Authorities {
    fn of(home: &Home, tracing: &Tracing<'_>) -> Result<Self, Failure> {
        let mut device_cas = HashSet::new();
        for vault in &tracing.vaults {
            let granted = device_cas::granted(&tracing.registry.sql, &vault.name)?;
            device_cas.extend(granted.into_iter().filter_map(|of| of.certificate));
        }
        Ok(Self {
            roots: roots::all(home)?,
            device_cas,
        })
    }

    fn hold(&self, certificate: &Certificate) -> bool {
        let of_root = |root: &Root| root.issuer.certificate().spki_der() == certificate.spki_der();
        self.device_cas.contains(certificate.der())
            || (self.roots.iter().any(of_root) && roots::of(&self.roots, certificate).is_some())
    }
}

struct Sweep<'a> {
    tracing: &'a Tracing<'a>,
    serials: &'a Serials<'a>,
    authorities: Authorities,
    states: BTreeMap<VaultName, DeviceStates<'a>>,
    /// The certificates that were looked at.
    seen: HashSet<u128>,
    /// Those that are still to be looked into.
    folders: Vec<PathBuf>,
    progress: Progress,
    tally: Tally,
    findings: Vec<Finding>,
}

impl<'a> Sweep<'a> {
    /// What is in one folder. What cannot be judged is counted, for it may be the one that matters.
    fn entries(
        &mut self,
        folder: &Path,
        entries: fs::ReadDir,
        console: &Console,
    ) -> Result<(), Failure> {
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => {
                    self.leave_out(folder, ("FILE-IO", &error.to_string()), console);
                    continue;
                }
            };
            // No link is followed: what is collected in the field is nobody's to trust.
            if path.symlink_metadata().is_ok_and(|file| file.is_dir()) {
                self.folders.push(path);
            } else {
                self.file(&path, console)?;
                self.progress.advance(1);
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &Path, (code, why): (&str, &str), console: &Console) {
        console.warn_coded(code, format!("{} is left out: {why}", path.display()));
        self.tally.skipped += 1;
    }

    fn file(&mut self, path: &Path, console: &Console) -> Result<(), Failure> {
        let bytes = match files::read_limited(path, CERTIFICATE_FILE_BYTES_MAX as u64) {
            Ok(bytes) => bytes,
            Err(error) => {
                let failure = Failure::from(error);
                self.leave_out(path, (&failure.code, &failure.message), console);
                return Ok(());
            }
        };
        let blocks = super::verify::blocks(&bytes);
        let count = blocks.len();
        for (number, block) in (1..).zip(blocks) {
            match Certificate::from_pem_or_der(&block) {
                // The chain that came with it.
                Ok(certificate) if self.authorities.hold(&certificate) => {
                    self.tally.authorities += 1;
                }
                Ok(certificate) => self.certificate(path, &certificate)?,
                Err(error) => {
                    let failure = failure::pki(error);
                    let why = match count {
                        1 => failure.message,
                        _ => format!("block {number} of {count}: {}", failure.message),
                    };
                    self.leave_out(path, (&failure.code, &why), console);
                }
            }
        }
        Ok(())
    }

    fn certificate(&mut self, path: &Path, certificate: &Certificate) -> Result<(), Failure> {
        let digest = Fingerprint::of(certificate.der());
        if !self.seen.insert(cut(&digest, BITS_MAX)) {
            self.tally.repeated += 1;
            return Ok(());
        }
        self.tally.checked += 1;
        let vault = self.tracing.issuing_vault(certificate)?;
        let name = vault.map(|vault| vault.name.clone());
        let (verdict, text) = match vault {
            None => (
                "foreign",
                "no device CA of ours signed it: treat the device as counterfeit".to_owned(),
            ),
            Some(vault) => match self.tracing.by_certificate(certificate) {
                Ok(units) => {
                    if !self.states.contains_key(&vault.name) {
                        let cipher = self.serials.of(vault)?;
                        let sql = &self.tracing.registry.sql;
                        let of = DeviceStates::of(sql, &vault.name, cipher)?;
                        self.states.insert(vault.name.clone(), of);
                    }
                    let states = self.states.get(&vault.name);
                    let each = units
                        .iter()
                        .filter_map(|unit| states.map(|states| states.state(unit)));
                    match each.max() {
                        Some(DeviceState::Good) => {
                            self.tally.good += 1;
                            return Ok(());
                        }
                        Some(state) => (state.as_str(), format!("the logs say that it is {state}")),
                        None => ("unknown", "no log holds it".to_owned()),
                    }
                }
                Err(failure) => match failure.code.as_ref() {
                    "DEVICE-UNKNOWN" | "CERTIFICATE-UNRECORDED" => ("unknown", failure.message),
                    "DEVICE-MISMATCH" => ("duplicate", failure.message),
                    _ => return Err(failure),
                },
            },
        };
        self.findings.push(Finding {
            file: path.display().to_string(),
            serial: hex::encode(certificate.serial()),
            vault: name,
            verdict,
            text,
        });
        Ok(())
    }

    fn say(mut self, console: &Console) -> Result<Exit, Failure> {
        // A folder has no order of its own.
        self.findings
            .sort_by(|one, other| (&one.file, &one.serial).cmp(&(&other.file, &other.serial)));
        let tally = &self.tally;
        let json = json!({
            "schema": "mintmark/device-sweep/1",
            "checked": tally.checked,
            "good": tally.good,
            "repeated": tally.repeated,
            "authorities": tally.authorities,
            "skipped": tally.skipped,
            "findings": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        });
        let is_clean = self.findings.is_empty() && tally.skipped == 0;
        let summary = format!(
            "{} certificates: {} good, {} findings; {} seen before, {} of authorities; {} left out",
            tally.checked,
            tally.good,
            self.findings.len(),
            tally.repeated,
            tally.authorities,
            tally.skipped
        );
        if !console.is_json() && !self.findings.is_empty() {
            let mut table = Table::new(
                ["VERDICT", "SERIAL", "VAULT", "FILE", "WHY"].map(|header| (header, Align::Left)),
            );
            for finding in &self.findings {
                let vault = finding.vault.as_ref().map(ToString::to_string);
                table.row([
                    finding.verdict.to_owned(),
                    finding.serial.clone(),
                    vault.unwrap_or_default(),
                    finding.file.clone(),
                    finding.text.clone(),
                ]);
            }
            console.table(&table);
        }
        say(console, &json, [summary])?;
        Ok(if is_clean { Exit::Done } else { Exit::Negative })
    }
}

impl Finding {
    fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "serial": self.serial,
            "vault": self.vault.as_ref().map(ToString::to_string),
            "verdict": self.verdict,
            "text": self.text,
        })
    }
}
