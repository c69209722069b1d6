//! The CRLs of the roots: which device CAs are no longer good.

use mintmark_console::{Console, Failure};
use mintmark_pki::{Certificate, Crl, RevokedSerial};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::revocation::Target;
use mintmark_protocol::trust::TrustManifest;
use rusqlite::Connection;

use crate::clock::{DAY_SECONDS, now_unix};
use crate::home::Home;
use crate::keyring::Keyring;
use crate::registry::{device_cas, orders as numbered, vaults};
use crate::roots::{self, ROOT_CRL_DAYS, Root};
use crate::{failure, own_restore, trust};

/// The code of a CRL that is of before a declared restore.
pub(crate) const FORGOTTEN: &str = "CRL-FORGOTTEN";

/// The code of a root whose CRL is not here, as headquarters had forgotten it.
pub(crate) const ROOT_FORGOTTEN: &str = "ROOT-FORGOTTEN";

/// Whether the CRL of a root is here.
pub(crate) fn is_here(home: &Home, root: &Root) -> bool {
    let record = home.record();
    record.root_crl_of(root.number).symlink_metadata().is_ok()
}

/// Says that it is not, and what to do.
pub(crate) fn forgotten(root: &Root) -> Failure {
    failure::usage(
        ROOT_FORGOTTEN,
        format!(
            "root {} came back with a trust manifest that headquarters had forgotten, and neither its CRL nor what links it to \
             the root before is here",
            root.number
        ),
        "declare the restore with `hq trust epoch`; then `hq trust publish --media DIR --root-keys URI`, with the place of that \
         root's key, makes both",
    )
}

/// The newest CRL of a root.
pub(crate) fn of(home: &Home, root: &Root) -> Result<Crl, Failure> {
    let record = home.record();
    // That of the first root is there from the key ceremony on.
    if root.number > 1 && !is_here(home, root) {
        return Err(forgotten(root));
    }
    let der = record.read(&record.root_crl_of(root.number))?;
    Crl::from_der(&der, &root.issuer).map_err(failure::home_corrupt)
}

/// Whether the CRL of its root names a certificate.
pub(crate) fn names(home: &Home, der: &[u8]) -> Result<bool, Failure> {
    let certificate = Certificate::from_der(der).map_err(failure::home_corrupt)?;
    let roots = roots::all(home)?;
    let root = roots::of(&roots, &certificate);
    let root = root.ok_or_else(|| failure::home_corrupt("a device CA has no root"))?;
    let crl = of(home, root)?;
    let mut revoked = crl.revoked().iter();
    Ok(revoked.any(|revoked| revoked.serial == certificate.serial()))
}

/// The number of a root; and a serial on its CRL, in hexadecimal, or why that CRL is not here or cannot be read.
pub(crate) type Forgotten = (u64, Result<String, Failure>);

/// Serials on the CRLs of the roots that no revocation which headquarters knows of put there.
pub(crate) fn forgotten_serials(home: &Home, sql: &Connection) -> Result<Vec<Forgotten>, Failure> {
    let mut known = Vec::new();
    for vault in vaults::all(sql)? {
        let sealed = numbered::revocations(sql, &vault.name)?;
        for device_ca in device_cas::granted(sql, &vault.name)? {
            let (Some(der), Some(fingerprint)) = (&device_ca.certificate, device_ca.fingerprint())
            else {
                continue;
            };
            let target = Target::DeviceCa(fingerprint);
            if sealed
                .iter()
                .any(|sealed| sealed.revocation.target == target)
            {
                let certificate = Certificate::from_der(der).map_err(failure::home_corrupt)?;
                known.push(certificate.serial().to_vec());
            }
        }
    }
    let mut found = Vec::new();
    for root in roots::all(home)? {
        match of(home, &root) {
            Ok(crl) => {
                let revoked = crl.revoked().iter();
                let forgotten = revoked.filter(|revoked| !known.contains(&revoked.serial));
                found.extend(
                    forgotten.map(|revoked| (root.number, Ok(hex::encode(&revoked.serial)))),
                );
            }
            Err(failure) => found.push((root.number, Err(failure))),
        }
    }
    Ok(found)
}

/// Device CAs that a sealed revocation ended, and that the CRL of their root, which was signed before that, does not name: the number
/// of the root and the serial, in hexadecimal. A CRL that is not here names nothing, and is missed itself.
pub(crate) fn unnamed_serials(
    home: &Home,
    sql: &Connection,
) -> Result<Vec<(u64, String)>, Failure> {
    let roots = roots::all(home)?;
    let mut found = Vec::new();
    for vault in vaults::all(sql)? {
        let sealed = numbered::revocations(sql, &vault.name)?;
        for device_ca in device_cas::granted(sql, &vault.name)? {
            let target = device_ca.fingerprint().map(Target::DeviceCa);
            let mut sealed = sealed.iter().map(|sealed| &sealed.revocation.target);
            let (Some(der), true) = (
                &device_ca.certificate,
                sealed.any(|sealed| Some(sealed) == target.as_ref()),
            ) else {
                continue;
            };
            let certificate = Certificate::from_der(der).map_err(failure::home_corrupt)?;
            let Some(root) = roots::of(&roots, &certificate) else {
                continue;
            };
            if let Ok(crl) = of(home, root)
                && crl.entry(certificate.serial()).is_none()
            {
                found.push((root.number, hex::encode(certificate.serial())));
            }
        }
    }
    Ok(found)
}

