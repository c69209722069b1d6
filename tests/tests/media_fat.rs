//! What travels does so on sticks as they are sold, with FAT32: it comes out as it went in, in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use mintmark_protocol::approval::PROPOSAL_BYTES_MAX;
use mintmark_protocol::bundle::BUNDLE_BYTES_MAX;
use mintmark_protocol::dispatch::DISPATCH_BYTES_MAX;
use mintmark_protocol::enrolment::REQUEST_BYTES_MAX;
use mintmark_protocol::identifier::VaultName;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::segment::{SEGMENT_FILE_BYTES_MAX, SEGMENT_RECORD_BYTES_MAX};
use mintmark_protocol::trust::TRUST_BYTES_MAX;
use mintmark_tests::fat::Fat;
use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{World, files, request};

/// The largest file that FAT32 holds.
const FAT_FILE_BYTES_MAX: usize = (4 << 30) - 1;

/// Everything that is written to a medium is read back with one of these ceilings, so that none passes FAT's.
const _: () = {
    let ceilings = [
        TRUST_BYTES_MAX,
        REQUEST_BYTES_MAX,
        PROPOSAL_BYTES_MAX,
        DISPATCH_BYTES_MAX,
        BUNDLE_BYTES_MAX,
        SEGMENT_FILE_BYTES_MAX,
    ];
    let mut at = 0;
    while at < ceilings.len() {
        assert!(ceilings[at] <= FAT_FILE_BYTES_MAX);
        at += 1;
    }
};

/// Takes what is on the stick of a world over FAT and back: the same names with the same bytes.
#[track_caller]
fn over_fat(world: &World) {
    let (image, media) = (world.path("stick.img"), world.path("media"));
    let before = files::contents(&media);
    assert!(!before.is_empty());
    for path in before.keys() {
        expect_plain(path);
    }
    let fat = Fat::new(image.clone());
    fat.put(&media);
    fs::remove_dir_all(&media).unwrap();
    fat.take(&media);
    fs::remove_file(image).unwrap();
    let after = files::contents(&media);
    assert!(
        before == after,
        "{:?} came back as {:?}",
        before.keys(),
        after.keys()
    );
}

/// What every file system of a stick can hold, and no other name on it can be taken for.
#[track_caller]
fn expect_plain(path: &str) {
    for name in path.split('/') {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        assert!(name.bytes().all(plain), "{name}");
        // FAT drops a dot at the end. Room is left for what a part is called.
        assert!(!name.ends_with('.') && name.len() <= 200, "{name}");
    }
}

#[test]
fn a_vault_is_let_in_supplied_and_heard_over_fat32() {
    let world = World::with_headquarters();
    world.site_init("berlin");
    world.site("media export $D/media").ok();
    over_fat(&world);
    // What came back is what the vault would write, and HQ reads it: nothing is written twice here.
    let run = world.site("media export $D/media").ok();
    assert_eq!(run.item("enrol-berlin_v1.cose")["outcome"], "already");
    world.let_in("berlin", &["alice", "bob"]);
    world.mint("berlin", POLICY);
    let waiting = world.draft(
        "berlin",
        &POLICY.replace("id = \"th200\"", "id = \"waiting\""),
    );
    world.hq("media export $D/media").ok();
    assert!(world.on_stick(&format!("draft-{waiting}.cose")).exists());
    over_fat(&world);
    let run = world.hq("media export $D/media").ok();
    let outcomes = run.json();
    let outcomes = column(outcomes["items"].as_array().unwrap(), "outcome");
    assert!(
        outcomes.len() >= 4 && outcomes.iter().all(|outcome| *outcome == "already"),
        "{run}"
    );
    let run = world.site("media import $D/media").ok();
    assert_eq!(
        run.item("to-berlin_v1/dispatch-1-000002.cose")["outcome"],
        "imported"
    );
    // An officer's approval, too, goes by stick.
    world.sign(
        "$D/media/mintmark/draft-ID.cose"
            .replace("ID", &waiting)
            .as_str(),
        "alice",
    );
    let approval = format!("approval-{waiting}_alice.cose");
    fs::rename(
        world.on_stick(&format!("draft-{waiting}.cose.alice")),
        world.on_stick(&approval),
    )
    .unwrap();
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    over_fat(&world);
    let run = world.hq("media import $D/media").ok();
    assert_eq!(run.item(&approval)["outcome"], "imported");
    assert_eq!(run.item("-000001.cose")["outcome"], "imported");
    assert_eq!(world.reconcile()["accounts"][0]["good"], 3);
    world.carry_out("berlin").exits_done();
}

