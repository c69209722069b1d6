//! The roots of headquarters: the one of the key ceremony, and each that a later manifest brought. What a former one
//! certified stays certified.

use mintmark_console::{Console, Failure};
use mintmark_keys::Signer;
use mintmark_pki::{CA_SERIAL_BYTES_MIN, Certificate, Issuer};
use mintmark_protocol::encryption::random;
use mintmark_protocol::trust::TrustManifest;

use crate::clock::{DAY_SECONDS, now_unix};
use crate::home::Home;
use crate::keyring::Keyring;
use crate::{failure, root_crl, trust};

/// A CRL of the root is good for that long; a new one is signed with each revocation and each ceremony.
pub(crate) const ROOT_CRL_DAYS: u64 = 3650;

/// A root, from the first on.
#[derive(Clone)]
pub(crate) struct Root {
    /// Which it is, from 1.
    pub(crate) number: u64,
    /// Its certificate.
    pub(crate) issuer: Issuer,
}

/// Every root, the newest last. There is one at least.
pub(crate) fn all(home: &Home) -> Result<Vec<Root>, Failure> {
    let mut ders = vec![home.registry()?.bytes("root_certificate")?];
    for manifest in trust::chain(home)? {
        let der = &manifest.content().root_certificate;
        // A certificate is made for each: one that goes has gone for good.
        if !ders.contains(der) {
            ders.push(der.clone());
        }
    }
    (1..)
        .zip(ders)
        .map(|(number, der)| {
            let issuer = Issuer::from_certificate_der(&der).map_err(failure::home_corrupt)?;
            Ok(Root { number, issuer })
        })
        .collect()
}

/// The root that issued a certificate.
pub(crate) fn of<'r>(roots: &'r [Root], certificate: &Certificate) -> Option<&'r Root> {
    let mut roots = roots.iter();
    roots.find(|root| certificate.verify_issued_by(&root.issuer).is_ok())
}

/// Makes the certificate of the root that comes after `known`, signed by its own key.
pub(crate) fn certify(known: &[Root], name: &str, signer: &dyn Signer) -> Result<Vec<u8>, Failure> {
    let number = known.last().map_or(1, |root| root.number + 1);
    let serial: [u8; CA_SERIAL_BYTES_MIN] = random().map_err(failure::protocol)?;
    let (key, now) = (signer.public_key(), now_unix());
    let tbs = mintmark_pki::next_root_tbs(name, number, key, &serial, now).map_err(failure::pki)?;
    assemble(&tbs, signer)
}

/// What a new root needs beside its certificate: its first CRL, and, from the root before, the certificate that leads
/// from there to it. Both are kept in the record. So it is for a root that a manifest brought which headquarters had forgotten.
pub(crate) fn install(
    home: &Home,
    ring: &Keyring<'_>,
    manifest: &TrustManifest,
    link: bool,
    console: &Console,
) -> Result<(), Failure> {
    let mut roots = all(home)?;
    let next = Issuer::from_certificate_der(&manifest.root_certificate).map_err(failure::pki)?;
    let is_known = |root: &Root| root.issuer.certificate_der() == next.certificate_der();
    let known = roots.len();
    if !roots.iter().any(is_known) {
        let number = roots.last().map_or(1, |root| root.number + 1);
        roots.push(Root {
            number,
            issuer: next,
        });
    }
    for (at, pair) in (1..).zip(roots.windows(2)) {
        let [before, root] = pair else { continue };
        let is_forgotten = at < known;
        if is_forgotten && root_crl::is_here(home, root) {
            continue;
        }
        if link {
            certify_link(home, ring, before, root)?;
        } else {
            console.warn(
                "no certificate links the former root to the new one: what knows the former alone cannot follow",
            );
        }
        // Last, since its being here says that both are. CRLs that a forgotten root signed went out with lower numbers, and
        // this one is of before the restore is declared.
        let (number, from) = match is_forgotten {
            true => (manifest.issued_at.saturating_sub(1), manifest.issued_at),
            false => (1, now_unix()),
        };
        first_crl(home, ring, root, (number, from))?;
    }
    Ok(())
}

/// The first CRL of a root, with this number, at this time.
fn first_crl(
    home: &Home,
    ring: &Keyring<'_>,
    root: &Root,
    (number, from): (u64, u64),
) -> Result<(), Failure> {
    let signer = ring.root_signer(root.issuer.public_key())?;
    let until = from.saturating_add(ROOT_CRL_DAYS * DAY_SECONDS);
    let tbs =
        mintmark_pki::crl_tbs(&root.issuer, number, from, until, &[]).map_err(failure::pki)?;
    let signature = signer.sign(&tbs).map_err(failure::keys)?;
    let crl = mintmark_pki::assemble_crl(&tbs, &signature).map_err(failure::pki)?;
    let record = home.record();
    record.replace(&record.root_crl_of(root.number), &crl)
}

/// Has the root before certify the next one.
fn certify_link(
    home: &Home,
    ring: &Keyring<'_>,
    before: &Root,
    next: &Root,
) -> Result<(), Failure> {
    let signer = ring
        .root_signer(before.issuer.public_key())
        .map_err(|failure| {
            failure.hint(
                "bring the token of the former root: it certifies the new one. Where it is lost for good, give \
                 --no-root-link",
            )
        })?;
    let serial: [u8; CA_SERIAL_BYTES_MIN] = random().map_err(failure::protocol)?;
    let tbs = mintmark_pki::root_link_tbs(&before.issuer, &next.issuer, &serial, now_unix());
    let link = assemble(&tbs.map_err(failure::pki)?, &*signer)?;
    let record = home.record();
    record.replace(&record.root_link(next.number), &link)
}

fn assemble(tbs: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, Failure> {
    let signature = signer.sign(tbs).map_err(failure::keys)?;
    mintmark_pki::assemble(tbs, &signature).map_err(failure::pki)
}
