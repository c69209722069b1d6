//! What a vault refuses, each time with its rule in the report, in the log and in words; and asking twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use mintmark_tests::clock::DAY;
use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, World, files, judge, request};
use serde_json::Value;

/// What each file of a run came to: outcome and code.
fn verdicts(run: &Run) -> BTreeMap<String, (String, String)> {
    let rows = run.lines();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = |row: &Value| {
        Path::new(row["file"].as_str().unwrap())
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    rows.iter()
        .map(|row| (name(row), (text(&row["outcome"]), text(&row["code"]))))
        .collect()
}

/// The codes of the refusals in the vault's log, in order.
fn logged(world: &World) -> Vec<String> {
    let log = world.log("berlin");
    let refused = log
        .iter()
        .filter(|row| row["kind"] == "request" && row["outcome"] == "refused");
    column(refused, "code")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn openssl_request(world: &World, name: &str, algorithm: &str, options: &str) {
    let line = format!(
        "req -new -newkey {algorithm} -nodes -keyout device.key -out csr/odd/{name} {options}"
    );
    judge::openssl(world.folder(), &line);
}

const EC: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

#[test]
fn each_bad_request_is_refused_by_its_own_rule_and_the_good_ones_beside_it_are_issued() {
    let world = World::ready();
    world.requests("first", [1]);
    world.issue("first").ok();
    let odd = world.path("csr/odd");
    world.requests("odd", [2, 3]);

    let key_of_another = request::key();
    request::write_with(&odd, "b-key.csr", "TH200-00000020", &key_of_another);
    request::write_with(&odd, "c-key-again.csr", "TH200-00000021", &key_of_another);
    request::write_with(
        &odd,
        "device-with-another-key.csr",
        "TH200-00000001",
        &request::key(),
    );
    request::write_with(
        &odd,
        "identifier-outside-the-pattern.csr",
        "TOASTER-1",
        &request::key(),
    );
    let mut flipped = request::der("TH200-00000022", &request::key());
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(odd.join("flipped.csr"), flipped).unwrap();
    openssl_request(
        &world,
        "rsa.csr",
        "rsa:2048",
        "-subj /serialNumber=TH200-00000023",
    );
    openssl_request(
        &world,
        "p384.csr",
        "ec -pkeyopt ec_paramgen_curve:P-384",
        "-subj /serialNumber=TH200-00000024",
    );
    openssl_request(
        &world,
        "p521.csr",
        "ec -pkeyopt ec_paramgen_curve:P-521",
        "-subj /serialNumber=TH200-00000024",
    );
    openssl_request(
        &world,
        "sha1.csr",
        EC,
        "-sha1 -subj /serialNumber=TH200-00000029",
    );
    openssl_request(&world, "no-identifier.csr", EC, "-subj /O=Acme");
    request::write_with(
        &odd,
        "long-identifier.csr",
        &"T".repeat(65),
        &request::key(),
    );
    judge::openssl(
        world.folder(),
        "ec -in device.key -out csr/odd/private-key.csr",
    );
    judge::openssl(
        world.folder(),
        "req -x509 -key device.key -subj /CN=x -out csr/odd/certificate.csr",
    );
    let good = fs::read(odd.join("rsa.csr")).unwrap();
    fs::write(odd.join("two.csr"), [good.clone(), good].concat()).unwrap();
    fs::write(odd.join("empty.csr"), "").unwrap();
    fs::write(odd.join("garbage.csr"), "this is no request\n").unwrap();
    fs::write(
        odd.join("noise.csr"),
        (0..=255).cycle().take(1000).collect::<Vec<u8>>(),
    )
    .unwrap();
    fs::write(odd.join("large.csr"), vec![0x30; 10 << 20]).unwrap();
    let deep = (0..4000).fold(Vec::new(), |inner, _| request::element(0x30, &[&inner]));
    fs::write(odd.join("deep.csr"), deep).unwrap();
    let mut trailing = request::der("TH200-00000025", &request::key());
    trailing.push(0);
    fs::write(odd.join("trailing.csr"), trailing).unwrap();
    let cut = request::der("TH200-00000026", &request::key());
    fs::write(odd.join("cut.csr"), &cut[..cut.len() - 1]).unwrap();
    openssl_request(
        &world,
        "wants-to-be-a-ca.csr",
        EC,
        "-subj /O=Evil/CN=Root/serialNumber=TH200-00000027 -addext basicConstraints=critical,CA:TRUE \
         -addext keyUsage=keyCertSign -addext subjectAltName=DNS:evil.example",
    );
    request::write(world.folder(), "TH200-00000028");
    symlink(world.path("TH200-00000028.csr"), odd.join("link.csr")).unwrap();
    fs::create_dir(odd.join("folder")).unwrap();

    let run = world.issue("odd").exits(1);
    let expected: BTreeMap<&str, (&str, &str)> = [
        ("TH200-00000002.csr", ("issued", "")),
        ("TH200-00000003.csr", ("issued", "")),
        ("b-key.csr", ("issued", "")),
        ("c-key-again.csr", ("refused", "KEY-REUSED")),
        ("certificate.csr", ("refused", "CSR-NOT-A-REQUEST")),
        ("cut.csr", ("refused", "CSR-MALFORMED")),
        ("deep.csr", ("refused", "CSR-TOO-DEEP")),
        (
            "device-with-another-key.csr",
            ("refused", "DEVICE-KEY-CHANGED"),
        ),
        ("empty.csr", ("refused", "CSR-EMPTY")),
        ("flipped.csr", ("refused", "CSR-PROOF-INVALID")),
        ("garbage.csr", ("refused", "CSR-NOT-A-REQUEST")),
        (
            "identifier-outside-the-pattern.csr",
            ("refused", "DEVICE-ID-FORBIDDEN"),
        ),
        ("large.csr", ("refused", "CSR-TOO-LARGE")),
        ("no-identifier.csr", ("refused", "DEVICE-ID-MISSING")),
        ("long-identifier.csr", ("refused", "DEVICE-ID-INVALID")),
        ("noise.csr", ("refused", "CSR-NOT-A-REQUEST")),
        ("p384.csr", ("refused", "KEY-ALGORITHM-FORBIDDEN")),
        ("p521.csr", ("refused", "CSR-KEY-UNSUPPORTED")),
        ("private-key.csr", ("refused", "CSR-NOT-A-REQUEST")),
        ("rsa.csr", ("refused", "KEY-ALGORITHM-FORBIDDEN")),
        ("sha1.csr", ("refused", "CSR-SIGNATURE-ALGORITHM")),
        ("trailing.csr", ("refused", "CSR-MALFORMED")),
        ("two.csr", ("refused", "CSR-SEVERAL-BLOCKS")),
        ("wants-to-be-a-ca.csr", ("issued", "")),
    ]
    .into();
    let found = verdicts(&run);
    let found: BTreeMap<&str, (&str, &str)> = found
        .iter()
        .map(|(name, (outcome, code))| (&**name, (&**outcome, &**code)))
        .collect();
    assert_eq!(found, expected);

    // Links and folders are no requests: they are passed over, and somebody is told.
    for passed in ["link.csr", "folder"] {
        let warned = run
            .warnings()
            .iter()
            .any(|warning| warning.contains(passed));
        assert!(warned, "no word of {passed}\n{run}");
    }
    assert!(!world.path("out/link.pem").exists());

    // Each refusal is one row of the log, in the order of the files, with its rule.
    let refused: Vec<&str> = expected
        .values()
        .filter(|v| v.0 == "refused")
        .map(|v| v.1)
        .collect();
    assert_eq!(logged(&world), refused);
    let status = world.status("berlin");
    assert_eq!(
        (
            status["accounts"][0]["good"].as_u64(),
            status["accounts"][0]["unresolved"].as_u64()
        ),
        (Some(5), Some(0))
    );

    // What a request asks for beyond its key and its name is not granted.
    let text = judge::openssl(
        world.folder(),
        "x509 -in out/wants-to-be-a-ca.pem -noout -text",
    );
    for absent in [
        "CA:TRUE",
        "Certificate Sign",
        "evil",
        "Evil",
        "Subject Alternative Name",
    ] {
        assert!(!text.contains(absent), "{absent} is in\n{text}");
    }
    assert!(text.contains("TH200-00000027"), "{text}");

    // In words, to a person: the row names file and rule, and what to do is said once for each rule.
    let run = world.issue("odd").text().exits(1);
    for code in refused {
        let row = run
            .stdout
            .lines()
            .find(|line| line.contains(&format!("[{code}]")));
        assert!(
            row.is_some_and(|row| row.contains(".csr refused: ")),
            "no row for {code}\n{run}"
        );
        assert_eq!(
            run.stderr.matches(&format!("note: {code}: ")).count(),
            1,
            "{code}\n{run}"
        );
    }
    assert!(
        run.stdout.ends_with("0 issued, 4 existing, 20 refused\n"),
        "{run}"
    );
}

#[test]
fn a_product_that_was_not_granted_and_a_quota_that_is_spent_are_refused() {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 3"));
    world.requests("four", 1..=4);
    let run = world.issue("four").exits(1);
    let codes: Vec<(String, String)> = verdicts(&run).into_values().collect();
    let issued = ("issued".to_owned(), String::new());
    let spent = ("refused".to_owned(), "QUOTA-EXHAUSTED".to_owned());
    assert_eq!(codes, [issued.clone(), issued.clone(), issued, spent]);
    // The same device again is free, even now.
    let again = world.issue("four").exits(1).lines();
    assert_eq!(
        column(&again, "outcome"),
        ["existing", "existing", "existing", "refused"]
    );
    let other = world
        .site("issue --product GW-1 --csr $D/csr/four --output $D/out")
        .exits(1)
        .lines();
    assert_eq!(column(&other, "code"), ["PRODUCT-NOT-ENTITLED"; 4]);
    let text = world.issue("four/TH200-00000004.csr").text().exits(1);
    assert!(
        text.stdout.contains("entitlement th200") && text.stdout.contains("3 of 3"),
        "{text}"
    );
    let account = &world.status("berlin")["accounts"][0];
    assert_eq!(
        (account["good"].as_u64(), account["unspent"].as_u64()),
        (Some(3), Some(0))
    );
}

#[test]
fn a_vault_that_was_not_let_in_issues_nothing() {
    let world = World::with_headquarters();
    world.site_init("berlin");
    world.requests("one", [1]);
    let rows = world.issue("one").exits(1).lines();
    assert_eq!(
        (rows[0]["outcome"].as_str(), rows[0]["code"].as_str()),
        (Some("refused"), Some("NOT-ENROLLED"))
    );
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 0);
}

#[test]
fn outside_of_its_window_an_entitlement_is_worth_nothing() {
    // Valid from two days after now, by the vault's own word for now.
    let world = World::with_vault();
    let now = world.log("berlin")[0]["time"].as_str().unwrap().to_owned();
    let policy = POLICY.replace(
        "valid_for_days = 90",
        &format!("valid_from = {}\nvalid_for_days = 10", plus_days(&now, 2)),
    );
    world.grant("berlin", &policy);
    world.requests("one", [1]);
    world.requests("two", [2]);
    world.requests("three", [3]);
    let code = |name: &str| {
        let rows = world.issue(name).run().lines();
        rows[0]["code"].as_str().unwrap_or("issued").to_owned()
    };
    assert_eq!(code("one"), "WINDOW-NOT-OPEN");
    world.set_clock(3 * DAY);
    assert_eq!(code("one"), "issued");
    world.set_clock(13 * DAY);
    assert_eq!(code("two"), "WINDOW-CLOSED");
    // The clock of a moment ago: the vault has seen later times, and does not issue into its own past.
    world.set_clock(4 * DAY);
    assert_eq!(code("three"), "CLOCK-BACK");
    assert_eq!(
        logged(&world),
        ["WINDOW-NOT-OPEN", "WINDOW-CLOSED", "CLOCK-BACK"]
    );
}

/// The date that many days later; months are taken to have 28 days that count.
fn plus_days(time: &str, days: i64) -> String {
    let date = judge::succeed(std::process::Command::new("date").args([
        "--utc",
        "--date",
        &format!("{time} + {days} days"),
        "+%Y-%m-%dT%H:%M:%SZ",
    ]));
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

#[test]
fn rates_stop_the_line_and_the_next_hour_and_day_let_it_go_on() {
    let policy = POLICY.replace(
        "units = 1000",
        "units = 1000\nunits_per_hour = 2\nunits_per_day = 3",
    );
    let world = World::with_policy(&policy);
    // Whatever the hour is, the one after the next begins well within it.
    world.requests("a", 1..=4);
    let first = world.issue("a").exits(1).lines();
    assert_eq!(column(&first, "code"), ["", "", "RATE-HOUR", "RATE-HOUR"]);
    world.set_clock(DAY);
    let next_day = world.issue("a").exits(0).lines();
    assert_eq!(
        column(&next_day, "outcome"),
        ["existing", "existing", "issued", "issued"]
    );
    world.set_clock(2 * DAY);
    world.requests("b", 11..=12);
    world.issue("b").ok();
    let rows = world.issue("b").ok().lines();
    assert_eq!(column(&rows, "outcome"), ["existing", "existing"]);
}

#[test]
fn asking_twice_is_free_and_gives_the_same_certificate() {
    let world = World::ready();
    world.requests("some", 1..=5);
    let first = world.issue("some").ok().lines();
    let written = files::contents(&world.path("out"));
    assert_eq!(written.len(), 10);
    let status = world.status("berlin");
    let second = world.issue("some").ok().lines();
    assert_eq!(column(&second, "outcome"), ["existing"; 5]);
    for field in ["serial", "certificate", "device_id", "entitlement"] {
        assert_eq!(column(&first, field), column(&second, field));
    }
    assert_eq!(
        files::contents(&world.path("out")),
        written,
        "the files are as they were"
    );
    assert_eq!(world.status("berlin")["accounts"], status["accounts"]);
    assert_eq!(
        world.status("berlin")["credit_units"],
        status["credit_units"]
    );
    // Into another folder: the same certificates again.
    world
        .site("issue --product TH-200 --csr $D/csr/some --output $D/elsewhere")
        .ok();
    assert_eq!(files::contents(&world.path("elsewhere")), written);
    // Another request for the same device and key: a new signature over the same key is no other device.
    let key = request::write(&world.path("csr/again"), "TH200-00000009");
    world.issue("again").ok();
    request::write_with(
        &world.path("csr/again"),
        "TH200-00000009.csr",
        "TH200-00000009",
        &key,
    );
    assert_eq!(world.issue("again").ok().lines()[0]["outcome"], "existing");
}

#[test]
fn a_dry_run_says_what_would_come_and_changes_nothing() {
    let world = World::ready();
    world.requests("some", 1..=3);
    let before = files::contents(&world.path("berlin"));
    let rows = world.issue("some").arg("--dry-run").ok().lines();
    assert_eq!(column(&rows, "outcome"), ["issued"; 3]);
    assert!(rows.iter().all(|row| row["certificate"].is_null()));
    let mut after = files::contents(&world.path("berlin"));
    // Opening the index may move its own files, and the lock names its last holder; what counts is as it was.
    after.retain(|name, _| !name.starts_with("index/") && name != "lock");
    for (name, bytes) in after {
        assert!(before.get(&name) == Some(&bytes), "{name} was changed");
    }
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 0);
    assert_eq!(world.status("berlin")["accounts"][0]["good"], 0);
}

#[test]
fn certificates_never_overwrite_what_stands_in_their_place() {
    let world = World::ready();
    // Two requests with one stem.
    request::write_with(
        &world.path("csr/stems"),
        "unit.csr",
        "TH200-00000001",
        &request::key(),
    );
    request::write_with(
        &world.path("csr/stems"),
        "unit.der",
        "TH200-00000002",
        &request::key(),
    );
    world.write("out/notes.txt", "mine");
    world.write("out/taken.pem", "something else");
    request::write_with(
        &world.path("csr/stems"),
        "taken.csr",
        "TH200-00000003",
        &request::key(),
    );
    let run = world.issue("stems").ok();
    let rows = run.lines();
    let path = |name: &str| world.path("out").join(name).to_str().unwrap().to_owned();
    let serial = |row: &Value| row["serial"].as_str().unwrap().to_owned();
    assert_eq!(
        column(&rows, "certificate"),
        [
            path(&format!("taken-{}.pem", serial(&rows[0]))),
            path("unit.pem"),
            path(&format!("unit-{}.pem", serial(&rows[2]))),
        ]
    );
    assert_eq!(run.warnings().len(), 2, "{run}");
    assert_eq!(
        fs::read_to_string(world.path("out/taken.pem")).unwrap(),
        "something else"
    );
    assert_eq!(
        fs::read_to_string(world.path("out/notes.txt")).unwrap(),
        "mine"
    );
    // Every one is the certificate that its row names.
    for row in &rows {
        let file = row["certificate"].as_str().unwrap();
        let said = judge::openssl(world.folder(), &format!("x509 -in {file} -noout -serial"));
        assert_eq!(
            said.trim().to_lowercase(),
            format!("serial={}", serial(row))
        );
        assert!(Path::new(&file.replace(".pem", ".chain.pem")).exists());
    }
    // Again: every file is where it was, and none is added.
    let before = files::contents(&world.path("out"));
    let again = world.issue("stems").ok().lines();
    assert_eq!(column(&again, "certificate"), column(&rows, "certificate"));
    assert_eq!(files::contents(&world.path("out")), before);
}

#[test]
fn what_is_wrong_with_the_arguments_is_said_before_a_unit_is_spent() {
    let world = World::ready();
    world.requests("one", [1]);
    let status = world.status("berlin");
    world.issue("absent").fails(3, "CSR-MISSING");
    world
        .site("issue --product TH-200 --csr $D/csr/one --output $D/no/such/folder")
        .fails(3, "OUTPUT-FOLDER");
    world.write("a-file", "");
    let run = world
        .site("issue --product TH-200 --csr $D/csr/one --output $D/a-file")
        .exits(3);
    assert_eq!(run.errors().len(), 1, "{run}");
    world
        .site("issue --product th_200! --csr $D/csr/one --output $D/out")
        .fails(2, "USAGE");
    assert_eq!(world.status("berlin"), status);
    // An empty folder is no error.
    fs::create_dir(world.path("csr/none")).unwrap();
    assert_eq!(world.issue("none").ok().stdout, "");
}
