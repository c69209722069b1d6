//! Certificates as OpenSSL and RFC 5280 see them.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "certificate/bytes.rs"]
mod bytes;
#[path = "certificate/chain.rs"]
mod chain;
mod fixture;

use chain::write_chain;
use fixture::{
    Folder, NEW_YEAR, SERIAL, authorities, certificate, device, facts, issuer, key, profile,
    public, sign, spki, th200,
};
use mintmark_pki::{
    Certificate, CertificationRequest, DeviceFacts, DeviceProfile, Error, ExtendedKeyUsage, Issuer,
    KeyAlgorithm, NO_EXPIRY_UNIX, NotAfter, assemble, certification_request, device_ca_tbs,
    device_tbs, root_tbs, to_pem, verify_p256,
};

#[test]
fn a_device_certificate_says_what_the_profile_says_and_nothing_else() {
    let folder = Folder::new();
    folder.write("device.der", device(&authorities(), &th200()));
    let text = folder.openssl("x509 -inform DER -in device.der -noout -text");
    for line in [
        "Version: 3 (0x2)",
        "4d:f0:e1:d2:c3:b4:a5:96:87:78:69:5a:4b:3c:2d:1e:0f",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Issuer: O = Acme, OU = shenzhen, CN = shenzhen v1 Device CA",
        "Not Before: Jan  1 00:00:00 2027 GMT",
        "Not After : Dec 27 00:00:00 2046 GMT",
        "Subject: O = Acme, OU = TH-200, serialNumber = TH200-00000001",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let extensions = folder.openssl(
        "x509 -inform DER -in device.der -noout -ext \
         keyUsage,extendedKeyUsage,subjectKeyIdentifier,authorityKeyIdentifier",
    );
    assert!(extensions.contains("X509v3 Key Usage: critical\n    Digital Signature\n"));
    assert!(extensions.contains("TLS Web Client Authentication"));
    assert_eq!(
        text.matches("X509v3 ").count(),
        5,
        "the heading and four extensions: {text}"
    );
    let types = folder.openssl("asn1parse -inform DER -in device.der");
    assert_eq!(
        types.matches("UTF8STRING").count(),
        5,
        "O, OU, CN of the CA; O, OU: {types}"
    );
    assert_eq!(
        types.matches("PRINTABLESTRING").count(),
        1,
        "serialNumber: {types}"
    );
}

#[test]
fn key_identifiers_are_the_leftmost_160_bits_of_sha_256_over_the_key() {
    let folder = Folder::new();
    let authorities = authorities();
    folder.write("point", public(&key(3)).to_sec1_bytes());
    let digest = folder.openssl("dgst -sha256 -r point");
    let device = Certificate::from_der(&device(&authorities, &th200())).unwrap();
    assert_eq!(
        hex::encode(device.subject_key_identifier().unwrap()),
        digest[..40]
    );
    assert_eq!(
        device.authority_key_identifier(),
        Some(authorities.ca.ski())
    );
}

#[test]
fn what_a_request_asks_for_does_not_reach_its_certificate() {
    let folder = Folder::new();
    folder.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    folder.openssl(
        "req -new -key key.pem -subj /CN=evil -addext basicConstraints=critical,CA:TRUE \
         -addext keyUsage=keyCertSign -addext subjectAltName=DNS:evil.example -outform DER -out csr.der",
    );
    let request = CertificationRequest::from_der(&folder.read("csr.der")).unwrap();
    let authorities = authorities();
    let facts = facts(request.spki_der());
    let tbs = device_tbs(&th200(), &authorities.ca, &SERIAL, NEW_YEAR, &facts).unwrap();
    folder.write("device.der", certificate(&authorities.ca_key, &tbs));
    let text = folder.openssl("x509 -inform DER -in device.der -noout -text");
    for unwanted in ["CA:TRUE", "Certificate Sign", "evil"] {
        assert!(!text.contains(unwanted), "{unwanted} in {text}");
    }
}

#[test]
fn keys_of_every_kind_are_certified() {
    let folder = Folder::new();
    let authorities = authorities();
    write_chain(&folder, &authorities);
    for (options, key_algorithm) in [
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
        folder.openssl("pkey -in key.pem -pubout -outform DER -out spki.der");
        let spki = folder.read("spki.der");
        let facts = DeviceFacts {
            key_algorithm,
            ..facts(&spki)
        };
        let tbs = device_tbs(&th200(), &authorities.ca, &SERIAL, NEW_YEAR, &facts).unwrap();
        let der = certificate(&authorities.ca_key, &tbs);
        folder.write("device.pem", to_pem("CERTIFICATE", &der));
        folder.openssl(
            "verify -x509_strict -attime 1801500000 -CAfile root.pem -untrusted ca.pem device.pem",
        );
        let device = Certificate::from_der(&der).unwrap();
        assert_eq!(device.key_algorithm(), Ok(key_algorithm));
        assert_eq!(device.spki_der(), spki);
        let mistaken = DeviceFacts {
            key_algorithm: KeyAlgorithm::P256,
            ..facts
        };
        let error = device_tbs(&th200(), &authorities.ca, &SERIAL, NEW_YEAR, &mistaken);
        assert_eq!(error.unwrap_err().code(), "KEY-ALGORITHM-MISMATCH");
    }
}

#[test]
fn a_certificate_reads_back_as_it_was_made() {
    let authorities = authorities();
    let spki = spki(&key(3));
    let tbs = device_tbs(&th200(), &authorities.ca, &SERIAL, NEW_YEAR, &facts(&spki)).unwrap();
    let signature = sign(&authorities.ca_key, &tbs);
    let der = assemble(&tbs, &signature).unwrap();
    let device = Certificate::from_pem_or_der(to_pem("CERTIFICATE", &der).as_bytes()).unwrap();
    assert_eq!(device, Certificate::from_der(&der).unwrap());
    assert_eq!(device.der(), der);
    assert_eq!(device.tbs_der(), tbs);
    assert_eq!(device.serial(), SERIAL);
    assert_eq!(
        device.subject(),
        "O=Acme, OU=TH-200, serialNumber=TH200-00000001"
    );
    assert_eq!(device.issuer(), authorities.ca.subject());
    assert_eq!(device.subject_serial_number(), Some("TH200-00000001"));
    assert_eq!(device.spki_der(), spki);
    assert_eq!(device.not_before_unix(), NEW_YEAR);
    assert_eq!(device.not_after_unix(), NEW_YEAR + 7300 * 86_400);
    assert_eq!(device.signature(), Ok(signature));
    assert!(verify_p256(
        authorities.ca.public_key(),
        device.tbs_der(),
        &signature
    ));
    assert!(!verify_p256(
        authorities.root.public_key(),
        device.tbs_der(),
        &signature
    ));
    assert!(!device.is_ca());
    assert_eq!(authorities.ca.certificate().path_length(), Some(0));
    assert_eq!(authorities.root.certificate().path_length(), None);
    assert_eq!(
        authorities.root.subject(),
        "O=Acme, CN=Acme Mintmark Root CA"
    );
    assert_eq!(
        authorities.root.certificate().not_after_unix(),
        NO_EXPIRY_UNIX
    );
}

#[test]
fn validity_ends_when_the_policy_says() {
    let authorities = authorities();
    let spki = spki(&key(3));
    let with = |not_after, not_before| {
        let profile = DeviceProfile {
            not_after,
            ..th200()
        };
        let facts = facts(&spki);
        device_tbs(&profile, &authorities.ca, &SERIAL, not_before, &facts)
            .map(|tbs| certificate(&authorities.ca_key, &tbs))
    };
    let folder = Folder::new();
    for (not_after, not_before, end) in [
        (NotAfter::NoExpiry, NEW_YEAR, "99991231235959Z"),
        // 2049-12-31T00:00:00Z and one day.
        (NotAfter::Days(1), 2_524_521_600, "20500101000000Z"),
        (NotAfter::Days(1), 2_524_521_599, "491231235959Z"),
    ] {
        let der = with(not_after, not_before).unwrap();
        folder.write("device.der", &der);
        let types = folder.openssl("asn1parse -inform DER -in device.der");
        assert!(types.contains(&format!(":{end}\n")), "{end}: {types}");
    }
    for (not_after, not_before) in [
        (NotAfter::Days(0), NEW_YEAR),
        (NotAfter::Days(u32::MAX), NEW_YEAR),
        (NotAfter::Days(1), u64::MAX),
        (NotAfter::NoExpiry, NO_EXPIRY_UNIX),
        (NotAfter::NoExpiry, NO_EXPIRY_UNIX + 1),
    ] {
        let error = with(not_after, not_before).unwrap_err();
        assert_eq!(
            error.code(),
            "CERTIFICATE-TIME-INVALID",
            "{not_after:?} {not_before}"
        );
    }
}

#[test]
fn serial_numbers_are_positive_and_fit_twenty_octets() {
    let authorities = authorities();
    let spki = spki(&key(3));
    let with = |serial: &[u8]| {
        device_tbs(&th200(), &authorities.ca, serial, NEW_YEAR, &facts(&spki))
            .map(|tbs| certificate(&authorities.ca_key, &tbs))
    };
    for serial in [&[1][..], &[0x7f; 20], &[0x80; 19], &[0x80]] {
        let certificate = Certificate::from_der(&with(serial).unwrap()).unwrap();
        assert_eq!(certificate.serial(), serial);
    }
    for serial in [&[][..], &[0], &[0, 1], &[0x80; 20], &[1; 21]] {
        assert_eq!(
            with(serial).unwrap_err().code(),
            "SERIAL-INVALID",
            "{serial:?}"
        );
    }
    // The octets of a CA's are random, and any will do.
    for octet in [0x00, 0x7f, 0x80, 0xff] {
        for length in 16..=20 {
            let serial = vec![octet; length];
            let tbs = root_tbs("Acme", &public(&key(1)), &serial, NEW_YEAR).unwrap();
            let root = issuer(&key(1), &tbs);
            assert_eq!(root.certificate().serial().len(), length);
            assert_eq!(root.certificate().serial()[1..], serial[1..]);
        }
    }
    for length in [0, 15, 21] {
        let error = root_tbs("Acme", &public(&key(1)), &vec![1; length], NEW_YEAR).unwrap_err();
        assert_eq!(error.code(), "SERIAL-INVALID");
    }
}

#[test]
fn extended_key_usages_are_named_or_dotted() {
    let folder = Folder::new();
    let authorities = authorities();
    let spki = spki(&key(3));
    let names = [
        "clientAuth",
        "serverAuth",
        "codeSigning",
        "emailProtection",
        "timeStamping",
        "OCSPSigning",
        "1.3.6.1.4.1.311.10.3.12",
    ];
    let profile = DeviceProfile {
        extended_key_usage: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..th200()
    };
    let shown: Vec<String> = profile
        .extended_key_usage
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, names);
    let tbs = device_tbs(&profile, &authorities.ca, &SERIAL, NEW_YEAR, &facts(&spki)).unwrap();
    folder.write("device.der", certificate(&authorities.ca_key, &tbs));
    let text = folder.openssl("x509 -inform DER -in device.der -noout -ext extendedKeyUsage");
    let found: Vec<&str> = text.lines().last().unwrap().trim().split(", ").collect();
    assert_eq!(
        found,
        [
            "TLS Web Client Authentication",
            "TLS Web Server Authentication",
            "Code Signing",
            "E-mail Protection",
            "Time Stamping",
            "OCSP Signing",
            "1.3.6.1.4.1.311.10.3.12"
        ]
    );
    // One usage has one form, however it is written.
    assert_eq!(
        "1.3.6.1.5.5.7.3.2".parse(),
        Ok(ExtendedKeyUsage::ClientAuth)
    );
    for text in ["", "client", "ClientAuth", "1.2.", "9.9.9"] {
        let error = text.parse::<ExtendedKeyUsage>().unwrap_err();
        assert_eq!(error.code(), "EXTENDED-KEY-USAGE-UNKNOWN");
    }
    let twice = DeviceProfile {
        extended_key_usage: vec![
            ExtendedKeyUsage::ClientAuth,
            "1.3.6.1.5.5.7.3.2".parse().unwrap(),
        ],
        ..th200()
    };
    let error = device_tbs(&twice, &authorities.ca, &SERIAL, NEW_YEAR, &facts(&spki)).unwrap_err();
    assert_eq!(error.code(), "EXTENDED-KEY-USAGE-REPEATED");
    let none = DeviceProfile {
        extended_key_usage: vec![],
        ..th200()
    };
    folder.write("none.der", device(&authorities, &none));
    let text = folder.openssl("x509 -inform DER -in none.der -noout -text");
    assert!(!text.contains("Extended Key Usage"));
}

