//! The station CA and what it signs, as OpenSSL and our own reader see them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;

use fixture::{Folder, NEW_YEAR, certificate, issuer, key, public, spki};
use mintmark_pki::{
    Certificate, CertificationRequest, Issuer, KeyAlgorithm, NO_EXPIRY_UNIX, SERVER_NAMES_MAX,
    ServerName, Validity, station_ca_tbs, station_server_tbs, station_tbs, to_pem,
};
use p256::ecdsa::SigningKey;

const YEAR: Validity = Validity {
    not_before_unix: NEW_YEAR,
    not_after_unix: NEW_YEAR + 365 * 86_400,
};

/// Within [`YEAR`].
const VERIFY: &str = "verify -x509_strict -check_ss_sig -attime 1801500000 -CAfile ca.pem";

fn station_ca() -> (SigningKey, Issuer) {
    let ca_key = key(7);
    let tbs = station_ca_tbs(
        "Acme",
        "shenzhen",
        "v1",
        &public(&ca_key),
        &[0xff; 16],
        NEW_YEAR,
    );
    let ca = issuer(&ca_key, &tbs.unwrap());
    (ca_key, ca)
}

fn names(names: &[&str]) -> Vec<ServerName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn write(folder: &Folder, name: &str, der: &[u8]) {
    folder.write(name, to_pem("CERTIFICATE", der));
}

fn text(folder: &Folder, name: &str) -> String {
    folder.openssl(&format!("x509 -in {name} -noout -text"))
}

#[test]
fn openssl_accepts_the_station_ca_as_an_anchor() {
    let folder = Folder::new();
    let (_, ca) = station_ca();
    write(&folder, "ca.pem", ca.certificate_der());
    folder.openssl(&format!("{VERIFY} ca.pem"));
    let text = text(&folder, "ca.pem");
    for line in [
        "Subject: O = Acme, OU = shenzhen, CN = shenzhen v1 Station CA",
        "Issuer: O = Acme, OU = shenzhen, CN = shenzhen v1 Station CA",
        "Not After : Dec 31 23:59:59 9999 GMT",
        "CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
        "X509v3 Subject Key Identifier",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(ca.is_self_issued());
    assert_eq!(ca.certificate().not_after_unix(), NO_EXPIRY_UNIX);
}

#[test]
fn openssl_accepts_a_station_of_every_kind_of_key_as_a_client_and_as_nothing_else() {
    let folder = Folder::new();
    let (ca_key, ca) = station_ca();
    write(&folder, "ca.pem", ca.certificate_der());
    for (options, algorithm) in [
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            KeyAlgorithm::P256,
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            KeyAlgorithm::P384,
        ),
        ("-algorithm ED25519", KeyAlgorithm::Ed25519),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            KeyAlgorithm::Rsa2048,
        ),
    ] {
        folder.openssl(&format!("genpkey {options} -out key.pem"));
        folder.openssl("req -new -key key.pem -subj '/CN=anything' -out request.pem");
        let request = CertificationRequest::from_file_bytes(&folder.read("request.pem")).unwrap();
        assert_eq!(request.key_algorithm(), algorithm);
        let tbs = station_tbs(&ca, "line-1", request.spki_der(), &[0x11; 16], YEAR).unwrap();
        let der = certificate(&ca_key, &tbs);
        write(&folder, "station.pem", &der);
        folder.openssl(&format!("{VERIFY} -purpose sslclient station.pem"));
        folder.openssl_refuses(&format!("{VERIFY} -purpose sslserver station.pem"));
        folder.openssl("pkey -in key.pem -pubout -out public.pem");
        let certified = folder.openssl("x509 -in station.pem -noout -pubkey");
        assert_eq!(certified.as_bytes(), folder.read("public.pem"));

        let station = Certificate::from_der(&der).unwrap();
        assert_eq!(station.verify_issued_by(&ca), Ok(()));
        assert_eq!(station.subject(), "CN=line-1");
        assert_eq!(station.serial()[0], 0x51, "positive and of one length");
        assert_eq!(station.not_before_unix(), YEAR.not_before_unix);
        assert_eq!(station.not_after_unix(), YEAR.not_after_unix);
        assert!(!station.is_ca());
    }
    let text = text(&folder, "station.pem");
    assert!(
        text.contains("X509v3 Key Usage: critical\n                Digital Signature\n"),
        "{text}"
    );
    assert!(!text.contains("Basic Constraints"), "{text}");
    // After its end it is over.
    let late = VERIFY.replace("1801500000", "1830297601");
    let said = folder.openssl_refuses(&format!("{late} station.pem"));
    assert!(said.contains("certificate has expired"), "{said}");
}

