//! What is derived and what is transported, done by OpenSSL; and the keys of the fixed world that are not on P-256.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use ciborium::Value;
use mintmark_protocol::key_terms::KeyAlgorithm;
use mintmark_protocol::transport::{Oaep, TransportKey};
use p384::elliptic_curve::sec1::ToSec1Point as _;
use p384::pkcs8::{EncodePrivateKey as _, LineEnding};
use sha2::{Digest as _, Sha256};

use super::{forge, vectors};

/// SP 800-108 in counter mode, 32 bytes, by OpenSSL's KBKDF.
pub fn derive(key: &[u8; 32], algorithm: KeyAlgorithm, label: &str, context: &[u8]) -> [u8; 32] {
    let prf = match algorithm {
        KeyAlgorithm::HmacSha256 => ["mac:HMAC", "digest:SHA256"],
        KeyAlgorithm::Aes256 => ["mac:CMAC", "cipher:AES-256-CBC"],
    };
    let mut options = vec![
        format!("hexkey:{}", hex::encode(key)),
        format!("hexsalt:{}", hex::encode(label)),
    ];
    options.extend(prf.map(str::to_owned));
    options.push("mode:COUNTER".to_owned());
    if !context.is_empty() {
        options.push(format!("hexinfo:{}", hex::encode(context)));
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["kdf", "-keylen", "32"]);
    for option in options {
        openssl.args(["-kdfopt", &option]);
    }
    let output = mintmark_tests::judge::succeed(openssl.arg("KBKDF")).stdout;
    let digits = String::from_utf8(output).unwrap().trim().replace(':', "");
    hex::decode(digits).unwrap().try_into().unwrap()
}

/// The key of a device on P-384.
pub fn large_device() -> p384::SecretKey {
    let text = b"mintmark test key: device-p384";
    let scalar = [&Sha256::digest(text)[..], &[0x38; 16]].concat();
    p384::SecretKey::from_slice(&scalar).unwrap()
}

/// Its public half as a COSE_Key.
pub fn large_point() -> Value {
    let point = large_device().public_key().to_sec1_point(false);
    let (x, y) = (&point.as_bytes()[1..49], &point.as_bytes()[49..]);
    let (x, y) = (forge::bytes(x), forge::bytes(y));
    forge::map([(1, 2.into()), (-1, 2.into()), (-2, x), (-3, y)])
}

/// The RSA key, which was made once.
fn rsa_pem() -> String {
    let path = vectors().join("keys/vault-transport.pem");
    if !path.exists() {
        let options = [
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:3072",
        ];
        let made = mintmark_tests::judge::succeed(Command::new("openssl").args(options)).stdout;
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    fs::read_to_string(path).unwrap()
}

/// Name, purpose and PEM of each.
pub fn files() -> [(&'static str, &'static str, String); 2] {
    let large = large_device()
        .to_pkcs8_pem(LineEnding::LF)
        .unwrap()
        .to_string();
    [
        ("device-p384", "signs and agrees: a device on P-384", large),
        (
            "vault-transport",
            "decrypts: the vault berlin/v1 (RSA-3072, OAEP with SHA-256)",
            rsa_pem(),
        ),
    ]
}

/// The key id of one of them.
pub fn key_id_of(name: &str) -> Vec<u8> {
    match name {
        "vault-transport" => transport_key().thumbprint().as_bytes().to_vec(),
        _ => forge::sha256(&forge::write(&large_point())),
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(input).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    output.stdout
}

/// The public half of the RSA key, with OAEP over SHA-256.
pub fn transport_key() -> TransportKey {
    static KEY: OnceLock<TransportKey> = OnceLock::new();
    let made = KEY.get_or_init(|| {
        let said = openssl(&["rsa", "-noout", "-modulus"], rsa_pem().as_bytes());
        let said = String::from_utf8(said).unwrap();
        TransportKey {
            oaep: Oaep::Sha256,
            modulus: hex::decode(said.trim().strip_prefix("Modulus=").unwrap()).unwrap(),
            exponent: vec![1, 0, 1],
        }
    });
    made.clone()
}

const OAEP: [&str; 6] = [
    "-pkeyopt",
    "rsa_padding_mode:oaep",
    "-pkeyopt",
    "rsa_oaep_md:sha256",
    "-pkeyopt",
    "rsa_mgf1_md:sha256",
];

fn oaep(operation: &str, input: &[u8]) -> Vec<u8> {
    drop(rsa_pem());
    let file = vectors().join("keys/vault-transport.pem");
    let arguments = [
        &["pkeyutl", operation, "-inkey", file.to_str().unwrap()],
        &OAEP[..],
    ]
    .concat();
    openssl(&arguments, input)
}

/// RSAES-OAEP with the RSA key.
pub fn oaep_encrypt(bytes: &[u8]) -> Vec<u8> {
    oaep("-encrypt", bytes)
}

/// What that encrypted.
pub fn oaep_decrypt(bytes: &[u8]) -> Vec<u8> {
    oaep("-decrypt", bytes)
}

/// The plaintext of a COSE_Encrypt to the P-384 device, or to the RSA key.
pub fn decrypt(message: &[u8], name: &str) -> Vec<u8> {
    let parts = forge::Parts::of(message);
    let recipient = parts.last.as_array().unwrap()[0].as_array().unwrap();
    let wrapped = recipient[2].as_bytes().unwrap();
    let content_key = if name == "vault-transport" {
        oaep("-decrypt", wrapped)
    } else {
        let ephemeral = forge::write(&forge::entry(&forge::write(&recipient[1]), -1));
        let coordinate = |label| forge::entry(&ephemeral, label).into_bytes().unwrap();
        let point = [vec![4], coordinate(-2), coordinate(-3)].concat();
        let peer = p384::PublicKey::from_sec1_bytes(&point).unwrap();
        let shared = large_device().diffie_hellman(&peer);
        let nobody = || Value::Array(vec![Value::Null; 3]);
        let public = Value::Array(vec![256.into(), forge::bytes(forge::recipient_header())]);
        let context = Value::Array(vec![(-5).into(), nobody(), nobody(), public]);
        unwrap(shared.raw_secret_bytes(), &forge::write(&context), wrapped)
    };
    let iv: [u8; 12] = forge::entry(&forge::write(&parts.unprotected), 5)
        .into_bytes()
        .unwrap()
        .try_into()
        .unwrap();
    open(content_key.as_slice().try_into().unwrap(), iv, &parts)
}

fn unwrap(shared: &[u8], context: &[u8], wrapped: &[u8]) -> Vec<u8> {
    use aes_gcm::KeyInit as _;
    let (mut wrapping, mut content_key) = ([0; 32], [0; 32]);
    hkdf::Hkdf::<Sha256>::new(None, shared)
        .expand(context, &mut wrapping)
        .unwrap();
    aes_kw::KwAes256::new((&wrapping).into())
        .unwrap_key(wrapped, &mut content_key)
        .unwrap();
    content_key.to_vec()
}

fn open(key: &[u8; 32], iv: [u8; 12], parts: &forge::Parts) -> Vec<u8> {
    use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
    let aad = forge::additional_data(&parts.protected);
    let text = Payload {
        msg: &parts.payload(),
        aad: &aad,
    };
    aes_gcm::Aes256Gcm::new(key.into())
        .decrypt((&iv).into(), text)
        .unwrap()
}
