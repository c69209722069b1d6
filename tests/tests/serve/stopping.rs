//! A service that ends, or cannot begin.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use mintmark_tests::service::let_in;
use mintmark_tests::{Service, World, stores};
use serde_json::{Value, json};

use super::*;

#[test]
fn a_service_that_is_told_to_stop_finishes_what_is_begun_and_says_so() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let place = world.path("notify");
    let systemd = UnixDatagram::bind(&place).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let heard = || {
        let mut said = [0; 512];
        let length = systemd.recv(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    let environment = [
        ("NOTIFY_SOCKET", place.to_str().unwrap()),
        ("WATCHDOG_USEC", "1000000"),
    ];
    let mut service = Service::start_with(&world, "", &environment);
    let ready = heard();
    assert!(
        ready.starts_with("READY=1\n") && ready.contains(&service.address()),
        "{ready}"
    );
    assert!(heard().starts_with("WATCHDOG=1\n"));
    // A stream that goes on: what was sent is answered, and why there is no more is said.
    let mut client = Command::new("curl")
        .current_dir(world.folder())
        .args([
            "--silent",
            "--no-buffer",
            "--cacert",
            "station-ca.pem",
            "--cert",
            "line-1.pem",
        ])
        .args([
            "--key",
            "line-1.key",
            "-H",
            "Content-Type: application/x-ndjson",
            "-T",
            ".",
        ])
        .args(["-X", "POST", &service.url("/api/v1/enrol-many")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ask = client.stdin.take().unwrap();
    let mut answers = BufReader::new(client.stdout.take().unwrap()).lines();
    device_request(&world, "TH200-00000001");
    let csr = fs::read_to_string(world.path("TH200-00000001.csr")).unwrap();
    writeln!(ask, "{}", json!({"csr": csr})).unwrap();
    ask.flush().unwrap();
    let first: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["outcome"], "issued", "{first}");
    service.signal("TERM");
    let last: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "SERVICE-STOPPING", "{last}");
    drop(ask);
    assert!(answers.next().is_none());
    let _ = client.wait();
    while !heard().starts_with("STOPPING=1\n") {}
    assert_eq!(service.wait(), 0);
    let report = reconciled(&world);
    assert_eq!(report["accounts"][0]["good"], 1);
}

#[test]
fn a_service_that_cannot_be_says_why() {
    let world = World::ready();
    let service = Service::start(&world, "");
    let taken = format!("serve --listen {}", service.address());
    world.site(&taken).fails(3, "LISTEN-FAILED");
    world
        .site("serve --listen 127.0.0.1:0")
        .fails(3, "HOME-BUSY");
    assert_eq!(service.stop(), 0);
    world
        .site("serve --listen 127.0.0.1:0 --name not_a_name")
        .fails(2, "USAGE");
    // What starts it again by itself would try a wrong PIN again, until the token locks: 2 is not tried again.
    let pin = stores::pin_file(world.folder(), "berlin");
    let right = fs::read(&pin).unwrap();
    fs::write(&pin, "wrong").unwrap();
    world
        .site("serve --listen 127.0.0.1:0")
        .fails(2, "PIN-INCORRECT");
    fs::write(&pin, right).unwrap();
    // A PIN that systemd holds is asked for where there is no systemd.
    let config = world.path("berlin/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let source = format!("pin-source=file:{}", pin.display());
    assert!(text.contains(&source), "{text}");
    fs::write(&config, text.replace(&source, "pin-source=credential:pin")).unwrap();
    world
        .site("serve --listen 127.0.0.1:0")
        .fails(3, "PIN-NOT-GIVEN");
    let credentials = world.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::copy(&pin, credentials.join("pin")).unwrap();
    let place = credentials.to_str().unwrap();
    let service = Service::start_with(&world, "", &[("CREDENTIALS_DIRECTORY", place)]);
    assert_eq!(service.stop(), 0);
    // A vault that headquarters has not let in has nobody to serve.
    let world = World::with_headquarters();
    world.site_init("berlin");
    world
        .site("serve --listen 127.0.0.1:0")
        .fails(1, "NOT-ENROLLED");
}
