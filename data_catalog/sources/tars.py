"""What lies in a tar, by position: nothing is unpacked.

Headers are walked by hand, since the standard library takes a minute for what takes seconds (2.5 million members);
plain, GNU and pax names and sizes are understood.
"""

from collections.abc import Iterator
from typing import IO, NamedTuple

import pyarrow as pa

from data_catalog import files

BLOCK = 512
MEMBERS = pa.schema([("name", pa.string()), ("offset", pa.int64()), ("length", pa.int64())])
PLAIN, FOLDER, LONG_NAME, LONG_LINK, SPARSE, PAX, PAX_FOR_ALL = (
    (b"0", b"\0", b"7"), b"5", b"L", b"K", b"S", (b"x", b"X"), b"g"
)  # fmt: skip
LINKS = {b"1": "hard link", b"2": "symbolic link", b"3": "device", b"4": "device", b"6": "pipe"}


class Unusable(NamedTuple):
    """A member that cannot be a sample; `code` is one of data_catalog.quarantine."""

    name: str
    code: str
    reason: str


class TarIndex(NamedTuple):
    """The plain members (schema MEMBERS, each name once: the last of that name counts) and the others."""

    members: pa.Table
    unusable: list[Unusable]


class Member(NamedTuple):
    """One header: where its data begins and how long it is."""

    name: bytes
    kind: bytes
    offset: int
    length: int
    is_sparse: bool = False


def index_tar(location: str) -> TarIndex:
    """The members of a tar; raises ValueError that names it if it is none, is compressed or breaks off in a header."""
    names: list[str] = []
    places: list[tuple[int, int]] = []
    unusable: list[Unusable] = []
    try:
        with files.open_binary(location) as file:
            size = file.seek(0, 2)
            for member in _members(file):
                if member.kind == FOLDER or (member.kind == b"\0" and member.name.endswith(b"/")):
                    continue
                name = member.name.decode("utf-8", "replace").removeprefix("./")
                if fault := _fault(member, name, size):
                    unusable.append(Unusable(name, *fault))
                else:
                    names.append(name)
                    places.append((member.offset, member.length))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot index {location}: {error}; expected a whole, uncompressed tar file") from error
    return TarIndex(_table(names, places), unusable)


def _table(names: list[str], places: list[tuple[int, int]]) -> pa.Table:
    if len(set(names)) < len(names):  # a tar that was appended to
        last = dict(zip(names, places, strict=True))
        names, places = list(last), list(last.values())
    offsets, lengths = ([place[i] for place in places] for i in (0, 1))
    return pa.table([pa.array(column) for column in (names, offsets, lengths)], MEMBERS) if names else (
        MEMBERS.empty_table()
    )  # fmt: skip


def _fault(member: Member, name: str, size: int) -> tuple[str, str] | None:
    if name.startswith("/") or ".." in name.split("/"):
        return "unsafe_name", "member name leaves the archive"
    if "\ufffd" in name or "\0" in name:
        return "unsafe_name", "member name is not valid UTF-8"
    if member.is_sparse:
        return "sparse_member", "member is sparse: its bytes do not lie in one piece"
    if member.kind not in PLAIN:
        what = LINKS.get(member.kind, f"of unknown type {member.kind!r}")
        return "special_member", f"member is a {what}, not a plain file"
    if member.offset + member.length > size:
        return "cut_off", f"the tar ends after {size - member.offset} of {member.length} bytes"
    return None


def _members(file: IO[bytes]) -> Iterator[Member]:
    """Every header that stands for a file, with names and sizes of preceding extension headers applied."""
    at, common, own = 0, {}, {}
    while header := _block(file, at):
        kind, length = header[156:157], _number(header[124:136])
        start = at + BLOCK
        if kind in (LONG_NAME, LONG_LINK, PAX_FOR_ALL, *PAX):
            data = _extension(file, start, length)
            if kind == LONG_NAME:
                own["path"] = data.rstrip(b"\0")
            elif kind == PAX_FOR_ALL:
                common |= _pax(data)
            elif kind in PAX:
                own |= _pax(data)
            at = start + _padded(length)
            continue
        said = common | own if common or own else own
        length = int(said.get("size", length))
        if length < 0:
            raise ValueError(f"a member of {length} bytes at byte {start}")
        is_sparse = kind == SPARSE or any(key.startswith("GNU.sparse") for key in said)
        start += _sparse_maps(file, header, start) if kind == SPARSE else 0
        yield Member(said.get("path") or _name(header), kind, start, length, is_sparse)
        at = start + (0 if kind in LINKS or kind == FOLDER else _padded(length))
        own = {}


def _block(file: IO[bytes], at: int) -> bytes | None:
    """The header at a position, None at the end; raises ValueError if there is something else."""
    file.seek(at)
    block = file.read(BLOCK)
    if at and (not block or not block.strip(b"\0")):
        return None
    if not at and block == bytes(BLOCK):
        return None  # an archive without members
    if len(block) < BLOCK:
        raise ValueError(f"it ends inside a header, at byte {at + len(block)}")
    if block[257:262] != b"ustar" and _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ValueError(f"no header at byte {at}")
    return block


def _number(field: bytes) -> int:
    """Octal digits, or base 256 for what is too large for them."""
    if field[0] & 0x80:
        return int.from_bytes(field, signed=True) if field[0] == 0xFF else int.from_bytes(field[1:])
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        return prefix + b"/" + name
    return name


def _extension(file: IO[bytes], start: int, length: int) -> bytes:
    if not 0 <= length <= 2**20:
        raise ValueError(f"an extended header of {length} bytes at byte {start}")
    file.seek(start)
    if len(data := file.read(length)) < length:
        raise ValueError(f"it ends inside a header, at byte {start + len(data)}")
    return data


def _pax(data: bytes) -> dict:
    """The records `<length> <key>=<value>` of an extended header; the path as bytes, the rest as text."""
    found: dict = {}
    while data.strip(b"\0"):
        digits, _, _ = data.partition(b" ")
        length = int(digits)
        if not len(digits) + 1 < length <= len(data):
            raise ValueError("a malformed extended header")
        key, equals, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not equals:
            raise ValueError("a malformed extended header")
        found[key.decode("utf-8", "replace")] = value if key == b"path" else value.decode("utf-8", "replace")
        data = data[length:]
    return found


def _sparse_maps(file: IO[bytes], header: bytes, start: int) -> int:
    """The length of the maps of holes that follow an old GNU sparse header."""
    more, length = header[482], 0
    while more:
        file.seek(start + length)
        more, length = file.read(BLOCK).ljust(BLOCK, b"\0")[504], length + BLOCK
    return length


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK
