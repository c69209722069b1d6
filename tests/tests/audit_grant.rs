//! An auditor's own eyes: what headquarters hands out opens with one key, is judged on the auditor's machine from the first
//! record on, and comes to the same figures and findings; and nothing of what is altered is believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use mintmark_tests::{Run, Tool, World};
use serde_json::Value;

/// An auditor makes a key on a machine of their own.
fn auditor(world: &World) {
    world
        .hq("audit key --keys @auditor --output $D/auditor.pem")
        .without("HQ_HOME")
        .ok();
}

/// Headquarters writes a grant to `$D/NAME.grant`.
fn grant(world: &World, name: &str, options: &str) -> Run {
    world
        .hq(&format!(
            "audit grant --auditor $D/auditor.pem --output $D/{name}.grant {options}"
        ))
        .ok()
}

/// The auditor makes a home `$D/NAME` of `$D/NAME.grant`.
fn verify(world: &World, name: &str) -> Tool {
    let fingerprint = world.trust_fingerprint();
    world
        .hq(&format!(
            "--home $D/{name} audit verify $D/{name}.grant --fingerprint {fingerprint} --keys @auditor"
        ))
        .without("HQ_HOME")
}

/// What the books say at headquarters and in an auditor's home, which must be the same to the last word.
#[track_caller]
fn same_books(world: &World, name: &str, options: &str) -> Value {
    let there = world.hq(&format!("reconcile {options}")).run();
    let here = world
        .hq(&format!("--home $D/{name} reconcile {options}"))
        .run();
    assert_eq!(there.exit, here.exit, "{there}{here}");
    assert_eq!(there.json(), here.json());
    for format in ["table", "csv", "xlsx", "html"] {
        let file = |home: &str| {
            let of = format!("--home $D/{home} reconcile {options} --format {format}");
            let run = world.hq(&format!("{of} --output $D/{home}.{format}")).run();
            assert_eq!(run.exit, there.exit, "{run}");
            fs::read(world.path(&format!("{home}.{format}"))).unwrap()
        };
        if format == "xlsx" {
            // A workbook names the second in which it was made.
            assert!(file(name).starts_with(b"PK"));
        } else {
            assert_eq!(file("hq"), file(name), "{format}");
        }
    }
    here.json()
}

#[test]
fn an_auditor_comes_to_the_figures_of_headquarters_with_nothing_but_a_file_and_a_fingerprint() {
    let world = World::ready();
    world.requests("first", 1..=3);
    world.issue("first").ok();
    world.carry_home("berlin").exits_done();
    world.carry_out("berlin").exits_done();
    world
        .site("device scrap TH200-00000001 --confirm TH200-00000001 --reason cracked")
        .ok();
    world.carry_home("berlin").exits_done();
    auditor(&world);
    let granted = grant(&world, "seen", "--site berlin").json();
    assert_eq!(granted["vaults"], serde_json::json!(["berlin/v1"]));
    assert_eq!(granted["bundles"], 2);
    let verified = verify(&world, "seen").ok().json();
    assert_eq!(verified["same_as_headquarters"], true, "{verified:#}");
    assert_eq!(verified["certificates"], 3);
    assert_eq!(verified["differences"], serde_json::json!([]));
    assert_eq!(verified["fingerprint"], granted["fingerprint"]);
    let newest = world.hq("audit show berlin").ok().json();
    let vault = &verified["vaults"][0];
    assert_eq!(vault["head"]["log_root"], newest["log_root"], "{newest:#}");
    assert_eq!(vault["head"]["sequence"], 2, "{verified:#}");
    assert_eq!(vault["acknowledged"]["sequence"], 1);
    assert_eq!(verified["acknowledgements"], 1);
    let report = same_books(&world, "seen", "");
    assert_eq!(report["accounts"][0]["scrapped"], 1);
    same_books(&world, "seen", "--site berlin");
    for line in [
        "device show TH200-00000001",
        "device show $D/out/TH200-00000002.pem",
        "audit log --site berlin",
        "audit list",
        "audit show berlin",
        "audit fork",
        "entitlement list",
        "entitlement show th200",
        "trust show",
    ] {
        let there = world.hq(line).run();
        let here = world.hq(&format!("--home $D/seen {line}")).run();
        assert_eq!(there.exit, here.exit, "{there}{here}");
        // Nothing but where the files of each are.
        let homes = ["hq", "seen"].map(|home| world.path(home).display().to_string());
        assert_eq!(there.stdout.replace(&homes[0], &homes[1]), here.stdout);
    }
}
