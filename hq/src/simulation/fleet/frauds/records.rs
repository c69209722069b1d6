//! Records that say what is not so.

use mintmark_ledger::entry::{
    Body, ClockFound, Content, Dispatch, KeyOutcome, KeyReceipt, LogSequence, Pruned,
    PrunedRecords, Refused, Rotation, Signed, Verdict,
};
use mintmark_protocol::identifier::Fingerprint;

use super::super::super::headquarters::MAIN;
use super::super::super::software::csr;
use super::super::super::vault::{Answer, Until};
use super::super::scene::{Scene, at, request, serials};
use super::super::{DAY, Expected, ST, TH};

fn refused(code: &str) -> Body {
    Body::Refused(Refused {
        code: code.to_owned(),
        entitlement: None,
    })
}

pub(super) fn no_decision(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(TH);
    let start = scene.start(1);
    let first = scene.write([request(TH, csr.der()), Body::Start(start)]);
    Some(vec![at("DECISION-MISSING", first + 1)])
}

pub(super) fn nobody_asked(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(TH);
    let reserved = scene.due(TH, &csr)?;
    let serials = serials(&reserved);
    let signature = scene.site.vault.certifies(&reserved.tbs);
    let reservation = LogSequence(scene.next());
    let signed = Signed {
        reservation,
        signature,
    };
    let first = scene.write([Body::Reserved(reserved), Body::Signed(signed)]);
    scene.site.balance(TH).good += 1;
    Some(vec![Expected {
        code: "DECISION-MISSING",
        log_sequence: Some(first),
        serials,
    }])
}

pub(super) fn refused_for_nothing(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(TH);
    scene.due(TH, &csr)?;
    let first = scene.write([request(TH, csr.der()), refused("RATE-DAY")]);
    Some(vec![at("WRONGLY-REFUSED", first + 1)])
}

pub(super) fn refused_for_something_else(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(ST);
    scene.refusal(ST, &csr)?;
    let first = scene.write([request(ST, csr.der()), refused("RATE-DAY")]);
    Some(vec![at("DECISION-DIVERGES", first + 1)])
}

pub(super) fn answered_by_another(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let made = scene.random.pick(&scene.site.made).cloned()?;
    let csr = csr(&made.id, made.key);
    let now = scene.now;
    let known = scene
        .site
        .vault
        .request(now, made.product, &csr, Until::Done);
    if known != Answer::Existing {
        return None;
    }
    let reservation = LogSequence(0);
    let first = scene.write([
        request(made.product, csr.der()),
        Body::Existing { reservation },
    ]);
    Some(vec![at("DECISION-DIVERGES", first + 1)])
}

pub(super) fn record_that_is_none(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let fits = |body: &Body| matches!(body, Body::Refused(_) | Body::Existing { .. });
    let (place, _) = scene.unreported(fits)?;
    scene.report_as(place, b"\xff\xff no record".to_vec());
    Some(vec![at("ENTRY-MALFORMED", place)])
}

pub(super) fn key_that_nobody_sent(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let receipt = KeyReceipt {
        entitlement: MAIN.parse().unwrap(),
        label: "service".parse().unwrap(),
        outcome: KeyOutcome::Unwrapped,
    };
    Some(vec![at("KEY-UNKNOWN", scene.write([Body::Key(receipt)]))])
}

pub(super) fn station_ca_that_is_none(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let certificate = b"no certificate".to_vec();
    let first = scene.write([Body::StationCa { certificate }]);
    Some(vec![at("STATION-MISMATCH", first)])
}

pub(super) fn rotation_to_nowhere(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let rotation = Rotation {
        generation: 9,
        request_fingerprint: Fingerprint::of(b"a request"),
    };
    let first = scene.write([Body::Rotation(rotation)]);
    Some(vec![at("ROTATION-MISMATCH", first)])
}

pub(super) fn prune_too_early(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let files = vec![PrunedRecords {
        first: 0,
        end: 1 + scene.random.below(4),
        digest: Fingerprint::of(b"what is kept"),
    }];
    let newest = scene.now - DAY;
    let first = scene.write([Body::Pruned(Pruned { newest, files })]);
    Some(vec![at("PRUNE-MISMATCH", first)])
}

pub(super) fn content_that_was_not_sent(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let change = |dispatch: &mut Dispatch| match &mut dispatch.content {
        Verdict::Authentic(Content::Acknowledgement { fingerprint, .. }) => {
            *fingerprint = Fingerprint::of(b"another receipt");
            true
        }
        _ => false,
    };
    let first = scene.tampered(change)?;
    Some(vec![at("DISPATCH-CONTENT", first)])
}

pub(super) fn receipt_said_to_be_forged(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let change = |dispatch: &mut Dispatch| {
        let is_receipt = dispatch.kind == "acknowledgement";
        if is_receipt {
            let code = "SIGNER-UNKNOWN".to_owned();
            dispatch.content = Verdict::Rejected { code };
        }
        is_receipt
    };
    let first = scene.tampered(change)?;
    let refused = at("DISPATCH-REFUSED", first + 1);
    Some(vec![at("FACT-FALSE", first), refused])
}

pub(super) fn clock_that_was_right(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let found = ClockFound {
        believed: false,
        expected: scene.now,
        steady: scene.start(1).steady,
    };
    let mark = scene.site.vault.state().mark();
    let first = scene.write_at(mark, [Body::Clock(found)]);
    scene.site.over = true;
    Some(vec![at("CLOCK-MISMATCH", first)])
}

pub(super) fn earlier_time(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let time = scene.site.vault.state().mark() - scene.random.between(60, DAY);
    let (_, csr) = scene.site.fresh(ST);
    let rule = scene.refusal(ST, &csr)?;
    let mut answer = refused(&rule);
    if let Body::Refused(refused) = &mut answer {
        refused.entitlement = Some(MAIN.parse().unwrap());
    }
    let first = scene.write_at(time, [request(ST, csr.der()), answer]);
    Some(vec![at("TIME-BACK", first)])
}

pub(super) fn time_to_come(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let time = scene.now + 3 * DAY;
    let mut start = scene.start(1);
    // Both clocks are set.
    start.steady = scene.site.vault.reading(time).steady;
    let first = scene.write_at(time, [Body::Start(start)]);
    scene.site.over = true;
    Some(vec![at("TIME-AHEAD", first)])
}
