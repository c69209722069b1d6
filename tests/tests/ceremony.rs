//! The founding ceremony as docs/ceremony.md has it, and the transcript that the tool writes of one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use mintmark_tests::{Run, Stores, World, binaries, guide, judge};

#[test]
fn every_command_of_the_ceremony_works_as_it_stands() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("target")).unwrap();
    symlink(binaries::folder(), place.path().join("target/release")).unwrap();
    let document = "docs/ceremony.md";
    let text = fs::read_to_string(repository.join(document)).unwrap();
    let script = [guide::PRELUDE, &guide::script(document, &text)].concat();
    judge::succeed(
        Command::new("bash")
            .args(["-c", &script])
            .current_dir(place.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", place.path())
            .env("TMPDIR", place.path()),
    );
}

/// Headquarters with a published manifest, and a transcript that has begun.
fn begun() -> World {
    let world = World::ready();
    world
        .hq("--transcript $D/transcript ceremony begin --present Alice --present Bob --purpose")
        .arg("a second founding")
        .ok();
    world
}

fn verify(world: &World, file: &str) -> mintmark_tests::Tool {
    let fingerprint = world.trust_fingerprint();
    world
        .hq(&format!(
            "ceremony verify $D/{file} --trust $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
        ))
        .without("HQ_HOME")
}

fn end(world: &World, file: &str) -> Run {
    world
        .hq(&format!(
            "--transcript $D/transcript ceremony end --output $D/{file}"
        ))
        .ok()
}

#[test]
fn a_transcript_has_what_was_done_how_it_ended_and_what_was_said() {
    let world = begun();
    let mode = fs::metadata(world.path("transcript"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let noted = |text: &str| {
        world
            .hq("ceremony note")
            .env("HQ_TRANSCRIPT", world.path("transcript").to_str().unwrap())
            .arg(text)
            .ok()
    };
    let shown = world.hq("--transcript $D/transcript trust show").ok();
    noted("The seal of bag 0042 was whole.\n\u{1b}[31mred");
    world
        .hq("--transcript $D/transcript site show nowhere")
        .run();
    let sealed = end(&world, "sealed.cose");
    let verified = verify(&world, "sealed.cose").ok().json();
    assert_eq!(verified["fingerprint"], sealed.text("fingerprint"));
    assert_eq!(verified["purpose"], "a second founding");
    assert_eq!(verified["present"], serde_json::json!(["Alice", "Bob"]));
    let entries = verified["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    let text = |at: usize| entries[at]["text"].as_str().unwrap();
    assert!(
        entries[0]["command"]
            .as_str()
            .unwrap()
            .ends_with("trust show --json")
    );
    assert!(shown.stdout.starts_with(text(0)), "{}", text(0));
    assert_eq!(entries[1]["command"], "note");
    assert_ne!(entries[2]["exit_code"], 0);
    assert!(text(2).contains("error["), "{}", text(2));
    // For people it is text that steers no terminal.
    let plain = verify(&world, "sealed.cose").text().ok();
    assert!(plain.stdout.contains("bag 0042"), "{plain}");
    assert!(!plain.stdout.contains('\u{1b}'), "{plain}");
}

#[test]
fn a_transcript_that_is_over_takes_nothing_more_and_no_command_runs_beside_it() {
    let world = begun();
    world
        .hq("--transcript $D/nowhere trust show")
        .fails(2, "TRANSCRIPT-MISSING");
    world.hq("ceremony note x").fails(2, "TRANSCRIPT-UNSET");
    world
        .hq("--transcript $D/transcript ceremony end --output $D/empty.cose")
        .fails(2, "TRANSCRIPT-INVALID");
    world
        .hq("--transcript $D/transcript ceremony begin --purpose again --present Alice")
        .fails(3, "FILE-EXISTS");
    world
        .hq("--transcript $D/other ceremony begin --present Alice --purpose")
        .arg("x".repeat(300))
        .fails(2, "CEREMONY-INVALID");
    world.hq("--transcript $D/transcript ceremony note x").ok();
    end(&world, "sealed.cose");
    let drafts = || {
        fs::read_dir(world.path("hq/record/drafts"))
            .unwrap()
            .count()
    };
    let before = drafts();
    for line in [
        "ceremony note y",
        "ceremony end --output $D/again.cose",
        "trust draft --output $D/x",
    ] {
        world
            .hq(&format!("--transcript $D/transcript {line}"))
            .fails(2, "TRANSCRIPT-INVALID");
    }
    assert_eq!(drafts(), before);
}

#[test]
fn a_transcript_that_was_changed_or_that_another_key_sealed_is_refused() {
    let world = begun();
    world.hq("--transcript $D/transcript ceremony note x").ok();
    end(&world, "sealed.cose");
    let bytes = fs::read(world.path("sealed.cose")).unwrap();
    for at in (0..bytes.len()).step_by(17) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(world.path("changed.cose"), changed).unwrap();
        assert_eq!(verify(&world, "changed.cose").run().exit, 1, "octet {at}");
    }
    // An officer's home seals nothing.
    world
        .hq("--home $D/officers/alice --transcript $D/transcript ceremony end --output $D/x")
        .fails(2, "HOME-NOT-HQ");
}

#[test]
fn a_root_that_may_leave_its_token_is_no_root() {
    let world = World::empty(Stores::Tokens);
    world.make_escrow_key();
    let (root, _) = (world.keys("root"), world.keys("hq"));
    let pin = fs::read_to_string(world.path("pins/root.pin")).unwrap();
    judge::succeed(
        Command::new("pkcs11-tool")
            .env(
                "SOFTHSM2_CONF",
                mintmark_tests::stores::configuration(world.folder()),
            )
            .arg("--module")
            .arg(mintmark_tests::stores::module())
            .args(["--token-label", "root", "--login", "--pin", pin.trim()])
            .args([
                "--keypairgen",
                "--key-type",
                "EC:prime256v1",
                "--label",
                "root",
            ])
            .args(["--usage-sign", "--sensitive", "--extractable"]),
    );
    let run = world
        .hq("init --name Acme --keys @hq --escrow-key $D/escrow.pem --root-keys")
        .arg(root)
        .run();
    assert_eq!(run.codes(), ["KEY-ATTRIBUTES"], "{run}");
    assert!(!world.path("hq").exists());
}
