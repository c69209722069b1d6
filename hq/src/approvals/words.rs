//! A draft in words, for the person who is about to approve it.

use mintmark_console::time::rfc3339;
use mintmark_pki::Certificate;
use mintmark_protocol::entitlement::{Entitlement, ProductTerms};
use mintmark_protocol::trust::{Role, TrustManifest};

use p256::ecdsa::Signature;

use super::Content;

/// What a draft says, line by line.
pub(crate) fn describe(content: &Content) -> Vec<String> {
    match content {
        Content::Trust(manifest) => trust(manifest),
        Content::Grant(grant) => {
            let mut lines = vec![
                format!("Let the vault {} in.", grant.vault),
                format!(
                    "It asked with the enrolment request {}.",
                    grant.request_fingerprint
                ),
                format!("Its log begins with lineage {}.", grant.lineage),
            ];
            let parts = [
                ("identity", &grant.identity_tbs),
                ("device CA", &grant.device_ca_tbs),
            ];
            for (what, tbs) in parts {
                lines.push(format!(
                    "The root will sign its {what} certificate: {}.",
                    to_be_signed(tbs)
                ));
            }
            lines.push(format!(
                "To be approved before {}.",
                rfc3339(grant.approve_until)
            ));
            lines
        }
        Content::Entitlement(entitlement) => terms(entitlement),
    }
}

/// What a certificate that nobody has signed yet will say. A signature that stands for none makes it one that can be
/// read.
fn to_be_signed(tbs: &[u8]) -> String {
    let read = || -> Result<Certificate, String> {
        let none = Signature::from_scalars([1; 32], [1; 32]).map_err(|error| error.to_string())?;
        let der = mintmark_pki::assemble(tbs, &none).map_err(|error| error.to_string())?;
        Certificate::from_der(&der).map_err(|error| error.to_string())
    };
    match read() {
        Ok(certificate) => {
            let kind = match (certificate.is_ca(), certificate.path_length()) {
                (true, Some(length)) => format!("a CA, path length {length}"),
                (true, None) => "a CA WITHOUT PATH LENGTH LIMIT".to_owned(),
                (false, _) => "no CA".to_owned(),
            };
            format!("{}, {kind}", certificate.subject())
        }
        Err(error) => format!("UNREADABLE ({error})"),
    }
}

fn trust(manifest: &TrustManifest) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Trust manifest {} of {}.",
            manifest.version, manifest.hq_name
        ),
        format!("In force until {}.", rfc3339(manifest.expires_at)),
    ];
    for officer in &manifest.officers {
        let roles: Vec<&str> = officer.roles.iter().map(|role| role.as_str()).collect();
        lines.push(format!("Officer {}: {}.", officer.id, roles.join(", ")));
    }
    for role in Role::ALL {
        lines.push(format!(
            "To {}: {} of {} officers.",
            action(role),
            manifest.threshold(role),
            manifest.holders(role).count()
        ));
    }
    for key in &manifest.encryption_keys {
        let kind = if key.escrowed { "in escrow" } else { "in use" };
        let id = mintmark_protocol::key::thumbprint(&key.key);
        lines.push(format!(
            "HQ reads with the key `{}` ({kind}), {id}.",
            key.name
        ));
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

/// An entitlement's terms in words.
pub(crate) fn terms(entitlement: &Entitlement) -> Vec<String> {
    let mut lines = vec![
        format!(
            "Entitlement {} (version {}) for the vault {}.",
            entitlement.id, entitlement.version, entitlement.vault
        ),
        format!(
            "From {} until {}.",
            rfc3339(entitlement.window.from),
            rfc3339(entitlement.window.until)
        ),
        format!(
            "The vault stops with more than {} units unreported, or one unreported for more than {} days.",
            entitlement.credit.unreported_units_max, entitlement.credit.unreported_days_max
        ),
    ];
    for product in &entitlement.products {
        lines.push(format!("{}.", product_terms(product)));
    }
    lines.push(format!(
        "Drafted from the policy file with SHA-256 {}; to be approved before {}.",
        entitlement.policy_digest,
        rfc3339(entitlement.approve_until)
    ));
    lines
}

fn product_terms(product: &ProductTerms) -> String {
    let mut parts = vec![format!("{}: {} units in all", product.sku, product.units)];
    if let Some(units) = product.units_per_day {
        parts.push(format!("{units} a day"));
    }
    if let Some(units) = product.units_per_hour {
        parts.push(format!("{units} an hour"));
    }
    match &product.device_id_pattern {
        Some(pattern) => parts.push(format!("identifiers matching `{pattern}`")),
        None => parts.push("any identifier".to_owned()),
    }
    parts.push(format!("device keys {}", product.key_algorithms.join(", ")));
    if product.reissues_per_device > 0 {
        parts.push(format!(
            "{} re-issues per device",
            product.reissues_per_device
        ));
    }
    if let Some(stations) = &product.stations {
        let names: Vec<&str> = stations.iter().map(|station| station.as_str()).collect();
        parts.push(format!("only at {}", names.join(", ")));
    }
    if let Some(hours) = &product.working_hours {
        parts.push(format!("only within {} working periods", hours.len()));
    }
    let validity = match product.certificate.validity_days {
        Some(days) => format!("valid {days} days"),
        None => "without expiry".to_owned(),
    };
    parts.push(format!(
        "certificates `{}`, {validity}",
        product.certificate.subject
    ));
    if !product.certificate.extended_key_usage.is_empty() {
        parts.push(format!(
            "for {}",
            product.certificate.extended_key_usage.join(", ")
        ));
    }
    parts.join("; ")
}
