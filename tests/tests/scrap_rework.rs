//! Devices that were scrapped, units that came to nothing, devices that were made again: what the vault says of them, what
//! its CRLs say to OpenSSL, and what headquarters counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;

use mintmark_tests::strace::{DURABLE, killed_at};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, World, request};
use serde_json::{Value, json};

const DAY: i64 = 86_400;

fn policy(reissues: u32) -> String {
    let units = format!("units = 40\nreissues_per_device = {reissues}\n");
    let policy = POLICY.replace("units = 1000\n", &units);
    assert!(policy.contains("reissues"));
    policy
}

fn device(number: u32) -> String {
    format!("TH200-{number:08}")
}

/// A vault with so many devices in `$D/out`, all reported, and the CAs in `$D/ca`.
fn made(world: &World, count: u32) {
    world.requests("first", 1..=count);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    world.hq("ca export --output $D/ca").ok();
}

/// `site device VERB` of a device of this number.
fn order(world: &World, verb: &str, number: u32) -> mintmark_tests::Tool {
    let id = device(number);
    let confirm = match verb {
        "rework" => String::new(),
        _ => format!("--confirm {id}"),
    };
    world
        .site(&format!("device {verb} {id} {confirm}"))
        .arg("--reason")
        .arg("the casing is cracked")
}

/// A request of the device of this number, with another key: `$D/csr/NAME/DEVICE.csr`.
fn another_key(world: &World, name: &str, number: u32) {
    request::write(&world.path("csr").join(name), &device(number));
}

fn openssl(world: &World, line: &str) -> (bool, String) {
    let output = Command::new("openssl")
        .current_dir(world.folder())
        .args(line.split(' '))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// What OpenSSL says of a certificate in `$D/out` when it looks into a CRL in `$D`.
fn is_good(world: &World, device_ca: &str, crl: &str, certificate: &str) -> bool {
    let (good, said) = openssl(
        world,
        &format!(
            "verify -x509_strict -crl_check -CAfile ca/root.pem -untrusted ca/{device_ca} -CRLfile {crl} out/{certificate}"
        ),
    );
    assert!(
        good || said.contains("certificate revoked"),
        "{certificate}: {said}"
    );
    good
}

#[track_caller]
fn expect_crl(world: &World, device_ca: &str, form: &str, crl: &str) -> String {
    let (good, said) = openssl(
        world,
        &format!("crl -inform {form} -in {crl} -CAfile ca/{device_ca} -verify -noout -text"),
    );
    assert!(good && said.contains("verify OK"), "{said}");
    said
}

/// Good, scrapped, voided, unresolved, unspent: the same at the vault and at HQ, which finds nothing, and they add up.
#[track_caller]
fn expect_counts(world: &World, expected: [u64; 5]) {
    world.carry_home("berlin").exits_done();
    let report = world.reconcile_run().exits_done().json();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    let status = world.status("berlin");
    for account in [&status["accounts"][0], &report["accounts"][0]] {
        let count = |field: &str| account[field].as_u64().unwrap();
        let counts = ["good", "scrapped", "voided", "unresolved", "unspent"].map(count);
        assert_eq!(counts, expected, "{account}");
        assert_eq!(counts.iter().sum::<u64>(), count("authorised"));
    }
    world.carry_out("berlin").exits_done();
}

fn rows<'a>(log: &'a [Value], kind: &str) -> Vec<&'a Value> {
    log.iter().filter(|row| row["kind"] == kind).collect()
}

