//! The operator beside the running service, and who is taken for the operator: a slow stick holds nobody off, another user
//! is not listened to, and what is asked is asked at the operator's own terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use mintmark_tests::service::let_in;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Service, World, stores};
use serde_json::json;

/// What the control socket says to this user, who asks for something that it does not understand.
fn said_to(world: &World, user: u32) -> String {
    const ASK: &str = "use Socket; $SIG{PIPE} = 'IGNORE'; $| = 1;
        socket(my $control, AF_UNIX, SOCK_STREAM, 0) or die $!;
        connect($control, pack_sockaddr_un($ARGV[0])) or die $!;
        syswrite($control, pack('N', 0xffffffff));
        print $said while sysread($control, $said, 4096);";
    let user = user.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        // Essential in Debian, and where every user may run it.
        .args(["/usr/bin/perl", "-e", ASK])
        .arg(world.path("berlin/control.sock"))
        .output()
        .expect("setpriv runs (package util-linux)");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

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

#[test]
fn a_stick_that_hangs_while_it_is_read_holds_no_station_off_and_no_other_command() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    world.mint("berlin", &POLICY.replace("id = \"", "id = \"more-"));
    let stick = world.path("stick");
    fs::create_dir(&stick).unwrap();
    world.hq("media export $D/stick").ok();
    let sent = stick.join("mintmark/to-berlin_v1").read_dir().unwrap();
    let newest = sent.map(|entry| entry.unwrap().path()).max().unwrap();
    let service = Service::start_halting(&world, "read,pread64", &newest);
    let mut import = world
        .site("media import $D/stick")
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !service.stands_still() && import.try_wait().unwrap().is_none() {}
    assert_eq!(service.enrol("TH200-00000001"), 200);
    world
        .site("device scrap TH200-00000001 --reason dropped --confirm TH200-00000001")
        .ok();
    let accounts = || world.status("berlin")["accounts"].as_array().unwrap().len();
    assert_eq!(accounts(), 1);
    assert!(
        import.try_wait().unwrap().is_none(),
        "the stick did not hang"
    );
    // Its tracer took from the service what reading needs: it is of no more use, whatever it says.
    service.let_go();
    import.wait().unwrap();
    drop(service);
    world.site("media import $D/stick").ok();
    assert_eq!(accounts(), 2);
}

#[test]
fn another_user_is_refused_at_the_control_socket_whatever_its_permissions() {
    // Only root can ask as somebody else.
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("not run: only root can become another user");
        return;
    }
    let world = World::ready();
    let service = Service::start(&world, "");
    for (path, mode) in [
        (world.folder().to_owned(), 0o755),
        (world.path("berlin"), 0o711),
        (world.path("berlin/control.sock"), 0o666),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let said = said_to(&world, 65534);
    assert!(said.contains("HOME-FOREIGN"), "{said}");
    assert!(said.contains("user 65534"), "{said}");
    // The owner is listened to, and not understood.
    let said = said_to(&world, 0);
    assert!(said.contains("CONTROL-REQUEST"), "{said}");
    let log = service.log();
    let refused = "a command of another user was refused";
    assert_eq!(log.matches(refused).count(), 1, "{log}");
    assert_eq!(service.stop(), 0);
}

#[test]
fn what_a_command_asks_beside_the_service_is_asked_at_its_own_terminal() {
    let world = World::ready();
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    assert_eq!(service.enrol("TH200-00000001"), 200);
    let scrap = || {
        world
            .site("device scrap TH200-00000001 --reason dropped")
            .text()
    };
    let other = scrap().at_terminal("TH200-00000002\n").exits(3);
    assert!(other.stdout.contains("CONFIRMATION-MISMATCH"), "{other}");
    assert_eq!(world.status("berlin")["accounts"][0]["scrapped"], json!(0));
    let typed = scrap().at_terminal("TH200-00000001\n").exits(0);
    assert!(
        typed.stdout.contains("Type TH200-00000001 to go on"),
        "{typed}"
    );
    assert_eq!(world.status("berlin")["accounts"][0]["scrapped"], json!(1));
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_pin_that_was_typed_when_the_service_was_started_is_asked_for_by_no_command_beside_it() {
    let world = World::ready();
    let config = world.path("berlin/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let (before, after) = text.split_once("?pin-source=").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    fs::write(&config, format!("{before}\"{after}")).unwrap();
    world.requests("few", 1..=2);
    // No service, and no terminal.
    world.issue("few").fails(3, "PIN-NOT-GIVEN");

    let mut service = world.site("serve --listen 127.0.0.1:0").start_at_terminal();
    let mut screen = service.stdout.take().unwrap();
    let mut keyboard = service.stdin.take().unwrap();
    let mut shown = String::new();
    let mut look = |for_: &str| {
        while !shown.contains(for_) {
            let mut part = [0; 4096];
            let length = screen.read(&mut part).unwrap();
            assert!(length > 0, "{shown}");
            shown.push_str(&String::from_utf8_lossy(&part[..length]));
        }
    };
    look(": ");
    keyboard
        .write_all(&fs::read(stores::pin_file(world.folder(), "berlin")).unwrap())
        .unwrap();
    keyboard.write_all(b"\n").unwrap();
    look("listening");
    assert_eq!(world.issue("few").ok().lines().len(), 2);
    assert_eq!(world.status("berlin")["accounts"][0]["good"], json!(2));
    // Ctrl-C.
    keyboard.write_all(&[3]).unwrap();
    assert_eq!(service.wait().unwrap().code(), Some(0));
}

