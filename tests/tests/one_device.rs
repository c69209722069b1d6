//! One device at headquarters: shown by whatever it is known by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::service::let_in;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Liar, Run, Service, World, judge};
use sha2::{Digest as _, Sha256};

#[test]
fn a_device_is_shown_by_its_id_its_serial_its_certificate_and_its_public_key() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    let openssl = |line: &str| judge::openssl(world.folder(), line);
    openssl("x509 -in out/TH200-00000001.pem -noout -pubkey -out key.pem");
    openssl("pkey -pubin -in key.pem -outform DER -out key.der");
    let digest = hex::encode(Sha256::digest(fs::read(world.path("key.der")).unwrap()));
    let by_id = world.hq("device show TH200-00000001").ok().json();
    let serial = by_id["serial"].as_str().unwrap();
    for named in [
        serial,
        &digest,
        &digest.to_uppercase(),
        "$D/key.pem",
        "$D/key.der",
        "$D/out/TH200-00000001.pem",
    ] {
        let shown = world.hq(&format!("device show {named}")).ok().json();
        assert_eq!(shown["serial"], by_id["serial"], "{named}");
        assert_eq!(shown["device_id"], "TH200-00000001", "{named}");
        assert_eq!(shown["devices"].as_array().unwrap().len(), 1, "{named}");
        assert_eq!(
            shown["chain"] == "valid",
            named.ends_with("1.pem"),
            "{named}"
        );
    }
    // Another key's digest is nobody's, and a private key is no device.
    let other = hex::encode(Sha256::digest(b"another"));
    let unknown = world.hq(&format!("device show {other}")).exits(1);
    assert_eq!(unknown.codes(), ["DEVICE-UNKNOWN"]);
    openssl("genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem");
    let refused = world.hq("device show $D/private.pem").exits(1);
    assert_eq!(refused.codes(), ["CERTIFICATE-NOT-A-CERTIFICATE"]);
}

/// `hq device verify` on a machine that has no home.
fn verify(world: &World, file: &str, options: &str) -> Run {
    let fingerprint = world.trust_fingerprint();
    let trust = "--trust $D/media/mintmark/trust-000001.cose";
    world
        .hq(&format!(
            "--home $D/nowhere device verify {file} {trust} --fingerprint {fingerprint} {options}"
        ))
        .run()
}

fn certificate(number: u32) -> String {
    format!("$D/out/TH200-{number:08}.pem")
}

#[track_caller]
fn expect_verdict(run: &Run, verdict: &str) {
    assert_eq!(run.exit, i32::from(verdict != "genuine"), "{run}");
    assert_eq!(run.json()["verdict"], verdict, "{run}");
}

/// Devices 1 to 5 are reported, 2 is scrapped; 6 and 7 have one slot, of which 6 is reported; 8 is not reported.
fn in_the_field() -> World {
    let world = World::with_policy(POLICY);
    world.requests("line", 1..=5);
    world.issue("line").ok();
    world
        .site("device scrap TH200-00000002 --confirm TH200-00000002 --reason cracked")
        .ok();
    world.clone_vault("clone");
    world.requests("six", [6]);
    world.issue("six").ok();
    world.carry_home("berlin").exits_done();
    world.requests("seven", [7]);
    world
        .site("--home $D/clone issue --product TH-200 --csr $D/csr/seven --output $D/out")
        .ok();
    world.requests("eight", [8]);
    world.issue("eight").ok();
    world
}

