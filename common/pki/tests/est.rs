//! EST's bodies and messages, with OpenSSL on the other side.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "est/attributes.rs"]
mod attributes;
mod fixture;

use fixture::{Folder, authorities, csr, device, key, th200, tlv};
use mintmark_pki::est::{self, BODY_BYTES_PER_DER_BYTE_MAX, CERTS_ONLY_DER_BYTES_MAX};
use mintmark_pki::{CSR_DER_BYTES_MAX, Certificate, Error, Object, to_pem};

/// Octets that are the same in every run, from a linear congruential generator.
fn octets() -> impl FnMut() -> u8 {
    let mut state = 1_u32;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    }
}

fn decode(body: &[u8]) -> Result<Vec<u8>, Error> {
    est::decode_body(body, Object::Request, CSR_DER_BYTES_MAX)
}

fn refusal<T>(result: Result<T, Error>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "accepted")
}

// Bodies.

#[test]
fn openssl_reads_our_bodies_and_we_read_those_of_openssl() {
    let folder = Folder::new();
    let mut octet = octets();
    for length in [1, 2, 3, 56, 57, 58, 114, 1_000] {
        let der: Vec<u8> = (0..length).map(|_| octet()).collect();
        folder.write("der", &der);
        folder.write("body", est::encode_body(&der));
        folder.openssl("base64 -d -in body -out read");
        assert_eq!(folder.read("read"), der);
        folder.openssl("base64 -in der -out lines");
        assert_eq!(decode(&folder.read("lines")).unwrap(), der);
        folder.openssl("base64 -A -in der -out line");
        assert_eq!(decode(&folder.read("line")).unwrap(), der);
    }
}

#[test]
fn a_body_has_lines_of_76_characters_that_end_in_cr_lf() {
    let body = est::encode_body(&[0xab; 200]);
    let lines: Vec<&str> = body.split("\r\n").collect();
    let lengths: Vec<usize> = lines.iter().map(|line| line.len()).collect();
    assert_eq!(lengths, [76, 76, 76, 40, 0]);
    assert!(!body.replace("\r\n", "").contains(['\r', '\n']));
    let line = est::encode_body_in_one_line(&[0xab; 200]);
    assert_eq!(line, body.replace("\r\n", ""));
}

#[test]
fn white_space_may_stand_anywhere_and_padding_may_be_left_out() {
    for (text, der) in [
        ("MAA=", &[0x30, 0x00][..]),
        ("MAA", &[0x30, 0x00]),
        ("\r\n M\tA\nA\r=\r\n\r\n", &[0x30, 0x00]),
        ("MA==", &[0x30]),
        ("MA= \r\n =", &[0x30]),
        ("MA", &[0x30]),
        ("MAAA", &[0x30, 0x00, 0x00]),
    ] {
        assert_eq!(decode(text.as_bytes()).unwrap(), der, "{text:?}");
    }
}

#[test]
fn what_is_not_base64_is_refused_and_named() {
    let der = csr(&key(3));
    let pem = to_pem("CERTIFICATE REQUEST", &der);
    for (body, position, reason) in [
        (&der[..], 1, "it is DER itself"),
        (pem.as_bytes(), 0, "it is PEM"),
        (
            b"\r\n-----BEGIN CERTIFICATE REQUEST-----\nMAA=",
            2,
            "it is PEM",
        ),
        (b"MA=", 3, "padding"),
        (b"MAA==", 5, "padding"),
        (b"MAAA=", 5, "padding"),
        (b"=", 1, "padding"),
        (b"MA==MA==", 4, "follows the padding"),
        (b"M", 1, "cut short"),
        (b"MAAAM", 5, "cut short"),
        (b"MB==", 4, "bits that mean nothing"),
        (b"MB", 2, "bits that mean nothing"),
        (b"MA-_", 2, "not a base64 character"),
        (b"MA\x0bAA", 2, "not a base64 character"),
        (b"MA\0AA", 2, "not a base64 character"),
        ("MA\u{a0}A".as_bytes(), 2, "not a base64 character"),
        (b"{\"csr\":\"MAA=\"}", 0, "not a base64 character"),
    ] {
        let error = decode(body).unwrap_err();
        assert_eq!(error.code(), "EST-BODY-NOT-BASE64", "{error}");
        assert!(error.hint().is_some());
        assert!(error.to_string().contains(reason), "{error}");
        let at = format!("(at byte {position})");
        assert!(error.to_string().contains(&at), "{error}");
    }
}

#[test]
fn bodies_are_bounded_before_they_are_decoded() {
    assert_eq!(refusal(decode(b"")), "CSR-EMPTY");
    assert_eq!(refusal(decode(b" \r\n\t")), "CSR-EMPTY");
    let whole = est::encode_body(&vec![0x30; CSR_DER_BYTES_MAX]);
    assert_eq!(decode(whole.as_bytes()).unwrap().len(), CSR_DER_BYTES_MAX);
    let beyond = est::encode_body(&vec![0x30; CSR_DER_BYTES_MAX + 1]);
    assert_eq!(refusal(decode(beyond.as_bytes())), "CSR-TOO-LARGE");
    let spaces = vec![b' '; CSR_DER_BYTES_MAX * BODY_BYTES_PER_DER_BYTE_MAX + 1];
    assert_eq!(refusal(decode(&spaces)), "CSR-TOO-LARGE");
    for (object, code) in [
        (Object::CertsOnly, "EST-ANSWER-TOO-LARGE"),
        (Object::CsrAttributes, "EST-ANSWER-TOO-LARGE"),
        (Object::Certificate, "CERTIFICATE-TOO-LARGE"),
    ] {
        assert_eq!(refusal(est::decode_body(b"MAAAMAAA", object, 2)), code);
    }
}

