//! `site serve`, as curl and OpenSSL see it: EST by RFC 7030, the JSON of factory tools, metrics, the floor's page. What is
//! made there is reported to headquarters like everything else, and balances.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "serve/factory.rs"]
mod factory;
#[path = "serve/keys.rs"]
mod keys;
#[path = "serve/stopping.rs"]
mod stopping;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use mintmark_tests::service::{Answer, let_in};
use mintmark_tests::{Service, World, judge};
use serde_json::{Value, json};

const EST: &str = "/.well-known/est";

const AS_JSON: [&str; 2] = ["-H", "Accept: application/json"];

/// A second product beside the first.
const TWO_PRODUCTS: &str = r#"schema = 1
id = "both"
valid_for_days = 90
[credit]
max_unreported_units = 20000
max_unreported_days = 14
[[product]]
sku = "TH-200"
units = 10
reissues_per_device = 1
device_id_pattern = "TH200-[0-9]{8}"
key_algorithms = ["P-256"]
[product.certificate]
subject = "O=Acme, OU=TH-200, serialNumber={device_id}"
validity_days = 7300
[[product]]
sku = "GW-7"
units = 10
device_id_pattern = "GW7-[0-9]{8}"
key_algorithms = ["P-256", "P-384"]
[product.certificate]
subject = "O=Acme, OU=GW-7, serialNumber={device_id}"
validity_days = 7300
"#;

/// A request of OpenSSL's for a device, as EST sends it: base64 of DER in lines that end with CR LF. `$D/NAME.key`,
/// `$D/NAME.csr`, `$D/NAME.p10`.
fn device_request(world: &World, device: &str) {
    judge::openssl(
        world.folder(),
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {device}.key -subj /serialNumber={device} -out {device}.csr"
        ),
    );
    judge::openssl(
        world.folder(),
        &format!("req -in {device}.csr -outform DER -out {device}.der"),
    );
    let base64 = judge::openssl(world.folder(), &format!("base64 -in {device}.der"));
    world.write(&format!("{device}.p10"), base64.replace('\n', "\r\n"));
}

fn pkcs10(device: &str) -> Vec<String> {
    let options = [
        "-H",
        "Content-Type: application/pkcs10",
        "-H",
        "Content-Transfer-Encoding: base64",
    ];
    let mut options: Vec<String> = options.map(str::to_owned).to_vec();
    options.extend(["--data-binary".to_owned(), format!("@{device}.p10")]);
    options
}

fn enrol(service: &Service, station: Option<&str>, path: &str, device: &str) -> Answer {
    let options = pkcs10(device);
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.extend(AS_JSON);
    service.curl_as(station, &format!("{EST}{path}"), &options)
}

/// The certificates of a certs-only message, as OpenSSL reads it: `$D/NAME.certs`, and their subjects.
fn certificates(world: &World, name: &str, answer: &Answer) -> Vec<String> {
    assert!(
        answer
            .field("content-type")
            .unwrap()
            .starts_with("application/pkcs7-mime"),
        "{}",
        answer.head
    );
    world.write(&format!("{name}.p7b64"), &answer.body);
    judge::openssl(
        world.folder(),
        &format!("base64 -d -in {name}.p7b64 -out {name}.p7"),
    );
    let printed = judge::openssl(
        world.folder(),
        &format!("pkcs7 -inform DER -in {name}.p7 -print_certs -out {name}.certs"),
    );
    assert_eq!(printed, "");
    let certs = fs::read_to_string(world.path(&format!("{name}.certs"))).unwrap();
    let subjects = certs
        .lines()
        .filter_map(|line| line.strip_prefix("subject="));
    subjects.map(|subject| subject.trim().to_owned()).collect()
}

fn post_json(service: &Service, station: &str, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let options = [
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        &body,
    ];
    service.curl_as(Some(station), path, &options)
}

fn reconciled(world: &World) -> Value {
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    report
}

