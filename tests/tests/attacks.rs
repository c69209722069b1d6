//! The attack list of `fixtures/attacks`: each hostile file is refused, with the rule that is written beside it, by the
//! built `site` in the home of the vault that it was made for, or by what opens it at headquarters; and nothing changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "attacks/one_bit.rs"]
mod one_bit;
mod stage;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use mintmark_pki::Certificate;
use mintmark_protocol::Error;
use mintmark_protocol::approval::Proposal;
use mintmark_protocol::bundle::Bundle;
use mintmark_protocol::device_secret::{DeviceOpener, DeviceSecret};
use mintmark_protocol::enrolment::EnrolmentRequest;
use mintmark_protocol::entitlement::Entitlement;
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::key::AgreementKey;
use mintmark_protocol::log_tail::LogTail;
use mintmark_protocol::officer::OfficerRequest;
use mintmark_protocol::order::Order as _;
use mintmark_protocol::restore::RestoreDeclaration;
use mintmark_protocol::segment::Segment;
use mintmark_protocol::trust::Role;
use mintmark_tests::{files, judge, request};
use p256::PublicKey;
use p256::pkcs8::DecodePublicKey as _;
use serde_json::{Value, json};
use stage::home::{Receiver, fingerprint, vector};
use stage::hostile::{attacks, homeward};
use stage::keys::{key, pretty};
use stage::story::{pinned, vault};
use stage::{fixtures, forge};
use zeroize::Zeroizing;

/// The names that the list must have.
const NAMES: [&str; 23] = [
    "arbitrary-package",
    "rollback",
    "replay",
    "fast-forward",
    "freeze",
    "mix-and-match",
    "wrong-recipient",
    "surreptitious-re-encryption",
    "split-plaintext",
    "endless-data",
    "signature-stripped",
    "signature-duplicated",
    "removed-officer",
    "unknown-critical-header",
    "algorithm-downgrade",
    "key-id-confusion",
    "non-deterministic-encoding",
    "duplicate-map-keys",
    "nested-counter-signatures",
    "trailing-bytes",
    "wrong-content-type",
    "dispatch-key-minting",
    "dispatch-key-far-time",
];

fn folder() -> PathBuf {
    fixtures().join("attacks")
}

/// One case of an attack, as it is written down.
struct Case {
    attack: String,
    said: Value,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for attack in NAMES {
            let said: Value = serde_json::from_slice(
                &fs::read(folder().join(attack).join("attack.json")).unwrap(),
            )
            .unwrap();
            assert_eq!(said["name"], attack);
            for case in said["cases"].as_array().unwrap() {
                cases.push(Self {
                    attack: attack.to_owned(),
                    said: case.clone(),
                });
            }
        }
        cases
    }

    fn of(receiver: &str, attack: &str) -> Vec<Self> {
        let mut cases = Self::all();
        cases.retain(|case| case.said["receiver"] == receiver && case.attack == attack);
        cases
    }

    fn name(&self) -> String {
        format!("{}/{}", self.attack, self.text("file"))
    }

    fn text(&self, field: &str) -> &str {
        self.said[field].as_str().unwrap_or_default()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = fs::read(folder().join(self.name())).unwrap();
        if let Some(padded) = self.said["padded_to"].as_u64() {
            bytes.resize(padded as usize, 0);
        }
        bytes
    }
}

/// What an import may not change, whatever it brings.
fn in_force(status: &Value) -> Value {
    let mut status = status.clone();
    for moving in [
        "log_size",
        "log_root",
        "dispatch",
        "dispatches",
        "records_unreported",
        // What was refused is told until headquarters knows of it.
        "refused",
        "next",
        "next_steps",
        "media",
    ] {
        status.as_object_mut().unwrap().remove(moving);
    }
    status
}

