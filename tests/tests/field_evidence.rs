//! What comes from the field or is shown to others: judged without believing it, and without passing over any of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use mintmark_protocol::approval::Proposal;
use mintmark_protocol::report::{Report, ReportFormat};
use mintmark_protocol::trust::{Role, TrustManifest};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, World, clock, files, judge};
use p256::SecretKey;
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
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

/// A report that was sealed with this key at this time.
fn sealed(key: &SecretKey, made_at: u64) -> Vec<u8> {
    let report = Report {
        made_at,
        format: ReportFormat::Csv,
        content: b"all is well".to_vec(),
    };
    let sign = |message: &[u8]| -> Result<Signature, _> { Ok(SigningKey::from(key).sign(message)) };
    report.seal(&key.public_key(), &sign).unwrap()
}

/// The next trust manifest, by the officers' own keys and with another report key, where sticks have it. Gives when it was
/// issued.
fn give_up_report_key(world: &World, before: u64, key: &SecretKey) -> u64 {
    let file = |version: u64| world.on_stick(&format!("trust-{version:06}.cose"));
    let last = Proposal::read(&fs::read(file(before)).unwrap(), usize::MAX).unwrap();
    let content = TrustManifest::proposed(&last).unwrap();
    let next = TrustManifest {
        version: before + 1,
        issued_at: content.issued_at + 100,
        previous: Some(last.fingerprint()),
        report_key: key.public_key(),
        ..content.clone()
    };
    let mut proposal = next.propose().unwrap();
    for officer in ["alice", "bob"] {
        let uri = world.keys(officer).parse().unwrap();
        let keys = mintmark_keys::open(&uri, &|_| unreachable!("the PIN is in a file")).unwrap();
        let signer = keys.signer("officer-sign").unwrap();
        let sign = |message: &[u8]| signer.sign(message).map_err(Into::into);
        let approval = proposal.approve(signer.public_key(), &sign).unwrap();
        proposal.collect(&approval).unwrap();
    }
    proposal.approved(&content, Role::Trust).unwrap();
    fs::write(file(before + 1), proposal.to_bytes().unwrap()).unwrap();
    next.issued_at
}

#[test]
fn a_sealed_report_is_of_the_newest_manifest_with_its_key_and_genuine_only_while_that_is_in_use() {
    let world = World::with_headquarters();
    world.next_trust("", &["alice", "bob"]);
    world
        .hq("reconcile --format csv --sign --output $D/own.cose")
        .ok();
    let verify = |version: u64, name: &str| {
        let trust = format!("$D/media/mintmark/trust-{version:06}.cose");
        let shown = world.hq(&format!("approval show {trust}")).ok();
        let fingerprint = shown.text("fingerprint");
        let line = format!(
            "--home $D/nowhere report verify $D/{name} --trust {trust} --fingerprint {fingerprint}"
        );
        world.hq(&line)
    };
    // Both list the key that it is sealed with.
    let verdict = verify(2, "own.cose").ok().json();
    assert_eq!(
        (&verdict["trust_version"], &verdict["trust_newest"]),
        (&2.into(), &true.into()),
        "{verdict}"
    );

    let [third, fourth] = [[51; 32], [52; 32]].map(|bytes| SecretKey::from_slice(&bytes).unwrap());
    give_up_report_key(&world, 2, &third);
    let given_up = give_up_report_key(&world, 3, &fourth);
    world.write("before.cose", sealed(&third, given_up - 1));
    world.write("after.cose", sealed(&third, given_up));
    world.write("now.cose", sealed(&fourth, given_up));
    // The manifest with the key, and nothing newer to judge by.
    for name in ["before.cose", "after.cose"] {
        let verdict = verify(3, name).ok().json();
        assert_eq!(verdict["trust_version"], 3, "{verdict}");
    }
    let verdict = verify(4, "now.cose").ok().json();
    assert_eq!(verdict["verdict"], "genuine", "{verdict}");
    let run = verify(4, "before.cose").exits(1);
    let verdict = run.json();
    assert_eq!(
        (&verdict["verdict"], &verdict["trust_version"]),
        (&"key-given-up".into(), &3.into()),
        "{run}"
    );
    verify(4, "after.cose").fails(1, "REPORT-KEY-GIVEN-UP");
}

