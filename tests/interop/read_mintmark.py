#!/usr/bin/env python3
"""Reads Mintmark's messages with other people's COSE libraries, from formats.cddl alone, and prints what they say as JSON.

Exit code 1: the message is not believed; why is on standard error.
"""

import argparse
import hashlib
import json
import pathlib
import sys

import zstandard
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import formats
from formats import Message, need, verify_one
from libraries import LIBRARIES, Refused
from strict_cbor import Malformed, decode

RECORDS_BYTES_MAX = 8 << 20


def cose_key(public):
    numbers = public.public_numbers()
    return {1: 2, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}


def private_key(pem_file, pin_file):
    pem = pathlib.Path(pem_file).read_bytes()
    pin = pathlib.Path(pin_file).read_bytes().rstrip(b"\r\n")
    key = load_pem_private_key(pem[pem.index(b"-----BEGIN ") :], pin)
    return {**cose_key(key.public_key()), -4: key.private_numbers().private_value.to_bytes(32, "big")}


def read(file):
    return pathlib.Path(file).read_bytes()


def hexadecimal(value):
    return None if value is None else value.hex()


# Trust manifest: section 5.


def manifest_of(data):
    message = Message(data, "trust-manifest")
    manifest = formats.TRUST_MANIFEST(decode(message.payload, "trust manifest"), "trust manifest")
    message.expect("hq", "all", f"trust-{manifest[2]:06}")
    need((manifest[2] == 1) == (manifest[6] is None), "trust manifest", "version 1, and only that, follows none")
    return message, manifest


def pinned(library, file):
    """A manifest that its own officers signed. Whether it is the right one, its fingerprint tells a person."""
    message, manifest = manifest_of(read(file))
    return message, manifest, formats.approvers(library, message, manifest, "trust")


def trust(library, arguments):
    if arguments.before:
        message, manifest = manifest_of(read(arguments.file))
        earlier, before, _ = pinned(library, arguments.before)
        need(manifest[2] == before[2] + 1, "trust manifest", "not the next version")
        need(manifest[6] == earlier.fingerprint, "trust manifest", "of another history")
        need(manifest[13] >= before[13], "trust manifest", "goes back to an earlier epoch")
        need(manifest[10] == before[10] or manifest[13] > before[13], "trust manifest", "another key without its epoch")
        both = [
            set(formats.approvers(library, message, listing, "trust", others_allowed=True))
            for listing in (before, manifest)
        ]
        keys = {
            formats.key_id(key)
            for listing in (before, manifest)
            for officer in listing[8]
            if "trust" in officer[4]
            for key in officer[2]
        }
        need(set(message.signers) <= keys, "signature", "by a key that counts in neither manifest")
        approved_by = sorted(both[0] | both[1])
    else:
        message, manifest, approved_by = pinned(library, arguments.file)
    return {
        "fingerprint": message.fingerprint.hex(),
        "version": manifest[2],
        "name": manifest[3],
        "issued": manifest[4],
        "expires": manifest[5],
        "previous": hexadecimal(manifest[6]),
        "officers": [
            {"id": officer[1], "roles": officer[4], "keys": [formats.key_id(key).hex() for key in officer[2]]}
            for officer in manifest[8]
        ],
        "thresholds": {role: manifest[9][1 + number] for number, role in enumerate(formats.ROLES)},
        "encryption_keys": [{"name": key[1], "escrowed": key[3]} for key in manifest[12]],
        "dispatch_epoch": manifest[13],
        "approved_by": approved_by,
    }


# Dispatch: section 11.


def dispatch_of(library, data, manifest):
    message = Message(data, "dispatch")
    verify_one(library, message, manifest[10])
    content = formats.DISPATCH(decode(message.payload, "dispatch"), "dispatch")
    message.expect("hq", f"vault:{content[2]}/{content[3]}", f"dispatch-{content[4]}-{content[5]:06}")
    need(content[5] > 0 and (content[5] == 1) == (content[6] is None), "dispatch", "the first follows none")
    return message, content


