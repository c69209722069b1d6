//! The main job from an empty folder to a balanced reconciliation, through PKCS#11 tokens.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use mintmark_tests::shape::{column, expect};
use mintmark_tests::world::POLICY;
use mintmark_tests::{Run, Stores, World, files, judge, stores};
use serde_json::Value;

const UNITS: u32 = 60;

const ACCOUNT: &str = "site: text, vault: text, product: text, entitlement: text, authorised: number, good: number, \
     scrapped: number, voided: number, unresolved: number, unspent: number";

fn expect_schema(json: &Value, schema: &str) {
    assert_eq!(json["schema"], schema, "{json}");
}

fn expect_media(run: &Run) {
    let json = run.json();
    expect_schema(&json, "mintmark/media/1");
    for item in json["items"].as_array().unwrap() {
        expect(
            item,
            "file: text, type: text, id: text, outcome: text, code: text?",
        );
    }
}

#[test]
fn the_main_loop_runs_from_an_empty_folder_on_tokens_and_everything_it_says_has_its_shape() {
    let world = World::empty(Stores::Tokens);

    let trust_fingerprint = world.ceremony(&["alice", "bob"], "");
    let trust = world.hq("trust show").ok().json();
    expect_schema(&trust, "mintmark/trust/1");
    expect(
        &trust,
        "fingerprint: hex, version: number, expires: time, officers: list, thresholds: object",
    );
    assert_eq!(
        (trust["fingerprint"].as_str(), trust["version"].as_u64()),
        (Some(&*trust_fingerprint), Some(1))
    );
    assert_eq!(trust["officers"].as_array().unwrap().len(), 2);
    for role in ["mint", "enrol", "revoke", "trust"] {
        assert_eq!(trust["thresholds"][role], 2, "{trust}");
    }

    let init = world.site_init("berlin").json();
    expect_schema(&init, "mintmark/init/1");
    expect(
        &init,
        "site: text, vault: text, enrolment_fingerprint: hex, home: text",
    );
    let status = world.status("berlin");
    assert_eq!(
        status["enrolment_fingerprint"],
        init["enrolment_fingerprint"]
    );
    // Until its grant arrives, a vault exports its enrolment request and nothing else.
    fs::create_dir(world.path("first")).unwrap();
    let exported = world.site("media export $D/first").ok();
    expect_media(&exported);
    assert_eq!(
        files::contents(&world.path("first"))
            .into_keys()
            .collect::<Vec<_>>(),
        ["mintmark/enrol-berlin_v1.cose"]
    );
    let enrolment = init["enrolment_fingerprint"].as_str().unwrap();
    let draft = world
        .hq(&format!(
            "site enrol --request $D/first/mintmark/enrol-berlin_v1.cose --fingerprint {enrolment} \
             --output $D/officers/enrol.draft"
        ))
        .ok()
        .json();
    expect(&draft, "id: text, file: text, fingerprint: hex");
    world.approve("$D/officers/enrol.draft");
    world
        .hq(&format!("site grant {}", draft["id"].as_str().unwrap()))
        .ok();

    world.write("th200.toml", POLICY);
    world.hq("policy check $D/th200.toml").ok();
    let draft = world
        .hq("entitlement draft --site berlin --vault v1 --policy $D/th200.toml --output $D/officers/th200.draft")
        .ok()
        .json();
    expect(&draft, "id: text, file: text, fingerprint: hex");
    assert_eq!(
        draft["file"].as_str(),
        world.path("officers/th200.draft").to_str()
    );
    world.approve("$D/officers/th200.draft");
    world
        .hq(&format!(
            "entitlement export {}",
            draft["id"].as_str().unwrap()
        ))
        .ok();

    let exported = world.hq("media export $D/media").ok();
    expect_media(&exported);
    let imported = world.site("media import $D/media").ok();
    expect_media(&imported);
    for (file, kind) in [
        ("dispatch-1-000001.cose", "enrolment-grant"),
        ("dispatch-1-000002.cose", "entitlement"),
    ] {
        let item = imported.item(file);
        assert_eq!(
            (item["type"].as_str(), item["outcome"].as_str()),
            (Some(kind), Some("imported"))
        );
        assert!(
            item["file"].as_str().unwrap().starts_with("to-berlin_v1/"),
            "{item}"
        );
    }

    world.requests("good", 1..=UNITS);
    let rows = world.issue("good").ok().lines();
    assert_eq!(rows.len(), UNITS as usize);
    for row in &rows {
        expect_schema(row, "mintmark/issue/1");
        expect(
            row,
            "file: text, outcome: text, code: text?, device_id: text, product: text, entitlement: text, slot: number, \
             serial: hex, certificate: text",
        );
        assert_eq!(row["outcome"], "issued");
    }
    let devices: Vec<String> = (1..=UNITS)
        .map(|number| format!("TH200-{number:08}"))
        .collect();
    assert_eq!(
        column(&rows, "device_id"),
        devices,
        "the rows follow the order of the files"
    );
    let slots: BTreeSet<u64> = rows
        .iter()
        .map(|row| row["slot"].as_u64().unwrap())
        .collect();
    assert_eq!(slots, (0..u64::from(UNITS)).collect());
    assert_eq!(
        column(&rows, "serial")
            .into_iter()
            .collect::<BTreeSet<_>>()
            .len(),
        rows.len()
    );
    world.requests("bad", [1]);
    let refused = world.issue("bad").exits(1).lines();
    assert_eq!(
        (refused[0]["outcome"].as_str(), refused[0]["code"].as_str()),
        (Some("refused"), Some("DEVICE-KEY-CHANGED"))
    );
    expect(
        &refused[0],
        "device_id: text, product: text, entitlement: text?, slot: number?, serial: hex?, certificate: text?",
    );

    let status = world.status("berlin");
    expect_schema(&status, "mintmark/status/1");
    expect(
        &status,
        "accounts: list, credit_units: number, credit_until: time, lineage: hex, log_size: number, log_root: hex",
    );
    expect(&status["accounts"][0], ACCOUNT);
    let good = |account: &Value| {
        (
            account["good"].as_u64(),
            account["unspent"].as_u64(),
            account["authorised"].as_u64(),
        )
    };
    assert_eq!(
        good(&status["accounts"][0]),
        (Some(60), Some(940), Some(1000))
    );
    assert_eq!(status["credit_units"], 20_000 - u64::from(UNITS));

    let log = world.log("berlin");
    for row in &log {
        expect_schema(row, "mintmark/audit/1");
        expect(
            row,
            "sequence: number, time: time, kind: text, outcome: text?, code: text?, device_id: text?, product: text?, serial: hex?",
        );
    }
    let issued = log
        .iter()
        .filter(|row| row["kind"] == "request" && row["outcome"] == "issued");
    assert_eq!(column(issued, "serial"), column(&rows, "serial"));

    expect_media(&world.site("media export $D/media").ok());
    let imported = world.hq("media import $D/media").ok();
    expect_media(&imported);
    let bundle = imported.item("-000001.cose");
    assert_eq!(
        (bundle["type"].as_str(), bundle["outcome"].as_str()),
        (Some("audit-bundle"), Some("imported"))
    );

    let report = world.hq("reconcile").ok().json();
    expect_schema(&report, "mintmark/reconcile/1");
    expect(
        &report,
        "accounts: list, balanced: flag, as_of: time, findings: list",
    );
    expect(&report["accounts"][0], ACCOUNT);
    for (name, counted) in status["accounts"][0].as_object().unwrap() {
        assert_eq!(
            &report["accounts"][0][name], counted,
            "HQ counts what the vault counts: {name}"
        );
    }
    assert_eq!(
        (
            report["balanced"].as_bool(),
            report["findings"].as_array().map(Vec::len)
        ),
        (Some(true), Some(0))
    );

    // HQ says of the log what the vault says of it, line by line.
    let at_hq = world.hq("audit log --site berlin").ok().lines();
    for (at_hq, at_site) in at_hq.iter().zip(&log) {
        for (field, value) in at_site.as_object().unwrap() {
            // HQ may know more of a record, such as which device a signature was for.
            assert!(
                value.is_null() || at_hq[field] == *value,
                "{at_hq}\n{at_site}"
            );
        }
    }
    assert!(at_hq.len() as u64 >= u64::from(UNITS));

    let acknowledged = world.carry_out("berlin").exits(0);
    assert_eq!(
        acknowledged.item("dispatch-1-000003.cose")["type"],
        "acknowledgement"
    );
    let status = world.status("berlin");
    assert_eq!(status["credit_units"], 20_000, "the units are reported");
    assert!(
        status["credit_until"].is_null(),
        "nothing is unreported: {status}"
    );

    world.hq("ca export --output $D/ca").ok();
    let certificates: Vec<_> = column(&rows, "certificate")
        .into_iter()
        .map(std::path::PathBuf::from)
        .collect();
    judge::verify(
        &world.path("ca/root.pem"),
        &world.path("ca/device-ca-berlin_v1.pem"),
        &certificates,
    );
    for name in [
        "root.pem",
        "device-ca-berlin_v1.pem",
        "chain-berlin_v1.pem",
        "crl-root.pem",
    ] {
        assert!(world.path("ca").join(name).exists(), "{name}");
    }
    let chain = fs::read_to_string(world.path("out/TH200-00000001.chain.pem")).unwrap();
    let leaf = fs::read_to_string(world.path("out/TH200-00000001.pem")).unwrap();
    let device_ca = fs::read_to_string(world.path("ca/device-ca-berlin_v1.pem")).unwrap();
    assert_eq!(chain, format!("{leaf}{device_ca}"));
    expect_certificate(&world, &rows[0]);
    expect_device(&world, &rows[0]);
    expect_sealed_keys(&world);
}

