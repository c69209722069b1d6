//! Headquarters' own restore: its home was put back from an older copy, and what was sent and received since is forgotten.
//!
//! Officers declare it with `hq trust epoch`: a manifest that opens another dispatch epoch under the same dispatch key. In
//! that epoch every vault is told which of its bundles headquarters holds, and carries all later ones again; what they say of
//! dispatches before that epoch, and headquarters does not know, is what it has forgotten.

use std::ops::RangeInclusive;

use mintmark_console::Failure;
use mintmark_console::time::rfc3339;
use mintmark_ledger::entry::{Content, Dispatch as Logged, Verdict};
use mintmark_pki::{Certificate, Issuer};
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::clock_correction::ClockCorrection;
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::envelope::{Kind, Verified};
use mintmark_protocol::identifier::{Fingerprint, VaultName};
use mintmark_protocol::order::Order;
use mintmark_protocol::reanchor::Reanchor;
use mintmark_protocol::revocation::Revocation;
use mintmark_protocol::trust::TrustManifest;
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;
use rusqlite::Connection;
use serde_json::json;

use crate::failure;
use crate::findings::{Finding, Severity};
use crate::registry::device_cas::{self, DeviceCa};
use crate::registry::drafts::{self, Draft, State};
use crate::registry::orders::{self, Listed};
use crate::registry::vaults::{self, Certificates, Vault};
use crate::registry::{dispatches, entitlements};

/// The finding of a dispatch that headquarters has forgotten.
pub(crate) const DISPATCH_FORGOTTEN: &str = "DISPATCH-FORGOTTEN";
/// The finding of an entitlement that it has forgotten, and that is in force.
const ENTITLEMENT_FORGOTTEN: &str = "ENTITLEMENT-FORGOTTEN";
/// The finding of bundles that it has forgotten, and that nobody has any more.
const BUNDLES_FORGOTTEN: &str = "BUNDLES-FORGOTTEN";
/// Sequences that one finding names one by one; its first and its last are always named.
const SEQUENCES_MAX: usize = 10_000;
/// The code of a vault that has not reported since.
pub(crate) const UNREPORTED: &str = "RESTORE-UNREPORTED";
/// The finding, and the refusal, of a dispatch that headquarters does not know.
pub(crate) const DISPATCH_UNKNOWN: &str = "DISPATCH-UNKNOWN";

/// The newest epoch that was opened by declaration: the manifest that opened it has the dispatch key of the one before.
/// None if there is none.
pub(crate) fn declared(manifests: &[Verified<TrustManifest>]) -> Option<u64> {
    declaration(manifests).map(|manifest| manifest.dispatch_epoch)
}

/// The manifest that opened it.
pub(crate) fn declaration(manifests: &[Verified<TrustManifest>]) -> Option<&TrustManifest> {
    around_declaration(manifests).map(|(_, after)| after)
}

/// The epoch in which it was declared: what was claimed of one before that came before headquarters was restored.
pub(crate) fn declared_in(manifests: &[Verified<TrustManifest>]) -> Option<u64> {
    around_declaration(manifests).map(|(before, _)| before.dispatch_epoch)
}

/// The manifest that opened it, and the one before.
fn around_declaration(
    manifests: &[Verified<TrustManifest>],
) -> Option<(&TrustManifest, &TrustManifest)> {
    let pairs = manifests.iter().zip(manifests.iter().skip(1));
    let mut opened = pairs.filter_map(|(before, after)| {
        let (before, after) = (before.content(), after.content());
        let declared = after.dispatch_epoch > before.dispatch_epoch
            && after.dispatch_key == before.dispatch_key;
        declared.then_some((before, after))
    });
    // Epochs never go back.
    opened.next_back()
}

/// The epoch that the newest declared restore opened, for a vault that was there before it: of one that was let in since,
/// nothing can be forgotten.
pub(crate) fn declared_to(
    sql: &Connection,
    manifests: &[Verified<TrustManifest>],
    vault: &VaultName,
) -> Result<Option<u64>, Failure> {
    let Some(epoch) = declared(manifests) else {
        return Ok(None);
    };
    let mut sent = dispatches::all(sql, vault)?.into_iter();
    Ok(sent.any(|sent| sent.epoch < epoch).then_some(epoch))
}