/// Scrap, void and rework, from the line to headquarters.
fn lives(world: &World) {
    made(world, 4);

    // Nothing that cannot be undone is done by a slip.
    let unconfirmed = world.site(&format!("device scrap {} --reason x", device(1)));
    unconfirmed.fails(2, "CONFIRMATION-REQUIRED");
    let wrong = format!("device void {} --reason x --confirm TH200", device(1));
    world.site(&wrong).fails(3, "CONFIRMATION-MISMATCH");
    let reasonless = format!("device rework {} --reason", device(1));
    for blank in ["", "  ", "\u{a0}"] {
        let run = world.site(&reasonless).arg(blank);
        let run = run.fails(2, "REASON-INVALID");
        assert!(run.stderr.contains("not blanks alone"), "{run}");
    }
    let before = world.log("berlin").len();
    let planned = order(world, "scrap", 1).arg("--dry-run").ok().json();
    assert_eq!(
        (&planned["outcome"], &planned["dry_run"]),
        (&"scrapped".into(), &true.into())
    );
    let unknown = order(world, "scrap", 99).fails(1, "DEVICE-UNKNOWN");
    assert!(unknown.stderr.contains("check"), "{unknown}");
    assert_eq!(world.log("berlin").len(), before, "nothing was logged");

    let scrapped = order(world, "scrap", 1).ok().json();
    let issued = world.issue("first").exits(1).lines();
    assert_eq!(
        scrapped,
        json!({
            "schema": "mintmark/device/1", "device_id": device(1), "product": "TH-200", "action": "scrap",
            "outcome": "scrapped", "code": null, "serial": scrapped["serial"], "slot": 0, "issue": 0,
            "entitlement": "th200", "dry_run": false,
        })
    );
    assert_eq!(issued[0]["code"], "DEVICE-SCRAPPED");
    assert_eq!(issued[1]["outcome"], "existing");
    let again = order(world, "scrap", 1).fails(1, "DEVICE-SCRAPPED");
    assert_eq!(again.json()["outcome"], "refused");
    assert_eq!(order(world, "void", 2).ok().json()["outcome"], "voided");

    // A rework: another key, the same slot, and no unit.
    another_key(world, "new", 3);
    let refused = world.issue("new").exits(1).lines();
    assert_eq!(refused[0]["code"], "DEVICE-KEY-CHANGED");
    assert_eq!(order(world, "rework", 3).ok().json()["outcome"], "allowed");
    order(world, "rework", 3).fails(1, "REWORK-OPEN");
    let shown = world
        .site(&format!("device show {}", device(3)))
        .ok()
        .json();
    assert_eq!(
        shown["reworks"],
        json!({"done": 0, "open": true, "allowed": 1})
    );
    let file = |name: &str| fs::read(world.path(&format!("out/{}{name}", device(3)))).ok();
    let former = [".pem", ".chain.pem"].map(file);
    for outcome in ["issued", "existing"] {
        let row = &world.issue("new").ok().lines()[0];
        assert_eq!(
            (&row["outcome"], &row["slot"]),
            (&outcome.into(), &2.into())
        );
        assert_ne!(file(".pem"), former[0]);
        assert_eq!([".issue-0.pem", ".issue-0.chain.pem"].map(file), former);
    }
    let old_key = world.issue(&format!("first/{}.csr", device(3)));
    assert_eq!(old_key.exits(1).lines()[0]["code"], "DEVICE-KEY-CHANGED");
    order(world, "rework", 3).fails(1, "REWORK-EXHAUSTED");

    // Each is told for what it is.
    for (number, statuses) in [
        (1, vec!["scrapped"]),
        (2, vec!["voided"]),
        (3, vec!["superseded", "good"]),
        (4, vec!["good"]),
    ] {
        let shown = world
            .site(&format!("device show {}", device(number)))
            .ok()
            .json();
        let units = shown["units"].as_array().unwrap();
        let told: Vec<&str> = units
            .iter()
            .map(|unit| unit["status"].as_str().unwrap())
            .collect();
        assert_eq!(told, statuses, "{shown}");
        assert_eq!(&shown["status"], *statuses.last().unwrap());
    }
    let shown = world
        .site(&format!("device show {}", device(1)))
        .ok()
        .json();
    assert_eq!(shown["reason"], "the casing is cracked");
    assert_eq!(shown["serial"], scrapped["serial"]);

    // What the CRL says, OpenSSL hears.
    let planned = world
        .site("crl issue --output $D/v.pem --dry-run")
        .ok()
        .json();
    assert_eq!(
        (&planned["number"], &planned["revoked"]),
        (&1.into(), &3.into())
    );
    assert!(!world.path("v.pem").exists());
    let crl = world.site("crl issue --output $D/v.pem").ok().json();
    assert_eq!((&crl["number"], &crl["device_ca"]), (&1.into(), &1.into()));
    let said = expect_crl(world, "device-ca-berlin_v1.pem", "PEM", "v.pem");
    assert_eq!(said.matches("Cessation Of Operation").count(), 2, "{said}");
    assert_eq!(said.matches("Superseded").count(), 1, "{said}");
    let serial = scrapped["serial"].as_str().unwrap().to_uppercase();
    assert!(said.contains(&serial), "{said}");
    let good = |name: &str| is_good(world, "device-ca-berlin_v1.pem", "v.pem", name);
    let names = [
        (device(1), false),
        (device(2), false),
        (format!("{}.issue-0", device(3)), false),
        (device(3), true),
        (device(4), true),
    ];
    for (name, expected) in names {
        assert_eq!(good(&format!("{name}.pem")), expected, "{name}");
    }
    let next = world.site("crl issue --output $D/v.der").ok().json();
    assert_eq!(next["number"], 2);
    expect_crl(world, "device-ca-berlin_v1.pem", "DER", "v.der");
    expect_counts(world, [2, 1, 1, 0, 36]);

    // Nothing is due, so nothing more is said; a scrapped device makes the next export bring another one.
    let crls = |world: &World| rows(&world.log("berlin"), "crl").len();
    assert_eq!(crls(world), 2);
    assert_eq!(order(world, "scrap", 4).ok().json()["slot"], 3);
    expect_counts(world, [1, 2, 1, 0, 36]);
    assert_eq!(crls(world), 3);
    world.site("audit verify").ok();
}

