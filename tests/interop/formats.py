"""The messages of Mintmark, read as formats.cddl says and not otherwise. Section numbers are those of formats.cddl."""

import hashlib
import re

import cbor2

from libraries import key_id
from strict_cbor import Malformed, Tagged, decode

SIGN1, ENCRYPT, SIGN = 18, 96, 98
CONTEXT = -65537
ENCRYPTED = 'application/cose; cose-type="cose-encrypt"'
DRAFT_TYPE = "application/mintmark-draft"
ROLES = ("mint", "enrol", "revoke", "trust")
ROLE_OF = {
    "trust-manifest": "trust",
    "enrolment-grant": "enrol",
    "entitlement": "mint",
    "revocation": "revoke",
    "clock-correction": "enrol",
    "re-anchor": "enrol",
}
COMMITTING = {*ROLE_OF, "acknowledgement", "log-tail", "device-secret", "audit-grant"} - {"trust-manifest"}


# Section 1: types. Each is a function that gives back what it accepts.


def need(accepted, name, what):
    if not accepted:
        raise Malformed(f"{name}: {what}")


def uint(value, name):
    need(isinstance(value, int) and not isinstance(value, bool) and value >= 0, name, "not an unsigned integer")
    return value


def boolean(value, name):
    need(isinstance(value, bool), name, "not a boolean")
    return value


def text(value, name):
    need(isinstance(value, str), name, "not a text")
    return value


def octets(size=None):
    def check(value, name):
        need(isinstance(value, bytes) and size in (None, len(value)), name, f"not a byte string of {size} bytes")
        return value

    return check


def matching(pattern):
    def check(value, name):
        need(isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII), name, f"does not match {pattern}")
        return value

    return check


def exactly(*allowed):
    def check(value, name):
        need(any(value == one and type(value) is type(one) for one in allowed), name, f"not one of {allowed}")
        return value

    return check


def nullable(of):
    return lambda value, name: None if value is None else of(value, name)


def array(of, least, most):
    def check(value, name):
        need(isinstance(value, list) and least <= len(value) <= most, name, f"not {least} to {most} values")
        return [of(each, name) for each in value]

    return check


class Map:
    """A closed map: every field is listed, `optional` names those that may be missing."""

    def __init__(self, fields, optional=()):
        self.fields, self.optional = fields, optional

    def __call__(self, value, name):
        need(isinstance(value, dict), name, "not a map")
        unknown = [key for key in value if key not in self.fields]
        missing = [key for key in self.fields if key not in value and key not in self.optional]
        need(not unknown and not missing, name, f"unknown keys {unknown}, missing keys {missing}")
        return {key: self.fields[key](each, f"{name}, key {key}") for key, each in value.items()}


unix_time = uint
identifier = matching("[a-z0-9-]{1,32}")
object_id = matching("[a-z0-9-]{1,64}")
sku = matching("[A-Za-z0-9._-]{1,32}")
digest, salt, lineage, der = octets(32), octets(32), octets(16), octets()
cose_key = Map({1: exactly(2), -1: exactly(1), -2: octets(32), -3: octets(32)})
cose_key_p384 = Map({1: exactly(2), -1: exactly(2), -2: octets(48), -3: octets(48)})
version_1 = exactly(1)


# Section 2: headers.

PARTY = "hq|all|device|auditor|vault:[a-z0-9-]{1,32}/[a-z0-9-]{1,32}|officer:[a-z0-9-]{1,32}"
CONTEXT_FIELDS = {1: version_1, 2: text, 3: matching(PARTY), 4: matching(PARTY), 5: object_id}
CONTEXT_MAP = Map(CONTEXT_FIELDS)
COMMITTING_CONTEXT_MAP = Map({**CONTEXT_FIELDS, 6: digest})


def media_type(kind):
    return f"application/vnd.mintmark.{kind}+cbor"