/// One hostile file at the vault.
fn expect_at_the_vault(case: &Case) {
    let name = case.name();
    let mut vault = Receiver::new();
    if let Some(time) = case.said["time"].as_u64() {
        vault.set_time(time);
    }
    let before = (vault.status(), vault.received());
    let place = case.text("place");
    let run = vault.import(&[(place, &case.bytes())]);
    assert_eq!(
        i64::from(run.exit),
        case.said["exit"].as_i64().unwrap(),
        "{name}\n{run}"
    );
    let item = run.item(place);
    let found = (
        item["outcome"].as_str().unwrap(),
        item["code"].as_str().unwrap_or_default(),
    );
    assert_eq!(
        found,
        (case.text("outcome"), case.text("rule")),
        "{name}\n{run}"
    );
    let after = (vault.status(), vault.received());
    if case.text("effect").starts_with("nothing") {
        assert_eq!(before, after, "{name}\n{run}");
    } else if case.said["entitles"].is_null() && case.said["acknowledges"].is_null() {
        assert_eq!(in_force(&before.0), in_force(&after.0), "{name}\n{run}");
    }
    if !case.said["acknowledges"].is_null() {
        assert_eq!(before.0["accounts"], after.0["accounts"], "{name}\n{run}");
    }
    if let Some(code) = case.said["key_refused"].as_str() {
        assert!(
            run.stderr.contains(&format!("\"code\":\"{code}\"")),
            "{name}\n{run}"
        );
        let log = vault.site("audit log").ok().stdout;
        assert!(log.contains(code), "{name}\n{log}");
    }
    if case.attack == "dispatch-key-far-time" {
        expect_time_unmoved(&vault, &name);
    }
    if let Some(code) = case.said["issue"].as_str() {
        request::write(&vault.path("csr"), "TH200-00000777");
        let issue = "issue --product TH-200 --csr $D/csr --output $D/csr";
        let rows = vault.site(issue).exits(1).lines();
        assert_eq!(rows[0]["code"], code, "{name}");
    }
}

/// Whatever time a message states, the log goes on at the time of the vault's own clock, and so do its certificates.
fn expect_time_unmoved(vault: &Receiver, name: &str) {
    request::write(&vault.path("csr"), "TH200-00000777");
    let issue = "issue --product TH-200 --csr $D/csr --output $D/csr";
    let rows = vault.site(issue).ok().lines();
    assert_eq!(rows[0]["outcome"], "issued", "{name}");
    let log = vault.site("audit log").ok().lines();
    let newest = log.last().unwrap()["time"].as_str().unwrap().to_owned();
    // A day after the last message of the story.
    assert!(newest.starts_with("2027-01-12T"), "{name}: {newest}");
    let certificate = rows[0]["certificate"].as_str().unwrap();
    let said = judge::openssl(
        &vault.path(""),
        &format!("x509 -in {certificate} -noout -startdate"),
    );
    assert!(
        said.starts_with("notBefore=Jan 1") && said.contains(" 2027 "),
        "{name}: {said}"
    );
}

fn expect_all_at_the_vault(attack: &str) {
    let cases = Case::of("vault", attack);
    assert!(!cases.is_empty(), "{attack}");
    for case in cases {
        expect_at_the_vault(&case);
    }
}

macro_rules! at_the_vault {
    ($($test:ident: $attack:literal,)*) => {
        $(#[test]
        fn $test() {
            expect_all_at_the_vault($attack);
        })*

        /// The attacks that a test above stands for.
        const AT_THE_VAULT: &[&str] = &[$($attack),*];
    };
}

at_the_vault! {
    an_arbitrary_package_is_refused: "arbitrary-package",
    a_rollback_is_refused: "rollback",
    a_replay_changes_nothing: "replay",
    a_fast_forward_is_held: "fast-forward",
    a_freeze_stops_the_line: "freeze",
    a_mix_of_packages_is_refused: "mix-and-match",
    a_package_for_somebody_else_is_refused: "wrong-recipient",
    a_package_that_was_encrypted_anew_is_refused: "surreptitious-re-encryption",
    one_ciphertext_with_two_readings_is_refused: "split-plaintext",
    endless_data_is_refused: "endless-data",
    a_package_without_its_signatures_is_refused: "signature-stripped",
    one_officer_counts_once: "signature-duplicated",
    an_officer_who_has_left_counts_no_more: "removed-officer",
    a_header_that_is_unknown_is_refused: "unknown-critical-header",
    another_algorithm_is_refused: "algorithm-downgrade",
    a_key_id_proves_nothing: "key-id-confusion",
    another_encoding_of_the_same_is_refused: "non-deterministic-encoding",
    a_key_that_stands_twice_is_refused: "duplicate-map-keys",
    counter_signatures_are_refused: "nested-counter-signatures",
    bytes_after_the_end_are_refused: "trailing-bytes",
    a_message_of_another_type_is_refused: "wrong-content-type",
    the_dispatch_key_mints_nothing: "dispatch-key-minting",
    the_dispatch_key_moves_no_clock: "dispatch-key-far-time",
}

