//! Headquarters that signs for a grant which leaves out, or bends, what an auditor compares.

use std::fs;

use mintmark_protocol::audit_grant::{AuditGrant, Part, PartKind};
use mintmark_protocol::encryption::Opener;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Liar, World};
use serde_json::Value;

use super::{auditor, expect_nothing, grant, items, verify};

/// A part as a grant lists it, with its bytes where the file has them.
type Listed = (Part, Option<Vec<u8>>);

/// Headquarters puts another grant into `$D/lied.grant`, made of `$D/true.grant`, and signs it as it should.
fn lie(world: &World, change: impl FnOnce(&mut AuditGrant, &mut Vec<Listed>)) {
    let keys = |name: &str| {
        let uri = world.keys(name).parse().unwrap();
        mintmark_keys::open(&uri, &|_| unreachable!("the PIN is in a file")).unwrap()
    };
    let whole = fs::read(world.path("true.grant")).unwrap();
    let items = items(&whole);
    let content = |at: usize| -> Vec<u8> {
        let item = ciborium::from_reader(&whole[items[at].clone()]).unwrap();
        ciborium::Value::into_bytes(item).unwrap()
    };
    let (own, signer) = (
        keys("auditor").agreement("auditor").unwrap(),
        keys("hq").signer("report").unwrap(),
    );
    let agree = |peer: &p256::PublicKey| own.agree(peer).map_err(Into::into);
    let opener = Opener {
        public_key: own.public_key(),
        agree: &agree,
        former: None,
    };
    let opened = AuditGrant::open(&content(2), signer.public_key(), opener).unwrap();
    let mut grant = opened.into_content();
    let mut next = 3..;
    let mut parts: Vec<Listed> = grant
        .parts
        .iter()
        .map(|part| {
            let in_file = part.kind != PartKind::TrustManifest;
            (*part, in_file.then(|| content(next.next().unwrap())))
        })
        .collect();
    change(&mut grant, &mut parts);
    grant.parts = parts.iter().map(|(part, _)| *part).collect();
    let sign = |message: &[u8]| signer.sign(message).map_err(Into::into);
    let message = grant.seal(signer.public_key(), &sign).unwrap();
    let mut file = whole[..items[1].end].to_vec();
    for bytes in [message]
        .into_iter()
        .chain(parts.into_iter().filter_map(|(_, bytes)| bytes))
    {
        ciborium::into_writer(&ciborium::Value::Bytes(bytes), &mut file).unwrap();
    }
    world.write("lied.grant", file);
}

/// Puts other text into the only report.
fn restate(parts: &mut [Listed], change: impl FnOnce(&mut Value)) {
    let report = parts
        .iter_mut()
        .find(|(part, _)| part.kind == PartKind::Report);
    let (part, bytes) = report.unwrap();
    let mut said: Value = serde_json::from_slice(bytes.as_ref().unwrap()).unwrap();
    change(&mut said);
    let text = said.to_string().into_bytes();
    part.digest = Fingerprint::of(&text);
    part.bytes = text.len() as u64;
    *bytes = Some(text);
}

