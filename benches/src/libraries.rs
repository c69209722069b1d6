//! Which library verifies signatures on P-256 fastest. One thread each, the same requests.

use std::time::{Duration, Instant};

use p256::ecdsa::signature::Verifier as _;
use serde::Serialize;

use crate::requests;

/// How long each library is measured.
const DURATION: Duration = Duration::from_millis(700);

/// What one library takes.
#[derive(Debug, Serialize)]
pub(crate) struct Library {
    /// Its name.
    pub(crate) library: &'static str,
    /// Microseconds for one verification.
    pub(crate) microseconds: f64,
}

/// A message, its signature as DER, and the key's point.
pub(crate) struct Signed {
    pub(crate) message: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) point: Vec<u8>,
}

/// Measures all of them.
pub(crate) fn measure() -> Vec<Library> {
    let signed: Vec<Signed> = (0..200)
        .map(|number| taken_apart(&requests::der(number)))
        .collect();
    let aws = |of: &Signed| {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &of.point)
            .verify(&of.message, &of.signature)
            .unwrap();
    };
    let ring = |of: &Signed| {
        use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &of.point)
            .verify(&of.message, &of.signature)
            .unwrap();
    };
    let p256 = |of: &Signed| {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&of.point).unwrap();
        let signature = p256::ecdsa::Signature::from_der(&of.signature).unwrap();
        key.verify(&of.message, &signature).unwrap();
    };
    let mut libraries = vec![
        Library {
            library: "aws-lc-rs",
            microseconds: timed(&signed, aws),
        },
        Library {
            library: "ring",
            microseconds: timed(&signed, ring),
        },
        Library {
            library: "p256",
            microseconds: timed(&signed, p256),
        },
    ];
    libraries.extend(openssl());
    libraries
}

fn timed(signed: &[Signed], verify: impl Fn(&Signed)) -> f64 {
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < DURATION {
        signed.iter().for_each(&verify);
        count += signed.len() as u32;
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

/// OpenSSL's own measurement: what its library takes when it is called by itself.
fn openssl() -> Option<Library> {
    let mut speed = std::process::Command::new("openssl");
    let output = speed
        .args(["speed", "-seconds", "1", "ecdsap256"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.contains("nistp256"))?;
    let rate: f64 = line.split_whitespace().last()?.parse().ok()?;
    Some(Library {
        library: "OpenSSL (openssl speed)",
        microseconds: 1e6 / rate,
    })
}

/// The parts of a request that verification needs (RFC 2986 section 4.2).
pub(crate) fn taken_apart(der: &[u8]) -> Signed {
    let request = content(der).0;
    let (_, after_info) = content(request);
    let info = &request[..request.len() - after_info.len()];
    let (_, after_algorithm) = content(after_info);
    let (bits, _) = content(after_algorithm);
    let point_at = info
        .windows(3)
        .position(|at| at == [0x42, 0x00, 0x04])
        .unwrap()
        + 2;
    Signed {
        message: info.to_vec(),
        signature: bits[1..].to_vec(),
        point: info[point_at..point_at + 65].to_vec(),
    }
}

/// The content of the first element, and what follows it.
fn content(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
    };
    der[header..].split_at(length)
}
