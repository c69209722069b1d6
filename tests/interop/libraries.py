"""The three things that a COSE library does for a reader, done by cwt and by pycose: nothing cryptographic is done
anywhere else. A public key is a COSE_Key as a dict; a private one has its scalar at -4."""

import hashlib

import cbor2


def key_id(key):
    """RFC 9679: SHA-256 of the deterministic COSE_Key."""
    public = {label: key[label] for label in (1, -1, -2, -3)}
    return hashlib.sha256(cbor2.dumps(public)).digest()


class Refused(Exception):
    """A signature or a ciphertext that the library does not accept."""


class Cwt:
    """The package python-cwt."""

    def __init__(self):
        import cwt

        self._cwt = cwt
        self._cose = cwt.COSE.new()

    def _key(self, key, algorithm, operations):
        return self._cwt.COSEKey.new({**key, 2: key_id(key), 3: algorithm, 4: operations})

    def _decode(self, message, key, **options):
        try:
            return self._cose.decode(message, key, **options)
        except Exception as error:
            raise Refused(f"cwt: {error}") from error

    def verify_sign1(self, message, key):
        self._decode(message, self._key(key, -7, [2]))

    def verify_signature(self, message, number, key):
        # cwt is content with one signature that verifies; so each is shown to it alone.
        parts = list(cbor2.loads(message).value)
        parts[3] = [parts[3][number]]
        self._decode(cbor2.dumps(cbor2.CBORTag(98, parts)), self._key(key, -7, [2]))

    def decrypt(self, message, key):
        return self._decode(message, self._key(key, -31, [7, 8]), context={"alg": "A256KW"})


class Pycose:
    """The package pycose."""

    def __init__(self):
        from pycose import headers
        from pycose.keys import CoseKey
        from pycose.messages import CoseMessage

        self._headers, self._key, self._message = headers, CoseKey.from_dict, CoseMessage

    def _verify(self, signed, key):
        try:
            signed.key = self._key(key)
            verified = signed.verify_signature()
        except Exception as error:
            raise Refused(f"pycose: {error}") from error
        if not verified:
            raise Refused("pycose: the signature is invalid")

    def verify_sign1(self, message, key):
        self._verify(self._message.decode(message), key)

    def verify_signature(self, message, number, key):
        self._verify(self._message.decode(message).signers[number], key)

    def decrypt(self, message, key):
        try:
            decoded = self._message.decode(message)
            for recipient in decoded.recipients:
                if recipient.get_attr(self._headers.KID) == key_id(key):
                    recipient.key = self._key(key)
                    return decoded.decrypt(recipient)
        except Exception as error:
            raise Refused(f"pycose: {error}") from error
        raise Refused("pycose: the key is no recipient")


LIBRARIES = {"cwt": Cwt, "pycose": Pycose}