def dispatch(library, arguments):
    _, manifest, _ = pinned(library, arguments.trust)
    message, content = dispatch_of(library, read(arguments.file), manifest)
    inner = Message(content[11], content[8])
    need(inner.context[5] == content[9], "dispatch", "its content has another id")
    if inner.kind in formats.ROLE_OF:
        approved_by = formats.approvers(library, inner, manifest, formats.ROLE_OF[inner.kind])
    else:
        verify_one(library, inner, manifest[10])
        approved_by = []
    return {
        "fingerprint": message.fingerprint.hex(),
        "site": content[2],
        "vault": content[3],
        "epoch": content[4],
        "sequence": content[5],
        "previous": hexadecimal(content[6]),
        "bundle_seen": None if content[7] is None else {"lineage": content[7][1].hex(), "sequence": content[7][2]},
        "content": {
            "type": inner.kind,
            "id": content[9],
            "version": content[10],
            "fingerprint": inner.fingerprint.hex(),
            "approved_by": approved_by,
        },
        "certificates": len(content[12]),
        "made": content[13],
    }


# Entitlement: section 8.


def entitlement(library, arguments):
    _, manifest, _ = pinned(library, arguments.trust)
    data = read(arguments.file)
    if Message(data).kind == "dispatch":
        data = dispatch_of(library, data, manifest)[1][11]
    message = Message(data, "entitlement")
    approved_by = formats.approvers(library, message, manifest, "mint")
    plaintext, recipients = formats.decrypt(library, message, private_key(arguments.key, arguments.pin_file))
    terms = formats.ENTITLEMENT(decode(plaintext, "entitlement"), "entitlement")
    vault = f"{terms[4]}/{terms[5]}"
    mark = hashlib.sha256(f"{vault}/{terms[2]}".encode()).hexdigest()[:8]
    ending = f"-v{terms[3]}-{mark}"
    message.expect("hq", f"vault:{vault}", terms[2][: 32 - len(ending)] + ending)
    need(terms[3] > 0 and terms[8] < terms[9], "entitlement", "contradicts itself")
    return {
        "fingerprint": message.fingerprint.hex(),
        "approved_by": approved_by,
        "recipients": [recipient.hex() for recipient in recipients],
        "id": terms[2],
        "version": terms[3],
        "site": terms[4],
        "vault": terms[5],
        "drafted": terms[6],
        "approve_until": terms[7],
        "valid_from": terms[8],
        "valid_until": terms[9],
        "credit": {"units": terms[10][1], "days": terms[10][2]},
        "policy_digest": terms[13].hex(),
        "products": [
            {
                "account": product[1],
                "sku": product[2],
                "units": product[3],
                "units_per_day": product.get(4),
                "units_per_hour": product.get(5),
                "device_id_pattern": product.get(6),
                "key_algorithms": product[7],
                "reissues_per_device": product[8],
                "stations": product.get(9),
                "working_hours": product.get(10),
                "subject": product[11][1],
                "validity_days": product[11].get(2),
                "extended_key_usage": product[11][3],
                "device_id_source": product[12],
                "device_ids": product.get(13),
            }
            for product in terms[12]
        ],
    }


# Audit bundle: section 12.


def vault_sign(library, arguments):
    if arguments.vault_key:
        point = bytes.fromhex(arguments.vault_key)
        return cose_key(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))
    message = Message(read(arguments.enrolment), "enrolment-request")
    request = formats.ENROLMENT_REQUEST(decode(message.payload, "enrolment request"), "enrolment request")
    message.expect(f"vault:{request[2]}/{request[3]}", "hq", "enrolment")
    verify_one(library, message, request[7])
    return request[7]


def records_of(library, data, facts, context, private):
    need(len(data) == facts[4] and hashlib.sha256(data).digest() == facts[3], "segment", "not the file in the bundle")
    message = Message(data, "audit-segment")
    need(message.tag == formats.ENCRYPT, "segment", "no COSE_Encrypt")
    message.expect(*context)
    plaintext = library.decrypt(data, private)
    need(hashlib.sha256(plaintext).digest() == facts[5], "segment", "not what was committed to")
    segment = formats.AUDIT_SEGMENT(decode(plaintext, "segment"), "segment")
    need((segment[2], segment[3]) == (facts[1], facts[2]), "segment", "not the records in the bundle")
    inflater = zstandard.ZstdDecompressor().decompressobj()
    records = inflater.decompress(segment[4])
    need(inflater.eof and not inflater.unused_data, "segment", "not one zstd frame")
    need(len(records) <= RECORDS_BYTES_MAX, "segment", "too many bytes of records")
    found, at = [], 0
    while at < len(records):
        length = int.from_bytes(records[at : at + 4], "big")
        record = records[at + 4 : at + 4 + length]
        need(len(records) >= at + 4 and len(record) == length, "segment", "a record is cut short")
        found.append(record)
        at += 4 + length
    need(len(found) == facts[2], "segment", "another number of records than it says")
    return found


