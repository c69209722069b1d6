//! One changed bit, in any file on a stick and wherever it lies: the file is refused by whoever reads it, be it new there
//! or known, and nothing else comes of it.
//!
//! Here one place in some is tried. All of them, which takes minutes:
//! `cargo nextest run -p mintmark-tests --test one_bit --run-ignored all`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use ciborium::Value;
use mintmark_protocol::approval::{PROPOSAL_BYTES_MAX, Proposal};
use mintmark_tests::world::{OFFICERS, POLICY};
use mintmark_tests::{Run, Stores, World, files};

/// How many octets from the start of a file, where its headers are, are changed one by one, and from its end, where its
/// signatures are; and how many places between.
const HEADER: usize = 170;
const SIGNATURE: usize = 16;
const BETWEEN: usize = 16;
/// One place in so many is changed where not all of them are.
const SOME: usize = 5;
/// How many octets three signatures of officers are, with their headers.
const THREE_SIGNATURES: usize = 3 * 110;

/// Files that one command reads, each of which is whole.
struct Stick {
    files: Vec<Damaged>,
    turns: Vec<usize>,
    /// Which bit is changed in a turn, in a file of that many octets.
    bit: fn(usize, usize) -> usize,
}

struct Damaged {
    path: PathBuf,
    whole: Vec<u8>,
    /// The name of the file that the command speaks of when it has read this one.
    item: String,
}

impl Stick {
    fn of(files: impl IntoIterator<Item = PathBuf>, every: usize) -> Self {
        let damaged = |path: PathBuf| Damaged {
            whole: fs::read(&path).unwrap(),
            item: path.file_name().unwrap().to_str().unwrap().to_owned(),
            path,
        };
        Self {
            files: files.into_iter().map(damaged).collect(),
            turns: turns(every).collect(),
            bit,
        }
    }

    /// The signatures of three officers are what is changed, all over, and now and then what is before them.
    fn in_signatures(mut self, every: usize) -> Self {
        self.turns = (0..THREE_SIGNATURES / 5 + BETWEEN).step_by(every).collect();
        self.bit = |turn, bytes| {
            let before = bytes.saturating_sub(THREE_SIGNATURES);
            let byte = match turn.checked_sub(BETWEEN) {
                Some(fifth) => before + fifth * 5,
                None => before * turn / BETWEEN,
            };
            byte.min(bytes - 1) * 8 + turn * 3 % 8
        };
        self
    }

    /// What is in these folders stays as it is, while one bit of each file at a time is changed, in many places, and
    /// `run` reads them. Each is refused, and as a file that is not to be believed.
    #[track_caller]
    fn refused(&self, run: impl Fn() -> Run, folders: &[PathBuf]) {
        let state = || folders.iter().map(|folder| files::contents(folder));
        let before: Vec<_> = state().collect();
        for turn in self.turns.iter().copied() {
            for Damaged { path, whole, .. } in &self.files {
                files::flip(path, (self.bit)(turn, whole.len()));
            }
            let run = run();
            for error in run.errors() {
                let exit = error["exit_code"].as_i64().unwrap();
                assert!([1, 4].contains(&exit), "turn {turn}: {run}");
            }
            for Damaged { path, whole, item } in &self.files {
                let outcome = run.item(item)["outcome"].clone();
                assert_eq!(outcome, "refused", "turn {turn}, {item}: {run}");
                fs::write(path, whole).unwrap();
            }
            assert!([1, 4].contains(&run.exit), "turn {turn}: {run}");
            for (before, after) in before.iter().zip(state()) {
                let changed: Vec<_> = after
                    .iter()
                    .filter(|(name, bytes)| before.get(*name) != Some(*bytes))
                    .map(|(name, _)| name)
                    .collect();
                assert!(changed.is_empty(), "turn {turn}: {changed:?}: {run}");
                assert_eq!(before.len(), after.len(), "turn {turn}: {run}");
            }
        }
    }
}

/// Every so-maniest turn: of the rest, where there are few, more than of the header.
fn turns(every: usize) -> impl Iterator<Item = usize> {
    let rest = HEADER..HEADER + BETWEEN + SIGNATURE;
    let header = (0..HEADER).step_by(every);
    header.chain(rest.step_by(every.div_ceil(2)))
}

/// Of the header, what is enough where its every octet was changed before.
fn seldom(turn: &usize) -> bool {
    turn.is_multiple_of(3) || *turn >= HEADER
}

/// Every octet of the header, then places all over the file, then every octet of its end.
fn bit(turn: usize, bytes: usize) -> usize {
    let byte = if turn < HEADER {
        turn
    } else if turn < HEADER + BETWEEN {
        let between = bytes.saturating_sub(HEADER + SIGNATURE);
        HEADER + between * (turn - HEADER) / BETWEEN
    } else {
        bytes - 1 - (turn - HEADER - BETWEEN)
    };
    byte.min(bytes - 1) * 8 + turn * 3 % 8
}

