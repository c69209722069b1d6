//! What HQ's dispatches bring: their place in the chain, and the verification of their content.

use mintmark_ledger::entry::{self, Content, ENTRY_BYTES_MAX, Verdict};
use mintmark_ledger::serial::SerialCipher;
use mintmark_ledger::state::State;
use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::Error as Protocol;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::{Revocation, RevokedDevice, Target};
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;

use super::keyring::{Identity, device_ca_key};
use crate::failure::{Error, Result};

/// The code of a grant whose certificates the root did not make for this vault's keys.
const GRANT_CERTIFICATE: &str = "GRANT-CERTIFICATE";
/// The code of a revocation whose serial number is not that of the unit that it names.
const REVOCATION_SERIAL: &str = "REVOCATION-SERIAL";
/// The code of content that no log entry can hold.
const CONTENT_OVERSIZE: &str = "CONTENT-OVERSIZE";
/// Room in an entry for everything but the content's plaintext and certificates, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 1024;

/// An authentic dispatch, by its place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It was followed before.
    Already,
    /// It is the one that comes next.
    Next,
}

/// Where an authentic dispatch stands. `epoch_first` is the epoch that counts before any dispatch was followed.
///
/// # Errors
/// DISPATCH-FORK and DISPATCH-CHAIN if HQ's chain contradicts itself; DISPATCH-EPOCH and DISPATCH-GAP if something
/// comes before it; DISPATCH-EPOCH-OVER if its time is past.
pub(crate) fn place(
    state: &State,
    epoch_first: u64,
    dispatch: &Verified<Dispatch>,
) -> Result<Place> {
    let (content, name) = (dispatch.content(), dispatch.content().object_id());
    if let Some(known) = state
        .dispatches()
        .seen
        .get(&(content.epoch, content.sequence))
    {
        if *known == dispatch.fingerprint() {
            return Ok(Place::Already);
        }
        return Err(fork(&name));
    }
    let expected = state.next_dispatch();
    let epoch = expected.epoch.unwrap_or(epoch_first);
    if content.epoch < epoch {
        return Err(epoch_over(&name, content.epoch, epoch));
    }
    if content.epoch != epoch {
        let message = format!(
            "{name} belongs to epoch {}, and epoch {epoch} is open",
            content.epoch
        );
        return Err(Error::environment("DISPATCH-EPOCH", message)
            .hint("import a full HQ export, with the trust manifest that opens the epoch"));
    }
    let next = expected.sequence;
    if content.sequence != next {
        let message = format!("{name} came before dispatch {next} of its epoch, which is missing");
        return Err(Error::environment("DISPATCH-GAP", message)
            .hint("import the medium that HQ exported before, or have HQ export again"));
    }
    if content.previous != expected.previous {
        let message = format!("{name} does not follow the dispatch that this vault has seen last");
        return Err(Error::integrity("DISPATCH-CHAIN", message)
            .hint("stop the line, keep the medium and tell your security officer"));
    }
    Ok(Place::Next)
}

/// The code of what belongs to an epoch that has ended.
pub(crate) const EPOCH_OVER: &str = "DISPATCH-EPOCH-OVER";

/// What was not seen to arrive before a new epoch goes out again in that epoch.
pub(crate) fn epoch_over(name: &str, epoch: u64, open: u64) -> Error {
    let message =
        format!("{name} belongs to epoch {epoch}, which ended when epoch {open} was opened");
    Error::negative(EPOCH_OVER, message).hint(
        "import the newest HQ export: it holds what this carried, in the epoch that is open; this file can go",
    )
}

/// Two authentic dispatches have one place.
pub(crate) fn fork(name: &str) -> Error {
    let message =
        format!("{name} is another one than the dispatch of that number that came before");
    Error::integrity("DISPATCH-FORK", message).hint(
        "stop the line, keep the medium and tell your security officer: headquarters has two histories",
    )
}

/// Whom and what a dispatch's content is judged by.
pub(crate) struct Judge<'a> {
    /// The manifest in force.
    pub(crate) manifest: &'a Verified<TrustManifest>,
    /// The roots of that manifest and of those before it: what a former one certified stays certified.
    pub(crate) roots: &'a [Issuer],
    /// This vault.
    pub(crate) vault: &'a VaultName,
    /// The keys that a grant must be for.
    pub(crate) identity: &'a Identity,
    /// What makes serial numbers; needed for a revocation.
    pub(crate) serials: Option<&'a SerialCipher>,
    /// What decrypts.
    pub(crate) opener: Opener<'a>,
}

