//! Keys that headquarters makes and only a vault's token opens, and the secrets that devices get from them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ciborium::Value as Cbor;
use mintmark_protocol::device_secret::{DeviceOpener, DeviceSecret};
use mintmark_protocol::key::AgreementKey;
use mintmark_tests::shape::column;
use mintmark_tests::world::POLICY;
use mintmark_tests::{Stores, World, judge, stores};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const SERVICE: &str = r#"[[key]]
label = "service"
algorithm = "HMAC-SHA-256"
use = "derive-device-secret"
"#;

const PAIRING: &str = r#"[[key]]
label = "pairing"
algorithm = "AES-256"
use = "derive-device-secret"
"#;

const FIRMWARE: &str = r#"[[key]]
label = "firmware"
algorithm = "AES-256"
use = "hold"
"#;

/// A policy for devices with keys on both curves, and with such RSA keys as get no secret.
fn policy(keys: &[&str]) -> String {
    let algorithms = r#"key_algorithms = ["P-256", "P-384", "RSA-2048"]"#;
    let product = POLICY.replace(r#"key_algorithms = ["P-256"]"#, algorithms);
    assert!(product.contains("P-384"));
    product + &keys.concat()
}

/// A key and a request of a device, made by OpenSSL: `$D/csr/NAME/DEVICE.csr` and `$D/devices/DEVICE.pem`.
fn device(world: &World, name: &str, device_id: &str, algorithm: &str) {
    for folder in [format!("csr/{name}"), "devices".to_owned()] {
        fs::create_dir_all(world.path(&folder)).unwrap();
    }
    let key = format!("devices/{device_id}.pem");
    let folder = world.folder();
    judge::openssl(folder, &format!("genpkey -quiet {algorithm} -out {key}"));
    let request = format!("csr/{name}/{device_id}.csr");
    let subject = format!("/serialNumber={device_id}");
    judge::openssl(
        folder,
        &format!("req -new -key {key} -subj {subject} -outform DER -out {request}"),
    );
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-384";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";

/// What a device's firmware finds in its secret, by one of the COSE libraries or by OpenSSL.
fn firmware(world: &World, library: &str, device_id: &str, file: &Path) -> Output {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = workspace.join("target/interop/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run ./test, which installs what tests/interop/requirements.txt lists",
        python.display()
    );
    let root = world.path("ca/root.pem");
    if !root.exists() {
        world.hq("ca export --output $D/ca").ok();
    }
    Command::new(python)
        .arg("-B")
        .arg(workspace.join("tests/interop/open_device_secret.py"))
        .args(["--library", library, "--root"])
        .arg(root)
        .arg("--key")
        .arg(world.path(&format!("devices/{device_id}.pem")))
        .arg(file)
        .output()
        .unwrap()
}

/// The secret, by all who can open it, after the rest of what they say was looked at.
fn secret(world: &World, device_id: &str, label: &str, file: &Path) -> String {
    let key = fs::read_to_string(world.path(&format!("devices/{device_id}.pem"))).unwrap();
    // cwt opens nothing on P-384; open_device_secret.py says why.
    let third = match p256::SecretKey::from_pkcs8_pem(&key) {
        Ok(_) => "cwt",
        Err(_) => "pycose",
    };
    let opened = ["openssl", "pycose", third].map(|library| {
        let output = firmware(world, library, device_id, file);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{library}: {said}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    assert!(
        opened[0] == opened[1] && opened[0] == opened[2],
        "{opened:?}"
    );
    assert_eq!(
        (
            &opened[0]["device_id"],
            &opened[0]["key"],
            &opened[0]["vault"]
        ),
        (&json!(device_id), &json!(label), &json!("berlin/v1"))
    );
    opened[0]["secret"].as_str().unwrap().to_owned()
}

/// Deterministic CBOR.
fn cbor(value: Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(&value, &mut bytes).unwrap();
    bytes
}

/// `[key label, device id]`: the context of a device's secret.
fn context(label: &str, device_id: &str) -> Vec<u8> {
    cbor(Cbor::Array(vec![label.into(), device_id.into()]))
}

/// A derivation by OpenSSL, 32 bytes in hexadecimal.
fn kdf(name: &str, options: &[String]) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["kdf", "-keylen", "32"]);
    for option in options {
        openssl.args(["-kdfopt", option]);
    }
    let output = judge::succeed(openssl.arg(name)).stdout;
    String::from_utf8(output)
        .unwrap()
        .trim()
        .replace(':', "")
        .to_lowercase()
}

/// The secret that the documents promise, from a key in hexadecimal.
fn promised(key: &str, algorithm: &str, label: &str, device_id: &str) -> String {
    let prf = match algorithm {
        "AES-256" => ["mac:CMAC", "cipher:AES-256-CBC"],
        _ => ["mac:HMAC", "digest:SHA256"],
    };
    let mut options = vec![
        format!("hexkey:{key}"),
        format!("hexsalt:{}", hex::encode("mintmark device secret")),
        format!("hexinfo:{}", hex::encode(context(label, device_id))),
        "mode:COUNTER".to_owned(),
    ];
    options.extend(prf.map(str::to_owned));
    kdf("KBKDF", &options)
}

/// The key of a vault and a label, as headquarters makes it of `keyset-master`, which only key files give away.
fn key_of(world: &World, label: &str, algorithm: &str) -> String {
    let pem = world.path("keys/hq/keyset-master.pem");
    let pin = stores::pin_file(world.folder(), "hq");
    let output = judge::succeed(
        Command::new("openssl")
            .args(["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in"])
            .arg(pem)
            .arg("-passin")
            .arg(format!("file:{}", pin.display())),
    );
    let master = p256::SecretKey::from_pkcs8_der(&output.stdout).unwrap();
    let shared = master.diffie_hellman(&master.public_key());
    let info = cbor(Cbor::Array(vec![
        "mintmark key".into(),
        1.into(),
        "berlin".into(),
        "v1".into(),
        label.into(),
        algorithm.into(),
    ]));
    kdf(
        "HKDF",
        &[
            "digest:SHA256".to_owned(),
            format!("hexkey:{}", hex::encode(shared.raw_secret_bytes())),
            format!("hexinfo:{}", hex::encode(info)),
        ],
    )
}

/// What the token gives for a device's secret, asked with OpenSC's tool. The only symmetric key in it is meant, since the
/// tool takes the first one.
fn in_token(world: &World, label: &str, device_id: &str) -> String {
    let parts: [&[u8]; 5] = [
        &1_u32.to_be_bytes(),
        b"mintmark device secret",
        &[0],
        &context(label, device_id),
        &256_u32.to_be_bytes(),
    ];
    world.write("input", parts.concat());
    let (input, output) = (world.path("input"), world.path("output"));
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let sign = ["--sign", "--mechanism", "SHA256-HMAC"];
    let files = ["--input-file", input, "--output-file", output];
    stores::pkcs11_tool(world.folder(), "berlin", &[&sign[..], &files].concat());
    hex::encode(fs::read(output).unwrap())
}

/// The files of one row's secrets, by key.
fn files(row: &Value) -> Vec<(String, PathBuf)> {
    let secrets = row["secrets"].as_array().unwrap().iter();
    secrets
        .map(|secret| {
            let text = |name: &str| secret[name].as_str().unwrap().to_owned();
            (text("key"), PathBuf::from(text("file")))
        })
        .collect()
}

#[test]
fn keys_are_sealed_into_the_token_and_what_it_derives_reaches_each_device_alone() {
    let world = World::with_policy_in(Stores::Tokens, &policy(&[SERVICE]));
    // The token itself says what it derives: HMAC over the fixed input, whose counter is 1.
    let devices = ["TH200-00000001", "TH200-00000002"];
    let derived = devices.map(|device_id| in_token(&world, "service", device_id));

    // For another product; the first one's secrets are no business of these keys.
    let others = policy(&[PAIRING, FIRMWARE]).replace("TH-200", "TH-300");
    world.grant(
        "berlin",
        &others.replace("id = \"th200\"", "id = \"th300\""),
    );
    let status = world.status("berlin");
    assert_eq!(status["keys_missing"], json!(0));
    let received = column(status["keys"].as_array().unwrap(), "received");
    assert_eq!(received, ["unwrapped"; 3]);
    let listed = stores::pkcs11_tool(
        world.folder(),
        "berlin",
        &["--list-objects", "--type", "secrkey"],
    )
    .stdout;
    let listed = String::from_utf8(listed).unwrap();
    for label in ["service", "pairing", "firmware"] {
        let object = listed
            .split("Secret Key Object")
            .find(|object| object.contains(&format!("key-{label}\n")))
            .unwrap_or_else(|| panic!("{label}: {listed}"));
        let access = object
            .lines()
            .find(|line| line.contains("Access:"))
            .unwrap();
        assert!(access.contains("sensitive"), "{label}: {object}");
        // Nothing says `extractable` of a key that is not.
        assert!(!access.contains("extractable"), "{label}: {object}");
    }

    device(&world, "some", "TH200-00000001", P256);
    device(&world, "some", "TH200-00000002", P384);
    device(&world, "some", "TH200-00000003", RSA);
    let rows = world.issue("some").exits(1).lines();
    assert_eq!(column(&rows, "outcome"), ["issued", "issued", "refused"]);
    assert_eq!(rows[2]["code"], "DEVICE-KEY-NO-AGREEMENT");
    for (row, (device_id, derived)) in rows.iter().zip(devices.into_iter().zip(derived)) {
        let [(label, file)] = files(row).try_into().unwrap();
        assert_eq!(label, "service");
        assert_eq!(secret(&world, device_id, &label, &file), derived);
    }

    // Headquarters replays the uses like everything else.
    world.carry_home("berlin").exits_done();
    let report = world.reconcile();
    assert_eq!(
        (&report["balanced"], &report["findings"]),
        (&json!(true), &json!([]))
    );
    let status = world.status("berlin");
    let uses: Vec<(&str, u64)> = status["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["key"].as_str().unwrap(), key["uses"].as_u64().unwrap()))
        .collect();
    assert_eq!(uses, [("service", 2), ("pairing", 0), ("firmware", 0)]);
}

#[test]
fn a_device_secret_is_the_documented_derivation_and_nobody_else_opens_it() {
    let world = World::with_vault();
    let memory = |key: &str| format!("{key}memory_import = true\n");
    let keys = [SERVICE, PAIRING].map(memory);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    world.grant("berlin", &policy(&keys));
    device(&world, "some", "TH200-00000001", P256);
    device(&world, "some", "TH200-00000002", P384);
    let rows = world.issue("some").ok().lines();
    for (row, device_id) in rows.iter().zip(["TH200-00000001", "TH200-00000002"]) {
        for (label, file) in files(row) {
            let algorithm = match label.as_str() {
                "service" => "HMAC-SHA-256",
                _ => "AES-256",
            };
            let key = key_of(&world, &label, algorithm);
            let expected = promised(&key, algorithm, &label, device_id);
            assert_eq!(
                secret(&world, device_id, &label, &file),
                expected,
                "{label} of {device_id}"
            );
        }
    }

    // In Rust, from the device's private key.
    let pem = fs::read_to_string(world.path("devices/TH200-00000001.pem")).unwrap();
    let private = p256::SecretKey::from_pkcs8_pem(&pem).unwrap();
    let public_key = AgreementKey::P256(private.public_key());
    let agree = |peer: &AgreementKey| match peer {
        AgreementKey::P256(peer) => {
            let shared = private.diffie_hellman(peer);
            Ok(Zeroizing::new(shared.raw_secret_bytes().to_vec()))
        }
        AgreementKey::P384(_) => Err("another curve".into()),
    };
    let (label, file) = files(&rows[0]).remove(0);
    let bytes = fs::read(&file).unwrap();
    let certificate = DeviceSecret::certificate(&bytes).unwrap();
    let certificate = mintmark_pki::Certificate::from_der(&certificate).unwrap();
    let vault_sign = p256::PublicKey::from_public_key_der(certificate.spki_der()).unwrap();
    let opener = DeviceOpener {
        public_key: &public_key,
        agree: &agree,
    };
    let opened = DeviceSecret::open(&bytes, &vault_sign, opener).unwrap();
    assert_eq!(
        hex::encode(*opened.secret),
        secret(&world, "TH200-00000001", &label, &file)
    );

    // Another device, and one changed bit.
    device(&world, "other", "TH200-00000009", P256);
    let refused = firmware(&world, "cwt", "TH200-00000009", &file);
    assert!(!refused.status.success());
    for at in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let path = world.write("changed.cose", changed);
        for library in ["cwt", "pycose", "openssl"] {
            let run = firmware(&world, library, "TH200-00000001", &path);
            assert!(!run.status.success(), "{library} at {at}");
        }
    }

    // Nothing of the secret stands anywhere in the vault's home or in its output.
    let needle = opened.secret.to_vec();
    for path in mintmark_tests::files::below(world.folder()) {
        let bytes = fs::read(&path).unwrap();
        let is_there = bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!is_there, "{} holds the secret", path.display());
    }
}

#[test]
fn a_key_that_would_pass_through_memory_without_leave_is_not_sent() {
    let world = World::with_vault();
    world.write("policies/th200.toml", policy(&[SERVICE]));
    world
        .hq("entitlement draft --site berlin --vault v1 --policy $D/policies/th200.toml --output $D/officers/x.draft")
        .fails(1, "KEY-NEEDS-MEMORY");
}
