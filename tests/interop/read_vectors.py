#!/usr/bin/env python3
"""Opens every message of fixtures/vectors as docs/formats.md says, with one of two COSE libraries and each private key that
opens it, and compares what it says with what is written beside it. Prints how many of each type.
"""

import argparse
import collections
import hashlib
import hmac
import json
import pathlib
import sys

import cbor2
import zstandard
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

import formats
from formats import Message, need
from libraries import LIBRARIES, key_id
from read_mintmark import cose_key, merkle_root, records_of
from strict_cbor import decode

CONTENT = {
    "trust-manifest": formats.TRUST_MANIFEST,
    "officer-request": formats.OFFICER_REQUEST,
    "enrolment-request": formats.ENROLMENT_REQUEST,
    "enrolment-grant": formats.ENROLMENT_GRANT,
    "entitlement": formats.ENTITLEMENT,
    "revocation": formats.REVOCATION,
    "clock-correction": formats.CLOCK_CORRECTION,
    "re-anchor": formats.RE_ANCHOR,
    "acknowledgement": formats.ACKNOWLEDGEMENT,
    "dispatch": formats.DISPATCH,
    "audit-bundle": formats.AUDIT_BUNDLE,
    "audit-segment": formats.AUDIT_SEGMENT,
    "key-delivery": formats.KEY_FACTS,
    "device-secret": formats.DEVICE_SECRET,
    "restore-declaration": formats.restore_declaration,
    "log-tail": formats.log_tail,
    "dossier": formats.DOSSIER,
    "status": formats.STATUS,
    "report": formats.REPORT,
    "audit-grant": formats.AUDIT_GRANT,
    "backup": formats.BACKUP,
    "transcript": formats.TRANSCRIPT,
}


