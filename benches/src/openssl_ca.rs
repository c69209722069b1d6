//! The peer: `openssl ca` in one process, with the same token where OpenSSL can reach it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use mintmark_tests::{judge, stores};
use serde::Serialize;

use crate::requests;
use crate::scene::Scene;

/// Where the package libengine-pkcs11-openssl puts its engine.
const ENGINES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so",
    "/usr/lib/aarch64-linux-gnu/engines-3/pkcs11.so",
    "/usr/lib/x86_64-linux-gnu/engines-3/libpkcs11.so",
];

/// How many certificates it makes.
const CERTIFICATES: u32 = 4_000;

/// What it did.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    /// Certificates per second.
    pub(crate) rate: f64,
    /// Where its key was: `token` or, for want of OpenSSL's PKCS#11 engine, `file`.
    pub(crate) key: &'static str,
}

const CONFIGURATION: &str = "[ca]\ndefault_ca = ca\n[ca]\nnew_certs_dir = certs\ndatabase = index.txt\nserial = serial\n\
    default_md = sha256\npolicy = any\nunique_subject = no\nx509_extensions = device\nrand_serial = yes\n\
    [any]\nserialNumber = supplied\n[device]\nbasicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
    extendedKeyUsage = clientAuth\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n";

/// Has it sign requests of its own.
pub(crate) fn measure(scene: &Scene, vault: &str) -> Peer {
    let folder = scene.path("openssl-ca");
    fs::create_dir_all(folder.join("certs")).unwrap();
    fs::write(folder.join("index.txt"), "").unwrap();
    fs::write(folder.join("ca.cnf"), CONFIGURATION).unwrap();
    fs::create_dir(folder.join("requests")).unwrap();
    for number in 0..CERTIFICATES {
        // It reads PEM alone.
        let pem = mintmark_pki::to_pem("CERTIFICATE REQUEST", &requests::der(number));
        let name = format!("requests/{}.csr", requests::device_id(number));
        fs::write(folder.join(name), pem).unwrap();
    }
    let pin = fs::read_to_string(stores::pin_file(&scene.path(""), vault)).unwrap();
    let uri = format!("pkcs11:token={vault};object=device-ca;type=private;pin-value={pin}");
    let token = ENGINES.iter().any(|engine| Path::new(engine).exists())
        && certify_itself(scene, &folder, &uri);
    if !token {
        judge::openssl(
            &folder,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=peer -days 30",
        );
    }
    let mut names: Vec<_> = fs::read_dir(folder.join("requests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let mut command = openssl(scene, &folder, token, &uri);
    command.args([
        "-days", "7300", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-infiles",
    ]);
    let begin = Instant::now();
    let output = command.args(names).output().unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    let made = fs::read_dir(folder.join("certs")).unwrap().count();
    assert_eq!(
        made,
        CERTIFICATES as usize,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::remove_dir_all(folder).unwrap();
    Peer {
        rate: f64::from(CERTIFICATES) / seconds,
        key: if token { "token" } else { "file" },
    }
}

/// `openssl ca` with its key.
fn openssl(scene: &Scene, folder: &Path, token: bool, uri: &str) -> Command {
    let mut command = scene.command("openssl");
    command
        .current_dir(folder)
        .env("PKCS11_MODULE_PATH", stores::module())
        .arg("ca");
    match token {
        true => command.args(["-engine", "pkcs11", "-keyform", "engine", "-keyfile", uri]),
        false => command.args(["-keyfile", "ca.key"]),
    };
    command
}

/// A certificate for the token's key, by itself; that shows at once whether OpenSSL reaches the token.
fn certify_itself(scene: &Scene, folder: &Path, uri: &str) -> bool {
    let output = scene
        .command("openssl")
        .current_dir(folder)
        .env("PKCS11_MODULE_PATH", stores::module())
        .args([
            "req", "-new", "-x509", "-engine", "pkcs11", "-keyform", "engine", "-key", uri,
        ])
        .args(["-subj", "/CN=peer", "-days", "30", "-out", "ca.pem"])
        .output();
    output.is_ok_and(|output| output.status.success())
}