#[test]
fn whoever_has_a_dossier_or_a_certificate_and_a_status_knows_what_the_device_is() {
    let world = in_the_field();
    let written = world
        .hq("device dossier TH200-00000001 --output $D/one.dossier")
        .ok()
        .json();
    assert!(written["bytes"].as_u64().unwrap() < 32_768, "{written}");
    world
        .hq("device dossier TH200-00000002 --output $D/two.dossier")
        .ok();
    let exported = world.hq("status export --output $D/status").ok().json();
    assert_eq!(exported["devices"], 6, "{exported}");
    assert_eq!(exported["states"]["good"], 5, "{exported}");
    assert_eq!(exported["states"]["scrapped"], 1, "{exported}");

    // Without a status, a chain is all that is known, whatever else is shown.
    for file in ["$D/one.dossier", &certificate(1), &certificate(8)] {
        let run = verify(&world, file, "");
        expect_verdict(&run, "accounting-unknown");
        let said = verify_text(&world, file);
        assert!(said.contains("chain valid, accounting unknown"), "{said}");
        assert!(!said.contains("genuine"), "{said}");
    }
    let status = "--status $D/status";
    let run = verify(&world, "$D/one.dossier", status);
    expect_verdict(&run, "genuine");
    let dossier = &run.json()["dossier"];
    for (field, expected) in [
        ("device_id", "TH200-00000001"),
        ("station", "console"),
        ("entitlement", "th200"),
        ("inclusion", "valid"),
        ("checkpoint_signature", "valid"),
        ("state", "good"),
    ] {
        assert_eq!(dossier[field], expected, "{dossier}");
    }
    assert_eq!(dossier["approvers"], serde_json::json!(["alice", "bob"]));
    let run = verify(&world, "$D/two.dossier", status);
    expect_verdict(&run, "revoked");
    assert_eq!(run.json()["dossier"]["state"], "scrapped");
    assert_eq!(run.json()["dossier"]["reason"], "cracked");
    for (number, verdict) in [
        (1, "genuine"),
        (2, "revoked"),
        (6, "genuine"),
        (7, "duplicate"),
        (8, "unknown"),
    ] {
        expect_verdict(&verify(&world, &certificate(number), status), verdict);
    }

    // A certificate by itself: the status knows the device CA, and nobody else does.
    fs::create_dir(world.path("field")).unwrap();
    fs::copy(
        world.path("out/TH200-00000001.pem"),
        world.path("field/one.pem"),
    )
    .unwrap();
    expect_verdict(&verify(&world, "$D/field/one.pem", status), "genuine");
    let run = verify(&world, "$D/field/one.pem", "").exits(1);
    assert_eq!(run.codes(), ["DEVICE-FOREIGN"]);
    let chained = "--chain $D/out/TH200-00000001.chain.pem";
    expect_verdict(
        &verify(&world, "$D/field/one.pem", chained),
        "accounting-unknown",
    );
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=TH200-00000001 -keyout k.pem -out \
                counterfeit.pem";
    judge::openssl(
        world.folder(),
        &make.split_whitespace().collect::<Vec<_>>().join(" "),
    );
    let run = verify(&world, "$D/counterfeit.pem", status).exits(1);
    assert_eq!(run.codes(), ["DEVICE-FOREIGN"]);

    // What somebody changed is not believed: of each, one octet in every part of the file.
    for (name, file, options) in [
        ("one.dossier", "$D/changed", status),
        ("status", "$D/one.dossier", "--status $D/changed"),
    ] {
        let bytes = fs::read(world.path(name)).unwrap();
        for at in (1..8).map(|part| bytes.len() * part / 8) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            world.write("changed", changed);
            verify(&world, file, options).exits(1).errors();
        }
    }
    // Nor is another headquarters' manifest.
    let other = "0".repeat(64);
    world
        .hq(&format!(
            "--home $D/nowhere device verify $D/one.dossier --trust $D/media/mintmark/trust-000001.cose \
             --fingerprint {other}"
        ))
        .fails(1, "FINGERPRINT-MISMATCH");
}

fn verify_text(world: &World, file: &str) -> String {
    let fingerprint = world.trust_fingerprint();
    let trust = "--trust $D/media/mintmark/trust-000001.cose";
    let line = format!("device verify {file} {trust} --fingerprint {fingerprint}");
    world.hq(&line).text().exits(1).stdout
}

#[test]
fn a_sweep_finds_what_no_log_holds_what_was_scrapped_and_what_has_a_twin() {
    let world = in_the_field();
    let collect = |folder: &str, numbers: &[u32]| {
        for number in numbers {
            let name = format!("TH200-{number:08}");
            let from = world.path(&format!("out/{name}.pem"));
            world.write(&format!("{folder}/{name}.pem"), fs::read(from).unwrap());
        }
    };
    collect("honest", &[1, 3, 4, 5, 6]);
    let clean = world.hq("device sweep $D/honest").ok().json();
    assert_eq!(clean["good"], 5, "{clean}");
    assert_eq!(clean["findings"], serde_json::json!([]));

    collect("field", &[1, 2, 7, 8]);
    let chain = fs::read(world.path("out/TH200-00000001.chain.pem")).unwrap();
    world.write("field/chain.pem", chain);
    let again = fs::read(world.path("out/TH200-00000001.pem")).unwrap();
    world.write("field/again.pem", again);
    world.write("field/notes.txt", "not a certificate");
    let run = world.hq("device sweep $D/field").exits(1);
    assert_eq!(run.warning_codes(), ["CERTIFICATE-NOT-A-CERTIFICATE"]);
    let swept = run.json();
    let found = swept["findings"].as_array().unwrap().iter();
    let found: Vec<_> = found
        .map(|finding| {
            let file = finding["file"].as_str().unwrap();
            let verdict = finding["verdict"].as_str().unwrap();
            (&file[file.len() - 5..file.len() - 4], verdict)
        })
        .collect();
    assert_eq!(
        found,
        [("2", "scrapped"), ("7", "duplicate"), ("8", "unknown")],
        "{swept}"
    );
    // The file of a chain begins with the device's own certificate.
    for (field, count) in [("checked", 4), ("good", 1), ("repeated", 2), ("skipped", 1)] {
        assert_eq!(swept[field], count, "{field}: {swept}");
    }
    let table = world.hq("device sweep $D/field").text().exits(1).stdout;
    assert!(
        table.contains("VERDICT") && table.contains("duplicate"),
        "{table}"
    );
}

