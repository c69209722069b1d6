//! docs/commands.md says of every command what it does, and it is so; what cannot be taken back asks and can be tried; and what is
//! shown in rows is there as JSON.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mintmark_tests::{Stores, World, files};

/// What of a command's manual page and of the table can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    asks: bool,
    tries: bool,
}

/// The commands of a tool that do something, by what their manual pages say.
fn in_pages(world: &World, tool: &str) -> BTreeMap<String, Options> {
    let folder = world.path(tool);
    fs::create_dir(&folder).unwrap();
    let manual = match tool {
        "hq" => world.hq("manual $D/hq"),
        _ => world.site("manual $D/site"),
    };
    manual.text().ok();
    let entries = fs::read_dir(&folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names
        .map(|file| file.strip_suffix(".1").unwrap().to_owned())
        .collect();
    let has_verbs = |name: &str| {
        let begin = format!("{name}-");
        names.iter().any(|other| other.starts_with(&begin))
    };
    // A backup is made by the noun itself.
    let does = |name: &&String| !has_verbs(name) || name.ends_with("-backup");
    names
        .iter()
        .filter(does)
        .map(|name| {
            let text = fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
            let has = |option: &str| text.contains(&option.replace('-', "\\-"));
            assert!(has("--json"), "{name}");
            let options = Options {
                asks: has("--confirm"),
                tries: has("--dry-run"),
            };
            (name.clone(), options)
        })
        .collect()
}

#[test]
fn what_the_table_of_commands_says_is_so() {
    let world = World::empty(Stores::Files);
    let mut pages = in_pages(&world, "hq");
    pages.extend(in_pages(&world, "site"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/commands.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    for row in rows {
        let (command, rest) = row.split_once("` | ").unwrap();
        let cells: Vec<&str> = rest.trim_end_matches(" |").split(" | ").collect();
        let [changes, asks, tries, counts] = cells[..] else {
            panic!("{row}");
        };
        let says = |cell: &str| match cell {
            "yes" => true,
            "–" => false,
            other => panic!("{command}: {other}"),
        };
        let said = Options {
            asks: says(asks),
            tries: says(tries),
        };
        says(counts);
        let name = command.replace(' ', "-");
        let page = pages.remove(&name);
        assert_eq!(page, Some(said), "{command}");
        if changes.contains("for good") {
            assert!(said.asks && said.tries, "{command}");
        } else {
            assert!(
                changes.starts_with("makes") || changes.starts_with("nothing"),
                "{command}"
            );
            assert!(!said.asks, "{command}");
        }
    }
    assert!(pages.is_empty(), "not in docs/commands.md: {pages:?}");
}

/// Whoever shows rows, or one thing with many sides, has another form of it for programs.
#[test]
fn whatever_is_shown_in_a_table_is_there_as_json() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut seen = 0;
    for source in ["hq/src/commands", "site/src/commands", "common/backup/src"] {
        for path in files::below(&root.join(source)) {
            let text = fs::read_to_string(&path).unwrap();
            let shows = ["console.table(", "console.blocks("];
            if shows.iter().any(|shows| text.contains(shows)) {
                seen += 1;
                let json = ["is_json()", ".json(", "json(console"];
                assert!(
                    json.iter().any(|json| text.contains(json)),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(seen > 5, "{seen}");
}
