//! Requests, certificates, CRLs, and the messages of EST.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use mintmark_pki::{
    CSR_DER_BYTES_MAX, Certificate, CertificationRequest, Crl, Error, Object, assemble_crl, est,
    verify_chain,
};

use crate::world::WORLD;

fn read_out<T>(outcome: Result<T, Error>) -> Option<T> {
    outcome
        .map_err(|error| format!("{} {error} {:?}", error.code(), error.hint()))
        .ok()
}

/// The public keys that somebody has proved to possess.
static PROVED: LazyLock<BTreeSet<[u8; 32]>> = LazyLock::new(|| {
    let files = crate::seeds::requests();
    // Some are refused for what stands beside them.
    let blocks = files.iter().flat_map(|file| {
        let text = String::from_utf8_lossy(file).into_owned();
        let blocks = text
            .split("-----BEGIN")
            .map(|block| format!("-----BEGIN{block}"));
        blocks.map(String::into_bytes).collect::<Vec<_>>()
    });
    let cut = files
        .iter()
        .map(|file| file[..file.len().saturating_sub(1)].to_vec());
    let all = files.iter().cloned().chain(blocks).chain(cut);
    let read = all.filter_map(|bytes| CertificationRequest::from_file_bytes(&bytes).ok());
    read.map(|request| request.spki_sha256()).collect()
});

/// A request that is taken is one whose key made it: nobody makes one for another key, or for a key that needs no
/// private half.
pub(crate) fn csr(input: &[u8]) {
    for read in [
        CertificationRequest::from_file_bytes(input),
        est::request(input),
    ] {
        let Some(request) = read_out(read) else {
            continue;
        };
        assert!(
            PROVED.contains(&request.spki_sha256()),
            "nobody has this key"
        );
        let again = CertificationRequest::from_der(request.der()).unwrap();
        assert_eq!(again.spki_der(), request.spki_der());
        assert_eq!(
            again.subject_serial_number(),
            request.subject_serial_number()
        );
        assert!(request.key_algorithm().name().len() > 2);
        let _ = (
            request.common_name(),
            read_out(request.challenge_password()),
        );
    }
}

/// A certificate that is read says what it says; it is believed only if its issuer signed it.
pub(crate) fn certificate(input: &[u8]) {
    let Some(certificate) = read_out(Certificate::from_pem_or_der(input)) else {
        return;
    };
    let again = Certificate::from_der(certificate.der()).unwrap();
    assert_eq!(again.tbs_der(), certificate.tbs_der());
    let _ = (
        certificate.subject(),
        certificate.issuer(),
        certificate.subject_serial_number(),
        certificate.path_length(),
        certificate.subject_key_identifier(),
        certificate.authority_key_identifier(),
        read_out(certificate.signature()),
        read_out(certificate.key_algorithm()),
    );
    let [root, device_ca] = &WORLD.issuers;
    let chain = verify_chain(&certificate, device_ca, root).is_ok();
    let by_one = WORLD
        .issuers
        .iter()
        .any(|issuer| certificate.verify_issued_by(issuer).is_ok());
    assert!(by_one || !chain, "a chain begins with a signature");
    assert!(
        !by_one || WORLD.certified.contains(certificate.tbs_der()),
        "nobody signed this certificate"
    );
}

/// A CRL that is read was signed by its issuer. If the first byte is odd, what follows it is signed by the device CA:
/// then what is signed may be anything.
pub(crate) fn crl(input: &[u8]) {
    let Some((signed, bytes)) = input.split_first() else {
        return;
    };
    let [_, device_ca] = &WORLD.issuers;
    if signed % 2 == 1 {
        let signature = WORLD.key("device-ca").sign(bytes);
        let Some(der) = read_out(assemble_crl(bytes, &signature)) else {
            return;
        };
        if let Some(crl) = read_out(Crl::from_der(&der, device_ca)) {
            assert_eq!(crl.der(), der);
            assert_eq!(crl.tbs_der(), bytes);
            for revoked in crl.revoked() {
                assert!(
                    crl.entry(&revoked.serial).is_some(),
                    "what is revoked is found"
                );
            }
        }
        return;
    }
    for issuer in &WORLD.issuers {
        if let Some(crl) = read_out(Crl::from_pem_or_der(bytes, issuer)) {
            assert!(
                WORLD.certified.contains(crl.tbs_der()),
                "nobody signed this CRL"
            );
        }
    }
}

/// EST: what is base64 is written again to mean the same, and what is read of a message is in it.
pub(crate) fn est(input: &[u8]) {
    if let Some(der) = read_out(est::decode_body(input, Object::Request, CSR_DER_BYTES_MAX)) {
        assert!(der.len() <= CSR_DER_BYTES_MAX && der.len() <= input.len());
        for body in [est::encode_body(&der), est::encode_body_in_one_line(&der)] {
            let again = est::decode_body(body.as_bytes(), Object::Request, CSR_DER_BYTES_MAX);
            assert_eq!(again.ok(), Some(der.clone()));
        }
    }
    if let Some(certificates) = read_out(est::certificates(input)) {
        let ders: Vec<&[u8]> = certificates.iter().map(Certificate::der).collect();
        let written = est::certs_only(&ders).unwrap();
        let again = est::certificates(&written).unwrap();
        let [before, after] = [&certificates, &again]
            .map(|all| all.iter().map(Certificate::der).collect::<BTreeSet<_>>());
        assert_eq!(before, after, "the same certificates");
    }
    if let Some(attributes) = read_out(est::CsrAttributes::from_der(input)) {
        let again = est::CsrAttributes::from_der(&attributes.to_der()).unwrap();
        assert_eq!(
            again.subject_serial_number,
            attributes.subject_serial_number
        );
        let first = |keys: &est::CsrAttributes| keys.keys.as_ref()?.first().copied();
        if let Some(first) = first(&attributes) {
            assert!(again.keys.is_some_and(|keys| keys.contains(&first)));
        }
    }
}
