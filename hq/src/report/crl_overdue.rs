//! CRLs that should have come by now: a vault that takes devices back signs a CRL before it seals the next bundle, and every
//! bundle brings one.

use mintmark_console::Failure;
use mintmark_console::time::rfc3339;
use mintmark_protocol::bundle::CRL_BYTES_MAX;
use mintmark_protocol::revocation::Target;
use rusqlite::Connection;
use serde_json::json;

use super::overdue::{finding, unreported_days};
use crate::clock::DAY_SECONDS;
use crate::findings::{Finding, Severity};
use crate::registry::vaults::Vault;
use crate::registry::{bundles, crls, device_cas, orders};

/// Bundles that may come without it.
const BUNDLES_WITHOUT_MAX: usize = 1;
/// The most that one entry of a CRL takes (RFC 5280 section 5.1): a serial of 17 bytes, a time, and why.
const ENTRY_BYTES_MAX: u64 = 54;
/// What it has beside its entries, at most.
const CRL_REST_BYTES_MAX: u64 = 4096;

/// What a vault took back long ago, and no CRL names that came home since.
pub(super) fn of(
    sql: &Connection,
    vault: &Vault,
    days: Option<u64>,
    now: u64,
) -> Result<Vec<Finding>, Failure> {
    let name = &vault.name;
    let left_out = crls::left_out(sql, name)?;
    if left_out.is_empty() {
        return Ok(Vec::new());
    }
    let mut held = bundles::of_vault(sql, name)?;
    held.retain(|bundle| bundle.imported_at <= now);
    let device_cas = device_cas::granted(sql, name)?;
    let days = unreported_days(sql, vault, days)?;
    // A bundle has room for the CRL of one device CA.
    let without_max = BUNDLES_WITHOUT_MAX.max(device_cas.len().saturating_sub(1));
    let mut found = Vec::new();
    for left_out in left_out {
        // The root's CRL ends everything that it certified.
        if orders::is_revoked(sql, name, &Target::DeviceCa(left_out.device_ca))? {
            continue;
        }
        let with_it = |bundle: &bundles::Held| bundle.log_size > left_out.first_record;
        let Some(at) = held.iter().position(with_it) else {
            continue;
        };
        let since = held.get(at).map_or(now, |bundle| bundle.imported_at);
        let later = held.len().saturating_sub(at).saturating_sub(1);
        let due = since.saturating_add(days.saturating_mul(DAY_SECONDS));
        if now <= due || later <= without_max {
            continue;
        }
        // One that no bundle has room for stays at its vault, which says so there.
        let bytes = crls::entries(sql, name, &left_out)?.saturating_mul(ENTRY_BYTES_MAX);
        if bytes.saturating_add(CRL_REST_BYTES_MAX) > CRL_BYTES_MAX as u64 {
            continue;
        }
        let generation = device_cas
            .iter()
            .find(|device_ca| device_ca.fingerprint() == Some(left_out.device_ca))
            .map(|device_ca| device_ca.generation);
        let of = generation.map_or("a device CA".to_owned(), |of| format!("device CA {of}"));
        let count = left_out.count;
        found.push(Finding {
            log_sequence: Some(left_out.first_record),
            evidence: json!({
                "device_ca": left_out.device_ca.to_string(),
                "generation": generation,
                "left_out": count,
                "devices": crls::devices(sql, name, &left_out)?,
                "since": rfc3339(since),
                "bundles": later,
                "days_max": days,
            }),
            text: format!(
                "{name}: {count} certificates of {of} were taken back, the first in record {} that came home at {}, and none of \
                 the {later} bundles since brought a CRL that names them",
                left_out.first_record,
                rfc3339(since)
            ),
            ..finding(vault, "CRL-OVERDUE", Severity::Minor)
        });
    }
    Ok(found)
}
