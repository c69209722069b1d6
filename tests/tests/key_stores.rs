//! What goes wrong with tokens and key folders, told apart, and told without harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use mintmark_tests::full_disk::{scripted, uncounted, without_room};
use mintmark_tests::{Stores, World, files, judge, stores, strace};

/// A vault on a token, set up and not let in; and its store's URI.
fn on_token() -> (World, String) {
    let world = World::empty(Stores::Tokens);
    world.ceremony(&["alice"], "");
    world.site_init("berlin");
    let uri = world.keys("berlin");
    (world, uri)
}

/// `site init` of another vault with keys at this URI.
fn init(world: &World, uri: &str) -> mintmark_tests::Tool {
    let fingerprint = world.trust_fingerprint();
    world
        .site(&format!(
            "--home $D/other init --site-id other --trust $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
        ))
        .arg("--keys")
        .arg(uri)
}

#[test]
fn each_thing_that_is_wrong_with_a_token_has_its_own_code_and_leaves_nothing_behind() {
    let (world, uri) = on_token();
    let absent = uri.replace("token=berlin", "token=nobody");
    init(&world, &absent).fails(3, "TOKEN-MISSING");
    let module = uri.replace(stores::module().to_str().unwrap(), "/nowhere/module.so");
    init(&world, &module).fails(3, "MODULE-MISSING");
    let text = world.write("text.so", "this is no library");
    let module = uri.replace(stores::module().to_str().unwrap(), text.to_str().unwrap());
    init(&world, &module).fails(3, "MODULE-INVALID");
    init(&world, "pkcs11:token=berlin").fails(2, "MODULE-PATH-MISSING");
    for unusable in ["https:token", "berlin", ""] {
        init(&world, unusable).fails(2, "URI-INVALID");
    }
    // A PIN in the URI is refused, and not repeated on the screen and in somebody's log of it.
    let run = init(&world, &format!("{uri}&pin-value=s3cr3t-pin")).fails(2, "PIN-IN-URI");
    assert!(!run.stderr.contains("s3cr3t-pin"), "{run}");
    let pin = stores::pin_file(world.folder(), "berlin");
    let gone = uri.replace(pin.to_str().unwrap(), "/nowhere/pin");
    init(&world, &gone).fails(3, "PIN-SOURCE-UNREADABLE");
    // Without a PIN's source it is asked on the terminal; there is none here, and the environment is no other.
    let asked = uri.split("&pin-source").next().unwrap();
    let run = init(&world, asked)
        .env("PIN", "1234")
        .fails(3, "PIN-NOT-GIVEN");
    assert!(run.errors()[0].to_string().contains("pin-source"), "{run}");
    assert!(!world.path("other").exists());
    let litter = fs::read_dir(world.folder())
        .unwrap()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("other"));
    assert!(!litter, "a failed init leaves nothing");
}

#[test]
fn two_tokens_of_one_label_are_told_apart_or_not_used() {
    let (world, uri) = on_token();
    let pin = fs::read_to_string(stores::pin_file(world.folder(), "berlin")).unwrap();
    stores::token(world.folder(), "berlin", &pin);
    init(&world, &uri).fails(3, "TOKEN-AMBIGUOUS");
    world
        .site("media export $D/media")
        .fails(3, "TOKEN-AMBIGUOUS");
    let slots = judge::succeed(
        Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", stores::configuration(world.folder()))
            .arg("--show-slots"),
    );
    let slots = String::from_utf8(slots.stdout).unwrap();
    let serials: Vec<&str> = slots
        .split("Slot ")
        .filter(|slot| {
            slot.lines()
                .any(|line| line.trim().starts_with("Label:") && line.trim().ends_with("berlin"))
        })
        .map(|slot| {
            let line = slot
                .lines()
                .find(|line| line.trim().starts_with("Serial number:"))
                .unwrap();
            line.trim().trim_start_matches("Serial number:").trim()
        })
        .collect();
    let serials: [&str; 2] = serials.try_into().expect("two tokens");
    // One of them is the vault's, and serves no other.
    let inits = serials.map(|serial| {
        let named = uri.replace("token=berlin", &format!("token=berlin;serial={serial}"));
        let run = init(&world, &named).run();
        let _ = fs::remove_dir_all(world.path("other"));
        run
    });
    let mut exits = inits.map(|run| (run.exit, run.codes()));
    exits.sort();
    let taken = vec!["ANCHOR-EXISTS".to_owned()];
    assert_eq!(exits, [(0, Vec::new()), (3, taken)]);
}