BYTES_MAX = {
    "trust-manifest": 262144,
    "officer-request": 16384,
    "enrolment-request": 65536,
    "enrolment-grant": 4194304,
    "entitlement": 4194304,
    "revocation": 4194304,
    "clock-correction": 4194304,
    "re-anchor": 4194304,
    "key-delivery": 4096,
    "acknowledgement": 16384,
    "dispatch": 8388608,
    "device-secret": 16384,
    "audit-bundle": 37748736,
    "audit-segment": 9437184,
    "restore-declaration": 32768,
    "log-tail": 8454144,
    "dossier": 1048576,
    "status": 268435456,
    "report": 67174400,
    "audit-grant": 67108864,
    "backup": 4096,
    "transcript": 8388608,
}


def first_item(data):
    """The first item of a CBOR sequence of texts and byte strings (RFC 8742), and what follows it."""
    major, info = data[0] >> 5, data[0] & 31
    need(major in (2, 3) and info <= 27, "sequence", "neither a text nor a byte string")
    width = 0 if info < 24 else 1 << (info - 24)
    length = int.from_bytes(data[1 : 1 + width], "big") if width else info
    begins = 1 + width
    item = data[begins : begins + length]
    need(len(item) == length, "sequence", "cut short")
    return (item.decode() if major == 3 else item), data[begins + length :]


def sequence(data):
    """All of them."""
    items = []
    while data:
        item, data = first_item(data)
        items.append(item)
    return items


class Message:
    """A message taken apart, its form checked, and believed by nobody yet."""

    def __init__(self, data, kind=None):
        self.data = data
        need(len(data) <= max(BYTES_MAX.values()), "message", "larger than any")
        message = decode(data)
        need(isinstance(message, Tagged) and isinstance(message.value, list), "message", "no COSE structure")
        need(len(message.value) == 4, "message", "not of four parts")
        self.tag = message.tag
        self.protected, self.unprotected, self.payload, self.last = message.value
        octets()(self.protected, "protected header")
        octets()(self.payload, "payload")
        header = decode(self.protected, "protected header")
        need(isinstance(header, dict) and isinstance(header.get(CONTEXT), dict), "protected header", "no context")
        self.kind = header[CONTEXT].get(2)
        need(kind in (None, self.kind), "message", f"of type {self.kind}, not {kind}")
        need(len(data) <= BYTES_MAX.get(self.kind, 0), "message", "larger than its type allows")
        commits = self.tag != ENCRYPT and self.kind in COMMITTING
        fields = {
            3: exactly(ENCRYPTED if commits else media_type(self.kind)),
            CONTEXT: COMMITTING_CONTEXT_MAP if commits else CONTEXT_MAP,
        }
        if self.tag == SIGN1:
            fields.update({1: exactly(-7), 4: digest})
        if self.tag == SIGN1 and self.kind == "device-secret":
            fields[33] = der
        if self.tag == ENCRYPT:
            fields.update({1: exactly(3)})
        self.header = Map(fields)(header, "protected header")
        self.context = self.header[CONTEXT]
        unprotected = Map({5: octets(12)}) if self.tag == ENCRYPT else Map({})
        unprotected(self.unprotected, "unprotected header")
        if self.tag == SIGN1:
            octets(64)(self.last, "signature")
        elif self.tag == SIGN:
            self.signers, self.drafters = [], []
            array(self._signature, 0, 64)(self.last, "signatures")
            alone = not self.drafters or len(self.drafters) + len(self.signers) == 1
            need(alone, "signatures", "that of a draft beside another")
        else:
            self.recipients = array(self._recipient, 1, 80)(self.last, "recipients")
            need(len(set(self.recipients)) == len(self.recipients), "recipients", "one stands twice")

    def _signature(self, value, name):
        need(isinstance(value, list) and len(value) == 3, name, "not of three parts")
        header = decode(octets()(value[0], name), "header of a signature")
        Map({})(value[1], name)
        octets(64)(value[2], name)
        fields = {1: exactly(-7), 4: digest, 16: exactly(DRAFT_TYPE)}
        header = Map(fields, optional=(16,))(header, "header of a signature")
        (self.drafters if 16 in header else self.signers).append(header[4])

    def _recipient(self, value, name):
        need(isinstance(value, list) and len(value) == 3, name, "not of three parts")
        if self.kind == "key-delivery" and value[0] == b"":
            octets()(value[2], name)
            return Map({1: exactly(-40, -41), 4: digest})(value[1], name)[4]
        Map({1: exactly(-31)})(decode(octets()(value[0], name), name), name)
        octets(40)(value[2], name)
        large = self.kind == "device-secret" and isinstance(value[1], dict) and value[1].get(-1, {}).get(-1) == 2
        return Map({4: digest, -1: cose_key_p384 if large else cose_key})(value[1], name)[4]

    @property
    def fingerprint(self):
        return hashlib.sha256(self.payload).digest()

    def expect(self, sender, recipient, identity):
        context = (self.context[3], self.context[4], self.context[5])
        need(context == (sender, recipient, identity), "context", f"{context}, not {(sender, recipient, identity)}")


