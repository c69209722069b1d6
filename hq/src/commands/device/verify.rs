//! `hq device verify`: a dossier or a certificate, judged with nothing but a trust manifest and a signed status.

use std::path::{Path, PathBuf};

use mintmark_console::time::rfc3339;
use mintmark_console::{Console, Exit, Failure, files, printable};
use mintmark_pki::{CERTIFICATE_FILE_BYTES_MAX, Certificate};
use mintmark_protocol::dossier::{DOSSIER_BYTES_MAX, DeviceState};
use mintmark_protocol::identifier::{Fingerprint, OfficerId};
use mintmark_protocol::status::{STATUS_BYTES_MAX, Status};
use mintmark_protocol::trust::TrustManifest;
use serde_json::{Value, json};

use crate::clock::{self, DAY_SECONDS};
use crate::commands::say;
use crate::failure;
use crate::trust::expiry_warning;
use crate::verdict::{Examined, Found, Trusted, Verdict, foreign, look_up};

/// What to judge, and by what.
pub(super) struct Evidence {
    /// A dossier or a certificate.
    pub(super) file: PathBuf,
    pub(super) trust: PathBuf,
    pub(super) fingerprint: Fingerprint,
    pub(super) status: Option<PathBuf>,
    pub(super) chain: Option<PathBuf>,
    /// How many days old the status may be; as old as it is if none is given.
    pub(super) age_days_max: Option<u64>,
}

/// The first octet of a COSE_Sign1: a dossier is one, and no certificate begins so.
const DOSSIER_OCTET: u8 = 0xd2;
/// With it begins whatever is DER.
const SEQUENCE: u8 = 0x30;
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END CERTIFICATE-----";

pub(super) fn run(evidence: &Evidence, console: &Console) -> Result<Exit, Failure> {
    let trusted = Trusted::read(&evidence.trust, &evidence.fingerprint)?;
    let now = clock::now_unix();
    if let Some(manifest) = trusted.newest()
        && let Some((code, text)) = expiry_warning(manifest, now)
    {
        console.warn_coded(code, text);
    }
    let status = match &evidence.status {
        None => None,
        Some(file) => {
            let bytes = files::read_limited(file, STATUS_BYTES_MAX as u64)?;
            Some(trusted.status(&bytes)?.into_content())
        }
    };
    let bytes = files::read_limited(&evidence.file, DOSSIER_BYTES_MAX as u64)?;
    let (certificate, mut issuers, examined) = if bytes.first() == Some(&DOSSIER_OCTET) {
        let examined = trusted.dossier(&bytes)?;
        let issuer = examined.dossier.content().device_ca.clone();
        (examined.certificate.clone(), vec![issuer], Some(examined))
    } else {
        let (certificate, issuers) = certificates(evidence, &bytes)?;
        (certificate, issuers, None)
    };
    for vault in status.iter().flat_map(|status| &status.vaults) {
        issuers.extend(vault.device_cas.iter().map(|of| of.certificate.clone()));
    }
    let device_ca = trusted
        .chain(&certificate, &issuers)
        .ok_or_else(|| foreign(&certificate))?;
    let manifest = trusted.newest();
    let outdated = Outdated::of(manifest, status.as_ref(), evidence.age_days_max, now);
    for (code, text) in &outdated.0 {
        console.warn_coded(code, text);
    }
    let found = status
        .as_ref()
        .map(|status| look_up(status, &certificate, &device_ca));
    let (mut verdict, state, made_at) = judged(status.as_ref(), found.as_ref(), examined.as_ref());
    let is_expired = manifest.is_some_and(|manifest| manifest.in_force(now).is_err());
    if verdict == Verdict::Genuine && (is_expired || !outdated.0.is_empty()) {
        verdict = Verdict::Outdated;
    }
    let status_age = status
        .as_ref()
        .map(|status| now.saturating_sub(status.made_at));
    let serial = hex::encode(certificate.serial());
    let json = json!({
        "schema": "mintmark/device-verdict/1",
        "verdict": verdict.as_str(),
        "state": state.map(|state| state.as_str()),
        "as_of": made_at.map(rfc3339),
        "status_made_at": status.as_ref().map(|status| rfc3339(status.made_at)),
        "status_age_days": status_age.map(|age| age / DAY_SECONDS),
        "status_trust_version": status.as_ref().map(|status| status.trust_version),
        "trust_version": manifest.map(|manifest| manifest.version),
        "trust_expires_at": manifest.map(|manifest| rfc3339(manifest.expires_at)),
        "trust_expired": is_expired,
        "chain": "valid",
        "serial": serial,
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "vault": found.as_ref().and_then(|found| found.vault.as_ref()).map(ToString::to_string),
        "not_before": rfc3339(certificate.not_before_unix()),
        "not_after": rfc3339(certificate.not_after_unix()),
        "dossier": examined.as_ref().map(dossier_json),
    });
    let mut lines = vec![match made_at {
        Some(made_at) => format!(
            "verdict      {}, as of {}",
            verdict.in_words(),
            rfc3339(made_at)
        ),
        None => format!("verdict      {}", verdict.in_words()),
    }];
    if let (Some(status), Some(age)) = (&status, status_age) {
        lines.push(format!(
            "status       of {}, {} days old",
            rfc3339(status.made_at),
            age / DAY_SECONDS
        ));
    }
    if let Some(state) = state {
        lines.push(format!("state        {state}"));
    }
    lines.push(format!("serial       {serial}"));
    lines.push(format!("subject      {}", certificate.subject()));
    lines.push(format!("issuer       {}", certificate.issuer()));
    lines.extend(examined.iter().flat_map(dossier_lines));
    if verdict == Verdict::Unaccounted {
        console.note(
            "a chain cannot know what headquarters granted: give its newest status (`hq status export`) with --status",
        );
    }
    say(console, &json, lines)?;
    Ok(match verdict {
        Verdict::Genuine => Exit::Done,
        _ => Exit::Negative,
    })
}

