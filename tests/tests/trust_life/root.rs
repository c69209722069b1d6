//! Another root.

use std::fs;
use std::path::Path;
use std::process::Command;

use mintmark_tests::{World, judge};

use super::*;

/// OpenSSL's verdict on a chain: `trusted` at its end, `between` on the way to `certificate`.
pub(super) fn verify(folder: &Path, trusted: &str, between: &[&str], certificate: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args([
        "verify",
        "-x509_strict",
        "-check_ss_sig",
        "-CAfile",
        trusted,
    ]);
    for file in between {
        command.args(["-untrusted", file]);
    }
    command.arg(certificate).output().unwrap().status.success()
}

#[test]
fn a_new_root_certifies_new_vaults_and_those_before_stay_as_they_are() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    // A vault whose grant is under way while the root changes.
    world.site_init("paris");
    world.site("--home $D/paris media export $D/media").ok();
    let fingerprint = world.status("paris")["enrolment_fingerprint"].clone();
    let enrol = format!(
        "site enrol --request $D/media/mintmark/enrol-paris_v1.cose --fingerprint {} --output $D/officers/paris.draft",
        fingerprint.as_str().unwrap()
    );
    let id = world.hq(&enrol).ok().text("id");
    world.approve("$D/officers/paris.draft");
    world.hq(&format!("site grant {id}")).ok();
    // And one whose grant was drafted before, and is finished after.
    world.site_init("madrid");
    world.site("--home $D/madrid media export $D/media").ok();
    let fingerprint = world.status("madrid")["enrolment_fingerprint"].clone();
    let enrol = format!(
        "site enrol --request $D/media/mintmark/enrol-madrid_v1.cose --fingerprint {}",
        fingerprint.as_str().unwrap()
    );
    let draft = "$D/officers/madrid.draft";
    let id = world
        .hq(&format!("{enrol} --output {draft}"))
        .ok()
        .text("id");
    world.approve(draft);

    world.next_trust("--root-keys @root2", &["alice", "bob"]);
    world
        .hq(&format!("site grant {id}"))
        .fails(1, "GRANT-ROOT-FORMER");
    world.carry_out("paris").exits_done();
    world.carry_out("berlin").exits_done();
    world.enrol("hamburg");
    let policy = other_policy();
    world.grant("hamburg", &policy);
    world.grant("paris", &policy);
    for (site, number) in [("hamburg", 11), ("paris", 12)] {
        world.requests(site, [number]);
        world
            .site(&format!(
                "--home $D/{site} issue --product TH-200 --csr $D/csr/{site} --output $D/out"
            ))
            .ok();
    }
    world.requests("more", 3..=4);
    world.issue("more").ok();

    world.hq("ca export --output $D/ca").ok();
    let ca = world.path("ca");
    let device = |number: u32| world.path(&format!("out/TH200-{number:08}.pem"));
    for number in [1, 3] {
        let between = ["device-ca-berlin_v1.pem"];
        assert!(verify(&ca, "root-1.pem", &between, &device(number)));
        assert!(!verify(&ca, "root.pem", &between, &device(number)));
    }
    assert!(verify(
        &ca,
        "root-1.pem",
        &["device-ca-paris_v1.pem"],
        &device(12)
    ));
    let between = ["device-ca-hamburg_v1.pem"];
    assert!(verify(&ca, "root.pem", &between, &device(11)));
    assert!(!verify(&ca, "root-1.pem", &between, &device(11)));
    let linked = ["root-link.pem", "device-ca-hamburg_v1.pem"];
    assert!(verify(&ca, "root-1.pem", &linked, &device(11)));
    // Each chain ends with the root that it has.
    for (site, root) in [("berlin", "root-1.pem"), ("hamburg", "root.pem")] {
        let chain = fs::read_to_string(ca.join(format!("chain-{site}_v1.pem"))).unwrap();
        assert!(chain.ends_with(&fs::read_to_string(ca.join(root)).unwrap()));
    }
    for (crl, root) in [
        ("crl-root.pem", "root.pem"),
        ("crl-root-1.pem", "root-1.pem"),
    ] {
        judge::openssl(&ca, &format!("crl -in {crl} -CAfile {root} -noout"));
    }

    for site in ["berlin", "hamburg", "paris"] {
        world.carry_home(site).exits_done();
    }
    assert_eq!(world.reconcile()["balanced"], true);
    for number in [1, 11, 12] {
        let shown = world
            .hq("device show")
            .arg(device(number).to_str().unwrap());
        assert_eq!(shown.ok().json()["chain"], "valid");
    }

    // A third one: every firmware that knows any of the roots can follow.
    world.next_trust("--root-keys @root3", &["alice", "bob"]);
    world.enrol("oslo");
    world.hq("ca export --output $D/ca3").ok();
    let ca = world.path("ca3");
    let oslo = ca.join("device-ca-oslo_v1.pem");
    assert!(verify(&ca, "root.pem", &[], &oslo));
    assert!(verify(&ca, "root-2.pem", &["root-link.pem"], &oslo));
    assert!(verify(
        &ca,
        "root-1.pem",
        &["root-link.pem", "root-link-2.pem"],
        &oslo
    ));
    assert!(!verify(&ca, "root-1.pem", &["root-link.pem"], &oslo));
}

#[test]
fn a_root_that_is_lost_is_replaced_without_a_link() {
    let world = World::with_headquarters();
    let draft = world.draft_trust("--root-keys @root2");
    world.approve(&draft);
    let config = fs::read_to_string(world.path("hq/config.toml")).unwrap();
    let lost = config
        .lines()
        .find_map(|line| line.strip_prefix("root = \"file:"));
    let lost = lost.unwrap().split('?').next().unwrap();
    fs::rename(lost, world.path("lost")).unwrap();
    world.hq("trust publish --media $D/media").exits(3);
    world
        .hq("trust publish --media $D/media --no-root-link")
        .ok();
    world.hq("ca export --output $D/ca").ok();
    assert!(world.path("ca/root-1.pem").exists());
    assert!(!world.path("ca/root-link.pem").exists());
    world
        .hq("--home $D/officers/alice media import $D/media")
        .ok();
    world
        .hq("--home $D/officers/bob media import $D/media")
        .ok();
    world.enrol("berlin");
}
