//! Who a vault is, to somebody who has nothing but trust manifests.

use mintmark_pki::{Certificate, Issuer, vault_identity_tbs};
use mintmark_protocol::envelope::Verified;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;

/// The key by which a vault signs, as the root of one of these manifests certified it, and the name of headquarters.
/// The certificate has to be, to the byte, what headquarters makes for a vault's identity.
///
/// # Errors
/// What is wrong with the certificate itself; nothing if no root certified it as this vault's.
pub(crate) fn certified(
    der: &[u8],
    vault: &VaultName,
    manifests: &[Verified<TrustManifest>],
) -> Result<(PublicKey, String), Option<String>> {
    let certificate = Certificate::from_der(der).map_err(|error| Some(error.to_string()))?;
    let key = PublicKey::from_public_key_der(certificate.spki_der())
        .map_err(|error| Some(error.to_string()))?;
    for manifest in manifests {
        let content = manifest.content();
        let Ok(root) = Issuer::from_certificate_der(&content.root_certificate) else {
            continue;
        };
        let made = vault_identity_tbs(
            &root,
            &content.hq_name,
            vault.site.as_str(),
            vault.vault.as_str(),
            &key,
            certificate.serial(),
            certificate.not_before_unix(),
        );
        if made.is_ok_and(|made| made == certificate.tbs_der())
            && certificate.verify_issued_by(&root).is_ok()
        {
            return Ok((key, content.hq_name.clone()));
        }
    }
    Err(None)
}

/// Whether a root of one of these manifests signed a certificate.
pub(crate) fn by_root(der: &[u8], manifests: &[Verified<TrustManifest>]) -> bool {
    let Ok(certificate) = Certificate::from_der(der) else {
        return false;
    };
    manifests.iter().any(|manifest| {
        let root = Issuer::from_certificate_der(&manifest.content().root_certificate);
        root.is_ok_and(|root| certificate.verify_issued_by(&root).is_ok())
    })
}
