//! What headquarters revoked after its backup does not become good again, and no number of a CRL is used twice.

use mintmark_pki::{Crl, Issuer};
use mintmark_tests::world::OFFICERS;
use mintmark_tests::{World, judge};

use super::{hq_backup, lose, options, wipe_stick};

/// Puts headquarters back from this backup; nothing that was on the stick is left.
fn put_back(world: &World, options: &str) {
    lose(world, "hq");
    wipe_stick(world);
    world.hq(options).ok();
}

/// Has officers open another epoch.
#[track_caller]
fn declare(world: &World, name: &str) {
    let draft = format!("$D/officers/{name}.draft");
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(&draft);
    world.hq("trust publish --media $D/media").ok();
}

/// Has officers approve that the vault's device CA is revoked; gives the draft's id.
#[track_caller]
fn revocation(world: &World, name: &str) -> String {
    let draft = format!("$D/officers/{name}.draft");
    let line = format!("site revoke berlin/v1 --device-ca 1 --reason theft --output {draft}");
    let id = world.hq(&line).ok().text("id");
    world.approve(&draft);
    id
}

/// Number of the root's CRL that headquarters exports, and how many it names.
#[track_caller]
fn exported(world: &World, warnings: &[&str]) -> (u64, usize) {
    let run = world.hq("ca export --output $D/ca").ok();
    assert_eq!(run.warning_codes(), warnings, "{run}");
    let der = |name: &str| {
        let line = format!(
            "{name} -in ca/{}.pem -outform DER -out {name}.der",
            match name {
                "crl" => "crl-root",
                _ => "root",
            }
        );
        judge::openssl(world.folder(), &line);
        std::fs::read(world.path(&format!("{name}.der"))).unwrap()
    };
    let root = Issuer::from_certificate_der(&der("x509")).unwrap();
    let crl = Crl::from_der(&der("crl"), &root).unwrap();
    (crl.number(), crl.revoked().len())
}

#[test]
fn a_revocation_that_is_forgotten_is_spoken_of_and_no_number_of_a_crl_comes_twice() {
    let world = World::ready();
    world.make_recovery_key();
    let id = revocation(&world, "revoke");
    let said = hq_backup(&world, "hq").ok();
    let grant = format!("site grant {id}");
    assert_eq!(world.hq(&grant).ok().json()["crl_number"], 2);
    assert_eq!(exported(&world, &[]), (2, 1));
    put_back(&world, &options(&said, "hq"));

    for line in [
        grant.as_str(),
        "status export --output $D/status",
        "ca export --output $D/ca",
        "ca export --output $D/ca --dry-run",
    ] {
        world.hq(line).fails(2, "RESTORE-UNDECLARED");
    }
    declare(&world, "epoch");
    assert_eq!(exported(&world, &["CRL-FORGOTTEN"]), (1, 0));
    let sent = world.hq(&grant).ok();
    assert_eq!(sent.warning_codes(), ["CRL-FORGOTTEN"], "{sent}");
    let number = sent.json()["crl_number"].as_u64().unwrap();
    assert!(number > 1_000_000_000, "{sent}");
    assert_eq!(exported(&world, &[]), (number, 1));
    world.hq("status export --output $D/status").ok();
}

#[test]
fn what_a_vault_tells_of_a_forgotten_revocation_is_revoked_again_for_the_root() {
    let world = World::ready();
    world.make_recovery_key();
    let said = hq_backup(&world, "hq").ok();
    let id = revocation(&world, "revoke");
    world.hq(&format!("site grant {id}")).ok();
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
    put_back(&world, &options(&said, "hq"));

    declare(&world, "epoch");
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin");
    let listed = world.hq("ca show device-ca-berlin_v1").ok().json();
    assert_eq!(listed["revoked"], true, "{listed}");
    assert_eq!(exported(&world, &["CRL-FORGOTTEN"]), (1, 0));
    let id = revocation(&world, "again");
    let sent = world.hq(&format!("site grant {id}")).ok().json();
    let number = sent["crl_number"].as_u64().unwrap();
    assert_eq!(exported(&world, &[]), (number, 1));
    world
        .hq("site revoke berlin/v1 --device-ca 1 --reason theft")
        .fails(2, "DEVICE-CA-REVOKED");
    world.carry_out("berlin").exits_done();
    world.carry_home("berlin").exits_done();
}

#[test]
fn an_epoch_that_was_drafted_before_the_backup_declares_no_restore() {
    let world = World::ready();
    world.make_recovery_key();
    let draft = "$D/officers/before.draft";
    world.hq(&format!("trust epoch --output {draft}")).ok();
    world.approve(draft);
    let said = hq_backup(&world, "hq").ok();
    put_back(&world, &options(&said, "hq"));

    world.hq("trust publish --media $D/media").ok();
    world
        .hq("media export $D/media")
        .fails(2, "RESTORE-UNDECLARED");
    for officer in OFFICERS {
        let home = format!("--home $D/officers/{officer}");
        world.hq(&format!("{home} media import $D/media")).ok();
    }
    declare(&world, "epoch");
    world.carry_out("berlin").exits_done();
}