#[test]
fn a_request_comes_out_of_its_body_verified() {
    let der = csr(&key(3));
    let request = est::request(est::encode_body(&der).as_bytes()).unwrap();
    assert_eq!(request.der(), der);
    assert_eq!(refusal(est::request(b"MAA=")), "CSR-MALFORMED");
    assert_eq!(refusal(est::request(&der)), "EST-BODY-NOT-BASE64");
    let mut forged = der;
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let body = est::encode_body(&forged);
    assert_eq!(refusal(est::request(body.as_bytes())), "CSR-PROOF-INVALID");
}

#[test]
fn every_body_that_was_written_is_read_and_garbage_never_panics() {
    let mut octet = octets();
    for length in 1..400 {
        let der: Vec<u8> = (0..length).map(|_| octet()).collect();
        let body = est::encode_body(&der);
        assert_eq!(decode(body.as_bytes()).unwrap(), der);
        assert_eq!(decode(body.replace('=', "").as_bytes()).unwrap(), der);
        // Bytes as they come, and characters that look like base64.
        let _ = est::request(&der);
        let like: Vec<u8> = der
            .iter()
            .map(|octet| b"AZaz09+/= \r\n\t-"[usize::from(*octet) % 14])
            .collect();
        if let Ok(read) = decode(&like) {
            let digits: Vec<u8> = like
                .into_iter()
                .filter(|octet| !octet.is_ascii_whitespace() && *octet != b'=')
                .collect();
            let again = est::encode_body(&read).replace(['\r', '\n', '='], "");
            assert_eq!(again.as_bytes(), digits, "one body, one content");
        }
    }
}

// Certificates.

fn chain() -> [Vec<u8>; 3] {
    let authorities = authorities();
    [
        device(&authorities, &th200()),
        authorities.ca.certificate_der().to_vec(),
        authorities.root.certificate_der().to_vec(),
    ]
}

fn pem_blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = text
        .split_inclusive("-----END CERTIFICATE-----\n")
        .filter_map(|block| {
            block
                .find("-----BEGIN")
                .map(|start| block[start..].to_owned())
        })
        .collect();
    blocks.sort();
    blocks
}

#[test]
fn openssl_finds_the_certificates_of_a_certs_only_message_as_they_were_signed() {
    let folder = Folder::new();
    let [device, ca, root] = chain();
    for certificates in [vec![&device[..]], vec![&device[..], &ca, &root]] {
        let message = est::certs_only(&certificates).unwrap();
        folder.write("message.der", &message);
        let printed = folder.openssl("pkcs7 -inform DER -in message.der -print_certs");
        let mut expected: Vec<String> = certificates
            .iter()
            .map(|der| to_pem("CERTIFICATE", der))
            .collect();
        expected.sort();
        assert_eq!(pem_blocks(&printed), expected);
        let printed = folder.openssl("cms -cmsout -print -noout -inform DER -in message.der");
        for line in [
            "contentType: pkcs7-signedData",
            "version: 1",
            "eContentType: pkcs7-data",
            "signerInfos:\n      <EMPTY>",
            "digestAlgorithms:\n      <EMPTY>",
        ] {
            assert!(printed.contains(line), "{line} in {printed}");
        }
        // OpenSSL writes its CMS sets in the order of DER: the same bytes.
        folder.openssl("cms -cmsout -inform DER -in message.der -outform DER -out again.der");
        assert_eq!(folder.read("again.der"), message);
    }
}

#[test]
fn the_certificates_that_openssl_puts_into_a_message_are_read() {
    let folder = Folder::new();
    let [device, ca, root] = chain();
    let pem = [&device, &ca, &root].map(|der| to_pem("CERTIFICATE", der));
    folder.write("chain.pem", pem.concat());
    folder.openssl("crl2pkcs7 -nocrl -certfile chain.pem -outform DER -out message.der");
    let read = est::certificates(&folder.read("message.der")).unwrap();
    let read: Vec<&[u8]> = read.iter().map(Certificate::der).collect();
    assert_eq!(read, [&device[..], &ca, &root]);
}

#[test]
fn a_message_is_the_same_whatever_the_order_and_has_each_certificate_once() {
    let [device, ca, root] = chain();
    let message = est::certs_only(&[&device, &ca, &root]).unwrap();
    assert_eq!(
        est::certs_only(&[&root, &device, &ca, &root]).unwrap(),
        message
    );
    let read = est::certificates(&message).unwrap();
    assert_eq!(read.len(), 3);
    for der in [&device, &ca, &root] {
        assert!(read.iter().any(|certificate| certificate.der() == der));
    }
}