fn on_stick(world: &World, folder: &str, begins: &str) -> Vec<PathBuf> {
    let mut found = files::below(&world.on_stick(folder));
    found.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(begins)
    });
    assert!(!found.is_empty(), "{begins}");
    found
}

/// A headquarters with a second trust manifest, and an entitlement for the vault, both on the stick and not yet brought to
/// anybody.
fn on_its_way_out() -> World {
    let world = World::with_vault();
    let draft = world.draft_trust("");
    world.approve(&draft);
    world.hq("trust publish --media $D/media").ok();
    world.mint("berlin", POLICY);
    world.hq("media export $D/media").ok();
    world
}

#[test]
fn of_what_goes_to_a_vault_and_to_an_officer() {
    what_goes_to_a_vault_and_to_an_officer(SOME);
}

#[test]
#[ignore = "every place: takes minutes"]
fn of_what_goes_to_a_vault_and_to_an_officer_anywhere() {
    what_goes_to_a_vault_and_to_an_officer(1);
}

fn what_goes_to_a_vault_and_to_an_officer(every: usize) {
    let world = on_its_way_out();
    let manifests = on_stick(&world, "", "trust-");
    let dispatches = on_stick(&world, "to-berlin_v1", "dispatch-");
    assert_eq!((manifests.len(), dispatches.len()), (2, 2));
    let mut to_vault = Stick::of(manifests.iter().chain(&dispatches).cloned(), every);
    let mut to_officer = Stick::of(manifests.clone(), every);
    let vault = || world.site("media import $D/media").run();
    let officer = || {
        world
            .hq("--home $D/officers/alice media import $D/media")
            .run()
    };
    let of_vault = ["log", "trust", "received"].map(|name| world.path("berlin").join(name));
    let of_officer = [world.path("officers/alice")];
    // The first of each is known there, the second is new.
    to_vault.refused(vault, &of_vault);
    to_officer.refused(officer, &of_officer);
    vault().exits_done();
    officer().exits_done();
    // And now everything is known.
    to_vault.turns.retain(seldom);
    to_officer.turns.retain(seldom);
    to_vault.refused(vault, &of_vault);
    to_officer.refused(officer, &of_officer);
    vault().exits_done();
    officer().exits_done();
}

#[test]
fn of_what_comes_to_headquarters() {
    what_comes_to_headquarters(SOME);
}

#[test]
#[ignore = "every place: takes minutes"]
fn of_what_comes_to_headquarters_anywhere() {
    what_comes_to_headquarters(1);
}

fn what_comes_to_headquarters(every: usize) {
    let world = World::ready();
    world.requests("some", 1..=3);
    world.issue("some").ok();
    world.site("media export $D/media").ok();
    let bundles = on_stick(&world, "to-hq", "berlin_v1_");
    let [bundle, segment] = bundles.as_slice() else {
        panic!("{bundles:?}");
    };
    let mut segments = Stick::of([segment.clone()], every);
    segments.files[0].item = "000001.cose".to_owned();
    // Its digest is that of all its octets alike.
    segments.turns = (HEADER..HEADER + BETWEEN).step_by(every).collect();
    let hq = || world.hq("media import $D/media").run();
    let of_hq = [world.path("hq/record")];
    segments.refused(hq, &of_hq);

    world.site_init("paris");
    world.site("--home $D/paris media export $D/media").ok();
    let policy = POLICY.replace("id = \"th200\"", "id = \"th200-b\"");
    let id = world.draft("berlin", &policy);
    let mut all = vec![world.on_stick("enrol-paris_v1.cose"), bundle.clone()];
    for officer in OFFICERS {
        world.sign("$D/officers/berlin-th200-b.draft", officer);
        let approval = world.on_stick(&format!("approval-{id}_{officer}.cose"));
        let signed = world.path(&format!("officers/berlin-th200-b.draft.{officer}"));
        fs::copy(signed, &approval).unwrap();
        all.push(approval);
    }
    let mut others = Stick::of(all, every);
    others.refused(hq, &of_hq);
    hq().exits_done();

    // The same once more, after what was asked for was drafted, and what was approved was sent.
    let fingerprint = world.status("paris")["enrolment_fingerprint"].clone();
    world
        .hq(&format!(
            "site enrol --request $D/media/mintmark/enrol-paris_v1.cose --fingerprint {}",
            fingerprint.as_str().unwrap()
        ))
        .ok();
    world.hq(&format!("entitlement export {id}")).ok();
    others.turns.retain(seldom);
    others.refused(hq, &of_hq);
    segments.refused(hq, &of_hq);
    hq().exits_done();
    assert_eq!(world.reconcile()["balanced"], true);
}

