//! `hq device sweep`: certificates that were collected in the field, held against the logs.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use mintmark_console::{Align, Console, Exit, Failure, Table, files};
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
        states: BTreeMap::new(),
        seen: HashSet::new(),
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
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // No link is followed: what is collected in the field is nobody's to trust.
        if path.symlink_metadata().is_ok_and(|file| file.is_file()) {
            sweep.file(&path, console)?;
        }
    }
    sweep.say(console)
}

struct Sweep<'a> {
    tracing: &'a Tracing<'a>,
    serials: &'a Serials<'a>,
    states: BTreeMap<VaultName, DeviceStates<'a>>,
    /// The certificates that were looked at.
    seen: HashSet<u128>,
    tally: Tally,
    findings: Vec<Finding>,
}

impl<'a> Sweep<'a> {
    fn file(&mut self, path: &Path, console: &Console) -> Result<(), Failure> {
        let bytes = files::read_limited(path, CERTIFICATE_FILE_BYTES_MAX as u64);
        let certificates = bytes.map_err(Failure::from).and_then(|bytes| {
            let blocks = super::verify::blocks(&bytes);
            let read = |block: Vec<u8>| Certificate::from_pem_or_der(&block);
            let read: Result<Vec<_>, _> = blocks.into_iter().map(read).collect();
            read.map_err(failure::pki)
        });
        let certificates = match certificates {
            Ok(certificates) => certificates,
            Err(failure) => {
                let text = format!("{} is left out: {}", path.display(), failure.message);
                console.warn_coded(&failure.code, text);
                self.tally.skipped += 1;
                return Ok(());
            }
        };
        for certificate in certificates {
            // The chain that came with it.
            if !certificate.is_ca() {
                self.certificate(path, &certificate)?;
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
            "skipped": tally.skipped,
            "findings": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        });
        let summary = format!(
            "{} certificates: {} good, {} findings; {} seen before, {} files left out",
            tally.checked,
            tally.good,
            self.findings.len(),
            tally.repeated,
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
        Ok(if self.findings.is_empty() {
            Exit::Done
        } else {
            Exit::Negative
        })
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
