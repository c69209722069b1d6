//! The command line as a script sees it: help, usage errors, error forms, homes that are none, policies that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, World};

type Of = for<'w> fn(&'w World, &str) -> mintmark_tests::Tool;
const TOOLS: [(&str, Of); 2] = [("hq", World::hq), ("site", World::site)];

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

/// Every command of a tool that does something, with its help text.
fn commands(world: &World, tool: Of) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![String::new()];
    while let Some(command) = open.pop() {
        let help = tool(world, &format!("{command} --help")).text().ok().stdout;
        assert!(help.contains("Usage: "), "{command}: {help}");
        let inner = listed(&help);
        if inner.is_empty() {
            found.push((command.trim().to_owned(), help));
        }
        open.extend(inner.into_iter().map(|name| format!("{command} {name}")));
    }
    found
}

#[test]
fn every_command_explains_itself_and_those_of_the_contract_are_there() {
    let world = World::empty(Stores::Files);
    let names = |tool| {
        commands(&world, tool)
            .into_iter()
            .map(|(name, _)| name)
            .collect::<BTreeSet<_>>()
    };
    let hq = names(World::hq);
    let wanted = "init, officer request, officer add, officer list, officer show, officer remove, trust draft, trust show, \
         trust publish, trust pin, trust epoch, trust escrow, approval list, approval show, approval sign, approval import, site enrol, site grant, \
         site disable, site revoke, site rotate, site succeed, site reanchor, site clock, site next, entitlement amend, \
         entitlement credit, entitlement revoke, \
         site list, site show, policy check, entitlement draft, entitlement export, entitlement list, entitlement show, \
         media import, media export, media inspect, audit list, audit show, audit verify, audit fork, audit log, reconcile, \
         device show, device dossier, device revoke, device verify, device sweep, status export, ca list, ca show, ca export, doctor, completion, manual";
    for command in wanted.split(", ") {
        assert!(hq.contains(command), "hq {command} is not in {hq:?}");
    }
    let site = names(World::site);
    let wanted = "init, media import, media export, media inspect, status, issue, device show, device scrap, device void, \
         device rework, crl issue, entitlement list, \
         entitlement show, audit list, audit show, audit verify, audit log, recover, doctor, clock confirm, completion, manual";
    for command in wanted.split(", ") {
        assert!(site.contains(command), "site {command} is not in {site:?}");
    }
}

#[test]
fn every_command_takes_the_global_options_and_every_argument_is_explained() {
    let world = World::empty(Stores::Files);
    for (tool, of) in TOOLS {
        for (command, help) in commands(&world, of) {
            for option in ["--home <DIR>", "--json", "--color <WHEN>"] {
                assert!(
                    help.contains(option),
                    "{tool} {command}: no {option}\n{help}"
                );
            }
            // An option or argument is followed by its explanation, on its line or on the next.
            let lines: Vec<&str> = help.lines().collect();
            for pair in lines.windows(2) {
                let is_argument =
                    pair[0].trim_start().starts_with("--") && pair[0].starts_with("  ");
                let explained = pair[0].trim().contains("  ") || !pair[1].trim().is_empty();
                assert!(!is_argument || explained, "{tool} {command}: {}", pair[0]);
            }
        }
    }
}

