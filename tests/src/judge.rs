//! Independent judges: OpenSSL for certificates, OpenSC for what a token holds.

use std::path::Path;
use std::process::{Command, Output};

/// Runs a program; it must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        said[0],
        said[1]
    );
    output
}

/// OpenSSL, with arguments separated by blanks; what it printed.
#[track_caller]
pub fn openssl(folder: &Path, line: &str) -> String {
    let output = succeed(
        Command::new("openssl")
            .current_dir(folder)
            .args(line.split(' ')),
    );
    String::from_utf8(output.stdout).unwrap()
}

/// OpenSSL's verdict on certificates, at its strictest; it must be good for each.
#[track_caller]
pub fn verify(root: &Path, device_ca: &Path, certificates: &[impl AsRef<Path>]) {
    let mut command = Command::new("openssl");
    command
        .args(["verify", "-x509_strict", "-check_ss_sig", "-CAfile"])
        .arg(root);
    command.arg("-untrusted").arg(device_ca);
    for certificate in certificates {
        command.arg(certificate.as_ref());
    }
    let said = String::from_utf8(succeed(&mut command).stdout).unwrap();
    assert_eq!(said.matches(": OK\n").count(), certificates.len(), "{said}");
}
