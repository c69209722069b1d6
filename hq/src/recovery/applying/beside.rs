//! What the record has beside what a registry is made from, and what of it is not as it was: requests of vaults and CRLs of device CAs,
//! which whatever was taken in has again, and the certificates that link the roots, which it has not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mintmark_console::Failure;
use mintmark_pki::{Certificate, Crl, Issuer};

use super::{Applying, Lost, Then};
use crate::registry::{device_cas, vaults};
use crate::{failure, roots};

/// Files of the record that are to be written again.
pub(in crate::recovery) type Again = BTreeMap<PathBuf, Vec<u8>>;

impl Applying<'_> {
    /// What is to be written again, and names it.
    pub(super) fn again(&mut self) -> Result<Again, Failure> {
        let mut again = self.record.missed();
        for vault in vaults::all(&self.registry.sql)? {
            for device_ca in device_cas::granted(&self.registry.sql, &vault.name)? {
                let path = self.record.device_ca_crl(&vault.name, device_ca.generation);
                let (Some(bytes), Some(der)) = (again.get(&path), &device_ca.certificate) else {
                    continue;
                };
                // Whoever was stopped while a bundle was taken in may have kept a newer one.
                let issuer = Issuer::from_certificate_der(der).map_err(failure::home_corrupt)?;
                let number = |der: &[u8]| Crl::from_der(der, &issuer).ok().map(|crl| crl.number());
                let kept = self.record.read(&path).ok();
                if kept.and_then(|kept| number(&kept)) > number(bytes) {
                    again.remove(&path);
                }
            }
        }
        for path in again.keys() {
            let what = within(self.record.folder(), path);
            let from = match what.starts_with("ca/") {
                true => "the newest bundle that brought one",
                false => "what officers approved",
            };
            self.lost.push(Lost {
                code: "RECORD-PUT-BACK".to_owned(),
                why: format!("it was not in the record as it came, and is made again from {from}"),
                then: Then::Nothing,
                what,
            });
        }
        Ok(again)
    }

    /// The certificates that lead from one root to the next. That one is missing is known from when it was kept.
    pub(super) fn links(&mut self) -> Result<(), Failure> {
        if self.manifests.is_empty() {
            return Ok(());
        }
        let roots = roots::all(self.home)?;
        for pair in roots.windows(2) {
            let [before, root] = pair else { continue };
            let path = self.record.root_link(root.number);
            let what = within(self.record.folder(), &path);
            if path.symlink_metadata().is_err() || self.lost.iter().any(|lost| lost.what == what) {
                continue;
            }
            let link = Certificate::from_der(&self.record.read(&path)?);
            let leads = link.is_ok_and(|link| {
                link.verify_issued_by(&before.issuer).is_ok()
                    && link.subject_der() == root.issuer.subject_der()
                    && link.spki_der() == root.issuer.certificate().spki_der()
            });
            if !leads {
                self.lost.push(Lost {
                    what,
                    code: "ROOT-LINK-INVALID".to_owned(),
                    why: format!(
                        "it does not lead from root {} to root {}",
                        before.number, root.number
                    ),
                    then: Then::Declare,
                });
            }
        }
        Ok(())
    }
}

fn within(folder: &Path, path: &Path) -> String {
    let within = path.strip_prefix(folder).unwrap_or(path);
    within.to_string_lossy().into_owned()
}