# Section 3: who signed.


def verify_one(library, message, key):
    need(message.tag == SIGN1, "message", "no COSE_Sign1")
    need(message.header[4] == key_id(key), "signature", "not by the key that signs this type")
    library.verify_sign1(message.data, key)


def drafted_by(library, message, dispatch_key):
    """HQ wrote it as it is."""
    need(message.tag == SIGN and message.drafters, "draft", "not signed by headquarters as a draft")
    need(message.drafters == [key_id(dispatch_key)], "draft", "signed by another key than that of headquarters")
    library.verify_signature(message.data, 0, dispatch_key)


def approvers(library, message, manifest, role, others_allowed=False):
    """The officers who approved it; unless others are allowed, every signature must be that of a holder of the role."""
    need(message.tag == SIGN, "message", "no COSE_Sign")
    found = []
    for number, signer in enumerate(message.signers):
        listed = [(officer, key) for officer in manifest[8] for key in officer[2] if key_id(key) == signer]
        listed = [(officer, key) for officer, key in listed if role in officer[4]]
        if others_allowed and not listed:
            continue
        need(listed, "signature", f"{signer.hex()} belongs to no officer with role {role}")
        officer, key = listed[0]
        library.verify_signature(message.data, number, key)
        need(officer[1] not in found, "signature", f"{officer[1]} signed twice")
        found.append(officer[1])
    threshold = manifest[9][1 + ROLES.index(role)]
    need(len(found) >= threshold, "signatures", f"{len(found)} of {threshold} officers")
    return sorted(found)


# Section 4: encryption.


def decrypt(library, message, private):
    """The plaintext of a signed message, which it commits to."""
    inner = Message(message.payload, message.kind)
    need(inner.tag == ENCRYPT, "payload", "not encrypted")
    outer = {key: value for key, value in message.context.items() if key != 6}
    need(inner.context == outer, "payload", "encrypted for another message")
    plaintext = library.decrypt(message.payload, private)
    need(hashlib.sha256(plaintext).digest() == message.context[6], "plaintext", "not what was committed to")
    return plaintext, inner.recipients


# Sections 5 to 11: contents.


def hq_name(value, name):
    need(1 <= len(text(value, name).encode()) <= 64 and value.isprintable(), name, "not 1 to 64 bytes of plain text")
    return value


def roles(value, name):
    array(exactly(*ROLES), 0, 4)(value, name)
    need([role for role in ROLES if role in value] == value, name, "roles out of order")
    return value


OFFICER = Map({1: identifier, 2: array(cose_key, 1, 4), 3: cose_key, 4: roles})

TRUST_MANIFEST = Map(
    {
        1: version_1,
        2: uint,
        3: hq_name,
        4: unix_time,
        5: unix_time,
        6: nullable(digest),
        7: der,
        8: array(OFFICER, 1, 64),
        9: Map({1: uint, 2: uint, 3: uint, 4: uint}),
        10: cose_key,
        11: cose_key,
        12: array(Map({1: identifier, 2: cose_key, 3: boolean}), 2, 8),
        13: uint,
    }
)

