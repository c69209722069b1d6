//! A station all of whose requests are refused, one after the other over connections that it keeps: what it costs the
//! service is bounded, in memory and on the disk, and other stations have their certificates meanwhile.
//!
//! A million of them, which no ordinary run has the time for:
//! `MINTMARK_REFUSALS=1000000 cargo nextest run -p mintmark-tests --test serve_refusals --run-ignored all`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;

use mintmark_ledger::state::ANSWERS_LOGGED_MAX;
use mintmark_tests::service::let_in;
use mintmark_tests::{Service, World, judge, request};
use serde_json::json;

/// Two products, of which the station in question may have one.
const POLICY: &str = r#"schema = 1
id = "both"
valid_for_days = 90
[credit]
max_unreported_units = 20000
max_unreported_days = 14
[[product]]
sku = "TH-200"
units = 5000
device_id_pattern = "TH200-[0-9]{8}"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=TH-200, serialNumber={device_id}"
validity_days = 7300
[[product]]
sku = "GW-7"
units = 10
device_id_pattern = "GW7-[0-9]{8}"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=GW-7, serialNumber={device_id}"
validity_days = 7300
"#;

/// The largest row of a log that a refused request leaves, its request included, in bytes.
const ROW_BYTES_MAX: u64 = 2048;

/// What is refused: the product that is asked for, the request, the status, and the code in the metrics if a rule of the
/// ledger refuses it.
const KINDS: [(&str, &str, u16, Option<&str>); 5] = [
    (
        "GW-7",
        "of-gateway",
        403,
        Some("STATION-PRODUCT-NOT-ALLOWED"),
    ),
    ("TH-200", "beyond", 403, Some("STATION-RATE-DAY")),
    ("TH-200", "forged", 400, None),
    ("TH-200", "garbage", 400, None),
    ("XX-9", "beyond", 404, None),
];

/// A body as EST has it, `$D/NAME.p10`.
fn body(world: &World, name: &str, der: &[u8]) {
    world.write(&format!("{name}.der"), der);
    let base64 = judge::openssl(world.folder(), &format!("base64 -in {name}.der"));
    world.write(&format!("{name}.p10"), base64);
}

/// curl, which sends this so many times as the station `rogue` over one connection, and writes a line with the status
/// and the number of connections made for each answer.
fn flood(world: &World, service: &Service, product: &str, body: &str, count: usize) -> Child {
    let url = service.url(&format!(
        "/.well-known/est/{product}/simpleenroll?[1-{count}]"
    ));
    Command::new("curl")
        .current_dir(world.folder())
        .args(["--silent", "--cacert", "station-ca.pem"])
        .args(["--cert", "rogue.pem", "--key", "rogue.key"])
        .args(["-H", "Content-Type: application/pkcs10"])
        .args(["--data-binary", &format!("@{body}.p10")])
        .args(["--output", "/dev/null"])
        .args(["--write-out", "%{http_code} %{num_connects}\n"])
        .arg(url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What came of it: the statuses, and how many connections there were.
fn answered(flood: Child) -> (BTreeMap<u16, usize>, usize) {
    let output = flood.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut statuses = BTreeMap::new();
    let mut connections = 0;
    for line in text.lines() {
        let (status, connects) = line.split_once(' ').unwrap();
        *statuses.entry(status.parse().unwrap()).or_default() += 1;
        connections += connects.parse::<usize>().unwrap();
    }
    (statuses, connections)
}

fn resident(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() * 1024
}

/// The bytes of the log in the home.
fn log_bytes(world: &World) -> u64 {
    let files = fs::read_dir(world.path("berlin/log")).unwrap();
    let sizes = files.map(|file| file.unwrap().metadata().unwrap().size());
    sizes.sum()
}

/// Has all of these refused, and looks at what became of the service.
fn refuse(count: usize) {
    let world = World::with_policy(POLICY);
    let_in(&world, "line-1", "");
    let_in(&world, "rogue", "--product TH-200 --units-per-day 1");
    let key = request::key();
    let mut forged = request::der("TH200-00009003", &key);
    *forged.last_mut().unwrap() ^= 1;
    body(&world, "within", &request::der("TH200-00009001", &key));
    body(
        &world,
        "beyond",
        &request::der("TH200-00009002", &request::key()),
    );
    body(
        &world,
        "of-gateway",
        &request::der("GW7-00000001", &request::key()),
    );
    body(&world, "forged", &forged);
    body(&world, "garbage", b"no request at all");
    let service = Service::start_with(&world, "", &[("SITE_LOG", "info")]);
    let one = |product, name, count| answered(flood(&world, &service, product, name, count));
    assert_eq!(one("TH-200", "within", 1).0, BTreeMap::from([(200, 1)]));
    for (product, name, status, _) in KINDS {
        let (statuses, _) = one(product, name, 50);
        assert_eq!(statuses, BTreeMap::from([(status, 50)]), "{name}");
    }
    let (memory, log, said) = (resident(&service), log_bytes(&world), service.log().len());

    let each = count / KINDS.len();
    let served = thread::scope(|scope| {
        let floods = KINDS.map(|(product, name, status, _)| {
            let flood = flood(&world, &service, product, name, each);
            scope.spawn(move || {
                let (statuses, connections) = answered(flood);
                assert_eq!(statuses, BTreeMap::from([(status, each)]), "{name}");
                connections
            })
        });
        let mut served = 0;
        while served < 10 || (served < 2000 && floods.iter().any(|flood| !flood.is_finished())) {
            assert_eq!(service.enrol(&format!("TH200-{served:08}")), 200);
            served += 1;
        }
        for flood in floods {
            let connections = flood.join().unwrap();
            assert!(connections <= 1 + each / 100, "{connections} connections");
        }
        served
    });

    let grown = resident(&service).saturating_sub(memory);
    assert!(grown < 64 << 20, "{grown} bytes of memory more");
    let grown = log_bytes(&world).saturating_sub(log);
    let rows = u64::try_from(count).unwrap().min(ANSWERS_LOGGED_MAX) + 10 * served;
    assert!(grown < rows * ROW_BYTES_MAX, "{grown} bytes of log more");
    let more = service.log().split_off(said);
    assert!(more.len() < 4096, "{more}");
    let metrics = service.curl("/metrics", &[]).is(200).text();
    for (_, name, _, code) in KINDS {
        if let Some(code) = code {
            let line = format!("mintmark_refusals_total{{code=\"{code}\"}} {}", each + 50);
            assert!(metrics.contains(&line), "{name}: {line}\n{metrics}");
        }
    }
    assert_eq!(service.stop(), 0);

    let log = world.log("berlin");
    let refused = log.iter().filter(|row| row["outcome"] == "refused").count();
    let refused = u64::try_from(refused).unwrap();
    assert!(refused <= ANSWERS_LOGGED_MAX + served + 1, "{refused} rows");
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    assert_eq!(
        report["accounts"][0]["good"].as_u64().unwrap()
            + report["accounts"][1]["good"].as_u64().unwrap(),
        served + 1,
        "{report}"
    );
    println!("{count} refused, {refused} of them on record, {served} certificates beside them");
}

#[test]
fn refused_requests_cost_neither_memory_nor_log_nor_anybody_elses_certificates() {
    refuse(1000);
}

#[test]
#[ignore = "it takes as long as it takes"]
fn so_do_as_many_as_are_asked_for() {
    let count = std::env::var("MINTMARK_REFUSALS");
    refuse(count.map_or(100_000, |count| count.parse().unwrap()));
}
