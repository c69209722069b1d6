//! What a person at a terminal is asked and told: before what cannot be taken back, and after a wrong command, file or home.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mintmark_tests::{Run, Stores, Tool, World};

/// The commands of a tool that do something, as their manual pages are called: `hq-site-enrol`.
fn pages(world: &World, tool: Tool, name: &str) -> BTreeSet<String> {
    tool.text().ok();
    let entries = fs::read_dir(world.path(name)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages: BTreeSet<String> = names
        .map(|file| file.strip_suffix(".1").unwrap().to_owned())
        .collect();
    let has_verbs = |page: &str| {
        let begin = format!("{page}-");
        pages.iter().any(|other| other.starts_with(&begin))
    };
    let verbs = pages.iter().filter(|page| !has_verbs(page));
    let verbs = verbs.map(|page| page.strip_prefix(&format!("{name}-")).unwrap().to_owned());
    verbs.collect()
}

/// What a tool's source says that the other one has and it has not.
fn listed(source: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(source);
    let text = fs::read_to_string(path).unwrap();
    let (_, list) = text.split_once("commands: &[").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    let names = list.split('"').skip(1).step_by(2);
    names.map(|name| name.replace(' ', "-")).collect()
}

fn hint(run: &Run) -> String {
    run.errors()[0]["hint"].as_str().unwrap().to_owned()
}

#[test]
fn a_command_of_the_other_tool_is_named_with_that_tool() {
    let world = World::empty(Stores::Files);
    for tool in ["hq", "site"] {
        fs::create_dir(world.path(tool)).unwrap();
    }
    let hq = pages(&world, world.hq("manual $D/hq"), "hq");
    let site = pages(&world, world.site("manual $D/site"), "site");
    for (source, own, other) in [
        ("site/src/commands/mistaken.rs", &site, &hq),
        ("hq/src/commands/mistaken.rs", &hq, &site),
    ] {
        let listed = listed(source);
        // A noun of this one is a command that is not complete.
        let is_noun = |of: &str| own.iter().any(|own| own.starts_with(&format!("{of}-")));
        let missing: Vec<&String> = other
            .difference(own)
            .filter(|of| !listed.contains(*of) && !is_noun(of))
            .collect();
        let own: Vec<&String> = own.intersection(&listed).collect();
        assert!(
            missing.is_empty() && own.is_empty(),
            "{source}: {missing:?} {own:?}"
        );
    }
    for (run, expected) in [
        (world.hq("issue --product X"), "`site issue`"),
        (world.hq("device scrap X"), "`site device scrap`"),
        (world.site("reconcile"), "`hq reconcile`"),
        (world.site("approval import x"), "`hq approval import`"),
        (world.site("entitlement draft"), "`hq entitlement draft`"),
        // The noun was forgotten, or stands last.
        (world.hq("import media"), "`hq media import`"),
    ] {
        let run = run.fails(2, "USAGE");
        assert!(hint(&run).contains(expected), "{run}");
    }
}

#[test]
fn the_home_of_the_other_tool_is_said_to_be_that() {
    let world = World::ready();
    world
        .hq("--home $D/berlin site list")
        .fails(2, "HOME-OTHER-TOOL");
    for home in ["hq", "officers/alice"] {
        world
            .site(&format!("--home $D/{home} status"))
            .fails(2, "HOME-OTHER-TOOL");
    }
}

#[test]
fn a_file_that_another_command_takes_is_called_what_it_is() {
    let world = World::ready();
    world.requests("one", [1]);
    world.issue("one").ok();
    let id = "th200";
    let entitlement = "$D/media/mintmark/to-berlin_v1/dispatch-1-000002.cose";
    let (policy, trust) = (
        format!("$D/policies/{id}.toml"),
        "$D/media/mintmark/trust-000001.cose",
    );
    let enrolment = "$D/media/mintmark/enrol-berlin_v1.cose";
    let fingerprint = "00".repeat(32);
    let init = "--home $D/other init --site-id other --keys @other";
    let sign = "--home $D/officers/alice approval sign";
    let by_alice = "--officer alice --keys @alice --output $D/a";
    let csr = fs::read_dir(world.path("csr/one")).unwrap().next().unwrap();
    let csr = csr.unwrap().path().display().to_string();
    for (line, is, takes) in [
        (
            format!("policy check {csr}"),
            "a certification request",
            "site issue",
        ),
        (
            format!("policy check {entitlement}"),
            "`dispatch`",
            "site media import",
        ),
        (
            format!("entitlement draft --site berlin --policy $D/officers/berlin-{id}.draft"),
            "a draft of type `entitlement`",
            "hq approval sign",
        ),
        (
            format!("{sign} {policy} {by_alice}"),
            "a policy",
            "hq policy check",
        ),
        (
            format!("{sign} {entitlement} {by_alice}"),
            "`dispatch`",
            "site media import",
        ),
        (
            format!("approval import {policy}"),
            "a policy",
            "hq policy check",
        ),
        (
            format!("site enrol --request {csr} --fingerprint {fingerprint}"),
            "a certification request",
            "site issue",
        ),
        (
            format!("officer add --request {enrolment} --fingerprint {fingerprint}"),
            "`enrolment-request`",
            "hq site enrol",
        ),
        (
            format!("--home $D/new trust pin --trust {policy} --fingerprint {fingerprint}"),
            "a policy",
            "hq policy check",
        ),
        (
            format!("audit verify {policy}"),
            "a policy",
            "hq policy check",
        ),
        (
            format!("device verify {csr} --trust {trust} --fingerprint {fingerprint}"),
            "a certification request",
            "site issue",
        ),
        (
            format!("device show {policy}"),
            "a policy",
            "hq policy check",
        ),
    ] {
        let run = world.hq(&line).run();
        assert!([1, 2].contains(&run.exit), "{run}");
        let hint = hint(&run);
        assert!(hint.contains(is) && hint.contains(takes), "{run}");
    }
    let run = world
        .site(&format!(
            "{init} --trust {policy} --fingerprint {fingerprint}"
        ))
        .exits(1);
    assert!(hint(&run).contains("a policy"), "{run}");
    for (file, is) in [(policy.as_str(), "a policy"), (entitlement, "`dispatch`")] {
        let issue = format!("issue --product TH-200 --csr {file} --output $D/out");
        let run = world.site(&issue).text().exits(1);
        assert!(run.stderr.contains(is), "{run}");
    }
    // What is the right kind of file, and wrong otherwise, is not called another one.
    let run = world
        .hq(&format!(
            "--home $D/new trust pin --trust {trust} --fingerprint {fingerprint}"
        ))
        .fails(1, "FINGERPRINT-MISMATCH");
    assert!(hint(&run).contains("fingerprint"), "{run}");
}

/// At a terminal it asks for this identifier and goes no further without it; with it, or where there is no terminal, it is done.
fn asks(world: &World, line: &str, what: &str, identifier: &str) {
    let tool = world.hq(line).text();
    let asked = tool.at_terminal("no\n").exits(3);
    for said in [
        "This will ",
        what,
        &format!("Type {identifier} to go on"),
        "CONFIRMATION-MISMATCH",
    ] {
        assert!(asked.stdout.contains(said), "{said}: {asked}");
    }
    world
        .hq(&format!("{line} --confirm no"))
        .fails(3, "CONFIRMATION-MISMATCH");
    let typed = tool.at_terminal(&format!("{identifier}\n")).exits(0);
    assert!(typed.stdout.contains("to go on"), "{typed}");
}

#[test]
fn what_cannot_be_taken_back_asks_whoever_sits_at_a_terminal_for_the_identifier() {
    let world = World::ready();
    let id = "th200";
    let reason = "--reason doubt --output $D/officers";
    asks(
        &world,
        &format!("entitlement revoke {id} {reason}/end.draft"),
        "for good",
        id,
    );
    asks(
        &world,
        &format!("site disable berlin {reason}/disable.draft"),
        "makes no new devices",
        "berlin/v1",
    );
    let shown = world.hq("approval list").ok().json();
    let drafts = shown["drafts"].as_array().unwrap();
    let disable = drafts
        .iter()
        .rfind(|draft| draft["type"] == "revocation" && draft["state"] == "open");
    let disable = disable.unwrap()["id"].as_str().unwrap();
    let sign = "approval sign $D/officers/disable.draft --officer alice --keys @alice";
    asks(
        &world,
        &format!("--home $D/officers/alice {sign} --output $D/officers/disable.draft.alice"),
        "sign it as alice",
        disable,
    );
    world
        .hq("approval import $D/officers/disable.draft.alice")
        .ok();
    let bob = world.sign("$D/officers/disable.draft", "bob");
    world.hq(&format!("approval import {bob}")).ok();
    asks(&world, &format!("site grant {disable}"), "send", disable);
    asks(
        &world,
        &format!("site revoke berlin {reason}/revoke.draft"),
        "no longer good",
        "berlin/v1",
    );
    asks(&world, "trust epoch", "sent anew", "trust-000002");
}

#[test]
fn a_table_that_is_wider_than_the_terminal_is_shown_in_lines_that_fit() {
    let world = World::ready();
    world.requests("one", [1]);
    world.issue("one").ok();
    for tool in [
        world.site("media export $D/media"),
        world.hq("media inspect $D/media"),
        world.hq("media import $D/media"),
        world.hq("audit list"),
        world.hq("approval list"),
        world.hq("entitlement list"),
        world.hq("site list"),
        world.hq("reconcile"),
        world.site("status"),
        world.site("entitlement list"),
        world.site("audit list"),
    ] {
        let run = tool.text().env("NO_COLOR", "1").at_terminal("").exits(0);
        for line in run.stdout.lines() {
            let line = line.trim_end_matches('\r');
            // Notes are sentences, which a terminal breaks where it likes; a progress line is gone again.
            if !line.contains("note: ") && !line.contains('\u{1b}') {
                assert!(line.chars().count() <= 80, "{line}\n{run}");
            }
        }
    }
}
