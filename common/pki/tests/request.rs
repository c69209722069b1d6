//! Requests as OpenSSL writes them, in every algorithm.

#![allow(clippy::unwrap_used, clippy::panic)]

mod fixture;

use fixture::{Folder, csr, key, public};
use mintmark_pki::{CertificationRequest, KeyAlgorithm, to_pem};

/// Makes a key and a request for it, as DER.
fn request(folder: &Folder, key_options: &str, request_options: &str) -> Vec<u8> {
    folder.openssl(&format!("genpkey {key_options} -out key.pem"));
    folder.openssl(&format!(
        "req -new -key key.pem {request_options} -subj '/O=Acme/CN=thermostat/serialNumber=TH200-00000001' \
         -outform DER -out request.der"
    ));
    folder.read("request.der")
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";

fn refusal(der: &[u8]) -> &'static str {
    match CertificationRequest::from_der(der) {
        Ok(_) => "accepted",
        Err(error) => error.code(),
    }
}

#[test]
fn requests_in_every_accepted_algorithm_are_read() {
    let folder = Folder::new();
    for (key_options, request_options, algorithm) in [
        (P256, "-sha256", KeyAlgorithm::P256),
        (P256, "-sha384", KeyAlgorithm::P256),
        (P256, "-sha512", KeyAlgorithm::P256),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            "-sha256",
            KeyAlgorithm::P384,
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            "-sha384",
            KeyAlgorithm::P384,
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
            "-sha512",
            KeyAlgorithm::P384,
        ),
        ("-algorithm ED25519", "", KeyAlgorithm::Ed25519),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            "-sha256",
            KeyAlgorithm::Rsa2048,
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
            "-sha384",
            KeyAlgorithm::Rsa3072,
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
            "-sha512",
            KeyAlgorithm::Rsa4096,
        ),
    ] {
        let der = request(&folder, key_options, request_options);
        let request = CertificationRequest::from_der(&der)
            .unwrap_or_else(|error| panic!("{key_options} {request_options}: {error}"));
        assert_eq!(request.key_algorithm(), algorithm);
        assert_eq!(request.der(), der);
        assert_eq!(request.subject_serial_number(), Some("TH200-00000001"));
        assert_eq!(request.common_name(), Some("thermostat"));
        folder.openssl("pkey -in key.pem -pubout -outform DER -out spki.der");
        assert_eq!(request.spki_der(), folder.read("spki.der"));
        let digest = folder.openssl("dgst -sha256 -r spki.der");
        assert!(digest.starts_with(&hex::encode(request.spki_sha256())));
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
}

#[test]
fn an_rsa_key_of_any_size_from_2048_bits_is_accepted_as_what_it_is() {
    let folder = Folder::new();
    for bits in [2056, 2560] {
        let key = format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}");
        let found = CertificationRequest::from_der(&request(&folder, &key, "")).unwrap();
        let found = found.key_algorithm();
        assert_eq!(found, KeyAlgorithm::RsaOfBits(bits));
        assert_eq!(found.to_string(), format!("RSA-{bits}"));
        assert!(KeyAlgorithm::Rsa.allows(found));
        for other in KeyAlgorithm::ALL {
            assert_eq!(other.allows(found), other == KeyAlgorithm::Rsa, "{other}");
        }
        assert!(found.to_string().parse::<KeyAlgorithm>().is_err());
    }
    for named in [KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa4096] {
        assert!(KeyAlgorithm::Rsa.allows(named) && !named.allows(KeyAlgorithm::Rsa3072));
    }
    assert!(!KeyAlgorithm::Rsa.allows(KeyAlgorithm::P256));
}