#[test]
fn every_attack_of_the_list_is_there_in_both_directions_and_is_tried() {
    assert_eq!(
        AT_THE_VAULT.iter().copied().collect::<BTreeSet<_>>(),
        NAMES.into_iter().collect()
    );
    let listed: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, NAMES.into_iter().map(str::to_owned).collect());
    let cases = Case::all();
    for name in NAMES {
        let receivers: BTreeSet<_> = cases
            .iter()
            .filter(|case| case.attack == name)
            .map(|case| case.text("receiver"))
            .collect();
        // The dispatch key is of headquarters, and says nothing to it.
        assert!(receivers.contains("vault"), "{name}");
        assert!(
            receivers.contains("hq") || name.starts_with("dispatch-key-"),
            "{name}"
        );
    }
    // What stands in a folder is tried, and nothing else.
    let tried: BTreeSet<PathBuf> = cases
        .iter()
        .filter(|case| case.said["live"].is_null())
        .map(|case| folder().join(case.name()))
        .collect();
    let found: BTreeSet<PathBuf> = files::below(&folder())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "cose"))
        .collect();
    assert_eq!(found, tried);
}

#[test]
fn the_vault_of_the_attacks_follows_what_is_honest() {
    let vault = Receiver::new();
    let place = stage::hostile::NEXT;
    let run = vault.import(&[(place, &vector("dispatch-5.cose"))]);
    assert_eq!(
        (run.exit, run.item(place)["outcome"].as_str()),
        (0, Some("imported")),
        "{run}"
    );
    let products: Vec<_> = vault.status()["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| account["product"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(products, ["TH-200", "GW-1"]);
    request::write(&vault.path("csr"), "TH200-00000777");
    let issue = "issue --product TH-200 --csr $D/csr --output $D/csr";
    assert_eq!(vault.site(issue).ok().lines()[0]["outcome"], "issued");
    vault.site("audit verify").ok();
}

#[test]
fn after_all_attacks_that_change_nothing_the_vault_still_follows_what_is_honest() {
    let vault = Receiver::new();
    let before = vault.status();
    let mut tried = 0;
    for case in Case::all() {
        let unchanged =
            case.said["receiver"] == "vault" && case.text("effect").starts_with("nothing");
        if unchanged && case.said["time"].is_null() {
            tried += 1;
            vault.import(&[(case.text("place"), &case.bytes())]);
        }
    }
    assert!(tried > 30, "{tried}");
    assert_eq!(vault.status(), before);
    let place = stage::hostile::NEXT;
    let run = vault.import(&[(place, &vector("dispatch-5.cose"))]);
    assert_eq!(run.item(place)["outcome"], "imported", "{run}");
}

/// An officer's machine: a home that pins the manifest in force, and the officer's keys.
#[test]
fn an_officer_signs_no_draft_but_what_headquarters_wrote_and_the_vault_would_read_alike() {
    let officer = Receiver::new();
    officer.make_keys(
        "officer",
        &[
            ("officer-sign", "sign", "bob-sign"),
            ("officer-agree", "agree", "bob-agree"),
        ],
    );
    fs::write(officer.path("trust.cose"), vector("trust-manifest-2.cose")).unwrap();
    let pinned = fingerprint("trust-manifest-2");
    officer
        .hq(&format!(
            "--home $D/bob trust pin --trust $D/trust.cose --fingerprint {pinned}"
        ))
        .ok();
    let sign = "--home $D/bob approval sign $D/draft.cose --officer bob --output $D/approval.cose \
                --keys file:$D/officer?pin-source=file:$D/pin";
    let show = "--home $D/bob approval show $D/draft.cose --officer bob \
                --keys file:$D/officer?pin-source=file:$D/pin";
    let mut tried = 0;
    for case in Case::all() {
        if case.said["receiver"] != "officer" {
            continue;
        }
        tried += 1;
        fs::write(officer.path("draft.cose"), case.bytes()).unwrap();
        let run = officer.hq(sign).run();
        let found: Vec<_> = run
            .errors()
            .iter()
            .map(|error| error["code"].clone())
            .collect();
        assert_eq!(found, [case.text("rule")], "{}\n{run}", case.name());
        assert_eq!(run.exit, 1, "{}\n{run}", case.name());
        assert!(!officer.path("approval.cose").exists(), "{}", case.name());
    }
    assert!(tried > 10, "{tried}");
    let stripped = "signature-stripped/draft-without.cose";
    fs::copy(folder().join(stripped), officer.path("draft.cose")).unwrap();
    officer.hq(show).fails(1, "DRAFT-UNSIGNED");
    // What is honest is signed by the same command.
    let honest = stage::story::propose(
        &stage::story::second_entitlement(),
        &stage::story::manifest_second(),
    );
    let draft = stage::story::draft_bytes(&honest);
    fs::write(officer.path("draft.cose"), draft).unwrap();
    let shown = officer.hq(show).ok();
    assert!(!shown.stdout.contains("NOT VERIFIED"), "{shown}");
    officer.hq(sign).ok();
    let approval = fs::read(officer.path("approval.cose")).unwrap();
    let approval = Proposal::read(&approval, approval.len()).unwrap();
    assert_eq!(
        (approval.fingerprint(), approval.signature_count()),
        (honest.fingerprint(), 1)
    );
}

/// Both messages of a restore are opened by who they are for.
fn open_restore(opens: &str, bytes: &[u8]) -> Result<(), Error> {
    if opens == "restore-declaration" {
        return RestoreDeclaration::open(bytes, &vault(), &key("vault-sign").public).map(drop);
    }
    let trust = pinned();
    let trust = trust.successor(&vector("trust-manifest-2.cose")).unwrap();
    key("vault-agree")
        .open(|opener| LogTail::open(bytes, &trust, &vault(), opener))
        .map(drop)
}

#[test]
fn what_the_attacks_on_a_restore_change_is_all_that_is_wrong_with_them() {
    let [declaration, tail] = stage::hostile::restored::unchanged();
    open_restore("restore-declaration", &declaration).unwrap();
    open_restore("log-tail", &tail).unwrap();
}

/// What opens a file that headquarters, an officer, a device or a vault that waits for its log got, says.
fn opened(case: &Case) -> Result<(), Error> {
    let (bytes, trust) = (case.bytes(), pinned());
    let trust = trust.successor(&vector("trust-manifest-2.cose")).unwrap();
    let claimed = |name: &str| -> Fingerprint { fingerprint(name) };
    let vault_sign = key("vault-sign").public;
    match case.text("opens") {
        "audit-bundle" => Bundle::open(&bytes, &vault(), &vault_sign).map(drop),
        "audit-segment" => {
            let described = case.said["described"]["bundle"].as_str();
            let bundle = described.map_or_else(
                || vector("audit-bundle-1.cose"),
                |bundle| hex::decode(bundle).unwrap(),
            );
            let bundle = Bundle::open(&bundle, &vault(), &vault_sign).unwrap();
            let facts = bundle.content().segments[0];
            let id = homeward::segment_id();
            key("audit")
                .open(|opener| Segment::open(&bytes, &facts, &vault(), &id, opener))
                .map(drop)
        }
        "enrolment-request" => {
            EnrolmentRequest::open(&bytes, &claimed("enrolment-request")).map(drop)
        }
        "officer-request" => OfficerRequest::open(&bytes, &claimed("officer-request")).map(drop),
        opens @ ("restore-declaration" | "log-tail") => open_restore(opens, &bytes),
        "approvals" => {
            let proposal = Proposal::read(&bytes, bytes.len())?;
            proposal.approvers(trust.content(), Role::Mint).map(drop)
        }
        "collected" => {
            let draft = vector("second-entitlement.cose");
            let mut draft = Proposal::read(&draft, draft.len()).unwrap();
            draft.collect(&Proposal::read(&bytes, bytes.len())?)
        }
        "entitlement-draft" => {
            let proposal = Proposal::read(&bytes, bytes.len())?;
            proposal.expect_drafted_by([&trust.content().dispatch_key])?;
            key("bob-agree")
                .open(|opener| Entitlement::proposed(&proposal, opener))
                .map(drop)
        }
        "device-secret" => {
            let certificate = Certificate::from_der(&DeviceSecret::certificate(&bytes)?).unwrap();
            certificate
                .verify_issued_by(&stage::story::root())
                .map_err(|error| Error::KeyOperation(error.into()))?;
            let vault_sign = PublicKey::from_public_key_der(certificate.spki_der()).unwrap();
            open_secret(&bytes, &vault_sign)
        }
        other => panic!("nothing opens {other}"),
    }
}

/// The device whose key is `device-1` opens its secret.
fn open_secret(bytes: &[u8], vault_sign: &PublicKey) -> Result<(), Error> {
    let opener = key("device-1");
    let public_key = AgreementKey::P256(opener.public);
    let agree = |peer: &AgreementKey| match peer {
        AgreementKey::P256(peer) => Ok(Zeroizing::new(opener.agree(peer)?.to_vec())),
        AgreementKey::P384(_) => Err("another curve".into()),
    };
    let opener = DeviceOpener {
        public_key: &public_key,
        agree: &agree,
    };
    DeviceSecret::open(bytes, vault_sign, opener).map(drop)
}

/// The code of an error: of what a certificate lacks, if that is it.
fn code(error: &Error) -> &str {
    match error {
        Error::KeyOperation(cause) => cause
            .downcast_ref::<mintmark_pki::Error>()
            .map_or("KEY-OPERATION", mintmark_pki::Error::code),
        error => error.code(),
    }
}

#[test]
fn what_is_brought_to_headquarters_an_officer_or_a_device_is_refused_by_its_rule() {
    let mut tried = 0;
    for case in Case::all() {
        if case.said["opens"].is_null() {
            continue;
        }
        tried += 1;
        let error = opened(&case).expect_err(&case.name());
        assert_eq!(code(&error), case.text("rule"), "{}: {error}", case.name());
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_ciphertext_with_two_readings_really_has_them() {
    let mut tried = 0;
    for case in Case::all() {
        let Some(readers) = case.said["readings"].as_array() else {
            continue;
        };
        tried += 1;
        let mut message = case.bytes();
        // Down to the COSE_Encrypt: through a dispatch and through what officers sign.
        while forge::Parts::of(&message).tag != forge::ENCRYPT {
            let parts = forge::Parts::of(&message);
            message = match parts.tag {
                forge::SIGN1 => forge::entry(&parts.payload(), 11).into_bytes().unwrap(),
                _ => parts.payload(),
            };
        }
        let readings: BTreeSet<_> = readers
            .iter()
            .map(|reader| forge::decrypt(&message, &key(reader.as_str().unwrap())))
            .collect();
        assert_eq!(readings.len(), 2, "{}", case.name());
    }
    assert_eq!(tried, 4);
}

/// What is said of a case, beside its file.
fn said_of(case: &stage::hostile::Case) -> Value {
    let mut said = json!({
        "file": case.file, "about": case.about, "receiver": case.receiver, "rule": case.rule,
    });
    for (name, fact) in case.facts.as_object().unwrap() {
        said[name] = fact.clone();
    }
    said
}

#[test]
#[ignore = "writes those that are not there, from the vectors"]
fn write_the_attacks_that_are_missing() {
    for attack in attacks() {
        let folder = folder().join(attack.name);
        let path = folder.join("attack.json");
        let mut said: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let cases = said["cases"].as_array_mut().unwrap();
        for case in attack.cases {
            if cases.iter().any(|known| known["file"] == case.file) {
                continue;
            }
            fs::write(folder.join(case.file), &case.bytes).unwrap();
            cases.push(said_of(&case));
        }
        fs::write(path, pretty(&said)).unwrap();
    }
}

#[test]
#[ignore = "writes the fixtures anew, from the vectors"]
fn write_the_attacks() {
    for attack in attacks() {
        let folder = folder().join(attack.name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let mut cases = Vec::new();
        for case in attack.cases {
            let said = said_of(&case);
            if case.facts["live"].is_null() {
                fs::write(folder.join(case.file), &case.bytes).unwrap();
            }
            cases.push(said);
        }
        let said = json!({"name": attack.name, "attack": attack.about, "gain": attack.gain, "cases": cases});
        fs::write(folder.join("attack.json"), pretty(&said)).unwrap();
    }
}
