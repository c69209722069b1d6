#!/usr/bin/env python3
"""Makes an entitlement that a vault accepts, as docs/formats.md section 13 says: approved with officers' keys, wrapped in a
dispatch by the dispatch key, written onto a medium. The COSE library pycose does the cryptography.

Private keys are given as FILE:PIN-FILE, encrypted PKCS#8 PEM as a key store of files has them.
"""

import argparse
import hashlib
import json
import os
import pathlib
import sys
import time

import cbor2
from pycose import headers
from pycose.keys import CoseKey
from pycose.messages import EncMessage, Sign1Message, SignMessage
from pycose.messages.recipient import KeyAgreementWithKeyWrap
from pycose.messages.signer import CoseSignature

import formats
from formats import CONTEXT, ENCRYPTED, Message, media_type, need
from libraries import key_id
from read_mintmark import manifest_of, private_key, read
from strict_cbor import decode


def encode(value):
    """Deterministic CBOR (section 1): cbor2 sorts keys by length first, so maps are put into bytewise order here."""
    if isinstance(value, dict):
        entries = sorted((cbor2.dumps(key), encode(each)) for key, each in value.items())
        return _head(5, len(entries)) + b"".join(key + each for key, each in entries)
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(encode(each) for each in value)
    return cbor2.dumps(value)


def _head(major, count):
    return bytes([cbor2.dumps(count)[0] | major << 5]) + cbor2.dumps(count)[1:]


def context(kind, recipient, identity, commitment=None):
    made = {1: 1, 2: kind, 3: "hq", 4: recipient, 5: identity}
    return made if commitment is None else {**made, 6: commitment}


def encrypt(plaintext, about, recipients):
    """Section 4: a COSE_Encrypt to these public keys."""
    protected = encode({1: 3, 3: media_type(about[2]), CONTEXT: about})
    content_key = os.urandom(32)

    def recipient(public):
        made = KeyAgreementWithKeyWrap(
            phdr_encoded=encode({1: -31}), uhdr={4: key_id(public)}, payload=content_key
        )
        made.local_attrs = {headers.StaticKey: CoseKey.from_dict(public)}
        return made

    message = EncMessage(
        phdr_encoded=protected,
        uhdr={5: os.urandom(12)},
        payload=plaintext,
        recipients=[recipient(public) for public in recipients],
    )
    return message.encode()


def approve(payload, about, signers):
    """Section 3: a COSE_Sign by officers' keys, in order of key ids."""
    protected = encode({3: ENCRYPTED, CONTEXT: about})

    def signature(private):
        header = encode({1: -7, 4: key_id(private)})
        return CoseSignature(phdr_encoded=header, uhdr={}, key=CoseKey.from_dict(private))

    signers = sorted(signers, key=key_id)
    message = SignMessage(
        phdr_encoded=protected, uhdr={}, payload=payload, signers=[signature(private) for private in signers]
    )
    return message.encode()


def sign_once(payload, about, private):
    """Section 3: a COSE_Sign1."""
    header = {1: -7, 3: media_type(about[2]), 4: key_id(private), CONTEXT: about}
    message = Sign1Message(phdr_encoded=encode(header), uhdr={}, payload=payload)
    message.key = CoseKey.from_dict(private)
    return message.encode()


PRODUCT_KEYS = {
    "account": 1,
    "sku": 2,
    "units": 3,
    "units_per_day": 4,
    "units_per_hour": 5,
    "device_id_pattern": 6,
    "key_algorithms": 7,
    "reissues_per_device": 8,
    "stations": 9,
    "working_hours": 10,
    "device_id_source": 12,
    "device_ids": 13,
}


def product(terms):
    made = {PRODUCT_KEYS[name]: terms[name] for name in PRODUCT_KEYS if terms.get(name) is not None}
    certificate = {1: terms["subject"], 3: terms["extended_key_usage"]}
    if terms.get("validity_days") is not None:
        certificate[2] = terms["validity_days"]
    return {**made, 11: certificate}