/// What the newest word of headquarters says, and as of when. A dossier is its word, too: one that is no older than the
/// status and speaks against the device is believed, and one that speaks for it never is.
fn judged(
    status: Option<&Status>,
    found: Option<&Found>,
    examined: Option<&Examined>,
) -> (Verdict, Option<DeviceState>, Option<u64>) {
    let made_at = status.map(|status| status.made_at);
    if let Some(dossier) = examined.map(|examined| examined.dossier.content())
        && dossier.state.state != DeviceState::Good
        && made_at.is_none_or(|made_at| dossier.made_at >= made_at)
    {
        let state = dossier.state.state;
        return (state.into(), Some(state), Some(dossier.made_at));
    }
    let verdict = found.map_or(Verdict::Unaccounted, |found| found.verdict);
    (verdict, found.and_then(|found| found.state), made_at)
}

/// Why a status says less than it seems to, by code.
struct Outdated(Vec<(&'static str, String)>);

impl Outdated {
    fn of(
        manifest: Option<&TrustManifest>,
        status: Option<&Status>,
        age_days_max: Option<u64>,
        now: u64,
    ) -> Self {
        let mut why = Vec::new();
        let Some(status) = status else {
            return Self(why);
        };
        if let Some(manifest) = manifest
            && status.trust_version < manifest.version
        {
            let text = format!(
                "the status was made under trust manifest {}, and this is {}: headquarters has a newer status",
                status.trust_version, manifest.version
            );
            why.push(("STATUS-BEFORE-TRUST", text));
        }
        let age_days = now.saturating_sub(status.made_at) / DAY_SECONDS;
        if let Some(age_days_max) = age_days_max
            && now.saturating_sub(status.made_at) > age_days_max.saturating_mul(DAY_SECONDS)
        {
            let text = format!(
                "the status is of {}, {age_days} days ago; it may be {age_days_max} days old",
                rfc3339(status.made_at)
            );
            why.push(("STATUS-AGED", text));
        }
        Self(why)
    }
}

/// The certificate of a device, and those that may have issued it: the others in the file, in that of --chain, and in the
/// one that `site issue` writes beside. None of them is believed.
fn certificates(evidence: &Evidence, bytes: &[u8]) -> Result<(Certificate, Vec<Vec<u8>>), Failure> {
    let mut blocks = blocks(bytes);
    let rest = blocks.split_off(1);
    let first = blocks.pop().unwrap_or_default();
    let certificate = Certificate::from_pem_or_der(&first).map_err(failure::pki)?;
    let mut issuers = rest;
    if let Some(chain) = &evidence.chain {
        issuers.extend(self::blocks(&read(chain)?));
    } else {
        let beside = evidence.file.with_extension("chain.pem");
        if beside.is_file() {
            issuers.extend(self::blocks(&read(&beside)?));
        }
    }
    let ders = issuers.iter().filter_map(|block| {
        let certificate = Certificate::from_pem_or_der(block).ok()?;
        Some(certificate.der().to_vec())
    });
    Ok((certificate, ders.collect()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = files::read_limited(path, CERTIFICATE_FILE_BYTES_MAX as u64)?;
    Ok(bytes)
}

/// The PEM blocks of a file, each by itself, be they whole or not; the whole file if it has none. There is one at least.
pub(super) fn blocks(bytes: &[u8]) -> Vec<Vec<u8>> {
    // DER is no text, and whatever text it carries is its own.
    if bytes.first() == Some(&SEQUENCE) && std::str::from_utf8(bytes).is_err() {
        return vec![bytes.to_vec()];
    }
    let at = |text: &[u8], mark: &[u8]| text.windows(mark.len()).position(|part| part == mark);
    let mut blocks = Vec::new();
    let mut rest = bytes;
    while let Some((_, block)) = at(rest, BEGIN).and_then(|start| rest.split_at_checked(start)) {
        let inside = block.get(BEGIN.len()..).unwrap_or_default();
        // One that is cut off ends where the next begins.
        let next = at(inside, BEGIN).map_or(block.len(), |next| next + BEGIN.len());
        let (block, after) = block.split_at_checked(next).unwrap_or((block, &[]));
        let end = at(block, END).map_or(block.len(), |end| end + END.len());
        blocks.push(block.get(..end).unwrap_or(block).to_vec());
        rest = after;
    }
    if blocks.is_empty() {
        blocks.push(bytes.to_vec());
    }
    blocks
}

fn dossier_json(examined: &Examined) -> Value {
    let (dossier, entries) = (examined.dossier.content(), &examined.entries);
    let approvers = dossier.entitlement.approvers.iter();
    json!({
        "made_at": rfc3339(dossier.made_at),
        "fingerprint": examined.dossier.fingerprint().to_string(),
        "device_id": entries.device_id,
        "product": entries.product,
        "site": dossier.vault.site.as_str(),
        "vault": dossier.vault.vault.as_str(),
        "station": entries.station,
        "slot": entries.slot,
        "issue": entries.issue,
        "reserved_at": rfc3339(entries.reserved_at),
        "issued_at": rfc3339(entries.issued_at),
        "log_sequence": examined.reserved_at_record,
        "lineage": dossier.lineage.to_string(),
        "log_size": dossier.checkpoint.size,
        "log_root": dossier.checkpoint.root.to_string(),
        "inclusion": "valid",
        "checkpoint_signature": if examined.checkpoint_signed { "valid" } else { "absent" },
        "entitlement": dossier.entitlement.id.as_str(),
        "entitlement_version": dossier.entitlement.version,
        "approvers": approvers.map(OfficerId::as_str).collect::<Vec<_>>(),
        "state": dossier.state.state.as_str(),
        "state_since": dossier.state.since.map(rfc3339),
        "reason": dossier.state.reason,
    })
}

fn dossier_lines(examined: &Examined) -> Vec<String> {
    let (dossier, entries) = (examined.dossier.content(), &examined.entries);
    let approvers = dossier.entitlement.approvers.iter();
    let approvers: Vec<_> = approvers.map(OfficerId::as_str).collect();
    let reason = dossier.state.reason.as_ref();
    let reason = reason.map_or(String::new(), |reason| format!(": {}", printable(reason)));
    vec![
        format!("device       {} of {}", entries.device_id, entries.product),
        format!(
            "made         {} at {}, station {}",
            rfc3339(entries.issued_at),
            dossier.vault,
            entries.station
        ),
        format!(
            "slot         {} (issue {}) of {}, version {}",
            entries.slot, entries.issue, dossier.entitlement.id, dossier.entitlement.version
        ),
        format!("approved by  {}", approvers.join(", ")),
        format!(
            "log          record {} of {}: in the tree under {}",
            examined.reserved_at_record, dossier.checkpoint.size, dossier.checkpoint.root
        ),
        format!(
            "checkpoint   {}",
            if examined.checkpoint_signed {
                "signed by the vault"
            } else {
                "signed by headquarters alone: the vault's bundle is too large to be in here"
            }
        ),
        format!(
            "dossier      of {}; then it was {}{reason}",
            rfc3339(dossier.made_at),
            dossier.state.state
        ),
    ]
}
