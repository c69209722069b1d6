"""What a device's firmware does with its `.secret.cose`, knowing its own private key and the root's certificate: written
from docs/formats.md, section 12. Signature and decryption are done by cwt, by pycose, or step by step by OpenSSL (through
cryptography), as firmware without a COSE library would. Certificates are OpenSSL's in any case.

cwt opens what is for P-256 alone: for ECDH-ES+A256KW it takes the hash of HKDF from the curve, where RFC 9053 section
6.4.1 has SHA-256 for every curve."""

import argparse
import hashlib
import json
import pathlib
import sys

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from libraries import LIBRARIES, Refused, key_id
from strict_cbor import Malformed, Tagged, decode

CONTEXT = -65537
X5CHAIN = 33
CURVES = {"secp256r1": (1, 32), "secp384r1": (2, 48)}


class OpenSsl:
    """The steps of docs/formats.md, sections 3 and 4, without a COSE library."""

    CURVES = {1: ec.SECP256R1, 2: ec.SECP384R1}

    def _public(self, key):
        numbers = (int.from_bytes(key[label], "big") for label in (-2, -3))
        return ec.EllipticCurvePublicNumbers(*numbers, self.CURVES[key[-1]]()).public_key()

    def verify_sign1(self, message, key):
        protected, _, payload, signature = decode(message).value
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        signed = cbor2.dumps(["Signature1", protected, b"", payload])
        try:
            self._public(key).verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise Refused("OpenSSL: the signature is invalid") from error

    def decrypt(self, message, key):
        protected, unprotected, ciphertext, ((header, about, wrapped),) = decode(message).value
        scalar = int.from_bytes(key[-4], "big")
        private = ec.derive_private_key(scalar, self.CURVES[key[-1]]())
        shared = private.exchange(ec.ECDH(), self._public(about[-1]))
        nobody = [None, None, None]
        info = cbor2.dumps([-5, nobody, nobody, [256, header]])
        wrapping = HKDF(hashes.SHA256(), 32, None, info).derive(shared)
        try:
            content_key = aes_key_unwrap(wrapping, wrapped)
            aad = cbor2.dumps(["Encrypt", protected, b""])
            return AESGCM(content_key).decrypt(unprotected[5], ciphertext, aad)
        except (InvalidUnwrap, InvalidTag) as error:
            raise Refused("OpenSSL: it does not decrypt") from error


OPENERS = {**LIBRARIES, "openssl": OpenSsl}


class Wrong(Exception):
    """It is not what this device was promised."""


def need(holds, why):
    if not holds:
        raise Wrong(why)


def cose_key(public):
    number, size = CURVES[public.curve.name]
    point = public.public_numbers()
    return {1: 2, -1: number, -2: point.x.to_bytes(size, "big"), -3: point.y.to_bytes(size, "big")}


def structure(data, tag, name):
    message = decode(data)
    need(isinstance(message, Tagged) and message.tag == tag and len(message.value) == 4, f"no {name}")
    return decode(message.value[0], "protected header"), message.value


def is_ca(certificate):
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def open_secret(library, data, private, root):
    header, parts = structure(data, 18, "COSE_Sign1")
    need(set(header) == {1, 3, 4, X5CHAIN, CONTEXT}, "another header")
    need(header[1] == -7 and header[3].startswith("application/cose"), "another algorithm or type")

    # The certificate that came with it: made by the root, for a vault's identity, not for a CA.
    certificate = x509.load_der_x509_certificate(header[X5CHAIN])
    certificate.verify_directly_issued_by(root)
    need(not is_ca(certificate), "a CA signed it")
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    need(usage.value.digital_signature, "its key signs no messages")
    signer = cose_key(certificate.public_key())
    need(header[4] == key_id(signer), "another key id than that of the certificate")
    library.verify_sign1(data, signer)

    context = header[CONTEXT]
    need(context[1] == 1 and context[2] == "device-secret", "another kind of message")
    need(context[4] == "device", "not for a device")
    inner, encrypted = structure(parts[2], 96, "COSE_Encrypt")
    need(inner[CONTEXT] == {label: value for label, value in context.items() if label != 6}, "parts of two messages")
    number, size = CURVES[private.curve.name]
    mine = {**cose_key(private.public_key()), -4: private.private_numbers().private_value.to_bytes(size, "big")}
    need([recipient[1][4] for recipient in encrypted[3]] == [key_id(mine)], "not encrypted to this device alone")
    plaintext = library.decrypt(parts[2], mine)
    need(hashlib.sha256(plaintext).digest() == context[6], "not what was committed to")

    content = decode(plaintext, "content")
    need(sorted(content) == list(range(10)) and content[1] == 1, "another content")
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    need(content[6] == hashlib.sha256(spki).digest(), "for another device's key")
    need(context[3] == f"vault:{content[2]}/{content[3]}", "another vault than it says")
    need(context[5] == f"{content[7]}-{content[6].hex()[:16]}", "another id than it says")
    need(len(content[9]) == 32, "no secret")
    return {
        "vault": f"{content[2]}/{content[3]}",
        "product": content[4],
        "device_id": content[5],
        "key": content[7],
        "entitlement": content[8],
        "secret": content[9].hex(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=sorted(OPENERS), required=True)
    parser.add_argument("--key", required=True, help="the device's private key, PEM")
    parser.add_argument("--root", required=True, help="the root's certificate, PEM")
    parser.add_argument("file")
    arguments = parser.parse_args()
    read = lambda path: pathlib.Path(path).read_bytes()  # noqa: E731
    private = load_pem_private_key(read(arguments.key), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    root = x509.load_pem_x509_certificate(read(arguments.root))
    try:
        secret = open_secret(OPENERS[arguments.library](), read(arguments.file), private, root)
    except (Wrong, Malformed, Refused) as error:
        sys.exit(f"refused: {error}")
    print(json.dumps(secret))


if __name__ == "__main__":
    main()
