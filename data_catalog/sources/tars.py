"""What lies in a tar, by position: nothing is unpacked."""

import tarfile
from pathlib import Path


def list_tar(path: Path) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """The places of the plain members of a tar, and the reasons why other members cannot be used."""
    plain, refused = {}, {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if reason := _reason_against(member, name):
                    refused[name] = reason
                elif member.isreg():
                    plain[name] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"cannot index {path}: {error}; expected a whole, uncompressed tar file") from error
    return plain, refused


def _reason_against(member: tarfile.TarInfo, name: str) -> str | None:
    if name.startswith("/") or ".." in name.split("/"):
        return "member name leaves the archive"
    if member.issparse() or not (member.isreg() or member.isdir()):
        return "member is a link, a device or sparse, not a plain file"
    return None
