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
use crate::{failure, trust};

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
/// from there to it. Both are kept in the record.
pub(crate) fn install(
    home: &Home,
    ring: &Keyring<'_>,
    manifest: &TrustManifest,
    link: bool,
    console: &Console,
) -> Result<(), Failure> {
    let known = all(home)?;
    let next = Issuer::from_certificate_der(&manifest.root_certificate).map_err(failure::pki)?;
    let is_known = |root: &Root| root.issuer.certificate_der() == next.certificate_der();
    let (Some(before), false) = (known.last(), known.iter().any(is_known)) else {
        return Ok(());
    };
    let (record, number, now) = (home.record(), before.number + 1, now_unix());
    let signer = ring.root_signer(next.public_key())?;
    let until = now.saturating_add(ROOT_CRL_DAYS * DAY_SECONDS);
    let tbs = mintmark_pki::crl_tbs(&next, 1, now, until, &[]).map_err(failure::pki)?;
    let signature = signer.sign(&tbs).map_err(failure::keys)?;
    let crl = mintmark_pki::assemble_crl(&tbs, &signature).map_err(failure::pki)?;
    record.replace(&record.root_crl_of(number), &crl)?;
    if !link {
        console.warn(
            "no certificate links the former root to the new one: what knows the former alone cannot follow",
        );
        return Ok(());
    }
    let key = before.issuer.public_key();
    let signer = ring.root_signer(key).map_err(|failure| {
        failure.hint(
            "bring the token of the former root: it certifies the new one. Where it is lost for good, give \
             --no-root-link",
        )
    })?;
    let serial: [u8; CA_SERIAL_BYTES_MIN] = random().map_err(failure::protocol)?;
    let tbs = mintmark_pki::root_link_tbs(&before.issuer, &next, &serial, now);
    let link = assemble(&tbs.map_err(failure::pki)?, &*signer)?;
    record.replace(&record.root_link(number), &link)
}

fn assemble(tbs: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, Failure> {
    let signature = signer.sign(tbs).map_err(failure::keys)?;
    mintmark_pki::assemble(tbs, &signature).map_err(failure::pki)
}
