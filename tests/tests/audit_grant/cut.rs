//! A grant of a period, and what came after its end.

use std::fs;

use mintmark_tests::{World, files};
use serde_json::json;

use super::{auditor, grant, verify};

#[test]
fn a_restore_that_came_after_the_end_of_a_period_is_no_difference() {
    let world = World::ready();
    let issue = |name: &str, number| {
        world.requests(name, number..=number);
        world.issue(name)
    };
    issue("first", 1).ok();
    world.carry_home("berlin").exits_done();
    let today = world.reconcile()["days"][0]["day"]
        .as_str()
        .unwrap()
        .to_owned();
    world.set_clock(86_400);
    // It began on the first day, and ends on the second: the next one is left out.
    issue("second", 2).ok();
    world.carry_home("berlin").exits_done();
    issue("third", 3).ok();
    files::copy(&world.path("berlin"), &world.path("berlin-copy"));
    issue("fourth", 4).ok();
    fs::remove_dir_all(world.path("berlin")).unwrap();
    fs::rename(world.path("berlin-copy"), world.path("berlin")).unwrap();
    issue("refused", 5).fails(4, "HOME-OLDER-THAN-ANCHOR");
    world
        .site("recover --declare-restore --confirm berlin/v1")
        .ok();
    assert_eq!(world.carry_home("berlin").exit, 1);
    let units = || world.reconcile()["findings"][0]["evidence"]["units"].clone();
    let declared = units();
    world.carry_out("berlin").exits_done();
    issue("after", 6).ok();
    world.carry_home("berlin");
    // The log goes on, with more than headquarters held: less is in doubt.
    assert_ne!(units(), declared);
    auditor(&world);
    for (name, options, exit) in [
        ("period", format!("--to {today}"), 0),
        ("all", String::new(), 1),
    ] {
        grant(&world, name, &options);
        let said = verify(&world, name).exits(exit).json();
        assert_eq!(said["same_as_headquarters"], true, "{said:#}");
        assert_eq!(said["differences"], json!([]), "{said:#}");
    }
}