#[test]
fn keys_that_are_not_accepted_are_refused_by_name() {
    let folder = Folder::new();
    for (key_options, request_options, named) in [
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-521",
            "",
            "P-521",
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
            "",
            "secp256k1",
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-224",
            "",
            "P-224",
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit",
            "",
            "explicit parameters",
        ),
        ("-algorithm ED448", "", "Ed448"),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:1024",
            "",
            "RSA-1024",
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2047",
            "",
            "RSA-2047",
        ),
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3",
            "",
            "exponent",
        ),
        (
            "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048",
            "",
            "RSASSA-PSS",
        ),
    ] {
        let der = request(&folder, key_options, request_options);
        let error = CertificationRequest::from_der(&der).unwrap_err();
        assert_eq!(error.code(), "CSR-KEY-UNSUPPORTED", "{key_options}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_compressed_point_is_refused() {
    let folder = Folder::new();
    folder.openssl(&format!("genpkey {P256} -out key.pem"));
    folder.openssl("ec -in key.pem -conv_form compressed -out compressed.pem");
    folder.openssl("req -new -key compressed.pem -subj /CN=x -outform DER -out request.der");
    let error = CertificationRequest::from_der(&folder.read("request.der")).unwrap_err();
    assert_eq!(error.code(), "CSR-KEY-UNSUPPORTED");
    assert!(
        error.to_string().contains("compressed point on P-256"),
        "{error}"
    );
}

#[test]
fn weak_or_unusual_signature_algorithms_are_refused_by_name() {
    let folder = Folder::new();
    let rsa = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    for (key_options, request_options, named) in [
        (P256, "-sha1", "ecdsa-with-SHA1"),
        (P256, "-sha224", "ecdsa-with-SHA224"),
        (rsa, "-sha1", "sha1WithRSAEncryption"),
        (rsa, "-md5", "md5WithRSAEncryption"),
        (rsa, "-sha256 -sigopt rsa_padding_mode:pss", "RSASSA-PSS"),
    ] {
        let der = request(&folder, key_options, request_options);
        let error = CertificationRequest::from_der(&der).unwrap_err();
        assert_eq!(error.code(), "CSR-SIGNATURE-ALGORITHM", "{request_options}");
        assert!(error.to_string().contains(named), "{error}");
        let is_padding = error.hint().unwrap().contains("PKCS #1 v1.5");
        assert_eq!(is_padding, named == "RSASSA-PSS", "{error}");
    }
}

#[test]
fn extensions_that_a_request_asks_for_do_not_matter() {
    let folder = Folder::new();
    let options = "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign \
                   -addext subjectAltName=DNS:evil.example";
    let der = request(&folder, P256, options);
    assert!(
        folder
            .openssl("req -inform DER -in request.der -noout -text")
            .contains("CA:TRUE")
    );
    assert_eq!(refusal(&der), "accepted");
}

#[test]
fn pem_is_read_as_tools_write_it() {
    let folder = Folder::new();
    let der = request(&folder, P256, "");
    let pem = to_pem("CERTIFICATE REQUEST", &der);
    folder.write("request.pem", &pem);
    folder.openssl("req -in request.pem -outform DER -out again.der");
    assert_eq!(folder.read("again.der"), der);
    assert_eq!(folder.openssl("req -in request.pem"), pem);

    let with_text = folder.openssl("req -in request.pem -text");
    assert!(with_text.starts_with("Certificate Request:"));
    let one_line = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----",
        pem.lines()
            .filter(|line| !line.starts_with('-'))
            .collect::<String>()
    );
    for file in [
        pem.clone(),
        with_text,
        pem.replace('\n', "\r\n"),
        pem.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        format!("\u{feff}{pem}"),
        format!("0 is how DER would start\n{pem}\n\n"),
        pem.replace('\n', " \n"),
        one_line,
    ] {
        let request = CertificationRequest::from_file_bytes(file.as_bytes())
            .unwrap_or_else(|error| panic!("{error}: {file}"));
        assert_eq!(request.der(), der);
    }
    let request = CertificationRequest::from_file_bytes(&der).unwrap();
    assert_eq!(request.der(), der);
}

#[test]
fn der_that_contains_the_text_of_a_pem_header_is_still_der() {
    let folder = Folder::new();
    folder.openssl(&format!("genpkey {P256} -out key.pem"));
    folder.write(
        "config",
        "[req]\ndistinguished_name=name\nprompt=no\n[name]\nCN=a\\n-----BEGIN CERTIFICATE-----\\nb\n",
    );
    folder.openssl("req -new -config config -key key.pem -outform DER -out request.der");
    let der = folder.read("request.der");
    assert!(der.windows(12).any(|window| window == b"\n-----BEGIN "));
    assert_eq!(
        CertificationRequest::from_file_bytes(&der).unwrap().der(),
        der
    );
}

#[test]
fn files_of_another_kind_are_named() {
    let folder = Folder::new();
    folder.openssl(&format!("genpkey {P256} -out key.pem"));
    folder.openssl("req -new -x509 -key key.pem -subj /CN=x -out certificate.pem");
    folder.openssl("ec -in key.pem -out ec.pem");
    folder.openssl("pkey -in key.pem -pubout -out public.pem");
    folder.openssl("crl2pkcs7 -nocrl -certfile certificate.pem -out pkcs7.pem");
    folder.openssl("x509 -in certificate.pem -outform DER -out certificate.der");
    folder.openssl("pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der");
    folder.openssl("ec -in key.pem -outform DER -out ec.der");
    folder.openssl("pkey -in key.pem -pubout -outform DER -out public.der");
    folder.openssl("crl2pkcs7 -nocrl -certfile certificate.pem -outform DER -out pkcs7.der");
    folder.write("notes.txt", "see mail of Tuesday");
    folder.write("utf16.pem", [0xff, 0xfe, b'-', 0, b'-', 0]);
    for (file, named) in [
        ("certificate.pem", "it is a CERTIFICATE"),
        ("key.pem", "it is a PRIVATE KEY"),
        ("ec.pem", "it is an EC PRIVATE KEY"),
        ("public.pem", "it is a PUBLIC KEY"),
        ("pkcs7.pem", "it is a PKCS7"),
        ("certificate.der", "it is a CERTIFICATE"),
        ("key.der", "it is a PRIVATE KEY"),
        ("ec.der", "it is an EC PRIVATE KEY"),
        ("public.der", "it is a PUBLIC KEY"),
        ("pkcs7.der", "it is a PKCS7"),
        ("notes.txt", "neither DER nor PEM"),
        ("utf16.pem", "UTF-16"),
    ] {
        let error = CertificationRequest::from_file_bytes(&folder.read(file)).unwrap_err();
        assert_eq!(error.code(), "CSR-NOT-A-REQUEST", "{file}: {error}");
        assert!(error.to_string().contains(named), "{file}: {error}");
    }
}

