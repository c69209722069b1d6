//! A draft in words, for the person who is about to approve it.

use mintmark_console::time::rfc3339;
use mintmark_pki::Certificate;
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::thumbprint;
use mintmark_protocol::trust::{Officer, Role, TrustManifest};
use p256::PublicKey;
use p256::ecdsa::Signature;
use p256::pkcs8::DecodePublicKey as _;

use super::Content;

mod changes;
mod entitlement;
mod orders;

pub(crate) use self::changes::changes;
pub(crate) use self::entitlement::{differences, terms};

/// What a draft says, line by line.
pub(crate) fn describe(content: &Content) -> Vec<String> {
    match content {
        Content::Trust(manifest) => trust(manifest),
        Content::Grant(grant) => letting_in(grant),
        Content::Entitlement(entitlement) => terms(entitlement),
        Content::Revocation(revocation) => orders::revocation(revocation),
        Content::ClockCorrection(correction) => orders::clock_correction(correction),
        Content::Reanchor(reanchor) => orders::reanchor(reanchor),
    }
}

fn letting_in(grant: &EnrolmentGrant) -> Vec<String> {
    let mut lines = match &grant.purpose {
        Purpose::Enrolment => vec![format!("Let the vault {} in.", grant.vault)],
        Purpose::Rotation { generation } => vec![
            format!(
                "Give the vault {} its device CA of generation {generation}, and let it make new devices with that.",
                grant.vault
            ),
            "Certificates under its device CAs before stay good unless those are revoked."
                .to_owned(),
        ],
        Purpose::Succession(succession) => orders::succession(&grant.vault, succession),
    };
    lines.extend([
        "It asked with the enrolment request of this fingerprint:".to_owned(),
        format!("  {}", grant.request_fingerprint),
        "Compare the request's fingerprint with the operator if you can.".to_owned(),
        format!("Its log begins with lineage {}.", grant.lineage),
    ]);
    let parts = [
        ("identity", &grant.identity_tbs),
        ("device CA", &grant.device_ca_tbs),
    ];
    for (what, tbs) in parts {
        lines.push(format!("The root will sign its {what} certificate:"));
        lines.extend(to_be_signed(tbs));
    }
    lines.push("HQ's half of its serial numbers is the key `serial-master`:".to_owned());
    lines.push(format!("  key id    {}", thumbprint(&grant.serial_master)));
    match grant.asked() {
        Ok(request) => {
            lines.push("The request itself, which the vault signed, says:".to_owned());
            lines.push(format!("  made at   {}", rfc3339(request.made_at)));
            let keys = [
                ("signs with", &request.signing_key),
                ("agrees with", &request.agreement_key),
            ];
            for (what, key) in keys {
                lines.push(format!("  {what} key id {}", thumbprint(key)));
            }
            lines.push("What the vault says of its key store, in its own word:".to_owned());
            let facts = request.facts.iter();
            lines.extend(
                facts.map(|(name, fact)| format!("  {}: {}", one_line(name), one_line(fact))),
            );
        }
        Err(error) => lines.push(format!("ITS REQUEST IS UNREADABLE ({error}).")),
    }
    lines.push(format!(
        "To be approved before {}.",
        rfc3339(grant.approve_until)
    ));
    lines
}

/// What somebody else wrote, so that it cannot look like a line of ours.
fn one_line(text: &str) -> String {
    let escaped = |character: char| {
        let text = if character.is_control() {
            character.escape_default().to_string()
        } else {
            character.to_string()
        };
        text.chars().collect::<Vec<_>>()
    };
    text.chars().flat_map(escaped).collect()
}

/// A certificate that nobody has signed yet. A signature that stands for none makes it one that can be read.
pub(super) fn unsigned(tbs: &[u8]) -> Result<Certificate, String> {
    let none = Signature::from_scalars([1; 32], [1; 32]).map_err(|error| error.to_string())?;
    let der = mintmark_pki::assemble(tbs, &none).map_err(|error| error.to_string())?;
    Certificate::from_der(&der).map_err(|error| error.to_string())
}

