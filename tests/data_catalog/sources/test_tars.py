"""Tars by position: the standard library agrees on what is plain, and everything else is refused with a code."""

import io
import subprocess
import tarfile

import pytest

from data_catalog.sources.tars import index_tar

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "deep/" * 60 + "ü.png"


def member(name, size=0, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "a.png"
    return info


def written(path, members, format="pax"):
    with tarfile.open(path, "w", format=FORMATS[format]) as tar:
        for info in members:
            tar.addfile(info, io.BytesIO(b"z" * info.size) if info.isreg() else None)
    return str(path)


def places(index):
    return {row["name"]: (row["offset"], row["length"]) for row in index.members.to_pylist()}


def codes(index):
    return {each.name: each.code for each in index.unusable}


@pytest.mark.parametrize("format", FORMATS)
def test_members_lie_where_the_standard_library_finds_them(tmp_path, format):
    names = ["a.png", "x/é b.png", "d" * 60 + "/" + "e" * 80 + ".png", *([] if format == "ustar" else [LONG])]
    path = written(tmp_path / "t.tar", [member(name, 300 * i) for i, name in enumerate(names)], format)
    with tarfile.open(path) as tar:
        assert places(index_tar(path)) == {info.name: (info.offset_data, info.size) for info in tar}


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (member("../evil.png", 3), "unsafe_name"),
        (member("a/../../evil.png", 3), "unsafe_name"),
        (member("/etc/evil.png", 3), "unsafe_name"),
        (member("hard.png", kind=tarfile.LNKTYPE), "special_member"),
        (member("soft.png", kind=tarfile.SYMTYPE), "special_member"),
        (member("device.png", kind=tarfile.CHRTYPE), "special_member"),
        (member("pipe.png", kind=tarfile.FIFOTYPE), "special_member"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_members_that_are_no_plain_files_inside_are_refused(tmp_path, info, code):
    index = index_tar(written(tmp_path / "t.tar", [member("folder", kind=tarfile.DIRTYPE), info, member("b.png", 5)]))
    assert codes(index) == {info.name: code} and list(places(index)) == ["b.png"]


@pytest.mark.parametrize("format", ["gnu", "pax"])
def test_a_sparse_member_is_refused_and_the_next_is_found(tmp_path, format):
    with open(tmp_path / "holes.png", "wb") as file:
        file.truncate(1 << 22)
        file.seek(1 << 20)
        file.write(b"x" * 5000)
    (tmp_path / "b.png").write_bytes(b"hello")
    tar = ["tar", "-C", tmp_path, "--sparse", "--format", format, "-cf", tmp_path / "t.tar", "holes.png", "b.png"]
    subprocess.run(tar, check=True)
    index = index_tar(str(tmp_path / "t.tar"))
    offset, length = places(index)["b.png"]
    assert (tmp_path / "t.tar").read_bytes()[offset : offset + length] == b"hello"
    assert [each.code for each in index.unusable] == ["sparse_member"]


def test_the_last_of_equal_names_counts(tmp_path):
    index = index_tar(written(tmp_path / "t.tar", [member("a.png", 3), member("b.png", 1), member("a.png", 7)]))
    assert {name: length for name, (_, length) in places(index).items()} == {"a.png": 7, "b.png": 1}


def test_a_member_that_the_end_cuts_off_is_refused(tmp_path):
    path = tmp_path / "t.tar"
    written(path, [member("a.png", 600), member("b.png", 600)])
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 512 + 100])
    assert codes(index_tar(str(path))) == {"b.png": "cut_off"}


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b" * 600, b"x" * 100, b"x" * 4096])
def test_what_is_no_tar_is_an_error_that_names_it(tmp_path, data):
    (tmp_path / "t.tar").write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.tar.*expected a whole, uncompressed tar"):
        index_tar(str(tmp_path / "t.tar"))


def test_a_header_that_is_cut_off_is_an_error(tmp_path):
    path = tmp_path / "t.tar"
    written(path, [member("a.png", 600), member("b.png", 600)])
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 200])
    with pytest.raises(ValueError, match="ends inside a header"):
        index_tar(str(path))


def test_an_empty_archive_has_no_members(tmp_path):
    assert index_tar(written(tmp_path / "t.tar", [])).members.num_rows == 0


@pytest.mark.parametrize("record", [b"14 size=-1536\n", b"0 a=b\n", b"999 a=b\n"])
def test_extended_headers_with_impossible_numbers_are_refused(tmp_path, record):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    blocks = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + member("a.png").tobuf() + bytes(1024)
    (tmp_path / "bad.tar").write_bytes(blocks)
    with pytest.raises(ValueError, match=r"bad\.tar"):
        index_tar(str(tmp_path / "bad.tar"))