#[test]
fn scrap_void_and_rework_with_key_files() {
    lives(&World::with_policy(&policy(1)));
}

#[test]
fn scrap_void_and_rework_with_a_token() {
    let world = World::with_policy_in(Stores::Tokens, &policy(1));
    lives(&world);
}

#[test]
fn a_crl_replaces_nothing_but_an_earlier_one() {
    let world = World::with_policy(&policy(1));
    made(&world, 1);
    world.write("v.pem", "my diary");
    world
        .site("crl issue --output $D/v.pem")
        .fails(3, "OUTPUT-TAKEN");
    assert_eq!(fs::read(world.path("v.pem")).unwrap(), b"my diary");
    world
        .site("crl issue --output $D/none/v.pem")
        .fails(3, "OUTPUT-FOLDER");
    world
        .site("crl issue --output $D/w.pem --device-ca 2")
        .fails(2, "DEVICE-CA-UNKNOWN");
    assert!(rows(&world.log("berlin"), "crl").is_empty());
    for number in 1..=2 {
        let crl = world.site("crl issue --output $D/w.pem").ok().json();
        assert_eq!(
            (&crl["number"], &crl["revoked"]),
            (&number.into(), &0.into())
        );
        let said = expect_crl(&world, "device-ca-berlin_v1.pem", "PEM", "w.pem");
        assert!(said.contains("No Revoked Certificates"), "{said}");
    }
}

#[test]
fn a_crl_past_half_its_life_is_reason_enough_for_a_bundle() {
    let world = World::with_policy(&policy(1));
    made(&world, 2);
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    order(&world, "scrap", 1).ok();
    expect_counts(&world, [1, 1, 0, 0, 38]);
    let bundles = |world: &World| rows(&world.log("berlin"), "bundle-sealed").len();
    let crls = |world: &World| rows(&world.log("berlin"), "crl").len();
    world.carry_home("berlin").exits_done();
    let before = (bundles(&world), crls(&world));
    world.set_clock(14 * DAY);
    world.carry_home("berlin").exits_done();
    assert_eq!((bundles(&world), crls(&world)), before);
    world.set_clock(16 * DAY);
    world.carry_home("berlin").exits_done();
    assert_eq!(
        (bundles(&world), crls(&world)),
        (before.0 + 1, before.1 + 1)
    );
    world.reconcile_run().exits_done();
}

