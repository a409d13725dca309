"""Files made to hurt whoever reads them are refused with their name."""

import gzip

import pytest

from data_catalog import json_files
from data_catalog.json_files import read_json


def test_a_file_that_unpacks_to_far_more_than_text_does_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "SMALL", 2**10)
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b'{"a": "' + b" " * 10**6 + b'"}'))
    with pytest.raises(ValueError, match=r"bomb\.json\.gz.*unpack to more than"):
        read_json(tmp_path / "bomb.json.gz")


def test_what_is_nested_without_end_is_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json"):
        read_json(tmp_path / "deep.json")