OFFICER_REQUEST = Map({1: version_1, 2: identifier, 3: cose_key, 4: cose_key, 5: unix_time, 6: text})


def facts(value, name):
    need(isinstance(value, dict), name, "not a map")
    return {text(key, name): text(each, name) for key, each in value.items()}


def generation(value, name):
    need(2 <= uint(value, name) <= 65535, name, "not 2 to 65535")
    return value


TRANSPORT_KEY = Map({1: exactly(3), 3: exactly(-40, -41), -1: octets(), -2: octets()})

ENROLMENT_REQUEST = Map(
    {
        1: version_1,
        2: identifier,
        3: identifier,
        4: lineage,
        5: uint,
        6: digest,
        7: cose_key,
        8: cose_key,
        9: der,
        10: der,
        11: facts,
        12: unix_time,
        13: TRANSPORT_KEY,
        14: generation,
    },
    optional=(13, 14),
)

WRITE_OFF = Map({1: uint, 2: identifier, 3: sku, 4: uint, 5: uint})
SUCCESSION = Map({1: identifier, 2: lineage, 3: uint, 4: uint, 5: array(WRITE_OFF, 0, 1024)})

ENROLMENT_GRANT = Map(
    {
        0: salt,
        1: version_1,
        2: identifier,
        3: identifier,
        4: digest,
        5: lineage,
        6: der,
        7: der,
        8: cose_key,
        9: uint,
        10: unix_time,
        11: unix_time,
        12: octets(),
        13: generation,
        14: SUCCESSION,
    },
    optional=(13, 14),
)

INTERVAL = array(unix_time, 2, 2)
CERTIFICATE_TERMS = Map({1: text, 2: uint, 3: array(text, 0, 16)}, optional=(2,))


DEVICE_ID = matching("[A-Za-z0-9 '()+,./:=?-]{1,64}")
DEVICE_IDS = array(array(DEVICE_ID, 1, 2), 1, 8192)


def place(device_id):
    """Section 8: what stands before the trailing digits, and those; in this order identifiers are sorted."""
    head = device_id.rstrip("0123456789")
    return head, len(device_id) - len(head), device_id[len(head) :]


def follows(before, after):
    (head, count, digits), (other_head, other_count, other_digits) = place(before), place(after)
    same = (head, count, digits[:-38]) == (other_head, other_count, other_digits[:-38])
    return same and count > 0 and int(digits[-38:]) + 1 == int(other_digits[-38:])


def device_ids(value, name):
    before = None
    for ends in DEVICE_IDS(value, name):
        first, last = place(ends[0]), place(ends[-1])
        if len(ends) == 2:
            need(first[:2] == last[:2] and first[2][:-38] == last[2][:-38], name, "ends that are not of one range")
            need(first < last, name, "a range that counts down")
        if before is not None:
            need(place(before) < first and not follows(before, ends[0]), name, "not in their one form")
        before = ends[-1]
    return value


PRODUCT = Map(
    {
        1: uint,
        2: sku,
        3: uint,
        4: uint,
        5: uint,
        6: text,
        7: array(text, 1, 8),
        8: uint,
        9: array(identifier, 1, 64),
        10: array(INTERVAL, 0, 8192),
        11: CERTIFICATE_TERMS,
        12: exactly("serialNumber", "commonName"),
        13: device_ids,
    },
    optional=(4, 5, 6, 9, 10, 13),
)

LABEL = matching("[a-z0-9-]{1,28}")
ALGORITHM = exactly("AES-256", "HMAC-SHA-256")

KEY_TERMS = Map(
    {
        1: LABEL,
        2: ALGORITHM,
        3: exactly("derive-device-secret", "hold"),
        4: uint,
        5: unix_time,
        6: array(sku, 1, 32),
        7: boolean,
        8: digest,
        9: octets(),
    },
    optional=(4, 5, 6),
)

KEY_FACTS = Map({1: version_1, 2: identifier, 3: identifier, 4: LABEL, 5: ALGORITHM})

