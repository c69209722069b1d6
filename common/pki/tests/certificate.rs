//! Certificates as OpenSSL and RFC 5280 see them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;

use fixture::{
    Folder, NEW_YEAR, SERIAL, authorities, certificate, device, facts, issuer, key, profile,
    public, sign, spki, th200,
};
use mintmark_pki::{
    Certificate, CertificationRequest, DeviceFacts, DeviceProfile, Error, ExtendedKeyUsage, Issuer,
    KeyAlgorithm, NO_EXPIRY_UNIX, NotAfter, assemble, certification_request, device_ca_tbs,
    device_tbs, next_root_tbs, root_link_tbs, root_tbs, to_pem, vault_identity_tbs, verify_chain,
    verify_p256,
};

fn write_chain(folder: &Folder, authorities: &fixture::Authorities) {
    folder.write(
        "root.pem",
        to_pem("CERTIFICATE", authorities.root.certificate_der()),
    );
    folder.write(
        "ca.pem",
        to_pem("CERTIFICATE", authorities.ca.certificate_der()),
    );
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

/// Headquarters computes these bytes again, years later and with another release. They must never change.
#[test]
fn the_same_facts_make_the_same_bytes_for_ever() {
    let authorities = authorities();
    let spki = spki(&key(3));
    let tbs = device_tbs(&th200(), &authorities.ca, &SERIAL, NEW_YEAR, &facts(&spki)).unwrap();
    for (what, bytes, golden) in [
        (
            "root",
            authorities.root.certificate().tbs_der(),
            GOLDEN_ROOT,
        ),
        (
            "device CA",
            authorities.ca.certificate().tbs_der(),
            GOLDEN_DEVICE_CA,
        ),
        ("device", tbs.as_slice(), GOLDEN_DEVICE),
    ] {
        assert_eq!(
            hex::encode(bytes),
            golden.replace([' ', '\n'], ""),
            "{what}"
        );
    }
}

const GOLDEN_ROOT: &str = "
    3082014aa00302010202147fffffffffffffffffffffffffffffffffffffff300a06082a8648ce3d040302302f310d30
    0b060355040a0c0441636d65311e301c06035504030c1541636d65204d696e746d61726b20526f6f742043413020170d
    3237303130313030303030305a180f39393939313233313233353935395a302f310d300b060355040a0c0441636d6531
    1e301c06035504030c1541636d65204d696e746d61726b20526f6f742043413059301306072a8648ce3d020106082a86
    48ce3d030107034200046ff03b949241ce1dadd43519e6960e0a85b41a69a05c328103aa2bce1594ca163c4f753a55bf
    01dc53f6c0b0c7eee78b40c6ff7d25a96e2282b989cef71c144aa3423040300f0603551d130101ff040530030101ff30
    0e0603551d0f0101ff040403020106301d0603551d0e04160414256b1be32745d1d1c9d49121cc87bc451c4f2dfa";
const GOLDEN_DEVICE_CA: &str = "
    3082017da003020102021040808080808080808080808080808080300a06082a8648ce3d040302302f310d300b060355
    040a0c0441636d65311e301c06035504030c1541636d65204d696e746d61726b20526f6f742043413020170d32373031
    30313030303030305a180f39393939313233313233353935395a3042310d300b060355040a0c0441636d653111300f06
    0355040b0c087368656e7a68656e311e301c06035504030c157368656e7a68656e207631204465766963652043413059
    301306072a8648ce3d020106082a8648ce3d03010703420004550f471003f3df97c3df506ac797f6721fb1a1fb7b8f6f
    83d224498a65c88e24136093d7012e509a73715cbd0b00a3cc0ff4b5c01b3ffa196ab1fb327036b8e6a3663064301206
    03551d130101ff040830060101ff020100300e0603551d0f0101ff040403020106301d0603551d0e04160414fe00ab0f
    341901f863a49160cf554588d6928282301f0603551d23041830168014256b1be32745d1d1c9d49121cc87bc451c4f2d
    fa";
const GOLDEN_DEVICE: &str = "
    30820187a00302010202114df0e1d2c3b4a5968778695a4b3c2d1e0f300a06082a8648ce3d0403023042310d300b0603
    55040a0c0441636d653111300f060355040b0c087368656e7a68656e311e301c06035504030c157368656e7a68656e20
    763120446576696365204341301e170d3237303130313030303030305a170d3436313232373030303030305a3039310d
    300b060355040a0c0441636d65310f300d060355040b0c0654482d323030311730150603550405130e54483230302d30
    303030303030313059301306072a8648ce3d020106082a8648ce3d03010703420004591ab771ebbcfd6d9cb9094d1065
    28add1a69d44c2c1f627f089ec58b9c61adf9f4e6abf0d045c0c693a3c68ad7c97ca72be64def4a26fecd263dd98a927
    80f0a3673065300e0603551d0f0101ff040403020780301d0603551d0e04160414d02c9e7062d4d70c142007e115a13c
    f40ebe70a4301f0603551d23041830168014fe00ab0f341901f863a49160cf554588d692828230130603551d25040c30
    0a06082b06010505070302";

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
fn a_damaged_certificate_never_verifies_and_never_panics() {
    let authorities = authorities();
    let der = device(&authorities, &th200());
    for length in 0..der.len() {
        assert!(Certificate::from_der(&der[..length]).is_err());
    }
    for position in 0..der.len() {
        for bit in 0..8 {
            let mut flipped = der.clone();
            flipped[position] ^= 1 << bit;
            let verified = Certificate::from_der(&flipped).is_ok_and(|device| {
                verify_chain(&device, &authorities.ca, &authorities.root).is_ok()
            });
            assert!(!verified, "bit {bit} of byte {position}");
        }
    }
    let ca = authorities.ca.certificate_der();
    for position in 0..ca.len() {
        for bit in 0..8 {
            let mut flipped = ca.to_vec();
            flipped[position] ^= 1 << bit;
            let verified = Certificate::from_der(&flipped)
                .is_ok_and(|ca| ca.verify_issued_by(&authorities.root).is_ok());
            assert!(!verified, "bit {bit} of byte {position}");
        }
    }
    assert_eq!(
        Certificate::from_der(&[]).unwrap_err().code(),
        "CERTIFICATE-EMPTY"
    );
    let large = vec![0x30; 10_000_000];
    assert_eq!(
        Certificate::from_der(&large).unwrap_err().code(),
        "CERTIFICATE-TOO-LARGE"
    );
    assert_eq!(
        Certificate::from_pem_or_der(&large).unwrap_err().code(),
        "CERTIFICATE-TOO-LARGE"
    );
    let pem = to_pem("CERTIFICATE REQUEST", &fixture::csr(&key(3)));
    let error = Certificate::from_pem_or_der(pem.as_bytes()).unwrap_err();
    assert_eq!(error.code(), "CERTIFICATE-NOT-A-CERTIFICATE");
}

#[test]
fn a_to_be_signed_part_is_one_sequence() {
    let signature = sign(&key(1), b"");
    for bytes in [&[][..], &[0x05, 0x00], &[0x30, 0x00, 0x00], &[0x30, 0x01]] {
        let error = assemble(bytes, &signature).unwrap_err();
        assert_eq!(error.code(), "TO-BE-SIGNED-INVALID");
    }
}

#[test]
fn either_form_of_s_verifies_and_a_wrong_signature_does_not() {
    let message = b"message";
    let signature = sign(&key(1), message);
    assert!(verify_p256(&public(&key(1)), message, &signature));
    assert!(!verify_p256(&public(&key(1)), b"massage", &signature));
    assert!(!verify_p256(&public(&key(2)), message, &signature));
    // Half of all tokens' signatures have a high s; both forms are valid.
    let high =
        p256::ecdsa::Signature::from_scalars(*signature.r().as_ref(), *(-signature.s()).as_ref())
            .unwrap();
    assert_ne!(high, signature);
    assert!(verify_p256(&public(&key(1)), message, &high));
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