#[test]
fn long_names_of_sites_and_vaults_still_fit() {
    let authorities = authorities();
    let long = "a".repeat(32);
    let other = "b".repeat(32);
    let subject = |site: &str| {
        let tbs = device_ca_tbs(
            &authorities.root,
            "Acme",
            site,
            &long,
            &public(&key(5)),
            &[1; 16],
            NEW_YEAR,
        );
        issuer(&authorities.root_key, &tbs.unwrap()).subject()
    };
    assert_eq!(
        subject(&long),
        format!("O=Acme, OU={long}, CN={long} Device CA")
    );
    assert_ne!(subject(&long), subject(&other));
    let name = "n".repeat(47);
    assert!(root_tbs(&name, &public(&key(1)), &[1; 16], NEW_YEAR).is_ok());
    let error = root_tbs(&format!("{name}n"), &public(&key(1)), &[1; 16], NEW_YEAR).unwrap_err();
    assert_eq!(error.code(), "SUBJECT-VALUE-INVALID");
}

#[test]
fn the_signer_of_a_request_may_fail_in_its_own_way() {
    #[derive(Debug, PartialEq)]
    enum Failure {
        Token,
        Pki(Error),
    }
    impl From<Error> for Failure {
        fn from(error: Error) -> Self {
            Self::Pki(error)
        }
    }
    let key = public(&key(1));
    let failed = certification_request("x", &key, |_| Err(Failure::Token));
    assert_eq!(failed, Err(Failure::Token));
    let unnamed = certification_request("", &key, |_| Err(Failure::Token));
    assert!(matches!(unnamed, Err(Failure::Pki(error)) if error.code() == "SUBJECT-VALUE-INVALID"));
}

#[test]
fn a_profile_without_the_device_is_still_a_profile() {
    let authorities = authorities();
    let der = device(&authorities, &profile("O=Acme, CN={sku} of {site}"));
    let certificate = Certificate::from_der(&der).unwrap();
    assert_eq!(certificate.subject(), "O=Acme, CN=TH-200 of shenzhen");
    assert_eq!(certificate.subject_serial_number(), None);
}

#[test]
fn issuers_and_requests_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Issuer>();
    shared::<Certificate>();
    shared::<CertificationRequest>();
    shared::<DeviceProfile>();
    shared::<Error>();
}
