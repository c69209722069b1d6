//! CRLs of device CAs at headquarters: carried there on sticks, held against the log, exported, and judged by OpenSSL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Command;

use mintmark_pki::{Certificate, CrlReason, Issuer, RevokedSerial, assemble_crl, crl_tbs};
use mintmark_protocol::Error;
use mintmark_protocol::bundle::{Bundle, CRL_BYTES_MAX};
use mintmark_protocol::identifier::VaultName;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, World, files, request};
use serde_json::{Value, json};

const DAY: i64 = 86_400;

fn policy() -> String {
    let policy = POLICY.replace("units = 1000\n", "units = 40\nreissues_per_device = 1\n");
    assert!(policy.contains("reissues"));
    policy
}

fn device(number: u32) -> String {
    format!("TH200-{number:08}")
}

fn scrap(world: &World, number: u32) {
    end(world, "scrap", number);
}

fn end(world: &World, verb: &str, number: u32) {
    let id = device(number);
    world
        .site(&format!("device {verb} {id} --confirm {id} --reason"))
        .arg("the casing is cracked")
        .ok();
}

/// A device gets another certificate for another key.
fn rework(world: &World, number: u32) {
    let id = device(number);
    world
        .site(&format!("device rework {id} --reason"))
        .arg("another board")
        .ok();
    request::write(&world.path("csr/rework"), &id);
    world.issue("rework").ok();
}

/// Carries everything home and has headquarters write `$D/ca`.
#[track_caller]
fn publish(world: &World) -> Run {
    world.carry_home("berlin").exits_done();
    world.hq("ca export --output $D/ca").ok()
}

/// Whether OpenSSL accepts a certificate in `$D/out`, with the CRL of each CA of its chain as headquarters wrote them.
fn is_good(world: &World, device_ca: &str, certificate: &str) -> bool {
    let line = format!(
        "verify -x509_strict -crl_check_all -CAfile ca/root.pem -untrusted ca/device-ca-{device_ca}.pem \
         -CRLfile ca/crl-root.pem -CRLfile ca/crl-{device_ca}.pem out/{certificate}.pem"
    );
    let output = Command::new("openssl")
        .current_dir(world.folder())
        .args(line.split_whitespace())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let good = output.status.success();
    assert!(good || said.contains("certificate revoked"), "{said}");
    good
}

/// What `hq ca show` says of a device CA.
fn shown(world: &World, device_ca: &str) -> Value {
    let line = format!("ca show device-ca-{device_ca}");
    world.hq(&line).ok().json()
}

#[test]
fn what_was_scrapped_voided_and_reworked_is_revoked_for_openssl_by_what_headquarters_exports() {
    let world = World::with_policy(&policy());
    world.requests("first", 1..=4);
    world.issue("first").ok();
    publish(&world);
    assert!(!world.path("ca/crl-berlin_v1.pem").exists());
    assert_eq!(shown(&world, "berlin_v1")["crl"], Value::Null);
    scrap(&world, 1);
    end(&world, "void", 2);
    rework(&world, 3);
    let exported = publish(&world);
    assert_eq!(exported.warning_codes(), [""; 0], "{exported}");

    let certificates = [
        (device(1), false),
        (device(2), false),
        (format!("{}.issue-0", device(3)), false),
        (device(3), true),
        (device(4), true),
    ];
    for (certificate, expected) in &certificates {
        assert_eq!(
            is_good(&world, "berlin_v1", certificate),
            *expected,
            "{certificate}"
        );
        // Headquarters says the same of the certificate itself, by name.
        let shown = world
            .hq(&format!("device show $D/out/{certificate}.pem"))
            .run();
        assert_eq!(shown.exit == 0, *expected, "{shown}");
    }
    for (number, status, reason) in [
        (1, "scrapped", json!("the casing is cracked")),
        (2, "voided", json!("the casing is cracked")),
        (3, "good", Value::Null),
        (4, "good", Value::Null),
    ] {
        let shown = world.hq(&format!("device show {}", device(number))).run();
        let shown = shown.json();
        assert_eq!(
            (&shown["status"], &shown["reason"]),
            (&json!(status), &reason)
        );
    }
    let former = world.hq(&format!("device show {}", device(3))).ok().json();
    assert_eq!(
        (
            &former["devices"][0]["status"],
            &former["devices"][0]["reason"]
        ),
        (&json!("superseded"), &json!("another board"))
    );
    let row = shown(&world, "berlin_v1");
    assert_eq!(
        (
            &row["crl"]["number"],
            &row["crl"]["revoked"],
            &row["crl_behind"]
        ),
        (&json!(1), &json!(3), &Value::Null)
    );

    // What is scrapped later stands on the next one, and that takes the place of the one before.
    scrap(&world, 4);
    assert!(is_good(&world, "berlin_v1", &device(4)));
    world.carry_out("berlin").exits_done();
    publish(&world);
    assert!(!is_good(&world, "berlin_v1", &device(4)));
    assert_eq!(shown(&world, "berlin_v1")["crl"]["number"], 2);
    let report = world.reconcile_run().exits_done().json();
    let account = &report["accounts"][0];
    let counts = ["good", "scrapped", "voided", "unresolved"].map(|field| &account[field]);
    assert_eq!(counts, [&json!(1), &json!(2), &json!(1), &json!(0)]);
}