#[test]
fn a_device_with_units_of_several_products_is_named_with_its_product() {
    let second = "[[product]]\nsku = \"TH-300\"\nunits = 5\nkey_algorithms = [\"P-256\"]\n\
                  [product.certificate]\nsubject = \"serialNumber={device_id}\"\nvalidity_days = 30\n";
    let world = World::with_policy(&(policy(1) + second));
    world.requests("one", 1..=1);
    world.issue("one").ok();
    another_key(&world, "other", 1);
    world
        .site("issue --product TH-300 --csr $D/csr/other --output $D/out")
        .ok();
    let refused = order(&world, "scrap", 1).fails(2, "DEVICE-AMBIGUOUS");
    assert!(refused.stderr.contains("TH-200, TH-300"), "{refused}");
    let scrapped = order(&world, "scrap", 1)
        .arg("--product")
        .arg("TH-300")
        .ok();
    assert_eq!(scrapped.json()["product"], "TH-300");
    let row = &world.issue("one").ok().lines()[0];
    assert_eq!(row["outcome"], "existing");
    world.carry_home("berlin").exits_done();
    world.reconcile_run().exits_done();
}

#[test]
fn a_reworked_device_gets_its_secret_again_for_its_new_key() {
    let key = "[[key]]\nlabel = \"service\"\nalgorithm = \"HMAC-SHA-256\"\nuse = \"derive-device-secret\"\nmemory_import = true\n";
    let world = World::with_policy(&(policy(1) + key));
    made(&world, 1);
    let secret =
        || fs::read(world.path(&format!("out/{}.service.secret.cose", device(1)))).unwrap();
    let before = secret();
    another_key(&world, "new", 1);
    order(&world, "rework", 1).ok();
    for outcome in ["issued", "existing"] {
        let row = &world.issue("new").ok().lines()[0];
        assert_eq!(row["outcome"], outcome);
        assert_eq!(row["secrets"][0]["key"], "service");
        assert_eq!(row["secrets"][0]["code"], Value::Null);
        assert_ne!(secret(), before);
    }
    expect_counts(&world, [1, 0, 0, 0, 39]);
}

#[test]
fn each_device_ca_signs_what_it_certified() {
    let world = World::with_policy(&policy(1));
    made(&world, 2);
    let asked = world.site("rotate").ok();
    world.site("media export $D/media").ok();
    let fingerprint = asked.text("enrolment_fingerprint");
    let drafted = world
        .hq(&format!(
            "site rotate --request $D/media/mintmark/enrol-berlin_v1.cose --fingerprint {fingerprint} \
             --output $D/officers/rotate.draft"
        ))
        .ok();
    world.approve("$D/officers/rotate.draft");
    world.hq(&format!("site grant {}", drafted.text("id"))).ok();
    world.carry_out("berlin").exits_done();
    world.requests("later", 3..=4);
    world.issue("later").ok();
    world.hq("ca export --output $D/ca").ok();
    for number in [1, 3] {
        order(&world, "scrap", number).ok();
    }
    let newest = world.site("crl issue --output $D/new.pem").ok().json();
    assert_eq!(
        (&newest["device_ca"], &newest["other_device_cas"]),
        (&2.into(), &json!([1]))
    );
    let first = world
        .site("crl issue --output $D/old.pem --device-ca 1")
        .ok()
        .json();
    assert_eq!(
        (&first["number"], &first["revoked"]),
        (&1.into(), &1.into())
    );
    let (old, new) = ("device-ca-berlin_v1-g1.pem", "device-ca-berlin_v1.pem");
    expect_crl(&world, old, "PEM", "old.pem");
    expect_crl(&world, new, "PEM", "new.pem");
    for (ca, crl, number, expected) in [
        (old, "old.pem", 1, false),
        (old, "old.pem", 2, true),
        (new, "new.pem", 3, false),
        (new, "new.pem", 4, true),
    ] {
        let certificate = format!("{}.pem", device(number));
        assert_eq!(is_good(&world, ca, crl, &certificate), expected, "{number}");
    }
    // A bundle for each of the two.
    let bundles = |world: &World| rows(&world.log("berlin"), "bundle-sealed").len();
    let before = bundles(&world);
    expect_counts(&world, [2, 2, 0, 0, 36]);
    assert_eq!(bundles(&world), before + 2);
}

