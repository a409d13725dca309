"""Why a sample can be refused: the codes of the quarantine, and what may be done about each."""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from data_catalog.shards import QUARANTINE


class Code(NamedTuple):
    """One reason for refusing samples."""

    meaning: str
    releasable: bool = False  # a decision may accept the sample all the same: its pixels are whole
    lasting: bool = True  # False: of the place or the moment, so every ingest tries again


CODES = {
    "no_image": Code("the metadata speaks of an image that is not there"),
    "no_entry": Code("an image without a metadata entry"),
    "bad_entry": Code("the metadata entry is malformed or its key leaves the folder of the dataset"),
    "class_mismatch": Code("class name and target do not agree with the class list"),
    "no_text": Code("neither a caption nor a class name says what is to be seen"),
    "duplicate_id": Code("an earlier sample of the dataset has the same split and key"),
    "unusable_file": Code("a link that dangles or leaves the root, or no plain file"),
    "unsafe_name": Code("a member of a tar whose name is absolute or leaves the archive"),
    "special_member": Code("a member of a tar that is a link, a device or a pipe"),
    "sparse_member": Code("a member of a tar that is stored with holes, so its bytes do not lie in one piece"),
    "unreadable": Code("the file could not be opened or read", lasting=False),
    "cut_off": Code("a member of a tar that the end of the file cuts off"),
    "empty": Code("no bytes"),
    "too_large": Code("more bytes than an image has any use for; not read"),
    "not_an_image": Code("not an image of a format we read, whatever its name says"),
    "truncated": Code("an image that ends before its last row"),
    "damaged": Code("an image whose data does not decode"),
    "too_many_pixels": Code("a decompression bomb or a giant: not decoded"),
    "oversized_text": Code("text or metadata inside the image that unpacks to megabytes"),
    "unsupported_pixels": Code("pixel values that have no one meaning as 8-bit RGB, e.g. floating point"),
    "absurd_size": Code("so small or so narrow that a square crop shows nothing", releasable=True),
}
RELEASABLE = tuple(name for name, code in CODES.items() if code.releasable)


def refusal(identity: str, shard: str, code: str, reason: str) -> dict:
    """A row of QUARANTINE."""
    assert code in CODES, f"{code!r} is no code of the quarantine"
    return {"id": identity, "shard": shard, "code": code, "reason": reason}


def refusals(rows: Iterable[dict]) -> pa.Table:
    """Rows of QUARANTINE as a table."""
    return pa.Table.from_pylist(list(rows), QUARANTINE)


def check_releasable(rows: Iterable[dict]) -> None:
    """Raise ValueError if one of these refused samples (rows of QUARANTINE) may not be released."""
    for row in rows:
        if row["code"] not in RELEASABLE:
            raise ValueError(
                f"{row['id']} was refused as {row['code']} ({CODES[row['code']].meaning}): a release would not make it "
                f"usable, repair it; released can be what was refused as {', '.join(RELEASABLE)}"
            )
