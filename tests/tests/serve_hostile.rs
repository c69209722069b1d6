//! `site serve` among clients that mean harm, or are broken: slow ones, many of them, garbage, a flood. Whoever behaves is
//! served beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mintmark_tests::service::let_in;
use mintmark_tests::{Service, World, judge, request};
use serde_json::json;

/// Lines of each of four streams that flood: more in all than the log holds refusals.
const LINES: usize = 5500;

/// A TLS connection of OpenSSL's; as a station, if one is named.
fn connect(world: &World, service: &Service, station: Option<&str>) -> Child {
    let mut command = Command::new("openssl");
    command.current_dir(world.folder()).args([
        "s_client",
        "-quiet",
        "-connect",
        &service.address(),
        "-CAfile",
        "station-ca.pem",
    ]);
    if let Some(station) = station {
        let files = [format!("{station}.pem"), format!("{station}.key")];
        command.args(["-cert", &files[0], "-key", &files[1]]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a client gets that sends this, and then a byte a second of what never ends.
fn drip(mut client: Child, begin: &str) -> String {
    let mut ask = client.stdin.take().unwrap();
    let mut answers = client.stdout.take().unwrap();
    ask.write_all(begin.as_bytes()).unwrap();
    ask.flush().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let dripping = Arc::clone(&over);
    let drops = thread::spawn(move || {
        while !dripping.load(Ordering::SeqCst) {
            if ask.write_all(b"a").and_then(|()| ask.flush()).is_err() {
                return;
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    let mut answer = String::new();
    let _ = answers.read_to_string(&mut answer);
    over.store(true, Ordering::SeqCst);
    let _ = client.kill();
    let _ = client.wait();
    drops.join().unwrap();
    answer
}

/// A request for a device, in JSON, for the one product that there is.
fn asked(world: &World, device: &str) -> String {
    let name = format!("{device}.der");
    world.write(&name, request::der(device, &request::key()));
    let csr = judge::openssl(world.folder(), &format!("base64 -A -in {name}"));
    json!({"csr": csr.trim()}).to_string()
}

#[track_caller]
fn enrolled(service: &Service, station: &str, body: &str) {
    let options = [
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        body,
    ];
    service
        .curl_as(Some(station), "/api/v1/enrol", &options)
        .is(200);
}

fn metric(service: &Service, line: &str) -> u64 {
    let metrics = service
        .curl("/metrics", &["--interface", "127.0.0.9"])
        .is(200)
        .text();
    let found = metrics.lines().find_map(|found| found.strip_prefix(line));
    found
        .unwrap_or_else(|| panic!("no {line} in\n{metrics}"))
        .trim()
        .parse()
        .unwrap()
}

/// What a process holds in memory, in bytes.
fn resident(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn slow_clients_are_cut_off_while_others_are_served() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    let slow_head = connect(&world, &service, None);
    let slow_body = connect(&world, &service, Some("line-1"));
    let slow_line = connect(&world, &service, Some("line-1"));
    let mut slow_handshake = TcpStream::connect(service.address()).unwrap();
    slow_handshake
        .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .unwrap();
    let head = thread::spawn(move || {
        drip(
            slow_head,
            "GET /healthz HTTP/1.1\r\nHost: vault\r\nX-Slow: ",
        )
    });
    let post = "Host: vault\r\nContent-Length: 60000\r\nContent-Type:";
    let begin = format!("POST /api/v1/enrol HTTP/1.1\r\n{post} application/json\r\n\r\n{{");
    let body = thread::spawn(move || drip(slow_body, &begin));
    let begin =
        format!("POST /api/v1/enrol-many HTTP/1.1\r\n{post} application/x-ndjson\r\n\r\n{{");
    let line = thread::spawn(move || drip(slow_line, &begin));
    enrolled(&service, "line-1", &asked(&world, "TH200-00000001"));
    // A head that does not end gets no answer at all.
    assert_eq!(head.join().unwrap(), "");
    let body = body.join().unwrap();
    assert!(
        body.starts_with("HTTP/1.1 408 ") && body.contains("BODY-LATE"),
        "{body}"
    );
    let line = line.join().unwrap();
    assert!(
        line.starts_with("HTTP/1.1 408 ") && line.contains("BODY-LATE"),
        "{line}"
    );
    slow_handshake
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let _ = slow_handshake.read_to_end(&mut Vec::new());
    let reason =
        |reason: &str| format!("mintmark_connections_turned_away_total{{reason=\"{reason}\"}}");
    assert_eq!(metric(&service, &reason("slow")), 1);
    assert_eq!(metric(&service, &reason("handshake-late")), 1);
    enrolled(&service, "line-1", &asked(&world, "TH200-00000002"));
    assert_eq!(service.stop(), 0);
}

#[test]
fn garbage_and_a_crowd_of_connections_leave_room_for_stations() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    enrolled(&service, "line-1", &asked(&world, "TH200-00000001"));
    let before = resident(&service);
    for round in 0..2000_u32 {
        let Ok(mut garbage) = TcpStream::connect(service.address()) else {
            continue;
        };
        let noise: Vec<u8> = (0..600_u32).map(|at| (at * at + round) as u8).collect();
        let mut bytes = match round % 4 {
            0 => vec![0x16, 0x03, 0x01, 0x02, 0x58],
            1 => vec![0x16, 0xff, 0xff, 0xff, 0xff],
            2 => b"\r\n\r\n".to_vec(),
            _ => Vec::new(),
        };
        bytes.extend(noise);
        let _ = garbage.write_all(&bytes);
    }
    // A crowd that only stands there. More than an address may have are closed at once.
    let crowd: Vec<TcpStream> = (0..400)
        .filter_map(|_| TcpStream::connect(service.address()).ok())
        .collect();
    let elsewhere = ["--interface", "127.0.0.2"];
    service.curl("/healthz", &elsewhere).is(200);
    let body = asked(&world, "TH200-00000002");
    let mut options = vec![
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        &body,
    ];
    options.extend(elsewhere);
    service
        .curl_as(Some("line-1"), "/api/v1/enrol", &options)
        .is(200);
    let address = "mintmark_connections_turned_away_total{reason=\"address\"}";
    assert!(metric(&service, address) > 0);
    assert!(metric(&service, "mintmark_connections ") < 300);
    drop(crowd);
    let grown = resident(&service).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_station_that_floods_waits_behind_itself_and_its_refusals_fill_no_log() {
    let world = World::ready();
    let_in(&world, "flood", "");
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    // Four streams, as many as a station may have, of requests that the rules refuse.
    let mut lines = String::new();
    let key = request::key();
    for number in 0..LINES {
        world.write("flood.der", request::der(&format!("OTHER-{number}"), &key));
        let bytes = fs::read(world.path("flood.der")).unwrap();
        lines.push_str(&format!("{}\n", json!({"csr": base64(&bytes)})));
    }
    world.write("flood.lines", &lines);
    let spent = thread::scope(|scope| {
        let stream = || {
            let options = [
                "-H",
                "Content-Type: application/x-ndjson",
                "-T",
                "flood.lines",
                "-X",
                "POST",
            ];
            service.curl_as(Some("flood"), "/api/v1/enrol-many", &options)
        };
        let floods: Vec<_> = (0..4).map(|_| scope.spawn(stream)).collect();
        let mut served = 0;
        let mut beside = 0;
        while served < 20 {
            enrolled(
                &service,
                "line-1",
                &asked(&world, &format!("TH200-{served:08}")),
            );
            served += 1;
            beside += usize::from(floods.iter().any(|flood| !flood.is_finished()));
        }
        for flood in floods {
            let answers = flood.join().unwrap().is(200).lines();
            assert_eq!(answers.len(), LINES);
            let refused =
                |answer: &serde_json::Value| answer["error"]["code"] == "DEVICE-ID-FORBIDDEN";
            assert!(
                answers.iter().all(refused),
                "{:?}",
                answers.iter().find(|answer| !refused(answer))
            );
        }
        beside
    });
    assert!(
        spent > 0,
        "the flood was over before anybody else was served"
    );
    assert_eq!(service.stop(), 0);
    // Refusals are on record up to a bound between two bundles.
    let log = world.log("berlin");
    let refused = log.iter().filter(|row| row["outcome"] == "refused");
    assert!(refused.count() <= 20_020);
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    assert_eq!(report["accounts"][0]["good"], 20);
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0_u32, |word, at| {
            word << 8 | u32::from(*three.get(at).unwrap_or(&0))
        });
        for digit in 0..4 {
            match digit <= three.len() {
                true => text.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}
