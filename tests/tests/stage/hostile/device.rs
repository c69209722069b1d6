//! The same attacks on what a vault gives to its devices: somebody at the station changes a device's secret.

use mintmark_pki::{assemble, vault_identity_tbs};

use super::super::forge::{self, Parts};
use super::super::home::vector;
use super::super::keys::key;
use super::super::story::{DAY, NEW_YEAR, root};
use super::Attack;

const SECRET: &str = "device-secret";

fn secret() -> Parts {
    Parts::of(&vector("device-secret.cose"))
}

/// The same content, encrypted to another device.
fn encrypted_to(name: &str) -> Vec<u8> {
    let inner = Parts::of(&secret().payload());
    let plaintext = vector("device-secret.cbor");
    forge::encrypt(inner.protected, &plaintext, &[key(name).public]).write()
}

/// Adds what an attack of this name does to a device.
pub(super) fn added(attack: Attack) -> Attack {
    let device = "device";
    match attack.name {
        "arbitrary-package" => attack
            .opened(
                device,
                "secret-by-a-stranger.cose",
                "a secret that a stranger signed, beside the vault's real certificate",
                ("SIGNER-UNKNOWN", SECRET),
                {
                    let id = forge::bytes(forge::key_id(&key("stranger-sign").public));
                    let header = forge::with(&secret().protected, 4, id);
                    secret().with_protected(header).signed(&[key("stranger-sign")])
                },
            )
            .opened(
                device,
                "secret-with-a-certificate-of-its-own.cose",
                "a secret that a stranger signed, with a certificate in the vault's name that the root did not sign",
                ("CERTIFICATE-SIGNATURE-INVALID", SECRET),
                {
                    let public = key("stranger-sign").public;
                    let made = NEW_YEAR - 20 * DAY;
                    let tbs = vault_identity_tbs(&root(), "Acme", "berlin", "v1", &public, &[9; 16], made).unwrap();
                    let certificate = assemble(&tbs, &key("stranger-sign").sign(&tbs).unwrap()).unwrap();
                    let id = forge::bytes(forge::key_id(&public));
                    let header = forge::with(&secret().protected, 4, id);
                    let header = forge::with(&header, 33, forge::bytes(certificate));
                    secret().with_protected(header).signed(&[key("stranger-sign")])
                },
            ),
        "wrong-recipient" => attack.opened(
            device,
            "secret-of-another-device.cose",
            "the secret of another device, whole",
            ("NOT-RECIPIENT", SECRET),
            vector("device-secret-p384.cose"),
        ),
        "surreptitious-re-encryption" => attack.opened(
            device,
            "secret-encrypted-anew.cose",
            "a device decrypts its secret and encrypts it for another, under the vault's signature",
            ("SIGNATURE-INVALID", SECRET),
            secret().with_payload(encrypted_to("device-1")).write(),
        ),
        "signature-stripped" => attack.opened(
            device,
            "secret-without.cose",
            "a device's secret with an empty signature",
            ("SIGNATURE-INVALID", SECRET),
            {
                let mut parts = secret();
                parts.last = forge::bytes([]);
                parts.write()
            },
        ),
        "split-plaintext" => attack.opened(
            device,
            "secret-that-is-not-the-one.cose",
            "a secret that the vault signed and that is not the one that it committed to",
            ("COMMITMENT-MISMATCH", SECRET),
            {
                let inner = Parts::of(&secret().payload());
                let other = forge::with(&vector("device-secret.cbor"), 9, forge::bytes([0; 32]));
                let payload = forge::encrypt(inner.protected, &other, &[key("device-1").public]);
                secret().with_payload(payload.write()).signed(&[key("vault-sign")])
            },
        ),
        "unknown-critical-header" => attack.opened(
            device,
            "in-a-secret.cose",
            "a parameter 99 in the protected header of a device's secret",
            ("MESSAGE-HEADER", SECRET),
            {
                let header = forge::with(&secret().protected, 99, 1);
                secret().with_protected(header).signed(&[key("vault-sign")])
            },
        ),
        "trailing-bytes" => attack.opened(
            device,
            "after-a-secret.cose",
            "one byte after a device's secret",
            ("MESSAGE-ENCODING", SECRET),
            [vector("device-secret.cose"), vec![0]].concat(),
        ),
        _ => attack,
    }
}
