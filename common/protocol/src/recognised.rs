//! What a file seems to be, for whoever gave a command another one than it takes. Nothing is verified here, and nothing that is
//! found out is to be believed: it makes a hint, and no more.

use std::fmt;

use crate::approval::Proposal;
use crate::envelope::{Kind, claim};

/// A file that is larger is not looked at.
pub const RECOGNISED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a file seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recognised {
    /// What officers are asked to approve.
    Draft(Kind),
    /// The same with signatures of officers: an approval, or what was finished.
    Approved(Kind),
    /// Any other message.
    Message(Kind),
    /// A policy in TOML.
    Policy,
    /// A PKCS#10 certification request.
    CertificationRequest,
    /// A certificate.
    Certificate,
    /// A certificate revocation list.
    RevocationList,
    /// A public key in PEM.
    PublicKey,
    /// A private key in PEM.
    PrivateKey,
}

impl Recognised {
    /// Looks at a file; none if it is nothing that is known.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > RECOGNISED_BYTES_MAX {
            return None;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::of_text(text),
            Err(_) => Self::of_der(bytes).or_else(|| Self::of_message(bytes)),
        }
    }

    /// What to say of a file that was given to a command which takes others: what it is, and which command takes it. None if it
    /// is not known, or one of those that `takes` names.
    #[must_use]
    pub fn correction(bytes: &[u8], takes: impl Fn(Self) -> bool) -> Option<String> {
        let found = Self::of(bytes).filter(|found| !takes(*found))?;
        Some(format!("it is {found}: {}", found.taken_by()))
    }

    /// By the first element of the first element: RFC 2986 section 4.1, RFC 5280 sections 4.1 and 5.1.
    fn of_der(bytes: &[u8]) -> Option<Self> {
        match inside(inside(bytes)?)? {
            [0xa0, ..] => Some(Self::Certificate),
            [0x02, 0x01, 0x00, 0x30, ..] => Some(Self::CertificationRequest),
            [0x02, 0x01, 0x01, 0x30, ..] => Some(Self::RevocationList),
            _ => None,
        }
    }

    fn of_message(bytes: &[u8]) -> Option<Self> {
        let kind = claim(bytes, RECOGNISED_BYTES_MAX).ok()?.context.kind;
        Some(match Proposal::read(bytes, RECOGNISED_BYTES_MAX) {
            Ok(proposal) if proposal.signature_count() == 0 => Self::Draft(kind),
            Ok(_) => Self::Approved(kind),
            Err(_) => Self::Message(kind),
        })
    }

    fn of_text(text: &str) -> Option<Self> {
        let mut labels = text.lines().filter_map(|line| {
            line.trim_end()
                .strip_prefix("-----BEGIN ")?
                .strip_suffix("-----")
        });
        if let Some(label) = labels.next() {
            return match label {
                "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                    Some(Self::CertificationRequest)
                }
                "CERTIFICATE" => Some(Self::Certificate),
                "X509 CRL" => Some(Self::RevocationList),
                "PUBLIC KEY" => Some(Self::PublicKey),
                _ if label.ends_with("PRIVATE KEY") => Some(Self::PrivateKey),
                _ => None,
            };
        }
        let has = |wanted: &str| {
            text.lines()
                .any(|line| line.trim_start().starts_with(wanted))
        };
        (has("schema") && has("[[product]]")).then_some(Self::Policy)
    }

    /// Which command takes such a file.
    #[must_use]
    pub fn taken_by(self) -> &'static str {
        match self {
            Self::Draft(_) => "`hq approval show` and `hq approval sign` take it",
            Self::Approved(Kind::TrustManifest) => {
                "`hq trust pin` and `site init` take a published manifest, `hq approval import` an approval of one"
            }
            Self::Approved(_) => "`hq approval import` takes it",
            Self::Message(Kind::OfficerRequest) => "`hq officer add --request` takes it",
            Self::Message(Kind::EnrolmentRequest) => {
                "`hq site enrol`, `hq site rotate` and `hq site succeed` take it, as --request"
            }
            Self::Message(Kind::Dispatch | Kind::LogTail) => {
                "it is for one vault: `site media import` takes the stick that it is on"
            }
            Self::Message(Kind::AuditBundle | Kind::RestoreDeclaration) => {
                "it is for headquarters: `hq media import` takes the stick that it is on"
            }
            Self::Message(Kind::AuditSegment) => {
                "it is a part of the bundle of the same name, and read with that"
            }
            Self::Message(Kind::DeviceSecret) => "it is for the device itself",
            Self::Message(Kind::Dossier) => "`hq device verify` takes it",
            Self::Message(Kind::Status) => "`hq device verify --status` takes it",
            Self::Message(Kind::Report) => "`hq report verify` takes it",
            Self::Message(Kind::AuditGrant) => "`hq audit verify` takes it",
            Self::Message(_) => "no command takes it by itself",
            Self::Policy => {
                "`hq policy check` takes it, and `hq entitlement draft` and `amend` as --policy"
            }
            Self::CertificationRequest => "`site issue` and `site request` take it, as --csr",
            Self::Certificate => "`hq device show` and `hq device verify` take it",
            Self::RevocationList => "it is for whoever checks devices, beside their certificates",
            Self::PublicKey => {
                "`hq init --escrow-key` and `hq audit grant --auditor` take a P-256 one"
            }
            Self::PrivateKey => {
                "no command takes it: keys are named by URI, and stay in their token or folder"
            }
        }
    }
}

