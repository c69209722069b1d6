//! Chains, and who may issue.

use mintmark_pki::{
    Certificate, Issuer, assemble, device_ca_tbs, device_tbs, next_root_tbs, root_link_tbs,
    root_tbs, to_pem, vault_identity_tbs, verify_chain,
};

use super::fixture::{
    Folder, NEW_YEAR, SERIAL, authorities, certificate, device, facts, issuer, key, public, sign,
    spki, th200,
};
use super::*;

fn chain_refusal(device: &[u8], ca: &Issuer, root: &Issuer) -> String {
    let device = Certificate::from_der(device).unwrap();
    match verify_chain(&device, ca, root) {
        Ok(()) => "accepted".to_owned(),
        Err(error) => format!("{}: {error}", error.code()),
    }
}

#[test]
fn a_chain_is_whole_or_it_is_refused() {
    let authorities = authorities();
    let (root, ca) = (&authorities.root, &authorities.ca);
    let good = device(&authorities, &th200());
    assert_eq!(chain_refusal(&good, ca, root), "accepted");
    let spki3 = spki(&key(3));
    let tbs = device_tbs(&th200(), ca, &SERIAL, NEW_YEAR, &facts(&spki3)).unwrap();

    // Signed with another key.
    let refusal = chain_refusal(&certificate(&key(9), &tbs), ca, root);
    assert!(
        refusal.starts_with("CERTIFICATE-SIGNATURE-INVALID"),
        "{refusal}"
    );

    // One bit of the to-be-signed part after its signature.
    let mut changed = tbs.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let refusal = chain_refusal(
        &assemble(&changed, &sign(&authorities.ca_key, &tbs)).unwrap(),
        ca,
        root,
    );
    assert!(
        refusal.starts_with("CERTIFICATE-SIGNATURE-INVALID"),
        "{refusal}"
    );

    // Another root of the same name.
    let root_key = key(8);
    let other = root_tbs("Acme", &public(&root_key), &[3; 16], NEW_YEAR).unwrap();
    let other = issuer(&root_key, &other);
    let refusal = chain_refusal(&good, ca, &other);
    assert!(refusal.contains("its issuer has another key"), "{refusal}");

    // A root of another name.
    let other = root_tbs("Bcme", &public(&root_key), &[3; 16], NEW_YEAR).unwrap();
    let refusal = chain_refusal(&good, ca, &issuer(&root_key, &other));
    assert!(refusal.contains("its issuer has another name"), "{refusal}");

    // A device below the root itself, without a device CA.
    let tbs = device_tbs(&th200(), root, &SERIAL, NEW_YEAR, &facts(&spki3)).unwrap();
    let direct = certificate(&authorities.root_key, &tbs);
    let refusal = chain_refusal(&direct, root, root);
    assert!(refusal.contains("path length 0"), "{refusal}");

    // The device CA where the root should be.
    let refusal = chain_refusal(&good, ca, ca);
    assert!(refusal.contains("it is not a root"), "{refusal}");

    // A CA certificate, validly signed by the device CA, where the device should be.
    let sub_key = key(7);
    let tbs = device_ca_tbs(
        ca,
        "Acme",
        "shenzhen",
        "v2",
        &public(&sub_key),
        &[1; 16],
        NEW_YEAR,
    );
    let sub = certificate(&authorities.ca_key, &tbs.unwrap());
    let refusal = chain_refusal(&sub, ca, root);
    assert!(refusal.contains("a device must not be a CA"), "{refusal}");

    // That CA's own devices.
    let sub = Issuer::from_certificate_der(&sub).unwrap();
    let tbs = device_tbs(&th200(), &sub, &SERIAL, NEW_YEAR, &facts(&spki3)).unwrap();
    let refusal = chain_refusal(&certificate(&sub_key, &tbs), &sub, root);
    assert!(refusal.contains("its issuer has another name"), "{refusal}");
}

#[test]
fn only_a_ca_certificate_makes_an_issuer() {
    let authorities = authorities();
    let error = Issuer::from_certificate_der(&device(&authorities, &th200())).unwrap_err();
    assert_eq!(error.code(), "ISSUER-UNSUITABLE");

    // A root that another key signed.
    let tbs = root_tbs("Acme", &public(&key(1)), &[1; 16], NEW_YEAR).unwrap();
    let error = Issuer::from_certificate_der(&certificate(&key(2), &tbs)).unwrap_err();
    assert_eq!(error.code(), "CERTIFICATE-SIGNATURE-INVALID");

    let folder = Folder::new();
    for (key_options, extensions, code) in [
        (
            "EC -pkeyopt ec_paramgen_curve:P-256",
            "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign",
            "accepted",
        ),
        (
            "EC -pkeyopt ec_paramgen_curve:P-256",
            "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=cRLSign",
            "ISSUER-UNSUITABLE",
        ),
        (
            "EC -pkeyopt ec_paramgen_curve:P-256",
            "-addext basicConstraints=critical,CA:TRUE",
            "ISSUER-UNSUITABLE",
        ),
        (
            "EC -pkeyopt ec_paramgen_curve:P-256",
            "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign \
             -addext nameConstraints=critical,permitted;DNS:example.com",
            "ISSUER-UNSUITABLE",
        ),
        (
            "EC -pkeyopt ec_paramgen_curve:P-384",
            "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign",
            "CERTIFICATE-KEY-UNSUPPORTED",
        ),
    ] {
        folder.openssl(&format!("genpkey -algorithm {key_options} -out key.pem"));
        folder.write("config", "[req]\ndistinguished_name=name\n[name]\n");
        folder.openssl(&format!(
            "req -new -x509 -config config -key key.pem -sha256 -subj /CN=x -days 1 -addext subjectKeyIdentifier=hash \
             -addext authorityKeyIdentifier=keyid {extensions} -outform DER -out ca.der"
        ));
        let found = match Issuer::from_certificate_der(&folder.read("ca.der")) {
            Ok(_) => "accepted",
            Err(error) => error.code(),
        };
        assert_eq!(found, code, "{extensions}");
    }
}

