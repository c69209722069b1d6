//! What headquarters says to one vault without officers: signed by the dispatch key over an encryption to the vault and to
//! headquarters itself, whose plaintext the header commits to.

use p256::PublicKey;

use crate::Error;
use crate::encryption::{self, Encrypted, Opener};
use crate::envelope::{Context, Kind, Party, Sign, SignedOne, Verified, sign_one};
use crate::identifier::{Fingerprint, VaultName};
use crate::trust::TrustManifest;

/// A message of headquarters' to one vault.
pub(crate) trait Dispatched: Sized {
    /// Its type.
    const KIND: Kind;
    /// Its name in errors.
    const WHAT: &'static str;
    /// The largest message, in bytes.
    const BYTES_MAX: usize;

    /// The vault that it is for.
    fn vault(&self) -> &VaultName;

    /// The id under which it travels.
    fn id(&self) -> String;

    /// The plaintext, encoded.
    fn plaintext(&self) -> Vec<u8>;

    /// Reads a plaintext.
    fn read(plaintext: &[u8]) -> Result<Self, Error>;
}

/// Encrypts it to the vault and to HQ and signs it with the dispatch key.
pub(crate) fn seal<T: Dispatched>(
    message: &T,
    manifest: &TrustManifest,
    vault_agree: &PublicKey,
    sign: Sign<'_>,
) -> Result<Vec<u8>, Error> {
    let plaintext = message.plaintext();
    let context = Context {
        kind: T::KIND,
        sender: Party::Hq,
        recipient: Party::Vault(message.vault().clone()),
        id: message.id(),
        commitment: Some(Fingerprint::of(&plaintext)),
    };
    let mut recipients = vec![*vault_agree];
    recipients.extend(manifest.hq_recipients());
    let payload = encryption::seal(&context, &plaintext, &recipients)?;
    sign_one(&context, payload, &manifest.dispatch_key, sign)
}

/// Opens what the dispatch key signed for `vault`.
pub(crate) fn open<T: Dispatched>(
    bytes: &[u8],
    manifest: &Verified<TrustManifest>,
    vault: &VaultName,
    opener: Opener<'_>,
) -> Result<Verified<T>, Error> {
    let message = SignedOne::read(T::WHAT, bytes, T::BYTES_MAX)?;
    let recipient = Party::Vault(vault.clone());
    message
        .context
        .expect(T::WHAT, T::KIND, &Party::Hq, &recipient)?;
    message.verify(&manifest.content().dispatch_key)?;
    let encrypted = Encrypted::read(T::WHAT, message.payload(), T::BYTES_MAX)?;
    message.context.expect_inner(T::WHAT, &encrypted.context)?;
    let plaintext = encrypted.open(opener)?;
    if message.context.commitment != Some(Fingerprint::of(&plaintext)) {
        return Err(Error::Commitment { what: T::WHAT });
    }
    let content = T::read(&plaintext)?;
    if content.vault() != vault || content.id() != message.context.id {
        return Err(Error::PartsDiffer {
            what: T::WHAT,
            why: "header and content differ",
        });
    }
    let fingerprint = message.fingerprint();
    Ok(Verified::new(
        content,
        fingerprint,
        plaintext.to_vec(),
        Vec::new(),
    ))
}