ENTITLEMENT = Map(
    {
        0: salt,
        1: version_1,
        2: identifier,
        3: uint,
        4: identifier,
        5: identifier,
        6: unix_time,
        7: unix_time,
        8: unix_time,
        9: unix_time,
        10: Map({1: uint, 2: uint}),
        11: uint,
        12: array(PRODUCT, 1, 32),
        13: digest,
        14: array(KEY_TERMS, 1, 16),
        15: digest,
        16: uint,
    },
    optional=(14, 15, 16),
)


def number(value, name):
    need(uint(value, name) > 0, name, "0, and numbers count from 1")
    return value


def reason(value, name):
    need(1 <= len(text(value, name)) <= 200 and value.isprintable(), name, "not 1 to 200 characters of plain text")
    return value


def target(value, name):
    need(isinstance(value, dict) and len(value) == 1, name, "not one target")
    device = Map({1: uint, 2: uint, 3: uint, 4: uint, 5: octets(17), 6: text})
    devices = array(device, 1, 1000)
    fields = {1: identifier, 2: exactly(True), 3: digest, 4: devices}
    return Map(fields, optional=(1, 2, 3, 4))(value, name)


REVOCATION = Map(
    {0: salt, 1: version_1, 2: identifier, 3: identifier, 4: number, 5: target, 6: reason, 7: unix_time, 8: unix_time}
)

CLOCK_CORRECTION = Map(
    {0: salt, 1: version_1, 2: identifier, 3: identifier, 4: number, 5: unix_time, 6: reason, 7: unix_time, 8: unix_time}
)

RE_ANCHOR = Map(
    {
        0: salt,
        1: version_1,
        2: identifier,
        3: identifier,
        4: number,
        5: lineage,
        6: number,
        7: digest,
        8: uint,
        9: digest,
        10: reason,
        11: unix_time,
        12: unix_time,
    }
)

DEVICE_SECRET = Map(
    {
        0: salt,
        1: version_1,
        2: identifier,
        3: identifier,
        4: sku,
        5: text,
        6: digest,
        7: LABEL,
        8: identifier,
        9: octets(32),
    }
)

ACKNOWLEDGEMENT = Map(
    {
        0: salt,
        1: version_1,
        2: identifier,
        3: identifier,
        4: unix_time,
        5: lineage,
        6: uint,
        7: digest,
        8: uint,
        9: digest,
        10: uint,
    }
)



def in_order(of):
    """Pairs, each with a greater first than the one before."""

    def check(value, name):
        pairs = of(value, name)
        need(all(one[0] < next_[0] for one, next_ in zip(pairs, pairs[1:])), name, "not in order")
        return pairs

    return check


def pair(value, name):
    need(isinstance(value, list) and len(value) == 2, name, "no pair")
    return [uint(each, name) for each in value]


def restore_declaration(value, name):
    content = RESTORE_DECLARATION_MAP(value, name)
    need(content[4] != content[7], name, "goes on in the lineage that was put back")
    return content


def log_tail(value, name):
    content = LOG_TAIL_MAP(value, name)
    need(1 <= content[5] <= content[6], name, "a part that is none")
    return content


RESTORE_DECLARATION_MAP = Map(
    {
        1: version_1,
        2: identifier,
        3: identifier,
        4: lineage,
        5: uint,
        6: digest,
        7: lineage,
        8: unix_time,
        9: uint,
        10: uint,
        11: in_order(array(pair, 0, 1000)),
    }
)

LOG_TAIL_MAP = Map(
    {
        0: salt,
        1: version_1,
        2: identifier,
        3: identifier,
        4: digest,
        5: uint,
        6: uint,
        7: uint,
        8: digest,
        9: uint,
        10: array(octets(), 0, 65536),
    }
)

DISPATCH = Map(
    {
        1: version_1,
        2: identifier,
        3: identifier,
        4: uint,
        5: uint,
        6: nullable(digest),
        7: nullable(Map({1: lineage, 2: uint, 3: digest})),
        8: text,
        9: object_id,
        10: uint,
        11: octets(),
        12: array(der, 0, 8),
        13: unix_time,
    }
)

