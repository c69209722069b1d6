//! What a message says of itself: its type, from whom and for whom it is, and its name.

use std::fmt;
use std::str::FromStr;

use super::Kind;
use crate::Error;
use crate::cbor::{Fields, Map};
use crate::identifier::{Fingerprint, OfficerId, SiteId, VaultId, VaultName};
/// Who a message is from, or for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Headquarters.
    Hq,
    /// Whoever pins the trust of this HQ.
    All,
    /// One vault.
    Vault(VaultName),
    /// One officer.
    Officer(OfficerId),
    /// The device whose key the message is encrypted to.
    Device,
    /// The auditor whose key the message is encrypted to.
    Auditor,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hq => f.write_str("hq"),
            Self::All => f.write_str("all"),
            Self::Vault(name) => write!(f, "vault:{name}"),
            Self::Officer(id) => write!(f, "officer:{id}"),
            Self::Device => f.write_str("device"),
            Self::Auditor => f.write_str("auditor"),
        }
    }
}

impl FromStr for Party {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` names no party", text.escape_default());
        match text {
            "hq" => return Ok(Self::Hq),
            "all" => return Ok(Self::All),
            "device" => return Ok(Self::Device),
            "auditor" => return Ok(Self::Auditor),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("vault:") {
            let (site, vault) = name.split_once('/').ok_or_else(wrong)?;
            let site = SiteId::from_str(site).map_err(|_| wrong())?;
            let vault = VaultId::from_str(vault).map_err(|_| wrong())?;
            return Ok(Self::Vault(VaultName { site, vault }));
        }
        let id = text.strip_prefix("officer:").ok_or_else(wrong)?;
        OfficerId::from_str(id)
            .map(Self::Officer)
            .map_err(|_| wrong())
    }
}

/// What a message says of itself in its protected header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Its type.
    pub kind: Kind,
    /// Who made it.
    pub sender: Party,
    /// Whom it is for.
    pub recipient: Party,
    /// Its name among those of its type, `[a-z0-9-]{1,64}`.
    pub id: String,
    /// SHA-256 of the plaintext, in the signed header of an encrypted message.
    pub commitment: Option<Fingerprint>,
}

impl Context {
    pub(super) fn to_map(&self) -> Map {
        Map::new()
            .with(1, crate::FORMAT_VERSION)
            .with(2, self.kind.as_str())
            .with(3, self.sender.to_string())
            .with(4, self.recipient.to_string())
            .with(5, self.id.as_str())
            .with_some(6, self.commitment.map(|digest| digest.as_bytes().to_vec()))
    }

    pub(super) fn from_fields(what: &'static str, mut fields: Fields) -> Result<Self, Error> {
        fields.format_version(1)?;
        let kind = fields.parse(2)?;
        let (sender, recipient) = (fields.parse(3)?, fields.parse(4)?);
        let id: crate::identifier::ObjectId = fields.parse(5)?;
        let commitment = match fields.optional(6) {
            None => None,
            Some(value) => {
                let bytes = value
                    .into_bytes()
                    .map_err(|_| fields.wrong(6, "not a byte string"))?;
                Some(Fingerprint::try_from(bytes.as_slice())?)
            }
        };
        fields.finish().map_err(|error| match error {
            Error::Shape { why, .. } => Error::Header { what, why },
            other => other,
        })?;
        Ok(Self {
            kind,
            sender,
            recipient,
            id: id.as_str().to_owned(),
            commitment,
        })
    }

    /// Checks that this is a message of type `kind` from `sender` to `recipient`.
    ///
    /// # Errors
    /// [`Error::WrongType`] and [`Error::WrongParty`].
    pub fn expect(
        &self,
        what: &'static str,
        kind: Kind,
        sender: &Party,
        recipient: &Party,
    ) -> Result<(), Error> {
        if self.kind != kind {
            let (expected, found) = (kind.to_string(), self.kind.to_string());
            return Err(Error::WrongType { expected, found });
        }
        for (role, expected, found) in [
            ("sender", sender, &self.sender),
            ("recipient", recipient, &self.recipient),
        ] {
            if expected != found {
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(Error::WrongParty {
                    what,
                    role,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Checks that an inner context is that of the outer one, which alone carries the commitment.
    pub(crate) fn expect_inner(&self, what: &'static str, inner: &Self) -> Result<(), Error> {
        let bare = Self {
            commitment: None,
            ..self.clone()
        };
        if *inner == bare {
            Ok(())
        } else {
            Err(Error::PartsDiffer {
                what,
                why: "the signed and the encrypted header differ",
            })
        }
    }
}