#[test]
fn a_wrong_pin_is_tried_once_and_the_right_one_works_afterwards() {
    let (world, _) = on_token();
    world.let_in("berlin", &["alice"]);
    let file = stores::pin_file(world.folder(), "berlin");
    let right = fs::read_to_string(&file).unwrap();
    world.requests("one", [1]);
    let status = world.status("berlin");
    fs::write(&file, "00000000").unwrap();
    // SoftHSM locks no token, so what is looked at is what the token says of itself: a wrong PIN was given, once.
    let flags = |world: &World| {
        let said = judge::succeed(
            Command::new("pkcs11-tool")
                .env("SOFTHSM2_CONF", stores::configuration(world.folder()))
                .arg("--module")
                .arg(stores::module())
                .arg("--list-token-slots"),
        );
        let said = String::from_utf8(said.stdout).unwrap();
        let token = said
            .split("Slot ")
            .find(|slot| slot.contains("token label        : berlin"));
        token
            .unwrap()
            .lines()
            .find(|line| line.contains("token flags"))
            .unwrap()
            .to_owned()
    };
    assert!(!flags(&world).contains("user PIN count low"));
    let run = world.issue("one").fails(3, "PIN-INCORRECT");
    assert_eq!(run.stderr.matches("PIN-INCORRECT").count(), 1, "{run}");
    assert!(
        flags(&world).contains("user PIN count low"),
        "{}",
        flags(&world)
    );
    // What the token says of itself is told; nothing else has changed.
    let but_for_the_token = |mut status: serde_json::Value| {
        for of_token in ["hsm", "next", "next_steps"] {
            status.as_object_mut().unwrap().remove(of_token).unwrap();
        }
        status
    };
    let now = world.status("berlin");
    assert_ne!(now["hsm"], status["hsm"]);
    assert_eq!(but_for_the_token(now), but_for_the_token(status));
    fs::write(&file, "").unwrap();
    world.issue("one").fails(3, "PIN-SOURCE-UNREADABLE");
    fs::write(&file, right).unwrap();
    let rows = world.issue("one").exits(1).lines();
    assert_eq!(rows[0]["code"], "PRODUCT-NOT-ENTITLED");
    assert!(!flags(&world).contains("user PIN count low"));
}

#[test]
fn a_key_that_is_gone_and_one_of_another_make_are_never_made_anew() {
    let (world, uri) = on_token();
    world.let_in("berlin", &["alice"]);
    world.requests("one", [1]);
    let status = world.status("berlin");
    stores::pkcs11_tool(
        world.folder(),
        "berlin",
        &[
            "--delete-object",
            "--type",
            "privkey",
            "--label",
            "device-ca",
        ],
    );
    stores::pkcs11_tool(
        world.folder(),
        "berlin",
        &[
            "--delete-object",
            "--type",
            "pubkey",
            "--label",
            "device-ca",
        ],
    );
    world.issue("one").fails(3, "KEY-MISSING");
    // A new key under the old label is another key: what it signs is not what HQ knows.
    stores::pkcs11_tool(
        world.folder(),
        "berlin",
        &[
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            "device-ca",
            "--id",
            "77",
            "--usage-sign",
            "--extractable",
        ],
    );
    let run = world.issue("one").exits(4);
    assert!(
        ["KEY-ATTRIBUTES", "KEY-CHANGED", "VAULT-KEY-CHANGED"].contains(&&*run.codes()[0]),
        "{run}"
    );
    // Nor does `site init` take it for its own, or make another beside it: not on a token that serves a vault.
    init(&world, &uri).fails(3, "ANCHOR-EXISTS");
    assert_eq!(world.status("berlin"), status);
    world.site("doctor").exits(4);
}

#[test]
fn two_keys_of_one_label_are_one_too_many() {
    let (world, _) = on_token();
    world.let_in("berlin", &["alice"]);
    world.requests("one", [1]);
    stores::pkcs11_tool(
        world.folder(),
        "berlin",
        &[
            "--keypairgen",
            "--key-type",
            "EC:prime256v1",
            "--label",
            "vault-sign",
            "--id",
            "78",
            "--usage-sign",
        ],
    );
    let run = world.site("media export $D/media").exits(4);
    assert_eq!(run.codes(), ["KEY-AMBIGUOUS"], "{run}");
}