SEGMENT_FACTS = Map({1: uint, 2: uint, 3: digest, 4: uint, 5: digest})

AUDIT_BUNDLE = Map(
    {
        1: version_1,
        2: identifier,
        3: identifier,
        4: lineage,
        5: uint,
        6: nullable(digest),
        7: nullable(Map({1: uint, 2: uint, 3: digest})),
        8: Map({1: uint, 2: digest, 3: unix_time}),
        9: uint,
        10: array(SEGMENT_FACTS, 0, 9999),
        11: uint,
        12: unix_time,
        13: der,
    },
    optional=(13,),
)

AUDIT_SEGMENT = Map({0: salt, 1: version_1, 2: uint, 3: uint, 4: octets()})


# Sections 18 and 19: what HQ signs for third parties.

CHECKPOINT = Map({1: uint, 2: digest, 3: unix_time})
DEVICE_STATES = ("good", "superseded", "scrapped", "voided", "revoked", "duplicate", "doubtful")

DOSSIER = Map(
    {
        1: version_1,
        2: identifier,
        3: identifier,
        4: unix_time,
        5: der,
        6: der,
        7: der,
        8: der,
        9: lineage,
        10: CHECKPOINT,
        11: nullable(octets()),
        12: array(Map({1: octets(), 2: octets()}), 3, 3),
        13: Map({1: identifier, 2: uint, 3: sku, 4: unix_time, 5: unix_time, 6: array(identifier, 0, 64)}),
        14: Map({1: exactly(*DEVICE_STATES), 2: unix_time, 3: uint, 4: text}, optional=(2, 3, 4)),
    }
)


class Receipt:
    """A receipt of inclusion (RFC 9942), taken apart."""

    def __init__(self, data, name):
        need(len(data) <= 4096, name, "larger than a receipt")
        receipt = decode(data, name)
        need(isinstance(receipt, Tagged) and receipt.tag == SIGN1 and len(receipt.value) == 4, name, "no COSE_Sign1")
        self.protected, unprotected, payload, self.signature = receipt.value
        need(payload is None, name, "its payload is not detached")
        log = matching("vault:[a-z0-9-]{1,32}/[a-z0-9-]{1,32}/[0-9a-f]{32}")
        claims = Map({1: exactly("hq"), 2: log})
        fields = {1: exactly(-7), 4: digest, 15: claims, 395: exactly(1)}
        self.header = Map(fields)(decode(self.protected, name), name)
        self.log = self.header[15][2]
        proofs = Map({396: Map({-1: array(octets(), 1, 1)})})(unprotected, name)[396][-1]
        self.size, self.index, self.path = decode(proofs[0], name)
        uint(self.size, name), uint(self.index, name), array(digest, 0, 64)(self.path, name)
        need(self.index < self.size, name, "beyond the tree")

    def root(self, record):
        """RFC 9162 section 2.1.3.2: the root that the path leads to; None if it leads nowhere."""
        sha256 = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
        node, last, hash_ = self.index, self.size - 1, sha256(b"\0", record)
        for sibling in self.path:
            if last == 0:
                return None
            if node & 1 or node == last:
                hash_ = sha256(b"\1", sibling, hash_)
                while not node & 1 and node:
                    node, last = node >> 1, last >> 1
            else:
                hash_ = sha256(b"\1", hash_, sibling)
            node, last = node >> 1, last >> 1
        return hash_ if last == 0 else None

    def verify(self, library, root, key):
        """The root stands in the place of the payload."""
        need(self.header[4] == key_id(key), "receipt", "signed by another key")
        parts = [self.protected, {}, root, self.signature]
        library.verify_sign1(cbor2.dumps(cbor2.CBORTag(SIGN1, parts)), key)


def digest_set(value, name):
    digests(value, name)
    return value


