//! The change from one device CA to the next.

use std::fs;

use mintmark_pki::{Certificate, Issuer, device_ca_tbs, verify_chain};
use mintmark_protocol::enrolment::{EnrolmentGrant, Purpose};
use mintmark_protocol::identifier::Fingerprint;
use mintmark_protocol::media::MediaName;
use mintmark_protocol::revocation::Target;
use mintmark_tests::clock;
use serde_json::{Value, json};

use crate::outcome;
use crate::support::hq::{Key, put};
use crate::support::{Hq, Vault, now};

/// Asks for the next device CA, and has it granted.
fn rotate(vault: &Vault, hq: &mut Hq) -> Value {
    let asked = vault.run(&["rotate"]).expect(0).json();
    vault.export().expect(0);
    let fingerprint = asked["enrolment_fingerprint"].as_str().unwrap();
    let (name, grant) = hq.grant(&vault.stick(), &vault.name, fingerprint);
    put(&vault.stick(), &name, &grant);
    vault.import().expect(0);
    asked
}

/// The certificate of a device, and the one of its issuer, from the chain file.
fn chain(vault: &Vault, stem: &str) -> (Certificate, Issuer) {
    let text = fs::read_to_string(vault.path("out").join(format!("{stem}.chain.pem"))).unwrap();
    let ending = "-----END CERTIFICATE-----\n";
    let at = text.find(ending).unwrap() + ending.len();
    let [leaf, issuer] =
        [&text[..at], &text[at..]].map(|pem| Certificate::from_pem_or_der(pem.as_bytes()).unwrap());
    (leaf, Issuer::try_from(issuer).unwrap())
}

#[test]
fn a_vault_changes_its_device_ca_and_what_the_one_before_certified_stays_good() {
    for vault in [Vault::new(), Vault::with_softhsm()] {
        let mut hq = Hq::new(1);
        vault.enrol(&mut hq, 3);
        vault.request("one.csr", "A1", 21);
        vault.issue().expect(0);
        let asked = vault.run(&["rotate"]).expect(0).json();
        assert_eq!(
            (&asked["generation"], &asked["key"], &asked["already"]),
            (&json!(2), &json!("device-ca-2"), &json!(false))
        );
        let again = vault.run(&["rotate"]).expect(0).json();
        assert_eq!(again["already"], json!(true));
        assert_eq!(
            again["enrolment_fingerprint"],
            asked["enrolment_fingerprint"]
        );
        let status = vault.status();
        assert_eq!(
            status["rotation"],
            json!({"generation": 2, "enrolment_fingerprint": asked["enrolment_fingerprint"]})
        );
        // The stick still holds the first request; until the grant, the first device CA goes on.
        let export = vault.export().expect(0);
        assert_eq!(export.outcomes()[0], outcome("exported", None));
        assert_eq!(export.json()["items"][0]["file"], "enrol-berlin_v1.cose");
        assert_eq!(export.json()["items"].as_array().unwrap().len(), 3);
        assert_eq!(
            vault.export().expect(0).outcomes()[0],
            outcome("already", None)
        );
        vault.request("two.csr", "A2", 22);
        vault.issue().expect(0);
        let before = vault.certificates();

        rotate(&vault, &mut hq);
        let status = vault.status();
        assert_eq!(
            (&status["rotation"], &status["device_ca"]["generation"]),
            (&json!(null), &json!(2))
        );
        vault.request("three.csr", "A3", 23);
        let rows = vault.issue().expect(0).lines();
        let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].clone()).collect();
        assert_eq!(outcomes, ["existing", "issued", "existing"]);
        assert!(before.iter().all(|one| vault.certificates().contains(one)));
        let root = Issuer::from_certificate_der(hq.root()).unwrap();
        let mut issuers = Vec::new();
        for stem in ["one", "two", "three"] {
            let (leaf, issuer) = chain(&vault, stem);
            verify_chain(&leaf, &issuer, &root).unwrap();
            issuers.push(Fingerprint::of(issuer.certificate_der()).to_string());
        }
        assert_eq!(issuers[0], issuers[1]);
        assert_ne!(issuers[0], issuers[2]);
        assert_eq!(status["device_ca"]["fingerprint"], json!(issuers[2]));
        // Existing certificates get their own chain also in an empty folder.
        fs::remove_dir_all(vault.path("out")).unwrap();
        vault.issue().expect(0);
        let (leaf, issuer) = chain(&vault, "one");
        verify_chain(&leaf, &issuer, &root).unwrap();
        // The request that was granted is no conflict for the next one.
        let third = rotate(&vault, &mut hq);
        assert_eq!(third["generation"], json!(3));
        vault.run(&["audit", "verify"]).expect(0);
        vault.run(&["doctor"]).expect(0);
    }
}

#[test]
fn a_grant_for_another_request_or_another_key_changes_nothing() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    vault.run(&["rotate"]).expect(0);
    let other = vault.fork();
    // The other home of the same vault made its own request, before ours was exported.
    fs::remove_file(other.home().join("enrol-2.cose")).unwrap();
    assert_eq!(other.run(&["rotate"]).expect(4).errors(), ["HOME-CORRUPT"]);
    let name = MediaName::Enrolment {
        vault: vault.name.clone(),
    };
    let stranger = Vault::new();
    stranger.init(&hq).expect(0);
    stranger.export().expect(0);
    let theirs = fs::read(stranger.stick().join("mintmark").join(name.to_string())).unwrap();
    put(&vault.stick(), &name, &theirs);
    let export = vault.export().expect(3);
    assert_eq!(
        export.outcomes()[0],
        outcome("refused", Some("MEDIA-CONFLICT"))
    );
    assert_eq!(vault.status()["device_ca"]["generation"], json!(1));
}