#[test]
fn openssl_accepts_the_whole_chain_strictly() {
    let folder = Folder::new();
    let authorities = authorities();
    write_chain(&folder, &authorities);
    folder.write(
        "device.pem",
        to_pem("CERTIFICATE", &device(&authorities, &th200())),
    );
    let verify = "verify -x509_strict -check_ss_sig -policy_check -attime 1801500000";
    folder.openssl(&format!("{verify} -CAfile root.pem root.pem"));
    folder.openssl(&format!("{verify} -CAfile root.pem ca.pem"));
    folder.openssl(&format!(
        "{verify} -purpose sslclient -CAfile root.pem -untrusted ca.pem device.pem"
    ));
    // The profile names clientAuth alone.
    folder.openssl_refuses(&format!(
        "{verify} -purpose sslserver -CAfile root.pem -untrusted ca.pem device.pem"
    ));
    let identity = vault_identity_tbs(
        &authorities.root,
        "Acme",
        "shenzhen",
        "v1",
        &public(&key(4)),
        &[7; 16],
        NEW_YEAR,
    );
    let identity = certificate(&authorities.root_key, &identity.unwrap());
    folder.write("identity.pem", to_pem("CERTIFICATE", &identity));
    folder.openssl(&format!("{verify} -CAfile root.pem identity.pem"));
    let identity = Certificate::from_der(&identity).unwrap();
    assert!(!identity.is_ca());
    assert_eq!(
        identity.subject(),
        "O=Acme, OU=shenzhen, CN=shenzhen v1 Vault"
    );
    assert_eq!(identity.verify_issued_by(&authorities.root), Ok(()));
    assert!(identity.verify_issued_by(&authorities.ca).is_err());
}

#[test]
fn openssl_follows_the_link_from_the_root_before_to_what_the_next_one_issued() {
    let folder = Folder::new();
    let before = authorities();
    let next_key = key(9);
    let next = next_root_tbs("Acme", 2, &public(&next_key), &[5; 16], NEW_YEAR).unwrap();
    let next = issuer(&next_key, &next);
    let link = root_link_tbs(&before.root, &next, &[6; 16], NEW_YEAR).unwrap();
    let link = certificate(&before.root_key, &link);
    let ca = device_ca_tbs(
        &next,
        "Acme",
        "berlin",
        "v1",
        &public(&before.ca_key),
        &[7; 16],
        NEW_YEAR,
    );
    let ca = issuer(&next_key, &ca.unwrap());
    let spki = spki(&key(3));
    let tbs = device_tbs(&th200(), &ca, &SERIAL, NEW_YEAR, &facts(&spki)).unwrap();
    let device = certificate(&before.ca_key, &tbs);
    for (name, der) in [
        ("before.pem", before.root.certificate_der()),
        ("next.pem", next.certificate_der()),
        ("link.pem", &link),
        ("ca.pem", ca.certificate_der()),
        ("device.pem", &device),
    ] {
        folder.write(name, to_pem("CERTIFICATE", der));
    }
    let verify =
        "verify -x509_strict -check_ss_sig -policy_check -attime 1801500000 -purpose sslclient";
    folder.openssl(&format!(
        "{verify} -CAfile next.pem -untrusted ca.pem device.pem"
    ));
    folder.openssl_refuses(&format!(
        "{verify} -CAfile before.pem -untrusted ca.pem device.pem"
    ));
    folder.openssl(&format!(
        "{verify} -CAfile before.pem -untrusted link.pem -untrusted ca.pem device.pem"
    ));
    assert_eq!(next.subject(), "O=Acme, CN=Acme Mintmark Root CA 2");
    let link = Certificate::from_der(&link).unwrap();
    assert_eq!(link.verify_issued_by(&before.root), Ok(()));
    assert_eq!(link.subject(), next.subject());
    assert_eq!(link.spki_der(), next.certificate().spki_der());
    let long = "n".repeat(47);
    let long = next_root_tbs(&long, 2, &public(&next_key), &[5; 16], NEW_YEAR).unwrap();
    assert!(
        issuer(&next_key, &long)
            .subject()
            .ends_with(", CN=Mintmark Root CA 2")
    );
}

pub(super) fn write_chain(folder: &Folder, authorities: &fixture::Authorities) {
    folder.write(
        "root.pem",
        to_pem("CERTIFICATE", authorities.root.certificate_der()),
    );
    folder.write(
        "ca.pem",
        to_pem("CERTIFICATE", authorities.ca.certificate_der()),
    );
}