/// Kills a command before each of its syncs and renames in turn, then has `again` bring it to its end. Each time the counts
/// here must add up, and whatever the log holds is there once.
fn killed_everywhere(
    world: &World,
    mut step: impl FnMut(u32) -> (mintmark_tests::Tool, u32),
) -> u32 {
    let (mut number, mut points) = (0, 0);
    for call in DURABLE {
        for nth in 1.. {
            number += 1;
            let (tool, exit_again) = step(number);
            let interrupted = killed_at(&tool, call, nth);
            let status = world.status("berlin");
            let account = &status["accounts"][0];
            let count = |field: &str| account[field].as_u64().unwrap();
            let sum: u64 = ["good", "scrapped", "voided", "unresolved", "unspent"]
                .map(count)
                .iter()
                .sum();
            assert_eq!(sum, count("authorised"), "{status}");
            let again = tool.run();
            let done = again.exit == 0 || again.exit == exit_again as i32;
            assert!(done, "{call} {nth}: {again}");
            if !interrupted {
                break;
            }
            points += 1;
        }
    }
    assert!(points >= 3, "only {points} moments were tried");
    number
}

#[test]
fn an_order_that_is_killed_at_any_sync_is_given_again_and_counts_once() {
    let world = World::with_policy(&policy(1).replace("units = 40", "units = 400"));
    made(&world, 60);
    // The second time it may be told that it is so already.
    let scrapped = killed_everywhere(&world, |number| (order(&world, "scrap", number), 1));
    let voided = killed_everywhere(&world, |number| {
        (order(&world, "void", scrapped + number), 1)
    });
    let (scrapped, voided) = (u64::from(scrapped), u64::from(voided));
    let good = 60 - scrapped - voided;
    expect_counts(&world, [good, scrapped, voided, 0, 340]);
    let log = world.log("berlin");
    let orders = [rows(&log, "scrap"), rows(&log, "void")].concat();
    let orders = orders.iter().filter(|row| row["outcome"] == "accepted");
    let orders = orders.count() as u64;
    assert_eq!(orders, scrapped + voided);
}

#[test]
fn a_rework_that_is_killed_at_any_sync_is_done_once() {
    let world = World::with_policy(&policy(1).replace("units = 40", "units = 400"));
    made(&world, 60);
    let allowed = killed_everywhere(&world, |number| (order(&world, "rework", number), 1));
    let reissued = killed_everywhere(&world, |number| {
        let number = allowed + number;
        order(&world, "rework", number).ok();
        let name = format!("new-{number}");
        another_key(&world, &name, number);
        (world.issue(&name), 0)
    });
    expect_counts(&world, [60, 0, 0, 0, 340]);
    let log = world.log("berlin");
    let again = log.iter().filter(|row| row["outcome"] == "reissued");
    let mut serials: Vec<&str> = again.map(|row| row["serial"].as_str().unwrap()).collect();
    assert_eq!(serials.len() as u32, reissued);
    serials.sort_unstable();
    serials.dedup();
    assert_eq!(serials.len() as u32, reissued);
}

#[test]
fn a_crl_whose_signing_or_carrying_is_killed_at_any_sync_is_numbered_once() {
    let world = World::with_policy(&policy(1).replace("units = 40", "units = 400"));
    made(&world, 60);
    killed_everywhere(&world, |_| (world.site("crl issue --output $D/v.pem"), 0));
    expect_crl(&world, "device-ca-berlin_v1.pem", "PEM", "v.pem");
    let exported = killed_everywhere(&world, |number| {
        // What is not acknowledged goes out each time: it would never come to an end.
        if number % 4 == 1 {
            world.hq("media import $D/media").ok();
            world.carry_out("berlin").exits_done();
        }
        order(&world, "scrap", number).ok();
        (world.site("media export $D/media"), 0)
    });
    expect_counts(
        &world,
        [60 - u64::from(exported), u64::from(exported), 0, 0, 340],
    );
    let log = world.log("berlin");
    let numbers: Vec<u64> = rows(&log, "crl")
        .iter()
        .map(|row| {
            let detail = row["detail"].as_str().unwrap();
            let number = detail.split(' ').nth(1).unwrap();
            number.parse().unwrap()
        })
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}
