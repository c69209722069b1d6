//! EST clients of other projects ask `site serve`: strongSwan's `pki`, with a TLS of its own and a reader of HTTP of its own,
//! and the crate usg-est-client. Each does what it can of cacerts, csrattrs, simpleenroll and simplereenroll.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mintmark_tests::service::let_in;
use mintmark_tests::world::rework_policy;
use mintmark_tests::{Service, World, files, judge};

/// A request for a device with a new key, which is given too: `$D/NAME.der` and `$D/NAME.key`.
fn device_request(world: &World, name: &str, device: &str) {
    judge::openssl(
        world.folder(),
        &format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -subj /serialNumber={device} -outform DER -out {name}.der"
        ),
    );
}

/// The certificate in `$D/FILE` must be of the device CA and certify the key of a request.
#[track_caller]
fn certifies(world: &World, file: &str, name: &str, device: &str) {
    let folder = world.folder();
    judge::openssl(folder, &format!("x509 -in {file} -out {name}.pem"));
    judge::verify(
        &folder.join("root.pem"),
        &folder.join("device-ca.pem"),
        &[folder.join(format!("{name}.pem"))],
    );
    let subject = judge::openssl(folder, &format!("x509 -in {name}.pem -noout -subject"));
    assert!(subject.contains(device), "{subject}");
    let certified = judge::openssl(folder, &format!("x509 -in {name}.pem -noout -pubkey"));
    let key = judge::openssl(folder, &format!("pkey -in {name}.key -pubout"));
    assert_eq!(certified, key);
}

/// What came as the CA's certificates, sorted into `$D/root.pem` and `$D/device-ca.pem`.
#[track_caller]
fn authorities(world: &World, files: &[impl AsRef<Path>]) {
    assert_eq!(files.len(), 2, "the device CA and the root");
    for file in files {
        let file = file.as_ref().display();
        let names = judge::openssl(
            world.folder(),
            &format!("x509 -in {file} -noout -subject -issuer -nameopt RFC2253"),
        );
        let names: Vec<&str> = names
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(_, name)| name)
            .collect();
        let name = if names[0] == names[1] {
            "root"
        } else {
            "device-ca"
        };
        judge::openssl(world.folder(), &format!("x509 -in {file} -out {name}.pem"));
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|said| String::from_utf8_lossy(said))
        .concat()
}

/// strongSwan's `pki`, whose TLS speaks this version at most.
fn strongswan(world: &World, version: &str, arguments: &str) -> Output {
    let settings = world.write(
        "strongswan.conf",
        format!("libtls {{\n version_max = {version}\n}}\n"),
    );
    Command::new("pki")
        .current_dir(world.folder())
        .env("STRONGSWAN_CONF", settings)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

/// Its request to enrol again, which is the only one that it makes with a client certificate: what it was given.
fn strongswan_reenrols(world: &World, version: &str, url: &str, request: &str) -> Output {
    let output = strongswan(
        world,
        version,
        &format!(
            "--est --url {url} --in {request}.der --cacert station-ca.pem --cert line-1.pem --key line-1.key --outform pem"
        ),
    );
    world.write(&format!("{request}.given"), &output.stdout);
    output
}

#[test]
fn strongswan_is_given_what_it_asks_for_over_tls_1_3_and_1_2() {
    let world = World::with_policy(&rework_policy());
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "--tls12");
    let url = service.url("");
    for (version, device) in [("1.3", "TH200-00000001"), ("1.2", "TH200-00000002")] {
        let output = strongswan(
            &world,
            version,
            &format!(
                "--estca --url {url} --cacert station-ca.pem --caout {device}-ca.pem --outform pem"
            ),
        );
        let words = said(&output);
        assert!(output.status.success(), "{words}");
        assert!(
            words.contains(&format!("negotiated TLS {version}")),
            "{words}"
        );
        let written = files::below(world.folder());
        let written = written.iter().filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&format!("{device}-ca"))
        });
        authorities(&world, &written.collect::<Vec<_>>());

        // It shows no certificate when it enrols first: nobody known asks, and nothing is spent.
        let first = format!("{device}-first");
        device_request(&world, &first, device);
        let output = strongswan(
            &world,
            version,
            &format!("--est --url {url} --in {first}.der --cacert station-ca.pem"),
        );
        assert!(!output.status.success());
        assert!(said(&output).contains("HTTP 401"), "{}", said(&output));

        let output = strongswan_reenrols(&world, version, &url, &first);
        assert!(output.status.success(), "{}", said(&output));
        certifies(&world, &format!("{first}.given"), &first, device);
        // Another key of the same device, as the policy allows once, and not twice.
        let second = format!("{device}-second");
        device_request(&world, &second, device);
        let output = strongswan_reenrols(&world, version, &url, &second);
        assert!(output.status.success(), "{}", said(&output));
        certifies(&world, &format!("{second}.given"), &second, device);
        let third = format!("{device}-third");
        device_request(&world, &third, device);
        let output = strongswan_reenrols(&world, version, &url, &third);
        assert!(!output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("HTTP 4"), "{}", said(&output));
    }
    assert_eq!(service.stop(), 0);
    assert_eq!(world.status("berlin")["accounts"][0]["good"], 2);
}

