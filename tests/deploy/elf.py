"""Reads what a program or library for Linux needs: architecture, libraries, version of glibc.

64-bit little-endian files only, since Lambda has no others. The System V ABI, "Dynamic
Linking", has the tags; the Linux Standard Base, "Symbol Versioning", the versions.
"""

import re
import struct

MACHINES = {62: "x86_64", 183: "arm64"}  # e_machine


def built_for(name):
    """The Python that an extension module's name says, as in 3.13 or 3.13t; None where it says none."""
    tag = re.search(r"\.cpython-(\d)(\d+t?)-[^/]*\.so$", name)
    return f"{tag[1]}.{tag[2]}" if tag else None


class Elf:
    """What a 64-bit little-endian ELF file says of itself: the dynamic section, and no more."""

    @classmethod
    def read(cls, content):
        try:
            return cls(content) if content[:6] == b"\x7fELF\x02\x01" else None
        except (struct.error, ValueError):  # cut or damaged
            return None

    def __init__(self, content):
        self.content = content
        machine = struct.unpack_from("<H", content, 18)[0]
        self.arch = MACHINES.get(machine, f"machine {machine}")
        program_headers, section_headers = struct.unpack_from("<QQ", content, 32)
        size, count, section_size, section_count = struct.unpack_from("<4H", content, 54)
        self.symbols = any(  # SHT_SYMTAB
            struct.unpack_from("<I", content, section_headers + i * section_size + 4)[0] == 2 for i in range(section_count)
        )
        self.segments, self.loader, dynamic = [], "", []
        for i in range(count):
            kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", content, program_headers + i * size)
            if kind == 1:  # PT_LOAD
                self.segments.append((address, offset, length))
            elif kind == 2:  # PT_DYNAMIC
                dynamic = list(struct.iter_unpack("<qQ", content[offset : offset + length]))
            elif kind == 3:  # PT_INTERP
                self.loader = self.string(offset)
        values = dict(dynamic)
        self.strings = self.offset(values.get(5, 0))  # DT_STRTAB
        self.needed = [self.string(self.strings + value) for tag, value in dynamic if tag == 1]  # DT_NEEDED
        path = values.get(29, values.get(15))  # DT_RUNPATH, DT_RPATH
        self.library_path = None if path is None else self.strings + path
        self.glibc = self.newest_glibc(values)

    def offset(self, address):
        for start, offset, length in self.segments:
            if start <= address < start + length:
                return address - start + offset
        return 0

    def string(self, offset):
        return self.content[offset : self.content.index(b"\0", offset)].decode(errors="replace")

    def newest_glibc(self, values):
        """The highest GLIBC_x.y among the versions it needs (DT_VERNEED)."""
        newest, entry = (0, 0), self.offset(values.get(0x6FFFFFFE, 0))
        for _ in range(values.get(0x6FFFFFFF, 0)):
            _, count, _, first, following = struct.unpack_from("<HHIII", self.content, entry)
            version = entry + first
            for _ in range(count):
                _, flags, _, name, after = struct.unpack_from("<IHHII", self.content, version)
                name = self.string(self.strings + name)
                number = (2, 36) if name == "GLIBC_ABI_DT_RELR" else tuple(map(int, re.findall(r"\d+", name)))
                if name.startswith("GLIBC_") and not flags & 2:  # VER_FLG_WEAK: not missed where absent
                    newest = max(newest, number[:2])
                version += after
            entry += following
        return newest

    def with_library_path(self, folder):
        """The content, its library path, if it has one, now relative to the file itself.

        Written over the old one where it fits; where it does not, or where there was none,
        Lambda's LD_LIBRARY_PATH finds /opt/lib.
        """
        path = f"$ORIGIN/{folder}".encode()
        if self.library_path is None:
            return self.content
        end = self.content.index(b"\0", self.library_path)
        room = end - self.library_path
        if len(path) > room:
            return self.content
        return self.content[: self.library_path] + path.ljust(room, b"\0") + self.content[end:]
