//! Beginnings that are not what they say, and manifests.

use mintmark_ledger::entry::{Body, LogSequence, Signed, Trust};
use mintmark_protocol::identifier::{Fingerprint, Lineage};

use super::super::scene::{Scene, at, request, serials};
use super::super::{Expected, TH};

pub(super) fn two_beginnings(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let genesis = scene.site.vault.state().genesis()?.clone();
    let first = scene.write([Body::Genesis(genesis)]);
    Some(vec![at("GENESIS-REPEATED", first)])
}

pub(super) fn another_history(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let mut other = scene.start(1);
    other.lineage = Lineage::new([9; 16]);
    let back = scene.start(2);
    let first = scene.write([Body::Start(other), Body::Start(back)]);
    let code = "LINEAGE-MISMATCH";
    Some(vec![at(code, first), at(code, first + 1)])
}

pub(super) fn starts_left_out(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let ahead = scene.random.between(2, 5);
    let start = scene.start(ahead);
    Some(vec![at("BOOT-MISMATCH", scene.write([Body::Start(start)]))])
}

pub(super) fn other_rules(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let mut other = scene.start(1);
    other.rules_version = 99;
    let back = scene.start(2);
    let first = scene.write([Body::Start(other), Body::Start(back)]);
    Some(vec![at("RULES-VERSION-UNKNOWN", first)])
}

pub(super) fn older_token(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let stated = scene.site.vault.state().anchor();
    let (mut newer, mut older) = (scene.start(1), scene.start(2));
    newer.anchor = Some(stated + 5);
    older.anchor = Some(stated + 3);
    let first = scene.write([Body::Start(newer), Body::Start(older)]);
    let now = scene.now;
    scene.site.vault.restart(now, false);
    Some(vec![at("ANCHOR-BACK", first + 1)])
}

pub(super) fn no_token(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(TH);
    let reserved = scene.due(TH, &csr)?;
    let serials = serials(&reserved);
    let stated = scene.site.vault.state().anchor();
    let (mut newer, mut none) = (scene.start(1), scene.start(2));
    newer.anchor = Some(stated + 5);
    none.anchor = None;
    let signature = scene.site.vault.certifies(&reserved.tbs);
    let signed = Signed {
        reservation: LogSequence(scene.next() + 3),
        signature,
    };
    let first = scene.write([
        Body::Start(newer),
        Body::Start(none),
        request(TH, csr.der()),
        Body::Reserved(reserved),
        Body::Signed(signed),
    ]);
    let now = scene.now;
    scene.site.vault.restart(now, false);
    scene.site.balance(TH).good += 1;
    Some(vec![Expected {
        code: "UNANCHORED",
        log_sequence: Some(first + 2),
        serials,
    }])
}

pub(super) fn manifest_again(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let state = scene.site.vault.state();
    let mut trust = state.trust()?.clone();
    // Of the one that was pinned, the log's beginning does not say it.
    trust.dispatch_epoch = state.dispatches().epoch?;
    Some(vec![at("TRUST-ORDER", scene.write([Body::Trust(trust)]))])
}

pub(super) fn manifest_of_nobody(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let trust = scene.site.vault.state().trust()?.clone();
    let first = scene.write([Body::Trust(Trust {
        version: trust.version + 1,
        fingerprint: Fingerprint::of(b"mine"),
        ..trust
    })]);
    scene.site.over = true;
    Some(vec![at("TRUST-UNKNOWN", first)])
}