#[test]
fn a_status_calls_nothing_genuine_that_a_vault_made_against_the_rules() {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 4"));
    world.requests("two", 1..=2);
    world.issue("two").ok();
    let liar = Liar::of(&world, "berlin");
    let spend = |device: &str, slot: u64, name: &str| {
        let unit = liar.in_slot(&liar.next_unit("TH-200", device), slot);
        let pem = mintmark_pki::to_pem("CERTIFICATE", &liar.spend(&unit));
        world.write(name, pem);
    };
    spend("TH200-00000666", 0, "twin.pem");
    spend("TH200-00000667", 4, "beyond.pem");
    world.carry_home("berlin").exits(1).json();
    world.hq("status export --output $D/status").ok();
    let status = "--status $D/status";
    for (file, verdict) in [
        ("$D/twin.pem", "duplicate"),
        ("$D/beyond.pem", "doubtful"),
        (&*certificate(1), "duplicate"),
        (&*certificate(2), "genuine"),
    ] {
        expect_verdict(&verify(&world, file, status), verdict);
    }
    // A dossier says what is known of it.
    let written = world
        .hq("device dossier $D/twin.pem --output $D/twin.dossier")
        .ok()
        .json();
    assert_eq!(written["status"], "duplicate");
}

/// Has officers revoke certificates, and HQ send it. Gives what the draft said.
fn revoke(world: &World, named: &str) -> serde_json::Value {
    let draft = "$D/officers/device.draft";
    let _ = fs::remove_file(world.path("officers/device.draft"));
    let drafted = world
        .hq(&format!(
            "device revoke {named} --reason stolen --output {draft}"
        ))
        .ok()
        .json();
    for officer in ["alice", "bob"] {
        let _ = fs::remove_file(world.path(&format!("officers/device.draft.{officer}")));
    }
    world.approve(draft);
    let id = drafted["id"].as_str().unwrap();
    world.hq(&format!("site grant {id}")).ok();
    drafted
}

#[test]
fn what_officers_revoke_is_on_the_crl_in_the_logs_and_in_the_status() {
    let world = World::with_policy(POLICY);
    world.requests("line", 1..=4);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    let shown = world.hq("device show TH200-00000001").ok().json();
    let drafted = revoke(&world, "TH200-00000001");
    let words = drafted["words"].to_string();
    let serial = shown["serial"].as_str().unwrap();
    assert!(
        words.contains(serial) && words.contains("TH200-00000001"),
        "{words}"
    );

    // Headquarters knows at once, whenever the vault follows.
    let shown = world.hq("device show TH200-00000001").exits(1).json();
    assert_eq!(shown["status"], "revoked");
    world.hq("status export --output $D/early").ok();
    let early = verify(&world, &certificate(1), "--status $D/early");
    expect_verdict(&early, "revoked");
    world.carry_out("berlin").exits_done();
    let at_site = world.site("device show TH200-00000001").run().json();
    assert_eq!(at_site["status"], "revoked", "{at_site}");
    // Nor is its certificate given out once more, on whatever way it is asked for.
    let again = world.issue("line").exits(1);
    assert_eq!(again.lines()[0]["code"], "CERTIFICATE-REVOKED", "{again}");
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    for (device, status) in [("TH200-00000001", 403), ("TH200-00000002", 200)] {
        let base64 = format!("base64 -in csr/line/{device}.csr");
        let base64 = judge::openssl(world.folder(), &base64);
        world.write(&format!("{device}.p10"), base64);
        assert_eq!(service.ask_as_before(device).status, status, "{device}");
    }
    assert_eq!(service.stop(), 0);
    world.carry_home("berlin").exits_done();
    let shown = world.hq("device show TH200-00000001").exits(1).json();
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&"revoked".into(), &"stolen".into())
    );
    let again = world.hq("device revoke TH200-00000001 --reason again");
    again.fails(2, "DEVICE-REVOKED");

    // By list, of a serial number and a name.
    let other = world.hq("device show TH200-00000002").ok().json();
    let list = format!(
        "# of the theft\n{}\n\nTH200-00000003\n",
        other["serial"].as_str().unwrap()
    );
    world.write("list", list);
    revoke(&world, "--list $D/list");
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(
        (&report["balanced"], &report["findings"]),
        (&true.into(), &serde_json::json!([]))
    );
    assert_eq!(
        report["accounts"][0]["good"], 4,
        "they were made all the same"
    );

    world.hq("ca export --output $D/ca").ok();
    let crl = judge::openssl(world.folder(), "crl -in ca/crl-berlin_v1.pem -noout -text");
    assert_eq!(crl.matches("Serial Number:").count(), 3, "{crl}");
    assert!(
        crl.to_lowercase().contains(serial) || crl.contains(&serial.to_uppercase()),
        "{crl}"
    );
    let exported = world.hq("status export --output $D/status").ok().json();
    assert_eq!(
        (&exported["states"]["revoked"], &exported["states"]["good"]),
        (&3.into(), &1.into())
    );
    for (number, verdict) in [
        (1, "revoked"),
        (2, "revoked"),
        (3, "revoked"),
        (4, "genuine"),
    ] {
        let run = verify(&world, &certificate(number), "--status $D/status");
        expect_verdict(&run, verdict);
    }
}