/// Has the root that certified a device CA sign its next CRL, with that one on it. Returns the CRL's number.
pub(crate) fn sign(
    home: &Home,
    sql: &Connection,
    ring: &Keyring<'_>,
    also: (&VaultName, &Fingerprint),
    console: &Console,
) -> Result<u64, Failure> {
    let (roots, record, now) = (roots::all(home)?, home.record(), now_unix());
    let mut revoked = Vec::new();
    let mut issuer = None;
    for vault in vaults::all(sql)? {
        let sealed = numbered::revocations(sql, &vault.name)?;
        for device_ca in device_cas::granted(sql, &vault.name)? {
            let (Some(der), Some(fingerprint)) = (&device_ca.certificate, device_ca.fingerprint())
            else {
                continue;
            };
            let is_new = (&vault.name, &fingerprint) == also;
            let before = sealed
                .iter()
                .find(|sealed| sealed.revocation.target == Target::DeviceCa(fingerprint));
            let at = match (before, is_new) {
                (Some(before), _) => before.at,
                (None, true) => now,
                (None, false) => continue,
            };
            let certificate = Certificate::from_der(der).map_err(failure::home_corrupt)?;
            let root = roots::of(&roots, &certificate);
            let root = root.ok_or_else(|| failure::home_corrupt("a device CA has no root"))?;
            if is_new {
                issuer = Some(root);
            }
            revoked.push((
                root.number,
                RevokedSerial {
                    serial: certificate.serial().to_vec(),
                    revoked_at_unix: at,
                    reason: None,
                },
            ));
        }
    }
    let root = issuer.ok_or_else(|| failure::home_corrupt("a revocation names no device CA"))?;
    let mut revoked: Vec<RevokedSerial> = revoked
        .into_iter()
        .filter(|(number, _)| *number == root.number)
        .map(|(_, revoked)| revoked)
        .collect();
    let before = of(home, root)?;
    // What was revoked stays revoked, whatever the registry has forgotten.
    for known in before.revoked() {
        if revoked.iter().all(|revoked| revoked.serial != known.serial) {
            revoked.push(known.clone());
        }
    }
    let manifests = trust::chain(home)?;
    if let Some(text) = warning(&before, &manifests) {
        console.warn_coded(FORGOTTEN, text);
    }
    let number = next_number(&before, &manifests);
    let until = now.saturating_add(ROOT_CRL_DAYS * DAY_SECONDS);
    let tbs =
        mintmark_pki::crl_tbs(&root.issuer, number, now, until, &revoked).map_err(failure::pki)?;
    let signer = ring.root_signer(root.issuer.public_key())?;
    let signature = signer.sign(&tbs).map_err(failure::keys)?;
    let crl = mintmark_pki::assemble_crl(&tbs, &signature).map_err(failure::pki)?;
    record.replace(&record.root_crl_of(root.number), &crl)?;
    Ok(number)
}

/// The number of a root's next CRL. CRLs that went out before a restore may be forgotten, and no number of theirs is used
/// again: from the declaration on, numbers begin at its time in Unix seconds, which no root ever counts up to one by one.
fn next_number(before: &Crl, manifests: &[Verified<TrustManifest>]) -> u64 {
    let declared = own_restore::declaration(manifests).map_or(0, |manifest| manifest.issued_at);
    before.number().saturating_add(1).max(declared)
}

/// Warns that a root's CRL is of before the declared restore: what was revoked after the copy was made is not on it.
pub(crate) fn warning(crl: &Crl, manifests: &[Verified<TrustManifest>]) -> Option<String> {
    let declaration = own_restore::declaration(manifests)?;
    // A root that came after it begins with a low number, too.
    let before =
        crl.number() < declaration.issued_at && crl.this_update_unix() <= declaration.issued_at;
    before.then(|| {
        format!(
            "headquarters was restored (dispatch epoch {}), and CRL {} of the root is of before that: device CAs that were \
             revoked after the copy was made are not on it, and count as good here. Compare it with the CRL that was \
             published last, revoke again what is missing (`hq site revoke`), and only then publish: docs/recovery.md",
            declaration.dispatch_epoch,
            crl.number()
        )
    })
}