#[test]
fn what_is_no_certs_only_message_is_refused() {
    let folder = Folder::new();
    let [device, ca, _] = chain();
    assert_eq!(refusal(est::certs_only(&[])), "EST-ANSWER-EMPTY");
    for no_certificate in [&b""[..], b"x", &device[1..], &[&device[..], &ca].concat()] {
        assert_eq!(
            refusal(est::certs_only(&[&device, no_certificate])),
            "CERTIFICATE-MALFORMED"
        );
    }
    let large = tlv(0x30, &[&[0; 60_000]]);
    let many: Vec<Vec<u8>> = (0..5)
        .map(|number| tlv(0x30, &[&[number], &large]))
        .collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    assert_eq!(refusal(est::certs_only(&many)), "EST-ANSWER-TOO-LARGE");

    let read = |der: &[u8]| refusal(est::certificates(der));
    assert_eq!(read(&[]), "EST-ANSWER-EMPTY");
    assert_eq!(
        read(&vec![0x30; CERTS_ONLY_DER_BYTES_MAX + 1]),
        "EST-ANSWER-TOO-LARGE"
    );
    assert_eq!(read(&device), "EST-ANSWER-MALFORMED");
    folder.write("device.pem", to_pem("CERTIFICATE", &device));
    folder.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    folder.openssl("req -new -x509 -key key.pem -subj '/CN=signer' -days 3650 -out signer.pem");
    folder.write("text", "text");
    // Signed, without and with its content; encrypted; nothing but data.
    for command in [
        "cms -sign -binary -in text -signer signer.pem -inkey key.pem -outform DER -out message.der",
        "cms -sign -binary -nodetach -in text -signer signer.pem -inkey key.pem -outform DER -out message.der",
        "cms -encrypt -binary -in text -outform DER -out message.der signer.pem",
        "cms -data_create -binary -in text -outform DER -out message.der",
    ] {
        folder.openssl(command);
        assert_eq!(
            read(&folder.read("message.der")),
            "EST-ANSWER-UNEXPECTED",
            "{command}"
        );
    }
}

#[test]
fn a_message_without_certificates_is_empty_and_its_crls_are_passed_over() {
    let [device, ..] = chain();
    let message = |rest: &[&[u8]]| {
        let id = |last| tlv(0x06, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, last]]);
        let mut parts = vec![&[2, 1, 1, 0x31, 0][..]];
        let encapsulated = tlv(0x30, &[&id(1)]);
        parts.push(&encapsulated);
        parts.extend(rest);
        let content = tlv(0xa0, &[&tlv(0x30, &parts)]);
        tlv(0x30, &[&id(2), &content])
    };
    let (certificates, crls, signers) = (
        tlv(0xa0, &[&device]),
        tlv(0xa1, &[&[0x30, 0]]),
        [0x31, 0].as_slice(),
    );
    let read =
        |rest: &[&[u8]]| est::certificates(&message(rest)).map(|certificates| certificates.len());
    assert_eq!(read(&[&certificates, &crls, signers]), Ok(1));
    assert_eq!(refusal(read(&[signers])), "EST-ANSWER-EMPTY");
    assert_eq!(refusal(read(&[&[0xa0, 0], signers])), "EST-ANSWER-EMPTY");
    for rest in [
        &[&certificates[..]][..],
        &[&certificates, signers, signers],
        &[&crls, &certificates, signers],
        &[&tlv(0xa0, &[&tlv(0xa1, &[&device])]), signers],
    ] {
        assert_eq!(refusal(read(rest)), "EST-ANSWER-MALFORMED");
    }
    let inner = tlv(0xa0, &[&[0x30, 0]]);
    assert_eq!(refusal(read(&[&inner, signers])), "CERTIFICATE-MALFORMED");
    let mut deep = tlv(0x30, &[]);
    for _ in 0..16 {
        deep = tlv(0x30, &[&deep]);
    }
    assert_eq!(
        refusal(read(&[&tlv(0xa0, &[&deep]), signers])),
        "EST-ANSWER-TOO-DEEP"
    );
}

#[test]
fn a_damaged_message_never_panics() {
    let [device, ..] = chain();
    let message = est::certs_only(&[&device]).unwrap();
    for length in 0..message.len() {
        assert!(est::certificates(&message[..length]).is_err());
    }
    for position in 0..message.len() {
        for bit in 0..8 {
            let mut flipped = message.clone();
            flipped[position] ^= 1 << bit;
            let _ = est::certificates(&flipped);
        }
    }
    let mut octet = octets();
    for length in 0..2_000 {
        let mut garbage: Vec<u8> = (0..length).map(|_| octet()).collect();
        assert!(est::certificates(&garbage).is_err());
        if let Some(first) = garbage.first_mut() {
            *first = 0x30;
        }
        assert!(est::certificates(&garbage).is_err());
        // Garbage behind the head of a message.
        garbage.splice(0..0, message.iter().take(40).copied());
        assert!(est::certificates(&garbage).is_err());
    }
}
