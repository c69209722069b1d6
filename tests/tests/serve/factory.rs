//! What the tools of a factory speak: JSON.

use std::fs;
use std::thread;
use std::time::Duration;

use mintmark_tests::service::let_in;
use mintmark_tests::{Service, World, judge, request};
use serde_json::{Value, json};

use super::*;

#[test]
fn the_json_of_factory_tools_says_what_the_command_line_says() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    let pem = |device: &str| {
        device_request(&world, device);
        fs::read_to_string(world.path(&format!("{device}.csr"))).unwrap()
    };
    let asked = json!({"product": "TH-200", "csr": pem("TH200-00000001")});
    let issued = post_json(&service, "line-1", "/api/v1/enrol", &asked)
        .is(200)
        .json();
    assert_eq!(issued["outcome"], "issued", "{issued}");
    assert_eq!(issued["device_id"], "TH200-00000001");
    world.write("device.pem", issued["certificate"].as_str().unwrap());
    world.write("chain.pem", issued["chain"].as_str().unwrap());
    judge::openssl(world.folder(), "verify -CAfile chain.pem device.pem");
    let again = post_json(&service, "line-1", "/api/v1/enrol", &asked)
        .is(200)
        .json();
    assert_eq!(again["outcome"], "existing");
    assert_eq!(again["certificate"], issued["certificate"]);

    let device = service
        .curl_as(Some("line-1"), "/api/v1/devices/TH200-00000001", &[])
        .is(200)
        .json();
    assert_eq!(device["units"][0]["serial"], issued["serial"], "{device}");
    assert_eq!(device["units"][0]["status"], "good", "{device}");
    service
        .curl_as(Some("line-1"), "/api/v1/devices/TH200-99999999", &[])
        .refused(404, "DEVICE-UNKNOWN");
    let order = json!({"product": "TH-200", "reason": "fell off the line"});
    let scrapped = post_json(
        &service,
        "line-1",
        "/api/v1/devices/TH200-00000001/scrap",
        &order,
    );
    assert_eq!(scrapped.is(200).json()["outcome"], "scrapped");
    post_json(
        &service,
        "line-1",
        "/api/v1/devices/TH200-00000001/rework",
        &order,
    )
    .refused(403, "DEVICE-SCRAPPED");
    post_json(
        &service,
        "line-1",
        "/api/v1/devices/TH200-00000001/void",
        &json!({"reason": ""}),
    )
    .refused(400, "REASON-INVALID");
    post_json(
        &service,
        "line-1",
        "/api/v1/devices/TH200-99999999/scrap",
        &order,
    )
    .refused(404, "DEVICE-UNKNOWN");
    let device = service
        .curl_as(Some("line-1"), "/api/v1/devices/TH200-00000001", &[])
        .is(200)
        .json();
    assert_eq!(device["units"][0]["status"], "scrapped", "{device}");
    let mut status = Value::Null;
    for _ in 0..100 {
        status = service
            .curl_as(Some("line-1"), "/api/v1/status", &[])
            .is(200)
            .json();
        if status["accounts"][0]["scrapped"] == 1 {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(status["schema"], "mintmark/status/1");
    assert_eq!(status["accounts"][0]["scrapped"], 1, "{status}");

    // Many at a time.
    let mut lines = String::new();
    for number in 100..400 {
        let der = request::der(&format!("TH200-{number:08}"), &request::key());
        world.write("one.der", &der);
        let csr = judge::openssl(world.folder(), "base64 -A -in one.der");
        let line = json!({"product": "TH-200", "csr": csr.trim(), "id": number});
        lines.push_str(&format!("{line}\n"));
    }
    lines.push_str("{}\n\n{\"csr\":\"AAAA\"}");
    world.write("lines", &lines);
    let stream = |options: &[&str]| {
        let mut all = vec![
            "-H",
            "Content-Type: application/x-ndjson",
            "-T",
            "lines",
            "-X",
            "POST",
        ];
        all.extend(options);
        service.curl_as(Some("line-1"), "/api/v1/enrol-many", &all)
    };
    for outcome in ["issued", "existing"] {
        let answers = stream(&[]).is(200).lines();
        assert_eq!(answers.len(), 302);
        for (at, answer) in answers.iter().take(300).enumerate() {
            assert_eq!(answer["line"], at + 1);
            assert_eq!(answer["id"], at + 100, "{answer}");
            assert_eq!(answer["outcome"], outcome, "{answer}");
        }
        assert_eq!(
            answers[300]["error"]["code"], "REQUEST-MALFORMED",
            "{}",
            answers[300]
        );
        assert_eq!(
            answers[301]["error"]["code"], "CSR-NOT-A-REQUEST",
            "{}",
            answers[301]
        );
    }
    assert_eq!(service.stop(), 0);
    let report = reconciled(&world);
    assert_eq!(report["accounts"][0]["good"], 300);
    assert_eq!(report["accounts"][0]["scrapped"], 1);
    assert_eq!(report["accounts"][0]["unspent"], 699);
}
