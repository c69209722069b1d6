"""Deterministic CBOR, as section 1 of formats.cddl has it: each value has one encoding, and this reads no other."""


class Malformed(Exception):
    """Bytes, or values, that formats.cddl does not allow."""


MESSAGE_TAGS = (18, 96, 98)
DEPTH_MAX = 16


class Tagged:
    """A whole message: its tag and what is tagged."""

    def __init__(self, tag, value):
        self.tag = tag
        self.value = value


def decode(data, name="message"):
    """Reads exactly one value."""
    value, end = _value(data, 0, 0, name)
    if end != len(data):
        raise Malformed(f"{name}: bytes follow the end")
    return value


def _head(data, at, name):
    if at >= len(data):
        raise Malformed(f"{name}: cut short")
    major, info = data[at] >> 5, data[at] & 31
    if info < 24:
        return major, info, at + 1
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(info)
    if size is None:
        raise Malformed(f"{name}: indefinite or reserved length")
    argument = data[at + 1 : at + 1 + size]
    if len(argument) != size:
        raise Malformed(f"{name}: cut short")
    number = int.from_bytes(argument, "big")
    least = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[size]
    if major != 7 and number < least:
        raise Malformed(f"{name}: not the shortest form")
    return major, number, at + 1 + size


def _value(data, at, depth, name):
    first = data[at] if at < len(data) else None
    major, number, at = _head(data, at, name)
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        content = data[at : at + number]
        if len(content) != number:
            raise Malformed(f"{name}: cut short")
        at += number
        if major == 2:
            return bytes(content), at
        try:
            return content.decode("utf-8"), at
        except UnicodeDecodeError:
            raise Malformed(f"{name}: text that is not UTF-8") from None
    if major == 7:
        if first not in (0xF4, 0xF5, 0xF6):
            raise Malformed(f"{name}: a float or an unknown simple value")
        return {0xF4: False, 0xF5: True, 0xF6: None}[first], at
    if depth >= DEPTH_MAX:
        raise Malformed(f"{name}: nested too deeply")
    if major == 4:
        values = []
        for _ in range(number):
            value, at = _value(data, at, depth + 1, name)
            values.append(value)
        return values, at
    if major == 5:
        entries, before = {}, b""
        for _ in range(number):
            start = at
            key, at = _value(data, at, depth + 1, name)
            if not isinstance(key, (int, str)) or isinstance(key, bool):
                raise Malformed(f"{name}: a key that is no integer or text")
            if data[start:at] <= before:
                raise Malformed(f"{name}: a key twice or out of order")
            before = data[start:at]
            entries[key], at = _value(data, at, depth + 1, name)
        return entries, at
    if depth or number not in MESSAGE_TAGS:
        raise Malformed(f"{name}: a tag where there is none")
    value, at = _value(data, at, depth + 1, name)
    return Tagged(number, value), at
