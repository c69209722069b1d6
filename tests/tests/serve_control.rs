//! Commands of the operator beside the running service: the service does those that change something, and nobody sees a
//! difference. What it was killed amid is completed, and headquarters counts every unit once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mintmark_tests::service::let_in;
use mintmark_tests::shape::column;
use mintmark_tests::world::{POLICY, rework_policy};
use mintmark_tests::{Service, Stores, TokenServer, Tool, World, judge, through_server};
use serde_json::Value;

/// What headquarters counts, after a stick went home.
#[track_caller]
fn counted(world: &World) -> Value {
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report:#}");
    report["accounts"][0].clone()
}

fn account(world: &World) -> Value {
    world.status("berlin")["accounts"][0].clone()
}

/// Asks again and again until it is answered well.
#[track_caller]
fn ask_until_answered(service: &Service, device: &str) {
    for _ in 0..120 {
        let answer = service.ask_as_before(device);
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.status, 503, "{}", answer.text());
        thread::sleep(Duration::from_millis(500));
    }
    panic!("it is not answered any more");
}

#[test]
fn every_command_that_changes_something_works_beside_the_service() {
    let world = World::with_policy(&rework_policy());
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    let socket = fs::metadata(world.path("berlin/control.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);

    // Issuing: tried, done, and done again.
    world.requests("many", 1..=40);
    let tried = world
        .site("issue --product TH-200 --csr $D/csr/many --output $D/out --dry-run")
        .ok()
        .lines();
    assert_eq!(column(&tried, "outcome"), vec!["issued"; 40]);
    assert_eq!(
        account(&world)["good"],
        0,
        "a dry run leaves nothing behind"
    );
    let issued = world.issue("many").ok().lines();
    assert_eq!(column(&issued, "outcome"), vec!["issued"; 40]);
    let again = world.issue("many").ok().lines();
    assert_eq!(column(&again, "outcome"), vec!["existing"; 40]);
    assert_eq!(column(&again, "serial"), column(&issued, "serial"));
    judge::openssl(
        world.folder(),
        "verify -partial_chain -CAfile out/TH200-00000001.chain.pem out/TH200-00000001.pem",
    );

    // Stations spend from the same account at the same time.
    assert_eq!(service.enrol("TH200-00000100"), 200);
    assert_eq!(account(&world)["good"], 41);

    // Devices.
    world
        .site("device scrap TH200-00000001 --reason dropped --dry-run")
        .ok();
    assert_eq!(account(&world)["scrapped"], 0);
    world
        .site("device scrap TH200-00000001 --reason dropped")
        .fails(2, "CONFIRMATION-REQUIRED");
    world
        .site("device scrap TH200-00000001 --reason dropped --confirm TH200-00000002")
        .fails(3, "CONFIRMATION-MISMATCH");
    world
        .site("device scrap TH200-00000001 --reason dropped --confirm TH200-00000001")
        .ok();
    world
        .site("device void TH200-00000002 --reason lost --confirm TH200-00000002")
        .ok();
    world.site("device rework TH200-00000003 --reason key").ok();
    world
        .site("device scrap TH200-99999999 --reason dropped --confirm TH200-99999999")
        .fails(1, "DEVICE-UNKNOWN");
    let now = account(&world);
    assert_eq!((&now["scrapped"], &now["voided"]), (&1.into(), &1.into()));

    // Lists, messages to and from headquarters, the next device CA.
    world.site("crl issue --output $D/devices.crl").ok();
    let crl = judge::openssl(world.folder(), "crl -in devices.crl -noout -text");
    assert_eq!(crl.matches("Serial Number:").count(), 2, "{crl}");
    assert_eq!(counted(&world)["good"], 39);
    world.hq("media export $D/media").ok();
    world.site("media import $D/media --dry-run").ok();
    assert_eq!(world.status("berlin")["bundle"]["acknowledged"], 0);
    world.site("media import $D/media").ok();
    assert_eq!(world.status("berlin")["bundle"]["acknowledged"], 1);
    world.site("clock confirm --confirm berlin/v1").run();
    world.site("rotate --dry-run").ok();
    world.site("recover").ok();
    world.site("recover --dry-run").ok();
    world.site("recover --rebuild").fails(3, "SERVICE-RUNNING");
    world
        .site("recover --declare-restore --confirm berlin/v1")
        .fails(3, "SERVICE-RUNNING");

    // A station that is shut out is so at its next request.
    let_in(&world, "line-2", "");
    world
        .site("station revoke line-1 --confirm line-1 --reason stolen")
        .ok();
    assert_eq!(service.enrol("TH200-00000101"), 403);
    assert_eq!(service.stop(), 0);

    assert!(!world.path("berlin/control.sock").exists());
    let last = counted(&world);
    assert_eq!(
        (&last["good"], &last["unresolved"]),
        (&39.into(), &0.into()),
        "a service that was stopped burned nothing: {last}"
    );
}

#[test]
fn relative_paths_are_those_of_whoever_typed_them() {
    let world = World::ready();
    let service = Service::start(&world, "");
    world.requests("few", 1..=2);
    let elsewhere = world.path("csr");
    let mut issue = world
        .site("issue --product TH-200 --csr few --output ../elsewhere")
        .command();
    let issued = issue.current_dir(&elsewhere).output().unwrap();
    let said = String::from_utf8_lossy(&issued.stderr).into_owned();
    assert!(issued.status.success(), "{said}");
    assert!(world.path("elsewhere/TH200-00000001.pem").is_file());
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_service_that_was_killed_leaves_its_socket_and_nobody_is_misled_by_it() {
    let world = World::ready();
    let mut service = Service::start(&world, "");
    service.signal("KILL");
    service.wait();
    assert!(world.path("berlin/control.sock").exists());
    // The lock is free, so the command does its work itself.
    world.requests("few", 1..=2);
    world.issue("few").ok();
    let service = Service::start(&world, "");
    world.requests("more", 3..=4);
    world.issue("more").ok();
    assert_eq!(service.stop(), 0);
    assert_eq!(counted(&world)["good"], 4);
}

#[test]
fn a_service_that_is_killed_under_load_is_reconciled_to_the_unit() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    for round in 0..3_u32 {
        let mut service = Service::start(&world, "");
        let asked: Vec<String> = (0..60)
            .map(|device| format!("TH200-{:08}", 1000 * (round + 1) + device))
            .collect();
        thread::scope(|threads| {
            for devices in asked.chunks(15) {
                let service = &service;
                threads.spawn(move || {
                    for device in devices {
                        service.enrol(device);
                    }
                });
            }
            world.requests(&format!("r{round}"), (100 * round + 1)..=(100 * round + 80));
            let mut issue = world.issue(&format!("r{round}")).command();
            let mut issue = issue
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(Duration::from_millis(150 + 250 * u64::from(round)));
            service.signal("KILL");
            let exit = issue.wait().unwrap().code();
            // Done before, not begun, or nobody knows.
            assert!(matches!(exit, Some(0 | 3 | 5)), "{exit:?}");
        });
        service.wait();
    }
    let service = Service::start(&world, "");
    // Everything that was asked for is asked for again: each device has one unit, whether it was answered or not.
    for round in 0..3 {
        world.issue(&format!("r{round}")).ok();
    }
    assert_eq!(service.stop(), 0);
    let (here, there) = (account(&world), counted(&world));
    for field in ["authorised", "good", "unresolved", "unspent"] {
        assert_eq!(here[field], there[field], "{field}: {here} {there}");
    }
    let number = |field: &str| there[field].as_u64().unwrap();
    assert_eq!(
        number("good") + number("unresolved") + number("unspent"),
        1000,
        "{there}"
    );
    assert!(number("good") >= 240, "{there}");
    let log = world.log("berlin");
    let reserved = log.iter().filter(|row| row["kind"] == "reserved");
    let mut devices: Vec<&str> = reserved
        .map(|row| row["device_id"].as_str().unwrap())
        .collect();
    let all = devices.len();
    devices.sort_unstable();
    devices.dedup();
    assert_eq!(devices.len(), all, "no device has two units");
    world.site("audit verify").ok();
}

#[test]
fn a_command_whose_service_is_stopped_meanwhile_says_what_it_knows() {
    let world = World::ready();
    let service = Service::start(&world, "");
    world.requests("many", 1..=600);
    let issue = world.issue("many");
    let running = issue
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(50));
    let exit = service.stop();
    let run = issue.ended(&running.wait_with_output().unwrap());
    assert_eq!(exit, 0, "what is begun is finished");
    assert!(matches!(run.exit, 0 | 3), "{run}");
    world.issue("many").ok();
    assert_eq!(counted(&world)["good"], 600);
}

/// So many that what is said of them fits into no pipe and no socket.
const MANY: u32 = 1200;

/// A vault whose service is asked by `line-1` while an operator issues.
fn busy_line() -> (World, Service) {
    let world = World::with_policy(&POLICY.replace("units = 1000", "units = 10000"));
    let_in(&world, "line-1", "");
    world.requests("many", 1..=MANY);
    let service = Service::start(&world, "");
    (world, service)
}

fn begin(tool: &Tool) -> Child {
    let mut command = tool.command();
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.spawn().unwrap()
}

/// Waits, much longer than it takes, and does this meanwhile.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool, mut meanwhile: impl FnMut()) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what}");
        meanwhile();
        thread::sleep(Duration::from_millis(20));
    }
}

