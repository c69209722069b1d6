//! A service that has worked: what it was told by commands, what it says, and what it holds.

use mintmark_tests::service::let_in;

use super::*;

/// How much memory of a process is kept from being written to a disk, in KiB.
fn locked_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.trim().parse().unwrap()
}

fn used(stores: Stores) {
    let world = World::with_policy_in(stores, &policy());
    let_in(&world, "line-1", "");
    let mut secrets = pins(&world);
    if stores == Stores::Files {
        secrets.extend(keys(&world));
        secrets.extend([serial_secret(&secrets)]);
    }
    let service = Service::start(&world, "");
    for number in 1..=3 {
        assert_eq!(service.enrol(&format!("TH200-{number:08}")), 200);
    }
    world.requests("some", 11..=12);
    // What the service answers at its control socket is what these say.
    for tool in [
        world.issue("some"),
        world.site("device scrap TH200-00000001 --reason dropped --confirm TH200-00000001"),
        world.site("crl issue --output $D/crl.pem"),
        world.site("media export $D/media"),
        world.site("media import $D/media"),
    ] {
        let run = watched(&tool, &secrets);
        assert_eq!(run.exit, 0, "{run}");
    }
    let page = service.curl("/metrics", &[]);
    expect_absent(&secrets, "the metrics", &page.body);
    expect_absent(&secrets, "the service's log", service.log().as_bytes());
    let started_with = memory::arguments_and_environment(service.pid());
    expect_absent(&secrets, "the service's environment", &started_with);
    // The PIN of a file was needed for all of that, and is not kept; no other store's was ever there.
    let path = stores::pin_file(world.folder(), "berlin");
    let mut gone = pins(&world);
    // Headquarters' keys, and the officers', are nothing that a vault has.
    let others = secrets
        .iter()
        .filter(|(name, _)| name.starts_with("the key ") && !name.ends_with("of berlin"))
        .map(|(name, secret)| (name.clone(), secret.clone()));
    gone.extend(others);
    expect_gone(service.pid(), &gone, path.to_str().unwrap().as_bytes());
    if stores == Stores::Files {
        // Its own delivered key is in memory that is not written to a disk, where the system allows that.
        assert!(locked_kib(service.pid()) > 0);
    }
    assert_eq!(service.stop(), 0);
    for (name, bytes) in files::contents(world.folder()) {
        if !name.starts_with("pins/") {
            expect_absent(&secrets, &name, &bytes);
        }
    }
}

#[test]
fn a_service_of_key_files_that_has_worked_holds_no_pin_and_says_no_secret() {
    used(Stores::Files);
}

#[test]
fn a_service_of_a_token_that_has_worked_holds_no_pin_and_says_no_secret() {
    used(Stores::Tokens);
}
