//! `fixtures/csr`: requests that other people's tools made, and one failure each, named by the code that it is refused
//! with.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use mintmark_pki::CertificationRequest;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/csr")
        .join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 10, "the fixtures are gone");
    files
}

#[test]
fn every_accepted_request_is_read_whatever_its_file_is_called() {
    for file in files("accepted") {
        let request = CertificationRequest::from_file_bytes(&fs::read(&file).unwrap());
        let request = request.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(
            request.subject_serial_number().unwrap().starts_with("FX-"),
            "{}",
            file.display()
        );
    }
}

#[test]
fn every_refused_request_is_refused_with_the_code_in_its_name() {
    for file in files("refused") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let error = CertificationRequest::from_file_bytes(&fs::read(&file).unwrap()).unwrap_err();
        assert_eq!(
            Some(error.code()),
            name.split('.').next(),
            "{name}: {error}"
        );
    }
}