#[test]
fn headquarters_that_leaves_out_or_bends_what_is_compared_is_not_the_same() {
    let world = World::ready();
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();
    // This says to the vault that headquarters holds its bundle.
    world.mint("berlin", &POLICY.replace("\"th200\"", "\"more\""));
    auditor(&world);
    grant(&world, "true", "");
    // What is written again and not changed is as good as it was.
    lie(&world, |_, _| {});
    let run = verify(&world, "lied").ok();
    assert_eq!(run.json()["same_as_headquarters"], true, "{run}");
    assert!(run.warnings().is_empty(), "{run}");
    fs::remove_dir_all(world.path("lied")).unwrap();

    let refused = |why: &str, change: &dyn Fn(&mut AuditGrant, &mut Vec<Listed>)| {
        lie(&world, change);
        let run = verify(&world, "lied").fails(1, "GRANT-INCONSISTENT");
        assert!(run.stderr.contains(why), "{why}: {run}");
        expect_nothing(&world, "lied");
    };
    refused("it does not say what", &|_, parts| {
        parts.retain(|(part, _)| part.kind != PartKind::Report);
    });
    refused("says twice", &|_, parts| {
        parts.push(parts.last().unwrap().clone());
    });
    refused("has no vault of it", &|_, parts| {
        restate(parts, |said| said["query"]["site"] = "lyon".into());
    });
    refused("is no report", &|_, parts| {
        restate(parts, |said| *said = Value::Null);
    });
    let empty = |said: &mut Value| {
        said["period"]["since"] = "1990-01-01".into();
        said["period"]["as_of"] = "1990-01-02".into();
    };
    refused("of other days", &|_, parts| restate(parts, empty));
    refused("period ends later", &|grant, _| grant.to_day = Some(80_000));
    refused("after its end", &|grant, _| {
        (grant.from_day, grant.to_day) = (Some(2), Some(1));
    });
    refused("after its end", &|grant, _| grant.from_day = Some(80_000));

    // The newest bundle, and what headquarters says of it.
    lie(&world, |_, parts| {
        let of_bundle = [PartKind::Bundle, PartKind::Segment];
        parts.retain(|(part, _)| !of_bundle.contains(&part.kind));
    });
    let run = verify(&world, "lied").exits(1);
    let said = run.json();
    assert_eq!(said["same_as_headquarters"], false, "{run}");
    let named = |text: &str| {
        said["differences"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one.as_str().unwrap().contains(text))
    };
    assert!(named("says that headquarters held bundle 1 "), "{run}");
    fs::remove_dir_all(world.path("lied")).unwrap();

    lie(&world, |grant, parts| {
        grant.made_at += 40 * 365 * 86_400;
        parts.last_mut().unwrap().0.time = grant.made_at + 1;
    });
    let warnings = verify(&world, "lied").run().warnings();
    for doubt in [
        "had expired",
        "still to come",
        "1 parts of the grant are of a time after",
    ] {
        assert!(
            warnings.iter().any(|one| one.contains(doubt)),
            "{warnings:?}"
        );
    }
}

#[test]
fn of_a_period_too_headquarters_that_leaves_out_what_lies_in_it_is_not_the_same() {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 4"));
    world.requests("one", 1..=2);
    world.issue("one").ok();
    world
        .site("issue --product TH-900 --csr $D/csr/one --output $D/out")
        .exits(1);
    let liar = Liar::of(&world, "berlin");
    let unit = liar.in_slot(&liar.next_unit("TH-200", "TH200-00000666"), 4);
    liar.spend(&unit);
    world.carry_home("berlin").exits(1).json();
    let found = world.reconcile_run().json()["findings"].clone();
    assert_eq!(found[0]["code"], "OVER-ISSUE", "{found}");
    let today = found_day(&world);
    // This says to the vault that headquarters holds its bundle.
    world.mint("berlin", &POLICY.replace("\"th200\"", "\"more\""));
    world.set_clock(86_400);
    world.site("media export $D/media").ok();
    world.hq("media import $D/media").run();
    auditor(&world);
    grant(&world, "true", &format!("--to {today}"));

    lie(&world, |_, _| {});
    let said = verify(&world, "lied").exits(1).json();
    assert_eq!(said["same_as_headquarters"], true, "{said:#}");
    assert_eq!(said["findings_compared"], false, "{said:#}");
    fs::remove_dir_all(world.path("lied")).unwrap();

    let differs = |text: &str, change: &dyn Fn(&mut Vec<Listed>)| {
        lie(&world, |_, parts| change(parts));
        let run = verify(&world, "lied").exits(1);
        let said = run.json();
        assert_eq!(said["same_as_headquarters"], false, "{run}");
        let named = said["differences"].as_array().unwrap();
        let has = |one: &Value| one.as_str().unwrap().contains(text);
        assert!(named.iter().any(has), "{text}: {run}");
        fs::remove_dir_all(world.path("lied")).unwrap();
    };
    differs(
        "OVER-ISSUE of berlin/v1, which headquarters does not say",
        &|parts| {
            restate(parts, |said| said["findings"] = Value::Array(Vec::new()));
        },
    );
    differs(
        "SLOT-REUSE of berlin/v1, which headquarters says",
        &|parts| {
            restate(parts, |said| {
                let findings = said["findings"].as_array_mut().unwrap();
                let mut made_up = findings[0].clone();
                made_up["code"] = "SLOT-REUSE".into();
                findings.push(made_up);
            });
        },
    );
    differs("/refusals", &|parts| {
        restate(parts, |said| said["refusals"] = Value::Array(Vec::new()));
    });
    differs("says that headquarters held bundle 1 ", &|parts| {
        let of_bundle = [PartKind::Bundle, PartKind::Segment];
        parts.retain(|(part, _)| !of_bundle.contains(&part.kind));
    });
}

/// The day of the first units.
fn found_day(world: &World) -> String {
    let report = world.reconcile_run().json();
    report["days"][0]["day"].as_str().unwrap().to_owned()
}
