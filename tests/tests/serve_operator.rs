//! The operator beside the running service, and who is taken for the operator: a slow stick holds nobody off, another user
//! is not listened to, and what is asked is asked at the operator's own terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use mintmark_tests::service::let_in;
use mintmark_tests::{Service, World};
use serde_json::json;

#[test]
fn a_stick_that_hangs_holds_no_station_off_and_no_other_command() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let stick = world.path("stick");
    fs::create_dir(&stick).unwrap();
    // The folder for headquarters is made there once the bundle is sealed.
    let service = Service::start_halting(&world, "mkdirat", &stick.join("mintmark"));
    assert_eq!(service.enrol("TH200-00000001"), 200);
    let mut export = world
        .site("media export $D/stick")
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let sealed = || world.path("berlin/outbox").read_dir().unwrap().count() > 0;
    while !sealed() && export.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(service.enrol("TH200-00000002"), 200);
    world
        .site("device scrap TH200-00000001 --reason dropped --confirm TH200-00000001")
        .ok();
    assert!(
        export.try_wait().unwrap().is_none(),
        "the stick did not hang"
    );
    assert!(!stick.join("mintmark/to-hq").exists());
    service.let_go();
    assert!(export.wait().unwrap().success());
    assert_eq!(service.stop(), 0);
    world.hq("media import $D/stick").ok();
    assert_eq!(world.reconcile()["accounts"][0]["good"], json!(1));
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["accounts"][0]["scrapped"], json!(1), "{report}");
}
