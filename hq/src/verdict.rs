//! Judging a device with nothing but trust manifests: no home, no network, no key.

use std::path::Path;

use mintmark_console::{Failure, files};
use mintmark_ledger::merkle::{leaf_hash, verify_inclusion};
use mintmark_pki::{Certificate, Issuer, verify_chain};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::dossier::{DeviceState, Dossier};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::receipt::{Receipt, log_name};
use mintmark_protocol::report::Report;
use mintmark_protocol::status::{Status, VaultStatus};
use mintmark_protocol::trust::{TRUST_BYTES_MAX, TrustManifest};
use p256::PublicKey;

use crate::dossier::Entries;
use crate::import::records::untrusted;
use crate::{failure, identity, trust};

/// What is said of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is genuine, and HQ accounts for it.
    Genuine,
    /// It was genuine by a status or a manifest that is no longer to be relied on.
    Outdated,
    /// It was genuine, and is no longer good.
    Revoked,
    /// Another device has its identity.
    Duplicate,
    /// HQ has it in its logs, and a finding speaks against it.
    Doubtful,
    /// A device CA signed it, and no log that HQ holds has it.
    Unknown,
    /// A device CA signed it; there is no status to look in.
    Unaccounted,
}

impl Verdict {
    /// Its name in `--json`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Genuine => "genuine",
            Self::Outdated => "outdated",
            Self::Revoked => "revoked",
            Self::Duplicate => "duplicate",
            Self::Doubtful => "doubtful",
            Self::Unknown => "unknown",
            Self::Unaccounted => "accounting-unknown",
        }
    }

    /// For people.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Genuine => "genuine and accounted for",
            Self::Outdated => {
                "outdated: what was said for it is too old to go by, so get the newest status and trust manifest"
            }
            Self::Revoked => "revoked",
            Self::Duplicate => "duplicate: another device has its identity",
            Self::Doubtful => "doubtful: headquarters found something against it",
            Self::Unknown => {
                "unknown: a device CA signed it, and no log that headquarters holds has it"
            }
            Self::Unaccounted => "chain valid, accounting unknown",
        }
    }
}

impl From<DeviceState> for Verdict {
    fn from(state: DeviceState) -> Self {
        match state {
            DeviceState::Good => Self::Genuine,
            DeviceState::Superseded
            | DeviceState::Scrapped
            | DeviceState::Voided
            | DeviceState::Revoked => Self::Revoked,
            DeviceState::Duplicate => Self::Duplicate,
            DeviceState::Doubtful => Self::Doubtful,
        }
    }
}

/// A trust manifest that a person compared the fingerprint of, and those before it that are beside it.
pub(crate) struct Trusted {
    /// From the one that was compared back.
    manifests: Vec<Verified<TrustManifest>>,
}

impl Trusted {
    /// Reads the manifest in a file, and those before it from the same folder, as far as they are there.
    pub(crate) fn read(file: &Path, fingerprint: &Fingerprint) -> Result<Self, Failure> {
        let mut bytes = files::read_limited(file, TRUST_BYTES_MAX as u64)?;
        let mut expected = *fingerprint;
        let mut manifests = Vec::new();
        loop {
            let (manifest, before) = trust::pinned_beside(file, &bytes, &expected)?;
            let previous = manifest.content().previous;
            manifests.push(manifest);
            match (before, previous) {
                (Some(before), Some(previous)) => (bytes, expected) = (before, previous),
                _ => return Ok(Self { manifests }),
            }
        }
    }

    /// The one that was compared.
    pub(crate) fn newest(&self) -> Option<&TrustManifest> {
        self.manifests.first().map(Verified::content)
    }

    /// Opens a status. Only the report key of the newest manifest says what counts today.
    pub(crate) fn status(&self, bytes: &[u8]) -> Result<Verified<Status>, Failure> {
        let newest = self.newest();
        let newest = newest
            .ok_or_else(|| failure::home_corrupt("there is no trust manifest to judge by"))?;
        Status::open(bytes, &newest.report_key).map_err(untrusted)
    }