/// Whether a vault that was there before the newest declared restore has not reported anything since: then it is not
/// known which accounts, versions and numbers it has.
pub(crate) fn is_unreported(
    sql: &Connection,
    manifests: &[Verified<TrustManifest>],
    vault: &VaultName,
) -> Result<bool, Failure> {
    Ok(unreported_since(sql, manifests, vault)?.is_some())
}

/// The epoch that the newest declared restore opened, while a vault that was there before has not reported anything since.
pub(crate) fn unreported_since(
    sql: &Connection,
    manifests: &[Verified<TrustManifest>],
    vault: &VaultName,
) -> Result<Option<u64>, Failure> {
    let Some(epoch) = declared_to(sql, manifests, vault)? else {
        return Ok(None);
    };
    let seen = dispatches::seen_by_vault(sql, vault)?;
    Ok(seen.is_none_or(|(seen, _)| seen < epoch).then_some(epoch))
}

/// Bundles that headquarters has forgotten and their vault does not have any more, since another one brought their records.
pub(crate) fn bundles_forgotten(
    vault: &Vault,
    missing: RangeInclusive<u64>,
    (bundle, fingerprint): (&Bundle, &Fingerprint),
) -> Finding {
    let (first, last) = (*missing.start(), *missing.end());
    let which = if first == last {
        format!("bundle {first}")
    } else {
        format!("bundles {first} to {last}")
    };
    let sequences: Vec<u64> = missing.take(SEQUENCES_MAX).collect();
    Finding {
        vault: vault.name.clone(),
        lineage: bundle.lineage,
        log_sequence: None,
        code: BUNDLES_FORGOTTEN.to_owned(),
        severity: Severity::Note,
        serials: Vec::new(),
        evidence: json!({
            "first_sequence": first,
            "last_sequence": last,
            "sequences": sequences,
            "sequence": bundle.sequence,
            "bundle": fingerprint.to_string(),
            "first_record": bundle.first,
            "log_size": bundle.checkpoint.size,
        }),
        text: format!(
            "{which} of lineage {} came here before headquarters was restored from an older copy, and the vault does not \
             have what it sealed then any more: bundle {} brings every record again from record {} on, and nothing of the log \
             is missing. What is kept of {which} elsewhere, on sticks say, can be imported: it is held against the log",
            bundle.lineage, bundle.sequence, bundle.first
        ),
    }
}

/// Refuses to give out anything that such a vault may have had before: an account tag, a version.
pub(crate) fn expect_reported(
    sql: &Connection,
    manifests: &[Verified<TrustManifest>],
    vault: &VaultName,
) -> Result<(), Failure> {
    if !is_unreported(sql, manifests, vault)? {
        return Ok(());
    }
    let epoch = declared(manifests).unwrap_or_default();
    Err(failure::usage(
        UNREPORTED,
        format!(
            "headquarters was restored (dispatch epoch {epoch}), and {vault} has not reported since: it is not known \
             which accounts and versions it was given"
        ),
        "carry the sticks first: `hq media export`, there `site media import` and `site media export`, then `hq media \
         import`",
    ))
}

/// Warns that the number of an order for such a vault may be taken.
pub(crate) fn warning(
    sql: &Connection,
    manifests: &[Verified<TrustManifest>],
    vault: &VaultName,
) -> Result<Option<String>, Failure> {
    let warning = || {
        format!(
            "headquarters was restored, and {vault} has not reported since: if this order's number is taken there, the \
             vault refuses it, says so in its next report, and it is to be drafted again"
        )
    };
    Ok(is_unreported(sql, manifests, vault)?.then(warning))
}