/// The key that a certificate is for, if it is a P-256 key.
pub(super) fn key_of(certificate: &Certificate) -> Option<PublicKey> {
    PublicKey::from_public_key_der(certificate.spki_der()).ok()
}

fn to_be_signed(tbs: &[u8]) -> Vec<String> {
    let certificate = match unsigned(tbs) {
        Ok(certificate) => certificate,
        Err(error) => return vec![format!("  UNREADABLE ({error})")],
    };
    let kind = match (certificate.is_ca(), certificate.path_length()) {
        (true, Some(length)) => format!("a CA, path length {length}"),
        (true, None) => "a CA WITHOUT PATH LENGTH LIMIT".to_owned(),
        (false, _) => "no CA".to_owned(),
    };
    let key = match key_of(&certificate) {
        Some(key) => thumbprint(&key).to_string(),
        None => "NOT A P-256 KEY".to_owned(),
    };
    vec![
        format!("  subject   {}", certificate.subject()),
        format!("  kind      {kind}"),
        format!(
            "  valid     {} until {}",
            rfc3339(certificate.not_before_unix()),
            rfc3339(certificate.not_after_unix())
        ),
        format!("  key id    {key}"),
    ]
}

fn root_of(manifest: &TrustManifest) -> (String, String) {
    let subject = match Certificate::from_der(&manifest.root_certificate) {
        Ok(root) => root.subject(),
        Err(error) => format!("UNREADABLE ({error})"),
    };
    let fingerprint = Fingerprint::of(&manifest.root_certificate).to_string();
    (subject, fingerprint)
}

fn roles_of(officer: &Officer) -> String {
    let roles: Vec<&str> = officer.roles.iter().map(|role| role.as_str()).collect();
    if roles.is_empty() {
        "no role".to_owned()
    } else {
        roles.join(", ")
    }
}

fn key_ids(keys: &[PublicKey]) -> Vec<String> {
    keys.iter().map(|key| thumbprint(key).to_string()).collect()
}

fn trust(manifest: &TrustManifest) -> Vec<String> {
    let (subject, root) = root_of(manifest);
    let mut lines = vec![
        format!(
            "Trust manifest {} of {}.",
            manifest.version, manifest.hq_name
        ),
        format!("In force until {}.", rfc3339(manifest.expires_at)),
        format!("Root certificate {subject}:"),
        format!("  SHA-256   {root}"),
    ];
    for officer in &manifest.officers {
        lines.push(format!("Officer {}: {}.", officer.id, roles_of(officer)));
        for id in key_ids(&officer.signing_keys) {
            lines.push(format!("  signs     {id}"));
        }
        let agrees = thumbprint(&officer.agreement_key);
        lines.push(format!("  agrees    {agrees}"));
    }
    for role in Role::ALL {
        lines.push(format!(
            "To {}: {} of {} officers.",
            action(role),
            manifest.threshold(role),
            manifest.holders(role).count()
        ));
    }
    lines.push(format!(
        "HQ orders (epoch {}) and reports with the keys:",
        manifest.dispatch_epoch
    ));
    lines.push(format!(
        "  dispatch  {}",
        thumbprint(&manifest.dispatch_key)
    ));
    lines.push(format!("  report    {}", thumbprint(&manifest.report_key)));
    for key in &manifest.encryption_keys {
        let kind = if key.escrowed { "in escrow" } else { "in use" };
        lines.push(format!("HQ reads with the key `{}` ({kind}):", key.name));
        lines.push(format!("  key id    {}", thumbprint(&key.key)));
    }
    lines
}

fn action(role: Role) -> &'static str {
    match role {
        Role::Mint => "approve an entitlement",
        Role::Enrol => "let a vault in",
        Role::Revoke => "revoke",
        Role::Trust => "change who is trusted",
    }
}