def digests(value, name="digest set"):
    """Section 16 of docs/formats.md: the digests of a set, cut short, as numbers."""
    need(isinstance(value, list) and len(value) == 3, name, "no set")
    count, bits, data = uint(value[0], name), uint(value[1], name), octets()(value[2], name)
    need(bits <= 128, name, "wider than 128 bits")
    stream = iter("".join(f"{octet:08b}" for octet in data))
    rice = max(0, bits - count.bit_length())
    values, least = [], 0
    for _ in range(count):
        quotient = 0
        while next(stream) == "1":
            quotient += 1
        rest = int("".join(next(stream) for _ in range(rice)) or "0", 2)
        values.append(least + (quotient << rice) + rest)
        least = values[-1] + 1
    left = "".join(stream)
    need(len(left) < 8 and "1" not in left, name, "more than it says")
    need(all(each >> bits == 0 for each in values), name, "too large")
    return values


def form(value, name):
    need(value in ("table", "json", "csv", "xlsx", "html"), name, "no form of a report")
    return value


def report_itself(value, name):
    need(isinstance(value, bytes) and 1 <= len(value) <= 67108864, name, "no report of 1 byte to 64 MiB")
    return value


REPORT = Map({1: version_1, 2: unix_time, 3: form, 4: report_itself})


def secrets(value, name):
    """What key 7 of a grant lists: what each ephemeral key, as a compressed point, was agreed on with."""
    need(isinstance(value, bytes) and len(value) % 65 == 0, name, "not of 65 bytes each")
    entries = [value[at : at + 65] for at in range(0, len(value), 65)]
    points = [entry[:33] for entry in entries]
    need(points == sorted(set(points)), name, "not in order, or one twice")
    return {entry[:33]: entry[33:] for entry in entries}


def secrets_field(value, name):
    secrets(value, name)
    return value


PART_TYPES = exactly(
    *("trust-manifest", "draft", "dispatch", "order", "bundle"),
    *("segment", "refused-bundle", "restore", "refused-restore", "report"),
)
PART = Map({1: PART_TYPES, 2: unix_time, 3: uint, 4: digest, 5: uint})
AUDIT_GRANT = Map(
    {
        0: salt,
        1: version_1,
        2: unix_time,
        3: cose_key,
        4: nullable(uint),
        5: nullable(uint),
        6: array(cose_key, 1, 4096),
        7: secrets_field,
        8: array(Map({1: identifier, 2: identifier, 3: octets(32)}), 0, 4096),
        9: array(PART, 1, 262144),
    }
)


def sized(least, most):
    def check(value, name):
        need(isinstance(value, str) and least <= len(value.encode()) <= most, name, f"not a text of {least} to {most} bytes")
        return value

    return check


# Section 22.
BACKUP_LOG = Map({1: lineage, 2: uint, 3: digest})
BACKUP = Map(
    {
        1: version_1,
        2: unix_time,
        3: sized(1, 64),
        4: cose_key,
        5: octets(32),
        6: octets(96),
        7: digest,
        8: uint,
        9: digest,
        10: uint,
        11: uint,
        12: nullable(BACKUP_LOG),
    }
)
BACKUP_ENTRY = Map({1: sized(1, 512), 2: uint})

# Section 23.
TRANSCRIPT_ENTRY = Map({1: unix_time, 2: sized(1, 8192), 3: uint, 4: sized(0, 65536)})
TRANSCRIPT = Map(
    {
        1: version_1,
        2: unix_time,
        3: sized(1, 256),
        4: array(sized(1, 128), 1, 32),
        5: array(TRANSCRIPT_ENTRY, 1, 4096),
    }
)


STATUS = Map(
    {
        1: version_1,
        2: unix_time,
        3: uint,
        4: array(
            Map(
                {
                    1: identifier,
                    2: identifier,
                    3: array(Map({1: der, 2: boolean}), 0, 65535),
                    4: nullable(CHECKPOINT),
                    5: array(digest_set, 7, 7),
                    6: digest_set,
                }
            ),
            0,
            4096,
        ),
    }
)