#[test]
fn a_file_of_bare_carriage_returns_is_refused_for_its_line_ends() {
    let folder = Folder::new();
    let pem = to_pem("CERTIFICATE REQUEST", &request(&folder, P256, ""));
    let error = CertificationRequest::from_file_bytes(pem.replace('\n', "\r").as_bytes());
    let error = error.unwrap_err();
    assert_eq!(error.code(), "CSR-NOT-A-REQUEST");
    assert!(error.to_string().contains("carriage returns"), "{error}");
    let with_both = pem.replace('\n', "\r\n");
    CertificationRequest::from_file_bytes(with_both.as_bytes()).unwrap();
}

#[test]
fn more_than_one_block_is_refused() {
    let folder = Folder::new();
    let der = request(&folder, P256, "");
    let pem = to_pem("CERTIFICATE REQUEST", &der);
    let secret = String::from_utf8(folder.read("key.pem")).unwrap();
    for file in [
        format!("{pem}{pem}"),
        format!("{secret}{pem}"),
        format!("{pem}{secret}"),
    ] {
        let error = CertificationRequest::from_file_bytes(file.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "CSR-SEVERAL-BLOCKS");
        assert!(error.to_string().contains("CERTIFICATE REQUEST"), "{error}");
    }
}

#[test]
fn broken_pem_is_refused_with_its_place() {
    let pem = to_pem("CERTIFICATE REQUEST", &csr(&key(3)));
    let (head, tail) = pem.split_at(110);
    for (file, reason) in [
        (
            format!("{head}*{}", &tail[1..]),
            "byte 110: this is not a base64 character",
        ),
        (
            format!("{head}{}", &tail[1..]),
            "the base64 does not come out even",
        ),
        (
            pem.replace("-----END CERTIFICATE REQUEST-----\n", ""),
            "no END line",
        ),
        (
            pem.replace("END CERTIFICATE REQUEST", "END NEW CERTIFICATE REQUEST"),
            "another label",
        ),
        (
            pem.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1),
            "header lines",
        ),
        (format!("{pem}and so on"), "text follows the PEM block"),
    ] {
        let error = CertificationRequest::from_file_bytes(file.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "CSR-MALFORMED", "{reason}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let empty = "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n";
    let error = CertificationRequest::from_file_bytes(empty.as_bytes()).unwrap_err();
    assert_eq!(error.code(), "CSR-EMPTY");
}

#[test]
fn openssl_reads_a_request_of_ours() {
    let folder = Folder::new();
    let der = csr(&key(3));
    folder.write("request.der", &der);
    let text = folder.openssl("req -inform DER -in request.der -verify -noout -text");
    assert!(text.contains("Subject: CN = a device"), "{text}");
    assert!(text.contains("ecdsa-with-SHA256"));
    let request = CertificationRequest::from_der(&der).unwrap();
    assert_eq!(request.common_name(), Some("a device"));
    assert_eq!(request.subject_serial_number(), None);
    let key = public(&key(3));
    assert!(request.spki_der().ends_with(&key.to_sec1_bytes()));
}

#[test]
fn the_challenge_password_that_openssl_writes_is_read() {
    let folder = Folder::new();
    folder.openssl(&format!("genpkey {P256} -out key.pem"));
    let config = |attributes: &str| {
        format!(
            "[req]\nprompt = no\ndistinguished_name = name\n{attributes}\n[name]\nCN = thermostat\n\
             [asked]\nunstructuredName = other\nchallengePassword = dGxzLXVuaXF1ZQ==\n"
        )
    };
    for (attributes, password) in [
        ("attributes = asked", Some("dGxzLXVuaXF1ZQ==")),
        (
            "attributes = asked\nstring_mask = pkix",
            Some("dGxzLXVuaXF1ZQ=="),
        ),
        ("", None),
    ] {
        folder.write("request.conf", config(attributes));
        folder.openssl("req -new -key key.pem -config request.conf -outform DER -out request.der");
        let request = CertificationRequest::from_der(&folder.read("request.der")).unwrap();
        let found = request.challenge_password().unwrap();
        assert_eq!(found, password.map(str::as_bytes));
    }
    let ours = CertificationRequest::from_der(&csr(&key(3))).unwrap();
    assert_eq!(ours.challenge_password(), Ok(None));
}
