#!/usr/bin/env python3
"""Reads what a binary says that it is made of (cargo-auditable), and holds it against Cargo.lock.

    sbom.py BINARY CARGO_LOCK
"""

import json
import struct
import sys
import tomllib
import zlib

SECTION = b".dep-v0"
BYTES_MAX = 8 * 1024 * 1024


def section(elf, wanted):
    """The bytes of a section of a 64-bit little-endian ELF file (System V ABI, chapter 4)."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise SystemExit("not a 64-bit little-endian ELF file")
    start, = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, start + index * size) for index in range(count)]
    texts = headers[names][4]
    for name, _, _, _, offset, length in headers:
        at = texts + name
        if elf[at : elf.index(b"\0", at)] == wanted:
            return elf[offset : offset + length]
    raise SystemExit("it does not say what it is made of: it was not built by `cargo auditable`")


def main():
    binary, lock = sys.argv[1:]
    with open(binary, "rb") as file:
        packed = section(file.read(), SECTION)
    made_of = json.loads(zlib.decompressobj().decompress(packed, BYTES_MAX))["packages"]
    with open(lock, "rb") as file:
        locked = {(package["name"], package["version"]) for package in tomllib.load(file)["package"]}
    found = {(package["name"], package["version"]) for package in made_of}
    strange = sorted(found - locked)
    if strange:
        raise SystemExit(f"{binary}: not in {lock}: {strange}")
    names = {name for name, _ in found}
    for must in ("mintmark-protocol", "cryptoki", "p256"):
        if must not in names:
            raise SystemExit(f"{binary}: {must} is not listed")
    print(f"{binary.rsplit('/', 1)[-1]}: {len(found)} packages, each as Cargo.lock has it")


main()