def as_json(value):
    """CBOR as the descriptions have it."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, list):
        return [as_json(each) for each in value]
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    return value


def derive(key, algorithm, label, context):
    """Section 8 of docs/formats.md: NIST SP 800-108 in counter mode, 32 bytes."""
    made = b""
    for counter in (1, 2):
        text = counter.to_bytes(4, "big") + label.encode() + b"\0" + context + (256).to_bytes(4, "big")
        if algorithm == "HMAC-SHA-256":
            made += hmac.digest(key, text, "sha256")
        else:
            mac = CMAC(AES(key))
            mac.update(text)
            made += mac.finalize()
    return made[:32]


class Reader:
    def __init__(self, library, folder):
        self.library, self.folder = library, folder
        self.said = {each["name"]: self.read_json(each["name"]) for each in self.read_json("index")["vectors"]}
        self.messages = {name: (folder / f"{name}.cose").read_bytes() for name in self.said}
        self.trust = {1: self.manifest("trust-manifest-1"), 2: self.manifest("trust-manifest-2")}
        self.symmetric = {}

    def read_json(self, name):
        return json.loads((self.folder / f"{name}.json").read_text())

    def private(self, name):
        return load_pem_private_key((self.folder / f"keys/{name}.pem").read_bytes(), None)

    def key(self, name):
        """A private key on P-256 as a COSE key, its scalar at -4."""
        private = self.private(name)
        scalar = private.private_numbers().private_value
        return {**cose_key(private.public_key()), -4: scalar.to_bytes(32, "big")}

    def manifest(self, name):
        message = Message(self.messages[name], "trust-manifest")
        return formats.TRUST_MANIFEST(decode(message.payload, name), name)

    def open(self, name):
        """Everything that section 3 and 4 of docs/formats.md say of one message; gives its content."""
        said, data = self.said[name], self.messages[name]
        message = Message(data, said["type"])
        need(message.context[5] == said["id"], name, "another id")
        need([message.context[3], message.context[4]] == [said["from"], said["to"]], name, "other parties")
        if message.tag != formats.ENCRYPT:
            need(message.fingerprint.hex() == said["fingerprint"], name, "another fingerprint")
        if name.endswith("-draft"):
            formats.drafted_by(self.library, message, self.trust[said["trust"]][10])
            header = decode(message.last[0][0], name)
            need(header.keys() == {1, 4, 16} and header[16] == formats.DRAFT_TYPE, name, "another header")
            need(not message.signers, name, "approved by somebody")
        elif name.endswith("-approval"):
            pass  # on the way: the finished object has the threshold
        elif message.tag == formats.SIGN:
            approved_by = self.approved(name, message)
            need(approved_by == said["approved_by"], name, f"approved by {approved_by}")
        elif message.tag == formats.SIGN1:
            formats.verify_one(self.library, message, self.signer(name, message))
        plaintext = self.plaintext(name, message)
        content = CONTENT[said["type"]](decode(plaintext, name), name)
        need(as_json(content) == said["content"], name, "another content")
        return content

    def approved(self, name, message):
        if name != "trust-manifest-2":
            manifest = self.trust[self.said[name]["trust"]]
            return formats.approvers(self.library, message, manifest, formats.ROLE_OF[message.kind])
        both = [
            formats.approvers(self.library, message, manifest, "trust", others_allowed=True)
            for manifest in self.trust.values()
        ]
        before = Message(self.messages["trust-manifest-1"]).fingerprint
        need(self.trust[2][6] == before, name, "of another history")
        return sorted({*both[0], *both[1]})

    def signer(self, name, message):
        manifest = self.trust[self.said[name]["trust"]]
        if message.kind in ("dispatch", "acknowledgement", "log-tail"):
            return manifest[10]
        if message.kind in ("dossier", "status", "report", "audit-grant", "transcript"):
            return manifest[11]
        if message.kind == "officer-request":
            return decode(message.payload, name)[3]
        if message.kind == "enrolment-request":
            return decode(message.payload, name)[7]
        if message.kind == "device-secret":
            return self.identity(message.header[33])
        request = Message(self.messages["enrolment-request"], "enrolment-request")
        return decode(request.payload, "enrolment request")[7]

    def identity(self, der):
        """Section 12, steps 2 and 3: the vault's certificate, by the root."""
        root = x509.load_der_x509_certificate(self.trust[1][7])
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(root)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        need(usage.digital_signature and not usage.key_cert_sign, "identity", "not for signatures")
        return cose_key(certificate.public_key())

    def plaintext(self, name, message):
        said = self.said[name]
        if "opens_with" not in said:
            return message.payload
        read = [self.decrypted(message, opener) for opener in said["opens_with"]]
        need(all(each == read[0] for each in read), name, "its recipients read different things")
        need(hashlib.sha256(read[0]).hexdigest() == said["plaintext_sha256"], name, "another plaintext")
        return read[0]

    def decrypted(self, message, opener):
        encrypted = message.data if message.tag == formats.ENCRYPT else message.payload
        if opener in ("device-p384", "vault-transport") or message.kind == "key-delivery":
            plaintext = self.by_hand(encrypted, opener, message)
        else:
            plaintext = self.library.decrypt(encrypted, self.key(opener))
        if message.tag != formats.ENCRYPT:
            inner = Message(encrypted, message.kind)
            outer = {key: value for key, value in message.context.items() if key != 6}
            need(inner.context == outer, "payload", "encrypted for another message")
            need(hashlib.sha256(plaintext).digest() == message.context[6], "plaintext", "not what was committed to")
        return plaintext

    def by_hand(self, encrypted, opener, message):
        """What the libraries do not do: ECDH on P-384, key transport, and to tell the content key, which is the key."""
        protected, unprotected, ciphertext, recipients = cbor2.loads(encrypted).value
        header, place, wrapped = recipients[0]
        private = self.private(opener)
        if opener == "vault-transport":
            sha256 = hashes.SHA256()
            content_key = private.decrypt(wrapped, padding.OAEP(padding.MGF1(sha256), sha256, None))
        else:
            curve = {1: ec.SECP256R1(), 2: ec.SECP384R1()}[place[-1][-1]]
            point = b"\x04" + place[-1][-2] + place[-1][-3]
            shared = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, point))
            content_key = self.unwrapped(shared, header, wrapped)
        if message.kind == "key-delivery":
            self.symmetric[message.context[5].removeprefix("key-")] = content_key
        return self.deciphered(content_key, protected, unprotected, ciphertext)

    def unwrapped(self, shared, header, wrapped):
        """Section 4, steps 4 and 5: the content key, by what the two keys agree on."""
        info = cbor2.dumps([-5, [None] * 3, [None] * 3, [256, header]])
        return aes_key_unwrap(HKDF(hashes.SHA256(), 32, None, info).derive(shared), wrapped)

    def deciphered(self, content_key, protected, unprotected, ciphertext):
        additional = cbor2.dumps(["Encrypt", protected, b""])
        return AESGCM(content_key).decrypt(unprotected[5], ciphertext, additional)

    def grant_opens(self):
        """Section 17: what the parts are, and the segments by what the grant brings, without a key of headquarters."""
        content = self.open("audit-grant")
        secrets = formats.secrets(content[7], "grant")
        parts = {hashlib.sha256(data).digest(): data for data in self.messages.values()}
        listed = [(each[1], each[5], parts[each[4]]) for each in content[9]]
        need(all(len(data) == each[3] for (_, _, data), each in zip(listed, content[9])), "grant", "another length")
        kinds = ["trust-manifest", "trust-manifest", "bundle", "segment", "segment"]
        need([kind for kind, _, _ in listed] == kinds, "grant", "other parts")
        hq_keys = [key_id(key) for key in content[6]]
        for number, data in ((number, data) for kind, number, data in listed if kind == "segment"):
            protected, unprotected, ciphertext, recipients = cbor2.loads(data).value
            opened = []
            for header, place, wrapped in recipients:
                ephemeral = place[-1]
                point = bytes([2 + (ephemeral[-3][-1] & 1)]) + ephemeral[-2]
                if place[4] in hq_keys and point in secrets:
                    content_key = self.unwrapped(secrets[point], header, wrapped)
                    opened.append(self.deciphered(content_key, protected, unprotected, ciphertext))
            need(len(opened) == 1, "grant", "does not open a segment")
            said = self.said[f"audit-segment-1-{number}"]
            need(hashlib.sha256(opened[0]).hexdigest() == said["plaintext_sha256"], "grant", "opens another thing")

    def backup_opens(self):
        """Section 18: a backup with the private half of its recovery key, to the files in it."""
        said = self.read_json("backup-file")
        data = (self.folder / said["file"]).read_bytes()
        content, message = self.open("backup"), self.messages["backup"]
        sealed = data[: content[8]]
        need(hashlib.sha256(sealed).digest() == content[9], "backup", "not what was signed")
        rest = data[content[8] :]
        need(rest.endswith(message) and len(rest) == len(message) + 3, "backup", "ends with something else")
        mark, *chunks = formats.sequence(sealed)
        need(mark == "mintmark backup", "backup", "begins with something else")
        content_key = ecies(bytes.fromhex(said["recovery_key"]), content[5], content[6])
        need(hashlib.sha256(content_key).digest() == content[7], "backup", "another content key")
        stream = b""
        for number, chunk in enumerate(chunks):
            last = bytes([number == len(chunks) - 1])
            plain = AESGCM(content_key).decrypt(number.to_bytes(12, "big"), chunk, last)
            stream += zstandard.ZstdDecompressor().decompress(plain, 1 << 20)
        found = []
        while stream:
            head, stream = formats.first_item(stream)
            entry = formats.BACKUP_ENTRY(decode(head, "entry"), "entry")
            bytes_of, stream = stream[: entry[2]], stream[entry[2] :]
            found.append({"path": entry[1], "bytes": len(bytes_of), "sha256": hashlib.sha256(bytes_of).hexdigest()})
        need(found == said["files"] and len(found) == content[10], "backup", "other files")
        need(sum(each["bytes"] for each in found) == content[11], "backup", "another number of bytes")

    def keys_are_right(self):
        """Section 8: the check values; section 12: the secrets are derived as documented."""
        terms = {each[1]: each for each in self.open("second-entitlement")[14]}
        for label, key in self.symmetric.items():
            need(derive(key, terms[label][2], "mintmark key check", b"") == terms[label][8], label, "check value")
        for name, device in (("device-secret", "device-1"), ("device-secret-p384", "device-p384")):
            content = self.open(name)
            context = cbor2.dumps([content[7], content[5]])
            algorithm = terms[content[7]][2]
            secret = derive(self.symmetric[content[7]], algorithm, "mintmark device secret", context)
            need(secret == content[9], name, "not the documented derivation")
            spki = self.private(device).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            need(hashlib.sha256(spki).digest() == content[6], name, "for another device")
        for vector in self.read_json("kdf")["vectors"]:
            given = [bytes.fromhex(vector[field]) for field in ("key", "context", "output")]
            need(derive(given[0], vector["algorithm"], vector["label"], given[1]) == given[2], "kdf", vector["about"])

    def log_is_whole(self):
        """Sections 10 and 11: the segments bring the records whose root is in the bundle."""
        records = []
        for sequence in (1, 2):
            content = self.open(f"audit-bundle-{sequence}")
            identity = f"{content[4].hex()}-{sequence:06}"
            for number, facts in enumerate(content[10], 1):
                need(facts[1] == len(records), "segment", "a gap")
                context = (f"vault:{content[2]}/{content[3]}", "hq", f"{identity}-seg{number:04}")
                data = self.messages[f"audit-segment-{sequence}-{number}"]
                records += records_of(self.library, data, facts, context, self.key("audit"))
            need(len(records) == content[8][1], "bundle", "another number of records")
            need(merkle_root(records) == content[8][2], "bundle", "another root")
        declaration, tail = self.open("restore-declaration"), self.open("log-tail")
        need(tail[4] == Message(self.messages["restore-declaration"]).fingerprint, "tail", "answers something else")
        need(tail[9] == declaration[5] and tail[10] == records[tail[9] :], "tail", "other records")
        need(merkle_root(records[: declaration[5]]) == declaration[6], "declaration", "another root")
        need((tail[7], tail[8]) == (len(records), merkle_root(records)), "tail", "another log")
        listed = self.read_json("log")
        need([each["bytes"] for each in listed] == [record.hex() for record in records], "log", "other records")
        for record in records:
            decode(record, "record")
        return len(records)

    def dossier_is_proven(self):
        """Section 16: a device's records are under the root that its vault signed, and made its certificate."""
        content = self.open("dossier")
        bundle = self.messages["audit-bundle-1"]
        need(content[11] == bundle, "dossier", "another bundle")
        checkpoint = decode(Message(bundle).payload, "bundle")[8]
        need(content[10] == checkpoint, "dossier", "another checkpoint")
        log = f"vault:{content[2]}/{content[3]}/{content[9].hex()}"
        for logged in content[12]:
            receipt = formats.Receipt(logged[2], "receipt")
            root = receipt.root(logged[1])
            need((root, receipt.size, receipt.log) == (checkpoint[2], checkpoint[1], log), "receipt", "of another log")
            receipt.verify(self.library, root, self.trust[2][11])
        request, reserved, signed = (decode(logged[1], "record") for logged in content[12])
        places = [formats.Receipt(logged[2], "receipt").index for logged in content[12]]
        need(places[0] + 1 == places[1] == signed[3], "dossier", "records that do not belong together")
        need([request[0], reserved[0], signed[0]] == [5, 18, 6], "dossier", "other records")
        device, device_ca, root = (x509.load_der_x509_certificate(content[key]) for key in (5, 6, 7))
        need(device.tbs_certificate_bytes == reserved[9], "dossier", "another certificate")
        device.verify_directly_issued_by(device_ca)
        device_ca.verify_directly_issued_by(root)
        need(content[7] == self.trust[2][7], "dossier", "another root")
        digest = int.from_bytes(hashlib.sha256(device.tbs_certificate_bytes).digest()[:16], "big")
        status = self.open("status")[4][0]
        held = [digest in formats.digests(each) for each in status[5]]
        need(held == [True] + [False] * 6, "status", "does not say that the device is good")

    def chain_is_whole(self):
        """Section 9: each dispatch follows the one before."""
        before = None
        count = sum(said["type"] == "dispatch" for said in self.said.values())
        for sequence in range(1, count + 1):
            name = f"dispatch-{sequence}"
            content = self.open(name)
            need((content[5], content[6]) == (sequence, before), name, "not the next")
            before = Message(self.messages[name]).fingerprint
            inner = Message(content[11], content[8])
            need(inner.context[5] == content[9], name, "its content has another id")
            need(content[11] in self.messages.values(), name, "wraps what is no vector")


def ecies(private, public, sealed):
    """Section 18: ECIES on X25519 as the ecies crate has it."""
    ours = X25519PrivateKey.from_private_bytes(private)
    need(ours.public_key().public_bytes_raw() == public, "backup", "another recovery key")
    ephemeral, nonce, tag, ciphertext = sealed[:32], sealed[32:48], sealed[48:64], sealed[64:]
    shared = ours.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    key = HKDF(hashes.SHA256(), 32, None, b"").derive(ephemeral + shared)
    return AESGCM(key).decrypt(nonce, ciphertext + tag, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=sorted(LIBRARIES), required=True)
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args()
    reader = Reader(LIBRARIES[arguments.library](), arguments.folder)
    opened = collections.Counter()
    for name, said in reader.said.items():
        reader.open(name)
        opened[said["type"]] += 1
    reader.keys_are_right()
    reader.chain_is_whole()
    reader.dossier_is_proven()
    reader.grant_opens()
    reader.backup_opens()
    records = reader.log_is_whole()
    json.dump({"opened": opened, "records": records}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