#[test]
fn a_grant_of_something_else_than_was_asked_for_is_refused_and_the_right_one_still_comes() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    let asked = vault.run(&["rotate"]).expect(0).json();
    let fingerprint = asked["enrolment_fingerprint"].as_str().unwrap();
    vault.export().expect(0);
    let root = Issuer::from_certificate_der(hq.root()).unwrap();
    let another_key = device_ca_tbs(
        &root,
        "Acme",
        "berlin",
        "v1",
        &Key::new(99).public(),
        &[0x44; 20],
        now() - 60,
    )
    .unwrap();
    let certified = hq.certify(&another_key);
    type Spoil<'a> = Box<dyn FnOnce(&mut EnrolmentGrant, &mut [Vec<u8>; 2]) + 'a>;
    let spoils: [(Spoil<'_>, &str); 4] = [
        // By another root.
        (
            Box::new(|grant, certificates| {
                let tbs = &grant.device_ca_tbs;
                let signature = Key::new(98).sign(tbs).unwrap();
                certificates[1] = mintmark_pki::assemble(tbs, &signature).unwrap();
            }),
            "GRANT-CERTIFICATE",
        ),
        // For another key than the request has.
        (
            Box::new(|grant, certificates| {
                grant.device_ca_tbs = another_key;
                certificates[1] = certified;
            }),
            "GRANT-CERTIFICATE",
        ),
        // Of another generation than was asked for.
        (
            Box::new(|grant, _| grant.purpose = Purpose::Rotation { generation: 3 }),
            "MESSAGE-PARTS",
        ),
        // With another serial key.
        (
            Box::new(|grant, _| grant.serial_master = Key::new(97).public()),
            "GRANT-MISMATCH",
        ),
    ];
    for (spoil, code) in spoils {
        let (name, grant) = hq.grant_with(&vault.stick(), &vault.name, fingerprint, spoil);
        put(&vault.stick(), &name, &grant);
        assert_eq!(vault.import().expect(1).errors(), [code]);
        let status = vault.status();
        assert_eq!(status["device_ca"]["generation"], json!(1), "{code}");
        assert_eq!(status["rotation"]["generation"], json!(2), "{code}");
    }
    rotate(&vault, &mut hq);
    assert_eq!(vault.status()["device_ca"]["generation"], json!(2));
    // Once it is granted, the same grant in another dispatch is none for the next device CA.
    let (name, grant) = hq.grant(&vault.stick(), &vault.name, fingerprint);
    put(&vault.stick(), &name, &grant);
    assert_eq!(vault.import().expect(1).errors(), ["GRANT-MISMATCH"]);
    vault.run(&["audit", "verify"]).expect(0);
}

#[test]
fn a_disabled_vault_makes_devices_again_under_its_next_device_ca_and_a_revoked_one_is_replaced() {
    let (vault, mut hq) = (Vault::new(), Hq::new(1));
    vault.enrol(&mut hq, 3);
    vault.request("one.csr", "A1", 21);
    vault.issue().expect(0);
    vault.bring(hq.revoke(Target::Vault)).expect(0);
    let status = vault.status();
    assert_eq!(status["disabled"]["reason"], "the line was sold");
    assert!(
        status["next"].as_str().unwrap().contains("disabled"),
        "{status}"
    );
    vault.request("two.csr", "A2", 22);
    let rows = vault.issue().expect(1).lines();
    let by_stem = |rows: &[Value], device: &str| {
        let found = rows
            .iter()
            .find(|row| row["file"].as_str().unwrap().contains(device));
        found.unwrap().clone()
    };
    assert_eq!(by_stem(&rows, "two")["code"], "VAULT-DISABLED");

    let first = vault.status()["device_ca"]["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    // A rotation ends a disabling that is older than its draft.
    clock::next_second();
    rotate(&vault, &mut hq);
    assert_eq!(vault.status()["disabled"], json!(null));
    let rows = vault.issue().expect(0).lines();
    assert_eq!(by_stem(&rows, "one")["outcome"], "existing");
    assert_eq!(by_stem(&rows, "two")["outcome"], "issued");

    // What the first device CA certified is no good any more: the same request gets another certificate, and no unit.
    let serial = by_stem(&rows, "one")["serial"].clone();
    vault
        .bring(hq.revoke(Target::DeviceCa(first.parse().unwrap())))
        .expect(0);
    let spent = vault.status()["accounts"][0]["unspent"].clone();
    let rows = vault.issue().expect(0).lines();
    let reissued = by_stem(&rows, "one");
    assert_eq!(reissued["outcome"], "issued");
    assert_ne!(reissued["serial"], serial);
    assert_eq!(vault.status()["accounts"][0]["unspent"], spent);
    assert_eq!(by_stem(&rows, "two")["outcome"], "existing");
    assert_eq!(
        by_stem(&vault.issue().expect(0).lines(), "one")["outcome"],
        "existing"
    );
    let status = vault.status();
    assert!(
        status["device_cas_before"][0]["revoked"].is_object(),
        "{status}"
    );
}