def merkle_root(records):
    """MTH of RFC 9162 section 2.1.1."""
    if not records:
        return hashlib.sha256(b"").digest()
    if len(records) == 1:
        return hashlib.sha256(b"\x00" + records[0]).digest()
    left = 1 << (len(records) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + merkle_root(records[:left]) + merkle_root(records[left:])).digest()


def bundle(library, arguments):
    message = Message(read(arguments.file), "audit-bundle")
    verify_one(library, message, vault_sign(library, arguments))
    content = formats.AUDIT_BUNDLE(decode(message.payload, "audit bundle"), "audit bundle")
    vault = f"vault:{content[2]}/{content[3]}"
    identity = f"{content[4].hex()}-{content[5]:06}"
    message.expect(vault, "hq", identity)
    need(content[5] > 0 and (content[5] == 1) == (content[6] is None), "audit bundle", "the first follows none")
    private = private_key(arguments.key, arguments.pin_file)
    path = pathlib.Path(arguments.file)
    following, records = content[9], []
    for number, facts in enumerate(content[10], 1):
        need(facts[1] == following and facts[2] > 0, "audit bundle", "its segments do not follow one another")
        following += facts[2]
        file = path.with_suffix(f".seg{number:04}")
        records += records_of(library, read(file), facts, (vault, "hq", f"{identity}-seg{number:04}"), private)
    need(following == content[8][1], "audit bundle", "its segments do not reach its checkpoint")
    whole = content[9] == 0
    if whole:
        need(merkle_root(records) == content[8][2], "audit bundle", "the records do not have the root in the checkpoint")
    return {
        "fingerprint": message.fingerprint.hex(),
        "site": content[2],
        "vault": content[3],
        "lineage": content[4].hex(),
        "sequence": content[5],
        "previous": hexadecimal(content[6]),
        "dispatch_seen": None if content[7] is None else {"epoch": content[7][1], "sequence": content[7][2]},
        "log_size": content[8][1],
        "log_root": content[8][2].hex(),
        "log_root_verified": whole,
        "trust_version": content[11],
        "sealed": content[12],
        "segments": len(content[10]),
        "records": [
            {"sequence": sequence, "bytes": record.hex()} for sequence, record in enumerate(records, content[9])
        ],
    }


def command_line():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=sorted(LIBRARIES), required=True)
    commands = parser.add_subparsers(required=True)

    def command(run):
        added = commands.add_parser(run.__name__)
        added.set_defaults(run=run)
        added.add_argument("file")
        return added

    def decrypting(added):
        added.add_argument("--key", required=True, help="encrypted PKCS#8 PEM of one of HQ's encryption keys")
        added.add_argument("--pin-file", required=True)

    command(trust).add_argument("--before", help="the trust manifest that it follows")
    command(dispatch).add_argument("--trust", required=True)
    added = command(entitlement)
    added.add_argument("--trust", required=True)
    decrypting(added)
    added = command(bundle)
    key = added.add_mutually_exclusive_group(required=True)
    key.add_argument("--vault-key", help="vault-sign, as a SEC 1 point in hexadecimal")
    key.add_argument("--enrolment", help="the enrolment request that introduced vault-sign")
    decrypting(added)
    return parser


def main():
    arguments = command_line().parse_args()
    try:
        found = arguments.run(LIBRARIES[arguments.library](), arguments)
    except (Malformed, Refused, OSError, ValueError, zstandard.ZstdError) as error:
        print(f"read_mintmark: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    json.dump({"type": arguments.run.__name__, "library": arguments.library, **found}, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
