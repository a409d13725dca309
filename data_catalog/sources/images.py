"""The full check of one image: a header that reads well says nothing about the pixels behind it."""

import io
import struct
import zlib
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

FAULTS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error,
          Image.DecompressionBombError)  # what PIL's decoders raise on damaged bytes  # fmt: skip


class Header(NamedTuple):
    """Size in pixels and file format of an image that decodes to its last row."""

    width: int
    height: int
    format: str


def examine(data: bytes) -> Header | str:
    """The header of an image, or the reason why it does not decode."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # `verify` accepts a JPEG that was cut short
            return Header(image.width, image.height, image.format or "unknown")
    except FAULTS as error:
        return _reason(error)


def _reason(error: Exception) -> str:
    """One line without memory addresses, so that the same damage gives the same table."""
    if isinstance(error, UnidentifiedImageError):
        return "does not decode: not an image of a known format"
    return f"does not decode: {type(error).__name__}: {error}"[:200]