#[test]
fn a_key_folder_that_others_can_read_or_that_is_damaged_is_not_used() {
    let world = World::ready();
    world.requests("one", [1]);
    let keys = world.path("keys/berlin");
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let status = world.status("berlin");
    set(&keys, 0o750);
    world.issue("one").fails(3, "KEY-FOLDER-EXPOSED");
    set(&keys, 0o700);
    let file = keys.join("device-ca.pem");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    world.issue("one").fails(4, "KEY-FILE-INVALID");
    fs::remove_file(&file).unwrap();
    world.issue("one").fails(3, "KEY-MISSING");
    // Another vault's key in its place is another key.
    world.site_init("paris");
    fs::copy(world.path("keys/paris/device-ca.pem"), &file).unwrap();
    set(&file, 0o600);
    let run = world.issue("one").run();
    assert!([3, 4].contains(&run.exit), "{run}");
    fs::write(&file, whole).unwrap();
    fs::rename(&keys, world.path("keys/moved")).unwrap();
    world.issue("one").fails(3, "KEY-FOLDER-MISSING");
    fs::rename(world.path("keys/moved"), &keys).unwrap();
    assert_eq!(world.status("berlin"), status);
    world.issue("one").ok();
    world.site("doctor").ok();
}

#[test]
fn headquarters_tells_what_is_wrong_with_its_keys_too() {
    let world = World::ready();
    let file = stores::pin_file(world.folder(), "hq");
    let right = fs::read_to_string(&file).unwrap();
    world.mint(
        "berlin",
        &mintmark_tests::world::POLICY.replace("id = \"th200\"", "id = \"second\""),
    );
    let id = world.draft(
        "berlin",
        &mintmark_tests::world::POLICY.replace("id = \"th200\"", "id = \"third\""),
    );
    world.approve("$D/officers/berlin-third.draft");
    let export = format!("entitlement export {id}");
    fs::write(&file, "wrong").unwrap();
    world.hq(&export).fails(3, "PIN-INCORRECT");
    fs::write(&file, right).unwrap();
    fs::rename(
        world.path("keys/hq/dispatch.pem"),
        world.path("dispatch.pem"),
    )
    .unwrap();
    world.hq(&export).fails(3, "KEY-MISSING");
    // The report key is another one than the manifest names for dispatches.
    fs::copy(
        world.path("keys/hq/report.pem"),
        world.path("keys/hq/dispatch.pem"),
    )
    .unwrap();
    let run = world.hq(&export).run();
    assert!(
        run.exit != 0,
        "HQ sealed a dispatch with a key that no vault knows\n{run}"
    );
    fs::copy(
        world.path("dispatch.pem"),
        world.path("keys/hq/dispatch.pem"),
    )
    .unwrap();
    world.hq(&export).ok();
    world.carry_out("berlin").exits_done();
}

#[test]
fn a_full_disk_under_softhsm_is_told_as_that_and_costs_nothing() {
    let world = World::ready_in(Stores::Tokens);
    world.requests("one", [1]);
    let Some(run) = without_room(&world.issue("one"), &world.path("tokens")) else {
        eprintln!("skipped: nothing may be mounted here");
        return;
    };
    // A unit is reserved.
    assert_eq!(
        (run.exit, run.codes()),
        (5, vec!["TOKEN-FULL".to_owned()]),
        "{run}"
    );
    let told = "is full: it did not make a data object: the disk that its files are on has no room";
    assert!(run.stderr.contains(told), "{run}");
    assert!(files::contents(&world.path("out")).is_empty(), "{run}");
    world.issue("one").ok();
    let account = &world.status("berlin")["accounts"][0];
    assert_eq!(account["good"], 1, "{account}");
    assert_eq!(account["unspent"], 999, "{account}");
}

#[test]
fn what_softhsm_stands_on_need_not_count_its_blocks() {
    let world = World::ready_in(Stores::Tokens);
    world.requests("one", [1]);
    match uncounted(&world.issue("one"), &world.path("tokens")) {
        Some(run) => assert_eq!(run.exit, 0, "{run}"),
        None => eprintln!("skipped: nothing may be mounted here"),
    }
}