/// A headquarters whose second manifest an officer signed who left with it, and a third after that, on the stick.
fn left_by_bob() -> World {
    let world = World::empty(Stores::Files);
    world.ceremony(&["alice", "bob", "carol"], "");
    world.hq("officer remove bob --confirm bob").ok();
    world.next_trust("", &["alice", "bob", "carol"]);
    world.next_trust("", &["alice", "carol"]);
    world
}

/// Every manifest on the stick is refused when a bit of it is changed, by who pinned the second and by who pinned the
/// third alike, and taken when it is whole.
#[track_caller]
fn manifests_refused(
    world: &World,
    run: impl Fn() -> Run,
    folders: &[PathBuf],
    last: &str,
    every: usize,
) {
    let stick = |version: u64| world.on_stick(&format!("trust-{version:06}.cose"));
    // The second is judged by the first, so they are not changed together; the third would be taken.
    for files in [[stick(2), stick(3)], [stick(1), stick(3)]] {
        Stick::of(files, every)
            .in_signatures(every)
            .refused(&run, folders);
    }
    let whole = run().exits_done();
    for (version, outcome) in [(1, "already"), (2, "already"), (3, last)] {
        let item = whole.item(&format!("trust-{version:06}.cose"));
        assert_eq!(item["outcome"], outcome, "{whole}");
    }
}

#[test]
fn of_what_an_officer_signed_who_left_before_a_home_pinned_it() {
    what_an_officer_signed_who_left_before_a_home_pinned_it(SOME);
}

#[test]
#[ignore = "every place: takes minutes"]
fn of_what_an_officer_signed_who_left_before_a_home_pinned_it_anywhere() {
    what_an_officer_signed_who_left_before_a_home_pinned_it(1);
}

fn what_an_officer_signed_who_left_before_a_home_pinned_it(every: usize) {
    let world = left_by_bob();
    for (name, version, last) in [("dora", 2, "imported"), ("emil", 3, "already")] {
        world.pin_version(name, version);
        let import = format!("--home $D/officers/{name} media import $D/media");
        let folders = [world.path("officers").join(name)];
        manifests_refused(&world, || world.hq(&import).run(), &folders, last, every);
    }
}

#[test]
fn of_what_an_officer_signed_who_left_before_a_vault_pinned_it() {
    what_an_officer_signed_who_left_before_a_vault_pinned_it(SOME);
}

#[test]
#[ignore = "every place: takes minutes"]
fn of_what_an_officer_signed_who_left_before_a_vault_pinned_it_anywhere() {
    what_an_officer_signed_who_left_before_a_vault_pinned_it(1);
}

fn what_an_officer_signed_who_left_before_a_vault_pinned_it(every: usize) {
    let world = left_by_bob();
    for (name, version, last) in [("berlin", 2, "imported"), ("paris", 3, "already")] {
        world.site_init_with(name, version);
        let import = format!("--home $D/{name} media import $D/media");
        let folders = ["log", "trust", "received"].map(|folder| world.path(name).join(folder));
        manifests_refused(&world, || world.site(&import).run(), &folders, last, every);
    }
}

#[test]
fn of_no_harm_is_another_set_of_signatures_of_officers() {
    let officers = ["alice", "bob", "carol"];
    let world = World::empty(Stores::Files);
    world.ceremony(&officers, "");
    let first = world.on_stick("trust-000001.cose");
    let draft = world.draft_trust("");
    for officer in officers {
        let approval = world.sign(&draft, officer);
        if officer != "carol" {
            world.hq(&format!("approval import {approval}")).ok();
        }
    }
    world.hq("trust publish --media $D/media").ok();
    let second = world.on_stick("trust-000002.cose");
    world.site_init("berlin");
    let readers = [
        "--home $D/officers/alice media import $D/media",
        "--home $D/officers/carol media import $D/media",
    ];
    let outcomes = |run: &Run| {
        let outcome = |version: u64| {
            let item = run.item(&format!("trust-{version:06}.cose"));
            item["outcome"].as_str().unwrap().to_owned()
        };
        [outcome(1), outcome(2)]
    };
    for line in readers {
        let run = world.hq(line).ok();
        assert_eq!(outcomes(&run), ["already", "imported"], "{run}");
    }

    // The vault pinned the second; of the first it holds no more than its fingerprint.
    let whole = fs::read(&second).unwrap();
    let proposal = |bytes: &[u8]| Proposal::read(bytes, PROPOSAL_BYTES_MAX).unwrap();
    let drafted = world.path(draft.strip_prefix("$D/").unwrap());
    let approval = |officer: &str| {
        let file = drafted.with_file_name(format!(
            "{}.{officer}",
            drafted.file_name().unwrap().to_str().unwrap()
        ));
        proposal(&fs::read(file).unwrap())
    };
    let mut others = proposal(&fs::read(&drafted).unwrap());
    for officer in ["alice", "carol"] {
        others.collect(&approval(officer)).unwrap();
    }
    let mut all = others.clone();
    all.collect(&approval("bob")).unwrap();
    for same in [others, all] {
        let bytes = same.to_bytes().unwrap();
        assert_ne!(bytes, whole);
        fs::write(&second, bytes).unwrap();
        for line in readers {
            let run = world.hq(line).ok();
            assert_eq!(outcomes(&run), ["already"; 2], "{run}");
        }
        let run = world.site("media import $D/media").ok();
        assert_eq!(outcomes(&run), ["already"; 2], "{run}");
    }
    fs::write(&second, whole).unwrap();
    // What is older than what was pinned can be damaged, too.
    let site = || world.site("media import $D/media").run();
    let trust = [world.path("berlin/trust"), world.path("berlin/log")];
    let mut both = Stick::of([first, second], 3);
    both.turns.retain(|turn| *turn >= HEADER);
    both.refused(site, &trust);
    site().exits_done();
}