impl Judge<'_> {
    /// Verifies the content of an authentic dispatch that comes next: the input of the ledger's decision.
    ///
    /// # Errors
    /// Only what is not the content's fault: the token failed, or this program is too old to read it.
    pub(crate) fn verify(&self, dispatch: &Verified<Dispatch>) -> Result<entry::Dispatch> {
        let message = dispatch.content();
        let verdict = match self.content(message) {
            Ok(content) if plaintext_bytes(&content) + ENTRY_OVERHEAD_BYTES > ENTRY_BYTES_MAX => {
                rejected(CONTENT_OVERSIZE)
            }
            Ok(content) => Verdict::Authentic(content),
            Err(Refused::Code(code)) => rejected(code),
            Err(Refused::Protocol(error)) => match error {
                Protocol::KeyOperation(_) | Protocol::Random | Protocol::FormatVersion { .. } => {
                    return Err(error.into());
                }
                error => rejected(error.code()),
            },
        };
        Ok(entry::Dispatch {
            epoch: message.epoch,
            sequence: message.sequence,
            fingerprint: dispatch.fingerprint(),
            kind: message.kind.as_str().to_owned(),
            id: label(&message.id),
            version: message.version,
            content: verdict,
        })
    }

    fn content(&self, message: &Dispatch) -> std::result::Result<Content, Refused> {
        let (bytes, manifest, vault) = (&message.content, self.manifest, self.vault);
        match message.kind {
            Kind::EnrolmentGrant => {
                let grant = EnrolmentGrant::open(bytes, manifest, vault, self.opener)?;
                let (identity, device_ca) = self.certificates(message, grant.content())?;
                Ok(Content::Grant {
                    fingerprint: grant.fingerprint(),
                    plaintext: grant.plaintext().to_vec(),
                    identity_certificate: identity.to_vec(),
                    device_ca_certificate: device_ca.to_vec(),
                })
            }
            Kind::Entitlement => {
                let entitlement = Entitlement::open(bytes, manifest, vault, self.opener)?;
                Ok(Content::Entitlement {
                    fingerprint: entitlement.fingerprint(),
                    plaintext: entitlement.plaintext().to_vec(),
                })
            }
            Kind::Acknowledgement => {
                let receipt = Acknowledgement::open(bytes, manifest, vault, self.opener)?;
                Ok(Content::Acknowledgement {
                    fingerprint: receipt.fingerprint(),
                    plaintext: receipt.plaintext().to_vec(),
                })
            }
            Kind::Revocation => {
                let revocation = Revocation::open(bytes, manifest, vault, self.opener)?;
                self.expect_serials(&revocation.content().target)?;
                Ok(Content::Revocation {
                    fingerprint: revocation.fingerprint(),
                    plaintext: revocation.plaintext().to_vec(),
                })
            }
            Kind::ClockCorrection => {
                let correction = ClockCorrection::open(bytes, manifest, vault, self.opener)?;
                Ok(Content::ClockCorrection {
                    fingerprint: correction.fingerprint(),
                    plaintext: correction.plaintext().to_vec(),
                })
            }
            Kind::Reanchor => {
                let reanchor = Reanchor::open(bytes, manifest, vault, self.opener)?;
                Ok(Content::Reanchor {
                    fingerprint: reanchor.fingerprint(),
                    plaintext: reanchor.plaintext().to_vec(),
                })
            }
            other => Err(Refused::Protocol(Protocol::WrongType {
                expected: "something that HQ sends to a vault".to_owned(),
                found: other.to_string(),
            })),
        }
    }

    /// What officers read is the serial number of a device; what is followed is its place.
    fn expect_serials(&self, target: &Target) -> std::result::Result<(), Refused> {
        let Target::Devices(devices) = target else {
            return Ok(());
        };
        let right = |device: &RevokedDevice| {
            let (account, slot, issue) = device.place();
            self.serials
                .is_some_and(|serials| serials.serial(account, slot, issue) == device.serial)
        };
        if devices.iter().all(right) {
            return Ok(());
        }
        Err(Refused::Code(REVOCATION_SERIAL))
    }

    /// The certificates that came with a grant: made by the root, for this vault's keys, and nothing else than what the
    /// officers approved.
    fn certificates<'m>(
        &self,
        message: &'m Dispatch,
        grant: &EnrolmentGrant,
    ) -> std::result::Result<(&'m [u8], &'m [u8]), Refused> {
        let refused = Refused::Code(GRANT_CERTIFICATE);
        let [identity, device_ca] = message.certificates.as_slice() else {
            return Err(refused);
        };
        let roots = self.roots;
        let fits = |der: &[u8], tbs: &[u8], key: &PublicKey| {
            Certificate::from_der(der).is_ok_and(|certificate| {
                certificate.tbs_der() == tbs
                    && roots
                        .iter()
                        .any(|root| certificate.verify_issued_by(root).is_ok())
                    && PublicKey::from_public_key_der(certificate.spki_der())
                        .is_ok_and(|found| found == *key)
            })
        };
        let own = self.identity;
        // Of a rotation, the key stands in the request that the grant answers; that it is this vault's newest one, the
        // ledger decides by its fingerprint.
        let asked = match &grant.purpose {
            Purpose::Rotation { .. } => device_ca_key(&grant.asked()?).ok(),
            Purpose::Enrolment | Purpose::Succession(_) => Some(own.device_ca),
        };
        if fits(identity, &grant.identity_tbs, &own.sign)
            && asked.is_some_and(|asked| fits(device_ca, &grant.device_ca_tbs, &asked))
        {
            Ok((identity, device_ca))
        } else {
            Err(refused)
        }
    }
}

/// Why content is not authentic.
enum Refused {
    Protocol(Protocol),
    Code(&'static str),
}

impl From<Protocol> for Refused {
    fn from(error: Protocol) -> Self {
        Self::Protocol(error)
    }
}

fn rejected(code: &str) -> Verdict {
    Verdict::Rejected {
        code: code.to_owned(),
    }
}

fn plaintext_bytes(content: &Content) -> usize {
    let certificates = match content {
        Content::Grant {
            identity_certificate,
            device_ca_certificate,
            ..
        } => identity_certificate.len() + device_ca_certificate.len(),
        _ => 0,
    };
    content.plaintext().len() + certificates
}

/// The id of a dispatch's content, as the log can hold it. HQ signed it; it is a label and decides nothing.
fn label(id: &str) -> String {
    id.chars()
        .filter(|c| c.is_ascii_graphic())
        .take(entry::TEXT_BYTES_MAX)
        .collect()
}