/// A record that says that the vault was sent what headquarters does not know.
pub(crate) fn forgotten(vault: &Vault, log_sequence: u64, logged: &Logged) -> Finding {
    let Logged {
        epoch,
        sequence,
        fingerprint,
        kind,
        id,
        version,
        ..
    } = logged;
    let severity = if *kind == Kind::Acknowledgement.as_str() {
        Severity::Note
    } else {
        Severity::Minor
    };
    Finding {
        vault: vault.name.clone(),
        lineage: vault.lineage,
        log_sequence: Some(log_sequence),
        code: DISPATCH_FORGOTTEN.to_owned(),
        severity,
        serials: Vec::new(),
        evidence: json!({
            "epoch": epoch,
            "sequence": sequence,
            "fingerprint": fingerprint.to_string(),
            "type": kind,
            "id": id,
            "version": version,
        }),
        text: format!(
            "record {log_sequence}: dispatch {sequence} of epoch {epoch}, the {kind} `{id}` version {version}, is not in \
             headquarters' record: it was sent after the copy was made that headquarters was restored from"
        ),
    }
}

/// Takes what a forgotten dispatch brought into the registry, as the vault accepted it and its log has it: from here on it
/// counts as sent, so that no tag, version or number of it is given out again. Gives the finding of what officers are to
/// approve again, for their signatures are not in the log.
pub(crate) fn adopt(
    sql: &Connection,
    vault: &Vault,
    manifests: &[Verified<TrustManifest>],
    (log_sequence, time): (u64, u64),
    logged: &Logged,
) -> Result<Option<Finding>, Failure> {
    let Verdict::Authentic(content) = &logged.content else {
        return Ok(None);
    };
    let fingerprint = content.fingerprint();
    match content {
        Content::Entitlement { plaintext, .. } => {
            let Ok(terms) = Entitlement::from_cbor(plaintext) else {
                return Ok(None);
            };
            if terms.vault != vault.name {
                return Ok(None);
            }
            let at = (terms.version, terms.drafted_at, terms.approve_until);
            keep_draft(sql, vault, (logged, Kind::Entitlement), fingerprint, at)?;
            if entitlements::by_draft(sql, &fingerprint)?.is_none() {
                entitlements::release_tags(sql, &terms)?;
                entitlements::add(sql, &terms, &fingerprint)?;
            }
            entitlements::send(sql, &terms, &fingerprint, &[])?;
            Ok(Some(of_entitlement(
                vault,
                log_sequence,
                &terms,
                &fingerprint,
            )))
        }
        Content::Revocation { plaintext, .. } => {
            let order = Revocation::from_cbor(plaintext).ok();
            let order = order.map(|order| (order.number, order));
            adopt_order(sql, vault, logged, order, fingerprint, time)
        }
        Content::ClockCorrection { plaintext, .. } => {
            let order = ClockCorrection::from_cbor(plaintext).ok();
            let order = order.map(|order| (order.number, order));
            adopt_order(sql, vault, logged, order, fingerprint, time)
        }
        Content::Reanchor { plaintext, .. } => {
            let order = Reanchor::from_cbor(plaintext).ok();
            let order = order.map(|order| (order.number, order));
            adopt_order(sql, vault, logged, order, fingerprint, time)
        }
        Content::Grant {
            plaintext,
            identity_certificate,
            device_ca_certificate,
            ..
        } => {
            let certificates = Certificates {
                identity: identity_certificate.clone(),
                device_ca: device_ca_certificate.clone(),
            };
            if let Ok(grant) = EnrolmentGrant::from_cbor(plaintext) {
                adopt_rotation(sql, vault, manifests, logged, (&grant, certificates, time))?;
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn of_entitlement(
    vault: &Vault,
    log_sequence: u64,
    terms: &Entitlement,
    fingerprint: &Fingerprint,
) -> Finding {
    let (id, version) = (&terms.id, terms.version);
    let products = terms.products.iter();
    let units: Vec<_> = products
        .map(|product| format!("{} units of {}", product.units, product.sku))
        .collect();
    Finding {
        vault: vault.name.clone(),
        lineage: vault.lineage,
        log_sequence: Some(log_sequence),
        code: ENTITLEMENT_FORGOTTEN.to_owned(),
        severity: Severity::Major,
        serials: Vec::new(),
        evidence: json!({
            "entitlement": id.as_str(),
            "version": version,
            "fingerprint": fingerprint.to_string(),
            "products": terms.products.iter().map(|product| json!({
                "sku": product.sku.as_str(),
                "account": product.account.number(),
                "units": product.units,
            })).collect::<Vec<_>>(),
            "valid_until": rfc3339(terms.window.until),
        }),
        text: format!(
            "record {log_sequence}: the vault accepted version {version} of entitlement `{id}` ({}), which headquarters has \
             forgotten since it was restored, and counts as granted from here on. Officers compare it with what they \
             approved, and approve it again: hq entitlement amend",
            units.join(", ")
        ),
    }
}

/// A draft that is sealed: what was made of it was sent.
fn keep_draft(
    sql: &Connection,
    vault: &Vault,
    (logged, kind): (&Logged, Kind),
    fingerprint: Fingerprint,
    (version, drafted_at, approve_until): (u64, u64, u64),
) -> Result<(), Failure> {
    if drafts::by_fingerprint(sql, &fingerprint)?.is_some() {
        return drafts::set_state(sql, &fingerprint, State::Sealed);
    }
    let draft = Draft {
        id: logged.id.clone(),
        fingerprint,
        kind,
        vault: Some(vault.name.clone()),
        version,
        drafted_at,
        approve_until,
        state: State::Sealed,
    };
    drafts::add(sql, &draft)
}

fn adopt_order<T: Order>(
    sql: &Connection,
    vault: &Vault,
    logged: &Logged,
    order: Option<(u64, T)>,
    fingerprint: Fingerprint,
    time: u64,
) -> Result<Option<Finding>, Failure> {
    let Some((number, order)) = order.filter(|(_, order)| *order.vault() == vault.name) else {
        return Ok(None);
    };
    let at = (number, time, order.approve_until());
    keep_draft(sql, vault, (logged, T::KIND), fingerprint, at)?;
    if orders::by_draft(sql, &fingerprint)?.is_none() {
        let listed = Listed {
            draft: fingerprint,
            vault: vault.name.clone(),
            kind: T::KIND,
            number,
            state: orders::State::Draft,
            sent_at: None,
            plaintext: order.to_cbor(),
        };
        orders::add(sql, &listed)?;
    }
    orders::set_state(sql, &fingerprint, orders::State::Sent, time)?;
    Ok(None)
}

/// The next device CA, if a root of headquarters has certified it.
fn adopt_rotation(
    sql: &Connection,
    vault: &Vault,
    manifests: &[Verified<TrustManifest>],
    logged: &Logged,
    (grant, certificates, time): (&EnrolmentGrant, Certificates, u64),
) -> Result<(), Failure> {
    let Purpose::Rotation { generation } = grant.purpose else {
        return Ok(());
    };
    let roots: Vec<_> = manifests
        .iter()
        .filter_map(|manifest| {
            Issuer::from_certificate_der(&manifest.content().root_certificate).ok()
        })
        .collect();
    let by_root = |der: &[u8], tbs: &[u8]| {
        Certificate::from_der(der).ok().filter(|certificate| {
            certificate.tbs_der() == tbs
                && roots
                    .iter()
                    .any(|root| certificate.verify_issued_by(root).is_ok())
        })
    };
    let identity = by_root(&certificates.identity, &grant.identity_tbs);
    let device_ca = by_root(&certificates.device_ca, &grant.device_ca_tbs);
    let (Some(_), Some(device_ca)) = (identity, device_ca) else {
        return Ok(());
    };
    let Ok(public_key) = PublicKey::from_public_key_der(device_ca.spki_der()) else {
        return Ok(());
    };
    let known = device_cas::of_vault(sql, &vault.name)?;
    let known = known.iter().any(|known| known.generation == generation);
    let Verdict::Authentic(content) = &logged.content else {
        return Ok(());
    };
    let draft = content.fingerprint();
    let at = (u64::from(generation), grant.drafted_at, grant.approve_until);
    keep_draft(sql, vault, (logged, Kind::EnrolmentGrant), draft, at)?;
    let next = DeviceCa {
        generation,
        request_fingerprint: grant.request_fingerprint,
        draft,
        public_key,
        certificate: None,
        requested_at: grant.drafted_at,
        granted_at: None,
    };
    if !known {
        device_cas::request(sql, &vault.name, &next)?;
    }
    vaults::rotate(sql, &vault.name, &next, &certificates, time)
}