/// The key that is wrapped for each recipient of what a draft encrypts: where it begins in the file, and where it ends.
fn wrapped_keys(draft: &[u8]) -> Vec<(usize, usize)> {
    let parts = |bytes: &[u8]| match ciborium::from_reader(bytes).unwrap() {
        Value::Tag(_, parts) => parts.into_array().unwrap(),
        other => panic!("{other:?}"),
    };
    let encrypted = parts(parts(draft)[2].as_bytes().unwrap());
    let places = encrypted[3].as_array().unwrap().iter().map(|recipient| {
        let wrapped = recipient.as_array().unwrap()[2].as_bytes().unwrap();
        let mut found = draft.windows(wrapped.len());
        let begin = found.position(|window| window == wrapped).unwrap();
        (begin, begin + wrapped.len())
    });
    places.collect()
}

/// An officer is given a draft on a stick, in which one bit after the other is changed, and signs none of that.
#[track_caller]
fn draft_not_signed(world: &World, file: &Path, places: impl IntoIterator<Item = usize>) {
    let whole = fs::read(file).unwrap();
    let approval = world.path("out/approval.cose");
    let sign = format!(
        "--home $D/officers/alice approval sign {} --officer alice --keys @alice --output {}",
        file.display(),
        approval.display()
    );
    let before = files::contents(&world.path("officers/alice"));
    for place in places {
        files::flip(file, place);
        let run = world.hq(&sign).run();
        assert!([1, 4].contains(&run.exit), "bit {place}: {run}");
        assert!(!approval.exists(), "bit {place}: {run}");
        fs::write(file, &whole).unwrap();
    }
    assert_eq!(before, files::contents(&world.path("officers/alice")));
    world.hq(&sign).ok();
    assert!(approval.exists());
}

/// Of a draft: its header and its end, where headquarters signs, and places between.
fn of_a_draft(bytes: usize, every: usize) -> impl Iterator<Item = usize> {
    turns(every).map(move |turn| bit(turn, bytes))
}

#[test]
fn of_the_draft_of_an_entitlement() {
    the_draft_of_an_entitlement(SOME);
}

#[test]
#[ignore = "every place: takes minutes"]
fn of_the_draft_of_an_entitlement_anywhere() {
    the_draft_of_an_entitlement(1);
}

fn the_draft_of_an_entitlement(every: usize) {
    let world = World::with_vault();
    world.draft("berlin", POLICY);
    world.hq("media export $D/media").ok();
    let [draft] = on_stick(&world, "", "draft-").try_into().unwrap();
    let whole = fs::read(&draft).unwrap();
    let keys = wrapped_keys(&whole);
    // The vault's, those of headquarters' two keys, and the officers': an officer can unwrap one of them.
    assert_eq!(keys.len(), 3 + OFFICERS.len());
    let of_others = keys
        .iter()
        .flat_map(|(begin, end)| [begin * 8, (begin + end) * 4 + 3, end * 8 - 1]);
    draft_not_signed(
        &world,
        &draft,
        of_others.chain(of_a_draft(whole.len(), every)),
    );
}

#[test]
fn of_the_draft_of_a_trust_manifest() {
    the_draft_of_a_trust_manifest(SOME);
}

#[test]
#[ignore = "every place: takes minutes"]
fn of_the_draft_of_a_trust_manifest_anywhere() {
    the_draft_of_a_trust_manifest(1);
}

fn the_draft_of_a_trust_manifest(every: usize) {
    let world = World::with_headquarters();
    world.draft_trust("");
    world.hq("media export $D/media").ok();
    let [draft] = on_stick(&world, "", "draft-").try_into().unwrap();
    let bytes = fs::read(&draft).unwrap().len();
    draft_not_signed(&world, &draft, of_a_draft(bytes, every));
}
