//! The words of a recovery key and its private half: read once, used, and gone.

use mintmark_backup::{RecoveryKey, Sheet};
use mintmark_tests::Tool;
use zeroize::Zeroizing;

use super::*;

/// A recovery key that this test knows all of: its private half, the lines on the paper, and the same as words alone.
fn recovery(world: &World) -> Secrets {
    // Different in every run, so that nothing else in memory has these bytes.
    let mut private = [0; 32];
    let mut source = fs::File::open("/dev/urandom").unwrap();
    source.read_exact(&mut private).unwrap();
    let key = RecoveryKey::new(Zeroizing::new(private));
    let sheet = Sheet::of(&key).unwrap();
    world.write("words", sheet.file(&key).as_bytes());
    let words = world.path("words");
    fs::set_permissions(&words, fs::Permissions::from_mode(0o600)).unwrap();
    world.write("recovery.pub", key.public().to_text());
    let mut secrets = Secrets::from([("the recovery key".to_owned(), private.to_vec())]);
    for line in sheet.text().lines().step_by(3) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let four = fields[1..5].join(" ");
        // The words of the list are in the program, each by itself.
        secrets.insert(
            format!("line {} of the paper", fields[0]),
            line.trim_end().into(),
        );
        secrets.insert(
            format!("the words of line {}", fields[0]),
            four.into_bytes(),
        );
    }
    assert_eq!(secrets.len(), 5);
    secrets
}

#[test]
fn the_words_of_a_recovery_key_are_gone_once_it_has_opened_a_backup() {
    let world = World::ready();
    let secrets = recovery(&world);
    fs::create_dir(world.path("backups")).unwrap();
    let seal = |tool: Tool| watched(&tool, &secrets);
    let hq = seal(world.hq("backup --recovery-key $D/recovery.pub --output $D/backups/hq"));
    let site = seal(world.site("backup --recovery-key $D/recovery.pub --output $D/backups/site"));
    let path = world.path("words");
    let [hq, site] = [("hq", hq), ("site", site)].map(|(of, said)| {
        format!(
            "$D/backups/{of} --signer {} --words $D/words",
            said.text("signer")
        )
    });
    for tool in [
        world.hq(&format!("--home $D/again restore {hq}")),
        world.site(&format!("backup verify {site}")),
    ] {
        let held = Held::start(&tool);
        expect_gone(
            held.process.id(),
            &secrets,
            path.to_str().unwrap().as_bytes(),
        );
        held.end();
    }
    for (name, bytes) in files::contents(world.folder()) {
        if name != "words" {
            expect_absent(&secrets, &name, &bytes);
        }
    }
}

/// Those that it makes itself it shows at the terminal, or writes where it is told to, and nowhere else.
#[test]
fn a_recovery_key_that_is_made_is_in_the_file_of_its_words_alone() {
    let world = World::with_headquarters();
    let held = Held::start(&world.hq("backup key --output $D/made.pub --words $D/made"));
    let text = fs::read_to_string(world.path("made")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let secrets: Secrets = lines
        .map(|line| (format!("the line {}", &line[..1]), line.trim_end().into()))
        .collect();
    assert_eq!(secrets.len(), 6, "{text}");
    let there = world.path("made.pub");
    expect_gone(
        held.process.id(),
        &secrets,
        there.to_str().unwrap().as_bytes(),
    );
    held.end();
    for (name, bytes) in files::contents(world.folder()) {
        if name != "made" {
            expect_absent(&secrets, &name, &bytes);
        }
    }
}
