//! Every limit of a policy, from its text to what a person at the vault is told; and headquarters, which replays the log
//! by the same rules, finds nothing to object to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use mintmark_tests::clock::DAY;
use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, World, judge, request};

const HOUR: i64 = 3600;

/// The example policy with more lines in its product.
fn with(lines: &str) -> String {
    POLICY.replace("units = 1000", &format!("units = 1000\n{lines}"))
}

/// What became of the first request, and in which words.
fn verdict(run: &Run) -> (String, String) {
    let rows = run.lines();
    let text = |field: &str| rows[0][field].as_str().unwrap_or_default().to_owned();
    let verdict = match text("outcome").as_str() {
        "refused" => text("code"),
        other => other.to_owned(),
    };
    (verdict, run.to_string())
}

/// Has one device made, or not, with a new key. Gives its verdict.
fn ask(world: &World, device_id: &str) -> String {
    let folder = format!("one/{}", device_id.replace(['/', ' '], "_"));
    request::write(&world.path("csr").join(&folder), device_id);
    verdict(&world.issue(&folder).run()).0
}

/// What a person reads of the same refusal.
fn told(world: &World, device_id: &str) -> String {
    let folder = format!("one/{}", device_id.replace(['/', ' '], "_"));
    let run = world.issue(&folder).text().exits(1);
    format!("{}{}", run.stdout, run.stderr)
}

/// Headquarters imports what the vault reports, and its replay agrees with every record.
#[track_caller]
fn replays(world: &World) {
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
}

