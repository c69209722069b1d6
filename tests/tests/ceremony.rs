//! The founding ceremony as docs/ceremony.md has it, and the transcript that the tool writes of one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use mintmark_protocol::identifier::Fingerprint;
use mintmark_tests::{Run, Stores, World, guide, judge, strace};
use serde_json::{Value, json};

#[test]
fn every_command_of_the_ceremony_works_as_it_stands() {
    guide::run(&["docs/ceremony.md"]);
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
    for line in ["ceremony note y", "trust draft --output $D/x"] {
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

/// The entries that verify.
fn entries(world: &World, file: &str) -> Vec<Value> {
    let verified = verify(world, file).ok().json();
    verified["entries"].as_array().unwrap().clone()
}

/// Runs a command with a transcript whose every system call of this kind fails.
fn failing(world: &World, line: &str, call: &str, error: &str) -> Run {
    let tool = world.hq(&format!("--transcript $D/transcript {line}"));
    let path = world.path("transcript");
    strace::failing(&tool, call, path.to_str().unwrap(), error, 1)
}

#[test]
fn a_command_that_was_done_but_could_not_be_added_is_never_said_to_have_changed_nothing() {
    let world = begun();
    world.hq("--transcript $D/transcript ceremony note x").ok();
    let before = fs::read(world.path("transcript")).unwrap();
    let run = failing(&world, "trust draft --output $D/draft", "write", "ENOSPC");
    assert_eq!(
        (run.exit, run.codes()),
        (5, vec!["TRANSCRIPT-NOT-ADDED".to_owned()]),
        "{run}"
    );
    assert_eq!(run.json()["schema"], "mintmark/trust/1");
    assert!(world.path("draft").exists());
    // What failed by itself says so first.
    let run = failing(&world, "site show nowhere", "write", "ENOSPC");
    let own = world.hq("site show nowhere").run();
    let codes = [own.codes(), vec!["TRANSCRIPT-NOT-ADDED".to_owned()]].concat();
    assert_eq!((run.exit, run.codes()), (5, codes), "{run}");
    // A note is nothing that was done.
    let run = failing(&world, "ceremony note y", "write", "ENOSPC");
    assert_eq!(
        (run.exit, run.codes()),
        (3, vec!["FILE-IO".to_owned()]),
        "{run}"
    );
    assert_eq!(fs::read(world.path("transcript")).unwrap(), before);
    end(&world, "sealed.cose");
    assert_eq!(entries(&world, "sealed.cose").len(), 1);
}

#[test]
fn a_command_for_which_the_transcript_has_no_room_is_not_run() {
    let world = begun();
    let draft = "trust draft --output $D/draft";
    let run = failing(&world, draft, "fallocate", "ENOSPC");
    assert_eq!(
        (run.exit, run.codes()),
        (3, vec!["FILE-IO".to_owned()]),
        "{run}"
    );
    assert!(!world.path("draft").exists());
    let run = failing(&world, "trust show", "fallocate", "EOPNOTSUPP");
    assert_eq!(run.exit, 0, "{run}");
    // As long as one that can still be sealed.
    let entry = json!({"kind": "entry", "time": 1, "command": "note", "exit": 0, "text": "x".repeat(65_000)});
    let mut bytes = fs::read(world.path("transcript")).unwrap();
    let mut lines = 1u64;
    while bytes.len() < (7 << 20) - 66_000 {
        bytes.extend_from_slice(format!("{entry}\n").as_bytes());
        lines += 1;
    }
    world.write("transcript", &bytes);
    world
        .hq(&format!("--transcript $D/transcript {draft}"))
        .fails(2, "TRANSCRIPT-INVALID");
    assert!(!world.path("draft").exists());
    assert_eq!(end(&world, "sealed.cose").json()["entries"], lines);
    // No part of a longer file is sealed.
    bytes.resize((8 << 20) + 1, b'\n');
    world.write("transcript", &bytes);
    world
        .hq("--transcript $D/transcript ceremony end --output $D/longer.cose")
        .fails(2, "TRANSCRIPT-INVALID");
}

#[test]
fn a_ceremony_goes_on_after_an_append_that_was_cut() {
    let world = begun();
    world.hq("--transcript $D/transcript ceremony note x").ok();
    let whole = fs::read(world.path("transcript")).unwrap();
    let line = whole[..whole.len() - 1]
        .rsplit(|octet| *octet == b'\n')
        .next()
        .unwrap();
    let part = &line[..line.len() / 2];
    world.write("transcript", [&whole, part].concat());
    world.hq("--transcript $D/transcript ceremony note y").ok();
    let again = fs::read(world.path("transcript")).unwrap();
    world.write("transcript", [&again, part].concat());
    end(&world, "sealed.cose");
    let entries = entries(&world, "sealed.cose");
    let texts: Vec<_> = entries.iter().map(|entry| &entry["text"]).collect();
    let cut = format!(
        "an append was cut here: {} bytes, SHA-256 {}",
        part.len(),
        Fingerprint::of(part)
    );
    assert_eq!(texts, ["x", &cut, "y", &cut]);
    assert_eq!(entries[1]["exit_code"], 5);
}

#[test]
fn however_often_a_ceremony_is_ended_there_is_one_transcript_of_it() {
    let world = begun();
    world.hq("--transcript $D/transcript ceremony note x").ok();
    // The first ends of all come at once, and one of those that follow cannot write what it gives.
    let ends = ["a", "b", "c"].map(|file| {
        let line = format!("--transcript $D/transcript ceremony end --output $D/{file}");
        let mut command = world.hq(&line).command();
        command.stdout(Stdio::null()).spawn().unwrap()
    });
    for mut end in ends {
        assert!(end.wait().unwrap().success());
    }
    world
        .hq("--transcript $D/transcript ceremony end --output $D/nowhere/d")
        .fails(5, "TRANSCRIPT-NOT-WRITTEN");
    world.set_clock(3600);
    let last = end(&world, "d");
    let first = verify(&world, "a").ok().json();
    assert_eq!(first["fingerprint"], last.text("fingerprint"));
    for file in ["b", "c", "d"] {
        assert_eq!(verify(&world, file).ok().json(), first);
    }
    // What was changed since is not sealed anew.
    let text = fs::read_to_string(world.path("transcript")).unwrap();
    world.write(
        "transcript",
        text.replace("\"text\":\"x\"", "\"text\":\"y\""),
    );
    world
        .hq("--transcript $D/transcript ceremony end --output $D/e")
        .fails(2, "TRANSCRIPT-INVALID");
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
