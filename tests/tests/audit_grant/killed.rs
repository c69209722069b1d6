//! A verification that was killed: the next one clears what it left, and nothing else.

use std::fs;

use mintmark_tests::World;
use mintmark_tests::strike::{Changes, Fate};

use super::{auditor, grant, verify};

#[test]
fn what_a_verification_that_was_killed_leaves_the_next_one_clears() {
    let world = World::ready();
    world.requests("one", 1..=1);
    world.issue("one").ok();
    world.carry_home("berlin").exits_done();
    auditor(&world);
    grant(&world, "seen", "");
    let changes = Changes {
        below: world.folder(),
    };
    let (run, listed) = changes.of(&verify(&world, "seen"));
    assert_eq!(run.exit, 0, "{run}");
    let beside = || {
        let entries = fs::read_dir(world.folder()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("seen")).collect();
        names.sort();
        names
    };
    // The folder that it was put into is synced behind that.
    let placed = listed
        .iter()
        .rposition(|change| change.name.starts_with("rename"));
    let (before, after) = listed.split_at(placed.unwrap());
    let folder = world.folder().to_str().unwrap();
    assert!(
        after
            .iter()
            .any(|change| change.name == "fsync" && change.target == folder)
    );
    // In the midst of it, and when it is whole and not in its place yet.
    for at in [before.len() / 3, before.len() * 2 / 3, before.len()] {
        fs::remove_dir_all(world.path("seen")).unwrap();
        let (_, struck) = changes.with(&verify(&world, "seen"), &listed[at], Fate::Killed);
        assert!(struck, "{:?}", listed[at]);
        assert_eq!(beside(), ["seen.grant", "seen.part"]);
        verify(&world, "seen").ok();
        assert_eq!(beside(), ["seen", "seen.grant"]);
    }
    // What is another's is not touched.
    fs::remove_dir_all(world.path("seen")).unwrap();
    fs::create_dir(world.path("seen.part")).unwrap();
    fs::write(world.path("seen.part/kept"), b"kept").unwrap();
    verify(&world, "seen").fails(3, "HOME-EXISTS");
    assert_eq!(fs::read(world.path("seen.part/kept")).unwrap(), b"kept");
}