/// What follows the header of a SEQUENCE in DER (X.690 section 8.1.3).
fn inside(bytes: &[u8]) -> Option<&[u8]> {
    let (&[0x30, length], rest) = bytes.split_first_chunk()? else {
        return None;
    };
    match length {
        0..=0x7f => Some(rest),
        0x81..=0x84 => rest.get(usize::from(length & 0x7f)..),
        _ => None,
    }
}

impl fmt::Display for Recognised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draft(kind) => write!(f, "a draft of type `{kind}`, for officers to approve"),
            Self::Approved(kind) => write!(f, "a message of type `{kind}` that officers signed"),
            Self::Message(kind) => write!(f, "a message of type `{kind}`"),
            Self::Policy => f.write_str("a policy"),
            Self::CertificationRequest => f.write_str("a certification request"),
            Self::Certificate => f.write_str("a certificate"),
            Self::RevocationList => f.write_str("a certificate revocation list"),
            Self::PublicKey => f.write_str("a public key"),
            Self::PrivateKey => f.write_str("a private key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_known_by_their_labels_and_a_policy_by_its_tables() {
        let pem = |label: &str| {
            format!("# made by hand\n-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
        };
        for (text, expected) in [
            (
                pem("CERTIFICATE REQUEST"),
                Some(Recognised::CertificationRequest),
            ),
            (pem("CERTIFICATE"), Some(Recognised::Certificate)),
            (pem("X509 CRL"), Some(Recognised::RevocationList)),
            (pem("PUBLIC KEY"), Some(Recognised::PublicKey)),
            (pem("ENCRYPTED PRIVATE KEY"), Some(Recognised::PrivateKey)),
            (pem("OTHER"), None),
            (
                "schema = 1\nid = \"x\"\n[[product]]\n".to_owned(),
                Some(Recognised::Policy),
            ),
            ("schema = 1\n".to_owned(), None),
            ("dear".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Recognised::of(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_in_der_is_known_by_its_beginning() {
        for (bytes, expected) in [
            (
                &[0x30, 0x82, 1, 0, 0x30, 0x81, 0xf0, 0x02, 1, 0, 0x30, 0xff][..],
                Some(Recognised::CertificationRequest),
            ),
            (
                &[0x30, 0x82, 1, 0, 0x30, 0x7f, 0xa0, 0x03, 0xff],
                Some(Recognised::Certificate),
            ),
            (
                &[0x30, 0x81, 9, 0x30, 0x7f, 0x02, 1, 1, 0x30, 0xff],
                Some(Recognised::RevocationList),
            ),
            (&[0x30, 0x84, 1], None),
            (&[0x30, 0xff, 0x30], None),
            (&[0x30], None),
        ] {
            assert_eq!(Recognised::of(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_larger_than_anything_that_is_known_is_not_looked_at() {
        let mut text = String::from("-----BEGIN PUBLIC KEY-----\n");
        text.push_str(&" ".repeat(RECOGNISED_BYTES_MAX - text.len()));
        assert_eq!(Recognised::of(text.as_bytes()), Some(Recognised::PublicKey));
        text.push(' ');
        assert_eq!(Recognised::of(text.as_bytes()), None);
    }

    #[test]
    fn noise_is_nothing() {
        for bytes in [&[0xff, 0xfe][..], &[0xd2, 0x84], &[0xd8, 0x62, 0x84, 0xff]] {
            assert_eq!(Recognised::of(bytes), None);
        }
    }

    #[test]
    fn every_message_says_who_takes_it() {
        for kind in [
            Kind::Entitlement,
            Kind::TrustManifest,
            Kind::Dispatch,
            Kind::Dossier,
        ] {
            for of in [
                Recognised::Draft(kind),
                Recognised::Approved(kind),
                Recognised::Message(kind),
            ] {
                assert!(!of.taken_by().is_empty());
                assert!(of.to_string().contains(kind.as_str()), "{of}");
            }
        }
    }
}
