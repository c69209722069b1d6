//! The key of the service.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use mintmark_tests::service::let_in;
use mintmark_tests::{Service, Stores, World, judge, stores};

use super::*;

#[test]
fn the_services_key_changes_without_a_restart() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    world
        .site("station rotate-tls")
        .fails(2, "SERVE-NEVER-STARTED");
    let service = Service::start(&world, "--name localhost --name 127.0.0.1");
    let shown = |service: &Service| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &service.address()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap();
        let end = text.find("-----END CERTIFICATE-----").unwrap();
        text[begin..end].to_owned()
    };
    let first = shown(&service);
    let rotated = world.site("station rotate-tls").ok().json();
    assert_eq!(rotated["key"], "serve-tls-2", "{rotated}");
    let mut second = shown(&service);
    for _ in 0..200 {
        if second != first {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        second = shown(&service);
    }
    assert_ne!(second, first, "{}", service.log());
    service.curl("/healthz", &[]).is(200);
    assert_eq!(service.stop(), 0);
    // Started again it shows the same: nothing is made that is there.
    let service = Service::start(&world, "--name localhost --name 127.0.0.1");
    assert_eq!(shown(&service), second);
    assert_eq!(service.stop(), 0);
    // Another name is another certificate for the same key.
    let service = Service::start(&world, "--name 127.0.0.1");
    assert_ne!(shown(&service), second);
    service.curl("/healthz", &[]).is(200);
    assert_eq!(service.stop(), 0);
    reconciled(&world);
}

#[test]
fn the_services_key_is_in_the_token_and_so_is_every_other() {
    let world = World::ready_in(Stores::Tokens);
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    device_request(&world, "TH200-00000001");
    enrol(&service, Some("line-1"), "/simpleenroll", "TH200-00000001").is(200);
    assert_eq!(service.stop(), 0);
    let labels = judge::succeed(
        Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", stores::configuration(world.folder()))
            .arg("--module")
            .arg(stores::module())
            .args([
                "--token-label",
                "berlin",
                "--list-objects",
                "--type",
                "pubkey",
            ]),
    );
    let labels = String::from_utf8(labels.stdout).unwrap();
    for label in ["serve-tls", "station-ca", "device-ca"] {
        assert!(labels.contains(label), "{labels}");
    }
    // Another token for the service alone.
    let service = Service::start(&world, "--tls-keys @door");
    enrol(&service, Some("line-1"), "/simpleenroll", "TH200-00000001").is(200);
    let rotated = world.site("station rotate-tls").ok().json();
    assert_eq!(
        rotated["key"], "serve-tls-2",
        "where the service was told: {rotated}"
    );
    assert_eq!(service.stop(), 0);
    let report = reconciled(&world);
    assert_eq!(report["accounts"][0]["good"], 1);
}

#[test]
fn a_connection_leaves_one_session_and_the_next_one_resumes_it_until_the_key_is_another() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    let shown = |session: [&str; 2]| {
        let mut client = Command::new("openssl")
            .current_dir(world.folder())
            .args(["s_client", "-ign_eof", "-connect", &service.address()])
            .args(["-CAfile", "station-ca.pem", "-verify_return_error"])
            .args(["-cert", "line-1.pem", "-key", "line-1.key"])
            .args(session)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ask = b"GET /healthz HTTP/1.1\r\nHost: vault\r\nConnection: close\r\n\r\n";
        client.stdin.take().unwrap().write_all(ask).unwrap();
        let output = client.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let first = shown(["-sess_out", "session"]);
    assert!(first.contains("New, TLSv1.3"), "{first}");
    let tickets = first.matches("Post-Handshake New Session Ticket").count();
    assert_eq!(tickets, 1, "{first}");
    let second = shown(["-sess_in", "session"]);
    assert!(second.contains("Reused, TLSv1.3"), "{second}");
    assert!(second.contains("HTTP/1.1 200"), "{second}");
    world.site("station rotate-tls").ok();
    let mut third = shown(["-sess_in", "session"]);
    for _ in 0..200 {
        if !third.contains("Reused, TLSv1.3") {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        third = shown(["-sess_in", "session"]);
    }
    assert!(third.contains("New, TLSv1.3"), "{third}");
    assert!(third.contains("HTTP/1.1 200"), "{third}");
    assert_eq!(service.stop(), 0);
}