/// Threads that are given the name `index`, which are those that have the index's database write, go no further while this file
/// is there.
const STANDSTILL: &str = "#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int pthread_setname_np(pthread_t thread, const char *name) {
    int (*next)(pthread_t, const char *) = dlsym(RTLD_NEXT, \"pthread_setname_np\");
    int result = next(thread, name);
    const char *file = getenv(\"STANDSTILL\");
    while (file && !strcmp(name, \"index\") && !access(file, F_OK))
        usleep(10000);
    return result;
}
";

#[test]
fn a_service_whose_index_stands_still_ends_and_the_next_one_goes_on_with_all_of_it() {
    const DEVICES: u32 = 900;
    let world = World::ready();
    let library = world.preload("standstill", STANDSTILL);
    let file = world.path("standstill");
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("STANDSTILL", file.to_str().unwrap()),
    ];
    let mut service = Service::start_with(&world, "", &environment);
    world.write("standstill", "");
    // More than the index is behind by before it is written.
    world.requests("many", 0..DEVICES);
    let run = world.issue("many").run();
    assert_ne!(run.exit, 0, "{run}");
    assert_eq!(service.wait(), 3, "{}", service.log());
    assert!(service.log().contains("INDEX-SILENT"), "{}", service.log());

    fs::remove_file(&file).unwrap();
    let run = world.issue("many").ok();
    let again = "the index was made again from the log: it had failed";
    assert!(run.stderr.contains(again), "{run}");
    // It gave its lease back.
    assert!(!run.stderr.contains("LEASE-BURNED"), "{run}");
    assert_eq!(run.lines().len(), DEVICES as usize);
    let account = &world.status("berlin")["accounts"][0];
    assert_eq!(account["good"], json!(DEVICES), "{account}");
    assert_eq!(account["unspent"], json!(1000 - DEVICES), "{account}");
}

/// Nothing of the vault's log is synced while this file is there.
const UNSYNCED: &str = "#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int fails(int fd) {
    const char *file = getenv(\"UNSYNCED\");
    char link[64], path[4096];
    if (!file || access(file, F_OK))
        return 0;
    snprintf(link, sizeof link, \"/proc/self/fd/%d\", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    errno = EIO;
    return strstr(path, \"/log/\") != NULL;
}
int fsync(int fd) {
    return fails(fd) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, \"fsync\"))(fd);
}
int fdatasync(int fd) {
    return fails(fd) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, \"fdatasync\"))(fd);
}
";

#[test]
fn a_service_whose_log_cannot_be_synced_ends_and_the_next_one_loses_nothing() {
    let world = World::ready();
    let library = world.preload("unsynced", UNSYNCED);
    let file = world.path("unsynced");
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("UNSYNCED", file.to_str().unwrap()),
    ];
    let mut service = Service::start_with(&world, "", &environment);
    world.requests("one", [1]);
    world.issue("one").ok();
    world.write("unsynced", "");
    world.requests("two", [2]);
    world.issue("two").fails(5, "OUTCOME-UNKNOWN");
    assert_eq!(service.wait(), 5, "{}", service.log());
    assert!(
        service.log().contains("OUTCOME-UNKNOWN"),
        "{}",
        service.log()
    );

    fs::remove_file(&file).unwrap();
    let service = Service::start_with(&world, "", &environment);
    assert_eq!(world.issue("one").ok().lines()[0]["outcome"], "existing");
    world.issue("two").ok();
    let account = &world.status("berlin")["accounts"][0];
    assert_eq!(account["good"], json!(2), "{account}");
    drop(service);
}