fn date(arguments: &[&str]) -> String {
    let date = judge::succeed(Command::new("date").args(arguments));
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

fn unix_now() -> i64 {
    date(&["+%s"]).parse().unwrap()
}

/// A moment as policies have it.
fn moment(unix: i64) -> String {
    date(&[
        "--utc",
        "--date",
        &format!("@{unix}"),
        "+%Y-%m-%dT%H:%M:%SZ",
    ])
}

/// The Unix time of a wall clock in a place.
fn local(zone: &str, text: &str) -> i64 {
    let mut command = Command::new("date");
    let date = judge::succeed(command.env("TZ", zone).args(["--date", text, "+%s"]));
    String::from_utf8(date.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Moves every clock to a moment that lies ahead of this one.
fn move_to(world: &World, unix: i64) {
    world.set_clock(unix - unix_now());
}

#[test]
fn what_a_request_may_be_is_limited_by_pattern_list_station_and_product() {
    for (lines, asked, code, words) in [
        (
            "",
            "TOASTER-1",
            "DEVICE-ID-FORBIDDEN",
            "does not match the pattern TH200-[0-9]{8}",
        ),
        (
            "device_ids = [\"TH200-00000001\", \"TH200-00000100..TH200-00000199\"]",
            "TH200-00000200",
            "DEVICE-ID-NOT-LISTED",
            "is not one of the 101 that entitlement th200 lists for TH-200",
        ),
        (
            "device_ids = [\"TH200-00000001\", \"TOASTER-1\"]",
            "TOASTER-1",
            "DEVICE-ID-FORBIDDEN",
            "does not match the pattern",
        ),
        (
            "stations = [\"line-1\"]",
            "TH200-00000001",
            "STATION-NOT-ALLOWED",
            "console",
        ),
    ] {
        let world = World::with_policy(&with(lines));
        assert_eq!(ask(&world, asked), code, "{lines}");
        let told = told(&world, asked);
        assert!(
            told.contains(words) && told.contains(code),
            "{words}\n{told}"
        );
        replays(&world);
    }
}

#[test]
fn a_list_lets_in_what_it_names_and_is_shown_to_whoever_asks() {
    let policy = with(
        "device_ids = [\"TH200-00000150..TH200-00000199\", \"TH200-00000001\", \"TH200-00000100..TH200-00000149\"]",
    );
    let world = World::with_vault();
    world.draft("berlin", &policy);
    let draft = "$D/officers/berlin-th200.draft";
    // The officer sees the ranges, those that touch as one.
    let shown = world
        .hq(&format!(
            "--home $D/officers/alice approval sign {draft} --officer alice --keys @alice --output $D/officers/seen"
        ))
        .text()
        .ok();
    let words =
        "only the 101 listed device identifiers TH200-00000001, TH200-00000100..TH200-00000199";
    assert!(format!("{shown}").contains(words), "{shown}");
    let checked = world.hq("policy check $D/policies/th200.toml").text().ok();
    assert!(
        format!("{checked}").contains("DEVICE-IDS-TOO-FEW"),
        "{checked}"
    );

    let world = World::with_policy(&policy);
    for (device_id, expected) in [
        ("TH200-00000000", "DEVICE-ID-NOT-LISTED"),
        ("TH200-00000001", "issued"),
        ("TH200-00000002", "DEVICE-ID-NOT-LISTED"),
        ("TH200-00000099", "DEVICE-ID-NOT-LISTED"),
        ("TH200-00000100", "issued"),
        ("TH200-00000150", "issued"),
        ("TH200-00000199", "issued"),
        ("TH200-00000200", "DEVICE-ID-NOT-LISTED"),
    ] {
        assert_eq!(ask(&world, device_id), expected, "{device_id}");
    }
    let shown = world.site("entitlement show th200").ok().json();
    assert_eq!(
        shown["terms"][0]["device_ids"],
        serde_json::json!(["TH200-00000001", "TH200-00000100..TH200-00000199"])
    );
    let shown = world.site("entitlement show th200").text().ok();
    assert!(
        shown.stdout.contains(
            "  listed       TH200-00000001\n               TH200-00000100..TH200-00000199\n"
        ),
        "{shown}"
    );
    replays(&world);
}

#[test]
fn each_key_algorithm_is_let_in_by_its_name_alone() {
    let allowed = World::with_policy(&POLICY.replace(
        "[\"P-256\"]",
        "[\"P-256\", \"P-384\", \"Ed25519\", \"RSA-2048\", \"RSA-3072\", \"RSA-4096\", \"RSA\"]",
    ));
    let exact = World::with_policy(&POLICY.replace("[\"P-256\"]", "[\"RSA-3072\"]"));
    for (number, (options, by_name, by_3072)) in [
        (
            "ec -pkeyopt ec_paramgen_curve:P-256",
            "issued",
            "KEY-ALGORITHM-FORBIDDEN",
        ),
        (
            "ec -pkeyopt ec_paramgen_curve:P-384",
            "issued",
            "KEY-ALGORITHM-FORBIDDEN",
        ),
        ("ed25519", "issued", "KEY-ALGORITHM-FORBIDDEN"),
        ("rsa:2048", "issued", "KEY-ALGORITHM-FORBIDDEN"),
        ("rsa:2560", "issued", "KEY-ALGORITHM-FORBIDDEN"),
        ("rsa:3072", "issued", "issued"),
        ("rsa:4096", "issued", "KEY-ALGORITHM-FORBIDDEN"),
        ("rsa:1024", "CSR-KEY-UNSUPPORTED", "CSR-KEY-UNSUPPORTED"),
        (
            "ec -pkeyopt ec_paramgen_curve:P-521",
            "CSR-KEY-UNSUPPORTED",
            "CSR-KEY-UNSUPPORTED",
        ),
        (
            "rsa -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3",
            "CSR-KEY-UNSUPPORTED",
            "CSR-KEY-UNSUPPORTED",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!(
            "req -new -newkey {options} -nodes -keyout device.key -out csr/key-{number}.csr -subj \
             /serialNumber=TH200-{number:08}"
        );
        judge::openssl(allowed.folder(), &line);
        let csr = std::fs::read(allowed.path(&format!("csr/key-{number}.csr"))).unwrap();
        exact.write(&format!("csr/key-{number}.csr"), csr);
        for (world, expected) in [(&allowed, by_name), (&exact, by_3072)] {
            let (found, run) = verdict(&world.issue(&format!("key-{number}.csr")).run());
            assert_eq!(found, expected, "{options}\n{run}");
        }
        if by_name == "issued" {
            judge::openssl(
                allowed.folder(),
                &format!(
                    "verify -partial_chain -trusted out/key-{number}.chain.pem out/key-{number}.pem"
                ),
            );
        }
    }
    let told = exact.issue("key-4.csr").text().exits(1).to_string();
    let words = "does not allow RSA-2560 keys for TH-200: it allows RSA-3072";
    assert!(told.contains(words), "{told}");
    replays(&allowed);
    replays(&exact);
}

#[test]
fn units_are_made_to_the_last_one_and_a_rate_lets_go_on_with_the_next_full_hour_and_day() {
    let world = World::with_policy(&POLICY.replace(
        "units = 1000",
        "units = 5\nunits_per_hour = 2\nunits_per_day = 3",
    ));
    let day = (unix_now() / DAY + 1) * DAY;
    let (mut number, mut asked) = (0, Vec::new());
    // The last second of an hour, the first of the next; the last second of a day, the first of the next.
    for (at, expected) in [
        (day + 10 * HOUR - 30, ["issued", "issued", "RATE-HOUR"]),
        (day + 10 * HOUR, ["issued", "RATE-DAY", "RATE-DAY"]),
        (day + DAY - 30, ["RATE-DAY", "RATE-DAY", "RATE-DAY"]),
        (day + DAY, ["issued", "issued", "QUOTA-EXHAUSTED"]),
    ] {
        move_to(&world, at);
        for expected in expected {
            number += 1;
            let device_id = format!("TH200-{number:08}");
            assert_eq!(
                ask(&world, &device_id),
                expected,
                "{device_id} at {}",
                moment(at)
            );
            asked.push((device_id, expected));
        }
        if at == day + 10 * HOUR - 30 {
            let told = told(&world, "TH200-00000003");
            let words = format!("wait until {}", moment(day + 10 * HOUR));
            assert!(told.contains(&words) && told.contains("2 "), "{told}");
        }
    }
    let told = told(&world, "TH200-00000012");
    assert!(told.contains("5 of 5"), "{told}");
    replays(&world);
}

#[test]
fn a_window_opens_with_its_first_second_and_is_over_with_its_last() {
    let from = (unix_now() / DAY + 2) * DAY;
    let window = format!(
        "valid_from = {}\nvalid_until = {}",
        moment(from),
        moment(from + DAY)
    );
    let world = World::with_vault();
    world.grant("berlin", &POLICY.replace("valid_for_days = 90", &window));
    for (at, expected) in [
        (from - 30, "WINDOW-NOT-OPEN"),
        (from, "issued"),
        (from + DAY - 30, "issued"),
        (from + DAY, "WINDOW-CLOSED"),
    ] {
        move_to(&world, at);
        let device_id = format!("TH200-{:08}", at.rem_euclid(100_000_000));
        assert_eq!(ask(&world, &device_id), expected, "{}", moment(at));
    }
    replays(&world);
}

#[test]
fn working_hours_follow_the_wall_clock_of_their_place_through_both_changes_of_the_time() {
    // 2027: Berlin goes forward on 28 March and back on 31 October; neither Kolkata nor Phoenix does.
    for (zone, dates) in [
        (
            "Europe/Berlin",
            &["2027-03-27", "2027-03-28", "2027-10-30", "2027-10-31"][..],
        ),
        ("Asia/Kolkata", &["2027-03-28", "2027-10-31"]),
        ("America/Phoenix", &["2027-03-28", "2027-10-31"]),
    ] {
        let policy = with(&format!(
            "working_hours = {{ zone = \"{zone}\", days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"], from = \
             \"06:00\", to = \"22:00\" }}"
        ))
        .replace("valid_for_days = 90", "valid_from = 2027-01-01T00:00:00Z\nvalid_until = 2028-01-01T00:00:00Z")
        .replace("max_unreported_days = 14", "max_unreported_days = 3650");
        let world = World::with_policy(&policy);
        let mut number = 0;
        for date in dates {
            for (clock, expected) in [
                ("05:59:30", "OUT-OF-HOURS"),
                ("06:00:00", "issued"),
                ("21:59:30", "issued"),
                ("22:00:00", "OUT-OF-HOURS"),
            ] {
                number += 1;
                let at = local(zone, &format!("{date} {clock}"));
                move_to(&world, at);
                let device_id = format!("TH200-{number:08}");
                assert_eq!(
                    ask(&world, &device_id),
                    expected,
                    "{zone} {date} {clock} = {}",
                    moment(at)
                );
                if clock == "05:59:30" {
                    let told = told(&world, &device_id);
                    let next = moment(local(zone, &format!("{date} 06:00:00")));
                    assert!(told.contains(&format!("wait until {next}")), "{told}");
                }
            }
        }
        replays(&world);
    }
}

#[test]
fn credit_ends_by_units_and_by_days_and_an_acknowledgement_brings_it_back() {
    let world = World::with_policy(
        &POLICY
            .replace("max_unreported_units = 20000", "max_unreported_units = 2")
            .replace("max_unreported_days = 14", "max_unreported_days = 3"),
    );
    assert_eq!(ask(&world, "TH200-00000001"), "issued");
    assert_eq!(ask(&world, "TH200-00000002"), "issued");
    assert_eq!(ask(&world, "TH200-00000003"), "CREDIT-UNITS-EXHAUSTED");
    let told_units = told(&world, "TH200-00000003");
    assert!(
        told_units.contains("carry an export to headquarters"),
        "{told_units}"
    );
    replays(&world);
    world.carry_out("berlin").exits_done();
    assert_eq!(ask(&world, "TH200-00000003"), "issued");
    world.set_clock(3 * DAY + HOUR);
    assert_eq!(ask(&world, "TH200-00000004"), "CREDIT-DAYS-EXHAUSTED");
    replays(&world);
    world.carry_out("berlin").exits_done();
    assert_eq!(ask(&world, "TH200-00000004"), "issued");
    replays(&world);
}

#[test]
fn a_device_is_made_again_as_often_as_its_policy_says_and_spends_no_unit() {
    let world =
        World::with_policy(&POLICY.replace("units = 1000", "units = 1\nreissues_per_device = 1"));
    assert_eq!(ask(&world, "TH200-00000001"), "issued");
    // Without a rework, another key is refused.
    assert_eq!(ask(&world, "TH200-00000001"), "DEVICE-KEY-CHANGED");
    let rework = |world: &World| {
        world
            .site("device rework TH200-00000001 --confirm TH200-00000001 --reason")
            .arg("the module was replaced")
            .run()
    };
    rework(&world).exits_done();
    assert_eq!(ask(&world, "TH200-00000001"), "issued");
    let again = rework(&world).exits(1);
    assert!(again.to_string().contains("REWORK-EXHAUSTED"), "{again}");
    let account = &world.status("berlin")["accounts"][0];
    assert_eq!(
        (&account["good"], &account["unspent"]),
        (&1.into(), &0.into())
    );
    assert_eq!(ask(&world, "TH200-00000002"), "QUOTA-EXHAUSTED");
    replays(&world);
}

#[test]
fn a_rework_is_tried_too_and_its_unit_is_counted_once() {
    let policy = POLICY.replace("units = 1000", "units = 1000\nreissues_per_device = 1");
    let world = World::with_policy(&policy);
    assert_eq!(ask(&world, "TH200-00000001"), "issued");
    let rework = "device rework TH200-00000001 --confirm TH200-00000001 --reason repaired";
    world.site(rework).ok();
    assert_eq!(ask(&world, "TH200-00000001"), "issued");
    replays(&world);
    let tried = |policy: &str| {
        world.write("tried.toml", policy);
        let json = world
            .hq("policy check $D/tried.toml --against berlin")
            .ok()
            .json();
        let tried = json["against"].clone();
        let numbers = [
            "requests",
            "issued",
            "units",
            "made",
            "made_refused",
            "orders",
        ];
        (numbers.map(|name| tried[name].as_u64().unwrap()), tried)
    };
    let (numbers, same) = tried(&policy);
    assert_eq!(numbers, [2, 2, 1, 1, 0, 1], "{same}");
    assert_eq!(same["orders_refused"], serde_json::json!([]));
    // Without re-issues the order would have been refused, and what it allowed as well: no new device is lost by it.
    let (numbers, without) = tried(POLICY);
    assert_eq!(numbers, [2, 1, 1, 1, 0, 1], "{without}");
    assert_eq!(
        without["orders_refused"],
        serde_json::json!([{ "code": "REWORK-EXHAUSTED", "count": 1 }])
    );
    assert_eq!(
        without["refused"],
        serde_json::json!([{ "code": "DEVICE-KEY-CHANGED", "count": 1, "made": 0 }])
    );
}

#[test]
fn a_tighter_policy_is_tried_on_what_was_made_and_says_how_many_devices_would_not_exist() {
    let world = World::ready();
    world.requests("made", 1..=5);
    world.issue("made").ok();
    world.issue("made").ok();
    assert_eq!(ask(&world, "TOASTER-1"), "DEVICE-ID-FORBIDDEN");
    replays(&world);
    let tight = POLICY
        .replace("id = \"th200\"", "id = \"tight\"")
        .replace(
            "units = 1000",
            "units = 1000\ndevice_ids = [\"TH200-00000001..TH200-00000003\", \"TOASTER-1\"]",
        )
        .replace("device_id_pattern = \"TH200-[0-9]{8}\"\n", "");
    world.write("tight.toml", tight);
    let tried = world
        .hq("policy check $D/tight.toml --against berlin")
        .ok()
        .json();
    let tried = &tried["against"];
    let numbers = [
        "requests",
        "issued",
        "existing",
        "units",
        "made",
        "made_refused",
        "newly_issued",
        "orders",
    ];
    let numbers = numbers.map(|name| tried[name].as_u64().unwrap());
    assert_eq!(numbers, [11, 4, 3, 4, 5, 2, 1, 0]);
    assert_eq!(
        tried["refused"],
        serde_json::json!([{ "code": "DEVICE-ID-NOT-LISTED", "count": 4, "made": 2 }])
    );
    let examples = tried["examples"].as_array().unwrap();
    assert_eq!(
        column(examples, "outcome"),
        ["issued", "issued", "existing", "existing"]
    );
    let told = world
        .hq("policy check $D/tight.toml --against berlin")
        .text()
        .ok();
    for line in [
        "  Of 11 requests, 4 would have been issued, 3 answered again, 4 refused.\n",
        "  Would have been refused: 2 of 5 devices that were made.\n",
        "  Would have been issued: 1 that the vault refused.\n",
        "  DEVICE-ID-NOT-LISTED: 4, 2 of them of devices that were made\n",
    ] {
        assert!(told.stdout.contains(line), "{line}\n{told}");
    }
}
