//! `site serve` while the vault's token goes away and comes back: whoever asks is told to come again, and is given then what was
//! reserved for them. Nobody restarts anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::thread;
use std::time::Duration;

use mintmark_tests::service::{Answer, let_in};
use mintmark_tests::{Service, Stores, TokenServer, World, judge, request, through_server};
use serde_json::json;

/// How often is asked again before it counts as never.
const TRIES: usize = 300;
const PAUSE: Duration = Duration::from_millis(200);

/// A request for a device, in JSON, for the one product that there is.
fn asked(world: &World, device: &str) -> String {
    let name = format!("{device}.der");
    world.write(&name, request::der(device, &request::key()));
    let csr = judge::openssl(world.folder(), &format!("base64 -A -in {name}"));
    json!({"csr": csr.trim()}).to_string()
}

fn enrol(service: &Service, body: &str) -> Answer {
    let options = [
        "-H",
        "Content-Type: application/json",
        "--data-binary",
        body,
    ];
    service.curl_as(Some("line-1"), "/api/v1/enrol", &options)
}

/// Asks until the answer has this status.
#[track_caller]
fn until(status: u16, ask: impl Fn() -> Answer) -> Answer {
    let mut answer = ask();
    for _ in 0..TRIES {
        if answer.status == status {
            break;
        }
        thread::sleep(PAUSE);
        answer = ask();
    }
    answer.is(status)
}

#[test]
fn a_token_that_goes_away_under_the_service_costs_no_unit_and_no_restart() {
    let world = World::ready_in(Stores::Tokens);
    let at_hand = world.keys("berlin");
    let config = world.path("berlin/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let remote = through_server(world.folder(), &at_hand);
    fs::write(&config, text.replace(&at_hand, &remote)).unwrap();
    let mut server = TokenServer::start(world.folder(), "berlin");
    let_in(&world, "line-1", "");
    // The service's own key is elsewhere, so that it can be spoken to while the vault's token is away.
    let service = Service::start(&world, "--tls-keys @door --answer-seconds 3");
    enrol(&service, &asked(&world, "TH200-00000001")).is(200);
    for number in 2..5 {
        server.kill();
        let body = asked(&world, &format!("TH200-{number:08}"));
        let away = enrol(&service, &body).is(503);
        assert!(away.field("retry-after").is_some(), "{}", away.head);
        until(503, || service.curl("/readyz", &[]));
        service.curl("/healthz", &[]).is(200);
        service.curl("/metrics", &[]).is(200);
        server = TokenServer::start(world.folder(), "berlin");
        let issued = until(200, || enrol(&service, &body)).json();
        let again = enrol(&service, &body).is(200).json();
        assert_eq!(again["certificate"], issued["certificate"]);
        until(200, || service.curl("/readyz", &[]));
    }
    assert_eq!(service.stop(), 0);
    fs::write(&config, &text).unwrap();
    server.kill();
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["findings"], json!([]), "{report}");
    let account = &report["accounts"][0];
    assert_eq!(
        (&account["good"], &account["unresolved"]),
        (&json!(4), &json!(0)),
        "{account}"
    );
}