/// The crate usg-est-client, as `tests/est_client` has it; as the station `line-1`, if `known`.
fn usg(world: &World, service: &Service, known: bool, label: &str, words: &[&str]) -> Output {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = workspace.join("target/est_client/bin/est-client");
    assert!(
        program.exists(),
        "{} is missing: run ./test, which builds tests/est_client",
        program.display()
    );
    let identity = if known {
        ["line-1.pem", "line-1.key"]
    } else {
        ["-", "-"]
    };
    Command::new(program)
        .current_dir(world.folder())
        .args([&service.url(""), label, "station-ca.pem"])
        .args(identity)
        .args(words)
        .output()
        .unwrap()
}

#[test]
fn usg_est_client_is_given_what_it_asks_for_with_and_without_a_label() {
    let world = World::with_policy(&rework_policy());
    let_in(&world, "line-1", "");
    let service = Service::start(&world, "");
    for (label, device) in [("TH-200", "TH200-00000001"), ("-", "TH200-00000002")] {
        let ask = |known: bool, words: &[&str]| usg(&world, &service, known, label, words);
        let folder = format!("{device}-ca");
        fs::create_dir(world.path(&folder)).unwrap();
        let output = ask(false, &["cacerts", &folder]);
        assert!(output.status.success(), "{}", said(&output));
        authorities(&world, &files::below(&world.path(&folder)));

        let output = ask(true, &["csrattrs"]);
        assert!(output.status.success(), "{}", said(&output));
        let wishes = said(&output);
        // serialNumber in the subject, a key on P-256 (RFC 8951 section 3.2, RFC 5480 section 2.1.1).
        for oid in ["2.5.4.5", "1.2.840.10045.2.1"] {
            assert!(wishes.contains(oid), "no {oid} in\n{wishes}");
        }

        let requests = ["first", "second", "third"].map(|key| format!("{device}-{key}"));
        for name in &requests {
            device_request(&world, name, device);
        }
        let ask = |known: bool, operation: &str, name: &str| {
            let files = [format!("{name}.der"), format!("{name}.given")];
            ask(known, &[operation, &files[0], &files[1]])
        };
        let [first, second, third] = &requests;
        // Whoever shows no certificate is asked for one.
        let output = ask(false, "simpleenroll", first);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains("ClientCertificate"),
            "{}",
            said(&output)
        );
        for (operation, name) in [("simpleenroll", first), ("simplereenroll", second)] {
            // Asking twice is free.
            for _ in 0..2 {
                let output = ask(true, operation, name);
                assert!(output.status.success(), "{}", said(&output));
                certifies(&world, &format!("{name}.given"), name, device);
            }
        }
        // Another key is refused to whoever enrols, and where the policy's number of them is spent.
        for operation in ["simpleenroll", "simplereenroll"] {
            let output = ask(true, operation, third);
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            assert!(said(&output).contains("error["), "{}", said(&output));
        }
    }
    assert_eq!(service.stop(), 0);
    assert_eq!(world.status("berlin")["accounts"][0]["good"], 2);
}
