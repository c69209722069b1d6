//! What comes from the field or is shown to others: judged without believing it, and without passing over any of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, World, clock, judge};
use serde_json::Value;

/// Devices 1 to 3, all reported.
fn three_devices() -> World {
    let world = World::with_policy(POLICY);
    world.requests("line", 1..=3);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    world
}

fn pem(world: &World, number: u32) -> String {
    fs::read_to_string(world.path(&format!("out/TH200-{number:08}.pem"))).unwrap()
}

/// A certificate that nobody of ours signed.
fn counterfeit(world: &World, name: &str, authority: bool) -> String {
    let basic = format!(
        "basicConstraints=critical,CA:{}",
        authority.to_string().to_uppercase()
    );
    let line = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -addext {basic} \
         -keyout {name}.key -out {name}.made"
    );
    judge::openssl(
        world.folder(),
        &line.split_whitespace().collect::<Vec<_>>().join(" "),
    );
    fs::read_to_string(world.path(&format!("{name}.made"))).unwrap()
}

fn verdicts(swept: &Value) -> Vec<(String, &str)> {
    let findings = swept["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| {
            let file = finding["file"].as_str().unwrap();
            let name = file.rsplit_once('/').unwrap().1;
            (name.to_owned(), finding["verdict"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn a_sweep_passes_over_no_counterfeit_however_it_is_filed() {
    let world = three_devices();
    let authority = counterfeit(&world, "authority", true);
    let plain = counterfeit(&world, "plain", false);
    // What calls itself a CA is no CA of ours for that.
    world.write("cas/authority.pem", &authority);
    world.write("cas/one.pem", pem(&world, 1));
    let chain = fs::read(world.path("out/TH200-00000002.chain.pem")).unwrap();
    world.write("cas/two.chain.pem", chain);
    let swept = world.hq("device sweep $D/cas").exits(1).json();
    assert_eq!(verdicts(&swept), [("authority.pem".to_owned(), "foreign")]);
    assert!(swept["authorities"].as_u64().unwrap() > 0, "{swept}");
    assert_eq!((&swept["good"], &swept["skipped"]), (&2.into(), &0.into()));

    // A block that nobody can read hides none of its file, before it or after it, cut off or not.
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n";
    let cut = &pem(&world, 3)[..200];
    let file = format!("{}{broken}of {cut}\n{plain}{cut}", pem(&world, 1));
    world.write("broken/all.pem", file);
    let run = world.hq("device sweep $D/broken").exits(1);
    let swept = run.json();
    assert_eq!(verdicts(&swept), [("all.pem".to_owned(), "foreign")]);
    assert_eq!((&swept["good"], &swept["skipped"]), (&1.into(), &3.into()));
    assert_eq!(run.warning_codes().len(), 3, "{run}");

    // Nor does a folder within the folder.
    world.write("nested/a/b/plain.pem", &plain);
    world.write("nested/one.pem", pem(&world, 1));
    let swept = world.hq("device sweep $D/nested").exits(1).json();
    assert_eq!(verdicts(&swept), [("plain.pem".to_owned(), "foreign")]);

    // What was left out may be the counterfeit: that is no clean sweep.
    world.write("partial/one.pem", pem(&world, 1));
    world.hq("device sweep $D/partial").ok();
    std::os::unix::fs::symlink("one.pem", world.path("partial/link.pem")).unwrap();
    let run = world.hq("device sweep $D/partial").exits(1);
    assert_eq!(run.json()["skipped"], 1, "{run}");
    assert_eq!(run.json()["findings"], serde_json::json!([]));
}

/// `hq device verify` by a version of the trust manifest, without a home.
fn verify(world: &World, version: u64, file: &str, options: &str) -> Run {
    let trust = format!("$D/media/mintmark/trust-{version:06}.cose");
    let shown = world.hq(&format!("approval show {trust}")).ok();
    let fingerprint = shown.text("fingerprint");
    world
        .hq(&format!(
            "--home $D/nowhere device verify {file} --trust {trust} --fingerprint {fingerprint} {options}"
        ))
        .run()
}

#[track_caller]
fn expect_verdict(run: &Run, verdict: &str) {
    assert_eq!(run.exit, i32::from(verdict != "genuine"), "{run}");
    assert_eq!(run.json()["verdict"], verdict, "{run}");
}

#[test]
fn what_headquarters_said_last_against_a_device_is_believed_and_what_is_old_is_not() {
    let world = three_devices();
    world.hq("status export --output $D/status").ok();
    let dossier = |name: &str| {
        let line = format!("device dossier TH200-00000001 --output $D/{name}");
        world.hq(&line).ok();
    };
    dossier("good.dossier");
    clock::next_second();
    world
        .site("device scrap TH200-00000001 --confirm TH200-00000001 --reason cracked")
        .ok();
    world.carry_home("berlin").exits_done();
    dossier("scrapped.dossier");
    // A dossier that speaks against the device is newer than the status that calls it good.
    let status = "--status $D/status";
    let run = verify(&world, 1, "$D/scrapped.dossier", status);
    expect_verdict(&run, "revoked");
    assert_eq!(run.json()["state"], "scrapped", "{run}");
    assert_eq!(run.json()["as_of"], run.json()["dossier"]["made_at"]);
    expect_verdict(&verify(&world, 1, "$D/scrapped.dossier", ""), "revoked");
    // One that speaks for it says nothing against a newer status.
    clock::next_second();
    world.hq("status export --output $D/newer").ok();
    let newer = "--status $D/newer";
    expect_verdict(&verify(&world, 1, "$D/good.dossier", newer), "revoked");

    // How old a status may be, its reader says.
    let two = "$D/out/TH200-00000002.pem";
    world.set_clock(10 * 86_400 + 3_600);
    let run = verify(&world, 1, two, newer);
    expect_verdict(&run, "genuine");
    assert_eq!(run.json()["status_age_days"], 10, "{run}");
    let limited = |days: u64| verify(&world, 1, two, &format!("{newer} --max-age {days}"));
    expect_verdict(&limited(11), "genuine");
    let run = limited(10);
    expect_verdict(&run, "outdated");
    assert_eq!(run.warning_codes(), ["STATUS-AGED"], "{run}");
    // A status from before the manifest that is believed is not the newest.
    world.next_trust("", &["alice", "bob"]);
    expect_verdict(&verify(&world, 1, two, newer), "genuine");
    let run = verify(&world, 2, two, newer);
    expect_verdict(&run, "outdated");
    assert_eq!(run.warning_codes(), ["STATUS-BEFORE-TRUST"], "{run}");
    world.hq("status export --output $D/newest").ok();
    let newest = "--status $D/newest";
    expect_verdict(&verify(&world, 2, two, newest), "genuine");
    // A manifest that has expired calls nothing genuine, and says so to programs, too.
    world.set_clock(800 * 86_400);
    let run = verify(&world, 2, two, newest);
    expect_verdict(&run, "outdated");
    assert_eq!(run.json()["trust_expired"], true, "{run}");
    assert_eq!(run.warning_codes(), ["TRUST-EXPIRED"], "{run}");
    expect_verdict(&verify(&world, 2, "$D/good.dossier", newest), "revoked");
}