    /// Opens a sealed report, by the report key of the newest manifest that lists the key it is sealed with.
    pub(crate) fn report(&self, bytes: &[u8]) -> Result<Sealed<'_, Report>, Failure> {
        self.by_report_key(|key| Report::open(bytes, key))
    }

    /// Opens what a report key signs, by that of the newest manifest that lists the key it is signed with.
    pub(crate) fn by_report_key<T>(
        &self,
        open: impl Fn(&PublicKey) -> Result<Verified<T>, mintmark_protocol::Error>,
    ) -> Result<Sealed<'_, T>, Failure> {
        let mut refused = None;
        let mut successor = None;
        for manifest in self.manifests.iter().map(Verified::content) {
            match open(&manifest.report_key) {
                Ok(opened) => {
                    return Ok(Sealed {
                        opened,
                        manifest,
                        successor,
                    });
                }
                // What the newest says of it is what counts.
                Err(error) => refused = refused.or(Some(error)),
            }
            successor = Some(manifest);
        }
        Err(match refused {
            Some(error) => untrusted(error),
            None => failure::home_corrupt("there is no trust manifest to judge by"),
        })
    }

    /// The issuer among these of a device's certificate, if a root of ours issued that.
    pub(crate) fn chain(&self, device: &Certificate, issuers: &[Vec<u8>]) -> Option<Issuer> {
        let issuers = issuers
            .iter()
            .filter_map(|der| Issuer::from_certificate_der(der).ok());
        let mut ours = issuers.filter(|device_ca| {
            self.roots()
                .any(|root| verify_chain(device, device_ca, &root).is_ok())
        });
        ours.next()
    }

    fn roots(&self) -> impl Iterator<Item = Issuer> {
        let ders = self.manifests.iter();
        ders.filter_map(|manifest| {
            Issuer::from_certificate_der(&manifest.content().root_certificate).ok()
        })
    }

    /// Opens a dossier, and verifies everything in it.
    pub(crate) fn dossier(&self, bytes: &[u8]) -> Result<Examined, Failure> {
        let (dossier, report_key) = self.opened(bytes)?;
        let content = dossier.content();
        let refused = |why: &str| {
            failure::refused(
                "DOSSIER-INVALID",
                format!("headquarters signed this dossier, and {why}"),
                "believe nothing of it, and tell headquarters",
            )
        };
        let certificate = Certificate::from_der(&content.certificate).map_err(failure::pki)?;
        let chain = self.chain(&certificate, std::slice::from_ref(&content.device_ca));
        if chain.is_none() {
            return Err(foreign(&certificate));
        }
        if !self
            .roots()
            .any(|root| root.certificate_der() == content.root)
        {
            return Err(refused("its root is of none of these trust manifests"));
        }
        let identity = identity::certified(&content.identity, &content.vault, &self.manifests);
        let (vault_key, _) =
            identity.map_err(|_| refused("its vault is not one that the root certified"))?;
        let checkpoint_signed = match &content.bundle {
            None => false,
            Some(bundle) => {
                let bundle = Bundle::open(bundle, &content.vault, &vault_key).map_err(untrusted)?;
                let bundle = bundle.content();
                if bundle.checkpoint != content.checkpoint || bundle.lineage != content.lineage {
                    return Err(refused(
                        "the checkpoint that the vault signed is another one",
                    ));
                }
                true
            }
        };
        let indices = verify_receipts(content, &report_key).map_err(|error| match error {
            Some(error) => untrusted(error),
            None => refused("a record in it is not in the log"),
        })?;
        let [request, reserved, signed] = &content.records;
        let entries = Entries::read([&request.record, &reserved.record, &signed.record]);
        let entries =
            entries.ok_or_else(|| refused("its records are no request, reservation, signature"))?;
        let in_order = indices[0].checked_add(1) == Some(indices[1])
            && entries.reservation == indices[1]
            && indices[1] < indices[2];
        let made = entries.made();
        if !in_order || made.is_none_or(|made| made.der() != certificate.der()) {
            return Err(refused("its records made another certificate"));
        }
        if entries.entitlement != content.entitlement.id
            || entries.product != content.entitlement.sku.as_str()
        {
            return Err(refused("its records name another entitlement"));
        }
        Ok(Examined {
            certificate,
            entries,
            reserved_at_record: indices[1],
            checkpoint_signed,
            dossier,
        })
    }

    /// By whichever manifest's report key it is signed.
    fn opened(&self, bytes: &[u8]) -> Result<(Verified<Dossier>, PublicKey), Failure> {
        let mut refused = None;
        for manifest in &self.manifests {
            let key = manifest.content().report_key;
            match Dossier::open(bytes, &key) {
                Ok(dossier) => return Ok((dossier, key)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(match refused {
            Some(error) => untrusted(error),
            None => failure::home_corrupt("there is no trust manifest to judge by"),
        })
    }
}

/// What a report key signed that a manifest lists.
pub(crate) struct Sealed<'t, T> {
    pub(crate) opened: Verified<T>,
    /// The newest one that lists the key.
    pub(crate) manifest: &'t TrustManifest,
    /// The one after it, which gave the key up; none while the key is in use.
    pub(crate) successor: Option<&'t TrustManifest>,
}

/// A certificate that nobody of ours signed.
pub(crate) fn foreign(certificate: &Certificate) -> Failure {
    failure::refused(
        "DEVICE-FOREIGN",
        format!(
            "no device CA that is given here and that a root of these trust manifests certified signed the certificate of `{}`",
            certificate.subject()
        ),
        "give the device CA's certificate with --chain FILE, or a status with --status FILE, and the earlier trust \
         manifests beside the newest; if it is still refused, treat the device as counterfeit",
    )
}

/// A dossier whose every part was verified.
pub(crate) struct Examined {
    pub(crate) certificate: Certificate,
    pub(crate) entries: Entries,
    /// The position of the reservation.
    pub(crate) reserved_at_record: u64,
    /// Whether the vault's own signature of the checkpoint is in it.
    pub(crate) checkpoint_signed: bool,
    pub(crate) dossier: Verified<Dossier>,
}

/// Verifies that each record is under the root of the checkpoint. Gives their positions.
fn verify_receipts(
    dossier: &Dossier,
    report_key: &PublicKey,
) -> Result<[u64; 3], Option<mintmark_protocol::Error>> {
    let log = log_name(&dossier.vault, &dossier.lineage);
    let checkpoint = &dossier.checkpoint;
    let mut indices = [0; 3];
    for (logged, index) in dossier.records.iter().zip(&mut indices) {
        let receipt = Receipt::read(&logged.receipt)?;
        let proof = receipt.proof();
        let leaf = leaf_hash(&logged.record);
        let root = checkpoint.root.as_bytes();
        let included = verify_inclusion(&leaf, proof.index, proof.size, &proof.path, root);
        if !included || proof.size != checkpoint.size || receipt.log() != log {
            return Err(None);
        }
        receipt.verify(&checkpoint.root, report_key)?;
        *index = proof.index;
    }
    Ok(indices)
}

/// What a status says of a certificate that this device CA signed.
pub(crate) fn look_up(status: &Status, certificate: &Certificate, device_ca: &Issuer) -> Found {
    let of_vault = |vault: &&VaultStatus| {
        let mut device_cas = vault.device_cas.iter();
        device_cas.any(|of| of.certificate == device_ca.certificate_der())
    };
    let Some(vault) = status.vaults.iter().find(of_vault) else {
        return Found {
            verdict: Verdict::Unknown,
            state: None,
            vault: None,
        };
    };
    let tbs_digest = Fingerprint::of(certificate.tbs_der());
    let state = vault.state(&tbs_digest);
    let mut device_cas = vault.device_cas.iter();
    let revoked = device_cas.any(|of| of.revoked && of.certificate == device_ca.certificate_der());
    let verdict = match state {
        Some(DeviceState::Good) if revoked => Verdict::Revoked,
        Some(state) => Verdict::from(state),
        None if vault
            .serials
            .contains(&Fingerprint::of(certificate.serial())) =>
        {
            Verdict::Duplicate
        }
        None => Verdict::Unknown,
    };
    Found {
        verdict,
        state,
        vault: Some(vault.vault.clone()),
    }
}

/// What a status says.
pub(crate) struct Found {
    pub(crate) verdict: Verdict,
    pub(crate) state: Option<DeviceState>,
    pub(crate) vault: Option<VaultName>,
}
