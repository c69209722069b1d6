//! The vectors and the hostile files of `fixtures`, read by others.

use std::fs;
use std::process::Command;

use mintmark_tests::judge;
use serde_json::Value;

use super::{LIBRARIES, workspace};

#[test]
fn every_vector_opens_for_others_with_each_of_its_keys_and_says_what_is_written_beside_it() {
    for library in LIBRARIES {
        let mut python = Command::new(workspace().join("target/interop/bin/python"));
        python
            .arg("-B")
            .arg(workspace().join("tests/interop/read_vectors.py"))
            .args(["--library", library])
            .arg(workspace().join("fixtures/vectors"));
        let said: Value = serde_json::from_slice(&judge::succeed(&mut python).stdout).unwrap();
        let index = fs::read(workspace().join("fixtures/vectors/index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let opened = said["opened"].as_object().unwrap();
        let count: u64 = opened.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(
            count,
            index["vectors"].as_array().unwrap().len() as u64,
            "{library}"
        );
        assert!(said["records"].as_u64().unwrap() > 20, "{library}");
    }
}

#[test]
fn every_hostile_file_that_breaks_a_rule_of_the_document_is_refused_by_others_too() {
    for library in LIBRARIES {
        let mut python = Command::new(workspace().join("target/interop/bin/python"));
        python
            .arg("-B")
            .arg(workspace().join("tests/interop/refuse_attacks.py"))
            .args(["--library", library])
            .arg(workspace().join("fixtures"));
        let said: Value = serde_json::from_slice(&judge::succeed(&mut python).stdout).unwrap();
        let refused = said["refused"].as_object().unwrap().len();
        assert!(refused > 80, "{library}: {refused}");
    }
}