#[test]
fn est_is_followed_step_by_step_and_headquarters_counts_the_same() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    // RFC 7030 section 4.1: what the client shall trust.
    let cacerts = service.curl(&format!("{EST}/cacerts"), &[]).is(200);
    assert_eq!(
        cacerts.field("content-transfer-encoding").as_deref(),
        Some("base64")
    );
    assert!(cacerts.text().contains("\r\n"));
    // Whoever does not say what it accepts has a reader of HTTP of its own, which may not skip the ends of lines.
    let line = service
        .curl(&format!("{EST}/cacerts"), &["-H", "Accept:"])
        .is(200);
    assert_eq!(line.text(), cacerts.text().replace("\r\n", ""));
    let subjects = certificates(&world, "cacerts", &cacerts);
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    let of_label = service.curl(&format!("{EST}/TH-200/cacerts"), &[]).is(200);
    assert_eq!(of_label.body, cacerts.body);
    // Section 4.5: what requests are to be like.
    let attributes = service.curl(&format!("{EST}/TH-200/csrattrs"), &[]).is(200);
    assert_eq!(
        attributes.field("content-type").as_deref(),
        Some("application/csrattrs")
    );
    world.write("csrattrs.b64", &attributes.body);
    judge::openssl(
        world.folder(),
        "base64 -d -in csrattrs.b64 -out csrattrs.der",
    );
    let shown = judge::openssl(world.folder(), "asn1parse -inform DER -in csrattrs.der");
    assert!(
        shown.contains("serialNumber") && shown.contains("prime256v1"),
        "{shown}"
    );

    // Section 4.2.1: a certificate, by the label and without it, since there is one product.
    for (device, path) in [
        ("TH200-00000001", "/TH-200/simpleenroll"),
        ("TH200-00000002", "/simpleenroll"),
    ] {
        device_request(&world, device);
        let answer = enrol(&service, Some("line-1"), path, device).is(200);
        let subjects = certificates(&world, device, &answer);
        assert_eq!(subjects.len(), 1, "{subjects:?}");
        assert!(subjects[0].contains(device), "{subjects:?}");
        judge::openssl(
            world.folder(),
            &format!("verify -CAfile cacerts.certs {device}.certs"),
        );
        let key = judge::openssl(world.folder(), &format!("pkey -in {device}.key -pubout"));
        let certified = judge::openssl(
            world.folder(),
            &format!("x509 -in {device}.certs -noout -pubkey"),
        );
        assert_eq!(key, certified);
        // Asking twice is free.
        let again = enrol(&service, Some("line-1"), path, device).is(200);
        assert_eq!(again.body, answer.body);
    }

    // What the vault says of itself is put up once a second.
    let mut metrics = String::new();
    for _ in 0..100 {
        metrics = service.curl("/metrics", &[]).is(200).text();
        if metrics.contains("state=\"unspent\"} 998") {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    for line in [
        "mintmark_ready 1",
        "mintmark_requests_total{product=\"TH-200\",outcome=\"issued\"} 2",
        "mintmark_requests_total{product=\"TH-200\",outcome=\"existing\"} 2",
        "mintmark_http_answers_total{route=\"est/simpleenroll\",status=\"200\"} 4",
        "mintmark_units{product=\"TH-200\",entitlement=\"th200\",state=\"unspent\"} 998",
        "mintmark_token_signature_seconds_count 2",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "no {line} in\n{metrics}"
        );
    }
    let log = service.log();
    assert_eq!(service.stop(), 0);
    for name in ["berlin", "line-1"] {
        if let Ok(pin) = fs::read_to_string(world.path(&format!("pins/{name}.pin"))) {
            assert!(!log.contains(&pin), "a PIN is in the log");
        }
    }
    let report = reconciled(&world);
    assert_eq!(report["accounts"][0]["good"], 2);
}

