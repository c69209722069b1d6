//! A dispatch in a log, held against what headquarters sent: to the byte, and under the manifest of that moment.

use mintmark_console::Failure;
use mintmark_ledger::entry::{Content, Dispatch as Logged, ENTRY_BYTES_MAX, Trust, Verdict};
use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::Error;
use mintmark_protocol::acknowledgement::Acknowledgement;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::dispatch::Dispatch;
use mintmark_protocol::enrolment::EnrolmentGrant;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Verified, claim};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::trust::TrustManifest;

use super::{Checks, Mismatch};
use crate::failure;
use crate::registry::dispatches::Sent;

/// What an entry needs beside the content that it holds, at most.
const CONTENT_SPARE_BYTES: usize = 1024;

impl Checks<'_> {
    /// A vault may log nothing but what HQ sent, to the byte.
    pub(super) fn dispatch(&self, logged: &Logged) -> Result<Option<Mismatch>, Failure> {
        let place = format!("dispatch {} of epoch {}", logged.sequence, logged.epoch);
        let found = format!(
            "{place}: {} `{}` version {} with fingerprint {}",
            logged.kind, logged.id, logged.version, logged.fingerprint
        );
        let Some(sent) = self.sent.get(&(logged.epoch, logged.sequence)) else {
            return Ok(Some((format!("no {place}: HQ sent none"), found)));
        };
        let named = (&logged.kind, &logged.id, logged.version, logged.fingerprint);
        if named != (&sent.kind, &sent.object, sent.version, sent.fingerprint) {
            let expected = format!(
                "{place}: {} `{}` version {} with fingerprint {}",
                sent.kind, sent.object, sent.version, sent.fingerprint
            );
            return Ok(Some((expected, found)));
        }
        let Verdict::Authentic(content) = &logged.content else {
            return Ok(None);
        };
        if self.is_what_was_sent(sent, content)? {
            return Ok(None);
        }
        let expected = format!("{place}: the content that HQ sent");
        Ok(Some((expected, format!("{place}: another content"))))
    }

    /// A vault follows what verifies under the manifest that its log has in force, and rejects what does not: HQ verifies
    /// what it sent again, under that manifest.
    pub(super) fn verdict(
        &self,
        logged: &Logged,
        trust: Option<&Trust>,
    ) -> Result<Option<Mismatch>, Failure> {
        let sent = self.sent.get(&(logged.epoch, logged.sequence));
        let (Some(sent), Some(trust)) = (sent, trust) else {
            return Ok(None);
        };
        let in_force = |manifest: &&Verified<TrustManifest>| {
            manifest.content().version == trust.version
                && manifest.fingerprint() == trust.fingerprint
        };
        // Where the manifest is none of HQ's, that is the finding.
        let Some(manifest) = self.manifests.iter().find(in_force) else {
            return Ok(None);
        };
        match &logged.content {
            Verdict::Authentic(_) => self.accepted(logged, sent, manifest),
            Verdict::Rejected { code } => self.rejected(logged, sent, manifest, code),
        }
    }

    /// Under another manifest an officer who has left would still be good for it, or a key that HQ has given up.
    fn accepted(
        &self,
        logged: &Logged,
        sent: &Sent,
        manifest: &Verified<TrustManifest>,
    ) -> Result<Option<Mismatch>, Failure> {
        let path = self
            .record
            .dispatch(&self.vault.name, sent.epoch, sent.sequence);
        let opened = Dispatch::open(&self.record.read(&path)?, manifest, &self.vault.name);
        let verified = opened.and_then(|dispatch| {
            match self.authentic_bytes(dispatch.content(), manifest) {
                Ok(Some(_)) => Ok(true),
                Ok(None) => Ok(false),
                // Signatures are verified before anything is decrypted; that it is what was sent, its commitment tells.
                Err(
                    Error::KeyOperation(_)
                    | Error::Random
                    | Error::NotRecipient { .. }
                    | Error::Decryption { .. },
                ) => Ok(true),
                Err(error) => Err(error),
            }
        });
        let why = match verified {
            Ok(true) => return Ok(None),
            Ok(false) => "its certificates are not those that officers approved".to_owned(),
            Err(error) => error.to_string(),
        };
        let place = format!("dispatch {} of epoch {}", logged.sequence, logged.epoch);
        Ok(Some((
            format!(
                "{place}: rejected, as the {} `{}` is not authentic under trust manifest {}: {why}",
                logged.kind,
                logged.id,
                manifest.content().version
            ),
            format!("{place}: taken for authentic"),
        )))
    }

    fn rejected(
        &self,
        logged: &Logged,
        sent: &Sent,
        manifest: &Verified<TrustManifest>,
        code: &str,
    ) -> Result<Option<Mismatch>, Failure> {
        let dispatch = self.kept(sent)?;
        let bytes = match self.authentic_bytes(&dispatch, manifest) {
            Ok(bytes) => bytes,
            Err(error @ (Error::KeyOperation(_) | Error::Random)) => {
                return Err(failure::protocol(error));
            }
            Err(_) => return Ok(None),
        };
        let oversize = bytes.is_some_and(|bytes| bytes + CONTENT_SPARE_BYTES > ENTRY_BYTES_MAX);
        if bytes.is_none() || (code == "CONTENT-OVERSIZE" && oversize) {
            return Ok(None);
        }
        let place = format!("dispatch {} of epoch {}", logged.sequence, logged.epoch);
        Ok(Some((
            format!(
                "{place}: the {} `{}`, which is authentic under trust manifest {}",
                logged.kind,
                logged.id,
                manifest.content().version
            ),
            format!("{place}: content that was rejected as {code}"),
        )))
    }

    /// How many bytes of content a vault logs of a dispatch that it finds authentic; none if its certificates are not
    /// those that were approved.
    fn authentic_bytes(
        &self,
        dispatch: &Dispatch,
        manifest: &Verified<TrustManifest>,
    ) -> Result<Option<usize>, Error> {
        let (bytes, vault, opener) = (&dispatch.content, &self.vault.name, self.opener);
        Ok(match dispatch.kind {
            Kind::EnrolmentGrant => {
                let grant = EnrolmentGrant::open(bytes, manifest, vault, opener)?;
                let [identity, device_ca] = dispatch.certificates.as_slice() else {
                    return Ok(None);
                };
                // The root may be another since.
                let roots = self.manifests.iter().filter_map(|manifest| {
                    Issuer::from_certificate_der(&manifest.content().root_certificate).ok()
                });
                let roots: Vec<_> = roots.collect();
                let fits = |der: &[u8], tbs: &[u8]| {
                    Certificate::from_der(der).is_ok_and(|certificate| {
                        let mut roots = roots.iter();
                        certificate.tbs_der() == tbs
                            && roots.any(|root| certificate.verify_issued_by(root).is_ok())
                    })
                };
                let approved = fits(identity, &grant.content().identity_tbs)
                    && fits(device_ca, &grant.content().device_ca_tbs);
                let certificates = identity.len() + device_ca.len();
                approved.then(|| grant.plaintext().len() + certificates)
            }
            Kind::Entitlement => {
                let entitlement = Entitlement::open(bytes, manifest, vault, opener)?;
                Some(entitlement.plaintext().len())
            }
            Kind::Acknowledgement => {
                let receipt = Acknowledgement::open(bytes, manifest, vault, opener)?;
                Some(receipt.plaintext().len())
            }
            Kind::Revocation => {
                let order = Revocation::open(bytes, manifest, vault, opener)?;
                Some(order.plaintext().len())
            }
            Kind::ClockCorrection => {
                let order = ClockCorrection::open(bytes, manifest, vault, opener)?;
                Some(order.plaintext().len())
            }
            Kind::Reanchor => {
                let order = Reanchor::open(bytes, manifest, vault, opener)?;
                Some(order.plaintext().len())
            }
            _ => None,
        })
    }

    /// The content has the fingerprint of what was sent, and is what that commits to.
    fn is_what_was_sent(&self, sent: &Sent, content: &Content) -> Result<bool, Failure> {
        let dispatch = self.kept(sent)?;
        let message = claim(&dispatch.content, dispatch.content.len());
        let message = message.map_err(failure::home_corrupt)?;
        let certificates = match content {
            Content::Grant {
                identity_certificate,
                device_ca_certificate,
                ..
            } => vec![identity_certificate, device_ca_certificate],
            _ => Vec::new(),
        };
        let expected_kind = match content {
            Content::Grant { .. } => "enrolment-grant",
            Content::Entitlement { .. } => "entitlement",
            Content::Acknowledgement { .. } => "acknowledgement",
            Content::Revocation { .. } => "revocation",
            Content::ClockCorrection { .. } => "clock-correction",
            Content::Reanchor { .. } => "re-anchor",
        };
        Ok(sent.kind == expected_kind
            && content.fingerprint() == message.fingerprint
            && message.context.commitment == Some(Fingerprint::of(content.plaintext()))
            && dispatch.certificates.iter().eq(certificates))
    }

    /// A dispatch as HQ sent it, from the record.
    pub(super) fn kept(&self, sent: &Sent) -> Result<Dispatch, Failure> {
        let vault = &self.vault.name;
        let path = self.record.dispatch(vault, sent.epoch, sent.sequence);
        let bytes = self.record.read(&path)?;
        // The dispatch key may have changed since: the manifests say which it was.
        let opened = self
            .manifests
            .iter()
            .rev()
            .find_map(|manifest| Dispatch::open(&bytes, manifest, vault).ok());
        match opened {
            Some(dispatch) if dispatch.fingerprint() == sent.fingerprint => {
                Ok(dispatch.into_content())
            }
            _ => Err(failure::home_corrupt(format!(
                "{} is not what was sent",
                path.display()
            ))),
        }
    }
}