#[test]
fn what_cannot_be_parsed_ends_with_two_in_the_form_that_was_asked_for() {
    let world = World::empty(Stores::Files);
    for (tool, of) in TOOLS {
        let lines: &[&str] = match tool {
            "hq" => &[
                "nonsense",
                "--nonsense",
                "",
                "site",
                "media import",
                "reconcile --format yaml",
                "trust draft --valid-days x",
            ],
            _ => &[
                "nonsense",
                "--nonsense",
                "",
                "media",
                "media import",
                "issue --product X",
                "init --site-id Berlin!",
            ],
        };
        for line in lines {
            let run = of(&world, line).fails(2, "USAGE");
            assert_eq!(
                (run.stdout.as_str(), run.stderr.lines().count()),
                ("", 1),
                "{run}"
            );
            assert!(
                run.errors()[0].as_object().unwrap().contains_key("cause"),
                "{run}"
            );
            let text = of(&world, line).text().exits(2);
            // A command that is not complete is answered with what completes it.
            let said = ["error[USAGE]: ", "Usage: "]
                .iter()
                .any(|said| text.stderr.contains(said));
            assert!(text.stdout.is_empty() && said, "{text}");
            assert!(!text.stderr.contains('\u{1b}'), "{text}");
        }
        let text = of(&world, "nonsense")
            .text()
            .arg("--color")
            .arg("always")
            .exits(2);
        assert!(text.stderr.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn a_home_that_is_none_is_said_to_be_none() {
    let world = World::with_headquarters();
    for (tool, of, command) in [
        ("hq", TOOLS[0].1, "site list"),
        ("site", TOOLS[1].1, "status"),
    ] {
        let variable = format!("{}_HOME", tool.to_uppercase());
        of(&world, &format!("--home $D/absent {command}")).fails(3, "HOME-MISSING");
        of(&world, command)
            .env(&variable, world.path("absent").to_str().unwrap())
            .fails(3, "HOME-MISSING");
        of(&world, command)
            .without(&variable)
            .fails(2, "HOME-UNSET");
        fs::create_dir_all(world.path("empty")).unwrap();
        fs::set_permissions(world.path("empty"), fs::Permissions::from_mode(0o700)).unwrap();
        of(&world, &format!("--home $D/empty {command}")).fails(3, "HOME-MISSING");
        world.write("a-file", "");
        of(&world, &format!("--home $D/a-file {command}")).fails(3, "HOME-MISSING");
    }
    fs::set_permissions(world.path("hq"), fs::Permissions::from_mode(0o755)).unwrap();
    world.hq("site list").fails(3, "HOME-EXPOSED");
    // An officer's home is no headquarters.
    world
        .hq("--home $D/officers/alice trust draft")
        .fails(2, "HOME-NOT-HQ");
    world.hq("--home $D/officers/alice trust show").ok();
}

#[test]
fn a_home_is_never_made_over_another() {
    let world = World::ready();
    let fingerprint = world.hq("trust show").ok().text("fingerprint");
    let init = "init --site-id berlin --keys @berlin --trust $D/media/mintmark/trust-000001.cose";
    let before = world.status("berlin");
    world
        .site(&format!("{init} --fingerprint {fingerprint}"))
        .fails(3, "HOME-EXISTS");
    let hq = "init --name Acme --keys @hq --root-keys @root --escrow-key $D/escrow.pem";
    assert_eq!(world.hq(hq).run().codes(), ["HOME-EXISTS"]);
    world
        .hq(&format!(
            "--home $D/officers/alice trust pin --trust $D/media/mintmark/trust-000001.cose --fingerprint {fingerprint}"
        ))
        .run()
        .codes()
        .iter()
        .for_each(|code| assert_eq!(code, "HOME-EXISTS"));
    assert_eq!(world.status("berlin"), before);
    // What was in a folder before is left alone too.
    fs::create_dir(world.path("mine")).unwrap();
    world.write("mine/letter.txt", "dear");
    world
        .site(&format!(
            "--home $D/mine {init} --fingerprint {fingerprint}"
        ))
        .fails(3, "HOME-EXISTS");
    assert_eq!(
        fs::read_to_string(world.path("mine/letter.txt")).unwrap(),
        "dear"
    );
}

#[test]
fn a_damaged_home_stops_the_line_and_says_what_is_missing() {
    for (damage, codes) in [
        ("config.toml", &["HOME-CORRUPT"][..]),
        ("log", &["LOG-MISSING", "HOME-CORRUPT"]),
        ("trust/trust-000001.cose", &["HOME-CORRUPT"]),
        ("enrol.cose", &["HOME-CORRUPT"]),
    ] {
        let world = World::ready();
        let path = world.path("berlin").join(damage);
        fs::rename(&path, world.path("away")).unwrap();
        for line in ["status", "media import $D/media", "recover"] {
            let run = world.site(line).exits(4);
            assert!(codes.contains(&&*run.codes()[0]), "{damage}: {run}");
            assert!(run.errors()[0]["hint"].is_string(), "{run}");
        }
        fs::rename(world.path("away"), path).unwrap();
        world.site("status").ok();
    }
    // What follows from the log is made again.
    let world = World::ready();
    world.requests("one", [1]);
    world.issue("one").ok();
    let status = world.status("berlin");
    fs::remove_dir_all(world.path("berlin/index")).unwrap();
    fs::remove_file(world.path("berlin/state.snapshot")).unwrap();
    assert_eq!(world.status("berlin"), status);
    assert_eq!(world.issue("one").ok().lines()[0]["outcome"], "existing");
    fs::write(world.path("berlin/state.snapshot"), "noise").unwrap();
    assert_eq!(world.site("recover --rebuild").ok().json()["unresolved"], 0);
    assert_eq!(world.issue("one").ok().lines()[0]["outcome"], "existing");
}

#[test]
fn an_error_in_words_is_code_message_and_hint_on_standard_error() {
    let world = World::empty(Stores::Files);
    let home = world.path("absent").display().to_string();
    let run = world.site("--home $D/absent status").text().exits(3);
    assert_eq!(run.stdout, "");
    assert_eq!(
        run.stderr,
        format!(
            "site: error[HOME-MISSING]: there is no vault in {home}\n\
             site: hint: run `site init`, or correct --home or SITE_HOME\n"
        )
    );
    let run = world.hq("--home $D/absent site list").text().exits(3);
    assert_eq!(
        run.stderr,
        format!(
            "hq: error[HOME-MISSING]: there is no home at {home}\n\
             hq: hint: run `hq init` to make headquarters, or `hq trust pin` to make an officer's home\n"
        )
    );
    let json = world.site("--home $D/absent status").exits(3).errors();
    let mut fields: Vec<&String> = json[0].as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["cause", "code", "exit_code", "hint", "message"]);
}

#[test]
fn completions_and_manual_pages_come_from_the_tools_themselves() {
    let world = World::empty(Stores::Files);
    for (tool, of) in TOOLS {
        for shell in ["bash", "zsh", "fish"] {
            let script = of(&world, &format!("completion {shell}"))
                .text()
                .ok()
                .stdout;
            assert!(
                script.contains(tool) && script.contains("media") && script.contains("json"),
                "{shell}"
            );
        }
        fs::create_dir(world.path(tool)).unwrap();
        of(&world, &format!("manual $D/{tool}")).text().ok();
        let page = fs::read_to_string(world.path(tool).join(format!("{tool}.1"))).unwrap();
        assert!(page.starts_with(".ie") || page.contains(".TH"), "{page}");
        assert!(fs::read_dir(world.path(tool)).unwrap().count() > 10);
        let version = of(&world, "--version").text().ok().stdout;
        assert_eq!(version, format!("{tool} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_policy_that_is_not_understood_whole_is_not_drafted() {
    let world = World::with_vault();
    let cases = [
        (
            "unknown",
            POLICY.replace("units = 1000", "units = 1000\nunitz = 5"),
            "POLICY-UNKNOWN-FIELD",
        ),
        (
            "unknown-table",
            format!("{POLICY}\n[extra]\nx = 1\n"),
            "POLICY-UNKNOWN-FIELD",
        ),
        (
            "syntax",
            POLICY.replace("[[product]]", "[[product"),
            "POLICY-SYNTAX",
        ),
        (
            "window",
            POLICY.replace(
                "valid_for_days = 90",
                "valid_from = 2031-01-02T00:00:00Z\nvalid_until = 2031-01-01T00:00:00Z",
            ),
            "POLICY-WINDOW",
        ),
        (
            "both",
            POLICY.replace(
                "valid_for_days = 90",
                "valid_for_days = 90\nvalid_until = 2031-01-01T00:00:00Z",
            ),
            "POLICY-WINDOW",
        ),
        (
            "offset",
            POLICY.replace(
                "valid_for_days = 90",
                "valid_for_days = 90\nvalid_from = 2031-01-02T00:00:00",
            ),
            "POLICY-TIME-WITHOUT-OFFSET",
        ),
        (
            "none",
            POLICY.replace("units = 1000", "units = 0"),
            "POLICY-UNITS",
        ),
        (
            "no-credit",
            POLICY.replace("max_unreported_units = 20000\n", ""),
            "POLICY-FIELD-MISSING",
        ),
        (
            "pattern",
            POLICY.replace("TH200-[0-9]{8}", "TH200-(["),
            "POLICY-PATTERN",
        ),
        (
            "algorithm",
            POLICY.replace("\"P-256\"", "\"P-257\""),
            "POLICY-KEY-ALGORITHM",
        ),
        (
            "subject",
            POLICY.replace("serialNumber={device_id}", "CN=device"),
            "POLICY-SUBJECT",
        ),
        (
            "schema",
            POLICY.replace("schema = 1", "schema = 2"),
            "POLICY-SCHEMA",
        ),
        (
            "keys",
            format!(
                "{POLICY}[[key]]\nlabel = \"service\"\nalgorithm = \"AES-256\"\nuse = \"x\"\nuses_max = 1\n"
            ),
            "POLICY-VALUE",
        ),
    ];
    for (name, policy, code) in cases {
        world.write(&format!("{name}.toml"), policy);
        let draft = format!(
            "entitlement draft --site berlin --policy $D/{name}.toml --output $D/{name}.draft"
        );
        let run = world.hq(&draft).fails(2, code);
        assert!(
            run.errors()[0]["message"]
                .as_str()
                .unwrap()
                .contains(&format!("{name}.toml")),
            "{run}"
        );
        assert!(!world.path(&format!("{name}.draft")).exists());
        world
            .hq(&format!("policy check $D/{name}.toml"))
            .fails(2, code);
    }
    assert!(
        world.hq("approval list").ok().json()["drafts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|draft| draft["type"] != "entitlement")
    );
    world
        .hq("policy check $D/absent.toml")
        .fails(3, "FILE-MISSING");
    world.write("policy.toml", POLICY);
    world
        .hq("entitlement draft --site nowhere --policy $D/policy.toml")
        .fails(2, "SITE-UNKNOWN");
    // The policies that come with the product are good ones.
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    let mut checked = 0;
    for entry in fs::read_dir(policies).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let checks = world
                .hq("policy check")
                .arg(path.to_str().unwrap())
                .ok()
                .json();
            assert!(!checks["words"].as_array().unwrap().is_empty());
            checked += 1;
        }
    }
    assert!(checked >= 3);
}

#[test]
fn json_is_one_object_on_one_line_and_everything_else_stands_on_standard_error() {
    let world = World::ready();
    let lines = [
        (World::hq as Of, "trust show"),
        (World::hq, "officer list"),
        (World::hq, "officer show alice"),
        (World::hq, "approval list"),
        (World::hq, "site list"),
        (World::hq, "site show berlin"),
        (World::hq, "entitlement list"),
        (World::hq, "entitlement show th200"),
        (World::hq, "audit list"),
        (World::hq, "ca list"),
        (World::hq, "reconcile"),
        (World::site, "status"),
        (World::site, "entitlement list"),
        (World::site, "entitlement show th200"),
        (World::site, "audit list"),
        (World::site, "audit verify"),
        (World::site, "doctor"),
        (World::site, "recover"),
    ];
    for (tool, line) in lines {
        let run = tool(&world, line).ok();
        let schema = run.text("schema");
        assert!(
            schema.starts_with("mintmark/") && schema.ends_with("/1"),
            "{run}"
        );
        assert_eq!(run.stdout.lines().count(), 1, "{run}");
        for remark in run.stderr.lines() {
            assert!(
                remark.starts_with("{\"note\":") || remark.starts_with("{\"warning\":"),
                "{run}"
            );
        }
        let text = tool(&world, line).text().ok();
        assert!(
            !text.stdout.trim().is_empty() && !text.stdout.contains('\u{1b}'),
            "{text}"
        );
    }
}

/// What a library may do when its process ends: this one takes its exit code.
const AT_THE_END: &str =
    "#include <unistd.h>\n__attribute__((destructor)) static void end(void) { _exit(99); }\n";

#[test]
fn the_exit_code_is_the_tools_own_whatever_a_library_does_when_its_process_ends() {
    let world = World::ready();
    let library = world.preload("end", AT_THE_END).display().to_string();
    let other = Command::new("true").env("LD_PRELOAD", &library).status();
    assert_eq!(other.unwrap().code(), Some(99));
    for (tool, exit) in [
        (world.site("status"), 0),
        (world.site("audit log"), 0),
        (world.site("device show TH200-00000001"), 1),
        (world.hq("officer list"), 0),
        (world.hq("officer lost"), 2),
    ] {
        let expected = tool.run().stdout.lines().count();
        let run = tool.env("LD_PRELOAD", library.as_str()).run().exits(exit);
        // Nor is anything left unsaid.
        assert_eq!(run.stdout.lines().count(), expected, "{run}");
    }
}
