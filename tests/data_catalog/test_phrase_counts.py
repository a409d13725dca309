"""Counting names in texts."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_catalog.phrase_counts import count_in_corpus, counts_in_table, words_of

TEXT = "A red-fox saw the Red Fox; red foxes and éclair ÉCLAIR.\nred\nfox red fox red fox\n"
COUNTS = {("red", "fox"): 4, ("éclair",): 2, ("fox", "red", "fox"): 2, ("owl",): 0}


def test_marks_separate_words_and_case_is_ignored():
    assert words_of("St. Bernard_dog (3-D)") == ("st", "bernard", "dog", "3", "d")


@pytest.mark.parametrize("name", ["c.txt", "c.txt.gz", "c.jsonl", "c.jsonl.gz"])
def test_overlapping_phrases_count_inside_each_document(tmp_path, name):
    lines = TEXT.splitlines()
    text = TEXT if "txt" in name else "".join(json.dumps({"text": line, "url": "x"}) + "\n" for line in lines)
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert count_in_corpus(tmp_path / name, COUNTS) == COUNTS


@pytest.mark.parametrize("name, data, message", [
    ("c.txt.gz", gzip.compress(b"word " * 999)[:-9], "cannot read .* to its end"),
    ("c.txt", b"\xff\xfe", "expected text in UTF-8"),
    ("c.jsonl", b'{"text": "a"}\n{"words": 1}', "line 2 of .* has no text"),
    ("c.jsonl", b"{", "line 1 of .* is no JSON"),
    ("c.pdf", b"", "ends in '.pdf'"),
])  # fmt: skip
def test_damaged_or_foreign_corpora_are_errors(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        count_in_corpus(tmp_path / name, COUNTS)


def test_tables_of_every_kind_say_the_same(tmp_path):
    rows = [{"name": "Red Fox", "count": 3}, {"name": "red_fox", "count": 2}, {"name": "owl", "count": 0}]
    (tmp_path / "t.csv").write_text("count,name,more\n" + "".join(f"{r['count']},{r['name']},x\n" for r in rows))
    (tmp_path / "t.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    for kind in ("csv", "json", "parquet"):
        assert counts_in_table(tmp_path / f"t.{kind}") == {("red", "fox"): 5, ("owl",): 0}


@pytest.mark.parametrize("text", ["name,count\na,-1\n", "name,count\na,many\n", "name,number\na,1\n"])
def test_a_bad_table_is_an_error(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=r"expected (a text and a count|rows with name and count)"):
        counts_in_table(tmp_path / "t.csv")