def entitlement(terms, site, vault):
    return {
        0: os.urandom(32),
        1: 1,
        2: terms["id"],
        3: terms["version"],
        4: site,
        5: vault,
        6: terms["drafted"],
        7: terms["approve_until"],
        8: terms["valid_from"],
        9: terms["valid_until"],
        10: {1: terms["credit"]["units"], 2: terms["credit"]["days"]},
        11: terms["anchor_lease_max"],
        12: [product(each) for each in terms["products"]],
        13: hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).digest(),
    }


def object_id(terms, vault):
    mark = hashlib.sha256(f"{vault}/{terms['id']}".encode()).hexdigest()[:8]
    ending = f"-v{terms['version']}-{mark}"
    return terms["id"][: 32 - len(ending)] + ending


def public(private):
    return {label: private[label] for label in (1, -1, -2, -3)}


def key(given):
    file, pin_file = given.rsplit(":", 1)
    return private_key(file, pin_file)


def make(arguments):
    _, manifest = manifest_of(read(arguments.trust))
    request = Message(read(arguments.enrolment), "enrolment-request")
    request = formats.ENROLMENT_REQUEST(decode(request.payload, "enrolment request"), "enrolment request")
    before = Message(read(arguments.previous), "dispatch")
    chain = formats.DISPATCH(decode(before.payload, "dispatch"), "dispatch")
    terms = json.loads(read(arguments.terms))
    site, vault = request[2], request[3]
    recipient = f"vault:{site}/{vault}"

    plaintext = encode(entitlement(terms, site, vault))
    formats.ENTITLEMENT(decode(plaintext, "entitlement"), "entitlement")
    identity = object_id(terms, f"{site}/{vault}")
    readers = [request[8]] + [each[2] for each in manifest[12]]
    readers += [officer[3] for officer in manifest[8] if "mint" in officer[4]]
    payload = encrypt(plaintext, context("entitlement", recipient, identity), readers)
    commitment = hashlib.sha256(plaintext).digest()
    outer = context("entitlement", recipient, identity, commitment)
    approved = approve(payload, outer, [key(given) for given in arguments.approver])
    Message(approved, "entitlement")
    Message(payload, "entitlement")

    dispatch_key = key(arguments.dispatch_key)
    need(public(dispatch_key) == manifest[10], "dispatch key", "not the one in the manifest")
    sequence = chain[5] + 1
    content = {
        1: 1,
        2: site,
        3: vault,
        4: chain[4],
        5: sequence,
        6: before.fingerprint,
        7: chain[7],
        8: "entitlement",
        9: identity,
        10: terms["version"],
        11: approved,
        12: [],
        13: int(time.time()),
    }
    about = context("dispatch", recipient, f"dispatch-{chain[4]}-{sequence:06}")
    dispatched = sign_once(encode(content), about, dispatch_key)
    Message(dispatched, "dispatch")
    name = f"mintmark/to-{site}_{vault}/dispatch-{chain[4]}-{sequence:06}.cose"
    path = pathlib.Path(arguments.media) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dispatched)
    return {
        "file": str(path),
        "id": identity,
        "fingerprint": hashlib.sha256(payload).hexdigest(),
        "epoch": chain[4],
        "sequence": sequence,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trust", required=True, help="the trust manifest in force")
    parser.add_argument("--enrolment", required=True, help="the vault's enrolment request: whom it is for")
    parser.add_argument("--previous", required=True, help="the newest dispatch that the vault has")
    parser.add_argument("--terms", required=True, help="the terms, as JSON")
    parser.add_argument("--approver", action="append", required=True, metavar="FILE:PIN-FILE")
    parser.add_argument("--dispatch-key", required=True, metavar="FILE:PIN-FILE")
    parser.add_argument("--media", required=True, help="the folder of the medium")
    json.dump(make(parser.parse_args()), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
