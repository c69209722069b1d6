//! What is not put back, and what is not sealed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use mintmark_tests::{World, files};

use super::{hq_backup, options, site_backup};

#[test]
fn what_is_not_the_backup_of_this_home_makes_no_home() {
    let world = World::ready();
    world.make_recovery_key();
    let said = site_backup(&world, "berlin").ok();
    let hq_said = hq_backup(&world, "hq").ok();
    let put_back = options(&said, "berlin");
    let refused = |line: &str, exit, code: &str| {
        let run = world
            .site(&format!("--home $D/again {line}"))
            .fails(exit, code);
        assert!(!world.path("again").exists(), "{run}");
        run
    };
    // Into a home that is one, or a folder that is not empty.
    world.site(&put_back).fails(3, "HOME-EXISTS");
    // Another signer, or another backup, than was written down.
    let other = options(&hq_said, "berlin");
    refused(&other, 1, "BACKUP-SIGNER");
    let (fingerprint, wrong) = (said.text("fingerprint"), hq_said.text("fingerprint"));
    let by = |fingerprint: &str| {
        format!("restore $D/backups/berlin --fingerprint {fingerprint} --words $D/words")
    };
    refused(&by(&wrong), 1, "FINGERPRINT-MISMATCH");
    refused("restore $D/backups/berlin --words $D/words", 2, "USAGE");
    // Headquarters' is not a vault's, and the other way round.
    refused(&options(&hq_said, "hq"), 2, "BACKUP-OF-ANOTHER");
    world
        .hq(&format!("--home $D/again {put_back}"))
        .fails(2, "BACKUP-OF-ANOTHER");
    // The words of another key; words that others may read; words that are none.
    world
        .hq("backup key --output $D/other.pub --words $D/other")
        .ok();
    refused(
        &put_back.replace("$D/words", "$D/other"),
        1,
        "RECOVERY-KEY-OTHER",
    );
    fs::set_permissions(world.path("other"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(
        &put_back.replace("$D/words", "$D/other"),
        3,
        "RECOVERY-WORDS-EXPOSED",
    );
    let words = fs::read_to_string(world.path("words")).unwrap();
    let seventh = words
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split_whitespace().filter(|word| word.len() > 2))
        .nth(6)
        .unwrap()
        .to_owned();
    let misread = words.replace(&seventh, &format!("{seventh}q"));
    fs::write(world.path("misread"), misread).unwrap();
    fs::set_permissions(world.path("misread"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = refused(
        &put_back.replace("$D/words", "$D/misread"),
        2,
        "RECOVERY-WORDS-INVALID",
    );
    let said_why = run.errors()[0]["message"].as_str().unwrap().to_owned();
    // By places alone: the words themselves are told to nobody.
    let (_, places) = said_why.split_once(": ").unwrap();
    let mut places = places.split("; ");
    assert!(
        places
            .clone()
            .any(|said| said == "word 7 is not in the list"),
        "{run}"
    );
    assert!(
        places.all(|said| said.starts_with("word ") && said.ends_with(" is not in the list")),
        "{run}"
    );
    // A stick that was pulled out, and one that lost a bit.
    let whole = fs::read(world.path("backups/berlin")).unwrap();
    for cut in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(world.path("backups/berlin"), &whole[..cut]).unwrap();
        refused(&put_back, 1, "BACKUP-DAMAGED");
    }
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    fs::write(world.path("backups/berlin"), &changed).unwrap();
    refused(&put_back, 1, "BACKUP-DAMAGED");
    world
        .site("backup inspect $D/backups/berlin")
        .fails(1, "BACKUP-DAMAGED");
    fs::write(world.path("backups/berlin"), &whole).unwrap();
    let rehearsed = world
        .site(&format!("--home $D/again {put_back} --dry-run"))
        .ok();
    assert_eq!(rehearsed.json()["dry_run"], true);
    assert!(!world.path("again").exists());
    // By the fingerprint of this very backup it is put back as well.
    world
        .site(&format!("--home $D/again {}", by(&fingerprint)))
        .ok();
    world.site("--home $D/again audit verify").ok();
}

#[test]
fn a_backup_is_looked_at_without_the_words_and_read_whole_with_them() {
    let world = World::ready();
    world.make_recovery_key();
    let said = site_backup(&world, "berlin").ok().json();
    let looked = world
        .hq("backup inspect $D/backups/berlin")
        .without("HQ_HOME")
        .ok();
    let signer = looked.text("signer");
    for field in [
        "of",
        "fingerprint",
        "signer",
        "recovery_key_id",
        "log_root",
        "files",
        "bytes",
    ] {
        assert_eq!(looked.json()[field], said[field], "{field}");
    }
    let verify = format!("backup verify $D/backups/berlin --signer {signer} --words $D/words");
    let verified = world.site(&verify).ok();
    assert_eq!(verified.json()["fingerprint"], said["fingerprint"]);
}

#[test]
fn nothing_is_sealed_over_a_file_or_to_what_is_no_key() {
    let world = World::ready();
    world.make_recovery_key();
    let planned = site_backup(&world, "berlin").arg("--dry-run").ok();
    assert_eq!(planned.json()["dry_run"], true);
    assert!(!world.path("backups/berlin").exists());
    site_backup(&world, "berlin").ok();
    let before = files::contents(&world.path("backups"));
    site_backup(&world, "berlin").fails(3, "FILE-EXISTS");
    hq_backup(&world, "berlin").fails(3, "FILE-EXISTS");
    world
        .hq("backup key --output $D/recovery.pub --words $D/more")
        .fails(3, "FILE-EXISTS");
    world
        .hq("backup key --output $D/new.pub")
        .fails(2, "RECOVERY-WORDS-MISSING");
    assert!(!world.path("new.pub").exists());
    let text = fs::read_to_string(world.path("recovery.pub")).unwrap();
    fs::write(world.path("recovery.pub"), text.replace('0', "1")).unwrap();
    site_backup(&world, "more").fails(2, "RECOVERY-KEY-INVALID");
    assert_eq!(files::contents(&world.path("backups")), before);
    // An officer's home is made again by pinning.
    world
        .hq("--home $D/officers/alice backup --recovery-key $D/recovery.pub --output $D/backups/alice")
        .fails(2, "RECOVERY-KEY-INVALID");
    fs::write(world.path("recovery.pub"), text).unwrap();
    world
        .hq("--home $D/officers/alice backup --recovery-key $D/recovery.pub --output $D/backups/alice")
        .fails(2, "HOME-NOT-HQ");
}
