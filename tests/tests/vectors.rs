//! The test vectors of `fixtures/vectors`: every message opens with the private keys beside it, and says what the
//! description beside it says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "vectors/derivation.rs"]
mod derivation;
#[path = "vectors/history.rs"]
mod history;
#[path = "vectors/opening.rs"]
mod opening;
mod stage;
#[path = "vectors/vector.rs"]
mod vector;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use derivation::*;
use history::*;
use mintmark_tests::files;
use serde_json::{Value, json};
use stage::story::{Story, Told};
use stage::{describe, evidence, forge, granted, homes, keys, restored, vectors};
use vector::*;

/// What stands in the folder of a message, and its line in the index.
fn files_of(told: &Told) -> (BTreeMap<PathBuf, Vec<u8>>, Value) {
    let (mut said, content) = describe::describe(&told.bytes);
    let (trust, officers) = judged(&told.name, &said);
    let name = &told.name;
    let on_the_way = name.ends_with("-draft") || name.ends_with("-approval");
    said["about"] = told.about.into();
    said["trust"] = trust.into();
    said["approved_by"] = if on_the_way {
        json!([])
    } else {
        json!(officers)
    };
    said["files"] = json!({
        "message": format!("{name}.cose"),
        "content": format!("{name}.cbor"),
        "notation": format!("{name}.diag"),
    });
    let direction = match said["from"].as_str().unwrap() {
        "hq" => "from headquarters",
        _ => "to headquarters",
    };
    let listed = json!({
        "name": name, "type": said["type"], "direction": direction, "about": told.about,
    });
    let mut notation = describe::diagnostic(&forge::read(&content), 0);
    notation.push('\n');
    let files = [
        ("cose", told.bytes.clone()),
        ("diag", notation.into_bytes()),
        ("cbor", content),
        ("json", keys::pretty(&said)),
    ];
    let files = files.map(|(end, bytes)| (PathBuf::from(format!("{name}.{end}")), bytes));
    (files.into(), listed)
}

#[test]
#[ignore = "writes those that are not there, from those that are"]
fn write_the_vectors_that_are_missing() {
    let mut index: Value =
        serde_json::from_slice(&fs::read(vectors().join("index.json")).unwrap()).unwrap();
    let (records, bundles) = records();
    let restored = restored::told(&records, bundles[0].content().checkpoint.size);
    let evidence = evidence::told(&records, &Vector::read("audit-bundle-1").bytes);
    for (name, bytes) in keys::files() {
        fs::write(vectors().join("keys").join(name), bytes).unwrap();
    }
    let granted = granted::told(&granted_record());
    let mut kept = Vec::new();
    if !vectors().join(homes::FILE).exists() {
        let file = homes::file();
        fs::write(vectors().join(homes::FILE), &file).unwrap();
        fs::write(vectors().join("backup-file.json"), homes::described()).unwrap();
        kept.extend(homes::told(&file));
    }
    for told in restored
        .into_iter()
        .chain(evidence)
        .chain([granted])
        .chain(kept)
    {
        if vectors().join(format!("{}.cose", told.name)).exists() {
            continue;
        }
        let (files, listed) = files_of(&told);
        for (name, bytes) in files {
            fs::write(vectors().join(name), bytes).unwrap();
        }
        index["vectors"].as_array_mut().unwrap().push(listed);
    }
    fs::write(vectors().join("index.json"), keys::pretty(&index)).unwrap();
}

#[test]
#[ignore = "writes the fixtures anew: encryption is random, so every file becomes another"]
fn write_the_vectors() {
    let folder = vectors();
    let write = |name: PathBuf, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let mut written: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    for (name, bytes) in keys::files() {
        written.insert(PathBuf::from("keys").join(name), bytes);
    }
    let story = Story::tell_all();
    let mut index = Vec::new();
    let backup = homes::file();
    written.insert(homes::FILE.into(), backup.clone());
    written.insert("backup-file.json".into(), homes::described());
    for told in story.told.iter().chain(&homes::told(&backup)) {
        let (files, listed) = files_of(told);
        written.extend(files);
        index.push(listed);
    }
    let index = json!({
        "warning": "The private keys here are published. They are for tests and protect nothing.",
        "format_version": 1,
        "vectors": index,
    });
    written.insert("index.json".into(), keys::pretty(&index));
    for old in files::below(&folder) {
        let name = old.strip_prefix(&folder).unwrap().to_owned();
        let ours = ["cose", "cbor", "diag", "pem"]
            .iter()
            .any(|end| old.extension().is_some_and(|found| found == *end));
        let described = old.with_extension("cose").exists();
        if (ours || described) && !written.contains_key(&name) {
            fs::remove_file(old).unwrap();
        }
    }
    for (name, bytes) in &written {
        write(name.clone(), bytes);
    }
    let (records, _) = records();
    write("log.json".into(), &keys::pretty(&log_listed(&records)));
    write(
        "worked-example.json".into(),
        &keys::pretty(&worked_example()),
    );
    for (marker, example) in [(SHOWN, shown(&worked_example())), (DERIVED, derived())] {
        let (before, _, after) = around(marker);
        let text = [&before, marker, &example, &after].concat();
        fs::write(document(), text).unwrap();
    }
}