#[test]
fn a_bundle_of_several_segments_comes_over_fat32_and_no_file_is_larger_than_a_segment_may_be() {
    let world = World::ready();
    // Just below the largest request, and so many that their records fill a segment and a part of the next.
    let (devices, bytes) = (570, 15_500);
    assert!(devices as usize * bytes > SEGMENT_RECORD_BYTES_MAX);
    request::write_many_of(&world.path("csr/large"), 0..devices, bytes);
    world.issue("large").ok();
    fs::remove_dir_all(world.on_stick("to-berlin_v1")).unwrap();
    let run = world.site("media export $D/media").ok();
    for end in [".seg0001", ".seg0002", "-000001.cose"] {
        assert_eq!(run.item(end)["outcome"], "exported");
    }
    let sizes: Vec<u64> = files::below(&world.on_stick("to-hq"))
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .collect();
    assert!(
        sizes
            .iter()
            .all(|bytes| *bytes <= SEGMENT_FILE_BYTES_MAX as u64),
        "{sizes:?}"
    );
    assert!(sizes.iter().sum::<u64>() > SEGMENT_RECORD_BYTES_MAX as u64);
    over_fat(&world);
    let run = world.hq("media import $D/media").ok();
    assert_eq!(run.item("-000001.cose")["outcome"], "imported");
    let report = world.hq("reconcile").ok().json();
    assert_eq!(report["balanced"], true);
    assert_eq!(report["accounts"][0]["good"], devices);
}

#[test]
fn the_longest_and_the_oddest_names_are_names_on_fat32() {
    let folder = tempfile::tempdir().unwrap();
    let long = |letter: &str| letter.repeat(32);
    let mut names = BTreeSet::new();
    // What DOS takes for devices, wherever it stands alone, and what it would shorten to one and the same name.
    for (site, vault) in [
        (long("s"), long("v")),
        ("con".into(), "nul".into()),
        ("aux".into(), "com1".into()),
        ("berlin-mitte-1".into(), "v1".into()),
        ("berlin-mitte-2".into(), "v1".into()),
        ("0".into(), "0".into()),
    ] {
        let vault = VaultName {
            site: site.parse().unwrap(),
            vault: vault.parse().unwrap(),
        };
        let lineage = "f".repeat(32).parse().unwrap();
        names.extend([
            MediaName::Enrolment {
                vault: vault.clone(),
            },
            MediaName::Dispatch {
                vault: vault.clone(),
                epoch: u64::MAX,
                sequence: u64::MAX,
            },
            MediaName::Bundle {
                vault: vault.clone(),
                lineage,
                sequence: u64::MAX,
            },
            MediaName::Segment {
                vault,
                lineage,
                sequence: u64::MAX,
                number: 9999,
            },
        ]);
    }
    for id in ["con", "prn", &"i".repeat(64)] {
        let (id, officer) = (id.parse().unwrap(), long("o").parse().unwrap());
        names.insert(MediaName::Approval { id, officer });
    }
    names.insert(MediaName::Trust { version: u64::MAX });
    for name in &names {
        let name = name.to_string();
        expect_plain(&name);
        let path = folder.path().join("from/mintmark").join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &name).unwrap();
    }
    let fat = Fat::new(folder.path().join("stick.img"));
    fat.put(&folder.path().join("from"));
    fat.take(&folder.path().join("to"));
    let back = files::contents(&folder.path().join("to/mintmark"));
    assert_eq!(back.len(), names.len());
    for (name, holds) in back {
        assert_eq!(name.as_bytes(), holds);
        assert!(MediaName::parse(&name).is_some_and(|read| names.contains(&read)));
    }
    // A name in other letters is none of ours, so that no stick gives us two files for one.
    for name in [
        "TRUST-000001.COSE",
        "Trust-000001.cose",
        "draft-TH200.cose",
        "to-Berlin_v1/dispatch-1-000001.cose",
    ] {
        assert_eq!(MediaName::parse(name), None, "{name}");
    }
}

#[test]
fn what_is_too_large_is_refused_by_headquarters_and_not_read() {
    let world = World::ready();
    world.requests("some", 1..=2);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    let draft = world.draft(
        "berlin",
        &POLICY.replace("id = \"th200\"", "id = \"waiting\""),
    );
    // Larger than the machine's memory, and taking no room.
    let huge = |path: &Path| File::create(path).unwrap().set_len(1 << 40).unwrap();
    let bundle = files::below(&world.on_stick("to-hq"))
        .into_iter()
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "cose")
        })
        .unwrap();
    let kept = fs::read(&bundle).unwrap();
    let approval = format!("approval-{draft}_alice.cose");
    for path in [
        &bundle,
        &world.on_stick(&approval),
        &world.on_stick("enrol-paris_v1.cose"),
    ] {
        huge(path);
    }
    let before = world.reconcile();
    let run = world.hq("media import $D/media").exits(1);
    for end in ["-000001.cose", &approval, "enrol-paris_v1.cose"] {
        let item = run.item(end);
        assert_eq!(
            (&item["outcome"], &item["code"]),
            (&"refused".into(), &"MESSAGE-OVERSIZE".into())
        );
    }
    assert_eq!(world.reconcile()["accounts"], before["accounts"]);
    fs::write(&bundle, kept).unwrap();
    fs::remove_file(world.on_stick(&approval)).unwrap();
    fs::remove_file(world.on_stick("enrol-paris_v1.cose")).unwrap();
    // A segment of a genuine bundle: it may be whole on another stick.
    let segment = bundle.with_extension("seg0001");
    let kept = fs::read(&segment).unwrap();
    huge(&segment);
    let run = world.hq("media import $D/media").exits(3);
    assert_eq!(run.item("-000001.cose")["outcome"], "held");
    assert_eq!(run.codes(), ["SEGMENT-MISSING"]);
    fs::write(&segment, kept).unwrap();
    let run = world.hq("media import $D/media").ok();
    assert_eq!(run.item("-000001.cose")["outcome"], "imported");
}