#[test]
fn each_device_ca_has_its_own_crl_at_headquarters() {
    let world = World::with_policy(&policy());
    world.requests("first", 1..=2);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
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
    scrap(&world, 1);
    scrap(&world, 3);
    publish(&world);
    for (device_ca, number, expected) in [
        ("berlin_v1-g1", 1, false),
        ("berlin_v1-g1", 2, true),
        ("berlin_v1", 3, false),
        ("berlin_v1", 4, true),
    ] {
        assert_eq!(is_good(&world, device_ca, &device(number)), expected);
        let crl = &shown(&world, device_ca)["crl"];
        assert_eq!((&crl["number"], &crl["revoked"]), (&json!(1), &json!(1)));
    }
    world.reconcile_run().exits_done();
}

#[test]
fn a_crl_past_half_its_life_and_one_that_is_over_are_told() {
    let world = World::with_policy(&policy());
    world.requests("first", 1..=2);
    world.issue("first").ok();
    scrap(&world, 1);
    publish(&world);
    for (days, codes, status) in [
        (1, &[][..], "current"),
        (16, &["CRL-AGEING"][..], "past-half"),
        (31, &["CRL-EXPIRED"][..], "expired"),
    ] {
        world.set_clock(days * DAY);
        let name = "ca show device-ca-berlin_v1";
        let run = world.hq(name).ok();
        assert_eq!(run.json()["crl"]["status"], status);
        assert_eq!(run.warning_codes(), codes, "{run}");
    }
    // The vault's next export brings another one.
    world.set_clock(16 * DAY);
    publish(&world);
    let run = world.hq("ca list").ok();
    assert_eq!(run.warning_codes(), [""; 0], "{run}");
    assert_eq!(shown(&world, "berlin_v1")["crl"]["number"], 2);
}

/// A vault that reports, beside a log in which one device was scrapped, a CRL of so many certificates: by its own keys. Gives
/// how large that is, and why nothing can be sealed with it, if that is so.
fn reports_revoked(count: u64) -> (World, usize, Option<Error>) {
    let world = World::with_policy(&policy());
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.hq("ca export --output $D/ca").ok();
    scrap(&world, 1);
    world.site("media export $D/media").ok();
    let uri = world.keys("berlin").parse().unwrap();
    let keys = mintmark_keys::open(&uri, &|_| unreachable!("the PIN is in a file")).unwrap();
    let pem = fs::read(world.path("ca/device-ca-berlin_v1.pem")).unwrap();
    let certificate = Certificate::from_pem_or_der(&pem).unwrap();
    let issuer = Issuer::from_certificate_der(certificate.der()).unwrap();
    let mut bundles = files::below(&world.on_stick("to-hq"));
    bundles.retain(|path| path.extension().is_some_and(|end| end == "cose"));
    let path = bundles.pop().unwrap();
    let vault = VaultName {
        site: "berlin".parse().unwrap(),
        vault: "v1".parse().unwrap(),
    };
    let signer = keys.signer("vault-sign").unwrap();
    let bytes = fs::read(&path).unwrap();
    let opened = Bundle::open(&bytes, &vault, signer.public_key()).unwrap();
    let mut bundle = opened.into_content();
    let now = bundle.sealed_at;
    let revoked = |number: u64| RevokedSerial {
        serial: [&[0x31; 9][..], &number.to_be_bytes()].concat(),
        revoked_at_unix: now,
        reason: Some(CrlReason::CessationOfOperation),
    };
    let revoked: Vec<_> = (0..count).map(revoked).collect();
    let tbs = crl_tbs(&issuer, 1, now, now + 60 * DAY as u64, &revoked).unwrap();
    let signature = keys.signer("device-ca").unwrap().sign(&tbs).unwrap();
    let crl = assemble_crl(&tbs, &signature).unwrap();
    let crl_bytes = crl.len();
    bundle.crl = Some(crl);
    let sign = |message: &[u8]| signer.sign(message).map_err(Into::into);
    match bundle.seal(signer.public_key(), &sign) {
        Ok((bytes, _)) => {
            fs::write(path, bytes).unwrap();
            (world, crl_bytes, None)
        }
        Err(error) => (world, crl_bytes, Some(error)),
    }
}

#[test]
fn a_crl_of_very_many_certificates_is_judged_at_headquarters_like_any_other() {
    let (world, bytes, error) = reports_revoked(200_000);
    assert!(bytes > 8 << 20 && error.is_none(), "{bytes} {error:?}");
    let run = world.hq("media import $D/media").exits(1);
    assert_eq!(run.item("000001.cose")["outcome"], "imported", "{run}");
    // None of these was scrapped, and the log states another CRL: that is what is wrong with it, and not its size.
    let report = world.reconcile();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report}");
    assert_eq!(findings[0]["code"], "CRL-MISMATCH", "{report}");
}

#[test]
fn no_bundle_is_sealed_with_a_crl_that_is_larger_than_one_has_room_for() {
    let (_world, bytes, error) = reports_revoked(900_000);
    assert!(bytes > CRL_BYTES_MAX, "{bytes}");
    assert_eq!(error.unwrap().code(), "MESSAGE-SHAPE");
}
