//! Units that are not there, and certificates that are not what they should be.

use mintmark_ledger::entry::{Body, Burned, BurnedSlots, LogSequence, Signed};

use super::super::super::software::{csr, moved};
use super::super::super::vault::Until;
use super::super::scene::{Scene, at, request, serials};
use super::super::{DAY, Expected, GW, HOUR, HR, RT, ST, TH};

pub(super) fn beyond_the_quota(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    // Officers who grant more would make it a slot like others, of which only the log says when it was spent.
    scene.site.no_more = true;
    let now = scene.now;
    if !scene.site.use_up(now, TH) {
        return None;
    }
    let (_, authorised) = scene.slots(TH);
    if authorised != scene.site.granted {
        return None;
    }
    let slot = authorised + scene.random.below(3);
    scene.forge_slot("OVER-ISSUE", TH, slot)
}

pub(super) fn slot_again(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (next, _) = scene.slots(TH);
    let slot = (next > 0).then(|| scene.random.below(next))?;
    scene.forge_slot("SLOT-REUSE", TH, slot)
}

pub(super) fn slot_passed_over(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (next, authorised) = scene.slots(TH);
    let (_, csr) = scene.site.fresh(TH);
    scene.due(TH, &csr)?;
    if next + 1 >= authorised {
        return None;
    }
    scene.forge_slot("DECISION-DIVERGES", TH, next + 1)
}

pub(super) fn serial_of_another_slot(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(TH);
    let mut reserved = scene.due(TH, &csr)?;
    let mut both = serials(&reserved);
    let slot = reserved.slot + 1 + scene.random.below(3);
    let other = moved(reserved.clone(), scene.site.vault.serials()?, slot);
    both.extend(serials(&other));
    both.sort_unstable();
    reserved.tbs = other.tbs;
    Some(vec![Expected {
        code: "SERIAL-MISMATCH",
        log_sequence: Some(scene.forge(TH, &csr, reserved)),
        serials: both,
    }])
}

pub(super) fn another_name(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (made, csr) = scene.site.fresh(TH);
    let mut reserved = scene.due(TH, &csr)?;
    let name = made.id.as_bytes();
    let mut places = reserved.tbs.windows(name.len());
    let place = places.rposition(|bytes| bytes == name)? + name.len() - 1;
    reserved.tbs[place] = b'x';
    let serials = serials(&reserved);
    Some(vec![Expected {
        code: "CERTIFICATE-DIFFERS",
        log_sequence: Some(scene.forge(TH, &csr, reserved)),
        serials,
    }])
}

/// A unit of a product for which a rule refuses it, once that rule does.
fn against(
    scene: &mut Scene<'_>,
    (rule, code): (&str, &'static str),
    product: &'static str,
) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(product);
    if !scene.refusal(product, &csr)?.starts_with(rule) {
        return None;
    }
    let (next, authorised) = scene.slots(product);
    if next >= authorised {
        return None;
    }
    scene.forge_slot(code, product, next)
}

pub(super) fn beyond_the_rate(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let now = scene.now;
    for _ in 0..4 {
        scene.site.make(now, RT, Until::Done);
    }
    against(scene, ("RATE-", "RATE-EXCEEDED"), RT)
}

pub(super) fn beyond_the_credit(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (now, products) = (scene.now, [HR, TH, GW]);
    for product in products {
        // The last one stays, to be refused.
        while let (next, authorised) = scene.slots(product)
            && next + 1 < authorised
            && scene.site.make(now, product, Until::Done).is_some()
        {}
    }
    let mut products = products.into_iter();
    products.find_map(|product| against(scene, ("CREDIT-UNITS-", "CREDIT-EXCEEDED"), product))
}

pub(super) fn at_night(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let hour = scene.now % DAY / HOUR;
    if (6..22).contains(&hour) {
        return None;
    }
    against(scene, ("OUT-OF-HOURS", "ISSUED-OUT-OF-HOURS"), HR)
}

pub(super) fn by_another_station(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    against(scene, ("STATION-NOT-ALLOWED", "WRONG-STATION"), ST)
}

pub(super) fn identifier_not_allowed(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (made, fitting) = scene.site.fresh(TH);
    let mut reserved = scene.due(TH, &fitting)?;
    let other = csr(&made.id.to_uppercase(), made.key);
    scene.refusal(TH, &other)?;
    reserved.device_id = made.id.to_uppercase().parse().unwrap();
    let serials = serials(&reserved);
    Some(vec![Expected {
        code: "POLICY-BREACH",
        log_sequence: Some(scene.forge(TH, &other, reserved)),
        serials,
    }])
}

pub(super) fn signature_of_nobody(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(TH);
    let reserved = scene.due(TH, &csr)?;
    let serials = serials(&reserved);
    let mut signature = scene.site.vault.certifies(&reserved.tbs);
    signature[scene.random.below(64) as usize] ^= 1;
    let reservation = LogSequence(scene.next() + 1);
    let signed = Signed {
        reservation,
        signature,
    };
    scene.write([
        request(TH, csr.der()),
        Body::Reserved(reserved),
        Body::Signed(signed),
    ]);
    scene.site.balance(TH).good += 1;
    Some(vec![Expected {
        code: "SIGNATURE-INVALID",
        log_sequence: Some(reservation.number() + 1),
        serials,
    }])
}

pub(super) fn signature_for_nothing(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let signed = Signed {
        reservation: LogSequence(scene.random.below(scene.next())),
        signature: [7; 64],
    };
    Some(vec![at(
        "SIGNED-WITHOUT-RESERVATION",
        scene.write([Body::Signed(signed)]),
    )])
}

pub(super) fn slots_not_leased(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (next, authorised) = scene.slots(TH);
    if next + 2 > authorised {
        return None;
    }
    let state = scene.site.vault.state();
    let account = state
        .accounts()
        .find(|account| account.sku.as_str() == TH)?;
    let slots = BurnedSlots {
        account: account.tag,
        first: next + 1,
        end: next + 2,
    };
    let burned = Burned {
        anchor: state.anchor(),
        slots: vec![slots],
    };
    let sequence = scene.write([Body::Burned(burned)]);
    scene.site.balance(TH).unresolved += 2;
    let unresolved = Expected {
        code: "UNRESOLVED",
        log_sequence: None,
        serials: Vec::new(),
    };
    Some(vec![at("BURN-MISMATCH", sequence), unresolved])
}
