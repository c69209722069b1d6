//! Bundles that are not what they say, and those that never come.

use mintmark_ledger::entry::{Body, Entry};
use mintmark_protocol::bundle::{Bundle, DispatchSeen};
use mintmark_protocol::identifier::Fingerprint;

use super::super::super::vault::Until;
use super::super::scene::{Scene, at};
use super::super::{Expected, GW};

fn of_bundle(code: &'static str) -> Expected {
    Expected {
        code,
        log_sequence: None,
        serials: Vec::new(),
    }
}

pub(super) fn another_time(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let last = scene.seal_with(Some(|bundle| bundle.checkpoint.time += 60))?;
    Some(vec![at("CHECKPOINT-TIME", last)])
}

pub(super) fn another_manifest(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let last = scene.seal_with(Some(|bundle| bundle.trust_version += 1))?;
    Some(vec![at("TRUST-VERSION-MISMATCH", last)])
}

pub(super) fn no_dispatch_seen(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let last = scene.seal_with(Some(|bundle| bundle.dispatch_seen = None))?;
    Some(vec![at("DISPATCH-SEEN-MISMATCH", last)])
}

/// The record of a sealed bundle that headquarters has not got yet and that the vault has a receipt for, as it would go home;
/// and what is found of that receipt if the log says of the bundle what is not so.
fn sealed(scene: &mut Scene<'_>) -> Option<(u64, Entry, Expected)> {
    let (place, entry) = scene.unreported(|body| matches!(body, Body::BundleSealed(_)))?;
    let is_receipt = |body: &Body| match body {
        Body::Dispatch(dispatch) => dispatch.kind == "acknowledgement",
        _ => false,
    };
    let receipt = scene.newest_unreported(is_receipt)?;
    Some((place, entry, at("DECISION-DIVERGES", receipt + 1)))
}

pub(super) fn another_bundle(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (place, mut entry, receipt) = sealed(scene)?;
    if let Body::BundleSealed(sealed) = &mut entry.body {
        sealed.fingerprint = Fingerprint::of(b"another");
    }
    scene.report_as(place, entry.to_cbor());
    Some(vec![at("BUNDLE-SEALED-MISMATCH", place), receipt])
}

pub(super) fn no_bundle(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (place, _, receipt) = sealed(scene)?;
    scene.report_as(place, b"\xff\xff no record".to_vec());
    let last = scene.seal_with(None)?;
    scene.site.over = true;
    Some(vec![
        at("ENTRY-MALFORMED", place),
        receipt,
        at("BUNDLE-SEALED-MISSING", last),
    ])
}

pub(super) fn silence(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    scene.site.silent = true;
    Some(vec![of_bundle("SITE-SILENT")])
}

pub(super) fn lost(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let first = scene.site.vault.state().bundles().log_size;
    scene.seal_with(None)?;
    scene.site.lost = Some(scene.site.vault.state().bundles().sequence);
    scene.seal_with(None)?;
    scene.site.over = true;
    Some(vec![at("BUNDLE-GAP", first)])
}

/// Seals what headquarters will not take in, with something new in it.
fn refused(
    scene: &mut Scene<'_>,
    code: &'static str,
    change: Option<fn(&mut Bundle)>,
) -> Option<Vec<Expected>> {
    scene.seal_with(change)?;
    scene.site.over = true;
    Some(vec![of_bundle(code)])
}

/// The same, where the records do not add up to what was signed: it is said of the first that was new.
fn inconsistent(scene: &mut Scene<'_>, change: Option<fn(&mut Bundle)>) -> Option<Vec<Expected>> {
    let first = scene.site.vault.state().bundles().log_size;
    refused(scene, "RECORD-EDITED", change)?;
    Some(vec![at("RECORD-EDITED", first)])
}

pub(super) fn changed_afterwards(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let place = scene
        .random
        .below(scene.site.vault.state().bundles().log_size);
    scene.report_as(place, b"\xff\xff no record".to_vec());
    inconsistent(scene, None)
}

pub(super) fn another_root(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let change = |bundle: &mut Bundle| {
        bundle.checkpoint.root = Fingerprint::of(b"another");
    };
    inconsistent(scene, Some(change))
}

pub(super) fn after_another(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let change = |bundle: &mut Bundle| {
        bundle.previous = Some(Fingerprint::of(b"another"));
    };
    refused(scene, "BUNDLE-CHAIN", Some(change))
}

pub(super) fn dispatch_not_sent(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let change = |bundle: &mut Bundle| {
        bundle.dispatch_seen = Some(DispatchSeen {
            epoch: 1,
            sequence: 999,
            fingerprint: Fingerprint::of(b"forged"),
        });
    };
    refused(scene, "DISPATCH-UNKNOWN", Some(change))
}

pub(super) fn rotten_part(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let change = |bundle: &mut Bundle| {
        bundle.segments[0].file_bytes += 1;
    };
    refused(scene, "SEGMENT-ROTTEN", Some(change))
}

pub(super) fn two_histories(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let now = scene.now;
    scene.seal_with(None);
    let backup = scene.site.vault.backup();
    scene.site.make(now, GW, Until::Done)?;
    let files = scene.site.export(now);
    scene.site.vault.put_back(&backup);
    scene.site.vault.restart(now, true);
    scene.site.make(now, GW, Until::Done)?;
    scene.site.export(now);
    scene.delivered = Some(files);
    scene.site.over = true;
    Some(vec![of_bundle("FORK")])
}