#[test]
fn every_form_of_a_report_says_whose_it_is_and_what_was_left_out_of_it() {
    let world = World::with_policy(POLICY);
    let narrowed =
        "--site berlin --product TH-200 --entitlement th200 --silent-days 20 --as-of 2099-01-31";
    let scope = "Acme: site berlin; product TH-200; entitlement th200; until 2099-01-31; silent is who says nothing for \
                 more than 20 days";
    let write = |format: &str| {
        let line = format!("reconcile {narrowed} --format {format} --output $D/report.{format}");
        world.hq(&line).run();
        fs::read(world.path(&format!("report.{format}"))).unwrap()
    };
    let text = |format: &str| String::from_utf8(write(format)).unwrap();
    for format in ["table", "csv", "html"] {
        let text = text(format);
        assert!(text.contains(scope), "{format}: {text}");
    }
    let csv = text("csv");
    let row = csv.lines().last().unwrap();
    assert!(row.starts_with("report,berlin,,TH-200,th200,"), "{row}");
    let json: Value = serde_json::from_str(&text("json")).unwrap();
    assert_eq!(json["hq_name"], "Acme");
    assert_eq!(
        json["query"],
        serde_json::json!({
            "site": "berlin", "product": "TH-200", "entitlement": "th200", "silent_days": 20,
        })
    );
    const STRINGS: &str = "import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read('xl/sharedStrings.xml').decode())";
    write("xlsx");
    let mut python = std::process::Command::new("python3");
    python.args(["-c", STRINGS]).arg(world.path("report.xlsx"));
    let strings = String::from_utf8(judge::succeed(&mut python).stdout).unwrap();
    assert!(strings.contains(scope), "{strings}");
    // A report of everything says so, too.
    let all = world.hq("reconcile").text().run().stdout;
    let everything =
        "Acme: all sites; all products; all entitlements; everything that was reported";
    assert!(all.contains(everything), "{all}");
}

#[test]
fn a_dossier_is_signed_by_no_key_but_the_one_that_the_manifest_lists() {
    let world = three_devices();
    let dossier = "device dossier TH200-00000001 --output $D/one.dossier";
    // Another headquarters' keys have the same labels, and these the same PIN.
    let pin = |of: &str| world.path(&format!("pins/{of}.pin"));
    fs::copy(pin("hq"), pin("other")).unwrap();
    world
        .hq("--home $D/other init --name Other --keys @other --root-keys @other-root --escrow-key $D/escrow.pem")
        .ok();
    let report = |of: &str| world.path(&format!("keys/{of}/report.pem"));
    fs::rename(report("hq"), world.path("report.pem")).unwrap();
    fs::copy(report("other"), report("hq")).unwrap();
    world.hq(dossier).fails(2, "KEY-NOT-LISTED");
    assert!(!world.path("one.dossier").exists());
    fs::rename(world.path("report.pem"), report("hq")).unwrap();
    world.hq(dossier).ok();
}

#[test]
fn a_dossier_needs_no_bundle_before_its_device_and_believes_no_tree_but_the_signed_one() {
    let world = three_devices();
    world.requests("later", 4..=5);
    world.issue("later").ok();
    world.carry_home("berlin").exits_done();
    let dossier = |number: u32, name: &str| {
        let line = format!("device dossier TH200-{number:08} --output $D/{name}");
        world.hq(&line).run()
    };
    // Of the first bundle, what holds its records.
    let mut files = files::below(&world.path("hq/record")).into_iter();
    let first = files.find(|path| path.to_str().unwrap().ends_with("-000001.seg0001"));
    let first = first.unwrap();
    let aside = world.path("aside");
    fs::rename(&first, &aside).unwrap();
    assert_eq!(dossier(1, "early.dossier").exit, 4);
    assert_eq!(dossier(4, "later.dossier").exit, 0);
    world.hq("status export --output $D/status").ok();
    let options = "--status $D/status";
    expect_verdict(&verify(&world, 1, "$D/later.dossier", options), "genuine");

    // Another tree than that under the signed root is none: the records are read.
    const TOUCH: &str = "import sqlite3, sys\n\
        sql = sqlite3.connect(sys.argv[1])\n\
        sql.execute(\"UPDATE log_trees SET tree = CAST(substr(tree, 1, 8) || zeroblob(length(tree) - 8) AS BLOB)\")\n\
        sql.commit()\n";
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interop/bin/python");
    let mut touch = Command::new(python);
    touch
        .args(["-c", TOUCH])
        .arg(world.path("hq/registry.sqlite"));
    judge::succeed(&mut touch);
    assert_eq!(dossier(5, "unread.dossier").exit, 4);
    fs::rename(&aside, &first).unwrap();
    for number in [1, 5] {
        let name = format!("{number}.dossier");
        assert_eq!(dossier(number, &name).exit, 0);
        expect_verdict(
            &verify(&world, 1, &format!("$D/{name}"), options),
            "genuine",
        );
    }
}