#[test]
fn openssl_finds_every_name_of_the_service_and_no_other() {
    let folder = Folder::new();
    let (ca_key, ca) = station_ca();
    write(&folder, "ca.pem", ca.certificate_der());
    let names = names(&["vault.shenzhen.example", "vault", "10.0.0.7", "fd00::7"]);
    let tbs = station_server_tbs(&ca, &names, &public(&key(8)), &[0x22; 20], YEAR).unwrap();
    let der = certificate(&ca_key, &tbs);
    write(&folder, "server.pem", &der);
    let verify = format!("{VERIFY} -purpose sslserver");
    for matching in [
        "-verify_hostname vault.shenzhen.example",
        "-verify_hostname VAULT",
        "-verify_ip 10.0.0.7",
        "-verify_ip fd00::7",
    ] {
        folder.openssl(&format!("{verify} {matching} server.pem"));
    }
    for other in [
        "-verify_hostname shenzhen.example",
        "-verify_hostname 10.0.0.7.example",
        "-verify_ip 10.0.0.8",
    ] {
        folder.openssl_refuses(&format!("{verify} {other} server.pem"));
    }
    folder.openssl_refuses(&format!("{VERIFY} -purpose sslclient server.pem"));
    let text = text(&folder, "server.pem");
    for line in [
        "Subject: CN = vault.shenzhen.example\n",
        "X509v3 Subject Alternative Name: \n                DNS:vault.shenzhen.example, DNS:vault, \
         IP Address:10.0.0.7, IP Address:FD00:0:0:0:0:0:0:7\n",
        "TLS Web Server Authentication\n",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let server = Certificate::from_der(&der).unwrap();
    assert_eq!(server.verify_issued_by(&ca), Ok(()));
    assert_eq!(server.tbs_der(), tbs);
}

#[test]
fn the_subject_of_the_service_is_the_first_name_that_fits() {
    let (ca_key, ca) = station_ca();
    let long = format!("{}.example", "a".repeat(60));
    let subject = |names: &[ServerName]| {
        let tbs = station_server_tbs(&ca, names, &public(&key(8)), &[1; 16], YEAR)?;
        let der = certificate(&ca_key, &tbs);
        Ok::<_, mintmark_pki::Error>(Certificate::from_der(&der).unwrap().subject())
    };
    assert_eq!(subject(&names(&["10.0.0.7"])).unwrap(), "CN=10.0.0.7");
    let both = names(&[&long, "vault.example"]);
    assert_eq!(subject(&both).unwrap(), "CN=vault.example");
    let many: Vec<ServerName> = (0..=SERVER_NAMES_MAX)
        .map(|number| format!("vault-{number}").parse().unwrap())
        .collect();
    assert!(subject(&many[1..]).is_ok());
    for (refused, reason) in [
        (names(&[]), "at least one name"),
        (names(&[&long]), "64 characters"),
        (names(&["vault", "10.0.0.7", "VAULT"]), "twice"),
        (many, "one more than the 64"),
    ] {
        let error = subject(&refused).unwrap_err();
        assert_eq!(error.code(), "SERVER-NAME-INVALID");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn what_a_station_ca_cannot_say_is_refused() {
    let (_, ca) = station_ca();
    let spki = spki(&key(9));
    let refusal = |station: &str, spki: &[u8], serial: &[u8], validity: Validity| {
        station_tbs(&ca, station, spki, serial, validity)
            .unwrap_err()
            .code()
    };
    let station = "line-1";
    assert_eq!(refusal("", &spki, &[1; 16], YEAR), "SUBJECT-VALUE-INVALID");
    assert_eq!(
        refusal(&"x".repeat(65), &spki, &[1; 16], YEAR),
        "SUBJECT-VALUE-INVALID"
    );
    assert_eq!(refusal(station, &spki, &[1; 15], YEAR), "SERIAL-INVALID");
    assert_eq!(refusal(station, &spki, &[1; 21], YEAR), "SERIAL-INVALID");
    assert_eq!(refusal(station, &[], &[1; 16], YEAR), "CSR-MALFORMED");
    assert_eq!(
        refusal(station, &spki[..spki.len() - 1], &[1; 16], YEAR),
        "CSR-MALFORMED"
    );
    let backwards = Validity {
        not_before_unix: NEW_YEAR,
        not_after_unix: NEW_YEAR,
    };
    assert_eq!(
        refusal(station, &spki, &[1; 16], backwards),
        "CERTIFICATE-TIME-INVALID"
    );
    let ca_refusal = |vault: &str, serial: &[u8]| {
        station_ca_tbs(
            "Acme",
            "shenzhen",
            vault,
            &public(&key(7)),
            serial,
            NEW_YEAR,
        )
        .unwrap_err()
        .code()
    };
    assert_eq!(ca_refusal("v1", &[1; 15]), "SERIAL-INVALID");
    assert_eq!(
        ca_refusal(&"v".repeat(64), &[1; 16]),
        "SUBJECT-VALUE-INVALID"
    );
}
