"""New images are read in pieces by several processes, and by nobody again."""

import os
import shutil
from pathlib import Path

import pytest

from data_catalog import inspection_pieces, store
from data_catalog.places import home
from tests.data_catalog.conftest import aged, encoded
from tests.data_catalog.test_inspection import looked, seen, source  # noqa: F401 fixtures


def inspected(source, monkeypatch):  # noqa: F811
    """The pieces of a source, of two images each, and each read in a home of its own; the store is that of all."""
    monkeypatch.setenv("EVERGREEN_STORE", str(home() / "store"))
    pieces, ours, found = inspection_pieces.cut(source, 2), home(), []
    for piece in pieces:
        monkeypatch.setenv("EVERGREEN_HOME", f"{ours}-{piece.start}")
        found.append(inspection_pieces.inspect(source, piece))
    monkeypatch.setenv("EVERGREEN_HOME", str(ours))
    return pieces, found


def test_pieces_have_every_image_once_and_the_scan_reads_none(source, seen, monkeypatch):  # noqa: F811
    pieces, found = inspected(source, monkeypatch)
    assert [(piece.start, piece.stop) for piece in pieces] == [(0, 2), (2, 4), (4, 6)]
    assert sorted(seen["read"]) == [f"{i}.png" for i in range(6)]
    inspection_pieces.remember(source, found)
    raw, read, decoded = looked(source, seen)
    assert (read, decoded) == ([], 0)
    monkeypatch.setenv("EVERGREEN_HOME", f"{home()}-alone")
    assert source.scan() == [raw]


def test_only_what_is_new_is_cut(source, seen, monkeypatch):  # noqa: F811
    source.scan()
    assert inspection_pieces.cut(source, 2) == []
    for i in range(10, 13):
        (path := Path(source.data, f"{i}.png")).write_bytes(encoded(i))
        os.utime(path, (1e9, 1e9))
    seen["read"].clear()
    pieces, found = inspected(source, monkeypatch)
    assert len(pieces) == 2
    inspection_pieces.remember(source, found)
    assert looked(source, seen)[1] == []


def test_few_new_images_are_no_pieces(source):  # noqa: F811
    assert inspection_pieces.cut(source, 6) == []


def test_pieces_of_other_data_are_refused(source):  # noqa: F811
    piece = inspection_pieces.cut(source, 2)[0]
    Path(source.data, "0.png").write_bytes(encoded(99))
    with pytest.raises(ValueError, match=r"ALL in .* changed while it was looked at; run it again"):
        inspection_pieces.inspect(source, piece)
    shutil.rmtree(source.data)
    with pytest.raises(ValueError, match="changed"):
        inspection_pieces.inspect(source, piece)


def test_a_broken_image_is_refused_by_the_scan_as_ever(source, monkeypatch):  # noqa: F811
    Path(source.data, "3.png").write_bytes(b"no image")
    aged(Path(source.data))
    found = inspected(source, monkeypatch)[1]
    assert sum(store.read_table(some.digest).num_rows for some in found) == 5  # what is refused may be looked at again
    inspection_pieces.remember(source, found)
    (raw,) = source.scan()
    refused = source.read(raw)[1].to_pylist()
    assert [row["id"] for row in refused] == ["ALL/train/3.png"]