/// A key pair where there is room for one of its files, or some: what the module leaves of it is nobody's concern here.
const EDGES: &str = r#"
for room in 1 2 3 4 5 6 7; do
    dd if=/dev/zero of="$folder/fill" bs=4k count=0 seek=0 2>/dev/null
    head -c 4m /dev/zero >"$folder/fill" 2>/dev/null || true
    size=$(stat -c %s "$folder/fill"); truncate -s $((size - room * 4096)) "$folder/fill"
    code=0; "$@" || code=$?
    [ "$code" = 3 ] || { echo "with room for $room blocks: exit $code" >&2; exit 90; }
done
"#;

#[test]
fn a_key_that_its_disk_has_no_room_for_is_told_as_that() {
    let world = World::ready_in(Stores::Tokens);
    let request = "station request --name line-1 --keys @line-1 --output $D/line-1.csr";
    let Some(run) = scripted(&world.site(request), &world.path("tokens"), EDGES) else {
        eprintln!("skipped: nothing may be mounted here");
        return;
    };
    assert_eq!(run.exit, 0, "{run}");
    assert_eq!(run.stderr.matches("TOKEN-FULL").count(), 7, "{run}");
}

/// SoftHSM cuts the file short in which it knows its token, at every login, and then fills it.
#[test]
fn a_token_that_softhsm_left_empty_is_filled_again() {
    let world = World::ready_in(Stores::Tokens);
    world.requests("one", [1]);
    let identity = world.status("berlin")["device_ca"].clone();
    let mut left_empty = 0;
    for folder in fs::read_dir(world.path("tokens")).unwrap() {
        let object = folder.unwrap().path().join("token.object");
        if !object.exists() {
            continue;
        }
        let size = || fs::metadata(&object).unwrap().len();
        let run = strace::failing(
            &world.site("recover"),
            "write",
            object.to_str().unwrap(),
            "EIO",
            1,
        );
        // That of another token is not touched.
        if size() == 0 {
            left_empty += 1;
            world.site("recover").ok();
            assert!(size() > 0, "{run}");
        }
    }
    assert_eq!(left_empty, 1);
    world.issue("one").ok();
    assert_eq!(world.status("berlin")["device_ca"], identity);
}

/// A service that cannot write its anchor is asked for a while, and again when there is room.
const SERVED: &str = r#"
rm "$folder/fill"
"$1" serve --listen 127.0.0.1:0 >"$folder.said" 2>"$folder.log" & service=$!
for i in $(seq 600); do [ -s "$folder.said" ] && break; sleep 0.1; done
url=$(grep -o '127.0.0.1:[0-9]*' "$folder.said" | head -n 1)
head -c 4m /dev/zero >"$folder/fill" 2>/dev/null || true
files=$(ls -R "$folder" | wc -l)
refused=0; "$@" --vault "https://$url" --patience-seconds 5 || refused=$?
[ "$(ls -R "$folder" | wc -l)" = "$files" ] || { echo "files are left" >&2; exit 90; }
rm "$folder/fill"
"$@" --vault "https://$url" --patience-seconds 60
kill -TERM "$service"; wait "$service"
[ "$refused" = 3 ] || [ "$refused" = 5 ] || exit 91
"#;

#[test]
fn a_service_waits_for_room_under_softhsm_and_leaves_no_files_meanwhile() {
    let world = World::ready_in(Stores::Tokens);
    let request = "station request --name line-1 --keys @line-1 --output $D/line-1.csr";
    let fingerprint = world.site(request).ok().text("fingerprint");
    let approve = format!("--request $D/line-1.csr --fingerprint {fingerprint}");
    let approve = format!("station approve {approve} --output $D/line-1.papers");
    world.site(&approve).ok();
    world.requests("one", [1]);
    let ask = world.site(
        "request --keys @line-1 --product TH-200 --csr $D/csr/one --output $D/made --station $D/line-1.papers",
    );
    let Some(run) = scripted(&ask, &world.path("tokens"), SERVED) else {
        eprintln!("skipped: nothing may be mounted here");
        return;
    };
    let log = fs::read_to_string(world.path("tokens.log")).unwrap();
    assert_eq!(run.exit, 0, "{run}\n{log}");
    // It tried again and again meanwhile, and said so once.
    assert_eq!(log.matches("TOKEN-FULL").count(), 1, "{run}\n{log}");
    assert_eq!(
        log.matches("the vault is at work again").count(),
        1,
        "{run}\n{log}"
    );
    assert_eq!(fs::read_dir(world.path("made")).unwrap().count(), 2);
}
