#!/usr/bin/env python3
"""Make a program that was linked against glibc 2.38 run on an older glibc, in place.

    scripts/older_glibc.py PROGRAM

Linkers record for each function the version of glibc that it comes from. For the functions below, 2.38 brought a new
version without which a program runs as well: those of C23, which only read more forms of numbers, and fmod. The program
is bound to the older ones instead. Fails if it needs anything else of glibc 2.38.
"""

import struct
import sys

VERSION, OLDEST = b"GLIBC_2.38", b"GLIBC_2.2.5"
C23_PREFIX = b"__isoc23_"
WITHOUT_PREFIX = (b"fmod",)

SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
NEEDED_FILE = struct.Struct("<HHIII")
NEEDED_VERSION = struct.Struct("<IHHII")
# Section types of the ELF format.
DYNAMIC_SYMBOLS, VERSIONS_NEEDED, SYMBOL_VERSIONS = 11, 0x6FFFFFFE, 0x6FFFFFFF


def main(path):
    with open(path, "rb") as program:
        elf = bytearray(program.read())
    if elf[:6] != b"\x7fELF\x02\x01":
        raise SystemExit(f"{path}: expected an ELF program of 64 bits, little-endian")
    sections = section_headers(elf)
    symbols, needed, versions = (
        next(section for section in sections if section["type"] == kind)
        for kind in (DYNAMIC_SYMBOLS, VERSIONS_NEEDED, SYMBOL_VERSIONS)
    )
    strings = sections[symbols["link"]]["offset"]

    def string(at):
        return bytes(elf[strings + at : elf.index(0, strings + at)])

    indexes = replace_version(elf, needed, string)
    for number in range(symbols["size"] // SYMBOL.size):
        if struct.unpack_from("<H", elf, versions["offset"] + 2 * number)[0] not in indexes:
            continue
        symbol_at = symbols["offset"] + SYMBOL.size * number
        name_at, *rest = SYMBOL.unpack_from(elf, symbol_at)
        name = string(name_at)
        if name.startswith(C23_PREFIX):
            # The older function has the same name without the prefix, which is the tail of the same string.
            SYMBOL.pack_into(elf, symbol_at, name_at + len(C23_PREFIX), *rest)
        elif name not in WITHOUT_PREFIX:
            raise SystemExit(f"{path}: needs {name.decode()} of {VERSION.decode()}")
    with open(path, "wb") as program:
        program.write(elf)


def section_headers(elf):
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    headers = (SECTION_HEADER.unpack_from(elf, table + size * number) for number in range(count))
    return [
        {"type": kind, "offset": offset, "size": length, "link": link, "entries": entries}
        for _, kind, _, _, offset, length, link, entries, _, _ in headers
    ]


def replace_version(elf, needed, string):
    """Replace the version by the oldest one wherever it is needed, and return the indexes by which symbols name it."""
    entries = list(needed_versions(elf, needed))
    checksum_of_oldest, oldest = next(
        (checksum, name) for _, (checksum, _, _, name, _) in entries if string(name) == OLDEST
    )
    indexes = set()
    for at, (_, flags, index, name, following) in entries:
        if string(name) == VERSION:
            NEEDED_VERSION.pack_into(elf, at, checksum_of_oldest, flags, index, oldest, following)
            indexes.add(index)
    return indexes


def needed_versions(elf, needed):
    file_at = needed["offset"]
    for _ in range(needed["entries"]):
        _, count, _, first, next_file = NEEDED_FILE.unpack_from(elf, file_at)
        at = file_at + first
        for _ in range(count):
            entry = NEEDED_VERSION.unpack_from(elf, at)
            yield at, entry
            at += entry[-1]
        file_at += next_file


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: scripts/older_glibc.py PROGRAM")
    main(sys.argv[1])
