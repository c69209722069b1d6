//! One device at headquarters: shown by whatever it is known by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::{World, judge};
use sha2::{Digest as _, Sha256};

#[test]
fn a_device_is_shown_by_its_id_its_serial_its_certificate_and_its_public_key() {
    let world = World::ready();
    world.requests("line", 1..=2);
    world.issue("line").ok();
    world.carry_home("berlin").exits_done();
    let openssl = |line: &str| judge::openssl(world.folder(), line);
    openssl("x509 -in out/TH200-00000001.pem -noout -pubkey -out key.pem");
    openssl("pkey -pubin -in key.pem -outform DER -out key.der");
    let digest = hex::encode(Sha256::digest(fs::read(world.path("key.der")).unwrap()));
    let by_id = world.hq("device show TH200-00000001").ok().json();
    let serial = by_id["serial"].as_str().unwrap();
    for named in [
        serial,
        &digest,
        &digest.to_uppercase(),
        "$D/key.pem",
        "$D/key.der",
        "$D/out/TH200-00000001.pem",
    ] {
        let shown = world.hq(&format!("device show {named}")).ok().json();
        assert_eq!(shown["serial"], by_id["serial"], "{named}");
        assert_eq!(shown["device_id"], "TH200-00000001", "{named}");
        assert_eq!(shown["devices"].as_array().unwrap().len(), 1, "{named}");
        assert_eq!(
            shown["chain"] == "valid",
            named.ends_with("1.pem"),
            "{named}"
        );
    }
    // Another key's digest is nobody's, and a private key is no device.
    let other = hex::encode(Sha256::digest(b"another"));
    let unknown = world.hq(&format!("device show {other}")).exits(1);
    assert_eq!(unknown.codes(), ["DEVICE-UNKNOWN"]);
    openssl("genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem");
    let refused = world.hq("device show $D/private.pem").exits(1);
    assert_eq!(refused.codes(), ["CERTIFICATE-NOT-A-CERTIFICATE"]);
}