#[test]
fn who_asks_for_what_is_not_to_be_had_is_told_so_and_spends_nothing() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    judge::openssl(
        world.folder(),
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout foreign.key -subj /CN=line-1 -out foreign.pem",
    );
    let service = Service::start(&world, "");
    device_request(&world, "TH200-00000001");
    let station = Some("line-1");

    enrol(&service, None, "/TH-200/simpleenroll", "TH200-00000001")
        .refused(401, "CLIENT-CERTIFICATE-MISSING");
    let foreign = enrol(
        &service,
        Some("foreign"),
        "/TH-200/simpleenroll",
        "TH200-00000001",
    );
    assert!(
        foreign.failure.is_some(),
        "TLS lets nobody in whom the station CA does not know: {foreign:?}"
    );
    enrol(&service, station, "/XX-9/simpleenroll", "TH200-00000001")
        .refused(404, "PRODUCT-UNKNOWN");
    service
        .curl(&format!("{EST}/XX-9/cacerts"), &AS_JSON)
        .refused(404, "PRODUCT-UNKNOWN");
    service
        .curl(&format!("{EST}/TH-200/fullcmc"), &AS_JSON)
        .refused(404, "ROUTE-UNKNOWN");
    service
        .curl_as(station, &format!("{EST}/simpleenroll"), &[])
        .refused(405, "METHOD-UNKNOWN");

    let post = |content_type: &str, data: &str| {
        let content_type = format!("Content-Type: {content_type}");
        let mut options = vec!["-H", &content_type, "--data-binary", data];
        options.extend(AS_JSON);
        service.curl_as(station, &format!("{EST}/TH-200/simpleenroll"), &options)
    };
    post("text/plain", "@TH200-00000001.p10").refused(415, "CONTENT-TYPE-UNSUPPORTED");
    post("application/pkcs10", "garbage!").refused(400, "EST-BODY-NOT-BASE64");
    post("application/pkcs10", "AAAA").refused(400, "CSR-MALFORMED");
    post("application/pkcs10", "@TH200-00000001.csr").refused(400, "EST-BODY-NOT-BASE64");
    world.write("large", vec![b'A'; 70_000]);
    post("application/pkcs10", "@large").refused(413, "BODY-TOO-LARGE");
    // A refusal is for a person, who sees it as EST's clients show it.
    let options = pkcs10("TH200-00000001");
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let plain = service
        .curl(&format!("{EST}/TH-200/simpleenroll"), &options)
        .is(401);
    assert!(
        plain
            .field("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    assert!(
        plain
            .text()
            .starts_with("error[CLIENT-CERTIFICATE-MISSING]: "),
        "{}",
        plain.text()
    );
    // What the rules refuse.
    device_request(&world, "OTHER-1");
    enrol(&service, station, "/TH-200/simpleenroll", "OTHER-1").refused(403, "DEVICE-ID-FORBIDDEN");

    let bodies = ["{", "[]", "{\"csr\":1}", "{\"csr\":\"\",\"else\":1}"];
    for body in bodies {
        let options = [
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            body,
        ];
        service
            .curl_as(station, "/api/v1/enrol", &options)
            .refused(400, "REQUEST-MALFORMED");
    }
    post_json(&service, "line-1", "/api/v1/enrol", &json!({"csr": "AAAA"}))
        .refused(400, "CSR-NOT-A-REQUEST");
    service
        .curl("/api/v1/status", &[])
        .refused(401, "CLIENT-CERTIFICATE-MISSING");
    service
        .curl("/api/v1/devices/TH200-00000001", &[])
        .refused(401, "CLIENT-CERTIFICATE-MISSING");
    service.curl("/nowhere", &[]).refused(404, "ROUTE-UNKNOWN");

    assert_eq!(service.stop(), 0);
    let report = reconciled(&world);
    assert_eq!(report["accounts"][0]["unspent"], 1000);
    // Of all that, one request was one that a vault decides on.
    let refused = world.log("berlin");
    let refused: Vec<&Value> = refused
        .iter()
        .filter(|row| row["outcome"] == "refused")
        .collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[test]
fn old_tls_and_no_tls_are_refused_and_tls_1_2_is_there_for_whoever_allows_it() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    for version in ["1.0", "1.1", "1.2"] {
        let old = service.curl(
            "/healthz",
            &["--tls-max", version, "--ciphers", "DEFAULT@SECLEVEL=0"],
        );
        assert!(old.failure.is_some(), "TLS {version}: {old:?}");
    }
    let new = service.curl("/healthz", &["--tlsv1.3"]).is(200);
    assert_eq!(new.text(), "ok\n");
    // Plain HTTP on the port.
    let plain = Command::new("curl")
        .args([
            "--silent",
            "--include",
            &format!("http://{}/healthz", service.address()),
        ])
        .output()
        .unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert!(
        plain.starts_with("HTTP/1.1 400 ") && plain.contains("TLS-REQUIRED"),
        "{plain}"
    );
    // Garbage.
    let mut garbage = TcpStream::connect(service.address()).unwrap();
    garbage
        .write_all(&[0x16, 0x03, 0x01, 0xff, 0xff, 1, 2, 3, 4, 5])
        .unwrap();
    garbage
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let _ = garbage.read_to_end(&mut Vec::new());
    service.curl("/healthz", &[]).is(200);
    assert_eq!(service.stop(), 0);

    let service = Service::start(&world, "--tls12");
    service.curl("/healthz", &["--tls-max", "1.2"]).is(200);
    service.curl("/healthz", &["--tlsv1.3"]).is(200);
    let old = service.curl(
        "/healthz",
        &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"],
    );
    assert!(old.failure.is_some(), "{old:?}");
    device_request(&world, "TH200-00000001");
    enrol(&service, Some("line-1"), "/simpleenroll", "TH200-00000001").is(200);
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_device_that_has_a_certificate_gets_another_one_as_far_as_the_policy_allows_reworks() {
    let world = World::with_policy(TWO_PRODUCTS);
    let_in(&world, "line-1", "");
    let_in(&world, "gateways", "--product GW-7");
    let service = Service::start(&world, "");
    device_request(&world, "TH200-00000001");
    enrol(&service, Some("line-1"), "/simpleenroll", "TH200-00000001")
        .refused(400, "PRODUCT-UNNAMED");
    let of_label = "/TH-200/simpleenroll";
    enrol(&service, Some("line-1"), of_label, "TH200-00000001").is(200);
    enrol(&service, Some("gateways"), of_label, "TH200-00000001")
        .refused(403, "STATION-PRODUCT-NOT-ALLOWED");
    // Another key is refused, and taken where it is a re-enrolment, once.
    device_request(&world, "TH200-00000001");
    enrol(&service, Some("line-1"), of_label, "TH200-00000001").refused(409, "DEVICE-KEY-CHANGED");
    let again = enrol(
        &service,
        Some("line-1"),
        "/TH-200/simplereenroll",
        "TH200-00000001",
    )
    .is(200);
    let same = enrol(
        &service,
        Some("line-1"),
        "/TH-200/simplereenroll",
        "TH200-00000001",
    )
    .is(200);
    assert_eq!(again.body, same.body, "asking twice is free");
    device_request(&world, "TH200-00000001");
    enrol(
        &service,
        Some("line-1"),
        "/TH-200/simplereenroll",
        "TH200-00000001",
    )
    .refused(403, "REWORK-EXHAUSTED");
    // The only product of a station is meant where none is named.
    device_request(&world, "GW7-00000001");
    enrol(&service, Some("gateways"), "/simpleenroll", "GW7-00000001").is(200);
    assert_eq!(service.stop(), 0);
    let report = reconciled(&world);
    let accounts = report["accounts"].as_array().unwrap();
    for account in accounts {
        assert_eq!(
            (&account["good"], &account["unspent"]),
            (&json!(1), &json!(9)),
            "{account}"
        );
    }
}

/// curl on one connection: a first request, a pause in which something happens, and a second one.
#[test]
fn a_station_that_is_shut_out_gets_nothing_more_on_a_connection_that_is_open() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    let mut client = Command::new("openssl")
        .current_dir(world.folder())
        .args([
            "s_client",
            "-quiet",
            "-connect",
            &service.address(),
            "-CAfile",
            "station-ca.pem",
        ])
        .args([
            "-verify_return_error",
            "-cert",
            "line-1.pem",
            "-key",
            "line-1.key",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut ask, mut answers) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut get = |path: &str, until: &str| {
        write!(ask, "GET {path} HTTP/1.1\r\nHost: vault\r\n\r\n").unwrap();
        ask.flush().unwrap();
        let (mut answer, mut piece) = (String::new(), [0; 4096]);
        while !answer.contains(until) {
            let read = answers.read(&mut piece).unwrap();
            assert!(read > 0, "the connection was closed: {answer}");
            answer.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        answer
    };
    let before = get("/api/v1/status", "mintmark/status/1");
    assert!(before.starts_with("HTTP/1.1 200 "), "{before}");
    world
        .site("station revoke line-1 --confirm line-1 --reason stolen")
        .ok();
    let after = get("/api/v1/status", "\"error\"");
    assert!(
        after.starts_with("HTTP/1.1 403 ") && after.contains("STATION-REVOKED"),
        "{after}"
    );
    let _ = client.kill();
    let _ = client.wait();
    device_request(&world, "TH200-00000001");
    enrol(&service, Some("line-1"), "/simpleenroll", "TH200-00000001")
        .refused(403, "STATION-REVOKED");
    assert_eq!(service.stop(), 0);
    reconciled(&world);
}

#[test]
fn the_floors_page_brings_everything_itself_and_forbids_the_rest() {
    let world = World::ready();
    let service = Service::start(&world, "");
    let page = service.curl("/", &[]).is(200);
    let policy = page.field("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = page.text();
    assert!(!text.contains("src=") && !text.contains("url(") && !text.contains("@import"));
    assert!(!text.contains("{STYLE}") && !text.contains("{SCRIPT}"));
    let status = service.curl("/status.json", &[]).is(200).json();
    assert_eq!(status["schema"], "mintmark/floor/1");
    assert_eq!(status["state"], "good", "{status}");
    assert_eq!(status["products"][0]["unspent"], 1000);
    service.curl("/healthz", &[]).is(200);
    service.curl("/readyz", &[]).is(200);
    assert_eq!(service.stop(), 0);
}