/// The certificates that are written.
fn written(world: &World) -> usize {
    fs::read_dir(world.path("out")).map_or(0, Iterator::count)
}

#[test]
fn a_command_whose_output_nobody_reads_is_done_all_the_same_and_stations_do_not_wait_for_it() {
    let (world, service) = busy_line();
    let issue = world.issue("many");
    let running = begin(&issue);
    let mut device = 5000;
    until(
        "it is not done",
        || service.log().contains(r#""message":"done""#),
        || {
            device += 1;
            assert_eq!(service.enrol(&format!("TH200-{device:08}")), 200);
        },
    );
    let run = issue.ended(&running.wait_with_output().unwrap());
    assert_eq!((run.exit, run.stderr.as_str()), (0, ""), "{run}");
    assert_eq!(
        column(&run.lines(), "outcome"),
        vec!["issued"; MANY as usize]
    );
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_command_that_is_halted_goes_on_where_it_was_and_stations_do_not_wait_for_it() {
    let (world, service) = busy_line();
    let issue = world.issue("many");
    let running = begin(&issue);
    let signal = |signal| {
        let process = running.id().to_string();
        judge::succeed(Command::new("kill").args(["-s", signal, &process]));
    };
    until("nothing is issued", || written(&world) > 0, || {});
    signal("STOP");
    for device in 5000..5022 {
        assert_eq!(service.enrol(&format!("TH200-{device:08}")), 200);
        thread::sleep(Duration::from_millis(500));
    }
    signal("CONT");
    let run = issue.ended(&running.wait_with_output().unwrap());
    assert_eq!((run.exit, run.stderr.as_str()), (0, ""), "{run}");
    assert_eq!(
        column(&run.lines(), "outcome"),
        vec!["issued"; MANY as usize]
    );
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_command_that_is_told_to_stop_has_the_service_stop_and_says_how_far_it_came() {
    let (world, service) = busy_line();
    let issue = world.issue("many");
    let running = begin(&issue);
    until("nothing is issued", || written(&world) > 0, || {});
    judge::succeed(Command::new("kill").args(["-s", "INT", &running.id().to_string()]));
    let run = issue.ended(&running.wait_with_output().unwrap());
    assert_eq!(run.exit, 3, "{run}");
    assert_eq!(run.codes(), ["INTERRUPTED"], "{run}");
    let answered = run.lines().len();
    assert!(answered < MANY as usize, "it was not interrupted");
    for said in [
        "SIGINT: the service finishes what is begun".to_owned(),
        format!("{answered} of {MANY} are, and nothing is left open"),
    ] {
        assert!(run.stderr.contains(&said), "{said}: {run}");
    }
    assert_eq!(account(&world)["good"], answered);
    let rows = world.issue("many").ok().lines();
    let existing = rows.iter().filter(|row| row["outcome"] == "existing");
    assert_eq!((existing.count(), rows.len()), (answered, MANY as usize));
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_conversation_is_over_when_the_command_is_done_even_if_whoever_asked_stays() {
    let world = World::ready();
    let service = Service::start(&world, "");
    let words = ["crl", "issue", "--output", "devices.crl"];
    let hex = |text: &str| -> String { text.bytes().map(|byte| format!("{byte:02x}")).collect() };
    let request = serde_json::json!({
        "version": 1,
        "words": words.map(hex),
        "folder": hex(world.folder().to_str().unwrap()),
        "color": false,
    });
    let request = request.to_string();
    let mut stream = UnixStream::connect(world.path("berlin/control.sock")).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    let length = u32::try_from(request.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = Vec::new();
    // It ends, and not because of the time.
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said[said.len() - 6..], [3, 0, 0, 0, 1, 0], "{said:?}");
    assert!(world.path("devices.crl").is_file());
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_home_deep_in_the_file_system_has_its_socket_too() {
    let world = World::ready();
    let deep = format!("$D/{}/{}", "d".repeat(100), "e".repeat(100));
    let folder = deep.replace("$D", world.folder().to_str().unwrap());
    fs::create_dir_all(&folder).unwrap();
    fs::rename(world.path("berlin"), format!("{folder}/berlin")).unwrap();
    let home = format!("--home {deep}/berlin");
    let mut serve = world
        .site(&format!("{home} serve --listen 127.0.0.1:0"))
        .command();
    let mut serving = serve
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(serving.stdout.as_mut().unwrap()),
        &mut ready,
    )
    .unwrap();
    world.requests("few", 1..=2);
    world
        .site(&format!(
            "{home} issue --product TH-200 --csr $D/csr/few --output $D/out"
        ))
        .ok();
    judge::succeed(Command::new("kill").arg(serving.id().to_string()));
    assert!(serving.wait().unwrap().success());
}

/// A vault that may issue, with a station, and whose token is reached through a server.
fn behind_a_server() -> World {
    let world = World::ready_in(Stores::Tokens);
    let_in(&world, "line-1", "");
    let at_hand = world.keys("berlin");
    let config = world.path("berlin/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let remote = through_server(world.folder(), &at_hand);
    fs::write(&config, text.replace(&at_hand, &remote)).unwrap();
    world
}

#[test]
fn a_token_that_comes_and_goes_under_load_costs_no_unit() {
    let world = behind_a_server();
    let mut server = Some(TokenServer::start(world.folder(), "berlin"));
    let service = Service::start(&world, "--tls-keys @tls --answer-seconds 3");
    let devices: Vec<String> = (1..=120)
        .map(|device| format!("TH200-{device:08}"))
        .collect();
    thread::scope(|threads| {
        let askers = devices.chunks(30).map(|devices| {
            let service = &service;
            threads.spawn(move || {
                for device in devices {
                    match service.enrol(device) {
                        200 => {}
                        status => {
                            assert_eq!(status, 503);
                            ask_until_answered(service, device);
                        }
                    }
                }
            })
        });
        let askers: Vec<_> = askers.collect();
        let mut kills = 0;
        while !askers.iter().all(|asker| asker.is_finished()) {
            thread::sleep(Duration::from_millis(400));
            server.take().unwrap().kill();
            kills += 1;
            thread::sleep(Duration::from_millis(300));
            server = Some(TokenServer::start(world.folder(), "berlin"));
            thread::sleep(Duration::from_millis(1200));
        }
        assert!(kills > 1, "it was over before the token went away");
    });
    assert_eq!(service.stop(), 0);
    let last = counted(&world);
    assert_eq!(
        (&last["good"], &last["unresolved"]),
        (&120.into(), &0.into()),
        "{last}"
    );
}

#[test]
fn a_token_that_goes_away_and_one_that_hangs_cost_a_wait_and_no_unit() {
    let world = behind_a_server();
    let server = TokenServer::start(world.folder(), "berlin");
    // Connections are made with a key of another token, which stays.
    let service = Service::start(&world, "--tls-keys @tls --answer-seconds 3");
    assert_eq!(service.enrol("TH200-00000001"), 200);

    server.kill();
    assert_eq!(service.enrol("TH200-00000002"), 503);
    let refused = service.ask_as_before("TH200-00000002");
    assert_eq!(refused.status, 503);
    assert!(refused.field("retry-after").is_some(), "{}", refused.head);
    assert_eq!(service.curl("/readyz", &[]).status, 503);
    assert_eq!(service.curl("/healthz", &[]).status, 200);
    assert_eq!(world.status("berlin")["hsm"]["state"], "unreachable");
    let server = TokenServer::start(world.folder(), "berlin");
    ask_until_answered(&service, "TH200-00000002");
    assert_eq!(service.curl("/readyz", &[]).status, 200);

    server.signal("STOP");
    assert_eq!(service.enrol("TH200-00000003"), 503);
    server.signal("CONT");
    ask_until_answered(&service, "TH200-00000003");

    assert_eq!(service.stop(), 0);
    let last = counted(&world);
    assert_eq!(
        (&last["good"], &last["unresolved"]),
        (&3.into(), &0.into()),
        "{last}"
    );
}

#[test]
fn a_full_disk_stops_spending_and_nothing_else() {
    let world = World::ready();
    let inner = world.site("serve --listen 127.0.0.1:0").command();
    // Where a file would grow beyond a limit, the system says so in place of killing.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut serving = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(serving.stdout.as_mut().unwrap()),
        &mut ready,
    )
    .unwrap();
    let limit = |bytes: &str| {
        judge::succeed(Command::new("prlimit").args([
            "--pid",
            &serving.id().to_string(),
            &format!("--fsize={bytes}:unlimited"),
        ]));
    };
    world.requests("before", 1..=3);
    world.issue("before").ok();
    let log = world.path("berlin/log/0000000000000000.log");
    limit(&fs::metadata(log).unwrap().len().to_string());
    world.requests("amid", 4..=6);
    let full = world.issue("amid").run();
    assert!(matches!(full.exit, 3 | 5), "{full}");
    let now = account(&world);
    assert_eq!(now["good"], 3, "{now}");
    world
        .site("device scrap TH200-00000001 --reason dropped --confirm TH200-00000001")
        .exits(3);
    limit("unlimited");
    world.issue("amid").ok();
    judge::succeed(Command::new("kill").arg(serving.id().to_string()));
    assert!(serving.wait().unwrap().success());
    let last = counted(&world);
    assert_eq!(
        (&last["good"], &last["unresolved"], &last["scrapped"]),
        (&6.into(), &0.into(), &0.into()),
        "{last}"
    );
}

/// What a service burns that is killed so long after it was busy.
fn burned_after(world: &World, first: u32, idle: Duration) -> u64 {
    let before = account(world)["unresolved"].as_u64().unwrap();
    let mut service = Service::start(world, "");
    for device in first..first + 20 {
        let device = format!("TH200-{device:08}");
        assert_eq!(service.enrol(&device), 200);
    }
    thread::sleep(idle);
    service.signal("KILL");
    service.wait();
    world.site("recover").ok();
    account(world)["unresolved"].as_u64().unwrap() - before
}

#[test]
#[ignore = "it waits for more than a minute"]
fn a_power_cut_at_night_burns_nothing() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    assert!(burned_after(&world, 1, Duration::ZERO) > 0);
    assert_eq!(burned_after(&world, 101, Duration::from_secs(65)), 0);
}