/// The certificate says what the policy says, and its serial number is the one that was reported.
fn expect_certificate(world: &World, row: &Value) {
    let text = judge::openssl(
        world.folder(),
        "x509 -in out/TH200-00000001.pem -noout -serial -subject -nameopt RFC2253 \
         -ext basicConstraints,keyUsage,extendedKeyUsage,subjectKeyIdentifier,authorityKeyIdentifier",
    );
    let serial = row["serial"].as_str().unwrap().to_uppercase();
    for wanted in [
        &*format!("serial={serial}"),
        "serialNumber=TH200-00000001,OU=TH-200,O=Acme",
        "Digital Signature",
        "TLS Web Client Authentication",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(
        !text.contains("CA:TRUE") && !text.contains("Certificate Sign"),
        "{text}"
    );
}

/// Both sides know the device by its name and by its serial, HQ by its certificate too, and who approved it.
fn expect_device(world: &World, row: &Value) {
    let serial = row["serial"].as_str().unwrap();
    let at_site = world.site("device show TH200-00000001").ok().json();
    let text = world.site("device show TH200-00000001").text().ok().stdout;
    for line in ["device       TH200-00000001 of TH-200", "status       good"] {
        assert!(text.lines().any(|found| found == line), "{text}");
    }
    assert!(text.contains(&format!("serial       {serial}\n")), "{text}");
    expect_schema(&at_site, "mintmark/device/1");
    let fields = "serial: hex, slot: number, device_id: text, status: text, issued_at: time, entitlement: text";
    expect(&at_site, fields);
    for named in ["TH200-00000001", serial, "$D/out/TH200-00000001.pem"] {
        let at_hq = world.hq(&format!("device show {named}")).ok().json();
        expect_schema(&at_hq, "mintmark/device/1");
        expect(&at_hq, fields);
        expect(&at_hq, "approvers: list");
        assert_eq!(at_hq["approvers"], serde_json::json!(["alice", "bob"]));
        for field in ["serial", "slot", "device_id", "status", "entitlement"] {
            assert_eq!(at_hq[field], at_site[field], "{field} by {named}");
        }
        assert_eq!(
            (at_hq["serial"].as_str(), at_hq["status"].as_str()),
            (Some(serial), Some("good"))
        );
    }
}

/// OpenSC sees private keys in the vault's token, and each is sensitive and never was extractable.
fn expect_sealed_keys(world: &World) {
    let pin = fs::read_to_string(stores::pin_file(world.folder(), "berlin")).unwrap();
    let listed = judge::succeed(
        Command::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", stores::configuration(world.folder()))
            .arg("--module")
            .arg(stores::module())
            .args([
                "--token-label",
                "berlin",
                "--login",
                "--pin",
                &pin,
                "--list-objects",
                "--type",
                "privkey",
            ]),
    );
    let listed = String::from_utf8(listed.stdout).unwrap();
    let keys: Vec<&str> = listed.split("Private Key Object").skip(1).collect();
    assert_eq!(keys.len(), 4, "{listed}");
    for label in ["vault-sign", "vault-agree", "vault-transport", "device-ca"] {
        let key = keys
            .iter()
            .find(|key| key.contains(&format!("label:      {label}\n")));
        let key = key.unwrap_or_else(|| panic!("no {label} in\n{listed}"));
        let access = key.lines().find(|line| line.contains("Access:")).unwrap();
        for attribute in [
            "sensitive",
            "always sensitive",
            "never extractable",
            "local",
        ] {
            assert!(
                access.contains(attribute),
                "{label} is not {attribute}: {access}"
            );
        }
    }
}

#[test]
fn no_pin_is_ever_written_or_shown() {
    let world = World::ready();
    world.requests("some", 1..=3);
    let mut said: Vec<Run> = vec![
        world.issue("some").ok(),
        world.site("doctor").run(),
        world.site("status").ok(),
        world.site("recover").ok(),
        world.carry_home("berlin"),
        world.carry_out("berlin"),
        world.reconcile_run(),
        world.site("audit log").ok(),
        world
            .site("issue --product TH-200 --csr $D/absent --output $D/out")
            .run(),
    ];
    // Errors too, and text as well as JSON: a PIN that is wrong, and a store that is gone.
    let pins: Vec<String> = ["hq", "root", "alice", "bob", "berlin"]
        .iter()
        .map(|name| fs::read_to_string(stores::pin_file(world.folder(), name)).unwrap())
        .collect();
    fs::write(stores::pin_file(world.folder(), "berlin"), &pins[1]).unwrap();
    said.push(world.issue("some").fails(3, "PIN-INCORRECT"));
    said.push(world.issue("some").text().exits(3));
    fs::write(stores::pin_file(world.folder(), "berlin"), &pins[4]).unwrap();
    fs::rename(world.path("keys/berlin"), world.path("keys/gone")).unwrap();
    said.push(world.issue("some").exits(3));
    fs::rename(world.path("keys/gone"), world.path("keys/berlin")).unwrap();

    let holds = |bytes: &[u8], pin: &str| {
        bytes
            .windows(pin.len())
            .any(|window| window == pin.as_bytes())
    };
    for pin in &pins {
        assert!(pin.len() >= 16);
        for run in &said {
            assert!(
                !holds(run.to_string().as_bytes(), pin),
                "a PIN is shown:\n{run}"
            );
        }
        for (name, bytes) in files::contents(world.folder()) {
            assert!(
                name.starts_with("pins/") || !holds(&bytes, pin),
                "a PIN is in {name}"
            );
        }
    }
}
