//! What officers order of one vault: encrypted to the vault, to HQ and to the officers of the role when it is drafted,
//! approved by a threshold of them, and carried in a dispatch. Each such message names the vault, an id that its header
//! repeats, and the time until which it may be approved and imported.

use crate::Error;
use crate::approval::{self, PROPOSAL_BYTES_MAX, Proposal};
use crate::encryption::Opener;
use crate::envelope::{Context, Kind, Party, Verified};
use crate::identifier::{Fingerprint, VaultName};
use crate::trust::{Role, TrustManifest};

/// The longest reason that an order gives, in characters.
pub const REASON_CHARACTERS_MAX: usize = 200;

/// A message that officers order one vault with.
pub trait Order: Sized {
    /// Its type.
    const KIND: Kind;
    /// Its name in errors.
    const WHAT: &'static str;
    /// Whose approval it needs.
    const ROLE: Role;

    /// The vault that it is for.
    fn vault(&self) -> &VaultName;

    /// The id under which it travels.
    fn object_id(&self) -> String;

    /// Until when it may be approved and imported, Unix seconds.
    fn approve_until(&self) -> u64;

    /// The plaintext, encoded.
    fn to_cbor(&self) -> Vec<u8>;

    /// Reads a plaintext.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::Shape`], [`Error::Key`] and [`Error::FormatVersion`].
    fn from_cbor(bytes: &[u8]) -> Result<Self, Error>;

    /// What must hold of the content beyond its own shape.
    ///
    /// # Errors
    /// What the messages inside it are refused for.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Drafts it for approval, encrypted to the vault, to HQ and to the officers who may approve it.
    ///
    /// # Errors
    /// [`Error::Random`].
    fn propose(
        &self,
        manifest: &TrustManifest,
        vault_agree: &p256::PublicKey,
    ) -> Result<Proposal, Error> {
        let context = Context {
            kind: Self::KIND,
            sender: Party::Hq,
            recipient: Party::Vault(self.vault().clone()),
            id: self.object_id(),
            commitment: None,
        };
        let recipients = manifest.recipients(vault_agree, Self::ROLE);
        Proposal::encrypted(context, &self.to_cbor(), &recipients)
    }

    /// Reads a proposal's content, whose signatures nobody has looked at.
    ///
    /// # Errors
    /// What refuses a proposal or its decryption.
    fn proposed(proposal: &Proposal, opener: Opener<'_>) -> Result<Self, Error> {
        let order = Self::from_cbor(&proposal.plaintext(Some(opener))?)?;
        let recipient = Party::Vault(order.vault().clone());
        proposal
            .context()
            .expect(Self::WHAT, Self::KIND, &Party::Hq, &recipient)?;
        expect_id(&order, proposal.context())?;
        order.check()?;
        Ok(order)
    }

    /// Opens an order that a threshold of officers signed for `vault`.
    ///
    /// # Errors
    /// What refuses a proposal, its approvals or its decryption.
    fn open(
        bytes: &[u8],
        manifest: &Verified<TrustManifest>,
        vault: &VaultName,
        opener: Opener<'_>,
    ) -> Result<Verified<Self>, Error> {
        let proposal = Proposal::read(bytes, PROPOSAL_BYTES_MAX)?;
        approval::open(&proposal, manifest.content(), vault, opener, |plaintext| {
            let order = Self::from_cbor(plaintext)?;
            expect_id(&order, proposal.context())?;
            if order.vault() != vault {
                return Err(Error::PartsDiffer {
                    what: Self::WHAT,
                    why: "header and content differ in vault",
                });
            }
            order.check()?;
            Ok(order)
        })
    }
}

fn expect_id<T: Order>(order: &T, context: &Context) -> Result<(), Error> {
    if order.object_id() == context.id {
        Ok(())
    } else {
        Err(Error::PartsDiffer {
            what: T::WHAT,
            why: "header and content differ in id",
        })
    }
}

/// The id of the numbered order of a vault: `<prefix>-<number>-<mark>`, the mark being the first 8 hexadecimal digits of
/// the SHA-256 of `<site>/<vault>`, since drafts for many vaults lie on one stick.
pub(crate) fn numbered_id(prefix: &str, number: u64, vault: &VaultName) -> String {
    let mark = Fingerprint::of(vault.to_string().as_bytes()).to_string();
    format!("{prefix}-{number}-{}", mark.get(..8).unwrap_or(&mark))
}

/// Whether an order can state this reason: 1 to [`REASON_CHARACTERS_MAX`] characters, none of them a control character.
pub fn is_reason(text: &str) -> bool {
    (1..=REASON_CHARACTERS_MAX).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
}

/// What a reason is, for whoever gave something else.
pub const REASON_RULE: &str =
    "a reason is 1 to 200 characters of plain text, in one line and not blanks alone";

/// Whether somebody can give this as a reason: [`is_reason`], and blanks alone are none. It is asked where a reason is given, and not
/// where one is read, since logs hold what was given before.
pub fn may_give_reason(text: &str) -> bool {
    is_reason(text) && !text.trim().is_empty()
}

/// Refuses what is no reason.
pub(crate) fn expect_reason(what: &'static str, reason: &str) -> Result<(), Error> {
    if !is_reason(reason) {
        return Err(Error::Shape {
            what,
            why: format!("its reason is not 1 to {REASON_CHARACTERS_MAX} characters of plain text"),
        });
    }
    Ok(())
}

/// Refuses a number of 0: orders of a kind count from 1.
pub(crate) fn expect_number(what: &'static str, number: u64) -> Result<(), Error> {
    if number == 0 {
        let why = "its number is 0, and numbers count from 1".to_owned();
        return Err(Error::Shape { what, why });
    }
    Ok(())
}
