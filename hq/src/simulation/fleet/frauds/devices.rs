//! Devices that are there twice, or again, and what is said of those that are gone.

use mintmark_ledger::entry::{Body, DeviceAction, DeviceOrder, LogSequence, Refused, Signed};
use mintmark_protocol::identifier::StationId;

use super::super::super::software::csr;
use super::super::super::vault::{Answer, Until};
use super::super::scene::{Scene, at, request, serials};
use super::super::{Expected, TH};

pub(super) fn device_twice(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let place = scene.random.below(scene.site.made.len().max(1) as u64) as usize;
    let made = scene.site.made.get(place).cloned()?;
    let csr = csr(&made.id, made.key);
    let now = scene.now;
    let known = scene
        .site
        .vault
        .request(now, made.product, &csr, Until::Done);
    let (next, authorised) = scene.slots(made.product);
    if known != Answer::Existing || next >= authorised {
        return None;
    }
    let reserved = scene.reserved((made.product, next), &csr)?;
    let serials = serials(&reserved);
    scene.site.made.remove(place);
    Some(vec![Expected {
        code: "DEVICE-DUPLICATE",
        log_sequence: Some(scene.forge(made.product, &csr, reserved)),
        serials,
    }])
}

pub(super) fn scrapped_device(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let made = scene.site.scrapped.pop()?;
    let csr = csr(&made.id, made.key);
    let now = scene.now;
    let answer = scene
        .site
        .vault
        .request(now, made.product, &csr, Until::Done);
    let (next, authorised) = scene.slots(made.product);
    if answer != Answer::Refused("DEVICE-SCRAPPED".to_owned()) || next >= authorised {
        return None;
    }
    let reserved = scene.reserved((made.product, next), &csr)?;
    let serials = serials(&reserved);
    Some(vec![Expected {
        code: "DEVICE-RETURNED",
        log_sequence: Some(scene.forge(made.product, &csr, reserved)),
        serials,
    }])
}

pub(super) fn scrapping_undone(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let made = scene.random.pick(&scene.site.made).cloned()?;
    let order = DeviceOrder {
        action: DeviceAction::Scrap,
        product: made.product.parse().unwrap(),
        device_id: made.id.parse().unwrap(),
        reason: "it was dropped".to_owned(),
        station: StationId::console(),
    };
    let refused = Refused {
        code: "DEVICE-UNKNOWN".to_owned(),
        entitlement: None,
    };
    let first = scene.write([Body::Device(order), Body::Refused(refused)]);
    Some(vec![at("WRONGLY-REFUSED", first + 1)])
}

pub(super) fn key_of_another_site(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (other, serial) = scene.other.clone()?;
    let (made, _) = scene.site.fresh(other.product);
    let csr = csr(&made.id, other.key);
    let mine = scene.due(other.product, &csr)?;
    let mine = (&csr, serials(&mine));
    duplicate(scene, "DUPLICATE-KEY", other.product, mine, serial)
}

pub(super) fn device_of_another_site(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (other, serial) = scene.other.clone()?;
    let (made, _) = scene.site.fresh(other.product);
    let csr = csr(&other.id, made.key);
    let mine = scene.due(other.product, &csr)?;
    let mine = (&csr, serials(&mine));
    duplicate(scene, "DUPLICATE-DEVICE", other.product, mine, serial)
}

/// An honest vault makes what another one has made.
fn duplicate(
    scene: &mut Scene<'_>,
    code: &'static str,
    product: &'static str,
    (csr, mut serials): (&mintmark_pki::CertificationRequest, Vec<String>),
    other: [u8; 17],
) -> Option<Vec<Expected>> {
    let now = scene.now;
    let answer = scene.site.vault.request(now, product, csr, Until::Done);
    assert_eq!(answer, Answer::Issued);
    scene.site.balance(product).good += 1;
    scene.site.over = true;
    let newest = scene.next() - 2;
    serials.push(hex::encode(other));
    serials.sort_unstable();
    Some(vec![Expected {
        code,
        log_sequence: Some(newest),
        serials,
    }])
}

pub(super) fn serial_of_another_site(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, other) = scene.other.clone()?;
    let (_, csr) = scene.site.fresh(TH);
    let mut reserved = scene.due(TH, &csr)?;
    let mut both = serials(&reserved);
    let own = mintmark_ledger::serial::serial_of(&reserved.tbs)?;
    let mut places = reserved.tbs.windows(own.len());
    let place = places.position(|bytes| bytes == own)?;
    reserved.tbs[place..place + own.len()].copy_from_slice(&other);
    both.push(hex::encode(other));
    both.sort_unstable();
    let sequence = scene.forge(TH, &csr, reserved);
    scene.site.over = true;
    let codes = ["SERIAL-MISMATCH", "DUPLICATE-SERIAL"];
    let expected = codes.map(|code| Expected {
        code,
        log_sequence: Some(sequence),
        serials: both.clone(),
    });
    Some(expected.into())
}

pub(super) fn request_of_nobody(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let (_, csr) = scene.site.fresh(TH);
    let reserved = scene.due(TH, &csr)?;
    let serials = serials(&reserved);
    let mut der = csr.der().to_vec();
    // The last byte is within the signature.
    *der.last_mut()? ^= 1;
    let signature = scene.site.vault.certifies(&reserved.tbs);
    let signed = Signed {
        reservation: LogSequence(scene.next() + 1),
        signature,
    };
    let first = scene.write([
        request(TH, &der),
        Body::Reserved(reserved),
        Body::Signed(signed),
    ]);
    scene.site.balance(TH).good += 1;
    Some(vec![Expected {
        code: "FACT-FALSE",
        log_sequence: Some(first),
        serials,
    }])
}

pub(super) fn revocation_left_out(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let now = scene.now;
    let made = scene.site.made.last().cloned()?;
    let answer = scene
        .site
        .vault
        .order(now, DeviceAction::Scrap, made.product, &made.id);
    if answer != Answer::Issued {
        return None;
    }
    scene.site.made.pop();
    let balance = scene.site.balance(made.product);
    balance.good -= 1;
    balance.scrapped += 1;
    scene.site.vault.tampering.crl_leaves_out = true;
    let last = scene.seal_with(None)?;
    scene.site.over = true;
    let left_out = scene.site.vault.tampering.crl_left_out.take()?;
    Some(vec![Expected {
        code: "SCRAP-UNREVOKED",
        log_sequence: Some(last),
        serials: vec![hex::encode(left_out)],
    }])
}

pub(super) fn list_that_is_none(scene: &mut Scene<'_>) -> Option<Vec<Expected>> {
    let last = scene.seal_with(Some(|bundle| bundle.crl = Some(b"no list".to_vec())))?;
    Some(vec![at("CRL-INVALID", last)])
}
